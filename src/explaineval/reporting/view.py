"""What readers see of results, as values: one number of one condition, and why it is undefined or must not be quoted.

The screen, tables, the page, exports and figures only lay these out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from explaineval.records import Condition, MetricRow
from explaineval.scoring.codes import GRADES
from explaineval.scoring.metric import CORRELATION
from explaineval.scoring.registry import METRICS, UNFAITHFULNESS_PER_EXAMPLE
from explaineval.scoring.task_means import MEAN
from explaineval.scoring.warnings import RowWarning
from explaineval.text import NO_INTERVAL, UNDEFINED, interval_text, number_text, share_text

FEWEST_FOR_PERCENT = 10
"""A rate of fewer trials than this is told as their number: 2 of 5."""


@dataclass(frozen=True)
class ShownNumber:
    """One number of one condition; `grave` says that it must not be quoted as it stands.

    `space` stands before the sign of per cent where a medium has a better one than an ordinary space.
    """

    row: MetricRow
    grave: bool = False

    @property
    def is_defined(self) -> bool:
        """Whether there is a number; the row's `undefined` says why not."""
        return self.row.value is not None

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
        return UNDEFINED if self.row.value is None else self.hits or share_text(self.row.value)

    @property
    def without_interval(self) -> str | None:
        """What stands in place of an interval: a correlation of 1 or −1 is exact in these trials."""
        row = self.row
        if row.low is not None and row.high is not None:
            return None
        is_exact = row.value is not None and abs(row.value) == 1 and METRICS[row.metric].scale == CORRELATION
        return "exactly" if is_exact else NO_INTERVAL

    def value(self, digits: int = 2) -> str:
        """Return the value alone."""
        return UNDEFINED if self.row.value is None else number_text(self.row.value, digits)

    def interval(self, digits: int = 2) -> str:
        """Return the interval, or what stands in its place."""
        return self.without_interval or interval_text(self.row.low, self.row.high, digits)

    def __str__(self) -> str:
        """The value with its interval, on one line."""
        return f"{self.value()} {self.interval()}" if self.is_defined else UNDEFINED


@dataclass
class Footnotes:
    """Reasons, numbered in the order of their first use: why numbers are undefined, or what is to be said of them."""

    reasons: list[str] = field(default_factory=list)

    def mark(self, reason: str) -> int:
        """Return the number of a reason."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason) + 1


def not_quoted(warnings: Iterable[RowWarning]) -> dict[Condition, set[str]]:
    """Return the metrics of each condition that must not be quoted as they stand."""
    found: dict[Condition, set[str]] = {}
    for row in warnings:
        if row.warning.grade == GRADES[0]:
            found.setdefault(row.condition.without_mention, set()).add(row.warning.metric)
    return found
