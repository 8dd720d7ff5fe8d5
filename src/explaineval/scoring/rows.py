"""Compute metric rows, with intervals and signatures, from per-example counts.

Pure apart from reading the run directory in `score`. Rows and sums are in a fixed order, so the order in which answers
were completed never changes a digit.

Each source of mentions beside the headline is compared with its reference on the trials that both could decide
(`Sensitivity`): how far the two agree (Cohen's kappa), and whether Youden's J differs (paired over examples). Another
policy or a judge is compared with the headline, another channel with the explanation by the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from explaineval.config import RunConfig, build
from explaineval.errors import InputError
from explaineval.interventions import counts_for_phi, cue_targets, kind_of
from explaineval.mentions import SEARCHES
from explaineval.metrics.correlations import phi_values, youden_values
from explaineval.metrics.differences import LEVEL, Difference, compare_pairs, holm_adjusted, two_sided_p
from explaineval.metrics.estimates import IntArray, column_sums, no_value, student_t
from explaineval.metrics.reliability import cohen_kappa
from explaineval.plugins import warn
from explaineval.records import (
    EITHER,
    EXPLANATION,
    OUTCOMES,
    POLICIES,
    REASONING,
    Channel,
    Condition,
    Estimate,
    Mention,
    MetricRow,
    Trial,
)
from explaineval.rundir.directory import (
    PROMPTS,
    count_trials_read,
    read_interventions,
    read_predictions,
    read_run,
    read_trials,
    read_verdicts,
)
from explaineval.rundir.schema import Facts, RunRecord
from explaineval.scoring.codes import MetricWarning
from explaineval.scoring.counts import (
    NO_TARGETS,
    TABLE,
    ArmCounts,
    KindCounts,
    RunCounts,
    Targets,
    TrialCounter,
    interval_of,
)
from explaineval.scoring.mentioning import (
    NOT_ASKED,
    Decide,
    Source,
    TextReader,
    Verdicts,
    collect_verdicts,
    judge_sources,
    phrases_in,
    reference_of,
)
from explaineval.scoring.metric import ArmMetric, KindMetric, KindResults, LevelMetric, Metric, PredictionMetric
from explaineval.scoring.predictions import PredictionIndex
from explaineval.scoring.registry import (
    FLIP_TO_CUE_RATE,
    METRICS,
    PHI_CCT,
    YOUDEN_J,
    SomeMetric,
    compute_all,
    metrics_of,
)
from explaineval.scoring.shared import measure_task, tables_of
from explaineval.scoring.task_means import MEAN, means
from explaineval.scoring.verbosity import NO_LEVEL_SHOTS, LevelCounts
from explaineval.scoring.warnings import (
    RowWarning,
    arm_warnings,
    kind_warnings,
    level_warnings,
    mean_warnings,
    prediction_warnings,
    source_warnings,
)
from explaineval.signature import PHRASES, mention_rule, signature


@dataclass(frozen=True)
class Scores:
    """The rows of a run and their warnings in a fixed order, and the missing trials by condition and status.

    The rows of the headline source of mentions come first, those of other sources after them. `policy` is the rule of
    the headline as its rows name it; None: there are no other sources.
    """

    rows: tuple[MetricRow, ...]
    warnings: tuple[RowWarning, ...]
    missing: Mapping[Condition, Mapping[str, int]]
    policy: str | None = None
    sensitivity: tuple[Sensitivity, ...] = ()
    """How each other source compares, on the trials that both decide on."""
    by_rule: tuple[PhiByRule, ...] = ()
    """phi-CCT of each condition under every rule for mentions."""
    zero_tests: Mapping[Condition, ZeroTest] = field(default_factory=dict)
    """Whether phi-CCT differs from 0, adjusted over the run's primary conditions: kinds that count, single tasks."""

    @property
    def headline(self) -> Scores:
        """The numbers of the headline source, and those without mentions, with their warnings."""
        rows = tuple(row for row in self.rows if is_headline_row(row.condition, self.policy))
        warnings = tuple(row for row in self.warnings if is_headline_row(row.condition, self.policy))
        return replace(self, rows=rows, warnings=warnings, sensitivity=())


def is_headline_row(condition: Condition, policy: str | None) -> bool:
    """Whether a row is of the headline source with this policy, or depends neither on mentions nor on a predictor."""
    if policy is None:
        return True
    if condition.mention is None:
        return condition.judge is None
    return condition.channel == EXPLANATION and condition.judge is None and condition.mention in (policy, PHRASES)


