"""The bounded pool: pulls units from the lazy plan, asks, hands finished trials on. The only waiting code here.

A first Ctrl-C stops taking work and lets what was sent (and so is paid for) come home for GRACE seconds; a second
one gives up at once. Memory holds only the units under way.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from explaineval.client import Client
from explaineval.errors import EndpointError, RequestFailedError, RequestRejectedError, RequestUnsentError
from explaineval.experiment.plans import Asked, Sizes, Unit
from explaineval.experiment.readings import Failure, Reply, ask_again, explanation_request, read
from explaineval.records import Completion, Request

GRACE = 15.0


def _miss_nothing(request: Request) -> None:
    """Stands in where nobody asks what was not sent."""


Sink = Callable[[Unit, Reply | None, list[Reply | None], list[Reply | None]], None]


@dataclass
class Progress:
    """What the executor has done so far; read by whoever shows it."""

    units: int = 0
    planned: int = 0
    done: int = 0
    unsent: int = 0
    again: int = 0
    """Requests that ask once more; they are part of `planned`."""
    size: int = 0
    """Distinct requests of the units that were begun."""
    whole: bool = False
    """Whether every unit of the plan was begun."""
    outcomes: dict[str, int] = field(default_factory=dict)

    def leave(self, whole: Sizes) -> None:
        """Count what was never begun of a plan of this size."""
        self.unsent += whole.distinct - self.size
        self.planned = whole.planned + self.again


@dataclass
class Executor:
    """Runs plans against a client with a bounded number of units under way.

    `miss` is told of second calls that were not sent because their first was not; their letter is a guess.
    """

    client: Client
    width: int
    stopping: asyncio.Event
    retry: Collection[str] = ()
    miss: Callable[[Request], None] = _miss_nothing
    progress: Progress = field(default_factory=Progress)
    fatal: dict[str, EndpointError] = field(default_factory=dict)
    _cut_short: bool = False

    async def run(self, units: Iterator[Unit], sink: Sink) -> None:
        """Ask everything in `units`; each goes to `sink` once, unless the run stopped before it."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self.width):
                group.create_task(self._work(units, sink))
        self.progress.whole = not self._cut_short

    async def _work(self, units: Iterator[Unit], sink: Sink) -> None:
        for unit in units:
            self.progress.units += 1
            if unit.idle:
                sink(unit, None, [None] * len(unit.asked), [])
                continue
            if self.stopping.is_set():
                self._cut_short = True
                return
            self.progress.planned += unit.planned
            self.progress.size += unit.size
            sides = [(None, unit.base), *((one, one.request) for one in unit.asked if one.request)]
            whole = asyncio.gather(*(self._side(unit, asked, request) for asked, request in sides))
            shams = asyncio.gather(*(self._reply(unit, request) for request in unit.shams))
            replies = iter(await whole)
            base = next(replies)
            after = [next(replies) if one.request else None for one in unit.asked]
            sink(unit, base, after, list(await shams))

    async def _side(self, unit: Unit, asked: Asked | None, request: Request) -> Reply | None:
        """The reply for one input, with that to a second call where the explanation is asked for by one."""
        try:
            reply = await self._reply(unit, request)
        except asyncio.CancelledError:
            self.progress.unsent += unit.twofold
            raise
        if reply is None:
            if unit.twofold:
                self.progress.unsent += 1
                self.miss(unit.explanation_of(asked, next(iter(unit.example.options)), request))
            return None
        second = explanation_request(unit, asked, reply)
        if second is None:
            return reply
        explanation = await self._reply(unit, second, read(unit, reply).label)
        return None if explanation is None else replace(reply, explanation=explanation)

    async def _reply(self, unit: Unit, request: Request, label: str | None = None) -> Reply | None:
        """The reply to a request, asked once more where its first answer has a status that is to be retried."""
        result = await self._ask(request)
        if result is None:
            return None
        reply = Reply(request, result)
        again = ask_again(unit, reply, self.retry, label)
        if again is None:
            return reply
        self.progress.planned += 1
        self.progress.again += 1
        second = await self._ask(again)
        return reply if second is None else Reply(again, second)

    async def _ask(self, request: Request) -> Completion | Failure | None:
        try:
            completion = await self.client.complete(request)
        except RequestUnsentError:
            return None
        except RequestRejectedError as exc:
            return self._failed("rejected", exc)
        except EndpointError as exc:
            self.fatal.setdefault(request.model, exc)
            return self._failed("failed", exc)
        except RequestFailedError as exc:
            return self._failed("failed", exc)
        self.progress.done += 1
        return completion

    def _failed(self, status: str, exc: Exception) -> Failure:
        self.progress.done += 1
        self.progress.outcomes[status] = self.progress.outcomes.get(status, 0) + 1
        return Failure("rejected" if status == "rejected" else "failed", str(exc))


@contextmanager
def stop_on_interrupt(stopping: asyncio.Event, give_up: Callable[[], None]) -> Iterator[None]:
    """While inside, Ctrl-C (and SIGTERM) sets `stopping`; a second one, or GRACE seconds, calls `give_up`."""
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if stopping.is_set():
            give_up()
            return
        stopping.set()
        loop.call_later(GRACE, give_up)

    signals = (signal.SIGINT, signal.SIGTERM)
    for one in signals:
        loop.add_signal_handler(one, interrupted)
    try:
        yield
    finally:
        for one in signals:
            loop.remove_signal_handler(one)
