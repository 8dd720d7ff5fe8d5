"""Make the SVG of matplotlib fit for a page: in the page's colours, with numbers that can be read back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from explaineval.reporting.plots.figure import Figure, Point
from explaineval.reporting.plots.looks import INK
from explaineval.reporting.plots.words import limits_text, shown
from explaineval.text import number_text, significant_text, visible

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
HREF = f"{{{XLINK}}}href"
FONTS = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, 'DejaVu Sans', sans-serif"

OURS = re.compile(r"(area|point|x-interval|y-interval|undefined|join|line)(-\d+)*")
"""The ids that `drawing` gives; all others are matplotlib's own."""

ADAPTS = "svg{color-scheme:light dark;color:#1b1b1b}@media(prefers-color-scheme:dark){svg{color:#e6e6e6}}"
"""The style of a file of its own: dark text on light ground, or the other way round."""

LONGEST_NAME = 120


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
    title.text = shown(f"{figure.title}, {figure.setting}" if figure.setting else figure.title, LONGEST_NAME)
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
