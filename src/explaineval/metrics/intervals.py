"""What kind of interval is wanted, and what came out of it (method page, "Uncertainty")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from pydantic import Field

from explaineval.metrics.tables import FloatArray
from explaineval.records import Record

Statistic = Callable[[FloatArray], FloatArray]
"""Sums of sufficient statistics, (m, K), to m values; NaN where a value is undefined."""

SMALLEST_SPREAD = 1e-12
"""Below this a spread between examples, or the distance of a correlation from 1, is rounding error."""


class Interval(Record):
    """How to get 95 % limits: `jackknife` (and Wilson for rates) or the `percentile` bootstrap over examples.

    `resamples` and `seed` serve the bootstrap only.
    """

    method: Literal["jackknife", "percentile"] = "jackknife"
    resamples: int = Field(default=2000, gt=0)
    seed: int = 0


class Limits(NamedTuple):
    """95 % limits, or the reason in `note` why there are none; a note beside limits qualifies them."""

    low: float | None
    high: float | None
    note: str | None = None


def no_limits(note: str) -> Limits:
    """No interval, for this reason."""
    return Limits(None, None, note)


ONE_EXAMPLE = "no interval: all trials come from one example"
NO_SPREAD = "no interval: there is no spread between the examples"
