"""How many requests are sent to an endpoint at once, and how fast: additive increase, multiplicative decrease.

Not every 429 means "too many at once": some gateways refuse a share of all requests whatever the load. So refusals
beyond the usual share are summed up (Page's CUSUM test), and only a sum that chance hardly explains counts as
congestion, which cuts the limit once. The usual share is learned where congestion is unlikely: far below its level.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from explaineval.client.protocol import Client, Listener, SharedLimits
from explaineval.client.retries import Availability
from explaineval.client.spending import OverbillingCheck, texts_of
from explaineval.cost import total_tokens
from explaineval.errors import EndpointError, RequestUnsentError, TransientError, WithheldError
from explaineval.records import Completion, Request
from explaineval.text import counted

SLOW_START = 4.0
CUT, CUT_AT_START = 0.85, 0.7
"""What is left of the limit after congestion: usually, and after the doubling of the beginning."""
GROWTH, STEP = 0.25, 0.05
"""Shares by which the limit grows: below the level of the latest congestion, and in a step beyond it (at least 1)."""
SHORTEST_WINDOW = 24
"""Attempts in a window, at least."""
FIRST_HOLD, LONGEST_HOLD = 2, 32
"""Windows before congestion is tried out again at the same level: first, and at most, doubled each time."""
SLACK, PROOF, UNDECIDED = 0.08, 8.0, 3.0
"""Refusals are congestion once they sum to PROOF more than the usual share of the attempts and SLACK; from UNDECIDED on
the limit does not grow."""
DEVIATIONS = 2.0
"""Standard deviations by which a window's share of refusals must be higher to raise a doubt at the beginning."""
HIGHEST_USUAL, HIGHEST_SHARE = 0.25, 0.35
"""Highest usual share of refusals, and highest share in one window that counts as usual: more is congestion even where
it has always been so."""
BELOW = 0.65
"""Share of the level of the latest congestion below which refusals show what is usual."""
MEMORY, MEMORY_AT_CUT = 400, 120
"""Attempts over which the usual share is averaged: at most, and what counts of them after congestion."""


