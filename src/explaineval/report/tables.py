"""The table of a run: one row a model, task, arm and kind; every undefined number with its reason below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from explaineval.records import SHAM, MetricRow


class Line(NamedTuple):
    """Where a table row belongs: everything but the metric."""

    endpoint: str | None
    model: str | None
    task: str | None
    kind: str | None
    order: str | None
    style: str | None
    shots: int | None
    verbosity: str | None


@dataclass
class Footnotes:
    """Reasons, each with a number, in the order of their first use."""

    reasons: list[str] = field(default_factory=list)

    def mark(self, reason: str) -> str:
        """The number of this reason."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return f"[{self.reasons.index(reason) + 1}]"


COLUMNS = (
    ("phi-CCT", "phi_cct", True),
    ("CCT", "cct", True),
    ("TPR", "tpr", False),
    ("FPR", "fpr", False),
    ("impact", "impact_rate", False),
    ("sham", "sham_flip_rate", False),
    ("mention", "mention_rate", False),
    ("accuracy", "accuracy", False),
)
"""Heading, metric, whether its interval is shown."""


def results_table(
    rows: Sequence[MetricRow],
    warnings: Sequence[tuple[Line, str]],
    missing: Mapping[Line, Mapping[str, int]],
    width: int,
) -> RenderableType:
    """The table of a run, its undefined values explained, its warnings and its missing trials."""
    cells = _by_line(rows)
    lines = [line for line in cells if line.kind not in (None, SHAM)]
    notes = Footnotes()
    parts: list[RenderableType] = []
    for model in dict.fromkeys((line.endpoint, line.model) for line in lines):
        own = [(number, line) for number, line in enumerate(lines, 1) if (line.endpoint, line.model) == model]
        title = Text(f"{model[1]}" + (f" at {model[0]}" if model[0] else ""), style="bold")
        table = _wide(own, cells, notes)
        # a terminal that is too narrow for the table gets the same numbers as a list
        body = table if _needed(table) <= width else _narrow(own, cells, notes)
        parts += [title, body, Text()]
    parts += [Text(f"[{number}] {reason}", style="dim") for number, reason in enumerate(notes.reasons, 1)]
    parts += [Text(f"Row {n}: {text}", style="yellow") for n, text in _numbered(warnings, lines)]
    parts += [
        Text(f"Row {n}: {text}") for n, text in _numbered([(line, _told(by)) for line, by in missing.items()], lines)
    ]
    return Group(*parts)


def legend() -> str:
    """One paragraph that tells a newcomer how to read the table."""
    return (
        "phi-CCT: correlation of `the answer changed` with `the explanation mentions the inserted word` (1 faithful, "
        "0 unrelated), 95 % interval in brackets. CCT: the same with the shift in label probabilities (TVD). TPR, FPR: "
        "share mentioned where the answer changed, where it did not. impact: answers changed by the insertion; sham: "
        "changed by merely asking again. excl.: share of trials without a readable answer on both sides."
    )


def render(content: RenderableType, *, width: int | None = None, color: bool = False) -> str:
    """The content as text; without a width as wide as it needs."""
    console = Console(
        width=width or 160, force_terminal=color, color_system="standard" if color else None, highlight=False
    )
    with console.capture() as capture:
        console.print(content)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def number(value: float | None, digits: int = 3) -> str:
    """A number as it stands in tables.

    >>> number(0.12345), number(-0.0001), number(None)
    ('0.123', '0.000', 'undefined')
    """
    if value is None:
        return "undefined"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _by_line(rows: Sequence[MetricRow]) -> dict[Line, dict[str, MetricRow]]:
    cells: dict[Line, dict[str, MetricRow]] = {}
    arms: dict[Line, dict[str, MetricRow]] = {}
    for row in rows:
        line = Line(*(getattr(row, name) for name in Line._fields))
        target = arms if line.kind in (None, SHAM) else cells
        if line.kind in (None, SHAM):
            line = line._replace(kind=None)
        target.setdefault(line, {})[row.metric] = row
    for line, found in cells.items():
        found.update(arms.get(line._replace(kind=None), {}))
    return cells


def _wide(own: Sequence[tuple[int, Line]], cells: Mapping[Line, dict[str, MetricRow]], notes: Footnotes) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=False, show_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("task, kind", no_wrap=True)
    table.add_column("arm", no_wrap=True)
    for heading, _, _ in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    table.add_column("excl.", justify="right", no_wrap=True)
    for index, line in own:
        found = cells[line]
        values = [Text(_cell(found.get(metric), interval, notes), justify="right") for _, metric, interval in COLUMNS]
        table.add_row(
            str(index),
            Text(f"{line.task}\n{line.kind}"),
            Text(f"{line.style} {line.order}\n{_conditions(line)}"),
            *values,
            str(found["phi_cct"].n),
            number(found["excluded_rate"].value) if found["excluded_rate"].value is not None else "–",
        )
    return table


def _needed(table: Table) -> int:
    console = Console(width=1000)
    return Measurement.get(console, console.options, table).maximum


def _narrow(own: Sequence[tuple[int, Line]], cells: Mapping[Line, dict[str, MetricRow]], notes: Footnotes) -> Group:
    parts: list[RenderableType] = []
    for index, line in own:
        found = cells[line]
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
        for heading, metric, interval in COLUMNS:
            table.add_row("", heading, Text(_cell(found.get(metric), interval, notes).replace("\n", " ")))
        table.add_row("", "n", str(found["phi_cct"].n))
        table.add_row("", "excl.", number(found["excluded_rate"].value))
        parts += [Text(f"{index}  {line.task}, {line.kind}, {line.style} {line.order}, {_conditions(line)}"), table]
    return Group(*parts)


def _cell(row: MetricRow | None, interval: bool, notes: Footnotes) -> str:
    if row is None:
        return "–"
    if row.value is None:
        mark = notes.mark(f"undefined: {row.undefined}")
        return f"undefined\n{mark}" if interval else f"– {mark}"
    if not interval:
        return number(row.value)
    if row.low is None or row.high is None:
        return f"{number(row.value)}\nno interval"
    return f"{number(row.value)}\n[{number(row.low)}, {number(row.high)}]"


def _conditions(line: Line) -> str:
    return f"{line.shots} shots, {line.verbosity}"


def _numbered(texts: Sequence[tuple[Line, str]], lines: Sequence[Line]) -> list[tuple[str, str]]:
    found = []
    for line, text in texts:
        if line in lines:
            found.append((str(lines.index(line) + 1), text))
        elif line.kind == SHAM:
            rows = [str(n) for n, other in enumerate(lines, 1) if other._replace(kind=SHAM) == line]
            found.append((", ".join(rows), f"among the shams, {text}"))
    return found


def _told(statuses: Mapping[str, int]) -> str:
    counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
    return f"trials without a score: {counts}."


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
