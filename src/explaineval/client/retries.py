"""The one retry loop: waits as long as the endpoint asks, else exponentially longer with jitter."""

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
"""Where others are answered meanwhile, the gate keeps the load down; a request need not stay away for long."""
ATTEMPTS_IF_REFUSED = 3
"""How often an address that has never answered may refuse a connection: nothing listens there."""
PATIENCE = 3
"""How many times more often a request may be turned away for overload (429, 503, 529) by an endpoint that is busy but
answering others than it may fail: nothing is wrong with it, and nothing was paid."""


@dataclass
class RetryingClient:
    """Asks again after a transient failure, up to `max_retries` more times, sleeping outside any slot."""

    inner: Client
    max_retries: int
    stopping: asyncio.Event
    busy: Callable[[], bool] = lambda: False
    first_wait: float = 0.5
    retries: int = field(default=0, init=False)
    _answered: bool = field(default=False, init=False)

    async def complete(self, request: Request) -> Completion:
        """The first successful attempt; raises the last failure when all are used up."""
        course = _Course(self.max_retries, self.first_wait, self.busy, patient_with_refusal=self._answered)
        attempts = AsyncRetrying(
            stop=course.stop,
            wait=course.wait,
            retry=retry_if_exception_type(TransientError),
            sleep=self._sleep,
            before_sleep=self._count,
            reraise=True,
        )
        result: Completion = await attempts(self.inner.complete, request)
        self._answered = True
        return result

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
class _Course:
    """One request's way through its attempts: how often it failed, how often it was turned away."""

    max_retries: int
    first_wait: float
    busy: Callable[[], bool]
    patient_with_refusal: bool
    failures: int = 0
    turned_away: int = 0

    def stop(self, state: RetryCallState) -> bool:
        failure = _failure(state)
        if failure.overload:
            self.turned_away += 1
            return self.turned_away + self.failures > self.max_retries * (PATIENCE if self.busy() else 1)
        self.failures += 1
        most = self.max_retries
        if failure.refused and not self.patient_with_refusal:
            most = min(ATTEMPTS_IF_REFUSED - 1, most)
        spent = self.failures + (0 if self.busy() else self.turned_away)
        return spent > most

    def wait(self, state: RetryCallState) -> float:
        failure = _failure(state)
        times = self.turned_away if failure.overload else self.failures
        state.attempt_number = max(1, times)
        longest = LONGEST_WAIT_IF_BUSY if self.busy() else LONGEST_WAIT
        jittered = wait_random_exponential(multiplier=self.first_wait, max=longest)(state)
        asked = failure.retry_after
        return jittered if asked is None else asked + min(1.0, asked) * jittered / LONGEST_WAIT


def _failure(state: RetryCallState) -> TransientError:
    failure = state.outcome.exception() if state.outcome else None
    assert isinstance(failure, TransientError)  # noqa: S101 - only these are retried
    return failure
