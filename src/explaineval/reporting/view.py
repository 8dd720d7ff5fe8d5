"""What readers see of results, as values: conditions with their numbers, intervals, grades, reasons and names.

The screen, tables, the page, figures and exports only lay these out. They are built once, from run directories
(`read_results`) or from the scores of one run (`conditions_of`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from explaineval.config import ModelConfig
from explaineval.interventions import kind_of
from explaineval.records import Condition, MetricRow
from explaineval.scoring.codes import GRADES
from explaineval.scoring.comparisons import Compared, TuningResult
from explaineval.scoring.metric import CORRELATION, Scale
from explaineval.scoring.registry import METRICS, UNFAITHFULNESS_PER_EXAMPLE
from explaineval.scoring.rows import Scores
from explaineval.scoring.shared import System
from explaineval.scoring.task_means import MEAN
from explaineval.scoring.warnings import RowWarning
from explaineval.text import NARROW_SPACE, NO_INTERVAL, UNDEFINED, interval_text, number_text, share_text

if TYPE_CHECKING:
    from explaineval.reporting.results import RunResults

FEWEST_FOR_PERCENT = 10
"""A rate of fewer trials than this is told as their number: 2 of 5."""

Place = tuple[int, Condition]
"""The number of a run and a condition in it: what numbers, warnings and missing trials are about."""


def scaled_text(value: float, scale: Scale, *, sign: bool = False) -> str:
    """Return a number as the page writes it: shares in per cent, and no -0.00; with `sign` also a plus.

    >>> scaled_text(-0.001, Scale()), scaled_text(0.4567, Scale(0, 1, percent=True, digits=1))
    ('0.00', '45.7\\u202f%')
    """
    if scale.percent:
        return share_text(value, scale.digits, NARROW_SPACE)
    return number_text(value, scale.digits, sign=sign)


def scaled_interval(low: float | None, high: float | None, scale: Scale) -> str:
    """Return an interval in brackets, or `no interval`; the sign of per cent stands at the value alone.

    >>> scaled_interval(-0.1, 0.25, Scale()), scaled_interval(None, None, Scale())
    ('[-0.10, 0.25]', 'no interval')
    """
    if low is None or high is None:
        return NO_INTERVAL
    factor = 100 if scale.percent else 1
    return interval_text(factor * low, factor * high, scale.digits)


@dataclass(frozen=True)
class ShownNumber:
    """One number of one condition; `grave` says that it must not be quoted as it stands.

    `mark` is the number of the footnote that says why it is undefined, where a table has footnotes.
    """

    row: MetricRow
    grave: bool = False
    mark: int | None = None

    @property
    def value(self) -> float | None:
        """The number itself; None where it is undefined."""
        return self.row.value

    @property
    def low(self) -> float | None:
        """The lower limit, None where there is none."""
        return self.row.low

    @property
    def high(self) -> float | None:
        """The upper limit, None where there is none."""
        return self.row.high

    @property
    def limits(self) -> tuple[float, float] | None:
        """Both limits, None where there are none."""
        return None if self.row.low is None or self.row.high is None else (self.row.low, self.row.high)

    @property
    def exact(self) -> str:
        """The number with all of its digits."""
        return "" if self.value is None else repr(self.value)

    @property
    def hits(self) -> str | None:
        """A rate of few trials as "2 of 5"; None for other numbers, and for means over tasks."""
        row = self.row
        if row.value is None or row.task == MEAN or not METRICS[row.metric].scale.percent:
            return None
        trials = row.n_examples if row.metric == UNFAITHFULNESS_PER_EXAMPLE else row.n
        hits = round(row.value * trials)
        is_count = trials < FEWEST_FOR_PERCENT and math.isclose(hits, row.value * trials, abs_tol=1e-9)
        return f"{hits} of {trials}" if is_count else None

    @property
    def share(self) -> str:
        """A rate as sentences tell it: in per cent, or of few trials as their number."""
        return UNDEFINED if self.value is None else self.hits or share_text(self.value)

    @property
    def without_interval(self) -> str | None:
        """What stands in place of an interval: a correlation of 1 or −1 is exact in these trials."""
        if self.limits is not None:
            return None
        is_exact = self.value is not None and abs(self.value) == 1 and METRICS[self.row.metric].scale == CORRELATION
        return "exactly" if is_exact else NO_INTERVAL

    def plain(self, digits: int = 2) -> str:
        """Return the value alone, as terminals and papers show it."""
        return UNDEFINED if self.value is None else number_text(self.value, digits)

    def plain_interval(self, digits: int = 2) -> str:
        """Return the interval as terminals and papers show it, or what stands in its place."""
        return self.without_interval or interval_text(self.low, self.high, digits)

    def __str__(self) -> str:
        """The value with its interval, on one line."""
        return UNDEFINED if self.value is None else f"{self.plain()} {self.plain_interval()}"

    @property
    def text(self) -> str:
        """The value as the page shows it, on the scale of its metric."""
        return UNDEFINED if self.value is None else self.hits or scaled_text(self.value, METRICS[self.row.metric].scale)

    @property
    def interval(self) -> str:
        """The interval as the page shows it; empty for a number that is undefined or never has one."""
        metric = METRICS[self.row.metric]
        if self.value is None or not metric.has_interval:
            return ""
        limits = self.without_interval or scaled_interval(self.low, self.high, metric.scale)
        counted_hits = self.hits is not None and self.without_interval is None
        return limits.replace("]", f"{NARROW_SPACE}%]") if counted_hits else limits


@dataclass
class Footnotes:
    """Reasons, numbered in the order of their first use: why numbers are undefined, or what is to be said of them."""

    reasons: list[str] = field(default_factory=list)

    def mark(self, reason: str) -> int:
        """Return the number of a reason."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason) + 1


