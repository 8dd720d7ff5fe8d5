"""The journal of batches: each is recorded on the disk before it is submitted, so that none is lost or bought twice.

A batch has two files under `<cache>/batches/`. `<tag>.requests.jsonl` holds its requests in canonical form; it is
written once and deleted when the batch is closed. `<tag>.json` is the batch's entry and is replaced as a whole. Both
are on the disk before the step that they announce. Neither contains a key or another secret.

The states are planned → submitting → submitted → ended → fetched; abandoned can follow each of the others, with a
reason. Between "submitting" and "submitted" nobody knows whether the batch exists: the provider's list must tell.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Self

from pydantic import ValidationError

from explaineval.cache import canonical, request_from, request_key
from explaineval.errors import InputError, StoreError
from explaineval.files import open_atomic
from explaineval.records import Record, Request

DIRECTORY = "batches"
"""Where the journal is kept, inside the cache directory."""
ENTRY, REQUESTS, LOCK = ".json", ".requests.jsonl", ".lock"
CLOCK_STEP = 2 * 10**9
"""Nanoseconds within which two changes of a directory may carry the same time."""

State = Literal["planned", "submitting", "submitted", "ended", "fetched", "abandoned"]
CLOSED: tuple[State, ...] = ("fetched", "abandoned")


class JournalEntry(Record):
    """How far one batch is. `created` is in seconds since the epoch.

    `turn` counts the batches into which these requests went, this one included, and grows after a batch that brought
    no answer for them. `tries` counts how often they were to be submitted in this turn. `uploaded` is the id of the
    file of which the batch was made, where the provider has such a step.
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


