"""Packs: answers in a file that can be sent to others and laid into any store.

A pack is gzipped JSONL in UTF-8, a line an answer: `{"key", "request", "completion"}`, where `request` is the canonical
form that hashes to `key`, and `completion` has no defaults and no nulls, as in a store. What is known of the endpoints
of these answers comes along in lines of the same three fields, their request `{"schema", "verdict"}`. The lines stand
in the order of their keys, answers first; the same answers give the same bytes, from whatever store they come. There
are no secrets in a pack, because there are none in a key.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from explaineval.cache.gzip_members import Line, MemberWriter, is_gzip, read_lines
from explaineval.cache.keys import canonical, hash_canonical
from explaineval.cache.reader import read_answer
from explaineval.cache.rows import (
    MAX_BYTES,
    RefusedRowError,
    decode,
    encode,
    find_name,
    make_row,
    name_request,
    verdict_name,
)
from explaineval.cache.store import Store
from explaineval.errors import InputError
from explaineval.files import open_atomic
from explaineval.records import Completion, Request

MAX_LINE = MAX_BYTES + 256
"""Longest line in bytes: a row of the largest size and its key."""

MAX_SENTENCES = 100
IN_FLIGHT = 500
"""Lines that wait for their commit at the same time: as many as one transaction takes."""


@dataclass(frozen=True)
class Exported:
    """What went into a pack: answers, verdicts, keys that were asked for and not found (in order), bytes of the file.

    `refused` counts rows that could not be read.
    """

    entries: int
    verdicts: int
    missing: tuple[str, ...]
    bytes: int
    refused: int


@dataclass(frozen=True)
class Imported:
    """What came out of a pack: answers that are new, that were there, that are there with another completion.

    `refused` holds a sentence a line that was not used, `MAX_SENTENCES` at most and a last one on how many more;
    `verdicts` counts new ones.
    """

    added: int
    present: int
    conflicting: int
    refused: tuple[str, ...]
    verdicts: int


def export_pack(
    store: Store,
    target: Path,
    *,
    keys: Collection[str] | None = None,
    wanted: Callable[[Request], bool] | None = None,
) -> Exported:
    """Write a pack of all answers, or of those under `keys`, or of those whose request is `wanted`, or of both.

    The file takes its place when it is whole. A file that is there is replaced, but not by
    what a damaged store has left.

    Raises:
        InputError: the file cannot be written, or is there and the store is damaged.
        StoreError: the store cannot be read now.
    """
    before = store.refusals
    missing = set() if keys is None else set(keys)
    names: set[str] = set()
    entries = verdicts = 0
    with _open_pack(target) as handle:
        writer = MemberWriter(handle)
        for key, request, completion in store.iterate(keys):
            missing.discard(key)
            if wanted is None or wanted(request):
                row = make_row(canonical(request), completion)
                writer.write(_spell(key, row["request"], row["completion"]))
                names.add(verdict_name(request.endpoint, request.model))
                entries += 1
        named = ((hash_canonical(name_request(name)), name) for name in names)
        for key, name in sorted(named):
            document = store.get_verdict(name)
            if document is not None:
                writer.write(_spell(key, name_request(name), document))
                verdicts += 1
        writer.close()
        if target.exists() and (store.refusals > before or store.damage is not None):
            raise InputError(
                f"{target} exists and was left as it is, because the store is damaged and the new pack may hold less: "
                "give another --out."
            )
    return Exported(entries, verdicts, tuple(sorted(missing)), target.stat().st_size, store.refusals - before)


async def import_pack(store: Store, source: Path) -> Imported:
    """Lay the answers of a pack into a store. What is there stays: numbers rest on it.

    Each line is looked at by itself; one whose request does not hash to its key, or whose completion cannot be read,
    is refused, and the others are stored. A row of the store that cannot be read is replaced by the pack's.

    Raises:
        InputError: the file cannot be read, or is no pack at all.
        StoreError: the store cannot be written or read (disk full, locked, read-only, damaged).
    """
    intake = _Intake(store, source)
    try:
        with source.open("rb") as handle:
            if not is_gzip(handle):
                raise InputError(f"{source} is not a pack: it is not a gzip file. Give a file of `cache export`.")
            for line in read_lines(handle, MAX_LINE):
                await intake.take(line)
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}.") from error
    finally:
        await intake.settle()
    return intake.result()


class _Intake:
    """Stores lines, some hundreds at a time, and counts what became of them."""

    def __init__(self, store: Store, source: Path) -> None:
        self._store = store
        self._source = source
        self._waiting: deque[asyncio.Task[None]] = deque()
        self._counts = {"added": 0, "present": 0, "conflicting": 0, "verdicts": 0}
        self._refused: list[str] = []
        self._unlisted = 0

    async def take(self, line: Line) -> None:
        """Begin to store a line; waits where too many are under way."""
        try:
            if line.data is None:
                raise RefusedRowError(line.fault)
            if not line.data.strip():
                return
            found = read_line(line.data)
        except RefusedRowError as error:
            self._refuse(f"{self._source}:{line.number}: {error}.")
            return
        work = self._add_verdict(*found) if isinstance(found[1], dict) else self._add(*found)
        self._waiting.append(asyncio.create_task(work))
        if len(self._waiting) >= IN_FLIGHT:
            await self._waiting.popleft()

    async def settle(self) -> None:
        """Wait for what is under way."""
        results = await asyncio.gather(*self._waiting, return_exceptions=True)
        self._waiting.clear()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def result(self) -> Imported:
        """What became of the lines so far."""
        more = (f"{self._source}: {self._unlisted} more lines were refused.",) if self._unlisted else ()
        return Imported(refused=(*self._refused, *more), **self._counts)

    async def _add(self, key: str, request: Request, completion: Completion) -> None:
        if await self._store.add(request, completion):
            self._counts["added"] += 1
            return
        self._counts["present" if self._store.get(key) == completion else "conflicting"] += 1

    async def _add_verdict(self, name: str, document: dict[str, Any]) -> None:
        stored = await self._store.add_verdict(name, document)
        self._counts["verdicts"] += stored

    def _refuse(self, sentence: str) -> None:
        if len(self._refused) < MAX_SENTENCES:
            self._refused.append(sentence)
        else:
            self._unlisted += 1


Verdict = tuple[str, dict[str, Any]]


def read_line(data: bytes) -> tuple[str, Request, Completion] | Verdict:
    """An answer, or the name and the document of a verdict.

    Raises:
        RefusedRowError: neither of both, or not what its key stands for.
    """
    entry = decode(data)
    if not isinstance(entry, dict) or entry.keys() != {"key", "request", "completion"}:
        raise RefusedRowError("it does not hold a key, a request and a completion")
    key, request, completion = entry["key"], entry["request"], entry["completion"]
    if not isinstance(key, str):
        raise RefusedRowError("its key is no text")
    name = find_name(request) if isinstance(request, dict) else None
    if name is None:
        return read_answer(key, {"request": request, "completion": completion})
    try:
        found = hash_canonical(request)
    except InputError as error:
        raise RefusedRowError(f"its request has no key ({error})") from error
    if found != key:
        raise RefusedRowError("its request is not the one that its key stands for")
    if not isinstance(completion, dict):
        raise RefusedRowError("it holds no document on an endpoint")
    return name, completion


def _spell(key: str, request: dict[str, Any], completion: dict[str, Any]) -> bytes:
    """A line; names sorted, since stores keep the order in which a parameter or a count came."""
    parts = (key.encode("ascii"), encode(request, ordered=True), encode(completion, ordered=True))
    return b'{"key":"%b","request":%b,"completion":%b}' % parts


@contextmanager
def _open_pack(target: Path) -> Iterator[BinaryIO]:
    """Open a pack for writing; it replaces an older one when it is whole. An error of the disk names the pack."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(target, durable=True) as handle:
            yield handle
    except OSError as error:
        raise InputError(f"The pack {target} cannot be written: {error.strerror or error}.") from error
