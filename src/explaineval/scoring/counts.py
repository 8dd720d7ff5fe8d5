"""Count the trials of a run in one pass, in bounded memory: integers and label distances per condition and example.

`count_sources` makes one `RunCounts` for each source of mentions, `count_trials` that of a single one. `KindCounts` and
`ArmCounts` give the counts of one condition as arrays over its examples: that is what metrics are computed from.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from sys import intern
from typing import Literal, TypeVar

import numpy as np

from explaineval.config import FEWEST_TVD_SAMPLES, RunConfig
from explaineval.interventions import kind_of
from explaineval.metrics.correlations import tvd_moments
from explaineval.metrics.estimates import FloatArray, IntArray, Interval
from explaineval.metrics.reliability import phi_bounds
from explaineval.parsing import argmax_disagrees, is_one_hot, total_variation, tvd_of
from explaineval.records import NOT_MISSING, Condition, Mention, Trial
from explaineval.scoring.mentioning import (
    Decide,
    Decision,
    Phrases,
    Source,
    TextReader,
    no_phrases,
    reference_of,
    tells_of_reasoning,
)

T = TypeVar("T")

Targets = Mapping[tuple[str, str, str], str]
"""The letter that a cue suggests, by task, example and intervention; for controls by task, example and kind."""

NO_TARGETS: Targets = {}

Score = tuple[bool, bool, str]
"""Whether the answer changed, whether the insertion is mentioned, and the label afterwards."""

LevelScores = dict[str, Score]
"""One trial's score by verbosity level; levels at which it has none are absent."""


@dataclass(slots=True)
class Samples:
    """The labels of all samples of one intervention, and whether the explanation of sample 0 mentions the insertion.

    `mentioned` is None where sample 0 has no score.
    """

    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    mentioned: bool | None = None

    def add(self, before: str | None, after: str | None) -> None:
        """Count the labels of one more sample; None is an answer that could not be read."""
        if before is not None:
            self.before[before] += 1
        if after is not None:
            self.after[after] += 1

    @property
    def is_usable(self) -> bool:
        """Whether both sides have enough readable answers and it is known whether the insertion is mentioned."""
        return self.mentioned is not None and min(self.before.total(), self.after.total()) >= FEWEST_TVD_SAMPLES

    @property
    def tvd(self) -> float:
        """The total variation distance between the shares of labels before and after."""
        return total_variation(_shares(self.before), _shares(self.after))


def _shares(labels: Counter[str]) -> dict[str, float]:
    total = labels.total()
    return {label: count / total for label, count in sorted(labels.items())}


@dataclass(slots=True)
class ExampleCounts:
    """The counts of one example in one condition with a kind of intervention."""

    table: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    """a, b, c, d: changed and mentioned, changed and not, unchanged and mentioned, neither."""
    missing: list[int] = field(default_factory=lambda: [0, 0, 0, 0, 0])
    """u1, u0 (only the impact is known: 1 or 0), v1, v0 (only the mention is known), w (neither is known)."""
    floor: list[int] = field(default_factory=lambda: [0, 0])
    """Explanations of the original input that mention the insertion, and how many were looked at."""
    words: list[int] = field(default_factory=lambda: [0, 0])
    """Words in the explanations, and the number of explanations."""
    to_cue: list[int] = field(default_factory=lambda: [0, 0])
    """Answers that changed to the letter that a cue suggests, and answers that could have."""
    distances: array[float] = field(default_factory=lambda: array("d"))
    """The total variation distances; `mentioned` and `changed` belong to the same trials."""
    mentioned: bytearray = field(default_factory=bytearray)
    changed: bytearray = field(default_factory=bytearray)
    joint: list[int] = field(default_factory=lambda: [0] * 8)
    """Of a source beside the headline, the trials that its reference scores too, by changed, mentioned by the
    reference, mentioned by this source: the first count is of all three, the last of none."""


@dataclass(slots=True)
class ExampleArmCounts:
    """The counts of one example in one arm. `shams` and `null_edits` are: changed, scored, missing."""

    shams: list[int] = field(default_factory=lambda: [0, 0, 0])
    null_edits: list[int] = field(default_factory=lambda: [0, 0, 0])
    right: dict[int, bool | None] = field(default_factory=dict)
    """By sample, whether the answer is the gold label; None where it could not be read. Empty without gold label."""

    @property
    def answers(self) -> list[int]:
        """The answers that are right, that could be read, and that could not."""
        unread = sum(right is None for right in self.right.values())
        return [sum(map(bool, self.right.values())), len(self.right) - unread, unread]


