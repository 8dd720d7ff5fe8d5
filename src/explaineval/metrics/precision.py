"""Compute how many examples an interval of phi-CCT needs to be as narrow as wanted, and whether it is so already.

The half width of an interval is (high − low)/2. It is predicted as the interval itself is made: tanh(atanh φ ± t·SE/(1
− φ²)) with SE = √(v/G) for G examples, where v is the variance of one example's influence on phi, and t has A − 1
degrees of freedom, A = the examples with a mentioned change. v and A/G come from a pilot, or from the impact rate,
TPR, FPR and the correlation of changes within an example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from explaineval.config import FEWEST_MENTIONED_FLIPS
from explaineval.metrics.correlations import phi_at_p, phi_cct, phi_values
from explaineval.metrics.estimates import (
    FEWEST,
    UPPER,
    FloatArray,
    IntArray,
    Interval,
    column_sums,
    deviations,
    empty_margin,
    error_of,
    scored_tables,
    student_t,
    total_table,
)
from explaineval.records import Estimate

_NAMES = ((1, 1), (1, 0), (0, 1), (0, 0))
"""Whether the answer changed and whether the insertion was mentioned, in the order of the columns a, b, c, d."""
MOST_EXAMPLES = 10_000_000
"""No search goes beyond so many examples."""
RAREST_TRIALS = 3.0
"""Trials of the rarest cell to be expected: with so many it is empty in about one run of 20."""


class Expected(NamedTuple):
    """What decides on the width of phi's interval: phi, the variance of an example's influence on it, the share of
    examples with a mentioned change, and the trials an example in the cell that is rarest by chance.
    """

    phi: float
    variance: float
    carriers: float
    rarest: float

    def half_width(self, examples: int) -> float | None:
        """Return the half width to be expected with so many examples; None where there is no interval."""
        carriers = self.carriers * examples
        slope = 1 - self.phi**2
        if carriers < FEWEST or slope <= 0:
            return None
        half = _quantile(carriers - 1) * math.sqrt(self.variance / examples) / slope
        centre = math.atanh(self.phi)
        return (math.tanh(centre + half) - math.tanh(centre - half)) / 2

    def examples_needed(self, half_width: float) -> int | None:
        """Return the fewest examples with this half width, enough mentioned changes and trials in the rarest cell.

        These are the conditions of `is_precise`, of what is to be expected; `examples_for` has them hold in a share of
        the runs. None beyond MOST_EXAMPLES.
        """

        def suffices(examples: int) -> bool:
            if self.carriers * examples < FEWEST_MENTIONED_FLIPS or self.rarest * examples < RAREST_TRIALS:
                return False
            expected = self.half_width(examples)
            return expected is not None and expected <= half_width

        if not suffices(MOST_EXAMPLES):
            return None
        low, high = 0, MOST_EXAMPLES  # the half width falls with the number of examples
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if suffices(middle) else (middle, high)
        return high


def expect(p: float, tpr: float, fpr: float, icc: float, trials: float) -> Expected:
    """Return what is to be expected at an impact rate p, TPR and FPR, with so many trials an example.

    `icc` is the correlation of changes within an example (0: independent); mentions depend on the change alone. The
    influence of a trial on a correlation is z_I·z_M − φ(z_I² + z_M²)/2 with z standardised (Devlin et al. 1975); those
    of an example's trials are correlated as far as their changes are. The changes of an example are beta-binomial.
    Raises ValueError where phi is undefined.
    """
    phi, q = phi_at_p(tpr, fpr, p), p * tpr + (1 - p) * fpr
    if math.isnan(phi):
        raise ValueError("phi is undefined: the impact rate and the mention rate must be above 0 and below 1")
    impact, mention = math.sqrt(p * (1 - p)), math.sqrt(q * (1 - q))
    influence = {}
    for changed in (0, 1):
        for mentioned in (0, 1):
            z_impact, z_mention = (changed - p) / impact, (mentioned - q) / mention
            influence[changed, mentioned] = z_impact * z_mention - phi * (z_impact**2 + z_mention**2) / 2
    share = {1: tpr, 0: fpr}
    cells = {(i, m): (p if i else 1 - p) * (share[i] if m else 1 - share[i]) for i, m in influence}
    alone = sum(cells[cell] * influence[cell] ** 2 for cell in cells)
    given = {i: share[i] * influence[i, 1] + (1 - share[i]) * influence[i, 0] for i in (0, 1)}
    shared = icc * p * (1 - p) * (given[1] - given[0]) ** 2
    rarest = min(cells[_NAMES[place]] for place in _rarest_by_chance(*(cells[name] for name in _NAMES)))
    variance = (alone + (trials - 1) * shared) / trials
    return Expected(phi, variance, _share_with_mention(p, tpr, icc, trials), rarest * trials)


def pilot(tables: ArrayLike) -> Expected:
    """Return what is to be expected of more examples like those of tables (G, 4), by the jackknife.

    A rarest cell that is empty counts as half a trial.

    Raises ValueError where phi, or its value without one of the examples, is undefined.
    """
    scored = scored_tables(tables)
    reason = empty_margin(*total_table(scored))
    if reason is not None:
        raise ValueError(reason)
    rows = scored.astype(np.float64)
    error = error_of(deviations(rows, phi_values)) if len(rows) >= FEWEST else math.nan
    if math.isnan(error):
        raise ValueError("without one of the examples there is no value")
    value = float(phi_values(column_sums(rows)[np.newaxis])[0])
    table = total_table(scored)
    rarest = max(0.5, min(table[place] for place in _rarest_by_chance(*table))) / len(scored)
    return Expected(value, error**2 * len(scored), float((scored[:, 0] > 0).mean()), rarest)


class Population(NamedTuple):
    """What one example looks like: `tables` (U, 4) that it may have, and how often it has each, `shares` (R, U).

    The rows of `shares` are as many guesses at the population, each equally likely; (1, U) where it is known.
    """

    tables: FloatArray
    shares: FloatArray


RUNS = 1000
"""Simulated runs by which the share that reaches a half width is told: to 1 % at nine in ten."""

HALF, NINE_IN_TEN = 0.5, 0.9
LARGEST_CELLS = 400_000
"""Runs and tables are drawn together up to so many; with more tables there are fewer runs, at least FEWEST_RUNS."""

FEWEST_RUNS = 200
LEFT_OUT = 1e-4
"""Of many possible tables the rarest, with this share together, are not drawn."""

SMALLEST_SHARE = 1e-9


def population(p: float, tpr: float, fpr: float, icc: float, trials: float) -> Population:
    """Return what examples look like at these rates, as in `expect`: changes beta-binomial, mentions independent.

    A mean number of trials that is not whole stands for examples with one more or fewer.
    """
    from scipy.stats import betabinom, binom

    strength = (1 - min(icc, 1 - 1e-9)) / max(icc, 1e-9)
    tables: list[tuple[int, int, int, int]] = []
    shares: list[FloatArray] = []
    fewest = max(1, math.floor(trials))
    for count, share in ((fewest, 1 - max(0.0, trials - fewest)), (fewest + 1, max(0.0, trials - fewest))):
        if share < SMALLEST_SHARE:
            continue
        changes = np.arange(count + 1)
        law = binom(count, p) if icc < SMALLEST_SHARE else betabinom(count, p * strength, (1 - p) * strength)
        for changed, chance in zip(changes.tolist(), law.pmf(changes).tolist(), strict=True):
            named, unnamed = np.arange(changed + 1), np.arange(count - changed + 1)
            both = np.outer(binom.pmf(named, changed, tpr), binom.pmf(unnamed, count - changed, fpr))
            shares.append(share * chance * both.ravel())
            tables += [(a, changed - a, c, count - changed - c) for a in named.tolist() for c in unnamed.tolist()]
    found = np.concatenate(shares)
    order = np.argsort(-found, kind="stable")
    kept = order[: int(np.searchsorted(np.cumsum(found[order]), 1 - LEFT_OUT)) + 1]
    return Population(np.array(tables, dtype=np.float64)[kept], (found[kept] / found[kept].sum())[np.newaxis])


def piloted_population(tables: ArrayLike, seed: int = 0) -> Population:
    """Return what examples look like after a pilot with tables (G, 4), with the pilot's own uncertainty.

    Each guess at the population is a Bayesian bootstrap of the pilot's examples (Rubin 1981), as if there were fewer of
    them: a share A/(A + 30), with A examples that have a mentioned change. What decides on a width is the spread of
    influences, most of it in a few examples, and a bootstrap of all of them knows too little of its tail: plans for
    nine in ten by pilots of 60 and 150 examples were reached in 79 to 86 % (benchmarks/coverage.md has what it is now).
    """
    scored = scored_tables(tables)
    distinct, counts = np.unique(scored, axis=0, return_counts=True)
    carriers = int((scored[:, 0] > 0).sum())
    shape = counts * (carriers / (carriers + 30))
    drawn = np.random.default_rng(seed).gamma(shape, size=(_runs(len(distinct)), len(distinct)))
    return Population(distinct.astype(np.float64), drawn / drawn.sum(axis=1, keepdims=True))


PILOT_ROWS = 2000
"""Examples of a pilot are repeated to so many in proportion to their share, to compute rates of a guess."""


def piloted_rates_population(tables: ArrayLike, trials: float, seed: int = 0) -> Population:
    """Return the same for another number of trials an example than the pilot's, from the rates in each guess.

    A guess in which phi is undefined stands for runs that reach no half width.
    """
    of = piloted_population(tables, seed)
    guesses = list[Population]()
    for shares in of.shares[:FEWEST_RUNS]:
        rows = np.repeat(of.tables.astype(np.int64), np.round(PILOT_ROWS * shares).astype(np.int64), axis=0)
        is_defined = len(rows) > 0 and empty_margin(*total_table(rows)) is None
        guesses.append(population(*rates_of(rows), trials) if is_defined else NOTHING_CHANGES)
    every = np.unique(np.concatenate([guess.tables for guess in guesses]), axis=0)
    place = {tuple(row): number for number, row in enumerate(every.tolist())}
    found = np.zeros((len(guesses), len(every)))
    for row, guess in zip(found, guesses, strict=True):
        row[[place[tuple(table)] for table in guess.tables.tolist()]] = guess.shares[0]
    return Population(every, found / found.sum(axis=1, keepdims=True))


NOTHING_CHANGES = Population(np.array([[0.0, 0.0, 0.0, 1.0]]), np.ones((1, 1)))


def rates_of(tables: ArrayLike) -> tuple[float, float, float, float]:
    """Return impact rate, TPR, FPR and correlation of changes (0 if unknown) of tables (G, 4); phi must be defined."""
    a, b, c, d = total_table(scored_tables(tables))
    return (a + b) / (a + b + c + d), a / (a + b), c / (c + d), correlation_of_changes(tables) or 0.0


def share_reached(of: Population, examples: int, half_width: float, seed: int = 0) -> float:
    """Return the share of simulated runs with so many examples that `is_precise` at this half width."""
    from scipy.special import stdtrit

    runs = len(of.shares) if len(of.shares) > 1 else _runs(len(of.tables))
    generator = np.random.default_rng([seed, examples])
    counts = generator.multinomial(examples, np.broadcast_to(of.shares, (runs, of.shares.shape[1])))
    sums = counts @ of.tables
    values = phi_values(sums)
    left = phi_values(np.maximum(0.0, sums[:, np.newaxis] - of.tables).reshape(-1, 4)).reshape(counts.shape)
    left = np.where(counts > 0, left, 0.0)  # NaN stays where an example that is there cannot be left out
    mean = (counts * left).sum(axis=1, keepdims=True) / examples
    error = np.sqrt((examples - 1) / examples * (counts * (left - mean) ** 2).sum(axis=1))
    carriers = counts @ (of.tables[:, 0] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        half = stdtrit(np.maximum(carriers - 1, 1), UPPER) * error / (1 - values**2)
        centre = np.arctanh(values)
        width = (np.tanh(centre + half) - np.tanh(centre - half)) / 2
    is_full = np.array([not _is_rarest_cell_empty(row) for row in sums.tolist()])
    return float(((width <= half_width) & (carriers >= FEWEST_MENTIONED_FLIPS) & is_full).mean())


def examples_for(of: Population, half_width: float, share: float, start: int) -> int | None:
    """Return the fewest examples with which this share of runs has the half width; None beyond MOST_EXAMPLES.

    `start` is a first guess, as by `Expected.examples_needed`.
    """

    def suffices(examples: int) -> bool:
        return share_reached(of, examples, half_width) >= share

    low, high = 1, max(2, start)
    while not suffices(high):
        low, high = high, 2 * high
        if high > MOST_EXAMPLES:
            return None
    while high - low > max(1, high // 500):
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def _runs(tables: int) -> int:
    """Return how many runs to simulate with so many possible tables of an example."""
    return max(FEWEST_RUNS, min(RUNS, LARGEST_CELLS // max(1, tables)))


def correlation_of_changes(tables: ArrayLike) -> float | None:
    """Return the correlation of changes within an example of tables (G, 4), the ANOVA estimate cut at 0 and 1.

    None where no example has two trials, or changes do not vary (Donner 1986 reviews such estimates).
    """
    scored = scored_tables(tables)
    n, changes = scored.sum(axis=1).astype(np.float64), scored[:, :2].sum(axis=1).astype(np.float64)
    total, groups = float(n.sum()), len(scored)
    if groups < FEWEST or total <= groups:
        return None
    rate = float(changes.sum()) / total
    between = float((n * (changes / n - rate) ** 2).sum()) / (groups - 1)
    within = float((changes * (1 - changes / n)).sum()) / (total - groups)
    size = (total - float((n**2).sum()) / total) / (groups - 1)
    spread = between + (size - 1) * within
    return None if spread <= 0 else min(1.0, max(0.0, (between - within) / spread))


def half_width(estimate: Estimate) -> float | None:
    """Return half the width of an estimate's interval; None where it has none."""
    if estimate.low is None or estimate.high is None:
        return None
    return (estimate.high - estimate.low) / 2


