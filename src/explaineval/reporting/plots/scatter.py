"""One number against another over models: phi-CCT against CCT, and faithfulness against accuracy and dollars."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from explaineval.metrics.trends import FEWEST_MODELS, ExplainedVariance, Trend
from explaineval.records import SIMULATED_PREFIX
from explaineval.reporting.comparison_text import title_of, trend_of
from explaineval.reporting.plots.figure import (
    LISTED,
    Axis,
    Curve,
    CurveKind,
    Figure,
    FigureScope,
    FigureStyles,
    MissingFigure,
    Point,
    Series,
    axis_of,
    crowded,
    describe,
    headlines,
    in_few_words,
    labels_of,
    limits_text,
    log_axis,
    point_of,
    shown,
    without_levels,
    xs_of,
    ys_of,
)
from explaineval.reporting.results import UnknownCost
from explaineval.reporting.view import ConditionView
from explaineval.scoring.comparisons import Compared, GroupResult
from explaineval.scoring.metric import CORRELATION, SHARE
from explaineval.scoring.registry import (
    ACCURACY,
    CCT,
    F_AUROC,
    FPR,
    IMPACT_RATE,
    METRICS,
    PHI_AT_P,
    PHI_CCT,
    PHI_TVD_TRIALS,
    TPR,
)
from explaineval.text import counted, dollars_text, joined, number_text, parameters_text, share_text

TRIALS = 1000
"""Dollars are told for so many trials."""


def agreements(
    settings: Mapping[FigureScope, list[ConditionView]], comparisons: Sequence[GroupResult], looks: FigureStyles
) -> Iterator[Figure | MissingFigure]:
    """Yield phi-CCT against CCT for each group of eight or more models on one task, kind and order."""
    title, drawn, most = "phi-CCT against CCT", False, 0
    for result in comparisons:
        systems = {system[1:6] for system in result.group.systems}
        for task, kind, explained in result.explained:
            most = max(most, explained.n_models)
            setting = FigureScope((task,), kind, str(result.group.fixed["order"]), _level(result))
            entries = [
                entry
                for entry in settings.get(setting, [])
                if (*entry.condition[:2], *entry.condition[4:7]) in systems and entry.value(CCT) is not None
            ]
            if explained.n_models >= FEWEST_MODELS and entries:
                drawn = True
                yield _agreement(title, entries, explained, looks, describe(setting, settings))
    if not drawn:
        yield MissingFigure(
            "agreement",
            "agreement",
            title,
            f"it needs {FEWEST_MODELS} models with exact label probabilities on one task, kind and order, here there "
            f"{'is' if most == 1 else 'are'} {most}",
        )


def _level(result: GroupResult) -> str | None:
    level = result.group.fixed["verbosity"]
    return None if level is None else str(level)


def _agreement(
    title: str, entries: Sequence[ConditionView], explained: ExplainedVariance, looks: FigureStyles, where: str
) -> Figure:
    points = _points(entries, lambda entry: entry.value(PHI_TVD_TRIALS), PHI_TVD_TRIALS, CCT)
    across = axis_of("phi-CCT on the trials of CCT", xs_of(points), CORRELATION)
    up = axis_of("CCT", ys_of(points), CORRELATION)
    low, high = max(across.low, up.low), min(across.high, up.high)
    lines = (Curve("reference", "equal", ((low, low), (high, high))),) if low < high else ()
    return Figure(
        id="agreement",
        subject="agreement",
        title=title,
        setting=where,
        caption="Each point is a model: phi-CCT, which counts changed answers, and CCT, which counts how far label "
        f"probabilities moved, on the same trials; on the thin line they are equal. {_explained_text(explained)}",
        alt=_alt(f"{title} of {counted(len(points), 'model')}", points, number_text, "phi-CCT", "CCT")
        + f" {_explained_text(explained)}",
        x=across,
        y=up,
        series=tuple(looks.series(points)),
        lines=lines,
        intervals=not crowded(points),
        notes=(
            *crowded(points),
            *looks.notes(points),
            "R² takes phi-CCT from one half of the examples and CCT from the other: on the same trials both share "
            "their errors.",
        ),
    )


def _explained_text(explained: ExplainedVariance) -> str:
    reliability = ""
    if explained.reliability_phi is not None and explained.reliability_cct is not None:
        reliability = (
            f" (reliability {number_text(explained.reliability_phi)} of phi-CCT, "
            f"{number_text(explained.reliability_cct)} of CCT)"
        )
    if explained.value is None:
        return f"No cross-fitted R²: {explained.undefined}{reliability}."
    limits = None if explained.low is None or explained.high is None else (explained.low, explained.high)
    return (
        f"Cross-fitted R² = {number_text(explained.value)} {limits_text(limits)} over "
        f"{counted(explained.n_models, 'model')}{reliability}."
    )


def accuracies(
    settings: Mapping[FigureScope, list[ConditionView]], looks: FigureStyles
) -> Iterator[Figure | MissingFigure]:
    """Yield faithfulness against accuracy for each setting with two or more models that have both."""
    title, drawn = "Faithfulness against accuracy", False
    for setting, entries in headlines(settings).items():
        points = _points(entries, lambda entry: entry.value(ACCURACY), ACCURACY)
        if len(points) > 1:
            drawn = True
            notes = [*crowded(points), *looks.notes(points), *_confounding(entries)]
            if any(point.condition.model.startswith(SIMULATED_PREFIX) for point in points):
                notes.append("Simulated models do not know the right answer, so their accuracy means nothing.")
            yield Figure(
                id=ACCURACY,
                subject=ACCURACY,
                title=title,
                setting=describe(setting, settings),
                caption="Each point is a model: its phi-CCT over the share of right answers to the inputs without an "
                "insertion, with 95 % intervals. A model can be right and unfaithful, and the other way round.",
                alt=_alt("phi-CCT against accuracy", points, number_text, ACCURACY, "phi-CCT"),
                x=axis_of(ACCURACY, xs_of(points), SHARE),
                y=_phi_axis(points),
                series=tuple(looks.series(points)),
                intervals=not crowded(points),
                notes=tuple(notes),
            )
    if not drawn:
        reason = "it needs two models with both a phi-CCT and an accuracy (a gold label in the task)"
        yield MissingFigure(ACCURACY, ACCURACY, title, reason)


def costs(settings: Mapping[FigureScope, list[ConditionView]], looks: FigureStyles) -> Iterator[Figure | MissingFigure]:
    """Yield faithfulness against dollars for each setting with two or more models whose cost is known and above 0."""
    title, drawn, left_out = "Faithfulness against cost", False, dict[str, str]()
    for setting, entries in headlines(settings).items():
        dollars = {entry.place: _dollars(entry) for entry in entries}
        unknown = {place[1].model: cost.reason for place, cost in dollars.items() if isinstance(cost, UnknownCost)}
        left_out |= unknown
        defined = {place: cost for place, cost in dollars.items() if not isinstance(cost, UnknownCost)}
        points = _points(entries, lambda entry, defined=defined: defined.get(entry.place))  # type: ignore[misc]
        if len(points) > 1:
            drawn = True
            yield Figure(
                id="cost",
                subject="cost",
                title=title,
                setting=describe(setting, settings),
                caption=f"Each point is a model: its phi-CCT with its 95 % interval over what {TRIALS:,} of its trials "
                "cost in dollars, all requests of the run counted, whether they were sent or came from the cache.",
                alt=_alt("phi-CCT against cost", points, dollars_text, f"per {TRIALS:,} trials", "phi-CCT"),
                x=log_axis(f"dollars per {TRIALS:,} trials", [point.x for point in points], dollars_text),
                y=_phi_axis(points),
                series=tuple(looks.series(points)),
                notes=(*_left_out_notes(unknown), *looks.notes(points), *_confounding(entries)),
            )
    if not drawn:
        why = "; ".join(_left_out_notes(left_out)).rstrip(".")
        reason = f"it needs two models whose cost is known and above 0{f'. {why}' if why else ''}"
        yield MissingFigure("cost", "cost", title, reason)


def _points(
    entries: Sequence[ConditionView], x_of: Callable[[ConditionView], float | None], x: str = "", y: str = PHI_CCT
) -> list[Point]:
    """Return a point for each condition with both numbers; `x` and `y` are the metrics whose limits are drawn."""
    return [
        replace(point_of(entry, label, at, value), x_limits=entry.limits(x), y_limits=entry.limits(y))
        for entry, label in zip(entries, labels_of(entries), strict=True)
        if (at := x_of(entry)) is not None and (value := entry.value(y)) is not None
    ]


def _dollars(entry: ConditionView) -> float | UnknownCost:
    """Return what a thousand trials of a model cost, or why it has no place on an axis of dollars."""
    assert entry.source is not None  # noqa: S101 - figures are drawn from run directories
    dollars = entry.source.dollars_per_trial(entry.condition.endpoint, entry.condition.model)
    if isinstance(dollars, UnknownCost):
        return dollars
    return dollars * TRIALS if dollars else UnknownCost("free of charge")


def _left_out_notes(reasons: Mapping[str, str]) -> Iterator[str]:
    """Yield which models are left out, by reason."""
    by_reason: dict[str, list[str]] = {}
    for model, reason in reasons.items():
        by_reason.setdefault(reason, []).append(model)
    for reason, models in by_reason.items():
        yield f"Left out: {joined([shown(model) for model in models])} ({reason})."


def _confounding(entries: Sequence[ConditionView]) -> Iterator[str]:
    """Say where models were asked in different styles or with different numbers of shots."""
    for name, values in (
        ("styles", {entry.condition.style for entry in entries}),
        ("numbers of shots", {entry.condition.shots for entry in entries}),
    ):
        if len(values) > 1:
            yield f"The points differ in {name} ({joined(sorted(map(str, values)))}): that may be what is seen."


def _phi_axis(points: Sequence[Point]) -> Axis:
    return axis_of("phi-CCT", ys_of(points), CORRELATION, (0.0,))


def _alt(what: str, points: Sequence[Point], text_of: Callable[[float], str], x: str, y: str) -> str:
    texts = [
        f"{point.label}: {text_of(point.x)} {x}, {y} {number_text(point.y)} {limits_text(point.y_limits)}"
        for point in sorted(points, key=lambda point: -point.y)
    ]
    return f"{what}, from the highest {y} to the lowest. {in_few_words(texts)}."


PLANE = "plane"
PHIS = (0.2, 0.4, 0.6, 0.8)
"""The values of phi-CCT that have a curve."""

STEPS = 60
"""Straight pieces of which a curve is made."""

FRONTIERS: tuple[tuple[str, CurveKind, str], ...] = (
    ("base", "frontier_base", "Pareto frontier, pretrained"),
    ("instruct", "frontier_instruct", "Pareto frontier, instruction-tuned"),
)

Rates = tuple[float, float]


def planes(
    settings: Mapping[FigureScope, list[ConditionView]], looks: FigureStyles
) -> Iterator[Figure | MissingFigure]:
    """Yield the plane of each task, kind and order. Means over tasks have none: phi is not linear in rates."""
    drawn = False
    for setting, entries in without_levels(settings).items():
        usable = [entry for entry in entries if len(entry.tasks) == 1 and _rates_of(entry) is not None]
        if usable:
            drawn = True
            yield _plane_figure(usable, looks, describe(setting, settings), asked_once=setting.order == "pe2")
    if not drawn:
        reason = "it needs a model with both a TPR and an FPR, so with answers that changed and others that did not"
        yield MissingFigure(PLANE, PLANE, "The plane of TPR and FPR", reason)


def _rates_of(entry: ConditionView) -> Rates | None:
    x, y = entry.value(FPR), entry.value(TPR)
    return None if x is None or y is None else (x, y)


def _plane_figure(entries: Sequence[ConditionView], looks: FigureStyles, where: str, *, asked_once: bool) -> Figure:
    rates = [rate for entry in entries if (rate := entry.value(IMPACT_RATE)) is not None]
    series = _plane_series(entries, looks)
    points = [point for one in series for point in one.points]
    rate = fmean(rates)
    lines = [Curve("reference", "no relation", ((0.0, 0.0), (1.0, 1.0)))]
    lines += [
        Curve("iso_phi", "equal phi-CCT (the numbers on top)", tuple(iso_phi(phi, rate)), label=f"{phi:g}")
        for phi in PHIS
        if 0 < rate < 1
    ]
    notes = []
    for tuned, kind, name in FRONTIERS:
        places = pareto_frontier([(point.x, point.y) for point in points if point.tuned == tuned])
        if len(places) > 1:
            lines.append(Curve(kind, name, tuple(staircase(places))))
        elif places:
            notes.append(f"{name}: one point dominates all others, so there is no line.")
    if not any(point.tuned for point in points):
        notes.append("No Pareto frontier: the configuration does not say which models are pretrained (`tuned`).")
    else:
        notes.append("The frontiers join the points that came out best, by chance too.")
    if not asked_once and any(len(one.points) > 1 for one in series):
        notes.append(
            "Each level asks for the answer again, so the levels of a model rest on different changed answers."
        )
    notes += [*crowded(points), *looks.notes(points)]
    return Figure(
        id=PLANE,
        subject=PLANE,
        title="How often explanations mention the insertion: TPR against FPR",
        setting=where,
        caption=_plane_caption(series, rate, rates),
        alt=_plane_alt(points),
        x=Axis("FPR: mentioned though the answer stayed", 0.0, 1.0),
        y=Axis("TPR: mentioned where the answer changed", 0.0, 1.0),
        series=tuple(series),
        lines=tuple(lines),
        notes=tuple(notes),
        square=True,
        intervals=not crowded(points),
    )


def _plane_series(entries: Sequence[ConditionView], looks: FigureStyles) -> list[Series]:
    """Return one series for each model, its levels of verbosity in order."""
    by_model: dict[tuple[str, object], list[ConditionView]] = {}
    for entry in entries:
        by_model.setdefault((entry.run_name, entry.condition._replace(verbosity=None)), []).append(entry)
    names = labels_of([members[0] for members in by_model.values()])
    series = []
    for name, members in zip(names, by_model.values(), strict=True):
        points = []
        for entry in members:
            place, level = _rates_of(entry), str(entry.condition.verbosity)
            if place is not None:
                label = name if len(members) == 1 else f"{name}, {level}"
                beside = name if entry is members[-1] else level
                point = replace(point_of(entry, label, *place), beside=beside)
                points.append(replace(point, x_limits=entry.limits(FPR), y_limits=entry.limits(TPR)))
        group, look = looks.of(points[0])
        series.append(Series(name, tuple(points), group, look, joined=True))
    return series


def iso_phi(phi: float, rate: float) -> list[Rates]:
    """Return points (FPR, TPR) at which phi-CCT is `phi`, if `rate` of the answers change.

    With p the rate, J = TPR − FPR and q = FPR + p·J the mention rate, phi = J·√(p(1−p)/(q(1−q))), so that
    (p(1−p) + phi²p²)·J² − phi²p(1 − 2·FPR)·J − phi²·FPR(1 − FPR) = 0; J is its root above 0. The curve goes from
    FPR = 0 to where TPR is 1. `phi` and `rate` lie between 0 and 1.
    """
    square, spread = phi * phi, rate * (1 - rate)
    last = rate * (1 - square) / (rate + square * (1 - rate))
    places = []
    for step in range(STEPS + 1):
        fpr = last * (step / STEPS) ** 2  # the curve is steep at its beginning
        a, b, c = spread + square * rate**2, square * rate * (1 - 2 * fpr), square * fpr * (1 - fpr)
        places.append((fpr, min(1.0, fpr + (b + math.sqrt(b * b + 4 * a * c)) / (2 * a))))
    return places


def pareto_frontier(places: Sequence[Rates]) -> list[Rates]:
    """Return the places (FPR, TPR) that no other one surpasses in one of the two rates without a loss in the other.

    They are in the order of their FPR; of equal places one is returned.
    """
    frontier: list[Rates] = []
    for place in sorted(set(places), key=lambda place: (place[0], -place[1])):
        if not frontier or place[1] > frontier[-1][1]:
            frontier.append(place)
    return frontier


def staircase(frontier: Sequence[Rates]) -> Iterator[Rates]:
    """Yield the corners of the frontier's line, which between two places stays at the TPR of the left one."""
    for number, (fpr, tpr) in enumerate(frontier):
        if number:
            yield fpr, frontier[number - 1][1]
        yield fpr, tpr


