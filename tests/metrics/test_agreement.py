"""Cohen's kappa against scikit-learn, and its interval against planted truths."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from explaineval.metrics.estimates import NO_TRIAL, Interval
from explaineval.metrics.reliability import ONE_GRADE, Weights, cohen_kappa, kappa_values

INTERVAL = Interval()


def tables_of(first: np.ndarray, second: np.ndarray, examples: np.ndarray, grades: int) -> np.ndarray:
    """Tables (examples, k²) of two raters' grades."""
    tables = np.zeros((int(examples.max()) + 1, grades * grades), dtype=np.int64)
    np.add.at(tables, (examples, first * grades + second), 1)
    return tables


@pytest.mark.parametrize("weights", get_args(Weights))
@pytest.mark.parametrize("grades", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_kappa_is_scikit_learns(weights: Weights, grades: int, seed: int) -> None:
    """Plain and weighted, with two grades and with three, whatever the margins."""
    generator = np.random.default_rng(seed)
    first = generator.integers(grades, size=200)
    second = np.where(
        generator.random(200) < 0.6, first, generator.choice(grades, 200, p=[0.8, *[0.2 / (grades - 1)] * (grades - 1)])
    )
    found = cohen_kappa(tables_of(first, second, np.arange(200) // 4, grades), INTERVAL, weights)

    expected = cohen_kappa_score(first, second, weights=None if weights == "none" else weights)
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert (found.n, found.n_examples) == (200, 50)
    assert found.low is not None
    assert found.high is not None
    assert found.low < expected < found.high


def test_a_perfect_rater_gets_1_and_a_random_one_about_0() -> None:
    """The two ends of the scale."""
    generator = np.random.default_rng(3)
    truth, coin = generator.integers(2, size=(2, 20_000))
    examples = np.arange(20_000) // 4

    perfect = cohen_kappa(tables_of(truth, truth, examples, 2), INTERVAL)
    assert (perfect.value, perfect.low) == (1.0, None)
    assert cohen_kappa(tables_of(truth, coin, examples, 2), INTERVAL).value == pytest.approx(0, abs=0.02)


def test_kappa_of_one_grade_alone_is_undefined() -> None:
    """Where neither rater ever says anything else, chance explains all; where they always differ it is 0."""
    assert cohen_kappa([[0, 0, 0, 5], [0, 0, 0, 2]], INTERVAL).undefined == ONE_GRADE
    assert cohen_kappa([[0, 5, 0, 0], [0, 2, 0, 0]], INTERVAL).value == 0
    assert cohen_kappa(np.zeros((3, 4), dtype=np.int64), INTERVAL).undefined == NO_TRIAL
    assert np.isnan(kappa_values(np.array([[0.0, 0, 0, 7]]))).all()
    with pytest.raises(ValueError, match="shape"):
        cohen_kappa([[1, 2, 3]], INTERVAL)


def test_the_interval_covers_a_planted_kappa() -> None:
    """Two raters of 60 examples × 4 who err on their own; examples differ in how often anything is mentioned."""
    generator = np.random.default_rng(11)
    sets, examples, each = 300, 60, 4

    def rate(count: int) -> np.ndarray:
        share = generator.beta(1, 2, size=(count, 1))
        truth = generator.random((count, each)) < share
        ratings = [truth ^ (generator.random((count, each)) < 0.1) for _ in range(2)]
        names = np.repeat(np.arange(count), each)
        return tables_of(ratings[0].ravel().astype(int), ratings[1].ravel().astype(int), names, 2)

    true = kappa_values(rate(400_000).sum(axis=0)[np.newaxis].astype(float))[0]
    found = [cohen_kappa(rate(examples), INTERVAL) for _ in range(sets)]
    covered = sum(one.low <= true <= one.high for one in found if one.low is not None and one.high is not None)

    assert covered / sets == pytest.approx(0.95, abs=0.03)
