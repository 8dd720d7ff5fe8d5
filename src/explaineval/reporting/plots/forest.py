"""Forest plots: a number of every model with its interval, at each level of verbosity or under each mention policy.

Also the gaps between tuned models and their pretrained siblings, as `compare` computes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from explaineval.records import EXPLANATION, MetricRow
from explaineval.reporting.comparison_text import names_of, tuning_sentences, where_of
from explaineval.reporting.plots.figure import (
    Axis,
    Curve,
    Figure,
    FigureScope,
    MissingFigure,
    Point,
    Series,
    describe,
    gather_by_policy,
    headlines,
    in_few_words,
    labels_of,
    limits_text,
    point_of,
    shown,
    span,
    without_levels,
    xs_of,
)
from explaineval.reporting.results import ComparedRuns
from explaineval.reporting.view import ConditionView, condition_of
from explaineval.scoring.comparisons import GroupResult, TunedPair, TuningResult
from explaineval.scoring.registry import CCT, CCT_SAMPLED, F_AUROC, F_AUROC_OWN, METRICS, PHI_CCT, PHI_EXAMPLE_ONLY
from explaineval.text import counted, joined, number_text

HEADLINES = (PHI_CCT, F_AUROC, F_AUROC_OWN, CCT, CCT_SAMPLED)
"""The metrics that have a forest plot, in this order."""

CHANCE = {PHI_CCT: PHI_EXAMPLE_ONLY}
"""The metric whose range is what chance gives without knowing the insertion."""

TUNED = "tuned"
"""The subject of the figure of tuned against pretrained models."""

MARKS = 0.78
"""The part of a row's height over which its marks are spread."""

Row = tuple[object, ...]
"""A row of a forest plot: a model, how it was asked, and the run."""


def forests(settings: Mapping[FigureScope, list[ConditionView]]) -> Iterator[Figure | MissingFigure]:
    """Yield the forest plot of each headline metric for all tasks, kinds and orders that have it."""
    for metric in HEADLINES:
        for setting, entries in without_levels(settings).items():
            having = [entry for entry in entries if metric in entry.numbers and _is_own(entry, metric)]
            if any(entry.value(metric) is not None for entry in having):
                yield _forest(metric, having, describe(setting, settings))
            elif having and metric == PHI_CCT:
                reasons = dict.fromkeys(str(entry.numbers[metric].row.undefined) for entry in having)
                yield MissingFigure(
                    f"forest-{metric}",
                    "forest",
                    f"{METRICS[metric].title} of each model",
                    f"it is undefined for every model: {joined([*reasons])}",
                )


def _is_own(entry: ConditionView, metric: str) -> bool:
    """Whether a metric belongs to the very condition, not to its arm, whose rows stand there too."""
    return entry.numbers[metric].row.verbosity == entry.condition.verbosity


def _forest(metric: str, entries: Sequence[ConditionView], where: str) -> Figure:
    title = METRICS[metric].title
    levels: dict[str, list[ConditionView]] = {}
    for entry in entries:
        levels.setdefault(entry.condition.verbosity or title, []).append(entry)
    figure = _rows_figure(metric, levels)
    chance = [
        Curve("chance", "what knowing only the example gives", ((limits[0], point.y), (limits[1], point.y)))
        for series, members in zip(figure.series, levels.values(), strict=True)
        for point in series.points
        for entry in members
        if entry.condition == point.condition and entry.run_name == point.run and point.undefined is None
        if (limits := entry.limits(CHANCE.get(metric, ""))) is not None
    ]
    nothing = METRICS[metric].scale.nothing or 0.0
    text = (
        f"{title} of each model with its 95 % interval; the vertical line at {nothing:g} stands for explanations that "
        "have nothing to do with what changed the answer"
    )
    if chance:
        text += ", the grey bars for those that know the example but not the insertion"
    bounded = [point.x_limits for point in figure.points if point.x_limits is not None]
    above = sum(low > nothing for low, _ in bounded)
    xs = [figure.x.low, figure.x.high, *(x for line in chance for x, _ in line.points)]
    return replace(
        figure,
        id=f"forest-{metric}",
        subject="forest",
        title=f"{title} of each model",
        setting=where,
        caption=f"{text}. {_above(above, len(bounded))}",
        x=Axis(title, *span(xs, room=0.0)),
        lines=(*chance, *figure.lines),
        notes=tuple(_notes(entries, metric)),
    )


def _above(above: int, count: int) -> str:
    if count == 0:
        return "No value has an interval."
    if count == 1:
        return "The interval lies above the line." if above else "The interval does not lie above the line."
    return f"{above} of {count} intervals lie above the line."


