"""Test the differences of every metric between the systems of one group, on the trials that all of them share.

A family is one metric on one task (or the mean over tasks) and kind. The tests are those of
`explaineval.metrics.differences`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from explaineval.metrics.correlations import cct_values, phi_at_p_values, phi_values
from explaineval.metrics.differences import (
    Difference,
    Family,
    Measured,
    compare_pairs,
    compare_with_reference,
    mean_measure,
    measure,
    undefined_measure,
)
from explaineval.metrics.estimates import column_sums
from explaineval.metrics.rates import ratio_values
from explaineval.metrics.trends import ExplainedVariance, Trend, explained_variance
from explaineval.scoring.comparisons.groups import AT_P, PRIMARY, Group
from explaineval.scoring.comparisons.trends import TOGETHER, size_trends
from explaineval.scoring.comparisons.tuning import Sizes
from explaineval.scoring.metric import LevelMetric
from explaineval.scoring.registry import METRICS
from explaineval.scoring.shared import (
    MENTIONED_FLIPS,
    Outcomes,
    Paired,
    Shared,
    Tables,
    Trials,
    cells_of,
    measure_task,
    share,
)
from explaineval.scoring.task_means import MEAN
from explaineval.scoring.verbosity import DIFFERENT_ANSWERS


def comparable_metrics(impact_rate: float, *, over_levels: bool = False) -> dict[str, Paired]:
    """Return how each metric is compared, by name: those of single arms, or those over several levels of verbosity.

    `impact_rate` is where `phi_at_p` is taken, which is defined in comparisons only.
    """
    table: dict[str, Paired] = {}
    for metric in METRICS.values():
        if metric.paired is not None and isinstance(metric, LevelMetric) == over_levels:
            table[metric.name] = metric.paired
        if metric.name == PRIMARY and not over_levels:
            table[AT_P] = Paired(cells_of, phi_at_p_values(impact_rate), MENTIONED_FLIPS)
    return table


@dataclass(frozen=True)
class Compared:
    """One family: all differences of one metric on one task (or the mean over tasks) and kind in one group.

    `tasks` are the tasks that it rests on, `left_out` those that the mean leaves out since not all systems were asked
    them. `values`, `undefined`, `lost` and `unrestricted` are aligned with the group's systems: the value on the shared
    trials, why there is none, the trials that the metric could use but that are not shared, and the value with them.
    `n_pairs` and `n_examples` count the shared trials that the metric rests on, and their examples. The first family of
    a group is primary, the others are exploratory. `equivalent` is the margin declared beforehand and `impact_rate`
    where `phi_at_p` is taken. `trends_beside` are the trends that have to be told with that of phi-CCT.
    """

    group: Group
    metric: str
    task: str
    kind: str
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    family: Family
    values: tuple[float | None, ...]
    undefined: tuple[str | None, ...]
    lost: tuple[int, ...]
    unrestricted: tuple[float | None, ...]
    n_pairs: int
    n_examples: int
    equivalent: float | None = None
    impact_rate: float | None = None
    trend: Trend | None = None
    trends_beside: Mapping[str, Trend] = field(default_factory=dict)
    primary: bool = False
    on_log_scale: bool = False

    @property
    def tested(self) -> list[Difference]:
        """The differences that were tested."""
        return [row for row in self.family.differences if row.p_adjusted is not None]

    def why_undefined(self, row: Difference) -> str | None:
        """Why this difference is undefined, with the names of the systems that have no value."""
        if row.undefined is None:
            return None
        reasons = {self.group.names[number]: self.undefined[number] for number in (row.first, row.second)}
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason) or row.undefined


@dataclass(frozen=True)
class Choices:
    """What was declared before looking at the data.

    `reference` is the number of the system that the others are tested against (None: all pairs), `equivalent` the
    margin within which two systems count as equal, `impact_rate` where phi_at_p is taken (None: the mean of the
    group), `sizes` what is known of each model (by endpoint and model).
    """

    reference: int | None = None
    equivalent: float | None = None
    impact_rate: float | None = None
    seed: int = 0
    sizes: Sizes = field(default_factory=dict)


class Part(NamedTuple):
    """The shared trials of one task and kind, and whether every system of the group was asked them."""

    shared: Shared
    asked_of_all: bool


def share_trials(group: Group, trials: Trials) -> dict[tuple[str, str], Part]:
    """Count the trials that a group's systems share, by task and kind; without those that nothing is shared of."""
    parts = {}
    for (task, kind), outcomes in trials.scored.items():
        systems: list[list[Outcomes]] = []
        for system in group.systems:
            levels = [system._replace(verbosity=level) for level in group.levels or (system.verbosity,)]
            systems.append([outcomes[level] for level in levels] if all(map(outcomes.__contains__, levels)) else [])
        shared = share(systems, list(trials.examples.get(task, ())))
        if shared.examples and sum(map(bool, systems)) > 1:
            parts[task, kind] = Part(shared, all(systems))
    return parts


