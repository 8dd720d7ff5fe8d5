"""The one retry loop: waits as long as the endpoint asks for, else exponentially longer with jitter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from explaineval.client.protocol import Client
from explaineval.errors import RequestUnsentError, TransientError
from explaineval.records import Completion, Request

LONGEST_WAIT = 60.0
LONGEST_WAIT_IF_BUSY = 4.0
"""Seconds, where others are answered meanwhile: the concurrency limit keeps the load down already."""
ATTEMPTS_IF_REFUSED = 3
"""How often an address that has never answered may refuse a connection: nothing listens there."""
PATIENCE = 3
"""How many times more often a request may be turned away for overload (429, 503, 529) by an endpoint that is busy but
answering others than it may fail: nothing is wrong with it, and nothing was paid."""


@dataclass
class RetryingClient:
    """Sends a request again after a transient failure, up to `max_retries` more times.

    It sleeps outside of the concurrency limit's slots. `busy` tells whether the endpoint answers other requests while
    it turns this one away.
    """

    inner: Client
    max_retries: int
    stopping: asyncio.Event
    busy: Callable[[], bool] = lambda: False
    first_wait: float = 0.5
    retries: int = field(default=0, init=False)
    _answered: bool = field(default=False, init=False)

    async def complete(self, request: Request) -> Completion:
        """The first successful attempt; raises the last failure when all are used up."""
        attempts = _Attempts(self.max_retries, self.first_wait, self.busy, answered_before=self._answered)
        retrying = AsyncRetrying(
            stop=attempts.stop,
            wait=attempts.wait,
            retry=retry_if_exception_type(TransientError),
            sleep=self._sleep,
            before_sleep=self._count,
            reraise=True,
        )
        completion: Completion = await retrying(self.inner.complete, request)
        self._answered = True
        return completion

    def _count(self, _: RetryCallState) -> None:
        self.retries += 1

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but wake up at once when the run stops: what is waiting was not paid for."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return
        raise RequestUnsentError("stopped while waiting to ask again")


@dataclass
class _Attempts:
    """The attempts of one request: how often it failed, how often it was turned away for overload."""

    max_retries: int
    first_wait: float
    busy: Callable[[], bool]
    answered_before: bool
    failures: int = 0
    turned_away: int = 0

    def stop(self, state: RetryCallState) -> bool:
        """Count the latest failure; whether it was the last."""
        failure = _failure(state)
        if failure.overload:
            self.turned_away += 1
            return self.turned_away + self.failures > self.max_retries * (PATIENCE if self.busy() else 1)
        self.failures += 1
        most = self.max_retries
        if failure.refused and not self.answered_before:
            most = min(ATTEMPTS_IF_REFUSED - 1, most)
        return self.failures + (0 if self.busy() else self.turned_away) > most

    def wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt: what the endpoint asks for and a little more, else random, exponential."""
        failure = _failure(state)
        state.attempt_number = max(1, self.turned_away if failure.overload else self.failures)
        longest = LONGEST_WAIT_IF_BUSY if self.busy() else LONGEST_WAIT
        jittered = wait_random_exponential(multiplier=self.first_wait, max=longest)(state)
        requested = failure.retry_after
        return jittered if requested is None else requested + min(1.0, requested) * jittered / LONGEST_WAIT


def _failure(state: RetryCallState) -> TransientError:
    failure = state.outcome.exception() if state.outcome else None
    assert isinstance(failure, TransientError)  # noqa: S101 - only these are retried
    return failure
