"""From tallies to metric rows, each with its interval, its reason where it is undefined, and its signature.

Pure apart from reading the run directory in `score`. Rows and sums stand in a fixed order: the order in which
answers came home never changes a digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explaineval.config import RunConfig, build
from explaineval.errors import InputError
from explaineval.interventions import CONTROL, NULL_EDIT, cue_targets, is_cue
from explaineval.records import OUTCOMES, Estimate, MetricRow
from explaineval.rundir.directory import PROMPTS, read_interventions, read_run, read_trials
from explaineval.scoring.counts import NO_TARGETS, Group, Tally, Targets, tally
from explaineval.scoring.mentioning import phrases_in
from explaineval.scoring.numbers import OWN_KINDS, KindNumbers, arm_estimates, undefined
from explaineval.scoring.task_means import means
from explaineval.scoring.verbosity import NO_LEVEL_SHOTS, LevelNumbers
from explaineval.scoring.warnings import RowWarning, area_warnings, arm_warnings, kind_warnings, mean_warnings
from explaineval.signature import signature

UNASKED = ("phi_cct", "cct", "tpr", "fpr", "impact_rate", "mention_rate", "explanation_words")
"""The metrics that are said to be undefined where an arm was not asked."""


@dataclass(frozen=True)
class Scores:
    """What a run says: rows and their warnings in a fixed order, and the missing trials by group and status."""

    rows: tuple[MetricRow, ...]
    warnings: tuple[RowWarning, ...]
    missing: Mapping[Group, Mapping[str, int]]


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
        (arm for arm in counts.arms if arm.task not in known["tasks"] or arm_name(arm) not in known["arms"]), None
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
    order = _group_order(config, facts)
    lacking = _lacking_arms(facts)
    for arm in sorted({*counts.arms, *lacking}, key=order):
        if arm not in counts.arms:
            rows += _lacking_rows(arm, config, facts)
            continue
        examples = counts.arms[arm]
        groups = sorted((g for g in counts.kinds if g._replace(kind=None) == arm), key=order)
        found = {group.kind: KindNumbers(group, counts, examples, config) for group in groups}
        for kind, numbers in found.items():
            rows += _rows(numbers.group, numbers.estimates, config, facts)
            control = found.get(f"{kind}{CONTROL}")
            to_letter = None if control is None else control.estimates.get("flip_to_cue_rate")
            warnings += [RowWarning(numbers.group, one) for one in kind_warnings(numbers, to_letter)]
        of_arm = arm_estimates(examples, config)
        rows += _rows(arm, of_arm, config, facts)
        for one in arm_warnings(examples, of_arm):
            warnings.append(RowWarning(arm._replace(kind=OWN_KINDS.get(one.metric)), one))
    for group, asked, not_asked in _level_groups(counts, lacking, config, facts, order):
        across = LevelNumbers(group, counts, asked, config, not_asked)
        rows += _rows(group, across.estimates, config, facts, asked or not_asked)
        of_levels = [*across.warnings(), *area_warnings(group, across.estimates, warnings)]
        warnings += [RowWarning(group, one) for one in of_levels]
    averaged = list(means(rows, list(facts["tasks"])))
    rows += averaged
    warnings += mean_warnings(averaged, warnings)
    missing: dict[Group, dict[str, int]] = {
        group: {str(status): counts.statuses[group][status] for status in OUTCOMES if counts.statuses[group][status]}
        for group in sorted(counts.statuses, key=order)
    }
    return Scores(tuple(rows), tuple(warnings), {group: by for group, by in missing.items() if by})


def _targets(directory: Path, facts: Mapping[str, Any]) -> Targets:
    """The letters that cues suggest; interventions are read only where there are cues."""
    if not any(is_cue(kind) for task in facts["tasks"].values() for kind in task["kinds"]):
        return NO_TARGETS
    edits = read_interventions(directory)
    return cue_targets(edits) | {
        (one.task, one.example_id, one.id): one.target for one in edits if one.target is not None and is_cue(one.kind)
    }


def _lacking_rows(arm: Group, config: RunConfig, facts: Mapping[str, Any]) -> Iterator[MetricRow]:
    """What is undefined of an arm that was not asked, for each kind of its task."""
    for kind in facts["tasks"][arm.task]["kinds"]:
        if kind != NULL_EDIT:
            none = dict.fromkeys(UNASKED, undefined(NO_LEVEL_SHOTS))
            yield from _rows(arm._replace(kind=kind), none, config, facts)


def _level_groups(
    counts: Tally, lacking: Sequence[Group], config: RunConfig, facts: Mapping[str, Any], order: Callable[[Group], Any]
) -> Iterator[tuple[Group, list[str], list[str]]]:
    """Groups over all levels (verbosity blank), with the levels that were asked and those that lack shots."""
    levels = config.arms.verbosity
    if len(levels) < 2:
        return
    arms = [
        arm._replace(kind=kind, verbosity="")
        for arm in lacking
        for kind in facts["tasks"][arm.task]["kinds"]
        if kind != NULL_EDIT
    ]
    for group in sorted({*(kind._replace(verbosity="") for kind in counts.kinds), *arms}, key=order):
        at = [(level, group._replace(verbosity=level)) for level in levels]
        asked = [level for level, one in at if one in counts.kinds]
        yield group, asked, [level for level, one in at if one._replace(kind=None) in lacking]


def _rows(
    group: Group,
    estimates: Mapping[str, Estimate],
    config: RunConfig,
    facts: Mapping[str, Any],
    levels: Sequence[str] = (),
) -> Iterator[MetricRow]:
    """Rows of one group; `levels` where it is about several of them (its own verbosity is blank)."""
    for metric, estimate in estimates.items():
        about = group._replace(kind=OWN_KINDS.get(metric, group.kind))
        kinds = [about.kind]
        if metric == "flip_to_cue_rate":  # the letter that a control's answers are held against is that of its cue
            kinds.append(str(about.kind).removesuffix(CONTROL))
        by_part = [
            facts_of(about._replace(verbosity=level, kind=kind), facts)
            for level in levels or (group.verbosity,)
            for kind in kinds
        ]
        known = {name: "+".join(dict.fromkeys(one[name] for one in by_part)) for name in by_part[0]}
        yield MetricRow(
            **about._asdict() | {"verbosity": group.verbosity or None},
            metric=metric,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            n=estimate.n,
            n_examples=estimate.n_examples,
            undefined=estimate.undefined,
            signature=signature(config, known, metric),
        )


def facts_of(group: Group, facts: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a signature that a group knows by itself."""
    task = facts["tasks"][group.task]
    arm = facts["arms"][arm_name(group)]
    known = {
        "task": f"{group.task}@{task['examples']}",
        "model": group.model,
        "endpoint": group.endpoint or "default",
        "order": group.order,
        "style": group.style,
        "shots": f"{group.shots}@{arm['shots']}" if group.shots else "0",
        "verbosity": group.verbosity,
        "prompts": arm["prompts"],
        "temperature": arm["temperature"],
        "logprobs": arm["logprobs"],
    }
    if group.kind is not None:
        known["kind"] = f"{group.kind}@{task['kinds'].get(group.kind, 'none')}"
    return known


def _lacking_arms(facts: Mapping[str, Any]) -> list[Group]:
    """The arms that were not asked, since there are no shots of the length of their verbosity."""
    arms = [Group(**{"kind": None, **one}) for one in facts.get("no_level_shots", ())]
    return [arm for arm in arms if arm_name(arm) in facts["arms"]]


def arm_name(group: Group) -> str:
    """The name under which run.json keeps the facts of one model, task and arm."""
    return " ".join(str(part) for name, part in group._asdict().items() if name != "kind")


def _group_order(config: RunConfig, facts: Mapping[str, Any]) -> Callable[[Group], tuple[Any, ...]]:
    models = {(model.endpoint, model.model): index for index, model in enumerate(config.models)}
    tasks = {name: index for index, name in enumerate(facts["tasks"])}
    levels = {name: index for index, name in enumerate(config.arms.verbosity)}

    def key(group: Group) -> tuple[Any, ...]:
        return (
            models.get((group.endpoint, group.model), len(models)),
            tasks.get(group.task, len(tasks)),
            group.style,
            group.order,
            group.shots,
            levels.get(group.verbosity, len(levels)),
            group.verbosity,
            group.kind or "",
        )

    return key
