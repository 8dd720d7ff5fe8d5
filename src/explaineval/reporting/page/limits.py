"""Gather the warnings of runs and comparisons for page and terminal: each reason once, the gravest first. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from explaineval.records import SIMULATED_NOTE
from explaineval.reporting.comparison_text import title_of, warnings_of
from explaineval.reporting.condition_text import upper_first
from explaineval.reporting.page.places import Names, Place, source_of
from explaineval.scoring.codes import CODES, GRADES, Grade, MetricWarning
from explaineval.scoring.comparisons import GroupResult
from explaineval.scoring.registry import COMPARED_ONLY, METRICS, text_of
from explaineval.scoring.rows import Scores, is_headline_row
from explaineval.scoring.task_means import task_text

GRADE_TITLES: dict[Grade, str] = {
    "do not quote": "Do not quote these numbers as they stand",
    "mind": "Keep in mind",
    "for the record": "For the record",
}
"""The headings under which warnings stand, by their grade."""


@dataclass(frozen=True)
class Instance:
    """One sentence of a warning, the metrics that it limits, and the names of what it is about."""

    text: str
    metrics: tuple[str, ...]
    places: tuple[str, ...]


@dataclass(frozen=True)
class Limit:
    """All warnings of one code and grade: what they are about, what to do, and each sentence with its places.

    `shared` is what all places have in common; `count` is their number.
    """

    code: str
    grade: Grade
    title: str
    todo: str
    metrics: tuple[str, ...]
    shared: str
    count: int
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class Limits:
    """The warnings of one grade under their heading."""

    grade: Grade
    title: str
    limits: tuple[Limit, ...]


Found = tuple[MetricWarning, Place | str]
"""A warning with its place; one of a comparison with a text that says what is compared."""


def limits_of(runs: Sequence[Scores], names: Names, comparisons: Sequence[GroupResult] = ()) -> tuple[Limits, ...]:
    """Return everything that limits the numbers of these runs and their comparisons, the gravest grade first.

    Within a grade what limits the first metrics of the registry comes first.
    """
    found: list[Found] = []
    for result in comparisons:
        for compared in result.leading:
            about = f"the comparison of {compared.kind.replace('_', ' ')}, {task_text(compared.task)}"
            found += [(warning, about) for warning in warnings_of(result, compared)]
    for number, scores in enumerate(runs):
        for row in scores.warnings:
            place = number, row.condition.without_mention
            if is_headline_row(row.condition, scores.policy):
                found.append((row.warning, place))
            else:
                parts = [part for part in names.parts(place) if part != SIMULATED_NOTE]
                found.append((row.warning, " · ".join([*parts, source_of(row.condition)])))
    grades = []
    for grade in GRADES:
        codes: dict[str, list[Found]] = {}
        for item in found:
            if item[0].grade == grade:
                codes.setdefault(item[0].code, []).append(item)
        if codes:
            limits = tuple(_limit(code, grade, members, names) for code, members in codes.items())
            grades.append(Limits(grade, GRADE_TITLES[grade], tuple(sorted(limits, key=_order))))
    return tuple(grades)


def _order(limit: Limit) -> tuple[int, int]:
    """Sort what limits the first metrics of the registry first, then what concerns most conditions."""
    titles = [text_of(name).title for name in (*METRICS, *COMPARED_ONLY)]
    return min(map(titles.index, limit.metrics)), -limit.count


def _limit(code: str, grade: Grade, members: Iterable[Found], names: Names) -> Limit:
    by_text: dict[str, list[Found]] = {}
    for item in members:
        # what is said of several metrics alike is one sentence: their titles stand beside it
        by_text.setdefault(item[0].text.removeprefix(f"{title_of(item[0].metric)}: "), []).append(item)
    places = list(dict.fromkeys(place for _, place in members if not isinstance(place, str)))
    shared, own = names.split(places)
    name_of: dict[Place | str, str] = dict(zip(places, own, strict=True))
    instances = tuple(
        Instance(
            upper_first(text),
            tuple(dict.fromkeys(title_of(warning.metric) for warning, _ in items)),
            tuple(dict.fromkeys(name_of.get(place, str(place)) for _, place in items)),
        )
        for text, items in by_text.items()
    )
    return Limit(
        code=code,
        grade=grade,
        title=CODES[code].title or code.replace("_", " ").capitalize(),
        todo=next(warning.todo for warning, _ in members),
        metrics=tuple(dict.fromkeys(title_of(warning.metric) for warning, _ in members)),
        shared=" · ".join(shared),
        count=len(dict.fromkeys(place for _, place in members)),
        instances=instances,
    )