def score(directory: Path, changes: Mapping[str, Any] | None = None) -> Scores:
    """Compute the metrics of a run directory from its files alone.

    `changes` may replace mention, resamples or min_label_mass, and add `metrics` of plug-ins. Of several policies in
    `mention` the run's own is the headline, else the first. Then follow the rows of the other policies, of judges whose
    verdicts the directory holds, and of the reasoning of models that reason. Raises InputError where a file is missing,
    broken, or of a run that did not finish.
    """
    run = read_run(directory)
    scorer = RunScorer(directory, run, changes)
    for trial in count_trials_read(directory, run, read_trials(directory)):
        scorer.add(trial)
    return scorer.scores()


class RunScorer:
    """Counts the trials of a run one by one, in memory that grows with examples, and computes its metrics at the end.

    `directory` holds the run; `changes` are those of `score`. Channels of reasoning are counted from the first trial on
    that tells of reasoning, which few models do: the trials before it are then read once more from the directory.

    Raises InputError where a file is broken.
    """

    def __init__(self, directory: Path, run: RunRecord, changes: Mapping[str, Any] | None = None) -> None:
        self._directory, self._run, self._facts = directory, run, run.facts
        changes = dict(changes or {})
        for name in run.config.metrics:
            if METRICS.find(name) is None:
                warn(f"{directory}: scored without the metric {name}, whose plug-in cannot be loaded here.")
        if added := changes.get("metrics"):
            changes["metrics"] = (*run.config.metrics, *(METRICS.require(name).name for name in added))
        self._policies = _policies(changes.pop("mention", None), run.config.mention)
        configs = [
            build(RunConfig, {**run.config.model_dump(), **changes, "mention": policy}, str(directory))
            for policy in self._policies
        ]
        self._config, self._own_policy = configs[0], run.own_policy
        for policy in self._policies:
            SEARCHES.require(policy)
        self._verdicts = collect_verdicts(read_verdicts(directory))
        self._read_predictions = read_predictions(directory)
        self._settings: dict[str, Any] = {
            "min_label_mass": changes.get("min_label_mass"),
            "by_level": len(run.config.arms.verbosity) > 1,
            "by_sample": run.config.tvd_samples is not None,
            "targets": _targets(directory, run.facts),
        }
        self._trials = 0
        self._start(has_reasoning=False)

    def _start(self, *, has_reasoning: bool) -> None:
        self._has_reasoning = has_reasoning
        reader = TextReader(self._own_policy, phrases_in(self._directory / PROMPTS))
        sources = _deciders(self._policies, self._verdicts, reader, has_reasoning=has_reasoning)
        others = reader.others(self._policies[0])
        self._counter = TrialCounter(sources, **self._settings, others=others)
        self._predictions = PredictionIndex(self._read_predictions)

    def add(self, trial: Trial) -> None:
        """Count one more trial; all have to come in the order of the file."""
        self._count(trial)
        self._trials += 1
        if not self._has_reasoning and self._counter.reasoning:
            self._start(has_reasoning=True)
            for earlier in islice(read_trials(self._directory), self._trials):
                self._count(earlier)

    def _count(self, trial: Trial) -> None:
        self._predictions.add(trial)
        self._counter.add(trial)

    def scores(self) -> Scores:
        """Compute the metrics of the trials so far. Raises InputError where run.json says nothing of some of them."""
        by_source = self._counter.by_source
        counts, *_ = by_source.values()
        check_facts(self._directory, counts.arms, self._facts)
        scores = score_sources(by_source, self._config, self._facts)
        scores = _with_predictions(scores, self._predictions, self._config, self._facts)
        return replace(scores, warnings=(*scores.warnings, *source_warnings(scores.rows, self._run.endpoints)))


def _policies(given: Mention | Sequence[Mention] | None, own: Mention) -> tuple[Mention, ...]:
    """Return the policies to score by, each once and the headline's first."""
    chosen = (own,) if given is None else (given,) if isinstance(given, str) else tuple(dict.fromkeys(given)) or (own,)
    return (own, *(policy for policy in chosen if policy != own)) if own in chosen else chosen


