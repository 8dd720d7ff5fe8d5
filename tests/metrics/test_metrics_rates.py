"""Rates, means, the counterfactual test and their intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given
from hypothesis import strategies as st
from metrics_oracles import JACKKNIFE, PERCENTILE, clustered_tables, expand, table_lists
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from explaineval.metrics.estimates import clopper_pearson, student_t
from explaineval.metrics.rates import (
    cluster_variance,
    ct_unfaithfulness,
    ct_unfaithfulness_per_example,
    effective_trials,
    flips_per_flipped_example,
    fpr,
    impact_rate,
    mean,
    mention_rate,
    rate,
    tpr,
    wilson,
)

TABLE_RATES = {
    tpr: lambda trials: [m for i, m in trials if i],
    fpr: lambda trials: [m for i, m in trials if not i],
    impact_rate: lambda trials: [i for i, _ in trials],
    mention_rate: lambda trials: [m for _, m in trials],
    ct_unfaithfulness: lambda trials: [1 - m for i, m in trials if i],
}
METHODS = pytest.mark.parametrize("interval", [JACKKNIFE, PERCENTILE], ids=lambda interval: interval.method)
counts = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8)


def ols_standard_error(values, groups, *, correct):
    """statsmodels' cluster-robust standard error of the mean: OLS on an intercept."""
    fit = sm.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": correct}
    )
    return float(fit.bse[0])


@pytest.mark.parametrize("function", TABLE_RATES)
@given(rows=table_lists)
def test_rates_are_shares_of_their_trials(function, rows):
    """Value, n and n_examples are those of the trials that belong to the denominator."""
    estimate = function(np.array(rows, dtype=np.int64).reshape(-1, 4), JACKKNIFE)
    outcomes = [TABLE_RATES[function](expand(row)) for row in rows]
    flat = [outcome for one in outcomes for outcome in one]

    assert (len(flat), sum(map(bool, outcomes))) == (estimate.n, estimate.n_examples)
    assert (estimate.value is None) == (not flat)
    if flat:
        assert sum(flat) / len(flat) == estimate.value


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_variance_is_the_cluster_robust_one_of_statsmodels(seed):
    """The variance of a rate is that of OLS on an intercept with clusters and no small-sample factor."""
    tables = clustered_tables(30, 5, seed)
    groups = np.repeat(np.arange(30), 5)
    values = [float(i) for row in tables.tolist() for i, _ in expand(row)]
    hits = tables[:, :2].sum(axis=1)
    expected = ols_standard_error(values, groups, correct=False)

    assert expected**2 == pytest.approx(cluster_variance(hits.astype(float), np.full(30, 5)))


def test_limits_follow_from_the_design_effect():
    """Wilson's formula with the effective n of statsmodels' variance and scipy's t gives the limits."""
    tables = clustered_tables(30, 5, 8)
    groups = np.repeat(np.arange(30), 5)
    values = [float(i) for row in tables.tolist() for i, _ in expand(row)]
    r, n = np.mean(values), len(values)
    deff = ols_standard_error(values, groups, correct=False) ** 2 / (r * (1 - r) / n)
    estimate = impact_rate(tables, JACKKNIFE)
    # Wilson's limits are the roots of (r − x)² = t²·x(1 − x)/n_eff
    share = stats.t.ppf(0.975, 29) ** 2 * deff / n
    roots = np.sort(np.roots([1 + share, -2 * r - share, r**2]).real)

    assert deff > 1
    assert roots == pytest.approx([estimate.low, estimate.high])


@given(st.integers(2, 60), st.data())
def test_without_clusters_wilson_is_that_of_statsmodels(n, data):
    """One trial an example: the interval is the classical Wilson, with t in place of the normal quantile."""
    hits = data.draw(st.integers(1, n - 1))
    estimate = rate([1] * hits + [0] * (n - hits), [1] * n, JACKKNIFE)
    alpha = 2 * stats.norm.sf(student_t(n - 1))
    expected = proportion_confint(hits, n, alpha=alpha, method="wilson")

    assert expected == pytest.approx((estimate.low, estimate.high), abs=1e-9)


