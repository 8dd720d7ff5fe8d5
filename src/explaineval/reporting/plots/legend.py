"""The legend under a figure: families, tunings and lines in rows as long as the figure is wide."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from explaineval.reporting.plots.figure import Figure, LineKind
from explaineval.reporting.plots.looks import INK, colour_of, shape_of
from explaineval.reporting.plots.names import is_named
from explaineval.reporting.plots.words import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

NAME, SIZE = 40, 6.5
"""Characters of a name, and the size of its letters."""

KEY, GAP, LINE = 12.0, 9.0, 9.0
"""Points that a key, the gap behind a name and a line of the legend take."""

LINES: dict[LineKind, dict[str, Any]] = {
    "trend": {"linewidth": 1.3, "linestyle": (0, (4, 1.5)), "color": INK},
    "frontier_base": {"linewidth": 1.0, "linestyle": (0, (1, 1)), "color": INK},
    "frontier_instruct": {"linewidth": 1.0, "linestyle": (0, (5, 1, 1, 1)), "color": INK},
    "iso_phi": {"linewidth": 0.5, "color": INK, "alpha": 0.4},
    "reference": {"linewidth": 0.6, "color": INK, "alpha": 0.6},
    "chance": {"linewidth": 4, "color": INK, "alpha": 0.13, "solid_capstyle": "butt"},
}
"""How kinds of lines are drawn."""

IN_LEGEND: tuple[LineKind, ...] = ("trend", "iso_phi", "frontier_base", "frontier_instruct", "chance")

TUNINGS = {"base": "pretrained", "instruct": "instruction-tuned"}


class Entry(NamedTuple):
    """A key and its name, and where the entry begins in its row, in points."""

    key: dict[str, Any]
    name: str
    start: float


def marker(look: int, tuned: str | None = None) -> dict[str, Any]:
    """Return how a point is drawn: filled, or hollow for a pretrained model."""
    colour = colour_of(look)
    face = "none" if tuned == "base" else colour
    return {"linestyle": "none", "marker": shape_of(look), "markerfacecolor": face, "markeredgecolor": colour}


def legend_rows(figure: Figure, renderer: Any, width: float) -> list[list[Entry]]:
    """Return the entries of the legend in rows that are at most so wide, in points."""
    rows: list[list[Entry]] = []
    for part in (_groups(figure), _tunings(figure), _lines(figure)):
        start = width
        for name, key in part:
            needed = KEY + _width(name, renderer) + GAP
            if start + needed - GAP > width:
                rows.append([])
                start = 0.0
            rows[-1].append(Entry(key, name, start))
            start += needed
    return rows


def _groups(figure: Figure) -> list[tuple[str, dict[str, Any]]]:
    if is_named(figure) and not any(point.family for point in figure.points):
        return []  # the groups are the models, whose names stand beside their points
    groups = {series.group: series.look for series in figure.series if series.group is not None}
    return [(shown(name, NAME), marker(look)) for name, look in groups.items()] if len(groups) > 1 else []


def _tunings(figure: Figure) -> list[tuple[str, dict[str, Any]]]:
    tunings = {point.tuned for point in figure.points}
    if not TUNINGS.keys() <= tunings:
        return []
    grey = {"linestyle": "none", "marker": "o", "markeredgecolor": INK}
    return [(name, grey | {"markerfacecolor": "none" if tuned == "base" else INK}) for tuned, name in TUNINGS.items()]


def _lines(figure: Figure) -> list[tuple[str, dict[str, Any]]]:
    named = {line.name: LINES[line.kind] for line in figure.lines if line.kind in IN_LEGEND and line.name}
    return list(named.items())


def _width(name: str, renderer: Any) -> float:
    from matplotlib.font_manager import FontProperties

    return float(renderer.get_text_width_height_descent(name, FontProperties(size=SIZE), ismath=False)[0])


def add_legend(canvas: Canvas, rows: list[list[Entry]], *, left: float, bottom: float) -> None:
    """Draw the rows, the last one at `bottom`; all places in points from the lower left corner."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Affine2D

    points = Affine2D().scale(1 / 72) + canvas.dpi_scale_trans
    for number, row in enumerate(reversed(rows)):
        y = bottom + LINE * (number + 0.5)
        for entry in row:
            x = left + entry.start
            at = ([x + KEY / 2 - 1], [y]) if entry.key.get("linestyle") == "none" else ([x, x + KEY - 3], [y, y])
            canvas.add_artist(Line2D(*at, transform=points, **entry.key))
            canvas.text(x + KEY, y, entry.name, fontsize=SIZE, va="center_baseline", transform=points)
