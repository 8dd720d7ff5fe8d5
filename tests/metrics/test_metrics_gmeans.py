"""g_mean2 and g_mean2_control: hand computation, limits recomputed from statsmodels' Wilson limits, edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from metrics_oracles import JACKKNIFE, PERCENTILE, clustered_tables
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from explaineval.metrics.rates import NO_ORIGINAL, fpr, g_mean2, g_mean2_control, rate, tpr


def wilson(hits: int, n: int) -> tuple[float, float, float]:
    """A rate of independent trials with Wilson's limits at the level of the t quantile."""
    level = 2 * stats.norm.sf(stats.t.ppf(0.975, n - 1))
    low, high = proportion_confint(hits, n, alpha=level, method="wilson")
    return hits / n, low, high


def product_by_hand(first, second):
    """The MOVER limits of a product of two rates, each given as value, low, high."""
    (t, t_low, t_high), (s, s_low, s_high) = first, second
    below = math.sqrt((s * (t - t_low)) ** 2 + (t * (s - s_low)) ** 2)
    above = math.sqrt((s * (t_high - t)) ** 2 + (t * (s_high - s)) ** 2)
    return t * s, max(0.0, t * s - below), min(1.0, t * s + above)


def ones(mentioned: int, flips: int, alarms: int, kept: int) -> np.ndarray:
    """Tables of one trial each."""
    rows = [[1, 0, 0, 0]] * mentioned + [[0, 1, 0, 0]] * (flips - mentioned)
    return np.array(rows + [[0, 0, 1, 0]] * alarms + [[0, 0, 0, 1]] * (kept - alarms))


def test_the_value_is_sensitivity_times_specificity():
    """3 of 4 flips mentioned, 1 of 5 unchanged ones too; of 10 explanations of the original 2 hold the words."""
    tables, floor = [[2, 0, 1, 2], [1, 1, 0, 2]], [[2, 5], [0, 5]]

    assert g_mean2(tables, JACKKNIFE).value == pytest.approx(3 / 4 * 4 / 5)
    assert g_mean2_control(tables, floor, JACKKNIFE).value == pytest.approx(3 / 4 * 8 / 10)
    assert (g_mean2(tables, JACKKNIFE).n, g_mean2_control(tables, floor, JACKKNIFE).n) == (9, 9)


@pytest.mark.parametrize(
    ("mentioned", "flips", "alarms", "kept"),
    [(18, 30, 8, 40), (5, 12, 0, 25), (9, 9, 3, 60), (0, 14, 7, 7), (3, 7, 2, 5)],
)
def test_limits_are_those_of_independent_wilson_limits(mentioned, flips, alarms, kept):
    """With one trial an example there is no clustering: statsmodels' limits, joined by hand."""
    tables = ones(mentioned, flips, alarms, kept)

    found = g_mean2(tables, JACKKNIFE)

    low, high = wilson(alarms, kept)[1:]
    expected = product_by_hand(wilson(mentioned, flips), (1 - alarms / kept, 1 - high, 1 - low))
    assert expected == pytest.approx((found.value, found.low, found.high), abs=1e-9)


def test_the_control_takes_the_limits_of_the_floor():
    """The same with mentions in the explanations of the original in place of false positives."""
    tables = ones(18, 30, 8, 40)
    floor = np.array([[index % 9 == 0, 1] for index in range(len(tables))], dtype=int)

    found = g_mean2_control(tables, floor, JACKKNIFE)

    value, low, high = wilson(int(floor[:, 0].sum()), len(tables))
    expected = product_by_hand(wilson(18, 30), (1 - value, 1 - high, 1 - low))
    assert expected == pytest.approx((found.value, found.low, found.high), abs=1e-9)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_clustered_rates_bring_their_own_limits(seed):
    """Where trials of an example go together, the wider limits of TPR and FPR are what is joined."""
    tables = clustered_tables(40, 5, seed)
    hits, alarms = tpr(tables, JACKKNIFE), fpr(tables, JACKKNIFE)

    found = g_mean2(tables, JACKKNIFE)

    expected = product_by_hand((hits.value, hits.low, hits.high), (1 - alarms.value, 1 - alarms.high, 1 - alarms.low))
    assert expected == pytest.approx((found.value, found.low, found.high), abs=1e-12)
    assert (found.n, found.n_examples, found.note) == (200, 40, None)


def test_a_coin_gets_a_quarter_and_silence_nothing():
    """Mentions at random give q(1 − q); saying nothing and saying everything give 0, which is a value."""
    coin = g_mean2([[5, 5, 5, 5]] * 20, JACKKNIFE)
    silent, loud = g_mean2([[0, 2, 0, 4]] * 20, JACKKNIFE), g_mean2([[2, 0, 4, 0]] * 20, JACKKNIFE)

    assert coin.value == pytest.approx(0.25)
    assert (silent.value, silent.low, loud.value, loud.low) == (0, 0, 0, 0)
    assert silent.high > 0 < loud.high


def test_what_is_undefined_says_why():
    """Without changed answers, without unchanged ones, without explanations of the original input."""
    some = [[1, 1, 1, 1]] * 6

    assert g_mean2([[0, 0, 1, 3]], JACKKNIFE).undefined == "no answer changed"
    assert g_mean2([[1, 3, 0, 0]], JACKKNIFE).undefined == "every answer changed"
    assert g_mean2([], JACKKNIFE).undefined == "no scored trial"
    assert g_mean2_control(some, [[0, 0]] * 6, JACKKNIFE).undefined == NO_ORIGINAL
    assert g_mean2_control([[1, 3, 0, 0]] * 6, [[0, 4]] * 6, JACKKNIFE).value == 0.25
    with pytest.raises(ValueError, match="same order"):
        g_mean2_control(some, [[0, 4]] * 5, JACKKNIFE)


def test_a_rate_of_one_example_has_no_interval():
    """The note says of which of the two."""
    one = g_mean2([[1, 1, 1, 5], [0, 0, 1, 5], [0, 0, 0, 5]], JACKKNIFE)
    few = g_mean2_control([[1, 1, 1, 5]] * 3, [[0, 8]] * 3, JACKKNIFE)

    assert (one.low, one.note) == (None, "no interval: fewer than 2 examples have a changed answer")
    assert few.low is not None
    assert "only 3 examples have an explanation of the original input" in few.note


def test_the_bootstrap_resamples_both_rates_together():
    """Percentile limits hold the value and lie near the others where there are many examples."""
    tables = clustered_tables(120, 6, 5)
    floor = np.stack([tables[:, 2] // 2, tables.sum(axis=1)], axis=1)

    for plain, drawn in (
        (g_mean2(tables, JACKKNIFE), g_mean2(tables, PERCENTILE)),
        (g_mean2_control(tables, floor, JACKKNIFE), g_mean2_control(tables, floor, PERCENTILE)),
    ):
        assert plain.value == drawn.value
        assert drawn.low < drawn.value < drawn.high
        assert (drawn.low, drawn.high) == pytest.approx((plain.low, plain.high), abs=0.03)
    assert rate(floor[:, 0], floor[:, 1], PERCENTILE).value > 0
