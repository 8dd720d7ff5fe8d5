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
            [[sum(one.right.values()), len(one.right)] for one in found],
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
