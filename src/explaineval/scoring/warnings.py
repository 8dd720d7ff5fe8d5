"""The warnings of a run: for each number that has a value, what limits it.

Every warning is about one number and is made from that number's own counts, whether or not another number is defined.
An undefined number has no warnings: its reason says why it is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explaineval.interventions import kind_of
from explaineval.metrics.estimates import IntArray, check_counts
from explaineval.metrics.reliability import NoiseMargin
from explaineval.records import Condition, Estimate, MetricRow
from explaineval.rundir.schema import EndpointRecord
from explaineval.scoring.codes import GRADES, Finding, MetricWarning, find_origins, finding, warning_of
from explaineval.scoring.counts import ArmCounts, KindCounts
from explaineval.scoring.metric import (
    ENOUGH,
    FEWEST_EXAMPLES,
    ArmMetric,
    KindMetric,
    KindResults,
    LevelMetric,
    Metric,
    PredictionMetric,
    check_noise,
    margin_of,
)
from explaineval.scoring.predictions import PredictionCounts
from explaineval.scoring.registry import IMPACT_RATE, PHI_CCT, metrics_of
from explaineval.scoring.task_means import MEAN, tasks_differ
from explaineval.scoring.verbosity import LevelCounts, check_levels
from explaineval.text import agreeing, counted, joined, number_text, only

NOISE = ("noise", "noise_not_excluded")

OF_SOURCES = (PHI_CCT, IMPACT_RATE)
"""The numbers that carry what is known of where a model's answers came from."""

OF_LEVELS = ("many_missing", "missing_trials", *NOISE, "noise_unknown")
"""The codes by which what limits the numbers of a level limits the area over the levels too."""


@dataclass(frozen=True)
class RowWarning:
    """A warning, and the condition of the row that it is about."""

    condition: Condition
    warning: MetricWarning

    @property
    def text(self) -> str:
        """The warning as a sentence."""
        return self.warning.text


def kind_warnings(results: KindResults) -> Iterator[MetricWarning]:
    """Yield what limits each number of one kind of intervention."""
    counts = results.counts
    margin = margin_of(counts)
    noise = check_noise(counts, margin)
    metrics = [m for m in metrics_of(KindMetric, results.estimates) if m.name in results.estimates]
    shortages = {
        metric.name: shortages_of(
            metric, results.estimates[metric.name], counts.subset(metric.trials), _among(metric, counts)
        )
        for metric in metrics
    }
    asked = int((counts.tables.sum(axis=1) > 0).sum())
    is_noise = noise is not None and noise.code in NOISE
    enough = examples_text(
        [shortage for of_metric in shortages.values() for shortage in of_metric],
        asked,
        results.available,
        margin if is_noise else None,
    )
    for metric in metrics:
        if metric.remark is not None and kind_of(str(counts.condition.kind)).mentioned_by is not None:
            yield warning_of(metric.name, metric.remark(metric, counts))
    for metric in metrics:
        estimate = results.estimates[metric.name]
        if estimate.value is None:
            continue
        yield from _of_missing_trials(metric, counts)
        if counts.summaries:
            trials = counted(counts.scored, "trial")
            found = finding("reasoning_summary", summaries=counts.summaries, trials=trials)
            yield warning_of(metric.name, found)
        yield from estimate_warnings(metric, estimate, shortages[metric.name], enough)
        if noise is not None and metric.limited_by_noise:
            text = noise.text
            if margin is not None and is_noise:
                never = " (no number of examples would settle it at these rates)"
                text = f"{text.rstrip('.')}{never if margin.examples is None else enough}."
            yield warning_of(metric.name, noise._replace(text=text))
        for check in metric.checks:
            for found in check(metric, results):
                yield warning_of(metric.name, found)