@dataclass(frozen=True)
class ConditionView:
    """One condition of one run: its numbers by metric, those of its arm included, and what limits them.

    `run` is the number of the run among those that are read together, and `source` that run, where there is a run
    directory. `missing` counts its trials without a score by status.
    """

    run: int
    condition: Condition
    numbers: Mapping[str, ShownNumber]
    missing: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[RowWarning, ...] = ()
    source: RunResults | None = None

    @property
    def place(self) -> Place:
        """What it is about."""
        return self.run, self.condition

    @property
    def over_levels(self) -> bool:
        """Whether it is about several levels of verbosity together."""
        return self.condition.verbosity is None

    @property
    def grave(self) -> set[str]:
        """The metrics that must not be quoted as they stand."""
        return {row.warning.metric for row in self.warnings if row.warning.grade == GRADES[0]}

    @property
    def run_name(self) -> str:
        """The name of its run among those that are read together."""
        return "" if self.source is None else self.source.name

    @property
    def model(self) -> ModelConfig | None:
        """What the configuration says of its model."""
        return None if self.source is None else self.source.model(self.condition.endpoint, self.condition.model)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the numbers rest on: one, or all of the run for the mean."""
        is_mean = self.source is not None and self.condition.task == MEAN
        return tuple(self.source.record.facts.tasks) if self.source and is_mean else (self.condition.task,)

    def value(self, metric: str) -> float | None:
        """Return the value of a metric, None where it is undefined or not there."""
        number = self.numbers.get(metric)
        return None if number is None else number.value

    def limits(self, metric: str) -> tuple[float, float] | None:
        """Return the limits of a metric, None where it has none."""
        number = self.numbers.get(metric)
        return None if number is None else number.limits


def conditions_of(scores: Scores, run: int = 0, source: RunResults | None = None) -> list[ConditionView]:
    """Return each kind of intervention at each level, and over the levels, with the numbers of the headline source.

    Those that measure noise and those of whole arms (accuracy) stand in all conditions of their arm.
    """
    scores = scores.headline
    by_condition: dict[Condition, dict[str, MetricRow]] = {}
    for row in scores.rows:
        by_condition.setdefault(row.condition.without_mention, {})[row.metric] = row
    arms: dict[Condition, dict[str, MetricRow]] = {}
    for condition, rows in by_condition.items():
        if not has_own_row(condition):
            arms.setdefault(condition.arm, {}).update(rows)
    warnings: dict[Condition, list[tuple[int, RowWarning]]] = {}
    for number, warning in enumerate(scores.warnings):
        condition = warning.condition.without_mention
        warnings.setdefault(condition if has_own_row(condition) else condition.arm, []).append((number, warning))
    views = []
    for condition, rows in by_condition.items():
        if has_own_row(condition):
            limiting = sorted(
                [*warnings.get(condition, ()), *warnings.get(condition.arm, ())], key=lambda item: item[0]
            )
            grave = {item.warning.metric for _, item in limiting if item.warning.grade == GRADES[0]}
            numbers = {
                name: ShownNumber(row, name in grave) for name, row in (rows | arms.get(condition.arm, {})).items()
            }
            missing = scores.missing.get(condition, {})
            views.append(ConditionView(run, condition, numbers, missing, tuple(item for _, item in limiting), source))
    return views


def has_own_row(condition: Condition) -> bool:
    """Return whether tables have a row for a condition; the numbers of all others hold for a whole arm."""
    return condition.kind is not None and not kind_of(condition.kind).measures_noise


def condition_of(system: System, compared: Compared | TuningResult) -> Condition:
    """Return what the numbers of a compared system are about, on the task and kind of a comparison."""
    asked = (system.order, system.style, system.shots, system.verbosity)
    return Condition(system.endpoint, system.model, compared.task, compared.kind, *asked)
