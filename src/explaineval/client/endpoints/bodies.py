"""Bound what is received: bytes, decompressed bytes, JSON values, nesting, choices. Standard library only.

A body is measured before anything parses it: counting brackets and commas costs milliseconds where building objects
from them could cost gigabytes.
"""

from __future__ import annotations

import json
import re
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

MEGABYTE = 1_000_000
BYTES_PER_TOKEN = 4_000
MOST_BYTES = 10 * MEGABYTE
"""Most bytes of one response, received or decompressed."""
MOST_UNDER_WAY = 128 * MEGABYTE
"""Most bytes in memory of all responses that are still in use."""
MOST_OF_ERROR = 65_536
"""Bytes that are read of a response whose status is an error."""
VALUES = 20_000
VALUES_PER_TOKEN = 8
VALUES_PER_ALTERNATIVE = 16
"""JSON values that one alternative at a token may have: its text, its bytes one by one, its log-probability."""
MOST_VALUES = 1_000_000
MOST_NESTED = 64
MOST_CHOICES = 128
CHOICES = ("choices", "candidates", "generations", "outputs", "results")
"""Names that providers have for the list of alternative answers."""
FEW_VALUES = 200
"""An answer of so many JSON values is left as it is: making it smaller would cost more than it saves."""
VALUE_BYTES = 300
"""Memory that one parsed JSON value takes, with the copies that a client library makes of it."""
STEP = 65_536

_STRINGS = re.compile(rb'"[^"]*"?')
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")


class OverBoundsError(Exception):
    """A body goes beyond its bounds; the text says which."""


class EncodingError(Exception):
    """A body cannot be decompressed, or is in an encoding that nobody asked for."""


@dataclass(frozen=True)
class Bounds:
    """The bounds of one response: most bytes, most JSON values, and most of these values outside of logprobs."""

    most_bytes: int = MOST_BYTES
    most_values: int = MOST_VALUES
    most_besides: int = MOST_VALUES


def bounds_of(max_tokens: int, alternatives: int = 0) -> Bounds:
    """Return the bounds of an answer of at most `max_tokens` tokens with so many alternatives (top_logprobs) at each.

    >>> bounds_of(512, 20)
    Bounds(most_bytes=3048000, most_values=187936, most_besides=24096)
    """
    besides = VALUES + VALUES_PER_TOKEN * max_tokens
    return Bounds(
        min(MEGABYTE + BYTES_PER_TOKEN * max_tokens, MOST_BYTES),
        min(besides + VALUES_PER_ALTERNATIVE * alternatives * max_tokens, MOST_VALUES),
        min(besides, MOST_VALUES),
    )


@dataclass
class UnderWay:
    """Counts the bytes of all responses that are still in use. Safe for threads and event loops alike.

    Beyond `most` only the response that began first may grow, so that at least one can be completed.
    """

    most: int = MOST_UNDER_WAY
    _held: dict[int, int] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def try_hold(self, holder: int, amount: int) -> bool:
        """Count `amount` bytes more for this holder, and return True; False where it has to wait."""
        with self._lock:
            first = next(iter(self._held), holder)
            if holder != first and sum(self._held.values()) + amount > self.most:
                return False
            self._held[holder] = self._held.get(holder, 0) + amount
            return True

    def release(self, holder: int) -> None:
        """Stop counting the bytes of this holder."""
        with self._lock:
            self._held.pop(holder, None)


class Inflater:
    """Decompresses a body into small pieces, also where few bytes decompress to very many.

    Raises:
        EncodingError: the encoding was not asked for, or the body does not have it.
    """

    def __init__(self, encoding: str) -> None:
        encoding = encoding.strip().lower() or "identity"
        if encoding not in ("identity", "gzip", "x-gzip", "deflate"):
            raise EncodingError(f"the body is in the encoding {encoding[:40]!r}, which was not asked for")
        self._head = b"" if encoding == "deflate" else None
        self._inflater = None if encoding == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        """Yield the decompressed pieces of received bytes."""
        if self._inflater is None:
            yield raw
            return
        if self._head is not None:  # some servers send `deflate` without zlib's header
            raw = self._head + raw
            if len(raw) < 2:
                self._head = raw
                return
            self._head = None
            if raw[0] & 15 != zlib.DEFLATED or int.from_bytes(raw[:2], "big") % 31:
                self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        while raw and not self._inflater.eof:
            try:
                piece = self._inflater.decompress(raw, STEP)
            except zlib.error as exc:
                raise EncodingError(f"the body cannot be decompressed: {exc}") from exc
            raw = self._inflater.unconsumed_tail
            yield piece


