"""Compute how impact goes together with mention: phi-CCT, within examples, Youden's J, odds ratio and CCT.

phi and J are computed from tables (examples, 4) with columns a, b, c, d: changed and mentioned, changed and not,
unchanged and mentioned, neither. CCT (Siegel et al. 2024, section 3) is computed from one row of moments per example:
n, Σx, Σm, Σx², Σxm, Σm², with x the total variation distance of a trial and m whether the explanation mentions the
insertion (0 or 1).

`phi_over_texts` has an interval over examples and inserted texts together: trials with the same text have something in
common, as trials of one example have, and an interval over examples alone holds for the same texts only. The variance
is V = max(V_E, V_E + V_W − V_EW), from delete-one jackknives over examples, over texts, and over the cells of an
example and a text (Cameron, Gelbach and Miller 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explaineval.metrics.estimates import (
    ALWAYS_MENTIONED,
    FEWEST,
    LOWER,
    NEVER_MENTIONED,
    FloatArray,
    IntArray,
    Interval,
    Limits,
    Statistic,
    column_sums,
    deviations,
    empty_margin,
    error_of,
    estimate,
    exp_limits,
    no_value,
    scored_tables,
    tanh_limits,
    tanh_limits_of_error,
    total_table,
)
from explaineval.metrics.rates import FLIP, KEPT, FromRates, difference_limits, fpr, mean, rate, ratio_values, tpr
from explaineval.records import Estimate
from explaineval.text import counted, number_text

MENTIONED_FLIP = "a changed answer whose explanation mentions the insertion"


def phi_values(sums: FloatArray) -> FloatArray:
    """Return (ad − bc)/√((a+b)(c+d)(a+c)(b+d)) of tables (m, 4), as (m,); NaN on an empty margin."""
    a, b, c, d = sums.T
    scale = np.sqrt(((a + b) * (c + d)) * ((a + c) * (b + d)))
    values = np.full(scale.shape, np.nan)
    np.divide(a * d - b * c, scale, out=values, where=scale > 0)
    return np.clip(values, -1.0, 1.0)


def phi(a: int, b: int, c: int, d: int) -> float:
    """Return phi of one 2×2 table; NaN on an empty margin.

    >>> phi(4, 0, 0, 6)
    1.0
    """
    return float(phi_values(np.array([[a, b, c, d]], dtype=np.float64))[0])


def phi_at_p(tpr: float, fpr: float, p: float) -> float:
    """Return phi of an explainer with this TPR and FPR at the impact rate p; NaN where that is undefined.

    J·√(p(1−p)/(q(1−q))) with q = p·TPR + (1−p)·FPR (method page, "phi at a common impact rate").

    >>> round(phi_at_p(0.6, 0.2, 0.02), 2)
    0.14
    """
    q = p * tpr + (1 - p) * fpr
    if not (0 < p < 1 and 0 < q < 1):
        return math.nan
    return (tpr - fpr) * math.sqrt(p * (1 - p) / (q * (1 - q)))


def phi_at_p_values(p: float) -> Statistic:
    """Return the statistic that maps tables (m, 4) to `phi_at_p` of their TPR and FPR, as (m,)."""

    def values(sums: FloatArray) -> FloatArray:
        a, b, c, d = sums.T
        rates = np.full((2, len(sums)), np.nan)
        np.divide(a, a + b, out=rates[0], where=a + b > 0)
        np.divide(c, c + d, out=rates[1], where=c + d > 0)
        mentioned = p * rates[0] + (1 - p) * rates[1]
        spread = mentioned * (1 - mentioned)
        found = np.full(len(sums), np.nan)
        defined = (spread > 0) & (0 < p < 1)
        found[defined] = (rates[0] - rates[1])[defined] * np.sqrt(p * (1 - p) / spread[defined])
        return found

    return values


def phi_from_rates(p: float) -> FromRates:
    """Return the function that maps TPR and FPR to `phi_at_p`, with 0 where all or nothing is mentioned.

    That is its limit at these corners, as limits of intervals need it.
    """

    def value(tpr: float, fpr: float) -> float:
        found = phi_at_p(tpr, fpr, p)
        return 0.0 if math.isnan(found) and not math.isnan(tpr + fpr) else found

    return value


def phi_cct(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return phi-CCT of tables (G, 4), pooled over examples. n counts trials."""
    scored = scored_tables(tables)
    found = _estimate(scored, scored.astype(np.float64), phi_values, interval, empty_margin(*total_table(scored)))
    if found.value is None or found.low is not None or abs(found.value) != 1:
        return found
    limit = perfect_limit(scored)
    below = f"below {number_text(limit)}" if found.value == 1 else f"above {number_text(-limit)}"
    what = f"it is exactly {number_text(found.value, 0)}"
    note = f"{what}; if it were truly {below}, at most 1 in 40 such runs would show that"
    return found.model_copy(update={"note": note})


