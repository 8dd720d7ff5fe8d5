"""Differences between models that answered the same trials: of pairs, and of many pairs tested together.

The compared things (models, arms of one model, runs) are called systems here. All of them are measured on the same
trials of the same examples. Leaving out one example at a time gives each system a vector of deviations; the standard
error of a difference comes from the difference of two such vectors, so that what two systems share cancels out.

Where few answers of a system changed, a jackknife of its rates is too short. Then a difference has MOVER limits, made
of the limits that each system has alone (Zou and Donner 2008); what the two share is left out, so they are wider.

A family is the set of all pairs for one metric, within one or several sets of systems (kinds, arms). Its p-values and
intervals are adjusted by the distribution of the largest |t| in the family (max-t; Hothorn, Bretz and Westfall 2008),
drawn with Gaussian multipliers on the deviations. MOVER pairs are adjusted by Bonferroni over the family, and the
others keep their share of the 5 %. Against one reference that was named beforehand, Holm's procedure (1979) over the
other systems is used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

from explaineval.metrics.estimates import (
    FEWEST,
    ROUGH_BELOW,
    SMALLEST_SPREAD,
    FloatArray,
    IntArray,
    Statistic,
    clopper_pearson,
    column_sums,
    deviations,
    exact_sum,
    seeded_generator,
)
from explaineval.text import counted

LEVEL = 0.05
POWER = 0.8
SAME = "the two are the same in every example"
NO_SPREAD = "there is no spread between the examples"

_SMALLEST_LEVEL = 1e-15
_BISECTIONS = 60

Method = Literal["jackknife", "mover"]
OwnLimits = Callable[[float], tuple[float, float]]
"""The limits of a number at a two-sided level: of 95 % at 0.05."""


class Spread(NamedTuple):
    """The variance of one system's value on one task, and the degrees of freedom with which it is known."""

    variance: float
    df: int


@dataclass(frozen=True)
class Measured:
    """One system's value of one metric on the shared trials.

    `deviations` (G,) has one entry per shared example, scaled so that the sum of their squares is the squared standard
    error. `spreads` are the parts of that variance, one per task. `n` counts trials. Where `undefined` gives a reason
    there is no value. `limits` are those of this system alone, for metrics that have MOVER differences, and `is_sparse`
    says that it needs them: too few examples carry the information for a jackknife. `rows` are the sufficient
    statistics, by which two such systems are known to be the same.
    """

    value: float
    deviations: FloatArray
    spreads: tuple[Spread, ...]
    n: int
    undefined: str | None = None
    note: str | None = None
    limits: OwnLimits | None = None
    is_sparse: bool = False
    rows: FloatArray | None = None


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
    note = f"only {counted(carriers, 'shared example', 'have')} {carrier}" if carriers < ROUGH_BELOW else None
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
    rows = [task.rows for task in tasks if task.rows is not None]
    return Measured(
        value,
        deviations_of_all,
        spreads,
        n,
        note="; ".join(filter(None, notes)) or None,
        limits=_mean_limits(value, tasks),
        is_sparse=any(task.is_sparse for task in tasks),
        rows=np.concatenate(rows) if len(rows) == count else None,
    )