class Body:
    """Decompresses and collects one body, never beyond `most` bytes."""

    def __init__(self, encoding: str, most: int) -> None:
        self._inflater, self._most, self._raw, self.size = Inflater(encoding), most, 0, 0
        self._parts: list[bytes] = []

    def take(self, raw: bytes) -> int:
        """Add received bytes, and return by how many bytes the decompressed body grew.

        Raises:
            TooLargeError, EncodingError: see their definitions.
        """
        before = self.size
        self._raw += len(raw)
        if self._raw > self._most:
            raise OverBoundsError(f"more than {self._most:,} bytes")
        for piece in self._inflater.pieces(raw):
            self.size += len(piece)
            if self.size > self._most:
                raise OverBoundsError(f"more than {self._most:,} bytes")
            self._parts.append(piece)
        return self.size - before

    def clear(self) -> bytes:
        """Return what was collected, and keep it no longer."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def measure(content: bytes, most_values: int) -> int:
    """Return how many JSON values a body holds, or more, also for a body that is not JSON.

    It counts separators outside of strings, so it never counts too few.

    Raises:
        OverBoundsError: more than `most_values`, or nested too deep.
    """
    commas, opened = content.count(b","), content.count(b"[") + content.count(b"{")
    if commas + opened < most_values and opened <= MOST_NESTED:
        return commas + opened + 1
    bare = content.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 4 * most_values:  # a key and a value are two strings
        raise OverBoundsError(f"more than {most_values:,} JSON values")
    bare = _STRINGS.sub(b"", bare)
    values = bare.count(b",") + bare.count(b"[") + bare.count(b"{") + 1
    if values > most_values:
        raise OverBoundsError(f"more than {most_values:,} JSON values")
    brackets = bare.translate(_TO_SQUARE, _NO_BRACKETS)
    for _ in range(MOST_NESTED):
        if not brackets:
            return values
        brackets = brackets.replace(b"[]", b"")
    if b"[]" in brackets or brackets.count(b"[") > MOST_NESTED:
        raise OverBoundsError(f"JSON nested more than {MOST_NESTED} deep")
    return values


class Checked(NamedTuple):
    """The body of an answer as it may be parsed, about how many bytes of memory that takes, and the parsed document.

    `document` is None where the body is not JSON.
    """

    content: bytes
    memory: int
    document: Any = None


def check_answer(content: bytes, bounds: Bounds, *, lean: bool = True) -> Checked:
    """Check the body of an answer against its bounds.

    A body that is not JSON is cut, since only error messages quote it. Server-sent events are left whole. Of
    log-probabilities only what is used is left, unless `lean` is false and the bounds allow all: a client library
    builds an object for each of the others, which can take more time than all else together.

    Raises:
        OverBoundsError: the body goes beyond the bounds.
    """
    values = measure(content, bounds.most_values)
    if b"\0" not in content[:4]:  # no UTF-16 or UTF-32, which the counting does not see through
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError):
            pass
        else:
            for name in CHOICES:
                if isinstance(answer, dict) and isinstance(answer.get(name), list) and len(answer[name]) > MOST_CHOICES:
                    raise OverBoundsError(f"more than {MOST_CHOICES} choices")
            if values > bounds.most_besides or (lean and values > FEW_VALUES and b'"top_logprobs"' in content):
                content = json.dumps(_without_bulk(answer), separators=(",", ":")).encode()
                values = measure(content, bounds.most_besides)
            return Checked(content, values * VALUE_BYTES, answer)
    if content.lstrip().startswith((b"data:", b"event:", b"id:", b":")):
        return Checked(content, values * VALUE_BYTES)
    return Checked(content[:MOST_OF_ERROR], 0)


def _without_bulk(answer: Any) -> Any:
    """Remove from an OpenAI-shaped answer what is never used: alternatives at tokens that are no single letter, and the
    bytes of the others.
    """
    choices = answer.get("choices") if isinstance(answer, dict) else None
    for choice in choices if isinstance(choices, list) else ():
        logprobs = choice.get("logprobs") if isinstance(choice, dict) else None
        if not isinstance(logprobs, dict):
            continue
        content, tokens, tops = (logprobs.get(name) for name in ("content", "tokens", "top_logprobs"))
        for entry in content if isinstance(content, list) else ():
            if isinstance(entry, dict) and "top_logprobs" in entry:
                if not _is_letter(entry.get("token")):
                    entry["top_logprobs"] = []
                for top in entry["top_logprobs"] if isinstance(entry["top_logprobs"], list) else ():
                    if isinstance(top, dict):
                        top.pop("bytes", None)
        if isinstance(tokens, list) and isinstance(tops, list):
            logprobs["top_logprobs"] = [
                top if _is_letter(token) else {} for token, top in zip(tokens, tops, strict=False)
            ]
    return answer


def _is_letter(token: object) -> bool:
    return isinstance(token, str) and len(token.strip()) == 1 and token.strip().isalpha()
