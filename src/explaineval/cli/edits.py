"""`explaineval interventions build` and `show`."""

from __future__ import annotations

import json as json_module
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from explaineval.cli.options import AT_LEAST_1, JSON, READABLE, option, options
from explaineval.cli.outputs import say
from explaineval.datasets import BUNDLED, Task, load_tasks, parse_spec, read_interventions, ready_interventions
from explaineval.errors import InputError
from explaineval.experiment import random_words
from explaineval.interventions import apply, mark_insertion
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Example, Intervention
from explaineval.report.tables import interventions_table, render

LEVELS = ("normal",)
TASKS = option("--task", multiple=True, required=True, metavar="NAME[:PATH]", help="Task to edit. Repeatable.")
LIMIT = option("--limit", type=AT_LEAST_1, help="First N examples of each task.")


@click.group()
def interventions() -> None:
    """Build intervention sets, and look at them."""


@interventions.command("build")
@options(
    TASKS,
    LIMIT,
    option("--kind", type=click.Choice(["random_word"]), default="random_word", show_default=True),
    option("--per-example", type=AT_LEAST_1, default=4, show_default=True),
    option("--seed", type=int, default=0, show_default=True),
    option(
        "--shots",
        type=click.IntRange(min=0),
        default=8,
        show_default=True,
        help="Shots whose words are never inserted.",
    ),
    option("--tagger", help="spaCy pipeline.  [default: the first English one found]"),
    option("--prompts", type=READABLE, metavar="DIR", help="Prompts whose words are never inserted."),
    option(
        "--out", type=click.Path(path_type=Path), metavar="F.jsonl", help="Where to write.  [default: show a table]"
    ),
    JSON,
)
def build_command(task: tuple[str, ...], out: Path | None, json: bool, **given: Any) -> int:
    """Insert random words: an adjective before a noun or an adverb before a verb (Atanasova et al. 2023).

    The same example always gets the same words, whatever the number or order of examples; asking for more
    interventions per example adds to the ones before.
    """
    prompts = PromptBook(given["prompts"] or default_directory())
    tasks = load_tasks([parse_spec(text) for text in task], shots=given["shots"], limit=given["limit"])
    built: list[Intervention] = []
    for one in tasks:
        found = list(random_words(one, prompts, LEVELS, given["per_example"], given["seed"], given["tagger"]))
        short = len(one.examples) * given["per_example"] - len(found)
        if short:
            say([f"{one.name}: {short} interventions fewer than asked for, since some texts offer too few places."])
        built += found
    if out is not None:
        _write(out, built)
        say([f"{len(built)} interventions written to {out}."])
    if json:
        click.echo(
            json_module.dumps(
                [record.model_dump(mode="json", exclude_none=True) for record in built], ensure_ascii=False
            )
        )
    elif out is None:
        _show(_by_id(tasks), built)
    return 0


@interventions.command("show")
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[F.jsonl]")
@options(TASKS, LIMIT, JSON)
def show_command(file: Path | None, task: tuple[str, ...], limit: int | None, json: bool) -> int:
    """Show interventions in their texts, the inserted word marked: those of F.jsonl, or a bundled task's own."""
    tasks = load_tasks([parse_spec(text) for text in task], shots=0, limit=None)
    examples = _by_id(tasks)
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
        click.echo(
            json_module.dumps(
                [record.model_dump(mode="json", exclude_none=True) for record in found], ensure_ascii=False
            )
        )
    else:
        _show(examples, found)
    return 0


def _by_id(tasks: list[Task]) -> dict[str, dict[str, Example]]:
    return {task.name: {example.id: example for example in task.examples} for task in tasks}


def _show(examples: dict[str, dict[str, Example]], found: list[Intervention]) -> None:
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 160
    table = interventions_table(list(_rows(examples, found, brackets=not terminal)))
    click.echo(render(table, width=width, color=terminal))


def _rows(
    examples: dict[str, dict[str, Example]], found: list[Intervention], *, brackets: bool
) -> Iterator[dict[str, Any]]:
    for one in found:
        if one.field is None:
            marked = ("", one.inserted, "")
        else:
            marked = mark_insertion(apply(examples[one.task][one.example_id], one), one.inserted, one.offset or 0)
        if brackets:  # no colour to mark the word with
            marked = (marked[0], f"[{marked[1]}]", marked[2])
        yield {"example_id": one.example_id, "id": one.id, "field": one.field, "marked": marked}


def _write(path: Path, records: list[Intervention]) -> None:
    try:
        with path.open("w", encoding="utf-8", newline="\n") as handle:
            for record in records:
                handle.write(
                    json_module.dumps(record.model_dump(mode="json", exclude_none=True), ensure_ascii=False) + "\n"
                )
    except OSError as exc:
        raise InputError(f"{path} cannot be written: {exc.strerror}.") from None
