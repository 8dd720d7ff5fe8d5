"""Compute metric rows, with intervals and signatures, from per-example counts.

Pure apart from reading the run directory in `score`. Rows and sums are in a fixed order, so the order in which answers
were completed never changes a digit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explaineval.config import RunConfig, build
from explaineval.errors import InputError
from explaineval.interventions import cue_targets, kind_of
from explaineval.metrics.estimates import no_value
from explaineval.records import EXPLANATION, OUTCOMES, Condition, Estimate, MetricRow
from explaineval.rundir.directory import PROMPTS, read_interventions, read_run, read_trials
from explaineval.rundir.schema import Facts
from explaineval.scoring.checks import MetricWarning, Results
from explaineval.scoring.counts import NO_TARGETS, ArmCounts, KindCounts, RunCounts, Targets, count_trials
from explaineval.scoring.mentioning import phrases_in
from explaineval.scoring.registry import METRICS, ArmMetric, KindMetric, LevelMetric, compute_all, metrics_of
from explaineval.scoring.task_means import means
from explaineval.scoring.verbosity import NO_LEVEL_SHOTS, LevelCounts
from explaineval.scoring.warnings import RowWarning, arm_warnings, kind_warnings, level_warnings, mean_warnings
from explaineval.signature import mention_rule, signature


@dataclass(frozen=True)
class Scores:
    """The rows of a run and their warnings in a fixed order, and the missing trials by condition and status."""

    rows: tuple[MetricRow, ...]
    warnings: tuple[RowWarning, ...]
    missing: Mapping[Condition, Mapping[str, int]]


def score(directory: Path, changes: Mapping[str, Any] | None = None) -> Scores:
    """Compute the metrics of a run directory from its files alone.

    `changes` may replace mention, resamples or min_label_mass. Raises InputError where a file is missing, broken, or of
    a run that did not finish.
    """
    run = read_run(directory)
    changes = changes or {}
    config = build(RunConfig, {**run.config.model_dump(), **changes}, str(directory))
    counts = count_trials(
        read_trials(directory),
        config.mention,
        rejudge=config.mention != run.config.mention,
        min_label_mass=changes.get("min_label_mass"),
        by_level=len(config.arms.verbosity) > 1,
        by_sample=config.tvd_samples is not None,
        phrases=phrases_in(directory / PROMPTS),
        targets=_targets(directory, run.facts),
    )
    facts = run.facts
    check_facts(directory, counts.arms, facts)
    return score_counts(counts, config, facts)


def check_facts(directory: Path, conditions: Collection[Condition], facts: Facts) -> None:
    """Raise InputError unless run.json has what the signatures of these conditions need."""
    if conditions and not facts.arms:
        raise InputError(f"{directory}: the run was cut off before it ended; give the same command again, then score.")
    for arm in conditions:
        if arm.task not in facts.tasks or arm.arm_name not in facts.arms:
            raise InputError(
                f"{directory}: run.json says nothing of the trials of {arm.model} on {arm.task}, {arm.style} "
                f"{arm.order}: it was written by an earlier version or changed; give the same run command again."
            )


def score_counts(counts: RunCounts, config: RunConfig, facts: Facts) -> Scores:
    """Compute the metrics of a run from its counts.

    `facts` are the hashes and names that `run` recorded for the signatures.
    """
    rows: list[MetricRow] = []
    warnings: list[RowWarning] = []
    order = _condition_order(config, facts)
    lacking = _lacking_arms(facts)
    for arm in sorted({*counts.arms, *lacking}, key=order):
        if arm not in counts.arms:
            rows += _lacking_rows(arm, config, facts)
            continue
        kinds = {}
        for condition in sorted((condition for condition in counts.kinds if condition.arm == arm), key=order):
            kind_counts = KindCounts(condition, counts, config)
            kinds[condition.kind] = Results(kind_counts, compute_all(metrics_of(KindMetric), kind_counts))
        for kind, results in kinds.items():
            condition = results.counts.condition
            rows += _rows(condition, results.estimates, config, facts)
            if (control := kinds.get(kind_of(str(kind)).control)) is not None:
                results = results._replace(control=control.estimates.get("flip_to_cue_rate"))
            warnings += _row_warnings(condition, kind_warnings(results), config)
        arm_counts = ArmCounts(arm, counts, config)
        estimates = compute_all(metrics_of(ArmMetric), arm_counts)
        rows += _rows(arm, estimates, config, facts)
        warnings += _row_warnings(arm, arm_warnings(arm_counts, estimates), config)
    for condition, asked, not_asked in _level_conditions(counts, lacking, config, facts, order):
        level_counts = LevelCounts(condition, counts, asked, config, not_asked)
        estimates = compute_all(metrics_of(LevelMetric), level_counts)
        rows += _rows(condition, estimates, config, facts, asked or not_asked)
        warnings += _row_warnings(condition, list(level_warnings(level_counts, estimates, warnings)), config)
    averaged = list(means(rows, list(facts.tasks)))
    rows += averaged
    warnings += list(mean_warnings(averaged, warnings))
    missing: dict[Condition, dict[str, int]] = {}
    for condition, statuses in sorted(counts.statuses.items(), key=lambda item: order(item[0])):
        if by_status := {str(status): statuses[status] for status in OUTCOMES if statuses[status]}:
            missing[condition] = by_status
    return Scores(tuple(rows), tuple(warnings), missing)


def _targets(directory: Path, facts: Facts) -> Targets:
    """Return the letters that cues suggest; interventions are read only where there are cues."""
    if not any(kind_of(kind).has_target for task in facts.tasks.values() for kind in task.kinds):
        return NO_TARGETS
    edits = read_interventions(directory)
    return cue_targets(edits) | {
        (edit.task, edit.example_id, edit.id): edit.target
        for edit in edits
        if edit.target is not None and kind_of(edit.kind).has_target
    }


def _lacking_rows(arm: Condition, config: RunConfig, facts: Facts) -> Iterator[MetricRow]:
    """Yield the undefined rows of an arm that was not asked, for each kind of its task."""
    names = [metric.name for metric in METRICS.values() if metric.undefined_if_not_asked]
    for kind in facts.tasks[arm.task].kinds:
        if kind_of(kind).own_metric is None:
            yield from _rows(arm._replace(kind=kind), dict.fromkeys(names, no_value(NO_LEVEL_SHOTS)), config, facts)


def _level_conditions(
    counts: RunCounts,
    lacking: Sequence[Condition],
    config: RunConfig,
    facts: Facts,
    order: Callable[[Condition], Any],
) -> Iterator[tuple[Condition, list[str], list[str]]]:
    """Yield each condition over all levels (verbosity None), the levels that were asked, and those that lack shots."""
    levels = config.arms.verbosity
    if len(levels) < 2:
        return
    conditions = {condition._replace(verbosity=None) for condition in counts.kinds}
    for arm in lacking:
        kinds = [kind for kind in facts.tasks[arm.task].kinds if kind_of(kind).own_metric is None]
        conditions |= {arm._replace(kind=kind, verbosity=None) for kind in kinds}
    for condition in sorted(conditions, key=order):
        at_levels = {level: condition._replace(verbosity=level) for level in levels}
        asked = [level for level, at_level in at_levels.items() if at_level in counts.kinds]
        yield condition, asked, [level for level, at_level in at_levels.items() if at_level.arm in lacking]


def _rows(
    condition: Condition,
    estimates: Mapping[str, Estimate],
    config: RunConfig,
    facts: Facts,
    levels: Sequence[str] = (),
) -> Iterator[MetricRow]:
    """Yield the rows of one condition; `levels` are those that it is about where its own verbosity is None."""
    for metric, estimate in estimates.items():
        yield MetricRow(
            **condition_of(metric, condition, config)._asdict(),
            metric=metric,
            **estimate.model_dump(exclude={"note"}),
            signature=row_signature(metric, condition, config, facts, levels),
        )


def row_signature(
    metric: str, condition: Condition, config: RunConfig, facts: Facts, levels: Sequence[str] = ()
) -> str:
    """Return the signature of one metric's row; `levels` as in `_rows`."""
    row, depends = condition_of(metric, condition, config), METRICS[metric].depends
    kinds = [row.kind]
    if "cue" in depends:
        kinds.append(kind_of(str(row.kind)).control_of or row.kind)
    parts = [
        facts_of(row._replace(verbosity=level, kind=kind), facts)
        for level in levels or (condition.verbosity,)
        for kind in kinds
    ]
    joined = {name: "+".join(dict.fromkeys(part[name] for part in parts)) for name in parts[0]}
    return signature(config, joined, depends)


