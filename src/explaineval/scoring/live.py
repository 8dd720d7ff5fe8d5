"""Count the trials of a run while they are written, and compute phi-CCT so far.

Memory is bounded by models, conditions and examples, whatever the number of trials.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from explaineval.interventions import counts_for_phi
from explaineval.metrics.correlations import MENTIONED_FLIP, phi_values
from explaineval.metrics.estimates import (
    FloatArray,
    IntArray,
    Interval,
    empty_margin,
    estimate,
    no_value,
    student_t,
    tanh_limits,
    total_table,
)
from explaineval.records import Condition, Estimate, Trial
from explaineval.scoring.counts import table_cell
from explaineval.spill import NumberPlaces, short_digest

FEWEST_SECONDS = 3.0
"""Seconds between two computations of the same model's numbers, at least."""

REST = 50
"""After a computation of t seconds the next one waits for so many times t, so that they take 2 % of the time."""


@dataclass
class LiveTables:
    """The tables of the trials of one kind of intervention: four integers for each example in each condition."""

    examples: NumberPlaces = field(default_factory=NumberPlaces)
    """The row of each example in the arrays, by a hash of its task and id."""
    cells: dict[Condition, array[int]] = field(default_factory=dict)
    """a, b, c, d of each row, one row after the other; the last rows of a condition may be missing."""

    def add(self, trial: Trial) -> None:
        """Count a scored trial."""
        row = self.examples.place(short_digest(trial.task, trial.example_id))
        cells = self.cells.setdefault(trial.condition, array("l"))
        if len(cells) < 4 * (row + 1):
            cells.extend([0] * (4 * (row + 1) - len(cells)))
        cells[4 * row + table_cell(bool(trial.changed), bool(trial.mentioned))] += 1

    def of(self, condition: Condition) -> IntArray | None:
        """Return the tables of one condition, (examples, 4); None where it has no scored trial."""
        cells = self.cells.get(condition)
        return None if cells is None else np.array(cells, dtype=np.int64).reshape(-1, 4)

    @property
    def counts(self) -> IntArray:
        """The tables as an array (examples, conditions, 4)."""
        counts = np.zeros((len(self.examples), len(self.cells), 4), dtype=np.int64)
        for place, cells in enumerate(self.cells.values()):
            rows = np.array(cells, dtype=np.int64).reshape(-1, 4)
            counts[: len(rows), place] = rows
        return counts


@dataclass(frozen=True)
class LivePhi:
    """phi-CCT of one kind of intervention so far: the mean of phi over `conditions` tasks and arms."""

    kind: str
    estimate: Estimate
    conditions: int


@dataclass
class LiveCounts:
    """The trials of one model so far: how many there are by status, and a table for each example and condition.

    Shams, null edits and the controls of cues are counted as trials only.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    tables: dict[str, LiveTables] = field(default_factory=dict)
    """By kind of intervention."""

    def add(self, trial: Trial) -> None:
        """Count one more trial."""
        self.statuses[trial.status] += 1
        if trial.status != "ok" or not counts_for_phi(trial.kind):
            return
        if trial.changed is None or trial.mentioned is None:
            return
        self.tables.setdefault(trial.kind, LiveTables()).add(trial)

    def phis(self, interval: Interval) -> tuple[LivePhi, ...]:
        """Compute phi-CCT of each kind with its interval, in the order in which the kinds first came."""
        return tuple(
            LivePhi(kind, mean_phi(tables.counts, interval), len(tables.cells)) for kind, tables in self.tables.items()
        )


def mean_phi(counts: IntArray, interval: Interval) -> Estimate:
    """Return the unweighted mean of phi over conditions, with a jackknife interval over examples.

    Of one condition that is phi-CCT, to the last digit. An example that was asked in several conditions is left out of
    all of them at once, since its trials are not independent. Undefined where phi of one condition is.

    Args:
        counts: the tables of whole numbers a, b, c, d, (examples, conditions, 4).
        interval: how limits are computed.
    """
    (n_examples, conditions, _), n = counts.shape, int(counts.sum())
    reasons = [empty_margin(*total_table(counts[:, place])) for place in range(conditions)]
    undefined = next((reason for reason in reasons if reason), None)
    if undefined:
        return no_value(undefined, n, n_examples)
    rows = counts.reshape(n_examples, -1).astype(np.float64)
    carriers = int((counts[:, :, 0] > 0).any(axis=1).sum())

    def statistic(sums: FloatArray) -> FloatArray:
        values: FloatArray = phi_values(sums.reshape(-1, 4)).reshape(-1, conditions).mean(axis=1)
        return values

    return estimate(
        rows,
        statistic,
        interval,
        lambda value: tanh_limits(value, rows, statistic, carriers, MENTIONED_FLIP),
        n,
        n_examples,
    )


@dataclass
class LiveNumbers:
    """phi-CCT so far of several models, computed rarely: never two models in one call, and the less often the longer
    it takes.
    """

    interval: Interval
    clock: Callable[[], float] = time.perf_counter
    """Gives seconds; the time that a computation takes is measured with it."""
    _phis: dict[int, tuple[LivePhi, ...]] = field(default_factory=dict, init=False)
    _computed: dict[int, tuple[float, int]] = field(default_factory=dict, init=False)
    """When each model's numbers were computed, and from how many trials."""
    _next: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        student_t(1)  # this imports scipy, which must not be counted as the time of a computation

    def update(self, models: Sequence[LiveCounts]) -> list[tuple[LivePhi, ...]]:
        """Return the numbers of each model, after those that are oldest are computed again where it is time for it."""
        now = self.clock()
        if now >= self._next:
            due = [
                (self._computed.get(place, (float("-inf"), 0))[0], place)
                for place, counts in enumerate(models)
                if self._computed.get(place, (0.0, 0))[1] != counts.statuses.total()
            ]
            if due and now - min(due)[0] >= FEWEST_SECONDS:
                self._compute(min(due)[1], models, now)
        return [self._phis.get(place, ()) for place in range(len(models))]

    def finish(self, models: Sequence[LiveCounts]) -> list[tuple[LivePhi, ...]]:
        """Return the numbers of each model, all of them from the trials of now."""
        for place, counts in enumerate(models):
            if self._computed.get(place, (0.0, 0))[1] != counts.statuses.total():
                self._compute(place, models, self.clock())
        return [self._phis.get(place, ()) for place in range(len(models))]

    def _compute(self, place: int, models: Sequence[LiveCounts], now: float) -> None:
        start = self.clock()
        self._phis[place] = models[place].phis(self.interval)
        self._computed[place] = now, models[place].statuses.total()
        self._next = now + REST * (self.clock() - start)
