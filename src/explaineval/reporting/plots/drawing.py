"""Draw figures with matplotlib (extra `report`), as SVG for a page and as PDF for a paper.

Every point and line has an id in the SVG (`FIGURE-point-SERIES-NUMBER`, `FIGURE-line-NUMBER`), so that what is drawn
can be read back and compared with the numbers. Sizes are in points, 72 to the inch.
"""

from __future__ import annotations

import io
import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

from explaineval.config.installation import install_extra
from explaineval.errors import InputError
from explaineval.reporting.plots.figure import (
    MOST_POINTS_NAMED,
    Axis,
    Curve,
    CurveKind,
    Figure,
    Point,
    Series,
    limits_text,
    shown,
    simulated_mark,
)
from explaineval.text import number_text, significant_text, visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from matplotlib.transforms import Bbox

INK = "#1b1b1b"
"""The colour of text and axes; in an SVG it becomes the colour of the text around the figure."""

COLOURS = ("#1f85c9", "#d55e00", "#009e73", "#c75b94", "#9c8200", "#5a6fd0", "#8c6d5a", "#767676")

SHAPES = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h")


def colour_of(look: int) -> str:
    """Return the colour of a look."""
    return COLOURS[look % len(COLOURS)]


def shape_of(look: int) -> str:
    """Return the shape of a look; with the colour it repeats after 88 looks only."""
    return SHAPES[look % len(SHAPES)]


SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
HREF = f"{{{XLINK}}}href"
FONTS = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, 'DejaVu Sans', sans-serif"

OURS = re.compile(r"(area|point|x-interval|y-interval|undefined|join|line)(-\d+)*")
"""The ids that `drawing` gives; all others are matplotlib's own."""

ADAPTS = "svg{color-scheme:light dark;color:#1b1b1b}@media(prefers-color-scheme:dark){svg{color:#e6e6e6}}"
"""The style of a file of its own: dark text on light ground, or the other way round."""

LONGEST_TITLE = 120


def finish_svg(drawing: str, figure: Figure, *, standalone: bool) -> str:
    """Return matplotlib's drawing as one SVG element.

    Ids begin with the figure's id, text and axes have the colour of the text around the figure (`currentColor`), title
    and description are the figure's, and each point has its numbers as a title and in `data-` attributes.
    """
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(drawing)  # noqa: S314 - see above
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{SVG}}}metadata" or child.find(f"{{{SVG}}}style") is not None:
                parent.remove(child)
    _rename(root, figure.id)
    for element in root.iter():
        style = element.get("style")
        if style is not None:
            element.set("style", _page_style(style))
    _add_numbers(root, figure)
    _add_head(root, figure, standalone=standalone)
    return visible(ElementTree.tostring(root, encoding="unicode")) + "\n"


def _rename(root: ElementTree.Element, figure: str) -> None:
    """Begin the ids that are used with the figure's id, and leave out the others."""
    used = {value for element in root.iter() for value in _references(element)}
    for element in root.iter():
        name = element.get("id")
        if name is not None:
            if name in used or OURS.fullmatch(name):
                element.set("id", f"{figure}-{name}")
            else:
                del element.attrib["id"]
        if HREF in element.attrib:
            element.set(HREF, f"#{figure}-{element.attrib[HREF].removeprefix('#')}")
        if "clip-path" in element.attrib:
            element.set("clip-path", element.attrib["clip-path"].replace("url(#", f"url(#{figure}-"))


def _references(element: ElementTree.Element) -> Iterator[str]:
    if HREF in element.attrib:
        yield element.attrib[HREF].removeprefix("#")
    if "clip-path" in element.attrib:
        yield element.attrib["clip-path"].removeprefix("url(#").removesuffix(")")


def _page_style(style: str) -> str:
    """Return a style with the page's colour in place of ink, and without a font of its own."""
    style = style.replace(INK, "currentColor")
    return re.sub(r"'DejaVu Sans'(, sans-serif)?", "inherit", style)


def _add_numbers(root: ElementTree.Element, figure: Figure) -> None:
    """Give each point a title with its name and numbers, and its numbers in `data-` attributes."""
    elements = {element.get("id"): element for element in root.iter() if element.get("id")}
    for number, series in enumerate(figure.series):
        for at, point in enumerate(series.points):
            kind = "point" if point.undefined is None else "undefined"
            element = elements[f"{figure.id}-{kind}-{number}-{at}"]
            title = ElementTree.Element(f"{{{SVG}}}title")
            title.text = _describe(point, figure)
            element.insert(0, title)
            if point.undefined is None:
                element.set("data-x", repr(point.x))
                element.set("data-y", repr(point.y))
                if point.shift:
                    element.set("data-shift", repr(point.shift))


def _describe(point: Point, figure: Figure) -> str:
    name = point.label
    if point.undefined is not None:
        return f"{name}: undefined, {point.undefined}"
    parts = [
        f"{axis.title} {_number(value)}{f' {limits_text(limits)}' if limits else ''}"
        for axis, value, limits in ((figure.x, point.x, point.x_limits), (figure.y, point.y, point.y_limits))
        if axis.title
    ]
    return f"{name}: {', '.join(parts)}"


def _number(value: float) -> str:
    return number_text(value, 3) if abs(value) < 1000 and abs(value) >= 0.01 else significant_text(value)


