"""The numbers of a whole arm, whatever the kind of intervention: accuracy and noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from explaineval import metrics
from explaineval.config import RunConfig
from explaineval.experiment.tallies import ArmTally
from explaineval.interventions import NULL_EDIT
from explaineval.records import SHAM, Estimate

OWN_KINDS = {"sham_flip_rate": SHAM, "null_edit_flip_rate": NULL_EDIT}
"""Metrics of an arm that stand under a kind of their own."""


def arm_estimates(examples: Mapping[str, ArmTally], config: RunConfig) -> dict[str, Estimate]:
    """Accuracy, and how often answers change by asking again or by a null edit, over examples by id."""
    interval = metrics.Interval(method=config.interval, resamples=config.resamples, seed=config.seed)

    def rate(pairs: list[list[int]], why: str) -> Estimate:
        array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return metrics.rate(array[:, 0], array[:, 1], interval, undefined=why)

    found = [examples[name] for name in sorted(examples)]
    estimates = {
        "accuracy": rate(
            [[sum(map(bool, one.right.values())), _read(one)] for one in found],
            "no example has both a gold label and a readable answer",
        ),
        "sham_flip_rate": rate(
            [[one.sham_flips, one.shams] for one in found],
            "no scored trial" if config.shams else "no shams were asked (--shams 0)",
        ),
    }
    if any(one.null_edits or one.null_edits_missing for one in found):
        estimates["null_edit_flip_rate"] = rate(
            [[one.null_edit_flips, one.null_edits] for one in found], "no null edit was scored"
        )
    return estimates


def arm_missing(examples: Mapping[str, ArmTally]) -> dict[str, tuple[int, int]]:
    """For each number of an arm, how many answers it leaves out for want of a score, and of how many."""
    found = examples.values()
    pairs = {
        "accuracy": [(len(one.right) - _read(one), len(one.right)) for one in found],
        "sham_flip_rate": [(one.shams_missing, one.shams + one.shams_missing) for one in found],
        "null_edit_flip_rate": [(one.null_edits_missing, one.null_edits + one.null_edits_missing) for one in found],
    }
    return {metric: (sum(lost for lost, _ in both), sum(of for _, of in both)) for metric, both in pairs.items()}


def _read(one: ArmTally) -> int:
    """How many answers to the untouched input could be read and have a gold label."""
    return sum(right is not None for right in one.right.values())
