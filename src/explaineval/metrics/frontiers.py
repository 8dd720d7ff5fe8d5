"""Compare two models over levels of verbosity: which one names influence more often at the same false positive rate.

Each level of a model is a point (FPR, TPR). The frontier of one model is the line through its own points, in the order
in which F-AUROC joins them; the gap at a level of the other model is that frontier at the level's FPR, minus its TPR.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from explaineval.metrics.auroc import FEWEST_LEVELS, level_rates
from explaineval.metrics.differences import (
    LEVEL,
    Spread,
    holm_adjusted,
    satterthwaite,
    t_quantile,
    two_sided_p,
)
from explaineval.metrics.estimates import (
    FEWEST,
    ROUGH_BELOW,
    SMALLEST_SPREAD,
    FloatArray,
    IntArray,
    column_sums,
    deviations,
    error_of,
    exact_sum,
)
from explaineval.text import counted, only

Claim = Literal["first_dominates", "second_dominates", "trade_off", "neither_shown"]


@dataclass(frozen=True)
class Gap:
    """The first model's frontier minus the second model's TPR, at one level of the second.

    `deviations` (G,) are scaled so that the sum of their squares is the squared standard error; `spreads` are what each
    model adds to it, for the degrees of freedom. `undefined` says why there is no gap.
    """

    level: str
    fpr: float
    value: float | None
    deviations: FloatArray
    spreads: tuple[Spread, ...] = ()
    undefined: str | None = None

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(exact_sum(self.deviations**2))

    @property
    def df(self) -> float:
        """The degrees of freedom of the error (Satterthwaite 1946)."""
        return satterthwaite(self.spreads)

    @property
    def t(self) -> float:
        """The gap in standard errors; NaN where there is none."""
        return math.nan if self.value is None else self.value / self.error

    @property
    def p(self) -> float:
        """The two-sided p-value."""
        return two_sided_p(self.t, self.df)

    @property
    def limits(self) -> tuple[float, float]:
        """The two one-sided 95 % limits."""
        value = 0.0 if self.value is None else self.value
        half = t_quantile(self.df, 1 - LEVEL) * self.error
        return value - half, value + half


def frontier_at(fpr: FloatArray, tpr: FloatArray, at: FloatArray) -> FloatArray:
    """Return the height of lines through points (m, V) at FPRs (m, W), as (m, W); NaN where a point is undefined.

    The points are joined with (0, 0) and (1, 1), sorted by FPR then TPR. Where several have the same FPR, the highest
    counts.

    >>> frontier_at(np.array([[0.2, 0.4]]), np.array([[0.6, 0.8]]), np.array([[0.1, 0.2, 0.3, 1.0]]))
    array([[0.3, 0.6, 0.7, 1. ]])
    """
    order = np.lexsort((tpr, fpr), axis=1)
    ends = ((0, 0), (1, 1))
    x = np.pad(np.take_along_axis(fpr, order, axis=1), ends, constant_values=(0.0, 1.0))
    y = np.pad(np.take_along_axis(tpr, order, axis=1), ends, constant_values=(0.0, 1.0))
    left = (x[:, np.newaxis, :] <= at[:, :, np.newaxis]).sum(axis=2) - 1
    left = np.clip(left, 0, x.shape[1] - 1)
    right = np.minimum(left + 1, x.shape[1] - 1)
    x0, x1, y0, y1 = (np.take_along_axis(values, place, axis=1) for values in (x, y) for place in (left, right))
    share = np.divide(at - x0, x1 - x0, out=np.zeros_like(at), where=x1 > x0)
    height: FloatArray = y0 + share * (y1 - y0)
    undefined = np.isnan(x).any(axis=1, keepdims=True) | np.isnan(y).any(axis=1, keepdims=True) | np.isnan(at)
    return np.where(undefined, np.nan, height)


def gaps_of(first: IntArray, second: IntArray, levels: Sequence[str]) -> list[Gap]:
    """Return the gap between two models at each level of the second, from tables (G, V, 4) of the same G examples.

    A level of the second within one standard error of (0, 0) or (1, 1) is left out: every frontier goes through these.
    The answers of each model are the same at all levels.
    """
    examples, count = len(first), first.shape[1]
    rows = np.concatenate([first.reshape(examples, -1), second.reshape(examples, -1)], axis=1).astype(np.float64)
    own, other = rows[:, : 4 * count], rows[:, 4 * count :]
    total, width = column_sums(rows), own.shape[1]
    fpr, tpr = (rates[0] for rates in level_rates(total[np.newaxis, width:]))
    flipped = [int((tables[:, 0, :2].sum(axis=1) > 0).sum()) for tables in (first, second)]
    gaps = []
    for number, level in enumerate(levels):

        def gap(sums: FloatArray, number: int = number) -> FloatArray:
            frontier = level_rates(sums[:, :width])
            x, y = (rates[:, number : number + 1] for rates in level_rates(sums[:, width:]))
            values: FloatArray = (frontier_at(*frontier, x) - y)[:, 0]
            return values

        def gap_by_first(sums: FloatArray) -> FloatArray:
            return gap(np.concatenate([sums, np.broadcast_to(total[width:], (len(sums), width))], axis=1))

        def gap_by_second(sums: FloatArray) -> FloatArray:
            return gap(np.concatenate([np.broadcast_to(total[:width], (len(sums), width)), sums], axis=1))

        value = float(gap(total[np.newaxis])[0])
        nothing = np.zeros(examples)
        reason = _why_none(value, flipped) or _is_end(other, number, float(fpr[number]), float(tpr[number]))
        if reason is None:
            left = deviations(rows, gap)
            alone = [deviations(own, gap_by_first), deviations(other, gap_by_second)]
            if np.isnan(left).any() or error_of(left) < SMALLEST_SPREAD:
                reason = "there is no spread between the examples, or it hangs on one of them"
        if reason is not None:
            gaps.append(Gap(level, float(fpr[number]), None, nothing, undefined=reason))
            continue
        spreads = tuple(Spread(error_of(part) ** 2, have - 1) for part, have in zip(alone, flipped, strict=True))
        scaled = left * math.sqrt((examples - 1) / examples)
        gaps.append(Gap(level, float(fpr[number]), value, scaled, spreads))
    return gaps


def _why_none(value: float, flipped: Sequence[int]) -> str | None:
    if math.isnan(value):
        return "one of the two has no changed, or no unchanged, answer on the shared trials"
    if min(flipped) < FEWEST:
        return f"fewer than {FEWEST} shared examples have a changed answer"
    return None


def _is_end(rows: FloatArray, number: int, fpr: float, tpr: float) -> str | None:
    """Say that a level cannot be told from saying nothing, or everything; None where it can."""

    errors = [
        error_of(deviations(rows, lambda sums: level_rates(sums)[0][:, number])),
        error_of(deviations(rows, lambda sums: level_rates(sums)[1][:, number])),
    ]
    for end, what in ((0.0, "saying nothing"), (1.0, "repeating the input")):
        if all(abs(value - end) <= error for value, error in zip((fpr, tpr), errors, strict=True)):
            return f"its level is within one standard error of {what}"
    return None


def mean_gaps(tasks: Sequence[Sequence[Gap]]) -> list[Gap]:
    """Return the unweighted mean over tasks of the gap at each level; the examples of tasks are independent."""
    means = []
    for parts in zip(*tasks, strict=True):
        count = len(parts)
        together = np.concatenate([part.deviations / count for part in parts])
        fpr = math.fsum(part.fpr for part in parts) / count
        reasons = dict.fromkeys(part.undefined for part in parts if part.undefined)
        if reasons:
            reason = "; ".join(filter(None, reasons))
            means.append(Gap(parts[0].level, fpr, None, np.zeros_like(together), undefined=reason))
            continue
        value = math.fsum(part.value or 0.0 for part in parts) / count
        spreads = tuple(Spread(one.variance / count**2, one.df) for part in parts for one in part.spreads)
        means.append(Gap(parts[0].level, fpr, value, together, spreads))
    return means


@dataclass(frozen=True)
class Dominance:
    """What the gaps of one pair of models show.

    `p_first` is the p-value of "the first model's frontier lies above the second model's points at every level", by the
    intersection–union test: the largest one-sided p-value over levels (Berger 1982). `p_second` is that of "below at
    every level". The adjusted ones hold over all pairs and both directions (Holm 1979), `p_levels` (aligned with the
    gaps, None without one) over the levels of the pair, two-sided.
    """

    gaps: tuple[Gap, ...]
    claim: Claim | None = None
    p_first: float | None = None
    p_second: float | None = None
    p_first_adjusted: float | None = None
    p_second_adjusted: float | None = None
    p_levels: tuple[float | None, ...] = ()
    undefined: str | None = None

    @property
    def defined(self) -> list[Gap]:
        """The gaps that have a value."""
        return [gap for gap in self.gaps if gap.value is not None]


def dominances(pairs: Sequence[Sequence[Gap]]) -> list[Dominance]:
    """Return what the gaps of each pair of models show, adjusted over all of them.

    A model dominates only where every one-sided limit lies beyond 0. A trade-off is a gap above 0 at one level and
    below 0 at another. Otherwise neither is shown, which is no sign of equality.
    """
    tested: list[tuple[int, float]] = []
    found = []
    for gaps in pairs:
        defined = [gap for gap in gaps if gap.value is not None]
        if len(defined) < FEWEST_LEVELS:
            have = only(len(defined), "level", "have")
            reasons = "; ".join(dict.fromkeys(gap.undefined for gap in gaps if gap.undefined))
            reason = f"{have} a gap, {FEWEST_LEVELS} are needed" + (f" ({reasons})" if reasons else "")
            found.append(Dominance(tuple(gaps), undefined=reason))
            continue
        up = max(_one_sided(gap.t, gap.df) for gap in defined)
        down = max(_one_sided(-gap.t, gap.df) for gap in defined)
        adjusted = iter(holm_adjusted([gap.p for gap in defined]))
        levels = tuple(None if gap.value is None else next(adjusted) for gap in gaps)
        tested += [(len(found), up), (len(found), down)]
        found.append(Dominance(tuple(gaps), p_first=up, p_second=down, p_levels=levels))
    holm = iter(holm_adjusted([p for _, p in tested]))
    return [one if one.undefined else _decided(one, next(holm), next(holm)) for one in found]


def _one_sided(t: float, df: float) -> float:
    """Return P(T ≥ t) of Student's t."""
    half = two_sided_p(t, df) / 2
    return half if t >= 0 else 1 - half


