"""`explaineval interventions show`: interventions in their texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from explaineval.cli.options import JSON, PATH, offered, options
from explaineval.cli.output import echo_json, echo_notes, echo_table, uses_color
from explaineval.config import read_columns
from explaineval.datasets import BUNDLED, Task, load_tasks, parse_specs, read_interventions, ready_interventions
from explaineval.errors import InputError
from explaineval.interventions import apply, changed_fields, is_inside_word, kind_of, mark_insertion, pattern_of
from explaineval.records import Example, Intervention
from explaineval.reporting.tables import interventions_table
from explaineval.text import counted

TASKS = offered("task", required=True, help="Task to edit.")
SHOWN = 5
"""Warnings of one sort that are printed one by one."""

Examples = dict[str, dict[str, Example]]
"""Examples by task and id."""


@click.command("show")
@click.argument("file", required=False, type=PATH, metavar="[F.jsonl]")
@options(TASKS, offered("columns"), offered("limit"), JSON)
def show_command(file: Path | None, task: tuple[str, ...], columns: str | None, limit: int | None, json: bool) -> int:
    """Show interventions in their texts, with the inserted word marked: those of F.jsonl, or a bundled task's own.

    A cue is shown by itself, with the letter that it suggests.
    """
    tasks = load_tasks(parse_specs(task, read_columns(columns or "")), shots=0, limit=None)
    examples = by_id(tasks)
    if file is not None:
        records = list(read_interventions(file, examples))
    else:
        unbundled = [task.name for task in tasks if task.name not in BUNDLED]
        if unbundled:
            raise InputError(
                f"task {unbundled[0]!r} has no ready interventions: give a file, or use `interventions build`."
            )
        records = [record for task in tasks for record in ready_interventions(task.name, task.examples)]
    if limit is not None:
        shown = {(task.name, example.id) for task in tasks for example in task.examples[:limit]}
        records = [record for record in records if (record.task, record.example_id) in shown]
    if json:
        echo_json([record.model_dump(mode="json", exclude_none=True) for record in records])
    else:
        echo_interventions(examples, records)
    echo_notes(_warnings(examples, records))
    return 0


def by_id(tasks: list[Task]) -> Examples:
    """Return the examples of the tasks by task and id."""
    return {task.name: {example.id: example for example in task.examples} for task in tasks}


def echo_interventions(examples: Examples, records: list[Intervention]) -> None:
    """Print the interventions as a table."""
    echo_table(interventions_table([_row(examples, record) for record in records]))


def _row(examples: Examples, record: Intervention) -> dict[str, Any]:
    """Return one row of the table; `marked` is the text before the insertion, the insertion and the text after it."""
    if record.fields is not None:
        return {"example_id": record.example_id, "id": record.id, **_pair(examples, record, record.fields)}
    if record.field is None:
        field = f"{record.kind} → {record.target}" if record.target else record.kind
        pattern = pattern_of(record)
        marked = (record.inserted or "" if pattern is None else pattern.description, "", "")
    else:
        field = f"{record.field}, taken out" if kind_of(record.kind).takes_out else record.field
        text, offset = apply(examples[record.task][record.example_id], record), record.offset
        if (
            kind_of(record.kind).inserts == "space" and offset is not None
        ):  # one space looks like any other: only its place tells it
            marked = (text[:offset], text[offset : offset + 1], text[offset + 1 :])
        else:
            marked = mark_insertion(text, record.inserted or "", offset or 0)
        if not uses_color():
            marked = (marked[0], f"[{marked[1]}]", marked[2])
    return {"example_id": record.example_id, "id": record.id, "field": field, "marked": marked}


def _pair(examples: Examples, record: Intervention, fields: Mapping[str, str]) -> dict[str, Any]:
    """Return the other input of a pair, with the first of its phrases that stands there marked."""
    changed = changed_fields(examples[record.task][record.example_id], fields)
    text = " / ".join(changed.values())
    splits = [mark_insertion(text, phrase, 0) for phrase in record.mention or ()]
    before, words, after = next((split for split in splits if split[1]), (text, "", ""))
    return {
        "field": f"{record.kind}: {', '.join(changed)}",
        "marked": (before, f"[{words}]" if words and not uses_color() else words, after),
    }


def _warnings(examples: Examples, records: list[Intervention]) -> Iterator[str]:
    """Yield what looks like a mistake in a set of interventions, though it can be run."""
    cuts = [
        record
        for record in records
        if record.field is not None
        and record.edited is None
        and is_inside_word(examples[record.task][record.example_id].fields[record.field], record.offset or 0)
    ]
    for record in cuts[:SHOWN]:
        yield (
            f"intervention {record.id!r} of example {record.example_id!r} cuts a word in two: offset {record.offset} "
            f"of {record.field!r} is inside a word. Offsets count code points from 0, and the word goes before the "
            "offset."
        )
    if len(cuts) > SHOWN:
        yield f"{counted(len(cuts) - SHOWN, 'more intervention', 'cut')} a word in two."
