"""Share what is scarce among tokens and runs, so that nobody takes what others need.

Places, slots of processes and workers go to tokens; connections, rates and attempts at an endpoint that does not answer
go to runs. Each process finds out for itself that an endpoint is out (`client.outage`) and asks here when it may try.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from explaineval.client.concurrency import RateLimit
from explaineval.config import ClientConfig, EndpointConfig
from explaineval.service.table import RunRow
from explaineval.text import agreeing, counted, duration_text

FEWEST_ARRIVING, MOST_ARRIVING = 128, 1024
"""Connections that wait to be accepted, and are accepted in one go: so many at the least and at the most."""
SPARE_FILES = 384
"""Open files that are kept for what the service itself needs: its database, its workers, and connections just made."""


class TooManyError(Exception):
    """Somebody holds as many places as they may."""


class Shares:
    """Places for holders, who are told apart by their names.

    A holder may have at most `each` places, and never more than are left free. So the first one cannot take all of
    them, and there is room for the next one at any time (Choudhury and Hahne 1998, dynamic thresholds).

    Args:
        most: how many places there are.
        each: how many of them one holder may have.
        what: what is held, in the plural, for messages.
    """

    def __init__(self, most: int, each: int, what: str) -> None:
        self.most, self.each, self.what = most, each, what
        self.held: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """How many places are taken."""
        return self.held.total()

    def has_room(self, holder: str) -> bool:
        """Return whether a holder may have one more place.

        >>> shares = Shares(10, 8, "seats")
        >>> [shares.take("ann") for _ in range(5)] and shares.has_room("ann"), shares.has_room("bob")
        (False, True)
        """
        return self.held[holder] < min(self.each, self.most - self.total)

    def take(self, holder: str) -> None:
        """Give a place to a holder, whether there is room or not."""
        self.held[holder] += 1

    def give_back(self, holder: str) -> None:
        """Take a place back."""
        self.held[holder] -= 1
        if self.held[holder] <= 0:
            del self.held[holder]

    @contextmanager
    def place(self, holder: str) -> Iterator[None]:
        """Hold a place as long as the block goes on. Raises TooManyError where there is no room."""
        if not self.has_room(holder):
            raise TooManyError(f"there are too many {self.what} of {holder} at once: close some, and try again later.")
        self.take(holder)
        try:
            yield
        finally:
            self.give_back(holder)


def raise_open_files(wanted: int) -> None:
    """Let this process open as many files as so many connections need, as far as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES + MOST_ARRIVING
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))


def most_connections(wanted: int) -> int:
    """Return how many connections can be open: as many as are wanted, or fewer where the system allows few files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(16, min(wanted, soft - SPARE_FILES))


def most_arriving(connections: int) -> int:
    """Return how many connections may wait to be accepted beside so many open ones; each needs an open file too."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_ARRIVING
    return max(FEWEST_ARRIVING, min(MOST_ARRIVING, soft - SPARE_FILES - connections))


class TooManyJobsError(Exception):
    """A user has as many jobs waiting as one may have."""