def _mean_limits(value: float, tasks: Sequence[Measured]) -> OwnLimits | None:
    """The limits of a mean of independent numbers by MOVER; None where a task's number has none of its own."""
    of_tasks = [(task.value, task.limits) for task in tasks if task.limits is not None]
    if len(of_tasks) < len(tasks):
        return None

    def limits(level: float) -> tuple[float, float]:
        both = [(own, *of_task(level)) for own, of_task in of_tasks]
        below = math.sqrt(math.fsum((own - low) ** 2 for own, low, _ in both)) / len(tasks)
        above = math.sqrt(math.fsum((high - own) ** 2 for own, _, high in both)) / len(tasks)
        return value - below, value + above

    return limits


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
    together. `detectable` is the smallest true difference that the adjusted test would find with a probability of 80 %;
    None for MOVER limits, which tell no error. `equivalent` says whether the two are within the declared margin, and
    `low_equivalent` and `high_equivalent` are the limits that decide it; None where none was declared. `undefined`
    gives the reason where there is no difference or no interval.
    """

    first: int
    second: int
    value: float | None
    method: Method = "jackknife"
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
    low_equivalent: float | None = None
    high_equivalent: float | None = None
    undefined: str | None = None
    note: str | None = None

    @property
    def significant(self) -> bool:
        """Whether the adjusted test tells the two apart."""
        return self.p_adjusted is not None and self.p_adjusted < LEVEL

    @property
    def turned(self) -> Difference:
        """Second − first."""

        def negative(number: float | None) -> float | None:
            return None if number is None else -number

        return replace(
            self,
            first=self.second,
            second=self.first,
            value=negative(self.value),
            low=negative(self.high),
            high=negative(self.low),
            low_adjusted=negative(self.high_adjusted),
            high_adjusted=negative(self.low_adjusted),
            low_equivalent=negative(self.high_equivalent),
            high_equivalent=negative(self.low_equivalent),
        )

    @property
    def sign(self) -> int:
        """1 where the adjusted test finds the first higher, −1 where it finds the second higher, else 0."""
        return (1 if (self.value or 0.0) > 0 else -1) if self.significant else 0


class Pair(NamedTuple):
    """Two systems that can be tested: the difference of their values, with its limits and p-value.

    `deviations` are those of the difference; without `error` and `df` the limits are MOVER's.
    """

    first: int
    second: int
    value: float
    limits: OwnLimits
    p: float
    note: str | None
    deviations: FloatArray
    error: float = math.nan
    df: float = math.nan

    @property
    def has_error(self) -> bool:
        return not math.isnan(self.error)

    @property
    def t(self) -> float:
        return abs(self.value / self.error)


def pair_of(systems: Sequence[Measured], first: int, second: int, equivalent: float | None) -> Pair | Difference:
    """The pair as it is tested, or its row where there is nothing to test.

    Two systems with the same results in every example need no test; they are equivalent within any margin.
    """
    one, other = systems[first], systems[second]
    if one.undefined or other.undefined:
        reasons = dict.fromkeys(filter(None, (one.undefined, other.undefined)))
        return Difference(first, second, None, undefined="; ".join(reasons))
    value = one.value - other.value
    apart = one.deviations - other.deviations
    squared = exact_sum(apart**2)
    has_mover = (one.is_sparse or other.is_sparse) and one.limits is not None and other.limits is not None
    if has_mover:
        is_same = one.rows is not None and other.rows is not None and np.array_equal(one.rows, other.rows)
    else:
        is_same = squared <= SMALLEST_SPREAD**2 and abs(value) <= SMALLEST_SPREAD
    if is_same:
        same = Difference(first, second, 0.0, error=0.0, low=0.0, high=0.0, low_adjusted=0.0, high_adjusted=0.0)
        if equivalent is not None:
            same = replace(same, equivalent=True, low_equivalent=0.0, high_equivalent=0.0)
        return replace(same, note=SAME)
    if has_mover:
        limits = _mover(value, one, other)
        return Pair(first, second, value, limits, _level_at_zero(value, limits), None, apart)
    if squared <= SMALLEST_SPREAD**2:
        return Difference(first, second, value, undefined=NO_SPREAD)
    note = "; ".join(dict.fromkeys(filter(None, (one.note, other.note)))) or None
    error, df = math.sqrt(squared), satterthwaite((*one.spreads, *other.spreads))
    p = two_sided_p(abs(value / error), df)
    return Pair(first, second, value, t_limits(value, error, df), p, note, apart, error, df)


def t_limits(value: float, error: float, df: float) -> OwnLimits:
    """The limits value ± t · error at any level."""

    def limits(level: float) -> tuple[float, float]:
        half = t_quantile(df, 1 - level / 2) * error
        return value - half, value + half

    return limits


def _mover(value: float, one: Measured, other: Measured) -> OwnLimits:
    """The MOVER limits of a difference: low = d − √((v₁ − l₁)² + (u₂ − v₂)²), high with the other two."""

    def limits(level: float) -> tuple[float, float]:
        (low1, high1), (low2, high2) = (
            (math.nan, math.nan) if system.limits is None else system.limits(level) for system in (one, other)
        )
        below = math.sqrt(math.fsum(((one.value - low1) ** 2, (high2 - other.value) ** 2)))
        above = math.sqrt(math.fsum(((high1 - one.value) ** 2, (other.value - low2) ** 2)))
        return value - below, value + above

    return limits


def _level_at_zero(value: float, limits: OwnLimits) -> float:
    """The p-value of a difference with such limits: the level at which one of them reaches 0, by bisection."""
    if value == 0:
        return 1.0
    side = 0 if value > 0 else 1
    least, most = math.log(_SMALLEST_LEVEL), 0.0
    for _ in range(_BISECTIONS):
        middle = (least + most) / 2
        if limits(math.exp(middle))[side] * value > 0:
            most = middle
        else:
            least = middle
    return math.exp(most)


def contrast(first: tuple[Measured, Measured], second: tuple[Measured, Measured]) -> tuple[float, float] | None:
    """The 95 % limits of the difference between two differences, paired over the examples of all four.

    That is (first[0] − first[1]) − (second[0] − second[1]), with the degrees of freedom of the first difference; None
    where one of the four has no value or there is no spread.
    """
    systems = (*first, *second)
    if any(system.undefined or not system.spreads for system in systems):
        return None
    value = (first[0].value - first[1].value) - (second[0].value - second[1].value)
    apart = (first[0].deviations - first[1].deviations) - (second[0].deviations - second[1].deviations)
    error = math.sqrt(exact_sum(apart**2))
    return t_limits(value, error, satterthwaite((*first[0].spreads, *first[1].spreads)))(LEVEL)


def cochran_p(values: Sequence[float], errors: Sequence[float]) -> float | None:
    """The p-value of Cochran's Q = Σ(v − v̄)²/s², v̄ weighted by 1/s²: do independent numbers differ (Cochran 1954)?

    None for fewer than two numbers, or where one has no error.
    """
    from scipy.special import chdtrc

    if len(values) < 2 or not all(error > 0 for error in errors):
        return None
    weights = [1 / error**2 for error in errors]
    mean = math.fsum(weight * value for weight, value in zip(weights, values, strict=True)) / math.fsum(weights)
    q = math.fsum(weight * (value - mean) ** 2 for weight, value in zip(weights, values, strict=True))
    return float(chdtrc(len(values) - 1, q))


DRAWS = 10_000
"""Draws of the largest |t| in a family."""

_DRAWS_AT_ONCE = 500
_LARGEST_DF = 1e9


@dataclass(frozen=True)
class Rank:
    """The ranks that one system may hold (1 is best): from `low` to `high`."""

    low: int
    high: int


@dataclass(frozen=True)
class Family:
    """The tested differences of one metric within one set of systems.

    `best` is the system with the highest value, chosen by looking at these data; `not_separated` are the systems that
    the tests do not tell from it, itself included; none where it was not tested against the others. `ranks` has None
    for a system without a value. `claims` counts the pairs that were adjusted together, those of other sets included,
    and `level` is the two-sided level of the interval that decides on equivalence.
    """

    differences: tuple[Difference, ...]
    ranks: tuple[Rank | None, ...]
    best: int | None
    not_separated: tuple[int, ...]
    claims: int = 0

    @property
    def equivalence_level(self) -> float:
        """The two-sided level of the interval that decides on equivalence: 2α over the number of claims."""
        return min(1.0, 2 * LEVEL / max(1, self.claims))


class SystemSet(NamedTuple):
    """Systems whose pairs are tested: all of them, or each against the `reference`.

    `examples` (G,) numbers the example of each deviation among those of all sets that are tested together.
    """

    systems: Sequence[Measured]
    examples: IntArray
    reference: int | None = None

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The numbers of the two systems of each pair."""
        if self.reference is None:
            return list(itertools.combinations(range(len(self.systems)), 2))
        return [(other, self.reference) for other in range(len(self.systems)) if other != self.reference]


