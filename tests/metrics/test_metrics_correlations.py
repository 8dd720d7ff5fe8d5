"""CCT and the mean total variation distance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from metrics_oracles import JACKKNIFE, PERCENTILE, expand, naive_tanh_jackknife, table_lists
from scipy import stats

from explaineval.metrics.correlations import cct, grouped_moments, mean_tvd, phi_cct, tvd_moments

distance = st.integers(0, 1000).map(lambda value: value / 1000)
example = st.lists(st.tuples(distance, st.booleans()), min_size=1, max_size=5)
examples = st.lists(example, min_size=1, max_size=6)


def moments_of(trials):
    """Moments (G, 6) of a list of examples, each a list of (x, m)."""
    return np.array([tvd_moments([x for x, _ in one], [m for _, m in one]) for one in trials])


def pearson_of(trials):
    """scipy's Pearson r over all trials; NaN where x or m is constant."""
    x = [pair[0] for one in trials for pair in one]
    m = [float(pair[1]) for one in trials for pair in one]
    return float(stats.pearsonr(x, m).statistic) if len(set(x)) > 1 and len(set(m)) > 1 else math.nan


def seeded_trials(seed, number=20, trials=4):
    """Examples whose mentions rise with the distance."""
    generator = np.random.default_rng(seed)
    x = generator.beta(0.4, 2, (number, trials))
    m = generator.random((number, trials)) < 0.2 + 0.6 * x
    return [list(zip(xs, ms, strict=True)) for xs, ms in zip(x.tolist(), m.tolist(), strict=True)]


@given(examples)
def test_cct_is_pearson_of_the_trials(trials):
    """CCT from moments is scipy's r of all trials, and undefined together with it."""
    estimate = cct(moments_of(trials), JACKKNIFE)
    expected = pearson_of(trials)

    assert (estimate.value is None) == math.isnan(expected)
    if estimate.value is not None:
        assert expected == pytest.approx(estimate.value, abs=1e-9)
    assert (sum(map(len, trials)), len(trials)) == (estimate.n, estimate.n_examples)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_interval_is_the_naive_jackknife(seed):
    """Limits are those of a loop over examples that starts again from the trials, df = examples − 1."""
    trials = seeded_trials(seed)
    estimate = cct(moments_of(trials), JACKKNIFE)
    expected = naive_tanh_jackknife(pearson_of(trials), trials, pearson_of, len(trials) - 1)

    assert expected == pytest.approx((estimate.low, estimate.high), rel=1e-9)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("function", [cct, mean_tvd])
@pytest.mark.parametrize("interval", [JACKKNIFE, PERCENTILE], ids=lambda interval: interval.method)
@given(trials=examples, random=st.randoms(use_true_random=False))
def test_order_of_trials_and_examples_changes_no_digit(function, interval, trials, random):
    """Shuffling trials within examples and examples within the run gives the same digits."""
    shuffled = [random.sample(one, len(one)) for one in random.sample(trials, len(trials))]

    assert function(moments_of(trials), interval) == function(moments_of(shuffled), interval)


@given(table_lists)
def test_cct_is_phi_when_distances_are_0_and_1(rows):
    """One-hot distributions make graded impact binary: CCT and phi agree."""
    assume(rows)
    trials = [expand(row) for row in rows if sum(row)]
    assume(trials)
    tables = np.array([row for row in rows if sum(row)])
    graded, binary = cct(moments_of(trials), JACKKNIFE), phi_cct(tables, JACKKNIFE)

    assert (binary.value is None) == (graded.value is None)
    if binary.value is not None:
        assert binary.value == pytest.approx(graded.value, abs=1e-12)
        assert (binary.n, binary.n_examples) == (graded.n, graded.n_examples)


