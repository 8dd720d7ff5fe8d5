"""What a figure is: points, lines, axes and the words that go with them. Pure data, which `drawing` draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from explaineval.records import SIMULATED_PREFIX, Condition

Limits = tuple[float, float]

LineKind = Literal["trend", "frontier_base", "frontier_instruct", "iso_phi", "reference", "chance"]


@dataclass(frozen=True)
class Point:
    """One model under one condition: its two coordinates, and their 95 % limits where they have any.

    `label` names it within the figure. `run` is the name of the run that it comes from. `undefined` says why there is
    no number; its coordinates are then places where that is written. `beside` is what stands beside it where there is
    room, if that is not the label. `shift` says by how many powers of ten its mark is moved along a logarithmic x axis,
    so that points of the same x do not hide each other.
    """

    label: str
    x: float
    y: float
    condition: Condition
    run: str
    x_limits: Limits | None = None
    y_limits: Limits | None = None
    family: str | None = None
    tuned: Literal["instruct", "base"] | None = None
    undefined: str | None = None
    beside: str | None = None
    shift: float = 0.0

    @property
    def drawn_x(self) -> float:
        """Where the mark stands on the x axis."""
        return self.x * 10.0**self.shift if self.shift else self.x

    @property
    def simulated(self) -> bool:
        """Whether it stands for a simulated model, which is no language model."""
        return self.condition.model.startswith(SIMULATED_PREFIX)


@dataclass(frozen=True)
class Series:
    """Points that belong together, in order. `joined` connects them.

    Series with the same `group` (a family, say) share colour and shape and have one entry in the legend; `look` is the
    number of that colour and shape. `group` None has no entry.
    """

    name: str
    points: tuple[Point, ...]
    group: str | None = None
    look: int = 0
    joined: bool = False


@dataclass(frozen=True)
class Line:
    """A line that is no data: a trend, a frontier, a curve of equal phi, a reference.

    `label` is what stands beside it in the drawing; `look` is the look of the series that it belongs to, if any.
    """

    kind: LineKind
    name: str
    points: tuple[tuple[float, float], ...]
    label: str = ""
    look: int | None = None


@dataclass(frozen=True)
class Axis:
    """One axis from `low` to `high`, with a logarithmic scale where `log`.

    `ticks` are places and their texts; without any the drawing chooses them.
    """

    title: str
    low: float
    high: float
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Figure:
    """One figure.

    `id` is unique among the figures of a report and can stand in file names and HTML. `subject` is shared by figures
    that show the same for other tasks, kinds or levels; `setting` says which in words. `caption` says how to read the
    figure and what is seen, `alt` says it in words for those who do not see it. `notes` say what limits it. A `square`
    figure has axes of the same length. Without `intervals` the limits of its points are not drawn, since they would
    hide the points.
    """

    id: str
    subject: str
    title: str
    setting: str
    caption: str
    alt: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()
    square: bool = False
    intervals: bool = True

    @property
    def points(self) -> tuple[Point, ...]:
        """All points, series by series."""
        return tuple(point for series in self.series for point in series.points)


@dataclass(frozen=True)
class MissingFigure:
    """A figure that these results do not allow, and in `undefined` the reason, as a clause without a full stop."""

    id: str
    subject: str
    title: str
    undefined: str
