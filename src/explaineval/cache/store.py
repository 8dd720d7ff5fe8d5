"""The store of paid answers as the rest of the program sees it, its opening and its maintenance.

Reads stay on the event loop (tens of microseconds, never waiting for a writer, thanks to SQLite's log); writes go
through one thread. Several processes may share one store. The last write of a key wins.

Deleting comes in two steps: first what would be deleted and what it cost, then exactly that.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from explaineval.cache.database import (
    DAMAGE,
    FILE,
    MAX_BATCH,
    Action,
    Database,
    Reader,
    Version,
    Writer,
    open_connections,
    primary_code,
)
from explaineval.cache.integrity import (
    MARKER,
    REMEDY,
    ROW_REMEDY,
    ScannedRow,
    check_store,
    read_marker,
    scan,
    write_marker,
)
from explaineval.cache.keys import (
    UNKNOWN_ORIGIN,
    VERDICT_PREFIX,
    AnswerOrigin,
    DamagedRowError,
    RefusedRowError,
    StoredAnswer,
    canonical,
    is_key,
    make_row,
    make_verdict_row,
    origin_of,
    parse_answer,
    parse_completion,
    parse_verdict,
    request_key,
)
from explaineval.cache.locks import describe_network
from explaineval.cost import FREE, Price, dollars, is_metered
from explaineval.errors import DamageError, InputError, StoreError
from explaineval.files import why_unwritable
from explaineval.records import Completion, Request
from explaineval.text import agreeing, counted

PriceOf = Callable[[Request], Price | None]
"""Returns the price of a request's tokens, None where it is not known."""


@dataclass
class ModelStats:
    """Sums over the answers of one model at one endpoint.

    `tokens` sums each whole number of the raw usage by its name. `usd` is what the answers cost, None where a price is
    not known. `unmetered` counts answers that are not free and came without a count of tokens: `usd` lacks them.
    """

    endpoint: str | None
    model: str
    entries: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    usd: float | None = 0.0
    unmetered: int = 0

    def add(self, completion: Completion, price: Price | None) -> None:
        """Add an answer, whose tokens have this price."""
        self.entries += 1
        numbers = completion.usage.items()
        counts = {name: number for name, number in numbers if type(number) is int}  # no details, no bool
        self.tokens = {name: self.tokens.get(name, 0) + counts.get(name, 0) for name in sorted({*self.tokens, *counts})}
        self.unmetered += price != FREE and not is_metered(completion.usage)
        if price is None:
            self.usd = None
        elif self.usd is not None:  # answer by answer: tokens of one name may have several prices
            self.usd += dollars(completion.usage, price)


@dataclass(frozen=True)
class StoreStats:
    """What a store holds: readable answers, rows that were refused, bytes of the database with its log.

    `usd` is the sum over the models, None where that of one is not known.
    """

    entries: int
    refused: int
    bytes: int
    models: tuple[ModelStats, ...]
    usd: float | None = None


def summarise(answers: Iterable[StoredAnswer], price_of: PriceOf | None = None) -> tuple[ModelStats, ...]:
    """Sum answers, raw usage and dollars by endpoint and model, sorted by these."""
    groups: dict[tuple[str | None, str], ModelStats] = {}
    for _, request, completion in answers:
        stats = groups.setdefault((request.endpoint, request.model), ModelStats(request.endpoint, request.model))
        stats.add(completion, None if price_of is None else price_of(request))
    return tuple(sorted(groups.values(), key=lambda stats: (stats.endpoint or "", stats.model)))


def total_usd(models: Iterable[ModelStats]) -> float | None:
    """Return the dollars of all models, None where those of one are not known."""
    costs = [model.usd for model in models]
    known = [usd for usd in costs if usd is not None]
    return sum(known) if len(known) == len(costs) else None


MAX_WARNINGS = 100

Parsed = TypeVar("Parsed")

_log = logging.getLogger("explaineval.cache")