def _notes(entries: Sequence[ConditionView], metric: str) -> Iterator[str]:
    if metric == PHI_CCT and len({entry.condition.model for entry in entries}) > 1:
        yield "Two intervals that overlap do not show that models are equal: `explaineval compare` tests differences."
    without = [entry for entry in entries if entry.value(metric) is not None and entry.limits(metric) is None]
    if without:
        yield f"No interval: {joined([*dict.fromkeys(labels_of(without, levels=True))])}."


def policies(results: ComparedRuns) -> Iterator[Figure | MissingFigure]:
    """Yield phi-CCT under each policy of what counts as a mention, for each setting with several policies."""
    title, drawn, same = "phi-CCT under different mention policies", False, ""
    settings = gather_by_policy(results, PHI_CCT)
    for setting, entries in headlines(settings).items():
        by_policy: dict[str, list[ConditionView]] = {}
        for entry in entries:
            by_policy.setdefault(policy_text(entry.numbers[PHI_CCT].row), []).append(entry)
        defined = [name for name, members in by_policy.items() if any(e.value(PHI_CCT) is not None for e in members)]
        if len(defined) < 2:
            continue
        figure = _rows_figure(PHI_CCT, by_policy)
        spread = _spread(figure)
        if spread is None:
            same = joined([*by_policy])
        else:
            drawn = True
            yield replace(
                figure,
                id="policies",
                subject="policies",
                title=title,
                setting=describe(setting, settings),
                caption="The same trials, scored under each policy of what counts as a mention of the insertion "
                f"({joined([*by_policy])}), with 95 % intervals. They differ most for {spread[0]}, by "
                f"{number_text(spread[1])}.",
            )
    if not drawn:
        reason = "it needs values under two mention policies, or those of a judge"
        if same:
            reason = f"{same} give the same phi-CCT for every model, so there is nothing to see"
        yield MissingFigure("policies", "policies", title, reason)


def policy_text(row: MetricRow) -> str:
    """Say by which policy, by which judge and in which channel mentions were looked for."""
    text = str(row.mention).replace("_", " ")
    if row.judge is not None:
        text += f" {row.judge}"
    return text if row.channel in (None, EXPLANATION) else f"{text}, in {row.channel}"


def _spread(figure: Figure) -> tuple[str, float] | None:
    """Return the model for which the policies differ most, and by how much; None where they differ for none."""
    by_label: dict[str, list[Point]] = {}
    for point in figure.points:
        by_label.setdefault(point.label, []).append(point)
    spreads = {}
    for label, points in by_label.items():
        values = [point.x for point in points if point.undefined is None]
        if len(values) > 1:
            spreads[label] = max(values) - min(values)
    one_sided = any(len({point.undefined is None for point in points}) > 1 for points in by_label.values())
    if not spreads or (max(spreads.values()) == 0 and not one_sided):
        return None
    label = max(spreads, key=lambda label: spreads[label])
    return label, spreads[label]


def _rows_figure(metric: str, variants: Mapping[str, Sequence[ConditionView]]) -> Figure:
    """Return a figure with a row for each model and a mark for each variant, the highest values on top.

    Its id, title, setting and caption are to be replaced.
    """
    title, nothing = METRICS[metric].title, METRICS[metric].scale.nothing or 0.0
    rows: dict[Row, list[ConditionView]] = {}
    for entry in (entry for members in variants.values() for entry in members):
        rows.setdefault(_row_of(entry), []).append(entry)
    labels = dict(zip(rows, labels_of([members[0] for members in rows.values()]), strict=True))
    places = {row: float(n) for n, row in enumerate(sorted(rows, key=lambda row: _height(rows[row], metric)))}
    series = []
    for number, (name, members) in enumerate(variants.items()):
        offset = MARKS * (0.5 - (number + 0.5) / len(variants))
        points = []
        for entry in sorted(members, key=lambda entry: -places[_row_of(entry)]):
            row = _row_of(entry)
            points.append(_point(entry, metric, labels[row], places[row] + offset, nothing))
        series.append(Series(name, tuple(points), name if len(variants) > 1 else None, number))
    points = [point for one in series for point in one.points]
    values = xs_of(points)
    bottom, top = -0.6, len(rows) - 0.4
    return Figure(
        id="",
        subject="",
        title="",
        setting="",
        caption="",
        alt=_alt(title, series),
        x=Axis(title, *span(values, [nothing])),
        y=Axis(
            "",
            bottom,
            top,
            ticks=tuple((places[row], labels[row]) for row in sorted(rows, key=lambda row: -places[row])),
        ),
        series=tuple(series),
        lines=(Curve("reference", "no relation", ((nothing, bottom), (nothing, top))),),
    )