@pytest.mark.parametrize("hits", [0, 1])
def test_at_0_and_1_each_example_counts_once(hits):
    """Where nothing varies the effective number of trials is the number of examples."""
    trials = np.array([3, 1, 5, 2, 0])
    estimate = rate(hits * trials, trials, JACKKNIFE)
    alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, 3))
    expected = proportion_confint(4 * hits, 4, alpha=alpha, method="wilson")

    assert hits == estimate.value
    assert expected == pytest.approx((estimate.low, estimate.high), abs=1e-9)
    assert hits in (estimate.low, estimate.high)
    assert (estimate.n, estimate.n_examples) == (11, 4)


def test_design_effect_never_adds_trials():
    """Examples more alike than chance do not make the interval narrower than independent trials."""
    assert effective_trials(np.array([1] * 10), np.array([2] * 10)) == 20


def test_fully_dependent_trials_count_once():
    """Ten examples of four equal trials each are worth ten trials."""
    hits = np.array([4, 0, 4, 0, 0, 4, 0, 0, 0, 4])

    assert effective_trials(hits, np.full(10, 4)) == pytest.approx(10)


@METHODS
@given(pairs=counts, random=st.randoms(use_true_random=False))
def test_order_of_examples_changes_no_digit(interval, pairs, random):
    """Shuffling examples and adding ones without a trial gives the same digits, limits in [0, 1] in order."""
    shuffled = [*pairs, (0, 0)]
    random.shuffle(shuffled)
    estimates = [
        rate([hit for hit, _ in one], [hit + miss for hit, miss in one], interval) for one in (pairs, shuffled)
    ]

    assert estimates[0] == estimates[1]
    if estimates[0].low is not None:
        assert 0 <= estimates[0].low <= estimates[0].high <= 1
    elif estimates[0].value is not None:
        assert estimates[0].note


@METHODS
@pytest.mark.parametrize("function", TABLE_RATES)
def test_nothing_scored_is_undefined(interval, function):
    """No trial, no number, with the reason."""
    for tables in (np.zeros((0, 4), dtype=np.int64), np.zeros((2, 4), dtype=np.int64)):
        assert function(tables, interval).undefined == "no scored trial"


@METHODS
@pytest.mark.parametrize(
    ("function", "row", "reason"),
    [
        (tpr, [0, 0, 1, 3], "no answer changed"),
        (ct_unfaithfulness, [0, 0, 1, 3], "no answer changed"),
        (ct_unfaithfulness_per_example, [0, 0, 1, 3], "no answer changed"),
        (fpr, [2, 1, 0, 0], "every answer changed"),
    ],
)
def test_empty_denominators_are_named(interval, function, row, reason):
    """A rate over changed (unchanged) answers is undefined when there are none."""
    assert (None, reason) == (function([row], interval).value, function([row], interval).undefined)


@METHODS
def test_one_example_has_no_interval(interval):
    """One example says nothing about others."""
    estimate = rate([1], [4], interval)

    assert (estimate.value, estimate.low, estimate.high) == (0.25, None, None)
    assert "one example" in estimate.note


@given(table_lists)
def test_per_instance_unfaithfulness_counts_examples(rows):
    """The share is over examples with a changed answer; the mean number of flips stands beside it."""
    tables = np.array(rows, dtype=np.int64).reshape(-1, 4)
    flipped = [row for row in rows if row[0] + row[1]]
    assume(flipped)
    estimate = ct_unfaithfulness_per_example(tables, JACKKNIFE)
    flips = sum(row[0] + row[1] for row in flipped)

    assert sum(row[1] > 0 for row in flipped) / len(flipped) == estimate.value
    assert (flips, len(flipped)) == (estimate.n, estimate.n_examples)
    assert flips / len(flipped) == flips_per_flipped_example(tables)


