"""The name of the limit of tokens on the wire: newer chat models take it as max_completion_tokens only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from explaineval.errors import RequestRejectedError
from explaineval.records import Completion, Request

NAME = "max_tokens"
NEWER_NAME = "max_completion_tokens"

Renamed = set[tuple[str | None, str]]
"""The models that take the limit by its newer name, as (endpoint, model)."""


class LimitNames:
    """The part of a transport that knows by which name each model takes the limit of tokens."""

    def __init__(self) -> None:
        self.renamed: Renamed = set()

    def limit_name(self, request: Request) -> str:
        """Return the name under which a request says its limit. Text completions keep the older one."""
        newer = request.style == "chat" and (request.endpoint, request.model) in self.renamed
        return NEWER_NAME if newer else NAME

    async def send_by_name(self, request: Request, send: Callable[[], Awaitable[Completion]]) -> Completion:
        """Send a request; where it is rejected because of the name, send it again at once by the newer one.

        A rejection costs nothing. `send` takes the name from `limit_name` and raises what a transport raises.
        """
        try:
            return await send()
        except RequestRejectedError as exc:
            if NEWER_NAME not in str(exc) or (request.endpoint, request.model) in self.renamed:
                raise
            self.renamed.add((request.endpoint, request.model))
            return await send()