def _add_head(root: ElementTree.Element, figure: Figure, *, standalone: bool) -> None:
    title, text = (ElementTree.Element(f"{{{SVG}}}{name}") for name in ("title", "desc"))
    title.set("id", f"{figure.id}-title")
    text.set("id", f"{figure.id}-text")
    title.text = shown(f"{figure.title}, {figure.setting}" if figure.setting else figure.title, LONGEST_TITLE)
    text.text = figure.alt
    root.insert(0, title)
    root.insert(1, text)
    for name in ("width", "height"):
        if not standalone:
            del root.attrib[name]
    root.attrib.update(
        {
            "class": "figure",
            "role": "img",
            "aria-labelledby": f"{figure.id}-title {figure.id}-text",
            "font-family": FONTS,
        }
    )
    if standalone:
        style = ElementTree.Element(f"{{{SVG}}}style")
        style.text = ADAPTS
        root.insert(2, style)


NAME_IN_LEGEND, SIZE_IN_LEGEND = 40, 6.5
"""Characters of a name, and the size of its letters."""

KEY, GAP, LINE_OF_LEGEND = 12.0, 9.0, 9.0
"""Points that a key, the gap behind a name and a line of the legend take."""

LINE_STYLES: dict[CurveKind, dict[str, Any]] = {
    "trend": {"linewidth": 1.3, "linestyle": (0, (4, 1.5)), "color": INK},
    "frontier_base": {"linewidth": 1.0, "linestyle": (0, (1, 1)), "color": INK},
    "frontier_instruct": {"linewidth": 1.0, "linestyle": (0, (5, 1, 1, 1)), "color": INK},
    "iso_phi": {"linewidth": 0.5, "color": INK, "alpha": 0.4},
    "reference": {"linewidth": 0.6, "color": INK, "alpha": 0.6},
    "chance": {"linewidth": 4, "color": INK, "alpha": 0.13, "solid_capstyle": "butt"},
}
"""How kinds of lines are drawn."""

IN_LEGEND: tuple[CurveKind, ...] = ("trend", "iso_phi", "frontier_base", "frontier_instruct", "chance")

TUNINGS = {"base": "pretrained", "instruct": "instruction-tuned"}


class LegendKey(NamedTuple):
    """A key and its name, and where the entry begins in its row, in points."""

    key: dict[str, Any]
    name: str
    start: float


def marker(look: int, tuned: str | None = None) -> dict[str, Any]:
    """Return how a point is drawn: filled, or hollow for a pretrained model."""
    colour = colour_of(look)
    face = "none" if tuned == "base" else colour
    return {"linestyle": "none", "marker": shape_of(look), "markerfacecolor": face, "markeredgecolor": colour}


def legend_rows(figure: Figure, renderer: Any, width: float) -> list[list[LegendKey]]:
    """Return the entries of the legend in rows that are at most so wide, in points."""
    rows: list[list[LegendKey]] = []
    for part in (_groups(figure), _tunings(figure), _lines(figure)):
        start = width
        for name, key in part:
            needed = KEY + _width(name, renderer) + GAP
            if start + needed - GAP > width:
                rows.append([])
                start = 0.0
            rows[-1].append(LegendKey(key, name, start))
            start += needed
    return rows


def _groups(figure: Figure) -> list[tuple[str, dict[str, Any]]]:
    if is_named(figure) and not any(point.family for point in figure.points):
        return []  # the groups are the models, whose names stand beside their points
    groups = {series.group: series.look for series in figure.series if series.group is not None}
    return [(shown(name, NAME_IN_LEGEND), marker(look)) for name, look in groups.items()] if len(groups) > 1 else []


def _tunings(figure: Figure) -> list[tuple[str, dict[str, Any]]]:
    tunings = {point.tuned for point in figure.points}
    if not TUNINGS.keys() <= tunings:
        return []
    grey = {"linestyle": "none", "marker": "o", "markeredgecolor": INK}
    return [(name, grey | {"markerfacecolor": "none" if tuned == "base" else INK}) for tuned, name in TUNINGS.items()]


def _lines(figure: Figure) -> list[tuple[str, dict[str, Any]]]:
    named = {line.name: LINE_STYLES[line.kind] for line in figure.lines if line.kind in IN_LEGEND and line.name}
    return list(named.items())


def _width(name: str, renderer: Any) -> float:
    from matplotlib.font_manager import FontProperties

    return float(renderer.get_text_width_height_descent(name, FontProperties(size=SIZE_IN_LEGEND), ismath=False)[0])


def add_legend(canvas: Canvas, rows: list[list[LegendKey]], *, left: float, bottom: float) -> None:
    """Draw the rows, the last one at `bottom`; all places in points from the lower left corner."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import Affine2D

    points = Affine2D().scale(1 / 72) + canvas.dpi_scale_trans
    for number, row in enumerate(reversed(rows)):
        y = bottom + LINE_OF_LEGEND * (number + 0.5)
        for entry in row:
            x = left + entry.start
            at = ([x + KEY / 2 - 1], [y]) if entry.key.get("linestyle") == "none" else ([x, x + KEY - 3], [y, y])
            canvas.add_artist(Line2D(*at, transform=points, **entry.key))
            canvas.text(x + KEY, y, entry.name, fontsize=SIZE_IN_LEGEND, va="center_baseline", transform=points)


NAME_BESIDE, SIZE_BESIDE = 26, 6.0
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
                shown(point.beside or point.label, NAME_BESIDE),
                (point.drawn_x, point.y),
                xytext=(right * distance, up * distance),
                textcoords="offset points",
                ha={1: "left", -1: "right", 0: "center"}[right],
                va={1: "bottom", -1: "top", 0: "center"}[up],
                fontsize=SIZE_BESIDE,
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
            fontsize=SIZE_BESIDE,
            ha="center",
            va="bottom",
            annotation_clip=False,
        )


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


def _draw_line(axes: Axes, line: Curve, gid: str) -> None:
    how = dict(LINE_STYLES[line.kind])
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
