"""The rows of the table itself, past the index of keys and past what is damaged.

Usually rows are found by their keys, through the index. A damaged page of the index hides rows that are whole, and a
damaged page of the table ends every listing that comes to it. Here rows are looked up by their number in the table,
one after the other where no listing gets through, so that only what stands on damaged pages is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from explaineval.cache.databases import READ_ERRORS
from explaineval.cache.disks import RefusedRowError
from explaineval.cache.readers import Reader
from explaineval.cache.writers import Version

PAGE = 200
ROWS_PER_PAGE = 32
"""More rows than fit into a page of 4 kB: bounds the search where the last number cannot be read."""

# `>=`, not `>`: to find what is greater than a number SQLite goes to that number's page first, which may be damaged
_COLUMNS = "rowid, store_time, key, raw, mode, filename, value"
_LISTING = f"SELECT {_COLUMNS} FROM Cache WHERE rowid >= ? ORDER BY rowid LIMIT ?"  # noqa: S608  # constants only
_ONE = f"SELECT {_COLUMNS} FROM Cache WHERE rowid = ?"  # noqa: S608
_NEXT = "SELECT rowid FROM Cache WHERE rowid >= ? ORDER BY rowid LIMIT 1"


@dataclass(frozen=True)
class Row:
    """A row as it stands: `value` is its JSON value, or `fault` says why there is none.

    `version` is None where a stretch of the table cannot be reached; `key` is None where it is no plain text
    (`foreign`) or cannot be read.
    """

    version: Version | None
    key: str | None
    value: Any = None
    fault: str | None = None
    foreign: bool = False


def scan(reader: Reader) -> Iterator[Row]:
    """All rows that can be reached in the order of their numbers, one in memory at a time.

    Raises:
        StoreError: the database cannot be read now (locked, disk failure).
    """
    last, end = 0, _find_end(reader)
    while last < end:
        before, count = last, 0
        try:
            for row in reader.connection.execute(_LISTING, (last + 1, PAGE)):
                count += 1
                if row[0] == last + 1 or (row[0] > last and _stands(reader, row[0])):
                    last = row[0]
                yield _read(reader, row)
        except READ_ERRORS as error:
            reader.require_damage(error)
            last, found = _step_over(reader, last, end, error)
            yield found
            continue
        if count < PAGE:
            return
        last = max(last, before + 1)


def _stands(reader: Reader, number: int) -> bool:
    """Whether there is a row of this number: a damaged page may tell any, and rows in between would be passed by."""
    try:
        return reader.connection.execute("SELECT 1 FROM Cache WHERE rowid = ?", (number,)).fetchone() is not None
    except READ_ERRORS as error:
        reader.require_damage(error)
        return False


def _step_over(reader: Reader, last: int, end: int, error: Exception) -> tuple[int, Row]:
    """What is said of the row or stretch that stops the listing after `last`, and the number of its last row."""
    number = last + 1
    limit = min(end, last + _count_pages(reader) * ROWS_PER_PAGE)
    while number <= limit:
        try:
            found = reader.connection.execute(_NEXT, (number,)).fetchone()
        except READ_ERRORS as fault:
            reader.require_damage(fault)
            number += 1
            continue
        if found is None:
            return end, _unreachable(last + 1, end, error)
        if found[0] != number and not _stands(reader, found[0]):
            number += 1
            continue
        if number > last + 1:
            return number - 1, _unreachable(last + 1, number - 1, error)
        return found[0], _look_closer(reader, found[0], error)
    return end, _unreachable(last + 1, end, error)


def _look_closer(reader: Reader, number: int, error: Exception) -> Row:
    """A row that can be reached, but perhaps not read."""
    try:
        row = reader.connection.execute(_ONE, (number,)).fetchone()
        if row is not None:
            return _read(reader, row)
    except READ_ERRORS as fault:
        reader.require_damage(fault)
        error = fault
    stored, key, foreign = None, None, False
    try:
        stored = reader.connection.execute("SELECT store_time FROM Cache WHERE rowid = ?", (number,)).fetchone()[0]
        key, raw = reader.connection.execute("SELECT key, raw FROM Cache WHERE rowid = ?", (number,)).fetchone()
        key, foreign = _read_key(key, raw)
    except (*READ_ERRORS, TypeError):  # damaged too, or gone meanwhile
        key = None
    return Row((number, stored), key, None, f"the database cannot read it ({error})", foreign)


def _read(reader: Reader, row: tuple[Any, ...]) -> Row:
    number, stored, key, raw, *columns = row
    name, foreign = _read_key(key, raw)
    try:
        return Row((number, stored), name, reader.decode(*columns), None, foreign)
    except RefusedRowError as error:
        return Row((number, stored), name, None, str(error), foreign)


def _read_key(key: object, raw: object) -> tuple[str | None, bool]:
    return (key, False) if type(key) is str and raw == 1 else (None, True)


def _unreachable(first: int, last: int, error: Exception) -> Row:
    return Row(None, None, None, f"rows {first:,} to {last:,} of the table cannot be reached ({error})")


def _find_end(reader: Reader) -> int:
    """A number that none is beyond, unless a damaged page tells a wrong one: then still one that few are beyond."""
    told = 0
    try:
        told = int(reader.connection.execute("SELECT MAX(rowid) FROM Cache").fetchone()[0] or 0)
    except READ_ERRORS as error:
        reader.require_damage(error)
    return max(told, _count_pages(reader) * ROWS_PER_PAGE)


def _count_pages(reader: Reader) -> int:
    try:
        return int(reader.connection.execute("PRAGMA page_count").fetchone()[0])
    except READ_ERRORS as error:
        reader.require_damage(error)
        return 0