class FairSlots:
    """Slots that users share.

    Args:
        most: how many slots there are.
        most_of_one: how many of them one user may hold.
        waiting_of_one: how many jobs of one user may wait for one.
    """

    def __init__(self, most: int, most_of_one: int, waiting_of_one: int) -> None:
        self.most, self.most_of_one, self.waiting_of_one = most, most_of_one, waiting_of_one
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._served: dict[str, int] = {}
        """When each user got a slot last."""
        self._numbers = count()

    @asynccontextmanager
    async def slot(self, user: str) -> AsyncIterator[None]:
        """Hold a slot. Raises TooManyJobsError where too many jobs of the user wait already."""
        queue = self._waiting.setdefault(user, deque())
        if len(queue) >= self.waiting_of_one:
            raise TooManyJobsError(
                f"{counted(len(queue), 'request')} of {user or 'this kind'} {agreeing(len(queue), 'wait')} for "
                "their plan or page "
                "already: wait for one."
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(user)
            elif turn in queue:
                queue.remove(turn)
            raise
        try:
            yield
        finally:
            self._leave(user)

    def _leave(self, user: str) -> None:
        self._held[user] -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._held.total() < self.most:
            eligible = [user for user, queue in self._waiting.items() if queue and self._held[user] < self.most_of_one]
            if not eligible:
                return
            user = min(eligible, key=lambda name: (self._held[name], self._served.get(name, -1)))
            turn = self._waiting[user].popleft()
            if not turn.done():
                self._held[user] += 1
                self._served[user] = next(self._numbers)
                turn.set_result(None)


QUANTUM = 60.0
"""Seconds for which a run keeps its worker although its token has two more workers than one whose runs wait. To begin a
run anew takes up to twenty seconds of computing."""
LONG_QUANTUM = 600.0
"""Seconds for which a run keeps its worker although another token has none, and no token has more than one."""
IDLE = 60.0
"""Seconds for which a run that only waits keeps its worker."""


class Queue:
    """Runs that wait, the oldest of the token with the fewest workers first.

    Args:
        rows: the runs, the oldest first.
        held: how many workers each token has.
    """

    def __init__(self, rows: Iterable[RunRow], held: Mapping[str, int]) -> None:
        self.held = Counter(held)
        self._rows: dict[str, deque[RunRow]] = {}
        for row in rows:
            self._rows.setdefault(row.token, deque()).append(row)

    def pop(self) -> RunRow | None:
        """Return the next run, None where there are no more."""
        if not self._rows:
            return None
        token = min(self._rows, key=lambda name: (self.held[name], self._rows[name][0].number))
        row = self._rows[token].popleft()
        if not self._rows[token]:
            del self._rows[token]
        return row

    def count(self, row: RunRow) -> None:
        """Count a run as one that has a worker, or will have one before those behind it."""
        self.held[row.token] += 1


@dataclass(frozen=True)
class Holder:
    """A run that has a worker: whose it is, for how many seconds it has had it, and for how many it has only waited."""

    run: str
    token: str
    seconds: float
    idle: float | None = None


def choose_to_pause(wanting: str, holders: Sequence[Holder]) -> Holder | None:
    """Return the run that has to give its worker to a token whose run waits for one; None where none has to.

    One that only waits goes first; then one of the token with the most workers.
    """
    waiting = [holder for holder in holders if holder.idle is not None and holder.idle >= IDLE]
    if waiting:
        return max(waiting, key=lambda holder: holder.idle or 0.0)
    held = Counter(holder.token for holder in holders)
    lead = max(held.values(), default=0) - held[wanting]
    if lead < 1 or (lead == 1 and held[wanting]):
        return None
    patience = QUANTUM if lead >= 2 else LONG_QUANTUM
    most = [holder for holder in holders if held[holder.token] == held[wanting] + lead and holder.seconds >= patience]
    return max(most, key=lambda holder: holder.seconds, default=None)


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

    def forget(self, asked: Iterable[str | None]) -> None:
        """Forget the outages of all other endpoints: nobody waits for them any more."""
        for place in set(self.now).difference(asked):
            self.now.pop(place).wake()

    def farewell(self, place: str) -> str:
        """Return why a run does not wait for an endpoint any longer."""
        outage = self.now[place]
        return (
            f"the endpoint {place} has not answered since {clock(outage.since)} ({outage.reason.rstrip('.')}), and is "
            f"waited for {duration_text(self.patience)} at the most; continue the run when it answers."
        )

    def sentence(self, place: str) -> str | None:
        """Return what an endpoint's outage means for the runs that wait for it; None where it has none."""
        outage = self.now.get(place)
        if outage is None:
            return None
        tried = ""
        if outage.prober is not None:
            tried = "it is tried now, and "
        elif outage.next_try < outage.begun + self.patience:
            next_try = time.time() + outage.next_try - asyncio.get_running_loop().time()
            tried = f"next try at {clock(next_try)}, and "
        return (
            f"it waits for the endpoint {place}, which has not answered since {clock(outage.since)} "
            f"({outage.reason.rstrip('.')}); {tried}it is given up at {clock(outage.since + self.patience)}."
        )


LATEST = datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()


def clock(seconds: float) -> str:
    """Return a time given in seconds since 1970 as people read it; one that is too far for a date is the last date.

    >>> clock(0), clock(1e300)
    ('00:00:00 UTC', '9999-12-31 23:59:59 UTC')
    """
    then = datetime.fromtimestamp(min(seconds, LATEST), UTC)
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
