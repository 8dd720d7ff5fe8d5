"""Is a store whole? Every page, every index entry and every row is looked at; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from explaineval.cache.disks import RefusedRowError
from explaineval.cache.keys import is_key
from explaineval.cache.listings import read_answer
from explaineval.cache.openings import open_store
from explaineval.cache.scans import Row, scan
from explaineval.cache.stores import Store
from explaineval.cache.verdicts import PREFIX, read_verdict
from explaineval.errors import DamageError

MAX_FAULTS = 100


@dataclass(frozen=True)
class Verification:
    """What was found.

    `rows` counts all rows that were looked at: `sound` answers, `verdicts` on endpoints, `strangers` under keys that
    are neither's, and `faulty` ones; `faults` has a sentence on each faulty row, `MAX_FAULTS` at most. `integrity` says
    what is wrong with the database as such, None where nothing is.
    """

    rows: int
    sound: int
    verdicts: int
    strangers: int
    faulty: int
    faults: tuple[str, ...]
    integrity: str | None

    @property
    def whole(self) -> bool:
        """Whether everything is as it was stored, and nothing else is there."""
        return self.integrity is None and not self.faulty and not self.strangers


def verify_store(directory: Path) -> Verification:
    """Look at all of a store.

    Raises:
        InputError: there is no store, or it cannot be opened for another reason than damage.
        StoreError: it cannot be read now (locked, disk failure).
    """
    try:
        store = open_store(directory, readonly=True)
    except DamageError as error:
        return Verification(0, 0, 0, 0, 0, (), str(error))
    with store:
        return _verify(store)


def find_fault(row: Row) -> str | None:
    """What is wrong with a row, None where it is a sound answer or verdict."""
    if row.fault is not None:
        return row.fault
    if row.key is None:
        return "its key is not plain text"
    try:
        if row.key.startswith(PREFIX):
            read_verdict(row.key.removeprefix(PREFIX), row.value)
        else:
            read_answer(row.key, row.value)
    except RefusedRowError as error:
        return str(error)
    return None


def _verify(store: Store) -> Verification:
    integrity = store.reader.check_integrity()
    counts = {"rows": 0, "sound": 0, "verdicts": 0, "strangers": 0, "faulty": 0}
    faults: list[str] = []
    for row in scan(store.reader):
        counts["rows"] += row.version is not None
        fault = find_fault(row)
        verdict = row.key is not None and row.key.startswith(PREFIX)
        if row.foreign or (row.key is not None and not verdict and not is_key(row.key)):
            counts["strangers"] += 1
        elif fault is None:
            counts["verdicts" if verdict else "sound"] += 1
        else:
            counts["faulty"] += 1
            if len(faults) < MAX_FAULTS:
                faults.append(f"{_name(row)}: {fault}")
    return Verification(**counts, faults=tuple(faults), integrity=store.damage or integrity)


def _name(row: Row) -> str:
    if row.key is not None:
        return f"the row {row.key}"
    return "the table" if row.version is None else f"row {row.version[0]:,} of the table"
