"""The gate of one endpoint, shared by all of its models: concurrency, pace, and a pause that holds for everybody."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from explaineval.client.limits import AdaptiveLimit, Pace
from explaineval.errors import TransientError

EVIDENCE, BUSY_SHARE = 24, 0.05


@dataclass
class Gate:
    """Lets in at most as many requests as the adaptive limit allows, in the order in which they came."""

    ceiling: int
    stopping: asyncio.Event
    pace: Pace = field(default_factory=Pace)
    under_way: int = field(default=0, init=False)
    answers: int = field(default=0, init=False)
    refusals: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.adaptive = AdaptiveLimit(self.ceiling)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._resume_at = 0.0

    def is_busy(self) -> bool:
        """Whether the endpoint answers, but turns away so many that a refusal says nothing about a request."""
        return self.answers >= EVIDENCE and self.refusals >= BUSY_SHARE * (self.answers + self.refusals)

    @asynccontextmanager
    async def slot(self, tokens: int) -> AsyncIterator[None]:
        """A place inside, entered when there is one, the pace allows it and no pause is on."""
        await self._enter()
        try:
            await self._keep_pace(tokens)
            yield
        finally:
            self.under_way -= 1
            self._wake()

    def answered(self, booked: int, used: int) -> None:
        """Tell that a request came back with an answer that took `used` tokens."""
        self.answers += 1
        self.adaptive.note(refused=False)
        self.pace.correct(booked, used)

    def failed(self, exc: TransientError) -> None:
        """Tell that a request came back without an answer."""
        self.refusals += exc.overload
        self.adaptive.note(refused=exc.overload)
        if exc.overload and exc.retry_after is not None and self.adaptive.overloaded:
            self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + exc.retry_after)

    async def _enter(self) -> None:
        if self.under_way < self.adaptive.slots and not self._waiting:
            self.under_way += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn  # whoever wakes us has counted us in
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.under_way -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self.under_way < self.adaptive.slots:
            turn = self._waiting.popleft()
            if not turn.done():
                self.under_way += 1
                turn.set_result(None)

    async def _keep_pace(self, tokens: int) -> None:
        loop = asyncio.get_running_loop()
        wait = self.pace.delay(loop.time(), tokens)
        while not self.stopping.is_set():
            wait = max(wait, self._resume_at - loop.time())
            if wait <= 0:
                return
            try:
                async with asyncio.timeout(wait):
                    await self.stopping.wait()
            except TimeoutError:
                wait = 0.0