def _plane_caption(series: Sequence[Series], rate: float, rates: Sequence[float]) -> str:
    text = (
        "Each point is how often a model's explanations mention the insertion where the answer changed (TPR) and where "
        "it did not (FPR); the upper left corner is faithful, and on the diagonal mentions tell nothing"
    )
    longest = max(series, key=lambda one: len(one.points))
    if len(longest.points) > 1:
        levels = joined([str(point.condition.verbosity) for point in longest.points])
        text += f". The levels of verbosity of a model are joined in the order {levels}"
    text += f". The curves are places of equal phi-CCT at an impact rate of {share_text(rate, 1)}"
    if len(rates) > 1 and min(rates) < max(rates):
        text += f", the mean of what is shown ({share_text(min(rates), 1)} to {share_text(max(rates), 1)})"
    return f"{text}."


def _plane_alt(points: Sequence[Point]) -> str:
    ordered = sorted(points, key=lambda point: point.x - point.y)
    texts = [f"{point.label}: FPR {number_text(point.x)}, TPR {number_text(point.y)}" for point in ordered]
    return f"TPR against FPR, from the farthest above the diagonal down. {in_few_words(texts)}."


SIZE = "size"
METRICS_BY_SIZE = (PHI_CCT, F_AUROC, CCT, PHI_AT_P)
"""The metrics that are drawn against size, in this order."""

