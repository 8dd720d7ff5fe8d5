"""The table of a run: one row a model, task, arm and kind; every undefined number with its reason below."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from explaineval.interventions import KINDS
from explaineval.metrics.warnings import TOGETHER, MetricWarning
from explaineval.records import Condition, MetricRow
from explaineval.text import visible


def number(value: float | None, digits: int = 3) -> str:
    """A number as it stands in tables.

    >>> number(0.12345), number(-0.0001), number(None)
    ('0.123', '0.000', 'undefined')
    """
    if value is None:
        return "undefined"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(row: MetricRow) -> str:
    """A number that is defined, its interval on a second line."""
    if row.low is None or row.high is None:
        return f"{number(row.value)}\nno interval"
    return f"{number(row.value)}\n[{number(row.low)}, {number(row.high)}]"


AREAS = ("f_auroc", "f_auroc_own")
POINT = (("FPR", "fpr", 3), ("TPR", "tpr", 3), ("words", "explanation_words", 1))
NARROWEST_TABLE = 76
Cells = Mapping[Condition, Mapping[str, MetricRow]]


def levels_table(
    own: Sequence[tuple[int, Condition]], cells: Cells, width: int, mark: Callable[[str], str]
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


def _listed(index: int, line: Condition, cells: Cells, mark: Callable[[str], str]) -> Text:
    area = _area(cells[line], mark).replace("\n", " ")
    hull = _shown(cells[line].get("f_auroc_hull"), 3)
    told = [f"{index}  {line.task}, {line.kind}, {line.style} {line.order}, {line.shots} shots"]
    told.append(f"    F-AUROC {area}, hull {hull}")
    for level, at in _levels(line, cells).items():
        values = ", ".join(f"{heading} {_shown(at.get(metric), digits)}" for heading, metric, digits in POINT)
        told.append(f"    {level}: {values}")
    return Text("\n".join(told))


def _levels(line: Condition, cells: Cells) -> dict[str, Mapping[str, MetricRow]]:
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


@dataclass
class Footnotes:
    """Reasons, each with a number, in the order of their first use."""

    reasons: list[str] = field(default_factory=list)

    def mark(self, reason: str) -> str:
        """The number of this reason."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return f"[{self.reasons.index(reason) + 1}]"


APART = {kind.name: kind.title for kind in KINDS if kind.own_metric is not None}
"""Kinds without a line of their own, and what they are called."""

OF_ARMS = (None, *APART)


class Column(NamedTuple):
    """One column: (heading, metric) for each of its lines, or one number with its interval."""

    lines: tuple[tuple[str, str], ...]
    interval: bool = False


TRIALS = "n"
"""Stands for the number of scored trials, which is no metric."""

COLUMNS = (
    Column((("phi-CCT", "phi_cct"),), interval=True),
    Column((("within", "phi_within"),), interval=True),
    Column((("CCT", "cct"),), interval=True),
    Column((("CCT sampled", "cct_sampled"),), interval=True),
    Column((("TPR", "tpr"), ("FPR", "fpr"))),
    Column((("impact", "impact_rate"), ("sham", "sham_flip_rate"), ("null", "null_edit_flip_rate"))),
    Column((("to cue", "flip_to_cue_rate"),)),
    Column((("mention", "mention_rate"), ("floor", "mention_floor"))),
    Column((("accuracy", "accuracy"), ("excl.", "excluded_rate"), ("n", TRIALS))),
)
IF_MEASURED = frozenset({"cct_sampled", "null_edit_flip_rate", "flip_to_cue_rate"})
"""Shown only where some row has them."""

SHOWN = frozenset(
    {metric for column in COLUMNS for _, metric in column.lines}
    | {*AREAS, "f_auroc_hull", "ct_unfaithfulness_per_example"}
)
"""The metrics whose warnings belong under the table: those that it shows, and one whose warning gives its value."""


