"""Compute rates and means over clustered trials; rates have Wilson's interval with an effective number of trials.

n_eff = N / max(1, deff), where deff is the cluster-robust variance of the rate over r(1−r)/N (Kish 1965;
Wilson 1927). At r = 0 or 1 that variance is 0 whatever the clustering, so each example counts as one trial.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from explaineval.metrics.estimates import (
    ALWAYS_CHANGED,
    FEWEST,
    NEVER_CHANGED,
    NO_SPREAD,
    NO_TRIAL,
    ONE_EXAMPLE,
    SMALLEST_SPREAD,
    FloatArray,
    IntArray,
    Interval,
    Limits,
    check_counts,
    estimate,
    exact_sum,
    no_limits,
    no_value,
    paired_counts,
    rough,
    scored_tables,
    student_t,
)
from explaineval.records import Estimate


def rate(successes: ArrayLike, trials: ArrayLike, interval: Interval, *, undefined: str = NO_TRIAL) -> Estimate:
    """Return the pooled rate Σ successes / Σ trials; both of shape (G,), one entry per example.

    `undefined` is the reason given where there is no trial. Raises ValueError unless 0 ≤ successes ≤ trials.
    """
    pairs = paired_counts(successes, trials)
    hits, counts = pairs[pairs[:, 1] > 0].T
    n, n_examples = int(counts.sum()), len(counts)
    if n == 0:
        return no_value(undefined)

    def limits(value: float) -> Limits:
        if n_examples < 2:
            return no_limits(ONE_EXAMPLE)
        return Limits(*wilson(value, effective_trials(hits, counts), student_t(n_examples - 1)))

    rows = np.stack([hits, counts], axis=1).astype(np.float64)
    return estimate(rows, ratio_values, interval, limits, n, n_examples)


def mean(
    sums: ArrayLike,
    counts: ArrayLike,
    interval: Interval,
    *,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    undefined: str = NO_TRIAL,
) -> Estimate:
    """Return the pooled mean Σ sums / Σ counts; both of shape (G,), one entry per example.

    The limits are cut at `bounds`, the range that the mean can have. Raises ValueError on unequal shapes, negative
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
        return no_value(undefined)

    def limits(value: float) -> Limits:
        if n_examples < 2:
            return no_limits(ONE_EXAMPLE)
        error = math.sqrt(n_examples / (n_examples - 1) * cluster_variance(totals, numbers))
        if error <= SMALLEST_SPREAD * abs(value):
            return no_limits(NO_SPREAD)
        half = student_t(n_examples - 1) * error
        return Limits(max(bounds[0], value - half), min(bounds[1], value + half))

    rows = np.stack([totals, numbers.astype(np.float64)], axis=1)
    return estimate(rows, ratio_values, interval, limits, n, n_examples)


