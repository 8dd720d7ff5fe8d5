"""How many requests are sent to an endpoint at once, and how fast: additive increase, multiplicative decrease.

Not every 429 means "too many at once": some gateways refuse a share of all requests whatever the load. So the share
of refusals in a window of about one round trip is compared with the usual share, and only what is significantly above
it counts as congestion, which cuts the limit once.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from explaineval.client.protocol import Client, SharedLimits
from explaineval.client.spending import OverbillingCheck, texts_of
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
    """A number of concurrent requests between 1 and `ceiling`. Starts low, doubles until the first congestion, then
    grows slowly.

    `attempts` and `refusals` count the window under way, `streak` the refusals in a row, `clean` the attempts before
    the first refusal; `usual` is the usual share of refusals, `knee` the limit at which congestion was last seen.
    """

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
        deviation = math.sqrt(usual * (1 - usual) / self.attempts)
        self.attempts = self.refusals = 0
        if share > usual + DEVIATIONS * deviation + MARGIN:
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
class RateLimit:
    """Spaces requests so that no more than `rpm` requests and `tpm` tokens start in a minute; None is no limit."""

    rpm: float | None = None
    tpm: float | None = None
    next_request: float = field(default=0.0, init=False)
    next_token: float = field(default=0.0, init=False)

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
    So it is after a bill that was too high (`overbilling`).
    """

    inner: Client
    limit: ConcurrencyLimit
    stopping: asyncio.Event
    overbilling: OverbillingCheck = field(default_factory=OverbillingCheck)
    down: EndpointError | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)

    async def complete(self, request: Request) -> Completion:
        """One attempt inside a slot."""
        estimated = sum(map(len, texts_of(request))) // CHARACTERS_PER_TOKEN + request.max_tokens
        self._raise_unsent()  # at once: the rate limit is for what is sent
        async with self.limit.slot(estimated):
            self._raise_unsent()
            try:
                completion = await self.inner.complete(request)
            except TransientError as exc:
                self.limit.failed(exc)
                self._count_failure(exc)
                raise
            except EndpointError as exc:
                self.down = exc
                raise
            self._failures = 0
            self.limit.answered(estimated, min(BELIEVED * estimated, total_tokens(completion.usage)))
            return completion

    def _raise_unsent(self) -> None:
        if self.stopping.is_set():
            raise RequestUnsentError("the run is stopping")
        if self.down is not None:
            raise RequestUnsentError(str(self.down))
        self.overbilling.raise_unsent()

    def _count_failure(self, exc: TransientError) -> None:
        if exc.overload:  # it is alive, only busy
            return
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW + self.limit.ceiling:
            self.down = EndpointError(f"{exc}; {self._failures} attempts in a row failed, so no more are made.")
