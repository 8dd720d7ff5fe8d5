"""Slow, plain re-computations from single trials, independent of the package, and shared strategies."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from explaineval.metrics.estimates import Interval

JACKKNIFE = Interval(method="jackknife")
PERCENTILE = Interval(method="percentile", resamples=400, seed=7)

table = st.tuples(*[st.integers(0, 3)] * 4)
table_lists = st.lists(table, min_size=0, max_size=8)


def expand(row) -> list[tuple[int, int]]:
    """(impact, mention) of each trial of one table."""
    return [(1, 1)] * row[0] + [(1, 0)] * row[1] + [(0, 1)] * row[2] + [(0, 0)] * row[3]


def expand_all(tables) -> tuple[list[int], list[int], list[int]]:
    """(example, impact, mention) vectors of all trials."""
    flat = [(index, i, m) for index, row in enumerate(tables) for i, m in expand(row)]
    return [f[0] for f in flat], [f[1] for f in flat], [f[2] for f in flat]


def pearson_of_trials(tables) -> float:
    """Pearson's r of impact and mention over all trials; NaN where one of them is constant."""
    _, impact, mention = expand_all(tables)
    if len(set(impact)) < 2 or len(set(mention)) < 2:
        return math.nan
    return float(stats.pearsonr(impact, mention).statistic)


def within_of_trials(tables) -> float:
    """Pearson's r after subtracting each example's own means from impact and mention."""
    impact, mention = [], []
    for row in tables:
        trials = np.array(expand(row), dtype=float)
        if len(trials):
            centred = trials - trials.mean(axis=0)
            impact += list(centred[:, 0])
            mention += list(centred[:, 1])
    squares = np.dot(impact, impact) * np.dot(mention, mention)
    return float(np.dot(impact, mention) / math.sqrt(squares)) if squares > 1e-20 else math.nan


def youden_of_trials(tables) -> float:
    """Difference of the mention rates after changed and unchanged answers."""
    _, impact, mention = expand_all(tables)
    after = [[m for i, m in zip(impact, mention, strict=True) if i == value] for value in (1, 0)]
    return float(np.mean(after[0]) - np.mean(after[1])) if after[0] and after[1] else math.nan


def naive_tanh_jackknife(value: float, items: list, statistic, df: int) -> tuple[float, float]:
    """The transformed jackknife interval by calling `statistic` on every list with one item left out."""
    left_out = [statistic(items[:index] + items[index + 1 :]) for index in range(len(items))]
    centre = sum(left_out) / len(left_out)
    variance = (len(items) - 1) / len(items) * sum((one - centre) ** 2 for one in left_out)
    half = stats.t.ppf(0.975, df) * math.sqrt(variance) / (1 - value**2)
    z = math.log((1 + value) / (1 - value)) / 2  # Fisher's z
    return tuple((math.exp(2 * (z + s * half)) - 1) / (math.exp(2 * (z + s * half)) + 1) for s in (-1, 1))


def clustered_tables(examples: int, trials: int, seed: int) -> NDArray[np.int64]:
    """Tables with heterogeneous impact and mention rates and a true association."""
    generator = np.random.default_rng(seed)
    impact = generator.random((examples, trials)) < generator.beta(1, 3, (examples, 1))
    mention = generator.random((examples, trials)) < generator.beta(1, 4, (examples, 1)) + 0.3 * impact
    cells = (impact & mention, impact & ~mention, ~impact & mention, ~impact & ~mention)
    return np.stack([cell.sum(axis=1) for cell in cells], axis=1).astype(np.int64)
