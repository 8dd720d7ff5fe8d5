"""The one retry loop: waits as long as the endpoint asks, else exponentially longer with jitter."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from explaineval.client.protocols import Client
from explaineval.errors import RequestUnsentError, TransientError
from explaineval.records import Completion, Request

LONGEST_WAIT = 60.0
ATTEMPTS_IF_REFUSED = 3
"""How often an address that has never answered may refuse a connection: nothing listens there."""


@dataclass
class RetryingClient:
    """Asks again after a transient failure, up to `max_retries` more times, sleeping outside any slot."""

    inner: Client
    max_retries: int
    stopping: asyncio.Event
    first_wait: float = 1.0
    retries: int = field(default=0, init=False)
    _answered: bool = field(default=False, init=False)

    async def complete(self, request: Request) -> Completion:
        """The first successful attempt; raises the last failure when all are used up."""
        attempts = AsyncRetrying(
            stop=self._stop,
            wait=self._wait,
            retry=retry_if_exception_type(TransientError),
            sleep=self._sleep,
            before_sleep=self._count,
            reraise=True,
        )
        result: Completion = await attempts(self.inner.complete, request)
        self._answered = True
        return result

    def _stop(self, state: RetryCallState) -> bool:
        failure = state.outcome.exception() if state.outcome else None
        refused = isinstance(failure, TransientError) and failure.refused and not self._answered
        most = min(ATTEMPTS_IF_REFUSED, self.max_retries + 1) if refused else self.max_retries + 1
        return state.attempt_number >= most

    def _wait(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked = failure.retry_after if isinstance(failure, TransientError) else None
        jittered = wait_random_exponential(multiplier=self.first_wait, max=LONGEST_WAIT)(state)
        return jittered if asked is None else asked + min(1.0, asked) * jittered / LONGEST_WAIT

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