def table_warnings(found: Iterable[tuple[Condition, MetricWarning]]) -> list[tuple[Condition, str]]:
    """The sentences to be printed under the table, from warnings of single numbers, in their order.

    Warnings about numbers that the table does not show are left out. What limits several numbers of a row in the same
    way is said once: of each code in TOGETHER the first sentence, all of them as one paragraph, and nothing of a whole
    arm that its rows have already.
    """
    shown = [(condition.without_mention, one) for condition, one in found if one.metric in SHOWN]
    thin: dict[Condition, dict[str, str]] = {}
    for line, one in shown:
        if one.code in TOGETHER:
            thin.setdefault(line, {}).setdefault(one.code, one.text)
    of_rows = {(line.arm, code) for line, by in thin.items() if line.kind not in OF_ARMS for code in by}
    texts: list[tuple[Condition, str]] = []
    for line, one in shown:
        if one.code not in TOGETHER:
            texts.append((line, one.text))
        elif line in thin:
            by_code = thin.pop(line)
            if line.kind in OF_ARMS:
                by_code = {code: text for code, text in by_code.items() if (line.arm, code) not in of_rows}
            if by_code:
                texts.append((line, " ".join(by_code[code] for code in TOGETHER if code in by_code)))
    return texts


def results_table(
    rows: Sequence[MetricRow],
    warnings: Sequence[tuple[Condition, str]],
    missing: Mapping[Condition, Mapping[str, int]],
    width: int,
) -> RenderableType:
    """The table of a run, its undefined values explained, its warnings and its missing trials."""
    cells = _by_line(rows)
    arms = [line for line in cells if line.verbosity is not None]
    sweeps = [line for line in cells if line.verbosity is None]
    lines = [*arms, *sweeps]
    columns = _columns(cells)
    notes = Footnotes()
    parts: list[RenderableType] = []
    for model in dict.fromkeys((line.endpoint, line.model) for line in lines):
        own = [(number, line) for number, line in enumerate(lines, 1) if (line.endpoint, line.model) == model]
        parts.append(Text(f"{model[1]}" + (f" at {model[0]}" if model[0] else ""), style="bold"))
        if found := [one for one in own if one[1] in arms]:
            table = _wide(found, cells, columns, notes)
            # a terminal that is too narrow for the table gets the same numbers as a list
            parts += [table if _needed(table) <= width else _narrow(found, cells, columns, notes), Text()]
        if found := [one for one in own if one[1] in sweeps]:
            parts += [levels_table(found, cells, width, notes.mark), Text()]
    parts += [Text(f"[{number}] {reason}", style="dim") for number, reason in enumerate(notes.reasons, 1)]
    parts += [Text(text, style="yellow") for text in _numbered(warnings, lines)]
    parts += [Text(text) for text in _numbered([(line, _told(line, by)) for line, by in missing.items()], lines)]
    return Group(*parts)


def legend() -> str:
    """One paragraph that tells a newcomer how to read the table."""
    return (
        "phi-CCT: correlation of `the answer changed` with `the explanation mentions the inserted word` (1 faithful, "
        "0 unrelated), 95 % interval in brackets. within: the same among the insertions of one example. CCT: the same "
        "as phi-CCT with the shift in label probabilities (TVD). TPR, FPR: share mentioned where the answer changed, "
        "where it did not. impact: answers changed by the insertion; sham: changed by merely asking again; null: "
        "by one more space. floor: share of inserted words that the explanation of the untouched input has. to cue: "
        "answers that changed to the suggested letter. excl.: share of trials without a readable answer on both sides. "
        "F-AUROC: how well mentions tell influence over levels of verbosity (0.5 not at all, 1 fully)."
    )


@dataclass(frozen=True)
class _Harmless:
    """Anything that rich can lay out, with its texts made harmless after they are laid out."""

    content: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.content, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def render(content: RenderableType, *, width: int | None = None, color: bool = False) -> str:
    """The content as text; without a width as wide as it needs. Foreign texts in it can neither act nor style it."""
    console = Console(
        width=width or 160, force_terminal=color, color_system="standard" if color else None, highlight=False,
        markup=False, emoji=False,
    )  # fmt: skip
    with console.capture() as capture:
        console.print(_Harmless(content), crop=False)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _by_line(rows: Sequence[MetricRow]) -> dict[Condition, dict[str, MetricRow]]:
    """The rows of each table line; what holds for a whole arm stands in all of its lines."""
    cells: dict[Condition, dict[str, MetricRow]] = {}
    arms: dict[Condition, dict[str, MetricRow]] = {}
    for row in rows:
        line = row.condition.without_mention
        target = arms if line.kind in OF_ARMS else cells
        if target is arms:
            line = line.arm
        target.setdefault(line, {})[row.metric] = row
    for line, found in cells.items():
        found.update(arms.get(line.arm, {}))
    return cells


