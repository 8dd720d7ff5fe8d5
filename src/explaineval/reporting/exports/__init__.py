"""The formats that a run can be exported to. To add one, write its writer here and add it to FORMATS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from explaineval.errors import InputError
from explaineval.plugins import Registry
from explaineval.reporting.exports.rows import creating
from explaineval.reporting.results import read_results, read_run_results
from explaineval.secrets import SECRETS
from explaineval.text import counted

BUNDLE = "bundle"
"""The format that is no export of rows but the run itself with its answers; `archive.bundle` writes it."""

BUNDLE_SUFFIX = ".zip"

DEFAULT_TABLE = "metrics"


@dataclass(frozen=True)
class ExportedFiles:
    """What was written: its files in order, and in words how much they hold."""

    files: tuple[Path, ...]
    holds: str


@dataclass(frozen=True)
class ExportRequest:
    """What is exported: a run directory, the table for formats of rows, and the time for records that hold it."""

    directory: Path
    table: str
    now: datetime


@dataclass(frozen=True)
class ExportFormat:
    """One format. `suffix` is that of its files; `of_rows` says whether a table of rows is chosen for it.

    `is_directory` says that --out names a directory, into which one file is written for each part of the run.
    """

    name: str
    title: str
    write: Callable[[ExportRequest, Path], ExportedFiles]
    suffix: str | None = None
    of_rows: bool = False
    is_directory: bool = False


def _of_rows(writer: str) -> Callable[[ExportRequest, Path], ExportedFiles]:
    """Return what writes a table of rows; `writer` is its function in `rows`, which is imported when it is needed."""

    def write(request: ExportRequest, out: Path) -> ExportedFiles:
        from explaineval.reporting.exports import rows

        count = getattr(rows, writer)(rows.TABLES[request.table](request.directory), out)
        return ExportedFiles((out,), f"{counted(count, 'row')} of {request.table}")

    return write


def _latex(request: ExportRequest, out: Path) -> ExportedFiles:
    from explaineval.reporting.exports.papers import headlines_of, latex_tables

    headlines = headlines_of(read_results([request.directory]))
    return _write_text(latex_tables(headlines), out, counted(sum(len(table.rows) for table in headlines), "row"))


def _markdown(request: ExportRequest, out: Path) -> ExportedFiles:
    from explaineval.reporting.exports.papers import headlines_of, markdown_tables

    headlines = headlines_of(read_results([request.directory]))
    return _write_text(markdown_tables(headlines), out, counted(sum(len(table.rows) for table in headlines), "row"))


def _card(request: ExportRequest, out: Path) -> ExportedFiles:
    from explaineval.reporting.exports.data_card import data_card

    text = data_card(read_run_results(request.directory), out)
    return _write_text(text, out, counted(len(text), "character"))


def _inspect(request: ExportRequest, out: Path) -> ExportedFiles:
    from explaineval.reporting.exports.records import write_inspect_logs

    files, samples = write_inspect_logs(read_run_results(request.directory), out)
    return ExportedFiles(files, f"{counted(len(files), 'log')} with {counted(samples, 'sample')}")


def _every_eval_ever(request: ExportRequest, out: Path) -> ExportedFiles:
    from explaineval.reporting.exports.records import write_records

    files, results = write_records(read_run_results(request.directory), out, request.now)
    return ExportedFiles(files, f"{len(files):,} records with {counted(results, 'result')}")


def _write_text(text: str, out: Path, holds: str) -> ExportedFiles:
    with creating(out) as handle:
        handle.write(SECRETS.mask(text).encode("utf-8", "replace"))
    return ExportedFiles((out,), holds)


_FORMATS = (
    ExportFormat("csv", "CSV for spreadsheets, R and pandas", _of_rows("write_csv"), ".csv", of_rows=True),
    ExportFormat("parquet", "Parquet with typed columns", _of_rows("write_parquet"), ".parquet", of_rows=True),
    ExportFormat("jsonl", "JSON lines", _of_rows("write_json_lines"), ".jsonl", of_rows=True),
    ExportFormat("latex", "a LaTeX table of the first numbers", _latex, ".tex"),
    ExportFormat("markdown", "the same as a Markdown table", _markdown, ".md"),
    ExportFormat("card", "a data card in Markdown", _card, ".md"),
    ExportFormat("inspect", "logs of Inspect AI, one for each model, task and arm", _inspect, is_directory=True),
    ExportFormat(
        "every-eval-ever", "records of Every Eval Ever, one for each model", _every_eval_ever, is_directory=True
    ),
)
FORMATS = Registry("exports", ExportFormat, ((candidate.name, candidate) for candidate in _FORMATS), taken=(BUNDLE,))
"""All formats but the bundle, by name."""


def format_of(name: str | None, out: Path, table: str | None) -> ExportFormat | None:
    """Return the format that is asked for by name or by the suffix of `out`; None stands for the bundle.

    Raises InputError where the suffix belongs to several formats, or a table is named for a format without rows.
    """
    if name is None:
        fitting = [candidate for candidate in FORMATS.values() if candidate.suffix == out.suffix]
        if not fitting and out.suffix not in ("", BUNDLE_SUFFIX):
            fitting = [candidate for candidate in FORMATS.complete().values() if candidate.suffix == out.suffix]
        if len(fitting) > 1:
            names = " or ".join(candidate.name for candidate in fitting)
            raise InputError(f"--out {out}: {out.suffix} files are of several formats: add --format {names}.")
        chosen = fitting[0] if fitting else None
    else:
        chosen = FORMATS.find(name)
    if table is not None and (chosen is None or not chosen.of_rows):
        rows = ", ".join(candidate.name for candidate in FORMATS.values() if candidate.of_rows)
        raise InputError(f"--rows {table}: only formats of rows have a table: {rows}.")
    return chosen
