"""Make the tables of the page: which numbers stand in them, in which order, on which axis. Pure.

Which metrics a table has, their order and how they are written follow from `scoring.registry`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from explaineval.records import OUTCOMES, Condition
from explaineval.reporting.comparison_text import rank_text, remark_of, short_names, title_of
from explaineval.reporting.results import ComparedRuns
from explaineval.reporting.view import (
    ConditionNames,
    ConditionView,
    Footnotes,
    Place,
    ShownNumber,
    scaled_interval,
    scaled_text,
)
from explaineval.scoring.comparisons import Compared, GroupResult
from explaineval.scoring.metric import OPEN, KindMetric, Scale, View
from explaineval.scoring.registry import EXCLUDED_RATE, METRICS
from explaineval.text import UNDEFINED, counted, number_text, p_text

MOST_TICKS = 5
NARROWEST = 0.25
"""The share of all possible values that an axis shows at least, so that small differences look small."""


@dataclass(frozen=True)
class ValueAxis:
    """A horizontal axis from `low` to `high` on which intervals are drawn.

    `ticks` are values with their texts. `nothing` is the value that stands for no relation, None where it is not on
    the axis.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    nothing: float | None = None

    WIDTH = 200
    MARGIN = 12

    def at(self, value: float) -> float:
        """Return the place of a value from the left, in the units of the drawing; outside the axis that of its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.MARGIN + share * (self.WIDTH - 2 * self.MARGIN), 2)


def axis_of(numbers: Iterable[float | None], scale: Scale, *, sign: bool = False) -> ValueAxis | None:
    """Return an axis with round ticks that has room for these numbers and for no relation; None without any number."""
    known = [number for number in numbers if number is not None and math.isfinite(number)]
    if not known:
        return None
    if scale.nothing is not None:
        known.append(scale.nothing)
    elif scale.low is not None:
        known.append(scale.low)
    least, most = min(known), max(known)
    widest = 2.0 if scale.low is None or scale.high is None else scale.high - scale.low
    room = max(0.0, NARROWEST * widest - (most - least)) / 2
    least, most = least - room, most + room
    if scale.low is not None and scale.low > least:
        least, most = scale.low, most + scale.low - least
    if scale.high is not None and scale.high < most:
        least, most = least + scale.high - most, scale.high
    step = _step((most - least) / (MOST_TICKS - 1))
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    values = [number * step for number in range(first, last + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = Scale(percent=scale.percent, digits=max(0, digits - 2) if scale.percent else digits)
    return ValueAxis(
        low=values[0],
        high=values[-1],
        ticks=tuple((value, scaled_text(value, plain, sign=sign)) for value in values),
        nothing=scale.nothing,
    )


def _step(rough: float) -> float:
    """Return the smallest step of 1, 2 or 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))


SHOWN_PAIRS = 10
"""Differences that are shown at once; the others can be opened."""

MOST_PAIRS = 300
"""Differences that the page holds; `compare --json` has all."""


@dataclass(frozen=True)
class MetricColumn:
    """One column: the metric, its heading, and what it means. `drawn` has its intervals drawn too."""

    metric: str
    heading: str
    title: str
    meaning: str
    drawn: bool = False


@dataclass(frozen=True)
class ConditionRow:
    """One row: its name, the ranks that it may hold, what it rests on, and a value (or none) for each column."""

    name: str
    values: tuple[ShownNumber | None, ...]
    n: int | None = None
    n_examples: int | None = None
    rank: str | None = None