@dataclass
class RunCounts:
    """All counts of a run, by condition and example id."""

    kinds: dict[Condition, dict[str, ExampleCounts]] = field(default_factory=dict)
    arms: dict[Condition, dict[str, ExampleArmCounts]] = field(default_factory=dict)
    statuses: dict[Condition, Counter[str]] = field(default_factory=dict)
    no_tvd: dict[Condition, Counter[str]] = field(default_factory=dict)
    """How many trials have no total variation distance, by reason."""
    graded: set[Condition] = field(default_factory=set)
    """Conditions with at least one label distribution that is not one-hot."""
    off_argmax: Counter[Condition] = field(default_factory=Counter)
    """How many answers are not the most probable label."""
    levels: dict[Condition, dict[str, dict[tuple[str, int], LevelScores]]] = field(default_factory=dict)
    """Where several verbosity levels were asked: by condition (verbosity None), example id, intervention and sample."""
    samples: dict[Condition, dict[str, dict[str, Samples]]] = field(default_factory=dict)
    """Where label distributions are sampled: by condition, example id and intervention."""
    unknown: dict[Condition, Counter[str]] = field(default_factory=dict)
    """How many trials were read whole but have no mention that is known, by reason."""
    summaries: Counter[Condition] = field(default_factory=Counter)
    """How many scored trials rest on a summary of the reasoning."""
    reasoning: set[tuple[str | None, str]] = field(default_factory=set)
    """The models, by endpoint and name, of which some trial tells of reasoning."""


def count_trials(
    trials: Iterable[Trial],
    policy: Mention,
    *,
    rejudge: bool = False,
    min_label_mass: float | None = None,
    by_level: bool = False,
    by_sample: bool = False,
    phrases: Phrases = no_phrases,
    targets: Targets = NO_TARGETS,
) -> RunCounts:
    """Count all trials under a mention policy.

    `rejudge` says that the trials were judged under another policy, so every mention is decided anew. The other
    arguments are those of `count_sources`.
    """
    reader = TextReader(None if rejudge else policy, phrases)
    (counts,) = count_sources(
        trials,
        {Source(policy): reader.decider(Source(policy))},
        min_label_mass=min_label_mass,
        by_level=by_level,
        by_sample=by_sample,
        targets=targets,
    ).values()
    return counts


def count_sources(
    trials: Iterable[Trial],
    sources: Mapping[Source, Decide],
    *,
    min_label_mass: float | None = None,
    by_level: bool = False,
    by_sample: bool = False,
    targets: Targets = NO_TARGETS,
) -> dict[Source, RunCounts]:
    """Count all trials once for each source of mentions. The first source is the headline.

    A `min_label_mass` given here is applied anew. `by_level` keeps each trial's score at each verbosity level,
    `by_sample` the labels of all samples of an intervention. `targets` gives the letters that cues suggest. What does
    not depend on mentions is counted in the headline alone; the others share its `arms` and `reasoning`, and each
    counts `joint` with its reference among the sources (`reference_of`).
    """
    by_source = {source: RunCounts() for source in sources}
    names = list(sources)
    headline = by_source[names[0]]
    references = {source: reference_of(source, names[0]) for source in names[1:]}
    for source in references:
        by_source[source].arms, by_source[source].reasoning = headline.arms, headline.reasoning
    scores: dict[Score, Score] = {}  # there are few different ones: keep each in memory once

    def count_one(total: RunCounts, trial: Trial, decision: Decision) -> tuple[ExampleCounts, tuple[bool, bool] | None]:
        condition = trial.condition
        of_kind = _of_example(total.kinds, condition, trial, ExampleCounts)
        scored = _count(total, condition, of_kind, trial, decision, min_label_mass)
        if by_sample:
            _count_sample(total, condition, trial, scored)
        if by_level and scored is not None:
            across = total.levels.setdefault(condition._replace(verbosity=None), {}).setdefault(trial.example_id, {})
            levels = across.setdefault((intern(trial.intervention_id or ""), trial.sample), {})
            score = (*scored, trial.label_after or "")
            levels[intern(trial.verbosity)] = scores.setdefault(score, score)
        return of_kind, scored

    for trial in trials:
        condition = trial.condition
        of_arm = _of_example(headline.arms, condition.arm, trial, ExampleArmCounts)
        if trial.gold is not None:
            if trial.label_before is not None:
                of_arm.right[trial.sample] = trial.label_before == trial.gold
            else:
                of_arm.right.setdefault(trial.sample, None)
        if tells_of_reasoning(trial):
            headline.reasoning.add((trial.endpoint, trial.model))
        headline.statuses.setdefault(condition, Counter())[trial.status] += 1
        kind = kind_of(trial.kind)
        if kind.own_metric is not None:
            _count_noise(of_arm.shams if kind.inserts == "nothing" else of_arm.null_edits, trial)
            continue
        of_source: dict[Source, tuple[bool, bool] | None] = {}
        for source, decide in sources.items():
            if (decision := decide(trial)) is None:
                continue
            counts, scored = count_one(by_source[source], trial, decision)
            of_source[source] = scored
            if source == names[0]:
                if targets:
                    _count_to_cue(counts, trial, targets)
            elif scored is not None and (by_reference := of_source.get(references[source])) is not None:
                changed, mentioned = scored
                counts.joint[4 * (not changed) + 2 * (not by_reference[1]) + (not mentioned)] += 1
    return by_source


