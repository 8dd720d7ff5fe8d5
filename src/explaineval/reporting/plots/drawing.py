"""Draw figures with matplotlib (extra `report`), as SVG for a page and as PDF for a paper.

Every point and line has an id in the SVG (`FIGURE-point-SERIES-NUMBER`, `FIGURE-line-NUMBER`), so that what is drawn
can be read back and compared with the numbers. Sizes are in points, 72 to the inch.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any

from explaineval.config.installation import install_extra
from explaineval.errors import InputError
from explaineval.reporting.plots.figure import Axis, Figure, Line, Series
from explaineval.reporting.plots.legend import LINES, add_legend, legend_rows, marker
from explaineval.reporting.plots.looks import colour_of
from explaineval.reporting.plots.names import name_lines, name_points
from explaineval.reporting.plots.svg import finish_svg
from explaineval.reporting.plots.words import shown, simulated_mark

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

STYLE = "explaineval.mplstyle"

WIDTH = 245
"""The column of a paper, 3.4 in."""

HEIGHT = 140
"""The height of the axes, where it does not follow from what is drawn."""

EDGE, LINE = 4, 9
"""Room at the edges, and the height of a line of text."""

ROW, ROW_OF_SEVERAL = 10, 6.5
"""The least height of a row of a forest plot, and that of each of its marks where it has several."""

NAME = 34
"""Characters of a name at an axis."""

MANY = 10
"""Points from which on intervals are drawn faintly."""


def no_matplotlib() -> str:
    """Return the sentence that matplotlib is missing, and what to do."""
    return f"figures need matplotlib, which is not installed: {install_extra('report')}."


def require_matplotlib() -> None:
    """Raise InputError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError:
        raise InputError(no_matplotlib()) from None


def draw_svg(figure: Figure, *, standalone: bool = False) -> str:
    """Return a figure as an SVG element.

    It is made to stand within an HTML page: without scripts, links or styles, with ids that begin with the figure's id,
    and in the colour of the text around it. A `standalone` one is a file of its own, light or dark as its reader
    prefers. The same figure gives the same text each time. Raises InputError where matplotlib is not installed.
    """
    with _style():
        buffer = io.StringIO()
        _draw(figure).savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return finish_svg(buffer.getvalue(), figure, standalone=standalone)


def draw_pdf(figure: Figure) -> bytes:
    """Return a figure as a PDF with embedded fonts, as wide as a paper's column, the same bytes each time.

    Raises InputError where matplotlib is not installed.
    """
    with _style():
        buffer = io.BytesIO()
        _draw(figure).savefig(buffer, format="pdf", metadata=dict.fromkeys(("CreationDate", "Creator", "Producer")))
    return buffer.getvalue()


