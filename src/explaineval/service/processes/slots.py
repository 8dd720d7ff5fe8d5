"""A bounded number of slots that users share fairly: who holds the fewest is next, and nobody holds all of them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from explaineval.text import agreeing, counted


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