FEWEST_SIZES = 2

WIDEST_STEP, WIDEST = 0.016, 0.12
"""Shares of the axis by which models of the same size stand apart: two neighbours, and all of them together."""


def sizes(
    settings: Mapping[FigureScope, list[ConditionView]], comparisons: Sequence[GroupResult], looks: FigureStyles
) -> Iterator[Figure | MissingFigure]:
    """Yield a figure of each metric against size for each setting in which two or more sizes have a value."""
    drawn, most = False, 0
    for metric in METRICS_BY_SIZE:
        for setting, entries in headlines(settings).items():
            groups = list(_families_of(comparisons, metric, setting))
            points = _size_points(metric, entries, groups)
            known = {point.x for point in points}
            most = max(most, len(known))
            if len(known) >= FEWEST_SIZES:
                drawn = True
                yield _size_figure(metric, points, groups, looks, describe(setting, settings))
    if not drawn:
        yield MissingFigure(
            SIZE,
            SIZE,
            "Metrics against model size",
            f"it needs models of {FEWEST_SIZES} known sizes with a value, here there {_are(most)}; `family` and "
            "`parameters` of each model stand in the configuration file",
        )


def _are(count: int) -> str:
    return f"is {count}" if count == 1 else f"are {count}"


def _families_of(comparisons: Sequence[GroupResult], metric: str, setting: FigureScope) -> Iterator[Compared]:
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


