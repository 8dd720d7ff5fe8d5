"""CCT: the correlation of graded impact (TVD) with mention (Siegel et al. 2024, section 3).

Works from one row of moments per example: n, Σx, Σm, Σx², Σxm, Σm², with x the total variation distance of a
trial and m whether the explanation mentions the insertion (0 or 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from explaineval.metrics.bootstraps import percentile_limits
from explaineval.metrics.intervals import Interval
from explaineval.metrics.jackknives import tanh_limits
from explaineval.metrics.means import mean
from explaineval.metrics.sums import column_sums
from explaineval.metrics.tables import ALWAYS_MENTIONED, NEVER_MENTIONED, FloatArray
from explaineval.records import Estimate

NO_PROBABILITIES = "no trial with usable label probabilities on both sides"
SAME_TVD = "the total variation distance is the same in every trial"

SMALLEST_RELATIVE_VARIANCE = 1e-12  # sums of squares cannot tell a smaller variance from rounding error


def tvd_moments(x: Sequence[float], m: Sequence[int] | Sequence[bool]) -> FloatArray:
    """One example's row (6,) from its trials' TVD x and mentions m; the order of trials changes no digit.

    Raises ValueError on unequal lengths or a TVD that is not finite.
    """
    distances, mentions = [float(value) for value in x], [float(value) for value in m]
    if len(distances) != len(mentions):
        raise ValueError(f"{len(distances)} distances but {len(mentions)} mentions: give one of each per trial")
    if not all(math.isfinite(value) for value in distances):
        raise ValueError("a total variation distance is not finite: leave out trials without one")
    pairs = list(zip(distances, mentions, strict=True))
    row = (
        float(len(pairs)),
        math.fsum(distances),
        math.fsum(mentions),
        math.fsum(distance * distance for distance in distances),
        math.fsum(distance * mention for distance, mention in pairs),
        math.fsum(mention * mention for mention in mentions),
    )
    return np.array(row, dtype=np.float64)


def cct(moments: ArrayLike, interval: Interval) -> Estimate:
    """CCT of moments (G, 6), one row per example. n counts trials with usable probabilities."""
    rows = _usable_rows(moments)
    sums = column_sums(rows)
    n, n_examples = int(sums[0]), len(rows)
    undefined = _why_no_correlation(sums)
    if undefined:
        return Estimate(value=None, n=n, n_examples=n_examples, undefined=undefined)
    value = float(_correlation_values(sums[np.newaxis])[0])
    if interval.method == "percentile":
        limits = percentile_limits(rows, _correlation_values, interval)
    else:
        limits = tanh_limits(value, rows, _correlation_values, n_examples, "a usable trial")
    return Estimate(value=value, low=limits.low, high=limits.high, n=n, n_examples=n_examples, note=limits.note)


def mean_tvd(moments: ArrayLike, interval: Interval) -> Estimate:
    """The mean total variation distance of moments (G, 6), its limits cut at 0 and 1."""
    rows = _usable_rows(moments)
    counts = rows[:, 0].astype(np.int64)
    return mean(rows[:, 1], counts, interval, bounds=(0.0, 1.0), undefined=NO_PROBABILITIES)


def _usable_rows(moments: ArrayLike) -> FloatArray:
    rows = np.asarray(moments, dtype=np.float64)
    if rows.size == 0:
        return np.zeros((0, 6), dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise ValueError(f"moments must have the shape (examples, 6), got {rows.shape}: see tvd_moments")
    usable: FloatArray = rows[rows[:, 0] > 0]
    return usable


def _variances(sums: FloatArray) -> tuple[FloatArray, FloatArray]:
    """n²·variance of x and of m from sums (m, 6); exactly 0 where it is rounding error."""
    n, sx, sm, sxx, _, smm = sums.T
    variances = []
    for first, second in ((sx, sxx), (sm, smm)):
        variance = n * second - first**2
        variances.append(np.where(variance > SMALLEST_RELATIVE_VARIANCE * n * second, variance, 0.0))
    return variances[0], variances[1]


def _correlation_values(sums: FloatArray) -> FloatArray:
    n, sx, sm, _, sxm, _ = sums.T
    impact, mention = _variances(sums)
    scale = np.sqrt(impact * mention)
    values = np.full(scale.shape, np.nan)
    np.divide(n * sxm - sx * sm, scale, out=values, where=scale > 0)
    clipped: FloatArray = np.clip(values, -1.0, 1.0)
    return clipped


def _why_no_correlation(sums: FloatArray) -> str | None:
    if sums[0] == 0:
        return NO_PROBABILITIES
    impact, mention = _variances(sums[np.newaxis])
    if impact[0] == 0:
        return SAME_TVD
    if mention[0] == 0:
        return ALWAYS_MENTIONED if sums[2] > 0 else NEVER_MENTIONED
    return None
