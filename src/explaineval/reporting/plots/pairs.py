"""One number against another over models: phi-CCT against CCT, and faithfulness against accuracy and dollars."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from explaineval.metrics.frontiers import FEWEST_MODELS, ExplainedVariance
from explaineval.records import SIMULATED_PREFIX
from explaineval.reporting.plots.conditions import Looks, Numbers, Setting, describe, headlines, labels_of
from explaineval.reporting.plots.figure import Axis, Figure, Limits, Line, MissingFigure, Point
from explaineval.reporting.plots.words import (
    LISTED,
    MOST_WITH_INTERVALS,
    NOT_DRAWN,
    axis_of,
    limits_text,
    log_axis,
    shown,
)
from explaineval.reporting.results import UnknownCost
from explaineval.scoring.comparisons import GroupResult
from explaineval.scoring.metric import CORRELATION, SHARE
from explaineval.scoring.registry import ACCURACY, CCT, PHI_CCT, PHI_TVD_TRIALS
from explaineval.text import counted, dollars_text, joined, number_text

TRIALS = 1000
"""Dollars are told for so many trials."""


def agreements(
    settings: Mapping[Setting, list[Numbers]], comparisons: Sequence[GroupResult], looks: Looks
) -> Iterator[Figure | MissingFigure]:
    """Yield phi-CCT against CCT for each group of eight or more models on one task, kind and order."""
    title, drawn, most = "phi-CCT against CCT", False, 0
    for result in comparisons:
        systems = {system[1:6] for system in result.group.systems}
        for task, kind, explained in result.explained:
            most = max(most, explained.n_models)
            setting = Setting((task,), kind, str(result.group.fixed["order"]), _level(result))
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
    title: str, entries: Sequence[Numbers], explained: ExplainedVariance, looks: Looks, where: str
) -> Figure:
    points = [
        replace(entry.point(label, x, y), x_limits=entry.limits(PHI_TVD_TRIALS), y_limits=entry.limits(CCT))
        for entry, label in zip(entries, labels_of(entries), strict=True)
        if (x := entry.value(PHI_TVD_TRIALS)) is not None and (y := entry.value(CCT)) is not None
    ]
    xs = [x for point in points for x in (point.x, *(point.x_limits or ()))]
    ys = [y for point in points for y in (point.y, *(point.y_limits or ()))]
    across, up = axis_of("phi-CCT on the trials of CCT", xs, CORRELATION), axis_of("CCT", ys, CORRELATION)
    low, high = max(across.low, up.low), min(across.high, up.high)
    lines = (Line("reference", "equal", ((low, low), (high, high))),) if low < high else ()
    intervals = len(points) <= MOST_WITH_INTERVALS
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
        intervals=intervals,
        notes=(
            *(() if intervals else (NOT_DRAWN,)),
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


def accuracies(settings: Mapping[Setting, list[Numbers]], looks: Looks) -> Iterator[Figure | MissingFigure]:
    """Yield faithfulness against accuracy for each setting with two or more models that have both."""
    title, drawn = "Faithfulness against accuracy", False
    for setting, entries in headlines(settings).items():
        points = _points(entries, lambda entry: entry.value(ACCURACY), lambda entry: entry.limits(ACCURACY))
        if len(points) > 1:
            drawn = True
            xs = [x for point in points for x in (point.x, *(point.x_limits or ()))]
            intervals = len(points) <= MOST_WITH_INTERVALS
            notes = [*(() if intervals else (NOT_DRAWN,)), *looks.notes(points), *_confounding(entries)]
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
                x=axis_of(ACCURACY, xs, SHARE),
                y=_phi_axis(points),
                series=tuple(looks.series(points)),
                intervals=intervals,
                notes=tuple(notes),
            )
    if not drawn:
        reason = "it needs two models with both a phi-CCT and an accuracy (a gold label in the task)"
        yield MissingFigure(ACCURACY, ACCURACY, title, reason)


def costs(settings: Mapping[Setting, list[Numbers]], looks: Looks) -> Iterator[Figure | MissingFigure]:
    """Yield faithfulness against dollars for each setting with two or more models whose cost is known and above 0."""
    title, drawn, left_out = "Faithfulness against cost", False, dict[str, str]()
    for setting, entries in headlines(settings).items():
        reasons = {entry.condition.model: reason for entry in entries if (reason := _no_cost(entry)) is not None}
        left_out |= reasons
        points = _points(entries, _dollars, lambda _: None)
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
                notes=(*_left_out_notes(reasons), *looks.notes(points), *_confounding(entries)),
            )
    if not drawn:
        why = "; ".join(_left_out_notes(left_out)).rstrip(".")
        reason = f"it needs two models whose cost is known and above 0{f'. {why}' if why else ''}"
        yield MissingFigure("cost", "cost", title, reason)


def _points(
    entries: Sequence[Numbers], x_of: Callable[[Numbers], float | None], limits_of: Callable[[Numbers], Limits | None]
) -> list[Point]:
    return [
        replace(entry.point(label, x, y), x_limits=limits_of(entry), y_limits=entry.limits(PHI_CCT))
        for entry, label in zip(entries, labels_of(entries), strict=True)
        if (x := x_of(entry)) is not None and (y := entry.value(PHI_CCT)) is not None
    ]


def _dollars(entry: Numbers) -> float | None:
    """Return what a thousand trials of a model cost; None where that is unknown or nothing."""
    dollars = entry.run.dollars_per_trial(entry.condition.endpoint, entry.condition.model)
    return None if isinstance(dollars, UnknownCost) or dollars == 0 else dollars * TRIALS


def _no_cost(entry: Numbers) -> str | None:
    """Say why a model has no place on an axis of dollars; None where it has one."""
    dollars = entry.run.dollars_per_trial(entry.condition.endpoint, entry.condition.model)
    if isinstance(dollars, UnknownCost):
        return dollars.reason
    return "free of charge" if dollars == 0 else None


def _left_out_notes(reasons: Mapping[str, str]) -> Iterator[str]:
    """Yield which models are left out, by reason."""
    by_reason: dict[str, list[str]] = {}
    for model, reason in reasons.items():
        by_reason.setdefault(reason, []).append(model)
    for reason, models in by_reason.items():
        yield f"Left out: {joined([shown(model) for model in models])} ({reason})."


def _confounding(entries: Sequence[Numbers]) -> Iterator[str]:
    """Say where models were asked in different styles or with different numbers of shots."""
    for name, values in (
        ("styles", {entry.condition.style for entry in entries}),
        ("numbers of shots", {entry.condition.shots for entry in entries}),
    ):
        if len(values) > 1:
            yield f"The points differ in {name} ({joined(sorted(map(str, values)))}): that may be what is seen."


def _phi_axis(points: Sequence[Point]) -> Axis:
    return axis_of("phi-CCT", [y for point in points for y in (point.y, *(point.y_limits or ()))], CORRELATION, (0.0,))


def _alt(what: str, points: Sequence[Point], text_of: Callable[[float], str], x: str, y: str) -> str:
    texts = [
        f"{point.label}: {text_of(point.x)} {x}, {y} {number_text(point.y)} {limits_text(point.y_limits)}"
        for point in sorted(points, key=lambda point: -point.y)
    ]
    if len(texts) > LISTED:
        half = LISTED // 2
        texts = [*texts[:half], f"… {len(texts) - 2 * half} more …", *texts[-half:]]
    return f"{what}, from the highest {y} to the lowest. {'; '.join(texts)}."
