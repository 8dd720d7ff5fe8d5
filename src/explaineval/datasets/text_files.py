"""Read the lines, CSV rows or JSONL objects of a file within bounded memory; an error names the file and the line."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from explaineval.errors import InputError
from explaineval.files import open_regular
from explaineval.text import counted, json_kind

Row = TypeVar("Row")

LONGEST_LINE = 1 << 24
"""Characters of the longest line that is read."""

csv.field_size_limit(1 << 20)


def read_text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a UTF-8 file (a byte-order mark is dropped).

    Raises InputError where the file is missing, unreadable, no regular file or not UTF-8, or a line is too long.
    """
    number = 0
    try:
        with open_regular(path) as handle, io.TextIOWrapper(handle, encoding="utf-8-sig", newline="") as text:
            while line := text.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise InputError(f"{path}:{number}: the line is longer than {LONGEST_LINE:,} characters.")
                yield number, line
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a directory, but this task is read from a file.") from None
    except UnicodeDecodeError as exc:
        raise InputError(f"{path} is not UTF-8 text (byte {exc.start}): convert it first.") from None
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}.") from None


DELIMITERS = (",", ";", "\t")
"""What may part the cells of a CSV file; spreadsheets of many countries write semicolons."""


def delimiter_of(header: str, columns: Collection[str] = ()) -> str:
    """Return what parts the cells of a header line: what makes most of `columns` a cell, then what makes most cells.

    >>> delimiter_of("id;text;why, in full"), delimiter_of("id;text,label", ["label"])
    (';', ',')
    """

    def fit(delimiter: str) -> tuple[int, int]:
        try:
            cells = next(csv.reader([header], delimiter=delimiter), [])
        except csv.Error:  # told where the file is read
            return 0, 0
        return len(set(columns) & set(cells)), len(cells)

    return max(DELIMITERS, key=fit)


def read_csv(
    path: Path, columns: Sequence[str], required: Collection[str] = ()
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (place, row) of a CSV file with a header that has at least `columns`; without any, all of its columns.

    Cells are parted by commas, semicolons or tabs. Raises InputError for an empty file, a missing column (named), a row
    that is cut short, or an empty cell in one of the columns `required`.
    """
    lines = _checked_lines(path)
    first = next(lines, "")
    reader = csv.DictReader(
        itertools.chain(filter(None, [first]), lines), delimiter=delimiter_of(first.rstrip("\r\n"), columns)
    )
    try:
        header = reader.fieldnames
    except csv.Error as exc:
        raise _unreadable(path, exc) from None
    if header is None:
        named = f"the columns {', '.join(columns)}" if columns else "a header"
        raise InputError(f"{path} is empty: expected a CSV file with {named}.")
    missing = [name for name in columns if name not in header]
    if missing:
        what = f"column {missing[0]} is" if len(missing) == 1 else f"columns {', '.join(missing)} are"
        raise InputError(f"{path}: {what} missing; the header has {', '.join(header)}.")
    counts = Counter(header)
    repeated = [name for name in columns or counts if counts[name] > 1 and name.strip()]
    if repeated:
        raise InputError(f"{path}: the header has the column {', '.join(repeated)} twice: rename one of the two.")
    for row in _rows(reader, path):
        place = f"{path}:{reader.line_num}"
        if any(row[name] is None for name in columns or header):
            raise InputError(f"{place}: the row has fewer cells than the header; the file may be cut off.")
        if not columns and row.get(None):
            raise InputError(f"{place}: the row has more cells than the header: put texts with commas in quotes.")
        blank = next((name for name in required if not row[name].strip()), None)
        if blank is not None:
            raise InputError(f"{place}: the cell of column {blank} is empty: fill it in, or leave the row out.")
        yield place, {name: row[name] for name in columns or header}


def read_header(path: Path) -> list[str]:
    """Return the names of the columns of a CSV file; none for an empty file. Raises InputError as `read_csv` does."""
    first = next(_checked_lines(path), "")
    return next(_rows(csv.reader([first], delimiter=delimiter_of(first.rstrip("\r\n"))), path), [])


def read_plain_csv(path: Path, cells: int) -> Iterator[tuple[str, list[str]]]:
    """Yield (place, cells) of a CSV file without header whose rows have at least `cells` cells."""
    reader = csv.reader(_checked_lines(path))  # ComVE's official files, which have commas
    for row in _rows(reader, path):
        if not row:
            continue
        if len(row) < cells:
            raise InputError(f"{path}:{reader.line_num}: expected at least {counted(cells, 'cell')}, found {len(row)}.")
        yield f"{path}:{reader.line_num}", row


def _checked_lines(path: Path) -> Iterator[str]:
    for number, line in read_text_lines(path):
        if "\0" in line:
            raise InputError(f"{path}:{number}: the line holds a NUL character; this is no CSV file.")
        yield line


def _rows(reader: Iterator[Row], path: Path) -> Iterator[Row]:
    """Yield the reader's rows; an error of the csv module becomes an InputError."""
    try:
        yield from reader
    except csv.Error as exc:
        raise _unreadable(path, exc) from None


def _unreadable(path: Path, exc: csv.Error) -> InputError:
    return InputError(f"{path}: not readable as CSV ({exc}); look for a quote that is never closed.")


def read_jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, object) of a JSONL file; blank lines are skipped. Raises InputError for any other line."""
    for number, line in read_text_lines(path):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as exc:
            raise InputError(f"{place}: not valid JSON ({exc.msg} at column {exc.colno}).") from None
        except RecursionError:
            raise InputError(f"{place}: not readable as JSON (nested too deep).") from None
        except ValueError:
            raise InputError(f"{place}: not readable as JSON (a number of thousands of digits).") from None
        if not isinstance(value, dict):
            raise InputError(f"{place}: expected one JSON object a line, found {json_kind(value)}.")
        yield place, value
