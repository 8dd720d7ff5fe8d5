"""Compare two models over levels of verbosity: which one names influence more often at the same false positive rate.

Each level of a model is a point (FPR, TPR). The frontier of one model is the line through its own points, in the order
in which F-AUROC joins them; the gap at a level of the other model is that frontier at the level's FPR, minus its TPR.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from explaineval.metrics.auroc import level_rates
from explaineval.metrics.differences import LEVEL, Measured, Spread, satterthwaite, t_quantile, two_sided_p
from explaineval.metrics.estimates import (
    FEWEST,
    ROUGH_BELOW,
    SMALLEST_SPREAD,
    FloatArray,
    IntArray,
    Statistic,
    column_sums,
    deviations,
    error_of,
    exact_sum,
    seeded_generator,
)
from explaineval.metrics.families import holm_adjusted
from explaineval.text import counted, number_text, only

FEWEST_FAMILIES = 3
FEW_FAMILIES = 5
FEWEST_MODELS = 8
LEAST_RELIABILITY = 0.3
SPLITS = 200


@dataclass(frozen=True)
class SizedModel:
    """A model with its family, its size in parameters, and its value of the metric."""

    family: str
    parameters: float
    measured: Measured


@dataclass(frozen=True)
class Trend:
    """The mean over families of the slope of a metric on log10(parameters): the change for ten times the size.

    `low`, `high`, `p` and `df` speak of families like these (one-sample t over the families' slopes). `low_here` and
    `high_here` speak of these very families and models: they count only the uncertainty from the examples.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    df: int | None = None
    p: float | None = None
    low_here: float | None = None
    high_here: float | None = None
    slopes: Mapping[str, float] | None = None
    undefined: str | None = None
    note: str | None = None


def trend_over_size(models: Sequence[SizedModel]) -> Trend:
    """The trend of a metric over model size (Ibragimov and Müller 2010).

    A family counts when it has two or more sizes with a defined value. Fewer than three such families give no trend.
    """
    families: dict[str, list[SizedModel]] = {}
    for model in models:
        if not model.measured.undefined:
            families.setdefault(model.family, []).append(model)
    usable = {name: found for name, found in families.items() if len({model.parameters for model in found}) > 1}
    if len(usable) < FEWEST_FAMILIES:
        reason = (
            f"{counted(len(usable), 'family', 'have')} two or more sizes with a value; {FEWEST_FAMILIES} are needed"
        )
        return Trend(None, undefined=reason)
    slopes: dict[str, float] = {}
    weights: list[tuple[float, Measured]] = []
    for name, members in sorted(usable.items()):
        shares = _slope_weights([math.log10(model.parameters) for model in members])
        slopes[name] = math.fsum(share * model.measured.value for share, model in zip(shares, members, strict=True))
        weights += [(share / len(usable), model.measured) for share, model in zip(shares, members, strict=True)]
    count = len(slopes)
    value = math.fsum(slopes.values()) / count
    error = math.sqrt(math.fsum((slope - value) ** 2 for slope in slopes.values()) / (count - 1) / count)
    half = t_quantile(count - 1, 1 - LEVEL / 2) * error
    low_here, high_here = _limits_here(value, weights)
    return Trend(
        value,
        low=value - half,
        high=value + half,
        df=count - 1,
        p=two_sided_p(value / error, count - 1) if error > 0 else None,
        low_here=low_here,
        high_here=high_here,
        slopes=slopes,
        note=f"only {counted(count, 'family')}: the interval is wide and rough" if count < FEW_FAMILIES else None,
    )


def _slope_weights(x: Sequence[float]) -> list[float]:
    """The weights with which values enter the least-squares slope on x; x are not all equal."""
    mean = math.fsum(x) / len(x)
    spread = math.fsum((value - mean) ** 2 for value in x)
    return [(value - mean) / spread for value in x]


def _limits_here(value: float, weights: Sequence[tuple[float, Measured]]) -> tuple[float, float]:
    """Limits of a weighted sum of values from the jackknife over the shared examples."""
    combined = np.sum([weight * measured.deviations for weight, measured in weights], axis=0)
    error = math.sqrt(exact_sum(combined**2))
    spreads = [
        part._replace(variance=weight**2 * part.variance) for weight, measured in weights for part in measured.spreads
    ]
    half = t_quantile(satterthwaite(spreads), 1 - LEVEL / 2) * error
    return value - half, value + half


@dataclass(frozen=True)
class ExplainedVariance:
    """How much of the variance of CCT between models phi-CCT explains: a share between 0 and 1.

    `correlation` is corrected for the unreliability of both numbers; `reliability_phi` and `reliability_cct` are their
    correlations between halves of the examples.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n_models: int = 0
    correlation: float | None = None
    reliability_phi: float | None = None
    reliability_cct: float | None = None
    undefined: str | None = None


def explained_variance(
    tables: Sequence[IntArray],
    moments: Sequence[FloatArray],
    phi_values: Statistic,
    cct_values: Statistic,
    *,
    seed: int = 0,
    splits: int = SPLITS,
) -> ExplainedVariance:
    """R² of CCT on phi-CCT over models, from different halves of the shared examples.

    `tables` (M × (G, 4)) and `moments` (M × (G, 6)) hold each model's counts on the same G examples. phi from one half
    of the examples is correlated with CCT from the other half, both ways, over many seeded splits, and divided by the
    square root of both reliabilities (Spearman 1904). The same trials would share their errors, which alone gives an
    R² of .24 where the true one is 0. The interval leaves out one model at a time.
    """
    count = len(tables)
    if count < FEWEST_MODELS:
        return ExplainedVariance(
            None, n_models=count, undefined=f"{counted(count, 'model')}; {FEWEST_MODELS} are needed"
        )
    halves = _values_of_halves(tables, moments, phi_values, cct_values, seed, splits)
    if halves is None:
        return ExplainedVariance(None, n_models=count, undefined="a half of the examples leaves phi or CCT undefined")
    phi_first, phi_second, cct_first, cct_second = halves
    everything = np.arange(count)
    found = _corrected(halves, everything)
    reliability_phi = _mean_correlation(phi_first, phi_second, everything)
    reliability_cct = _mean_correlation(cct_first, cct_second, everything)
    for name, reliability in (("phi-CCT", reliability_phi), ("CCT", reliability_cct)):
        if not reliability > LEAST_RELIABILITY:
            reason = (
                f"the reliability of {name} between halves of the examples is {number_text(reliability)}; it must "
                "exceed .3"
            )
            return ExplainedVariance(
                None,
                n_models=count,
                reliability_phi=reliability_phi,
                reliability_cct=reliability_cct,
                undefined=reason,
            )
    low, high = _leave_one_model_out(halves, found, count)
    return ExplainedVariance(
        min(1.0, found**2),
        low,
        high,
        n_models=count,
        correlation=found,
        reliability_phi=reliability_phi,
        reliability_cct=reliability_cct,
    )


Halves = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""phi of the first and second halves, CCT of the first and second halves; each (splits, models)."""


def _values_of_halves(
    tables: Sequence[IntArray],
    moments: Sequence[FloatArray],
    phi_values: Statistic,
    cct_values: Statistic,
    seed: int,
    splits: int,
) -> Halves | None:
    examples = len(tables[0])
    generator = seeded_generator(seed)
    chosen = np.zeros((splits, examples))
    for row in chosen:
        row[generator.permutation(examples)[: examples // 2]] = 1
    values = [
        np.stack([statistic(weights @ rows.astype(np.float64)) for rows in counts], axis=1)
        for counts, statistic in ((tables, phi_values), (moments, cct_values))
        for weights in (chosen, 1 - chosen)
    ]
    usable = ~np.any([np.isnan(found).any(axis=1) for found in values], axis=0)
    if usable.sum() < splits * 0.95:
        return None
    first, second, third, fourth = (found[usable] for found in values)
    return first, second, third, fourth


def _mean_correlation(x: FloatArray, y: FloatArray, models: IntArray) -> float:
    """The mean over splits of the correlation over models; x and y (splits, models)."""
    first, second = x[:, models], y[:, models]
    first = first - first.mean(axis=1, keepdims=True)
    second = second - second.mean(axis=1, keepdims=True)
    scale = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return float(np.mean(np.divide((first * second).sum(axis=1), scale, out=np.zeros(len(scale)), where=scale > 0)))


def _corrected(halves: Halves, models: IntArray) -> float:
    """The correlation of phi and CCT over models, corrected for both reliabilities; NaN where one is not positive."""
    phi_first, phi_second, cct_first, cct_second = halves
    across = (_mean_correlation(phi_first, cct_second, models) + _mean_correlation(phi_second, cct_first, models)) / 2
    reliabilities = _mean_correlation(phi_first, phi_second, models) * _mean_correlation(cct_first, cct_second, models)
    return across / math.sqrt(reliabilities) if reliabilities > 0 else math.nan


STRONG = 0.9
"""From this corrected correlation on, Fisher's scale, which ends at 1, is too short."""


def _leave_one_model_out(halves: Halves, found: float, count: int) -> tuple[float | None, float | None]:
    """Limits of R² by leaving out one model at a time, on Fisher's scale unless the correlation is strong.

    The corrected correlation may exceed 1; R² is cut there.
    """
    left = [_corrected(halves, np.delete(np.arange(count), model)) for model in range(count)]
    if any(math.isnan(value) for value in left):
        return None, None
    on_fisher_scale = abs(found) < STRONG and max(map(abs, left)) < 1
    values = [math.atanh(value) for value in left] if on_fisher_scale else left
    mean = math.fsum(values) / count
    error = math.sqrt((count - 1) / count * math.fsum((value - mean) ** 2 for value in values))
    half = t_quantile(count - 1, 1 - LEVEL / 2) * error
    centre = math.atanh(found) if on_fisher_scale else found
    low, high = centre - half, centre + half
    if on_fisher_scale:
        low, high = math.tanh(low), math.tanh(high)
    squares = sorted((min(1.0, low**2), min(1.0, high**2)))
    return (0.0 if low <= 0 <= high else squares[0]), squares[1]


FEWEST_LEVELS = 2
"""Levels with a gap under which nothing is said of two models."""

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
