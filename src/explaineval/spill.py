"""Hold many records and remember many texts: in memory up to some thousands, beyond that in a few bytes each.

A run of a million requests has a million examples and interventions, which would take gigabytes as objects. Each is
needed a few times, so it is read again from the file.

Texts are told apart by hashes: of 64 bits where a mistake would only miscount a request, of 128 bits where it would
refuse a file. Two different texts among a million share one of 64 bits with a chance of 3 in 100 million.
"""

from __future__ import annotations

import os
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from pydantic import BaseModel

from explaineval.errors import InputError

if TYPE_CHECKING:
    import numpy as np


R = TypeVar("R", bound=BaseModel)

HELD = 2_000
"""Records that are held as objects; with one more, all go to the file."""

AT_ONCE = 1 << 16
"""Bytes that are written to the file, and read from it, at once."""


class _File:
    """A temporary file without a name, which ends with the process. It grows at its end and is read anywhere."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._unwritten = bytearray()
        self._written = 0
        self._block = b""
        self._block_start = 0

    def append(self, data: bytes) -> int:
        """Add bytes and return where they start. Raises InputError where the disk is full."""
        start = self._written + len(self._unwritten)
        self._unwritten += data
        if len(self._unwritten) >= AT_ONCE:
            self._flush()
        return start

    def read(self, start: int, length: int) -> bytes:
        """Return bytes that were added. Neighbours are read ahead."""
        if start + length > self._written:
            self._flush()
        at = start - self._block_start
        if not 0 <= at <= len(self._block) - length:
            assert self._descriptor is not None  # noqa: S101 - something was added
            self._block, self._block_start, at = os.pread(self._descriptor, max(length, AT_ONCE), start), start, 0
        return self._block[at : at + length]

    def _flush(self) -> None:
        try:
            if self._descriptor is None:
                with TemporaryFile(buffering=0) as file:
                    self._descriptor = os.dup(file.fileno())
                weakref.finalize(self, os.close, self._descriptor)
            data = bytes(self._unwritten)
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as exc:
            raise InputError(
                f"the temporary file for examples and interventions cannot be written ({exc.strerror or exc}): make "
                "room, or name another directory in the environment variable TMPDIR."
            ) from exc
        self._written += len(self._unwritten)
        self._unwritten = bytearray()


class RecordList(Sequence[R], Generic[R]):
    """A sequence of records of one type. Slices and selections share its contents, and do not see later additions."""

    def __init__(self, kind: type[R], records: Iterable[R] = ()) -> None:
        self._kind = kind
        self._held: list[R] | None = []
        self._file = _File()
        self._starts, self._lengths = array("Q"), array("I")
        self._last: tuple[int, R] | None = None
        for record in records:
            self.append(record)

    def append(self, record: R) -> None:
        """Add a record at the end. Raises InputError where the disk is full."""
        if self._held is not None:
            self._held.append(record)
            if len(self._held) > HELD:
                held, self._held = self._held, None
                for earlier in held:
                    self._store(earlier)
            return
        self._store(record)

    def _store(self, record: R) -> None:
        data = record.model_dump_json().encode()
        self._starts.append(self._file.append(data))
        self._lengths.append(len(data))

    def __len__(self) -> int:
        return len(self._starts) if self._held is None else len(self._held)

    @overload
    def __getitem__(self, place: int) -> R: ...
    @overload
    def __getitem__(self, place: slice) -> RecordList[R]: ...
    def __getitem__(self, place: int | slice) -> R | RecordList[R]:
        if isinstance(place, slice):
            return self.select(range(len(self))[place])
        if self._held is not None:
            return self._held[place]
        start = self._starts[place]
        if self._last is None or self._last[0] != start:
            self._last = start, self._kind.model_validate_json(self._file.read(start, self._lengths[place]))
        return self._last[1]

    def __iter__(self) -> Iterator[R]:
        return (self[place] for place in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment] # it can grow

    def select(self, places: Iterable[int]) -> RecordList[R]:
        """Return the list of the records at these places, in this order."""
        chosen: RecordList[R] = RecordList.__new__(RecordList)
        chosen._kind, chosen._file, chosen._last = self._kind, self._file, None
        chosen._starts, chosen._lengths = array("Q"), array("I")
        if self._held is not None:
            chosen._held = [self._held[place] for place in places]
            return chosen
        chosen._held = None
        for place in places:
            chosen._starts.append(self._starts[place])
            chosen._lengths.append(self._lengths[place])
        return chosen

    def lines(self) -> Iterator[bytes]:
        """Yield each record as JSON, as `model_dump_json` writes it."""
        if self._held is not None:
            yield from (record.model_dump_json().encode() for record in self._held)
        else:
            for start, length in zip(self._starts, self._lengths, strict=True):
                yield self._file.read(start, length)


def select(records: Sequence[R], places: Iterable[int]) -> Sequence[R]:
    """Return the records at these places, in this order."""
    if isinstance(records, RecordList):
        return records.select(places)
    return tuple(records[place] for place in places)


class RecordChain(Iterable[R], Generic[R]):
    """The records of several sequences, one after the other. It can be gone through again: `parts` begins anew."""

    def __init__(self, parts: Callable[[], Iterable[Sequence[R]]]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[R]:
        return (record for part in self._parts() for record in part)

    def lines(self) -> Iterator[bytes]:
        """Yield each record as JSON."""
        return (line for part in self._parts() for line in json_lines(part))


def json_lines(records: Iterable[BaseModel]) -> Iterator[bytes]:
    """Yield each record as JSON; what stands in a file is not parsed."""
    if isinstance(records, (RecordList, RecordChain)):
        return records.lines()
    return (record.model_dump_json().encode() for record in records)


class _Index:
    """Finds the places of records by 128-bit hashes of their keys, which stand for the keys themselves."""

    def __init__(self) -> None:
        self._halves = array("Q"), array("Q")
        self._order: np.ndarray[Any, np.dtype[np.intp]] | None = None
        self._sorted: np.ndarray[Any, np.dtype[np.uint64]] | None = None

    def append(self, *key: str) -> None:
        """Add the next record's key."""
        for half, number in zip(self._halves, _hash(*key), strict=True):
            half.append(number)
        self._order = None

    def groups(self) -> Iterator[list[int]]:
        """Yield the places of the records of each key, in the order of the first ones."""
        import numpy as np

        order, ordered = self._sort()
        bounds = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist(), len(ordered)]
        firsts = order[bounds[:-1]] if len(ordered) else ()
        for number in np.argsort(firsts).tolist():
            by_key: dict[int, list[int]] = {}  # hardly ever more than one
            for place in order[bounds[number] : bounds[number + 1]].tolist():
                by_key.setdefault(self._halves[1][place], []).append(place)
            yield from by_key.values()

    def places(self, *key: str) -> list[int]:
        """Return the places of the records of a key."""
        import numpy as np

        first, second = _hash(*key)
        order, ordered = self._sort()
        low = int(np.searchsorted(ordered, np.uint64(first)))
        places = []
        while low < len(ordered) and ordered[low] == first:
            place = int(order[low])
            if self._halves[1][place] == second:
                places.append(place)
            low += 1
        return places

    def _sort(self) -> tuple[np.ndarray[Any, np.dtype[np.intp]], np.ndarray[Any, np.dtype[np.uint64]]]:
        import numpy as np

        if self._order is None or self._sorted is None:
            hashes = np.array(self._halves[0], dtype=np.uint64)
            self._order = np.argsort(hashes, kind="stable")
            self._sorted = hashes[self._order]
        return self._order, self._sorted


