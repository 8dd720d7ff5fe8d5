"""`explaineval show`: one example of a run with all its trials, from the run directory; raw answers from the cache."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import click
from rich.console import Group, RenderableType
from rich.text import Text

from explaineval.archive.bundle import client_of
from explaineval.cache import holds_store, open_store
from explaineval.cli.options import CACHE_OF_RUN, JSON, PATH, offered, option, options
from explaineval.cli.output import echo, echo_document, echo_notes, echo_table, uses_color
from explaineval.config import RunConfig
from explaineval.datasets.readers import shape_of
from explaineval.errors import InputError
from explaineval.interventions import kind_of
from explaineval.planning.notes import cache_notes
from explaineval.prompts import PromptBook
from explaineval.records import Completion, Example, Intervention, Mention, Trial, record_dict
from explaineval.reporting.example_view import (
    Case,
    Only,
    ViewOptions,
    arm_view,
    case_document,
    example_view,
    fits,
    keys_of,
    make_case,
    unread,
)
from explaineval.rundir.directory import PROMPTS, read_examples, read_interventions, read_run, read_trials
from explaineval.rundir.schema import RunRecord
from explaineval.scoring.codes import Note
from explaineval.scoring.mentioning import phrases_in
from explaineval.text import flat

SUGGESTED = 3
"""Ids similar to an unknown one that are suggested."""

COMPARED = 20_000
"""Ids that an unknown one is compared with; the comparison is slow."""

PIPED_WIDTH = 100
COUNTS = ("trials", "changed", "mentioned", "not scored")


@dataclass(frozen=True)
class Selection:
    """A run, the mention policy to apply, and the filters."""

    directory: Path
    run: RunRecord
    config: RunConfig
    policy: Mention
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    only: Only | None

    def cases(self, example: Example | None = None) -> Iterator[Case]:
        """Yield the selected trials in file order: those of one example, or of all."""
        find_phrases = phrases_in(self.directory / PROMPTS)

        def phrases(kind: str) -> Sequence[str] | None:
            try:
                return find_phrases(kind)
            except InputError:  # the directory lost them; what the run recorded is still there
                return None

        edits: dict[tuple[str, str], Intervention] = {}
        if example is not None:
            records = read_interventions(self.directory)
            edits = {(record.task, record.id): record for record in records if record.example_id == example.id}
        for trial in read_trials(self.directory):
            if example is not None and (trial.task, trial.example_id) != (example.task, example.id):
                continue
            if (not self.tasks or trial.task in self.tasks) and (not self.models or trial.model in self.models):
                edit = edits.get((trial.task, trial.intervention_id or ""))
                yield make_case(trial, edit, self.policy, self.config.mention, phrases)


@click.command("show")
@click.argument("run_dir", type=PATH)
@options(
    option("--example", metavar="ID", help="The example to show."),
    option("--list", "listing", is_flag=True, default=False, help="List all examples with their counts."),
    option("--task", multiple=True, metavar="NAME", help="Only this task. Repeatable."),
    option("--model", multiple=True, metavar="PROVIDER/MODEL", help="Only this model. Repeatable."),
    option(
        "--only",
        type=click.Choice(get_args(Only)),
        help="Only these trials; disagreeing: changed, not mentioned, or mentioned, not changed; missing: not scored.",
    ),
    offered("mention", default_text="the run's own policy"),
    option("--answers", is_flag=True, default=False, help="All raw answers from the cache, and reasoning in full."),
    CACHE_OF_RUN,
    JSON,
)
def show_command(
    run_dir: Path,
    example: str | None,
    listing: bool,
    task: tuple[str, ...],
    model: tuple[str, ...],
    only: str | None,
    mention: str | None,
    answers: bool,
    cache: Path | None,
    json: bool,
) -> int:
    """Show one example of RUN_DIR with all its trials: inputs, answers, explanations, and what was taken for a mention.

    Nothing is asked and nothing is written. Answers that could not be read are only in the cache; they are shown if it
    is there.
    """
    if listing == (example is not None):
        raise click.UsageError("give --example ID, or --list to see the ids.", click.get_current_context())
    selection = _select(run_dir, task, model, only, mention)
    if listing:
        _list(selection, json)
        return 0
    record = _find_example(str(example), selection)
    cases = list(selection.cases(record))
    completions, elsewhere, notes = _completions([case.trial for case in cases], selection, cache, answers)
    echo_notes(notes)
    if json:
        echo_document(_document(record, cases, selection, completions), notes)
    else:
        options = ViewOptions(uses_color(), answers, completions, elsewhere, _said(run_dir))
        echo_table(Group(*_parts(record, cases, selection, options)), piped=PIPED_WIDTH)
    return 0


def _said(directory: Path) -> Callable[[Example, Trial], Sequence[str]]:
    """What the run's prompts said beside the input of a trial; nothing where the directory lost them."""

    def said(example: Example, trial: Trial) -> Sequence[str]:
        try:
            return PromptBook(directory / PROMPTS).said(
                example,
                style=trial.style,
                order=trial.order,
                shape=shape_of(example),
                verbosity=trial.verbosity,
            )
        except InputError:
            return ()

    return said


