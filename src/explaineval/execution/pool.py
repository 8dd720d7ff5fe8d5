"""The bounded pool: the only place where requests run concurrently.

`Pool` works on the items of one model, a bounded number at a time; `run_until_done` does the work of several models at
once and handles Ctrl-C. A first one stops taking work and waits GRACE seconds for what was sent (and so is paid for); a
second one gives up at once. Memory holds only the items under way.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from explaineval.cache import request_key
from explaineval.client.protocol import Client
from explaineval.errors import EndpointError, RequestFailedError, RequestRejectedError, RequestUnsentError
from explaineval.planning.requests import RETRY_SAMPLES, Dialogue, Failure, Reply
from explaineval.planning.units import PlanSize, Unit
from explaineval.records import Completion, Request, Status

T = TypeVar("T")

MAX_WAITING = 1024
"""How many items may wait for other processes while others are worked on."""

GRACE = 15.0
TICK = 0.25
"""Seconds between two reports of progress."""
STOPPING = (
    "stopping: nothing more is sent; answers under way, which are paid for, are waited for "
    f"({GRACE:g} s at the most; Ctrl-C again gives them up)."
)


@dataclass
class StopRequest:
    """Asks a run to stop from outside, from any thread: once as Ctrl-C does, twice as a second Ctrl-C does.

    `grace` is for how many seconds answers under way are then waited for.
    """

    times: int = 0
    grace: float = GRACE

    def ask(self) -> None:
        """Ask once more."""
        self.times += 1


@dataclass
class RequestTally:
    """What a pool has done so far, in requests."""

    requests: int = 0
    """Handed to the client, whatever came of it."""
    planned: int = 0
    """Before dedupe, retries included."""
    retried: int = 0
    distinct: int = 0
    """In the units that were begun."""
    unsent: int = 0
    """Not even handed to the client."""
    withheld: int = 0
    """The unsent that are not wanted any more."""
    complete: bool = False
    """Whether every item was worked on."""
    outcomes: Counter[Status] = field(default_factory=Counter)
    """How many requests ended without a completion, by status."""

    def count_rest(self, size: PlanSize) -> None:
        """Count what was never begun of a plan of this size as unsent."""
        self.unsent += size.distinct - self.distinct
        self.planned = size.planned + self.retried


@dataclass(frozen=True)
class Pending(Generic[T]):
    """A dialogue that was begun, and its first request whose answer is not stored."""

    dialogue: Dialogue[T]
    request: Request


class Pool:
    """Works on items with `width` workers at a time, and sends the requests of dialogues to one client.

    A worker that waits for another process (see `hold_up`) is replaced by another one, so that it does not keep
    free work waiting; MAX_WAITING bounds what is under way.
    """

    def __init__(
        self,
        client: Client,
        width: int,
        stopping: asyncio.Event,
        stored: Callable[[Request], Completion | None] = lambda _: None,
    ) -> None:
        """`stored` gives the answers that need no waiting; the client is asked for the others."""
        self.client, self.width, self.stopping, self.stored = client, width, stopping, stored
        self.progress = RequestTally()
        self._workers = self._waiting = 0
        self._stopped = False
        self._waiters: dict[str, list[Callable[[], bool]]] = {}
        self._work: Callable[[], Coroutine[Any, Any, None]]
        self._group: asyncio.TaskGroup | None = None

    async def run(self, items: Iterable[T], handle: Callable[[T], Awaitable[None]]) -> None:
        """Handle all items, until `stopping` is set."""
        rest = iter(items)
        self._work = lambda: self._take(rest, handle)
        self._stopped = False
        async with asyncio.TaskGroup() as self._group:
            for _ in range(self.width):
                self._start(self._group)
        self._group = None
        self.progress.complete = not self._stopped

    async def hold(self, dialogue: Dialogue[T]) -> T:
        """Send the requests of a dialogue, hand it the replies, return its result.

        Raises RequestUnsentError where a request is not sent and the dialogue cannot do without.
        """
        begun = self.begin(dialogue)
        return await self.finish(begun) if isinstance(begun, Pending) else begun

    def begin(self, dialogue: Dialogue[T]) -> T | Pending[T]:
        """Hand a dialogue what is stored, without waiting; return its result, or where it lacks an answer."""
        try:
            request = next(dialogue)
            while (completion := self.stored(request)) is not None:
                self._count(request)
                request = dialogue.send(completion)
        except StopIteration as end:
            result: T = end.value
            return result
        except BaseException:
            dialogue.close()
            raise
        return Pending(dialogue, request)

    async def finish(self, pending: Pending[T], is_wanted: Callable[[], bool] = lambda: True) -> T:
        """Send the other requests of a dialogue that was begun, as long as it is wanted; see `hold`."""
        dialogue, request = pending.dialogue, pending.request
        try:
            while True:
                try:
                    reply = await self._send(request, is_wanted)
                except RequestUnsentError as exc:
                    request = dialogue.throw(exc)
                else:
                    request = dialogue.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            dialogue.close()

    def is_withheld(self, request: Request) -> bool:
        """Return whether nobody wants a request any more of those that wait for its answer."""
        waiters = self._waiters.get(request_key(request), [])
        return bool(waiters) and not any(is_wanted() for is_wanted in waiters)

    def hold_up(self, change: int) -> None:
        """Note that so many more (or, below 0, fewer) of the workers are waiting for another process."""
        self._waiting += change
        if self._group is not None and self._workers < self._wanted:
            self._start(self._group)

    @property
    def _wanted(self) -> int:
        return self.width + min(self._waiting, MAX_WAITING)

    def _start(self, group: asyncio.TaskGroup) -> None:
        self._workers += 1
        group.create_task(self._work())

    async def _take(self, items: Iterator[T], handle: Callable[[T], Awaitable[None]]) -> None:
        try:
            for item in items:
                if self.stopping.is_set():
                    self._stopped, self._group = True, None
                    return
                await handle(item)
                if self._workers > self._wanted:  # the worker that this one replaced works again
                    return
        except BaseException:
            self._group = None  # the group is ending: no worker may be added
            raise
        finally:
            self._workers -= 1

    def _count(self, request: Request) -> None:
        self.progress.requests += 1
        if request.sample >= RETRY_SAMPLES:
            self.progress.retried += 1
            self.progress.planned += 1

    async def _send(self, request: Request, is_wanted: Callable[[], bool]) -> Completion | Failure:
        self._count(request)
        key = request_key(request)
        waiters = self._waiters.setdefault(key, [])
        waiters.append(is_wanted)
        try:
            return await self.client.complete(request)
        except RequestUnsentError:
            raise
        except RequestRejectedError as exc:
            return self._fail("rejected", exc)
        except (RequestFailedError, EndpointError) as exc:
            return self._fail("failed", exc)
        finally:
            waiters.remove(is_wanted)
            if not waiters:
                self._waiters.pop(key, None)

    def _fail(self, status: Status, exc: Exception) -> Failure:
        self.progress.outcomes[status] += 1
        return Failure(status, str(exc))


async def ask_units(
    pool: Pool,
    units: Iterable[Unit],
    retry: Collection[str],
    receive: Callable[[Unit, list[Reply | None]], None],
    unsent: Callable[[Request], None] = lambda _: None,
    is_wanted: Callable[[Unit], bool] = lambda _: True,
) -> None:
    """Ask everything in `units`; `receive` gets each with the replies to what it asked (None: not sent).

    `unsent` is told of explaining calls that cannot be made because the answer was not sent for; their answer is a
    guess. Of a unit that is not wanted (any more) nothing is sent: its stored answers are used, and those under way.
    """
    progress = pool.progress

    async def finish(begun: Reply | Pending[Reply], wanted: Callable[[], bool]) -> Reply | None:
        if isinstance(begun, Reply):
            return begun
        try:
            return await pool.finish(begun, wanted)
        except RequestUnsentError:
            return None

    async def handle(unit: Unit) -> None:
        def wanted() -> bool:
            return is_wanted(unit)

        def count_unsent(request: Request) -> None:
            progress.unsent += 1
            if wanted():
                unsent(request)
            else:
                progress.withheld += 1

        progress.planned += unit.planned
        progress.distinct += unit.distinct
        begun = [pool.begin(unit.dialogue(variant, retry, count_unsent)) for variant in unit.asked]
        stored = [reply for reply in begun if isinstance(reply, Reply)]
        if len(stored) == len(begun):
            receive(unit, [*stored])
            await asyncio.sleep(0)  # so that Ctrl-C, progress and the other workers have their turn
        else:
            receive(unit, await asyncio.gather(*(finish(reply, wanted) for reply in begun)))

    await pool.run(units, handle)


async def run_until_done(
    work: Iterable[Coroutine[Any, Any, None]],
    stopping: asyncio.Event,
    *,
    cancel: Callable[[], None] = lambda: None,
    finish: Callable[[], Awaitable[None]] | None = None,
    say: Callable[[str], None] = lambda _: None,
    report: Callable[[], None] = lambda: None,
    stop: StopRequest | None = None,
) -> bool:
    """Do all work concurrently; whether the user interrupted it. Raises the first error of any work.

    Interrupted, or after an error, `stopping` is set, which ends the work; where it is not waited for any longer,
    `cancel` is called first. At the end `finish` stores what is still under way. `say` gets the sentence about the
    interruption, `report` is called every TICK seconds, and at the end. A request in `stop` counts as an interruption;
    signals do only in the main thread.
    """

    async def stop_on_error(coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except Exception:
            stopping.set()  # what is on the wire is waited for, nothing else is sent
            raise

    tasks = [asyncio.create_task(stop_on_error(coroutine)) for coroutine in work]
    interrupts = 0

    def give_up() -> None:
        cancel()
        for task in tasks:
            task.cancel()

    def interrupt() -> None:
        nonlocal interrupts
        interrupts += 1
        stopping.set()
        if interrupts > 1:
            give_up()
        else:
            say(STOPPING)
            asyncio.get_running_loop().call_later(GRACE if stop is None else stop.grace, give_up)

    def tick() -> None:
        while stop is not None and interrupts < stop.times:
            interrupt()
        report()

    with _on_signals(interrupt):
        ticker = asyncio.create_task(_tick(tick))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        if finish is not None:
            await finish()
        ticker.cancel()
    report()
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result.exceptions[0] if isinstance(result, BaseExceptionGroup) else result
    return interrupts > 0


async def _tick(report: Callable[[], None]) -> None:
    while True:
        report()
        await asyncio.sleep(TICK)


@contextmanager
def _on_signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """Call `interrupt` at every SIGINT (Ctrl-C) and SIGTERM while inside; other threads than the main one get none."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    for number in signals:
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
