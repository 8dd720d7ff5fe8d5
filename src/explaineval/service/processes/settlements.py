"""Settle what the process of a run left open when it ended: by its answers in the cache, the rest at the worst case."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from explaineval.errors import InputError, InUseError
from explaineval.rundir.directory import locked
from explaineval.service.gate.ledger import Budgets
from explaineval.service.logs import event
from explaineval.service.processes.background import Background, BusyError
from explaineval.service.table import Database, RunRow

TRIES = 3
PAUSE = 0.5
"""Seconds between two looks whether the process of a run has ended that an earlier server left."""


class Settlements:
    """Settles runs.

    Args:
        table: the runs.
        ledger: what is open.
        background: the processes that read the cache.
        job: what the process of a run is given.
        directory: the run directory of a run, which its process locks.
    """

    def __init__(
        self,
        table: Database,
        ledger: Budgets,
        background: Background,
        job: Callable[[RunRow], Mapping[str, Any]],
        directory: Callable[[str], Path],
    ) -> None:
        self.table, self.ledger, self.background, self.job, self.directory = table, ledger, background, job, directory

    async def settle(self, run: str) -> float:
        """Settle a run whose process has ended; return the dollars that were booked."""
        keys = self.ledger.open_keys(run)
        costs = await self._costs(run, keys) if keys else {}
        return self.ledger.settle_run(run, costs)

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

    async def _costs(self, run: str, keys: list[str]) -> dict[str, float]:
        """Return the dollars of the answers that are in the cache, by key."""
        row = await asyncio.to_thread(self.table.run, run)
        if row is None:
            return {}
        for _ in range(TRIES):
            try:
                job = self.job(row)
                found: dict[str, float] = await self.background.do(
                    "bills", "(settlements)", science=job["science"], client=job["client"], keys=keys
                )
            except (BusyError, InputError, OSError, RuntimeError, LookupError, ValueError) as exc:
                event("settlement", logging.WARNING, run=run, error=type(exc).__name__)
                await asyncio.sleep(PAUSE)
            else:
                return found
        return {}
