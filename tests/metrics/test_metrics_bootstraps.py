"""The percentile bootstrap over examples."""

from __future__ import annotations

import numpy as np
import pytest
from metrics_oracles import clustered_tables

from explaineval.metrics import estimates as bootstraps_module
from explaineval.metrics.correlations import cct, phi_cct, tvd_moments
from explaineval.metrics.estimates import Interval, distinct_rows
from explaineval.metrics.rates import rate

PLENTY = Interval(method="percentile", resamples=4000, seed=3)


def test_limits_match_resampling_of_example_indices():
    """Drawing example numbers with replacement and pooling their tables gives the same quantiles."""
    tables = clustered_tables(60, 5, 4)
    generator = np.random.default_rng(99)
    values = []
    for _ in range(4000):
        a, b, c, d = tables[generator.integers(0, 60, 60)].sum(axis=0)
        values.append((a * d - b * c) / np.sqrt(float((a + b) * (c + d)) * float((a + c) * (b + d))))
    estimate = phi_cct(tables, PLENTY)

    assert np.quantile(values, [0.025, 0.975]) == pytest.approx([estimate.low, estimate.high], abs=0.012)


def test_seed_and_resamples_decide():
    """The same seed gives the same limits, another seed others, and negative seeds are allowed."""
    tables = clustered_tables(40, 5, 5)

    def limits(seed: int) -> tuple[float, float]:
        estimate = phi_cct(tables, Interval(method="percentile", resamples=300, seed=seed))
        return estimate.low, estimate.high

    assert limits(1) == limits(1)
    assert limits(1) != limits(2)
    assert limits(-1) != limits(1)


def test_blocks_do_not_change_the_limits(monkeypatch):
    """Limits are the same whether resamples are drawn at once or one by one."""
    tables = clustered_tables(30, 5, 6)
    interval = Interval(method="percentile", resamples=200)
    whole = phi_cct(tables, interval)
    monkeypatch.setattr(bootstraps_module, "LARGEST_BLOCK", 1)

    assert whole == phi_cct(tables, interval)


def test_undefined_resamples_are_dropped_up_to_a_share():
    """One example with all mentions is absent from a third of the resamples: no interval, and why."""
    tables = np.array([[1, 0, 1, 0]] + [[0, 1, 0, 3]] * 20)
    estimate = phi_cct(tables, PLENTY)

    assert estimate.value is not None
    assert estimate.low is None
    assert "of the resamples" in estimate.note


def test_few_undefined_resamples_still_give_limits():
    """The four examples with all mentions are absent from (1 − 4/20)^20 = 1 % of the resamples: those are left out."""
    tables = np.array([[1, 0, 1, 1]] * 4 + [[0, 1, 0, 3]] * 16)
    estimate = phi_cct(tables, PLENTY)

    assert -1 <= estimate.low < estimate.value < estimate.high <= 1


def test_no_spread_gives_no_limits():
    """A rate of 0 has no spread to resample: a zero-width interval would be a lie."""
    estimate = rate([0] * 10, [3] * 10, PLENTY)

    assert (estimate.value, estimate.low) == (0, None)
    assert "no spread" in estimate.note


def test_one_example_gives_no_limits():
    """One example cannot be resampled."""
    estimate = cct([tvd_moments([0.1, 0.5, 0.9], [0, 1, 1])], PLENTY)

    assert estimate.value is not None
    assert "one example" in estimate.note


def test_resamples_must_be_positive():
    """Zero resamples are refused when the interval is described."""
    with pytest.raises(ValueError, match="greater than 0"):
        Interval(method="percentile", resamples=0)


@pytest.mark.parametrize(
    "rows",
    [
        np.random.default_rng(1).integers(0, 4, (500, 4)),
        np.random.default_rng(2).integers(0, 2000, (300, 5)),  # more possible rows than are counted in an array
        np.random.default_rng(3).random((50, 3)),
        [[0, 0.5], [1, 2], [0, 0.5]],
        [[-1, 2], [0, 1], [-1, 2]],
        [[3, 0, 1]],
    ],
)
def test_distinct_rows_are_those_of_numpy(rows):
    """Order and counts are the same as numpy's, so that the draws are too."""
    array = np.asarray(rows, dtype=np.float64)

    expected = np.unique(array, axis=0, return_counts=True)
    kinds, counts = distinct_rows(array)
    assert expected[0].tolist() == kinds.tolist()
    assert expected[1].tolist() == counts.tolist()
