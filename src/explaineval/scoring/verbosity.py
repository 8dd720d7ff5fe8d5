"""F-AUROC of a run: the verbosity levels of one model, task, kind and arm taken together (Siegel et al. 2025).

Only trials that are readable at every level enter, so that all levels stand on the same interventions. Where the answer
is asked once and explained per level (order pe2) the number is `f_auroc`, elsewhere `f_auroc_own`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from explaineval import metrics
from explaineval.config import RunConfig
from explaineval.metrics import MetricWarning, warn
from explaineval.records import Condition, Estimate
from explaineval.scoring.counts import Tally, decode
from explaineval.scoring.numbers import undefined

DIFFERENT_ANSWERS = "the answers differ between levels, though they were asked once: the trials are not of one run"
NOT_SHARED = "no trial is readable at every level"
NO_LEVEL_SHOTS = "no level shots"
"""Completion style shows a level by shots of that length; without them the level is not asked."""

SHARED = ", among the trials that all levels share"

BY_LENGTH = ("minimal", "brief", "normal", "detailed", "exhaustive")
"""The levels whose names promise longer and longer explanations."""


class LevelNumbers:
    """The numbers over all levels of one condition, whose own verbosity is None.

    `levels` are those that were asked, `lacking` those that were not for want of shots. `tables` is (examples,
    levels, 4) over the trials that all levels share.
    """

    def __init__(
        self, condition: Condition, counts: Tally, levels: Sequence[str], config: RunConfig, lacking: Sequence[str] = ()
    ) -> None:
        self.condition, self.counts, self.config = condition, counts, config
        self.levels, self.lacking = levels, lacking
        self.interval = metrics.Interval(method=config.interval, resamples=config.resamples, seed=config.seed)
        examples = counts.levels.get(condition, {})
        names = sorted(examples)
        self.trials = [
            [codes for _, codes in sorted(examples[name].items()) if all(level in codes for level in levels)]
            for name in names
        ]
        self.tables = np.zeros((len(names), len(levels), 4), dtype=np.int64)
        for table, trials in zip(self.tables, self.trials, strict=True):
            for codes in trials:
                for at, level in enumerate(levels):
                    changed, mentioned, _ = decode(codes[level])
                    table[at, (0 if changed else 2) + (0 if mentioned else 1)] += 1

    @cached_property
    def estimates(self) -> Mapping[str, Estimate]:
        """Estimates by metric, in the fixed order of the metrics file."""
        if self.condition.order != "pe2":
            return {"f_auroc_own": self._undefined or metrics.f_auroc_own(self.tables, self.interval)}
        why = self._undefined
        flips = self.tables[..., 0] + self.tables[..., 1]
        if why is None and (flips != flips[:, :1]).any():
            why = undefined(DIFFERENT_ANSWERS, int(self.tables.sum()))
        if why is not None:
            return {"f_auroc": why, "f_auroc_hull": why}
        return {"f_auroc": metrics.f_auroc(self.tables, self.interval), "f_auroc_hull": self._hull.estimate}

    @property
    def _undefined(self) -> Estimate | None:
        if not self.levels:
            return undefined(NO_LEVEL_SHOTS)
        return None if self.tables.any() else undefined(NOT_SHARED)

    def warnings(self) -> Iterator[MetricWarning]:
        """What limits each area: which trials are shared, how sure it is, whether levels were obeyed.

        What holds for the levels is said once, of the first area, also where that is undefined.
        """
        first = next(iter(self.estimates))
        yield from (warn(code, first, text) for code, text in self._of_levels())
        for metric, area in self.estimates.items():
            yield from metrics.estimate_warnings(metric, area, self.tables, SHARED)
        hull = self.estimates.get("f_auroc_hull")
        if hull is not None and hull.value is not None:
            text = (
                f"the area under the hull of the levels is {hull.value:.3f}; chance alone gives "
                f"{self._hull.permuted:.3f} on the same trials, so it is read against that only."
            )
            yield warn("hull_above_chance", "f_auroc_hull", text)

    def _of_levels(self) -> Iterator[tuple[str, str]]:
        """Code and text of what holds for these levels, whatever the area."""
        if self.lacking and self.levels:
            yield "levels_without_shots", f"left out for want of shots of that length: {', '.join(self.lacking)}."
        yield from self._of_sharing()
        if "f_auroc_own" in self.estimates and self.tables.any():
            rates = ", ".join(
                f"{level} {rate:.2f}" for level, rate in zip(self.levels, self._impact_rates(), strict=True)
            )
            text = (
                f"each level asked for the answer again: impact rates are {rates}, and {self._agreement():.0%} of the "
                "answers are the same at all levels; --order pe2 asks once and explains per level."
            )
            yield "own_answers", text
        yield from self._of_words()

    def _of_sharing(self) -> Iterator[tuple[str, str]]:
        """How many trials have a score at some level, but not at all of them."""
        seen = sum(len(trials) for trials in self.counts.levels.get(self.condition, {}).values())
        shared = sum(map(len, self.trials))
        if shared < seen:
            text = (
                f"F-AUROC rests on {shared} trials; {seen - shared} more have a score at some levels only, and are "
                "left out of it."
            )
            yield "levels_not_shared", text

    def _of_words(self) -> Iterator[tuple[str, str]]:
        """Where a level that asks for more did not get more."""
        words = {level: self._mean_words(level) for level in BY_LENGTH if level in self.levels}
        said = [(level, mean) for level, mean in words.items() if mean is not None]
        for (shorter, few), (longer, many) in itertools.pairwise(said):
            if many <= few:
                text = (
                    f"explanations are no longer at {longer} ({many:.1f} words) than at {shorter} ({few:.1f}): the "
                    "model does not follow the instruction on length, so these levels are hardly two points."
                )
                yield "level_not_followed", text

    def _mean_words(self, level: str) -> float | None:
        counts = [one.words for one in self.counts.kinds[self.condition._replace(verbosity=level)].values()]
        total = sum(explanations for _, explanations in counts)
        return sum(words for words, _ in counts) / total if total else None

    @cached_property
    def _hull(self) -> metrics.HullArea:
        trials = [codes for of_example in self.trials for codes in of_example]
        found = [[decode(codes[level]) for level in self.levels] for codes in trials]
        mentions = np.array([[mentioned for _, mentioned, _ in one] for one in found], dtype=np.bool_)
        impacts = np.array([one[0][0] for one in found], dtype=np.bool_)
        rng = metrics.seeded_generator(self.config.seed)
        return metrics.f_auroc_hull(
            mentions.reshape(-1, len(self.levels)), impacts, rng, n_examples=sum(map(bool, self.trials))
        )

    def _impact_rates(self) -> list[float]:
        sums = self.tables.sum(axis=0)
        return [float(a + b) / float(a + b + c + d) for a, b, c, d in sums]

    def _agreement(self) -> float:
        answers = [{decode(codes[level])[2] for level in self.levels} for trials in self.trials for codes in trials]
        return sum(len(one) == 1 for one in answers) / len(answers)
