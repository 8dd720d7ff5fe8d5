"""Compute estimates with 95 % limits, by a jackknife or a bootstrap over examples.

Interventions and samples of one example are not independent, so the jackknife leaves out whole examples (Efron and
Stein 1981). Limits of a number φ between −1 and 1 are tanh(atanh φ ± t·SE/(1 − φ²)): Fisher's transform by the delta
method, with a t quantile whose degrees of freedom are one less than the number of examples that carry the information.
An area A likewise has expit(logit A ± t·SE/(A(1 − A))), which is the same interval of φ = 2A − 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from explaineval.records import Estimate, Record
from explaineval.text import counted, share_text

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

NO_TRIAL = "no scored trial"
NEVER_CHANGED = "no answer changed"
ALWAYS_CHANGED = "every answer changed"
NEVER_MENTIONED = "no explanation mentions the insertion"
ALWAYS_MENTIONED = "every explanation mentions the insertion"


Statistic = Callable[[FloatArray], FloatArray]
"""Turns sums of sufficient statistics, (m, K), into m values; NaN where a value is undefined."""

SMALLEST_SPREAD = 1e-12
"""Below this a spread between examples, or the distance of a correlation from 1, is rounding error."""


class Interval(Record):
    """How to get 95 % limits: `jackknife` (and Wilson for rates) or the `percentile` bootstrap over examples.

    `resamples` and `seed` are for the bootstrap only.
    """

    method: Literal["jackknife", "percentile"] = "jackknife"
    resamples: int = Field(default=2000, gt=0)
    seed: int = 0


class Limits(NamedTuple):
    """95 % limits, or the reason in `note` why there are none; a note beside limits qualifies them."""

    low: float | None
    high: float | None
    note: str | None = None


def no_limits(note: str) -> Limits:
    """Return that there is no interval, for this reason."""
    return Limits(None, None, note)


def no_value(reason: str, n: int = 0, n_examples: int = 0) -> Estimate:
    """Return the estimate of an undefined number: why it is undefined, and how many trials and examples it has."""
    return Estimate(value=None, n=n, n_examples=n_examples, undefined=reason)


def estimate(
    rows: FloatArray,
    statistic: Statistic,
    interval: Interval,
    jackknife: Callable[[float], Limits],
    n: int,
    n_examples: int,
) -> Estimate:
    """Return the statistic of rows (G, K), one per example, with its limits.

    `jackknife` gives the limits of the value where the interval is not the percentile bootstrap. `n` and `n_examples`
    are passed on.
    """
    value = float(statistic(column_sums(rows)[np.newaxis])[0])
    limits = percentile_limits(rows, statistic, interval) if interval.method == "percentile" else jackknife(value)
    return Estimate(value=value, low=limits.low, high=limits.high, n=n, n_examples=n_examples, note=limits.note)


def check_counts(counts: ArrayLike) -> IntArray:
    """Return counts as an int64 array. Raises ValueError unless they are whole and not negative."""
    array = np.asarray(counts)
    if array.size == 0:
        return np.zeros(array.shape, dtype=np.int64)
    if array.dtype.kind not in "biu":
        raise ValueError(f"counts must be integers, got an array of {array.dtype}: count trials, do not average")
    whole = array.astype(np.int64, copy=False)
    if (least := int(np.min(whole))) < 0:
        raise ValueError(f"counts must not be negative, got {least}")
    return whole


def paired_counts(successes: ArrayLike, trials: ArrayLike) -> IntArray:
    """Return successes and trials, both (G,) with one entry per example, as (G, 2).

    Raises ValueError unless 0 ≤ successes ≤ trials.
    """
    hits, counts = check_counts(successes), check_counts(trials)
    if hits.shape != counts.shape or hits.ndim != 1:
        raise ValueError(f"successes {hits.shape} and trials {counts.shape} must both have the shape (examples,)")
    if (hits > counts).any():
        raise ValueError("an example has more successes than trials: pass both arrays in the same order")
    return np.stack([hits, counts], axis=1)


def scored_tables(tables: ArrayLike) -> IntArray:
    """Return the rows of `tables` (G, 4) with at least one trial, as int64.

    An example without a trial says nothing and must not count as a cluster. Raises ValueError unless the
    shape is (G, 4) and the counts are whole and not negative.
    """
    array = check_counts(tables)
    if array.size == 0:
        return np.zeros((0, 4), dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"tables must have the shape (examples, 4), got {array.shape}: columns are a, b, c, d")
    a, b, c, d = array.T
    has_trial = (a > 0) | (b > 0) | (c > 0) | (d > 0)
    scored: IntArray = array if has_trial.all() else array[has_trial]
    return scored


def total_table(tables: IntArray) -> tuple[int, int, int, int]:
    """Return the pooled table (a, b, c, d) of tables (G, 4)."""
    a, b, c, d = (int(column.sum()) for column in tables.T)
    return a, b, c, d


def empty_margin(a: int, b: int, c: int, d: int) -> str | None:
    """Return why phi is undefined on this table, in words; None where it is defined.

    >>> empty_margin(0, 0, 2, 5)
    'no answer changed'
    """
    if a + b + c + d == 0:
        return NO_TRIAL
    if a + b == 0:
        return NEVER_CHANGED
    if c + d == 0:
        return ALWAYS_CHANGED
    if a + c == 0:
        return NEVER_MENTIONED
    if b + d == 0:
        return ALWAYS_MENTIONED
    return None


ONE_EXAMPLE = "no interval: all trials come from one example"
NO_SPREAD = "no interval: there is no spread between the examples"


def exact_sum(values: FloatArray) -> float:
    """Return the correctly rounded sum of a vector."""
    return math.fsum(values.tolist())


LARGEST_EXACT = 2.0**53
"""Sums of whole numbers up to here have no rounding error, in whatever order they are added."""


def _are_exact(rows: FloatArray) -> bool:
    """Whether all values are whole numbers and their sums are exact."""
    return _are_whole(rows) and sum(float(np.abs(part).sum()) for part in _parts(rows)) <= LARGEST_EXACT


def _are_whole(rows: FloatArray) -> bool:
    """Whether all values are whole numbers."""
    return all(bool((np.rint(part) == part).all()) for part in _parts(rows))


def _parts(rows: FloatArray) -> Iterator[FloatArray]:
    """Yield the rows in parts, whose copies are quicker to make than one of all rows."""
    return (rows[start : start + PART] for start in range(0, len(rows), PART))


PART = 4096
"""Rows of a part: with some columns, their copy stays in a processor's cache."""