def compare_pairs(
    systems: Sequence[Measured], *, seed: int = 0, draws: int = DRAWS, equivalent: float | None = None
) -> Family:
    """Test all pairs of systems, adjusted by max-t over the pairs that can be tested.

    An adjusted p-value is the upper 97.5 % limit of what the draws estimate, so that their error makes no claim.

    `equivalent` is the margin within which two systems count as equal, declared beforehand.
    """
    return compare_sets([_alone(systems)], seed=seed, draws=draws, equivalent=equivalent)[0]


def compare_with_reference(systems: Sequence[Measured], reference: int, *, equivalent: float | None = None) -> Family:
    """Test each system against a reference that was named beforehand, adjusted by Holm's procedure.

    The adjusted limits are Bonferroni's: they hold together, and are a little wider than the tests need.
    """
    return compare_sets([_alone(systems, reference)], equivalent=equivalent)[0]


def _alone(systems: Sequence[Measured], reference: int | None = None) -> SystemSet:
    return SystemSet(systems, np.arange(max((len(one.deviations) for one in systems), default=0)), reference)


def compare_sets(
    sets: Sequence[SystemSet], *, seed: int = 0, draws: int = DRAWS, equivalent: float | None = None
) -> list[Family]:
    """Test the pairs of several sets of systems as one family; return its part for each set.

    All pairs are adjusted by max-t, or by Holm where the sets have references (all of them or none).
    """
    pairs = [[pair_of(part.systems, *pair, equivalent) for pair in part.pairs] for part in sets]
    tested = [
        (part, pair) for part, of_set in zip(sets, pairs, strict=True) for pair in of_set if isinstance(pair, Pair)
    ]
    if any(part.reference is not None for part in sets):
        adjusted = _by_holm([pair for _, pair in tested], equivalent)
    else:
        adjusted = _by_max_t(tested, seed, draws, equivalent)
    rows_of = iter(adjusted)
    families = []
    for part, of_set in zip(sets, pairs, strict=True):
        rows = [pair if isinstance(pair, Difference) else next(rows_of) for pair in of_set]
        family = replace(family_of(part.systems, rows), claims=len(tested))
        is_best = part.reference is None or family.best == part.reference
        families.append(family if is_best else replace(family, not_separated=()))
    return families


