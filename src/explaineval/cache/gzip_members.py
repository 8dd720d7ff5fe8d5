"""Lines in a gzip file that is written in parts, so that damage to one part does not spread.

A gzip file may consist of several members, each with its own checksum; every reader takes them for one text. Members
of about 1 MiB of whole lines are written here. On reading, a member's checksum is checked before any of its lines is
used, because a flipped bit could turn one answer into another without making the line unreadable. A damaged member is
skipped and the next one is looked for. A file that is cut short is used as far as it goes.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

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
class Line:
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


def read_lines(handle: BinaryIO, limit: int) -> Iterator[Line]:
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

    def split(self, text: bytes) -> Iterator[Line]:
        """Yield the lines that end in this piece."""
        start = 0
        while (stop := text.find(b"\n", start)) >= 0:
            if self._skipping:
                self._skipping = False
            elif len(self._rest) + stop - start > self._limit:
                yield self._too_long()
            else:
                self._number += 1
                yield Line(self._number, bytes(self._rest + text[start:stop]))
            self._rest.clear()
            start = stop + 1
        if not self._skipping:
            self._rest += text[start:]
            if len(self._rest) > self._limit:
                yield self._too_long()
                self._rest.clear()
                self._skipping = True

    def finish(self, fault: str | None) -> Iterator[Line]:
        """Yield what is left without a line break: as a line, or as unreadable where there is a `fault`."""
        if self._rest:
            self._number += 1
            yield Line(self._number, bytes(self._rest) if fault is None else None, fault)
        self._rest.clear()
        self._skipping = False

    def missing(self, fault: str) -> Line:
        """Return an unreadable line in the place of lines that are missing."""
        return Line(self._number + 1, None, fault)

    def _too_long(self) -> Line:
        self._number += 1
        return Line(self._number, None, f"it is longer than {self._limit:,} bytes")


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
