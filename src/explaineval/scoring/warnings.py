"""The warnings of a run: for each number that has a value, what limits it.

Every warning is about one number and is made from that number's own counts, whether or not another number is defined.
An undefined number has no warnings: its reason says why it is undefined.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from explaineval.metrics.estimates import FEWEST, IntArray, check_counts
from explaineval.records import Condition, Estimate, MetricRow
from explaineval.rundir.schema import EndpointRecord
from explaineval.scoring.checks import (
    ENOUGH,
    FEWEST_EXAMPLES,
    GRADES,
    MetricWarning,
    Results,
    check_noise,
    describe_sources,
    make_warning,
)
from explaineval.scoring.counts import ArmCounts, KindCounts
from explaineval.scoring.metric import ArmMetric, KindMetric, LevelMetric, Metric, PredictionMetric
from explaineval.scoring.predictions import PredictionCounts
from explaineval.scoring.registry import metrics_of
from explaineval.scoring.task_means import MEAN
from explaineval.scoring.verbosity import LevelCounts, check_levels

OF_SOURCES = ("phi_cct", "impact_rate")
"""The numbers that carry what is known of where a model's answers came from."""

OF_LEVELS = ("many_missing", "missing_trials", "noise", "noise_unknown")
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


def kind_warnings(results: Results) -> Iterator[MetricWarning]:
    """Yield what limits each number of one kind of intervention."""
    counts = results.counts
    noise = check_noise(counts)
    metrics = [metric for metric in metrics_of(KindMetric) if metric.name in results.estimates]
    for metric in metrics:
        if metric.remark is not None:
            code, text = metric.remark(metric.title, counts)
            yield make_warning(code, metric.name, text)
    for metric in metrics:
        estimate = results.estimates[metric.name]
        if estimate.value is None:
            continue
        yield from _of_missing_trials(metric, counts)
        if counts.summaries:
            text = (
                f"in {counts.summaries} of {counts.scored} trials the endpoint returned a summary or a part of the "
                "reasoning: what it leaves out counts as not mentioned."
            )
            yield make_warning("reasoning_summary", metric.name, text)
        yield from estimate_warnings(metric, estimate, counts.subset(metric.trials), _among(metric, counts))
        if noise is not None and metric.limited_by_noise:
            yield make_warning(noise[0], metric.name, noise[1])
        for check in metric.checks:
            for code, text in check(metric.title, results):
                yield make_warning(code, metric.name, text)


def arm_warnings(counts: ArmCounts, estimates: Mapping[str, Estimate]) -> Iterator[MetricWarning]:
    """Yield what limits each number of one arm."""
    for metric in metrics_of(ArmMetric):
        estimate = estimates.get(metric.name)
        if estimate is None or estimate.value is None:
            continue
        yield from estimate_warnings(metric, estimate)
        _, scored, missing = metric.outcomes(counts).sum(axis=0).tolist()
        if missing > (1 - ENOUGH) * (scored + missing):
            text = f"{metric.title} leaves out {missing} of {scored + missing}: these {metric.missing}."
            yield make_warning("missing_answers", metric.name, text)


def level_warnings(
    counts: LevelCounts, estimates: Mapping[str, Estimate], warnings: Sequence[RowWarning]
) -> Iterator[MetricWarning]:
    """Yield what limits each area over levels; `warnings` are those of the levels' own numbers.

    What holds for the levels as such is said once, of the first area, also where that is undefined.
    """
    for code, text in check_levels(counts):
        yield make_warning(code, next(iter(estimates)), text)
    defined = [metric for metric in metrics_of(LevelMetric) if _is_defined(estimates.get(metric.name))]
    for metric in defined:
        among = ", among the trials that all levels share"
        yield from estimate_warnings(metric, estimates[metric.name], counts.tables, among)
    for metric in defined:
        for check in metric.checks:
            for code, text in check(counts):
                yield make_warning(code, metric.name, text)
    levels: dict[tuple[str, str], list[str]] = {}
    for row in warnings:
        level, warning = row.condition.verbosity, row.warning
        if level is None or row.condition.without_mention._replace(verbosity=None) != counts.condition:
            continue
        if warning.metric == "impact_rate" and warning.code in OF_LEVELS:
            levels.setdefault((warning.code, warning.text), []).append(level)
    for metric in defined:
        for (code, text), names in levels.items():
            yield make_warning(code, metric.name, f"at {', '.join(names)}: {text}")


def prediction_warnings(counts: PredictionCounts, estimates: Mapping[str, Estimate]) -> Iterator[MetricWarning]:
    """Yield what limits each number about one predictor, or the panel."""
    for metric in metrics_of(PredictionMetric):
        estimate = estimates.get(metric.name)
        if estimate is None or estimate.value is None:
            continue
        yield from estimate_warnings(metric, estimate)
        if counts.unread:
            text = (
                f"{metric.title} leaves out {counts.unread} of {counts.asked} trials: a prediction was not readable, "
                "or was made from an answer that has changed since."
            )
            yield make_warning("predictions_unread", metric.name, text)


def source_warnings(rows: Iterable[MetricRow], endpoints: Iterable[EndpointRecord]) -> Iterator[RowWarning]:
    """For each headline number (or the impact rate, where it is undefined) tell where its answers came from."""
    texts = {(entry.endpoint, entry.model): list(describe_sources(entry)) for entry in endpoints}
    told = set()
    for row in rows:
        if row.metric not in OF_SOURCES or row.value is None or row.condition.without_mention in told:
            continue
        told.add(row.condition.without_mention)
        for code, text in texts.get((row.endpoint, row.model), ()):
            yield RowWarning(row.condition, make_warning(code, row.metric, text))