def column_sums(rows: FloatArray) -> FloatArray:
    """Return the correctly rounded sum of each column: rows (G, K) to (K,)."""
    if _are_exact(rows):
        return np.array([column.sum() for column in rows.T], dtype=np.float64)
    return np.array([exact_sum(column) for column in rows.T], dtype=np.float64)


def leave_one_out_sums(rows: FloatArray) -> FloatArray:
    """Return the column sums without each row in turn: rows (G, K) to (G, K).

    The rounding error of the total is added back, so that the rest is right to the last digits even without a row that
    holds nearly everything (and exactly 0 where nothing is left).
    """
    left = np.empty_like(rows)
    for column in range(rows.shape[1]):
        values = rows[:, column].tolist()
        total = math.fsum(values)
        lost = math.fsum([*values, -total])
        left[:, column] = (total - rows[:, column]) + lost
    return left


UPPER = 0.975
LOWER = 0.025


def student_t(df: int) -> float:
    """Return the 97.5 % quantile of Student's t with `df` ≥ 1 degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(df, UPPER))


def clopper_pearson(successes: float, trials: float) -> tuple[float, float]:
    """Return the exact 95 % limits of a binomial proportion (Clopper and Pearson 1934), trials > 0.

    Both numbers may be effective ones, which need not be whole.

    >>> clopper_pearson(0, 10)[0]
    0.0
    """
    from scipy.special import betaincinv

    failures = trials - successes
    low = float(betaincinv(successes, failures + 1, LOWER)) if successes else 0.0
    high = float(betaincinv(successes + 1, failures, UPPER)) if failures else 1.0
    return low, high


LARGEST_BLOCK = 2_000_000  # counts held at a time: 16 MB
CACHED_BLOCK = 50_000
"""Counts held at a time where the size of a block cannot change a digit: 400 kB stay in a processor's cache."""

