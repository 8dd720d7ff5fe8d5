"""The interface of every client layer: `complete` takes a request and returns its completion."""

from __future__ import annotations

from typing import Protocol

from explaineval.records import Completion, Request


class Client(Protocol):
    """Anything that can answer a request."""

    async def complete(self, request: Request) -> Completion:
        """Return the completion of one request.

        Raises:
            RequestFailedError: this request alone has no completion.
            EndpointError: the whole endpoint is unusable.
        """
        ...


class Transport(Client, Protocol):
    """A client that sends requests itself, over connections that have to be closed."""

    async def close(self) -> None:
        """Close all connections. Call it before the event loop ends."""
        ...
