"""The one JSON document of a command that is given --json; docs/json.md describes it field by field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from explaineval.cli.printing import echo_json

if TYPE_CHECKING:
    from explaineval.experiment import Scores
    from explaineval.experiment.notes import Note

SCHEMA = 2
"""Grows with every change that a reader of the documents could stumble over."""


def show_document(
    document: Mapping[str, Any],
    notes: Iterable[Note] = (),
    scores: Scores | None = None,
    code: int = 0,
    message: str = "",
) -> None:
    """Print the document with its schema and warnings, and with `error` where the exit code is not 0."""
    whole: dict[str, Any] = {"schema": SCHEMA, **document}
    whole["warnings"] = [*map(_of_run, notes), *(() if scores is None else _of_rows(scores))]
    if code:
        whole["error"] = {"code": code, "message": message}
    echo_json(whole)


def show_error(code: int, message: str) -> None:
    """Print the document of a command that came to nothing."""
    echo_json({"schema": SCHEMA, "warnings": [], "error": {"code": code, "message": message}})


def _of_run(one: Note) -> dict[str, Any]:
    return {"code": one.code, "grade": one.grade, "row": None, "metric": None, "text": one.text, "todo": one.todo}


def _of_rows(scores: Scores) -> Iterable[dict[str, Any]]:
    """Warnings about numbers: `row` has the fields of the metric rows that they are about."""
    for found in scores.warnings:
        one = found.warning
        row = {name: None if value == "" else value for name, value in found.group._asdict().items()}
        yield {
            "code": one.code,
            "grade": one.grade,
            "row": row,
            "metric": one.metric,
            "text": one.text,
            "todo": one.todo,
        }