@dataclass
class AdaptiveLimit:
    """A number of concurrent requests between 1 and `ceiling`, found from what comes back.

    It starts low and doubles until the first congestion. Then it returns to the highest level without congestion and
    tries one request more from time to time, ever more rarely while that is refused. Attempts are counted in windows of
    about one round trip each; the limit grows after a window without congestion.

    Attributes:
        usual, seen: the usual share of refusals, and the attempts that it is averaged over.
        attempts, refusals: those of the window under way.
        streak: refusals in a row.
        excess: refusals beyond the usual; `suspect` attempts with `suspect_refusals` brought it about.
        good: the highest limit that passed a window.
        knee: the slots at the latest congestion.
        hold, holding: windows to wait before the knee is tried again, in all and still.
        settling: attempts that were sent before the latest cut and are not counted.
        starting: whether the limit is still being doubled; `doubted` is the limit at which refusals were first seen
            then, and `checking` says that the limit before it is looked at again.
    """

    ceiling: int
    value: float = field(init=False)
    starting: bool = field(default=True, init=False)
    refusals: int = field(default=0, init=False)
    attempts: int = field(default=0, init=False)
    usual: float = field(default=0.0, init=False)
    seen: int = field(default=0, init=False)
    streak: int = field(default=0, init=False)
    excess: float = field(default=0.0, init=False)
    good: float = field(default=0.0, init=False)
    knee: float = field(default=math.inf, init=False)
    suspect: int = field(default=0, init=False)
    suspect_refusals: int = field(default=0, init=False)
    hold: int = field(default=FIRST_HOLD, init=False)
    holding: int = field(default=0, init=False)
    settling: int = field(default=0, init=False)
    doubted: float = field(default=0.0, init=False)
    checking: bool = field(default=False, init=False)

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
        self.streak = self.streak + 1 if refused else 0
        if self.settling:
            self.settling -= 1
            return
        self.attempts += 1
        self.refusals += refused
        self.excess = max(0.0, self.excess + refused - self.usual - SLACK)
        self.suspect = self.suspect + 1 if self.excess else 0
        self.suspect_refusals = self.suspect_refusals + refused if self.excess else 0
        if self.excess >= PROOF:
            self._cut()
        elif self.starting and not self.refusals and not self.checking and self.attempts >= self.slots:
            self._close_window()  # no refusal yet: no need to wait for a significant number
        elif self.attempts >= max(SHORTEST_WINDOW, self.slots):
            self._close_window()

    def _close_window(self) -> None:
        share = self.refusals / self.attempts
        variance = max(self.usual, SLACK) * (1 - self.usual) / self.attempts
        if self.starting and self.good and share > self.usual + SLACK + DEVIATIONS * math.sqrt(variance):
            self._doubt()  # there was nothing of the kind before it was doubled
            return
        if self.value < BELOW * self.knee:  # further up it may be congestion
            self._learn(self.refusals, self.attempts)
        self.attempts = self.refusals = 0
        self.checking = False
        if self.good and (self.excess >= UNDECIDED or share > self.usual + SLACK):
            return
        self.good = max(self.good, self.value)
        if self.slots >= self.knee:  # it was congested there, and is no more
            self.knee, self.hold = math.inf, FIRST_HOLD
        self._grow()

    def _learn(self, refusals: int, attempts: int) -> None:
        """Let the usual share follow what was seen, unless that was far too much to be usual."""
        share = refusals / attempts
        if share <= HIGHEST_SHARE:
            self.usual = min(HIGHEST_USUAL, self.usual + (share - self.usual) * attempts / (self.seen + attempts))
            self.seen = min(MEMORY, self.seen + attempts)

    def _grow(self) -> None:
        if self.starting:
            grown = 2 * self.value
        elif self.value < self.knee - 1:
            grown = min(self.knee - 1, self.value + max(0.5, GROWTH * self.value))
        elif self.holding:
            self.holding -= 1
            return
        else:
            grown = self.value + max(1.0, STEP * self.value)
        self.value = min(float(self.ceiling), grown)

    def _doubt(self) -> None:
        """Look at the former level whether there are as many refusals; if they come again beyond it, cut."""
        if self.value <= self.doubted:
            self._cut()
            return
        self.doubted, self.value, self.checking = self.value, self.good, True
        self.settling = int(self.doubted)
        self._forget()

    def _cut(self) -> None:
        """React to congestion, once for all attempts that were sent before it was noticed."""
        same = abs(self.slots - self.knee) <= max(1.0, STEP * self.slots)
        self.hold = min(LONGEST_HOLD, 2 * self.hold) if same else FIRST_HOLD
        self.seen = min(self.seen, MEMORY_AT_CUT)
        if self.value <= self.good:  # there is room for less than there was, or more is usual than was thought
            self.good = 0.0
            if self.suspect:
                self._learn(self.suspect_refusals, self.suspect)
        left = max(self.good, self.value * (CUT_AT_START if self.starting else CUT))
        self.knee = self.slots
        self.value = max(1.0, min(left, self.value - 1))
        self.holding, self.settling, self.starting = self.hold, self.slots, False
        self._forget()

    def _forget(self) -> None:
        self.attempts = self.refusals = self.suspect = self.suspect_refusals = 0
        self.excess = 0.0


@dataclass
class RateLimit:
    """Spaces requests so that no more than `rpm` requests and `tpm` tokens start in a minute; None is no limit."""

    rpm: float | None = None
    tpm: float | None = None
    next_request: float = field(default=0.0, init=False)
    next_token: float = field(default=0.0, init=False)

    def wait(self, now: float) -> float:
        """Seconds until the next request may start; it is not taken as started."""
        return max(
            0.0,
            0.0 if self.rpm is None else self.next_request - now,
            0.0 if self.tpm is None else self.next_token - now,
        )

    def delay(self, now: float, tokens: int) -> float:
        """Seconds to wait before a request of about `tokens` tokens may start, which is taken as started then."""
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

    def correct(self, estimated: int, used: int) -> None:
        """Replace the estimate of a request's tokens by what it used."""
        if self.tpm is not None:
            self.next_token += 60.0 * (used - estimated) / self.tpm


EVIDENCE, BUSY_SHARE = 24, 0.05


