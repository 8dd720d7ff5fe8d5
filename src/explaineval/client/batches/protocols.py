"""What a provider of batches can do, and the nouns that pass between it and a course of batches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from explaineval.records import Completion, Request

Progress = Literal["in_progress", "ended", "failed", "expired", "cancelled", "missing"]


@dataclass(frozen=True)
class Item:
    """One request as it goes into a batch: its key, which is its custom_id, the route's path, the body as JSON."""

    key: str
    path: str
    body: bytes


@dataclass(frozen=True)
class BatchState:
    """How far a batch is. `failed`: refused as a whole, nothing was executed; `missing`: the provider knows no such id.

    `full` marks a refusal because too much is queued already: the same may be taken later.
    """

    progress: Progress
    total: int = 0
    done: int = 0
    reason: str = ""
    full: bool = False


@dataclass(frozen=True)
class Line:
    """One line of a batch's results.

    `key` is None where the line cannot be read. `status` and `body` are what the request met, as the ordinary route
    would have met it; without a status it was never executed, and `reason` says why.
    """

    key: str | None
    status: int | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    expired: bool = False
    oversized: bool = False
    """Whether it goes beyond the bounds on what is received, so that its body was not read."""


@dataclass(frozen=True)
class BatchFailure:
    """Why a request has no answer. `retryable`: another batch may bring one. `rejected`: the endpoint refused it."""

    reason: str
    retryable: bool = False
    rejected: bool = False


@dataclass(frozen=True)
class Trace:
    """What is known of a batch whose creation nobody confirmed: enough to find it again in the provider's list.

    `since` is when it was about to be created, in seconds since the epoch by this machine's clock; `known` are the
    batches that belong to other ledgers.
    """

    tag: str
    uploaded: str | None
    count: int
    since: float
    known: frozenset[str]


@dataclass(frozen=True)
class Found:
    """A batch that may be the one of a trace; `sure` where it carries our mark."""

    batch: str
    sure: bool
    progress: Progress


class BatchProvider(Protocol):
    """One model of one provider, asked by batches.

    Every method raises EndpointError where the endpoint is unusable, TransientError where another attempt may help.
    """

    @property
    def name(self) -> str:
        """The provider: openai, azure or anthropic."""
        ...

    async def check(self) -> None:
        """One free call: EndpointError where batches are not taken, or where that cannot be told now."""
        ...

    async def prepare(self, request: Request, key: str) -> Item:
        """The request as the ordinary route would send it. Raises RequestRejectedError where the route refuses it."""
        ...

    async def upload(self, items: Sequence[Item], tag: str) -> str | None:
        """Bring the requests to the provider, where that is a step of its own. Costs nothing, can be repeated."""
        ...

    async def submit(self, items: Sequence[Item], tag: str, uploaded: str | None) -> str:
        """Create the batch; returns its id. One attempt.

        Raises TransientError with `unbilled` where for certain no batch was made, without it where nobody knows.
        """
        ...

    async def find(self, trace: Trace) -> list[Found]:
        """The batches in the provider's list that may be the one of this trace."""
        ...

    async def status(self, batch: str) -> BatchState:
        """How far the batch is."""
        ...

    def results(self, batch: str) -> AsyncIterator[Line]:
        """The lines of an ended batch, in any order, one at a time."""
        ...

    async def read(self, request: Request, line: Line) -> Completion | BatchFailure:
        """What the ordinary route would have made of this line."""
        ...

    async def close(self) -> None:
        """Close the connections. Call before the event loop ends."""
        ...