def _deciders(
    policies: Sequence[Mention], verdicts: Verdicts, reader: TextReader, *, has_reasoning: bool
) -> dict[Source, Decide]:
    """Return what decides for each source of mentions, in the order of their rows; the headline is the first."""

    def by_policies(channel: Channel) -> dict[Source, Decide]:
        sources = [Source(policy, channel) for policy in policies]
        return {source: reader.decider(source, words_only=source != sources[0]) for source in sources}

    judges = judge_sources(verdicts)
    found = {**by_policies(EXPLANATION), **_in_channel(judges, EXPLANATION)}
    if not has_reasoning:
        return found
    return {**found, **by_policies(REASONING), **by_policies(EITHER), **_in_channel(judges, REASONING)}


def _in_channel(sources: Mapping[Source, Decide], channel: Channel) -> dict[Source, Decide]:
    return {source: decide for source, decide in sources.items() if source.channel == channel}


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


def score_sources(by_source: Mapping[Source, RunCounts], config: RunConfig, facts: Facts) -> Scores:
    """Compute the metrics of a run from its counts for each source of mentions; the first is the headline.

    `config` has the headline's policy.
    """
    (headline, counts), *others = by_source.items()
    rows, warnings, sensitivity = _score_source(headline, counts, config, facts)
    for source, own in others:
        more_rows, more_warnings, compared = _score_source(source, own, config, facts, reference_of(source, headline))
        rows += more_rows
        warnings += more_warnings
        sensitivity += compared
    by_rule = tuple(_phi_by_rule(rows, counts))
    missing: dict[Condition, dict[str, int]] = {}
    order = condition_order(config, facts)
    for condition, statuses in sorted(counts.statuses.items(), key=lambda item: order(item[0])):
        if by_status := {str(status): statuses[status] for status in OUTCOMES if statuses[status]}:
            missing[condition] = by_status
    return Scores(
        tuple(rows), tuple(warnings), missing, headline.mention, tuple(sensitivity), by_rule, _zero_tests(rows, counts)
    )


class ZeroTest(NamedTuple):
    """The two-sided p-value of phi-CCT = 0 that belongs to its interval, and after Holm over so many conditions."""

    p: float
    p_adjusted: float
    conditions: int

    @property
    def is_lost(self) -> bool:
        """Whether phi-CCT is told from 0 alone, but not among all conditions of the run."""
        return self.p < LEVEL <= self.p_adjusted


def _zero_tests(rows: Sequence[MetricRow], counts: RunCounts) -> dict[Condition, ZeroTest]:
    """Test phi-CCT against 0 in each primary condition: t = atanh(phi) over its standard error on that scale."""
    found: dict[Condition, float] = {}
    for row in rows:
        condition = row.condition.without_mention
        is_primary = row.metric == PHI_CCT and condition in counts.kinds and counts_for_phi(str(row.kind))
        if not is_primary or condition in found or row.value is None or row.low is None or row.high is None:
            continue
        df = int((counts.kinds[condition].examples.table(columns=TABLE)[:, 0] > 0).sum()) - 1
        half = (math.atanh(row.high) - math.atanh(row.low)) / 2 if abs(row.low) < 1 and abs(row.high) < 1 else 0.0
        if df > 0 and half > 0:
            found[condition] = two_sided_p(math.atanh(row.value) * student_t(df) / half, df)
    adjusted = holm_adjusted(list(found.values()))
    return {
        condition: ZeroTest(p, after, len(found)) for (condition, p), after in zip(found.items(), adjusted, strict=True)
    }


class PhiByRule(NamedTuple):
    """phi-CCT of one condition by every rule for mentions in the explanation, the run's own first.

    A rule is a policy or a judge; a value is None where it is undefined.
    """

    condition: Condition
    values: Mapping[Rule, float | None]

    @property
    def range(self) -> tuple[float, float] | None:
        """The lowest and the highest value; None where fewer than two are defined."""
        defined = [value for value in self.values.values() if value is not None]
        return (min(defined), max(defined)) if len(defined) > 1 else None


class Rule(NamedTuple):
    """A policy, or `judge` or `judge_reason` with the name of the judge."""

    mention: str
    judge: str | None = None


