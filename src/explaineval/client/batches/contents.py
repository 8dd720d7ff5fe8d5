"""The requests of one batch on the disk, one a line; and how a file is written there: whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from explaineval.cache import canonical, request_from, request_key
from explaineval.errors import InputError, StoreError
from explaineval.records import Request


class RequestFile:
    """The requests of a batch by their keys, read from the disk one at a time. Use as a context manager.

    Raises InputError for a file that is damaged or not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        try:
            self._file = path.open("rb")
        except OSError as exc:
            raise self._damage(exc.strerror or exc) from exc
        try:
            place = 0
            for line in self._file:
                self._places[json.loads(line)["key"]] = place
                place += len(line)
        except (OSError, ValueError, KeyError, TypeError) as exc:
            self._file.close()
            raise self._damage(exc) from exc

    def get(self, key: str) -> Request | None:
        """The request of a key, None for a key of no request here."""
        place = self._places.get(key)
        if place is None:
            return None
        self._file.seek(place)
        try:
            request = request_from(json.loads(self._file.readline())["request"])
        except (OSError, ValueError, KeyError, TypeError, InputError) as exc:
            raise self._damage(exc) from exc
        if request_key(request) != key:
            raise self._damage("a request stands under another's key")
        return request

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _damage(self, why: object) -> InputError:
        return InputError(
            f"{self._path} cannot be read ({why}): the answers of its batch cannot be fetched without it; restore it, "
            "or remove all files of that name to give the batch up."
        )


def write_requests(path: Path, requests: Iterable[tuple[str, Request]]) -> int:
    """Write the requests of a batch; returns how many they are. Raises StoreError."""
    count = 0
    with replacing(path) as out:
        for key, request in requests:
            entry = {"key": key, "request": canonical(request)}
            out.write(json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
            count += 1
    return count


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` as a whole once it is on the disk; StoreError where it cannot be."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        aside.replace(path)
        handle = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)  # the new name too
        finally:
            os.close(handle)
    except OSError as exc:
        raise StoreError(f"{path} cannot be written ({exc.strerror or exc}): nothing was submitted after it.") from exc