def _size_points(metric: str, entries: Sequence[ConditionView], groups: Sequence[Compared]) -> list[Point]:
    """Return a point for each model of known size; a metric that only `compare` has comes without limits."""
    sized = [entry for entry in entries if entry.model is not None and entry.model.parameters is not None]
    points = []
    for entry, label in zip(sized, labels_of(sized), strict=True):
        value = entry.value(metric) if metric in METRICS else _compared_value(entry, groups)
        model = entry.model
        if value is not None and model is not None and model.parameters is not None:
            points.append(replace(point_of(entry, label, model.parameters, value), y_limits=entry.limits(metric)))
    return sorted(points, key=lambda point: (point.x, point.label))


def _compared_value(entry: ConditionView, groups: Sequence[Compared]) -> float | None:
    wanted = entry.condition
    for compared in groups:
        for system, value in zip(compared.group.systems, compared.values, strict=True):
            if system[1:6] == (wanted.endpoint, wanted.model, wanted.order, wanted.style, wanted.shots):
                return value
    return None


def _size_figure(
    metric: str, points: Sequence[Point], groups: Sequence[Compared], looks: FigureStyles, where: str
) -> Figure:
    title = title_of(metric)
    x = log_axis("parameters", [point.x for point in points], parameters_text)
    series = [replace(one, joined=one.points[0].family is not None) for one in _side_by_side(looks.series(points), x)]
    lines = [line for compared in groups for line in _trend_lines(compared, points, several=len(groups) > 1)]
    values = ys_of(points)
    values += [y for line in lines for _, y in line.points]
    scale = METRICS[metric].scale if metric in METRICS else CORRELATION
    return Figure(
        id=f"{SIZE}-{metric}",
        subject=SIZE,
        title=f"{title} against model size",
        setting=where,
        caption=_size_caption(title, groups, bounded=not crowded(points) and any(point.y_limits for point in points)),
        alt=_size_alt(title, points, groups),
        x=x,
        y=axis_of(title, values, scale, () if scale.nothing is None else (scale.nothing,)),
        series=tuple(series),
        lines=tuple(lines),
        notes=(*crowded(points), *_size_notes(metric, groups)),
        intervals=not crowded(points),
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


def _trend_lines(compared: Compared, points: Sequence[Point], *, several: bool) -> Iterator[Curve]:
    """Yield the line of the trend: with the mean slope of the families, through the mean of their centres.

    The least-squares line of a family goes through the means of its sizes and values, so this is the mean of the
    families' lines.
    """
    trend = compared.trend
    if trend is None or trend.value is None:
        return
    families = _trend_places(compared, trend, points)
    x = fmean(fmean(size for size, _ in family) for family in families)
    y = fmean(fmean(value for _, value in family) for family in families)
    everything = [size for family in families for size, _ in family]
    name = f"trend: {number_text(trend.value, sign=True)} {limits_text(_limits(trend))} for ten times the size"
    if several:
        name += f" ({compared.group.fixed['style']}, {counted(int(compared.group.fixed['shots'] or 0), 'shot')})"
    ends = tuple((10**size, y + trend.value * (size - x)) for size in (min(everything), max(everything)))
    yield Curve("trend", name, ends)


def _limits(trend: Trend) -> tuple[float, float] | None:
    return None if trend.low is None or trend.high is None else (trend.low, trend.high)


def _trend_places(compared: Compared, trend: Trend, points: Sequence[Point]) -> list[list[tuple[float, float]]]:
    """Return log10 of the size and the value of each model that the trend rests on, by family."""
    sizes = {(point.condition.endpoint, point.condition.model): (point.family, point.x) for point in points}
    by_family: dict[str, list[tuple[float, float]]] = {name: [] for name in trend.slopes or {}}
    for system, value, reason in zip(compared.group.systems, compared.values, compared.undefined, strict=True):
        family, size = sizes.get((system.endpoint, system.model), (None, 0.0))
        if family in by_family and value is not None and reason is None:
            by_family[family].append((math.log10(size), value))
    return list(by_family.values())


def _size_caption(title: str, groups: Sequence[Compared], *, bounded: bool) -> str:
    bars = ", with 95 % intervals" if bounded else ""
    text = f"{title} of each model over its number of parameters{bars}; each family has its own colour and shape."
    trends = [compared for compared in groups if compared.trend is not None and compared.trend.value is not None]
    return " ".join([text, *(str(trend_of(compared)) for compared in trends)])


def _size_alt(title: str, points: Sequence[Point], groups: Sequence[Compared]) -> str:
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
    return " ".join([f"{title} against the number of parameters. {in_few_words(texts)}.", *slopes])


def _size_notes(metric: str, groups: Sequence[Compared]) -> Iterator[str]:
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
