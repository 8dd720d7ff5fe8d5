"""The plane of TPR and FPR: what each model's explanations mention, level by level, and what that makes of phi.

The curves and the frontier are computed here, from the definition of phi-CCT and from the points as they stand.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from explaineval.reporting.plots.conditions import Looks, Numbers, Setting, describe, labels_of, without_levels
from explaineval.reporting.plots.figure import Axis, Figure, Line, LineKind, MissingFigure, Point, Series
from explaineval.reporting.plots.words import (
    LISTED,
    MOST_WITH_INTERVALS,
    NOT_DRAWN,
)
from explaineval.scoring.registry import FPR, IMPACT_RATE, TPR
from explaineval.text import joined, number_text, share_text

SUBJECT = "plane"
PHIS = (0.2, 0.4, 0.6, 0.8)
"""The values of phi-CCT that have a curve."""

STEPS = 60
"""Straight pieces of which a curve is made."""

FRONTIERS: tuple[tuple[str, LineKind, str], ...] = (
    ("base", "frontier_base", "Pareto frontier, pretrained"),
    ("instruct", "frontier_instruct", "Pareto frontier, instruction-tuned"),
)

Place = tuple[float, float]


def planes(settings: Mapping[Setting, list[Numbers]], looks: Looks) -> Iterator[Figure | MissingFigure]:
    """Yield the plane of each task, kind and order. Means over tasks have none: phi is not linear in rates."""
    drawn = False
    for setting, entries in without_levels(settings).items():
        usable = [entry for entry in entries if len(entry.tasks) == 1 and _place(entry) is not None]
        if usable:
            drawn = True
            yield _figure(usable, looks, describe(setting, settings), asked_once=setting.order == "pe2")
    if not drawn:
        reason = "it needs a model with both a TPR and an FPR, so with answers that changed and others that did not"
        yield MissingFigure(SUBJECT, SUBJECT, "The plane of TPR and FPR", reason)


def _place(entry: Numbers) -> Place | None:
    x, y = entry.value(FPR), entry.value(TPR)
    return None if x is None or y is None else (x, y)


def _figure(entries: Sequence[Numbers], looks: Looks, where: str, *, asked_once: bool) -> Figure:
    rates = [rate for entry in entries if (rate := entry.value(IMPACT_RATE)) is not None]
    series = _series(entries, looks)
    points = [point for one in series for point in one.points]
    rate = fmean(rates)
    lines = [Line("reference", "no relation", ((0.0, 0.0), (1.0, 1.0)))]
    lines += [
        Line("iso_phi", "equal phi-CCT (the numbers on top)", tuple(iso_phi(phi, rate)), label=f"{phi:g}")
        for phi in PHIS
        if 0 < rate < 1
    ]
    notes = []
    for tuned, kind, name in FRONTIERS:
        places = pareto_frontier([(point.x, point.y) for point in points if point.tuned == tuned])
        if len(places) > 1:
            lines.append(Line(kind, name, tuple(staircase(places))))
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
    intervals = len(points) <= MOST_WITH_INTERVALS
    if not intervals:
        notes.append(NOT_DRAWN)
    notes += looks.notes(points)
    return Figure(
        id=SUBJECT,
        subject=SUBJECT,
        title="How often explanations mention the insertion: TPR against FPR",
        setting=where,
        caption=_caption(series, rate, rates),
        alt=_alt(points),
        x=Axis("FPR: mentioned though the answer stayed", 0.0, 1.0),
        y=Axis("TPR: mentioned where the answer changed", 0.0, 1.0),
        series=tuple(series),
        lines=tuple(lines),
        notes=tuple(notes),
        square=True,
        intervals=intervals,
    )


def _series(entries: Sequence[Numbers], looks: Looks) -> list[Series]:
    """Return one series for each model, its levels of verbosity in order."""
    by_model: dict[tuple[str, object], list[Numbers]] = {}
    for entry in entries:
        by_model.setdefault((entry.run.name, entry.condition._replace(verbosity=None)), []).append(entry)
    names = labels_of([members[0] for members in by_model.values()])
    series = []
    for name, members in zip(names, by_model.values(), strict=True):
        points = []
        for entry in members:
            place, level = _place(entry), str(entry.condition.verbosity)
            if place is not None:
                label = name if len(members) == 1 else f"{name}, {level}"
                beside = name if entry is members[-1] else level
                point = replace(entry.point(label, *place), beside=beside)
                points.append(replace(point, x_limits=entry.limits(FPR), y_limits=entry.limits(TPR)))
        group, look = looks.of(points[0])
        series.append(Series(name, tuple(points), group, look, joined=True))
    return series


def iso_phi(phi: float, rate: float) -> list[Place]:
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


def pareto_frontier(places: Sequence[Place]) -> list[Place]:
    """Return the places (FPR, TPR) that no other one surpasses in one of the two rates without a loss in the other.

    They are in the order of their FPR; of equal places one is returned.
    """
    frontier: list[Place] = []
    for place in sorted(set(places), key=lambda place: (place[0], -place[1])):
        if not frontier or place[1] > frontier[-1][1]:
            frontier.append(place)
    return frontier


def staircase(frontier: Sequence[Place]) -> Iterator[Place]:
    """Yield the corners of the frontier's line, which between two places stays at the TPR of the left one."""
    for number, (fpr, tpr) in enumerate(frontier):
        if number:
            yield fpr, frontier[number - 1][1]
        yield fpr, tpr


def _caption(series: Sequence[Series], rate: float, rates: Sequence[float]) -> str:
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


def _alt(points: Sequence[Point]) -> str:
    ordered = sorted(points, key=lambda point: point.x - point.y)
    texts = [f"{point.label}: FPR {number_text(point.x)}, TPR {number_text(point.y)}" for point in ordered]
    if len(texts) > LISTED:
        half = LISTED // 2
        texts = [*texts[:half], f"… {len(texts) - 2 * half} more …", *texts[-half:]]
    return f"TPR against FPR, from the farthest above the diagonal down. {'; '.join(texts)}."