def mean_warnings(rows: Iterable[MetricRow], warnings: Sequence[RowWarning]) -> Iterator[RowWarning]:
    """For each mean over tasks (`rows`), name the tasks whose own number has a warning that matters.

    The grade is the gravest of those warnings.
    """
    by_number: dict[tuple[Condition, str], dict[str, list[MetricWarning]]] = {}
    for row_warning in warnings:
        if row_warning.warning.grade != "for the record":
            number = row_warning.condition._replace(task=MEAN), row_warning.warning.metric
            by_task = by_number.setdefault(number, {})
            by_task.setdefault(row_warning.condition.task, []).append(row_warning.warning)
    for row in rows:
        by_task = by_number.get((row.condition, row.metric), {})
        if row.value is None or not by_task:
            continue
        grades = {warning.grade for of_task in by_task.values() for warning in of_task}
        text = f"the mean over tasks rests on numbers that have warnings of their own: those of {', '.join(by_task)}."
        warning = make_warning("thin_tasks", row.metric, text)
        yield RowWarning(row.condition, warning.model_copy(update={"grade": min(grades, key=GRADES.index)}))


def estimate_warnings(
    metric: Metric[Any], estimate: Estimate, tables: ArrayLike = (), among: str = ""
) -> Iterator[MetricWarning]:
    """Yield what limits one estimate by its own counts: few examples, few flips, no interval or a rough one.

    `tables` (G, 4), or (G, V, 4) over V levels, are those that the number rests on; `among` says in words which trials
    they hold where that is not all. Nothing where the estimate is undefined.
    """
    if estimate.value is None:
        return
    levels = _by_level(tables)
    middle = ", at the middle level" if levels.shape[1] > 1 else ""
    counted = [(need, _fewest(need.having(levels) > 0), among) for need in metric.needs.examples]
    counted = sorted(counted, key=lambda entry: entry[1])[:1]
    counted += [(need, _middle(need.having(levels) > 0), f"{among}{middle}") for need in metric.needs.flips]
    for need, examples, where in counted:
        if examples < need.fewest:
            # simulated: areas cover 86 to 94 % where few changed answers go unmentioned (docs/method.md, "Coverage")
            is_short = bool(middle) and need.code == "few_unmentioned_flips"
            reliability = "too short" if is_short else "not reliable"
            reached = _reached_by(need.fewest, examples, int((levels.sum(axis=(1, 2)) > 0).sum()))
            text = f"{_examples_have(examples)} {need.what}{where}; below {need.fewest} the interval is {reliability}"
            yield make_warning(need.code, metric.name, f"{text}{reached}.")
    if metric.rests_on is not None and estimate.n_examples < FEWEST_EXAMPLES:
        code, what = metric.rests_on
        has = _examples_have(estimate.n_examples)
        yield make_warning(code, metric.name, f"{has} {what}; below {FEWEST_EXAMPLES} the interval is not reliable.")
    if not metric.has_interval:
        return
    if estimate.low is None or estimate.high is None:
        yield make_warning("no_interval", metric.name, f"{metric.title}: {estimate.note or 'no interval'}.")
    elif estimate.note:
        yield make_warning("rough_interval", metric.name, f"{metric.title}: {estimate.note}.")


def _of_missing_trials(metric: KindMetric, counts: KindCounts) -> Iterator[MetricWarning]:
    missing, scored = int(counts.missing.sum()), counts.scored
    if not missing or metric.missing == "included":
        return
    if unknown := counts.unknown.total():
        reasons = ", ".join(reason for reason, _ in counts.unknown.most_common())
        text = (
            f"{unknown} of {missing + scored} trials are left out, since it is not known what they mention: {reasons}."
        )
        yield make_warning("mostly_unknown" if unknown > scored else "some_unknown", metric.name, text)
    share = f"{missing} of {missing + scored} trials have no score"
    if missing - unknown > scored:
        text = (
            f"{share}. If most are unparsed, the model does not keep the answer's form: try --shots 4, or --style "
            "completion."
        )
        yield make_warning("many_missing", metric.name, text)
    low, high = counts.phi_bounds
    if metric.missing == "bounded" and not np.isnan(low):
        text = (
            f"{share}: whatever they would have been, {metric.title} on all of them lies between {low:.3f} and "
            f"{high:.3f}."
        )
        yield make_warning("missing_bounds", metric.name, text)
    elif metric.missing != "measured" and scored >= missing - unknown > (1 - ENOUGH) * (missing + scored):
        yield make_warning("missing_trials", metric.name, f"{share} and are left out.")


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
    the area is uncertain where that holds of most levels (docs/coverage.md).
    """
    examples = np.sort(have.sum(axis=0))
    return int(examples[(len(examples) - 1) // 2])


def _by_level(tables: ArrayLike) -> IntArray:
    """Return tables as (G, V, 4), with V = 1 for those of no levels."""
    array = check_counts(tables)
    return array.reshape(0, 1, 4) if array.size == 0 else array.reshape(len(array), -1, 4)


def _reached_by(fewest: int, examples: int, asked: int) -> str:
    """Say how many examples would probably do, of which `examples` of the `asked` have what is needed.

    Nothing where fewer than two have it, from which no rate can be told.
    """
    if examples < FEWEST:
        return ""
    needed = asked * fewest / examples
    digits = 10 ** max(0, math.floor(math.log10(needed)) - 1)
    return f" (about {math.ceil(needed / digits) * digits:,} examples would do)"


def _examples_have(examples: int) -> str:
    if examples == 0:
        return "No example has"
    return "Only 1 example has" if examples == 1 else f"Only {examples} examples have"
