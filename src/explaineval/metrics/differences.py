"""Paired differences between models that answered the same trials: intervals, p-values, ranks.

The compared things (models, arms of one model, runs) are called systems here. All of them are measured on the same
trials of the same examples. Leaving out one example at a time gives each system a vector of deviations; the standard
error of a difference comes from the difference of two such vectors, so that what two systems share cancels out.

A family is the set of all pairs of systems for one metric. Its p-values and intervals are adjusted by the distribution
of the largest |t| in the family (max-t; Hothorn, Bretz and Westfall 2008), drawn with Gaussian multipliers on the
deviations. Against one reference that was named beforehand, Holm's procedure (1979) over the other systems is used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np

from explaineval.metrics.estimates import (
    FEWEST,
    ROUGH_BELOW,
    SMALLEST_SPREAD,
    FloatArray,
    Statistic,
    clopper_pearson,
    column_sums,
    deviations,
    exact_sum,
    seeded_generator,
)

DRAWS = 10_000
"""Draws of the largest |t| in a family."""

LEVEL = 0.05
POWER = 0.8
SAME = "the two are the same in every example"
NO_SPREAD = "there is no spread between the examples"

_DRAWS_AT_ONCE = 500
_LARGEST_DF = 1e9


class Spread(NamedTuple):
    """The variance of one system's value on one task, and the degrees of freedom with which it is known."""

    variance: float
    df: int


@dataclass(frozen=True)
class Measured:
    """One system's value of one metric on the shared trials.

    `deviations` (G,) has one entry per shared example, scaled so that the sum of their squares is the squared standard
    error. `spreads` are the parts of that variance, one per task. `n` counts trials. Where `undefined` gives a reason
    there is no value.
    """

    value: float
    deviations: FloatArray
    spreads: tuple[Spread, ...]
    n: int
    undefined: str | None = None
    note: str | None = None


def undefined_measure(examples: int, reason: str, n: int = 0) -> Measured:
    """A system without a value, for this reason."""
    return Measured(math.nan, np.zeros(examples), (), n, reason)


def measure(rows: FloatArray, statistic: Statistic, carriers: int, carrier: str, n: int) -> Measured:
    """Measure one system on one task.

    `rows` (G, K) hold sufficient statistics, one row per shared example; `statistic` maps their sums to the value.
    `carriers` counts the examples that carry the information (degrees of freedom + 1), and `carrier` says what those
    examples have.
    """
    value = float(statistic(column_sums(rows)[np.newaxis])[0]) if len(rows) else math.nan
    if math.isnan(value):
        return undefined_measure(len(rows), "undefined on the shared trials", n)
    if carriers < FEWEST:
        return undefined_measure(len(rows), f"fewer than {FEWEST} shared examples have {carrier}", n)
    left = deviations(rows, statistic)
    if np.isnan(left).any():
        return undefined_measure(len(rows), "the value hangs on one example, without it there is none", n)
    scaled = left * math.sqrt((len(rows) - 1) / len(rows))
    spread = Spread(exact_sum(scaled**2), carriers - 1)
    note = f"only {carriers} shared examples have {carrier}" if carriers < ROUGH_BELOW else None
    return Measured(value, scaled, (spread,), n, note=note)


def mean_measure(tasks: Sequence[Measured]) -> Measured:
    """The unweighted mean of one system's values over tasks, whose examples are independent of each other."""
    count = len(tasks)
    deviations_of_all = np.concatenate([task.deviations / count for task in tasks])
    n = sum(task.n for task in tasks)
    reasons = dict.fromkeys(task.undefined for task in tasks if task.undefined)
    if reasons:
        return Measured(math.nan, np.zeros_like(deviations_of_all), (), n, "; ".join(filter(None, reasons)))
    value = math.fsum(task.value for task in tasks) / count
    spreads = tuple(Spread(part.variance / count**2, part.df) for task in tasks for part in task.spreads)
    notes = dict.fromkeys(task.note for task in tasks if task.note)
    return Measured(value, deviations_of_all, spreads, n, note="; ".join(filter(None, notes)) or None)


def satterthwaite(spreads: Sequence[Spread]) -> float:
    """(Σ s²)² / Σ(s⁴/df): the degrees of freedom of a sum of independent variances (Satterthwaite 1946).

    >>> satterthwaite([Spread(1.0, 9), Spread(1.0, 9)])
    18.0
    """
    total = math.fsum(part.variance for part in spreads)
    below = math.fsum(part.variance**2 / part.df for part in spreads)
    return total**2 / below if below > 0 else math.inf


