"""A client that sends just as a run does, and keeps what went over the wire: names of parameters, paths, raw bodies.

litellm renames parameters, turns text completions into chat turns and moves reasoning about; what an endpoint really
got and gave can only be seen below it. Routes that do not use the shared HTTP session are not seen: then `seen` of an
exchange is False.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import httpx

from explaineval.client.litellms import Clock, LiteLLMClient, load_litellm
from explaineval.client.responses import read_json
from explaineval.config import Endpoint
from explaineval.errors import RequestRejectedError
from explaineval.records import Completion, Request

LIMITS = ("max_completion_tokens", "max_tokens")
NEVER_SENT = "does not support parameters"
"""How litellm complains about a parameter before it sends anything."""

TEXT_ROUTES = frozenset({"openai", "azure", "azure_text", "text-completion-openai", "text-completion-codestral"})


@dataclass
class Exchange:
    """One attempt as it went over the wire."""

    seen: bool = False
    answered: bool = False
    path: str = ""
    sent: Mapping[str, Any] = field(default_factory=dict)
    got: Mapping[str, Any] = field(default_factory=dict)

    @property
    def limit_name(self) -> str | None:
        """The name under which the limit of tokens was sent."""
        return next((name for name in LIMITS if name in self.sent), None)


class WatchedClient(LiteLLMClient):
    """`attempts` counts what was sent, `last` is the latest exchange, `reached` tells whether anything came back."""

    def __init__(self, endpoints: dict[str | None, Endpoint], *, timeout: float) -> None:
        super().__init__(endpoints, timeout=timeout)
        self.attempts = 0
        self.reached = False
        self.last = Exchange()

    def completes_text(self, model: str) -> bool:
        """Whether this route has text completions of its own; on others litellm sends them as chat turns."""
        route = model.partition("/")[0]
        return route in TEXT_ROUTES or route in load_litellm().openai_text_completion_compatible_providers

    async def _ready(self) -> ModuleType:
        litellm = await super()._ready()
        if self._session is not None:
            hooks = self._session.event_hooks
            self._session.event_hooks = {
                "request": [*hooks["request"], self._note_request],
                "response": [*hooks["response"], self._note_response],
            }
        return litellm

    async def _send(self, request: Request, endpoint: Endpoint, key: str | None, clock: Clock) -> Completion:
        self.last = Exchange(sent=self._arguments(request, endpoint, None))
        self.attempts += 1
        try:
            completion = await super()._send(request, endpoint, key, clock)
        except RequestRejectedError as exc:
            if NEVER_SENT in str(exc):
                self.attempts -= 1
            else:
                self.reached = True
            raise
        self.reached = True
        return completion

    async def _note_request(self, request: httpx.Request) -> None:
        self.last.seen = True
        self.last.path = request.url.path
        self.last.sent = _object(request.content)

    async def _note_response(self, response: httpx.Response) -> None:
        self.reached = self.last.answered = True
        self.last.got = _object(await response.aread())


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = read_json(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
