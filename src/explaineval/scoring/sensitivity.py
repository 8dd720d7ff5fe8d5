"""Compare sources of mentions on the same trials: do the numbers depend on who decides what is mentioned?

Each source beside the headline is held against its reference, on the trials that both could decide: how far the two
agree (Cohen's kappa), and whether Youden's J differs (paired over examples). Another policy or a judge is held against
the headline, another channel against the explanation by the same rule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from explaineval.config import RunConfig
from explaineval.metrics.agreement import cohen_kappa
from explaineval.metrics.correlations import youden_values
from explaineval.metrics.differences import Difference
from explaineval.metrics.estimates import FloatArray, IntArray, column_sums
from explaineval.metrics.families import compare_pairs
from explaineval.records import Condition, Estimate
from explaineval.scoring.counts import KindCounts
from explaineval.scoring.registry import METRICS, YOUDEN_J
from explaineval.scoring.shared import Tables, measure_task

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
    measured = [measure_task(paired, _tables(cells), len(cells)) for cells in (own, by_reference)]
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


def _tables(cells: IntArray) -> Tables:
    """Return tables (G, 4) of one level without label probabilities."""
    nothing: FloatArray = np.zeros((len(cells), 6))
    return Tables(cells[:, np.newaxis], np.zeros_like(cells), nothing)
