"""What tables have in common: where a number belongs, and how it is written."""

from __future__ import annotations

from typing import NamedTuple

from explaineval.records import MetricRow


class Line(NamedTuple):
    """Where a table row belongs: everything but the metric."""

    endpoint: str | None
    model: str | None
    task: str | None
    kind: str | None
    order: str | None
    style: str | None
    shots: int | None
    verbosity: str | None


def number(value: float | None, digits: int = 3) -> str:
    """A number as it stands in tables.

    >>> number(0.12345), number(-0.0001), number(None)
    ('0.123', '0.000', 'undefined')
    """
    if value is None:
        return "undefined"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_interval(row: MetricRow) -> str:
    """A number that is defined, its interval on a second line."""
    if row.low is None or row.high is None:
        return f"{number(row.value)}\nno interval"
    return f"{number(row.value)}\n[{number(row.low)}, {number(row.high)}]"
