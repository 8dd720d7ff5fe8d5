"""All figures that results allow, and why the others are left out. Pure: no drawing, no file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from explaineval.errors import InputError
from explaineval.files import open_atomic, write_text_atomic
from explaineval.reporting.plots.drawing import draw_pdf, draw_svg, require_matplotlib
from explaineval.reporting.plots.figure import (
    Figure,
    FigureStyles,
    MissingFigure,
    Point,
    by_setting,
    one_line,
    slug,
)
from explaineval.reporting.plots.forest import forests, policies, tuned_against_pretrained
from explaineval.reporting.plots.scatter import accuracies, agreements, costs, planes, sizes
from explaineval.reporting.results import ComparedRuns
from explaineval.secrets import SECRETS
from explaineval.text import escaped


def figures_of(results: ComparedRuns) -> tuple[Figure | MissingFigure, ...]:
    """Return the figures of these results in the order of a page, each with an id of its own."""
    entries = results.conditions
    settings, looks = by_setting(entries), FigureStyles(entries)
    return tuple(
        _with_ids(
            [
                *forests(settings),
                *planes(settings, looks),
                *tuned_against_pretrained(results.comparisons),
                *sizes(settings, results.comparisons, looks),
                *agreements(settings, results.comparisons, looks),
                *accuracies(settings, looks),
                *costs(settings, looks),
                *policies(results),
            ]
        )
    )


def _with_ids(figures: Iterable[Figure | MissingFigure]) -> list[Figure | MissingFigure]:
    """Make ids unique: the first figure of a name keeps it, the others add what is different in their setting."""
    taken: set[str] = set()
    first: dict[str, list[str]] = {}
    named = []
    for figure in figures:
        name = figure.id
        if isinstance(figure, Figure):
            parts = figure.setting.split(", ")
            common = first.setdefault(name, parts)
            name = "-".join(filter(None, [name, *(slug(part) for part in parts if part not in common)]))
        number, free = 2, name
        while free in taken:
            free, number = f"{name}-{number}", number + 1
        taken.add(free)
        named.append(_harmless(replace(figure, id=free)))
    return named


def _harmless(figure: Figure | MissingFigure) -> Figure | MissingFigure:
    """Return a figure whose texts hold no control characters: names in them come from files."""
    if isinstance(figure, MissingFigure):
        return replace(figure, undefined=one_line(figure.undefined))
    return replace(
        figure,
        setting=one_line(figure.setting),
        caption=one_line(figure.caption),
        alt=one_line(figure.alt),
        notes=tuple(map(one_line, figure.notes)),
    )


NUMBERS = "figures.json"
"""The plotted numbers, and what is said of each figure."""


def write_plots(results: ComparedRuns, directory: Path) -> list[Path]:
    """Write the figures of these results into a directory, which is made; return the files that were written.

    These are `ID.svg` and `ID.pdf` of each figure, and `figures.json` with the plotted numbers, captions, and the
    reasons why figures are left out. Files with these names are replaced. Raises InputError where matplotlib is not
    installed, or the directory cannot be written.
    """
    require_matplotlib()
    figures = figures_of(results)
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            if isinstance(figure, Figure):
                path = directory / f"{figure.id}.svg"
                write_text_atomic(path, SECRETS.mask(draw_svg(figure, standalone=True)))
                written.append(path)
                path = directory / f"{figure.id}.pdf"
                with open_atomic(path) as handle:
                    handle.write(draw_pdf(figure))
                written.append(path)
        path = directory / NUMBERS
        write_text_atomic(
            path, SECRETS.mask(escaped(json.dumps(document_of(figures), indent=1, ensure_ascii=False))) + "\n"
        )
        written.append(path)
    except OSError as exc:
        raise InputError(
            f"{exc.filename or directory} cannot be written ({exc.strerror or exc}): name another directory for "
            "the figures."
        ) from exc
    return written


def document_of(figures: Sequence[Figure | MissingFigure]) -> dict[str, Any]:
    """Return what `figures.json` holds: each figure with its texts, axes, points and lines, and those left out."""
    return {
        "figures": [_figure_document(figure) for figure in figures if isinstance(figure, Figure)],
        "missing": [asdict(figure) for figure in figures if isinstance(figure, MissingFigure)],
    }


def _figure_document(figure: Figure) -> dict[str, Any]:
    texts = ("id", "subject", "title", "setting", "caption", "alt", "notes")
    return {
        **{name: getattr(figure, name) for name in texts},
        **{name: asdict(axis) for name, axis in (("x", figure.x), ("y", figure.y))},
        "points": [
            {"series": series.name, **_point_document(point)} for series in figure.series for point in series.points
        ],
        "lines": [{"kind": line.kind, "name": line.name, "points": line.points} for line in figure.lines],
    }


def _point_document(point: Point) -> dict[str, Any]:
    """Return a point with its condition as in metrics.json; its coordinates are null where its number is undefined."""
    x_low, x_high = point.x_limits or (None, None)
    y_low, y_high = point.y_limits or (None, None)
    return {
        "label": point.label,
        "run": point.run,
        **point.condition._asdict(),
        "simulated": point.simulated,
        "family": point.family,
        "tuned": point.tuned,
        "x": point.x if point.undefined is None else None,
        "x_low": x_low,
        "x_high": x_high,
        "y": point.y if point.undefined is None else None,
        "y_low": y_low,
        "y_high": y_high,
        "undefined": point.undefined,
    }
