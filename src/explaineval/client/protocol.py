"""The one face of every client layer: a request goes in, a completion comes out."""

from __future__ import annotations

from typing import Protocol

from explaineval.records import Completion, Request


class Client(Protocol):
    """Anything that can answer a request."""

    async def complete(self, request: Request) -> Completion:
        """The completion of one request.

        Raises RequestFailedError for this request alone, EndpointError where the whole endpoint is unusable.
        """
        ...


class Transport(Client, Protocol):
    """A client that sends requests itself, over connections that have to be closed."""

    async def close(self) -> None:
        """Close all connections. Call it before the event loop ends."""
        ...