@dataclass(frozen=True)
class ConditionTable:
    """A table of conditions by metrics.

    `about` says what a row is, `shared` what all rows have in common. `reasons` are its footnotes: why values are
    undefined.
    """

    id: str
    about: str
    shared: str
    columns: tuple[MetricColumn, ...]
    rows: tuple[ConditionRow, ...]
    axis: ValueAxis | None = None
    reasons: tuple[str, ...] = ()

    @property
    def ranked(self) -> bool:
        """Whether the rows have ranks."""
        return any(row.rank is not None for row in self.rows)

    @property
    def counted(self) -> bool:
        """Whether the rows rest on different numbers of trials, so that each row says its own."""
        return len({(row.n, row.n_examples) for row in self.rows}) > 1

    @property
    def basis(self) -> str:
        """How many trials and examples every row rests on; empty where they differ."""
        first = next(iter(self.rows), None)
        if first is None or first.n is None or self.counted:
            return ""
        return f"{counted(first.n, 'trial')} of {counted(first.n_examples or 0, 'example')}"

    @property
    def grave(self) -> bool:
        """Whether some number in it must not be quoted as it stands."""
        return any(value is not None and value.grave for row in self.rows for value in row.values)


def columns_of(entries: Sequence[ConditionView], section: View) -> list[MetricColumn]:
    """Return a column for each metric of a section that some entry has, in the order of the registry.

    The first metric with intervals in tables is drawn, where the section is that of the results.
    """
    columns: list[MetricColumn] = []
    for metric in METRICS.values():
        if section not in metric.views or not any(metric.name in entry.numbers for entry in entries):
            continue
        cell = metric.cell or metric.level_cell
        drawn = section == "results" and not columns and cell is not None and cell.interval
        heading = metric.title if cell is None or section != "results" else cell.heading
        columns.append(MetricColumn(metric.name, heading, metric.title, metric.definition, drawn))
    return columns


def entry_table(
    name: str,
    entries: Sequence[ConditionView],
    section: View,
    names: ConditionNames,
    *,
    ranks: Mapping[Place, str] | None = None,
) -> ConditionTable:
    """Return the table of one section for these entries, the highest first where its first column is drawn.

    `ranks` are those of entries by their place.
    """
    columns = columns_of(entries, section)
    shared, own = names.split([entry.place for entry in entries])
    notes, rows = Footnotes(), []
    named = list(zip(own, entries, strict=True))
    if columns and columns[0].drawn:
        named.sort(key=lambda pair: _falling(pair[1], columns[0].metric))
    for title, entry in named:
        basis = entry.numbers.get(columns[0].metric) if columns else None
        rows.append(
            ConditionRow(
                title,
                tuple(_marked(entry, column.metric, notes) for column in columns),
                None if basis is None else basis.row.n,
                None if basis is None else basis.row.n_examples,
                None if not ranks else ranks.get(entry.place, "–"),
            )
        )
    axis = None
    if columns and columns[0].drawn:
        firsts = [row.values[0] for row in rows if row.values[0] is not None]
        limits = [number for value in firsts for number in (value.value, value.low, value.high)]
        axis = axis_of(limits, METRICS[columns[0].metric].scale)
    return ConditionTable(
        name, _about(entries), " · ".join(shared), tuple(columns), tuple(rows), axis, tuple(notes.reasons)
    )


def _about(entries: Sequence[ConditionView]) -> str:
    """Return what tells the rows of a table apart."""
    if len(entries) == 1 or len({entry.condition.model for entry in entries}) > 1:
        return "model"
    return "run" if len({entry.run for entry in entries}) == len(entries) else "asked as"


def _falling(entry: ConditionView, metric: str) -> tuple[bool, float]:
    """Sort the highest first, and what is undefined last."""
    value = entry.value(metric)
    return value is None, -(value or 0.0)


def _marked(entry: ConditionView, metric: str, notes: Footnotes) -> ShownNumber | None:
    number = entry.numbers.get(metric)
    if number is None or number.value is not None:
        return number
    return replace(number, mark=notes.mark(number.row.undefined or UNDEFINED))


def ranks_of(result: GroupResult, compared: Compared, entries: Mapping[int, ConditionView]) -> dict[Place, str]:
    """Return the ranks that systems may hold, by what their entries are about; none where nothing is tested.

    `entries` are those of the systems by their numbers in the group.
    """
    if not compared.tested or result.reference is not None:
        return {}
    return {entry.place: rank_text(compared.family.ranks[number]) for number, entry in entries.items()}


