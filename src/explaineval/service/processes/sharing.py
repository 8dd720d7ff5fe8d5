"""Share a bounded number of places among holders, so that nobody takes what others need."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count

from explaineval.service.table import RunRow
from explaineval.text import agreeing, counted

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
            able = [user for user, queue in self._waiting.items() if queue and self._held[user] < self.most_of_one]
            if not able:
                return
            user = min(able, key=lambda name: (self._held[name], self._served.get(name, -1)))
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
