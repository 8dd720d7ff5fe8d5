"""phi-CCT and its companions from per-example tables.

phi-CCT is the Pearson correlation of impact and mention, both binary (Siegel et al. 2025), that is, the
Matthews correlation coefficient. Stands beside it: the same within examples, Youden's J, and phi carried over
to another impact rate.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from explaineval.metrics.bootstraps import percentile_limits
from explaineval.metrics.intervals import Interval, Statistic
from explaineval.metrics.jackknives import tanh_limits
from explaineval.metrics.rates import difference_limits, fpr, tpr
from explaineval.metrics.sums import column_sums
from explaineval.metrics.tables import FloatArray, IntArray, empty_margin, scored_tables, total_table
from explaineval.records import Estimate

FLIP, KEPT = "a changed answer", "an unchanged answer"
MENTIONED_FLIP = "a changed answer whose explanation mentions the insertion"


def phi_values(sums: FloatArray) -> FloatArray:
    """(ad − bc)/√((a+b)(c+d)(a+c)(b+d)) of tables (m, 4), as (m,); NaN on an empty margin."""
    a, b, c, d = sums.T
    scale = np.sqrt(((a + b) * (c + d)) * ((a + c) * (b + d)))
    values = np.full(scale.shape, np.nan)
    np.divide(a * d - b * c, scale, out=values, where=scale > 0)
    return np.clip(values, -1.0, 1.0)


def phi(a: int, b: int, c: int, d: int) -> float:
    """phi of one 2×2 table; NaN on an empty margin.

    >>> phi(4, 0, 0, 6)
    1.0
    """
    return float(phi_values(np.array([[a, b, c, d]], dtype=np.float64))[0])


def phi_at_p(tpr: float, fpr: float, p: float) -> float:
    """phi of an explainer with this TPR and FPR at the impact rate p; NaN where that is undefined.

    J·√(p(1−p)/(q(1−q))) with q = p·TPR + (1−p)·FPR (method page, "phi at a common impact rate").

    >>> round(phi_at_p(0.6, 0.2, 0.02), 2)
    0.14
    """
    q = p * tpr + (1 - p) * fpr
    if not (0 < p < 1 and 0 < q < 1):
        return math.nan
    return (tpr - fpr) * math.sqrt(p * (1 - p) / (q * (1 - q)))


def phi_cct(tables: ArrayLike, interval: Interval) -> Estimate:
    """phi-CCT of tables (G, 4), pooled over examples. n counts trials."""
    scored = scored_tables(tables)
    return _estimate(scored, scored.astype(np.float64), phi_values, interval, empty_margin(*total_table(scored)))


def phi_within(tables: ArrayLike, interval: Interval) -> Estimate:
    """phi with each example's own impact and mention rate taken out; tables (G, 4).

    Σ(aᵢdᵢ − bᵢcᵢ)/nᵢ over √(Σ(aᵢ+bᵢ)(cᵢ+dᵢ)/nᵢ · Σ(aᵢ+cᵢ)(bᵢ+dᵢ)/nᵢ): the pooled within-example correlation
    (method page, "phi within examples"). An explainer that is blind to the insertion gets 0.
    """
    scored = scored_tables(tables)
    rows = _within_rows(scored)
    return _estimate(scored, rows, _within_values, interval, _why_no_within(scored))


def youden_j(tables: ArrayLike, interval: Interval) -> Estimate:
    """Youden's J = TPR − FPR of tables (G, 4) (Youden 1950), with MOVER limits from those of TPR and FPR.

    J is the difference of two rates, and near TPR = 1 or FPR = 0 lopsided like them: the jackknife on any symmetric
    scale is too short there (Newcombe 1998, method 10; Zou and Donner 2008).
    """
    scored = scored_tables(tables)
    a, b, c, d = total_table(scored)
    # mentions may be constant here (J is 0), so only the margins of impact are asked for
    undefined = empty_margin(a + b, a + b, c + d, c + d)
    n, n_examples = int(scored.sum()), len(scored)
    if undefined:
        return Estimate(value=None, n=n, n_examples=n_examples, undefined=undefined)
    rows = scored.astype(np.float64)
    value = float(_j_values(column_sums(rows)[np.newaxis])[0])
    if interval.method == "percentile":
        limits = percentile_limits(rows, _j_values, interval)
    else:
        limits = difference_limits(value, tpr(scored, interval), fpr(scored, interval), (FLIP, KEPT))
    return Estimate(value=value, low=limits.low, high=limits.high, n=n, n_examples=n_examples, note=limits.note)


def _j_values(sums: FloatArray) -> FloatArray:
    a, b, c, d = sums.T
    defined = (a + b > 0) & (c + d > 0)
    values = np.full(a.shape, np.nan)
    np.divide(a * d - b * c, (a + b) * (c + d), out=values, where=defined)
    return values


def _within_rows(scored: IntArray) -> FloatArray:
    """Each example's share of the within covariance, impact variance and mention variance, (G, 3)."""
    a, b, c, d = scored.T.astype(np.float64)
    n = a + b + c + d
    parts = (a * d - b * c, (a + b) * (c + d), (a + c) * (b + d))
    return np.stack([part / n for part in parts], axis=1)


def _within_values(sums: FloatArray) -> FloatArray:
    covariance, impact, mention = sums.T
    scale = np.sqrt(impact * mention)
    values = np.full(scale.shape, np.nan)
    np.divide(covariance, scale, out=values, where=scale > 0)
    return np.clip(values, -1.0, 1.0)


def _why_no_within(scored: IntArray) -> str | None:
    reason = empty_margin(*total_table(scored))
    if reason:
        return reason
    a, b, c, d = scored.T
    if not ((a + b) * (c + d)).any():
        return "no example has both changed and unchanged answers"
    if not ((a + c) * (b + d)).any():
        return "no example has both mentioned and unmentioned insertions"
    return None


def _estimate(
    scored: IntArray, rows: FloatArray, statistic: Statistic, interval: Interval, undefined: str | None
) -> Estimate:
    """The statistic of all rows with its interval; information is carried by the mentioned flips."""
    n, n_examples = int(scored.sum()), len(scored)
    if undefined:
        return Estimate(value=None, n=n, n_examples=n_examples, undefined=undefined)
    value = float(statistic(column_sums(rows)[np.newaxis])[0])
    if interval.method == "percentile":
        limits = percentile_limits(rows, statistic, interval)
    else:
        carriers = int((scored[:, 0] > 0).sum())
        limits = tanh_limits(value, rows, statistic, carriers, MENTIONED_FLIP)
    return Estimate(value=value, low=limits.low, high=limits.high, n=n, n_examples=n_examples, note=limits.note)