@contextmanager
def _style() -> Iterator[None]:
    """Draw in the project's style whatever the user's own settings of matplotlib are."""
    require_matplotlib()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells about its cache of fonts
    import matplotlib.style

    with (
        resources.as_file(resources.files(__package__) / STYLE) as sheet,
        matplotlib.style.context(["default", sheet]),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph")  # names may be in any script, whatever the font has
        yield


def _draw(figure: Figure) -> Canvas:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    height = _height(figure)
    canvas = Canvas(figsize=(WIDTH / 72, height / 72))
    renderer: Any = FigureCanvasAgg(canvas).get_renderer()  # type: ignore[no-untyped-call]  # it has no types
    axes = canvas.add_axes((0.2, 0.0, 0.8, 1.0))
    axes.patch.set_gid("area")
    _set_axis(axes, figure.x, "x")
    _set_axis(axes, figure.y, "y")
    for number, line in enumerate(figure.lines):
        _draw_line(axes, line, f"line-{number}")
    for number, series in enumerate(figure.series):
        _draw_series(axes, series, number, faint=len(figure.points) > MANY, intervals=figure.intervals)
    mark = simulated_mark(figure.points)

    left, right = EDGE + _extent(axes, "y", renderer), EDGE + _half_of_last_tick(axes, renderer)
    width = WIDTH - left - right
    margin = EDGE if figure.y.ticks else left
    rows = legend_rows(figure, renderer, WIDTH - margin - EDGE)
    if figure.square:
        height = width
    below = _extent(axes, "x", renderer) + EDGE + LINE * len(rows) + (2 if rows else 0)
    above = EDGE + (LINE + 2 if mark is not None else 0) + (LINE if any(line.label for line in figure.lines) else 0)
    total = below + height + above
    canvas.set_size_inches(WIDTH / 72, total / 72)
    axes.set_position((left / WIDTH, below / total, width / WIDTH, height / total))
    if mark is not None:
        canvas.text(EDGE / WIDTH, 1 - EDGE / total, mark, fontsize=6, style="italic", va="top")
    add_legend(canvas, rows, left=margin, bottom=EDGE)
    name_lines(axes, figure)
    name_points(axes, figure, renderer)
    return canvas


def _height(figure: Figure) -> float:
    rows = len(figure.y.ticks)
    return rows * max(ROW, ROW_OF_SEVERAL * len(figure.series)) + ROW / 2 if rows else HEIGHT


def _extent(axes: Axes, which: str, renderer: Any) -> float:
    """Return how far an axis with its labels reaches out of the axes, in points."""
    axis: Any = axes.xaxis if which == "x" else axes.yaxis
    box, area = axis.get_tightbbox(renderer), axes.get_window_extent(renderer)
    return float(area.y0 - box.y0 if which == "x" else area.x0 - box.x0)


def _half_of_last_tick(axes: Axes, renderer: Any) -> float:
    """Return half the width of the text at the right end of the x axis, which reaches out of the axes."""
    texts = [text for text in axes.get_xticklabels() if text.get_text()]
    return float(texts[-1].get_window_extent(renderer).width / 2) if texts else 0.0


def _set_axis(axes: Axes, axis: Axis, which: str) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    setter: Any = axes.xaxis if which == "x" else axes.yaxis
    setter.set_label_text(shown(axis.title, 60))
    if axis.log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(axis.low, axis.high)
    if axis.ticks:
        setter.set_ticks([place for place, _ in axis.ticks], [shown(text, NAME) for _, text in axis.ticks])
    else:
        setter.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    setter.set_minor_locator(NullLocator())


def _draw_line(axes: Axes, line: Line, gid: str) -> None:
    how = dict(LINES[line.kind])
    if line.look is not None:
        how["color"] = colour_of(line.look)
    axes.plot([x for x, _ in line.points], [y for _, y in line.points], gid=gid, zorder=1, marker="", **how)


def _draw_series(axes: Axes, series: Series, number: int, *, faint: bool, intervals: bool) -> None:
    colour = colour_of(series.look)
    if series.joined and len(series.points) > 1:
        places = [(point.drawn_x, point.y) for point in series.points]
        join: dict[str, Any] = {"color": colour, "linewidth": 0.7, "alpha": 0.6, "zorder": 2, "gid": f"join-{number}"}
        axes.plot([x for x, _ in places], [y for _, y in places], **join)
    for at, point in enumerate(series.points):
        name = f"{number}-{at}"
        if point.undefined is not None:
            axes.text(
                point.x, point.y, " undefined", fontsize=5.5, style="italic", va="center", gid=f"undefined-{name}"
            )
            continue
        bar: dict[str, Any] = {"color": colour, "linewidth": 0.8, "alpha": 0.6 if faint else 0.9, "zorder": 3}
        if point.x_limits is not None and intervals:
            axes.plot(point.x_limits, (point.y, point.y), gid=f"x-interval-{name}", **bar)
        if point.y_limits is not None and intervals:
            axes.plot((point.drawn_x, point.drawn_x), point.y_limits, gid=f"y-interval-{name}", **bar)
        how = marker(series.look, point.tuned)
        axes.plot([point.drawn_x], [point.y], zorder=4, gid=f"point-{name}", clip_on=False, **how)
