"""Packs: files of answers that can be sent to others and imported into any store.

A pack is gzipped JSONL in UTF-8 with one answer a line: `{"key", "request", "completion"}`, where `request` is the
canonical form that hashes to `key`, and `completion` has no defaults and no nulls, as in a store. Where asked for,
a line also has the `address` that gave the answer. Verdicts on endpoints (all in a pack of the whole store, else those
of its answers) come in lines with the same three fields, whose request is `{"schema", "verdict"}`. The lines are in the
order of their keys, answers first; the same content gives the same bytes, whatever store it comes from. A pack contains
no secrets, because a key contains none.

The file has gzip members of about 1 MiB of whole lines, each with its own checksum, so that damage to one does
not spread; every reader takes them for one text. A member's checksum is checked before any of its lines is used,
because a flipped bit could turn one answer into another. A damaged member is skipped and the next one is looked for. A
file that is cut short is used as far as it goes.
"""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from explaineval.cache.keys import (
    MAX_BYTES,
    MAX_ORIGIN,
    UNKNOWN_ORIGIN,
    AnswerOrigin,
    RefusedRowError,
    StoredAnswer,
    canonical,
    check_key,
    decode,
    encode,
    hash_canonical,
    make_row,
    parse_answer,
    verdict_name,
    verdict_name_in,
    verdict_request,
)
from explaineval.cache.store import Store
from explaineval.errors import InputError
from explaineval.files import open_atomic, open_regular
from explaineval.records import Request
from explaineval.text import counted

HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""No flags, no file name, no time, unknown system: the same bytes wherever and whenever they are written."""

MEMBER = 2**20
"""Bytes of text after which a member is closed."""

SMALL = 64 << 20
"""Bytes up to which a member may be packed to any ratio."""

TIGHTEST = 100
"""The highest ratio of a larger member's size to its packed size: answers are never packed better, a bomb is."""

_LEVEL = 6
_CHUNK = 2**16
_GZIP = 31  # zlib's number for: a gzip header, a checksum at the end


@dataclass(frozen=True)
class PackLine:
    """A line of the text, or (with `data` None) the reason why it could not be read. `number` counts from 1."""

    number: int
    data: bytes | None
    fault: str | None = None


class MemberWriter:
    """Writes lines into members. Call `close` at the end; it writes at least one member."""

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self._waiting = bytearray()
        self._written = False

    def write(self, line: bytes) -> None:
        """Write a line, which holds no line break, and the break after it."""
        self._waiting += line + b"\n"
        if len(self._waiting) >= MEMBER:
            self._flush()

    def close(self) -> None:
        """Write what is left; the handle stays open."""
        if self._waiting or not self._written:
            self._flush()

    def _flush(self) -> None:
        deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = deflater.compress(self._waiting) + deflater.flush()
        sums = struct.pack("<II", zlib.crc32(self._waiting), len(self._waiting) & 0xFFFFFFFF)
        self._handle.write(HEADER + body + sums)
        self._waiting.clear()
        self._written = True


def is_gzip(handle: BinaryIO) -> bool:
    """Return whether the file begins like a gzip file."""
    handle.seek(0)
    return handle.read(3) == HEADER[:3]


def read_lines(handle: BinaryIO, limit: int) -> Iterator[PackLine]:
    """Yield the lines of a gzip file and what was unreadable, in memory bounded by `limit` (longest line in bytes).

    Raises:
        OSError: the file cannot be read.
    """
    lines = _LineSplitter(limit)
    place, size = 0, handle.seek(0, io.SEEK_END)
    while place < size:
        state, end = _check(handle, place)
        if state == "bomb":
            yield from lines.finish("it is torn")
            yield lines.missing(f"what follows is packed more than {TIGHTEST} times, as no text is; it was not read")
            return
        following = None if state == "whole" else _find_header(handle, place + 1)
        if place > 0 and following is None and state != "whole" and _is_padding(handle, place):
            break
        if state == "damaged" or following is not None:
            yield from lines.finish("it is torn")
            last = size if following is None else following
            yield lines.missing(f"bytes {place:,} to {last:,} of the file are damaged, none of their lines was used")
            place = last
            continue
        for text in _inflate(handle, place):
            yield from lines.split(text)
        if state == "cut":
            yield from lines.finish("it is torn")
            yield lines.missing("the file is cut short, what followed is lost")
            return
        place = end
    yield from lines.finish(None)


