"""Measure the systems of a group on the trials that they share, for each kind of intervention and task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from explaineval.interventions import counts_for_phi, kind_of
from explaineval.metrics.correlations import phi_at_p_values, phi_from_rates
from explaineval.metrics.differences import Measured, mean_measure, undefined_measure
from explaineval.metrics.estimates import IntArray
from explaineval.metrics.families import DRAWS
from explaineval.scoring.codes import MetricWarning
from explaineval.scoring.comparisons.groups import PRIMARY, Group, Sizes
from explaineval.scoring.metric import LevelMetric, Metric
from explaineval.scoring.registry import IMPACT_RATE, PHI_AT_P, metrics_of
from explaineval.scoring.shared import (
    MENTIONED_FLIPS,
    NOT_SCORED,
    Outcomes,
    Paired,
    Shared,
    System,
    Tables,
    Trials,
    cells_of,
    measure_task,
    share,
)
from explaineval.scoring.task_means import MEAN
from explaineval.scoring.verbosity import DIFFERENT_ANSWERS


@dataclass(frozen=True)
class Choices:
    """What was declared before looking at the data.

    `equivalent` is the margin within which two systems count as equal, `impact_rate` where phi_at_p is taken (None: the
    mean of the group), `primary` the only kind of the primary family (None: all that count), `sizes` what is known of
    each model (by endpoint and model). `seed` and `draws` are those of the adjusted p-values.
    """

    equivalent: float | None = None
    impact_rate: float | None = None
    primary: str | None = None
    seed: int = 0
    draws: int = DRAWS
    sizes: Sizes = field(default_factory=dict)


class TaskTrials(NamedTuple):
    """The shared trials of one task and kind, and whether every system of the group was asked them."""

    shared: Shared
    asked_of_all: bool


Parts = Mapping[tuple[str, str], TaskTrials]
"""The shared trials of a group by task and kind."""

Carried = Mapping[tuple[System, str, str], Mapping[str, Sequence[MetricWarning]]]
"""What limits numbers whatever the comparison says, by system, task and kind, and then by metric."""


NOTHING_CARRIED: Carried = {}


class CarriedWarning(NamedTuple):
    """What limits the number of one system; `task` where it is a mean over several, of which this is one."""

    task: str | None
    warning: MetricWarning

    def about(self, name: str) -> str:
        """Return the name of the system (or of several) with the task."""
        return name if self.task is None else f"{name} on {self.task}"


class GroupTrials(NamedTuple):
    """What is known of one group: its shared trials, the number of its reference, and what limits numbers."""

    group: Group
    parts: Parts
    reference: int | None = None
    carried: Carried = NOTHING_CARRIED


def share_trials(group: Group, trials: Trials) -> dict[tuple[str, str], TaskTrials]:
    """Count the trials that a group's systems share, by task and kind; without those that nothing is shared of."""
    parts = {}
    for (task, kind), outcomes in trials.scored.items():
        systems: list[list[Outcomes]] = []
        for system in group.systems:
            levels = levels_of_system(group, system)
            systems.append([outcomes[level] for level in levels] if all(map(outcomes.__contains__, levels)) else [])
        shared = share(systems)
        if shared.examples and sum(map(bool, systems)) > 1:
            parts[task, kind] = TaskTrials(shared, all(systems))
    return parts


def levels_of_system(group: Group, system: System) -> list[System]:
    """Return the system at each level of verbosity that the group compares together."""
    return [system._replace(verbosity=level) for level in group.levels or (system.verbosity,)]


def primary_kinds(kinds: Sequence[str], chosen: str | None) -> list[str]:
    """Return the kinds of the primary family: the chosen one, else all but controls and null edits.

    Where there are only such kinds, all of them.
    """
    if chosen is not None:
        return [kind for kind in kinds if kind == chosen]
    return [kind for kind in kinds if counts_for_phi(kind)] or list(kinds)


def comparable_metrics(impact_rate: float, *, over_levels: bool = False) -> dict[str, Paired]:
    """Return how each metric is compared, by name: those of single arms, or those over several levels of verbosity.

    `impact_rate` is where `phi_at_p` is taken, which is defined in comparisons only.
    """
    table: dict[str, Paired] = {}
    for metric in metrics_of(Metric):
        if metric.paired is not None and isinstance(metric, LevelMetric) == over_levels:
            table[metric.name] = metric.paired
        if metric.name == PRIMARY and not over_levels:
            table[PHI_AT_P] = at_impact_rate(impact_rate)
    return table


def at_impact_rate(rate: float) -> Paired:
    """Return how phi at this impact rate is compared."""
    return Paired(cells_of, phi_at_p_values(rate), MENTIONED_FLIPS, from_rates=phi_from_rates(rate))