class Store:
    """Answers by key. `open_store` makes it; close it with `close` or use it as a context manager.

    Methods that read belong to one thread at a time, best that of the event loop. A row that is damaged or that
    explaineval did not write counts as missing and gives a warning. They raise StoreError where the database cannot be
    read now (locked, disk failure): such an answer is not missing, or it would be bought again.

    Methods that write return once the change is committed to the disk; cancelling them does not undo it. They raise
    StoreError where nothing was stored: disk full, locked too long, read-only, damaged, closed, or not JSON.
    """

    def __init__(
        self,
        directory: Path,
        reader: Reader,
        database: Database | None,
        damage: str | None = None,
        *,
        repairing: bool = False,
    ) -> None:
        self.directory = directory
        self.damage = damage
        """What opening found damaged; such a store is opened for reading only."""
        self.refusals = 0
        """How many times a row was not used because it was damaged or explaineval did not write it."""
        self.latest_origin: AnswerOrigin = UNKNOWN_ORIGIN
        """Where the answer that was read last came from."""
        self.addresses: Mapping[str, str] = {}
        """The base URLs behind the names of endpoints, which are stored beside new answers."""
        self.older_verdicts: Mapping[str, str] = {}
        """Names of verdicts → the names under which earlier versions stored them, which are read too."""
        self._repairing = repairing
        self._reader = reader
        self._warnings: dict[str, None] = {}
        self._unlisted_warnings = 0
        self._suspicious = False  # the next opening must check every page
        self._pages_damaged = False
        self._rows_damaged = False
        self._closed = False
        self._writer = None if database is None else Writer(database, self.warn)
        if damage is not None:
            self.warn(damage)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong without stopping anything: `MAX_WARNINGS` sentences at most, and how many more there were."""
        unlisted = counted(self._unlisted_warnings, "more warning", "are")
        return (*self._warnings, *([f"{unlisted} not listed."] if self._unlisted_warnings else []))

    @property
    def reader(self) -> Reader:
        """The rows themselves, for looking past what `get` and `iterate` give.

        Raises:
            StoreError: the store is closed.
        """
        if self._closed:
            raise StoreError(f"The cache {self.directory} is closed: nothing can be read any more.")
        return self._reader

    def warn(self, text: str) -> None:
        """Collect a warning, and log it the first time."""
        if text in self._warnings:
            return
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings[text] = None
            _log.warning("%s", text)
        else:
            self._unlisted_warnings += 1

    def get(self, key: str) -> Completion | None:
        """Return the answer under a key, after checking that it was stored for the request of that key."""
        return self._read(key, parse_completion)

    def _bought(self, request: Request) -> AnswerOrigin:
        """Return the origin of an answer that is bought now."""
        address = None if request.endpoint is None else self.addresses.get(request.endpoint)
        if address is None and request.endpoint is not None and "://" in request.endpoint:
            address = request.endpoint
        return AnswerOrigin(known=True, address=address)

    async def put(self, request: Request, completion: Completion) -> None:
        """Store an answer, in place of one that is there.

        Raises:
            InputError: the request has no key.
        """
        await self._write("set", request_key(request), make_row(canonical(request), completion, self._bought(request)))

    async def add(self, request: Request, completion: Completion, origin: AnswerOrigin | None = None) -> bool:
        """Store an answer unless there is a readable one; returns whether it was stored.

        `origin` says where it came from, if it was not bought now.

        Raises:
            InputError: the request has no key.
        """
        row = make_row(canonical(request), completion, self._bought(request) if origin is None else origin)
        return await self._add(request_key(request), row, parse_completion)

    async def delete(self, rows: Iterable[str | Version]) -> int:
        """Delete rows by their keys or versions; returns how many there were.

        A version is a row as `scan` saw it, whatever it holds. It stays if it was stored anew since then.
        """
        return sum(await asyncio.gather(*[self._write("delete", row) for row in rows]))

    def get_verdict(self, name: str) -> dict[str, Any] | None:
        """Return the document of this name about an endpoint, None where there is none."""
        document = self._read(f"{VERDICT_PREFIX}{name}", parse_verdict)
        if document is None and name in self.older_verdicts:
            return self._read(f"{VERDICT_PREFIX}{self.older_verdicts[name]}", parse_verdict)
        return document

    def list_verdicts(self) -> list[str]:
        """Return the names of all documents about endpoints; none, with a warning, where the index is damaged."""
        try:
            return [key.removeprefix(VERDICT_PREFIX) for key in self.reader.list_verdict_keys()]
        except RefusedRowError as error:
            self.warn(f"The documents on endpoints in the cache {self.directory} cannot all be listed: {error}.")
            return []

    async def put_verdict(self, name: str, document: dict[str, Any]) -> None:
        """Store a small JSON document about an endpoint in place of the former one. It is not an answer."""
        await self._write("set", f"{VERDICT_PREFIX}{name}", make_verdict_row(name, document))

    async def add_verdict(self, name: str, document: dict[str, Any]) -> bool:
        """Store a document about an endpoint unless there is a readable one; returns whether it was stored."""
        return await self._add(f"{VERDICT_PREFIX}{name}", make_verdict_row(name, document), parse_verdict)

    def iterate(self, keys: Collection[str] | None = None) -> Iterator[StoredAnswer]:
        """Yield answers in the order of their keys (all, or those of `keys`), in bounded memory.

        Where a row was bad or foreign, or the database is known to be damaged, the table is also searched for rows that
        the index does not show. They come last, unordered.
        """
        wanted = None if keys is None else frozenset(keys)
        reader, before, last, foreign, complete = self.reader, self.refusals, "", 0, True
        try:
            for last in reader.iterate_keys() if wanted is None else sorted(wanted):
                answer = self._read(last, parse_answer)
                if answer is not None:
                    yield answer
            foreign = reader.count_foreign()
        except RefusedRowError as error:
            complete = False
            self._suspicious = True
            self.warn(f"The rows of the cache {self.directory} cannot all be listed: {error}.")
        else:
            if foreign and wanted is None:
                self.warn(
                    f"The cache {self.directory} holds {counted(foreign, 'row')} that "
                    f"{agreeing(foreign, 'hold')} no answer: ignored."
                )
        if complete and not foreign and self.damage is None and self.refusals == before:
            return
        for row in scan(reader):
            if row.fault is not None or row.key is None or (wanted is not None and row.key not in wanted):
                continue
            try:
                answer = parse_answer(row.key, row.value)
            except RefusedRowError:
                continue  # a verdict or a foreign row; there was a warning about a bad answer above
            if (wanted is None and not complete and row.key > last) or not self._is_indexed(row.key):
                yield answer

    def stats(self, price_of: PriceOf | None = None) -> StoreStats:
        """Count all rows, reading them one by one; with `price_of(request)` also what they cost."""
        before = self.refusals
        models = summarise(self.iterate(), price_of)
        return StoreStats(
            entries=sum(model.entries for model in models),
            refused=self.refusals - before,
            bytes=sum(path.stat().st_size for path in self.directory.glob(f"{FILE}*")),
            models=models,
            usd=None if price_of is None else total_usd(models),
        )

    def close(self) -> None:
        """Write what is queued, end the thread, close the database. Closing again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._reader.close()  # first: the last to close folds the log in, and this connection cannot
        if self._writer is None:
            return
        self._writer.close()
        clean = self._writer.damage is None and not self._suspicious and not self._rows_damaged
        try:
            write_marker(self.directory, read_marker(self.directory), clean=clean)
        except (OSError, InputError) as error:
            if not self._writer.failed:  # else there was an error about a full disk: the marker only saves a check
                _log.warning("The marker of the cache %s was not renewed: %s", self.directory, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, key: str, parse: Callable[[str, Any], Parsed]) -> Parsed | None:
        """Return what is parsed from the row of a key; a row that is refused gives None and a warning."""
        self.latest_origin = UNKNOWN_ORIGIN
        try:
            row = self.reader.fetch(key)
            parsed = None if row is None else parse(key, row)
        except RefusedRowError as error:
            self.refusals += 1
            self._suspicious = self._suspicious or isinstance(error.__cause__, sqlite3.DatabaseError)
            self._pages_damaged = self._pages_damaged or primary_code(error.__cause__ or error) in DAMAGE
            self._rows_damaged = self._rows_damaged or isinstance(error, DamagedRowError)
            self.warn(f"The row {key} of the cache {self.directory} was not used: {error}.")
            return None
        if row is not None:
            self.latest_origin = origin_of(row)
        return parsed

    def _is_indexed(self, key: str) -> bool:
        """Return whether the index leads to this answer."""
        try:
            row = self.reader.fetch(key)
            return row is not None and parse_answer(key, row) is not None
        except RefusedRowError:
            return False

    async def _add(self, key: str, row: dict[str, Any], parse: Callable[[str, Any], object]) -> bool:
        """Store a row unless a readable one is there, also if it comes there meanwhile."""
        before = self.refusals
        if self._read(key, parse) is not None:
            return False
        return await self._write("set" if self.refusals > before else "add", key, row)

    async def _write(self, action: Action, target: str | Version, value: object = None) -> bool:
        if self._writer is None:
            raise StoreError(f"The cache {self.directory} is open for reading only: nothing can be stored.")
        if self._pages_damaged:
            raise StoreError(f"The database {self.directory / FILE} is damaged: {REMEDY}.")
        if self._rows_damaged and not self._repairing:
            raise StoreError(f"Rows of the database {self.directory / FILE} are damaged: {ROW_REMEDY}.")
        return await self._writer.submit(action, target, value)