@dataclass
class ConcurrencyLimit:
    """Lets in at most as many requests as the adaptive limit allows, in the order in which they came.

    `shared` are limits that other processes asking at the same `place`, an endpoint, keep to as well.
    """

    ceiling: int
    stopping: asyncio.Event
    rate: RateLimit = field(default_factory=RateLimit)
    place: str = ""
    shared: SharedLimits | None = None
    under_way: int = field(default=0, init=False)
    answers: int = field(default=0, init=False)
    refusals: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.adaptive = AdaptiveLimit(self.ceiling)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._resume_at = 0.0

    def is_busy(self) -> bool:
        """Whether the endpoint answers, but refuses so many that a refusal says nothing about the request."""
        return self.answers >= EVIDENCE and self.refusals >= BUSY_SHARE * (self.answers + self.refusals)

    @asynccontextmanager
    async def slot(self, tokens: int) -> AsyncIterator[None]:
        """Hold one of the slots, from when there is one, the rate limit allows it and no pause is on."""
        await self._enter()
        try:
            await self._wait_for_rate(tokens)
            async with nullcontext() if self.shared is None else self.shared.slot(self.place, tokens):
                yield
        finally:
            self.under_way -= 1
            self._let_in()

    def answered(self, estimated: int, used: int) -> None:
        """Note that a request was answered, and took `used` tokens instead of those estimated."""
        self.answers += 1
        self.adaptive.note(refused=False)
        self.rate.correct(estimated, used)
        if self.shared is not None:
            self.shared.correct(self.place, estimated, used)

    def failed(self, exc: TransientError) -> None:
        """Note that a request came back without an answer."""
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
            await turn  # _let_in has counted this one
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.under_way -= 1
                self._let_in()
            raise

    def _let_in(self) -> None:
        while self._waiting and self.under_way < self.adaptive.slots:
            turn = self._waiting.popleft()
            if not turn.done():
                self.under_way += 1
                turn.set_result(None)

    async def _wait_for_rate(self, tokens: int) -> None:
        loop = asyncio.get_running_loop()
        wait = self.rate.delay(loop.time(), tokens)
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
"""How many times the tokens estimated for a request an answer may have used: one wild count must not stop requests for
hours."""


@dataclass
class LimitedClient:
    """Sends a request when the concurrency limit lets it in, and gives up on a model that does not answer any more.

    After FAILURES_IN_A_ROW failed attempts (and one for each slot) without one success in between, or the first error
    that no retry can mend (wrong key, unknown model), `down` says why and every further request is turned away unsent.
    So it is after a bill that was too high (`overbilling`), and where an endpoint was waited for in vain
    (`availability`): while it is waited for, failures are not counted here.
    """

    inner: Client
    limit: ConcurrencyLimit
    stopping: asyncio.Event
    overbilling: OverbillingCheck = field(default_factory=OverbillingCheck)
    listener: Listener = field(default_factory=Listener)
    availability: Availability = field(default_factory=Availability)
    down: EndpointError | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)

    async def complete(self, request: Request) -> Completion:
        """One attempt inside a slot."""
        estimated = sum(map(len, texts_of(request))) // CHARACTERS_PER_TOKEN + request.max_tokens
        self._raise_unsent(request)  # at once: the rate limit is for what is sent
        async with self.limit.slot(estimated):
            self._raise_unsent(request)
            try:
                completion = await self.inner.complete(request)
            except TransientError as exc:
                self.limit.failed(exc)
                self._count_failure(exc)
                raise
            except EndpointError as exc:
                if self.availability.is_waited_for(exc):
                    raise TransientError(str(exc), refused=True) from exc
                self.down = exc
                raise
            self._failures = 0
            self.limit.answered(estimated, min(BELIEVED * estimated, total_tokens(completion.usage)))
            return completion

    def _raise_unsent(self, request: Request) -> None:
        if self.listener.is_withheld(request):  # it may have waited long for its turn
            raise WithheldError("nothing more is asked there")
        if self.stopping.is_set():
            raise RequestUnsentError("the run is stopping")
        self.down = self.down or self.availability.error
        if self.down is not None:
            raise RequestUnsentError(str(self.down))
        self.overbilling.raise_unsent()

    def _count_failure(self, exc: TransientError) -> None:
        if exc.overload or self.availability.is_waited_for(exc):
            return
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW + self.limit.ceiling:
            self.down = EndpointError(
                f"{exc}; {counted(self._failures, 'attempt')} in a row failed, so no more are made."
            )
