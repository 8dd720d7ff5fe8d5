"""The SQLite database of a store: diskcache for writing, a connection of its own for reading.

diskcache pickles what is not plain and puts large values into files. Here rows hold compressed JSON only, nothing is
ever unpickled, and no file beside the database is read or deleted because a row names it. This is the only module that
imports diskcache.

Rows are written by one thread and committed in groups: a write in a coroutine would stop the event loop for as long as
another process holds the database's lock. The thread takes all that is queued, writes it in one transaction, and only
then completes the futures. While several rows come at a time it waits a moment for more of them, since a transaction
costs as much as writing many rows.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import diskcache

from explaineval.cache.keys import MAX_PACKED, Packed, RefusedRowError, pack, unpack
from explaineval.errors import InputError, StoreError
from explaineval.text import counted

FILE = "cache.db"
"""The name of the database file (diskcache's)."""

MODE_RAW = 1
"""diskcache's mode of a value that stands in the row itself."""

LOCK_TIMEOUT = 60.0
"""Seconds that a write waits for another process's write."""

PAGE = 500
"""Keys that are fetched at a time."""

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

Version = tuple[int, float | None]
"""A row as it was seen: its number in the table, and when it was stored (seconds since the epoch)."""

READ_ERRORS = (sqlite3.Error, UnicodeDecodeError)
"""What reading may raise: SQLite puts bytes of a damaged database into its messages, and Python cannot decode them."""

DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
"""Primary result codes that mean a damaged database."""

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

_ANSWER = "typeof(key) = 'text' AND raw = 1 AND length(key) = 64 AND key NOT GLOB '*[^0-9a-f]*'"
_ROW = "SELECT mode, filename, value FROM Cache WHERE key = ? AND raw = 1"
_KEYS = f"SELECT key FROM Cache WHERE key > ? AND {_ANSWER} ORDER BY key LIMIT ?"  # noqa: S608  # constants only
_FOREIGN = (
    f"SELECT COUNT(*) FROM Cache WHERE NOT ({_ANSWER})"  # noqa: S608  # constants only
    " AND NOT (typeof(key) = 'text' AND raw = 1 AND substr(key, 1, 8) = 'verdict:')"
)
_VERDICTS = "SELECT key FROM Cache WHERE raw = 1 AND key >= 'verdict:' AND key < 'verdict;' ORDER BY key"

_UNREADABLE = DAMAGE | {sqlite3.SQLITE_TOOBIG}
"""Result codes that condemn a row. Any other code, such as that of a lock that stays or of a failing disk, says nothing
about the row, and taking the row for a miss would buy its answer again."""

_NO_TABLE = sqlite3.SQLITE_ERROR
"""The result code of a statement about a table that is not there any more."""

_log = logging.getLogger("explaineval.cache")


class JsonDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache ships no types
    """diskcache's serialisation, reduced to text keys and JSON inside the row; never a file.

    The settings that diskcache reads from the database for its disk are ignored, because another program may have
    written them.
    """

    def __init__(self, directory: str, **_settings: object) -> None:
        super().__init__(directory)

    def put(self, key: object) -> tuple[str, bool]:
        """Return the key as it stands in the database.

        Raises:
            RefusedRowError: the key is not text.
        """
        if type(key) is not str:
            raise RefusedRowError(f"A key of type {type(key).__name__} is refused: keys are text.")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """Return the key in a row.

        Raises:
            RefusedRowError: the row's key is not text, or marked as pickled.
        """
        if type(key) is not str or raw != 1:
            raise RefusedRowError("its key is not plain text")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, bytes]:  # noqa: ARG002
        """Return (size, mode, file name, value) of a row; the size counts files, so it is 0.

        Raises:
            RefusedRowError: see `pack`; also a value to be read from a file.
        """
        if read:
            raise RefusedRowError("A value read from a file is refused: rows hold JSON only.")
        return 0, MODE_RAW, None, bytes(value if isinstance(value, Packed) else pack(value))

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> Any:
        """Return the JSON value of a row.

        Raises:
            RefusedRowError: see `read_value`; also a value that is requested as an open file.
        """
        if read:
            raise RefusedRowError("it names a file")
        return read_value(mode, filename, value)

    def filename(self, key: object = None, value: object = None) -> NoReturn:  # noqa: ARG002
        """Refuse to give any value a file.

        Raises:
            RefusedRowError: always.
        """
        raise RefusedRowError("A value in a file of its own is refused: rows hold JSON only.")

    def remove(self, file_path: object) -> None:
        """Leave the file alone: rows never have files, so another program wrote the row that names one.

        diskcache calls this after a row was overwritten, deleted, culled or expired; an error here would make a
        committed write look failed.
        """
        _log.warning("A row named the file %r; it was not touched, because rows never have files.", file_path)


