"""The database behind a store: diskcache's tables, opened with our settings whatever the file says.

diskcache keeps its settings inside the database and applies them at every connection: as PRAGMA statements,
as attributes of the cache object, as arguments of its disk. `Database` lets no stored setting decide.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, NoReturn

import diskcache

from explaineval.cache.disks import JsonDisk
from explaineval.errors import InputError, StoreError

FILE = "cache.db"
"""The name of the database file (diskcache's)."""

LOCK_TIMEOUT = 60.0
"""Seconds that a write waits for another process's write."""

SETTINGS: dict[str, int | str] = {
    "eviction_policy": "none",  # paid answers are never dropped to make room
    "cull_limit": 0,
    "size_limit": 2**60,
    "statistics": 0,  # counting hits would turn every read into a write
    "tag_index": 0,
    "sqlite_auto_vacuum": 0,
    "sqlite_cache_size": 2**13,  # pages, 32 MiB
    "sqlite_journal_mode": "wal",  # a read never waits for a writer
    "sqlite_mmap_size": 0,  # a mapped file that another program cuts kills the process
    "sqlite_synchronous": 1,  # the writer raises it, see `prepare_writes`
    "disk_min_file_size": 0,
    "disk_pickle_protocol": 0,
}

KNOWN_SETTINGS = frozenset(SETTINGS) | {"count", "size", "hits", "misses"}
"""Names that diskcache itself puts into the table of settings: the above and its counters."""

_REASONS = {
    sqlite3.SQLITE_BUSY: "another process kept it locked for {timeout:g} s; stop that process and run again",
    sqlite3.SQLITE_LOCKED: "another connection kept it locked; run again",
    sqlite3.SQLITE_FULL: "the disk is full; make room and run again",
    sqlite3.SQLITE_READONLY: "it is read-only; make it writable or choose another cache directory",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that the directory is there and writable",
    sqlite3.SQLITE_IOERR: "the disk reports an error; check it, and choose another cache directory",
    sqlite3.SQLITE_CORRUPT: "it is damaged; copy the directory aside and restore a backup",
    sqlite3.SQLITE_NOTADB: "it is damaged; copy the directory aside and restore a backup",
}

READ_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What reading may raise: SQLite puts bytes of a damaged database into its messages, and Python cannot decode them."""

DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Primary result codes that mean a damaged database."""


class Database(diskcache.Cache):  # type: ignore[misc]  # diskcache ships no types
    """A diskcache cache that stores JSON only, never evicts, and takes no setting from the file."""

    def __init__(self, directory: Path) -> None:
        name = str(directory)
        if os.path.expandvars(name) != name:
            raise InputError(
                f"The cache directory {name} holds a $NAME that would be replaced by a variable: rename it."
            )
        try:
            super().__init__(name, timeout=LOCK_TIMEOUT, disk=JsonDisk, **SETTINGS)
        except (sqlite3.Error, OSError, InputError):
            self.close()
            raise

    def reset(self, key: str, value: Any = diskcache.core.ENOVAL, update: bool = True) -> Any:
        """Apply our value of a setting; diskcache calls this with the value that it found in the database.

        Raises:
            InputError: the database holds a setting that diskcache does not know, so a stranger wrote it.
        """
        if key in SETTINGS:
            value = SETTINGS[key]
        elif key not in KNOWN_SETTINGS:
            raise InputError(
                f"The cache {Path(self.directory) / FILE} holds a foreign setting {key!r}: it was changed by "
                "another program; do not use it."
            )
        return super().reset(key, value, update)

    def check(self, fix: bool = False, retry: bool = False) -> NoReturn:  # noqa: ARG002
        """Refuse: diskcache's check deletes files that it does not know, such as our marker.

        Raises:
            StoreError: always.
        """
        raise StoreError("diskcache's own check is switched off, because it can delete files.")

    def prepare_writes(self) -> None:
        """Let each commit of this thread's connection reach the disk, so that it outlives a power failure.

        Also, planted text that is not UTF-8 must not stop a row from being replaced.
        """
        self._con.text_factory = _decode
        self._sql("PRAGMA synchronous = FULL")

    def forget(self, key: str) -> bool:
        """Delete the row of a key, whatever it holds; False where there is none. A file that it names is left alone."""
        return bool(self._sql("DELETE FROM Cache WHERE key = ? AND raw = 1", (key,)).rowcount)

    def discard(self, row: int, stored: float | None) -> bool:
        """Delete the row of this number, unless it was stored anew since `stored`; False where it is not there."""
        return bool(self._sql("DELETE FROM Cache WHERE rowid = ? AND store_time IS ?", (row, stored)).rowcount)


def connect_readonly(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """A connection that cannot write, whatever is asked of it.

    `immutable` reads a file that nobody can change (a directory without write permission) without a
    shared-memory file beside it.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    address = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"
    connection = sqlite3.connect(address, uri=True, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def primary_code(error: BaseException) -> int | None:
    """SQLite's primary result code of an error; None for one that Python's module found by itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def find_cause(error: BaseException) -> BaseException:
    """The first SQLite error behind `error`: diskcache turns any failed BEGIN into a time-out, and a failed
    ROLLBACK hides why it was needed."""
    cause, current = error, error.__context__
    while current is not None:
        if isinstance(current, sqlite3.Error):
            cause = current
        current = current.__context__
    return cause


def explain(error: BaseException, path: Path, *, doing: str) -> StoreError:
    """An error of SQLite or diskcache as ours: one sentence with the reason and the remedy."""
    cause = find_cause(error)
    code = primary_code(cause) if isinstance(cause, sqlite3.Error) else None
    if code not in _REASONS:
        return StoreError(f"Cannot {doing} the cache {path}: {cause}")
    reason = _REASONS[code].format(timeout=LOCK_TIMEOUT)
    return StoreError(f"Cannot {doing} the cache {path}: {reason} ({cause}).")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")
