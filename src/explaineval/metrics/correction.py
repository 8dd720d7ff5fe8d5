"""Correct phi, TPR, FPR and J for the errors of whatever decided on mentions, from a sample that people judged.

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
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from explaineval.metrics.correlations import MENTIONED_FLIP, phi_values, youden_values
from explaineval.metrics.estimates import (
    ALWAYS_CHANGED,
    FEWEST,
    NEVER_CHANGED,
    NO_TRIAL,
    SMALLEST_SPREAD,
    FloatArray,
    IntArray,
    Limits,
    Statistic,
    column_sums,
    deviations,
    empty_margin,
    error_of,
    no_limits,
    no_value,
    rough,
    scored_tables,
    student_t,
)
from explaineval.metrics.rates import FLIP, KEPT, difference_limits, ratio_values, wilson
from explaineval.records import Estimate

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
