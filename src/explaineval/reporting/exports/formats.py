"""The formats that a run can be exported to, one value each. To add one, write its writer and add it to FORMATS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from explaineval.errors import InputError
from explaineval.reporting.exports.rows import TABLES, Table
from explaineval.reporting.results import read_results
from explaineval.text import counted

BUNDLE = "bundle"
"""The format that is no export of rows but the run itself with its answers; `archive.bundle` writes it."""

DEFAULT_TABLE = "metrics"


@dataclass(frozen=True)
class Exported:
    """What was written: its files in order, and in words how much they hold."""

    files: tuple[Path, ...]
    holds: str


@dataclass(frozen=True)
class Choice:
    """What is exported: a run directory, the table for formats of rows, and the time for records that hold it."""

    directory: Path
    table: str
    now: datetime


@dataclass(frozen=True)
class Format:
    """One format. `suffix` is that of its files; `of_rows` says whether a table of rows is chosen for it.

    `is_directory` says that --out names a directory, into which one file is written for each part of the run.
    """

    name: str
    title: str
    write: Callable[[Choice, Path], Exported]
    suffix: str | None = None
    of_rows: bool = False
    is_directory: bool = False


def _of_rows(writer: Callable[[Table, Path], int]) -> Callable[[Choice, Path], Exported]:
    def write(choice: Choice, out: Path) -> Exported:
        count = writer(TABLES[choice.table](choice.directory), out)
        return Exported((out,), f"{counted(count, 'row')} of {choice.table}")

    return write


def _csv(table: Table, out: Path) -> int:
    from explaineval.reporting.exports.table_files import write_csv

    return write_csv(table, out)


def _json_lines(table: Table, out: Path) -> int:
    from explaineval.reporting.exports.table_files import write_json_lines

    return write_json_lines(table, out)


def _parquet(table: Table, out: Path) -> int:
    from explaineval.reporting.exports.table_files import write_parquet

    return write_parquet(table, out)


def _latex(choice: Choice, out: Path) -> Exported:
    from explaineval.reporting.exports.headline import headlines_of
    from explaineval.reporting.exports.latex import latex_tables

    headlines = headlines_of(read_results([choice.directory]))
    return _write_text(latex_tables(headlines), out, counted(sum(len(table.rows) for table in headlines), "row"))


def _markdown(choice: Choice, out: Path) -> Exported:
    from explaineval.reporting.exports.headline import headlines_of
    from explaineval.reporting.exports.markdown import markdown_tables

    headlines = headlines_of(read_results([choice.directory]))
    return _write_text(
        markdown_tables(headlines), out, f"{counted(sum(len(table.rows) for table in headlines), 'row')}"
    )


def _card(choice: Choice, out: Path) -> Exported:
    from explaineval.reporting.exports.data_card import data_card

    text = data_card(read_results([choice.directory]).runs[0], out)
    return _write_text(text, out, counted(len(text), "character"))


def _inspect(choice: Choice, out: Path) -> Exported:
    from explaineval.reporting.exports.inspect_logs import write_inspect_logs

    files, samples = write_inspect_logs(read_results([choice.directory]).runs[0], out)
    return Exported(files, f"{counted(len(files), 'log')} with {counted(samples, 'sample')}")


def _every_eval_ever(choice: Choice, out: Path) -> Exported:
    from explaineval.reporting.exports.every_eval_ever import write_records

    files, results = write_records(read_results([choice.directory]).runs[0], out, choice.now)
    return Exported(files, f"{len(files):,} records with {counted(results, 'result')}")


def _write_text(text: str, out: Path, holds: str) -> Exported:
    from explaineval.reporting.exports.table_files import creating
    from explaineval.secrets import SECRETS

    with creating(out) as handle:
        handle.write(SECRETS.mask(text).encode("utf-8", "replace"))
    return Exported((out,), holds)


_FORMATS = (
    Format("csv", "CSV for spreadsheets, R and pandas", _of_rows(_csv), ".csv", of_rows=True),
    Format("parquet", "Parquet with typed columns", _of_rows(_parquet), ".parquet", of_rows=True),
    Format("jsonl", "JSON lines", _of_rows(_json_lines), ".jsonl", of_rows=True),
    Format("latex", "a LaTeX table of the first numbers", _latex, ".tex"),
    Format("markdown", "the same as a Markdown table", _markdown, ".md"),
    Format("card", "a data card in Markdown", _card, ".md"),
    Format("inspect", "logs of Inspect AI, one for each model, task and arm", _inspect, is_directory=True),
    Format("every-eval-ever", "records of Every Eval Ever, one for each model", _every_eval_ever, is_directory=True),
)
FORMATS: Mapping[str, Format] = {known.name: known for known in _FORMATS}
"""All formats but the bundle, by name."""


def format_of(name: str | None, out: Path, table: str | None) -> Format | None:
    """Return the format that is asked for by name or by the suffix of `out`; None stands for the bundle.

    Raises InputError where the suffix belongs to several formats, or a table is named for a format without rows.
    """
    if name is None:
        fitting = [known for known in FORMATS.values() if known.suffix is not None and known.suffix == out.suffix]
        if len(fitting) > 1:
            names = " or ".join(known.name for known in fitting)
            raise InputError(f"--out {out}: {out.suffix} files are of several formats: add --format {names}.")
        chosen = fitting[0] if fitting else None
    else:
        chosen = FORMATS.get(name)
    if table is not None and (chosen is None or not chosen.of_rows):
        rows = ", ".join(known.name for known in FORMATS.values() if known.of_rows)
        raise InputError(f"--rows {table}: only formats of rows have a table: {rows}.")
    return chosen
