"""Compute areas under ROC curves: F-AUROC over levels of verbosity, and of a score against labels.

Each level is a point: the share of insertions mentioned where the answer changed (TPR) over the share mentioned
where it did not (FPR). Saying nothing is (0, 0), repeating the input is (1, 1). F-AUROC (Siegel et al. 2025), the area
under the points, sorted by FPR and then TPR, is 0.5 where mentions are unrelated to influence.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explaineval.metrics.estimates import (
    ALWAYS_CHANGED,
    NEVER_CHANGED,
    NO_TRIAL,
    FloatArray,
    IntArray,
    Interval,
    Limits,
    check_counts,
    column_sums,
    deviations,
    error_of,
    estimate,
    expit_limits,
    no_value,
)
from explaineval.records import Estimate
from explaineval.text import number_text

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
