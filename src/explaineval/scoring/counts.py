"""One pass over the trials: integer counts and label distances per condition and example, in bounded memory."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import TypeVar

import numpy as np

from explaineval import metrics
from explaineval.config import FEWEST_TVD_SAMPLES
from explaineval.interventions import kind_of
from explaineval.metrics import Interval
from explaineval.parsing import argmax_disagrees, is_one_hot, total_variation, tvd_of
from explaineval.records import NOT_MISSING, Condition, Estimate, Mention, Trial
from explaineval.scoring.mentioning import Phrases, is_mentioned, no_phrases

TOO_FEW = f"no insertion has {FEWEST_TVD_SAMPLES} readable answers both before and after it"


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
    def enough(self) -> bool:
        """Whether both sides have enough readable answers, and there is a mention to go with them."""
        return self.mentioned is not None and min(self.before.total(), self.after.total()) >= FEWEST_TVD_SAMPLES

    @property
    def tvd(self) -> float:
        """The total variation distance between the shares of labels before and after."""
        before, after = _shares(self.before), _shares(self.after)
        return total_variation(before, after)


def cct_sampled(examples: Iterable[Mapping[str, Samples]], interval: Interval) -> Estimate:
    """The correlation of sampled TVD and mention over interventions; n counts interventions.

    `examples` hold the samples of each example by intervention; examples are the clusters.
    """
    rows = []
    for by_id in examples:
        pairs = [by_id[name] for name in sorted(by_id) if by_id[name].enough]
        rows.append(metrics.tvd_moments([one.tvd for one in pairs], [bool(one.mentioned) for one in pairs]))
    moments = np.array(rows, dtype=np.float64).reshape(-1, 6)
    if not moments[:, 0].any():
        return Estimate(value=None, n=0, n_examples=0, undefined=TOO_FEW)
    return metrics.cct(moments, interval)


def _shares(labels: Counter[str]) -> dict[str, float]:
    total = labels.total()
    return {label: count / total for label, count in sorted(labels.items())}


T = TypeVar("T")


Judge = Callable[[Trial, str], bool | None]
"""Whether a text mentions what a trial's intervention put in."""

NO_TARGETS: Mapping[tuple[str, str, str], str] = {}

LevelCodes = dict[str, int]
"""One trial at several verbosity levels: level → code (see `decode`); levels where it has no score are not there."""


Targets = Mapping[tuple[str, str, str], str]
"""The letter that a cue suggests: by task, example and its id; for controls by task, example and the kind."""


@dataclass(slots=True)
class ExampleTally:
    """Counts of one example in one condition (kind). `table` is a, b, c, d; `missing` is u1, u0, v1, v0, w.

    `to_cue` counts the answers that changed to the letter a cue suggests, and those that could have. `distances`,
    `mentioned` and `changed` are aligned: the trials with a TVD.
    """

    table: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    missing: list[int] = field(default_factory=lambda: [0, 0, 0, 0, 0])
    floor: list[int] = field(default_factory=lambda: [0, 0])
    words: list[int] = field(default_factory=lambda: [0, 0])
    to_cue: list[int] = field(default_factory=lambda: [0, 0])
    distances: array[float] = field(default_factory=lambda: array("d"))
    mentioned: bytearray = field(default_factory=bytearray)
    changed: bytearray = field(default_factory=bytearray)


@dataclass(slots=True)
class ArmTally:
    """Counts of one example in one arm: shams, null edits, and whether each sample's answer was right."""

    sham_flips: int = 0
    shams: int = 0
    shams_missing: int = 0
    null_edit_flips: int = 0
    null_edits: int = 0
    null_edits_missing: int = 0
    right: dict[int, bool | None] = field(default_factory=dict)
    """By sample; None where the answer could not be read. Nothing where there is no gold label."""


@dataclass
class Tally:
    """All counts of a run, by condition and example id."""

    kinds: dict[Condition, dict[str, ExampleTally]] = field(default_factory=dict)
    arms: dict[Condition, dict[str, ArmTally]] = field(default_factory=dict)
    statuses: dict[Condition, Counter[str]] = field(default_factory=dict)
    no_tvd: dict[Condition, Counter[str]] = field(default_factory=dict)
    graded: set[Condition] = field(default_factory=set)
    levels: dict[Condition, dict[str, dict[tuple[str, int], LevelCodes]]] = field(default_factory=dict)
    """Where several verbosity levels were asked: by condition (verbosity None), example id, intervention and sample."""
    samples: dict[Condition, dict[str, dict[str, Samples]]] = field(default_factory=dict)
    """Where label distributions are sampled: by condition, example id and intervention."""
    off_argmax: Counter[Condition] = field(default_factory=Counter)


