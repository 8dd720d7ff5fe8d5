"""Reading rows over a connection that cannot write, so that no row can make a read change anything."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from explaineval.cache.databases import DAMAGE, connect_readonly, explain, primary_code
from explaineval.cache.disks import MAX_PACKED, JsonDisk, RefusedRowError

PAGE = 500
"""Keys fetched at a time while iterating."""

_ANSWER = "typeof(key) = 'text' AND raw = 1 AND length(key) = 64 AND key NOT GLOB '*[^0-9a-f]*'"
_ROW = "SELECT mode, filename, value FROM Cache WHERE key = ? AND raw = 1"
_KEYS = f"SELECT key FROM Cache WHERE key > ? AND {_ANSWER} ORDER BY key LIMIT ?"  # noqa: S608  # constants only
_STRANGERS = (
    f"SELECT COUNT(*) FROM Cache WHERE NOT ({_ANSWER})"  # noqa: S608  # constants only
    " AND NOT (typeof(key) = 'text' AND raw = 1 AND substr(key, 1, 8) = 'verdict:')"
)

_UNREADABLE = DAMAGE | {sqlite3.SQLITE_TOOBIG}
"""Result codes that condemn a row. Any other, such as a lock that stays or a failing disk, says nothing
about the row: taking it for a miss would buy the answer again."""


class Reader:
    """The rows of one database."""

    def __init__(self, path: Path, *, immutable: bool = False) -> None:
        self._path = path
        self._disk = JsonDisk(str(path.parent))
        self.connection = connect_readonly(path, immutable=immutable)
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_PACKED + 2**16)

    def fetch(self, key: str) -> Any:
        """The JSON value under `key`, None where there is none (no row holds a null).

        Raises:
            RefusedRowError: the row is damaged or not one of ours.
            StoreError: the database cannot be read now (locked, disk failure).
        """
        try:
            row = self.connection.execute(_ROW, (key,)).fetchone()
        except sqlite3.Error as error:
            if _condemns(error):
                raise RefusedRowError(f"the database cannot read it ({error})") from error
            raise explain(error, self._path, doing="read") from error
        if row is None:
            return None
        mode, filename, value = row
        value = self._disk.fetch(mode, filename, value, False)
        if value is None:
            raise RefusedRowError("it holds nothing")
        return value

    def iterate_keys(self) -> Iterator[str]:
        """Keys of answers in ascending order, a page at a time, read from the index alone.

        Raises:
            RefusedRowError: the index is damaged: no further key can be found.
            StoreError: see `fetch`.
        """
        last = ""
        while keys := self._select(_KEYS, (last, PAGE)):
            for (last,) in keys:
                yield last

    def count_strangers(self) -> int:
        """Number of rows under keys that are neither an answer's nor a verdict's.

        Raises:
            RefusedRowError, StoreError: see `iterate_keys`.
        """
        return int(self._select(_STRANGERS, ())[0][0])

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def _select(self, statement: str, arguments: tuple[object, ...]) -> list[Any]:
        try:
            return self.connection.execute(statement, arguments).fetchall()
        except sqlite3.Error as error:
            if _condemns(error):
                raise RefusedRowError(f"the index of keys is damaged ({error})") from error
            raise explain(error, self._path, doing="read") from error


def _condemns(error: sqlite3.Error) -> bool:
    code = primary_code(error)
    if code is None:  # found by Python's module: text that is not UTF-8
        return type(error) is sqlite3.OperationalError
    return code in _UNREADABLE
