"""How many requests an endpoint takes at once, found by listening to it: additive increase, multiplicative decrease.

Not every 429 means "too many at once": some gateways refuse a share of all requests whatever the load. So the share
of refusals in a window of about one round trip is compared with the usual share, and only what is significantly above
it counts as congestion; one congestion event costs one cut. Pure: the clock comes in by the door.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from explaineval.client.protocol import Client
from explaineval.client.spending import BillCheck
from explaineval.cost import total_tokens
from explaineval.errors import EndpointError, RequestUnsentError, TransientError
from explaineval.records import Completion, Request

SLOW_START = 4.0
CUT = 0.85
GROWTH, GROWTH_NEAR_KNEE, GROWTH_BEYOND = 0.15, 0.02, 0.05
"""Share by which the limit grows in a window: below, near and beyond the level where congestion was last seen."""
NEAR = 0.95
MARGIN = 0.06
DEVIATIONS = 2.0
SHORTEST_WINDOW = 24
HIGHEST_USUAL = 0.25
"""A higher share of refusals is congestion even where it has always been so."""
RISE, FALL = 0.05, 0.3
"""How fast the usual share follows a window above and below it."""


@dataclass
class AdaptiveLimit:
    """A concurrency limit between 1 and `ceiling`. Starts low, doubles until the first congestion, then probes."""

    ceiling: int
    value: float = field(init=False)
    starting: bool = field(default=True, init=False)
    refusals: int = field(default=0, init=False)
    attempts: int = field(default=0, init=False)
    usual: float | None = field(default=None, init=False)
    streak: int = field(default=0, init=False)
    clean: int = field(default=0, init=False)
    knee: float = field(default=math.inf, init=False)

    def __post_init__(self) -> None:
        self.value = min(SLOW_START, float(self.ceiling))

    @property
    def slots(self) -> int:
        """Whole requests that may be under way now."""
        return max(1, int(self.value))

    @property
    def overloaded(self) -> bool:
        """Whether everything under way has been refused lately, so that waiting is better than asking."""
        return self.streak > max(8, self.slots)

    def note(self, *, refused: bool) -> None:
        """Count one attempt that came back: answered, or refused for overload (429, 503, 529)."""
        self.attempts += 1
        self.refusals += refused
        self.streak = self.streak + 1 if refused else 0
        if self.starting and not self.refusals and self.attempts >= self.slots:
            self.clean += self.attempts  # no refusal yet: no need to wait for a significant number
            self.attempts = 0
            self._grow()
        elif self.attempts >= max(SHORTEST_WINDOW, self.slots):
            self._close_window()

    def _close_window(self) -> None:
        share = self.refusals / self.attempts
        if self.usual is None:  # what came before without a refusal speaks against refusals being usual
            self.usual = min(share, HIGHEST_USUAL) * SHORTEST_WINDOW / (SHORTEST_WINDOW + 3 * self.clean)
        usual = self.usual
        spread = math.sqrt(usual * (1 - usual) / self.attempts)
        self.attempts = self.refusals = 0
        if share > usual + DEVIATIONS * spread + MARGIN:
            self.knee = self.value
            self.value = max(1.0, self.value * CUT)
            self.starting = False
            return
        self.usual = min(HIGHEST_USUAL, usual + (RISE if share > usual else FALL) * (share - usual))
        self._grow()

    def _grow(self) -> None:
        near = NEAR * self.knee < self.value < self.knee / NEAR
        growth = GROWTH_NEAR_KNEE if near else GROWTH if self.value < self.knee else GROWTH_BEYOND
        share = 1.0 if self.starting else growth
        self.value = min(float(self.ceiling), self.value + max(0.5, share * self.value))


@dataclass
class Pace:
    """Spaces requests so that no more than `rpm` requests and `tpm` tokens start in a minute; None is no limit."""

    rpm: float | None = None
    tpm: float | None = None
    next_request: float = field(default=0.0, init=False)
    next_token: float = field(default=0.0, init=False)

    def delay(self, now: float, tokens: int) -> float:
        """Seconds to wait before a request of about `tokens` tokens may start; books it."""
        start = now
        if self.rpm is not None:
            start = max(start, self.next_request)
        if self.tpm is not None:
            start = max(start, self.next_token)
        if self.rpm is not None:
            self.next_request = start + 60.0 / self.rpm
        if self.tpm is not None:
            self.next_token = start + 60.0 * tokens / self.tpm
        return start - now

    def correct(self, booked: int, used: int) -> None:
        """Replace the estimate of a request's tokens by what it used."""
        if self.tpm is not None:
            self.next_token += 60.0 * (used - booked) / self.tpm


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


FAILURES_IN_A_ROW = 20
CHARACTERS_PER_TOKEN = 4
BELIEVED = 16
"""How many times the tokens booked for a request an answer may have used."""


@dataclass
class SlotClient:
    """Sends a request when the gate lets it in, and gives up on a model that is dead.

    After FAILURES_IN_A_ROW failed attempts (and one for each place in the gate) without one success in between, or the
    first error that no retry can mend (wrong key, unknown model), `down` says why and every further request is turned
    away unsent. So it is after a bill that cannot be right (`bills`).
    """

    inner: Client
    gate: Gate
    stopping: asyncio.Event
    bills: BillCheck | None = None
    down: EndpointError | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)

    async def complete(self, request: Request) -> Completion:
        """One attempt inside a slot."""
        booked = _tokens(request)
        self._turn_away()  # at once: the gate's pace is for what is sent
        async with self.gate.slot(booked):
            self._turn_away()
            try:
                completion = await self.inner.complete(request)
            except TransientError as exc:
                self.gate.failed(exc)
                self._count(exc)
                raise
            except EndpointError as exc:
                self.down = exc
                raise
            self._failures = 0
            self.gate.answered(booked, _used(completion, most=BELIEVED * booked))
            return completion

    def _turn_away(self) -> None:
        if self.stopping.is_set():
            raise RequestUnsentError("the run is stopping")
        reason = self.down or (None if self.bills is None else self.bills.fault)
        if reason is not None:
            raise RequestUnsentError(str(reason))

    def _count(self, exc: TransientError) -> None:
        if exc.overload:  # it is alive, only busy
            return
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW + self.gate.ceiling:
            self.down = EndpointError(f"{exc}; {self._failures} attempts in a row failed, so no more are made.")


def _tokens(request: Request) -> int:
    """About how many tokens a request takes: its text, and what it may answer at the most."""
    characters = len(request.prompt or "") + sum(len(message.content) for message in request.messages or ())
    return characters // CHARACTERS_PER_TOKEN + request.max_tokens


def _used(completion: Completion, most: int) -> int:
    """The tokens that the endpoint counted, `most` at the most: one wild count must not hold up the pace for hours."""
    return min(most, total_tokens(completion.usage))