def compare_group(group: Group, parts: Mapping[tuple[str, str], Part], choices: Choices) -> Iterator[Compared]:
    """All families of one group: for each kind the mean over tasks first, then each task, every metric.

    The mean is over the tasks that every system was asked; with only one such task that one comes first.
    """
    for kind in dict.fromkeys(kind for _, kind in parts):
        by_task = {task: part for (task, other), part in parts.items() if other == kind}
        whole = [task for task, part in by_task.items() if part.asked_of_all]
        left_out = tuple(task for task in by_task if task not in whole) if whole else ()
        rate = choices.impact_rate
        if rate is None:
            rate = _mean_impact([by_task[task].shared for task in whole or by_task])
        tasks = [*whole, *(task for task in by_task if task not in whole)]
        for name in [*([MEAN] if len(whole) > 1 else []), *tasks]:
            rests_on = tuple(whole) if name == MEAN else (name,)
            first = name == MEAN or (name == tasks[0] and len(whole) < 2)
            shared = [by_task[task].shared for task in rests_on]
            metrics = comparable_metrics(rate, over_levels=bool(group.levels))
            measured = {metric: _measure(group, paired, shared) for metric, paired in metrics.items()}
            trends = size_trends(group, measured, choices.sizes)
            for metric, paired in metrics.items():
                systems = measured[metric]
                yield Compared(
                    group=group,
                    metric=metric,
                    task=name,
                    kind=kind,
                    tasks=rests_on,
                    left_out=left_out if first else (),
                    family=_test(systems, choices),
                    values=tuple(
                        None if system.undefined in NOT_COMPARED else _pooled_value(paired, tables)
                        for system, tables in zip(
                            systems, zip(*(part.tables for part in shared), strict=True), strict=True
                        )
                    ),
                    undefined=tuple(system.undefined for system in systems),
                    lost=tuple(
                        sum(_lost(paired, part, number) for part in shared) for number in range(len(group.systems))
                    ),
                    unrestricted=tuple(
                        None if system.undefined in NOT_COMPARED else _pooled_value(paired, tables)
                        for system, tables in zip(
                            systems, zip(*(part.own for part in shared), strict=True), strict=True
                        )
                    ),
                    n_pairs=max(system.n for system in systems),
                    n_examples=sum(_examples(paired, part) for part in shared),
                    equivalent=choices.equivalent,
                    impact_rate=rate if metric == AT_P else None,
                    trend=trends.get(metric),
                    trends_beside={name: trends[name] for name in TOGETHER[1:] if name in trends}
                    if metric == PRIMARY
                    else {},
                    primary=first and metric == group.primary_metric,
                    on_log_scale=paired.on_log_scale,
                )


def _lost(paired: Paired, part: Shared, number: int) -> int:
    """How many of a system's trials that the metric could use are not shared."""
    shared, own = part.tables[number], part.own[number]
    return 0 if shared is None or own is None else int(paired.trials_of(own).sum() - paired.trials_of(shared).sum())


def _examples(paired: Paired, part: Shared) -> int:
    """How many shared examples have a trial that the metric rests on."""
    return max(int(np.count_nonzero(paired.trials_of(tables))) for tables in part.tables if tables is not None)


def _mean_impact(parts: Sequence[Shared]) -> float:
    """The mean over systems of the mean over tasks of the impact rate on the shared trials."""
    rates = []
    for part in parts:
        for tables in part.tables:
            if tables is not None and tables.cells.sum():
                a, b, _, _ = tables.cells.sum(axis=0)
                rates.append(float(a + b) / float(tables.cells.sum()))
    return math.fsum(rates) / len(rates) if rates else 0.0