class _LineSplitter:
    """Splits a text that comes in pieces into numbered lines."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False
        self._number = 0

    def split(self, text: bytes) -> Iterator[PackLine]:
        """Yield the lines that end in this piece."""
        start = 0
        while (stop := text.find(b"\n", start)) >= 0:
            if self._skipping:
                self._skipping = False
            elif len(self._rest) + stop - start > self._limit:
                yield self._too_long()
            else:
                self._number += 1
                yield PackLine(self._number, bytes(self._rest + text[start:stop]))
            self._rest.clear()
            start = stop + 1
        if not self._skipping:
            self._rest += text[start:]
            if len(self._rest) > self._limit:
                yield self._too_long()
                self._rest.clear()
                self._skipping = True

    def finish(self, fault: str | None) -> Iterator[PackLine]:
        """Yield what is left without a line break: as a line, or as unreadable where there is a `fault`."""
        if self._rest:
            self._number += 1
            yield PackLine(self._number, bytes(self._rest) if fault is None else None, fault)
        self._rest.clear()
        self._skipping = False

    def missing(self, fault: str) -> PackLine:
        """Return an unreadable line in the place of lines that are missing."""
        return PackLine(self._number + 1, None, fault)

    def _too_long(self) -> PackLine:
        self._number += 1
        return PackLine(self._number, None, f"it is longer than {self._limit:,} bytes")


def _check(handle: BinaryIO, place: int) -> tuple[Literal["whole", "cut", "damaged", "bomb"], int]:
    """Inflate a member without keeping it; return its state and where it ends."""
    inflater, size = zlib.decompressobj(_GZIP), 0
    handle.seek(place)
    try:
        while not inflater.eof:
            data = inflater.unconsumed_tail or handle.read(_CHUNK)
            if not data:
                return "cut", handle.tell()
            size += len(inflater.decompress(data, MEMBER))
            if size > SMALL and size > TIGHTEST * (handle.tell() - place):
                return "bomb", place
    except zlib.error:
        return "damaged", place
    return "whole", handle.tell() - len(inflater.unused_data)


def _inflate(handle: BinaryIO, place: int) -> Iterator[bytes]:
    """Yield the text of a member that was checked, a piece at a time."""
    inflater = zlib.decompressobj(_GZIP)
    handle.seek(place)
    while not inflater.eof:
        data = inflater.unconsumed_tail or handle.read(_CHUNK)
        if not data:
            return
        yield inflater.decompress(data, MEMBER)


def _find_header(handle: BinaryIO, place: int) -> int | None:
    """Return where the next member that `MemberWriter` wrote begins."""
    handle.seek(place)
    window = b""
    while data := handle.read(_CHUNK):
        window += data
        found = window.find(HEADER)
        if found >= 0:
            return place + found
        kept = window[-len(HEADER) + 1 :]
        place += len(window) - len(kept)
        window = kept
    return None


def _is_padding(handle: BinaryIO, place: int) -> bool:
    """Return whether only zeros are left, which gzip's own tools ignore."""
    handle.seek(place)
    return all(not data.strip(b"\0") for data in iter(lambda: handle.read(_CHUNK), b""))


MAX_LINE = MAX_BYTES + 256
"""Longest line in bytes: a row of the largest size and its key."""

MAX_SENTENCES = 100
MOST_BLANK = 1_000
"""Blank lines that are passed over: packed, a billion of them takes a megabyte."""
IN_FLIGHT = 500
"""Lines that wait for their commit at the same time: as many as one transaction takes."""


