"""Tuned against pretrained models: how far one's frontier lies above the other's levels, as `compare` computes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from explaineval.records import Condition
from explaineval.reporting.plots.figure import Axis, Figure, Line, Point, Series
from explaineval.reporting.plots.forest import MARKS
from explaineval.reporting.plots.words import LISTED, limits_text, number_text, shown, span
from explaineval.reporting.tuning_text import names_of, sentences_of, where_of
from explaineval.scoring.comparisons import GroupResult, TunedPair, TuningResult

SUBJECT = "tuned"


def tuned_against_pretrained(comparisons: Sequence[GroupResult]) -> Iterator[Figure]:
    """Yield a figure for each task (or mean over tasks) and kind on which pairs were tested."""
    for result in comparisons:
        for tuning in result.tuning:
            tested = [pair for pair in tuning.pairs if pair.dominance.undefined is None]
            if tuning.primary and tested:
                yield _figure(result, tuning, tested)


def _figure(result: GroupResult, tuning: TuningResult, pairs: Sequence[TunedPair]) -> Figure:
    levels = list(tuning.group.levels)
    labels = [names_of(tuning, pair)[0] for pair in pairs]
    series = []
    for number, level in enumerate(levels):
        offset = MARKS * (0.5 - (number + 0.5) / len(levels))
        points = []
        for row, pair in enumerate(pairs):
            gap, system = pair.dominance.gaps[number], tuning.group.systems[pair.first]
            condition = Condition(
                system.endpoint, system.model, tuning.task, tuning.kind, system.order, system.style, system.shots, level
            )
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
        id=SUBJECT,
        subject=SUBJECT,
        title="Instruction-tuned against pretrained models",
        setting=", ".join(filter(None, (shown(tuning.task), shown(tuning.kind), str(result.group.fixed["order"])))),
        caption="How far the line through a tuned model's levels of verbosity lies above each level of its pretrained "
        "sibling (same family, size, style and shots), with both one-sided 95 % limits. A model dominates only where "
        f"all of its limits lie on one side of 0. {' '.join(sentences_of(tuning))}",
        alt=_alt(known, series),
        x=Axis(title, *span([x for point in known for x in (point.x, *(point.x_limits or ()))], [0.0])),
        y=Axis("", bottom, top, ticks=tuple((float(len(pairs) - 1 - row), labels[row]) for row in range(len(pairs)))),
        series=tuple(series),
        lines=(Line("reference", "no difference", ((0.0, bottom), (0.0, top))),),
        notes=(f"The limits are those of single levels on {where_of(tuning)}; the claims are adjusted.",),
    )


def _alt(points: Sequence[Point], series: Sequence[Series]) -> str:
    texts = [
        f"{point.label} at {point.condition.verbosity}: {number_text(point.x)} {limits_text(point.x_limits)}"
        for point in points
    ]
    if len(texts) > LISTED:
        half = LISTED // 2
        texts = [*texts[:half], f"… {len(texts) - 2 * half} more …", *texts[-half:]]
    return f"TPR of tuned models minus that of pretrained ones at equal FPR, {len(series)} levels. {'; '.join(texts)}."
