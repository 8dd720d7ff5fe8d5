"""Compute how reliable phi is: trivial explainers, missing trials, noise, agreement of raters, errors of policies.

The explainers `never` and `always` mention nothing or everything, `random` mentions at the observed rate, and
`example_only` at each example's own rate: it knows how long and how repetitive an explanation is, but not whether the
answer changed (method page, "Trivial explainers"). Cohen's kappa, plain or weighted, says how far two raters agree
beyond chance; their tables are counted per example, so that the interval respects clusters.

Phi, TPR, FPR and J are corrected for the errors of whatever decided on mentions, from a sample that people judged.
A mention policy or a judging model misses mentions and sees some that are not there. How often may depend on whether
the answer changed, so one error rate for all trials does not do: people judge a sample of each of the four cells
a, b, c, d (changed or not × called mentioned or not), and the share π of a cell that they call mentioned replaces the
decision about it (Marshall 1990, the inverse matrix method; Lyles et al. 2011, with an internal validation sample):

    a = N(1,1)·π(1,1) + N(1,0)·π(1,0)        c = N(0,1)·π(0,1) + N(0,0)·π(0,0)

The variance is that of the jackknife over examples with π fixed, plus the sampling error of π by the delta method with
π̃ = (x + ½)/(m + 1), so that a cell in which people agree with every decision still has some.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from explaineval.metrics.correlations import MENTIONED_FLIP, phi_values, youden_values
from explaineval.metrics.estimates import (
    ALWAYS_CHANGED,
    FEWEST,
    LOWER,
    NEVER_CHANGED,
    NO_TRIAL,
    SMALLEST_SPREAD,
    UPPER,
    FloatArray,
    IntArray,
    Interval,
    Limits,
    Statistic,
    check_counts,
    clopper_pearson,
    column_sums,
    deviations,
    empty_margin,
    error_of,
    estimate,
    exact_sum,
    no_limits,
    no_value,
    paired_counts,
    rough,
    scored_tables,
    seeded_generator,
    student_t,
    tanh_limits,
    total_table,
)
from explaineval.metrics.precision import MOST_EXAMPLES, correlation_of_changes
from explaineval.metrics.rates import FLIP, KEPT, difference_limits, effective_trials, ratio_values, wilson
from explaineval.records import Estimate
from explaineval.text import counted

Counts = tuple[int, ...]  # four: a, b, c, d or u1, u0, v1, v0


def phi_bounds(a: int, b: int, c: int, d: int, u1: int, u0: int, v1: int, v0: int, w: int) -> tuple[float, float]:
    """Return the lowest and highest phi over all outcomes of the missing trials; (NaN, NaN) if none is defined.

    a, b, c, d: the observed table. u1, u0: trials with a known impact (1, 0) and unknown mention. v1, v0:
    trials with a known mention (1, 0) and unknown impact. w: trials of which neither is known. Raises
    ValueError on a negative count.

    >>> phi_bounds(1, 0, 0, 1, 0, 0, 0, 0, 1)
    (0.5, 1.0)
    """
    check_counts([a, b, c, d, u1, u0, v1, v0, w])
    # negating M swaps a with b, c with d, v1 with v0 and changes the sign of phi; 0.0 − x never gives −0.0
    low = 0.0 - _highest((b, a, d, c), (u1, u0, v0, v1), w)
    return low, _highest((a, b, c, d), (u1, u0, v1, v0), w)


def _highest(table: Counts, known: Counts, w: int) -> float:
    """Return the highest defined phi; where every best outcome empties a margin, the next best ones are tried.

    A margin is filled again by putting one trial of some class, or one or two of which nothing is known, into b or c.
    """
    best = _scan(table, known, (0, 0, 0, 0), w)
    if not math.isnan(best):
        return best
    moves = itertools.product(*(range(min(count, 1) + 1) for count in known))
    splits = [(b, c) for b in (0, 1) for c in (0, 1) if b + c <= w]
    values = [
        _scan((table[0], table[1] + b, table[2] + c, table[3]), known, move, w - b - c)
        for move, (b, c) in itertools.product(moves, splits)
    ]
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _scan(table: Counts, known: Counts, moved: Counts, w: int) -> float:
    """Return the highest phi over all splits of w between a and d, with `moved` trials of each class in b or c."""
    a, b, c, d = table
    u1, u0, v1, v0 = (count - away for count, away in zip(known, moved, strict=True))
    b, c = b + moved[0] + moved[3], c + moved[1] + moved[2]
    in_a = np.arange(w + 1, dtype=np.float64)
    tables = np.empty((w + 1, 4))
    tables[:, 0] = a + u1 + v1 + in_a
    tables[:, 1] = b
    tables[:, 2] = c
    tables[:, 3] = d + u0 + v0 + (w - in_a)
    values = phi_values(tables)
    defined = values[~np.isnan(values)]
    return float(np.max(defined)) if defined.size else math.nan


PERMUTATIONS = 1000
CLOSE = 1e-12


def never(tables: ArrayLike) -> Estimate:
    """Return phi of an explainer that never mentions the insertion: undefined, with the reason. tables (G, 4)."""
    scored = scored_tables(tables)
    a, b, c, d = total_table(scored)
    return _undefined(scored, empty_margin(0, a + b, 0, c + d))


def always(tables: ArrayLike) -> Estimate:
    """Return phi of an explainer that always mentions the insertion: undefined, with the reason. tables (G, 4)."""
    scored = scored_tables(tables)
    a, b, c, d = total_table(scored)
    return _undefined(scored, empty_margin(a + b, 0, c + d, 0))


def random_explainer(tables: ArrayLike, *, seed: int = 0, permutations: int = PERMUTATIONS) -> Estimate:
    """Return phi with the mentions permuted over all trials: mean, 2.5 and 97.5 % quantiles. tables (G, 4)."""
    scored = scored_tables(tables)
    pooled = scored.sum(axis=0, keepdims=True)
    return _permuted(scored, pooled, seed, permutations)


def example_only(tables: ArrayLike, *, seed: int = 0, permutations: int = PERMUTATIONS) -> Estimate:
    """Return phi with the mentions permuted within each example: mean, 2.5 and 97.5 % quantiles. tables (G, 4)."""
    scored = scored_tables(tables)
    return _permuted(scored, scored, seed, permutations)


def inside_example_only(phi_cct: Estimate, permuted: Estimate) -> bool:
    """Return whether phi lies inside the range of `example_only`: then it may owe nothing to the insertion.

    False where either is undefined.
    """
    if phi_cct.value is None or permuted.low is None or permuted.high is None:
        return False
    return permuted.low - CLOSE <= phi_cct.value <= permuted.high + CLOSE


def _permuted(scored: IntArray, strata: IntArray, seed: int, permutations: int) -> Estimate:
    """Return phi after permuting the mentions within each stratum (S, 4); the margins of the whole never change."""
    a, b, c, d = total_table(scored)
    reason = empty_margin(a, b, c, d)
    if reason:
        return _undefined(scored, reason)
    in_a = permuted_mentioned_flips(strata, seed, permutations).astype(np.float64)
    changed, mentioned, n = a + b, a + c, a + b + c + d
    values = phi_values(np.stack([in_a, changed - in_a, mentioned - in_a, n - changed - mentioned + in_a], axis=1))
    low, high = (float(limit) for limit in np.quantile(values, [LOWER, UPPER]))
    value = exact_sum(values) / permutations
    return Estimate(value=value, low=low, high=high, n=n, n_examples=len(scored))


def permuted_mentioned_flips(strata: IntArray, seed: int, permutations: int) -> IntArray:
    """Return Σ a' over strata (S, 4) for each permutation, (permutations,); a' is hypergeometric given the margins.

    Strata with equal margins are drawn together: how many of them get each a' is multinomial. That keeps
    memory at one row per permutation and the result independent of the order of examples.
    """
    generator = seeded_generator(seed)
    a, b, c, d = strata.T
    margins, counts = np.unique(np.stack([a + b, a + c, a + b + c + d], axis=1), axis=0, return_counts=True)
    total = np.zeros(permutations, dtype=np.int64)
    for (changed, mentioned, n), count in zip(margins.tolist(), counts.tolist(), strict=True):
        fewest, most = max(0, changed + mentioned - n), min(changed, mentioned)
        if fewest == most:
            total += fewest * count
        elif count == 1:
            total += generator.hypergeometric(mentioned, n - mentioned, changed, size=permutations)
        else:
            support = np.arange(fewest, most + 1)
            shares = [math.comb(mentioned, k) * math.comb(n - mentioned, changed - k) for k in support.tolist()]
            ways = math.comb(n, changed)
            total += generator.multinomial(count, [share / ways for share in shares], size=permutations) @ support
    return total


def _undefined(scored: IntArray, reason: str | None) -> Estimate:
    return no_value(str(reason), int(scored.sum()), len(scored))


class NoiseMargin(NamedTuple):
    """How much more often answers change after the intervention than by asking the same again.

    `lower_limit` is the lower 95 % limit of impact rate − sham rate. It and `sham_rate` are None where no sham was
    scored. `shams` is the number of scored shams, `is_likely` says that noise alone is an unlikely reason although
    the limit is not above 0: no sham changed, and so many would seldom all agree at the rate of the impact.
    `examples` would settle it at these rates; None where no number would, or none is needed.
    """

    impact_rate: float
    sham_rate: float | None
    lower_limit: float | None
    shams: int = 0
    is_likely: bool = False
    examples: int | None = None


SELDOM = 0.05
"""The probability below which shams that all agree speak against noise."""


def noise_margin(
    flips: ArrayLike, trials: ArrayLike, sham_flips: ArrayLike, sham_trials: ArrayLike
) -> NoiseMargin | None:
    """Return the margin of impact over noise; None where no trial is scored.

    With impact rate I, its clustered Wilson lower limit l, sham rate S and its Clopper–Pearson upper limit u, the lower
    limit is (I − S) − √((I − l)² + (u − S)²) (MOVER; Zou and Donner 2008). The limit u counts one trial an example with
    a scored sham; of s shams an example, shams/(1 + (s − 1)ρ) trials, ρ the correlation of the impact within examples
    (1 if unknown), since shams of one example share the answer that they are held against.

    All arguments have the shape (G,), one entry per example. Raises ValueError on unequal shapes.
    """
    impact, sham = paired_counts(flips, trials), paired_counts(sham_flips, sham_trials)
    if impact.shape != sham.shape:
        raise ValueError(
            f"{counted(len(impact), 'example')} with trials but {len(sham)} with shams: align them by example"
        )
    impact, sham = impact[impact[:, 1] > 0], sham[sham[:, 1] > 0]
    if not len(impact):
        return None
    hits, counts = impact.T
    impact_rate = int(hits.sum()) / int(counts.sum())
    if not len(sham):
        return NoiseMargin(impact_rate, None, None)
    shams = int(sham[:, 1].sum())
    sham_rate, per_example = int(sham[:, 0].sum()) / shams, shams / len(sham)
    correlation = correlation_of_changes(np.stack([hits, hits * 0, hits * 0, counts - hits], axis=1))
    effective = shams / (1 + (per_example - 1) * (1.0 if correlation is None else correlation))
    n_effective = effective_trials(hits, counts)

    def limit(times: float) -> float:
        """The lower limit with so many times the examples at the same rates."""
        freedom = round(times * len(impact)) - 1
        if freedom < 1:
            return -math.inf
        low, _ = wilson(impact_rate, times * n_effective, student_t(freedom))
        _, high = clopper_pearson(sham_rate * times * effective, times * effective)
        return (impact_rate - sham_rate) - math.hypot(impact_rate - low, high - sham_rate)

    lower = limit(1.0)
    is_settled = lower > 0
    return NoiseMargin(
        impact_rate,
        sham_rate,
        lower,
        shams,
        is_likely=not is_settled and sham_rate == 0 and (1 - impact_rate) ** effective < SELDOM,
        examples=None if is_settled else _examples_to_settle(limit, len(impact)),
    )


def _examples_to_settle(limit: Callable[[float], float], examples: int) -> int | None:
    """Return the fewest examples at which `limit`, a function of their multiple, exceeds 0; None if there are none."""
    if limit(MOST_EXAMPLES / examples) <= 0:
        return None
    low, high = examples, MOST_EXAMPLES
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if limit(middle / examples) > 0 else (middle, high)
    return high


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


CELLS = (
    "changed answers called mentioned",
    "changed answers called not mentioned",
    "unchanged answers called mentioned",
    "unchanged answers called not mentioned",
)
"""The cells a, b, c, d in words."""


NORMAL = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


WRONG_GRADES = 0.03
"""The share of people's grades of which it is said what it would do to corrected phi if they were wrong."""