@dataclass(frozen=True)
class PackContents:
    """What went into a pack.

    `entries` counts answers, `verdicts` documents on endpoints, `bytes` the size of the file, and `refused` rows that
    could not be read. `missing` holds the requested keys that are not in the store, in order.
    """

    entries: int
    verdicts: int
    missing: tuple[str, ...]
    bytes: int
    refused: int


@dataclass(frozen=True)
class Imported:
    """What came out of a pack: answers that are new, that were there, that are there with another completion.

    `refused` holds a sentence for each line that was not used, `MAX_SENTENCES` at most and a last one on how many more;
    `verdicts` counts new ones.
    """

    added: int
    present: int
    conflicting: int
    refused: tuple[str, ...]
    verdicts: int


class EndpointDocument(NamedTuple):
    """A document about an endpoint, and its name."""

    name: str
    document: dict[str, Any]


def export_pack(
    store: Store,
    target: Path,
    *,
    keys: Collection[str] | None = None,
    wanted: Callable[[Request], bool] | None = None,
    addresses: bool = False,
) -> PackContents:
    """Write a pack of all answers, or of those under `keys`, or of those whose request is `wanted`, or of both.

    `addresses` adds to each answer the base URL that gave it, where it is known.

    With the answers go the verdicts on their endpoints; with all answers, all verdicts (a probe leaves no answer).
    The file takes its place when it is whole. An existing file is replaced, unless the store is damaged and the new
    pack may hold less.

    Raises:
        InputError: the file cannot be written, or exists while the store is damaged.
        StoreError: the store cannot be read now.
    """
    before = store.refusals
    missing = set() if keys is None else set(keys)
    names = set(store.list_verdicts()) if keys is None and wanted is None else set()
    entries = verdicts = 0
    with _open_pack(target) as handle:
        writer = MemberWriter(handle)
        for key, request, completion in store.iterate(keys):
            missing.discard(key)
            if wanted is None or wanted(request):
                row = make_row(canonical(request), completion)
                address = store.latest_origin.address if addresses else None
                writer.write(_format_line(key, row["request"], row["completion"], address))
                names.add(verdict_name(request.endpoint, request.model))
                entries += 1
        for key, name in sorted((hash_canonical(verdict_request(name)), name) for name in names):
            document = store.get_verdict(name)
            if document is not None:
                writer.write(_format_line(key, verdict_request(name), document))
                verdicts += 1
        writer.close()
        if target.exists() and (store.refusals > before or store.damage is not None):
            raise InputError(
                f"{target} exists and was left as it is, because the store is damaged and the new pack may hold less: "
                "give another --out."
            )
    return PackContents(entries, verdicts, tuple(sorted(missing)), target.stat().st_size, store.refusals - before)


async def import_pack(store: Store, source: Path, origin: AnswerOrigin = UNKNOWN_ORIGIN) -> Imported:
    """Add the answers of a pack to a store. An answer that is there stays, because numbers rest on it.

    `origin` is stored beside each answer that is new.

    Each line is checked by itself. One whose request does not hash to its key, or whose completion cannot be read, is
    refused, and the others are stored. A row of the store that cannot be read is replaced by the pack's.

    Raises:
        InputError: the file cannot be read, or is no pack at all.
        StoreError: the store cannot be written or read (disk full, locked, read-only, damaged).
    """
    importer = _Importer(store, source, origin)
    try:
        with open_regular(source) as handle:
            if not is_gzip(handle):
                raise InputError(f"{source} is not a pack: it is not a gzip file. Give a file of `cache export`.")
            for line in read_lines(handle, MAX_LINE):
                await importer.take(line)
                if importer.blank > MOST_BLANK:
                    raise InputError(
                        f"{source}:{line.number}: more than {MOST_BLANK:,} lines are blank, which no pack of `cache "
                        "export` has; the answers before them were added, and nothing more of it is read."
                    )
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or error}.") from error
    finally:
        await importer.wait()
    return importer.result()


