"""Settle what the process of a run left open when it ended: by its answers in the cache, the rest at the worst case."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from explaineval.errors import InputError, InUseError
from explaineval.rundir.directory import locked
from explaineval.service.directory import Disk
from explaineval.service.monitoring import event
from explaineval.service.processes.background import Background, BusyError
from explaineval.service.processes.budgets import Budgets
from explaineval.service.processes.sharing import TooManyJobsError
from explaineval.service.table import RunRow, StateFile

TRIES = 3
"""How often the cache is read that cannot be, while there is room on the disk."""
PAUSE = 0.5
"""Seconds until the cache is read again, and until a process of an earlier server is looked at again."""


class Settlements:
    """Settles runs.

    Args:
        table: the runs.
        ledger: what is open.
        background: the processes that read the cache.
        job: what the process of a run is given.
        directory: the run directory of a run, which its process locks.
        disk: whether the data directory can be written: where it cannot, SQLite cannot always read the cache either.
        closing: whether the server ends. What is open then is settled by the next one.
    """

    def __init__(
        self,
        table: StateFile,
        ledger: Budgets,
        background: Background,
        job: Callable[[RunRow], Mapping[str, Any]],
        directory: Callable[[str], Path],
        disk: Disk,
        closing: Callable[[], bool],
    ) -> None:
        self.table, self.ledger, self.background, self.job, self.directory = table, ledger, background, job, directory
        self.disk, self.closing = disk, closing

    async def settle(self, run: str) -> float:
        """Settle a run whose process has ended; return the dollars that were booked."""
        keys = self.ledger.open_keys(run)
        costs = await self._costs(run, keys) if keys else {}
        return 0.0 if costs is None else self.ledger.settle_run(run, costs)

    async def settle_left_open(self, runs: set[str], then: Callable[[], None]) -> None:
        """Settle runs that an earlier server left, each when its process has ended; calls `then` after each."""
        left = set(runs)
        while left:
            for run in sorted(left):
                if await asyncio.to_thread(self._has_ended, run):
                    await self.settle(run)
                    left.discard(run)
                    then()
            if left:
                await asyncio.sleep(PAUSE)

    def _has_ended(self, run: str) -> bool:
        directory = self.directory(run)
        if not directory.exists():
            return True
        try:
            with locked(directory):
                return True
        except InUseError:
            return False
        except InputError:  # it cannot be written, so that no process writes there
            return True

    async def _costs(self, run: str, keys: list[str]) -> dict[str, float] | None:
        """Return the dollars of the answers that are in the cache, by key; None where the server ends meanwhile.

        A full disk is waited for: the answers are there, and would be booked at their worst case.
        """
        row = await asyncio.to_thread(self.table.run, run)
        tries = 0
        while row is not None and tries < TRIES:
            try:
                job = self.job(row)
                costs: dict[str, float] = await self.background.do(
                    "bills", "(settlements)", science=job["science"], client=job["client"], keys=keys
                )
            except (BusyError, TooManyJobsError, InputError, OSError, RuntimeError, LookupError, ValueError) as exc:
                event("settlement", logging.WARNING, run=run, error=type(exc).__name__)
                self.disk.suspect()
                await self.disk.check()
                if self.closing():
                    return None
                tries += not (self.disk.faults or isinstance(exc, TooManyJobsError))
                await asyncio.sleep(PAUSE)
            else:
                return costs
        return {}
