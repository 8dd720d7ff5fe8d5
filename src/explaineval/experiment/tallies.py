"""One pass over the trials: integer counts and label distances per group and example, in bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from explaineval.experiment.trials import tvd_of
from explaineval.mentions import mentions
from explaineval.parsing import argmax_disagrees, is_one_hot
from explaineval.records import NOT_MISSING, SHAM, Mention, Trial


class Group(NamedTuple):
    """What a set of numbers is about. `kind` None is the arm itself: accuracy, shams."""

    endpoint: str | None
    model: str
    task: str
    kind: str | None
    order: str
    style: str
    shots: int
    verbosity: str


@dataclass(slots=True)
class ExampleTally:
    """Counts of one example in one group (kind). `table` is a, b, c, d; `missing` is v1, v0, w."""

    table: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    missing: list[int] = field(default_factory=lambda: [0, 0, 0])
    floor: list[int] = field(default_factory=lambda: [0, 0])
    words: list[int] = field(default_factory=lambda: [0, 0])
    distances: list[float] = field(default_factory=list)
    mentioned: list[bool] = field(default_factory=list)
    changed: list[bool] = field(default_factory=list)


@dataclass(slots=True)
class ArmTally:
    """Counts of one example in one arm: shams, and whether each sample's answer was right."""

    sham_flips: int = 0
    shams: int = 0
    shams_missing: int = 0
    right: dict[int, bool] = field(default_factory=dict)


@dataclass
class Tally:
    """All counts of a run, by group and example id."""

    kinds: dict[Group, dict[str, ExampleTally]] = field(default_factory=dict)
    arms: dict[Group, dict[str, ArmTally]] = field(default_factory=dict)
    statuses: dict[Group, Counter[str]] = field(default_factory=dict)
    no_tvd: dict[Group, Counter[str]] = field(default_factory=dict)
    graded: set[Group] = field(default_factory=set)
    off_argmax: Counter[Group] = field(default_factory=Counter)


def tally(
    trials: Iterable[Trial], policy: Mention, *, rejudge: bool = False, min_label_mass: float | None = None
) -> Tally:
    """Count all trials under a mention policy.

    `rejudge` says that the trials were judged by another one; a mass given here replaces theirs likewise.
    """
    total = Tally()
    for trial in trials:
        arm = Group(
            trial.endpoint, trial.model, trial.task, None, trial.order, trial.style, trial.shots, trial.verbosity
        )
        of_arm = total.arms.setdefault(arm, {}).setdefault(trial.example_id, ArmTally())
        if trial.gold is not None and trial.label_before is not None:
            of_arm.right[trial.sample] = trial.label_before == trial.gold
        group = arm._replace(kind=trial.kind)
        total.statuses.setdefault(group, Counter())[trial.status] += 1
        if trial.kind == SHAM:
            _count_sham(of_arm, trial)
            continue
        of_kind = total.kinds.setdefault(group, {}).setdefault(trial.example_id, ExampleTally())
        _count(total, group, of_kind, trial, policy, rejudge, min_label_mass)
    return total


def _count_sham(of_arm: ArmTally, trial: Trial) -> None:
    if trial.status == "ok":
        of_arm.shams += 1
        of_arm.sham_flips += bool(trial.changed)
    else:
        of_arm.shams_missing += 1


def _count(
    total: Tally,
    group: Group,
    counts: ExampleTally,
    trial: Trial,
    policy: Mention,
    rejudge: bool,
    mass: float | None,
) -> None:
    if trial.status in NOT_MISSING:
        return
    if trial.status != "ok":
        known = None if trial.explanation is None else mentions(policy, trial.inserted or "", trial.explanation)
        counts.missing[2 if known is None else (0 if known else 1)] += 1
        return
    mentioned, changed = bool(trial.mentioned), bool(trial.changed)
    in_before = trial.mentioned_before
    if rejudge:
        mentioned = mentions(policy, trial.inserted or "", trial.explanation or "")
        in_before = mentions(policy, trial.inserted or "", trial.explanation_before or "")
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
        total.no_tvd.setdefault(group, Counter())[reason or "no label probabilities"] += 1
        return
    counts.distances.append(tvd)
    counts.mentioned.append(mentioned)
    counts.changed.append(changed)
    for probs, label in ((trial.probs_before, trial.label_before), (trial.probs_after, trial.label_after)):
        if probs is not None and label is not None:
            total.off_argmax[group] += argmax_disagrees(probs, label)
            if not is_one_hot(probs):
                total.graded.add(group)