def open_store(directory: Path, *, readonly: bool = False, repairing: bool = False) -> Store:
    """Open the store in a directory, making both where they are missing (never with `readonly`).

    With `repairing` it can be written although rows are damaged, because these are to be deleted or replaced.

    Raises:
        DamageError: the database is damaged or lost; with `readonly`, so much that nothing can be read.
        InputError: the directory cannot be used, or (unless `readonly`) is on a network file system; the database is
            another program's; with `readonly`, there is no store.
        StoreError: another process kept the database locked, or the disk fails.
    """
    directory = Path(os.path.abspath(directory))  # noqa: PTH100  # keeps links: messages name the user's path
    network = describe_network(directory)
    try:
        if not readonly:
            if network is not None:
                raise InputError(network)
            reason = why_unwritable(directory)
            if reason is not None:
                raise InputError(f"The cache cannot be written: {reason}.")
            directory.mkdir(parents=True, exist_ok=True)
        elif not holds_store(directory):
            raise InputError(f"There is no cache in {directory}: check the path.")
        marker, damage = check_store(directory, readonly=readonly, rows=not readonly and not repairing)
        connections = open_connections(directory / FILE, readonly=readonly, lenient=damage is not None)
        store = Store(directory, *connections, damage=damage, repairing=repairing)
        try:
            if marker is None and not readonly:
                write_marker(directory, None, clean=False)
        except OSError:
            store.close()
            raise
    except OSError as error:
        raise InputError(
            f"The cache directory {directory} cannot be used ({error.strerror or error}): choose another."
        ) from error
    if network is not None:
        store.warn(network)
    return store


def holds_store(directory: Path) -> bool:
    """Return whether the directory holds a store, or the remains of one."""
    return any((directory / name).exists() for name in (MARKER, FILE))


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
