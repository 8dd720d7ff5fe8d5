"""Read the trials of run directories and count, per example, those that several systems share.

A system is one model under one arm in one run: what is compared with another. An item is one insertion of one example
and sample; the shared items of a task and kind are those with a score in every system that has any.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from explaineval.interventions import SHAM
from explaineval.metrics.estimates import FloatArray, IntArray
from explaineval.records import Trial

Item = tuple[str, str, int]
"""Example id, intervention id, sample."""


class System(NamedTuple):
    """One model under one arm in one run. `run` is the number of the run directory."""

    run: int
    endpoint: str | None
    model: str
    order: str
    style: str
    shots: int
    verbosity: str


@dataclass(slots=True)
class Outcomes:
    """The scored trials of one system on one task and kind, aligned: item, changed and mentioned, TVD (NaN: none)."""

    items: list[Item] = field(default_factory=list)
    flags: bytearray = field(default_factory=bytearray)
    distances: array[float] = field(default_factory=lambda: array("d"))

    def add(self, trial: Trial, mentioned: bool) -> None:
        """Keep one scored trial."""
        self.items.append((trial.example_id, trial.intervention_id or "", trial.sample))
        self.flags.append(2 * bool(trial.changed) + mentioned)
        self.distances.append(math.nan if trial.tvd is None else trial.tvd)


@dataclass
class Trials:
    """All that is compared, from one pass over the trials of all runs.

    `scored` has the outcomes by (task, kind) and system, `right` whether each answer before was right by task, system
    and (example, sample), `shams` the counts of changed and scored shams by task, system and example.
    """

    scored: dict[tuple[str, str], dict[System, Outcomes]] = field(default_factory=dict)
    right: dict[str, dict[System, dict[tuple[str, int], bool]]] = field(default_factory=dict)
    shams: dict[str, dict[System, dict[str, list[int]]]] = field(default_factory=dict)
    systems: dict[System, None] = field(default_factory=dict)

    def add(self, run: int, trials: Iterable[Trial], judge: Callable[[Trial], bool | None]) -> None:
        """Count the trials of one run; `judge` says whether a trial's explanation mentions the insertion."""
        for trial in trials:
            system = System(run, trial.endpoint, trial.model, trial.order, trial.style, trial.shots, trial.verbosity)
            self.systems.setdefault(system)
            if trial.gold is not None and trial.label_before is not None:
                answers = self.right.setdefault(trial.task, {}).setdefault(system, {})
                answers[trial.example_id, trial.sample] = trial.label_before == trial.gold
            if trial.kind == SHAM:
                if trial.status == "ok":
                    counts = self.shams.setdefault(trial.task, {}).setdefault(system, {})
                    pair = counts.setdefault(trial.example_id, [0, 0])
                    pair[0] += bool(trial.changed)
                    pair[1] += 1
                continue
            outcomes = self.scored.setdefault((trial.task, trial.kind), {}).setdefault(system, Outcomes())
            if trial.status == "ok":
                mentioned = judge(trial)
                if mentioned is not None:
                    outcomes.add(trial, mentioned)


class Tables(NamedTuple):
    """Counts of one system on the shared trials of one task, one row per shared example.

    `cells` (G, 4) are a, b, c, d. `graded` (G, 4) and `moments` (G, 6) are the table and the moments of TVD and mention
    on the trials with a TVD in every system that has any.
    """

    cells: IntArray
    graded: IntArray
    moments: FloatArray


@dataclass(frozen=True)
class Shared:
    """Several systems on the trials of one task and kind that they share.

    `tables` are aligned with the systems; None for a system without any scored trial. `lost` counts each system's
    scored trials that are not shared, `own` has the table of all of its scored trials.
    """

    examples: tuple[str, ...]
    tables: tuple[Tables | None, ...]
    lost: tuple[int, ...]
    own: tuple[Tables | None, ...]


def share(outcomes: Sequence[Outcomes | None]) -> Shared:
    """Count the trials that all systems with any scored trial share; the order of trials changes no digit."""
    present = [found for found in outcomes if found is not None and found.items]
    common = set(present[0].items) if present else set()
    for found in present[1:]:
        common &= set(found.items)
    with_distance = _with_distance(present, common)
    examples = tuple(sorted({item[0] for item in common}))
    tables: list[Tables | None] = []
    own: list[Tables | None] = []
    lost = []
    for system in outcomes:
        if system is None or not system.items:
            tables.append(None)
            own.append(None)
            lost.append(0)
            continue
        tables.append(_count(system, examples, common, with_distance))
        everything = tuple(sorted({item[0] for item in system.items}))
        graded = {item for item, value in zip(system.items, system.distances, strict=True) if not math.isnan(value)}
        own.append(_count(system, everything, set(system.items), graded))
        lost.append(len(system.items) - len(common))
    return Shared(examples, tuple(tables), tuple(lost), tuple(own))


def _with_distance(present: Sequence[Outcomes], common: set[Item]) -> set[Item]:
    """The shared items with a TVD in every system that has one on any shared item."""
    left: set[Item] | None = None
    for found in present:
        graded = {
            item
            for item, value in zip(found.items, found.distances, strict=True)
            if not math.isnan(value) and item in common
        }
        if graded:
            left = graded if left is None else left & graded
    return left or set()


def _count(found: Outcomes, examples: Sequence[str], items: set[Item], graded: set[Item]) -> Tables:
    place = {name: number for number, name in enumerate(examples)}
    cells = np.zeros((len(examples), 4), dtype=np.int64)
    cells_graded = np.zeros((len(examples), 4), dtype=np.int64)
    parts: list[list[tuple[float, int]]] = [[] for _ in examples]
    for item, flags, distance in zip(found.items, found.flags, found.distances, strict=True):
        if item not in items:
            continue
        row = place[item[0]]
        cell = (0 if flags & 2 else 2) + (0 if flags & 1 else 1)
        cells[row, cell] += 1
        if item in graded and not math.isnan(distance):
            cells_graded[row, cell] += 1
            parts[row].append((distance, flags & 1))
    return Tables(cells, cells_graded, np.array([_moments(pairs) for pairs in parts]).reshape(-1, 6))


def _moments(pairs: Sequence[tuple[float, int]]) -> tuple[float, ...]:
    """n, Σx, Σm, Σx², Σxm, Σm² of pairs of TVD x and mention m, each correctly rounded."""
    return (
        float(len(pairs)),
        math.fsum(x for x, _ in pairs),
        float(sum(m for _, m in pairs)),
        math.fsum(x * x for x, _ in pairs),
        math.fsum(x * m for x, m in pairs),
        float(sum(m for _, m in pairs)),
    )
