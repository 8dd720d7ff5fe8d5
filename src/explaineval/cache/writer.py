"""The thread that writes: rows are committed in groups, so that a write never blocks the event loop.

A write in a coroutine would stop the loop for as long as another process holds the database's lock. Here the thread
takes all that is queued, writes it in one transaction, and only then completes the futures. While several rows come at
a time it waits a moment for more of them, since a transaction costs as much as writing many rows.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import diskcache

from explaineval.cache.database import DAMAGE, FILE, Database, Version, explain, find_cause, primary_code
from explaineval.cache.rows import Packed, RefusedRowError, pack
from explaineval.errors import InputError, StoreError

MAX_BATCH = 500
"""Rows in one transaction at most: bounds how long other processes wait for the lock."""

ENOUGH, PAUSE, PAUSES = 8, 0.01, 3
"""While rows come close together, the thread waits for so many of them, for PAUSES times PAUSE seconds at the most."""

Action = Literal["set", "add", "delete"]
"""What is done with a row: it is stored, stored unless there is one, or deleted."""


@dataclass(eq=False)
class _Job:
    action: Action
    target: str | Version
    value: object
    done: asyncio.Future[bool]
    packed: Packed | None = None
    changed: bool = False
    failure: StoreError | None = None


class Writer:
    """Writes and deletes rows in a thread of its own; `submit` returns at once with a future of the running loop."""

    def __init__(self, database: Database, warn: Callable[[str], None]) -> None:
        self._database = database
        self._warn = warn
        self._path = Path(database.directory) / FILE
        self._file = _identity(self._path)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open = True
        self._batch: list[_Job] = []
        self._crowded = False
        """Whether rows come so close together that waiting for more of them pays."""
        self.damage: StoreError | None = None
        """The error by which writing showed that the database is damaged; nothing is written any more."""
        self.failed = False
        """Whether the latest transaction could not be written."""
        self._thread = threading.Thread(target=self._run, name="explaineval-cache-writer", daemon=True)
        self._thread.start()

    def submit(self, action: Action, target: str | Version, value: object = None) -> asyncio.Future[bool]:
        """Queue a change of one row. The future is done once it is committed, or holds a StoreError.

        `set` and `add` take a key and a JSON value. `delete` takes a key, or a version, which stays if it was stored
        anew since it was seen. The future's result says whether anything was changed.

        Raises:
            StoreError: the writer is closed.
        """
        job = _Job(action, target, value, asyncio.get_running_loop().create_future())
        with self._lock:
            if not self._open:
                raise StoreError(f"The cache {self._path} is closed: nothing can be stored any more.")
            self._jobs.put(job)
        return job.done

    def close(self) -> None:
        """Write all that was queued, then end the thread. Closing again does nothing."""
        with self._lock:
            if self._open:
                self._open = False
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._take():
                several = len(self._batch) > 1
                failure = self._commit()
                self.failed = failure is not None
                self._crowded = several or not self._jobs.empty()
                self._finish_batch(failure)
        finally:  # reached without an exception only after close(); otherwise no future may be left undone
            with self._lock:
                self._open = False
            while not self._jobs.empty():
                self._batch += [job for job in [self._jobs.get()] if job is not None]
            self._finish_batch(StoreError(f"The thread that writes the cache {self._path} stopped: run again."))
            self._database.close()

    def _take(self) -> bool:
        """Fill the batch with what is queued, at least one job; False once closed and empty."""
        job = self._jobs.get()
        if self._crowded and job is not None:
            self._wait_for_more()
        while job is not None:
            self._batch.append(job)
            if len(self._batch) == MAX_BATCH or self._jobs.empty():
                return True
            job = self._jobs.get()
        if self._batch:
            self._jobs.put(None)  # closing: the batch is written first, then this is seen again
        return bool(self._batch)

    def _wait_for_more(self) -> None:
        for _ in range(PAUSES):
            time.sleep(PAUSE)
            if self._jobs.qsize() >= ENOUGH or not self._open:
                return

    def _commit(self) -> StoreError | None:
        """Write the batch in one transaction; returns the error that hit all of it, if any."""
        if self.damage is not None:
            return self.damage
        self._pack()
        if not self._batch:
            return None
        if _identity(self._path) != self._file:  # what is written now could never be found again
            self.damage = StoreError(
                f"The cache {self._path} was removed or replaced while it was in use, so that answers can no longer be "
                "kept: put it back, or choose another --cache, and run again."
            )
            return self.damage
        try:
            self._database.prepare_writes()
            with self._database.transact():
                for job in self._batch:
                    job.changed = self._perform(job)
        except (sqlite3.Error, diskcache.Timeout, OSError, InputError) as error:
            failure = explain(error, self._path, doing="write to")
            cause = find_cause(error)
            if isinstance(cause, sqlite3.Error) and primary_code(cause) in DAMAGE:
                self.damage = failure
            self._database.close()  # a transaction that could not end stays open with its connection
            return failure
        return None

    def _perform(self, job: _Job) -> bool:
        if isinstance(job.target, tuple):
            return self._database.delete_version(*job.target)
        if job.action == "delete":
            return self._database.delete_key(job.target)
        return bool((self._database.add if job.action == "add" else self._database.set)(job.target, job.packed))

    def _pack(self) -> None:
        """Compress the rows before the lock is taken; a value that is not JSON fails alone."""
        packed = []
        for job in self._batch:
            try:
                if job.action != "delete":
                    job.packed = pack(job.value)
            except RefusedRowError as error:
                job.failure = StoreError(str(error))
                self._hand_back([job])
            else:
                packed.append(job)
        self._batch = packed

    def _finish_batch(self, failure: StoreError | None) -> None:
        batch, self._batch = self._batch, []
        for job in batch:
            if failure is not None:
                job.failure = StoreError(str(failure))  # one for each: a raised error grows a traceback
                job.failure.full = failure.full
        self._hand_back(batch)

    def _hand_back(self, jobs: list[_Job]) -> None:
        """Complete the futures of jobs, in their loop's thread, which is woken once for all of them."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
        for job in jobs:
            by_loop.setdefault(job.done.get_loop(), []).append(job)
        for loop, its_jobs in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._complete, its_jobs)
            except RuntimeError:  # the loop is closed: nobody waits
                self._warn_of(its_jobs)

    def _complete(self, jobs: list[_Job]) -> None:
        """Complete futures. A cancelled job was written all the same, and nobody waits for it."""
        self._warn_of([job for job in jobs if job.done.cancelled()])
        for job in jobs:
            if job.done.cancelled():
                continue
            if job.failure is None:
                job.done.set_result(job.changed)
            else:
                job.done.set_exception(job.failure)

    def _warn_of(self, jobs: list[_Job]) -> None:
        """Warn of failures of which nobody else is told."""
        for job in jobs:
            if job.failure is not None:
                self._warn(str(job.failure))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from another one of the same name; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
