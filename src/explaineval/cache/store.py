"""The store of paid answers as the rest of the program sees it, and its opening.

Reads stay on the event loop (tens of microseconds, never waiting for a writer, thanks to SQLite's log); writes go
through one thread. Several processes may share one store. The last write of a key wins.
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
    Action,
    Database,
    Reader,
    Version,
    Writer,
    open_connections,
    primary_code,
)
from explaineval.cache.integrity import MARKER, REMEDY, ROW_REMEDY, check_store, read_marker, scan, write_marker
from explaineval.cache.keys import canonical, request_key
from explaineval.cache.locks import describe_network
from explaineval.cache.rows import (
    UNKNOWN_ORIGIN,
    VERDICT_PREFIX,
    AnswerOrigin,
    DamagedRowError,
    RefusedRowError,
    StoredAnswer,
    make_row,
    make_verdict_row,
    origin_of,
    parse_answer,
    parse_completion,
    parse_verdict,
)
from explaineval.cost import FREE, Price, dollars, is_metered
from explaineval.errors import InputError, StoreError
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
        counts = {
            name: number for name, number in completion.usage.items() if type(number) is int
        }  # no details, no bool
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
        """Where the answer that `get` returned, or `iterate` yielded, last came from."""
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
        more = (
            (f"{counted(self._unlisted_warnings, 'more warning', 'are')} not listed.",)
            if self._unlisted_warnings
            else ()
        )
        return (*self._warnings, *more)

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
        self.latest_origin = UNKNOWN_ORIGIN
        return self._read(key, self._parse)

    def _parse(self, key: str, row: Any) -> Completion:
        completion = parse_completion(key, row)
        self.latest_origin = origin_of(row)
        return completion

    def _parse_answer(self, key: str, row: Any) -> StoredAnswer:
        answer = parse_answer(key, row)
        self.latest_origin = origin_of(row)
        return answer

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
                self.latest_origin = UNKNOWN_ORIGIN
                answer = self._read(last, self._parse_answer)
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
        try:
            row = self.reader.fetch(key)
            return None if row is None else parse(key, row)
        except RefusedRowError as error:
            self.refusals += 1
            self._suspicious = self._suspicious or isinstance(error.__cause__, sqlite3.DatabaseError)
            self._pages_damaged = self._pages_damaged or primary_code(error.__cause__ or error) in DAMAGE
            self._rows_damaged = self._rows_damaged or isinstance(error, DamagedRowError)
            self.warn(f"The row {key} of the cache {self.directory} was not used: {error}.")
            return None

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
