"""Repeat attempts that failed for a while, after as long as the endpoint asks for, else with exponential backoff."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from explaineval.client.outage import Availability
from explaineval.client.protocol import Client
from explaineval.errors import ExplainevalError, RequestUnsentError, TransientError
from explaineval.records import Completion, Request

LONGEST_WAIT = 60.0
LONGEST_WAIT_IF_BUSY = 4.0
"""Seconds, while other requests are answered: the concurrency limit already keeps the load down."""
ATTEMPTS_IF_REFUSED = 3
"""Attempts at an address that refuses connections and has never answered: probably nothing listens there."""
PATIENCE = 3
"""A busy endpoint that answers other requests may turn one away for overload (429, 503, 529) so many times as often as
the request may fail otherwise: nothing is wrong with it, and nothing was paid."""
BREAKS_IT = 6
"""So many times more than once a request may fail while its endpoint goes out of service: that one may be the cause."""


@dataclass
class RetryingClient:
    """Sends a request again after a transient failure, up to `max_retries` more times.

    It waits without holding a slot of the concurrency limit. `busy` returns whether the endpoint answers other requests
    while it turns this one away. While the endpoint is out of service (`availability`), attempts are not counted.
    """

    inner: Client
    max_retries: int
    stopping: asyncio.Event
    busy: Callable[[], bool] = lambda: False
    first_wait: float = 0.5
    availability: Availability = field(default_factory=Availability)
    retries: int = field(default=0, init=False)
    _answered: bool = field(default=False, init=False)

    async def complete(self, request: Request) -> Completion:
        """Return the completion of the first successful attempt; raise the last error when no attempt is left."""
        failure: TransientError | None = None
        answers = self.availability.answers
        try:
            completion = await self._attempt(request)
        except TransientError as exc:  # set up only now: that takes more time than all else of an attempt that succeeds
            failure = exc
        if failure is not None:
            completion = await self._repeat(request, failure, answers)
        self._answered = True
        return completion

    async def _repeat(self, request: Request, failure: TransientError, answers: int) -> Completion:
        """Repeat an attempt that failed like this; when it began, the endpoint had given so many answers."""
        attempts = _Attempts(
            self.max_retries, self.first_wait, self.busy, self.availability, answers, answered_before=self._answered
        )
        retrying = AsyncRetrying(
            stop=attempts.stop,
            wait=attempts.wait,
            retry=retry_if_exception_type(TransientError),
            sleep=self._sleep,
            before_sleep=self._count,
            reraise=True,
        )
        made = [failure]

        async def attempt() -> Completion:
            if made:
                raise made.pop()
            attempts.begin()
            return await self._attempt(request)

        completion: Completion = await retrying(attempt)
        return completion

    async def _attempt(self, request: Request) -> Completion:
        """Send a request once; where its endpoint is out of service, when it is this one's turn."""
        endpoint = self.availability
        probing = endpoint.outage is not None and await endpoint.enter()
        try:
            completion = await self.inner.complete(request)
        except TransientError as exc:
            endpoint.failed(request, exc, probing=probing)
            raise
        except (RequestUnsentError, asyncio.CancelledError):
            endpoint.leave(probing=probing)
            raise
        except ExplainevalError:
            endpoint.replied(probing=probing)
            raise
        endpoint.answered()
        return completion

    def _count(self, _: RetryCallState) -> None:
        self.retries += 1

    async def _sleep(self, seconds: float) -> None:
        """Sleep, unless the run stops meanwhile: what waits was not paid for, and is not sent then."""
        if not seconds:
            return
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return
        raise RequestUnsentError("stopped while waiting to ask again")


@dataclass
class _Attempts:
    """Counts how often one request failed, and how often it was turned away for overload.

    `answers` are those of the endpoint when the latest attempt began, `was_out` whether it was out of service then,
    `hits` the attempts that failed while it went out of service.
    """

    max_retries: int
    first_wait: float
    busy: Callable[[], bool]
    availability: Availability
    answers: int
    answered_before: bool
    was_out: bool = False
    hits: int = 0
    failures: int = 0
    turned_away: int = 0

    def begin(self) -> None:
        """Note how the endpoint is when an attempt begins."""
        self.answers, self.was_out = self.availability.answers, self.availability.outage is not None

    def stop(self, state: RetryCallState) -> bool:
        """Count the latest failure, and return whether no attempt is left."""
        failure, endpoint = _failure(state), self.availability
        if endpoint.outage is not None:
            self.hits += not self.was_out
            return self.hits > BREAKS_IT
        if endpoint.is_waited_for(failure) and endpoint.is_patience_over:
            return True
        if not self._is_last(failure):
            return False
        if not endpoint.is_waited_for(failure) or endpoint.answers > self.answers:  # it answers others
            return True
        endpoint.begin(failure)
        return endpoint.outage is None

    def _is_last(self, failure: TransientError) -> bool:
        if failure.overload:
            self.turned_away += 1
            return self.turned_away + self.failures > self.max_retries * (PATIENCE if self.busy() else 1)
        self.failures += 1
        most = self.max_retries
        if failure.refused and not self.answered_before:
            most = min(ATTEMPTS_IF_REFUSED - 1, most)
        return self.failures + (0 if self.busy() else self.turned_away) > most

    def wait(self, state: RetryCallState) -> float:
        """Return the seconds until the next attempt: as the endpoint asks, and a little more, else random, growing."""
        if self.availability.outage is not None:  # it waits there
            return 0.0
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
