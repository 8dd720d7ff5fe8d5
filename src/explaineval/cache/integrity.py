"""Checks of a store before it is opened, and a scan of its table that gets past damage.

SQLite takes a database file of length zero for a new database, and drops the log beside it. A lost file would look like
an empty cache, and every answer would be bought again. The marker `store.json`, written when a store is made, tells a
lost store from a new one.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from explaineval.cache.database import (
    FILE,
    KNOWN_SETTINGS,
    MODE_RAW,
    READ_ERRORS,
    Reader,
    Version,
    explain,
    foreign_setting,
    is_frozen,
    primary_code,
)
from explaineval.cache.keys import SCHEMA, RefusedRowError, is_damaged
from explaineval.errors import DamageError, InputError, StoreError
from explaineval.files import write_text_atomic
from explaineval.text import agreeing, counted

MARKER = "store.json"

ALWAYS_CHECKED = 128 * 2**20
"""Databases up to this size (bytes) have their pages and their index checked at every opening.

`PRAGMA integrity_check` takes about 0.15 s for 60,000 rows (90 MB in the operating system's cache), and several times
that from a cold disk. A larger database is checked unless its last close was clean and it has not changed since. In a
database up to this size that has changed since, the checksum of every row is checked too (0.7 s for 90 MB), because
SQLite keeps none. In a larger one a damaged row is found when it is read.
"""

REMEDY = (
    "refusing to write to a damaged store. Copy the directory aside, then restore a backup, or save what can "
    "still be read with `explaineval cache export` and use a new directory"
)
ROW_REMEDY = (
    "refusing to write to a damaged store. Copy the directory aside, and check the disk; then restore a backup, or "
    "delete the damaged rows with `explaineval cache prune --damaged`, after which they are asked again or come from "
    "`explaineval cache import`"
)

ROWS_AT_ONCE = 200
ROWS_PER_PAGE = 32
"""More rows than fit into a page of 4 kB: bounds the search where the last number cannot be read."""

_MAGIC = b"SQLite format 3\x00"
_HEADER_SIZE = 100
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

# `>=`, not `>`: to find what is greater than a number SQLite goes to that number's page first, which may be damaged
_COLUMNS = "rowid, store_time, key, raw, mode, filename, value"
_LISTING = f"SELECT {_COLUMNS} FROM Cache WHERE rowid >= ? ORDER BY rowid LIMIT ?"  # noqa: S608  # constants only
_ONE = f"SELECT {_COLUMNS} FROM Cache WHERE rowid = ?"  # noqa: S608
_NEXT = "SELECT rowid FROM Cache WHERE rowid >= ? ORDER BY rowid LIMIT 1"


@dataclass(frozen=True)
class FileState:
    """Size in bytes and modification time of the database file."""

    bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class StoreMarker:
    """The marker of a store: the day it was created, and the state of the database after a clean close."""

    created: str
    closed: FileState | None = None


def read_marker(directory: Path) -> StoreMarker | None:
    """Return the marker of a store, None where there is none.

    Raises:
        DamageError: the marker is not JSON.
        InputError: the marker cannot be read, or belongs to another version.
    """
    path = directory / MARKER
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"The marker {path} of the cache cannot be read ({error}): make it readable.") from error
    except ValueError as error:
        raise DamageError(
            f"The marker {path} of the cache cannot be read ({error}): where `explaineval cache verify` finds every "
            "answer sound, delete the marker, and the next run writes a new one."
        ) from error
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise InputError(
            f"The cache {directory} has schema {schema!r}, this version reads {SCHEMA}: use the version that "
            "wrote it or another cache directory."
        )
    try:
        closed = FileState(**document["closed"])
    except (KeyError, TypeError):
        closed = None
    return StoreMarker(str(document.get("created", "")), closed)


def write_marker(directory: Path, marker: StoreMarker | None, *, clean: bool) -> None:
    """Write the marker; `clean` records the state of the database after a clean close.

    Raises:
        OSError: the directory cannot be written.
    """
    marker = marker or StoreMarker(datetime.now(UTC).date().isoformat())
    marker = replace(marker, closed=_file_state(directory / FILE) if clean else None)
    document: dict[str, Any] = {"schema": SCHEMA, "created": marker.created}
    if marker.closed is not None:
        document["closed"] = vars(marker.closed)
    write_text_atomic(directory / MARKER, json.dumps(document) + "\n")


def check_store(directory: Path, *, readonly: bool, rows: bool) -> tuple[StoreMarker | None, str | None]:
    """Check a store before it is opened, with `rows` also the checksums of its rows.

    Returns:
        The marker, and where the store is opened for reading only, the sentence about its damage, because what is left
        can still be saved.

    Raises:
        DamageError: the store is damaged; with `readonly`, so much that nothing can be read.
        InputError: the database is another program's.
        StoreError: the database cannot be read now.
    """
    damage = None
    try:
        marker = read_marker(directory)
    except DamageError as error:
        if not readonly:
            raise
        marker, damage = StoreMarker(""), str(error)
    cut = check_files(directory, marker, readonly=readonly)
    return marker, cut or _check_database(directory / FILE, marker, readonly=readonly, rows=rows) or damage


def check_files(directory: Path, marker: StoreMarker | None, *, readonly: bool = False) -> str | None:
    """Refuse files that SQLite would silently take for an empty database, and files that are no database.

    Returns the sentence about a database that is cut where it is opened for reading only.

    Raises:
        DamageError: the database is missing, empty, cut or not a database though answers were stored there.
    """
    path, log = directory / FILE, directory / f"{FILE}-wal"
    size, has_log = _size(path), _size(log) > 0
    if size == 0 and (marker is not None or has_log):
        state = "empty" if path.exists() else "missing"
        proof = f"{MARKER} says that a store was kept here" if marker is not None else f"{log.name} is not empty"
        raise DamageError(
            f"The database {path} is {state}, but {proof}: restore it from a backup, or delete {MARKER} and "
            f"{FILE}* to start anew and pay again."
        )
    if size == 0:
        return None
    with path.open("rb") as file:
        header = file.read(_HEADER_SIZE)
    if len(header) < _HEADER_SIZE or not header.startswith(_MAGIC):
        raise DamageError(
            f"The file {path} is not a database (or was damaged at its start): refusing to touch it. Restore a "
            "backup, or use a new directory."
        )
    page_size = int.from_bytes(header[16:18], "big")
    expected = (65536 if page_size == 1 else page_size) * int.from_bytes(header[28:32], "big")
    if size >= expected or has_log:
        return None
    cut = f"The database {path} is cut: {size:,} of {expected:,} bytes are left; {REMEDY}."
    if not readonly:
        raise DamageError(cut)
    return cut


def _check_database(path: Path, marker: StoreMarker | None, *, readonly: bool, rows: bool) -> str | None:
    """Check an existing database; see `check_store`."""
    if _size(path) == 0 or (marker is None and path.with_name(f"{FILE}-journal").exists()):
        return None  # new, or interrupted while it was made, which SQLite undoes by itself
    try:
        reader = Reader(path, immutable=readonly and is_frozen(path))
    except sqlite3.Error as error:
        raise explain(error, path, doing="open") from error
    try:
        check_integrity(reader.connection, path, marker, rows=rows)
    except StoreError:
        raise
    except InputError as error:
        if readonly:
            return str(error)
        raise
    finally:
        reader.close()
    return None


def check_integrity(
    connection: sqlite3.Connection, path: Path, marker: StoreMarker | None, *, rows: bool = False
) -> None:
    """Check the database's tables, its pages unless it is large and unchanged since a clean close, and its `rows`.

    Raises:
        DamageError: damaged pages, a damaged index, damaged rows.
        InputError: tables, triggers or settings of another program.
        StoreError: the database cannot be read at all.
    """
    small = _size(path) <= ALWAYS_CHECKED
    unchanged = (
        _size(path.with_name(f"{path.name}-wal")) == 0 and marker is not None and marker.closed == _file_state(path)
    )
    try:
        if small or not unchanged:
            findings = connection.execute("PRAGMA integrity_check(1)").fetchall()
            if findings != [("ok",)]:
                raise DamageError(f"The database {path} is damaged ({' '.join(findings[0][0].split())}): {REMEDY}.")
        objects = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall())
        settings = connection.execute("SELECT key FROM Settings").fetchall() if "Settings" in objects else []
    except READ_ERRORS as error:
        if primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN):
            raise StoreError(f"The database {path} cannot be read ({error}): run again.") from error
        raise DamageError(f"The database {path} is damaged ({error}): {REMEDY}.") from error
    if marker is not None and not {"Cache", "Settings"} <= objects.keys():
        raise DamageError(f"The database {path} is damaged (its tables are missing): {REMEDY}.")
    for (name,) in settings:
        if name not in KNOWN_SETTINGS:
            raise foreign_setting(path, name)
    for name, statement in objects.items():
        if _OBJECTS.get(name, _TRIGGER).match(re.sub(r"\s+", " ", statement)) is None:
            raise InputError(
                f"The database {path} holds {name!r}, which is not part of a cache: it belongs to, or was "
                "changed by, another program; use another cache directory."
            )
    if rows and small and not unchanged and "Cache" in objects:
        _check_rows(connection, path)


def _check_rows(connection: sqlite3.Connection, path: Path) -> None:
    """Compare every row that explaineval wrote with its checksum. Raises DamageError."""
    try:
        values = connection.execute("SELECT value FROM Cache WHERE mode = ? AND typeof(value) = 'blob'", (MODE_RAW,))
        damaged = sum(is_damaged(value) for (value,) in values)
    except READ_ERRORS as error:
        if primary_code(error) == sqlite3.SQLITE_TOOBIG:
            return  # another program's row, which is refused when it is read
        raise DamageError(f"The database {path} is damaged ({error}): {REMEDY}.") from error
    if damaged:
        raise DamageError(
            f"{counted(damaged, 'row')} of the database {path} {agreeing(damaged, 'are')} damaged: {ROW_REMEDY}."
        )


def _file_state(path: Path) -> FileState:
    status = path.stat()
    return FileState(status.st_size, status.st_mtime_ns)


def _size(path: Path) -> int:
    """Return the size of a file in bytes, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@dataclass(frozen=True)
class ScannedRow:
    """A row of the table: `value` is its JSON value, or `fault` says why there is none.

    `version` is None where a range of the table cannot be reached. `key` is None where it cannot be read or is no plain
    text; in the latter case the row is `foreign`.
    """

    version: Version | None
    key: str | None
    value: Any = None
    fault: str | None = None
    foreign: bool = False


def scan(reader: Reader) -> Iterator[ScannedRow]:
    """Yield all rows that can be reached, by their number in the table, one in memory at a time.

    Usually rows are found by their keys, through the index. A damaged page of the index hides rows that are whole, and
    a damaged page of the table ends every listing that comes to it. Here rows are listed by their number, and looked up
    one by one where no listing gets through, so that only what stands on damaged pages is lost.

    Raises:
        StoreError: the database cannot be read now (locked, disk failure).
    """
    last, end = 0, _find_end(reader)
    while last < end:
        before, count = last, 0
        try:
            for columns in reader.connection.execute(_LISTING, (last + 1, ROWS_AT_ONCE)):
                count += 1
                number = columns[0]
                if number == last + 1 or (number > last and _exists(reader, number)):
                    last = number
                yield _parse(reader, columns)
        except READ_ERRORS as error:
            reader.require_damage(error)
            last, row = _step_over(reader, last, end, error)
            yield row
            continue
        if count < ROWS_AT_ONCE:
            return
        last = max(last, before + 1)


def _exists(reader: Reader, number: int) -> bool:
    """Return whether there is a row of this number: a damaged page may give any, and rows in between would be lost."""
    try:
        return reader.connection.execute("SELECT 1 FROM Cache WHERE rowid = ?", (number,)).fetchone() is not None
    except READ_ERRORS as error:
        reader.require_damage(error)
        return False


def _step_over(reader: Reader, last: int, end: int, error: Exception) -> tuple[int, ScannedRow]:
    """Describe the row or range that stops the listing after `last`, and return it with the number of its last row."""
    number = last + 1
    limit = min(end, last + _count_pages(reader) * ROWS_PER_PAGE)
    while number <= limit:
        try:
            following = reader.connection.execute(_NEXT, (number,)).fetchone()
        except READ_ERRORS as damage:
            reader.require_damage(damage)
            number += 1
            continue
        if following is None:
            break
        if following[0] != number and not _exists(reader, following[0]):
            number += 1
            continue
        if number > last + 1:
            return number - 1, _unreachable(last + 1, number - 1, error)
        return following[0], _read_one(reader, following[0], error)
    return end, _unreachable(last + 1, end, error)


def _read_one(reader: Reader, number: int, error: Exception) -> ScannedRow:
    """Read a row that can be reached, as far as it can be read."""
    try:
        columns = reader.connection.execute(_ONE, (number,)).fetchone()
        if columns is not None:
            return _parse(reader, columns)
    except READ_ERRORS as damage:
        reader.require_damage(damage)
        error = damage
    stored, key, foreign = None, None, False
    try:
        stored = reader.connection.execute("SELECT store_time FROM Cache WHERE rowid = ?", (number,)).fetchone()[0]
        key, raw = reader.connection.execute("SELECT key, raw FROM Cache WHERE rowid = ?", (number,)).fetchone()
        key, foreign = _parse_key(key, raw)
    except (*READ_ERRORS, TypeError):  # damaged too, or deleted meanwhile
        key = None
    return ScannedRow((number, stored), key, None, f"the database cannot read it ({error})", foreign)


def _parse(reader: Reader, columns: tuple[Any, ...]) -> ScannedRow:
    number, stored, key, raw, *value = columns
    name, foreign = _parse_key(key, raw)
    try:
        return ScannedRow((number, stored), name, reader.decode(*value), None, foreign)
    except RefusedRowError as error:
        return ScannedRow((number, stored), name, None, str(error), foreign)


def _parse_key(key: object, raw: object) -> tuple[str | None, bool]:
    """Return the key where it is plain text, and whether the row is foreign."""
    return (key, False) if type(key) is str and raw == 1 else (None, True)


def _unreachable(first: int, last: int, error: Exception) -> ScannedRow:
    return ScannedRow(None, None, None, f"rows {first:,} to {last:,} of the table cannot be reached ({error})")


def _find_end(reader: Reader) -> int:
    """Return a number beyond which there are no rows, or few where a damaged page gives a wrong maximum."""
    maximum = 0
    try:
        maximum = int(reader.connection.execute("SELECT MAX(rowid) FROM Cache").fetchone()[0] or 0)
    except READ_ERRORS as error:
        reader.require_damage(error)
    return max(maximum, _count_pages(reader) * ROWS_PER_PAGE)


def _count_pages(reader: Reader) -> int:
    try:
        return int(reader.connection.execute("PRAGMA page_count").fetchone()[0])
    except READ_ERRORS as error:
        reader.require_damage(error)
        return 0
