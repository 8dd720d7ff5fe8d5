"""`explaineval interventions`: the group, and `show`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from explaineval.cli.options import AT_LEAST_1, JSON, option, options
from explaineval.cli.output import echo_json, echo_table, say
from explaineval.datasets import BUNDLED, Task, load_tasks, parse_spec, read_interventions, ready_interventions
from explaineval.errors import InputError
from explaineval.interventions import apply, is_inside_word, kind_of, mark_insertion
from explaineval.records import Example, Intervention
from explaineval.reporting.tables import interventions_table

TASKS = option("--task", multiple=True, required=True, metavar="NAME[:PATH]", help="Task to edit. Repeatable.")
LIMIT = option("--limit", type=AT_LEAST_1, help="First N examples of each task.")
SHOWN = 5
"""Warnings of one sort that are told in full."""

Examples = dict[str, dict[str, Example]]


class _Group(click.Group):
    """Imports the module of `build`, with all that it asks models through, only when that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["build", "show"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "build":
            command: click.Command = import_module("explaineval.cli.interventions_build").build_command
            return command
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Group)
def interventions() -> None:
    """Build intervention sets, and look at them."""


@interventions.command("show")
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[F.jsonl]")
@options(TASKS, LIMIT, JSON)
def show_command(file: Path | None, task: tuple[str, ...], limit: int | None, json: bool) -> int:
    """Show interventions in their texts, the inserted word marked: those of F.jsonl, or a bundled task's own.

    A cue is shown by itself, with the letter that it suggests.
    """
    tasks = load_tasks([parse_spec(text) for text in task], shots=0, limit=None)
    examples = by_id(tasks)
    if file is not None:
        found = read_interventions(file, examples)
    else:
        strangers = [one.name for one in tasks if one.name not in BUNDLED]
        if strangers:
            raise InputError(
                f"task {strangers[0]!r} has no ready interventions: give a file, or use `interventions build`."
            )
        found = [edit for one in tasks for edit in ready_interventions(one.name, one.examples)]
    if limit is not None:
        shown = {(one.name, example.id) for one in tasks for example in one.examples[:limit]}
        found = [edit for edit in found if (edit.task, edit.example_id) in shown]
    if json:
        echo_json([record.model_dump(mode="json", exclude_none=True) for record in found])
    else:
        show_table(examples, found)
    say(list(_warnings(examples, found)))
    return 0


def by_id(tasks: list[Task]) -> Examples:
    """Examples by task and id."""
    return {task.name: {example.id: example for example in task.examples} for task in tasks}


def show_table(examples: Examples, found: list[Intervention]) -> None:
    """Print the interventions as a table."""
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 160
    table = interventions_table(list(_rows(examples, found, brackets=not terminal)))
    echo_table(table, width=width, color=terminal)


def _rows(examples: Examples, found: list[Intervention], *, brackets: bool) -> Iterator[dict[str, Any]]:
    for one in found:
        field = one.field
        if field is None:
            marked = (one.inserted, "", "")
            field = f"{one.kind} → {one.target}" if one.target else one.kind
        else:
            text = apply(examples[one.task][one.example_id], one)
            marked = _mark_space(text, one) or mark_insertion(text, one.inserted, one.offset or 0)
            if brackets:  # no colour to mark the word with
                marked = (marked[0], f"[{marked[1]}]", marked[2])
        yield {"example_id": one.example_id, "id": one.id, "field": field, "marked": marked}


def _mark_space(text: str, one: Intervention) -> tuple[str, str, str] | None:
    """A null edit is marked where its space is; one space looks like any other."""
    if kind_of(one.kind).inserts != "space" or one.offset is None:
        return None
    return text[: one.offset], text[one.offset : one.offset + 1], text[one.offset + 1 :]


def _warnings(examples: Examples, found: list[Intervention]) -> Iterator[str]:
    """What looks like a mistake in a set, though it can be run."""
    inside = [
        one
        for one in found
        if one.field is not None
        and one.edited is None
        and is_inside_word(examples[one.task][one.example_id].fields[one.field], one.offset or 0)
    ]
    for one in inside[:SHOWN]:
        yield (
            f"intervention {one.id!r} of example {one.example_id!r} cuts a word in two: offset {one.offset} of "
            f"{one.field!r} is inside a word. Offsets count code points from 0, and the word goes before the offset."
        )
    if len(inside) > SHOWN:
        yield f"{len(inside) - SHOWN} more interventions cut a word in two."
