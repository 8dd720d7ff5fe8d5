"""Write numbers as the page shows them, and place them on an axis. Pure; every number is written here and only here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from explaineval.reporting.view import ShownNumber
from explaineval.scoring.metric import Scale
from explaineval.scoring.registry import METRICS
from explaineval.text import NARROW_SPACE, NO_INTERVAL, UNDEFINED, interval_text, number_text, share_text

MOST_TICKS = 5
NARROWEST = 0.25
"""The share of all possible values that an axis shows at least, so that small differences look small."""


def written(value: float, scale: Scale, *, sign: bool = False) -> str:
    """Return a number as the page writes it: shares in per cent, and no -0.00; with `sign` also a plus.

    >>> written(-0.001, Scale()), written(0.4567, Scale(0, 1, percent=True, digits=1)), written(0.2, Scale(), sign=True)
    ('0.00', '45.7\\u202f%', '+0.20')
    """
    return (
        share_text(value, scale.digits, NARROW_SPACE) if scale.percent else number_text(value, scale.digits, sign=sign)
    )


def interval(low: float | None, high: float | None, scale: Scale) -> str:
    """Return an interval in brackets, or `no interval`; the sign of per cent stands at the value alone.

    >>> interval(-0.1, 0.25, Scale()), interval(None, None, Scale())
    ('[-0.10, 0.25]', 'no interval')
    """
    if low is None or high is None:
        return NO_INTERVAL
    factor = 100 if scale.percent else 1
    return interval_text(factor * low, factor * high, scale.digits)


@dataclass(frozen=True)
class Value:
    """One number of a table: itself, its limits, and their texts.

    `undefined` is the reason why there is no number, `mark` the number of the footnote that says it. `has_interval`
    tells a number without limits from one that never has any. `grave` says that it must not be quoted as it stands.
    """

    value: float | None
    low: float | None
    high: float | None
    text: str
    interval: str
    undefined: str | None = None
    mark: int | None = None
    has_interval: bool = True
    grave: bool = False

    @property
    def exact(self) -> str:
        """The number with all of its digits."""
        return "" if self.value is None else repr(self.value)


def value_of(number: ShownNumber, mark: int | None = None) -> Value:
    """Return a number as the page shows it."""
    row, metric = number.row, METRICS[number.row.metric]
    limits = number.without_interval or interval(row.low, row.high, metric.scale)
    if number.hits is not None and number.without_interval is None:
        limits = limits.replace("]", f"{NARROW_SPACE}%]")
    return Value(
        value=row.value,
        low=row.low,
        high=row.high,
        text=UNDEFINED if row.value is None else number.hits or written(row.value, metric.scale),
        interval=limits if number.is_defined and metric.has_interval else "",
        undefined=row.undefined if row.value is None else None,
        mark=mark,
        has_interval=metric.has_interval,
        grave=number.grave,
    )


@dataclass(frozen=True)
class Axis:
    """A horizontal axis from `low` to `high` on which intervals are drawn.

    `ticks` are values with their texts. `nothing` is the value that stands for no relation, None where it is not on
    the axis.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    nothing: float | None = None

    WIDTH = 200
    MARGIN = 12

    def at(self, value: float) -> float:
        """Return the place of a value from the left, in the units of the drawing; outside the axis that of its end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.MARGIN + share * (self.WIDTH - 2 * self.MARGIN), 2)


def axis_of(numbers: Iterable[float | None], scale: Scale, *, sign: bool = False) -> Axis | None:
    """Return an axis with round ticks that has room for these numbers and for no relation; None without any number."""
    known = [number for number in numbers if number is not None and math.isfinite(number)]
    if not known:
        return None
    if scale.nothing is not None:
        known.append(scale.nothing)
    elif scale.low is not None:
        known.append(scale.low)
    least, most = min(known), max(known)
    widest = 2.0 if scale.low is None or scale.high is None else scale.high - scale.low
    room = max(0.0, NARROWEST * widest - (most - least)) / 2
    least, most = least - room, most + room
    if scale.low is not None and scale.low > least:
        least, most = scale.low, most + scale.low - least
    if scale.high is not None and scale.high < most:
        least, most = least + scale.high - most, scale.high
    step = _step((most - least) / (MOST_TICKS - 1))
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    values = [number * step for number in range(first, last + 1)]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    plain = Scale(percent=scale.percent, digits=max(0, digits - 2) if scale.percent else digits)
    return Axis(
        low=values[0],
        high=values[-1],
        ticks=tuple((value, written(value, plain, sign=sign)) for value in values),
        nothing=scale.nothing,
    )


def _step(rough: float) -> float:
    """Return the smallest step of 1, 2 or 5 times a power of ten that is not below `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * (1 - 1e-9))