def _phi_by_rule(rows: Sequence[MetricRow], counts: RunCounts) -> Iterator[PhiByRule]:
    """Yield phi-CCT by rule of each condition, and of each mean over tasks, that has more than one."""
    found: dict[Condition, dict[Rule, float | None]] = {}
    for row in rows:
        if row.metric == PHI_CCT and row.channel == EXPLANATION:
            found.setdefault(row.condition.without_mention, {})[Rule(str(row.mention), row.judge)] = row.value
    of_tasks: dict[Condition, dict[Rule, list[float | None]]] = {}
    for condition, counter in counts.kinds.items():
        for rule, table in counter.tables_by_rule().items():
            value = float(phi_values(table[np.newaxis].astype(np.float64))[0])
            defined = None if math.isnan(value) else value
            found.get(condition, {}).setdefault(Rule(rule), defined)
            of_tasks.setdefault(condition._replace(task=MEAN), {}).setdefault(Rule(rule), []).append(defined)
    for condition, by_rule in of_tasks.items():
        for name, values in by_rule.items():
            whole = [value for value in values if value is not None]
            mean = math.fsum(whole) / len(values) if len(whole) == len(values) else None
            found.get(condition, {}).setdefault(name, mean)
    for condition, numbers in found.items():
        if len(numbers) > 1:
            own, *others = numbers
            others.sort(key=lambda rule: POLICIES.index(rule.mention) if rule.mention in POLICIES else len(POLICIES))
            yield PhiByRule(condition, {rule: numbers[rule] for rule in (own, *others)})


def _score_source(
    source: Source, counts: RunCounts, config: RunConfig, facts: Facts, reference: Source | None = None
) -> tuple[list[MetricRow], list[RowWarning], list[Sensitivity]]:
    """Compute the rows and warnings of one source of mentions, and how it compares with its reference.

    The headline has none. What does not depend on mentions is computed for the headline alone.
    """
    rows: list[MetricRow] = []
    warnings: list[RowWarning] = []
    sensitivity: list[Sensitivity] = []
    is_headline = reference is None
    unknown: dict[Condition, str] = {}
    order = condition_order(config, facts)
    lacking = _lacking_arms(facts) if source.judge is None and source.channel == EXPLANATION else []
    judged_kinds = None if source.judge is None else _judged_kinds(counts)

    def compute(scope: type[SomeMetric], of: Any) -> dict[str, Estimate]:
        metrics = [metric for metric in metrics_of(scope, config.metrics) if is_headline or "mention" in metric.depends]
        return compute_all(metrics, of)

    def add(condition: Condition, estimates: Mapping[str, Estimate], levels: Sequence[str] = ()) -> None:
        for metric, estimate in estimates.items():
            row = MetricRow(
                **condition_of(metric, condition, source)._asdict(),
                metric=metric,
                **estimate.model_dump(exclude={"note"}),
                signature=row_signature(metric, condition, config, facts, levels, source),
            )
            rows.append(row)

    def warn(condition: Condition, found: Iterable[MetricWarning]) -> None:
        """Add the warnings, each with the condition of the row of its metric."""
        warnings.extend(RowWarning(condition_of(item.metric, condition, source), item) for item in found)

    for arm in sorted({*counts.arms, *lacking}, key=order):
        if arm not in counts.arms:
            for condition, estimates in _lacking_estimates(arm, config, facts, is_headline=is_headline):
                add(condition, estimates)
            continue
        if source.channel != EXPLANATION and (arm.endpoint, arm.model) not in counts.reasoning:
            continue  # a model that does not reason has no such channel
        kinds = {}
        for condition in sorted((condition for condition in counts.kinds if condition.arm == arm), key=order):
            if judged_kinds is not None and condition.kind not in judged_kinds:
                continue
            kind_counts = KindCounts(condition, counts, config)
            estimates = compute(KindMetric, kind_counts)
            if (reason := kind_counts.all_unknown) is not None:
                unknown[condition] = reason
                kept = {} if source.judge is None else {n: one for n, one in estimates.items() if one.value is not None}
                estimates = {**dict.fromkeys(estimates, no_value(reason)), **kept}  # the bounds, where a judge failed
            available = facts.tasks[arm.task].available(config.limit)
            kinds[condition.kind] = KindResults(kind_counts, estimates, available=available)
        for kind, results in kinds.items():
            condition = results.counts.condition
            add(condition, results.estimates)
            if (control := kinds.get(kind_of(str(kind)).control)) is not None:
                results = results._replace(control=control.estimates.get(FLIP_TO_CUE_RATE))
            warn(condition, kind_warnings(results))
            if reference is not None:
                about = [condition_of(COMPARED, condition, each) for each in (source, reference)]
                sensitivity.append(compare_source(about[0], about[1], results.counts, config))
        if is_headline:
            arm_counts = ArmCounts(arm, counts, config)
            of_arm = compute_all(metrics_of(ArmMetric, config.metrics), arm_counts)
            add(arm, of_arm)
            warn(arm, arm_warnings(arm_counts, of_arm))
    for condition, asked, not_asked in _level_conditions(counts, lacking, config, facts, order):
        if source.channel != EXPLANATION and (condition.endpoint, condition.model) not in counts.reasoning:
            continue
        if judged_kinds is not None and condition.kind not in judged_kinds:
            continue
        level_counts = LevelCounts(condition, counts, asked, config, not_asked)
        over_levels = compute(LevelMetric, level_counts)
        reasons = [unknown[at] for level in asked if (at := condition._replace(verbosity=level)) in unknown]
        if reasons and source.judge is None:
            over_levels = dict.fromkeys(over_levels, no_value(reasons[0]))
        add(condition, over_levels, asked or not_asked)
        available = facts.tasks[condition.task].available(config.limit)
        warn(condition, list(level_warnings(level_counts, over_levels, warnings, available)))
    averaged = list(means(rows, list(facts.tasks)))
    warnings += list(mean_warnings(averaged, rows, warnings))
    rows += averaged
    return rows, warnings, sensitivity