def read_value(mode: object, filename: object, value: object) -> Any:
    """Return the JSON value in a row's columns.

    Raises:
        RefusedRowError: a row that another program wrote (any other mode, a file name, no bytes), or that `unpack`
            refuses.
    """
    if filename is not None:
        raise RefusedRowError("it names a file")
    if type(mode) is not int or mode != MODE_RAW:
        raise RefusedRowError(f"its mode is {mode!r}, not plain bytes")
    if type(value) is not bytes:
        raise RefusedRowError(f"its value is {type(value).__name__}, not bytes")
    return unpack(value)


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
            InputError: the database holds a setting that diskcache does not know, so another program wrote it.
        """
        if key in SETTINGS:
            value = SETTINGS[key]
        elif key not in KNOWN_SETTINGS:
            raise foreign_setting(Path(self.directory) / FILE, key)
        return super().reset(key, value, update)

    def check(self, fix: bool = False, retry: bool = False) -> NoReturn:  # noqa: ARG002
        """Refuse: diskcache's check deletes files that it does not know, such as our marker.

        Raises:
            StoreError: always.
        """
        raise StoreError("diskcache's own check is switched off, because it can delete files.")

    def prepare_writes(self) -> None:
        """Let each commit of this thread's connection reach the disk, so that it survives a power failure.

        Also let a row be replaced whose text is not UTF-8.
        """
        self._con.text_factory = _decode_leniently
        self._sql("PRAGMA synchronous = FULL")

    def delete_key(self, key: str) -> bool:
        """Delete the row of a key, whatever it holds; returns whether there was one. A file that it names stays."""
        return bool(self._sql("DELETE FROM Cache WHERE key = ? AND raw = 1", (key,)).rowcount)

    def delete_version(self, row: int, stored: float | None) -> bool:
        """Delete the row of this number unless it was stored anew since; returns whether it was deleted."""
        return bool(self._sql("DELETE FROM Cache WHERE rowid = ? AND store_time IS ?", (row, stored)).rowcount)


class Reader:
    """Reads the rows of one database over a connection that cannot write.

    `lenient` also reads a database whose end is missing, as far as it goes. Methods raise StoreError where the database
    cannot be read now (locked, disk failure), which says nothing about its rows.
    """

    def __init__(self, path: Path, *, immutable: bool = False, lenient: bool = False) -> None:
        self._path = path
        self.connection = connect_readonly(path, immutable=immutable)
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_PACKED + 2**16)
        if lenient:  # else SQLite refuses all of a file that is shorter than its header says; nothing is written
            self.connection.execute("PRAGMA writable_schema = ON")

    def fetch(self, key: str) -> Any:
        """Return the JSON value under `key`, None where there is no row.

        Raises:
            RefusedRowError: the row is damaged, or explaineval did not write it.
        """
        try:
            row = self.connection.execute(_ROW, (key,)).fetchone()
        except READ_ERRORS as error:
            if _is_damage(error):
                raise RefusedRowError(f"the database cannot read it ({error})") from error
            raise explain(error, self._path, doing="read") from error
        return None if row is None else self.decode(*row)

    @staticmethod
    def decode(mode: object, filename: object, value: object) -> Any:
        """Return the JSON value of a row's columns, which is never null.

        Raises:
            RefusedRowError: see `fetch`.
        """
        document = read_value(mode, filename, value)
        if document is None:
            raise RefusedRowError("it holds nothing")
        return document

    def iterate_keys(self) -> Iterator[str]:
        """Yield the keys of answers in ascending order, a page at a time, read from the index alone.

        Raises:
            RefusedRowError: the index is damaged, and no further key can be found.
        """
        last = ""
        while keys := self._select(_KEYS, (last, PAGE)):
            for (last,) in keys:
                yield last

    def list_verdict_keys(self) -> list[str]:
        """Return the keys of verdicts on endpoints, of which a store has a few, in ascending order.

        Raises:
            RefusedRowError: the index is damaged.
        """
        return [key for (key,) in self._select(_VERDICTS, ())]

    def count_foreign(self) -> int:
        """Count the rows under keys that are neither an answer's nor a verdict's.

        Raises:
            RefusedRowError: the index is damaged.
        """
        return int(self._select(_FOREIGN, ())[0][0])

    def check_integrity(self) -> str | None:
        """Return what SQLite's full check finds (the first finding and how many more), None where all is well."""
        try:
            findings = [text for (text,) in self.connection.execute("PRAGMA integrity_check")]  # 100 at most
        except READ_ERRORS as error:
            self.require_damage(error)
            return str(error)
        more = f" and {counted(len(findings) - 1, 'finding')} more" if len(findings) > 1 else ""
        return None if findings == ["ok"] else f"{' '.join(findings[0].split())}{more}"

    def require_damage(self, error: Exception) -> None:
        """Return if `error` says that something is damaged, else raise StoreError."""
        if not _is_damage(error) and primary_code(error) != _NO_TABLE:
            raise explain(error, self._path, doing="read") from error

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _select(self, statement: str, arguments: tuple[object, ...]) -> list[Any]:
        try:
            return self.connection.execute(statement, arguments).fetchall()
        except READ_ERRORS as error:
            self.require_damage(error)
            raise RefusedRowError(f"the index of keys is damaged ({error})") from error


