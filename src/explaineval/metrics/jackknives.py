"""Leave-one-example-out jackknife with the tanh/atanh transform, for numbers between −1 and 1.

Interventions and samples of one example are not independent, so the example is left out as a whole (Efron and
Stein 1981). The limits are tanh(atanh φ ± t·SE/(1 − φ²)): Fisher's transform by the delta method, with a t
quantile whose degrees of freedom are one less than the number of examples that carry the information.
"""

from __future__ import annotations

import math

from explaineval.metrics.intervals import NO_SPREAD, SMALLEST_SPREAD, Limits, Statistic, no_limits
from explaineval.metrics.quantiles import student_t
from explaineval.metrics.sums import exact_sum, leave_one_out_sums
from explaineval.metrics.tables import FloatArray

FEWEST = 2
ROUGH_BELOW = 5


def jackknife_error(rows: FloatArray, statistic: Statistic) -> float:
    """SE = √((G−1)/G · Σ(θ₍ᵢ₎ − θ̄)²) of `statistic` over the rows (G, K), one per example.

    NaN where leaving out some example leaves the statistic undefined (its NaN carries through), or G < 2.
    """
    examples = len(rows)
    if examples < FEWEST:
        return math.nan
    values = statistic(leave_one_out_sums(rows))
    deviations = values - exact_sum(values) / examples
    return math.sqrt((examples - 1) / examples * exact_sum(deviations**2))


def tanh_limits(value: float, rows: FloatArray, statistic: Statistic, carriers: int, carrier: str) -> Limits:
    """The transformed jackknife limits of `value` = statistic of all rows (G, K).

    `carriers` is the number of examples that carry the information (degrees of freedom + 1), `carrier` says
    in words what they have, for the notes.
    """
    if carriers < FEWEST:
        return no_limits(f"no interval: fewer than {FEWEST} examples have {carrier}")
    if 1 - abs(value) < SMALLEST_SPREAD:
        return no_limits(f"no interval: the value is exactly {round(value)}")
    error = jackknife_error(rows, statistic)
    if math.isnan(error):
        return no_limits("no interval: the value hangs on one example, without it there is none")
    if error < SMALLEST_SPREAD:
        return no_limits(NO_SPREAD)
    half = student_t(carriers - 1) * error / (1 - value**2)
    centre = math.atanh(value)
    note = f"rough interval: only {carriers} examples have {carrier}" if carriers < ROUGH_BELOW else None
    return Limits(math.tanh(centre - half), math.tanh(centre + half), note)
