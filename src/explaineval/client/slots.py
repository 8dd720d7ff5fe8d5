"""How many requests are under way at one endpoint, and a pause that all of them share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from explaineval.client.protocols import Client
from explaineval.errors import EndpointError, RequestUnsentError, TransientError
from explaineval.records import Completion, Request

FAILURES_IN_A_ROW = 20


@dataclass
class SlotClient:
    """Bounds concurrency, holds everybody back while the endpoint asks to wait, and gives up on a dead endpoint.

    After FAILURES_IN_A_ROW attempts without one success in between, or the first error that no retry can mend
    (wrong key, unknown model), `down` says why and every further request is turned away unsent.
    """

    inner: Client
    limit: int
    stopping: asyncio.Event
    down: EndpointError | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.limit)
        self._resume_at = 0.0
        self._failures = 0

    async def complete(self, request: Request) -> Completion:
        """One attempt inside a slot."""
        await self._wait_for_pause()
        async with self._slots:
            if self.stopping.is_set():
                raise RequestUnsentError("the run is stopping")
            if self.down is not None:
                raise RequestUnsentError(str(self.down))
            try:
                completion = await self.inner.complete(request)
            except TransientError as exc:
                self._note(exc)
                raise
            except EndpointError as exc:
                self.down = exc
                raise
        self._failures = 0
        return completion

    def _note(self, exc: TransientError) -> None:
        if exc.retry_after is not None:
            loop = asyncio.get_running_loop()
            self._resume_at = max(self._resume_at, loop.time() + exc.retry_after)
            return
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW + self.limit:
            self.down = EndpointError(f"{exc}; {self._failures} attempts in a row failed, so no more are made.")

    async def _wait_for_pause(self) -> None:
        loop = asyncio.get_running_loop()
        while (left := self._resume_at - loop.time()) > 0 and not self.stopping.is_set():
            try:
                async with asyncio.timeout(left):
                    await self.stopping.wait()
            except TimeoutError:
                continue
