"""Trends over model size, and the share of CCT's variance that phi-CCT explains."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from explaineval.metrics.correlations import phi_values
from explaineval.metrics.differences import Measured, Spread, undefined_measure
from explaineval.metrics.trends import SizedModel, explained_variance, trend_over_size

SIZES = (1e8, 1e9, 7e9)


def known(value: float, seed: int = 0) -> Measured:
    """A value with small deviations over 50 examples."""
    deviations = np.random.default_rng(seed).standard_normal(50) * 0.004
    return Measured(value, deviations, (Spread(float((deviations**2).sum()), 30),), 200)


def family_models(slopes: dict[str, float]) -> list[SizedModel]:
    """Three sizes a family, values exactly on the family's line."""
    return [
        SizedModel(name, size, known(0.1 + slope * math.log10(size / 1e8), seed))
        for number, (name, slope) in enumerate(slopes.items())
        for seed, size in enumerate(SIZES, start=10 * number)
    ]


def test_the_trend_is_a_t_test_over_the_slopes_of_families():
    """Slopes agree with scipy's regression, the mean's interval and p with scipy's one-sample t."""
    slopes = {"a": 0.10, "b": 0.04, "c": 0.13, "d": 0.08}
    models = family_models(slopes)
    trend = trend_over_size(models)

    for name, slope in slopes.items():
        members = [model for model in models if model.family == name]
        x = [math.log10(model.parameters) for model in members]
        assert trend.slopes[name] == pytest.approx(stats.linregress(x, [m.measured.value for m in members]).slope)
        assert trend.slopes[name] == pytest.approx(slope)
    test = stats.ttest_1samp(list(slopes.values()), 0)
    assert trend.p == pytest.approx(test.pvalue)
    assert (trend.low, trend.high) == pytest.approx(tuple(test.confidence_interval()))
    assert trend.df == 3
    assert trend.note == "only 4 families: the interval is wide and rough"


def test_the_interval_for_these_families_counts_the_examples_only():
    """It is the jackknife of the weighted sum of values, and narrower than that for families at large here."""
    slopes = {"a": 0.02, "b": 0.20, "c": 0.11, "d": 0.02, "e": 0.15}
    models = family_models(slopes)
    trend = trend_over_size(models)

    x = np.log10(SIZES)
    weights = np.tile((x - x.mean()) / ((x - x.mean()) ** 2).sum() / 5, 5)
    error = math.sqrt((sum(w * m.measured.deviations for w, m in zip(weights, models, strict=True)) ** 2).sum())
    assert (trend.high_here - trend.low_here) / 2 == pytest.approx(error * 1.97, rel=0.02)
    assert trend.high_here - trend.low_here < trend.high - trend.low
    assert trend.note is None


@pytest.mark.parametrize("families", [2, 1])
def test_too_few_families_give_no_trend(families):
    """Three families of two sizes are the least."""
    models = family_models(dict.fromkeys("ab"[:families], 0.1))
    models += [SizedModel("single", 1e9, known(0.2)), SizedModel("blank", 1e8, undefined_measure(50, "none"))]
    models.append(SizedModel("blank", 1e9, undefined_measure(50, "none")))

    have = "1 family has" if families == 1 else f"{families} families have"
    assert trend_over_size(models).undefined == f"{have} two or more sizes with a value; 3 are needed"


def correlated_models(seed: int, models: int, examples: int, correlation: float) -> tuple[list, list]:
    """Tables and moments of models whose true phi and true CCT correlate as given.

    A mention follows the change of the answer with one strength and the distance, drawn apart from it, with another.
    """
    generator = np.random.default_rng(seed)
    strengths = generator.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], size=models)
    tables, moments = [], []
    for first, second in 0.35 + 0.12 * strengths:
        changed = generator.random((examples, 4)) < 0.2
        distance = generator.random((examples, 4))
        share = np.clip(0.4 + first * (changed - 0.2) + second * (distance - 0.5), 0, 1)
        said = generator.random((examples, 4)) < share
        cells = (changed & said, changed & ~said, ~changed & said, ~changed & ~said)
        tables.append(np.stack([cell.sum(axis=1) for cell in cells], axis=1))
        parts = (np.ones_like(distance), distance, said, distance**2, distance * said, said)
        moments.append(np.stack([part.sum(axis=1) for part in parts], axis=1).astype(float))
    return tables, moments


def cct_values(sums: np.ndarray) -> np.ndarray:
    """Pearson's r from moments."""
    n, sx, sm, sxx, sxm, smm = sums.T
    return (n * sxm - sx * sm) / np.sqrt((n * sxx - sx**2) * (n * smm - sm**2))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_explained_variance_recovers_the_planted_share(share):
    """Over 12 sets of 24 models the mean correlation is the planted one and most intervals hold the planted share."""
    found = [
        explained_variance(
            *correlated_models(seed, 24, 300, math.sqrt(share)), phi_values, cct_values, seed=seed, splits=40
        )
        for seed in range(12)
    ]

    assert np.mean([one.correlation for one in found]) == pytest.approx(math.sqrt(share), abs=0.15)
    assert sum(one.low <= share <= one.high for one in found) >= 10


def test_few_models_and_unreliable_numbers_are_refused():
    """Eight models are the least; where halves of the examples do not agree there is nothing to explain."""
    tables, moments = correlated_models(0, 7, 300, 0.5)
    assert explained_variance(tables, moments, phi_values, cct_values).undefined == "7 models; 8 are needed"

    tables, moments = correlated_models(1, 10, 20, 0.0)
    assert "the reliability of" in explained_variance(tables, moments, phi_values, cct_values, splits=40).undefined
