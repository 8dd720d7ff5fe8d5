"""A task ready to run: its examples, and the shots with where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from explaineval.datasets.readers import BUNDLED, READERS, SHAPES, read_bundled, read_task, read_task_jsonl, shape_of
from explaineval.errors import InputError
from explaineval.records import Example


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
        raise InputError(f"unknown task {reader!r}: choose from {', '.join(known)} (with PATH after a colon).")
    if reader in BUNDLED:
        if colon:
            raise InputError(f"task {reader!r} is bundled and takes no path: write {reader}, or jsonl:{rest}.")
        return TaskSpec(reader, reader, None)
    if not rest:
        raise InputError(f"task {reader!r} needs a path: {reader}:PATH.")
    path = Path(rest).expanduser()
    if base is not None and not path.is_absolute():
        path = base / path
    return TaskSpec(path.stem if reader == "jsonl" else reader, reader, path)


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
    examples = read_task(spec.reader, spec.path, spec.name)
    shape = shape_of(examples[0])
    shots: tuple[Example, ...] = ()
    source = "none"
    if count and shots_from is not None:
        shots = _shots_of(read_task_jsonl(shots_from, spec.name), examples[0], count, str(shots_from))
        source = f"the first {count} of {shots_from.name}"
        examples = [e for e in examples if all(e.fields != shot.fields for shot in shots)]
    elif count:
        able = [e for e in examples if e.explanation and e.gold]
        if len(able) >= count and len(examples) > count:
            shots = tuple(able[-count:])
            source = f"the last {count} of {spec.path.name if spec.path else spec.name}"
            reserved = {shot.id for shot in shots}
            examples = [e for e in examples if e.id not in reserved]
        elif (lender := SHAPES.get(frozenset(examples[0].fields))) is not None:
            shots = tuple(read_bundled(lender)[-count:])
            source = f"the bundled task {lender} ({spec.name} has {len(able)} usable explanations)"
    if len(shots) < count:
        raise InputError(
            f"task {spec.name!r} has too few rows with gold label and explanation for {count} shots: "
            "give --shots-from FILE, or --shots 0."
        )
    if not examples:
        raise InputError(f"task {spec.name!r}: every example serves as a shot, so none is left to evaluate.")
    return Task(spec, shape, tuple(examples[:limit]), shots, source)


def _shots_of(rows: list[Example], like: Example, count: int, place: str) -> tuple[Example, ...]:
    for row in rows:
        if set(row.fields) != set(like.fields):
            raise InputError(
                f"{place}: shot {row.id!r} has the fields {', '.join(row.fields)}, "
                f"but the task has {', '.join(like.fields)}."
            )
    return tuple(row for row in rows if row.gold and row.explanation)[:count]
