"""From tallies to metric rows, each with its interval, its reason where it is undefined, and its signature.

Pure apart from reading the run directory in `score`. Rows and sums stand in a fixed order: the order in which
answers came home never changes a digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explaineval.config import RunConfig, build
from explaineval.errors import InputError
from explaineval.interventions import cue_targets, kind_of
from explaineval.metrics import MetricWarning
from explaineval.records import EXPLANATION, OUTCOMES, Condition, Estimate, MetricRow
from explaineval.rundir.directory import PROMPTS, read_interventions, read_run, read_trials
from explaineval.scoring.counts import NO_TARGETS, Tally, Targets, tally
from explaineval.scoring.mentioning import phrases_in
from explaineval.scoring.numbers import OWN_KINDS, KindNumbers, arm_estimates, undefined
from explaineval.scoring.task_means import means
from explaineval.scoring.verbosity import NO_LEVEL_SHOTS, LevelNumbers
from explaineval.scoring.warnings import RowWarning, area_warnings, arm_warnings, kind_warnings, mean_warnings
from explaineval.signature import mention_rule, signature

UNASKED = ("phi_cct", "cct", "tpr", "fpr", "impact_rate", "mention_rate", "explanation_words")
"""The metrics that are said to be undefined where an arm was not asked."""


@dataclass(frozen=True)
class Scores:
    """What a run says: rows and their warnings in a fixed order, and the missing trials by condition and status."""

    rows: tuple[MetricRow, ...]
    warnings: tuple[RowWarning, ...]
    missing: Mapping[Condition, Mapping[str, int]]


def score(directory: Path, changes: Mapping[str, Any] | None = None) -> Scores:
    """Metrics of a run directory, from its files alone.

    `changes` may replace mention, resamples or min_label_mass. Raises InputError where the directory is not whole.
    """
    run = read_run(directory)
    changes = changes or {}
    if not isinstance(run.get("config"), dict) or not isinstance(run.get("facts"), dict):
        raise InputError(f"{directory}: run.json holds no configuration or no facts: it is no run of explaineval.")
    config = build(RunConfig, {**run["config"], **changes}, str(directory))
    counts = tally(
        read_trials(directory),
        config.mention,
        rejudge=config.mention != run["config"].get("mention"),
        min_label_mass=changes.get("min_label_mass"),
        by_level=len(config.arms.verbosity) > 1,
        by_sample=config.tvd_samples is not None,
        phrases=phrases_in(directory / PROMPTS),
        targets=_targets(directory, run["facts"]),
    )
    if counts.arms and not run["facts"].get("arms"):
        raise InputError(f"{directory}: the run was cut off before it ended; give the same command again, then score.")
    known = run["facts"]
    strange = next(
        (arm for arm in counts.arms if arm.task not in known["tasks"] or arm.arm_name not in known["arms"]), None
    )
    if strange is not None:
        raise InputError(
            f"{directory}: run.json says nothing of the trials of {strange.model} on {strange.task}, {strange.style} "
            f"{strange.order}: it was written by an earlier version or changed; give the same run command again."
        )
    return score_tally(counts, config, known)


def score_tally(counts: Tally, config: RunConfig, facts: Mapping[str, Any]) -> Scores:
    """Metrics of one tally. `facts` are the hashes and names that `run` recorded for the signatures."""
    rows: list[MetricRow] = []
    warnings: list[RowWarning] = []
    order = _condition_order(config, facts)
    lacking = _lacking_arms(facts)
    for arm in sorted({*counts.arms, *lacking}, key=order):
        if arm not in counts.arms:
            rows += _lacking_rows(arm, config, facts)
            continue
        examples = counts.arms[arm]
        conditions = sorted((one for one in counts.kinds if one.arm == arm), key=order)
        found = {condition.kind: KindNumbers(condition, counts, examples, config) for condition in conditions}
        for kind, numbers in found.items():
            rows += _rows(numbers.condition, numbers.estimates, config, facts)
            control = found.get(kind_of(str(kind)).control)
            to_letter = None if control is None else control.estimates.get("flip_to_cue_rate")
            warnings += _row_warnings(numbers.condition, kind_warnings(numbers, to_letter), config)
        of_arm = arm_estimates(examples, config)
        rows += _rows(arm, of_arm, config, facts)
        warnings += _row_warnings(arm, arm_warnings(examples, of_arm), config)
    for condition, asked, not_asked in _level_conditions(counts, lacking, config, facts, order):
        across = LevelNumbers(condition, counts, asked, config, not_asked)
        rows += _rows(condition, across.estimates, config, facts, asked or not_asked)
        of_levels = [*across.warnings(), *area_warnings(condition, across.estimates, warnings)]
        warnings += _row_warnings(condition, of_levels, config)
    averaged = list(means(rows, list(facts["tasks"])))
    rows += averaged
    warnings += mean_warnings(averaged, warnings)
    missing: dict[Condition, dict[str, int]] = {
        condition: {str(status): by[status] for status in OUTCOMES if by[status]}
        for condition, by in sorted(counts.statuses.items(), key=lambda item: order(item[0]))
    }
    return Scores(tuple(rows), tuple(warnings), {condition: by for condition, by in missing.items() if by})


def _targets(directory: Path, facts: Mapping[str, Any]) -> Targets:
    """The letters that cues suggest; interventions are read only where there are cues."""
    if not any(kind_of(kind).has_target for task in facts["tasks"].values() for kind in task["kinds"]):
        return NO_TARGETS
    edits = read_interventions(directory)
    return cue_targets(edits) | {
        (one.task, one.example_id, one.id): one.target
        for one in edits
        if one.target is not None and kind_of(one.kind).has_target
    }


def _lacking_rows(arm: Condition, config: RunConfig, facts: Mapping[str, Any]) -> Iterator[MetricRow]:
    """What is undefined of an arm that was not asked, for each kind of its task."""
    for kind in facts["tasks"][arm.task]["kinds"]:
        if kind_of(kind).own_metric is None:
            none = dict.fromkeys(UNASKED, undefined(NO_LEVEL_SHOTS))
            yield from _rows(arm._replace(kind=kind), none, config, facts)


def _level_conditions(
    counts: Tally,
    lacking: Sequence[Condition],
    config: RunConfig,
    facts: Mapping[str, Any],
    order: Callable[[Condition], Any],
) -> Iterator[tuple[Condition, list[str], list[str]]]:
    """Conditions over all levels (verbosity None), with the levels that were asked and those that lack shots."""
    levels = config.arms.verbosity
    if len(levels) < 2:
        return
    arms = [
        arm._replace(kind=kind, verbosity=None)
        for arm in lacking
        for kind in facts["tasks"][arm.task]["kinds"]
        if kind_of(kind).own_metric is None
    ]
    for condition in sorted({*(kind._replace(verbosity=None) for kind in counts.kinds), *arms}, key=order):
        at = [(level, condition._replace(verbosity=level)) for level in levels]
        asked = [level for level, one in at if one in counts.kinds]
        yield condition, asked, [level for level, one in at if one.arm in lacking]


def _rows(
    condition: Condition,
    estimates: Mapping[str, Estimate],
    config: RunConfig,
    facts: Mapping[str, Any],
    levels: Sequence[str] = (),
) -> Iterator[MetricRow]:
    """Rows of one condition; `levels` where it is about several of them (its own verbosity is None)."""
    for metric, estimate in estimates.items():
        about = condition_of(metric, condition, config)
        kinds = [about.kind]
        if metric == "flip_to_cue_rate":  # the letter that a control's answers are held against is that of its cue
            kinds.append(kind_of(str(about.kind)).control_of or about.kind)
        by_part = [
            facts_of(about._replace(verbosity=level, kind=kind), facts)
            for level in levels or (condition.verbosity,)
            for kind in kinds
        ]
        known = {name: "+".join(dict.fromkeys(one[name] for one in by_part)) for name in by_part[0]}
        yield MetricRow(
            **about._asdict(),
            metric=metric,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            n=estimate.n,
            n_examples=estimate.n_examples,
            undefined=estimate.undefined,
            signature=signature(config, known, metric),
        )


def condition_of(metric: str, condition: Condition, config: RunConfig) -> Condition:
    """The condition of a metric's row: with a kind of its own where it has one, and how its mentions were found."""
    kind = OWN_KINDS.get(metric, condition.kind)
    rule = mention_rule(metric, kind, config.mention)
    return condition._replace(kind=kind, channel=None if rule is None else EXPLANATION, mention=rule)