class WrongGrades(NamedTuple):
    """What phi would be if WRONG_GRADES of the grades were wrong: `value` where they are wrong at random.

    `low` and `high` bound it where they are wrong in whatever direction moves phi most, cell by cell.
    """

    value: float
    low: float
    high: float


class Corrected(NamedTuple):
    """The corrected numbers of one condition. `table` is the corrected a, b, c, d; None where it is not known."""

    phi: Estimate
    tpr: Estimate
    fpr: Estimate
    youden_j: Estimate
    table: tuple[float, float, float, float] | None
    wrong_grades: WrongGrades | None = None


class _Sample(NamedTuple):
    """What people said of each cell, (4,): rows judged, the share of mentions π, and its variance π̃(1−π̃)/m."""

    judged: IntArray
    shares: FloatArray
    variances: FloatArray


def allocate(sizes: Sequence[int], rows: int) -> list[int]:
    """Return how many of `rows` to draw from each cell of these sizes: equally many, as far as each has so many.

    What a small cell cannot give is taken from the others. The first cells get what does not divide evenly.

    >>> allocate([100, 3, 100, 100], 12), allocate([1, 1, 0, 1], 12)
    ([3, 3, 3, 3], [1, 1, 0, 1])
    """
    drawn = [0] * len(sizes)
    left = min(rows, sum(sizes))
    while left:
        open_cells = [cell for cell, size in enumerate(sizes) if drawn[cell] < size]
        share = max(1, left // len(open_cells))
        for cell in open_cells:
            more = min(share, sizes[cell] - drawn[cell], left)
            drawn[cell] += more
            left -= more
    return drawn


def correct(tables: ArrayLike, called: ArrayLike, judged: ArrayLike) -> Corrected:
    """Return phi, TPR, FPR and J as they would be if people had decided on every trial.

    Args:
        tables: counts a, b, c, d of each example by the decisions that are corrected, (G, 4).
        called: how many of the judged rows of each cell people call mentioned, (4,); fractions where raters differ.
        judged: how many rows of each cell people judged, (4,).

    Each number is undefined where a cell that it rests on has trials and no judged row. Raises ValueError unless
    0 ≤ called ≤ judged, and no more is judged than there is.
    """
    scored = scored_tables(tables)
    counts = scored.sum(axis=0) if len(scored) else np.zeros(4, dtype=np.int64)
    sample = _read_sample(counts, np.asarray(called, dtype=np.float64), np.asarray(judged, dtype=np.int64))
    n, n_examples = int(counts.sum()), len(scored)
    rates, reasons = [], []
    for cells in ((0, 1), (2, 3)):
        lacking = [_not_judged(cell, counts) for cell in cells if counts[cell] and math.isnan(sample.shares[cell])]
        rates.append(no_value("; ".join(lacking), n, n_examples) if lacking else _rate(scored, sample, cells))
        reasons += lacking
    if reasons:
        missing = no_value("; ".join(reasons), n, n_examples)
        return Corrected(missing, rates[0], rates[1], missing, None)
    rows = corrected_rows(scored.astype(np.float64), sample.shares)
    a, b, c, d = column_sums(rows).tolist() if len(rows) else (0.0,) * 4
    youden = _youden(rows, rates[0], rates[1], n, n_examples)
    wrong = _with_wrong_grades(counts, sample.shares)
    return Corrected(_phi(rows, counts, sample, n), rates[0], rates[1], youden, (a, b, c, d), wrong)


def _with_wrong_grades(counts: IntArray, shares: FloatArray) -> WrongGrades | None:
    """Return what wrong grades would do to phi; None where it is undefined, or would be in one of the cases.

    With a share e of grades that are wrong at random, a true share π is seen as π(1 − e) + (1 − π)e.
    """
    at_random = (shares - WRONG_GRADES) / (1 - 2 * WRONG_GRADES)
    moves = np.array(list(itertools.product((-WRONG_GRADES, WRONG_GRADES), repeat=4)))
    cases = np.clip(np.concatenate([at_random[np.newaxis], shares + moves, shares[np.newaxis]]), 0.0, 1.0)
    values = np.concatenate([phi_values(_corrected_total(counts, case)) for case in cases])
    if np.isnan(values).any():
        return None
    return WrongGrades(float(values[0]), float(values.min()), float(values.max()))


def _corrected_total(counts: IntArray, shares: FloatArray) -> FloatArray:
    """Return the corrected a, b, c, d of all examples, (1, 4)."""
    return corrected_rows(counts.astype(np.float64)[np.newaxis], shares)


def _not_judged(cell: int, counts: IntArray) -> str:
    return f"no row of the sheet with a grade is from the {int(counts[cell])} {CELLS[cell]}"


def corrected_rows(tables: FloatArray, shares: FloatArray) -> FloatArray:
    """Return each example's expected a, b, c, d, (G, 4), by the shares (4,) of the cells that people call mentioned."""
    said, unsaid = tables * np.nan_to_num(shares), tables * (1 - np.nan_to_num(shares))
    parts = [(side[:, first] + side[:, first + 1]) for first in (0, 2) for side in (said, unsaid)]
    return np.stack(parts, axis=1)


def _read_sample(counts: IntArray, called: FloatArray, judged: IntArray) -> _Sample:
    if called.shape != (4,) or judged.shape != (4,):
        raise ValueError("called and judged have one number for each of the four cells a, b, c, d")
    if (called < 0).any() or (called > judged).any() or (judged > counts).any():
        raise ValueError("0 ≤ called ≤ judged ≤ trials does not hold in every cell")
    shares, variances = np.full(4, np.nan), np.full(4, np.nan)
    some = judged > 0
    shares[some] = called[some] / judged[some]
    smoothed = (called[some] + 0.5) / (judged[some] + 1)
    variances[some] = smoothed * (1 - smoothed) / judged[some]
    return _Sample(judged, shares, variances)


def _phi(rows: FloatArray, counts: IntArray, sample: _Sample, n: int) -> Estimate:
    sums = column_sums(rows) if len(rows) else np.zeros(4)
    a, b, c, d = sums.tolist()
    reason = _empty(a, b, c, d)
    if reason is not None:
        return no_value(reason, n, len(rows))
    value = float(phi_values(sums[np.newaxis])[0])
    changed, kept, said, unsaid = a + b, c + d, a + c, b + d
    curve = value * (unsaid - said) / (2 * said * unsaid)
    scale = math.sqrt(changed * kept * said * unsaid)
    slopes = np.array([kept / scale - curve] * 2 + [-changed / scale - curve] * 2)  # of phi by a, and by c
    sampling = _sampling_variance(counts * slopes, sample)
    carriers = int((rows[:, 0] > 0).sum())
    limits = _tanh_limits(value, rows, phi_values, sampling, carriers)
    return Estimate(value=value, low=limits.low, high=limits.high, n=n, n_examples=len(rows), note=limits.note)


def _empty(a: float, b: float, c: float, d: float) -> str | None:
    """Return why corrected phi is undefined, in words; None where it is defined."""
    if a + b > 0 and c + d > 0 and a + c <= 0:
        return "people call none of the insertions mentioned"
    if a + b > 0 and c + d > 0 and b + d <= 0:
        return "people call all of the insertions mentioned"
    return empty_margin(*(math.ceil(count) for count in (a, b, c, d)))


def _sampling_variance(slopes: FloatArray, sample: _Sample) -> float:
    """Return Σ slope²·π̃(1−π̃)/m over the cells with judged rows."""
    return float(np.nansum(slopes**2 * sample.variances))


def _tanh_limits(value: float, rows: FloatArray, statistic: Statistic, sampling: float, carriers: int) -> Limits:
    """Return the limits on Fisher's scale, with `sampling` added to the jackknife's variance."""
    if carriers < FEWEST:
        return no_limits(f"no interval: fewer than {FEWEST} examples have {MENTIONED_FLIP}")
    if 1 - value**2 < SMALLEST_SPREAD:
        return no_limits(f"no interval: the value is exactly {round(value)}")
    error = error_of(deviations(rows, statistic))
    if math.isnan(error):
        return no_limits("no interval: without one of the examples there is no value")
    half = student_t(carriers - 1) * math.sqrt(error**2 + sampling) / (1 - value**2)
    centre = math.atanh(value)
    return Limits(math.tanh(centre - half), math.tanh(centre + half), rough(carriers, MENTIONED_FLIP))


def _rate(scored: IntArray, sample: _Sample, cells: tuple[int, int]) -> Estimate:
    """Return TPR (cells a, b) or FPR (c, d), a weighted sum of two shares π, with limits that need not be symmetric.

    Each π has Wilson's limits; their distances from π, and t times the jackknife's standard error, are added as
    independent errors are (MOVER: Zou and Donner 2008).
    """
    at = list(cells)
    tables = scored[:, at].astype(np.float64)
    tables = tables[tables.sum(axis=1) > 0]
    if not len(tables):
        return no_value(NO_TRIAL if not len(scored) else NEVER_CHANGED if cells == (0, 1) else ALWAYS_CHANGED)
    total = float(tables.sum())
    rows = np.stack([tables @ np.nan_to_num(sample.shares[at]), tables.sum(axis=1)], axis=1)
    value = min(1.0, max(0.0, float(ratio_values(column_sums(rows)[np.newaxis])[0])))
    n, n_examples = int(total), len(tables)
    if n_examples < FEWEST:
        return Estimate(value=value, n=n, n_examples=n_examples, note=f"no interval: {FEWEST} examples are needed")
    run = student_t(n_examples - 1) * error_of(deviations(rows, ratio_values))
    below, above = [run], [run]
    for cell, weight in zip(at, tables.sum(axis=0) / total, strict=True):
        if sample.judged[cell]:
            low, high = wilson(sample.shares[cell], float(sample.judged[cell]), NORMAL)
            below.append(weight * (sample.shares[cell] - low))
            above.append(weight * (high - sample.shares[cell]))
    low, high = max(0.0, value - math.hypot(*below)), min(1.0, value + math.hypot(*above))
    return Estimate(value=value, low=low, high=high, n=n, n_examples=n_examples)


def _youden(rows: FloatArray, tpr: Estimate, fpr: Estimate, n: int, n_examples: int) -> Estimate:
    for rate in (tpr, fpr):
        if rate.undefined is not None:
            return no_value(rate.undefined, n, n_examples)
    value = float(youden_values(column_sums(rows)[np.newaxis])[0])
    limits = difference_limits(value, tpr, fpr, (FLIP, KEPT))
    return Estimate(value=value, low=limits.low, high=limits.high, n=n, n_examples=n_examples, note=limits.note)
