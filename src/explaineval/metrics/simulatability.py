"""Compute whether an explanation lets a reader predict the model: gains in accuracy of a predictor that reads it.

A predictor guesses the model's answer to the changed input twice: from the original input and the answer to it, and
from these with the explanation of that answer (Doshi-Velez and Kim 2017; Hase et al. 2020; Chen et al. 2024). Counts
have the shape (examples, 6), columns CHANGED then UNCHANGED answers, each as trials, right with the explanation, right
without it. All intervals leave out whole examples, so predictions of one trial stay paired.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from explaineval.metrics.estimates import (
    ALWAYS_CHANGED,
    NEVER_CHANGED,
    NO_SPREAD,
    NO_TRIAL,
    SMALLEST_SPREAD,
    FloatArray,
    IntArray,
    Interval,
    Limits,
    check_counts,
    column_sums,
    deviations,
    error_of,
    estimate,
    exp_limits,
    no_limits,
    no_value,
    student_t,
    tanh_limits,
)
from explaineval.metrics.rates import rate, ratio_values
from explaineval.records import Estimate
from explaineval.text import only

FEWEST_ERRORS = 20
"""Examples with a wrong prediction without the explanation, under which the normalised gain is undefined."""

ERROR_WITHOUT = "a wrong prediction without the explanation"

FLIP = "a changed answer"


def simulation_counts(counts: ArrayLike) -> IntArray:
    """Return the rows of counts (G, 6) with at least one trial, as int64.

    Raises ValueError unless the shape is (G, 6) and no more predictions are right than there are trials.
    """
    array = check_counts(counts)
    if array.size == 0:
        return np.zeros((0, 6), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 6:
        raise ValueError(f"counts must have the shape (examples, 6), got {array.shape}")
    for first in (0, 3):
        if (array[:, first + 1 : first + 3] > array[:, first : first + 1]).any():
            raise ValueError("an example has more right predictions than trials")
    scored: IntArray = array[(array[:, 0] + array[:, 3]) > 0]
    return scored


def simulation_gain_balanced(counts: ArrayLike, interval: Interval) -> Estimate:
    """Return the mean over changed and unchanged answers of accuracy with minus accuracy without the explanation.

    Weighing both alike makes it independent of how often answers change. Counts (G, 6). Undefined where no answer
    changed, or every one did. Limits are the jackknife's on the scale of Fisher's transform.
    """
    scored = simulation_counts(counts)
    n, examples = _size(scored)
    reason = _empty(scored)
    if reason is not None:
        return no_value(reason, n, examples)
    rows = scored.astype(np.float64)
    carriers = int((scored[:, 0] > 0).sum())
    return estimate(
        rows,
        balanced_gain_values,
        interval,
        lambda value: tanh_limits(value, rows, balanced_gain_values, carriers, FLIP),
        n,
        examples,
    )


def simulation_gain_balanced_difference(own: ArrayLike, shuffled: ArrayLike, interval: Interval) -> Estimate:
    """Return the balanced gain with the model's own explanations minus that with those of other examples.

    Both counts (G, 6) are of the same trials, so what is right without an explanation drops out: the difference is the
    balanced gain of the own explanations over the others. Undefined as the gain is.
    """
    first, second = _of_same_trials(own, shuffled)
    together = first.copy()
    together[:, [2, 5]] = second[:, [1, 4]]
    return simulation_gain_balanced(together, interval)


def balanced_gain_values(sums: FloatArray) -> FloatArray:
    """Return the balanced gain of summed counts (m, 6), as (m,); NaN where no answer changed, or every one did."""
    gains = []
    for first in (0, 3):
        trials = sums[:, first]
        gain = np.full(len(sums), np.nan)
        np.divide(sums[:, first + 1] - sums[:, first + 2], trials, out=gain, where=trials > 0)
        gains.append(gain)
    mean: FloatArray = (gains[0] + gains[1]) / 2
    return mean


def nsg(counts: ArrayLike, interval: Interval) -> Estimate:
    """Return the normalised simulatability gain (accuracy with − accuracy without)/(1 − accuracy without).

    It is 1 where the explanation mends every error, 0 where it mends as many as it makes, and negative where it makes
    more. Counts (G, 6), added over predictors for a panel. Undefined under 20 examples with an error without the
    explanation. Limits are the jackknife's of log(1 − gain), the ratio of errors with to errors without.
    """
    scored = simulation_counts(counts)
    n, examples = _size(scored)
    if n == 0:
        return no_value(NO_TRIAL)
    errors = _errors(scored)
    carriers = int((errors[:, 1] > 0).sum())
    if carriers < FEWEST_ERRORS:
        have = only(carriers, "example", "have")
        return no_value(f"{have} {ERROR_WITHOUT}; {FEWEST_ERRORS} are needed", n, examples)
    rows = errors.astype(np.float64)

    def limits(_: float) -> Limits:
        if not errors[:, 0].any():
            return no_limits("no interval: the value is exactly 1")
        ratio = exp_limits(rows, _log_ratio, carriers, ERROR_WITHOUT)
        if ratio.low is None or ratio.high is None:
            return ratio
        return Limits(1 - ratio.high, 1 - ratio.low, ratio.note)

    return estimate(rows, lambda sums: 1 - ratio_values(sums), interval, limits, n, examples)


def nsg_difference(own: ArrayLike, shuffled: ArrayLike, interval: Interval) -> Estimate:
    """Return the normalised gain with the model's own explanations minus that with those of other examples.

    Both counts (G, 6) are of the same trials, so they share the errors without an explanation. Undefined as `nsg` is.
    Limits are the jackknife's, without a transform, with t of one degree less than the examples with such an error.
    """
    first, second = _of_same_trials(own, shuffled)
    value = nsg(first, interval)
    if value.value is None:
        return value
    # 1 − nsg is a ratio to the same errors, so the difference is one of right predictions over these errors
    kept = (first[:, 0] + first[:, 3]) > 0
    gain = (first[kept][:, [1, 4]].sum(axis=1) - second[kept][:, [1, 4]].sum(axis=1)).astype(np.float64)
    errors = _errors(first[kept])[:, 1].astype(np.float64)
    rows = np.stack([gain, errors], axis=1)
    carriers = int((errors > 0).sum())
    return estimate(rows, ratio_values, interval, lambda _: _plain_limits(rows, carriers), value.n, value.n_examples)


def _of_same_trials(own: ArrayLike, shuffled: ArrayLike) -> tuple[IntArray, IntArray]:
    """Return both counts (G, 6). Raises ValueError unless they are of the same trials and predictions without."""
    first, second = check_counts(own).reshape(-1, 6), check_counts(shuffled).reshape(-1, 6)
    if first.shape != second.shape or not np.array_equal(first[:, [0, 2, 3, 5]], second[:, [0, 2, 3, 5]]):
        raise ValueError("both counts must be of the same trials")
    return first, second


def simulation_accuracy(counts: ArrayLike, interval: Interval, *, explained: bool) -> Estimate:
    """Return the share of right predictions, with the explanation or without; counts (G, 6)."""
    scored = simulation_counts(counts)
    column = 1 if explained else 2
    return rate(scored[:, column] + scored[:, column + 3], scored[:, 0] + scored[:, 3], interval)


def _size(scored: IntArray) -> tuple[int, int]:
    return int(scored[:, [0, 3]].sum()), len(scored)


def _empty(scored: IntArray) -> str | None:
    """Why the balanced gain is undefined; None where it is defined."""
    changed, unchanged = int(scored[:, 0].sum()), int(scored[:, 3].sum())
    if changed + unchanged == 0:
        return NO_TRIAL
    return NEVER_CHANGED if changed == 0 else ALWAYS_CHANGED if unchanged == 0 else None


def _errors(counts: IntArray) -> IntArray:
    """Wrong predictions with and without the explanation: (G, 6) to (G, 2)."""
    trials = counts[:, 0] + counts[:, 3]
    return np.stack([trials - counts[:, 1] - counts[:, 4], trials - counts[:, 2] - counts[:, 5]], axis=1)


def _log_ratio(sums: FloatArray) -> FloatArray:
    values = ratio_values(sums)
    logs = np.full(len(sums), np.nan)
    np.log(values, out=logs, where=values > 0)
    return logs


def _plain_limits(rows: FloatArray, carriers: int) -> Limits:
    """The jackknife limits of a quotient of sums (G, 2) that has no bounds."""
    error = error_of(deviations(rows, ratio_values))
    if math.isnan(error) or error < SMALLEST_SPREAD:
        return no_limits(NO_SPREAD)
    value = float(ratio_values(column_sums(rows)[np.newaxis])[0])
    half = student_t(carriers - 1) * error
    return Limits(value - half, value + half)