def tally(
    trials: Iterable[Trial],
    policy: Mention,
    *,
    rejudge: bool = False,
    min_label_mass: float | None = None,
    by_level: bool = False,
    by_sample: bool = False,
    phrases: Phrases = no_phrases,
    targets: Targets = NO_TARGETS,
) -> Tally:
    """Count all trials under a mention policy.

    `rejudge` says that the trials were judged by another one; a mass given here replaces theirs likewise. `by_level`
    keeps, beside the counts, what each trial came to at each verbosity level, `by_sample` the labels of all samples
    of an intervention. `phrases` are what mentions a cue, `targets` what letters cues suggest.
    """
    total = Tally()

    def judge(trial: Trial, text: str) -> bool | None:
        return is_mentioned(policy, trial.kind, trial.inserted or "", text, phrases(trial.kind))

    for trial in trials:
        condition = trial.condition
        arm = condition.arm
        of_arm = _of_example(total.arms, arm, trial, ArmTally)
        if trial.gold is not None:
            if trial.label_before is not None:
                of_arm.right[trial.sample] = trial.label_before == trial.gold
            else:
                of_arm.right.setdefault(trial.sample, None)
        total.statuses.setdefault(condition, Counter())[trial.status] += 1
        inserts = kind_of(trial.kind).inserts
        if inserts == "nothing":
            _count_sham(of_arm, trial)
            continue
        if inserts == "space":
            _count_null_edit(of_arm, trial)
            continue
        of_kind = _of_example(total.kinds, condition, trial, ExampleTally)
        scored = _count(total, condition, of_kind, trial, judge, rejudge, min_label_mass)
        if targets:
            _count_cue(of_kind, trial, targets)
        if by_sample:
            _count_sample(total, condition, trial, scored)
        if by_level and scored is not None:
            across = total.levels.setdefault(condition._replace(verbosity=None), {}).setdefault(trial.example_id, {})
            one = across.setdefault((intern(trial.intervention_id or ""), trial.sample), {})
            one[intern(trial.verbosity)] = _encode(*scored, trial.label_after)
    return total


def _of_example(counts: dict[Condition, dict[str, T]], condition: Condition, trial: Trial, make: Callable[[], T]) -> T:
    """The counts of the trial's example, made at its first trial."""
    by_example = counts.setdefault(condition, {})
    found = by_example.get(trial.example_id)
    if found is None:
        found = by_example[trial.example_id] = make()
    return found


def decode(code: int) -> tuple[bool, bool, str]:
    """Impact, mention and the label after the intervention, as kept for a trial at one level."""
    return bool(code & 2), bool(code & 1), chr(code >> 2)


def _encode(changed: bool, mentioned: bool, label: str | None) -> int:
    return (ord(label or " ") << 2) + 2 * changed + mentioned


def _count_sham(of_arm: ArmTally, trial: Trial) -> None:
    if trial.status == "ok":
        of_arm.shams += 1
        of_arm.sham_flips += bool(trial.changed)
    else:
        of_arm.shams_missing += 1


def _count_null_edit(of_arm: ArmTally, trial: Trial) -> None:
    if trial.status == "ok":
        of_arm.null_edits += 1
        of_arm.null_edit_flips += bool(trial.changed)
    else:
        of_arm.null_edits_missing += 1


def _count_cue(counts: ExampleTally, trial: Trial, targets: Targets) -> None:
    """Count whether a scored answer went to the suggested letter; one that was there already could not go there."""
    where = trial.task, trial.example_id
    target = targets.get((*where, trial.intervention_id or "")) or targets.get((*where, trial.kind))
    if trial.status == "ok" and target is not None and trial.label_before != target:
        counts.to_cue[0] += trial.label_after == target
        counts.to_cue[1] += 1


def _count_sample(total: Tally, condition: Condition, trial: Trial, scored: tuple[bool, bool] | None) -> None:
    of_example = total.samples.setdefault(condition, {}).setdefault(trial.example_id, {})
    one = of_example.setdefault(trial.intervention_id or "", Samples())
    one.add(trial.label_before, trial.label_after)
    if trial.sample == 0 and scored is not None:
        one.mentioned = scored[1]


def _count(
    total: Tally,
    condition: Condition,
    counts: ExampleTally,
    trial: Trial,
    judge: Judge,
    rejudge: bool,
    mass: float | None,
) -> tuple[bool, bool] | None:
    """Count a trial; its impact and mention if it has both."""
    if trial.status in NOT_MISSING:
        return None
    if trial.status != "ok":
        counts.missing[_missing_class(trial, judge)] += 1
        return None
    mentioned, changed = bool(trial.mentioned), bool(trial.changed)
    in_before = trial.mentioned_before
    if rejudge:
        mentioned = bool(judge(trial, trial.explanation or ""))
        in_before = judge(trial, trial.explanation_before or "")
    counts.table[(0 if changed else 2) + (0 if mentioned else 1)] += 1
    if in_before is not None:
        counts.floor[0] += in_before
        counts.floor[1] += 1
    counts.words[0] += len((trial.explanation or "").split())
    counts.words[1] += 1
    tvd, reason = trial.tvd, trial.tvd_reason
    if mass is not None and trial.probs_before is not None and trial.probs_after is not None:
        tvd, reason = tvd_of(
            (trial.probs_before, trial.label_mass_before, None), (trial.probs_after, trial.label_mass_after, None), mass
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


def _missing_class(trial: Trial, judge: Judge) -> int:
    """Where a trial without a score stands in `missing`: only its impact known, only its mention, or neither."""
    if trial.label_before is not None and trial.label_after is not None:
        return 0 if trial.label_before != trial.label_after else 1
    if trial.explanation is None:
        return 4
    return 2 if judge(trial, trial.explanation) else 3
