"""Endpoints that do not answer: all runs wait, one attempt at a time tries, with growing pauses, until one is answered.

Whether an attempt says that its endpoint is out is decided in the process of the run (`client.outages`); here it is
decided who tries next, and when nobody does any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from explaineval.errors import RequestUnsentError

PATIENCE = 1800.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between two attempts: at first, and at most, doubled each time."""


@dataclass(eq=False)
class Outage:
    """One endpoint that does not answer: why, since when, when it is tried next, and by which run just now.

    `since` is in seconds since 1970, the other times in those of the event loop.
    """

    reason: str
    since: float
    begun: float
    next_try: float
    pause: float = FIRST_PAUSE
    prober: str | None = None
    tries: int = 0
    called: str | None = None
    """The run without a process that was called to try it."""
    over: str | None = None
    """Why nobody tries any more."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

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

    def __init__(self, patience: float = PATIENCE, answered: set[str] | None = None) -> None:
        self.patience = patience
        self.have_answered = set(answered or ())
        self.now: dict[str, Outage] = {}
        self.on_first_answer: Callable[[str], None] = lambda _: None
        """Called once for each endpoint, when it has answered for the first time."""
        self.on_change: Callable[[str], None] = lambda _: None
        """Called where an outage begins, is tried again, or is over."""

    async def enter(self, place: str, run: str) -> None:
        """Wait until a run may ask an endpoint. Raises RequestUnsentError where it is not waited for any longer."""
        loop = asyncio.get_running_loop()
        while (outage := self.now.get(place)) is not None:
            if outage.prober is None and loop.time() >= outage.next_try:
                outage.prober, outage.tries = run, outage.tries + 1
                self.on_change(place)
                return
            changed, wait = outage.changed, max(0.0, outage.next_try - loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(wait if outage.prober is None else None):
                    await changed.wait()
            if outage.over is not None:
                raise RequestUnsentError(outage.over)

    def answered(self, place: str) -> None:
        """Note that an endpoint answers: whoever waits may go on."""
        if place not in self.have_answered:
            self.have_answered.add(place)
            self.on_first_answer(place)
        outage = self.now.pop(place, None)
        if outage is not None:
            outage.wake()
            self.on_change(place)

    def failed(self, place: str, run: str, reason: str) -> None:
        """Note that an attempt of a run found its endpoint out."""
        if self.patience <= 0:
            return
        now, outage = asyncio.get_running_loop().time(), self.now.get(place)
        if outage is None:
            self.now[place] = Outage(reason, time.time(), now, now + FIRST_PAUSE)
        elif outage.prober == run:
            outage.reason, outage.prober = reason, None
            outage.pause = min(LONGEST_PAUSE, 2 * outage.pause)
            outage.next_try = now + outage.pause
            outage.wake()
        else:  # it was under way when the outage began
            return
        self.on_change(place)

    def leave(self, place: str, run: str) -> None:
        """Note that a run's attempt came back without saying anything of its endpoint: another one may try."""
        outage = self.now.get(place)
        if outage is not None and outage.prober == run:
            outage.prober = None
            outage.wake()

    def give_up(self) -> dict[str, str]:
        """End the outages that last longer than anybody waits; return why by endpoint."""
        now = asyncio.get_running_loop().time()
        ended = {}
        for place, outage in list(self.now.items()):
            if outage.prober is None and now - outage.begun >= self.patience:
                outage.over = ended[place] = (
                    f"the endpoint {place} has not answered since {clock(outage.since)} ({outage.reason}), and is "
                    f"waited for {self.patience / 60:g} minutes at the most: continue the run when it answers."
                )
                del self.now[place]
                outage.wake()
                self.on_change(place)
        return ended

    def sentence(self, place: str) -> str | None:
        """Return what an endpoint's outage means for the runs that wait for it; None where it has none."""
        outage = self.now.get(place)
        if outage is None:
            return None
        left = time.time() + outage.next_try - asyncio.get_running_loop().time()
        tried = "it is tried now" if outage.prober is not None else f"next try at {clock(left)}"
        return (
            f"it waits for the endpoint {place}, which does not answer since {clock(outage.since)} ({outage.reason}); "
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