class _Importer:
    """Stores lines, some hundreds at a time, and counts what became of them."""

    def __init__(self, store: Store, source: Path, origin: AnswerOrigin) -> None:
        self._store = store
        self._origin = origin
        self._source = source
        self._tasks: deque[asyncio.Task[None]] = deque()
        self._counts = {"added": 0, "present": 0, "conflicting": 0, "verdicts": 0}
        self._refused: list[str] = []
        self._unlisted = 0
        self.blank = 0
        """How many lines were blank."""

    async def take(self, line: PackLine) -> None:
        """Begin to store a line; waits where too many are being stored."""
        try:
            if line.data is None:
                raise RefusedRowError(line.fault)
            if not line.data.strip():
                self.blank += 1
                return
            entry, address = parse_line(line.data)
        except RefusedRowError as error:
            if len(self._refused) < MAX_SENTENCES:
                self._refused.append(f"{self._source}:{line.number}: {error}.")
            else:
                self._unlisted += 1
            return
        self._tasks.append(asyncio.create_task(self._add(entry, address)))
        if len(self._tasks) >= IN_FLIGHT:
            await self._tasks.popleft()

    async def wait(self) -> None:
        """Wait for all lines that are being stored."""
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def result(self) -> Imported:
        """Return what became of the lines so far."""
        more = (f"{self._source}: {counted(self._unlisted, 'more line', 'were')} refused.",) if self._unlisted else ()
        return Imported(refused=(*self._refused, *more), **self._counts)

    async def _add(self, entry: StoredAnswer | EndpointDocument, address: str | None) -> None:
        if isinstance(entry, EndpointDocument):
            added = await self._store.add_verdict(entry.name, entry.document)  # awaited before the count is read
            self._counts["verdicts"] += added
        elif await self._store.add(entry.request, entry.completion, self._origin._replace(address=address)):
            self._counts["added"] += 1
        else:
            self._counts["present" if self._store.get(entry.key) == entry.completion else "conflicting"] += 1


def parse_line(data: bytes) -> tuple[StoredAnswer | EndpointDocument, str | None]:
    """Return what a line holds, and the address that it says gave the answer.

    Raises:
        RefusedRowError: neither an answer nor a verdict, or not what its key stands for.
    """
    entry = decode(data)
    if not isinstance(entry, dict) or entry.keys() - {"address"} != {"key", "request", "completion"}:
        raise RefusedRowError("it does not hold a key, a request and a completion")
    address = entry.get("address")
    if "address" in entry and not (isinstance(address, str) and 0 < len(address) <= MAX_ORIGIN):
        raise RefusedRowError("its address is no text of a usual length")
    key, request, completion = entry["key"], entry["request"], entry["completion"]
    if not isinstance(key, str):
        raise RefusedRowError("its key is no text")
    name = verdict_name_in(request) if isinstance(request, dict) else None
    if name is None:
        return parse_answer(key, {"request": request, "completion": completion}), address
    check_key(key, request)
    if not isinstance(completion, dict):
        raise RefusedRowError("it holds no document on an endpoint")
    return EndpointDocument(name, completion), None


def _format_line(key: str, request: dict[str, Any], completion: dict[str, Any], address: str | None = None) -> bytes:
    """Return a line; names are sorted, because stores keep the order in which parameters and counts came."""
    parts = (key.encode("ascii"), encode(request, ordered=True), encode(completion, ordered=True))
    line = b'{"key":"%b","request":%b,"completion":%b}' % parts
    return line if address is None else b'%b,"address":%b}' % (line[:-1], encode(address))


@contextmanager
def _open_pack(target: Path) -> Iterator[BinaryIO]:
    """Open a pack for writing; it replaces an older one when it is whole. An error of the disk names the pack."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(target, durable=True) as handle:
            yield handle
    except OSError as error:
        raise InputError(f"The pack {target} cannot be written: {error.strerror or error}.") from error
