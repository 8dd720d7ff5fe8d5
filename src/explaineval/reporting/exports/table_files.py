"""Write a table as CSV, JSON lines or Parquet: one row at a time, in bounded memory."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from explaineval._version import __version__
from explaineval.config.installation import install_extra
from explaineval.errors import InputError
from explaineval.files import open_atomic
from explaineval.records import storable, storable_text
from explaineval.reporting.exports.rows import Column, Table
from explaineval.text import harmless

if TYPE_CHECKING:
    import pyarrow as pa

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


def write_csv(table: Table, path: Path) -> int:
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


def write_json_lines(table: Table, path: Path) -> int:
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


def write_parquet(table: Table, path: Path) -> int:
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


def _groups(table: Table) -> Iterator[list[Sequence[Any]]]:
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


def _batch(group: Sequence[Sequence[Any]], columns: Sequence[Column], schema: pa.Schema) -> pa.RecordBatch:
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
