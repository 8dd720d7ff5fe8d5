"""Metrics against model size, family by family, with the trend that `compare` computes. Nothing is fitted here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from explaineval.metrics.frontiers import Trend
from explaineval.reporting.comparison_text import title_of, trend_of
from explaineval.reporting.plots.conditions import Looks, Numbers, Setting, describe, headlines, labels_of
from explaineval.reporting.plots.figure import Axis, Figure, Line, MissingFigure, Point, Series
from explaineval.reporting.plots.words import (
    LISTED,
    MOST_WITH_INTERVALS,
    NOT_DRAWN,
    axis_of,
    limits_text,
    log_axis,
)
from explaineval.scoring.comparisons import Compared, GroupResult
from explaineval.scoring.metric import CORRELATION
from explaineval.scoring.registry import CCT, F_AUROC, METRICS, PHI_AT_P, PHI_CCT
from explaineval.text import counted, joined, number_text, parameters_text

SUBJECT = "size"
METRICS_BY_SIZE = (PHI_CCT, F_AUROC, CCT, PHI_AT_P)
"""The metrics that are drawn against size, in this order."""

FEWEST_SIZES = 2

WIDEST_STEP, WIDEST = 0.016, 0.12
"""Shares of the axis by which models of the same size stand apart: two neighbours, and all of them together."""


def sizes(
    settings: Mapping[Setting, list[Numbers]], comparisons: Sequence[GroupResult], looks: Looks
) -> Iterator[Figure | MissingFigure]:
    """Yield a figure of each metric against size for each setting in which two or more sizes have a value."""
    drawn, most = False, 0
    for metric in METRICS_BY_SIZE:
        for setting, entries in headlines(settings).items():
            groups = list(_families_of(comparisons, metric, setting))
            points = _points(metric, entries, groups)
            known = {point.x for point in points}
            most = max(most, len(known))
            if len(known) >= FEWEST_SIZES:
                drawn = True
                yield _figure(metric, points, groups, looks, describe(setting, settings))
    if not drawn:
        yield MissingFigure(
            SUBJECT,
            SUBJECT,
            "Metrics against model size",
            f"it needs models of {FEWEST_SIZES} known sizes with a value, here there {_are(most)}; `family` and "
            "`parameters` of each model stand in the configuration file",
        )


def _are(count: int) -> str:
    return f"is {count}" if count == 1 else f"are {count}"


def _families_of(comparisons: Sequence[GroupResult], metric: str, setting: Setting) -> Iterator[Compared]:
    """Yield the families of differences in this metric between the models of a setting."""
    for result in comparisons:
        group = result.group
        if (
            group.by != "model"
            or group.fixed["order"] != setting.order
            or group.fixed["verbosity"] != setting.verbosity
        ):
            continue
        for compared in result.families:
            if (compared.metric, compared.kind) == (metric, setting.kind) and set(compared.tasks) == set(setting.tasks):
                yield compared


def _points(metric: str, entries: Sequence[Numbers], groups: Sequence[Compared]) -> list[Point]:
    """Return a point for each model of known size; a metric that only `compare` has comes without limits."""
    sized = [entry for entry in entries if entry.model is not None and entry.model.parameters is not None]
    points = []
    for entry, label in zip(sized, labels_of(sized), strict=True):
        value = entry.value(metric) if metric in METRICS else _compared_value(entry, groups)
        model = entry.model
        if value is not None and model is not None and model.parameters is not None:
            points.append(replace(entry.point(label, model.parameters, value), y_limits=entry.limits(metric)))
    return sorted(points, key=lambda point: (point.x, point.label))


def _compared_value(entry: Numbers, groups: Sequence[Compared]) -> float | None:
    wanted = entry.condition
    for compared in groups:
        for system, value in zip(compared.group.systems, compared.values, strict=True):
            if system[1:6] == (wanted.endpoint, wanted.model, wanted.order, wanted.style, wanted.shots):
                return value
    return None


def _figure(metric: str, points: Sequence[Point], groups: Sequence[Compared], looks: Looks, where: str) -> Figure:
    title = title_of(metric)
    x = log_axis("parameters", [point.x for point in points], parameters_text)
    series = [replace(one, joined=one.points[0].family is not None) for one in _side_by_side(looks.series(points), x)]
    lines = [line for compared in groups for line in _trend_lines(compared, points, several=len(groups) > 1)]
    values = [y for point in points for y in (point.y, *(point.y_limits or ()))]
    values += [y for line in lines for _, y in line.points]
    scale = METRICS[metric].scale if metric in METRICS else CORRELATION
    intervals = len(points) <= MOST_WITH_INTERVALS
    return Figure(
        id=f"{SUBJECT}-{metric}",
        subject=SUBJECT,
        title=f"{title} against model size",
        setting=where,
        caption=_caption(title, groups, bounded=intervals and any(point.y_limits for point in points)),
        alt=_alt(title, points, groups),
        x=x,
        y=axis_of(title, values, scale, () if scale.nothing is None else (scale.nothing,)),
        series=tuple(series),
        lines=tuple(lines),
        notes=(*(() if intervals else (NOT_DRAWN,)), *_notes(metric, groups)),
        intervals=intervals,
    )


def _side_by_side(series: Sequence[Series], axis: Axis) -> list[Series]:
    """Move marks of models of the same size apart, in the order of the series, and never far from their size."""
    width = math.log10(axis.high / axis.low)
    by_size = Counter(point.x for one in series for point in one.points)
    step = min(WIDEST_STEP, WIDEST / max(by_size.values())) * width
    seen: Counter[float] = Counter()
    moved = []
    for one in series:
        points = []
        for point in one.points:
            points.append(replace(point, shift=round(step * (seen[point.x] - (by_size[point.x] - 1) / 2), 6)))
            seen[point.x] += 1
        moved.append(replace(one, points=tuple(points)))
    return moved


def _trend_lines(compared: Compared, points: Sequence[Point], *, several: bool) -> Iterator[Line]:
    """Yield the line of the trend: with the mean slope of the families, through the mean of their centres.

    The least-squares line of a family goes through the means of its sizes and values, so this is the mean of the
    families' lines.
    """
    trend = compared.trend
    if trend is None or trend.value is None:
        return
    families = _places(compared, trend, points)
    x = fmean(fmean(size for size, _ in family) for family in families)
    y = fmean(fmean(value for _, value in family) for family in families)
    everything = [size for family in families for size, _ in family]
    name = f"trend: {number_text(trend.value, sign=True)} {limits_text(_limits(trend))} for ten times the size"
    if several:
        name += f" ({compared.group.fixed['style']}, {counted(int(compared.group.fixed['shots'] or 0), 'shot')})"
    ends = tuple((10**size, y + trend.value * (size - x)) for size in (min(everything), max(everything)))
    yield Line("trend", name, ends)


def _limits(trend: Trend) -> tuple[float, float] | None:
    return None if trend.low is None or trend.high is None else (trend.low, trend.high)


def _places(compared: Compared, trend: Trend, points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """Return log10 of the size and the value of each model that the trend rests on, by family."""
    sizes = {(point.condition.endpoint, point.condition.model): (point.family, point.x) for point in points}
    by_family: dict[str, list[tuple[float, float]]] = {name: [] for name in trend.slopes or {}}
    for system, value, reason in zip(compared.group.systems, compared.values, compared.undefined, strict=True):
        family, size = sizes.get((system.endpoint, system.model), (None, 0.0))
        if family in by_family and value is not None and reason is None:
            by_family[family].append((math.log10(size), value))
    return list(by_family.values())


def _caption(title: str, groups: Sequence[Compared], *, bounded: bool) -> str:
    bars = ", with 95 % intervals" if bounded else ""
    text = f"{title} of each model over its number of parameters{bars}; each family has its own colour and shape."
    trends = [compared for compared in groups if compared.trend is not None and compared.trend.value is not None]
    return " ".join([text, *(str(trend_of(compared)) for compared in trends)])


def _alt(title: str, points: Sequence[Point], groups: Sequence[Compared]) -> str:
    texts = [
        f"{point.label} ({parameters_text(point.x)}): {number_text(point.y)} {limits_text(point.y_limits)}"
        for point in points
    ]
    if len(texts) > LISTED:
        low, high = min(points, key=lambda point: point.y), max(points, key=lambda point: point.y)
        texts = [
            f"{counted(len(points), 'model')} of {parameters_text(points[0].x)} to "
            f"{parameters_text(points[-1].x)} parameters",
            *(
                f"{which} {point.label} with {number_text(point.y)}"
                for which, point in (("lowest", low), ("highest", high))
            ),
        ]
    slopes = [
        "Slopes by family: "
        f"{joined([f'{name} {number_text(slope, sign=True)}' for name, slope in compared.trend.slopes.items()])}."
        for compared in groups
        if compared.trend is not None and compared.trend.slopes
    ]
    return " ".join([f"{title} against the number of parameters. {'; '.join(texts)}.", *slopes])


def _notes(metric: str, groups: Sequence[Compared]) -> Iterator[str]:
    trends = [compared for compared in groups if compared.trend is not None]
    if any(sum(compared.lost) for compared in trends if metric != PHI_AT_P):
        yield (
            "The trend rests on the trials that all models share, the points on all trials of each model, so the line "
            "may lie a little beside them."
        )
    reasons = dict.fromkeys(
        compared.trend.undefined for compared in trends if compared.trend and compared.trend.undefined
    )
    for reason in reasons:
        yield f"No trend: {reason}."
    if metric == PHI_AT_P:
        yield "It is computed on the trials that all models share, and has no interval of its own."
