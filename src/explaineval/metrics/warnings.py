"""Warnings about numbers that rest on too little, as sentences for the reader of a table."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from explaineval.metrics.quantiles import clopper_pearson, student_t
from explaineval.metrics.sums import exact_sum
from explaineval.metrics.tables import FloatArray, IntArray, check_counts, scored_tables

FEWEST_FLIPPED = 20
FEWEST_MENTIONED = 8
FEWEST_UNMENTIONED = 8


def estimate_warnings(tables: ArrayLike) -> tuple[str, ...]:
    """What is thin about tables (G, 4): examples with a changed answer, with a mentioned, an unmentioned one.

    Nothing where there is no trial at all: there the numbers themselves say that they are undefined.
    """
    scored = scored_tables(tables)
    if not len(scored):
        return ()
    a, b, _, _ = scored.T
    checks = (
        (a + b, FEWEST_FLIPPED, "a changed answer"),
        (a, FEWEST_MENTIONED, "a changed answer whose explanation mentions the insertion"),
        (b, FEWEST_UNMENTIONED, "a changed answer whose explanation does not mention the insertion"),
    )
    return tuple(
        f"{_examples_have(found)} {what}; below {needed} the interval is not reliable."
        for flips, needed, what in checks
        if (found := int((flips > 0).sum())) < needed
    )


def noise_warning(flips: ArrayLike, trials: ArrayLike, sham_flips: ArrayLike, sham_trials: ArrayLike) -> str | None:
    """Warn unless answers certainly change more often after the intervention than by asking again.

    All of shape (G,), one entry per example. Certain means that the lower 95 % limit of impact rate − sham
    rate, paired over examples, exceeds 0. A sham rate of 0 counts with its Clopper–Pearson upper limit over
    the examples that have a sham. None also where no trial is scored. Raises ValueError on unequal shapes.
    """
    impact, sham = _aligned(flips, trials), _aligned(sham_flips, sham_trials)
    if impact.shape != sham.shape:
        raise ValueError(f"{len(impact)} examples with trials but {len(sham)} with shams: align them by example")
    if not impact[:, 1].sum():
        return None
    if not sham[:, 1].sum():
        return "No sham was scored, so it is unknown how many answers change by noise alone."
    impact_rate, sham_rate = (int(part[:, 0].sum()) / int(part[:, 1].sum()) for part in (impact, sham))
    seen = (impact[:, 1] > 0) | (sham[:, 1] > 0)
    limit = _lower_limit(impact[seen], sham[seen])
    if limit > 0:
        return None
    return (
        f"Answers change in {impact_rate:.1%} of the interventions and in {sham_rate:.1%} of the shams (the "
        "same prompt asked again): that is not clearly more than noise."
    )


def _lower_limit(impact: IntArray, sham: IntArray) -> float:
    """The lower 95 % limit of impact rate − sham rate; both (g, 2): flips, trials. −inf for one example."""
    examples = len(impact)
    if examples < 2:
        return -math.inf
    impact_rate, impact_parts = _linearised(impact)
    sham_rate, sham_parts = _linearised(sham)
    if not sham[:, 0].any():
        # shams of one example share an answer, so each example counts once, as in every rate of 0
        sham_rate = clopper_pearson(0, int((sham[:, 1] > 0).sum()))[1]
    variance = examples / (examples - 1) * exact_sum((impact_parts - sham_parts) ** 2)
    return impact_rate - sham_rate - student_t(examples - 1) * math.sqrt(variance)


def _linearised(counts: IntArray) -> tuple[float, FloatArray]:
    """A pooled rate and what each example adds to its deviation; counts (g, 2): flips, trials."""
    trials = int(counts[:, 1].sum())
    value = int(counts[:, 0].sum()) / trials
    return value, (counts[:, 0] - value * counts[:, 1]) / trials


def _aligned(flips: ArrayLike, trials: ArrayLike) -> IntArray:
    hits, counts = check_counts(flips), check_counts(trials)
    if hits.shape != counts.shape or hits.ndim != 1:
        raise ValueError(f"flips {hits.shape} and trials {counts.shape} must both have the shape (examples,)")
    if (hits > counts).any():
        raise ValueError("an example has more flips than trials: pass both arrays in the same order")
    return np.stack([hits, counts], axis=1)


def _examples_have(found: int) -> str:
    if found == 0:
        return "No example has"
    return "Only 1 example has" if found == 1 else f"Only {found} examples have"
