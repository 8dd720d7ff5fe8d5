"""What a course of batches came to so far, and whom to tell of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from explaineval.client.batches.protocols import BatchFailure
from explaineval.records import Completion, Request

Reserve = Callable[[Request], bool]
"""Whether the request fits the spending limit; it is then reserved until it is settled."""
Settle = Callable[[Request, Completion | None], None]
"""What a request came to: its completion, or None for one that was reserved here and got no answer."""


@dataclass
class BatchOutcome:
    """What a course of batches came to.

    `failed` has a reason for each request that was asked, or refused, without an answer; `unsent` counts those that
    never went into a batch (spending limit, stopped, endpoint unusable); `waiting`: batches go on at the provider, and
    the next course fetches them. `faults` say why an endpoint could not be asked further. `submitted` counts requests
    put into batches now, `stored` answers that came into the store now, `elsewhere` requests that another process is
    asking for by itself: they went into no batch.
    """

    failed: dict[str, BatchFailure] = field(default_factory=dict)
    unsent: int = 0
    waiting: bool = False
    faults: list[str] = field(default_factory=list)
    submitted: int = 0
    stored: int = 0
    elsewhere: int = 0


@dataclass
class Books:
    """The outcome under way, and the hooks of the spending limit."""

    reserve: Reserve | None = None
    settle: Settle | None = None
    outcome: BatchOutcome = field(default_factory=BatchOutcome)
    _reserved: set[str] = field(default_factory=set)

    def admit(self, key: str, request: Request) -> bool:
        """Reserve a request; one that does not fit the limit counts as unsent."""
        if self.reserve is not None and not self.reserve(request):
            self.outcome.unsent += 1
            return False
        self._reserved.add(key)
        return True

    def answer(self, key: str, request: Request, completion: Completion) -> None:
        """Its completion is in the store, also that of a batch which an earlier run submitted."""
        self.outcome.stored += 1
        self.outcome.failed.pop(key, None)
        self._reserved.discard(key)
        if self.settle is not None:
            self.settle(request, completion)

    def release(self, key: str, request: Request) -> None:
        """It got no answer in this batch: what was reserved for it is free."""
        if key in self._reserved:
            self._reserved.discard(key)
            if self.settle is not None:
                self.settle(request, None)

    def withdraw(self, key: str, request: Request) -> None:
        """It does not go into a batch after all."""
        self.release(key, request)
        self.outcome.unsent += 1

    def fail(self, key: str, request: Request, failure: BatchFailure) -> None:
        """It is over for this request."""
        self.release(key, request)
        self.outcome.failed[key] = failure