def _select(
    directory: Path, tasks: tuple[str, ...], models: tuple[str, ...], only: str | None, mention: str | None
) -> Selection:
    run = read_run(directory)
    config = run.config
    names = list(dict.fromkeys(entry.model for entry in config.models))
    for name in models:
        if name not in names:
            raise InputError(f"{directory} has no model {name!r}: it has {', '.join(names)}.")
    policy = mention or config.mention
    return Selection(directory, run, config, policy, tasks, models, cast("Only | None", only))


def _examples(selection: Selection) -> list[Example]:
    """Return the examples of the selected tasks."""
    examples = read_examples(selection.directory)
    names = list(dict.fromkeys(example.task for example in examples))
    for name in selection.tasks:
        if name not in names:
            raise InputError(f"{selection.directory} has no task {name!r}: it has {', '.join(names) or 'none'}.")
    return [example for example in examples if not selection.tasks or example.task in selection.tasks]


def _find_example(identifier: str, selection: Selection) -> Example:
    examples = _examples(selection)
    matches = [example for example in examples if example.id == identifier]
    if len(matches) > 1:
        tasks = [example.task for example in matches]
        raise InputError(f"example {identifier!r} is in the tasks {' and '.join(tasks)}: add --task {tasks[0]}.")
    if matches:
        return matches[0]
    ids = list(dict.fromkeys(example.id for example in examples))[:COMPARED]
    similar = [name for name in ids if identifier in name][:SUGGESTED]
    similar = similar or difflib.get_close_matches(identifier, ids, SUGGESTED)
    hint = f" (similar ids: {', '.join(map(flat, similar))})" if similar else ""
    listing = f"explaineval show {shlex.quote(str(selection.directory))} --list"
    raise InputError(
        f"{selection.directory} has no example {identifier!r}{hint}: `{listing}` lists all {len(examples)}."
    )


