"""Load a task: its examples, its shots, and interventions for it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import islice
from pathlib import Path

from explaineval.config import Columns, columns_of
from explaineval.config.sources import home
from explaineval.datasets.readers import (
    BUNDLED,
    FORMATS,
    NORMAL,
    SHAPES,
    bundled_path,
    format_of,
    read_levels,
    read_task,
    read_task_jsonl,
    shape_of,
)
from explaineval.datasets.text_files import read_jsonl
from explaineval.errors import InputError
from explaineval.interventions import intervention_from
from explaineval.records import Example, Intervention
from explaineval.spill import Digests, RecordList
from explaineval.text import counted


@dataclass(frozen=True)
class TaskSpec:
    """What `--task NAME[:PATH]` asks for: a format and a path, or a bundled task (its name as format, no path).

    `name` is what the task is called in every file. `columns` say what the columns of a task `csv:FILE` hold.
    """

    name: str
    format: str
    path: Path | None
    columns: Columns | None = None

    def read(self, unknown_gold: dict[str, str] | None = None) -> RecordList[Example]:
        """Return all examples of the task, as `read_task` does."""
        return read_task(self.format, self.path, self.name, unknown_gold, self.columns)


@dataclass(frozen=True)
class Task:
    """Examples to evaluate, and shots, which are never evaluated and do not depend on a limit."""

    spec: TaskSpec
    shape: str | None
    examples: Sequence[Example]
    shots: tuple[Example, ...]
    shots_source: str
    level_shots: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)
    """The same shots by verbosity level, with explanations of that length; `normal` is `shots` itself."""
    unknown_gold: Mapping[str, str] = field(default_factory=dict)
    """By example id, what the file gives as gold label where that names no option."""
    everything: Sequence[Example] = field(default=(), repr=False, compare=False)
    """All examples of the file, also those that serve as shots or are cut off; empty where the file was not read."""
    n_available: int = 0
    """How many examples could be evaluated without a limit; 0 where the file was not read."""

    def shots_at(self, level: str) -> tuple[Example, ...] | None:
        """Return the shots of a verbosity level; None where there are none of that length."""
        return self.shots if level == NORMAL else self.level_shots.get(level)

    @property
    def name(self) -> str:
        """Name of the task in trials and metrics."""
        return self.spec.name


def parse_specs(texts: Iterable[str], columns: Mapping[str, str]) -> list[TaskSpec]:
    """Return what `--task` and `--columns` ask for. Raises InputError, also for columns that no task takes."""
    specs = [parse_spec(text) for text in texts]
    if not columns:
        return specs
    if not any(takes_columns(spec.format) for spec in specs):
        raise InputError(
            "columns are given, but no task csv:FILE: name the file as --task csv:FILE, or leave --columns out."
        )
    named = columns_of(columns)
    return [replace(spec, columns=named) if takes_columns(spec.format) else spec for spec in specs]


def takes_columns(text: str) -> bool:
    """Say whether a task, `NAME[:PATH]`, is of a format whose columns are named by --columns."""
    known = format_of(text.partition(":")[0])
    return known is not None and known.takes_columns


def parse_spec(text: str, base: Path | None = None) -> TaskSpec:
    """Take `NAME[:PATH]` apart; a relative path is relative to `base` (a configuration file's directory).

    >>> parse_spec("nli").name, parse_spec("jsonl:data/my_task.jsonl").name
    ('nli', 'my_task')
    """
    name, colon, rest = text.partition(":")
    known = format_of(name)
    if name in BUNDLED:
        if colon:
            raise InputError(f"task {name!r} is bundled and takes no path: write {name}, or jsonl:{rest}.")
        return TaskSpec(name, name, None)
    if known is None:
        raise InputError(f"unknown task {name!r}: {_suggestion(text, name)}.")
    if not rest:
        raise InputError(f"task {name!r} needs a path: {name}:PATH.")
    path = home(rest)
    if base is not None and not path.is_absolute():
        path = base / path
    return TaskSpec(path.stem if known.named_after_file else name, name, path)


def _suggestion(text: str, name: str) -> str:
    """Return what may have been meant by a task of no known name: a path without its format, or another spelling."""
    path, formats = home(text), FORMATS.complete().values()
    fitting: list[str] = []
    if ":" not in text and text:
        fitting = [known.name for known in formats if path.suffix.lower() in known.suffixes]
        if not fitting and path.is_file():
            fitting = ["jsonl"]
        elif not fitting and path.is_dir():
            fitting = [known.name for known in formats if known.path == "DIR"]
    if fitting:
        what = "directory" if path.is_dir() else "file"
        return f"a {what} needs its format before it: {' or '.join(f'{format}:{text}' for format in fitting)}"
    if "," in text and ":" not in text:
        return f"several tasks are several options: {' '.join(f'--task {part.strip()}' for part in text.split(','))}"
    names = (*BUNDLED, *(known.name for known in formats))
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"; perhaps {near[0]} is meant" if near else ""
    return f"choose from {', '.join(names)} (with PATH after a colon){meant}"


def load_tasks(
    specs: Sequence[TaskSpec], *, shots: int, shots_from: Path | None = None, limit: int | None = None
) -> list[Task]:
    """Read every task, reserve its shots, then cut to the first `limit` examples.

    Shots come from `shots_from`, else from the end of the file, else from the bundled task of that shape.
    Raises InputError for two tasks of one name, or where no shots are to be had.
    """
    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two tasks are called {name!r}: rename a file or run them apart.")
    return [_load(spec, shots, shots_from, limit) for spec in specs]


def _load(spec: TaskSpec, count: int, shots_from: Path | None, limit: int | None) -> Task:
    unknown: dict[str, str] = {}
    examples = everything = spec.read(unknown)
    shape = shape_of(examples[0])
    shots: tuple[Example, ...] = ()
    source, levels = "none", dict[str, dict[str, str]]()
    if count and shots_from is not None:
        bundled = shots_from.name in BUNDLED and not shots_from.exists()
        path = bundled_path(shots_from.name) if bundled else shots_from
        rows = [row.example for row in read_task_jsonl(path, spec.name)]
        shots = _shots_of(rows, examples[0], count, str(shots_from), last=bundled)
        levels = read_levels(path)
        source = f"the bundled task {shots_from.name}" if bundled else f"the first {count} of {shots_from.name}"
        shown = [shot.fields for shot in shots]
        examples = examples.select(place for place, example in enumerate(examples) if example.fields not in shown)
    elif count:
        usable = [place for place, example in enumerate(examples) if example.explanation and example.gold]
        lender = SHAPES.get(frozenset(examples[0].fields))
        if len(usable) >= count and len(examples) > count:
            reserved = usable[-count:]
            shots = tuple(examples.select(reserved))
            known = format_of("jsonl" if spec.path is None else spec.format)
            if known is not None and known.read_levels is not None:
                levels = known.read_levels(spec.path or bundled_path(spec.name))
            source = f"the last {count} of {spec.path.name if spec.path else spec.name}"
            examples = examples.select(place for place in range(len(examples)) if place not in reserved)
        elif lender is not None:
            shots = tuple(read_task(lender, None, lender)[-count:])
            levels = read_levels(bundled_path(lender))
            source = f"the bundled task {lender} ({spec.name} has {counted(len(usable), 'usable explanation')})"
    if len(shots) < count:
        raise InputError(
            f"task {spec.name!r} has too few rows with gold label and explanation for {counted(count, 'shot')}: "
            "give --shots-from FILE, or --shots 0."
        )
    if not examples:
        raise InputError(f"task {spec.name!r}: every example serves as a shot, so none is left to evaluate.")
    of_levels = _level_shots(shots, levels)
    return Task(spec, shape, examples[:limit], shots, source, of_levels, unknown, everything, len(examples))


def _level_shots(shots: tuple[Example, ...], texts: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[Example, ...]]:
    """Return by level the same shots with its explanations, for each level that all of them have."""
    levels = sorted({level for shot in shots for level in texts.get(shot.id, ())})
    return {
        level: tuple(shot.model_copy(update={"explanation": texts[shot.id][level]}) for shot in shots)
        for level in levels
        if all(level in texts.get(shot.id, ()) for shot in shots)
    }


def _shots_of(rows: list[Example], like: Example, count: int, place: str, *, last: bool) -> tuple[Example, ...]:
    for row in rows:
        if set(row.fields) != set(like.fields):
            raise InputError(
                f"{place}: shot {row.id!r} has the fields {', '.join(row.fields)}, "
                f"but the task has {', '.join(like.fields)}."
            )
    usable = tuple(row for row in rows if row.gold and row.explanation)
    return usable[-count:] if last else usable[:count]


def read_interventions(path: Path, tasks: Mapping[str, Mapping[str, Example]]) -> Iterator[Intervention]:
    """Yield all interventions of a JSONL file, checked against all examples of the tasks (by name, then id).

    Raises InputError for a line that fits no example, an offset beyond the text, an id that stands twice.
    """
    count = 0
    for intervention in _checked(lambda: read_jsonl(path), tasks):
        count += 1
        yield intervention
    if not count:
        raise InputError(f"{path} is empty: it holds no intervention.")


def ready_interventions(task: str, examples: Sequence[Example]) -> list[Intervention]:
    """Return the ready interventions of a bundled task, for those of its examples that are given."""
    with resources.as_file(resources.files("explaineval") / "tasks" / f"{task}.interventions.jsonl") as path:
        by_id = {example.id: example for example in examples}

        def lines() -> Iterator[Line]:
            return ((place, value) for place, value in read_jsonl(path) if value.get("example_id") in by_id)

        return list(_checked(lines, {task: by_id}))


Line = tuple[str, dict[str, object]]
"""Where a line stands, and the JSON object in it."""


def _checked(
    read_lines: Callable[[], Iterable[Line]], tasks: Mapping[str, Mapping[str, Example]]
) -> Iterator[Intervention]:
    """Yield the intervention of each line. That two have one id is told at the end, or before another error."""
    ids = Digests()
    brings_input: dict[str, bool] = {}

    def check_ids() -> None:
        number = ids.first_repeated()
        if number is not None:
            place, value = next(islice(read_lines(), number, None))
            name = intervention_from(value, where=place, tasks=tasks).id
            raise InputError(f"{place}: the intervention id {name!r} stands twice for this task.")

    try:
        for place, value in read_lines():
            intervention = intervention_from(value, where=place, tasks=tasks)
            is_pair = intervention.fields is not None
            if brings_input.setdefault(intervention.kind, is_pair) != is_pair:
                raise InputError(
                    f"{place}: the kind {intervention.kind!r} has insertions in some lines and whole inputs in others, "
                    "which are never counted together: give one of them another name."
                )
            ids.add(f"{intervention.task}\0{intervention.id}".encode("utf-8", "surrogatepass"))
            yield intervention
    except InputError:
        check_ids()
        raise
    check_ids()


def shots_of(tasks: Sequence[Task]) -> tuple[list[Example], dict[str, list[Example]]]:
    """Return the shots of all tasks, task after task, and likewise those of each verbosity level."""
    levels = sorted({level for task in tasks for level in task.level_shots})
    by_level = {level: [shot for task in tasks for shot in task.level_shots.get(level, ())] for level in levels}
    return [shot for task in tasks for shot in task.shots], by_level
