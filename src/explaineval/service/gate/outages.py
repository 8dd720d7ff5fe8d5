"""Endpoints that do not answer: all runs wait, one attempt at a time tries, with growing pauses, until one is answered.

Each process finds out for itself that an endpoint is out (`client.outage`) and asks here when it may try; here it is
decided which run tries next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

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
