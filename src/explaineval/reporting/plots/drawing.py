"""Draw figures with matplotlib (extra `report`), as SVG for a page and as PDF for a paper.

Every point and line has an id in the SVG (`FIGURE-point-SERIES-NUMBER`, `FIGURE-line-NUMBER`), so that what is drawn
can be read back and compared with the numbers.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

from explaineval.errors import InputError
from explaineval.reporting.plots.figure import Axis, Figure, Line, Point, Series
from explaineval.reporting.plots.looks import INK, colour_of, shape_of
from explaineval.reporting.plots.svg import finish_svg
from explaineval.reporting.plots.words import shown, simulated_mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.transforms import Bbox

STYLE = "explaineval.mplstyle"

WIDTH = 3.4
"""Inches: the column of a paper."""

MOST_LABELLED = 10
"""Points with their names beside them; where there are more, a legend names their families."""

LABEL, TICK_LABEL = 26, 34
"""Characters of a name beside a point, and at an axis."""


NO_MATPLOTLIB = "figures need matplotlib: install the extra with `pip install 'explaineval[report]'`."


def require_matplotlib() -> None:
    """Raise InputError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError:
        raise InputError(NO_MATPLOTLIB) from None


def draw_svg(figure: Figure, *, standalone: bool = False) -> str:
    """Return a figure as an SVG element.

    It is made to stand within an HTML page: without scripts, links or styles, with ids that begin with the figure's id,
    and in the colour of the text around it. A `standalone` one is a file of its own, light or dark as its reader
    prefers. The same figure gives the same text each time. Raises InputError where matplotlib is not installed.
    """
    with _style():
        canvas = _draw(figure)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return finish_svg(buffer.getvalue(), figure, standalone=standalone)


def draw_pdf(figure: Figure) -> bytes:
    """Return a figure as a PDF with embedded fonts, as wide as a paper's column, the same bytes each time.

    Raises InputError where matplotlib is not installed.
    """
    with _style():
        canvas = _draw(figure)
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return buffer.getvalue()


@contextmanager
def _style() -> Iterator[None]:
    """Draw in the project's style whatever the user's own settings of matplotlib are."""
    require_matplotlib()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells about its font cache
    import matplotlib.style

    with (
        resources.as_file(resources.files(__package__) / STYLE) as sheet,
        matplotlib.style.context(["default", sheet]),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph")  # names may be in any script; SVG readers have more fonts
        yield


def _draw(figure: Figure) -> Canvas:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(WIDTH, _height(figure)), layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.add_subplot()
    axes.patch.set_gid("area")
    _set_axis(axes, figure.x, "x")
    _set_axis(axes, figure.y, "y")
    if figure.square:
        axes.set_aspect("equal")
    for number, line in enumerate(figure.lines):
        _draw_line(axes, line, f"line-{number}")
    many = len(figure.points) > MOST_LABELLED
    for number, series in enumerate(figure.series):
        _draw_series(axes, series, number, faint=many)
    _add_legend(canvas, figure)
    mark = simulated_mark(figure.points)
    if mark is not None:
        canvas.suptitle(mark, fontsize=6, style="italic", x=0.01, ha="left")
    labels = [line for line in figure.lines if line.label]
    names = _direct_labels(figure)
    canvas.canvas.draw()
    canvas.set_layout_engine("none")  # from here on places are final
    _label_lines(axes, labels)
    _label_points(axes, names, figure)
    return canvas


def _height(figure: Figure) -> float:
    """Return the height in inches."""
    if figure.square:
        return 3.6
    rows = len(figure.y.ticks)
    return 2.6 if not rows else 0.75 + rows * max(0.15, 0.1 * len(figure.series))


def _set_axis(axes: Axes, axis: Axis, which: str) -> None:
    setter: Any = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xlabel if which == "x" else axes.set_ylabel)(shown(axis.title, 60))
    if axis.log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        setter.set_minor_locator(_no_ticks())
    (axes.set_xlim if which == "x" else axes.set_ylim)(axis.low, axis.high)
    if axis.ticks:
        setter.set_ticks([place for place, _ in axis.ticks], [shown(text, TICK_LABEL) for _, text in axis.ticks])


def _no_ticks() -> Any:
    from matplotlib.ticker import NullLocator

    return NullLocator()


LINES: dict[str, dict[str, Any]] = {
    "trend": {"linewidth": 1.4, "linestyle": (0, (4, 1.5)), "color": INK},
    "family_trend": {"linewidth": 0.7, "alpha": 0.8},
    "frontier": {"linewidth": 1.1, "linestyle": (0, (1, 1)), "color": INK},
    "iso_phi": {"linewidth": 0.5, "color": INK, "alpha": 0.3},
    "reference": {"linewidth": 0.6, "color": INK, "alpha": 0.6},
    "chance": {"linewidth": 4, "color": INK, "alpha": 0.13},
}
"""How kinds of lines are drawn."""


def _draw_line(axes: Axes, line: Line, gid: str) -> None:
    how = dict(LINES[line.kind])
    if line.look is not None:
        how["color"] = colour_of(line.look)
    axes.plot([x for x, _ in line.points], [y for _, y in line.points], gid=gid, zorder=1, **how)