def _columns(cells: Mapping[Condition, Mapping[str, MetricRow]]) -> list[Column]:
    """The columns without the lines that no row has, of those that are not always measured."""
    seen = {metric for found in cells.values() for metric in found}
    kept = [
        column._replace(lines=tuple(one for one in column.lines if one[1] not in IF_MEASURED or one[1] in seen))
        for column in COLUMNS
    ]
    return [column for column in kept if column.lines]


def _wide(
    own: Sequence[tuple[int, Condition]],
    cells: Mapping[Condition, Mapping[str, MetricRow]],
    columns: Sequence[Column],
    notes: Footnotes,
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=False, show_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("task, kind\narm", no_wrap=True)
    for column in columns:
        table.add_column("\n".join(heading for heading, _ in column.lines), justify="right", no_wrap=True)
    for index, line in own:
        found = cells[line]
        values = ["\n".join(_cell(found, metric, column.interval, notes) for _, metric in column.lines)
                  for column in columns]  # fmt: skip
        where = Text(f"{line.task}, {line.kind}\n{line.style} {line.order}\n{_conditions(line)}")
        table.add_row(str(index), where, *(Text(value, justify="right") for value in values))
    return table


def _needed(table: Table) -> int:
    console = Console(width=1000, markup=False, emoji=False)
    return Measurement.get(console, console.options, table).maximum


def _narrow(
    own: Sequence[tuple[int, Condition]],
    cells: Mapping[Condition, Mapping[str, MetricRow]],
    columns: Sequence[Column],
    notes: Footnotes,
) -> Group:
    parts: list[RenderableType] = []
    for index, line in own:
        found = cells[line]
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
        for column in columns:
            values = [_cell(found, metric, column.interval, notes).replace("\n", " ") for _, metric in column.lines]
            table.add_row("", ", ".join(heading for heading, _ in column.lines), Text(", ".join(values)))
        parts += [Text(f"{index}  {line.task}, {line.kind}, {line.style} {line.order}, {_conditions(line)}"), table]
    return Group(*parts)


def _cell(found: Mapping[str, MetricRow], metric: str, interval: bool, notes: Footnotes) -> str:
    if metric == TRIALS:
        return str(found["phi_cct"].n) if "phi_cct" in found else "–"
    row = found.get(metric)
    if row is None:
        return "–"
    if row.value is None:
        mark = notes.mark(f"undefined: {row.undefined}")
        return f"undefined\n{mark}" if interval else f"– {mark}"
    return with_interval(row) if interval else number(row.value)


def _conditions(line: Condition) -> str:
    return f"{line.shots} shots, {line.verbosity}"


def _numbered(texts: Sequence[tuple[Condition, str]], lines: Sequence[Condition]) -> list[str]:
    """Each text once, with the numbers of all lines that it is about."""
    found: dict[str, list[int]] = {}
    for line, text in texts:
        if line in lines:
            found.setdefault(text, []).append(lines.index(line) + 1)
        elif line.kind in OF_ARMS:
            about = [n for n, other in enumerate(lines, 1) if other._replace(kind=line.kind) == line]
            found.setdefault(text, []).extend(about)
    told = []
    for text, repeated in found.items():
        numbers = sorted(set(repeated))
        rows = "Row" if len(numbers) == 1 else "Rows"
        told.append(f"{rows} {', '.join(map(str, numbers))}: {text}" if numbers else text)
    return told


def _told(line: Condition, statuses: Mapping[str, int]) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
    return f"{f'among the {APART[line.kind]}, ' if line.kind in APART else ''}trials without a score: {counts}."


def interventions_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Interventions as a table: the input after the edit with the inserted word marked."""
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