@dataclass(frozen=True)
class TaskGroup:
    """The systems of one group on one kind and one task, or the mean over `tasks`.

    `left_out` are tasks that the mean leaves out. `leading` says that it comes first for its kind. `impact_rate` is
    where phi_at_p is taken.
    """

    trials: GroupTrials
    kind: str
    task: str
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    leading: bool
    impact_rate: float

    @property
    def group(self) -> Group:
        """The group that is compared."""
        return self.trials.group

    @cached_property
    def shared(self) -> tuple[Shared, ...]:
        """The shared trials of each task."""
        return tuple(self.trials.parts[task, self.kind].shared for task in self.tasks)

    @cached_property
    def examples(self) -> list[tuple[str, str]]:
        """Task and name of the example of each deviation."""
        return [(task, name) for task, part in zip(self.tasks, self.shared, strict=True) for name in part.examples]

    @cached_property
    def paired(self) -> dict[str, Paired]:
        """How each metric is compared."""
        return comparable_metrics(self.impact_rate, over_levels=bool(self.group.levels))

    @cached_property
    def measured(self) -> dict[str, list[Measured]]:
        """The value of each system by metric."""
        numbers = range(len(self.group.systems))
        reason = kind_of(self.kind).no_mention
        return {
            metric: [
                self._unmentioned(number, reason)
                if reason and metric != IMPACT_RATE
                else self.measure(number, [paired] * len(self.tasks))
                for number in numbers
            ]
            for metric, paired in self.paired.items()
        }

    def _unmentioned(self, number: int, reason: str) -> Measured:
        """What a number is that depends on mentions, where nothing can be one."""
        tables = [part.tables[number] for part in self.shared]
        trials = sum(int(found.cells.sum()) for found in tables if found is not None)
        return undefined_measure(len(self.examples), reason, trials)

    def measure(self, number: int, paired: Sequence[Paired]) -> Measured:
        """Measure one system, with what is computed on each task."""
        across_orders = self.group.fixed["order"] is None
        by_task = []
        for of_task, part in zip(paired, self.shared, strict=True):
            if across_orders and of_task.needs_probabilities:
                by_task.append(undefined_measure(len(part.examples), ACROSS_ORDERS))
            else:
                by_task.append(measure_task(of_task, part.tables[number], len(part.examples)))
        if len({measured.undefined for measured in by_task}) > 1:  # a reason of some tasks alone names them
            by_task = [_named(measured, task) for measured, task in zip(by_task, self.tasks, strict=True)]
        return by_task[0] if len(by_task) == 1 else mean_measure(by_task)

    def rates(self, number: int) -> list[float]:
        """Return the impact rate of one system on the shared trials of each task; NaN where it has none."""
        return [_impact_of(part.tables[number]) for part in self.shared]

    def carried(self, number: int, metric: str) -> list[CarriedWarning]:
        """Return what limits the number of one system, each reason once for each task."""
        name = IMPACT_RATE if self.group.levels else PRIMARY if metric == PHI_AT_P else metric
        found: dict[tuple[str, str], CarriedWarning] = {}
        for system in levels_of_system(self.group, self.group.systems[number]):
            for task in self.tasks:
                for warning in self.trials.carried.get((system, task, self.kind), {}).get(name, ()):
                    carried = CarriedWarning(task if len(self.tasks) > 1 else None, warning)
                    found.setdefault((task, warning.code), carried)
        return list(found.values())


def _named(measured: Measured, task: str) -> Measured:
    """Return a task's number with the task in the reason why it cannot be compared."""
    if measured.undefined in (None, NOT_SCORED, DIFFERENT_ANSWERS):  # who reads these knows them as they are
        return measured
    return replace(measured, undefined=f"on {task} {measured.undefined}")


ACROSS_ORDERS = "label probabilities are not compared across orders"


def task_groups_of(trials: GroupTrials, choices: Choices) -> Iterator[TaskGroup]:
    """Yield the task_groups of a group: for each kind the mean over tasks first, then each task.

    The mean is over the tasks that every system was asked; with only one such task that one comes first.
    """
    for kind in dict.fromkeys(kind for _, kind in trials.parts):
        by_task = {task: part for (task, other), part in trials.parts.items() if other == kind}
        whole = [task for task, part in by_task.items() if part.asked_of_all]
        left_out = tuple(task for task in by_task if task not in whole) if whole else ()
        rate = choices.impact_rate
        if rate is None:
            rate = _mean_impact([by_task[task].shared for task in whole or by_task])
        tasks = [*whole, *(task for task in by_task if task not in whole)]
        for name in [*([MEAN] if len(whole) > 1 else []), *tasks]:
            leading = name == MEAN or (name == tasks[0] and len(whole) < 2)
            yield TaskGroup(
                trials,
                kind,
                name,
                tuple(whole) if name == MEAN else (name,),
                left_out if leading else (),
                leading,
                rate,
            )


def number_examples(task_groups: Sequence[TaskGroup]) -> list[IntArray]:
    """Return for each task_group the number of the example of each deviation among those of all task_groups."""
    numbers: dict[tuple[str, str], int] = {}
    return [
        np.array([numbers.setdefault(example, len(numbers)) for example in task_group.examples], dtype=np.int64)
        for task_group in task_groups
    ]


def _mean_impact(parts: Sequence[Shared]) -> float:
    """The mean over systems of the mean over tasks of the impact rate on the shared trials."""
    rates = [_impact_of(tables) for part in parts for tables in part.tables]
    known = [rate for rate in rates if not math.isnan(rate)]
    return math.fsum(known) / len(known) if known else 0.0


def _impact_of(tables: Tables | None) -> float:
    if tables is None or not tables.cells.sum():
        return math.nan
    a, b, _, _ = tables.cells.sum(axis=0)
    return float(a + b) / float(tables.cells.sum())
