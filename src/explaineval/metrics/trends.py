"""Compute what many models show together: the trend of a number over model size, and how much of CCT phi explains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from explaineval.metrics.differences import (
    LEVEL,
    Measured,
    satterthwaite,
    t_quantile,
    two_sided_p,
)
from explaineval.metrics.estimates import (
    FloatArray,
    IntArray,
    Statistic,
    exact_sum,
    seeded_generator,
)
from explaineval.text import counted, number_text

FEWEST_FAMILIES = 3
FEW_FAMILIES = 5
FEWEST_MODELS = 8
LEAST_RELIABILITY = 0.3
SPLITS = 200


@dataclass(frozen=True)
class SizedModel:
    """A model with its family, its size in parameters, and its value of the metric."""

    family: str
    parameters: float
    measured: Measured


@dataclass(frozen=True)
class Trend:
    """The mean over families of the slope of a metric on log10(parameters): the change for ten times the size.

    `low`, `high`, `p` and `df` speak of families like these (one-sample t over the families' slopes). `low_here` and
    `high_here` speak of these very families and models: they count only the uncertainty from the examples.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    df: int | None = None
    p: float | None = None
    low_here: float | None = None
    high_here: float | None = None
    slopes: Mapping[str, float] | None = None
    undefined: str | None = None
    note: str | None = None


def trend_over_size(models: Sequence[SizedModel]) -> Trend:
    """The trend of a metric over model size (Ibragimov and Müller 2010).

    A family counts when it has two or more sizes with a defined value. Fewer than three such families give no trend.
    """
    families: dict[str, list[SizedModel]] = {}
    for model in models:
        if not model.measured.undefined:
            families.setdefault(model.family, []).append(model)
    usable = {name: found for name, found in families.items() if len({model.parameters for model in found}) > 1}
    if len(usable) < FEWEST_FAMILIES:
        reason = (
            f"{counted(len(usable), 'family', 'have')} two or more sizes with a value; {FEWEST_FAMILIES} are needed"
        )
        return Trend(None, undefined=reason)
    slopes: dict[str, float] = {}
    weights: list[tuple[float, Measured]] = []
    for name, members in sorted(usable.items()):
        shares = _slope_weights([math.log10(model.parameters) for model in members])
        slopes[name] = math.fsum(share * model.measured.value for share, model in zip(shares, members, strict=True))
        weights += [(share / len(usable), model.measured) for share, model in zip(shares, members, strict=True)]
    count = len(slopes)
    value = math.fsum(slopes.values()) / count
    error = math.sqrt(math.fsum((slope - value) ** 2 for slope in slopes.values()) / (count - 1) / count)
    half = t_quantile(count - 1, 1 - LEVEL / 2) * error
    low_here, high_here = _limits_here(value, weights)
    return Trend(
        value,
        low=value - half,
        high=value + half,
        df=count - 1,
        p=two_sided_p(value / error, count - 1) if error > 0 else None,
        low_here=low_here,
        high_here=high_here,
        slopes=slopes,
        note=f"only {counted(count, 'family')}: the interval is wide and rough" if count < FEW_FAMILIES else None,
    )


def _slope_weights(x: Sequence[float]) -> list[float]:
    """The weights with which values enter the least-squares slope on x; x are not all equal."""
    mean = math.fsum(x) / len(x)
    spread = math.fsum((value - mean) ** 2 for value in x)
    return [(value - mean) / spread for value in x]


def _limits_here(value: float, weights: Sequence[tuple[float, Measured]]) -> tuple[float, float]:
    """Limits of a weighted sum of values from the jackknife over the shared examples."""
    combined = np.sum([weight * measured.deviations for weight, measured in weights], axis=0)
    error = math.sqrt(exact_sum(combined**2))
    spreads = [
        part._replace(variance=weight**2 * part.variance) for weight, measured in weights for part in measured.spreads
    ]
    half = t_quantile(satterthwaite(spreads), 1 - LEVEL / 2) * error
    return value - half, value + half


@dataclass(frozen=True)
class ExplainedVariance:
    """How much of the variance of CCT between models phi-CCT explains: a share between 0 and 1.

    `correlation` is corrected for the unreliability of both numbers; `reliability_phi` and `reliability_cct` are their
    correlations between halves of the examples.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n_models: int = 0
    correlation: float | None = None
    reliability_phi: float | None = None
    reliability_cct: float | None = None
    undefined: str | None = None


def explained_variance(
    tables: Sequence[IntArray],
    moments: Sequence[FloatArray],
    phi_values: Statistic,
    cct_values: Statistic,
    *,
    seed: int = 0,
    splits: int = SPLITS,
) -> ExplainedVariance:
    """R² of CCT on phi-CCT over models, from different halves of the shared examples.

    `tables` (M × (G, 4)) and `moments` (M × (G, 6)) hold each model's counts on the same G examples. phi from one half
    of the examples is correlated with CCT from the other half, both ways, over many seeded splits, and divided by the
    square root of both reliabilities (Spearman 1904). The same trials would share their errors, which alone gives an
    R² of .24 where the true one is 0. The interval leaves out one model at a time.
    """
    count = len(tables)
    if count < FEWEST_MODELS:
        return ExplainedVariance(
            None, n_models=count, undefined=f"{counted(count, 'model')}; {FEWEST_MODELS} are needed"
        )
    halves = _values_of_halves(tables, moments, phi_values, cct_values, seed, splits)
    if halves is None:
        return ExplainedVariance(None, n_models=count, undefined="a half of the examples leaves phi or CCT undefined")
    phi_first, phi_second, cct_first, cct_second = halves
    everything = np.arange(count)
    found = _corrected(halves, everything)
    reliability_phi = _mean_correlation(phi_first, phi_second, everything)
    reliability_cct = _mean_correlation(cct_first, cct_second, everything)
    for name, reliability in (("phi-CCT", reliability_phi), ("CCT", reliability_cct)):
        if not reliability > LEAST_RELIABILITY:
            reason = (
                f"the reliability of {name} between halves of the examples is {number_text(reliability)}; it must "
                "exceed .3"
            )
            return ExplainedVariance(
                None,
                n_models=count,
                reliability_phi=reliability_phi,
                reliability_cct=reliability_cct,
                undefined=reason,
            )
    low, high = _leave_one_model_out(halves, found, count)
    return ExplainedVariance(
        min(1.0, found**2),
        low,
        high,
        n_models=count,
        correlation=found,
        reliability_phi=reliability_phi,
        reliability_cct=reliability_cct,
    )


Halves = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""phi of the first and second halves, CCT of the first and second halves; each (splits, models)."""


def _values_of_halves(
    tables: Sequence[IntArray],
    moments: Sequence[FloatArray],
    phi_values: Statistic,
    cct_values: Statistic,
    seed: int,
    splits: int,
) -> Halves | None:
    examples = len(tables[0])
    generator = seeded_generator(seed)
    chosen = np.zeros((splits, examples))
    for row in chosen:
        row[generator.permutation(examples)[: examples // 2]] = 1
    values = [
        np.stack([statistic(weights @ rows.astype(np.float64)) for rows in counts], axis=1)
        for counts, statistic in ((tables, phi_values), (moments, cct_values))
        for weights in (chosen, 1 - chosen)
    ]
    usable = ~np.any([np.isnan(found).any(axis=1) for found in values], axis=0)
    if usable.sum() < splits * 0.95:
        return None
    first, second, third, fourth = (found[usable] for found in values)
    return first, second, third, fourth


def _mean_correlation(x: FloatArray, y: FloatArray, models: IntArray) -> float:
    """The mean over splits of the correlation over models; x and y (splits, models)."""
    first, second = x[:, models], y[:, models]
    first = first - first.mean(axis=1, keepdims=True)
    second = second - second.mean(axis=1, keepdims=True)
    scale = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return float(np.mean(np.divide((first * second).sum(axis=1), scale, out=np.zeros(len(scale)), where=scale > 0)))


def _corrected(halves: Halves, models: IntArray) -> float:
    """The correlation of phi and CCT over models, corrected for both reliabilities; NaN where one is not positive."""
    phi_first, phi_second, cct_first, cct_second = halves
    across = (_mean_correlation(phi_first, cct_second, models) + _mean_correlation(phi_second, cct_first, models)) / 2
    reliabilities = _mean_correlation(phi_first, phi_second, models) * _mean_correlation(cct_first, cct_second, models)
    return across / math.sqrt(reliabilities) if reliabilities > 0 else math.nan


STRONG = 0.9
"""From this corrected correlation on, Fisher's scale, which ends at 1, is too short."""


def _leave_one_model_out(halves: Halves, found: float, count: int) -> tuple[float | None, float | None]:
    """Limits of R² by leaving out one model at a time, on Fisher's scale unless the correlation is strong.

    The corrected correlation may exceed 1; R² is cut there.
    """
    left = [_corrected(halves, np.delete(np.arange(count), model)) for model in range(count)]
    if any(math.isnan(value) for value in left):
        return None, None
    on_fisher_scale = abs(found) < STRONG and max(map(abs, left)) < 1
    values = [math.atanh(value) for value in left] if on_fisher_scale else left
    mean = math.fsum(values) / count
    error = math.sqrt((count - 1) / count * math.fsum((value - mean) ** 2 for value in values))
    half = t_quantile(count - 1, 1 - LEVEL / 2) * error
    centre = math.atanh(found) if on_fisher_scale else found
    low, high = centre - half, centre + half
    if on_fisher_scale:
        low, high = math.tanh(low), math.tanh(high)
    squares = sorted((min(1.0, low**2), min(1.0, high**2)))
    return (0.0 if low <= 0 <= high else squares[0]), squares[1]