def t_quantile(df: float, probability: float) -> float:
    """The quantile of Student's t; `df` may be fractional or infinite."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(probability)) if math.isinf(df) else float(stdtrit(df, probability))


def two_sided_p(t: float, df: float) -> float:
    """P(|T| ≥ |t|) of Student's t."""
    from scipy.special import ndtr, stdtr

    return float(2 * (ndtr(-abs(t)) if math.isinf(df) else stdtr(df, -abs(t))))


@dataclass(frozen=True)
class Difference:
    """The difference of two systems, first − second, at the 5 % level.

    `low` and `high` are the limits of this difference alone; the adjusted ones hold for all differences of the family
    together. `detectable` is the smallest true difference that the adjusted test would find with a probability of 80 %.
    `equivalent` says whether the two are within the declared margin; None where none was declared. `undefined` gives
    the reason where there is no difference or no interval.
    """

    first: int
    second: int
    value: float | None
    error: float | None = None
    df: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    low_adjusted: float | None = None
    high_adjusted: float | None = None
    p_adjusted: float | None = None
    detectable: float | None = None
    equivalent: bool | None = None
    undefined: str | None = None
    note: str | None = None

    @property
    def significant(self) -> bool:
        """Whether the adjusted test tells the two apart."""
        return self.p_adjusted is not None and self.p_adjusted < LEVEL


@dataclass(frozen=True)
class Rank:
    """The ranks that one system may hold (1 is best): from `low` to `high`."""

    low: int
    high: int


@dataclass(frozen=True)
class Family:
    """All tested differences of one metric.

    `best` is the system with the highest value, chosen by looking at these data; `not_separated` are the systems that
    the tests do not tell from it, itself included; none where it was not tested against the others. `ranks` has None
    for a system without a value.
    """

    differences: tuple[Difference, ...]
    ranks: tuple[Rank | None, ...]
    best: int | None
    not_separated: tuple[int, ...]


class _Pair(NamedTuple):
    """Two systems that can be tested: the difference of their values, its standard error and degrees of freedom."""

    first: int
    second: int
    value: float
    error: float
    df: float
    note: str | None

    @property
    def t(self) -> float:
        return abs(self.value / self.error)


def compare_pairs(
    systems: Sequence[Measured], *, seed: int = 0, draws: int = DRAWS, equivalent: float | None = None
) -> Family:
    """Test all pairs of systems, adjusted by max-t over the pairs that can be tested.

    An adjusted p-value is the upper 97.5 % limit of what the draws estimate, so that their error makes no claim.

    `equivalent` is the margin within which two systems count as equal, declared beforehand.
    """
    pairs = [_pair(systems, *numbers, equivalent) for numbers in itertools.combinations(range(len(systems)), 2)]
    tested = [pair for pair in pairs if isinstance(pair, _Pair)]
    largest = _largest_t(systems, tested, seed, draws) if len(tested) > 1 else None
    rows = []
    for pair in pairs:
        if isinstance(pair, Difference):
            rows.append(pair)
            continue
        critical, p = t_quantile(pair.df, 1 - LEVEL / 2), two_sided_p(pair.t, pair.df)
        if largest is not None:
            critical = max(critical, float(largest[draws - _most_reached(draws) - 1]))
            reached = draws - int(np.searchsorted(largest, pair.t, side="left"))
            p = max(p, _upper_p(reached, draws))
        rows.append(_adjusted(pair, critical, p, len(tested), equivalent))
    return _family(systems, rows)


def _upper_p(reached: int, draws: int) -> float:
    """The upper 97.5 % limit of a p-value of which `reached` of the draws are an estimate."""
    return clopper_pearson(reached, draws)[1]


@cache
def _most_reached(draws: int) -> int:
    """The largest number of draws that a significant difference may leave at or above its t."""
    return max((reached for reached in range(int(draws * LEVEL) + 1) if _upper_p(reached, draws) < LEVEL), default=0)


