"""The rows of the table itself, past the index of keys and past what is damaged.

Usually rows are found by their keys, through the index. A damaged page of the index hides rows that are whole, and a
damaged page of the table ends every listing that comes to it. Here rows are looked up by their number in the table,
one after the other where no listing gets through, so that only what stands on damaged pages is lost.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explaineval.cache.database import DAMAGE, READ_ERRORS, connect_readonly, explain, primary_code
from explaineval.cache.keys import request_from
from explaineval.cache.rows import MAX_PACKED, DamagedRowError, JsonDisk, RefusedRowError, read_completion, verify_row
from explaineval.cache.writer import Version
from explaineval.errors import InputError
from explaineval.records import Completion, Request

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


PAGE = 500
"""Keys fetched at a time while iterating."""

_ANSWER = "typeof(key) = 'text' AND raw = 1 AND length(key) = 64 AND key NOT GLOB '*[^0-9a-f]*'"
_ROW = "SELECT mode, filename, value FROM Cache WHERE key = ? AND raw = 1"
_KEYS = f"SELECT key FROM Cache WHERE key > ? AND {_ANSWER} ORDER BY key LIMIT ?"  # noqa: S608  # constants only
_VERDICTS = (
    "SELECT key FROM Cache WHERE key > ? AND key >= 'verdict:' AND key < 'verdict;' AND typeof(key) = 'text'"
    " AND raw = 1 ORDER BY key LIMIT ?"
)
_STRANGERS = (
    f"SELECT COUNT(*) FROM Cache WHERE NOT ({_ANSWER})"  # noqa: S608  # constants only
    " AND NOT (typeof(key) = 'text' AND raw = 1 AND substr(key, 1, 8) = 'verdict:')"
)

_UNREADABLE = DAMAGE | {sqlite3.SQLITE_TOOBIG}
"""Result codes that condemn a row. Any other, such as a lock that stays or a failing disk, says nothing
about the row: taking it for a miss would buy the answer again."""

_NO_TABLE = sqlite3.SQLITE_ERROR
"""The result code of a statement about a table that is not there any more."""


class Reader:
    """The rows of one database. `lenient` also reads one whose end is missing, as far as it goes."""

    def __init__(self, path: Path, *, immutable: bool = False, lenient: bool = False) -> None:
        self._path = path
        self.directory = path.parent
        self._disk = JsonDisk(str(path.parent))
        self.connection = connect_readonly(path, immutable=immutable)
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_PACKED + 2**16)
        if lenient:  # else SQLite refuses all of a file that is shorter than its header says; nothing is written
            self.connection.execute("PRAGMA writable_schema = ON")

    def fetch(self, key: str) -> Any:
        """The JSON value under `key`, None where there is none (no row holds a null).

        Raises:
            RefusedRowError: the row is damaged or not one of ours.
            StoreError: the database cannot be read now (locked, disk failure).
        """
        try:
            row = self.connection.execute(_ROW, (key,)).fetchone()
        except READ_ERRORS as error:
            if _condemns(error):
                raise RefusedRowError(f"the database cannot read it ({error})") from error
            raise explain(error, self._path, doing="read") from error
        if row is None:
            return None
        return self.decode(*row)

    def decode(self, mode: object, filename: object, value: object) -> Any:
        """The JSON value of a row's columns.

        Raises:
            RefusedRowError: see `fetch`.
        """
        found = self._disk.fetch(mode, filename, value, False)
        if found is None:
            raise RefusedRowError("it holds nothing")
        return found

    def iterate_keys(self) -> Iterator[str]:
        """Keys of answers in ascending order, a page at a time, read from the index alone.

        Raises:
            RefusedRowError: the index is damaged: no further key can be found.
            StoreError: see `fetch`.
        """
        yield from self._iterate(_KEYS)

    def iterate_verdicts(self) -> Iterator[str]:
        """Keys of verdicts in ascending order.

        Raises:
            RefusedRowError, StoreError: see `iterate_keys`.
        """
        yield from self._iterate(_VERDICTS)

    def count_strangers(self) -> int:
        """Number of rows under keys that are neither an answer's nor a verdict's.

        Raises:
            RefusedRowError, StoreError: see `iterate_keys`.
        """
        return int(self._select(_STRANGERS, ())[0][0])

    def check_integrity(self) -> str | None:
        """What SQLite's full check says (the first finding, and how many more), None where all is well.

        Raises:
            StoreError: see `fetch`.
        """
        try:
            found = [text for (text,) in self.connection.execute("PRAGMA integrity_check")]  # 100 at most
        except READ_ERRORS as error:
            self.require_damage(error)
            return str(error)
        more = f" and {len(found) - 1} findings more" if len(found) > 1 else ""
        return None if found == ["ok"] else f"{' '.join(found[0].split())}{more}"

    def require_damage(self, error: Exception) -> None:
        """Return where `error` says that something is damaged.

        Raises:
            StoreError: it says that the database cannot be read now.
        """
        if not _condemns(error) and primary_code(error) != _NO_TABLE:
            raise explain(error, self._path, doing="read") from error

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _iterate(self, statement: str) -> Iterator[str]:
        last = ""
        while keys := self._select(statement, (last, PAGE)):
            for (last,) in keys:
                yield last

    def _select(self, statement: str, arguments: tuple[object, ...]) -> list[Any]:
        try:
            return self.connection.execute(statement, arguments).fetchall()
        except READ_ERRORS as error:
            self.require_damage(error)
            raise RefusedRowError(f"the index of keys is damaged ({error})") from error


def _condemns(error: Exception) -> bool:
    """Whether an error says that what was to be read is damaged, not that it cannot be read just now."""
    code = primary_code(error)
    if code is None:  # found by Python's module: text that is not UTF-8
        return type(error) in (sqlite3.OperationalError, UnicodeDecodeError)
    # the file ends before the page: not a failing disk
    return code in _UNREADABLE or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_IOERR_SHORT_READ


ROWS_AT_ONCE = 200
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
            for row in reader.connection.execute(_LISTING, (last + 1, ROWS_AT_ONCE)):
                count += 1
                if row[0] == last + 1 or (row[0] > last and _stands(reader, row[0])):
                    last = row[0]
                yield _read(reader, row)
        except READ_ERRORS as error:
            reader.require_damage(error)
            last, found = _step_over(reader, last, end, error)
            yield found
            continue
        if count < ROWS_AT_ONCE:
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


Answer = tuple[str, Request, Completion]


def read_answer(key: str, row: Any) -> Answer:
    """The answer in a row.

    Raises:
        RefusedRowError: the row is no answer, or not the one of this key.
    """
    try:
        return key, request_from(verify_row(key, row)), read_completion(row)
    except (InputError, RecursionError) as error:
        raise RefusedRowError(f"its request cannot be read ({error})") from error


def iterate_answers(
    reader: Reader, complaints: Complaints, keys: Collection[str] | None, *, damaged: bool
) -> Iterator[Answer]:
    """Answers in the order of their keys, all or those of `keys`; bad rows are skipped with a warning.

    Where a row was bad or foreign, or the database is known to be damaged, the table is searched for rows that the
    index did not show; they come last, unordered.

    Raises:
        StoreError: the database cannot be read now.
    """
    before, whole, last, strangers = complaints.refusals, True, "", 0
    try:
        for last in reader.iterate_keys() if keys is None else sorted(set(keys)):
            answer = _fetch(reader, complaints, last)
            if answer is not None:
                yield answer
        strangers = reader.count_strangers()
    except RefusedRowError as error:
        whole = False
        complaints.damaged = True
        complaints.warn(f"The rows of the cache {reader.directory} cannot all be listed: {error}.")
    else:
        if strangers and keys is None:
            complaints.warn(f"The cache {reader.directory} holds {strangers} rows that are no answers: ignored.")
    if whole and not strangers and not damaged and complaints.refusals == before:
        return
    wanted = None if keys is None else frozenset(keys)
    for row in scan(reader):
        if row.fault is None and row.key is not None and (wanted is None or row.key in wanted):
            try:
                answer = read_answer(row.key, row.value)
            except RefusedRowError:
                continue  # a verdict or a stranger; a bad answer was complained of above
            if (wanted is None and not whole and row.key > last) or not _is_found(reader, row.key):
                yield answer


def _fetch(reader: Reader, complaints: Complaints, key: str) -> Answer | None:
    try:
        row = reader.fetch(key)
        return None if row is None else read_answer(key, row)
    except RefusedRowError as error:
        complaints.refuse(key, error)
        return None


def _is_found(reader: Reader, key: str) -> bool:
    """Whether the index leads to this answer."""
    try:
        row = reader.fetch(key)
        return row is not None and read_answer(key, row) is not None
    except RefusedRowError:
        return False
