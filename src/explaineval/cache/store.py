"""The store of paid answers, as the rest of the program sees it (`openings.open_store` makes it).

Reads stay on the event loop (tens of microseconds, never waiting for a writer, thanks to SQLite's log);
writes go through one thread. Several processes may share one store. The last put of a key wins.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from explaineval.cache.database import (
    FILE,
    MARKER,
    REMEDY,
    ROW_REMEDY,
    Database,
    check_files,
    check_integrity,
    explain,
    read_marker,
    write_marker,
)
from explaineval.cache.keys import canonical, hash_canonical
from explaineval.cache.locks import find_network_type
from explaineval.cache.reader import Complaints, Reader, iterate_answers
from explaineval.cache.rows import (
    PREFIX,
    RefusedRowError,
    make_row,
    make_verdict,
    read_completion,
    read_verdict,
    verify_row,
)
from explaineval.cache.statistics import PriceOf, StoreStats, summarise, total_usd
from explaineval.cache.writer import Act, Version, Writer
from explaineval.errors import DamageError, InputError, StoreError
from explaineval.records import Completion, Request

_log = logging.getLogger("explaineval.cache")


class Store:
    """Answers by key. Made by `open_store`; closed by `close` or as a context manager.

    Reading methods belong to one thread at a time, best that of the event loop.
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
        self._repairing = repairing
        self.damage = damage
        """What opening found damaged; only a store for reading is opened all the same."""
        self._reader = reader
        self._complaints = Complaints(directory)
        self._closed = False
        self._writer = None if database is None else Writer(database, self.warn)
        if damage is not None:
            self.warn(damage)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong without stopping anything: a bounded number of sentences, and a count."""
        return self._complaints.sentences

    @property
    def refusals(self) -> int:
        """How many times a row was not used because it was damaged or not one of ours."""
        return self._complaints.refusals

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
        self._complaints.warn(text)

    def get(self, key: str) -> Completion | None:
        """The answer under a key, after checking that it was stored for the request of that key.

        A row that is unreadable or refused is a miss and a warning.

        Raises:
            StoreError: the database cannot be read now (locked, disk failure): not a miss, or it would be
                bought again.
        """
        try:
            row = self.reader.fetch(key)
            if row is None:
                return None
            verify_row(key, row)
            return read_completion(row)
        except RefusedRowError as error:
            self._complaints.refuse(key, error)
            return None

    def contains(self, key: str) -> bool:
        """Whether `get` would give an answer: a row that is unreadable or refused is none.

        Raises:
            StoreError: see `get`.
        """
        return self.get(key) is not None

    async def put(self, request: Request, completion: Completion) -> None:
        """Store an answer; returns once it is committed to the disk. Cancelling it does not undo the write.

        Raises:
            InputError: the request has no key.
            StoreError: not stored: disk full, locked too long, read-only, damaged, closed, or not JSON.
        """
        entries = canonical(request)
        await self._write("set", hash_canonical(entries), make_row(entries, completion))

    async def add(self, request: Request, completion: Completion) -> bool:
        """Store an answer unless there is a readable one; returns whether it was stored, once it is committed.

        Raises:
            InputError, StoreError: see `put`.
        """
        entries = canonical(request)
        key = hash_canonical(entries)
        return await self._write_new(key, make_row(entries, completion), lambda: self.get(key))

    async def delete(self, keys: Iterable[str]) -> int:
        """Delete the answers under these keys; returns how many there were, once that is committed.

        Raises:
            StoreError: see `put`.
        """
        return sum(await asyncio.gather(*[self._write("forget", key) for key in keys]))

    async def discard(self, versions: Iterable[Version]) -> int:
        """Delete rows as `scan` saw them, whatever they hold; one that was stored anew since then stays.

        Raises:
            StoreError: see `put`.
        """
        return sum(await asyncio.gather(*[self._write("discard", version) for version in versions]))

    def get_verdict(self, name: str) -> dict[str, Any] | None:
        """The document kept about an endpoint, None where there is none or (with a warning) none readable.

        Raises:
            StoreError: see `get`.
        """
        key = f"{PREFIX}{name}"
        try:
            row = self.reader.fetch(key)
            return None if row is None else read_verdict(name, row)
        except RefusedRowError as error:
            self._complaints.refuse(key, error)
            return None

    async def put_verdict(self, name: str, verdict: dict[str, Any]) -> None:
        """Keep a small JSON document about an endpoint; it replaces the former one and is not an answer.

        Raises:
            StoreError: see `put`.
        """
        await self._write("set", f"{PREFIX}{name}", make_verdict(name, verdict))

    async def add_verdict(self, name: str, verdict: dict[str, Any]) -> bool:
        """Keep a document unless there is a readable one of that name; returns whether it was stored.

        Raises:
            StoreError: see `put`.
        """
        return await self._write_new(f"{PREFIX}{name}", make_verdict(name, verdict), lambda: self.get_verdict(name))

    def iterate(self, keys: Collection[str] | None = None) -> Iterator[tuple[str, Request, Completion]]:
        """Answers in the order of their keys (all, or those of `keys`), in bounded memory.

        Bad rows are skipped with a warning; what a damaged index does not show is looked for in the table, and comes
        last.

        Raises:
            StoreError: see `get`.
        """
        yield from iterate_answers(self.reader, self._complaints, keys, damaged=self.damage is not None)

    def iterate_verdicts(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The documents kept about endpoints, by name; bad ones are skipped with a warning.

        Raises:
            StoreError: see `get`.
        """
        try:
            for key in self.reader.iterate_verdicts():
                name = key.removeprefix(PREFIX)
                document = self.get_verdict(name)
                if document is not None:
                    yield name, document
        except RefusedRowError as error:
            self._complaints.damaged = True
            self.warn(f"The documents on endpoints in the cache {self.directory} cannot all be listed: {error}.")

    def stats(self, price_of: PriceOf | None = None) -> StoreStats:
        """Counts over all rows, read one by one; with `price_of(request)` also what they cost.

        Raises:
            StoreError: see `get`.
        """
        before = self.refusals
        models = summarise(self.iterate(), price_of)
        return StoreStats(
            entries=sum(group.entries for group in models),
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
        self._reader.close()  # first: the last to close folds the log in, and this one cannot
        if self._writer is None:
            return
        self._writer.close()
        found = self._complaints.damaged or self._complaints.damaged_rows
        clean = self._writer.damage is None and not found
        try:
            write_marker(self.directory, read_marker(self.directory), clean=clean)
        except (OSError, InputError) as error:
            if not self._writer.failed:  # else it was said that the disk is full: the marker only saves a check
                _log.warning("The marker of the cache %s was not renewed: %s", self.directory, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _write_new(self, key: str, value: object, stored: Callable[[], object]) -> bool:
        """Write unless something readable is there, also if it comes there meanwhile."""
        before = self.refusals
        if stored() is not None:
            return False
        return await self._write("set" if self.refusals > before else "add", key, value)

    async def _write(self, act: Act, target: str | Version, value: object = None) -> bool:
        if self._writer is None:
            raise StoreError(f"The cache {self.directory} is open for reading only: nothing can be stored.")
        if self._complaints.corrupt:
            raise StoreError(f"The database {self.directory / FILE} is damaged: {REMEDY}.")
        if self._complaints.damaged_rows and not self._repairing:
            raise StoreError(f"Rows of the database {self.directory / FILE} are damaged: {ROW_REMEDY}.")
        return await asyncio.wrap_future(self._writer.submit(act, target, value))


def open_store(directory: Path, *, readonly: bool = False, repairing: bool = False) -> Store:
    """Open the store in a directory, making both where they are missing (never with `readonly`).

    With `repairing` damaged rows do not keep it from being written: they are to be deleted or replaced.

    Raises:
        DamageError: the database is damaged or lost; with `readonly`, so much that nothing can be read.
        InputError: the directory cannot be used, or (but for `readonly`) is on a network file system; the database is
            another program's; with `readonly`, there is no store.
        StoreError: another process kept the database locked, or the disk fails.
    """
    directory = Path(os.path.abspath(directory))  # noqa: PTH100  # keeps links: messages name the user's path
    path = directory / FILE
    network = describe_network(directory)
    try:
        if not readonly:
            if network is not None:
                raise InputError(network)
            directory.mkdir(parents=True, exist_ok=True)
        elif not holds_store(directory):
            raise InputError(f"There is no cache in {directory}: check the path.")
        marker, blur = _read_marker(directory, readonly=readonly)
        cut = check_files(directory, marker, readonly=readonly)
        damage = cut or check_pages(path, marker, readonly=readonly, rows=not readonly and not repairing) or blur
        connections = connect(path, readonly=readonly, lenient=damage is not None)
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


def _read_marker(directory: Path, *, readonly: bool) -> tuple[dict[str, Any] | None, str | None]:
    """The marker and, where it is damaged and the store is opened for reading only, the sentence about that."""
    try:
        return read_marker(directory), None
    except DamageError as error:
        if not readonly:
            raise
        return {}, str(error)


def holds_store(directory: Path) -> bool:
    """Does the directory hold a store, or the remains of one?"""
    return any((directory / name).exists() for name in (MARKER, FILE))


def check_pages(path: Path, marker: dict[str, Any] | None, *, readonly: bool, rows: bool = False) -> str | None:
    """Check an existing database, and the checksums of its `rows` where asked.

    Returns the sentence about its damage where it is opened for reading only: what is left can still be
    saved.

    Raises:
        InputError, StoreError: see `checks.check_integrity`.
    """
    if not path.exists() or path.stat().st_size == 0 or (marker is None and path.with_name(f"{FILE}-journal").exists()):
        return None  # new, or its making was interrupted, which SQLite undoes by itself
    try:
        reader = Reader(path, immutable=readonly and _is_frozen(path))
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


def connect(path: Path, *, readonly: bool, lenient: bool = False) -> tuple[Reader, Database | None]:
    """The connections of a store: one that cannot write and, unless `readonly`, diskcache's for the writer.

    `lenient` reads a damaged database as far as it goes.

    Raises:
        InputError: settings of another program.
        StoreError: the database cannot be opened.
    """
    try:
        if readonly:
            return Reader(path, immutable=_is_frozen(path), lenient=lenient), None
        database = Database(path.parent)
        try:
            reader = Reader(path)
        finally:
            database.close()  # this thread's connection; the writer opens its own
    except sqlite3.Error as error:
        raise explain(error, path, doing="open") from error
    return reader, database


def _is_frozen(path: Path) -> bool:
    """A directory that cannot be written, without a log to read: nobody can be writing the database."""
    log = path.with_name(f"{FILE}-wal")
    return not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)


def describe_network(directory: Path) -> str | None:
    """What to say where the directory is on a network file system, as far as this system tells."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None  # no such table on this system
    kind = find_network_type(mounts, PurePosixPath(os.path.realpath(directory)))  # which takes a link to itself too
    if kind is None:
        return None
    return (
        f"The cache directory {directory} is on a network file system ({kind}), where SQLite's log does not work and "
        "answers could be lost: choose a local directory (--cache DIR); answers that are here are moved by "
        f"`explaineval cache export --cache {directory} --out FILE` and `explaineval cache import FILE --cache DIR`."
    )
