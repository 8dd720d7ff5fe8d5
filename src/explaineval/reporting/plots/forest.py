"""Forest plots: a headline metric of every model with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from explaineval.reporting.comparison_text import join
from explaineval.reporting.plots.conditions import Numbers, Setting, describe, labels_of
from explaineval.reporting.plots.figure import Axis, Figure, Line, MissingFigure, Point, Series
from explaineval.reporting.plots.words import LISTED, limits_text, number_text, span
from explaineval.scoring.registry import METRICS

SUBJECT = "forest"
HEADLINES = ("phi_cct", "f_auroc", "f_auroc_own", "cct", "cct_sampled")
"""The metrics that have a forest plot, in this order."""


CHANCE = {"phi_cct": "phi_cct_example_only"}
"""The metric whose range is what chance gives without knowing the insertion."""

ROW = 0.6
"""The part of a row's height over which its levels of verbosity are spread."""


def forests(settings: Mapping[Setting, list[Numbers]]) -> Iterator[Figure | MissingFigure]:
    """Yield the forest plot of each headline metric for each tasks, kind and order that have it."""
    for metric in HEADLINES:
        for setting, entries in _without_levels(settings).items():
            having = [entry for entry in entries if metric in entry.rows and _is_level_metric(entry, metric)]
            if any(entry.value(metric) is not None for entry in having):
                yield _forest(metric, having, describe(setting, settings))
            elif having and metric == HEADLINES[0]:
                reasons = dict.fromkeys(str(entry.rows[metric].undefined) for entry in having)
                title = f"{METRICS[metric].title} of each model"
                yield MissingFigure(
                    f"{SUBJECT}-{metric}", SUBJECT, title, f"it is undefined for every model: {join([*reasons])}"
                )


def _is_level_metric(entry: Numbers, metric: str) -> bool:
    """Whether the metric belongs to this condition, not to one over all levels that lends its rows."""
    return entry.rows[metric].verbosity == entry.condition.verbosity


def _without_levels(settings: Mapping[Setting, list[Numbers]]) -> dict[Setting, list[Numbers]]:
    found: dict[Setting, list[Numbers]] = {}
    for setting, entries in settings.items():
        found.setdefault(replace(setting, verbosity=None), []).extend(entries)
    return found


def _forest(metric: str, entries: Sequence[Numbers], where: str) -> Figure:
    title, nothing = METRICS[metric].title, METRICS[metric].scale.nothing or 0.0
    rows: dict[tuple[object, ...], list[Numbers]] = {}
    for entry in entries:
        rows.setdefault((entry.run.name, entry.condition._replace(verbosity=None)), []).append(entry)
    labels = dict(zip(rows, labels_of([members[0] for members in rows.values()]), strict=True))
    ordered = sorted(rows, key=lambda row: _height(rows[row], metric))
    places = {row: float(number) for number, row in enumerate(ordered)}
    levels = list(dict.fromkeys(entry.condition.verbosity for entry in entries))
    series, chance = [], []
    for number, level in enumerate(levels):
        offset = ROW * (0.5 - (number + 0.5) / len(levels))
        points = []
        for row in reversed(ordered):
            for entry in rows[row]:
                if entry.condition.verbosity == level:
                    point = _point(entry, metric, labels[row], places[row] + offset, nothing)
                    points.append(point)
                    limits = entry.limits(CHANCE.get(metric, ""))
                    if limits is not None and point.undefined is None:
                        chance.append(Line("chance", "", ((limits[0], point.y), (limits[1], point.y))))
        group = None if len(levels) == 1 else str(level)
        series.append(Series(str(level or title), tuple(points), group, number))
    defined = [point for one in series for point in one.points if point.undefined is None]
    values = [place for point in defined for place in (point.x, *(point.x_limits or ()))]
    values += [x for line in chance for x, _ in line.points]
    reference = Line("reference", "no relation", ((nothing, -0.6), (nothing, len(rows) - 0.4)))
    return Figure(
        id=f"{SUBJECT}-{metric}",
        subject=SUBJECT,
        title=f"{title} of each model",
        setting=where,
        caption=_caption(title, nothing, defined, bool(chance)),
        alt=_alt(title, [point for one in series for point in one.points], levels),
        x=Axis(title, *span(values, [nothing])),
        y=Axis("", -0.6, len(rows) - 0.4, ticks=tuple((places[row], labels[row]) for row in reversed(ordered))),
        series=tuple(series),
        lines=(*chance, reference),
        notes=tuple(_notes(entries, metric, len(rows))),
    )


def _height(entries: Sequence[Numbers], metric: str) -> tuple[bool, float]:
    """Return the sort key of a row: those without a value are lowest."""
    values = [value for entry in entries if (value := entry.value(metric)) is not None]
    return bool(values), sum(values) / len(values) if values else 0.0


def _point(entry: Numbers, metric: str, label: str, y: float, nothing: float) -> Point:
    value = entry.value(metric)
    if value is None:
        return replace(entry.point(label, nothing, y), undefined=entry.rows[metric].undefined)
    return replace(entry.point(label, value, y), x_limits=entry.limits(metric))


def _caption(title: str, nothing: float, points: Sequence[Point], chance: bool) -> str:
    bounded = [point for point in points if point.x_limits is not None]
    above = sum(point.x_limits is not None and point.x_limits[0] > nothing for point in bounded)
    text = (
        f"{title} of each model with its 95 % interval; the vertical line at {nothing:g} stands for explanations that "
    )
    text += "have nothing to do with what changed the answer"
    if chance:
        text += ", the grey bars for those that know the example but not the insertion"
    text += f". {above} of {len(bounded)} intervals lie above the line."
    return text


def _alt(title: str, points: Sequence[Point], levels: Sequence[str | None]) -> str:
    ordered = sorted(points, key=lambda point: (point.undefined is not None, -point.x))
    texts = []
    for point in ordered:
        name = point.label if len(levels) == 1 else f"{point.label} ({point.condition.verbosity})"
        if point.undefined is not None:
            texts.append(f"{name}: undefined, {point.undefined}")
        else:
            texts.append(f"{name}: {number_text(point.x)} {limits_text(point.x_limits)}")
    if len(texts) > LISTED:
        half = LISTED // 2
        texts = [*texts[:half], f"… {len(texts) - 2 * half} more …", *texts[-half:]]
    return f"Forest plot of {title}, from the highest to the lowest. {'; '.join(texts)}."


def _notes(entries: Sequence[Numbers], metric: str, rows: int) -> Iterator[str]:
    if rows > 1:
        yield "Two intervals that overlap do not show that models are equal: `explaineval compare` tests differences."
    without = [entry for entry in entries if entry.value(metric) is not None and entry.limits(metric) is None]
    if without:
        yield f"No interval: {join(sorted(dict.fromkeys(labels_of(without, levels=True))))}."