@dataclass(frozen=True)
class DifferenceRow:
    """One difference: what minus what, with its texts; `value`, `low` and `high` are drawn, None where undefined.

    `told` says that the two can be told apart. `values` are those of both, where there are only two systems. `mark` is
    the number of the footnote that says what has to be said of it, or why it is undefined.
    """

    name: str
    text: str
    interval: str
    p: str
    detectable: str
    value: float | None
    low: float | None
    high: float | None
    told: bool
    values: tuple[str, ...] = ()
    mark: int | None = None
    exact: str = ""


@dataclass(frozen=True)
class DifferenceTable:
    """Differences that are shown at once, and those that can be opened; `left_out` are in `compare --json` only."""

    id: str
    caption: str
    first: str
    names: tuple[str, ...]
    rows: tuple[DifferenceRow, ...]
    more: tuple[DifferenceRow, ...]
    axis: ValueAxis | None
    remarks: tuple[str, ...]
    left_out: int = 0


def difference_table(name: str, result: GroupResult, compared: Compared) -> DifferenceTable | None:
    """Return the differences of a leading family: of two systems in every metric, of more the pairs, clearest first.

    None where nothing can be said of any pair.
    """
    names, notes = short_names(result.group.names), Footnotes()
    if len(compared.family.differences) == 1:
        pair = compared.family.differences[0]
        families = [item for item in result.families if (item.task, item.kind) == (compared.task, compared.kind)]
        rows = [_metric_row(item, notes) for item in families]
        caption = (
            f"Differences, {names[pair.first]} minus {names[pair.second]}, on the trials that both share"
            f"{_adjusted(compared)}. All {f'but {title_of(compared.metric)} ' if compared.primary else ''}are "
            f"exploratory. A difference of 0.10 between shares is one of 10 percentage points. {DETECTABLE}"
        )
        both = (names[pair.first], names[pair.second])
        return DifferenceTable(name, caption, "metric", both, tuple(rows), (), _axis(rows), tuple(notes.reasons))
    tested = [(at, row) for at, row in enumerate(compared.family.differences) if row.p_adjusted is not None]
    if not tested:
        return None
    tested.sort(key=lambda pair: (pair[1].p_adjusted or 0.0, -abs((pair[1].value or 0.0) / (pair[1].error or 1.0))))
    rows = [_pair_row(compared, at, names, notes) for at, _ in tested[:MOST_PAIRS]]
    what = f"Differences in {title_of(compared.metric)} between pairs, the clearest first"
    caption = f"{what}{_adjusted(compared)}. {DETECTABLE}"
    return DifferenceTable(
        name,
        caption,
        "pair",
        (),
        tuple(rows[:SHOWN_PAIRS]),
        tuple(rows[SHOWN_PAIRS:]),
        _axis(rows),
        tuple(notes.reasons),
        len(tested) - len(rows),
    )


def _axis(rows: Sequence[DifferenceRow]) -> ValueAxis | None:
    limits = [number for row in rows for number in (row.value, row.low, row.high)]
    return axis_of(limits, OPEN._replace(nothing=0.0), sign=True)


def _mark(notes: Footnotes, reason: str | None) -> int | None:
    return None if reason is None else notes.mark(reason)


def _metric_row(compared: Compared, notes: Footnotes) -> DifferenceRow:
    """Return the difference of two systems in one metric; one of logarithms has no place on the axis of the others."""
    row = compared.family.differences[0]
    title = f"{title_of(compared.metric)}{' (logarithms)' if compared.on_log_scale else ''}"
    if compared.impact_rate is not None:
        title += f", {number_text(compared.impact_rate)}"
    scale = OPEN if compared.metric not in METRICS else METRICS[compared.metric].scale
    both = (compared.values[row.first], compared.values[row.second])
    return replace(
        _difference_row(title, compared, 0),
        values=tuple("–" if value is None else scaled_text(value, scale) for value in both),
        mark=_mark(notes, compared.why_undefined(row) or remark_of(compared, 0) or row.note),
    )