def connect_readonly(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """Open a connection that cannot write, whatever it is asked to do.

    `immutable` reads a file that nobody can change (in a directory without write permission) without a shared-memory
    file beside it.

    Raises:
        sqlite3.Error: the file cannot be opened.
    """
    address = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if immutable else ''}"
    connection = sqlite3.connect(address, uri=True, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def open_connections(path: Path, *, readonly: bool, lenient: bool = False) -> tuple[Reader, Database | None]:
    """Open the connections of a store: one for reading and, unless `readonly`, diskcache's for the writer.

    Raises:
        InputError: another program wrote settings into the database.
        StoreError: the database cannot be opened.
    """
    try:
        if readonly:
            return Reader(path, immutable=is_frozen(path), lenient=lenient), None
        database = Database(path.parent)
        try:
            reader = Reader(path)
        finally:
            database.close()  # this thread's connection; the writer opens its own
    except sqlite3.Error as error:
        raise explain(error, path, doing="open") from error
    return reader, database


def is_frozen(path: Path) -> bool:
    """Return whether nobody can be writing the database: its directory is not writable, and there is no log to read."""
    log = path.with_name(f"{FILE}-wal")
    return not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)


def primary_code(error: BaseException) -> int | None:
    """Return SQLite's primary result code of an error, None for an error that Python's module found by itself."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def find_cause(error: BaseException) -> BaseException:
    """Return the first SQLite error behind `error`.

    diskcache turns any failed BEGIN into a time-out, and a failed ROLLBACK hides why it was needed.
    """
    cause, current = error, error.__context__
    while current is not None:
        if isinstance(current, sqlite3.Error):
            cause = current
        current = current.__context__
    return cause


def explain(error: BaseException, path: Path, *, doing: str) -> StoreError:
    """Return an error of SQLite or diskcache as one of ours, with the reason and the remedy in one sentence."""
    cause = find_cause(error)
    code = primary_code(cause) if isinstance(cause, sqlite3.Error) else None
    if code not in _REASONS:
        return StoreError(f"Cannot {doing} the cache {path}: {cause}")
    reason = _REASONS[code].format(timeout=LOCK_TIMEOUT)
    explained = StoreError(f"Cannot {doing} the cache {path}: {reason} ({cause}).")
    explained.full = code == sqlite3.SQLITE_FULL
    return explained


def foreign_setting(path: Path, name: str) -> InputError:
    """Return the error about a setting in the database that diskcache does not know."""
    return InputError(
        f"The database {path} holds a foreign setting {name!r}: it was changed by another program; do not use it."
    )


def _is_damage(error: Exception) -> bool:
    """Return whether an error says that what was to be read is damaged, not that it cannot be read now."""
    code = primary_code(error)
    if code is None:  # found by Python's module: text that is not UTF-8
        return type(error) in (sqlite3.OperationalError, UnicodeDecodeError)
    # the file ends before the page: not a failing disk
    return code in _UNREADABLE or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHORT_READ


def _decode_leniently(data: bytes) -> str:
    return data.decode("utf-8", "replace")


MAX_BATCH = 500
"""Rows in one transaction at most: bounds how long other processes wait for the lock."""

ENOUGH, PAUSE, PAUSES = 8, 0.01, 3
"""While rows come close together, the thread waits for so many of them, for PAUSES times PAUSE seconds at the most."""

Action = Literal["set", "add", "delete"]
"""What is done with a row: it is stored, stored unless there is one, or deleted."""


@dataclass(eq=False)
class _Job:
    action: Action
    target: str | Version
    value: object
    done: asyncio.Future[bool]
    packed: Packed | None = None
    changed: bool = False
    failure: StoreError | None = None


class Writer:
    """Writes and deletes rows in a thread of its own; `submit` returns at once with a future of the running loop."""

    def __init__(self, database: Database, warn: Callable[[str], None]) -> None:
        self._database = database
        self._warn = warn
        self._path = Path(database.directory) / FILE
        self._file = _identity(self._path)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open = True
        self._batch: list[_Job] = []
        self._crowded = False
        """Whether rows come so close together that waiting for more of them pays."""
        self.damage: StoreError | None = None
        """The error by which writing showed that the database is damaged; nothing is written any more."""
        self.failed = False
        """Whether the latest transaction could not be written."""
        self._thread = threading.Thread(target=self._run, name="explaineval-cache-writer", daemon=True)
        self._thread.start()

    def submit(self, action: Action, target: str | Version, value: object = None) -> asyncio.Future[bool]:
        """Queue a change of one row. The future is done once it is committed, or holds a StoreError.

        `set` and `add` take a key and a JSON value. `delete` takes a key, or a version, which stays if it was stored
        anew since it was seen. The future's result says whether anything was changed.

        Raises:
            StoreError: the writer is closed.
        """
        job = _Job(action, target, value, asyncio.get_running_loop().create_future())
        with self._lock:
            if not self._open:
                raise StoreError(f"The cache {self._path} is closed: nothing can be stored any more.")
            self._jobs.put(job)
        return job.done

    def close(self) -> None:
        """Write all that was queued, then end the thread. Closing again does nothing."""
        with self._lock:
            if self._open:
                self._open = False
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._take():
                several = len(self._batch) > 1
                failure = self._commit()
                self.failed = failure is not None
                self._crowded = several or not self._jobs.empty()
                self._finish_batch(failure)
        finally:  # reached without an exception only after close(); otherwise no future may be left undone
            with self._lock:
                self._open = False
            while not self._jobs.empty():
                self._batch += [job for job in [self._jobs.get()] if job is not None]
            self._finish_batch(StoreError(f"The thread that writes the cache {self._path} stopped: run again."))
            self._database.close()

    def _take(self) -> bool:
        """Fill the batch with what is queued, at least one job; False once closed and empty."""
        job = self._jobs.get()
        if self._crowded and job is not None:
            self._wait_for_more()
        while job is not None:
            self._batch.append(job)
            if len(self._batch) == MAX_BATCH or self._jobs.empty():
                return True
            job = self._jobs.get()
        if self._batch:
            self._jobs.put(None)  # closing: the batch is written first, then this is seen again
        return bool(self._batch)

    def _wait_for_more(self) -> None:
        for _ in range(PAUSES):
            time.sleep(PAUSE)
            if self._jobs.qsize() >= ENOUGH or not self._open:
                return

    def _commit(self) -> StoreError | None:
        """Write the batch in one transaction; returns the error that hit all of it, if any."""
        if self.damage is not None:
            return self.damage
        self._pack()
        if not self._batch:
            return None
        if _identity(self._path) != self._file:  # what is written now could never be found again
            self.damage = StoreError(
                f"The cache {self._path} was removed or replaced while it was in use, so that answers can no longer be "
                "kept: put it back, or choose another --cache, and run again."
            )
            return self.damage
        try:
            self._database.prepare_writes()
            with self._database.transact():
                for job in self._batch:
                    job.changed = self._perform(job)
        except (sqlite3.Error, diskcache.Timeout, OSError, InputError) as error:
            failure = explain(error, self._path, doing="write to")
            cause = find_cause(error)
            if isinstance(cause, sqlite3.Error) and primary_code(cause) in DAMAGE:
                self.damage = failure
            self._database.close()  # a transaction that could not end stays open with its connection
            return failure
        return None

    def _perform(self, job: _Job) -> bool:
        if isinstance(job.target, tuple):
            return self._database.delete_version(*job.target)
        if job.action == "delete":
            return self._database.delete_key(job.target)
        return bool((self._database.add if job.action == "add" else self._database.set)(job.target, job.packed))

    def _pack(self) -> None:
        """Compress the rows before the lock is taken; a value that is not JSON fails alone."""
        packed = []
        for job in self._batch:
            try:
                if job.action != "delete":
                    job.packed = pack(job.value)
            except RefusedRowError as error:
                job.failure = StoreError(str(error))
                self._hand_back([job])
            else:
                packed.append(job)
        self._batch = packed

    def _finish_batch(self, failure: StoreError | None) -> None:
        batch, self._batch = self._batch, []
        for job in batch:
            if failure is not None:
                job.failure = StoreError(str(failure))  # one for each: a raised error grows a traceback
                job.failure.full = failure.full
        self._hand_back(batch)

    def _hand_back(self, jobs: list[_Job]) -> None:
        """Complete the futures of jobs, in their loop's thread, which is woken once for all of them."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        for job in jobs:
            by_loop.setdefault(job.done.get_loop(), []).append(job)
        for loop, its_jobs in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._complete, its_jobs)
            except RuntimeError:  # the loop is closed: nobody waits
                self._warn_of(its_jobs)

    def _complete(self, jobs: list[_Job]) -> None:
        """Complete futures. A cancelled job was written all the same, and nobody waits for it."""
        self._warn_of([job for job in jobs if job.done.cancelled()])
        for job in jobs:
            if job.done.cancelled():
                continue
            if job.failure is None:
                job.done.set_result(job.changed)
            else:
                job.done.set_exception(job.failure)

    def _warn_of(self, jobs: list[_Job]) -> None:
        """Warn of failures of which nobody else is told."""
        for job in jobs:
            if job.failure is not None:
                self._warn(str(job.failure))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of the same name; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
