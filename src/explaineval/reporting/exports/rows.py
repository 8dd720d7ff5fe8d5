"""The rows of a run as typed columns: its metrics, its trials, or the differences of its comparison."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from explaineval.errors import InputError
from explaineval.files import open_regular, read_lines
from explaineval.records import MetricRow, Trial
from explaineval.reporting.comparison_document import document_of
from explaineval.rundir.directory import (
    TRIALS,
    read_examples,
    read_interventions,
    read_metrics,
    read_run,
    read_trials,
)
from explaineval.scoring.comparisons import compare_runs

ColumnType = Literal["text", "integer", "number", "boolean", "probabilities"]
"""What the cells of a column hold beside None. Probabilities are numbers by option letter."""

TRIAL = "trial"
"""The column of a trial's own name, `Trial.id`, which its line in trials.jsonl does not hold."""

COMPARISON_TYPES: Mapping[str, ColumnType] = {
    **dict.fromkeys(("shots", "n_pairs", "n_examples", "lost_a", "lost_b"), "integer"),
    **dict.fromkeys(("value_a", "value_b", "difference", "low", "high", "low_adjusted", "high_adjusted"), "number"),
    **dict.fromkeys(("p", "p_adjusted", "detectable", "unrestricted_a", "unrestricted_b"), "number"),
    **dict.fromkeys(("equivalent", "primary"), "boolean"),
}
"""Types of a comparison's columns that may be None in all rows; those of other columns follow from their values."""


class Column(NamedTuple):
    """A column of a table: its name and the type of its cells, each of which may be None."""

    name: str
    type: ColumnType


@dataclass(frozen=True)
class Table:
    """Rows of a run. `rows` is read once, one row at a time; each has one cell for each of the columns."""

    columns: tuple[Column, ...]
    rows: Iterable[Sequence[Any]]


def _metrics(directory: Path) -> Table:
    rows = read_metrics(directory)
    columns = columns_of(MetricRow)
    return Table(columns, ([getattr(row, column.name) for column in columns] for row in rows))


def _trials(directory: Path) -> Table:
    read_run(directory)
    own = columns_of(Trial)
    return Table((Column(TRIAL, "text"), *own), _trial_rows(directory, own))


def _trial_rows(directory: Path, columns: Sequence[Column]) -> Iterator[Sequence[Any]]:
    for trial in read_at(directory / TRIALS, _starts_in_order(directory)):
        yield [trial.id, *(getattr(trial, column.name) for column in columns)]


def _starts_in_order(directory: Path) -> Iterator[int]:
    """Yield where the lines of trials begin: by example, sample, intervention and arm, whoever answered first."""
    import numpy as np

    examples = {(example.task, example.id): place for place, example in enumerate(read_examples(directory))}
    interventions = {one.id: place for place, one in enumerate(read_interventions(directory), start=1)}
    arms = {name: place for place, name in enumerate(read_run(directory).facts.arms)}
    columns = [array("Q") for _ in range(6)]  # 48 bytes a trial
    for trial, start in zip(read_trials(directory), line_starts(directory / TRIALS), strict=False):
        example = examples.get((trial.task, trial.example_id), len(examples))
        intervention = interventions.get(trial.intervention_id or "", 0)
        arm = arms.get(trial.condition.arm_name, len(arms))
        for column, value in zip(
            columns, (example, trial.sample, intervention, arm, int(trial.id, 16), start), strict=True
        ):
            column.append(value)
    *keys, starts = columns
    return (starts[place] for place in np.lexsort([np.asarray(key) for key in reversed(keys)]))


def line_starts(path: Path) -> Iterator[int]:
    """Yield where each line begins, in bytes."""
    start = 0
    for line in read_lines(path):
        yield start
        start += len(line)


def read_at(path: Path, starts: Iterable[int]) -> Iterator[Trial]:
    """Yield the trials whose lines begin there."""
    with open_regular(path) as handle:
        for start in starts:
            handle.seek(start)
            yield Trial.model_validate_json(handle.readline())


def _comparison(directory: Path) -> Table:
    rows = document_of(compare_runs([directory], or_none=True))["rows"]
    if not rows:
        raise InputError(f"{directory} has nothing to compare: a comparison needs two models or two arms.")
    columns = tuple(
        Column(name, COMPARISON_TYPES.get(name) or _type_of_values(row[name] for row in rows)) for name in rows[0]
    )
    return Table(columns, [[row[column.name] for column in columns] for row in rows])


TABLES: Mapping[str, Callable[[Path], Table]] = {"metrics": _metrics, "trials": _trials, "comparison": _comparison}
"""How each table is read from a run directory. Each raises InputError for a directory without a finished run."""


def _type_of_values(values: Iterable[Any]) -> ColumnType:
    """Return the type of a column of these values; without any it is text.

    >>> _type_of_values([None, 1, 2.5]), _type_of_values([True]), _type_of_values([None])
    ('number', 'boolean', 'text')
    """
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return "boolean"
    if kinds and kinds <= {int, float}:
        return "integer" if kinds == {int} else "number"
    return "text"


def columns_of(record: type[BaseModel]) -> tuple[Column, ...]:
    """Return the columns of records, with the types of their fields.

    >>> columns_of(MetricRow)[-4:-2]
    (Column(name='n', type='integer'), Column(name='n_examples', type='integer'))
    """
    return tuple(Column(name, _type_of(field.annotation)) for name, field in record.model_fields.items())


def _type_of(annotation: Any) -> ColumnType:
    """Return the type of a field that is annotated so; what is none of the others is text."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    names: dict[Any, ColumnType] = {bool: "boolean", int: "integer", float: "number"}
    if annotation in names:
        return names[annotation]
    if get_origin(annotation) is dict:
        return "probabilities"
    members = [member for member in get_args(annotation) if member is not type(None)]
    if len(members) == 1 and len(get_args(annotation)) == 2:  # the type or None
        return _type_of(members[0])
    return "text"