def _pair_row(compared: Compared, number: int, names: Sequence[str], notes: Footnotes) -> DifferenceRow:
    """Return one pair, the higher one first."""
    row = compared.family.differences[number]
    turned = (row.value or 0.0) < 0
    first, second = (row.second, row.first) if turned else (row.first, row.second)
    shown = _difference_row(f"{names[first]} − {names[second]}", compared, number, turned=turned)
    return replace(shown, mark=_mark(notes, remark_of(compared, number) or row.note))


def _difference_row(name: str, compared: Compared, number: int, *, turned: bool = False) -> DifferenceRow:
    """Return a difference with its adjusted limits and p; `turned`: the second minus the first."""
    row = compared.family.differences[number]
    if turned:
        row = row.turned
    value, low, high, p = row.value, row.low_adjusted, row.high_adjusted, row.p_adjusted
    on_log_scale = compared.on_log_scale
    detectable = "MOVER" if row.method == "mover" else ""
    return DifferenceRow(
        name=name,
        text=UNDEFINED if value is None else scaled_text(value, OPEN, sign=True),
        interval="" if value is None else scaled_interval(low, high, OPEN),
        p="" if p is None else p_text(p).removeprefix("= "),
        detectable=detectable if row.detectable is None else scaled_text(row.detectable, OPEN),
        value=None if on_log_scale else value,
        low=None if on_log_scale else low,
        high=None if on_log_scale else high,
        told=compared.claims[number].is_separated,
        exact="" if value is None else repr(value),
    )


DETECTABLE = (
    "Detectable: the true difference that 4 of 5 such studies would find; MOVER where few changed answers have a "
    "mention, or lack one, so that the limits of both are put together."
)


def _adjusted(compared: Compared) -> str:
    """Say over how many pairs p and limits are adjusted."""
    claims = compared.family.claims
    return f"; p and limits are adjusted over {counted(claims, 'pair')}" if claims > 1 else ""


@dataclass(frozen=True)
class MissingRow:
    """Trials of one condition: how many have a score, and how many have none, by status."""

    name: str
    scored: int
    counts: tuple[int, ...]
    share: str


@dataclass(frozen=True)
class MissingTable:
    """Trials without a score by condition and status.

    The caption is what all rows share. `whole` conditions miss none and have no row.
    """

    caption: str
    statuses: tuple[str, ...]
    rows: tuple[MissingRow, ...]
    whole: int


def missing_table(results: ComparedRuns, names: ConditionNames) -> MissingTable:
    """Return the trials without a score of all runs; shams have rows of their own."""
    found = [
        (number, condition, statuses)
        for number, run in enumerate(results.runs)
        for condition, statuses in run.scores.missing.items()
    ]
    statuses = tuple(status for status in OUTCOMES if any(status in counts for _, _, counts in found))
    shared, own = names.split([(number, condition) for number, condition, _ in found])
    scored = _scored(results)
    rows = []
    for name, (number, condition, counts) in zip(own, found, strict=True):
        missing, n = sum(counts.values()), scored.get((number, condition), 0)
        share = scaled_text(missing / (missing + n), METRICS[EXCLUDED_RATE].scale)
        rows.append(MissingRow(name, n, tuple(counts.get(status, 0) for status in statuses), share))
    whole = sum((number, condition) not in {(n, c) for n, c, _ in found} for number, condition in scored)
    return MissingTable(" · ".join(shared), statuses, tuple(rows), whole)


def _scored(results: ComparedRuns) -> dict[tuple[int, Condition], int]:
    """Return how many trials of each condition have a score: those that some number of it rests on."""
    counts: dict[tuple[int, Condition], int] = {}
    for number, run in enumerate(results.runs):
        for row in run.rows:
            metric, place = METRICS[row.metric], (number, row.condition.without_mention)
            of_kind = isinstance(metric, KindMetric) and metric.missing in ("left out", "bounded")
            if of_kind or (row.kind is not None and metric.own_kind == row.kind):
                counts[place] = max(counts.get(place, 0), row.n)
    return counts