def arm_warnings(counts: ArmCounts, estimates: Mapping[str, Estimate]) -> Iterator[MetricWarning]:
    """Yield what limits each number of one arm."""
    for metric in metrics_of(ArmMetric, estimates):
        estimate = estimates.get(metric.name)
        if estimate is None or estimate.value is None:
            continue
        yield from estimate_warnings(metric, estimate, shortages_of(metric, estimate))
        _, scored, missing = metric.outcomes(counts).sum(axis=0).tolist()
        if missing > (1 - ENOUGH) * (scored + missing):
            yield warning_of(
                metric.name,
                finding(
                    "missing_answers",
                    title=metric.title,
                    missing=missing,
                    asked=scored + missing,
                    what=metric.missing,
                ),
            )


def level_warnings(
    counts: LevelCounts,
    estimates: Mapping[str, Estimate],
    warnings: Sequence[RowWarning],
    available: int | None = None,
) -> Iterator[MetricWarning]:
    """Yield what limits each area over levels; `warnings` are those of the levels' own numbers.

    `available` is how many examples the task has.

    What holds for the levels as such is said once, of the first area, also where that is undefined.
    """
    for found in check_levels(counts):
        yield warning_of(next(iter(estimates)), found)
    defined = [metric for metric in metrics_of(LevelMetric, estimates) if _is_defined(estimates.get(metric.name))]
    among = ", among the trials that all levels share"
    short = {metric.name: shortages_of(metric, estimates[metric.name], counts.tables, among) for metric in defined}
    asked = int((_by_level(counts.tables).sum(axis=(1, 2)) > 0).sum())
    enough = examples_text([shortage for of_metric in short.values() for shortage in of_metric], asked, available)
    for metric in defined:
        yield from estimate_warnings(metric, estimates[metric.name], short[metric.name], enough)
    for metric in defined:
        for check in metric.checks:
            for found in check(counts):
                yield warning_of(metric.name, found)
    levels: dict[Finding, list[str]] = {}
    for row in warnings:
        level, warning = row.condition.verbosity, row.warning
        if level is None or row.condition.without_mention._replace(verbosity=None) != counts.condition:
            continue
        if warning.metric == IMPACT_RATE and warning.code in OF_LEVELS:
            levels.setdefault(Finding(warning.code, warning.text), []).append(level)
    for metric in defined:
        for of_level, names in levels.items():
            text = f"at {', '.join(names)}: {of_level.text}"
            yield warning_of(metric.name, of_level._replace(text=text))


def prediction_warnings(counts: PredictionCounts, estimates: Mapping[str, Estimate]) -> Iterator[MetricWarning]:
    """Yield what limits each number about one predictor, or the panel."""
    for metric in metrics_of(PredictionMetric, estimates):
        estimate = estimates.get(metric.name)
        if estimate is None or estimate.value is None:
            continue
        yield from estimate_warnings(metric, estimate, shortages_of(metric, estimate))
        if counts.unread:
            trials = counted(counts.asked, "trial")
            found = finding("predictions_unread", title=metric.title, unread=counts.unread, trials=trials)
            yield warning_of(metric.name, found)


def source_warnings(rows: Iterable[MetricRow], endpoints: Iterable[EndpointRecord]) -> Iterator[RowWarning]:
    """For each headline number (or the impact rate, where it is undefined) tell where its answers came from."""
    origins = {(entry.endpoint, entry.model): list(find_origins(entry)) for entry in endpoints}
    told = set()
    for row in rows:
        if row.metric not in OF_SOURCES or row.value is None or row.condition.without_mention in told:
            continue
        told.add(row.condition.without_mention)
        for found in origins.get((row.endpoint, row.model), ()):
            yield RowWarning(row.condition, warning_of(row.metric, found))


