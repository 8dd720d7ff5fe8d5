"""Percentile bootstrap over examples (Efron 1979), by resampling sufficient statistics.

Examples with the same statistics are interchangeable, so equal rows are merged and their counts are drawn
from a multinomial: exact, independent of the order of examples, and small (four interventions an example
allow only 35 different tables, whatever the number of examples).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from explaineval.metrics.intervals import (
    NO_SPREAD,
    ONE_EXAMPLE,
    SMALLEST_SPREAD,
    Interval,
    Limits,
    Statistic,
    no_limits,
)
from explaineval.metrics.quantiles import LOWER, UPPER
from explaineval.metrics.tables import FloatArray

LARGEST_BLOCK = 2_000_000  # counts held at a time: 16 MB
LARGEST_UNDEFINED_SHARE = 0.05


def seeded_generator(seed: int) -> np.random.Generator:
    """A generator for any whole seed, negative ones included."""
    return np.random.default_rng(seed % 2**64)


def resampled_sums(rows: FloatArray, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Column sums of bootstrap samples of the rows (G, K), in blocks of shape (at most `resamples`, K)."""
    generator = seeded_generator(seed)
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    shares = counts / len(rows)
    block = max(1, LARGEST_BLOCK // len(kinds))
    for start in range(0, resamples, block):
        drawn = generator.multinomial(len(rows), shares, size=min(block, resamples - start))
        yield drawn.astype(np.float64) @ kinds


def percentile_limits(rows: FloatArray, statistic: Statistic, interval: Interval) -> Limits:
    """The 2.5 and 97.5 % quantiles of `statistic` over resampled examples; rows (G, K), one per example.

    Resamples in which the statistic is undefined are dropped; above 5 % of them there is no interval.
    """
    if len(rows) < 2:
        return no_limits(ONE_EXAMPLE)
    blocks = resampled_sums(rows, interval.resamples, interval.seed)
    values = np.concatenate([statistic(sums) for sums in blocks])
    defined = values[~np.isnan(values)]
    undefined_share = 1 - len(defined) / len(values)
    if undefined_share > LARGEST_UNDEFINED_SHARE:
        return no_limits(f"no interval: undefined in {undefined_share:.0%} of the resamples")
    low, high = (float(limit) for limit in np.quantile(defined, [LOWER, UPPER]))
    if high - low < SMALLEST_SPREAD:
        return no_limits(NO_SPREAD)
    return Limits(low, high)
