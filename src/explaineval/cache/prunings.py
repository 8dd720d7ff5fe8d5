"""Deleting on purpose: first what would go and what it cost, then exactly that, then the space."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from explaineval.cache.checks import read_marker, write_marker
from explaineval.cache.databases import FILE, primary_code
from explaineval.cache.listings import Answer
from explaineval.cache.scans import scan
from explaineval.cache.stores import Store
from explaineval.cache.summaries import ModelStats, PriceOf, summarise
from explaineval.cache.verifications import find_fault
from explaineval.cache.writers import MAX_BATCH, Version
from explaineval.records import Request

BUSY_TIMEOUT = 1.0
"""Seconds to wait for other processes before the space is left as it is."""

_WAITS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


@dataclass(frozen=True)
class Pruning:
    """What is to go: keys of answers (32 bytes each), versions of damaged or foreign rows, the answers by model."""

    keys: tuple[bytes, ...]
    versions: tuple[Version, ...]
    models: tuple[ModelStats, ...]

    @property
    def rows(self) -> int:
        """How many rows are to go."""
        return len(self.keys) + len(self.versions)


def plan_pruning(
    store: Store, wanted: Callable[[Request], bool] | None, *, damaged: bool, price_of: PriceOf | None = None
) -> Pruning:
    """The answers whose request is `wanted` (None: no answers), and with `damaged` the rows that are none of ours or
    cannot be read. Verdicts on endpoints stay.

    Raises:
        StoreError: the store cannot be read now.
    """
    keys: list[bytes] = []
    chosen = _choose(store, wanted, keys) if wanted is not None else ()
    models = summarise(chosen, price_of)
    rows = scan(store.reader) if damaged else ()
    versions = [row.version for row in rows if row.version is not None and find_fault(row) is not None]
    return Pruning(tuple(keys), tuple(versions), models)


async def prune(store: Store, pruning: Pruning) -> int:
    """Delete what was planned, some hundreds in a transaction; returns how many rows were deleted.

    Answers that came meanwhile stay, and so does a damaged row that was stored anew.

    Raises:
        StoreError: see `Store.put`; what was deleted before it stays deleted.
    """
    deleted = 0
    for start in range(0, len(pruning.keys), MAX_BATCH):
        deleted += await store.delete([key.hex() for key in pruning.keys[start : start + MAX_BATCH]])
    for start in range(0, len(pruning.versions), MAX_BATCH):
        deleted += await store.discard(pruning.versions[start : start + MAX_BATCH])
    return deleted


def reclaim_space(directory: Path) -> str | None:
    """Give the space of deleted rows back to the disk; the sentence why not, None where it was done.

    Call it after the store is closed. The database is rewritten only while no other process has it open, since that
    would keep the others waiting: SQLite takes the log down first, and does so for the only user alone.
    """
    path = directory / FILE
    left = "Its space was left in the database, where later answers will use it"
    try:
        marker = read_marker(directory)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
        try:
            connection.execute("PRAGMA trusted_schema = OFF")
            if connection.execute("PRAGMA journal_mode = DELETE").fetchone() != ("delete",):
                return f"{left}: another process uses the cache."
            try:
                connection.execute("VACUUM")
            finally:
                connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        write_marker(directory, marker, clean=True)
    except sqlite3.Error as error:
        reason = "another process uses the cache" if primary_code(error) in _WAITS else str(error)
        return f"{left}: {reason}."
    except OSError as error:
        return f"{left}: {error.strerror or error}."
    return None


def _choose(store: Store, wanted: Callable[[Request], bool], keys: list[bytes]) -> Iterator[Answer]:
    """The answers that are wanted; their keys are added to `keys`."""
    for answer in store.iterate():
        if wanted(answer[1]):
            keys.append(bytes.fromhex(answer[0]))
            yield answer
