"""The table of a run: one row for each model, task, arm and kind, with every undefined number explained below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from explaineval.interventions import KINDS
from explaineval.records import Condition, MetricRow
from explaineval.reporting.view import Footnotes, ShownNumber, conditions_of
from explaineval.scoring.codes import THIN_CODES, MetricWarning
from explaineval.scoring.external import EXTERNAL
from explaineval.scoring.metric import Cell, KindMetric, LevelMetric, Metric
from explaineval.scoring.registry import (
    ACCURACY,
    EXCLUDED_RATE,
    F_AUROC,
    F_AUROC_OWN,
    FPR,
    IMPACT_RATE,
    MENTION_FLOOR,
    MENTION_RATE,
    METRICS,
    NULL_EDIT_RATE,
    PHI_CCT,
    SHAM_RATE,
    TPR,
)
from explaineval.scoring.rows import Scores
from explaineval.text import NONE, UNDEFINED, counted, visible

APART = {kind.name: kind.title for kind in KINDS.values() if kind.measures_noise}
"""Kinds without a row of their own in the table, and what they are called."""

OF_ARMS = (None, *APART)
"""Kinds whose numbers hold for a whole arm: they stand in each of its rows."""

TRIALS = "n"
"""Stands for the number of scored trials, which is no metric."""

STACKED = (
    (TPR, FPR),
    (IMPACT_RATE, SHAM_RATE, NULL_EDIT_RATE),
    (MENTION_RATE, MENTION_FLOOR),
    (ACCURACY, EXCLUDED_RATE, TRIALS),
)
"""The metrics that share a column of the table, from top to bottom; any other has a column of its own."""

AREAS_STACKED = ((F_AUROC, F_AUROC_OWN),)
"""The same of areas in the table of verbosity levels, where a row shows the first of a column that it has."""

Numbers = Mapping[str, ShownNumber]

StackedCells = list[tuple[str, Cell]]
"""The metrics in one column of a table, from top to bottom."""


def results_table(
    rows: Sequence[MetricRow],
    warnings: Sequence[tuple[Condition, str]],
    missing: Mapping[Condition, Mapping[str, int]],
    width: int,
) -> RenderableType:
    """Return the table of a run, the reasons of its undefined values, its warnings and its missing trials.

    `warnings` are sentences as `table_warnings` gives them, `missing` counts trials by condition and status, `width` is
    that of the terminal in columns: a terminal that is too narrow for a table gets the same numbers as a list.
    """
    views = sorted(conditions_of(Scores(tuple(rows), (), missing)), key=lambda view: view.over_levels)
    numbers = {view.condition: view.numbers for view in views}  # areas over levels come last
    conditions = list(numbers)
    cells = {name: metric.cell for name, metric in METRICS.items() if metric.cell} | {TRIALS: Cell("n")}
    columns = _columns(cells, STACKED, numbers)
    notes = Footnotes()
    parts: list[RenderableType] = []
    for endpoint, model in dict.fromkeys((condition.endpoint, condition.model) for condition in conditions):
        parts.append(Text(f"{model} at {endpoint}" if endpoint else model, style="bold"))
        own = [
            (index, condition)
            for index, condition in enumerate(conditions, start=1)
            if (condition.endpoint, condition.model) == (endpoint, model)
        ]
        arms = [_arm_entry(index, condition, numbers[condition], columns, notes)
                for index, condition in own if condition.verbosity is not None]  # fmt: skip
        if arms:
            headings = [[cell.heading for _, cell in column] for column in columns]
            parts += [_layout("task, kind\narm", headings, arms, width), Text()]
        sweeps = [(index, condition) for index, condition in own if condition.verbosity is None]
        if sweeps:
            parts += [_levels_table(sweeps, numbers, notes, width), Text()]
    parts += [
        Text(f"[{index}] undefined: {reason}", style="dim") for index, reason in enumerate(notes.reasons, start=1)
    ]
    parts += [Text(text, style="yellow") for text in _with_rows(warnings, conditions)]
    counts = [(condition, _missing_sentence(condition, statuses)) for condition, statuses in missing.items()]
    parts += [Text(text) for text in _with_rows(counts, conditions)]
    return Group(*parts)


def table_warnings(warnings: Iterable[tuple[Condition, MetricWarning]]) -> list[tuple[Condition, str]]:
    """Return the sentences to be printed under the table, from warnings of single numbers, in their order.

    Warnings about numbers that the table does not show are left out. What limits several numbers of a row in the same
    way is said once: of each code in THIN_CODES the first sentence, all of them as one paragraph, and nothing about an
    arm that its rows say already.
    """
    shown = [
        (condition.without_mention, warning)
        for condition, warning in warnings
        if (metric := METRICS[warning.metric]).cell is not None
        or metric.always_warned
        or isinstance(metric, LevelMetric)
    ]
    thin: dict[Condition, dict[str, str]] = {}
    for condition, warning in shown:
        if warning.code in THIN_CODES:
            thin.setdefault(condition, {}).setdefault(warning.code, warning.text)
    of_rows = {(condition.arm, code) for condition, by in thin.items() if condition.kind not in OF_ARMS for code in by}
    texts: list[tuple[Condition, str]] = []
    for condition, warning in shown:
        if warning.code not in THIN_CODES:
            texts.append((condition, warning.text))
        elif condition in thin:
            by_code = thin.pop(condition)
            if condition.kind in OF_ARMS:
                by_code = {code: text for code, text in by_code.items() if (condition.arm, code) not in of_rows}
            if by_code:
                texts.append((condition, " ".join(by_code[code] for code in THIN_CODES if code in by_code)))
    return texts


def legend() -> str:
    """Return one paragraph that explains the headings of the table to a newcomer."""
    cells = [(metric, metric.cell or metric.level_cell) for metric in METRICS.values()]
    explained = {cell.heading: metric.definition for metric, cell in reversed(cells) if cell is not None}
    sentences = [f"{heading}: {text.partition('. ')[0].removesuffix('.')}." for heading, text in explained.items()]
    return f"{' '.join(reversed(sentences))} Brackets hold 95 % intervals."


def render(content: RenderableType, *, width: int | None = None, color: bool = False) -> str:
    """Return the content as text of this width in columns (default 160).

    Foreign texts in it can neither act on a terminal nor style it.
    """
    console = Console(
        width=width or 160, force_terminal=color, color_system="standard" if color else None, highlight=False,
        markup=False, emoji=False,
    )  # fmt: skip
    with console.capture() as capture:
        console.print(_Harmless(content), crop=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


@dataclass(frozen=True)
class _Harmless:
    """Anything that rich can lay out, with its texts made harmless after they are laid out."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.content, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def _columns(
    cells: Mapping[str, Cell], stacked: Sequence[Sequence[str]], numbers: Mapping[Condition, Numbers]
) -> list[StackedCells]:
    """Return the columns of a table, without metrics that are shown only where some row has them and none has.

    Metrics that share a column stand at the place of the first of them.
    """
    measured = {metric for by_metric in numbers.values() for metric in by_metric}
    shown = {name: cell for name, cell in cells.items() if name in measured or not cell.if_measured}
    columns: dict[tuple[str, ...], StackedCells] = {}
    for name in shown:
        column = next((tuple(names) for names in stacked if name in names), (name,))
        columns.setdefault(column, [(other, shown[other]) for other in column if other in shown])
    return list(columns.values())


