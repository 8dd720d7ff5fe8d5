"""`explaineval show`: one example of a run with all its trials, from the run directory; raw answers from the cache."""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import click
from rich.console import Group, RenderableType
from rich.text import Text

from explaineval.archive.restore import client_of
from explaineval.cache import holds_store, open_store
from explaineval.cli.options import JSON, option, options
from explaineval.cli.output import echo, echo_table, say, show_document
from explaineval.config import RunConfig, build
from explaineval.errors import InputError
from explaineval.interventions import kind_of
from explaineval.planning.notes import Note, cache_notes
from explaineval.records import Completion, Example, Intervention, Mention, Trial, record_dict
from explaineval.reporting.example_view import (
    Case,
    Look,
    Only,
    arm_view,
    case_document,
    example_view,
    fits,
    keys_of,
    make_case,
    unread,
)
from explaineval.rundir.directory import PROMPTS, read_examples, read_interventions, read_run, read_trials
from explaineval.scoring.mentioning import phrases_in
from explaineval.text import flat

CLOSE = 3
"""How many ids like an unknown one are told."""
COMPARED = 20_000
"""How many ids are compared with an unknown one: the comparison is slow."""
PIPED = 100
"""Columns where nothing says how wide the output is."""

LISTED = ("trials", "changed", "mentioned", "not scored")


@dataclass(frozen=True)
class Chosen:
    """What is wanted of a run: its configuration, the policy to judge by, and the filters."""

    directory: Path
    run: Mapping[str, Any]
    config: RunConfig
    policy: Mention
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    only: Only | None

    def cases(self, of: Example | None = None) -> Iterator[Case]:
        """The trials that are wanted, in file order: those of one example, or of all."""
        find = phrases_in(self.directory / PROMPTS)

        def phrases(kind: str) -> Sequence[str] | None:
            try:
                return find(kind)
            except InputError:  # the directory lost them: what the run recorded is still there
                return None

        edits: dict[tuple[str, str], Intervention] = {}
        if of is not None:
            mine = (one for one in read_interventions(self.directory) if one.example_id == of.id)
            edits = {(one.task, one.id): one for one in mine}
        for trial in read_trials(self.directory):
            if of is not None and (trial.task, trial.example_id) != (of.task, of.id):
                continue
            if (not self.tasks or trial.task in self.tasks) and (not self.models or trial.model in self.models):
                edit = edits.get((trial.task, trial.intervention_id or ""))
                yield make_case(trial, edit, self.policy, self.config.mention, phrases)


