"""A task ready to run: its examples, and the shots with where they come from."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from explaineval.config.sources import home
from explaineval.datasets.readers import (
    BUNDLED,
    NORMAL,
    READERS,
    SHAPES,
    bundled_path,
    read_bundled,
    read_jsonl,
    read_levels,
    read_task,
    read_task_jsonl,
    shape_of,
)
from explaineval.errors import InputError
from explaineval.interventions import intervention_from
from explaineval.records import Example, Intervention


@dataclass(frozen=True)
class TaskSpec:
    """`--task NAME[:PATH]` taken apart; `name` is what the task is called in every file."""

    name: str
    reader: str
    path: Path | None


@dataclass(frozen=True)
class Task:
    """Examples to evaluate and the shots, which are never evaluated and never depend on a limit."""

    spec: TaskSpec
    shape: str | None
    examples: tuple[Example, ...]
    shots: tuple[Example, ...]
    shots_source: str
    level_shots: Mapping[str, tuple[Example, ...]] = field(default_factory=dict)
    """The same shots by verbosity level, with explanations of that length; `normal` is `shots` itself."""
    unknown_gold: Mapping[str, str] = field(default_factory=dict)
    """By example id, what stands as gold label in the file and is none."""

    def shots_at(self, level: str) -> tuple[Example, ...] | None:
        """The shots of a verbosity level, None where there are none of that length."""
        return self.shots if level == NORMAL else self.level_shots.get(level)

    @property
    def name(self) -> str:
        """What the task is called in trials and metrics."""
        return self.spec.name


def parse_spec(text: str, base: Path | None = None) -> TaskSpec:
    """Take `NAME[:PATH]` apart; a relative path is relative to `base` (a configuration file's directory).

    >>> parse_spec("nli").name, parse_spec("jsonl:data/my_task.jsonl").name
    ('nli', 'my_task')
    """
    reader, colon, rest = text.partition(":")
    known = (*BUNDLED, *READERS)
    if reader not in known:
        raise InputError(f"unknown task {reader!r}: {_suggestion(text, reader, known)}.")
    if reader in BUNDLED:
        if colon:
            raise InputError(f"task {reader!r} is bundled and takes no path: write {reader}, or jsonl:{rest}.")
        return TaskSpec(reader, reader, None)
    if not rest:
        raise InputError(f"task {reader!r} needs a path: {reader}:PATH.")
    path = home(rest)
    if base is not None and not path.is_absolute():
        path = base / path
    return TaskSpec(path.stem if reader == "jsonl" else reader, reader, path)


def _suggestion(text: str, reader: str, known: Sequence[str]) -> str:
    """What somebody may have meant by a task of no known name: a path without its format, or another spelling."""
    path = home(text)
    bare = ":" not in text
    if bare and path.suffix.lower() == ".csv":
        return f"a file needs its format before it: esnli:{text} or ecqa:{text}"
    if bare and path.suffix.lower() in (".jsonl", ".json", ".ndjson"):
        return f"a file needs its format before it: jsonl:{text}"
    if bare and text and path.is_file():
        return f"a file needs its format before it: jsonl:{text}"
    if bare and text and path.is_dir():
        return f"a directory needs its format before it: comve:{text}"
    near = difflib.get_close_matches(reader, known, n=1)
    meant = f"; perhaps {near[0]} is meant" if near else ""
    return f"choose from {', '.join(known)} (with PATH after a colon){meant}"


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
    examples = read_task(spec.reader, spec.path, spec.name, unknown)
    shape = shape_of(examples[0])
    shots: tuple[Example, ...] = ()
    source, origin = "none", None
    if count and shots_from is not None:
        lender = shots_from.name if shots_from.name in BUNDLED and not shots_from.exists() else None
        origin = bundled_path(lender) if lender else shots_from
        shots = _shots_of(
            read_task_jsonl(origin, spec.name), examples[0], count, str(shots_from), last=lender is not None
        )
        source = f"the bundled task {lender}" if lender else f"the first {count} of {shots_from.name}"
        examples = [e for e in examples if all(e.fields != shot.fields for shot in shots)]
    elif count:
        able = [e for e in examples if e.explanation and e.gold]
        if len(able) >= count and len(examples) > count:
            shots = tuple(able[-count:])
            origin = spec.path if spec.reader == "jsonl" else bundled_path(spec.name) if spec.path is None else None
            source = f"the last {count} of {spec.path.name if spec.path else spec.name}"
            reserved = {shot.id for shot in shots}
            examples = [e for e in examples if e.id not in reserved]
        elif (lender := SHAPES.get(frozenset(examples[0].fields))) is not None:
            origin = bundled_path(lender)
            shots = tuple(read_bundled(lender)[-count:])
            source = f"the bundled task {lender} ({spec.name} has {len(able)} usable explanations)"
    if len(shots) < count:
        raise InputError(
            f"task {spec.name!r} has too few rows with gold label and explanation for {count} shots: "
            "give --shots-from FILE, or --shots 0."
        )
    if not examples:
        raise InputError(f"task {spec.name!r}: every example serves as a shot, so none is left to evaluate.")
    levels = _level_shots(shots, read_levels(origin)) if origin is not None else {}
    return Task(spec, shape, tuple(examples[:limit]), shots, source, levels, unknown)


def _level_shots(shots: tuple[Example, ...], texts: Mapping[str, Mapping[str, str]]) -> dict[str, tuple[Example, ...]]:
    """The same shots with the explanations of each level that all of them have."""
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


def read_interventions(path: Path, tasks: Mapping[str, Mapping[str, Example]]) -> list[Intervention]:
    """All interventions of a JSONL file, checked against the tasks' examples (all rows of each file, unlimited).

    Raises InputError for a line that fits no loaded example, an offset beyond the text, an id that stands twice.
    """
    found = list(_checked(read_jsonl(path), tasks))
    if not found:
        raise InputError(f"{path} is empty: it holds no intervention.")
    return found


def ready_interventions(task: str, examples: Sequence[Example]) -> list[Intervention]:
    """The ready interventions of a bundled task, for those of its examples that are given."""
    with resources.as_file(resources.files("explaineval") / "tasks" / f"{task}.interventions.jsonl") as path:
        wanted = {example.id: example for example in examples}
        lines = ((place, value) for place, value in read_jsonl(path) if value.get("example_id") in wanted)
        return list(_checked(lines, {task: wanted}))


def _checked(
    lines: Iterator[tuple[str, dict[str, object]]], tasks: Mapping[str, Mapping[str, Example]]
) -> Iterator[Intervention]:
    seen: set[tuple[str, str]] = set()
    for place, value in lines:
        intervention = intervention_from(value, where=place, tasks=tasks)
        key = (intervention.task, intervention.id)
        if key in seen:
            raise InputError(f"{place}: the intervention id {intervention.id!r} stands twice for this task.")
        seen.add(key)
        yield intervention


def shots_of(tasks: Sequence[Task]) -> tuple[list[Example], dict[str, list[Example]]]:
    """Return the shots of all tasks, task after task, and likewise those of each verbosity level."""
    levels = sorted({level for task in tasks for level in task.level_shots})
    by_level = {level: [shot for task in tasks for shot in task.level_shots.get(level, ())] for level in levels}
    return [shot for task in tasks for shot in task.shots], by_level
