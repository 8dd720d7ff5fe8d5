"""Maintenance of a store: verifying all of it, deleting chosen rows, giving the freed space back to the disk.

Deleting comes in two steps: first what would be deleted and what it cost, then exactly that.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from explaineval.cache.database import FILE, MAX_BATCH, Version, primary_code
from explaineval.cache.integrity import ScannedRow, read_marker, scan, write_marker
from explaineval.cache.keys import is_key
from explaineval.cache.rows import VERDICT_PREFIX, RefusedRowError, StoredAnswer, parse_answer, parse_verdict
from explaineval.cache.store import ModelStats, PriceOf, Store, open_store, summarise
from explaineval.errors import DamageError
from explaineval.records import Request

MAX_FAULTS = 100

BUSY_TIMEOUT = 1.0
"""Seconds to wait for other processes before the space is left as it is."""


@dataclass(frozen=True)
class Verification:
    """What was found in a store.

    `rows` counts all rows: `sound` answers, `verdicts` on endpoints, `strangers` under keys that are neither's, and
    `faulty` ones. `faults` has a sentence on each faulty row, `MAX_FAULTS` at most. `integrity` says what is wrong with
    the database as such, None where nothing is.
    """

    rows: int = 0
    sound: int = 0
    verdicts: int = 0
    strangers: int = 0
    faulty: int = 0
    faults: tuple[str, ...] = ()
    integrity: str | None = None

    @property
    def whole(self) -> bool:
        """Whether everything is as it was stored, and nothing else is there."""
        return self.integrity is None and not self.faulty and not self.strangers


def verify_store(directory: Path) -> Verification:
    """Check every page of a store's database and every row.

    Raises:
        InputError: there is no store, or it cannot be opened for another reason than damage.
        StoreError: it cannot be read now (locked, disk failure).
    """
    try:
        store = open_store(directory, readonly=True)
    except DamageError as error:
        return Verification(integrity=str(error))
    counts = {"rows": 0, "sound": 0, "verdicts": 0, "strangers": 0, "faulty": 0}
    faults: list[str] = []
    with store:
        integrity = store.reader.check_integrity()
        for row in scan(store.reader):
            counts["rows"] += row.version is not None
            fault = find_fault(row)
            is_verdict = row.key is not None and row.key.startswith(VERDICT_PREFIX)
            if row.foreign or (row.key is not None and not is_verdict and not is_key(row.key)):
                counts["strangers"] += 1
            elif fault is None:
                counts["verdicts" if is_verdict else "sound"] += 1
            else:
                counts["faulty"] += 1
                if len(faults) < MAX_FAULTS:
                    faults.append(f"{_name(row)}: {fault}")
    return Verification(**counts, faults=tuple(faults), integrity=store.damage or integrity)


def find_fault(row: ScannedRow) -> str | None:
    """Return what is wrong with a row, None where it is a sound answer or verdict."""
    if row.fault is not None:
        return row.fault
    if row.key is None:
        return "its key is not plain text"
    parse = parse_verdict if row.key.startswith(VERDICT_PREFIX) else parse_answer
    try:
        parse(row.key, row.value)
    except RefusedRowError as error:
        return str(error)
    return None


def _name(row: ScannedRow) -> str:
    if row.key is not None:
        return f"the row {row.key}"
    return "the table" if row.version is None else f"row {row.version[0]:,} of the table"


@dataclass(frozen=True)
class Pruning:
    """What is to be deleted: keys of answers (32 bytes each), versions of damaged or foreign rows, answers by model."""

    keys: tuple[bytes, ...]
    versions: tuple[Version, ...]
    models: tuple[ModelStats, ...]

    @property
    def rows(self) -> int:
        """How many rows are to be deleted."""
        return len(self.keys) + len(self.versions)


def plan_pruning(
    store: Store, wanted: Callable[[Request], bool] | None, *, damaged: bool, price_of: PriceOf | None = None
) -> Pruning:
    """Choose the answers whose request is `wanted` (None: no answers), and with `damaged` the damaged and foreign rows.

    Verdicts on endpoints stay.

    Raises:
        StoreError: the store cannot be read now.
    """
    keys: list[bytes] = []

    def choose() -> Iterator[StoredAnswer]:
        for answer in store.iterate() if wanted is not None else ():
            if wanted is not None and wanted(answer.request):
                keys.append(bytes.fromhex(answer.key))
                yield answer

    models = summarise(choose(), price_of)
    rows = scan(store.reader) if damaged else ()
    versions = [row.version for row in rows if row.version is not None and find_fault(row) is not None]
    return Pruning(tuple(keys), tuple(versions), models)


async def prune(store: Store, pruning: Pruning) -> int:
    """Delete what was planned, some hundreds of rows in a transaction; returns how many rows were deleted.

    Answers that came meanwhile stay, and so does a damaged row that was stored anew.

    Raises:
        StoreError: see `Store`; what was deleted before it stays deleted.
    """
    deleted = 0
    for start in range(0, len(pruning.keys), MAX_BATCH):
        deleted += await store.delete([key.hex() for key in pruning.keys[start : start + MAX_BATCH]])
    for start in range(0, len(pruning.versions), MAX_BATCH):
        deleted += await store.delete(pruning.versions[start : start + MAX_BATCH])
    return deleted


def reclaim_space(directory: Path) -> str | None:
    """Give the space of deleted rows back to the disk; returns a sentence why this was not done, None where it was.

    Call it after the store is closed. The database is rewritten only while no other process has it open, because the
    others would have to wait: SQLite removes the log first, which it does for the only user alone.
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
        busy = primary_code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        return f"{left}: {'another process uses the cache' if busy else error}."
    except OSError as error:
        return f"{left}: {error.strerror or error}."
    return None
