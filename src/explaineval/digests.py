"""Remember which of many texts were seen, in a few bytes each.

Texts are told apart by hashes: of 64 bits where a mistake would only miscount a request, of 128 bits where it would
refuse a file. Two different texts among a million share one of 64 bits with a chance of 3 in 100 million.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SIZE = 16
"""Bytes of a digest in `Digests`."""

_SMALLEST = 1 << 10


class NumberSet:
    """A set of 64-bit numbers in an array: 12 to 24 bytes for each, where Python's own set takes 70 to 100."""

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 * _SMALLEST))
        self._count = 0
        self._has_zero = False

    def __len__(self) -> int:
        return self._count + self._has_zero

    def __contains__(self, number: int) -> bool:
        return self._has_zero if number == 0 else self._table[self._place(number)] == number

    def add(self, number: int) -> bool:
        """Add a number, at least 0 and below 2^64; return whether it is new."""
        if number == 0:
            new, self._has_zero = not self._has_zero, True
            return new
        place = self._place(number)
        if self._table[place]:
            return False
        self._table[place] = number
        self._count += 1
        if 3 * self._count > 2 * len(self._table):
            self._grow()
        return True

    def _place(self, number: int) -> int:
        """Return where the number stands, or the free place where it belongs."""
        table = self._table
        mask = len(table) - 1
        place = number & mask
        while (held := table[place]) and held != number:
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        before, self._table = self._table, array("Q", bytes(16 * len(self._table)))
        for number in before:
            if number:
                self._table[self._place(number)] = number


class NumberPlaces:
    """Gives each 64-bit number its place in the order of first appearance, in 30 bytes or so each."""

    def __init__(self) -> None:
        self._numbers, self._places = array("Q", bytes(8 * _SMALLEST)), array("I", bytes(4 * _SMALLEST))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def place(self, number: int) -> int:
        """Return the place of a number, at least 0 and below 2^64; a new one gets the next."""
        at = self._find(number)
        if self._places[at]:
            return self._places[at] - 1
        self._numbers[at] = number
        self._count += 1
        self._places[at] = self._count  # 0 is a free place
        if 3 * self._count > 2 * len(self._places):
            self._grow()
        return self._count - 1

    def _find(self, number: int) -> int:
        """Return where the number stands, or the free place where it belongs."""
        numbers, places = self._numbers, self._places
        mask = len(places) - 1
        at = number & mask
        while places[at] and numbers[at] != number:
            at = (at + 1) & mask
        return at

    def _grow(self) -> None:
        numbers, places = self._numbers, self._places
        self._numbers, self._places = array("Q", bytes(16 * len(numbers))), array("I", bytes(8 * len(places)))
        for number, place in zip(numbers, places, strict=True):
            if place:
                at = self._find(number)
                self._numbers[at], self._places[at] = number, place


def short_digest(*texts: str) -> int:
    """Return 64 bits of a hash of texts."""
    digest = blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


class Digests:
    """128-bit digests of texts in the order in which they were added, 16 bytes each."""

    def __init__(self, texts: Iterable[bytes] = ()) -> None:
        self._bytes = bytearray()
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return len(self._bytes) // SIZE

    def add(self, text: bytes) -> None:
        """Add the digest of a text."""
        self._bytes += blake2b(text, digest_size=SIZE).digest()

    def first_repeated(self) -> int | None:
        """Return the place of the first digest that stands before it too; None where all differ."""
        import numpy as np

        halves = self._halves()
        order = np.lexsort((halves[:, 1], halves[:, 0]))  # stable: of equal ones, the earlier comes first
        ordered = halves[order]
        repeated = order[1:][(ordered[1:] == ordered[:-1]).all(axis=1)]
        return int(repeated.min()) if len(repeated) else None

    def count_missing(self, other: Digests) -> int:
        """Return how many of the other's digests are none of these."""
        import numpy as np

        both = np.concatenate([self._halves(), other._halves()])
        _, groups = np.unique(both, axis=0, return_inverse=True)
        groups = groups.reshape(-1)
        return int((~np.isin(groups[len(self) :], groups[: len(self)])).sum())

    def _halves(self) -> np.ndarray[tuple[int, int], np.dtype[np.uint64]]:
        import numpy as np

        return np.frombuffer(bytes(self._bytes), dtype=np.uint64).reshape(-1, 2)
