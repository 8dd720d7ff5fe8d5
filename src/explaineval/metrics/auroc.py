"""Compute how well mentions tell influence over levels of verbosity: F-AUROC, and two models compared.

Each level is a point: the share of insertions mentioned where the answer changed (TPR) over the share mentioned
where it did not (FPR). Saying nothing is (0, 0), repeating the input is (1, 1). F-AUROC (Siegel et al. 2025), the area
under the points, sorted by FPR and then TPR, is 0.5 where mentions are unrelated to influence.

The frontier of one model is the line through its own points, in the order
in which F-AUROC joins them; the gap at a level of the other model is that frontier at the level's FPR, minus its TPR.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explaineval.metrics.differences import (
    LEVEL,
    Measured,
    Spread,
    holm_adjusted,
    satterthwaite,
    t_quantile,
    two_sided_p,
)
from explaineval.metrics.estimates import (
    ALWAYS_CHANGED,
    FEWEST,
    NEVER_CHANGED,
    NO_TRIAL,
    ROUGH_BELOW,
    SMALLEST_SPREAD,
    FloatArray,
    IntArray,
    Interval,
    Limits,
    Statistic,
    check_counts,
    column_sums,
    deviations,
    error_of,
    estimate,
    exact_sum,
    expit_limits,
    no_value,
    seeded_generator,
)
from explaineval.records import Estimate
from explaineval.text import counted, number_text, only

FEWEST_LEVELS = 2
FLIP = "a changed answer"
UNSURE_ORDER = (
    "rough interval: TPR falls between two levels whose order by FPR is within chance, and the area jumps where "
    "that order turns: read f_auroc_hull beside it"
)
RESOLVED = 2.0
"""Standard errors between the FPR of two levels from which on their order counts as sure."""


def f_auroc(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return F-AUROC where the answer was asked once and explained at every level; tables (G, V, 4) over V levels.

    n counts trials: one for each intervention and level. Raises ValueError where the impacts of an example
    differ between levels: that is `f_auroc_own`.
    """
    scored = _scored_levels(tables)
    impacts = scored[..., (0, 2)] + scored[..., (1, 3)]  # changed and unchanged answers, (G, V, 2)
    if (impacts != impacts[:, :1]).any():
        raise ValueError("an example has different impacts at different levels: only f_auroc_own allows that")
    return _area(scored, interval)


