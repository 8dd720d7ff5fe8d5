"""Budgets of tokens: an attempt's worst case is on the disk before it is granted, and is released with its true cost.

Decisions are made in memory. What is granted meanwhile is written together, in one transaction, so that many
reservations take one write to the disk.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
from collections.abc import Mapping
from contextlib import suppress

from explaineval.client.spending import Budget, SpendingLimit
from explaineval.errors import RequestUnsentError
from explaineval.service.table import Entry, Table

RETRY_SECONDS = 1.0
"""Seconds until a booking is tried again that the disk did not take."""


class Ledger:
    """Spends the budgets of tokens and the limits of runs. Use `run` as a task while it is in use.

    Args:
        table: where reservations and costs are kept.
        budgets: dollars that may be spent in all with each token, None for no limit.
    """

    def __init__(self, table: Table, budgets: Mapping[str, float | None]) -> None:
        self.table = table
        self.budgets = budgets
        self._budgets: dict[str, Budget] = {}
        self._runs: dict[str, SpendingLimit] = {}
        self._open: dict[int, Entry] = {}
        self._ids = itertools.count(1)
        self._batch: list[tuple[Entry | None, asyncio.Future[None] | None]] = []
        self._wake = asyncio.Event()

    def load(self) -> float:
        """Book what a crash left open at its worst case and read what was spent; return the dollars booked.

        Call it once, before anything is reserved. Not quick enough for the event loop.
        """
        settled = self.table.settle()
        for token, usd in self.table.spending().items():
            self.budget_of(token).total.spent = usd
        return settled

    def set_budgets(self, budgets: Mapping[str, float | None]) -> None:
        """Change what may be spent in all with each token; what is spent and reserved stays."""
        self.budgets = budgets
        for token, budget in self._budgets.items():
            budget.total.usd = budgets.get(token)

    def budget_of(self, token: str) -> Budget:
        """Return the budget of a token."""
        if token not in self._budgets:
            self._budgets[token] = Budget(SpendingLimit(self.budgets.get(token)))
        return self._budgets[token]

    def spent(self, token: str) -> float:
        """Return the dollars that were spent with a token."""
        return self.budget_of(token).total.spent

    def reserved(self, token: str) -> float:
        """Return the dollars that are reserved for attempts under way."""
        return self.budget_of(token).total.reserved

    def left(self, token: str) -> float | None:
        """Return the dollars that are left of a token's budget, None where it has no limit."""
        total = self.budget_of(token).total
        return None if total.usd is None else max(0.0, total.usd - total.spent)

    def run_spent(self, run: str) -> float | None:
        """Return the dollars that a run spent, None where it was not opened."""
        return self._runs[run].spent if run in self._runs else None

    def open_run(self, run: str, max_usd: float | None, spent: float) -> None:
        """Begin to keep a run's own limit, of which so many dollars are spent."""
        self._runs[run] = SpendingLimit(max_usd)
        self._runs[run].spent = spent

    async def reserve(self, run: str, token: str, usd: float) -> int | None:
        """Reserve dollars for an attempt of a run; return the reservation's id, None where they can no longer fit.

        Waits while other reservations leave no room. Raises RequestUnsentError where it cannot be written down.
        """
        budget, own = self.budget_of(token), self._runs[run]
        if not await budget.reserve(usd, own):
            return None
        entry = Entry(next(self._ids), run, token, usd)
        self._open[entry.id] = entry
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(entry, written)
        try:
            await written
        except sqlite3.Error as exc:
            self._open.pop(entry.id)
            budget.release(usd, 0.0, own)
            raise RequestUnsentError(f"the reservation cannot be written down: {exc}") from exc
        except asyncio.CancelledError:  # it was not granted, so nothing was sent
            self.release(entry.id, 0.0)
            raise
        return entry.id

    def release(self, reservation: int, cost: float) -> None:
        """End a reservation with what the attempt cost. One that is not open is ignored."""
        entry = self._open.pop(reservation, None)
        if entry is None:
            return
        self.budget_of(entry.token).release(entry.usd, cost, self._runs[entry.run])
        self._add(Entry(entry.id, entry.run, entry.token, entry.usd, cost), None)

    def settle_run(self, run: str) -> float:
        """Book what a run that has ended left open at its worst case; return the dollars."""
        left = [entry for entry in self._open.values() if entry.run == run]
        for entry in left:
            self.release(entry.id, entry.usd)
        return sum(entry.usd for entry in left)

    async def flush(self) -> None:
        """Wait until everything so far is written."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(None, written)
        await written

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._batch = self._batch, []
            try:
                await asyncio.to_thread(self.table.book, [entry for entry, _ in batch if entry is not None])
            except sqlite3.Error as exc:
                again = []
                for entry, written in batch:
                    if written is None:
                        again.append((entry, written))
                    elif not written.done():
                        written.set_exception(exc)
                if again:  # what was paid must be booked
                    self._batch = again + self._batch
                    await asyncio.sleep(RETRY_SECONDS)
                    self._wake.set()
                continue
            for _, written in batch:
                if written is not None and not written.done():
                    written.set_result(None)

    def _add(self, entry: Entry | None, written: asyncio.Future[None] | None) -> None:
        self._batch.append((entry, written))
        self._wake.set()


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