def mean_warnings(
    rows: Iterable[MetricRow], of_tasks: Iterable[MetricRow], warnings: Sequence[RowWarning]
) -> Iterator[RowWarning]:
    """For each mean over tasks (`rows`), say where tasks differ, and which tasks have a warning of their own.

    `of_tasks` are the rows of the tasks; that they differ is said of phi-CCT alone. The grade of the other warning is
    the gravest of those that it names.
    """
    phi_of_tasks: dict[Condition, list[MetricRow]] = {}
    for row in of_tasks:
        if row.metric == PHI_CCT and row.task != MEAN:
            phi_of_tasks.setdefault(row.condition._replace(task=MEAN), []).append(row)
    by_number: dict[tuple[Condition, str], dict[str, list[MetricWarning]]] = {}
    for row_warning in warnings:
        if row_warning.warning.grade != "for the record":
            number = row_warning.condition._replace(task=MEAN), row_warning.warning.metric
            by_task = by_number.setdefault(number, {})
            by_task.setdefault(row_warning.condition.task, []).append(row_warning.warning)
    for row in rows:
        is_phi = row.metric == PHI_CCT and row.value is not None
        differ = tasks_differ(phi_of_tasks.get(row.condition, ())) if is_phi else None
        if differ is not None:
            yield RowWarning(row.condition, warning_of(row.metric, finding("tasks_differ", differ=differ)))
        by_task = by_number.get((row.condition, row.metric), {})
        if row.value is None or not by_task:
            continue
        grades = {warning.grade for of_task in by_task.values() for warning in of_task}
        warning = warning_of(row.metric, finding("thin_tasks", tasks=joined(list(by_task))))
        yield RowWarning(row.condition, warning.model_copy(update={"grade": min(grades, key=GRADES.index)}))


class Shortage(NamedTuple):
    """Only `examples` examples have what a number needs in at least `fewest`; `where` says among which trials."""

    code: str
    examples: int
    fewest: int
    what: str
    where: str = ""
    is_short: bool = False
    """Whether the interval is known to be too short, not only unreliable."""


def shortages_of(metric: Metric[Any], estimate: Estimate, tables: ArrayLike = (), among: str = "") -> list[Shortage]:
    """Return what too few examples have for one estimate to be reliable; nothing where it is undefined.

    `tables` (G, 4), or (G, V, 4) over V levels, are those that the number rests on; `among` says in words which trials
    they hold where that is not all.
    """
    if estimate.value is None:
        return []
    levels = _by_level(tables)
    middle = ", at the middle level" if levels.shape[1] > 1 else ""
    counted = [(need, _fewest(need.having(levels) > 0), among) for need in metric.needs.examples]
    counted = sorted(counted, key=lambda entry: entry[1])[:1]
    counted += [(need, _middle(need.having(levels) > 0), f"{among}{middle}") for need in metric.needs.flips]
    # simulated: areas cover 86 to 94 % where few changed answers go unmentioned (docs/method.md, "Coverage")
    short = "few_unmentioned_flips" if middle else ""
    found = [
        Shortage(need.code, having, need.fewest, need.what, where, need.code == short)
        for need, having, where in counted
        if having < need.fewest
    ]
    if metric.rests_on is not None and estimate.n_examples < FEWEST_EXAMPLES:
        code, what = metric.rests_on
        found.append(Shortage(code, estimate.n_examples, FEWEST_EXAMPLES, what))
    return found


def examples_text(
    shortages: Iterable[Shortage], asked: int, available: int | None, margin: NoiseMargin | None = None
) -> str:
    """Say in brackets how many examples would do for all reasons together, and whether the task has so many.

    That is the largest number of all: each reason's own scales `asked`, the examples with a scored trial, and noise
    has its own where `margin` is given. Where no example has what is needed, no number can be told for that reason.
    Empty where no reason has a number, or more examples would not settle noise.
    """
    if margin is not None and margin.examples is None:
        return ""
    needed = [asked * shortage.fewest / shortage.examples for shortage in shortages if shortage.examples]
    if margin is not None and margin.examples is not None:
        needed.append(margin.examples)
    if not needed or not asked:
        return ""
    most = max(needed)
    digits = 10 ** max(0, math.floor(math.log10(most)) - 1)
    number = math.ceil(most / digits) * digits
    has = "" if available is None or available >= number else f"; the task has {available:,}"
    return f" (about {counted(number, 'example')} would do{has})"