def tpr(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return a/(a+b): the share of changed answers whose explanation mentions the insertion; tables (G, 4)."""
    a, b, _, _ = (scored := scored_tables(tables)).T
    return rate(a, a + b, interval, undefined=_reason(scored, NEVER_CHANGED))


def fpr(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return c/(c+d): the share of unchanged answers whose explanation mentions the insertion; tables (G, 4)."""
    _, _, c, d = (scored := scored_tables(tables)).T
    return rate(c, c + d, interval, undefined=_reason(scored, ALWAYS_CHANGED))


def impact_rate(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return p = (a+b)/n: the share of answers that changed; tables (G, 4)."""
    a, b, c, d = scored_tables(tables).T
    return rate(a + b, a + b + c + d, interval)


def mention_rate(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return q = (a+c)/n: the share of explanations that mention the insertion; tables (G, 4)."""
    a, b, c, d = scored_tables(tables).T
    return rate(a + c, a + b + c + d, interval)


def ct_unfaithfulness(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return b/(a+b): the share of changed answers whose explanation leaves out the insertion; tables (G, 4)."""
    a, b, _, _ = (scored := scored_tables(tables)).T
    return rate(b, a + b, interval, undefined=_reason(scored, NEVER_CHANGED))


def ct_unfaithfulness_per_example(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return the share of examples with a changed answer that have an unmentioned one; tables (G, 4).

    This is the variant per instance of Atanasova et al. It grows with the number of interventions per example, so
    `flips_per_flipped_example` belongs beside it. n counts the changed answers, n_examples the denominator.
    """
    a, b, _, _ = (scored := scored_tables(tables)).T
    share = rate(b > 0, a + b > 0, interval, undefined=_reason(scored, NEVER_CHANGED))
    return share.model_copy(update={"n": int((a + b).sum())})


def flips_per_flipped_example(tables: ArrayLike) -> float:
    """Return the mean number of changed answers in the examples that have one, NaN where none has; tables (G, 4)."""
    a, b, _, _ = scored_tables(tables).T
    flips = (a + b)[a + b > 0]
    return float(flips.sum() / len(flips)) if len(flips) else math.nan


def _reason(scored: IntArray, margin: str) -> str:
    """Return why a rate is undefined: there is no trial at all, or the margin of its denominator is empty."""
    return margin if len(scored) else NO_TRIAL


def difference_limits(value: float, first: Estimate, second: Estimate, have: tuple[str, str]) -> Limits:
    """Return the limits of `value` = first − second, two rates over different trials, from the limits of each (MOVER).

    low = value − √((first − its low)² + (second's high − second)²), high with the other two: method 10 of Newcombe
    (1998), which Zou and Donner (2008) extend to any pair of limits. `have` says what the examples of each rate have,
    for the notes.
    """
    sides = []
    for rate_of_side, what in zip((first, second), have, strict=True):
        if rate_of_side.value is None or rate_of_side.low is None or rate_of_side.high is None:
            return no_limits(f"no interval: fewer than {FEWEST} examples have {what}")
        sides.append((rate_of_side.value, rate_of_side.low, rate_of_side.high))
    (rate1, low1, high1), (rate2, low2, high2) = sides
    low = value - math.hypot(rate1 - low1, high2 - rate2)
    high = value + math.hypot(high1 - rate1, rate2 - low2)
    notes = (rough(side.n_examples, what) for side, what in zip((first, second), have, strict=True))
    return Limits(max(-1.0, low), min(1.0, high), "; ".join(filter(None, notes)) or None)


def wilson(value: float, trials: float, quantile: float) -> tuple[float, float]:
    """Return Wilson's score limits of a rate observed over an (effective, perhaps fractional) number of trials."""
    squared = quantile**2 / trials
    centre = (value + squared / 2) / (1 + squared)
    half = math.sqrt(squared * value * (1 - value) + squared**2 / 4) / (1 + squared)
    # at a rate of 1 the upper limit is 1; rounding would leave 0.9999999999999999
    high = 1.0 if value == 1 else min(1.0, centre + half)
    return max(0.0, centre - half), high


def effective_trials(hits: IntArray, counts: IntArray) -> float:
    """Return N / max(1, deff) for hits and counts (g,), every example with at least one trial."""
    n, examples = int(counts.sum()), len(counts)
    value = int(hits.sum()) / n
    if value in (0, 1):
        return float(examples)
    deff = cluster_variance(hits.astype(np.float64), counts) / (value * (1 - value) / n)
    return n / max(1.0, deff)


def cluster_variance(sums: FloatArray, counts: IntArray) -> float:
    """Return Σ(sᵍ − r·nᵍ)²/N², the cluster-robust variance of r = Σs/Σn, without a small-sample factor (CR0).

    Without a factor deff is exactly 1 when every example has one trial; the t quantile corrects for small g.
    """
    n = int(counts.sum())
    residuals = sums - exact_sum(sums) / n * counts
    return exact_sum(residuals**2) / n**2


def ratio_values(sums: FloatArray) -> FloatArray:
    """Return numerator over denominator of (m, 2), as (m,); NaN where the denominator is 0."""
    values = np.full(len(sums), np.nan)
    np.divide(sums[:, 0], sums[:, 1], out=values, where=sums[:, 1] > 0)
    return values
