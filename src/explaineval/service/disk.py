"""Whether the data directory can be written: tried by writing, told by /readyz, and waited for by runs."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from explaineval.files import FULL
from explaineval.service.table import Database

ROOM = 256 << 10
"""Bytes that are written on trial."""
USUAL_SECONDS, FULL_SECONDS = 30.0, 2.0
"""Seconds between two trials: usually, and while something cannot be written."""
FRESH_SECONDS = 2.0
"""Seconds for which a trial answers /readyz."""


def is_full(exc: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, says that the disk is full.

    >>> import errno
    >>> is_full(OSError(errno.ENOSPC, "x")), is_full(OSError(errno.EBADF, "x")), is_full(None)
    (True, False, False)
    """
    while exc is not None:
        if (isinstance(exc, OSError) and exc.errno in FULL) or getattr(exc, "full", False):
            return True
        code = getattr(exc, "sqlite_errorcode", None)
        if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR_WRITE):
            return True
        exc = exc.__cause__ or exc.__context__
    return False


class Disk:
    """What of the data directory cannot be written, and why. Use `run` as a task.

    Args:
        directory: the data directory.
        names: the folders in it that are written.
        table: the file in it.
        then: called after a trial that came out otherwise than the one before.
    """

    def __init__(self, directory: Path, names: tuple[str, ...], table: Database, then: Callable[[], None]) -> None:
        self.places = {f"{name}/ of the data directory": directory / name for name in names}
        self.places = {"the data directory": directory, **self.places}
        self.places["the folder for temporary files (TMPDIR)"] = Path(tempfile.gettempdir())
        self.table, self.then = table, then
        self.faults: dict[str, str] = {}
        """What cannot be written → why."""
        self._checked = float("-inf")
        self._wake = asyncio.Event()
        self._checking = asyncio.Lock()

    @property
    def sentence(self) -> str | None:
        """Return what cannot be written; None where everything can."""
        if not self.faults:
            return None
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.faults.items():
            by_reason.setdefault(reason, []).append(name)
        parts = [f"{', '.join(names)} cannot be written ({reason})" for reason, names in by_reason.items()]
        return f"{'; '.join(parts)}: the operator must make room."

    def suspect(self) -> None:
        """Try soon: something could not be written."""
        self._checked = float("-inf")
        self._wake.set()

    async def check(self) -> None:
        """Try to write, unless that was done a moment ago."""
        async with self._checking:
            if time.monotonic() - self._checked < FRESH_SECONDS:
                return
            before, self.faults = self.faults, await asyncio.to_thread(self._try)
            self._checked = time.monotonic()
            if bool(before) != bool(self.faults):
                self.then()

    async def run(self) -> None:
        """Try now and then, until cancelled."""
        while True:
            self._wake.clear()
            await self.check()
            with suppress(TimeoutError):
                async with asyncio.timeout(FULL_SECONDS if self.faults else USUAL_SECONDS):
                    await self._wake.wait()

    def _try(self) -> dict[str, str]:
        faults = {}
        for name, folder in self.places.items():
            try:
                write_on_trial(folder)
            except OSError as exc:
                faults[name] = (exc.strerror or str(exc)).lower()
        try:
            self.table.keep_reserve()
        except sqlite3.Error as exc:
            faults["the table of runs"] = str(exc)
        return faults


def write_on_trial(folder: Path) -> None:
    """Write ROOM bytes into a folder and remove them. Raises OSError where that cannot be done."""
    path = folder / f".trial.{os.getpid()}"
    try:
        with path.open("wb") as handle:
            handle.write(bytes(ROOM))
            handle.flush()
            os.fsync(handle.fileno())
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