def _by_holm(pairs: Sequence[Pair], equivalent: float | None) -> list[Difference]:
    """The rows of pairs with a reference; their adjusted limits are Bonferroni's."""
    p_values = holm_adjusted([pair.p for pair in pairs])
    level = LEVEL / max(1, len(pairs))
    return [
        _row(pair, pair.limits(level), p, t_quantile(pair.df, 1 - level / 2), len(pairs), equivalent)
        for pair, p in zip(pairs, p_values, strict=True)
    ]


def _by_max_t(
    tested: Sequence[tuple[SystemSet, Pair]], seed: int, draws: int, equivalent: float | None
) -> list[Difference]:
    """The rows of all pairs, adjusted by max-t over those with an error; MOVER pairs by Bonferroni over all.

    Of the 5 % each of the two sorts has a share by its number of pairs.
    """
    pairs = [pair for _, pair in tested]
    with_error = [(part, pair) for part, pair in tested if pair.has_error]
    share = len(with_error) / max(1, len(pairs))
    largest = _largest_t(with_error, seed, draws) if len(with_error) > 1 else None
    rows = []
    for pair in pairs:
        if largest is None or not pair.has_error:
            level = LEVEL / len(pairs)
            p, critical = min(1.0, pair.p * len(pairs)), t_quantile(pair.df, 1 - level / 2)
            rows.append(_row(pair, pair.limits(level), p, critical, len(pairs), equivalent))
            continue
        critical = t_quantile(pair.df, 1 - LEVEL / 2)
        critical = max(critical, float(largest[draws - _most_reached(draws, LEVEL * share) - 1]))
        reached = draws - int(np.searchsorted(largest, pair.t, side="left"))
        p = min(1.0, max(pair.p, _upper_p(reached, draws) / share))
        half = critical * pair.error
        rows.append(_row(pair, (pair.value - half, pair.value + half), p, critical, len(pairs), equivalent))
    return rows


def _upper_p(reached: int, draws: int) -> float:
    """The upper 97.5 % confidence limit of a Monte Carlo p-value (`reached` of the draws)."""
    return clopper_pearson(reached, draws)[1]