def perfect_limit(scored: IntArray) -> float:
    """Return what |phi| is above with 97.5 % confidence where it is 1 in tables (G, 4).

    Of F examples with a changed answer and U with an unchanged one, each counted as one trial, none would contradict
    the others with a probability of TPRᶠ·(1 − FPR)ᵁ at the most. The limit is the lowest phi of all TPR and FPR where
    that is 2.5 %, at the observed impact rate or its 95 % limits. For phi = −1 mentions change places with silence.
    """
    changed, trials = scored[:, 0] + scored[:, 1], scored.sum(axis=1)
    flipped, kept = int((changed > 0).sum()), int((changed < trials).sum())
    impact = rate(changed, trials, Interval())
    rates = [p for p in (impact.low, impact.value, impact.high) if p is not None and 0 < p < 1]
    shares = np.linspace(0, 1, 101).tolist()
    return min(phi_at_p(LOWER ** (s / flipped), 1 - LOWER ** ((1 - s) / kept), p) for s in shares for p in rates)


def phi_within(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return phi with each example's own impact and mention rate removed; tables (G, 4).

    Σ(aᵢdᵢ − bᵢcᵢ)/nᵢ over √(Σ(aᵢ+bᵢ)(cᵢ+dᵢ)/nᵢ · Σ(aᵢ+cᵢ)(bᵢ+dᵢ)/nᵢ): the pooled within-example correlation
    (method page, "phi within examples"). An explainer that does not know the insertion gets 0.
    """
    scored = scored_tables(tables)
    rows = within_rows(scored)
    return _estimate(scored, rows, within_values, interval, _why_no_within(scored))


def phi_by_letter(tables: ArrayLike) -> Estimate:
    """Return phi with the impact and mention rate of each answer removed; tables (G, L, 4), over L answers given.

    It is `phi_within` with answers in place of examples: explanations that name the insertion more often under one
    answer than under another, whether or not the answer changed, get 0.
    """
    counts = np.asarray(tables, dtype=np.int64)
    by_example, by_letter = scored_tables(counts.sum(axis=1)), counts.sum(axis=0)
    undefined = empty_margin(*total_table(by_example)) or _why_no_strata(
        scored_tables(by_letter), "every answer was given either after a change or without one"
    )
    rows = counts.reshape(len(counts), -1).astype(np.float64)

    def statistic(sums: FloatArray) -> FloatArray:
        strata = sums.reshape(len(sums), -1, 4)
        a, b, c, d = np.moveaxis(strata, -1, 0)
        n = np.maximum(strata.sum(axis=-1), 1.0)
        parts = [(part / n).sum(axis=1) for part in (a * d - b * c, (a + b) * (c + d), (a + c) * (b + d))]
        return within_values(np.stack(parts, axis=1))

    return _estimate(by_example, rows, statistic, Interval(), undefined)


def youden_j(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return Youden's J = TPR − FPR of tables (G, 4) (Youden 1950), with MOVER limits from those of TPR and FPR.

    J is the difference of two rates, and near TPR = 1 or FPR = 0 as asymmetric as they are: a jackknife interval on any
    symmetric scale is too short there (Newcombe 1998, method 10; Zou and Donner 2008).
    """
    scored = scored_tables(tables)
    a, b, c, d = total_table(scored)
    # J is 0 where mentions are constant, so only the margins of impact must not be empty
    undefined = empty_margin(a + b, a + b, c + d, c + d)
    n, n_examples = int(scored.sum()), len(scored)
    if undefined:
        return no_value(undefined, n, n_examples)

    def limits(value: float) -> Limits:
        return difference_limits(value, tpr(scored, interval), fpr(scored, interval), (FLIP, KEPT))

    return estimate(scored.astype(np.float64), youden_values, interval, limits, n, n_examples)


def youden_values(sums: FloatArray) -> FloatArray:
    """Return a/(a+b) − c/(c+d) of tables (m, 4), as (m,); NaN where one of the rates is undefined."""
    a, b, c, d = sums.T
    defined = (a + b > 0) & (c + d > 0)
    values = np.full(a.shape, np.nan)
    np.divide(a * d - b * c, (a + b) * (c + d), out=values, where=defined)
    return values


def within_rows(scored: IntArray) -> FloatArray:
    """Return each example's share of the within covariance, impact variance and mention variance, (G, 3).

    `scored` (G, 4) are tables with at least one trial each.
    """
    a, b, c, d = scored.T.astype(np.float64)
    n = a + b + c + d
    parts = (a * d - b * c, (a + b) * (c + d), (a + c) * (b + d))
    return np.stack([part / n for part in parts], axis=1)


def within_values(sums: FloatArray) -> FloatArray:
    """Return phi within examples from sums (m, 3) of `within_rows`, as (m,); NaN where a variance is 0."""
    covariance, impact, mention = sums.T
    scale = np.sqrt(impact * mention)
    values = np.full(scale.shape, np.nan)
    np.divide(covariance, scale, out=values, where=scale > 0)
    return np.clip(values, -1.0, 1.0)


def _why_no_within(scored: IntArray) -> str | None:
    reason = empty_margin(*total_table(scored))
    if reason:
        return reason
    return _why_no_strata(scored, "no example has both changed and unchanged answers")


def _why_no_strata(strata: IntArray, all_alike: str) -> str | None:
    """Say why phi within strata (S, 4) is undefined; `all_alike` where changes do not vary within any."""
    a, b, c, d = strata.T
    if not ((a + b) * (c + d)).any():
        return all_alike
    if not ((a + c) * (b + d)).any():
        return "no example has both mentioned and unmentioned insertions"
    return None


def odds_ratio_within(tables: ArrayLike, interval: Interval) -> Estimate:
    """Return the odds ratio of impact and mention within examples, of tables (G, 4) (Mantel and Haenszel 1959).

    Σ(aᵢdᵢ/nᵢ) over Σ(bᵢcᵢ/nᵢ): 1 where mentions do not follow impact. Unlike phi it does not depend on how often
    answers change. The jackknife limits are computed on the logarithm, with the degrees of freedom of phi.
    """
    scored = scored_tables(tables)
    n, n_examples, carriers = int(scored.sum()), len(scored), int((scored[:, 0] > 0).sum())
    rows = odds_rows(scored)
    agreeing, opposed = column_sums(rows).tolist()
    undefined = _why_no_within(scored)
    if undefined is None and opposed == 0:
        undefined = INFINITE if agreeing else NO_ODDS
    if undefined:
        return no_value(undefined, n, n_examples)

    def limits(_: float) -> Limits:
        return exp_limits(rows, log_odds_values, carriers, MENTIONED_FLIP)

    return estimate(rows, ratio_values, interval, limits, n, n_examples)


INFINITE = "infinite: no example has both an unmentioned change and a mention without a change"
NO_ODDS = "no example has changed and unchanged answers as well as mentioned and unmentioned insertions"


def odds_rows(scored: IntArray) -> FloatArray:
    """Return ad/n and bc/n of each table (a, b, c, d) with n trials, (G, 4) to (G, 2); n ≥ 1."""
    a, b, c, d = scored.T.astype(np.float64)
    n = a + b + c + d
    return np.stack([a * d / n, b * c / n], axis=1)


def log_odds_values(sums: FloatArray) -> FloatArray:
    """Return the logarithm of the ratio of sums (m, 2) of `odds_rows`, as (m,); NaN where one of them is 0."""
    values = np.full(len(sums), np.nan)
    defined = (sums > 0).all(axis=1)
    values[defined] = np.log(sums[defined, 0] / sums[defined, 1])
    return values


def _estimate(
    scored: IntArray, rows: FloatArray, statistic: Statistic, interval: Interval, undefined: str | None
) -> Estimate:
    """Return the statistic of all rows; its degrees of freedom come from the examples with a mentioned flip."""
    n, n_examples, carriers = int(scored.sum()), len(scored), int((scored[:, 0] > 0).sum())
    if undefined:
        return no_value(undefined, n, n_examples)

    def limits(value: float) -> Limits:
        return tanh_limits(value, rows, statistic, carriers, MENTIONED_FLIP)

    return estimate(rows, statistic, interval, limits, n, n_examples)


NO_PROBABILITIES = "no trial with usable label probabilities on both sides"
SAME_TVD = "the total variation distance is the same in every trial"

SMALLEST_RELATIVE_VARIANCE = 1e-12  # sums of squares cannot tell a smaller variance from rounding error


def tvd_moments(x: Sequence[float], m: Sequence[int] | Sequence[bool]) -> FloatArray:
    """Return one example's row (6,) from its trials' TVD x and mentions m; the order of trials changes no digit.

    Raises ValueError on unequal lengths or a TVD that is not finite.
    """
    distances, mentions = [float(value) for value in x], [float(value) for value in m]
    if len(distances) != len(mentions):
        raise ValueError(
            f"{len(distances)} distances but {counted(len(mentions), 'mention')}: give one of each per trial"
        )
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


def grouped_moments(x: FloatArray, m: NDArray[np.bool_], rows: IntArray, examples: int) -> FloatArray:
    """Return the rows (examples, 6) of `tvd_moments` of all examples at once, to the last digit.

    Args:
        x: the TVD of each trial, (trials,).
        m: whether the explanation of each trial mentions the insertion, (trials,).
        rows: the number of each trial's example, (trials,).
        examples: how many examples there are; one without a trial has a row of zeros.

    Raises ValueError where a TVD is not finite.
    """
    if not np.isfinite(x).all():
        raise ValueError("a total variation distance is not finite: leave out trials without one")
    moments = np.zeros((examples, 6))
    moments[:, 0] = np.bincount(rows, minlength=examples)
    moments[:, 2] = moments[:, 5] = np.bincount(rows[m], minlength=examples)
    order = np.argsort(rows, kind="stable")
    x, m = x[order], m[order]
    ends = np.cumsum(moments[:, 0]).astype(np.int64).tolist()
    bounds = list(zip([0, *ends], ends, strict=False))
    for column, values in ((1, x), (3, x * x), (4, x * m)):
        listed = values.tolist()
        moments[:, column] = [math.fsum(listed[start:end]) for start, end in bounds]
    return moments


def cct(moments: ArrayLike, interval: Interval) -> Estimate:
    """Return CCT of moments (G, 6), one row per example. n counts trials with usable probabilities."""
    rows = _usable_rows(moments)
    sums = column_sums(rows)
    n, n_examples = int(sums[0]), len(rows)
    undefined = _why_no_correlation(sums)
    if undefined:
        return no_value(undefined, n, n_examples)

    def limits(value: float) -> Limits:
        return tanh_limits(value, rows, cct_values, n_examples, "a usable trial")

    return estimate(rows, cct_values, interval, limits, n, n_examples)


def mean_tvd(moments: ArrayLike, interval: Interval) -> Estimate:
    """Return the mean total variation distance of moments (G, 6), its limits cut at 0 and 1."""
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
    """Return n²·variance of x and of m from sums (m, 6); exactly 0 where it is rounding error."""
    n, sx, sm, sxx, _, smm = sums.T
    variances = []
    for first, second in ((sx, sxx), (sm, smm)):
        variance = n * second - first**2
        variances.append(np.where(variance > SMALLEST_RELATIVE_VARIANCE * n * second, variance, 0.0))
    return variances[0], variances[1]


def cct_values(sums: FloatArray) -> FloatArray:
    """Return the correlation of x and m from sums of moments (m, 6), as (m,); NaN where x or m is constant."""
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


ONE_TEXT = "only one text was inserted"


def phi_over_texts(examples: ArrayLike, texts: ArrayLike, cells: ArrayLike) -> Estimate:
    """Return phi-CCT with limits that hold over examples and texts.

    `examples` (G, 4), `texts` (W, 4) and `cells` (C, 4) hold the same trials, counted by example, by inserted text and
    by both. The degrees of freedom are one less than the examples, or the texts if these are fewer, with a mentioned
    flip. Raises ValueError where the totals differ.
    """
    clusters = [scored_tables(counts) for counts in (examples, texts, cells)]
    tables = {total_table(counts) for counts in clusters}
    if len(tables) > 1:
        raise ValueError(f"examples, texts and cells must hold the same trials, got the tables {sorted(tables)}")
    n, n_examples = int(clusters[0].sum()), len(clusters[0])
    undefined = empty_margin(*tables.pop()) or (ONE_TEXT if len(clusters[1]) < FEWEST else None)
    if undefined:
        return no_value(undefined, n, n_examples)
    rows = [counts.astype(float) for counts in clusters]
    value = float(phi_values(column_sums(rows[0])[None])[0])
    by_cluster = [int((counts[:, 0] > 0).sum()) for counts in clusters[:2]]

    def error() -> float:
        if any(len(counts) < FEWEST for counts in rows):
            return math.nan
        by_example, by_text, by_cell = (error_of(deviations(counts, phi_values)) ** 2 for counts in rows)
        return math.sqrt(max(by_example, by_example + by_text - by_cell))

    limits = tanh_limits_of_error(value, error, min(by_cluster), MENTIONED_FLIP)
    note = limits.note
    if note is not None and by_cluster[1] < by_cluster[0]:
        note = note.replace("examples have", "texts have")
    return Estimate(value=value, low=limits.low, high=limits.high, n=n, n_examples=n_examples, note=note)
