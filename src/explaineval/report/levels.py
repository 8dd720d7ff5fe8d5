"""F-AUROC as a table of its own: the area, the hull, and the point that each level of verbosity is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from explaineval.records import MetricRow
from explaineval.report.numbers import Line, number, with_interval

AREAS = ("f_auroc", "f_auroc_own")
POINT = (("FPR", "fpr", 3), ("TPR", "tpr", 3), ("words", "explanation_words", 1))
NARROWEST_TABLE = 76
Cells = Mapping[Line, Mapping[str, MetricRow]]


def levels_table(
    own: Sequence[tuple[int, Line]], cells: Cells, width: int, mark: Callable[[str], str]
) -> RenderableType:
    """A row for each numbered line over several levels; `mark` gives the footnote of a reason.

    A level's point is that of all of its trials, as in its own row; the area is over the trials that all levels share.
    A terminal that is too narrow for a table gets the same numbers as a list.
    """
    if width < NARROWEST_TABLE:
        return Group(*(_listed(index, line, cells, mark) for index, line in own))
    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=False, show_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("task, kind\narm over levels")
    for heading in ("F-AUROC", "hull"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("level", no_wrap=True)
    for heading, _, _ in POINT:
        table.add_column(heading, justify="right", no_wrap=True)
    for index, line in own:
        levels = _levels(line, cells)
        columns = ["\n".join(_shown(at.get(metric), digits) for at in levels.values()) for _, metric, digits in POINT]
        table.add_row(
            str(index),
            Text(f"{line.task}, {line.kind}\n{line.style} {line.order}, {line.shots} shots"),
            Text(_area(cells[line], mark), justify="right"),
            _shown(cells[line].get("f_auroc_hull"), 3),
            *(Text(column) for column in ("\n".join(levels), *columns)),
        )
    return table


def _listed(index: int, line: Line, cells: Cells, mark: Callable[[str], str]) -> Text:
    area = _area(cells[line], mark).replace("\n", " ")
    hull = _shown(cells[line].get("f_auroc_hull"), 3)
    told = [f"{index}  {line.task}, {line.kind}, {line.style} {line.order}, {line.shots} shots"]
    told.append(f"    F-AUROC {area}, hull {hull}")
    for level, at in _levels(line, cells).items():
        values = ", ".join(f"{heading} {_shown(at.get(metric), digits)}" for heading, metric, digits in POINT)
        told.append(f"    {level}: {values}")
    return Text("\n".join(told))


def _levels(line: Line, cells: Cells) -> dict[str, Mapping[str, MetricRow]]:
    """The rows of each level of this line, by its name, in the order of the run."""
    return {
        other.verbosity: found
        for other, found in cells.items()
        if other.verbosity is not None and other._replace(verbosity=None) == line
    }


def _area(found: Mapping[str, MetricRow], mark: Callable[[str], str]) -> str:
    row = next(found[name] for name in AREAS if name in found)
    own = "\nown answers" if row.metric == "f_auroc_own" else ""
    if row.value is None:
        return f"undefined\n{mark(f'undefined: {row.undefined}')}{own}"
    return with_interval(row) + own


def _shown(row: MetricRow | None, digits: int) -> str:
    return "–" if row is None or row.value is None else number(row.value, digits)
