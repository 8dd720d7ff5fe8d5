"""The rows of a run as typed columns: its metrics, its trials, or the differences of its comparison."""

from __future__ import annotations

import contextlib
import io
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from explaineval._version import __version__
from explaineval.config.installation import install_extra
from explaineval.errors import InputError
from explaineval.files import open_atomic, open_regular, read_lines
from explaineval.records import MetricRow, Trial, storable, storable_text
from explaineval.reporting.comparison_view import document_of
from explaineval.rundir.directory import (
    TRIALS,
    read_examples,
    read_interventions,
    read_metrics,
    read_run,
    read_trials,
)
from explaineval.scoring.comparisons import compare_runs
from explaineval.text import harmless

if TYPE_CHECKING:
    import pyarrow as pa


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


class TypedColumn(NamedTuple):
    """A column of a table: its name and the type of its cells, each of which may be None."""

    name: str
    type: ColumnType


@dataclass(frozen=True)
class TypedRows:
    """Rows of a run. `rows` is read once, one row at a time; each has one cell for each of the columns."""

    columns: tuple[TypedColumn, ...]
    rows: Iterable[Sequence[Any]]


def _metrics(directory: Path) -> TypedRows:
    rows = read_metrics(directory)
    columns = columns_of(MetricRow)
    return TypedRows(columns, ([getattr(row, column.name) for column in columns] for row in rows))


def _trials(directory: Path) -> TypedRows:
    read_run(directory)
    own = columns_of(Trial)
    return TypedRows((TypedColumn(TRIAL, "text"), *own), _trial_rows(directory, own))


def _trial_rows(directory: Path, columns: Sequence[TypedColumn]) -> Iterator[Sequence[Any]]:
    for trial in read_at(directory / TRIALS, _starts_in_order(directory)):
        values = (getattr(trial, column.name) for column in columns)
        typed = zip(columns, values, strict=True)
        yield [trial.id, *(_json(value) if column.type == "text" else value for column, value in typed)]


def _json(value: Any) -> Any:
    """Return a list or a dictionary as JSON text, and anything else as it is."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (tuple, dict)) else value


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


def _comparison(directory: Path) -> TypedRows:
    rows = document_of(compare_runs([directory], or_none=True))["rows"]
    if not rows:
        raise InputError(f"{directory} has nothing to compare: a comparison needs two models or two arms.")
    columns = tuple(
        TypedColumn(name, COMPARISON_TYPES.get(name) or _type_of_values(row[name] for row in rows)) for name in rows[0]
    )
    return TypedRows(columns, [[row[column.name] for column in columns] for row in rows])


TABLES: Mapping[str, Callable[[Path], TypedRows]] = {"metrics": _metrics, "trials": _trials, "comparison": _comparison}
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


def columns_of(record: type[BaseModel]) -> tuple[TypedColumn, ...]:
    """Return the columns of records, with the types of their fields.

    >>> columns_of(MetricRow)[-4:-2]
    (TypedColumn(name='n', type='integer'), TypedColumn(name='n_examples', type='integer'))
    """
    return tuple(TypedColumn(name, _type_of(field.annotation)) for name, field in record.model_fields.items())


def _type_of(annotation: Any) -> ColumnType:
    """Return the type of a field that is annotated so; what is none of the others is text."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    names: dict[Any, ColumnType] = {bool: "boolean", int: "integer", float: "number"}
    if annotation in names:
        return names[annotation]
    if get_origin(annotation) is dict:
        return "probabilities" if float in get_args(annotation) else "text"
    members = [member for member in get_args(annotation) if member is not type(None)]
    if len(members) == 1 and len(get_args(annotation)) == 2:  # the type or None
        return _type_of(members[0])
    return "text"


ROW_GROUP = 5_000
"""Rows of a Parquet file that are in memory at once, at most."""

GROUP_CHARACTERS = 16 << 20
"""Characters of text in memory beyond which a group of rows is written before it is full."""


@contextlib.contextmanager
def creating(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears at `path` once it is whole. Raises InputError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(path) as handle:
            yield handle
    except OSError as exc:
        raise InputError(f"{path} cannot be written: {exc.strerror or exc}.") from None


def write_csv(table: TypedRows, path: Path) -> int:
    """Write a CSV file (UTF-8, commas, a header) and return its number of rows.

    Every text is in quotes and no number is; None is an empty cell, and a dictionary is JSON. A text that a spreadsheet
    could run gets an apostrophe before it (see `harmless`), and a NUL, which no reader takes, becomes U+2400.
    """
    count = 0
    with creating(path) as handle, _text(handle) as out:
        out.write(",".join(_quoted(column.name) for column in table.columns) + "\n")
        for row in table.rows:
            out.write(",".join(map(_csv_cell, row)) + "\n")
            count += 1
    return count


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _quoted(harmless(value))
    return _quoted(json.dumps(storable(value), ensure_ascii=False))


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""').replace("\0", "\N{SYMBOL FOR NULL}") + '"'


def write_json_lines(table: TypedRows, path: Path) -> int:
    """Write one JSON object a line, every text as it is, and return the number of lines."""
    count = 0
    names = [column.name for column in table.columns]
    with creating(path) as handle, _text(handle) as out:
        for row in table.rows:
            document = storable(dict(zip(names, row, strict=True)))
            out.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    return count


@contextlib.contextmanager
def _text(handle: BinaryIO) -> Iterator[io.TextIOWrapper]:
    """Write text to a binary file. Halves of surrogate pairs, which UTF-8 cannot encode, become question marks."""
    text = io.TextIOWrapper(handle, encoding="utf-8", errors="replace", newline="\n")
    yield text
    text.flush()
    text.detach()


def write_parquet(table: TypedRows, path: Path) -> int:
    """Write a Parquet file with typed columns, every text as it is, and return its number of rows.

    Text is a string, an integer an int64, a number a double, a boolean a bool, and probabilities are a map from letters
    to doubles; None is null everywhere. Raises InputError where pyarrow is missing or the file cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError(f"Parquet files need pyarrow, which is not installed: {install_extra('report')}.") from error

    types = {
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "probabilities": pa.map_(pa.string(), pa.float64()),
    }
    schema = pa.schema(
        [pa.field(column.name, types[column.type]) for column in table.columns], metadata={"explaineval": __version__}
    )
    count = 0
    with creating(path) as handle, pq.ParquetWriter(handle, schema, compression="zstd") as writer:
        for group in _groups(table):
            writer.write_batch(_batch(group, table.columns, schema))
            count += len(group)
    return count


def _groups(table: TypedRows) -> Iterator[list[Sequence[Any]]]:
    """Yield the rows in groups of bounded size."""
    group: list[Sequence[Any]] = []
    characters = 0
    for row in table.rows:
        group.append(row)
        characters += sum(len(value) for value in row if isinstance(value, str))
        if len(group) == ROW_GROUP or characters > GROUP_CHARACTERS:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _batch(group: Sequence[Sequence[Any]], columns: Sequence[TypedColumn], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    arrays = []
    for values, column, field in zip(zip(*group, strict=True), columns, schema, strict=True):
        plain: Sequence[Any] = values
        if column.type == "text":
            plain = [value if value is None else storable_text(value) for value in values]
        elif column.type == "probabilities":
            plain = [value if value is None else list(value.items()) for value in values]
        arrays.append(pa.array(plain, type=field.type))
    return pa.record_batch(arrays, schema=schema)