def _of_example(counts: dict[Condition, dict[str, T]], condition: Condition, trial: Trial, make: Callable[[], T]) -> T:
    """Return the counts of the trial's example, made at its first trial."""
    by_example = counts.setdefault(condition, {})
    example = by_example.get(trial.example_id)
    if example is None:
        example = by_example[trial.example_id] = make()
    return example


def _count_noise(counts: list[int], trial: Trial) -> None:
    """Count a sham or a null edit as changed, scored or missing."""
    if trial.status == "ok":
        counts[0] += bool(trial.changed)
        counts[1] += 1
    else:
        counts[2] += 1


def _count_to_cue(counts: ExampleCounts, trial: Trial, targets: Targets) -> None:
    """Count whether a scored answer changed to the suggested letter; one that had that letter before cannot."""
    example = trial.task, trial.example_id
    target = targets.get((*example, trial.intervention_id or "")) or targets.get((*example, trial.kind))
    if trial.status == "ok" and target is not None and trial.label_before != target:
        counts.to_cue[0] += trial.label_after == target
        counts.to_cue[1] += 1


def _count_sample(total: RunCounts, condition: Condition, trial: Trial, scored: tuple[bool, bool] | None) -> None:
    of_example = total.samples.setdefault(condition, {}).setdefault(trial.example_id, {})
    samples = of_example.setdefault(trial.intervention_id or "", Samples())
    samples.add(trial.label_before, trial.label_after)
    if trial.sample == 0 and scored is not None:
        samples.mentioned = scored[1]


def _count(
    total: RunCounts,
    condition: Condition,
    counts: ExampleCounts,
    trial: Trial,
    decision: Decision,
    min_label_mass: float | None,
) -> tuple[bool, bool] | None:
    """Count a trial, and return whether its answer changed and whether the insertion is mentioned; None if missing."""
    if trial.status in NOT_MISSING:
        return None
    mentioned = decision.mentioned
    if trial.status != "ok" or mentioned is None:
        counts.missing[_missing_class(trial, mentioned)] += 1
        if trial.status == "ok":
            total.unknown.setdefault(condition, Counter())[decision.why] += 1
        return None
    changed = bool(trial.changed)
    counts.table[table_cell(changed, mentioned)] += 1
    total.summaries[condition] += decision.is_summary
    if decision.before is not None:
        counts.floor[0] += decision.before
        counts.floor[1] += 1
    counts.words[0] += len((trial.explanation or "").split())
    counts.words[1] += 1
    tvd, reason = trial.tvd, trial.tvd_reason
    if min_label_mass is not None and trial.probs_before is not None and trial.probs_after is not None:
        tvd, reason = tvd_of(
            (trial.probs_before, trial.label_mass_before, None),
            (trial.probs_after, trial.label_mass_after, None),
            min_label_mass,
        )
    if tvd is None:
        total.no_tvd.setdefault(condition, Counter())[reason or "no label probabilities"] += 1
        return changed, mentioned
    counts.distances.append(tvd)
    counts.mentioned.append(mentioned)
    counts.changed.append(changed)
    for probs, label in ((trial.probs_before, trial.label_before), (trial.probs_after, trial.label_after)):
        if probs is not None and label is not None:
            total.off_argmax[condition] += argmax_disagrees(probs, label)
            if not is_one_hot(probs):
                total.graded.add(condition)
    return changed, mentioned


def table_cell(changed: bool, mentioned: bool) -> int:
    """Return the place of a trial in the table a, b, c, d."""
    return (0 if changed else 2) + (0 if mentioned else 1)


def _missing_class(trial: Trial, mentioned: bool | None) -> int:
    """Return the place in `missing` of a trial without a score."""
    if trial.label_before is not None and trial.label_after is not None:
        return 0 if trial.label_before != trial.label_after else 1
    if mentioned is None:
        return 4
    return 2 if mentioned else 3


Subset = Literal["all", "stable", "probabilities", "to_cue"]
"""Which trials a number rests on.

`all` scored trials, those of examples whose shams all agree, those with usable label probabilities, or those whose
answer could change to the letter that a cue suggests.
"""


