"""Count the verbosity levels of one model, task, kind and arm together, and check what limits an area over them.

Only trials that are readable at every level enter, so that all levels stand on the same interventions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from explaineval.config import RunConfig
from explaineval.metrics.auroc import HullArea, f_auroc_hull
from explaineval.metrics.estimates import no_value, seeded_generator
from explaineval.records import Condition, Estimate
from explaineval.scoring.codes import Finding, finding
from explaineval.scoring.counts import WORDS, RunCounts, interval_of, table_cell
from explaineval.text import counted, number_text, share_text

DIFFERENT_ANSWERS = "the answers differ between levels, though they were asked once: the trials are not of one run"
NOT_SHARED = "no trial is readable at every level"
NO_LEVEL_SHOTS = "no level shots"
"""Completion style shows a level by shots of that length; without them the level is not asked."""

BY_LENGTH = ("minimal", "brief", "normal", "detailed", "exhaustive")
"""The levels whose names promise longer and longer explanations."""


class LevelCounts:
    """The counts of one condition at several verbosity levels; the condition's own verbosity is None.

    `levels` are those that were asked, `lacking` those that were not because there are no shots of that length.
    `trials` holds the scores by level of the trials that all levels share, by example; `tables` (examples, levels, 4)
    counts them.
    """

    def __init__(
        self,
        condition: Condition,
        counts: RunCounts,
        levels: Sequence[str],
        config: RunConfig,
        lacking: Sequence[str] = (),
    ) -> None:
        self.condition, self.config, self.interval = condition, config, interval_of(config)
        self.levels, self.lacking = levels, lacking
        examples = [trials for _, trials in sorted(counts.levels.get(condition, {}).items())]
        self.trials = [
            [scores for _, scores in sorted(trials.items()) if all(level in scores for level in levels)]
            for trials in examples
        ]
        self.not_shared = sum(map(len, examples)) - sum(map(len, self.trials))
        self.tables = np.zeros((len(examples), len(levels), 4), dtype=np.int64)
        for table, trials in zip(self.tables, self.trials, strict=True):
            for scores in trials:
                for index, level in enumerate(levels):
                    changed, mentioned, _ = scores[level]
                    table[index, table_cell(changed, mentioned)] += 1
        self.words = {level: _mean_words(counts, condition._replace(verbosity=level)) for level in levels}

    @property
    def undefined(self) -> Estimate | None:
        """Why there is no area at all; None where there may be one."""
        if not self.levels:
            return no_value(NO_LEVEL_SHOTS)
        return None if self.tables.any() else no_value(NOT_SHARED)

    @property
    def undefined_if_asked_once(self) -> Estimate | None:
        """The same where the answer is asked once and explained at every level."""
        changed = self.tables[..., 0] + self.tables[..., 1]
        if self.undefined is None and (changed != changed[:, :1]).any():
            return no_value(DIFFERENT_ANSWERS, int(self.tables.sum()))
        return self.undefined

    @cached_property
    def hull(self) -> HullArea:
        """The area under the hull of the levels, and what chance gives on the same trials."""
        scores = [[by_level[level] for level in self.levels] for trials in self.trials for by_level in trials]
        mentions = np.array([[mentioned for _, mentioned, _ in at_levels] for at_levels in scores], dtype=np.bool_)
        impacts = np.array([at_levels[0][0] for at_levels in scores], dtype=np.bool_)
        return f_auroc_hull(
            mentions.reshape(-1, len(self.levels)),
            impacts,
            seeded_generator(self.config.seed),
            n_examples=sum(map(bool, self.trials)),
        )


def _mean_words(counts: RunCounts, condition: Condition) -> float | None:
    total, explanations = counts.kinds[condition].examples.table()[:, WORDS].sum(axis=0).tolist()
    return total / explanations if explanations else None


def check_levels(counts: LevelCounts) -> Iterator[Finding]:
    """Yield what limits every area over these levels, also an undefined one."""
    if counts.lacking and counts.levels:
        yield finding("levels_without_shots", levels=", ".join(counts.lacking))
    if counts.not_shared:
        shared = counted(sum(map(len, counts.trials)), "trial")
        yield finding("levels_not_shared", trials=shared, others=counts.not_shared)
    if counts.condition.order != "pe2" and counts.tables.any():
        yield _own_answers(counts)
    words = [(level, counts.words.get(level)) for level in BY_LENGTH]
    known = [(level, mean) for level, mean in words if mean is not None]
    for (shorter, few), (longer, many) in itertools.pairwise(known):
        if many <= few:
            yield finding(
                "level_not_followed",
                longer=longer,
                many=number_text(many, 1),
                shorter=shorter,
                few=number_text(few, 1),
            )


def check_hull(counts: LevelCounts) -> Iterator[Finding]:
    """Say what the area under the hull comes to by chance alone."""
    area, permuted = counts.hull
    yield finding("hull_above_chance", value=number_text(area.value, 3), chance=number_text(permuted, 3))


def _own_answers(counts: LevelCounts) -> Finding:
    """Say how often answers changed at each level, and how many are the same at all levels."""
    rates = []
    for level, (a, b, c, d) in zip(counts.levels, counts.tables.sum(axis=0).tolist(), strict=True):
        rates.append(f"{level} {number_text((a + b) / (a + b + c + d))}")
    labels = [{scores[level][2] for level in counts.levels} for trials in counts.trials for scores in trials]
    same = sum(len(at_levels) == 1 for at_levels in labels) / len(labels)
    return finding("own_answers", rates=", ".join(rates), same=share_text(same))