def _decided(one: Dominance, first: float, second: float) -> Dominance:
    signs = {
        math.copysign(1.0, gap.value)
        for gap, p in zip(one.gaps, one.p_levels, strict=True)
        if gap.value is not None and p is not None and p < LEVEL
    }
    claim: Claim = "neither_shown"
    if first < LEVEL:
        claim = "first_dominates"
    elif second < LEVEL:
        claim = "second_dominates"
    elif len(signs) > 1:
        claim = "trade_off"
    return Dominance(one.gaps, claim, one.p_first, one.p_second, first, second, one.p_levels)


@dataclass(frozen=True)
class MeanDifference:
    """The mean of differences over pairs of models, by a one-sample t-test: it speaks of pairs like these."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None
    p: float | None = None
    note: str | None = None


def mean_difference(values: Sequence[float]) -> MeanDifference | None:
    """Return the mean of differences over pairs with its interval; None without any, no interval for a single one."""
    count = len(values)
    if not count:
        return None
    mean = math.fsum(values) / count
    if count < FEWEST:
        return MeanDifference(mean, count)
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1) / count)
    if error < SMALLEST_SPREAD:
        return MeanDifference(mean, count, note="the pairs do not differ in it")
    half = t_quantile(count - 1, 1 - LEVEL / 2) * error
    note = f"only {counted(count, 'pair')}: the interval is wide and rough" if count < ROUGH_BELOW else None
    return MeanDifference(mean, count, mean - half, mean + half, two_sided_p(mean / error, count - 1), note)