def estimate_warnings(
    metric: Metric[Any], estimate: Estimate, shortages: Iterable[Shortage] = (), enough: str = ""
) -> Iterator[MetricWarning]:
    """Yield what limits one estimate by its own counts: `shortages`, no interval or a rough one.

    `enough` says in brackets how many examples would do. Nothing where the estimate is undefined.
    """
    if estimate.value is None:
        return
    for short in shortages:
        limited = "interval is too short" if short.is_short else "numbers are not reliable"
        found = finding(
            short.code,
            has=only(short.examples, "example", "have").capitalize(),
            what=short.what,
            where=short.where,
            limit=f"with fewer than {short.fewest} the {limited}",
            enough=enough if short.examples else "",
        )
        yield warning_of(metric.name, found)
    if not metric.has_interval:
        return
    words = {"title": metric.title, "reason": estimate.note or "no interval"}
    if estimate.low is None or estimate.high is None:
        is_one = metric.name == PHI_CCT and abs(estimate.value) == 1
        yield warning_of(metric.name, finding("exactly_one" if is_one else "no_interval", **words))
    elif estimate.note:
        yield warning_of(metric.name, finding("rough_interval", **words))


def _of_missing_trials(metric: KindMetric, counts: KindCounts) -> Iterator[MetricWarning]:
    missing, scored = int(counts.missing.sum()), counts.scored
    if not missing or metric.missing == "included":
        return
    if unknown := counts.unknown.total():
        found = finding(
            "mostly_unknown" if unknown > scored else "some_unknown",
            unknown=unknown,
            trials=counted(missing + scored, "trial"),
            are=agreeing(unknown, "are"),
            reasons=", ".join(reason for reason, _ in counts.unknown.most_common()),
        )
        yield warning_of(metric.name, found)
    share = f"{missing} of {counted(missing + scored, 'trial')} {agreeing(missing, 'have')} no score"
    if missing - unknown > scored:
        yield warning_of(metric.name, finding("many_missing", share=share))
    low, high = counts.phi_bounds
    if metric.missing == "bounded" and not np.isnan(low):
        limits = {"low": number_text(low, 3), "high": number_text(high, 3)}
        yield warning_of(metric.name, finding("missing_bounds", share=share, title=metric.title, **limits))
    elif metric.missing != "measured" and scored >= missing - unknown > (1 - ENOUGH) * (missing + scored):
        yield warning_of(metric.name, finding("missing_trials", share=share))


def _among(metric: KindMetric, counts: KindCounts) -> str:
    """Say which trials the metric rests on, where they are not all."""
    if metric.trials == "stable" and len(counts.subset("stable")) < len(counts.tables):
        return ", among the examples whose shams all agree"
    if metric.trials == "probabilities" and counts.with_tvd < counts.scored:
        return ", among the trials with usable label probabilities"
    return ""


def _is_defined(estimate: Estimate | None) -> bool:
    return estimate is not None and estimate.value is not None


def _fewest(have: NDArray[np.bool_]) -> int:
    """Return how many examples of (G, V) have it at the level where the fewest do.

    Levels where no example has it do not count: they make no point of an area.
    """
    examples = have.sum(axis=0)
    return int(examples[examples > 0].min()) if examples.any() else 0


def _middle(have: NDArray[np.bool_]) -> int:
    """Return how many examples of (G, V) have it at the level in the middle by that number, the lower one of two.

    A sweep from terse to talkative has a level that mentions nearly nothing and one that mentions nearly everything;
    the area is uncertain where that holds of most levels (benchmarks/coverage.md).
    """
    examples = np.sort(have.sum(axis=0))
    return int(examples[(len(examples) - 1) // 2])


def _by_level(tables: ArrayLike) -> IntArray:
    """Return tables as (G, V, 4), with V = 1 for those of no levels."""
    array = check_counts(tables)
    return array.reshape(0, 1, 4) if array.size == 0 else array.reshape(len(array), -1, 4)
