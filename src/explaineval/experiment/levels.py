"""F-AUROC of a run: the verbosity levels of one model, task, kind and arm taken together (Siegel et al. 2025).

Only trials that are readable at every level enter, so that all levels stand on the same interventions. Where the answer
is asked once and explained per level (order pe2) the number is `f_auroc`, elsewhere `f_auroc_own`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from explaineval import metrics
from explaineval.config import RunConfig
from explaineval.experiment.kinds import undefined
from explaineval.experiment.tallies import Group, LevelCodes, decode
from explaineval.records import Estimate

DIFFERENT_ANSWERS = "the answers differ between levels, though they were asked once: the trials are not of one run"


class LevelNumbers:
    """The numbers over all levels of one group (whose verbosity is None)."""

    def __init__(
        self,
        group: Group,
        examples: Mapping[str, Mapping[tuple[str, int], LevelCodes]],
        levels: Sequence[str],
        config: RunConfig,
    ) -> None:
        self.group, self.config = group, config
        self.interval = metrics.Interval(method=config.interval, resamples=config.resamples, seed=config.seed)
        self.levels = levels
        self.names = sorted(examples)
        self.trials = [
            [codes for _, codes in sorted(examples[name].items()) if all(level in codes for level in levels)]
            for name in self.names
        ]
        self.tables = np.zeros((len(self.names), len(levels), 4), dtype=np.int64)
        for table, trials in zip(self.tables, self.trials, strict=True):
            for codes in trials:
                for at, level in enumerate(levels):
                    changed, mentioned, _ = decode(codes[level])
                    table[at, (0 if changed else 2) + (0 if mentioned else 1)] += 1

    def estimates(self) -> Iterator[tuple[str, Estimate]]:
        """(metric name, estimate) in the fixed order of the metrics file."""
        if self.group.order != "pe2":
            yield "f_auroc_own", metrics.f_auroc_own(self.tables, self.interval)
            return
        flips = self.tables[..., 0] + self.tables[..., 1]
        if (flips != flips[:, :1]).any():
            yield "f_auroc", undefined(DIFFERENT_ANSWERS, int(self.tables.sum()))
            return
        yield "f_auroc", metrics.f_auroc(self.tables, self.interval)
        yield "f_auroc_hull", self._hull().estimate

    def warnings(self) -> Iterator[str]:
        """What a reader should know about the levels: how many trials all of them share, whether they were obeyed."""
        shared = sum(map(len, self.trials))
        area = next(self.estimates())[1]
        if area.value is not None and area.note:
            yield f"F-AUROC: {area.note}."
        if self.group.order == "pe2" and area.value is not None:
            hull = self._hull()
            if hull.permuted is not None and hull.estimate.value is not None:
                yield (
                    f"F-AUROC of the hull is {hull.estimate.value:.3f}; chance alone gives {hull.permuted:.3f} on the "
                    "same trials, so it is read against that only."
                )
        if self.group.order != "pe2" and shared:
            rates = ", ".join(
                f"{level} {rate:.2f}" for level, rate in zip(self.levels, self._impact_rates(), strict=True)
            )
            yield (
                f"each level asked for the answer again: impact rates are {rates}, and {self._agreement():.0%} of the "
                "answers are the same at all levels; --order pe2 asks once and explains per level."
            )

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
