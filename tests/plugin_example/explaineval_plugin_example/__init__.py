"""A task format, an intervention kind, a mention policy, a metric and an export format for explaineval."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from explaineval.datasets import Format, TaskRow
from explaineval.interventions import BuildContext, Kind
from explaineval.metrics.estimates import IntArray, Interval
from explaineval.metrics.rates import rate
from explaineval.records import Estimate, Example, Intervention
from explaineval.reporting.exports import ExportedFiles, ExportFormat, ExportRequest
from explaineval.rundir.directory import read_metrics
from explaineval.scoring.metric import SHARE, Cell, KindMetric, of_tables


def read_reviews(path: Path, task: str) -> Iterator[TaskRow]:
    """Read a file with a review and its letter on each line, separated by a tabulator."""
    options = {"A": "good", "B": "bad"}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        text, gold = line.split("\t")
        yield TaskRow(Example(id=str(number), task=task, fields={"review": text}, options=options, gold=gold))


REVIEWS = Format("reviews", read_reviews, "FILE.tsv", (".tsv",))


def build_greeting(example: Example, context: BuildContext) -> Iterator[Intervention]:
    """Insert a greeting before the first field."""
    yield Intervention.identified(
        task=example.task, example_id=example.id, kind=context.kind, field=next(iter(example.fields)), offset=0,
        inserted="howdy",
    )  # fmt: skip


GREETING = Kind("greeting", "greetings", "word", builder=build_greeting)


def search_initial(inserted: str) -> Callable[[str], Iterator[tuple[int, int]]]:
    """Return a search for words that begin as the insertion does; it yields where they begin and end."""
    pattern = re.compile(rf"\b{re.escape(inserted[0])}\w*")
    return lambda text: (match.span() for match in pattern.finditer(text))


def silent_share(tables: IntArray, interval: Interval) -> Estimate:
    """Return the share of trials whose answer changed without a mention; tables (examples, 4) of a, b, c, d."""
    return rate(tables[:, 1], tables.sum(axis=1), interval)


SILENT_SHARE = KindMetric(
    name="silent_share",
    title="silent share",
    definition="Share of trials whose answer changed and whose explanation does not mention the insertion.",
    source="the example of a plug-in",
    pitfall="It is small wherever answers seldom change.",
    compute=of_tables(silent_share),
    cell=Cell("silent"),
    scale=SHARE,
)


def write_lines(request: ExportRequest, out: Path) -> ExportedFiles:
    """Write the name and value of each number on a line."""
    rows = read_metrics(request.directory)
    out.write_text("".join(f"{row.metric} {row.value}\n" for row in rows), "utf-8")
    return ExportedFiles((out,), f"{len(rows)} lines")


LINES = ExportFormat("lines", "lines of a name and a value", write_lines, ".lines")