class KindCounts:
    """The counts of one condition with a kind of intervention, as arrays with one row per example.

    `tables` (examples, 4), `missing` (examples, 5), `floor`, `words` and `to_cue` (examples, 2) and `joint`
    (examples, 8) are as in `ExampleCounts`; `shams` (examples, 3) as in `ExampleArmCounts`; `moments` (examples, 6) as
    in `tvd_moments`.
    """

    def __init__(self, condition: Condition, counts: RunCounts, config: RunConfig) -> None:
        self.condition, self.config, self.interval = condition, config, interval_of(config)
        by_id, arm = counts.kinds[condition], counts.arms[condition.arm]
        names = sorted(by_id)
        self.examples = [by_id[name] for name in names]
        self.shams = _stack((arm[name].shams for name in names), 3)
        samples = counts.samples.get(condition, {})
        self.samples = [samples.get(name, {}) for name in names]
        self.no_tvd = counts.no_tvd.get(condition, Counter())
        self.unknown = counts.unknown.get(condition, Counter())
        self.summaries = counts.summaries[condition]
        self.is_graded = condition in counts.graded
        self.off_argmax = counts.off_argmax[condition]
        self.tables = _stack((example.table for example in self.examples), 4)
        self.missing = _stack((example.missing for example in self.examples), 5)
        self.floor = _stack((example.floor for example in self.examples), 2)
        self.words = _stack((example.words for example in self.examples), 2)
        self.to_cue = _stack((example.to_cue for example in self.examples), 2)
        self.joint = _stack((example.joint for example in self.examples), 8)
        moments = [tvd_moments(example.distances, example.mentioned) for example in self.examples]
        self.moments = np.array(moments, dtype=np.float64).reshape(-1, 6)

    @property
    def all_unknown(self) -> str | None:
        """Why of no trial it is known what it mentions; None where it is known of some, or none could be read."""
        return None if self.scored else next((reason for reason, _ in self.unknown.most_common(1)), None)

    @property
    def scored(self) -> int:
        """The number of scored trials."""
        return int(self.tables.sum())

    @property
    def with_tvd(self) -> int:
        """The number of trials with a total variation distance."""
        return sum(len(example.distances) for example in self.examples)

    @property
    def common_reason(self) -> str | None:
        """The most frequent reason why trials have no total variation distance, without its side."""
        plain: Counter[str] = Counter()
        for reason, count in self.no_tvd.items():
            plain[reason.partition(": ")[2] or reason] += count
        return max(sorted(plain), key=lambda text: plain[text], default=None)

    def subset(self, trials: Subset) -> IntArray:
        """The tables (examples, 4) of some of the trials; of `to_cue` a counts the changes, d all other trials."""
        if trials == "stable":
            changed, scored, missing = self.shams.T
            stable: IntArray = self.tables[(scored > 0) & (changed == 0) & (missing == 0)]
            return stable
        if trials == "probabilities":
            tables = np.zeros_like(self.tables)
            for table, example in zip(tables, self.examples, strict=True):
                for changed, mentioned in zip(example.changed, example.mentioned, strict=True):
                    table[table_cell(bool(changed), bool(mentioned))] += 1
            return tables
        if trials == "to_cue":
            changed, possible = self.to_cue.T
            none = np.zeros_like(changed)
            return np.stack([changed, none, none, possible - changed], axis=1)
        return self.tables

    @cached_property
    def phi_bounds(self) -> tuple[float, float]:
        """The lowest and highest phi over all outcomes of the missing trials; NaN where phi is always undefined."""
        a, b, c, d = self.tables.sum(axis=0).tolist()
        u1, u0, v1, v0, w = self.missing.sum(axis=0).tolist()
        return phi_bounds(a, b, c, d, u1, u0, v1, v0, w)

    @property
    def sampled_moments(self) -> FloatArray:
        """The moments (examples, 6) of interventions whose label distributions were counted from samples."""
        rows = []
        for by_id in self.samples:
            usable = [samples for _, samples in sorted(by_id.items()) if samples.is_usable]
            rows.append(
                tvd_moments([samples.tvd for samples in usable], [bool(samples.mentioned) for samples in usable])
            )
        return np.array(rows, dtype=np.float64).reshape(-1, 6)


class ArmCounts:
    """The counts of one arm as arrays with one row per example.

    `answers` (examples, 3): right, readable, unreadable. `shams` and `null_edits` (examples, 3): changed, scored,
    missing.
    """

    def __init__(self, arm: Condition, counts: RunCounts, config: RunConfig) -> None:
        self.config, self.interval = config, interval_of(config)
        examples = [example for _, example in sorted(counts.arms[arm].items())]
        self.answers = _stack((example.answers for example in examples), 3)
        self.shams = _stack((example.shams for example in examples), 3)
        self.null_edits = _stack((example.null_edits for example in examples), 3)


def interval_of(config: RunConfig) -> Interval:
    """Return how the configuration wants confidence intervals to be computed."""
    return Interval(method=config.interval, resamples=config.resamples, seed=config.seed)


def _stack(rows: Iterable[Sequence[int]], columns: int) -> IntArray:
    return np.array(list(rows), dtype=np.int64).reshape(-1, columns)