@click.command("show")
@click.argument("run_dir", type=click.Path(path_type=Path))
@options(
    option("--example", metavar="ID", help="The example to show."),
    option("--list", "listing", is_flag=True, default=False, help="List all examples with their counts."),
    option("--task", multiple=True, metavar="NAME", help="Only this task. Repeatable."),
    option("--model", multiple=True, metavar="PROVIDER/MODEL", help="Only this model. Repeatable."),
    option(
        "--only",
        type=click.Choice(get_args(Only)),
        help="Only trials that are so; disagreeing: changed without mention or mentioned without change; "
        "missing: without a score.",
    ),
    option(
        "--mention",
        type=click.Choice(get_args(Mention)),
        help="Decide again what counts as a mention.  [default: the run's own]",
    ),
    option(
        "--answers",
        is_flag=True,
        default=False,
        help="All answers as they came, from the cache, and reasoning in full.",
    ),
    option(
        "--cache", type=click.Path(path_type=Path), metavar="DIR", help="Where answers are.  [default: the run's own]"
    ),
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

    Nothing is asked and nothing is written. Answers that could not be read stand only in the cache, which is looked
    into if it is there.
    """
    if listing == (example is not None):
        raise click.UsageError("give --example ID, or --list to see the ids.", click.get_current_context())
    chosen = _choose(run_dir, task, model, only, mention)
    if listing:
        _list(chosen, json)
        return 0
    one = _find(str(example), chosen)
    cases = list(chosen.cases(one))
    completions, elsewhere, notes = _completions([case.trial for case in cases], chosen, cache, answers)
    say(notes)
    if json:
        show_document(_document(one, cases, chosen, completions), notes)
        return 0
    color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    look = Look(color, answers, completions, elsewhere)
    width = shutil.get_terminal_size((PIPED, 24)).columns
    echo_table(Group(*_parts(one, cases, chosen, look)), width=max(width, 40), color=color)
    return 0


def _choose(
    directory: Path, tasks: tuple[str, ...], models: tuple[str, ...], only: str | None, mention: str | None
) -> Chosen:
    run = read_run(directory)
    if not isinstance(run.get("config"), dict):
        raise InputError(f"{directory}: run.json holds no configuration: it is no run of explaineval.")
    config = build(RunConfig, run["config"], str(directory))
    known = [one.model for one in config.models]
    for name in models:
        if name not in known:
            raise InputError(f"{directory} has no model {name!r}: it has {', '.join(dict.fromkeys(known))}.")
    policy = cast(Mention, mention or config.mention)
    return Chosen(directory, run, config, policy, tasks, models, cast("Only | None", only))


def _examples(chosen: Chosen) -> list[Example]:
    """The examples of the tasks that are wanted."""
    found = read_examples(chosen.directory)
    known = list(dict.fromkeys(one.task for one in found))
    for name in chosen.tasks:
        if name not in known:
            raise InputError(f"{chosen.directory} has no task {name!r}: it has {', '.join(known) or 'none'}.")
    return [one for one in found if not chosen.tasks or one.task in chosen.tasks]


def _find(identifier: str, chosen: Chosen) -> Example:
    examples = _examples(chosen)
    found = [one for one in examples if one.id == identifier]
    if len(found) > 1:
        tasks = [one.task for one in found]
        raise InputError(f"example {identifier!r} is in the tasks {' and '.join(tasks)}: add --task {tasks[0]}.")
    if found:
        return found[0]
    ids = list(dict.fromkeys(one.id for one in examples))[:COMPARED]
    close = [one for one in ids if identifier in one][:CLOSE] or difflib.get_close_matches(identifier, ids, CLOSE)
    like = f" (close to it: {', '.join(map(flat, close))})" if close else ""
    raise InputError(
        f"{chosen.directory} has no example {identifier!r}{like}: `explaineval show {chosen.directory} --list` lists "
        f"all {len(examples)}."
    )


def _list(chosen: Chosen, json: bool) -> None:
    counts = {(one.task, one.id): [0, 0, 0, 0] for one in _examples(chosen)}
    wanted: set[tuple[str, str]] = set()
    for case in chosen.cases():
        trial = case.trial
        if _is_sham(case):
            continue
        place = (trial.task, trial.example_id)
        found = counts.setdefault(place, [0, 0, 0, 0])
        for index, true in enumerate((True, trial.changed, case.mentioned, trial.status != "ok")):
            found[index] += bool(true)
        if chosen.only is not None and fits(case, chosen.only):
            wanted.add(place)
    places = [place for place in counts if chosen.only is None or place in wanted]
    if json:
        rows = [
            {"task": task, "example_id": name, **dict(zip(_names(), counts[task, name], strict=True))}
            for task, name in places
        ]
        document = {"run_dir": str(chosen.directory), "mention": chosen.policy, "examples": rows}
        show_document(document)
        return
    if not places:
        echo(f"no example of {chosen.directory} has trials that are {chosen.only}.")
        return
    ids = [(flat(task), flat(name)) for task, name in places]
    widths = [max(map(len, column)) for column in zip(("task", "example"), *ids, strict=True)]
    for cells in (("task", "example", *LISTED), *((*one, *counts[at]) for one, at in zip(ids, places, strict=True))):
        texts = [f"{cell:<{size}}" for cell, size in zip(cells, widths, strict=False)]
        echo("  ".join([*texts, *(f"{cell:>{len(name)}}" for cell, name in zip(cells[2:], LISTED, strict=True))]))


def _names() -> list[str]:
    return [name.replace(" ", "_") for name in LISTED]


def _arms(cases: Sequence[Case], chosen: Chosen) -> list[list[Case]]:
    """The cases by how their model was asked, in a fixed order; within one in the order of the file."""
    levels = {level: index for index, level in enumerate(chosen.config.arms.verbosity)}
    found: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases:
        one = case.trial
        level = (levels.get(one.verbosity, len(levels)), one.verbosity)
        arm = (one.endpoint or "", one.model, one.style, one.order, one.shots, level, one.sample)
        found.setdefault(arm, []).append(case)
    return [found[arm] for arm in sorted(found)]


def _parts(example: Example, cases: Sequence[Case], chosen: Chosen, look: Look) -> Iterator[RenderableType]:
    yield example_view(example)
    own = chosen.config.mention
    told = f"policy {own}, the run's own" if chosen.policy == own else f"policy {chosen.policy}; the run's own is {own}"
    by_phrases = any(kind_of(case.trial.kind).mentioned_by == "phrases" for case in cases)
    yield Text(f"\nMentions are decided by {told}.{' Cues go by their phrases.' if by_phrases else ''}")
    for arm in _arms(cases, chosen):
        shams = [case.trial for case in arm if _is_sham(case)]
        yield arm_view(example, [case for case in arm if not _is_sham(case)], shams, look, chosen.only)
    if not cases:
        yield Text("\nNo trial of this example is in the run yet: the run was cut off, or the filters leave none.")


def _is_sham(case: Case) -> bool:
    """Whether the trial repeats the prompt without any intervention."""
    return kind_of(case.trial.kind).inserts == "nothing"


def _completions(
    trials: Sequence[Trial], chosen: Chosen, cache: Path | None, answers: bool
) -> tuple[dict[str, Completion], str, list[Note]]:
    """The completions to be shown that are at hand, what to say of the others, and what the cache says of itself."""
    sides = [(trial, side) for trial in trials for side in ("before", "after")]
    if answers:
        keys = [key for trial, side in sides for key in keys_of(trial, cast(Any, side))]
    else:
        keys = [key for trial, side in sides if (key := unread(trial, cast(Any, side))) is not None]
    directory = client_of(chosen.run, cache).cache
    if not keys:
        return {}, "", []
    if cache is None and not holds_store(directory):
        elsewhere = f"its text is in the cache of the run, which is not at {directory.absolute()}: --cache DIR names it"
        return {}, elsewhere, []
    with open_store(directory, readonly=True) as store:
        found = {key: completion for key in dict.fromkeys(keys) if (completion := store.get(key)) is not None}
        notes = list(cache_notes(store.warnings))
    return found, f"the cache {directory} holds no answer under its key", notes


def _document(
    example: Example, cases: Sequence[Case], chosen: Chosen, completions: Mapping[str, Completion]
) -> dict[str, Any]:
    shown = [case for arm in _arms(cases, chosen) for case in arm if fits(case, chosen.only) or _is_sham(case)]
    return {
        "run_dir": str(chosen.directory),
        "mention": chosen.policy,
        "mention_of_run": chosen.config.mention,
        "example": record_dict(example),
        "trials": [case_document(case) for case in shown],
        "completions": {key: record_dict(one) for key, one in completions.items()},
    }
