"""Budgets of tokens: an attempt's worst case is on the disk before it is granted, and is released with its true cost.

Decisions are made in memory. What is granted meanwhile is written together, in one transaction, so that many
reservations take one write to the disk. While the disk is full everything waits, and is written when there is room.
What fails for another reason is given up after some tries, and logged: on the disk it stays reserved at its most.
A reservation that a crash leaves open stays reserved until the process that made it has ended; then its answer in the
cache says what it cost, and where there is none it is booked at its worst case and listed.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress

from explaineval.client.spending import Budget, SpendingLimit
from explaineval.errors import RequestUnsentError
from explaineval.service.monitoring import event
from explaineval.service.table import Reservation, StateFile, now

RETRY_SECONDS = 1.0
"""Seconds until what the disk did not take is written again."""
MOST_TRIES = 5
"""How often what fails for another reason than the disk's, such as a damaged file, is written again."""

Batch = list[tuple[Reservation | None, asyncio.Future[None] | None]]
"""What is to be written, each with what is told when it is."""


class Budgets:
    """Spends the budgets of tokens and the limits of runs. Use `run` as a task while it is in use.

    Args:
        table: where reservations and costs are kept.
        budgets: dollars that may be spent in all with each token, None for no limit.
    """

    def __init__(self, table: StateFile, budgets: Mapping[str, float | None]) -> None:
        self.table = table
        self.budgets = budgets
        self._budgets: dict[str, Budget] = {}
        self._runs: dict[str, SpendingLimit] = {}
        self._open: dict[int, Reservation] = {}
        self._ids = itertools.count(1)
        self._left_open: set[int] = set()
        """Reservations that an earlier server left open."""
        self._batch: Batch = []
        self._wake = asyncio.Event()
        self.on_full: Callable[[sqlite3.Error | None], None] = lambda _: None
        """Called with the error where nothing can be written, and with None once it can be again."""

    def load(self) -> set[str]:
        """Read what was spent and what a crash left reserved; return the runs whose reservations are to be settled.

        Call it once, before anything is reserved. Not quick enough for the event loop.
        """
        for token, usd in self.table.spending().items():
            self.budget_of(token).total.spent = usd
        for entry in self.table.reservations():
            self.budget_of(entry.token).total.reserve(entry.usd)
            self._open[entry.id] = entry
            self._left_open.add(entry.id)
        self._ids = itertools.count(max(self._open, default=0) + 1)
        return {entry.run for entry in self._open.values()}

    def open_keys(self, run: str) -> list[str]:
        """Return the keys of the requests for which a run has open reservations."""
        return [entry.key for entry in self._open.values() if entry.run == run and entry.key is not None]

    def has_left_open(self, run: str) -> bool:
        """Return whether reservations of a run wait to be settled that an earlier server left open."""
        return any(self._open[number].run == run for number in self._left_open)

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

    @property
    def tokens(self) -> list[str]:
        """The tokens with which something was spent or reserved, also those that serve.yaml names no longer."""
        return list(self._budgets)

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

    async def reserve(self, run: str, token: str, usd: float, key: str | None = None) -> int | None:
        """Reserve dollars for an attempt of a run; return the reservation's id, None where they can no longer fit.

        Waits while other reservations leave no room, and while the disk is full. Raises RequestUnsentError where it
        cannot be written down at all.
        """
        # whoever asks for this key found no answer in the cache: an attempt of before did not bring it there
        for number in [number for number in self._left_open if key is not None and self._open[number].key == key]:
            self._settle(self._open[number], None)
        budget, own = self.budget_of(token), self._runs[run]
        if not await budget.reserve(usd, own):
            return None
        entry = Reservation(next(self._ids), run, token, usd, key=key)
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

    def release(self, reservation: int, cost: float, *, billed: bool = True) -> None:
        """End a reservation with what the attempt cost, listed if it has no bill. One that is not open is ignored."""
        entry = self._open.get(reservation)
        if entry is not None:
            self._release(entry, cost, None if billed else now())

    def settle_run(self, run: str, costs: Mapping[str, float] | None = None) -> float:
        """Book what the process of a run left open when it ended; return the dollars.

        `costs` are those of answers that are in the cache, by their keys; what is not among them is booked at its worst
        case, and listed with the run.
        """
        left, by_key = [entry for entry in self._open.values() if entry.run == run], dict(costs or {})
        return sum(self._settle(entry, by_key.pop(entry.key or "", None)) for entry in left)

    def _settle(self, entry: Reservation, cost: float | None) -> float:
        self._release(entry, entry.usd if cost is None else cost, now() if cost is None else None)
        return entry.usd if cost is None else cost

    def _release(self, entry: Reservation, cost: float, unbilled: str | None = None) -> None:
        del self._open[entry.id]
        budget, run = self.budget_of(entry.token), self._runs.get(entry.run, SpendingLimit(None))
        if entry.id in self._left_open:
            self._left_open.discard(entry.id)
            run.reserve(entry.usd)  # the run's own limit was opened anew since
        budget.release(entry.usd, cost, run)
        self._add(Reservation(entry.id, entry.run, entry.token, entry.usd, cost, entry.key, unbilled), None)

    async def flush(self) -> None:
        """Wait until everything so far is written."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(None, written)
        await written

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        full, tries = False, 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._batch = self._batch, []
            try:
                await asyncio.to_thread(self.table.book, [entry for entry, _ in batch if entry is not None])
            except sqlite3.Error as exc:
                if not isinstance(exc, sqlite3.OperationalError):  # it will never be written: nobody need wait
                    for _, written in batch:
                        if written is not None and not written.done():
                            written.set_exception(exc)
                    batch = [(entry, written) for entry, written in batch if written is None]
                    tries += 1
                    if tries >= MOST_TRIES:
                        batch, tries = await asyncio.to_thread(self._write_singly, batch), 0
                full = True
                self.on_full(exc)
                self._batch = batch + self._batch
                if self._batch:
                    await asyncio.sleep(RETRY_SECONDS)
                    self._wake.set()
                continue
            tries = 0
            for _, written in batch:
                if written is not None and not written.done():
                    written.set_result(None)
            if full:
                full = False
                self.on_full(None)

    def _write_singly(self, batch: Batch) -> Batch:
        """Write each entry by itself, and give up and log what cannot be written; return what the disk has no room for.

        One entry that cannot be written thus keeps no other from the disk.
        """
        left: Batch = []
        for entry, written in batch:
            try:
                self.table.book([] if entry is None else [entry])
            except sqlite3.OperationalError:
                left.append((entry, written))
            except sqlite3.Error as exc:
                if entry is not None:
                    event("cost_not_written", logging.ERROR, run=entry.run, usd=entry.cost, reason=str(exc))
        return left

    def _add(self, entry: Reservation | None, written: asyncio.Future[None] | None) -> None:
        self._batch.append((entry, written))
        self._wake.set()


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