def is_precise(tables: ArrayLike, wanted: float, interval: Interval) -> bool:
    """Say whether phi's interval on tables (G, 4) has at most this half width and rests on enough mentioned changes.

    Neither the value of phi nor its sign counts. A phi that is undefined, or has no interval, is not precise, nor is
    one whose rarest cell is empty: where nearly all insertions are mentioned and by luck all those that changed the
    answer, the interval is far too short.
    """
    scored: IntArray = scored_tables(tables)
    if int((scored[:, 0] > 0).sum()) < FEWEST_MENTIONED_FLIPS or _is_rarest_cell_empty(total_table(scored)):
        return False
    found = half_width(phi_cct(scored, interval))
    return found is not None and found <= wanted


def _is_rarest_cell_empty(table: Sequence[float]) -> bool:
    """Say whether the cell with the fewest trials by chance, if mentions did not depend on changes, holds none."""
    a, b, c, d = table
    return any(table[place] == 0 for place in _rarest_by_chance(a, b, c, d))


def _rarest_by_chance(a: float, b: float, c: float, d: float) -> list[int]:
    """Return the places in (a, b, c, d) of the cells with the fewest trials if mentions did not depend on changes."""
    by_chance = ((a + b) * (a + c), (a + b) * (b + d), (c + d) * (a + c), (c + d) * (b + d))
    return [place for place, chance in enumerate(by_chance) if chance == min(by_chance)]


def _quantile(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t, between whole degrees of freedom by a straight line in 1/df."""
    low = max(1, math.floor(freedom))
    first, second = student_t(low), student_t(low + 1)
    share = (1 / low - 1 / max(freedom, 1.0)) / (1 / low - 1 / (low + 1))
    return first + share * (second - first)


def _share_with_mention(p: float, tpr: float, icc: float, trials: float) -> float:
    """Return the share of examples with a mentioned change, changes being beta-binomial: 1 − E[(1 − θ·TPR)^K]."""
    count = max(1, round(trials))
    if icc <= 0:
        return 1 - (1 - p * tpr) ** count
    strength = (1 - min(icc, 1 - 1e-9)) / min(icc, 1 - 1e-9)
    alpha, beta = p * strength, (1 - p) * strength

    def log_beta(first: float, second: float) -> float:
        return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)

    silent = 0.0
    for changes in range(count + 1):
        chance = math.exp(log_beta(alpha + changes, beta + count - changes) - log_beta(alpha, beta))
        silent += math.comb(count, changes) * chance * (1 - tpr) ** changes
    return 1 - silent
