"""Test the differences of every metric between the systems of groups, on the trials that all of a group share.

A family is one metric on one task (or the mean over tasks) and kind. The families of phi-CCT that come first for their
group and kind are tested together: they are the primary family. The tests are those of `explaineval.metrics.families`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from explaineval.metrics.correlations import cct_values, phi_values
from explaineval.metrics.differences import Difference, Measured, measure
from explaineval.metrics.estimates import IntArray, column_sums
from explaineval.metrics.families import Family, SystemSet, compare_pairs, compare_sets, family_of
from explaineval.metrics.rates import ratio_values
from explaineval.metrics.trends import ExplainedVariance, SizedModel, Trend, explained_variance, trend_over_size
from explaineval.scoring.comparisons.claims import Claim, claim_of, phi_claims
from explaineval.scoring.comparisons.groups import PRIMARY, Group
from explaineval.scoring.comparisons.task_groups import (
    ACROSS_ORDERS,
    CarriedWarning,
    Choices,
    GroupTrials,
    Part,
    TaskGroup,
    levels_of_system,
    number_examples,
    primary_kinds,
    task_groups_of,
)
from explaineval.scoring.comparisons.tuning import Sizes
from explaineval.scoring.registry import IMPACT_RATE, PHI_AT_P, YOUDEN_J
from explaineval.scoring.shared import Paired, Shared, Tables, Trials
from explaineval.scoring.task_means import MEAN, TaskSpread, spread_of
from explaineval.scoring.verbosity import DIFFERENT_ANSWERS

TOGETHER = (PRIMARY, IMPACT_RATE, PHI_AT_P)
"""phi-CCT follows the impact rate, so its trend is told with those of the other two, over the same models."""


def size_trends(group: Group, measured: Mapping[str, Sequence[Measured]], sizes: Sizes) -> dict[str, Trend]:
    """Return the trend of each metric by name; none where fewer than two of the models have a known size.

    `measured` has the values of the group's systems by metric. The trends of phi-CCT, of the impact rate and of phi-CCT
    at a common impact rate rest on the models that have all three.
    """
    known = [sizes.get((system.endpoint, system.model)) for system in group.systems]
    if group.by != "model" or sum(size is not None for size in known) < 2:
        return {}
    together = [measured[name] for name in TOGETHER if name in measured]
    in_all = [all(systems[number].undefined is None for systems in together) for number in range(len(known))]
    trends = {}
    for name, systems in measured.items():
        trends[name] = trend_over_size([
            SizedModel(size.family, size.parameters, system)
            for size, system, usable in zip(known, systems, in_all, strict=True)
            if size is not None and (usable or name not in TOGETHER)
        ])  # fmt: skip
    return trends


@dataclass(frozen=True)
class Compared:
    """One family: all differences of one metric on one task (or the mean over tasks) and kind in one group.

    `tasks` are the tasks that it rests on, `left_out` those that the mean leaves out since not all systems were asked
    them. `values`, `undefined`, `lost`, `unrestricted` and `carried` are aligned with the group's systems: the value on
    the shared trials, why there is none, the trials that the metric could use but that are not shared, the value with
    them, and what limits it whatever the comparison says. `claims` are aligned with the differences, and so are
    `spreads` in a mean over tasks. `n_pairs` and `n_examples` count the shared trials that the metric rests on, and
    their examples. `leading` families come first for their group and kind; those in phi-CCT of the kinds that count are
    `primary`, all others exploratory. `context` names kind and arm where several are compared. `instead` is the family
    of Youden's J where phi-CCT has no difference that can be tested. `equivalent` is the margin declared beforehand and
    `impact_rate` where `phi_at_p` is taken. `trends_beside` are the trends that have to be told with that of phi-CCT.
    """

    group: Group
    metric: str
    task: str
    kind: str
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    family: Family
    claims: tuple[Claim, ...]
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
    leading: bool = False
    primary: bool = False
    on_log_scale: bool = False
    context: tuple[str, ...] = ()
    spreads: tuple[TaskSpread, ...] = ()
    carried: tuple[tuple[CarriedWarning, ...], ...] = ()
    instead: Compared | None = None

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


def compare_groups(groups: Sequence[GroupTrials], choices: Choices) -> list[list[Compared]]:
    """Return all families of each group: for each kind the mean over tasks first, then each task, every metric.

    What comes first for its group and kind is tested together where the kind counts and the group is not over levels of
    verbosity; with a reference, only in the groups that have it. Everything else is tested alone.
    """
    task_groups = [list(task_groups_of(trials, choices)) for trials in groups]
    all_kinds = dict.fromkeys(one.kind for of_group in task_groups for one in of_group)
    kinds = primary_kinds(list(all_kinds), choices.primary)
    has_reference = any(trials.reference is not None for trials in groups)
    together: list[TaskGroup] = []
    alone: list[list[TaskGroup]] = []
    for trials, of_group in zip(groups, task_groups, strict=True):
        counts = not trials.group.levels and has_reference == (trials.reference is not None)
        for one in of_group:
            if counts and one.leading and one.kind in kinds:
                together.append(one)
            else:
                alone.append([one])
    found: dict[int, dict[str, Compared]] = {}
    for scope in [together, *alone]:
        for one, families in zip(scope, _test_together(scope, choices, primary=scope is together), strict=True):
            found[id(one)] = families
    results = []
    for trials, of_group in zip(groups, task_groups, strict=True):
        arm = _arm_names(trials, groups)
        of_kind = [compared for one in of_group for compared in _with_spreads(one, of_group, found)]
        several = len(all_kinds) > 1
        named = [
            replace(compared, context=(*([compared.kind.replace("_", " ")] if several else []), *arm))
            for compared in of_kind
        ]
        youden = {(one.task, one.kind): one for one in named if one.metric == YOUDEN_J and one.tested}
        results.append(
            [
                replace(one, instead=youden.get((one.task, one.kind)))
                if one.metric == PRIMARY and not one.tested
                else one
                for one in named
            ]
        )
    return results


NAMED_PARTS: Mapping[str, str] = {"order": "order {}", "style": "{}", "shots": "{} shots", "verbosity": "verbosity {}"}
"""How sentences name the parts of an arm."""


def _arm_names(trials: GroupTrials, groups: Sequence[GroupTrials]) -> list[str]:
    """Name the parts of the arm in which groups differ from each other."""
    fixed = trials.group.fixed
    differing = [part for part in NAMED_PARTS if len({one.group.fixed[part] for one in groups} - {None}) > 1]
    return [NAMED_PARTS[part].format(fixed[part]) for part in differing if fixed[part] is not None]


def _with_spreads(
    task_group: TaskGroup, of_group: Sequence[TaskGroup], found: Mapping[int, Mapping[str, Compared]]
) -> Iterator[Compared]:
    """Yield the families of a task group; those of a mean with how each difference varies over its tasks."""
    of_tasks = [one for one in of_group if one.kind == task_group.kind and one.task in task_group.tasks]
    for metric, compared in found[id(task_group)].items():
        if task_group.task != MEAN:
            yield compared
            continue
        rows = zip(*(found[id(one)][metric].family.differences for one in of_tasks), strict=True)
        yield replace(compared, spreads=tuple(spread_of(row, [one.error for one in row]) for row in rows))


def _test_together(task_groups: Sequence[TaskGroup], choices: Choices, *, primary: bool) -> list[dict[str, Compared]]:
    """Return the families of task_groups whose pairs are adjusted together, by metric."""
    if not task_groups:
        return []
    examples = number_examples(task_groups)
    families = {metric: _test(task_groups, metric, examples, choices) for metric in task_groups[0].paired}
    claims = {metric: [[claim_of(row) for row in one.differences] for one in of] for metric, of in families.items()}
    if PRIMARY in families:
        claims[PRIMARY] = phi_claims(task_groups, families, examples, choices)
        families[PRIMARY] = [
            _ranked_by_claims(task_group, family, of_them)
            for task_group, family, of_them in zip(task_groups, families[PRIMARY], claims[PRIMARY], strict=True)
        ]
    results = []
    for at, task_group in enumerate(task_groups):
        trends = size_trends(task_group.group, task_group.measured, choices.sizes)
        results.append({
            metric: _compared(task_group, metric, of[at], claims[metric][at], choices, trends, primary=primary)
            for metric, of in families.items()
        })  # fmt: skip
    return results


def _test(
    task_groups: Sequence[TaskGroup], metric: str, examples: Sequence[IntArray], choices: Choices
) -> list[Family]:
    sets = [
        SystemSet(task_group.measured[metric], numbers, task_group.trials.reference)
        for task_group, numbers in zip(task_groups, examples, strict=True)
    ]
    return compare_sets(sets, seed=choices.seed, draws=choices.draws, equivalent=choices.equivalent)


def _ranked_by_claims(task_group: TaskGroup, family: Family, claims: Sequence[Claim]) -> Family:
    """Return the family with ranks that count only pairs of which one is claimed to be more faithful."""
    faithful = {(row.first, row.second) for row, claim in zip(family.differences, claims, strict=True)
                if claim.name == "more_faithful"}  # fmt: skip
    ranked = family_of(
        task_group.measured[PRIMARY], family.differences, lambda row: (row.first, row.second) in faithful
    )
    is_best = task_group.trials.reference is None or family.best == task_group.trials.reference
    return replace(family, ranks=ranked.ranks, not_separated=ranked.not_separated if is_best else ())


def _compared(
    task_group: TaskGroup,
    metric: str,
    family: Family,
    claims: Sequence[Claim],
    choices: Choices,
    trends: Mapping[str, Trend],
    *,
    primary: bool,
) -> Compared:
    paired, systems, shared = task_group.paired[metric], task_group.measured[metric], task_group.shared
    by_system = list(zip(systems, zip(*(part.tables for part in shared), strict=True), strict=True))
    own = list(zip(systems, zip(*(part.own for part in shared), strict=True), strict=True))
    return Compared(
        group=task_group.group,
        metric=metric,
        task=task_group.task,
        kind=task_group.kind,
        tasks=task_group.tasks,
        left_out=task_group.left_out,
        family=family,
        claims=tuple(claims),
        values=tuple(
            None if system.undefined in NOT_COMPARED else _pooled_value(paired, tables) for system, tables in by_system
        ),
        undefined=tuple(system.undefined for system in systems),
        lost=tuple(sum(_lost(paired, part, number) for part in shared) for number in range(len(systems))),
        unrestricted=tuple(
            None if system.undefined in NOT_COMPARED else _pooled_value(paired, tables) for system, tables in own
        ),
        n_pairs=max(system.n for system in systems),
        n_examples=sum(_examples(paired, part) for part in shared),
        equivalent=choices.equivalent,
        impact_rate=task_group.impact_rate if metric == PHI_AT_P else None,
        trend=trends.get(metric),
        trends_beside={name: trends[name] for name in TOGETHER[1:] if name in trends} if metric == PRIMARY else {},
        leading=task_group.leading and metric == task_group.group.primary_metric,
        primary=primary and metric == PRIMARY,
        on_log_scale=paired.on_log_scale,
        carried=tuple(tuple(task_group.carried(number, metric)) for number in range(len(systems))),
    )


def _lost(paired: Paired, part: Shared, number: int) -> int:
    """How many of a system's trials that the metric could use are not shared."""
    shared, own = part.tables[number], part.own[number]
    return 0 if shared is None or own is None else int(paired.trials_of(own).sum() - paired.trials_of(shared).sum())


def _examples(paired: Paired, part: Shared) -> int:
    """How many shared examples have a trial that the metric rests on."""
    return max(int(np.count_nonzero(paired.trials_of(tables))) for tables in part.tables if tables is not None)


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


def sham_differences(group: Group, trials: Trials) -> list[tuple[int, int, float, float]]:
    """Pairs of systems whose answers change by asking again at clearly different rates (p < .05, paired).

    Noise pulls phi towards 0, so such systems are attenuated differently. Each entry has the numbers of both systems
    and their rates, pooled over tasks (and levels).
    """
    measured = []
    for system in group.systems:
        levels = levels_of_system(group, system)
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
