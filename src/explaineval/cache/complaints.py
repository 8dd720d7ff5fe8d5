"""What went wrong without stopping the reading: a bounded number of sentences, each logged once."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from explaineval.cache.databases import DAMAGE, primary_code
from explaineval.cache.disks import DamagedRowError

MAX_WARNINGS = 100

_log = logging.getLogger("explaineval.cache")


class Complaints:
    """The warnings of one store. `refusals` counts rows that were not used.

    `damaged` tells that the database should be checked before it is trusted again, `corrupt` that pages of it are
    damaged for certain, `damaged_rows` that rows are.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sentences: dict[str, None] = {}
        self._unlisted = 0
        self.refusals = 0
        self.damaged = False
        self.corrupt = False
        self.damaged_rows = False

    @property
    def sentences(self) -> tuple[str, ...]:
        """`MAX_WARNINGS` sentences at most, and how many more there were."""
        more = (f"{self._unlisted} more warnings are not listed.",) if self._unlisted else ()
        return (*self._sentences, *more)

    def warn(self, text: str) -> None:
        """Collect a warning, and log it the first time."""
        if text in self._sentences:
            return
        if len(self._sentences) < MAX_WARNINGS:
            self._sentences[text] = None
            _log.warning("%s", text)
        else:
            self._unlisted += 1

    def refuse(self, key: str, error: Exception) -> None:
        """Collect the warning about a row that was not used."""
        self.refusals += 1
        if isinstance(error.__cause__, sqlite3.DatabaseError):
            self.damaged = True  # then the next opening checks every page
        self.corrupt = self.corrupt or primary_code(error.__cause__ or error) in DAMAGE
        self.damaged_rows = self.damaged_rows or isinstance(error, DamagedRowError)
        self.warn(f"The row {key} of the cache {self._directory} was not used: {error}.")