def _with_predictions(scores: Scores, predictions: PredictionIndex, config: RunConfig, facts: Facts) -> Scores:
    """Return the scores with the rows of predictors at their end, and the warnings about these."""
    rows: list[MetricRow] = []
    warnings: list[RowWarning] = []
    asked: dict[Condition, set[str]] = {}
    for condition in sorted(predictions.conditions(), key=condition_order(config, facts)):
        for counts in predictions.counts(condition, interval_of(config)):
            estimates = compute_all(metrics_of(PredictionMetric, config.metrics), counts)
            if counts.unread and not len(counts.own):
                unread = no_value("no trial has predictions that could be read")
                estimates = dict.fromkeys(estimates, unread)
            for metric, estimate in estimates.items():
                parts = [counts.signature, *([counts.control_signature] if _needs_control(metric) else [])]
                signature = row_signature(metric, condition, config, facts)
                rows.append(
                    MetricRow(
                        **counts.condition._asdict(),
                        metric=metric,
                        **estimate.model_dump(exclude={"note"}),
                        signature=signature.replace("|explaineval:", f"|{'|'.join(parts)}|explaineval:"),
                    )
                )
            warnings += [RowWarning(counts.condition, warning) for warning in prediction_warnings(counts, estimates)]
            asked.setdefault(counts.condition._replace(task=MEAN), set()).add(counts.signature)
    # panels of different predictors have no mean over tasks
    alike = [row for row in rows if len(asked[row.condition._replace(task=MEAN)]) == 1]
    averaged = list(means(alike, list(facts.tasks)))
    warnings += list(mean_warnings(averaged, alike, warnings))
    return replace(scores, rows=(*scores.rows, *rows, *averaged), warnings=(*scores.warnings, *warnings))


def _needs_control(metric: str) -> bool:
    found = METRICS[metric]
    return isinstance(found, PredictionMetric) and found.control


def _judged_kinds(counts: RunCounts) -> set[str | None]:
    """Return the kinds of interventions that a judge was asked about, perhaps in vain."""
    asked = {condition.kind for condition, counter in counts.kinds.items() if counter.examples.table()[:, TABLE].any()}
    in_vain = {condition.kind for condition, counter in counts.kinds.items() if set(counter.unknown) - {NOT_ASKED}}
    return asked | in_vain


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


def _lacking_estimates(
    arm: Condition, config: RunConfig, facts: Facts, *, is_headline: bool
) -> Iterator[tuple[Condition, dict[str, Estimate]]]:
    """Yield the undefined numbers of an arm that was not asked, for each kind of its task."""
    metrics = [metric for metric in metrics_of(Metric, config.metrics) if metric.undefined_if_not_asked]
    names = [metric.name for metric in metrics if is_headline or "mention" in metric.depends]
    for kind in facts.tasks[arm.task].kinds:
        if not kind_of(kind).measures_noise and (is_headline or kind_of(kind).mentioned_by == "policy"):
            yield arm._replace(kind=kind), dict.fromkeys(names, no_value(NO_LEVEL_SHOTS))


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
        kinds = [kind for kind in facts.tasks[arm.task].kinds if not kind_of(kind).measures_noise]
        conditions |= {arm._replace(kind=kind, verbosity=None) for kind in kinds}
    for condition in sorted(conditions, key=order):
        at_levels = {level: condition._replace(verbosity=level) for level in levels}
        asked = [level for level, at_level in at_levels.items() if at_level in counts.kinds]
        yield condition, asked, [level for level, at_level in at_levels.items() if at_level.arm in lacking]