def _measure(group: Group, paired: Paired, parts: Sequence[Shared]) -> list[Measured]:
    """Measure each system of a group on one task, or in the mean over several."""
    across_orders = paired.needs_probabilities and group.fixed["order"] is None
    systems = []
    for number in range(len(group.systems)):
        by_task = []
        for part in parts:
            if across_orders:
                by_task.append(undefined_measure(len(part.examples), ACROSS_ORDERS))
            else:
                by_task.append(measure_task(paired, part.tables[number], len(part.examples)))
        systems.append(by_task[0] if len(by_task) == 1 else mean_measure(by_task))
    return systems


def _test(systems: Sequence[Measured], choices: Choices) -> Family:
    if choices.reference is None:
        return compare_pairs(systems, seed=choices.seed, equivalent=choices.equivalent)
    return compare_with_reference(systems, choices.reference, equivalent=choices.equivalent)


ACROSS_ORDERS = "label probabilities are not compared across orders"
NOT_COMPARED = (ACROSS_ORDERS, DIFFERENT_ANSWERS)
"""Why systems have no value at all, though their trials would give one."""


def _shown(paired: Paired, value: float) -> float:
    return math.exp(value) if paired.on_log_scale else value


def _pooled_value(paired: Paired, by_task: Sequence[Tables | None]) -> float | None:
    values = []
    for tables in by_task:
        if tables is None:
            return None
        value = float(paired.statistic(column_sums(paired.rows(tables))[np.newaxis])[0])
        if math.isnan(value):
            return None
        values.append(value)
    return _shown(paired, math.fsum(values) / len(values)) if values else None


IMPACT_NOT_MENTION = "impact rate, not mention"


def label_of(phi: Difference, at_p: Difference | None, impact: Difference | None) -> str | None:
    """`impact rate, not mention` where a difference in phi-CCT vanishes at a common impact rate.

    It does where the two systems differ significantly in phi-CCT and in impact rate, but not, or the other way round,
    in phi at a common impact rate.
    """
    if not phi.significant or at_p is None or at_p.value is None or phi.value is None:
        return None
    if at_p.significant:
        return None if at_p.value * phi.value > 0 else IMPACT_NOT_MENTION
    return IMPACT_NOT_MENTION if impact is not None and impact.significant else None


def sham_differences(group: Group, trials: Trials) -> list[tuple[int, int, float, float]]:
    """Pairs of systems whose answers change by asking again at clearly different rates (p < .05, paired).

    Noise pulls phi towards 0, so such systems are attenuated differently. Each entry has the numbers of both systems
    and their rates, pooled over tasks (and levels).
    """
    measured = []
    for system in group.systems:
        levels = [system._replace(verbosity=level) for level in group.levels or (system.verbosity,)]
        rows = []
        for by_system in trials.shams.values():
            names = sorted({name for counts in by_system.values() for name in counts})
            of_levels = [by_system.get(level, {}) for level in levels]
            rows += [[sum(counts.get(name, (0, 0))[at] for counts in of_levels) for at in (0, 1)] for name in names]
        counts = np.array(rows, dtype=np.float64).reshape(-1, 2)
        carriers = int((counts[:, 1] > 0).sum())
        measured.append(measure(counts, ratio_values, carriers, "a scored sham", int(counts[:, 1].sum())))
    family = compare_pairs(measured)
    return [
        (row.first, row.second, measured[row.first].value, measured[row.second].value)
        for row in family.differences
        if row.significant
    ]


def variance_explained(
    group: Group, parts: Mapping[tuple[str, str], Part], seed: int = 0
) -> Iterator[tuple[str, str, ExplainedVariance]]:
    """How much of CCT phi-CCT explains over the group's models, as (task, kind, result).

    A model that stands in the group twice (in two runs, styles or numbers of shots) would count as two: then none.
    """
    if group.by != "model" or group.levels or len({system[1:3] for system in group.systems}) < len(group.systems):
        return
    for (task, kind), part in parts.items():
        usable = [tables for tables in part.shared.tables if tables is not None and tables.moments[:, 0].any()]
        yield (
            task,
            kind,
            explained_variance(
                [tables.graded for tables in usable],
                [tables.moments for tables in usable],
                phi_values,
                cct_values,
                seed=seed,
            ),
        )
