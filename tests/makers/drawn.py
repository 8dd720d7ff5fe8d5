"""Read back from an SVG where its points and lines stand, in the numbers of its axes."""

from __future__ import annotations

import re
from typing import NamedTuple
from xml.etree import ElementTree

from explaineval.reporting.plots.figure import Axis, Figure

SVG = "{http://www.w3.org/2000/svg}"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


class Area(NamedTuple):
    """The corners of the axes in the SVG; y grows downward."""

    left: float
    right: float
    top: float
    bottom: float


def root_of(svg: str) -> ElementTree.Element:
    """The SVG as XML; an error where it is none."""
    return ElementTree.fromstring(svg)  # noqa: S314 - the package has just drawn it


def elements(svg: str) -> dict[str, ElementTree.Element]:
    """All elements with an id, by id."""
    return {name: element for element in root_of(svg).iter() if (name := element.get("id"))}


def area_of(found: dict[str, ElementTree.Element], figure: Figure) -> Area:
    """Where the axes are."""
    path = found[f"{figure.id}-area"].find(f"{SVG}path")
    assert path is not None
    places = [float(number) for number in NUMBER.findall(path.attrib["d"])]
    return Area(min(places[::2]), max(places[::2]), min(places[1::2]), max(places[1::2]))


def points_of(svg: str, figure: Figure) -> dict[tuple[int, int], tuple[float, float]]:
    """The place of each point, by the number of its series and its own."""
    found = elements(svg)
    area = area_of(found, figure)
    places = {}
    for name, element in found.items():
        match = re.fullmatch(rf"{figure.id}-point-(\d+)-(\d+)", name)
        if match:
            use = next(element.iter(f"{SVG}use"))
            x, y = float(use.attrib["x"]), float(use.attrib["y"])
            places[int(match[1]), int(match[2])] = _place(area, figure, x, y)
    return places


def path_of(svg: str, figure: Figure, name: str) -> list[tuple[float, float]]:
    """The corners of a line, such as `line-0` or `y-interval-0-1`."""
    found = elements(svg)
    path = next(found[f"{figure.id}-{name}"].iter(f"{SVG}path"))
    numbers = [float(number) for number in NUMBER.findall(path.attrib["d"])]
    area = area_of(found, figure)
    return [_place(area, figure, x, y) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]


def _place(area: Area, figure: Figure, x: float, y: float) -> tuple[float, float]:
    across = (x - area.left) / (area.right - area.left)
    up = (area.bottom - y) / (area.bottom - area.top)
    return _value(figure.x, across), _value(figure.y, up)


def _value(axis: Axis, share: float) -> float:
    if axis.log:
        return float(axis.low * (axis.high / axis.low) ** share)
    return axis.low + share * (axis.high - axis.low)