def f_auroc_own(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return the same area where each level asked for the answer again; tables (G, V, 4).

    A level without a changed, or without an unchanged, answer has no point and is left out. The answers of
    different levels differ, so this is never ranked with `f_auroc`.
    """
    return _area(_scored_levels(tables), interval)


def verbosity_points(tables: ArrayLike) -> FloatArray:
    """Return (FPR, TPR) of each level, (V, 2), from tables (G, V, 4); NaN where a level has no such trial."""
    scored = _scored_levels(tables)
    sums = scored.sum(axis=0, dtype=np.float64).reshape(1, -1)
    points: FloatArray = np.stack(level_rates(sums), axis=-1)[0]
    return points


def areas(fpr: FloatArray, tpr: FloatArray) -> FloatArray:
    """Return trapezoid areas (m,) under points (m, V) with (0, 0) and (1, 1), sorted by FPR then TPR; NaN stays NaN.

    >>> areas(np.array([[0.5, 0.0]]), np.array([[1.0, 0.5]]))
    array([0.875])
    """
    order = np.lexsort((tpr, fpr), axis=1)
    ends = ((0, 0), (1, 1))
    x = np.pad(np.take_along_axis(fpr, order, axis=1), ends, constant_values=(0.0, 1.0))
    y = np.pad(np.take_along_axis(tpr, order, axis=1), ends, constant_values=(0.0, 1.0))
    total: FloatArray = (np.diff(x, axis=1) * (y[:, 1:] + y[:, :-1])).sum(axis=1) / 2
    return np.clip(total, 0.0, 1.0)


def why_no_area(scored: IntArray) -> str | None:
    """Return why there is no area under the levels of tables (G, V, 4), in words; None where there is one."""
    if not scored.size:
        return NO_TRIAL
    levels = scored.shape[1]
    if levels < FEWEST_LEVELS:
        return "only one level of verbosity was asked: two are needed"
    a, b, c, d = scored.sum(axis=0).T
    if not (a + b).any():
        return NEVER_CHANGED
    if not (c + d).any():
        return ALWAYS_CHANGED
    usable = int(_usable(scored).sum())
    if usable < FEWEST_LEVELS:
        levels_left = "no level" if usable == 0 else "only one level"
        return f"{levels_left} of verbosity has both changed and unchanged answers: two are needed"
    return None


def _area(scored: IntArray, interval: Interval) -> Estimate:
    undefined = why_no_area(scored)
    if undefined:
        return no_value(undefined, int(scored.sum()), len(scored))
    used = scored[:, _usable(scored)]
    used = used[used.sum(axis=(1, 2)) > 0]
    rows = used.reshape(len(used), -1).astype(np.float64)
    # where levels have answers of their own, the level with the fewest flipped examples sets the degrees of freedom
    flipped = int(np.min((used[..., :2].sum(axis=2) > 0).sum(axis=0)))

    def limits(value: float) -> Limits:
        smooth = expit_limits(value, rows, area_values, flipped, FLIP)
        if smooth.low is not None and is_order_unsure(rows):
            return smooth._replace(note="; ".join(filter(None, (smooth.note, UNSURE_ORDER))))
        return smooth

    return estimate(rows, area_values, interval, limits, int(used.sum()), len(used))


def area_values(sums: FloatArray) -> FloatArray:
    """Return areas of sums (m, V·4), as (m,); NaN where one of the levels has no point."""
    return areas(*level_rates(sums))


def is_order_unsure(rows: FloatArray) -> bool:
    """Return whether two levels are so close by FPR that chance decides whether the higher TPR comes first.

    With the lower TPR on the right the area jumps when they change places, and an interval made for a smooth function
    does not cover that (simulated: 50 to 90 % for a nominal 95 % where this is True, 94 to 97 % elsewhere).
    """
    fpr, tpr = (rates[0] for rates in level_rates(column_sums(rows)[np.newaxis]))
    cells = rows.reshape(len(rows), -1, 4)
    for left, right in itertools.permutations(range(len(fpr)), 2):
        if fpr[left] <= fpr[right] and tpr[left] > tpr[right]:
            both = cells[:, (left, right)].reshape(len(rows), -1)
            if fpr[right] - fpr[left] < RESOLVED * error_of(deviations(both, _fpr_gaps)):
                return True
    return False


def _fpr_gaps(sums: FloatArray) -> FloatArray:
    """Return FPR of the second level minus that of the first, from sums (m, 8), as (m,)."""
    fpr, _ = level_rates(sums)
    gaps: FloatArray = fpr[:, 1] - fpr[:, 0]
    return gaps


def level_rates(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return FPR and TPR of each level from sums (m, V·4), (m, V) each; NaN where undefined."""
    a, b, c, d = np.moveaxis(sums.reshape(len(sums), -1, 4), 2, 0)
    fpr, tpr = np.full(c.shape, np.nan), np.full(a.shape, np.nan)
    np.divide(c, c + d, out=fpr, where=c + d > 0)
    np.divide(a, a + b, out=tpr, where=a + b > 0)
    return fpr, tpr


def _usable(scored: IntArray) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return which levels of tables (G, V, 4) have both changed and unchanged answers, (V,)."""
    a, b, c, d = scored.sum(axis=0).T
    usable: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = (a + b > 0) & (c + d > 0)
    return usable


def _scored_levels(tables: ArrayLike) -> IntArray:
    """Return the examples of `tables` with a trial at some level, as int64. Raises ValueError on a wrong shape."""
    array = check_counts(tables)
    if array.size == 0:
        return np.zeros((0, 0, 4), dtype=np.int64)
    if array.ndim != 3 or array.shape[2] != 4:
        raise ValueError(f"tables must have the shape (examples, levels, 4), got {array.shape}: columns are a, b, c, d")
    scored: IntArray = array[array.sum(axis=(1, 2)) > 0]
    return scored


PERMUTATIONS = 200


class HullArea(NamedTuple):
    """The area under the hull, and its mean over permutations of the mentions (None where undefined)."""

    estimate: Estimate
    permuted: float | None


def f_auroc_hull(
    mentions: ArrayLike,
    impacts: ArrayLike,
    rng: np.random.Generator,
    *,
    n_examples: int,
    permutations: int = PERMUTATIONS,
) -> HullArea:
    """Return the area under the hull, from booleans: mentions (trials, V) at V levels and impacts (trials,).

    A permutation gives each trial's mentions, over all levels together, to another trial's impact. Trials with
    the same mentions are interchangeable, so the number of each pattern among the changed answers is drawn
    (multivariate hypergeometric): the order of trials changes no digit. `n_examples` is passed on. Raises
    ValueError on arrays that are not boolean or not aligned.
    """
    said, changed = _aligned(mentions, impacts)
    n = said.size
    kinds, of_trial = np.unique(said, axis=0, return_inverse=True)
    counts = np.bincount(of_trial.reshape(-1), minlength=len(kinds))
    in_flips = np.bincount(of_trial.reshape(-1)[changed], minlength=len(kinds))
    undefined = why_no_area(_pooled(kinds, in_flips, counts))
    if undefined:
        return HullArea(no_value(undefined, n, n_examples), None)
    drawn = rng.multivariate_hypergeometric(counts, int(changed.sum()), size=permutations)
    value, *chance = (_area_of(_pooled(kinds, flips, counts)) for flips in (in_flips, *drawn))
    permuted = math.fsum(chance) / permutations
    note = f"no interval: the hull is biased upward; chance alone gives {number_text(permuted, 3)} on the same trials"
    return HullArea(Estimate(value=value, n=n, n_examples=n_examples, note=note), permuted)


def hull_area(fpr: FloatArray, tpr: FloatArray) -> float:
    """Return the area under the upper convex hull of points (V,) with (0, 0) and (1, 1).

    >>> hull_area(np.array([0.5, 0.2]), np.array([0.5, 0.8]))
    0.8
    """
    points = sorted([(0.0, 0.0), *zip(fpr.tolist(), tpr.tolist(), strict=True), (1.0, 1.0)])
    hull: list[tuple[float, float]] = []
    for point in points:
        while len(hull) > 1 and _turn(hull[-2], hull[-1], point) >= 0:
            hull.pop()
        hull.append(point)
    pairs = itertools.pairwise(hull)
    return math.fsum((right[0] - left[0]) * (right[1] + left[1]) / 2 for left, right in pairs)


def _turn(first: tuple[float, float], second: tuple[float, float], third: tuple[float, float]) -> float:
    """Return a number above 0 for a turn to the left: then the second point is below the hull."""
    (x, y), (x1, y1), (x2, y2) = first, second, third
    return (x1 - x) * (y2 - y) - (y1 - y) * (x2 - x)


def _pooled(kinds: NDArray[np.bool_], in_flips: IntArray, counts: IntArray) -> IntArray:
    """Return the table of each level, (1, V, 4), of `counts` trials with each kind (K, V) of mentions."""
    a, c = in_flips @ kinds, (counts - in_flips) @ kinds
    flips = int(in_flips.sum())
    return np.stack([a, flips - a, c, int(counts.sum()) - flips - c], axis=-1)[np.newaxis]


def _area_of(pooled: IntArray) -> float:
    fpr, tpr = verbosity_points(pooled).T
    return hull_area(fpr, tpr)


def _aligned(mentions: ArrayLike, impacts: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    said, changed = np.asarray(mentions), np.asarray(impacts)
    if said.size == 0:
        return np.zeros((0, 0), dtype=np.bool_), np.zeros(0, dtype=np.bool_)
    if said.dtype != np.bool_ or changed.dtype != np.bool_:
        raise ValueError(f"mentions and impacts must be booleans, got {said.dtype} and {changed.dtype}")
    if said.ndim != 2 or changed.shape != said.shape[:1]:
        raise ValueError(f"mentions {said.shape} and impacts {changed.shape} must be (trials, levels) and (trials,)")
    return said, changed


def labelled_auroc(yes: ArrayLike, no: ArrayLike, interval: Interval) -> Estimate:
    """Return how well a score tells texts with a label from those without: the area under the ROC curve, ties half.

    `yes` and `no` (G, S) count by cluster the texts with and without the label at each score, in rising order.
    Raises ValueError on unequal shapes.
    """
    with_label, without = check_counts(yes), check_counts(no)
    if with_label.shape != without.shape or with_label.ndim != 2:
        raise ValueError(f"yes {with_label.shape} and no {without.shape} must both have the shape (clusters, scores)")
    n, scores = int(with_label.sum() + without.sum()), with_label.shape[1]
    if not with_label.any() or not without.any():
        return no_value("every text has the label" if with_label.any() else "no text has the label", n, len(with_label))
    rows = np.concatenate([with_label, without], axis=1).astype(np.float64)

    def statistic(sums: FloatArray) -> FloatArray:
        high, low = sums[:, :scores], sums[:, scores:]
        below = np.cumsum(low, axis=1) - low / 2
        pairs = high.sum(axis=1) * low.sum(axis=1)
        area: FloatArray = np.divide((high * below).sum(axis=1), pairs, out=np.full(len(sums), np.nan), where=pairs > 0)
        return area

    fewest = min(int(counts.any(axis=1).sum()) for counts in (with_label, without))

    def limits(value: float) -> Limits:
        return expit_limits(value, rows, statistic, fewest, "a text of either label")

    return estimate(rows, statistic, interval, limits, n, len(rows))


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
