"""All answers of a store, one after the other: by the index of keys, and past it where something is damaged."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from explaineval.cache.complaints import Complaints
from explaineval.cache.disks import RefusedRowError
from explaineval.cache.keys import request_from
from explaineval.cache.readers import Reader
from explaineval.cache.rows import read_completion, verify_row
from explaineval.cache.scans import scan
from explaineval.errors import InputError
from explaineval.records import Completion, Request

Answer = tuple[str, Request, Completion]


def read_answer(key: str, row: Any) -> Answer:
    """The answer in a row.

    Raises:
        RefusedRowError: the row is no answer, or not the one of this key.
    """
    try:
        return key, request_from(verify_row(key, row)), read_completion(row)
    except (InputError, RecursionError) as error:
        raise RefusedRowError(f"its request cannot be read ({error})") from error


def iterate_answers(
    reader: Reader, complaints: Complaints, keys: Collection[str] | None, *, damaged: bool
) -> Iterator[Answer]:
    """Answers in the order of their keys, all or those of `keys`; bad rows are skipped with a warning.

    Where a row was bad or foreign, or the database is known to be damaged, the table is searched for rows that the
    index did not show; they come last, unordered.

    Raises:
        StoreError: the database cannot be read now.
    """
    before, whole, last, strangers = complaints.refusals, True, "", 0
    try:
        for last in reader.iterate_keys() if keys is None else sorted(set(keys)):
            answer = _fetch(reader, complaints, last)
            if answer is not None:
                yield answer
        strangers = reader.count_strangers()
    except RefusedRowError as error:
        whole = False
        complaints.damaged = True
        complaints.warn(f"The rows of the cache {reader.directory} cannot all be listed: {error}.")
    else:
        if strangers and keys is None:
            complaints.warn(f"The cache {reader.directory} holds {strangers} rows that are no answers: ignored.")
    if whole and not strangers and not damaged and complaints.refusals == before:
        return
    wanted = None if keys is None else frozenset(keys)
    for row in scan(reader):
        if row.fault is None and row.key is not None and (wanted is None or row.key in wanted):
            try:
                answer = read_answer(row.key, row.value)
            except RefusedRowError:
                continue  # a verdict or a stranger; a bad answer was complained of above
            if (wanted is None and not whole and row.key > last) or not _is_found(reader, row.key):
                yield answer


def _fetch(reader: Reader, complaints: Complaints, key: str) -> Answer | None:
    try:
        row = reader.fetch(key)
        return None if row is None else read_answer(key, row)
    except RefusedRowError as error:
        complaints.refuse(key, error)
        return None


def _is_found(reader: Reader, key: str) -> bool:
    """Whether the index leads to this answer."""
    try:
        row = reader.fetch(key)
        return row is not None and read_answer(key, row) is not None
    except RefusedRowError:
        return False
