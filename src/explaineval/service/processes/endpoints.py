"""Endpoints that do not answer: all runs wait, one attempt at a time tries, with growing pauses, until one is answered.

Each process finds out for itself that an endpoint is out (`client.outage`) and asks here when it may try; here it is
decided which run tries next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from explaineval.client.concurrency import RateLimit
from explaineval.config import ClientConfig, EndpointConfig

PATIENCE = 1800.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two attempts: at first, and at most, doubled each time."""


@dataclass(eq=False)
class DownEndpoint:
    """One endpoint that does not answer: why, since when, when it is tried next, and by which run just now.

    `since` is in seconds since 1970, the other times in those of the event loop. `prober` may try it since `granted`,
    and does where `trying`. `called` is the run without a process that was started to try it.
    """

    reason: str
    since: float
    begun: float
    next_try: float
    pause: float
    prober: str | None = None
    granted: float = 0.0
    trying: bool = False
    called: str | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def let_go(self) -> None:
        """Let another attempt be made."""
        self.prober, self.trying = None, False
        self.wake()

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self.changed.set()
        self.changed = asyncio.Event()


class Outages:
    """The endpoints that do not answer.

    Args:
        patience: seconds for which an endpoint is waited for; 0 never waits.
        answered: endpoints that have answered before.
    """

    def __init__(self, patience: float = PATIENCE, answered: Iterable[str] = ()) -> None:
        self.patience = patience
        self.have_answered = set(answered)
        self.now: dict[str, DownEndpoint] = {}
        self.on_first_answer: Callable[[str], None] = lambda _: None
        """Called once for each endpoint, when it has answered for the first time."""

    def begin(self, place: str, reason: str = "it does not answer") -> None:
        """Note that a run waits for an endpoint."""
        now, outage = asyncio.get_running_loop().time(), self.now.get(place)
        if outage is None:
            self.now[place] = DownEndpoint(reason, time.time(), now, now + FIRST_PAUSE, FIRST_PAUSE)
        else:
            outage.reason = reason

    async def enter(self, place: str, run: str) -> bool:
        """Wait until a run may try an endpoint; False where it answers again meanwhile.

        A run that may try it and does not within LONGEST_PAUSE gives its turn away.
        """
        loop = asyncio.get_running_loop()
        while (outage := self.now.get(place)) is not None:
            now = loop.time()
            if outage.prober == run and not outage.trying:
                return True
            due = outage.next_try if outage.prober is None else outage.granted + LONGEST_PAUSE
            if not outage.trying and now >= due:
                outage.prober, outage.granted = run, now
                outage.wake()
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(None if outage.trying else due - now):
                    await outage.changed.wait()
        return False

    def try_now(self, place: str, run: str) -> bool:
        """Return whether a run may make its attempt at an endpoint now; then it is under way."""
        outage = self.now.get(place)
        if outage is None or outage.prober != run or outage.trying:
            return False
        outage.trying = True
        return True

    def is_prober(self, place: str, run: str) -> bool:
        """Return whether a run may try an endpoint just now."""
        outage = self.now.get(place)
        return outage is not None and outage.prober == run

    def answered(self, place: str) -> None:
        """Note that an endpoint answers: whoever waits may go on."""
        if place not in self.have_answered:
            self.have_answered.add(place)
            self.on_first_answer(place)
        outage = self.now.pop(place, None)
        if outage is not None:
            outage.wake()

    def failed(self, place: str, run: str) -> None:
        """Note that the attempt of the run that tries an endpoint was in vain."""
        outage = self.now.get(place)
        if outage is not None and outage.prober == run:
            outage.pause = min(LONGEST_PAUSE, 2 * outage.pause)
            outage.next_try = asyncio.get_running_loop().time() + outage.pause
            outage.let_go()

    def leave(self, run: str) -> None:
        """Let another run try what this one was trying."""
        for outage in self.now.values():
            if outage.prober == run:
                outage.let_go()

    def is_over(self, place: str) -> bool:
        """Return whether an endpoint has not answered for as long as it is waited for."""
        outage = self.now.get(place)
        return outage is not None and asyncio.get_running_loop().time() - outage.begun >= self.patience

    def forget(self, waited_for: Iterable[str]) -> None:
        """Forget the outages of all other endpoints: nobody waits for them any more."""
        for place in set(self.now) - set(waited_for):
            self.answered(place)

    def farewell(self, place: str) -> str:
        """Return why a run does not wait for an endpoint any longer."""
        outage = self.now[place]
        return (
            f"the endpoint {place} has not answered since {clock(outage.since)} ({outage.reason.rstrip('.')}), and is "
            f"waited for {self.patience / 60:g} minutes at the most; continue the run when it answers."
        )

    def sentence(self, place: str) -> str | None:
        """Return what an endpoint's outage means for the runs that wait for it; None where it has none."""
        outage = self.now.get(place)
        if outage is None:
            return None
        left = time.time() + outage.next_try - asyncio.get_running_loop().time()
        tried = "it is tried now" if outage.prober is not None else f"next try at {clock(left)}"
        return (
            f"it waits for the endpoint {place}, which has not answered since {clock(outage.since)} "
            f"({outage.reason.rstrip('.')}); "
            f"{tried}, and it is given up at {clock(outage.since + self.patience)}."
        )