@cache
def _most_reached(draws: int, level: float) -> int:
    """The largest number of draws that a difference significant at this level may leave at or above its t."""
    return max((reached for reached in range(int(draws * level) + 1) if _upper_p(reached, draws) < level), default=0)


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given (Holm 1979)."""
    count = len(p_values)
    adjusted = [0.0] * count
    largest = 0.0
    for place, index in enumerate(sorted(range(count), key=lambda at: p_values[at])):
        largest = max(largest, min(1.0, (count - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _largest_t(tested: Sequence[tuple[SystemSet, Pair]], seed: int, draws: int) -> FloatArray:
    """Sorted draws of the largest |t| over the pairs in a world where no two systems differ.

    The columns, one for each system, are sorted by their content, so that the order of systems changes no digit.
    """
    place: dict[tuple[int, int], int] = {}
    used: list[tuple[IntArray, FloatArray]] = []
    ends = np.empty((2, len(tested)), dtype=np.int64)
    for at, (part, pair) in enumerate(tested):
        for side, number in enumerate((pair.first, pair.second)):
            column = place.setdefault((id(part), number), len(used))
            if column == len(used):
                used.append((part.examples, part.systems[number].deviations))
            ends[side, at] = column
    columns = np.zeros((1 + max(int(numbers.max(initial=0)) for numbers, _ in used), len(used)))
    for column, (numbers, values) in enumerate(used):
        columns[numbers, column] = values
    order = np.lexsort(columns)
    first, second = np.argsort(order)[ends]
    factor = _triangular(columns[:, order])
    errors = np.array([pair.error for _, pair in tested])
    df = min(float(np.median([pair.df for _, pair in tested])), _LARGEST_DF)
    generator = seeded_generator(seed)
    largest = np.empty(draws)
    for start in range(0, draws, _DRAWS_AT_ONCE):
        count = min(_DRAWS_AT_ONCE, draws - start)
        values = generator.standard_normal((count, len(factor))) @ factor
        scale = np.sqrt(generator.chisquare(df, count) / df)
        largest[start : start + count] = (np.abs(values[:, first] - values[:, second]) / errors).max(axis=1) / scale
    largest.sort()
    return largest


def _triangular(columns: FloatArray) -> FloatArray:
    """Return R with RᵀR = columnsᵀ columns: multipliers of its few rows give what those of all examples would.

    The diagonal of R is not negative, so that R does not depend on the library that computes it.
    """
    triangular = np.asarray(np.linalg.qr(columns, mode="r"), dtype=np.float64)
    return np.where(np.diagonal(triangular) < 0, -1.0, 1.0)[:, np.newaxis] * triangular


def _row(
    pair: Pair,
    together: tuple[float, float],
    p: float,
    critical: float,
    claims: int,
    equivalent: float | None,
) -> Difference:
    """The pair's row, with the limits that hold together; `critical` is the value of t to which they belong."""
    low, high = pair.limits(LEVEL)
    row = Difference(
        pair.first,
        pair.second,
        pair.value,
        method="jackknife" if pair.has_error else "mover",
        error=pair.error if pair.has_error else None,
        df=pair.df if pair.has_error else None,
        low=low,
        high=high,
        p=pair.p,
        low_adjusted=together[0],
        high_adjusted=together[1],
        p_adjusted=p,
        detectable=(critical + t_quantile(pair.df, POWER)) * pair.error if pair.has_error else None,
        note=pair.note,
    )
    if equivalent is None:
        return row
    least, most = pair.limits(min(1.0, 2 * LEVEL / claims))
    return replace(
        row, equivalent=-equivalent < least and most < equivalent, low_equivalent=least, high_equivalent=most
    )


def family_of(
    systems: Sequence[Measured], rows: Sequence[Difference], told: Callable[[Difference], bool] | None = None
) -> Family:
    """The rows with what follows from them; ranks count only differences that are `told`: default, the significant."""
    defined = [index for index, system in enumerate(systems) if not system.undefined]
    above = dict.fromkeys(defined, 0)
    below = dict.fromkeys(defined, 0)
    lower_than: set[tuple[int, int]] = set()
    for row in rows:
        if (row.significant if told is None else told(row)) and row.value is not None:
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