def _list(selection: Selection, json: bool) -> None:
    """Print the examples with the numbers of their trials."""
    counts = {(example.task, example.id): [0, 0, 0, 0] for example in _examples(selection)}
    fitting: set[tuple[str, str]] = set()
    for case in selection.cases():
        if _is_sham(case):
            continue
        trial = case.trial
        key = (trial.task, trial.example_id)
        row = counts.setdefault(key, [0, 0, 0, 0])
        for index, counted in enumerate((True, trial.changed, case.mentioned, trial.status != "ok")):
            row[index] += bool(counted)
        if selection.only is not None and fits(case, selection.only):
            fitting.add(key)
    keys = [key for key in counts if selection.only is None or key in fitting]
    if json:
        names = [name.replace(" ", "_") for name in COUNTS]
        rows = [
            {"task": task, "example_id": name, **dict(zip(names, counts[task, name], strict=True))}
            for task, name in keys
        ]
        echo_document({"run_dir": str(selection.directory), "mention": selection.policy, "examples": rows})
        return
    if not keys:
        echo(f"no example of {selection.directory} has trials that are {selection.only}.")
        return
    table = [("task", "example", *COUNTS), *((flat(key[0]), flat(key[1]), *map(str, counts[key])) for key in keys)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        texts = [cell.ljust(width) for cell, width in zip(cells[:2], widths, strict=False)]
        numbers = [cell.rjust(width) for cell, width in zip(cells[2:], widths[2:], strict=True)]
        echo("  ".join([*texts, *numbers]))


def _is_sham(case: Case) -> bool:
    """Say whether the trial repeats the prompt without any intervention."""
    return kind_of(case.trial.kind).inserts == "nothing"


def _by_arm(cases: Sequence[Case], selection: Selection) -> list[list[Case]]:
    """Group the cases by model and arm, in a fixed order; within a group the order of the file stays."""
    levels = {level: index for index, level in enumerate(selection.config.arms.verbosity)}
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        trial = case.trial
        level = (levels.get(trial.verbosity, len(levels)), trial.verbosity)
        arm = (trial.endpoint or "", trial.model, trial.style, trial.order, trial.shots, level, trial.sample)
        groups.setdefault(arm, []).append(case)
    return [groups[arm] for arm in sorted(groups)]


def _parts(
    example: Example, cases: Sequence[Case], selection: Selection, options: ViewOptions
) -> Iterator[RenderableType]:
    yield example_view(example)
    own, policy = selection.config.mention, selection.policy
    by_policy = f"policy {own}, the run's own" if policy == own else f"policy {policy}; the run's own is {own}"
    by_phrases = any(kind_of(case.trial.kind).mentioned_by == "phrases" for case in cases)
    yield Text(f"\nMentions are decided by {by_policy}.{' Cues are decided by their phrases.' if by_phrases else ''}")
    for arm in _by_arm(cases, selection):
        shams = [case.trial for case in arm if _is_sham(case)]
        yield arm_view(example, [case for case in arm if not _is_sham(case)], shams, options, selection.only)
    if not cases:
        yield Text("\nThis example has no trials yet: the run was cut off, or the filters leave none.")


def _completions(
    trials: Sequence[Trial], selection: Selection, cache: Path | None, answers: bool
) -> tuple[dict[str, Completion], str, list[Note]]:
    """Return the stored completions to show by key, where the others are, and the cache's own warnings."""
    sides = [(trial, side) for trial in trials for side in ("before", "after")]
    if answers:
        keys = [key for trial, side in sides for key in keys_of(trial, cast(Any, side))]
    else:
        keys = [key for trial, side in sides if (key := unread(trial, cast(Any, side))) is not None]
    directory = client_of(selection.run, cache).cache
    if not keys:
        return {}, "", []
    if cache is None and not holds_store(directory):
        elsewhere = f"its text is in the cache of the run, which is not at {directory.absolute()}: --cache DIR names it"
        return {}, elsewhere, []
    with open_store(directory, readonly=True) as store:
        stored = {key: completion for key in dict.fromkeys(keys) if (completion := store.get(key)) is not None}
        notes = list(cache_notes(store.warnings))
    return stored, f"the cache {directory} holds no answer under its key", notes


def _document(
    example: Example, cases: Sequence[Case], selection: Selection, completions: Mapping[str, Completion]
) -> dict[str, Any]:
    groups = _by_arm(cases, selection)
    shown = [case for group in groups for case in group if fits(case, selection.only) or _is_sham(case)]
    return {
        "run_dir": str(selection.directory),
        "mention": selection.policy,
        "mention_of_run": selection.config.mention,
        "example": record_dict(example),
        "trials": [case_document(case) for case in shown],
        "completions": {key: record_dict(completion) for key, completion in completions.items()},
    }
