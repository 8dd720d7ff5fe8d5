"""Test many differences together: adjusted p-values and limits, and the ranks that follow from them.

A family is the set of all pairs for one metric, within one or several sets of systems (kinds, arms). Its p-values and
intervals are adjusted by the distribution of the largest |t| in the family (max-t; Hothorn, Bretz and Westfall 2008),
drawn with Gaussian multipliers on the deviations. MOVER pairs are adjusted by Bonferroni over the family, and the
others keep their share of the 5 %. Against one reference that was named beforehand, Holm's procedure (1979) over the
other systems is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np

from explaineval.metrics.differences import (
    LEVEL,
    POWER,
    Difference,
    Measured,
    Pair,
    pair_of,
    t_quantile,
)
from explaineval.metrics.estimates import FloatArray, IntArray, clopper_pearson, seeded_generator

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
    for column, (numbers, deviations) in enumerate(used):
        columns[numbers, column] = deviations
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