class BatchJournal:
    """The entries of one cache about one model at one endpoint."""

    def __init__(self, directory: Path, provider: str, endpoint: str | None, model: str) -> None:
        self.directory = directory
        self.model = model
        self._about = (provider, endpoint, model)

    def plan(
        self, tag: str, requests: Iterable[tuple[str, Request]], created: float, turn: int = 1, tries: int = 1
    ) -> JournalEntry:
        """Record a new batch: its requests (with their keys) and its entry are on the disk when this returns.

        Raises:
            StoreError: they cannot be written.
        """
        self._make_directory()
        count = 0
        with self._replacing(self._path(tag, REQUESTS)) as handle:
            for key, request in requests:
                line = {"key": key, "request": canonical(request)}
                handle.write(json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
                count += 1
        provider, endpoint, model = self._about
        entry = JournalEntry(
            tag=tag, provider=provider, endpoint=endpoint, model=model, count=count, state="planned", created=created,
            turn=turn, tries=tries,
        )  # fmt: skip
        return self.update(entry, "planned")

    def update(self, entry: JournalEntry, state: State, **changes: str | None) -> JournalEntry:
        """Write the entry in another state and return it. The requests of a closed batch are deleted.

        `changes` are values for `uploaded`, `batch` and `reason`.

        Raises:
            StoreError: the entry cannot be written.
        """
        updated = entry.model_copy(update={"state": state, **changes})
        with self._replacing(self.path_of(entry)) as handle:
            handle.write(updated.model_dump_json(indent=1).encode() + b"\n")
        if state in CLOSED:
            self._path(entry.tag, REQUESTS).unlink(missing_ok=True)
        return updated

    def open_entries(self, closed: set[Path] | None = None) -> list[JournalEntry]:
        """Return the entries of this model whose batches are not closed, oldest first.

        Files in `closed` are not read; those that never need to be read again are added to it.

        Raises:
            InputError: an entry is damaged.
        """
        entries = []
        for path, entry in self._read_entries(closed or set()):
            if entry.state not in CLOSED and self._is_ours(entry):
                entries.append(entry)
            elif closed is not None:
                closed.add(path)
        return sorted(entries, key=lambda entry: (entry.created, entry.tag))

    def has_batches(self) -> bool:
        """Return whether a batch of this model was ever made: then its endpoint takes batches."""
        return any(entry.batch is not None and self._is_ours(entry) for _, entry in self._read_entries(set()))

    def batch_ids(self) -> frozenset[str]:
        """Return the ids of all batches in this cache's journal, whatever their model.

        Raises:
            InputError: an entry is damaged.
        """
        return frozenset(entry.batch for _, entry in self._read_entries(set()) if entry.batch is not None)

    def requests(self, entry: JournalEntry) -> RequestFile:
        """Open the requests of a batch that is not closed."""
        return RequestFile(self._path(entry.tag, REQUESTS))

    def path_of(self, entry: JournalEntry) -> Path:
        """Return the file that holds this entry."""
        return self._path(entry.tag, ENTRY)

    @contextmanager
    def lock(self, tag: str | None = None) -> Iterator[bool]:
        """Try to become the one process that works on this model's batches, or on one of them; yields whether it is.

        The kernel drops the lock with its process, however that ends.

        Raises:
            StoreError: the directory cannot be written.
        """
        self._make_directory()
        name = tag or hashlib.sha256(json.dumps(self._about).encode()).hexdigest()[:32]
        try:
            handle = os.open(self._path(name, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise self._unwritable(exc) from exc
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = True
            except BlockingIOError:
                locked = False
            yield locked
        finally:
            os.close(handle)

    def drop_lock(self, tag: str) -> None:
        """Remove the file of a closed batch's lock."""
        with suppress(OSError):
            self._path(tag, LOCK).unlink()

    def _is_ours(self, entry: JournalEntry) -> bool:
        return (entry.provider, entry.endpoint, entry.model) == self._about

    def _read_entries(self, skipped: Collection[Path]) -> Iterator[tuple[Path, JournalEntry]]:
        for path in sorted(self.directory.glob(f"*{ENTRY}")):
            if path in skipped:
                continue
            try:
                yield path, JournalEntry.model_validate_json(path.read_bytes())
            except (OSError, ValidationError) as exc:
                raise InputError(
                    f"{path} cannot be read, or was written by another version: it records a batch that may be paid "
                    "for; restore it, or remove it to give that batch up."
                ) from exc

    def _path(self, name: str, suffix: str) -> Path:
        return self.directory / f"{name}{suffix}"

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise self._unwritable(exc) from exc

    def _unwritable(self, exc: OSError) -> StoreError:
        return StoreError(f"{self.directory} cannot be written ({exc.strerror or exc}): make the cache writable.")

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[BinaryIO]:
        try:
            with open_atomic(path, durable=True) as handle:
                yield handle
        except OSError as exc:
            raise StoreError(
                f"{path} cannot be written ({exc.strerror or exc}): nothing was submitted after it."
            ) from exc


class RequestFile:
    """The requests of a batch by their keys, read from the disk one at a time. Use it as a context manager.

    Raises InputError for a file that is damaged or missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offsets: dict[str, int] = {}
        try:
            self._file = path.open("rb")
        except OSError as exc:
            raise self._damaged(exc.strerror or exc) from exc
        try:
            offset = 0
            for line in self._file:
                self._offsets[json.loads(line)["key"]] = offset
                offset += len(line)
        except (OSError, ValueError, KeyError, TypeError) as exc:
            self._file.close()
            raise self._damaged(exc) from exc

    def get(self, key: str) -> Request | None:
        """Return the request of a key, None where no request here has it."""
        offset = self._offsets.get(key)
        if offset is None:
            return None
        self._file.seek(offset)
        try:
            request = request_from(json.loads(self._file.readline())["request"])
        except (OSError, ValueError, KeyError, TypeError, InputError) as exc:
            raise self._damaged(exc) from exc
        if request_key(request) != key:
            raise self._damaged("a request stands under another's key")
        return request

    def __iter__(self) -> Iterator[str]:
        return iter(self._offsets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _damaged(self, reason: object) -> InputError:
        return InputError(
            f"{self._path} cannot be read ({reason}): the answers of its batch cannot be fetched without it; restore "
            "it, or remove all files of that name to give the batch up."
        )


@dataclass
class PendingKeys:
    """The keys of requests in batches that are not closed, read from the disk, which other processes change too.

    To send one of these requests alone would buy it twice. Look here after claiming a key and before looking for its
    answer in the store: the answers of a batch that is closed by then are there.
    """

    journal: BatchJournal
    _changed: int | None = field(default=None, init=False)
    _closed: set[Path] = field(default_factory=set, init=False)
    _keys: dict[str, frozenset[str]] = field(default_factory=dict, init=False)
    """By the tag of their batch."""

    def __contains__(self, key: object) -> bool:
        """Raises InputError as `BatchJournal.open_entries`."""
        self._refresh()
        return any(key in keys for keys in self._keys.values())

    def __iter__(self) -> Iterator[str]:
        self._refresh()
        return itertools.chain.from_iterable(self._keys.values())

    def _refresh(self) -> None:
        """Read the journal anew, unless its directory has been unchanged for longer than CLOCK_STEP."""
        now = time.time_ns()
        try:
            changed = self.journal.directory.stat().st_mtime_ns
        except OSError:  # nothing was ever submitted
            self._keys = {}
            return
        if changed == self._changed:
            return
        self._changed = changed if now - changed > CLOCK_STEP else None
        current = {}
        for entry in self.journal.open_entries(self._closed):
            if entry.state != "planned":
                keys = self._keys.get(entry.tag) or self._read(entry)
                if keys is not None:
                    current[entry.tag] = keys
        self._keys = current

    def _read(self, entry: JournalEntry) -> frozenset[str] | None:
        try:
            with self.journal.requests(entry) as requests:
                return frozenset(requests)
        except InputError:
            if any(other.tag == entry.tag for other in self.journal.open_entries()):
                raise
            return None  # another process closed it meanwhile