def row_signature(
    metric: str,
    condition: Condition,
    config: RunConfig,
    facts: Facts,
    levels: Sequence[str] = (),
    source: Source | None = None,
) -> str:
    """Return the signature of one metric's row.

    `levels` are those that it is about where the condition's own verbosity is None, `source` decides on mentions; None:
    the policy of `config` in the explanation.
    """
    source = source or Source(config.mention)
    row, depends = condition_of(metric, condition, source), METRICS[metric].depends
    kinds = [row.kind]
    if "cue" in depends:
        kinds.append(kind_of(str(row.kind)).control_of or row.kind)
    parts = [
        facts_of(row._replace(verbosity=level, kind=kind), facts)
        for level in levels or (condition.verbosity,)
        for kind in kinds
    ]
    joined = {name: "+".join(dict.fromkeys(part[name] for part in parts)) for name in parts[0]}
    if METRICS.origin(metric) is not None:
        joined["metric"] = METRICS.signed(metric)
    more = {"judge": f"{source.judge}@{source.verdicts}"} if source.judge is not None else {}
    if source.channel != EXPLANATION:
        more["channel"] = source.channel
    return signature(config, joined, depends, row.mention, more)


def condition_of(metric: str, condition: Condition, source: Source) -> Condition:
    """Return the condition of a metric's row: its own kind where it has one, and how its mentions were found."""
    condition = condition._replace(kind=METRICS[metric].own_kind or condition.kind)
    if "mention" not in METRICS[metric].depends:
        return condition
    rule = source.mention if source.judge is not None else mention_rule(condition.kind, source.mention)
    return condition._replace(channel=source.channel, mention=rule, judge=source.judge)


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


def condition_order(config: RunConfig, facts: Facts) -> Callable[[Condition], tuple[Any, ...]]:
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


COMPARED = YOUDEN_J
"""The metric by which sources are compared: phi-CCT would follow how often each of them finds a mention."""


@dataclass(frozen=True)
class Sensitivity:
    """One source of mentions against its reference, for one model, task, arm and kind of intervention.

    `condition` has the source in its columns, `reference` the reference. `counts` are the trials that both decided on:
    mentioned by both, by the reference alone, by this source alone, by neither. `youden_j` and `reference_youden_j` are
    their values on these trials (None: undefined) and `difference` is the first minus the second.
    """

    condition: Condition
    reference: Condition
    counts: tuple[int, int, int, int]
    kappa: Estimate
    youden_j: float | None
    reference_youden_j: float | None
    difference: Difference


def compare_source(condition: Condition, reference: Condition, counts: KindCounts, config: RunConfig) -> Sensitivity:
    """Return how a source compares with its reference; `counts` are the source's own, with `joint` filled."""
    joint = counts.joint.reshape(-1, 2, 2, 2)
    agreement = joint.sum(axis=1).reshape(-1, 4)
    paired = METRICS[COMPARED].paired
    if paired is None:
        raise ValueError(f"{COMPARED} has no paired comparison in the registry")
    here = joint.sum(axis=(1, 2, 3)) > 0
    own, by_reference = (joint[here].sum(axis=axis).reshape(-1, 4) for axis in (2, 3))
    measured = [measure_task(paired, tables_of(cells), len(cells)) for cells in (own, by_reference)]
    (difference,) = compare_pairs(measured, seed=config.seed).differences
    both, only_reference, only_this, neither = agreement.sum(axis=0).tolist()
    return Sensitivity(
        condition,
        reference,
        (both, only_reference, only_this, neither),
        cohen_kappa(agreement, counts.interval),
        _value(own),
        _value(by_reference),
        difference,
    )


def _value(cells: IntArray) -> float | None:
    value = float(youden_values(column_sums(cells.astype(np.float64))[np.newaxis])[0])
    return None if math.isnan(value) else value