class TableEntry(NamedTuple):
    """One row of a table: its number, what it is about, and the texts in each of its columns."""

    row: int
    about: list[str]
    columns: list[list[str]]


def _layout(about: str, headings: Sequence[Sequence[str]], entries: Sequence[TableEntry], width: int) -> RenderableType:
    """Lay entries out as a table, or as a list where the table is wider than `width`."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=False, show_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column(about, no_wrap=True)
    for heading in headings:
        table.add_column("\n".join(heading), justify="right", no_wrap=True)
    for entry in entries:
        values = [Text("\n".join(texts), justify="right") for texts in entry.columns]
        table.add_row(str(entry.row), Text("\n".join(entry.about)), *values)
    console = Console(width=1000, markup=False, emoji=False)
    if Measurement.get(console, console.options, table).maximum <= width:
        return table
    parts: list[RenderableType] = []
    for entry in entries:
        listed = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
        for heading, texts in zip(headings, entry.columns, strict=True):
            listed.add_row("", ", ".join(heading), Text(", ".join(text.replace("\n", " ") for text in texts)))
        parts += [Text(f"{entry.row}  {', '.join(entry.about)}"), listed]
    return Group(*parts)


def _arm_entry(
    index: int, condition: Condition, own: Numbers, columns: Sequence[StackedCells], notes: Footnotes
) -> TableEntry:
    about = [
        f"{condition.task}, {condition.kind}",
        f"{condition.style} {condition.order}",
        f"{counted(condition.shots, 'shot')}, {condition.verbosity}",
    ]
    if condition.style == EXTERNAL:  # trials of another program: how they were asked is not known
        about = list(dict.fromkeys((condition.task, str(condition.kind), str(condition.verbosity))))
    return TableEntry(index, about, [[_text(own, name, cell, notes) for name, cell in column] for column in columns])


def _levels_table(
    sweeps: Sequence[tuple[int, Condition]],
    numbers: Mapping[Condition, Numbers],
    notes: Footnotes,
    width: int,
) -> RenderableType:
    """Return a table with a row for each numbered condition over several levels.

    A level's point is that of all of its trials, as in its own row; the area is over the trials that all levels share.
    """
    areas = _columns(_level_cells(LevelMetric), AREAS_STACKED, numbers)
    cells = _level_cells(KindMetric)
    points = _columns({FPR: cells[FPR], **cells}, (), numbers)  # as on the axes of the plane: FPR, then TPR
    entries = []
    for index, condition in sweeps:
        levels = {
            other.verbosity: of_level
            for other, of_level in numbers.items()
            if other.verbosity is not None and other._replace(verbosity=None) == condition
        }
        own = numbers[condition]
        texts = [
            [_text(own, *next((entry for entry in column if entry[0] in own), column[0]), notes)] for column in areas
        ]
        texts.append(list(levels))
        texts += [[_text(of_level, *column[0], notes) for of_level in levels.values()] for column in points]
        about = [
            f"{condition.task}, {condition.kind}",
            f"{condition.style} {condition.order}, {counted(condition.shots, 'shot')}",
        ]
        if condition.style == EXTERNAL:
            about = list(dict.fromkeys((condition.task, str(condition.kind))))
        entries.append(TableEntry(index, about, texts))
    headings = [[column[0][1].heading] for column in [*areas, [("", Cell("level"))], *points]]
    return _layout("task, kind\narm over levels", headings, entries, width)


def _level_cells(scope: type[Metric[Any]]) -> dict[str, Cell]:
    return {
        name: metric.level_cell for name, metric in METRICS.items() if metric.level_cell and isinstance(metric, scope)
    }


def _text(own: Numbers, metric: str, cell: Cell, notes: Footnotes) -> str:
    """Return what a table shows of one metric: its value, interval and remark, or a mark that leads to the reason."""
    if metric == TRIALS:
        return str(own[PHI_CCT].row.n) if PHI_CCT in own else NONE
    number = own.get(metric)
    if number is None:
        return NONE
    remark = f"\n{cell.remark}" if cell.remark else ""
    if number.value is None:
        mark = f"[{notes.mark(number.row.undefined or '')}]"
        return (f"{UNDEFINED}\n{mark}" if cell.interval else f"{NONE} {mark}") + remark
    interval = f"\n{number.plain_interval(cell.digits)}" if cell.interval else ""
    return f"{number.plain(cell.digits)}{interval}{remark}"


def _with_rows(texts: Sequence[tuple[Condition, str]], conditions: Sequence[Condition]) -> list[str]:
    """Return each text once, with the numbers of all rows that it is about."""
    about: dict[str, set[int]] = {}
    for condition, text in texts:
        rows = about.setdefault(text, set())
        for index, other in enumerate(conditions, start=1):
            if other == condition or (condition.kind in OF_ARMS and other._replace(kind=condition.kind) == condition):
                rows.add(index)
    return [
        f"{'Row' if len(rows) == 1 else 'Rows'} {', '.join(map(str, sorted(rows)))}: {text}" if rows else text
        for text, rows in about.items()
    ]


def _missing_sentence(condition: Condition, statuses: Mapping[str, int]) -> str:
    among = f"among the {APART[condition.kind]}, " if condition.kind in APART else ""
    return f"{among}trials without a score: {', '.join(f'{count} {status}' for status, count in statuses.items())}."


def interventions_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return interventions as a table: the input after the edit with the inserted word marked."""
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for heading in ("example", "id", "field"):
        table.add_column(heading, no_wrap=True, style="dim" if heading == "id" else None)
    table.add_column("input after the intervention")
    for row in rows:
        before, word, after = row["marked"]
        table.add_row(
            Text(row["example_id"]),
            Text(row["id"]),
            Text(row["field"] or "–"),
            Text.assemble(before, (word, "bold reverse"), after),
        )
    return table
