"""The body of the answer to the request at hand, kept beside litellm's reading of it.

litellm builds objects of its own from a body, and may stumble over a type that it does not expect after the answer was
paid for. With the body at hand what came can still be kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import httpx


@dataclass
class Received:
    """The body of the latest answer with status 200, if one came."""

    body: bytes | None = None


_current: ContextVar[Received | None] = ContextVar("received", default=None)


@contextmanager
def keeping() -> Iterator[Received]:
    """While inside, bodies that are noted by this task, or by what it starts, are kept."""
    received = Received()
    token = _current.set(received)
    try:
        yield received
    finally:
        _current.reset(token)


def note(status: int, body: bytes) -> None:
    """Keep a body for whoever waits for this answer."""
    received = _current.get()
    if received is not None:
        received.body = body if status == httpx.codes.OK else None


async def note_response(response: httpx.Response) -> None:
    """The same as a hook of an httpx client."""
    note(response.status_code, await response.aread())
