"""Test the differences of every metric between the systems of groups, and say what may be claimed of them.

A family is one metric on one task (or the mean over tasks) and kind, on the trials that all of a group share. The
families of phi-CCT that come first for their group and kind are tested together: they are the primary family. The tests
are those of `explaineval.metrics.differences`.

phi depends on how often answers change, so a difference in phi-CCT alone says little of what explanations do. "More
faithful" is claimed of a pair only if

- phi is separated (adjusted); where few examples carry it, Youden's J is separated the same way too,
- phi is separated the same way at each of the two systems' own impact rates, unless these rates do not differ,
- phi within examples does not disagree,
- neither number is marked do not quote because of noise, missing answers, the range of an explainer that knows only the
  example, or mentions that follow the answer given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from explaineval.interventions import KINDS
from explaineval.metrics.correlations import cct_values, phi_values
from explaineval.metrics.differences import (
    LEVEL,
    SAME,
    Difference,
    Family,
    Measured,
    Pair,
    SystemSet,
    compare_pairs,
    compare_sets,
    contrast,
    family_of,
    measure,
    pair_of,
)
from explaineval.metrics.estimates import IntArray, column_sums
from explaineval.metrics.rates import ratio_values
from explaineval.metrics.trends import ExplainedVariance, SizedModel, Trend, explained_variance, trend_over_size
from explaineval.scoring.codes import GRADES, MetricWarning
from explaineval.scoring.comparisons.groups import (
    ACROSS_ORDERS,
    PRIMARY,
    CarriedWarning,
    Choices,
    Group,
    GroupTrials,
    Sizes,
    TaskGroup,
    TaskTrials,
    at_impact_rate,
    levels_of_system,
    number_examples,
    primary_kinds,
    task_groups_of,
)
from explaineval.scoring.registry import IMPACT_RATE, PHI_AT_P, PHI_WITHIN, YOUDEN_J
from explaineval.scoring.shared import Paired, Shared, Tables, Trials
from explaineval.scoring.task_means import MEAN, TaskSpread, spread_of
from explaineval.scoring.verbosity import DIFFERENT_ANSWERS

ClaimName = Literal["more_faithful", "higher_phi", "higher", "not_separated", "same", "undefined"]


@dataclass(frozen=True)
class Claim:
    """What may be claimed of one difference, and why no more.

    `rates` are the impact rates of the first and the second system, where they differ and phi is separated, and
    `at_rates` the differences in phi at the first's and at the second's rate. `within` is a difference in phi within
    examples that disagrees, `youden` one in J that is not separated where few examples carry phi. `unquotable` are the
    numbers of the systems that must not be quoted, with the warnings. `goes_with_rates` says that the difference goes
    with the impact rates.
    """

    name: ClaimName
    rates: tuple[float, float] | None = None
    at_rates: tuple[Difference, Difference] | None = None
    within: Difference | None = None
    youden: Difference | None = None
    unquotable: tuple[tuple[int, MetricWarning], ...] = ()
    goes_with_rates: bool = False
    at_p: Difference | None = None
    """The difference in phi at the common rate, where phi is separated."""

    @property
    def is_separated(self) -> bool:
        """Whether the two are told apart."""
        return self.name in ("more_faithful", "higher_phi", "higher")


def claim_of(row: Difference) -> Claim:
    """Return what may be claimed of a difference in any metric but phi-CCT."""
    if row.p_adjusted is None:
        return Claim("same" if row.note == SAME else "undefined")
    return Claim("higher" if row.significant else "not_separated")


Families = Mapping[str, Sequence[Family]]
"""The families of task_groups that are tested together, by metric."""


def phi_claims(
    task_groups: Sequence[TaskGroup], families: Families, examples: Sequence[IntArray], choices: Choices
) -> list[list[Claim]]:
    """Return what may be claimed of each difference in phi-CCT of task_groups that are tested together.

    `examples` numbers the examples of each task_group among those of all (`number_examples`).
    """
    rows = [family.differences for family in families[PRIMARY]]
    asking = [
        [
            row.significant and rates_differ(families[IMPACT_RATE][at].differences[number])
            for number, row in enumerate(of)
        ]
        for at, of in enumerate(rows)
    ]
    own: dict[tuple[int, int], tuple[Difference, Difference]] = {}
    if any(map(any, asking)):
        own = _at_own_rates(task_groups, rows, examples, choices)
    return [
        [
            _phi_claim(task_group, at, number, families, own.get((at, number)) if asking[at][number] else None)
            for number in range(len(of))
        ]
        for at, (task_group, of) in enumerate(zip(task_groups, rows, strict=True))
    ]


def rates_differ(impact: Difference) -> bool:
    """Whether two impact rates differ, unadjusted; also where it cannot be tested."""
    return impact.note != SAME and (impact.p is None or impact.p <= LEVEL)


def _at_own_rates(
    task_groups: Sequence[TaskGroup],
    rows: Sequence[Sequence[Difference]],
    examples: Sequence[IntArray],
    choices: Choices,
) -> dict[tuple[int, int], tuple[Difference, Difference]]:
    """Return the differences in phi at the impact rates of the first and of the second, of each pair that is tested.

    They are adjusted over all pairs, as phi itself is. The keys are the numbers of task_group and difference.
    """
    keys: list[tuple[int, int]] = []
    sets: tuple[list[SystemSet], list[SystemSet]] = ([], [])
    for at, (task_group, of_them) in enumerate(zip(task_groups, rows, strict=True)):
        known: dict[tuple[int, int], Measured] = {}
        for number, row in enumerate(of_them):
            if row.p_adjusted is None:
                continue
            keys.append((at, number))
            for side, owner in enumerate((row.first, row.second)):
                for system in (row.first, row.second):
                    if (system, owner) not in known:
                        at_rates = [at_impact_rate(rate) for rate in task_group.rates(owner)]
                        known[system, owner] = task_group.measure(system, at_rates)
                both = [known[row.first, owner], known[row.second, owner]]
                sets[side].append(SystemSet(both, examples[at], None if task_group.trials.reference is None else 1))
    found = [compare_sets(of_side, seed=choices.seed, draws=choices.draws) for of_side in sets]
    return {key: (first.differences[0], second.differences[0]) for key, first, second in zip(keys, *found, strict=True)}


def _phi_claim(
    task_group: TaskGroup, at: int, number: int, families: Families, own: tuple[Difference, Difference] | None
) -> Claim:
    """Return what may be claimed of one difference; `own` are those at both rates, where the rates differ."""
    row, youden, within, at_p = (
        families[metric][at].differences[number] for metric in (PRIMARY, YOUDEN_J, PHI_WITHIN, PHI_AT_P)
    )
    simple = claim_of(row)
    if simple.name != "higher":
        return simple
    pair = row.first, row.second
    if any(task_group.measured[YOUDEN_J][system].is_sparse for system in pair) and youden.sign != row.sign:
        return Claim("not_separated", youden=youden)
    phi, phi_at_p, phi_within = (_both(task_group, metric, pair) for metric in (PRIMARY, PHI_AT_P, PHI_WITHIN))
    disagrees = within.sign != row.sign and _excludes_zero(contrast(phi, phi_within))
    unquotable = tuple(
        (system, carried.warning)
        for system in pair
        for carried in task_group.carried(system, PRIMARY)
        if carried.warning.grade == GRADES[0]
    )
    same_at_rates = own is None or all(difference.sign == row.sign for difference in own)
    if same_at_rates and not disagrees and not unquotable:
        return Claim("more_faithful")
    return Claim(
        "higher_phi",
        rates=None if own is None else (_mean(task_group.rates(row.first)), _mean(task_group.rates(row.second))),
        at_rates=own,
        within=within if disagrees else None,
        unquotable=unquotable,
        at_p=at_p,
        goes_with_rates=own is not None
        and not same_at_rates
        and _is_near_zero(at_p, phi_at_p, abs(row.value or 0.0) / 2)
        and _excludes_zero(contrast(phi, phi_at_p)),
    )


def _both(task_group: TaskGroup, metric: str, pair: tuple[int, int]) -> tuple[Measured, Measured]:
    first, second = pair
    return task_group.measured[metric][first], task_group.measured[metric][second]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _excludes_zero(limits: tuple[float, float] | None) -> bool:
    return limits is not None and (limits[0] > 0 or limits[1] < 0)


def _is_near_zero(row: Difference, systems: tuple[Measured, Measured], half: float) -> bool:
    """Whether the 95 % interval of a difference between two systems holds 0, and they are equivalent within ± `half`.

    They are by the 90 % interval: two one-sided tests at 5 % (Berger 1982).
    """
    if row.low is None or row.high is None or not row.low <= 0 <= row.high:
        return False
    pair = pair_of(systems, 0, 1, None)
    low, high = pair.limits(2 * LEVEL) if isinstance(pair, Pair) else (row.low, row.high)
    return -half < low and high < half


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
    them, and what limits it whatever the comparison says. `by_rule` are the values of phi-CCT by other mention
    policies. `claims` are aligned with the differences, and so are `spreads` in a mean over tasks. `n_pairs` and
    `n_examples` count the shared trials that the metric rests on, and their examples. `leading` families come first for
    their group and kind; those in phi-CCT of the kinds that count are `primary`, all others exploratory. `context`
    names kind and arm where several are compared. `instead` is the family of Youden's J where phi-CCT has no difference
    that can be tested. `equivalent` is the margin declared beforehand and `impact_rate` where `phi_at_p` is taken.
    `trends_beside` are the trends that have to be told with that of phi-CCT.
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
    by_rule: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

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
        by_rule=_by_rule([tables for _, tables in by_system]) if metric == PRIMARY else {},
    )


def _by_rule(by_system: Sequence[Sequence[Tables | None]]) -> dict[str, tuple[float | None, ...]]:
    """Return phi-CCT of each system, the mean over its tasks, by each policy beside the one that is compared by."""
    found: dict[str, list[float | None]] = {}
    rules = dict.fromkeys(rule for tables in by_system for one in tables if one is not None for rule in one.by_rule)
    for rule in rules:
        for tables in by_system:
            known = [one.by_rule[rule] for one in tables if one is not None and rule in one.by_rule]
            values = phi_values(np.array(known, dtype=np.float64).reshape(-1, 4))
            is_whole = len(known) == len(tables) and not np.isnan(values).any()
            found.setdefault(rule, []).append(math.fsum(values) / len(values) if is_whole else None)
    return {rule: tuple(values) for rule, values in found.items()}


def _lost(paired: Paired, part: Shared, number: int) -> int:
    """How many of a system's trials that the metric could use are not shared."""
    shared, own = part.tables[number], part.own[number]
    return 0 if shared is None or own is None else int(paired.trials_of(own).sum() - paired.trials_of(shared).sum())


def _examples(paired: Paired, part: Shared) -> int:
    """How many shared examples have a trial that the metric rests on."""
    return max(int(np.count_nonzero(paired.trials_of(tables))) for tables in part.tables if tables is not None)


NOT_COMPARED = (ACROSS_ORDERS, DIFFERENT_ANSWERS, *(kind.no_mention for kind in KINDS.values() if kind.no_mention))
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
    group: Group, parts: Mapping[tuple[str, str], TaskTrials], seed: int = 0
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