@given(examples)
def test_negating_the_mention_changes_the_sign(trials):
    """An explainer that mentions exactly the other insertions gets the opposite CCT."""
    negated = [[(x, not m) for x, m in one] for one in trials]
    value = cct(moments_of(trials), JACKKNIFE).value
    assume(value is not None)

    assert -value == pytest.approx(cct(moments_of(negated), JACKKNIFE).value, abs=1e-9)


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        ([[(0.1, 0), (0.1, 1)], [(0.1, 1)] * 3], "the same in every trial"),
        ([[(0.1, 0), (0.2, 0)]], "no explanation mentions"),
        ([[(0.1, 1), (0.2, 1)]], "every explanation mentions"),
    ],
)
def test_constant_sides_are_undefined(trials, words):
    """A constant distance, though not a round number in binary, or a constant mention has no correlation."""
    assert words in cct(moments_of(trials), JACKKNIFE).undefined


@pytest.mark.parametrize("function", [cct, mean_tvd])
@pytest.mark.parametrize("interval", [JACKKNIFE, PERCENTILE], ids=lambda interval: interval.method)
def test_nothing_usable_is_undefined(function, interval):
    """Without an example or a trial the number is undefined and says why."""
    for moments in (np.zeros((0, 6)), [tvd_moments([], [])]):
        estimate = function(moments, interval)

        assert estimate.undefined == "no trial with usable label probabilities on both sides"
        assert (estimate.n, estimate.n_examples) == (0, 0)


def test_leaving_out_the_only_varied_example_leaves_no_interval():
    """All distances but one example's are equal: without it CCT is undefined, so there is no interval."""
    trials = [[(0.1, 0), (0.1, 1)]] * 7 + [[(0.9, 1), (0.3, 0)]]
    estimate = cct(moments_of(trials), JACKKNIFE)

    assert estimate.value is not None
    assert "without one of the examples" in estimate.note


def test_leaving_out_a_dominant_example_keeps_the_small_ones_exact():
    """Next to one example with large distances the tiny ones of the others are not lost to rounding."""
    small = [[(1e-9 * k, k % 2), (2e-9 * k, 1)] for k in range(1, 7)]
    trials = [*small, [(0.9, 1), (0.8, 0), (0.1, 0)]]
    estimate = cct(moments_of(trials), JACKKNIFE)
    expected = naive_tanh_jackknife(pearson_of(trials), trials, pearson_of, len(trials) - 1)

    assert expected == pytest.approx((estimate.low, estimate.high), rel=1e-6)


def test_a_perfect_correlation_has_no_interval():
    """At exactly 1 the transform is infinite: value kept, limits gone."""
    estimate = cct(moments_of([[(0.3, 0), (0.7, 1)]] * 6), JACKKNIFE)

    assert estimate.value == pytest.approx(1)
    assert "exactly 1" in estimate.note


def test_mean_tvd_is_the_mean_of_the_trials_within_bounds():
    """The mean is pooled over trials and its limits do not leave [0, 1]."""
    trials = [[(0.0, 0), (0.0, 1)], [(0.9, 0)], [(0.0, 0)]]
    estimate = mean_tvd(moments_of(trials), JACKKNIFE)

    assert estimate.value == pytest.approx(0.9 / 4)
    assert estimate.low == 0
    assert estimate.high <= 1


@pytest.mark.parametrize(("x", "m"), [([0.1, 0.2], [1]), ([math.nan], [1]), ([math.inf], [0])])
def test_wrong_trials_are_refused(x, m):
    """Unpaired trials and distances that are no numbers are errors."""
    with pytest.raises(ValueError, match="distance"):
        tvd_moments(x, m)


def test_wrong_moments_are_refused():
    """A table in place of moments is an error."""
    with pytest.raises(ValueError, match="moments"):
        cct(np.ones((3, 4)), JACKKNIFE)


@given(trials=st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
def test_moments_of_all_examples_at_once_are_those_of_each(trials):
    """Grouping gives the same digits as one example after the other, and zeros to an example without a trial."""
    rows, x, m = (np.array(column) for column in zip(*trials, strict=True))
    each = [[(distance, mentioned) for row, distance, mentioned in trials if row == number] for number in range(6)]

    assert moments_of(each).tolist() == grouped_moments(x, m, rows, 6).tolist()
