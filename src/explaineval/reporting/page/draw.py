"""Choose the trials that the report page shows, from one pass over those of a run, in bounded memory.

Of each condition and cell of its 2×2 table (and each status of trials without a score) equally many are drawn, so that
rare cells are there in full; the totals are those of the whole run. A draw depends on the input alone, so models that
were asked the same show the same trials.
"""

from __future__ import annotations

import hashlib
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from explaineval.interventions import kind_of
from explaineval.records import Condition, Trial
from explaineval.reporting.results import RunResults
from explaineval.rundir.directory import read_trials
from explaineval.scoring.counts import table_cell
from explaineval.scoring.rows import condition_order

MOST_HELD = 100_000_000
"""About how many bytes of trials are held in memory while they are chosen."""

TRIAL_BYTES = 4_000
"""About how many bytes a trial takes in memory beside its long texts."""


class Drawn(NamedTuple):
    """A trial in the order in which trials are taken: its place in its stratum, then the order of the draw."""

    rank: int
    order: str
    run: int
    id: str
    cell: str
    trial: Trial


@dataclass
class Stratum:
    """The trials of one condition in one cell: how many there are, and those held so far in the order of the draw."""

    total: int = 0
    held: list[tuple[str, Trial]] = field(default_factory=list)


@dataclass
class Draw:
    """The trials drawn from one run, by condition and cell. At most `most` of each are held, in about `limit` bytes."""

    run: int
    limit: int
    strata: dict[tuple[Condition, str], Stratum] = field(default_factory=dict)
    most: int = 1 << 20
    size: int = 0

    def add(self, trial: Trial) -> None:
        """Count a trial, and hold it if it is among the first of its stratum in the order of the draw."""
        stratum = self.strata.setdefault((trial.condition, _cell_of(trial)), Stratum())
        stratum.total += 1
        order = _order_of(trial)
        if len(stratum.held) >= self.most and order >= stratum.held[-1][0]:
            return
        insort(stratum.held, (order, trial), key=itemgetter(0))
        self.size += _bytes_of(trial)
        self._cut(stratum)
        while self.size > self.limit and self.most > 1:
            self.most = self.most * 4 // 5
            for other in self.strata.values():
                self._cut(other)

    def _cut(self, stratum: Stratum) -> None:
        self.size -= sum(_bytes_of(trial) for _, trial in stratum.held[self.most :])
        del stratum.held[self.most :]

    def ranked(self) -> Iterator[Drawn]:
        """Yield the trials that are held."""
        for (_, cell), stratum in self.strata.items():
            for rank, (order, trial) in enumerate(stratum.held):
                yield Drawn(rank, order, self.run, trial.id, cell, trial)


def draw_trials(run: RunResults, number: int, limit: int) -> Draw:
    """Draw from the trials of a run, which has this number, in about `limit` bytes of memory."""
    draw = Draw(number, limit)
    for trial in read_trials(run.directory):
        if not kind_of(trial.kind).measures_noise:
            draw.add(trial)
    order = condition_order(run.record.config, run.record.facts)
    draw.strata = dict(sorted(draw.strata.items(), key=lambda item: (order(item[0][0]), item[0][1])))
    return draw


def _cell_of(trial: Trial) -> str:
    if trial.status != "ok":
        return trial.status
    return "abcd"[table_cell(bool(trial.changed), bool(trial.mentioned))]


def _order_of(trial: Trial) -> str:
    """Return where a trial stands in the order of the draw: at random, and the same in all models, arms and runs."""
    text = repr((trial.task, trial.example_id, trial.intervention_id, trial.sample))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _bytes_of(trial: Trial) -> int:
    texts = (
        trial.text_after, trial.explanation_before, trial.explanation, trial.reasoning_before, trial.reasoning,
        trial.reasoning_explanation_before, trial.reasoning_explanation,
    )  # fmt: skip
    return TRIAL_BYTES + 2 * sum(map(len, filter(None, texts)))