def _draw_series(axes: Axes, series: Series, number: int, *, faint: bool) -> None:
    colour = colour_of(series.look)
    if series.joined and len(series.points) > 1:
        axes.plot(
            [point.x for point in series.points],
            [point.y for point in series.points],
            color=colour,
            linewidth=0.7,
            alpha=0.7,
            zorder=2,
            gid=f"join-{number}",
        )
    for at, point in enumerate(series.points):
        if point.undefined is not None:
            axes.text(
                point.x,
                point.y,
                " undefined",
                fontsize=5.5,
                style="italic",
                va="center",
                gid=f"undefined-{number}-{at}",
            )
            continue
        how: dict[str, Any] = {"color": colour, "linewidth": 0.8, "alpha": 0.6 if faint else 0.9, "zorder": 3}
        if point.x_limits is not None:
            axes.plot(point.x_limits, (point.y, point.y), gid=f"x-interval-{number}-{at}", **how)
        if point.y_limits is not None:
            axes.plot((point.x, point.x), point.y_limits, gid=f"y-interval-{number}-{at}", **how)
        axes.plot(
            [point.x],
            [point.y],
            zorder=4,
            gid=f"point-{number}-{at}",
            clip_on=False,
            **_marker(series.look, point),
        )


def _marker(look: int, point: Point | None = None, tuned: str | None = None) -> dict[str, Any]:
    """Return how a point is drawn: filled, or hollow for a pretrained model."""
    hollow = (point.tuned if point is not None else tuned) == "base"
    colour = colour_of(look)
    return {
        "linestyle": "none",
        "marker": shape_of(look),
        "markerfacecolor": "none" if hollow else colour,
        "markeredgecolor": colour,
    }


def _add_legend(canvas: Canvas, figure: Figure) -> None:
    from matplotlib.lines import Line2D

    entries: dict[str, dict[str, Any]] = {}
    for series in figure.series:
        if series.group is not None:
            entries.setdefault(shown(series.group, LABEL), _marker(series.look))
    if len(entries) < 2:
        entries = {}
    tunings = {point.tuned for point in figure.points}
    if {"base", "instruct"} <= tunings:
        for tuned, name in (("base", "pretrained"), ("instruct", "instruction-tuned")):
            face = "none" if tuned == "base" else INK
            entries[name] = {"linestyle": "none", "marker": "o", "markeredgecolor": INK, "markerfacecolor": face}
    for kind, name in (("trend", "trend"), ("frontier", "Pareto frontier"), ("chance", "knowing only the example")):
        line = next((line for line in figure.lines if line.kind == kind), None)
        if line is not None:
            entries[line.name or name] = {**LINES[kind], "marker": ""}
    if not entries:
        return
    handles = [Line2D([], [], **how) for how in entries.values()]
    longest = max(map(len, entries))
    legend = canvas.legend(
        handles,
        ["" for _ in entries],
        loc="outside lower center",
        ncols=max(1, min(len(entries), 60 // (longest + 5))),
    )
    for text, name in zip(legend.get_texts(), entries, strict=True):
        text.set_text(name)


def _direct_labels(figure: Figure) -> list[tuple[Point, str]]:
    """Return the points that are named beside their mark, each with its name; none where there are too many."""
    if figure.y.ticks or len(figure.points) > MOST_LABELLED:
        return []
    return [(point, shown(point.label, LABEL)) for point in figure.points if point.undefined is None]


PLACES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""Where a name may stand beside its point, in the order in which places are tried."""

DISTANCE = 4.5
"""Points between a mark and its name."""

MARK = 6
"""Points that a mark takes."""


def _label_points(axes: Axes, names: Sequence[tuple[Point, str]], figure: Figure) -> None:
    """Write names beside points, at the first place that is free of other names and marks, and inside the axes."""
    from matplotlib.transforms import Bbox

    corners = [axes.transData.transform((point.x, point.y)) - MARK / 2 for point in figure.points]
    taken: list[Bbox] = [Bbox.from_bounds(corner[0], corner[1], MARK, MARK) for corner in corners]
    inside = axes.get_window_extent()
    for point, name in names:
        options = []
        for right, up in PLACES:
            text = axes.annotate(
                name,
                (point.x, point.y),
                xytext=(right * DISTANCE, up * DISTANCE),
                textcoords="offset points",
                ha={1: "left", -1: "right", 0: "center"}[right],
                va={1: "bottom", -1: "top", 0: "center"}[up],
                fontsize=6,
                annotation_clip=False,
            )
            box = text.get_window_extent()
            overlap = sum(_overlap(box, other) for other in taken) + _outside(box, inside)
            options.append((overlap, text, box))
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


def _label_lines(axes: Axes, lines: Sequence[Line]) -> None:
    """Write the label of a line at its end."""
    for line in lines:
        x, y = line.points[-1]
        axes.annotate(
            line.label,
            (x, y),
            xytext=(2, 0),
            textcoords="offset points",
            fontsize=5.5,
            va="center",
            annotation_clip=False,
        )