def _row_of(entry: ConditionView) -> Row:
    return entry.run_name, entry.condition.without_mention._replace(verbosity=None)


def _height(entries: Iterable[ConditionView], metric: str) -> tuple[bool, float]:
    """Return the sort key of a row: those without a value are lowest."""
    values = [value for entry in entries if (value := entry.value(metric)) is not None]
    return bool(values), sum(values) / len(values) if values else 0.0


def _point(entry: ConditionView, metric: str, label: str, y: float, nothing: float) -> Point:
    value = entry.value(metric)
    if value is None:
        return replace(point_of(entry, label, nothing, y), undefined=entry.numbers[metric].row.undefined)
    return replace(point_of(entry, label, value, y), x_limits=entry.limits(metric))


def _alt(title: str, series: Sequence[Series]) -> str:
    named = [(point, one.name) for one in series for point in one.points]
    texts = []
    for point, name in sorted(named, key=lambda item: (item[0].undefined is not None, -item[0].x)):
        label = point.label if len(series) == 1 else f"{point.label} ({name})"
        if point.undefined is not None:
            texts.append(f"{label}: undefined, {point.undefined}")
        else:
            texts.append(f"{label}: {number_text(point.x)} {limits_text(point.x_limits)}")
    return f"{title} of each model, from the highest to the lowest. {in_few_words(texts)}."


def tuned_against_pretrained(comparisons: Sequence[GroupResult]) -> Iterator[Figure]:
    """Yield a figure for each task (or mean over tasks) and kind on which pairs were tested."""
    for result in comparisons:
        for tuning in result.tuning:
            tested = [pair for pair in tuning.pairs if pair.dominance.undefined is None]
            if tuning.primary and tested:
                yield _tuned_figure(result, tuning, tested)


def _tuned_figure(result: GroupResult, tuning: TuningResult, pairs: Sequence[TunedPair]) -> Figure:
    levels = list(tuning.group.levels)
    labels = [names_of(tuning, pair)[0] for pair in pairs]
    series = []
    for number, level in enumerate(levels):
        offset = MARKS * (0.5 - (number + 0.5) / len(levels))
        points = []
        for row, pair in enumerate(pairs):
            gap, system = pair.dominance.gaps[number], tuning.group.systems[pair.first]
            condition = condition_of(system, tuning)._replace(verbosity=level)
            y, run = len(pairs) - 1 - row + offset, str(system.run)
            if gap.value is None:
                points.append(Point(labels[row], 0.0, y, condition, run, undefined=gap.undefined, tuned="instruct"))
            else:
                points.append(Point(labels[row], gap.value, y, condition, run, x_limits=gap.limits, tuned="instruct"))
        series.append(Series(level, tuple(points), level if len(levels) > 1 else None, number))
    known = [point for one in series for point in one.points if point.undefined is None]
    bottom, top = -0.6, len(pairs) - 0.4
    title = "TPR at equal FPR, tuned − pretrained"
    return Figure(
        id=TUNED,
        subject=TUNED,
        title="Instruction-tuned against pretrained models",
        setting=", ".join(filter(None, (shown(tuning.task), shown(tuning.kind), str(result.group.fixed["order"])))),
        caption="How far the line through a tuned model's levels of verbosity lies above each level of its pretrained "
        "sibling (same family, size, style and shots), with both one-sided 95 % limits. A model dominates only where "
        f"all of its limits lie on one side of 0. {' '.join(tuning_sentences(tuning))}",
        alt=_tuned_alt(known, series),
        x=Axis(title, *span(xs_of(known), [0.0])),
        y=Axis("", bottom, top, ticks=tuple((float(len(pairs) - 1 - row), labels[row]) for row in range(len(pairs)))),
        series=tuple(series),
        lines=(Curve("reference", "no difference", ((0.0, bottom), (0.0, top))),),
        notes=(f"The limits are those of single levels on {where_of(tuning)}; the claims are adjusted.",),
    )


def _tuned_alt(points: Sequence[Point], series: Sequence[Series]) -> str:
    texts = [
        f"{point.label} at {point.condition.verbosity}: {number_text(point.x)} {limits_text(point.x_limits)}"
        for point in points
    ]
    return (
        f"TPR of tuned models minus that of pretrained ones at equal FPR, {counted(len(series), 'level')}. "
        f"{in_few_words(texts)}."
    )
