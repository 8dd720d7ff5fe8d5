"""The bounded pool: pulls units from the lazy plan, asks, hands finished trials on. The only waiting code here.

A first Ctrl-C stops taking work and lets what was sent (and so is paid for) come home for GRACE seconds; a second
one gives up at once. Memory holds only the units under way.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from explaineval.client.protocol import Client
from explaineval.errors import EndpointError, RequestFailedError, RequestRejectedError, RequestUnsentError
from explaineval.planning.units import Asked, Failure, Reply, Sizes, Unit, ask_again, explanation_request, read
from explaineval.records import Completion, Request

T = TypeVar("T")

MOST_HELD_UP = 1024
"""How many units may wait for other processes while others are asked: what they have under way, with room to spare."""

GRACE = 15.0
STOPPING = (
    "stopping: nothing more is sent; answers under way, which are paid for, are waited for "
    f"({GRACE:g} s at the most; Ctrl-C again gives them up)."
)


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


class WorkerPool:
    """Handles items with `width` workers beside each other, and one more for each that `hold_up` tells of.

    Who waits for another process must not keep free work waiting; MOST_HELD_UP bounds what is under way.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._workers = self._held_up = 0
        self._work: Callable[[], Coroutine[Any, Any, None]]
        self._group: asyncio.TaskGroup | None = None

    async def run(self, items: Iterator[T], handle: Callable[[T], Awaitable[bool]]) -> None:
        """Handle all items, as long as `handle` returns True."""
        self._work = lambda: self._take(items, handle)
        async with asyncio.TaskGroup() as self._group:
            for _ in range(self.width):
                self._start(self._group)
        self._group = None

    def hold_up(self, change: int) -> None:
        """Note that so many more (or, below 0, fewer) of the workers are waiting for another process."""
        self._held_up += change
        if self._group is not None and self._workers < self._wanted:
            self._start(self._group)

    @property
    def _wanted(self) -> int:
        return self.width + min(self._held_up, MOST_HELD_UP)

    def _start(self, group: asyncio.TaskGroup) -> None:
        self._workers += 1
        group.create_task(self._work())

    async def _take(self, items: Iterator[T], handle: Callable[[T], Awaitable[bool]]) -> None:
        try:
            for item in items:
                if not await handle(item):
                    self._group = None
                    return
                if self._workers > self._wanted:  # whom this one stood in for works again
                    return
        except BaseException:
            self._group = None  # it is being ended: no one may join it
            raise
        finally:
            self._workers -= 1


@dataclass
class Executor:
    """Runs plans against a client with the pool's bounded number of units under way.

    `miss` is told of second calls that were not sent because their first was not; their letter is a guess.
    """

    client: Client
    pool: WorkerPool
    stopping: asyncio.Event
    retry: Collection[str] = ()
    miss: Callable[[Request], None] = _miss_nothing
    progress: Progress = field(default_factory=Progress)
    fatal: dict[str, EndpointError] = field(default_factory=dict)
    _cut_short: bool = False

    async def run(self, units: Iterator[Unit], sink: Sink) -> None:
        """Ask everything in `units`; each goes to `sink` once, unless the run stopped before it."""

        async def ask(unit: Unit) -> bool:
            return await self._ask_unit(unit, sink)

        await self.pool.run(units, ask)
        self.progress.whole = not self._cut_short

    async def _ask_unit(self, unit: Unit, sink: Sink) -> bool:
        """Ask one unit; whether the next may follow."""
        self.progress.units += 1
        if unit.idle:
            sink(unit, None, [None] * len(unit.asked), [])
            return True
        if self.stopping.is_set():
            self._cut_short = True
            return False
        self.progress.planned += unit.planned
        self.progress.size += unit.size
        sides = [(None, unit.base), *((one, one.request) for one in unit.asked if one.request)]
        replies = iter(
            await asyncio.gather(  # one for all: of two, a failure would leave one that nobody waits for
                *(self._side(unit, asked, request) for asked, request in sides),
                *(self._reply(unit, request) for request in unit.shams),
            )
        )
        base = next(replies)
        after = [next(replies) if one.request else None for one in unit.asked]
        sink(unit, base, after, list(replies))
        return True

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


@dataclass
class Interruption:
    """How often a run was interrupted."""

    count: int = 0


@contextmanager
def stop_on_interrupt(
    stopping: asyncio.Event, give_up: Callable[[], None], tell: Callable[[str], None] = lambda _: None
) -> Iterator[Interruption]:
    """While inside, Ctrl-C (and SIGTERM) sets `stopping`; a second one, or GRACE seconds, calls `give_up`.

    `tell` gets the sentence about the first.
    """
    loop = asyncio.get_running_loop()
    found = Interruption()

    def interrupted() -> None:
        found.count += 1
        stopping.set()
        if found.count > 1:
            give_up()
        else:
            tell(STOPPING)
            loop.call_later(GRACE, give_up)

    signals = (signal.SIGINT, signal.SIGTERM)
    for one in signals:
        loop.add_signal_handler(one, interrupted)
    try:
        yield found
    finally:
        for one in signals:
            loop.remove_signal_handler(one)
