"""Is a store whole? What is looked at before one is opened, and the marker file that says it held answers.

SQLite takes a database file of length zero for a new database, and drops the log beside it: a lost file
would be an empty cache, and everything would be bought again. The marker `store.json`, written when a
store is made, tells a lost store from a new one.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import diskcache

from explaineval.cache.keys import SCHEMA
from explaineval.cache.rows import MODE_RAW, JsonDisk, is_damaged
from explaineval.errors import DamageError, InputError, StoreError
from explaineval.files import write_text_atomic

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


MARKER = "store.json"

ALWAYS_CHECKED = 128 * 2**20
"""Databases up to this size (bytes) have their pages and their index checked at every opening.

`PRAGMA integrity_check` takes about 0.15 s for 60,000 rows (90 MB in the operating system's cache), and several times
that from a cold disk. A larger database is checked unless its last close was clean and nothing has touched it since.
Of databases up to this size which the last close does not vouch for, the checksum of every row is looked at too
(0.7 s for 90 MB): SQLite keeps none. In a larger one a damaged row is found when it is read.
"""

_MAGIC = b"SQLite format 3\x00"
_HEADER = 100
ROW_REMEDY = (
    "refusing to write to a damaged store. Copy the directory aside, and check the disk; then restore a backup, or "
    "delete the damaged rows with `explaineval cache prune --damaged`, after which they are asked again or come from "
    "`explaineval cache import`"
)
REMEDY = (
    "refusing to write to a damaged store. Copy the directory aside, then restore a backup, or save what can "
    "still be read with `explaineval cache export` and use a new directory"
)

_OBJECTS = {
    "Settings": re.compile(r"CREATE TABLE Settings \("),
    "Cache": re.compile(r"CREATE TABLE Cache \("),
    "Cache_key_raw": re.compile(r"CREATE UNIQUE INDEX Cache_key_raw ON Cache ?\(key, raw\)\Z"),
    "Cache_expire_time": re.compile(r"CREATE INDEX Cache_expire_time ON Cache ?\(expire_time\)\Z"),
}
_TRIGGER = re.compile(
    r"CREATE TRIGGER Settings_(count|size)_(insert|update|delete) AFTER (INSERT|UPDATE|DELETE) ON Cache "
    r"FOR EACH ROW BEGIN UPDATE Settings SET value = value [-+ .\w]+ WHERE key = \"(count|size)\"; END\Z"
)


def read_marker(directory: Path) -> dict[str, Any] | None:
    """The marker of a store, None where there is none.

    Raises:
        DamageError: the marker is not JSON.
        InputError: the marker cannot be read, or belongs to another version.
    """
    path = directory / MARKER
    try:
        marker = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"The marker {path} of the cache cannot be read ({error}): make it readable.") from error
    except ValueError as error:
        raise DamageError(
            f"The marker {path} of the cache cannot be read ({error}): where `explaineval cache verify` finds every "
            "answer sound, delete the marker, and the next run writes a new one."
        ) from error
    schema = marker.get("schema") if isinstance(marker, dict) else None
    if schema != SCHEMA:
        raise InputError(
            f"The cache {directory} has schema {schema!r}, this version reads {SCHEMA}: use the version that "
            "wrote it or another cache directory."
        )
    return dict(marker)


def write_marker(directory: Path, marker: dict[str, Any] | None, *, clean: bool) -> None:
    """Write the marker, in one step; `clean` adds what the database file looks like after a clean close.

    Raises:
        OSError: the directory cannot be written.
    """
    kept = marker or {"schema": SCHEMA, "created": datetime.now(UTC).date().isoformat()}
    kept = {name: value for name, value in kept.items() if name != "closed"}
    if clean:
        kept["closed"] = _look_at(directory / FILE)
    write_text_atomic(directory / MARKER, json.dumps(kept) + "\n")


def check_files(directory: Path, marker: dict[str, Any] | None, *, readonly: bool = False) -> str | None:
    """Refuse files that SQLite would silently take for an empty database, and files that are no database.

    Returns the sentence about a database that is cut where it is opened for reading only: what is left of it can
    still be saved.

    Raises:
        DamageError: the database is missing, empty, cut or not a database though answers were stored there.
    """
    path, log = directory / FILE, directory / f"{FILE}-wal"
    size, waiting = _size(path), _size(log) > 0
    if size == 0 and (marker is not None or waiting):
        state = "empty" if path.exists() else "missing"
        proof = f"{MARKER} says that a store was kept here" if marker is not None else f"{log.name} is not empty"
        raise DamageError(
            f"The database {path} is {state}, but {proof}: restore it from a backup, or delete {MARKER} and "
            f"{FILE}* to start anew and pay again."
        )
    if size == 0:
        return None
    with path.open("rb") as file:
        header = file.read(_HEADER)
    if len(header) < _HEADER or not header.startswith(_MAGIC):
        raise DamageError(
            f"The file {path} is not a database (or was damaged at its start): refusing to touch it. Restore a "
            "backup, or use a new directory."
        )
    page = int.from_bytes(header[16:18], "big")
    expected = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
    if size >= expected or waiting:
        return None
    cut = f"The database {path} is cut: {size:,} of {expected:,} bytes are left; {REMEDY}."
    if not readonly:
        raise DamageError(cut)
    return cut


def check_integrity(
    connection: sqlite3.Connection, path: Path, marker: dict[str, Any] | None, *, rows: bool = False
) -> None:
    """Check the database's tables, its pages where the last close does not vouch for them, and `rows` where asked.

    Raises:
        DamageError: damaged pages, a damaged index, damaged rows.
        InputError: tables and triggers of another program.
        StoreError: the database cannot be read at all.
    """
    try:
        vouched = _is_vouched_for(path, marker)
        if not vouched or _size(path) <= ALWAYS_CHECKED:
            found = connection.execute("PRAGMA integrity_check(1)").fetchall()
            if found != [("ok",)]:
                raise DamageError(f"The database {path} is damaged ({' '.join(found[0][0].split())}): {REMEDY}.")
        objects = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        settings = []
        if any(name == "Settings" for name, _ in objects):
            settings = connection.execute("SELECT key FROM Settings").fetchall()
    except READ_ERRORS as error:
        if primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            raise StoreError(f"The database {path} cannot be read ({error}): run again.") from error
        raise DamageError(f"The database {path} is damaged ({error}): {REMEDY}.") from error
    if marker is not None and not {"Cache", "Settings"} <= {name for name, _ in objects}:
        raise DamageError(f"The database {path} is damaged (its tables are missing): {REMEDY}.")
    for (key,) in settings:
        if key not in KNOWN_SETTINGS:
            raise InputError(
                f"The database {path} holds a foreign setting {key!r}: it was changed by another program; do "
                "not use it."
            )
    for name, statement in objects:
        form = _OBJECTS.get(name, _TRIGGER)
        if form.match(re.sub(r"\s+", " ", statement)) is None:
            raise InputError(
                f"The database {path} holds {name!r}, which is not part of a cache: it belongs to, or was "
                "changed by, another program; use another cache directory."
            )
    if rows and not vouched and _size(path) <= ALWAYS_CHECKED and "Cache" in {name for name, _ in objects}:
        _check_rows(connection, path)


def _check_rows(connection: sqlite3.Connection, path: Path) -> None:
    """Compare every row of ours with its checksum. Raises DamageError."""
    try:
        blobs = connection.execute("SELECT value FROM Cache WHERE mode = ? AND typeof(value) = 'blob'", (MODE_RAW,))
        damaged = sum(is_damaged(value) for (value,) in blobs)
    except READ_ERRORS as error:
        if primary_code(error) == sqlite3.SQLITE_TOOBIG:
            return  # a stranger's row, which is refused when it is read
        raise DamageError(f"The database {path} is damaged ({error}): {REMEDY}.") from error
    if damaged:
        raise DamageError(f"{damaged:,} rows of the database {path} are damaged: {ROW_REMEDY}.")


def _is_vouched_for(path: Path, marker: dict[str, Any] | None) -> bool:
    if _size(path.with_name(f"{path.name}-wal")) > 0:
        return False
    return marker is not None and marker.get("closed") == _look_at(path)


def _look_at(path: Path) -> dict[str, int]:
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _size(path: Path) -> int:
    """Bytes of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