def _row_warnings(condition: Condition, found: Iterable[MetricWarning], config: RunConfig) -> list[RowWarning]:
    """The warnings, each with the condition of the row of its metric."""
    return [RowWarning(condition_of(one.metric, condition, config), one) for one in found]


def facts_of(condition: Condition, facts: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a signature that a condition knows by itself."""
    task = facts["tasks"][condition.task]
    arm = facts["arms"][condition.arm_name]
    known = {
        "task": f"{condition.task}@{task['examples']}",
        "model": condition.model,
        "endpoint": condition.endpoint or "default",
        "order": condition.order,
        "style": condition.style,
        "shots": f"{condition.shots}@{arm['shots']}" if condition.shots else "0",
        "verbosity": str(condition.verbosity),
        "prompts": arm["prompts"],
        "temperature": arm["temperature"],
        "logprobs": arm["logprobs"],
    }
    if condition.kind is not None:
        known["kind"] = f"{condition.kind}@{task['kinds'].get(condition.kind, 'none')}"
    return known


def _lacking_arms(facts: Mapping[str, Any]) -> list[Condition]:
    """The arms that were not asked, since there are no shots of the length of their verbosity."""
    arms = [Condition(**{"kind": None, **one}) for one in facts.get("no_level_shots", ())]
    return [arm for arm in arms if arm.arm_name in facts["arms"]]


def _condition_order(config: RunConfig, facts: Mapping[str, Any]) -> Callable[[Condition], tuple[Any, ...]]:
    models = {(model.endpoint, model.model): index for index, model in enumerate(config.models)}
    tasks = {name: index for index, name in enumerate(facts["tasks"])}
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