MOST_CODES = 1 << 20
"""Up to so many possible rows are counted in an array of 8 MB."""

LARGEST_UNDEFINED_SHARE = 0.05


def seeded_generator(seed: int) -> np.random.Generator:
    """Return a random generator for any whole seed, negative ones included."""
    return np.random.default_rng(seed % 2**64)


def resampled_sums(rows: FloatArray, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield column sums of bootstrap samples of the rows (G, K), in blocks of shape (at most `resamples`, K)."""
    generator = seeded_generator(seed)
    kinds: FloatArray | IntArray
    kinds, counts = distinct_rows(rows)
    shares = counts / len(rows)
    held = LARGEST_BLOCK
    if _are_exact(kinds * len(rows)):  # products of whole numbers need no library that starts threads
        kinds, held = kinds.astype(np.int64), CACHED_BLOCK
    block = max(1, held // len(kinds))
    for start in range(0, resamples, block):
        drawn = generator.multinomial(len(rows), shares, size=min(block, resamples - start))
        yield (drawn.astype(kinds.dtype, copy=False) @ kinds).astype(np.float64)


def distinct_rows(rows: FloatArray) -> tuple[FloatArray, IntArray]:
    """Return the different rows of (G, K) in lexicographic order, and how often each occurs, as `np.unique` does.

    Whole numbers such as counts are compared as the digits of one number, which is much faster than row by row.
    """
    largest = [float(column.max(initial=0)) for column in rows.T]
    if math.prod(most + 1 for most in largest) <= MOST_CODES and rows.min(initial=0) >= 0 and _are_whole(rows):
        bases = tuple(int(most) + 1 for most in largest)
        numbers = np.zeros(len(rows), dtype=np.int64)
        for base, column in zip(bases, rows.T, strict=True):
            numbers *= base
            np.add(numbers, column, out=numbers, casting="unsafe")
        occurrences = np.bincount(numbers)
        codes = np.flatnonzero(occurrences)
        return np.stack(np.unravel_index(codes, bases), axis=1).astype(np.float64), occurrences[codes]
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    return kinds, counts


def percentile_limits(rows: FloatArray, statistic: Statistic, interval: Interval) -> Limits:
    """Return the 2.5 and 97.5 % quantiles of `statistic` over resampled examples; rows (G, K), one per example.

    Resamples in which the statistic is undefined are dropped; above 5 % of them there is no interval.
    """
    if len(rows) < 2:
        return no_limits(ONE_EXAMPLE)
    blocks = resampled_sums(rows, interval.resamples, interval.seed)
    values = np.concatenate([statistic(sums) for sums in blocks])
    defined = values[~np.isnan(values)]
    undefined_share = 1 - len(defined) / len(values)
    if undefined_share > LARGEST_UNDEFINED_SHARE:
        return no_limits(f"no interval: undefined in {share_text(undefined_share)} of the resamples")
    low, high = (float(limit) for limit in np.quantile(defined, [LOWER, UPPER]))
    if high - low < SMALLEST_SPREAD:
        return no_limits(NO_SPREAD)
    return Limits(low, high)


FEWEST = 2
ROUGH_BELOW = 5


def deviations(rows: FloatArray, statistic: Statistic) -> FloatArray:
    """Return θ₍ᵢ₎ − θ̄ of `statistic` with each row of (G, K) left out in turn, (G,), G ≥ 2; NaN if one is undefined."""
    values = statistic(leave_one_out_sums(rows))
    differences: FloatArray = values - exact_sum(values) / len(rows)
    return differences


def error_of(left: FloatArray) -> float:
    """Return SE = √((G−1)/G · Σ(θ₍ᵢ₎ − θ̄)²) of deviations (G,); NaN where one is NaN."""
    return math.sqrt((len(left) - 1) / len(left) * exact_sum(left**2))


def tanh_limits(value: float, rows: FloatArray, statistic: Statistic, carriers: int, carrier: str) -> Limits:
    """Return the jackknife limits of `value` = statistic of all rows (G, K), a number between −1 and 1.

    `carriers` is the number of examples that carry the information (degrees of freedom + 1), `carrier` says
    in words what they have, for the notes.
    """
    return tanh_limits_of_error(value, lambda: error_of(deviations(rows, statistic)), carriers, carrier)


def tanh_limits_of_error(value: float, error: Callable[[], float], carriers: int, carrier: str) -> Limits:
    """Return the same from what computes the standard error of `value`; NaN where it is undefined."""
    half = _half_width(value, 1 - value**2, error, (carriers, carrier))
    if isinstance(half, Limits):
        return half
    centre = math.atanh(value)
    return Limits(math.tanh(centre - half), math.tanh(centre + half), rough(carriers, carrier))


def expit_limits(value: float, rows: FloatArray, statistic: Statistic, carriers: int, carrier: str) -> Limits:
    """Return the same for a number between 0 and 1, on the logit scale."""
    half = _half_width(value, value * (1 - value), lambda: error_of(deviations(rows, statistic)), (carriers, carrier))
    if isinstance(half, Limits):
        return half
    centre = math.log(value / (1 - value))
    return Limits(_expit(centre - half), _expit(centre + half), rough(carriers, carrier))


def exp_limits(rows: FloatArray, log_statistic: Statistic, carriers: int, carrier: str) -> Limits:
    """Return the jackknife limits of a positive number on the scale of its logarithm, which `log_statistic` gives."""
    centre = float(log_statistic(column_sums(rows)[np.newaxis])[0])
    if math.isnan(centre):
        return no_limits("no interval: the value is exactly 0")
    half = _half_width(centre, 1.0, lambda: error_of(deviations(rows, log_statistic)), (carriers, carrier))
    if isinstance(half, Limits):
        return half
    if half > LARGEST_LOG:
        return no_limits("no interval: it is too wide to write down")
    return Limits(math.exp(centre - half), math.exp(centre + half), rough(carriers, carrier))


LARGEST_LOG = 300.0
"""Half the width of an interval of a logarithm above which the limits are no numbers that say anything."""


def _half_width(value: float, slope: float, error_of_value: Callable[[], float], of: tuple[int, str]) -> float | Limits:
    """Return t·SE/slope, half the width on the transformed scale; or that there are no limits, with the reason."""
    carriers, carrier = of
    if carriers < FEWEST:
        return no_limits(f"no interval: fewer than {FEWEST} examples have {carrier}")
    if slope < SMALLEST_SPREAD:
        return no_limits(f"no interval: the value is exactly {round(value)}")
    error = error_of_value()
    if math.isnan(error):
        return no_limits("no interval: without one of the examples there is no value")
    if error < SMALLEST_SPREAD:
        return no_limits(NO_SPREAD)
    return student_t(carriers - 1) * error / slope


def _expit(logit: float) -> float:
    return (1 + math.tanh(logit / 2)) / 2  # exp(−logit) would overflow for a very wide interval


def rough(carriers: int, carrier: str) -> str | None:
    """Return the note of an interval that rests on fewer examples than ROUGH_BELOW; None where there are enough."""
    return f"rough interval: only {counted(carriers, 'example', 'have')} {carrier}" if carriers < ROUGH_BELOW else None
