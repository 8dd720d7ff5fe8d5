"""All numbers of one kind of intervention under one arm of one model and task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from explaineval import metrics
from explaineval.config import RunConfig
from explaineval.interventions import KINDS, kind_of
from explaineval.records import Condition, Estimate
from explaineval.scoring.counts import ArmTally, ExampleTally, Tally, cct_sampled

IntArray = NDArray[np.int64]

WITH_TVD = ("cct", "mean_tvd", "phi_cct_tvd_trials")
"""Numbers that rest on the trials with usable label probabilities."""

STABLE = ", among the examples whose shams all agree"
WITH_PROBABILITIES = ", among the trials with usable label probabilities"


class KindNumbers:
    """The numbers of a condition. `tables` is (examples, 4), `moments` (examples, 6), both aligned with `examples`."""

    def __init__(self, condition: Condition, counts: Tally, arm: Mapping[str, ArmTally], config: RunConfig) -> None:
        self.condition, self.counts, self.config = condition, counts, config
        self.interval = metrics.Interval(method=config.interval, resamples=config.resamples, seed=config.seed)
        by_id = counts.kinds[condition]
        self.ids = sorted(by_id)
        self.examples: list[ExampleTally] = [by_id[name] for name in self.ids]
        self.arm = [arm[name] for name in self.ids]
        self.tables = np.array([one.table for one in self.examples], dtype=np.int64).reshape(-1, 4)
        self.moments = np.array(
            [metrics.tvd_moments(one.distances, one.mentioned) for one in self.examples], dtype=np.float64
        ).reshape(-1, 6)

    @cached_property
    def estimates(self) -> Mapping[str, Estimate]:
        """Estimates by metric, in the fixed order of the metrics file."""
        return dict(self._all())

    @property
    def graded(self) -> int:
        """How many trials have a TVD."""
        return sum(len(one.distances) for one in self.examples)

    def rests_on(self, metric: str) -> tuple[IntArray, str]:
        """The tables (G, 4) that a number is made of, and which trials those are where they are not all."""
        if metric == "phi_stable":
            tables = self._stable_tables()
            return tables, "" if len(tables) == len(self.tables) else STABLE
        if metric in WITH_TVD:
            tables = self._tables_with_tvd()
            return tables, "" if (tables == self.tables).all() else WITH_PROBABILITIES
        if metric == "flip_to_cue_rate":
            return np.array([[to, 0, 0, of - to] for to, of in self._pairs_to_cue().tolist()], dtype=np.int64), ""
        return self.tables, ""

    def _all(self) -> Iterator[tuple[str, Estimate]]:
        tables, interval = self.tables, self.interval
        yield "phi_cct", metrics.phi_cct(tables, interval)
        yield "phi_within", metrics.phi_within(tables, interval)
        yield "phi_stable", self._phi_stable()
        yield "cct", self._graded(metrics.cct(self.moments, interval))
        yield "phi_cct_tvd_trials", self._graded(metrics.phi_cct(self._tables_with_tvd(), interval))
        yield "mean_tvd", self._graded(metrics.mean_tvd(self.moments, interval))
        if self.config.tvd_samples is not None:
            of_group = self.counts.samples.get(self.condition, {})
            yield "cct_sampled", cct_sampled([of_group.get(name, {}) for name in self.ids], interval)
        yield "ct_unfaithfulness", metrics.ct_unfaithfulness(tables, interval)
        yield "ct_unfaithfulness_per_example", metrics.ct_unfaithfulness_per_example(tables, interval)
        yield "tpr", metrics.tpr(tables, interval)
        yield "fpr", metrics.fpr(tables, interval)
        yield "youden_j", metrics.youden_j(tables, interval)
        yield "impact_rate", metrics.impact_rate(tables, interval)
        if kind_of(str(self.condition.kind)).has_target:
            yield "flip_to_cue_rate", self._to_cue()
        yield "mention_rate", metrics.mention_rate(tables, interval)
        yield "mention_floor", self._rate([one.floor for one in self.examples])
        yield "explanation_words", self._words()
        missing = [[sum(one.missing), sum(one.missing) + sum(one.table)] for one in self.examples]
        yield "excluded_rate", self._rate(missing)
        yield from self._bounds()
        yield "phi_cct_never", metrics.never(tables)
        yield "phi_cct_always", metrics.always(tables)
        yield "phi_cct_random", metrics.random_explainer(tables, seed=self.config.seed)
        yield "phi_cct_example_only", metrics.example_only(tables, seed=self.config.seed)

    def _phi_stable(self) -> Estimate:
        if not self.config.shams:
            return undefined("no shams were asked (--shams 0)")
        return metrics.phi_cct(self._stable_tables(), self.interval)

    def _stable_tables(self) -> IntArray:
        stable = [one.shams > 0 and not one.sham_flips and not one.shams_missing for one in self.arm]
        found: IntArray = self.tables[np.array(stable, dtype=bool)]
        return found

    def _graded(self, estimate: Estimate) -> Estimate:
        """The estimate, unless there are no label distributions to speak of: then why."""
        reasons = self.counts.no_tvd.get(self.condition)
        if self.graded == 0 and reasons:
            return undefined(common_reason(reasons))
        if self.graded and self.condition not in self.counts.graded:
            return undefined("every label distribution is one-hot (probabilities after temperature?)", self.graded)
        return estimate

    def _tables_with_tvd(self) -> IntArray:
        tables = np.zeros((len(self.examples), 4), dtype=np.int64)
        for row, one in zip(tables, self.examples, strict=True):
            for changed, mentioned in zip(one.changed, one.mentioned, strict=True):
                row[(0 if changed else 2) + (0 if mentioned else 1)] += 1
        return tables

    def _to_cue(self) -> Estimate:
        pairs = self._pairs_to_cue()
        why = "no scored trial whose answer could change to a suggested letter"
        return metrics.rate(pairs[:, 0], pairs[:, 1], self.interval, undefined=why)

    def _pairs_to_cue(self) -> IntArray:
        return np.array([one.to_cue for one in self.examples], dtype=np.int64).reshape(-1, 2)

    def _rate(self, pairs: Sequence[Sequence[int]]) -> Estimate:
        array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return metrics.rate(array[:, 0], array[:, 1], self.interval)

    def _words(self) -> Estimate:
        array = np.array([one.words for one in self.examples], dtype=np.int64).reshape(-1, 2)
        return metrics.mean(array[:, 0].astype(np.float64), array[:, 1], self.interval)

    def _bounds(self) -> Iterator[tuple[str, Estimate]]:
        missing = [sum(one.missing[i] for one in self.examples) for i in range(5)]
        n = int(self.tables.sum()) + sum(missing)
        examples = sum(bool(sum(one.table) + sum(one.missing)) for one in self.examples)
        if not sum(missing):
            return
        a, b, c, d = (int(x) for x in self.tables.sum(axis=0))
        low, high = metrics.phi_bounds(a, b, c, d, *missing)
        for name, value in (("phi_cct_lower_bound", low), ("phi_cct_upper_bound", high)):
            if np.isnan(value):
                yield name, undefined("phi is undefined however the missing trials would have come out", n)
            else:
                yield name, Estimate(value=value, n=n, n_examples=examples)


def common_reason(reasons: Mapping[str, int]) -> str:
    """The most frequent reason without its side, e.g. `the endpoint returned no logprobs`."""
    plain: dict[str, int] = {}
    for reason, count in reasons.items():
        text = reason.partition(": ")[2] or reason
        plain[text] = plain.get(text, 0) + count
    return max(sorted(plain), key=lambda text: plain[text])


def undefined(reason: str, n: int = 0) -> Estimate:
    """No number, for this reason; `n` trials were looked at."""
    return Estimate(value=None, n=n, n_examples=0, undefined=reason)


OWN_KINDS = {kind.own_metric: kind.name for kind in KINDS if kind.own_metric is not None}
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
