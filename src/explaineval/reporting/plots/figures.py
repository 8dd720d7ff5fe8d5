"""All figures that results allow, and why the others are left out. Pure: no drawing, no file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from explaineval.reporting.plots.conditions import Looks, by_setting, gather, slug
from explaineval.reporting.plots.figure import Figure, MissingFigure
from explaineval.reporting.plots.forest import forests, policies, tuned_against_pretrained
from explaineval.reporting.plots.pairs import accuracies, agreements, costs
from explaineval.reporting.plots.plane import planes
from explaineval.reporting.plots.size import sizes
from explaineval.reporting.plots.words import one_line
from explaineval.reporting.results import Results


def figures_of(results: Results) -> tuple[Figure | MissingFigure, ...]:
    """Return the figures of these results in the order of a page, each with an id of its own."""
    entries = gather(results)
    settings, looks = by_setting(entries), Looks(entries)
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
