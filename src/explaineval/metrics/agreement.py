"""Compute how far two raters of the same things agree beyond chance: Cohen's kappa, plain or weighted.

The tables of ratings are counted per example, so that the interval respects clusters.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from explaineval.metrics.estimates import (
    NO_TRIAL,
    FloatArray,
    Interval,
    Limits,
    check_counts,
    column_sums,
    estimate,
    no_value,
    tanh_limits,
)
from explaineval.records import Estimate

Weights = Literal["none", "linear", "quadratic"]
"""What a disagreement counts: the same whatever it is, by the distance of the two grades, or by its square."""

ONE_GRADE = "both gave the same grade to all"
DISAGREED_OR_RARE = "a rating other than the commonest"


def cohen_kappa(tables: ArrayLike, interval: Interval, weights: Weights = "none") -> Estimate:
    """Return Cohen's kappa of tables (examples, k²): counts of (grade of the first rater, grade of the second).

    The grades stand row by row: cell i·k + j counts what the first graded i and the second j. 1 is full agreement, 0
    agreement by chance (Cohen 1960; weighted: Cohen 1968). The limits are those of a jackknife over examples; examples
    with a rating other than the commonest carry the information. Undefined where both gave one and the same grade to
    all. Raises ValueError unless the number of columns is a square and the counts are whole and not negative.
    """
    counts = check_counts(tables)
    if counts.size == 0:
        return no_value(NO_TRIAL)
    grades = math.isqrt(counts.shape[1])
    if counts.ndim != 2 or grades * grades != counts.shape[1] or grades < 2:
        raise ValueError(f"tables must have the shape (examples, k²), got {counts.shape}")
    counts = counts[counts.sum(axis=1) > 0]
    n, n_examples = int(counts.sum()), len(counts)
    if n == 0:
        return no_value(NO_TRIAL)
    rows = counts.astype(np.float64)
    total = counts.sum(axis=0)
    if (total > 0).sum() == 1 and total.argmax() % (grades + 1) == 0:
        return no_value(ONE_GRADE, n, n_examples)

    def statistic(sums: FloatArray) -> FloatArray:
        return kappa_values(sums, weights)

    def limits(value: float) -> Limits:
        carriers = int((np.delete(counts, total.argmax(), axis=1) > 0).any(axis=1).sum())
        return tanh_limits(value, rows, statistic, carriers, DISAGREED_OR_RARE)

    return estimate(rows, statistic, interval, limits, n, n_examples)


def sampled_kappa(tables: ArrayLike, n: int, weights: Weights = "none") -> Estimate:
    """Return Cohen's kappa of tables (examples, k²) whose counts are weighted by what each rating stands for.

    So a sample that was drawn unequally speaks for the whole. `n` is the number of ratings. Undefined as `cohen_kappa`.
    Raises ValueError unless the number of columns is a square and the counts are finite and not negative.
    """
    counts = np.asarray(tables, dtype=np.float64)
    if counts.size == 0:
        return no_value(NO_TRIAL)
    if counts.ndim != 2 or math.isqrt(counts.shape[1]) ** 2 != counts.shape[1] or counts.shape[1] < 4:
        raise ValueError(f"tables must have the shape (examples, k²), got {counts.shape}")
    if not np.isfinite(counts).all() or (counts < 0).any():
        raise ValueError("counts must be finite and not negative")
    rows = counts[counts.sum(axis=1) > 0]
    total = column_sums(rows) if len(rows) else np.zeros(counts.shape[1])
    value = float(kappa_values(total[np.newaxis], weights)[0])
    if math.isnan(value):
        return no_value(ONE_GRADE if len(rows) else NO_TRIAL, n, len(rows))
    carriers = int((np.delete(rows, total.argmax(), axis=1) > 0).any(axis=1).sum())
    limits = tanh_limits(value, rows, lambda sums: kappa_values(sums, weights), carriers, DISAGREED_OR_RARE)
    return Estimate(value=value, low=limits.low, high=limits.high, n=n, n_examples=len(rows), note=limits.note)


def kappa_values(sums: FloatArray, weights: Weights = "none") -> FloatArray:
    """Return kappa of m tables (m, k²), as (m,); NaN where chance leaves nothing to disagree on."""
    grades = math.isqrt(sums.shape[1])
    tables = sums.reshape(-1, grades, grades)
    distance = np.abs(np.subtract.outer(np.arange(grades), np.arange(grades))).astype(np.float64)
    costs = {"none": (distance > 0).astype(np.float64), "linear": distance, "quadratic": distance**2}[weights]
    total = tables.sum(axis=(1, 2))
    observed = (tables * costs).sum(axis=(1, 2)) * total
    by_chance = np.einsum("mi,ij,mj->m", tables.sum(axis=2), costs, tables.sum(axis=1))
    values = np.full(len(tables), np.nan)
    np.divide(by_chance - observed, by_chance, out=values, where=by_chance > 0)
    return values