class RecordsByKey(Mapping[str, R], Generic[R]):
    """The records of a sequence by a text that is different for each."""

    def __init__(self, records: Sequence[R], key_of: Callable[[R], str]) -> None:
        self._records, self._key_of = records, key_of
        self._index = _Index()
        for record in records:
            self._index.append(key_of(record))

    def __getitem__(self, key: str) -> R:
        for place in self._index.places(key):
            return self._records[place]
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self._index.places(key))

    def __iter__(self) -> Iterator[str]:
        return (self._key_of(record) for record in self._records)

    def __len__(self) -> int:
        return len(self._records)


Key = tuple[str, str]


class RecordGroups(Mapping[Key, "Sequence[R]"], Generic[R]):
    """Records by a key of two texts. Groups stand in the order of their first records, records in that of addition.

    With `most`, a group has its first `most` records only.
    """

    def __init__(self, kind: type[R], key_of: Callable[[R], Key], most: int | None = None) -> None:
        self._records = RecordList(kind)
        self._key_of, self._most = key_of, most
        self._index = _Index()

    def append(self, record: R) -> None:
        """Add a record to its group."""
        self._records.append(record)
        self._index.append(*self._key_of(record))

    def __getitem__(self, key: Key) -> RecordList[R]:
        places = self._index.places(*key)
        if not places:
            raise KeyError(key)
        return self._records.select(places[: self._most])

    def __contains__(self, key: object) -> bool:
        return isinstance(key, tuple) and bool(self._index.places(*key))

    def __iter__(self) -> Iterator[Key]:
        return (self._key_of(self._records[places[0]]) for places in self._index.groups())

    def __len__(self) -> int:
        return sum(1 for _ in self._index.groups())

    def __bool__(self) -> bool:
        return len(self._records) > 0

    def values(self) -> Iterator[RecordList[R]]:  # type: ignore[override] # a view would look every key up again
        """Yield all groups."""
        return (self._records.select(places[: self._most]) for places in self._index.groups())

    def items(self) -> Iterator[tuple[Key, RecordList[R]]]:  # type: ignore[override] # see `values`
        """Yield all keys with their groups."""
        return ((self._key_of(group[0]), group) for group in self.values())


def _hash(*key: str) -> tuple[int, int]:
    digest = blake2b("\0".join(key).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")


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