def condition_of(metric: str, condition: Condition, config: RunConfig) -> Condition:
    """Return the condition of a metric's row: its own kind where it has one, and how its mentions were found."""
    kind, rule = METRICS[metric].own_kind or condition.kind, None
    if "mention" in METRICS[metric].depends:
        rule = mention_rule(kind, config.mention)
    return condition._replace(kind=kind, channel=None if rule is None else EXPLANATION, mention=rule)


def _row_warnings(condition: Condition, warnings: Iterable[MetricWarning], config: RunConfig) -> list[RowWarning]:
    """Return the warnings, each with the condition of the row of its metric."""
    return [RowWarning(condition_of(warning.metric, condition, config), warning) for warning in warnings]


def facts_of(condition: Condition, facts: Facts) -> dict[str, str]:
    """Return the parts of a signature that depend on the condition alone."""
    task = facts.tasks[condition.task]
    arm = facts.arms[condition.arm_name]
    known = {
        "task": f"{condition.task}@{task.examples}",
        "model": condition.model,
        "endpoint": condition.endpoint or "default",
        "order": condition.order,
        "style": condition.style,
        "shots": f"{condition.shots}@{arm.shots}" if condition.shots else "0",
        "verbosity": str(condition.verbosity),
        "prompts": arm.prompts,
        "temperature": arm.temperature,
        "logprobs": arm.logprobs,
    }
    if condition.kind is not None:
        known["kind"] = f"{condition.kind}@{task.kinds.get(condition.kind, 'none')}"
    return known


def _lacking_arms(facts: Facts) -> list[Condition]:
    """Return the arms that were not asked because no shots have the length of their verbosity."""
    arms = [arm.condition for arm in facts.no_level_shots]
    return [arm for arm in arms if arm.arm_name in facts.arms]


def _condition_order(config: RunConfig, facts: Facts) -> Callable[[Condition], tuple[Any, ...]]:
    """Return the sort key of conditions: models, tasks and levels as configured, the rest by name."""
    models = {(model.endpoint, model.model): index for index, model in enumerate(config.models)}
    tasks = {name: index for index, name in enumerate(facts.tasks)}
    levels = {name: index for index, name in enumerate(config.arms.verbosity)}

    def key(condition: Condition) -> tuple[Any, ...]:
        return (
            models.get((condition.endpoint, condition.model), len(models)),
            tasks.get(condition.task, len(tasks)),
            condition.style,
            condition.order,
            condition.shots,
            levels.get(condition.verbosity or "", len(levels)),
            condition.verbosity or "",
            condition.kind or "",
        )

    return key
