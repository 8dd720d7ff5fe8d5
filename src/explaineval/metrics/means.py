"""Means over clustered trials, with the cluster-robust t interval (Liang and Zeger 1986)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from explaineval.metrics.bootstraps import percentile_limits
from explaineval.metrics.intervals import (
    NO_SPREAD,
    ONE_EXAMPLE,
    SMALLEST_SPREAD,
    Interval,
    Limits,
    no_limits,
)
from explaineval.metrics.quantiles import student_t
from explaineval.metrics.rates import cluster_variance, ratio_values
from explaineval.metrics.sums import exact_sum
from explaineval.metrics.tables import NO_TRIAL, FloatArray, IntArray, check_counts
from explaineval.records import Estimate


def mean(
    sums: ArrayLike,
    counts: ArrayLike,
    interval: Interval,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    undefined: str = NO_TRIAL,
) -> Estimate:
    """The pooled mean Σ sums / Σ counts; both of shape (G,), one entry per example.

    The limits are cut at `bounds`, the range the mean can have. Raises ValueError on unequal shapes, negative
    counts or sums that are not finite.
    """
    totals, numbers = np.asarray(sums, dtype=np.float64), check_counts(counts)
    if totals.shape != numbers.shape or totals.ndim != 1:
        raise ValueError(f"sums {totals.shape} and counts {numbers.shape} must both have the shape (examples,)")
    if not np.isfinite(totals).all():
        raise ValueError("sums must be finite: leave out trials without a value")
    totals, numbers = totals[numbers > 0], numbers[numbers > 0]
    n, n_examples = int(numbers.sum()), len(numbers)
    if n == 0:
        return Estimate(value=None, n=0, n_examples=0, undefined=undefined)
    value = exact_sum(totals) / n
    if interval.method == "percentile":
        rows = np.stack([totals, numbers.astype(np.float64)], axis=1)
        limits = percentile_limits(rows, ratio_values, interval)
    else:
        limits = _t_limits(value, totals, numbers, bounds)
    return Estimate(value=value, low=limits.low, high=limits.high, n=n, n_examples=n_examples, note=limits.note)


def _t_limits(value: float, totals: FloatArray, numbers: IntArray, bounds: tuple[float, float]) -> Limits:
    examples = len(numbers)
    if examples < 2:
        return no_limits(ONE_EXAMPLE)
    error = math.sqrt(examples / (examples - 1) * cluster_variance(totals, numbers))
    if error <= SMALLEST_SPREAD * abs(value):
        return no_limits(NO_SPREAD)
    half = student_t(examples - 1) * error
    return Limits(max(bounds[0], value - half), min(bounds[1], value + half))
