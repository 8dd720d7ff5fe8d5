"""A task format, an intervention kind, a mention policy, a metric and an export format for explaineval."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from explaineval.datasets import Format, TaskRow
from explaineval.records import Example
from explaineval.reporting.exports import ExportedFiles, ExportFormat, ExportRequest
from explaineval.rundir.directory import read_metrics


def read_reviews(path: Path, task: str) -> Iterator[TaskRow]:
    """Read a file with a review and its letter on each line, separated by a tabulator."""
    options = {"A": "good", "B": "bad"}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        text, gold = line.split("\t")
        yield TaskRow(Example(id=str(number), task=task, fields={"review": text}, options=options, gold=gold))


REVIEWS = Format("reviews", read_reviews, "FILE.tsv", (".tsv",))


def write_lines(request: ExportRequest, out: Path) -> ExportedFiles:
    """Write the name and value of each number on a line."""
    rows = read_metrics(request.directory)
    out.write_text("".join(f"{row.metric} {row.value}\n" for row in rows), "utf-8")
    return ExportedFiles((out,), f"{len(rows)} lines")


LINES = ExportFormat("lines", "lines of a name and a value", write_lines, ".lines")