def clock(seconds: float) -> str:
    """Return a time given in seconds since 1970 as people read it.

    >>> clock(0)
    '00:00:00 UTC'
    """
    then = datetime.fromtimestamp(seconds, UTC)
    days = "" if abs(seconds - time.time()) < 43_200 or seconds < 86_400 else f"{then:%Y-%m-%d} "
    return f"{days}{then:%H:%M:%S} UTC"


CONNECTIONS: int = ClientConfig.model_fields["max_connections"].default


@dataclass
class RateQueue:
    """Lets requests begin one after the other, as a rate allows, in the order of asking.

    A request that is given up takes no time from those behind it.
    """

    rate: RateLimit
    _order: dict[int, str] = field(default_factory=dict, init=False)
    """The run of each request that waits, in their order."""
    _numbers: Iterator[int] = field(default_factory=count, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def begin(self, run: str, tokens: int) -> None:
        """Wait until a request of a run may begin that takes about so many tokens."""
        if self.rate.rpm is None and self.rate.tpm is None:
            return
        loop = asyncio.get_running_loop()
        number = next(self._numbers)
        self._order[number] = run
        try:
            async with self._turn:
                while (wait := self.rate.wait(loop.time())) > 0:  # noqa: ASYNC110 - only time has to pass
                    await asyncio.sleep(wait)
                self.rate.delay(loop.time(), tokens)
        finally:
            del self._order[number]

    def due(self, run: str, now: float) -> float:
        """Return the seconds until the first request of a run that waits may begin; 0 where none waits."""
        before = next((place for place, other in enumerate(self._order.values()) if other == run), None)
        if before is None:
            return 0.0
        return self.rate.wait(now) + (before * 60.0 / self.rate.rpm if self.rate.rpm is not None else 0.0)


@dataclass
class EndpointTurns:
    """The connections of one endpoint: how many there are, how many are taken, and how long requests waited for one.

    `waited` sums seconds over `taken` requests that got a connection; `waiting` wait now.
    """

    connections: int
    pace: RateQueue
    in_use: int = field(default=0, init=False)
    waiting: int = field(default=0, init=False)
    taken: int = field(default=0, init=False)
    waited: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.connections)

    async def take(self, tokens: int, run: str = "", own: RateQueue | None = None) -> None:
        """Take a connection for a run in the order of asking, when the rates allow a request of about so many tokens.

        `own` is the pace of the run itself, which is waited for first, without a connection.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.waiting += 1
        try:
            if own is not None:
                await own.begin(run, tokens)
            await self._free.acquire()
            try:
                await self.pace.begin(run, tokens)
            except asyncio.CancelledError:
                self._free.release()
                raise
        finally:
            self.waiting -= 1
        self.in_use += 1
        self.taken += 1
        self.waited += loop.time() - start

    def give_back(self) -> None:
        """Give a connection back."""
        self.in_use -= 1
        self._free.release()


class Turns:
    """The connections of all endpoints, by their names, and which of them do not answer.

    Other places, such as simulated models, are not limited here.
    """

    def __init__(self, endpoints: Mapping[str, EndpointConfig], outages: Outages | None = None) -> None:
        self.endpoints = {
            name: EndpointTurns(entry.max_connections or CONNECTIONS, RateQueue(RateLimit(entry.rpm, entry.tpm)))
            for name, entry in endpoints.items()
        }
        self.outages = Outages() if outages is None else outages
