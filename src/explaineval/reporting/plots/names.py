"""Names beside points and lines in a drawing, where there is room for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from explaineval.reporting.plots.conditions import MOST_POINTS_NAMED
from explaineval.reporting.plots.figure import Figure
from explaineval.reporting.plots.words import shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

NAME, SIZE = 26, 6.0
"""Characters of a name, and the size of its letters."""

PLACES = ((1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (-1, 0), (0, 1), (0, -1))
"""Where a name may stand beside its point (right, up), in the order in which places are tried."""

DISTANCE, DIAGONAL = 4.5, 2.5
"""Points between a mark and a name on its level or straight above it, and in each direction to one across."""

APART = 12.0
"""The least number of points between the middles of two labels of lines."""

MARK, BAR = 6.0, 1.0
"""Points that a mark takes, and the width of an interval."""


def is_named(figure: Figure) -> bool:
    """Return whether the points of a figure have their names beside them."""
    return not figure.y.ticks and len(figure.points) <= MOST_POINTS_NAMED


def name_points(axes: Axes, figure: Figure, renderer: Any) -> None:
    """Write names beside points, where names and marks hide least of each other, inside the axes if possible."""
    from matplotlib.transforms import Bbox

    if not is_named(figure):
        return
    points = [point for point in figure.points if point.undefined is None]
    inside = axes.get_window_extent(renderer)
    places = [axes.transData.transform((point.drawn_x, point.y)) for point in points]
    taken = [Bbox.from_bounds(x - MARK / 2, y - MARK / 2, MARK, MARK) for x, y in places]
    bars = [[(x, point.y) for x in point.x_limits] for point in points if point.x_limits]
    bars += [[(point.drawn_x, y) for y in point.y_limits] for point in points if point.y_limits]
    if figure.intervals:
        taken += [Bbox(axes.transData.transform(ends)).padded(BAR / 2) for ends in bars]
    for point in points:
        options = []
        for right, up in PLACES:
            distance = DIAGONAL if right and up else DISTANCE
            text = axes.annotate(
                shown(point.beside or point.label, NAME),
                (point.drawn_x, point.y),
                xytext=(right * distance, up * distance),
                textcoords="offset points",
                ha={1: "left", -1: "right", 0: "center"}[right],
                va={1: "bottom", -1: "top", 0: "center"}[up],
                fontsize=SIZE,
                annotation_clip=False,
            )
            box = text.get_window_extent(renderer)
            options.append((sum(_overlap(box, other) for other in taken) + _outside(box, inside), text, box))
        best = min(options, key=lambda option: option[0])
        for option in options:
            if option is not best:
                option[1].remove()
        taken.append(best[2])


def _overlap(first: Bbox, second: Bbox) -> float:
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return float(width * height) if width > 0 and height > 0 else 0.0


def _outside(box: Bbox, area: Bbox) -> float:
    """Return how far a box reaches out of an area, ten times as grave as an overlap."""
    beyond = (area.x0 - box.x0, box.x1 - area.x1, area.y0 - box.y0, box.y1 - area.y1)
    return 10.0 * sum(max(0.0, float(part)) for part in beyond)


def name_lines(axes: Axes, figure: Figure) -> None:
    """Write the labels of lines above their ends, from left to right, none on another."""
    last = -math.inf
    for line in sorted((line for line in figure.lines if line.label), key=lambda line: line.points[-1]):
        x = float(axes.transData.transform(line.points[-1])[0])
        last = max(x, last + APART)
        axes.annotate(
            line.label,
            line.points[-1],
            xytext=(last - x, 2),
            textcoords="offset points",
            fontsize=SIZE,
            ha="center",
            va="bottom",
            annotation_clip=False,
        )
