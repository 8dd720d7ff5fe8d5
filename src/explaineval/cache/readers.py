"""Reading rows over a connection that cannot write, so that no row can make a read change anything."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from explaineval.cache.databases import DAMAGE, READ_ERRORS, connect_readonly, explain, primary_code
from explaineval.cache.disks import MAX_PACKED, JsonDisk, RefusedRowError

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
