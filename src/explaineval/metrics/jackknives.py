"""Leave-one-example-out jackknife on a transformed scale, for numbers between −1 and 1 and areas between 0 and 1.

Interventions and samples of one example are not independent, so the example is left out as a whole (Efron and
Stein 1981). The limits are tanh(atanh φ ± t·SE/(1 − φ²)): Fisher's transform by the delta method, with a t
quantile whose degrees of freedom are one less than the number of examples that carry the information. An area A
has expit(logit A ± t·SE/(A(1 − A))) likewise, which is the same interval of φ = 2A − 1.
"""

from __future__ import annotations

import math

from explaineval.metrics.intervals import NO_SPREAD, SMALLEST_SPREAD, Limits, Statistic, no_limits
from explaineval.metrics.quantiles import student_t
from explaineval.metrics.sums import exact_sum, leave_one_out_sums
from explaineval.metrics.tables import FloatArray

FEWEST = 2
ROUGH_BELOW = 5


def deviations(rows: FloatArray, statistic: Statistic) -> FloatArray:
    """θ₍ᵢ₎ − θ̄ of `statistic` with each of the rows (G, K) left out in turn, (G,), G ≥ 2; NaN if one is undefined."""
    values = statistic(leave_one_out_sums(rows))
    found: FloatArray = values - exact_sum(values) / len(rows)
    return found


def error_of(left: FloatArray) -> float:
    """SE = √((G−1)/G · Σ(θ₍ᵢ₎ − θ̄)²) of deviations (G,); NaN carries through."""
    return math.sqrt((len(left) - 1) / len(left) * exact_sum(left**2))


def tanh_limits(value: float, rows: FloatArray, statistic: Statistic, carriers: int, carrier: str) -> Limits:
    """The transformed jackknife limits of `value` = statistic of all rows (G, K), a number between −1 and 1.

    `carriers` is the number of examples that carry the information (degrees of freedom + 1), `carrier` says
    in words what they have, for the notes.
    """
    half = _half_width(value, 1 - value**2, rows, statistic, (carriers, carrier))
    if isinstance(half, Limits):
        return half
    centre = math.atanh(value)
    return Limits(math.tanh(centre - half), math.tanh(centre + half), rough(carriers, carrier))


def expit_limits(value: float, rows: FloatArray, statistic: Statistic, carriers: int, carrier: str) -> Limits:
    """The same for a number between 0 and 1, on the logit scale."""
    half = _half_width(value, value * (1 - value), rows, statistic, (carriers, carrier))
    if isinstance(half, Limits):
        return half
    centre = math.log(value / (1 - value))
    return Limits(_expit(centre - half), _expit(centre + half), rough(carriers, carrier))


def _half_width(
    value: float, slope: float, rows: FloatArray, statistic: Statistic, of: tuple[int, str]
) -> float | Limits:
    """t·SE/slope, half the width on the transformed scale; or that there are no limits, with the reason."""
    carriers, carrier = of
    if carriers < FEWEST:
        return no_limits(f"no interval: fewer than {FEWEST} examples have {carrier}")
    if slope < SMALLEST_SPREAD:
        return no_limits(f"no interval: the value is exactly {round(value)}")
    left = deviations(rows, statistic)
    error = error_of(left)
    if math.isnan(error):
        return no_limits("no interval: the value hangs on one example, without it there is none")
    if error < SMALLEST_SPREAD:
        return no_limits(NO_SPREAD)
    return student_t(carriers - 1) * error / slope


def _expit(logit: float) -> float:
    return (1 + math.tanh(logit / 2)) / 2  # exp(−logit) would overflow for a very wide interval


def rough(carriers: int, carrier: str) -> str | None:
    """The note of an interval that rests on fewer examples than ROUGH_BELOW; None where there are enough."""
    return f"rough interval: only {carriers} examples have {carrier}" if carriers < ROUGH_BELOW else None