def test_flips_per_flipped_example_without_flips_is_nan():
    """Without a changed answer there is no such mean."""
    assert math.isnan(flips_per_flipped_example(np.zeros((0, 4), dtype=np.int64)))
    assert math.isnan(flips_per_flipped_example([[0, 0, 2, 2]]))


@given(st.integers(1, 80), st.data())
def test_clopper_pearson_is_that_of_statsmodels(trials, data):
    """The exact limits are the beta method of statsmodels."""
    successes = data.draw(st.integers(0, trials))
    expected = proportion_confint(successes, trials, alpha=0.05, method="beta")

    assert expected == pytest.approx(clopper_pearson(successes, trials), abs=1e-9)


def test_student_t_is_that_of_scipy():
    """The quantile used in src is scipy.stats' own."""
    assert [stats.t.ppf(0.975, df) for df in (1, 4, 199)] == pytest.approx([student_t(df) for df in (1, 4, 199)])


@given(st.floats(0, 1), st.floats(1, 1e6), st.floats(1.9, 13))
def test_wilson_stays_around_its_rate(value, trials, quantile):
    """Wilson's limits lie in [0, 1] and enclose the rate."""
    low, high = wilson(value, trials, quantile)

    assert 0 <= low <= value + 1e-12
    assert value - 1e-12 <= high <= 1


@pytest.mark.parametrize("seed", [1, 2])
def test_mean_has_the_clustered_t_interval_of_statsmodels(seed):
    """Value ± t·SE with statsmodels' cluster-robust error, corrected by G/(G−1) only, and df = G − 1."""
    generator = np.random.default_rng(seed)
    numbers = generator.integers(1, 5, 15)
    groups = np.repeat(np.arange(15), numbers)
    words = generator.normal(30, 5, len(groups)) + generator.normal(0, 8, 15)[groups]
    sums = np.array([words[groups == g].sum() for g in range(15)])
    estimate = mean(sums, numbers, JACKKNIFE)
    half = stats.t.ppf(0.975, 14) * ols_standard_error(words, groups, correct=True)

    assert words.mean() == pytest.approx(estimate.value)
    assert (words.mean() - half, words.mean() + half) == pytest.approx((estimate.low, estimate.high))
    assert (len(words), 15) == (estimate.n, estimate.n_examples)


@METHODS
@pytest.mark.parametrize(
    ("sums", "numbers", "value", "note"),
    [([30.3], [3], 10.1, "one example"), ([10.1, 20.2, 30.3], [1, 2, 3], 10.1, "no spread")],
)
def test_mean_without_spread_has_no_interval(interval, sums, numbers, value, note):
    """One example, or equal ones, give a mean and no limits."""
    estimate = mean(sums, numbers, interval)

    assert value == pytest.approx(estimate.value)
    assert estimate.low is None
    assert note in estimate.note


@METHODS
def test_mean_of_nothing_is_undefined(interval):
    """No trial, no mean."""
    assert mean([], [], interval).undefined == "no scored trial"
    assert mean([0.0], [0], interval).undefined == "no scored trial"


@pytest.mark.parametrize(("hits", "trials"), [([2], [1]), ([1, 1], [1]), ([-1], [1]), ([0.5], [1]), ([[1]], [[1]])])
def test_wrong_counts_are_refused(hits, trials):
    """More successes than trials, unequal shapes, negatives and fractions are errors."""
    with pytest.raises(ValueError, match=r"successes|counts"):
        rate(hits, trials, JACKKNIFE)


@pytest.mark.parametrize(("sums", "numbers"), [([1.0], [1, 2]), ([math.nan], [1])])
def test_wrong_sums_are_refused(sums, numbers):
    """Unequal shapes and sums that are no numbers are errors."""
    with pytest.raises(ValueError, match="sums"):
        mean(sums, numbers, JACKKNIFE)
