"""The store of paid answers: `open_store` is the only place where a cache is opened.

Reads stay on the event loop (tens of microseconds, never waiting for a writer, thanks to SQLite's log);
writes go through one thread. Several processes may share one store. The last put of a key wins.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from explaineval.cache.checks import check_files, read_marker, write_marker
from explaineval.cache.databases import FILE, Database
from explaineval.cache.disks import RefusedRowError
from explaineval.cache.keys import canonical, hash_canonical, request_from
from explaineval.cache.openings import check_pages, connect, describe_network, holds_store
from explaineval.cache.readers import Reader
from explaineval.cache.rows import make_row, read_completion, read_verdict, verify_row
from explaineval.cache.summaries import StoreStats, summarise
from explaineval.cache.writers import Writer
from explaineval.errors import InputError, StoreError
from explaineval.records import Completion, Request

MAX_WARNINGS = 100

_VERDICT = "verdict:"
_log = logging.getLogger("explaineval.cache")


class Store:
    """Answers by key. Made by `open_store`; closed by `close` or as a context manager.

    Reading methods belong to one thread at a time, best that of the event loop.
    """

    def __init__(self, directory: Path, reader: Reader, database: Database | None) -> None:
        self.directory = directory
        self._reader = reader
        self._warnings: dict[str, None] = {}
        self._unlisted = 0
        self._refusals = 0
        self._seen_damage = False
        self._closed = False
        self._writer = None if database is None else Writer(database, self.warn)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong without stopping anything: `MAX_WARNINGS` sentences at most, and a count."""
        more = (f"{self._unlisted} more warnings are not listed.",) if self._unlisted else ()
        return (*self._warnings, *more)

    def warn(self, text: str) -> None:
        """Collect a warning, and log it the first time."""
        if text in self._warnings:
            return
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings[text] = None
            _log.warning("%s", text)
        else:
            self._unlisted += 1

    def get(self, key: str) -> Completion | None:
        """The answer under a key, after checking that it was stored for the request of that key.

        A row that is unreadable or refused is a miss and a warning.

        Raises:
            StoreError: the database cannot be read now (locked, disk failure): not a miss, or it would be
                bought again.
        """
        try:
            row = self._fetch(key)
            if row is None:
                return None
            verify_row(key, row)
            return read_completion(row)
        except RefusedRowError as error:
            self._warn_refused(key, error)
            return None

    async def put(self, request: Request, completion: Completion) -> None:
        """Store an answer; returns once it is committed to the disk. Cancelling it does not undo the write.

        Raises:
            InputError: the request has no key.
            StoreError: not stored: disk full, locked too long, read-only, damaged, closed, or not JSON.
        """
        entries = canonical(request)
        await self._write(hash_canonical(entries), make_row(entries, completion))

    def get_verdict(self, name: str) -> dict[str, Any] | None:
        """The document kept about an endpoint, None where there is none or (with a warning) none readable.

        Raises:
            StoreError: see `get`.
        """
        key = f"{_VERDICT}{name}"
        try:
            row = self._fetch(key)
            if row is None:
                return None
            return read_verdict(name, row)
        except RefusedRowError as error:
            self._warn_refused(key, error)
            return None

    async def put_verdict(self, name: str, verdict: dict[str, Any]) -> None:
        """Keep a small JSON document about an endpoint; it replaces the former one and is not an answer.

        Raises:
            StoreError: see `put`.
        """
        await self._write(f"{_VERDICT}{name}", {"name": name, "verdict": verdict})

    def iterate(self) -> Iterator[tuple[str, Request, Completion]]:
        """All answers in the order of their keys, in bounded memory; bad rows are skipped with a warning.

        Raises:
            StoreError: see `get`.
        """
        for key, entries, row in self._iterate_rows():
            try:
                answer = key, request_from(entries), read_completion(row)
            except (RefusedRowError, InputError) as error:
                self._warn_refused(key, error)
            else:
                yield answer

    def stats(self) -> StoreStats:
        """Counts over all rows, read one by one.

        Raises:
            StoreError: see `get`.
        """
        before = self._refusals
        models = summarise(self.iterate())
        return StoreStats(
            entries=sum(group.entries for group in models),
            refused=self._refusals - before,
            bytes=sum(path.stat().st_size for path in self.directory.glob(f"{FILE}*")),
            models=models,
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
        clean = self._writer.damage is None and not self._seen_damage
        try:
            write_marker(self.directory, read_marker(self.directory), clean=clean)
        except (OSError, InputError) as error:
            _log.warning("The marker of the cache %s was not renewed: %s", self.directory, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fetch(self, key: str) -> Any:
        self._require_open()
        return self._reader.fetch(key)

    def _require_open(self) -> None:
        if self._closed:
            raise StoreError(f"The cache {self.directory} is closed: nothing can be read any more.")

    async def _write(self, key: str, value: object) -> None:
        if self._writer is None:
            raise StoreError(f"The cache {self.directory} is open for reading only: nothing can be stored.")
        await asyncio.wrap_future(self._writer.submit(key, value))

    def _iterate_rows(self) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
        """(key, canonical request, row) of rows whose request hashes to their key."""
        self._require_open()
        try:
            for key in self._reader.iterate_keys():
                try:
                    row = self._fetch(key)
                    if row is None:
                        continue  # deleted meanwhile
                    entries = verify_row(key, row)
                except RefusedRowError as error:
                    self._warn_refused(key, error)
                else:
                    yield key, entries, row
            strangers = self._reader.count_strangers()
        except RefusedRowError as error:
            self._seen_damage = True
            self.warn(f"The rows of the cache {self.directory} cannot all be listed: {error}.")
            return
        if strangers:
            self.warn(f"The cache {self.directory} holds {strangers} rows that are no answers: ignored.")

    def _warn_refused(self, key: str, error: Exception) -> None:
        self._refusals += 1
        if isinstance(error.__cause__, sqlite3.DatabaseError):
            self._seen_damage = True  # then the next opening checks every page
        self.warn(f"The row {key} of the cache {self.directory} was not used: {error}.")


def open_store(directory: Path, *, readonly: bool = False) -> Store:
    """Open the store in a directory, making both where they are missing (never with `readonly`).

    Raises:
        InputError: the directory cannot be used; the database is damaged, lost, or another program's; with
            `readonly`, there is no store.
        StoreError: another process kept the database locked, or the disk fails.
    """
    directory = Path(os.path.abspath(directory))  # noqa: PTH100  # keeps links: messages name the user's path
    path = directory / FILE
    try:
        if readonly and not holds_store(directory):
            raise InputError(f"There is no cache in {directory}: check the path.")
        if not readonly:
            directory.mkdir(parents=True, exist_ok=True)
        marker = read_marker(directory)
        check_files(directory, marker)
        damage = check_pages(path, marker, readonly=readonly)
        store = Store(directory, *connect(path, readonly=readonly))
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
    for warning in (damage, describe_network(directory)):
        if warning is not None:
            store.warn(warning)
    return store