def compare_with_reference(systems: Sequence[Measured], reference: int, *, equivalent: float | None = None) -> Family:
    """Test each system against a reference that was named beforehand, adjusted by Holm's procedure.

    The adjusted limits are Bonferroni's: they hold together, and are a little wider than the tests need.
    """
    pairs = [_pair(systems, other, reference, equivalent) for other in range(len(systems)) if other != reference]
    tested = [pair for pair in pairs if isinstance(pair, _Pair)]
    p_values = iter(holm_adjusted([two_sided_p(pair.t, pair.df) for pair in tested]))
    rows = []
    for pair in pairs:
        if isinstance(pair, Difference):
            rows.append(pair)
        else:
            critical = t_quantile(pair.df, 1 - LEVEL / (2 * len(tested)))
            rows.append(_adjusted(pair, critical, next(p_values), len(tested), equivalent))
    family = _family(systems, rows)
    return family if family.best == reference else replace(family, not_separated=())


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979)."""
    count = len(p_values)
    adjusted = [0.0] * count
    largest = 0.0
    for place, index in enumerate(sorted(range(count), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (count - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _pair(systems: Sequence[Measured], first: int, second: int, equivalent: float | None) -> _Pair | Difference:
    """The pair as it is tested, or its row where there is nothing to test.

    Two systems with the same results in every example need no test; they are equivalent within any margin.
    """
    one, other = systems[first], systems[second]
    if one.undefined or other.undefined:
        reasons = dict.fromkeys(filter(None, (one.undefined, other.undefined)))
        return Difference(first, second, None, undefined="; ".join(reasons))
    value = one.value - other.value
    squared = exact_sum((one.deviations - other.deviations) ** 2)
    spreads = (*one.spreads, *other.spreads)
    if squared <= SMALLEST_SPREAD**2:
        if abs(value) <= SMALLEST_SPREAD:
            same = Difference(first, second, 0.0, error=0.0, low=0.0, high=0.0, low_adjusted=0.0, high_adjusted=0.0)
            return replace(same, equivalent=None if equivalent is None else True, note=SAME)
        return Difference(first, second, value, undefined=NO_SPREAD)
    note = "; ".join(dict.fromkeys(filter(None, (one.note, other.note)))) or None
    return _Pair(first, second, value, math.sqrt(squared), satterthwaite(spreads), note)


def _largest_t(systems: Sequence[Measured], pairs: Sequence[_Pair], seed: int, draws: int) -> FloatArray:
    """Sorted draws of the largest |t| over the pairs in a world where no two systems differ."""
    used = sorted({index for pair in pairs for index in (pair.first, pair.second)})
    column = {index: at for at, index in enumerate(used)}
    matrix = np.stack([systems[index].deviations for index in used], axis=1)
    first = np.array([column[pair.first] for pair in pairs])
    second = np.array([column[pair.second] for pair in pairs])
    errors = np.array([pair.error for pair in pairs])
    df = min(float(np.median([pair.df for pair in pairs])), _LARGEST_DF)
    generator = seeded_generator(seed)
    largest = np.empty(draws)
    for start in range(0, draws, _DRAWS_AT_ONCE):
        size = min(_DRAWS_AT_ONCE, draws - start)
        values = generator.standard_normal((size, len(matrix))) @ matrix
        scale = np.sqrt(generator.chisquare(df, size) / df)
        largest[start : start + size] = (np.abs(values[:, first] - values[:, second]) / errors).max(axis=1) / scale
    largest.sort()
    return largest


def _adjusted(pair: _Pair, critical: float, p: float, claims: int, equivalent: float | None) -> Difference:
    """The pair's row, with limits at this critical value of t, one of so many claims."""
    alone = t_quantile(pair.df, 1 - LEVEL / 2) * pair.error
    together = critical * pair.error
    within = None
    if equivalent is not None:
        half = t_quantile(pair.df, 1 - LEVEL / claims) * pair.error
        within = abs(pair.value) + half < equivalent
    return Difference(
        pair.first,
        pair.second,
        pair.value,
        error=pair.error,
        df=pair.df,
        low=pair.value - alone,
        high=pair.value + alone,
        p=two_sided_p(pair.t, pair.df),
        low_adjusted=pair.value - together,
        high_adjusted=pair.value + together,
        p_adjusted=p,
        detectable=(critical + t_quantile(pair.df, POWER)) * pair.error,
        equivalent=within,
        note=pair.note,
    )


def _family(systems: Sequence[Measured], rows: Sequence[Difference]) -> Family:
    """The rows with what follows from them; ranks count only differences that the adjusted tests tell."""
    defined = [index for index, system in enumerate(systems) if not system.undefined]
    above = dict.fromkeys(defined, 0)
    below = dict.fromkeys(defined, 0)
    lower_than: set[tuple[int, int]] = set()
    for row in rows:
        if row.significant and row.value is not None:
            high, low = (row.first, row.second) if row.value > 0 else (row.second, row.first)
            above[low] += 1
            below[high] += 1
            lower_than.add((low, high))
    ranks = [
        Rank(1 + above[index], len(defined) - below[index]) if index in above else None for index in range(len(systems))
    ]
    best = max(defined, key=lambda index: systems[index].value) if defined else None
    near = tuple(index for index in defined if best is not None and (index, best) not in lower_than)
    return Family(tuple(rows), tuple(ranks), best, near)
