"""What a row holds: the readable request beside its completion. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from explaineval.cache.disks import RefusedRowError
from explaineval.cache.keys import hash_canonical
from explaineval.errors import InputError
from explaineval.records import Completion


def make_row(entries: dict[str, Any], completion: Completion) -> dict[str, Any]:
    """The row of an answer: the request in canonical form and the completion without defaults and nulls."""
    kept = completion.model_dump(exclude_defaults=True)
    if completion.text is None:
        del kept["text"]
    return {"request": entries, "completion": kept}


def verify_row(key: str, row: object) -> dict[str, Any]:
    """The request's canonical form in a row, after checking that it hashes to the row's key.

    Raises:
        RefusedRowError: another shape, or a row that was stored for another request.
    """
    if not isinstance(row, dict) or row.keys() != {"request", "completion"}:
        raise RefusedRowError("it does not hold a request and a completion")
    entries = row["request"]
    try:
        found = hash_canonical(entries) if isinstance(entries, dict) else None
    except (InputError, RecursionError) as error:
        raise RefusedRowError(f"its request has no key ({error})") from error
    if found != key:
        raise RefusedRowError("its request is not the one that its key stands for")
    return dict(entries)


def read_completion(row: dict[str, Any]) -> Completion:
    """The completion in a row.

    Raises:
        RefusedRowError: not a completion.
    """
    kept = row["completion"]
    try:
        return Completion.model_validate({"text": None, **kept} if isinstance(kept, dict) else kept)
    except ValidationError as error:
        raise RefusedRowError(f"its completion cannot be read ({error.error_count()} faults)") from error
