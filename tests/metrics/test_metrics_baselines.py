"""Trivial explainers on the same trials."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_oracles import JACKKNIFE, clustered_tables, expand, table_lists
from scipy import stats

from explaineval.metrics.correlations import phi_cct
from explaineval.metrics.estimates import empty_margin
from explaineval.metrics.reliability import (
    always,
    example_only,
    inside_example_only,
    never,
    permuted_mentioned_flips,
    random_explainer,
)


def permuted_by_hand(tables, seed, permutations=1000):
    """Pearson's r after shuffling the mentions of each example's own trials, many times."""
    generator = np.random.default_rng(seed)
    trials = [np.array(expand(row)).reshape(-1, 2) for row in tables]
    impact = np.concatenate([one[:, 0] for one in trials])
    return [
        float(np.corrcoef(impact, np.concatenate([generator.permutation(one[:, 1]) for one in trials]))[0, 1])
        for _ in range(permutations)
    ]


def test_example_only_matches_shuffling_single_trials():
    """Mean and quantiles agree with a loop that shuffles the mentions within each example."""
    tables = clustered_tables(40, 5, 11)
    estimate = example_only(tables)
    values = permuted_by_hand(tables.tolist(), 5)

    assert np.mean(values) == pytest.approx(estimate.value, abs=0.006)
    assert np.quantile(values, [0.025, 0.975]) == pytest.approx([estimate.low, estimate.high], abs=0.02)
    assert (estimate.n, estimate.n_examples) == (200, 40)


def test_random_explainer_is_about_zero_with_the_spread_of_chance():
    """Permuted over all trials, phi is about 0 with a standard deviation of 1/√(n−1)."""
    estimate = random_explainer(clustered_tables(60, 5, 12))

    assert estimate.value == pytest.approx(0, abs=0.01)
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 / np.sqrt(299), rel=0.15)


def test_examples_without_choice_keep_their_mentioned_flips():
    """Where every answer changed or everything was mentioned, permuting moves nothing, in each equal example."""
    tables = np.array([[2, 0, 0, 0]] * 3 + [[1, 0, 2, 0]] * 4 + [[0, 3, 0, 1]] * 2)

    assert permuted_mentioned_flips(tables, 0, 5).tolist() == [10] * 5


@pytest.mark.parametrize("copies", [1, 3])
def test_mentioned_flips_are_hypergeometric(copies):
    """The drawn counts follow the hypergeometric law, convolved over equal examples."""
    drawn = permuted_mentioned_flips(np.array([[1, 2, 2, 4]] * copies), 3, 20_000)
    one = stats.hypergeom(9, 3, 3).pmf(np.arange(4))
    law = one
    for _ in range(copies - 1):
        law = np.convolve(law, one)

    assert np.bincount(drawn, minlength=len(law)) / 20_000 == pytest.approx(law, abs=0.015)


@given(table_lists, st.randoms(use_true_random=False))
def test_order_of_examples_changes_no_digit(rows, random):
    """Shuffled examples and empty ones give the same numbers."""
    shuffled = [*rows, (0, 0, 0, 0)]
    random.shuffle(shuffled)
    tables = np.array(rows, dtype=np.int64).reshape(-1, 4)

    for explainer in (example_only, random_explainer, never, always):
        arguments = {"permutations": 50} if explainer in (example_only, random_explainer) else {}

        assert explainer(tables, **arguments) == explainer(np.array(shuffled), **arguments)


def test_seed_decides():
    """The same seed gives the same numbers, another seed others."""
    tables = clustered_tables(30, 5, 13)

    assert example_only(tables, seed=1) == example_only(tables, seed=1)
    assert example_only(tables, seed=1) != example_only(tables, seed=2)


def test_never_and_always_are_undefined_with_reason():
    """Explainers that never or always mention have no phi, and say which they are."""
    tables = clustered_tables(10, 4, 14)

    assert (never(tables).value, never(tables).undefined) == (None, "no explanation mentions the insertion")
    assert (
        always(tables).value,
        always(tables).undefined,
    ) == (None, "every explanation mentions the insertion")
    assert 40 == never(tables).n == always(tables).n


@pytest.mark.parametrize("row", [(0, 0, 0, 0), (0, 0, 2, 2), (2, 2, 0, 0), (0, 2, 0, 2), (2, 0, 2, 0)])
def test_undefined_phi_has_undefined_permutations(row):
    """Permuting keeps the margins, so the reason is that of phi itself."""
    for explainer, count in itertools.product((example_only, random_explainer), (0, 1, 3)):
        estimate = explainer(np.array([row] * count, dtype=np.int64).reshape(-1, 4))
        expected = empty_margin(*row) if count else "no scored trial"

        assert (None, expected) == (estimate.value, estimate.undefined)


def test_phi_from_differences_between_examples_is_inside():
    """Where no example leaves anything to permute, phi cannot be told from the example alone."""
    tables = np.array([[3, 0, 0, 0], [0, 0, 0, 3], [0, 1, 0, 0]])

    assert inside_example_only(phi_cct(tables, JACKKNIFE), example_only(tables))


def test_phi_from_the_insertion_is_outside():
    """Mentions that follow the changed answers inside every example lie outside the permuted range."""
    tables = np.array([[1, 0, 0, 3], [2, 0, 1, 2]] * 15)

    assert not inside_example_only(phi_cct(tables, JACKKNIFE), example_only(tables))


def test_undefined_is_not_inside():
    """Nothing is warned about where phi is undefined."""
    tables = np.array([[0, 0, 2, 2]])

    assert not inside_example_only(phi_cct(tables, JACKKNIFE), example_only(tables))
