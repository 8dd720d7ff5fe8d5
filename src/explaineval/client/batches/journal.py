"""What was submitted, on disk before it is submitted: a batch is neither lost nor bought twice, however a run ends.

One batch is two files under `<cache>/batches/`: `<tag>.requests.jsonl`, its requests in canonical form, written once
and gone when all its answers are stored; and `<tag>.json`, a page on how far it is, replaced as a whole. Both reach
the disk before the step that they announce. No key and no secret is in them.

planned → submitting → submitted → ended → fetched, or abandoned with a reason from wherever it was. Between
"submitting" and "submitted" nobody knows whether the batch exists: then the provider's list must tell.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from explaineval.client.batches.protocol import BatchFailure, RequestFile, replacing, write_requests
from explaineval.errors import InputError, StoreError
from explaineval.records import Completion, Record, Request

Reserve = Callable[[Request], bool]
"""Whether the request fits the spending limit; it is then reserved until it is settled."""
Settle = Callable[[Request, Completion | None], None]
"""What a request came to: its completion, or None for one that was reserved here and got no answer."""


@dataclass
class BatchOutcome:
    """What a course of batches came to.

    `failed` has a reason for each request that was asked, or refused, without an answer; `unsent` counts those that
    never went into a batch (spending limit, stopped, endpoint unusable); `waiting`: batches go on at the provider, and
    the next course fetches them. `faults` say why an endpoint could not be asked further. `submitted` counts requests
    put into batches now, `stored` answers that came into the store now, `elsewhere` requests that another process is
    asking for by itself: they went into no batch.
    """

    failed: dict[str, BatchFailure] = field(default_factory=dict)
    unsent: int = 0
    waiting: bool = False
    faults: list[str] = field(default_factory=list)
    submitted: int = 0
    stored: int = 0
    elsewhere: int = 0


@dataclass
class Books:
    """The outcome under way, and the hooks of the spending limit."""

    reserve: Reserve | None = None
    settle: Settle | None = None
    outcome: BatchOutcome = field(default_factory=BatchOutcome)
    _reserved: set[str] = field(default_factory=set)

    def admit(self, key: str, request: Request) -> bool:
        """Reserve a request; one that does not fit the limit counts as unsent."""
        if self.reserve is not None and not self.reserve(request):
            self.outcome.unsent += 1
            return False
        self._reserved.add(key)
        return True

    def answer(self, key: str, request: Request, completion: Completion) -> None:
        """Its completion is in the store, also that of a batch which an earlier run submitted."""
        self.outcome.stored += 1
        self.outcome.failed.pop(key, None)
        self._reserved.discard(key)
        if self.settle is not None:
            self.settle(request, completion)

    def release(self, key: str, request: Request) -> None:
        """It got no answer in this batch: what was reserved for it is free."""
        if key in self._reserved:
            self._reserved.discard(key)
            if self.settle is not None:
                self.settle(request, None)

    def withdraw(self, key: str, request: Request) -> None:
        """It does not go into a batch after all."""
        self.release(key, request)
        self.outcome.unsent += 1

    def fail(self, key: str, request: Request, failure: BatchFailure) -> None:
        """It is over for this request."""
        self.release(key, request)
        self.outcome.failed[key] = failure


DIRECTORY = "batches"
"""Where the ledgers are kept, inside the cache directory."""
PAGE, REQUESTS, LOCK = ".json", ".requests.jsonl", ".lock"
COARSE = 2 * 10**9
"""Nanoseconds within which two changes of a directory may carry the same time."""

State = Literal["planned", "submitting", "submitted", "ended", "fetched", "abandoned"]
CLOSED: tuple[State, ...] = ("fetched", "abandoned")


class Ledger(Record):
    """How far one batch is. `created` in seconds since the epoch.

    `turn` counts the batches that its requests went into, this one included, after one that was executed without an
    answer for them; `tries` how often these requests were about to be submitted in this turn. `uploaded` is the file
    that the batch was made of, where the provider has such a step.
    """

    format: Literal[1] = 1
    tag: str
    provider: str
    endpoint: str | None
    model: str
    count: int
    state: State
    created: float
    turn: int = 1
    tries: int = 1
    uploaded: str | None = None
    batch: str | None = None
    reason: str | None = None


class Shelf:
    """The ledgers of one cache that are about one model at one endpoint."""

    def __init__(self, directory: Path, provider: str, endpoint: str | None, model: str) -> None:
        self.directory = directory
        self._about = (provider, endpoint, model)

    def plan(self, tag: str, requests: Iterable[tuple[str, Request]], created: float, turn: int, tries: int) -> Ledger:
        """Plan a batch: its requests and its first page are on the disk when this returns. Raises StoreError."""
        self._make_directory()
        count = write_requests(self._path(tag, REQUESTS), requests)
        provider, endpoint, model = self._about
        ledger = Ledger(
            tag=tag, provider=provider, endpoint=endpoint, model=model, count=count, state="planned", created=created,
            turn=turn, tries=tries,
        )  # fmt: skip
        return self.move(ledger, "planned")

    def move(self, ledger: Ledger, state: State, **news: str | None) -> Ledger:
        """The ledger in its next state, on the disk when this returns. A closed one lets go of its requests.

        `news` are `uploaded`, `batch`, `reason`. Raises StoreError.
        """
        moved = ledger.model_copy(update={"state": state, **news})
        with replacing(self._path(ledger.tag, PAGE)) as out:
            out.write(moved.model_dump_json(indent=1).encode() + b"\n")
        if state in CLOSED:
            self._path(ledger.tag, REQUESTS).unlink(missing_ok=True)
        return moved

    def open_ledgers(self, done: set[Path] | None = None) -> list[Ledger]:
        """Those of this model whose batches are not done with, oldest first. Raises InputError for a damaged page.

        Pages in `done` are not read; those that need not be read again are added to it.
        """
        found = []
        for path, one in self._pages(done or set()):
            if one.state not in CLOSED and (one.provider, one.endpoint, one.model) == self._about:
                found.append(one)
            elif done is not None:
                done.add(path)
        return sorted(found, key=lambda one: (one.created, one.tag))

    def has_batches(self) -> bool:
        """Whether a batch of this model was ever made: then its endpoint takes them."""
        ours = (one for _, one in self._pages(set()) if (one.provider, one.endpoint, one.model) == self._about)
        return any(one.batch is not None for one in ours)

    def batches(self) -> frozenset[str]:
        """The ids of all batches that any ledger of this cache knows. Raises InputError for a damaged page."""
        return frozenset(one.batch for _, one in self._pages(set()) if one.batch is not None)

    def requests(self, ledger: Ledger) -> RequestFile:
        """The requests of an open ledger."""
        return RequestFile(self._path(ledger.tag, REQUESTS))

    def page(self, ledger: Ledger) -> Path:
        """The file that tells of this ledger."""
        return self._path(ledger.tag, PAGE)

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """Whether this process may work on this model's batches now: one at a time may, until it ends or lets go.

        The kernel drops the lock with its process, however that ends. Raises StoreError.
        """
        self._make_directory()
        name = hashlib.sha256(json.dumps(self._about).encode()).hexdigest()[:32]
        try:
            handle = os.open(self._path(name, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise self._unwritable(exc) from exc
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except BlockingIOError:
                held = False
            yield held
        finally:
            os.close(handle)

    def _pages(self, done: Collection[Path]) -> Iterator[tuple[Path, Ledger]]:
        for path in sorted(self.directory.glob(f"*{PAGE}")):
            if path in done:
                continue
            try:
                yield path, Ledger.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as exc:
                raise InputError(
                    f"{path} cannot be read, or was written by another version: it tells of a batch that may be paid "
                    "for; restore it, or remove it to give that batch up."
                ) from exc

    def _path(self, name: str, end: str) -> Path:
        return self.directory / f"{name}{end}"

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def _unwritable(self, exc: OSError) -> StoreError:
        return StoreError(f"{self.directory} cannot be written ({exc.strerror or exc}): make the cache writable.")


@dataclass
class PendingKeys:
    """The keys that are in batches under way, as the disk tells it at each look: other processes submit and fetch.

    Whoever asks for one of them buys it twice. Look after claiming a key and before looking for its answer in the
    store: a batch that is done with by then has its answers there.
    """

    shelf: Shelf
    _changed: int | None = field(default=None, init=False)
    _done: set[Path] = field(default_factory=set, init=False)
    _open: dict[str, frozenset[str]] = field(default_factory=dict, init=False)

    def __contains__(self, key: object) -> bool:
        """Raises InputError as `Shelf.open_ledgers`."""
        self._look()
        return any(key in keys for keys in self._open.values())

    def __iter__(self) -> Iterator[str]:
        self._look()
        return itertools.chain.from_iterable(self._open.values())

    def _look(self) -> None:
        """Read the pages anew, unless the directory is as it was and has been for longer than clocks are coarse."""
        now = time.time_ns()
        try:
            changed = self.shelf.directory.stat().st_mtime_ns
        except OSError:  # nothing was ever submitted
            self._open = {}
            return
        if changed == self._changed:
            return
        self._changed = changed if now - changed > COARSE else None
        found = {}
        for ledger in self.shelf.open_ledgers(self._done):
            if ledger.state != "planned":
                keys = self._open.get(ledger.tag) or self._read(ledger)
                if keys is not None:
                    found[ledger.tag] = keys
        self._open = found

    def _read(self, ledger: Ledger) -> frozenset[str] | None:
        try:
            with self.shelf.requests(ledger) as requests:
                return frozenset(requests)
        except InputError:
            if any(one.tag == ledger.tag for one in self.shelf.open_ledgers()):
                raise
            return None  # another process was done with it meanwhile


def pending_keys(directory: Path, provider: str, endpoint: str | None, model: str) -> set[str]:
    """The keys that are in batches under way: asking them now would buy them twice. Raises InputError as `Shelf`."""
    return set(PendingKeys(Shelf(directory, provider, endpoint, model)))
