"""Sort models, arms and runs into groups of systems, and measure each system on the trials that its group shares.

A pair of a tuned and a pretrained model is of one family and size, asked in the same style with the same shots, over
levels of verbosity. Siegel et al. (2025) report trade-offs between TPR and FPR and no dominance;
`explaineval.metrics.frontiers` tests both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from explaineval.interventions import counts_for_phi, kind_of
from explaineval.metrics.correlations import phi_at_p_values, phi_from_rates
from explaineval.metrics.differences import DRAWS, Difference, Measured, compare_pairs, mean_measure, undefined_measure
from explaineval.metrics.estimates import IntArray
from explaineval.metrics.frontiers import (
    Dominance,
    Gap,
    MeanDifference,
    dominances,
    gaps_of,
    mean_difference,
    mean_gaps,
)
from explaineval.scoring.codes import MetricWarning
from explaineval.scoring.metric import LevelMetric, Metric
from explaineval.scoring.registry import F_AUROC, IMPACT_RATE, METRICS, PHI_AT_P, PHI_CCT, metrics_of
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
from explaineval.text import counted, joined

By = Literal["model", "arm", "run"]

PRIMARY, PRIMARY_OVER_LEVELS = PHI_CCT, F_AUROC
"""The metrics whose families are primary, of single arms and over levels of verbosity."""

ASKED_ONCE = "pe2"
"""The order in which levels of verbosity explain one and the same answer: only then are areas compared."""

PARTS = ("endpoint", "model", "order", "style", "shots", "verbosity")


@dataclass(frozen=True)
class Group:
    """Systems that are compared with each other, all under the same conditions but for what is compared.

    `names` are the systems' names in rows and sentences. `levels` are the levels of verbosity that are compared
    together; empty where each system is one arm. `confounded` names what else differs between the systems.
    """

    by: By
    systems: tuple[System, ...]
    names: tuple[str, ...]
    levels: tuple[str, ...] = ()
    confounded: tuple[str, ...] = ()

    @property
    def fixed(self) -> dict[str, str | int | None]:
        """The parts of the condition that all systems share; None for those that differ."""
        parts: dict[str, str | int | None] = {}
        for part in PARTS:
            values = {getattr(system, part) for system in self.systems}
            parts[part] = values.pop() if len(values) == 1 else None
        return parts

    @property
    def primary_metric(self) -> str:
        """The metric whose family is primary."""
        return PRIMARY_OVER_LEVELS if self.levels else PRIMARY


def form_groups(systems: Sequence[System], by: By | None, runs: Sequence[str]) -> list[Group]:
    """Sort systems into groups. `runs` are the names of the run directories.

    Without `by` it is what differs: runs where all of them hold the same models and arms, else models, else arms.
    Systems that could be compared only under different styles or shots form a group of their own that is marked as
    confounded. Models that were asked once and explained at several levels of verbosity also form groups over those
    levels. A later run stands before an earlier one, so that a difference is the later minus the earlier; within a run
    the order is that of `systems`.
    """
    chosen = by or _what_differs(systems)
    ordered = sorted(systems, key=lambda system: -system.run)
    groups = _group(ordered, chosen, runs)
    sweeps: dict[System, list[str]] = {}
    for system in ordered:
        if system.order == ASKED_ONCE:
            sweeps.setdefault(system._replace(verbosity=None), []).append(str(system.verbosity))
    for group in _group([system for system, levels in sweeps.items() if len(levels) > 1], chosen, runs):
        first, *others = [sweeps[system] for system in group.systems]
        levels = tuple(level for level in first if all(level in other for other in others))
        if len(levels) > 1:
            groups.append(replace(group, levels=levels))
    return groups


def _group(systems: Sequence[System], by: By, runs: Sequence[str]) -> list[Group]:
    same: Mapping[By, Callable[[System], tuple[object, ...]]] = {
        "model": lambda system: (system.order, system.verbosity, system.style, system.shots),
        "arm": lambda system: (system.run, system.endpoint, system.model),
        "run": lambda system: system[1:],
    }
    found = _by_key(systems, same[by])
    groups = [_make_group(by, members, runs) for members in found if len(members) > 1]
    alone = [members[0] for members in found if len(members) == 1]
    if by == "model":
        others = _by_key(alone, lambda system: (system.order, system.verbosity))
        groups += [_make_group(by, members, runs) for members in others if len(members) > 1]
    return groups


def _make_group(by: By, systems: Sequence[System], runs: Sequence[str]) -> Group:
    differing = tuple(part for part in PARTS[2:] if len({getattr(system, part) for system in systems}) > 1)
    alone = by == "arm" and (len(systems) > 2 or len(differing) < 2)
    return Group(by, tuple(systems), _names(systems, runs), confounded=() if alone else differing)


def _what_differs(systems: Sequence[System]) -> By:
    in_runs = [{system[1:] for system in systems if system.run == run} for run in {system.run for system in systems}]
    if len(in_runs) > 1 and all(arms == in_runs[0] for arms in in_runs):
        return "run"
    if len({(system.endpoint, system.model) for system in systems}) > 1:
        return "model"
    return "arm" if len({system[3:] for system in systems}) > 1 else "run"


def _by_key(systems: Sequence[System], key: Callable[[System], tuple[object, ...]]) -> list[list[System]]:
    found: dict[tuple[object, ...], list[System]] = {}
    for system in systems:
        found.setdefault(key(system), []).append(system)
    return list(found.values())


def _names(systems: Sequence[System], runs: Sequence[str]) -> tuple[str, ...]:
    """Names that tell the systems apart, with no more in them than that needs."""
    parts: list[Callable[[System], str]] = [
        lambda system: system.model,
        lambda system: system.order,
        lambda system: system.style,
        lambda system: counted(system.shots, "shot"),
        lambda system: f"{system.verbosity} verbosity",
        lambda system: runs[system.run],
    ]
    if len({parts[0](system) for system in systems}) == len(systems):
        return tuple(parts[0](system) for system in systems)
    telling = [part for part in parts if len({part(system) for system in systems}) > 1]
    if len({tuple(part(system) for part in telling) for system in systems}) < len(systems):
        telling.append(lambda system: f"at {system.endpoint or 'the default endpoint'}")
    return tuple(", ".join(part(system) for part in telling) for system in systems)


SAME_SIZE = 0.01
"""By what share two numbers of parameters may differ and still be one size."""


class ModelSize(NamedTuple):
    """What the configuration says of a model: its family, its number of parameters, and whether it is tuned."""

    family: str
    parameters: float
    tuned: str | None = None


Sizes = Mapping[tuple[str | None, str], ModelSize]
"""What is known of each model, by endpoint and model."""


@dataclass(frozen=True)
class TunedPair:
    """An instruction-tuned model (`first`) and its pretrained sibling (`second`), by their numbers in the group.

    `f_auroc` is the paired difference of their areas, tuned − pretrained. `n_pairs` and `n_examples` count the trials
    that the two share, and their examples.
    """

    first: int
    second: int
    dominance: Dominance
    f_auroc: Difference
    n_pairs: int
    n_examples: int


class Untested(NamedTuple):
    """A tuned or pretrained model, by its number in the group, that was tested against no sibling, and why."""

    number: int
    reason: str


@dataclass(frozen=True)
class TuningResult:
    """All pairs of a group on one task (or the mean over tasks) and kind. `mean` is of the differences of F-AUROC.

    `untested` are the models without a pair. `context` names kind and arm where several are compared.
    """

    group: Group
    task: str
    kind: str
    pairs: tuple[TunedPair, ...]
    mean: MeanDifference | None
    primary: bool
    untested: tuple[Untested, ...] = ()
    context: tuple[str, ...] = ()


def tuned_pairs(group: Group, sizes: Sizes) -> list[tuple[int, int]]:
    """Return the pairs of a tuned and a pretrained model of one family and size, by their numbers in the group.

    Both are asked in one style with the same shots, in the same run where that has both.
    """
    found = [
        (first, second)
        for first, tuned in enumerate(group.systems)
        for second, base in enumerate(group.systems)
        if _are_siblings(sizes.get(tuned[1:3]), sizes.get(base[1:3])) and _asked_alike(tuned, base)
    ]
    at_home = {first for first, second in found if group.systems[first].run == group.systems[second].run}
    return [
        (first, second)
        for first, second in found
        if group.systems[first].run == group.systems[second].run or first not in at_home
    ]


def _are_siblings(tuned: ModelSize | None, base: ModelSize | None) -> bool:
    return (
        tuned is not None
        and base is not None
        and (tuned.tuned, base.tuned) == ("instruct", "base")
        and tuned.family == base.family
        and math.isclose(tuned.parameters, base.parameters, rel_tol=SAME_SIZE)
    )


def _asked_alike(one: System, other: System) -> bool:
    return one[3:6] == other[3:6]


def compare_tuned(group: Group, trials: Trials, sizes: Sizes) -> Iterator[TuningResult]:
    """Test the tuned against the pretrained models of a group over levels, for each kind: the mean over tasks first.

    Each pair rests on the trials that these two share, on the tasks that both were asked. Where tuned and pretrained
    models were asked but none of them can be paired, the result has no pairs and says why.
    """
    asked = {size.tuned for system in trials.systems if (size := sizes.get(system[1:3])) is not None}
    if group.by != "model" or not group.levels or not asked >= set(OTHER_TUNING):
        return
    numbers = tuned_pairs(group, sizes)
    for kind in dict.fromkeys(kind for _, kind in trials.scored):
        by_task = {
            task: {pair: part for pair in numbers if (part := _share(group, outcomes, pair)) is not None}
            for (task, other), outcomes in trials.scored.items()
            if other == kind
        }
        paired = {task: parts for task, parts in by_task.items() if parts}
        everywhere = [pair for pair in numbers if paired and all(pair in parts for parts in paired.values())]
        together = {pair: [parts[pair] for parts in paired.values()] for pair in everywhere}
        results = [(task, {pair: [part] for pair, part in parts.items()}) for task, parts in paired.items()]
        if len(paired) > 1 and together:
            results.insert(0, (MEAN, together))
        elif not paired:
            results = [(next(iter(by_task)) if len(by_task) == 1 else MEAN, {})]
        for task, parts_of in results:
            untested = tuple(_untested(group, trials, sizes, numbers, set(parts_of), task))
            primary = task == MEAN or len(paired) < 2
            if parts_of or untested:
                yield _result(group, task, kind, parts_of, untested, primary=primary)


OTHER_TUNING = {"instruct": "pretrained", "base": "instruction-tuned"}
"""What the sibling of a model is called, by the model's own tuning."""


def _untested(
    group: Group,
    trials: Trials,
    sizes: Sizes,
    numbers: Sequence[tuple[int, int]],
    tested: Collection[tuple[int, int]],
    task: str,
) -> Iterator[Untested]:
    """Yield the models of known tuning that are in no tested pair, each with the reason."""
    in_pairs = {number for pair in tested for number in pair}
    for number, system in enumerate(group.systems):
        own = sizes.get(system[1:3])
        if own is None or own.tuned not in OTHER_TUNING or number in in_pairs:
            continue
        siblings = dict.fromkeys(
            other.model
            for other in trials.systems
            if _are_siblings(own, sizes.get(other[1:3])) or _are_siblings(sizes.get(other[1:3]), own)
        )
        if not siblings:
            yield Untested(number, f"no {OTHER_TUNING[own.tuned]} model of its family and size was asked")
            continue
        names = joined(list(siblings))
        if any(number in pair for pair in numbers):
            where = " on every task" if task == MEAN else ""
            yield Untested(number, f"it shares no trial with {names} that both explained at every level{where}")
        else:
            yield Untested(number, f"{names} {'was' if len(siblings) == 1 else 'were'} not asked in the same way")


class _Part(NamedTuple):
    """One pair on the trials of one task that both share."""

    shared: Shared
    tables: tuple[Tables, Tables]


def _share(group: Group, outcomes: Mapping[System, Outcomes], pair: tuple[int, int]) -> _Part | None:
    systems = []
    for number in pair:
        levels = [group.systems[number]._replace(verbosity=level) for level in group.levels]
        if not all(level in outcomes for level in levels):
            return None
        systems.append([outcomes[level] for level in levels])
    shared = share(systems)
    first, second = shared.tables
    return None if first is None or second is None or not shared.examples else _Part(shared, (first, second))


def _result(
    group: Group,
    task: str,
    kind: str,
    parts: Mapping[tuple[int, int], Sequence[_Part]],
    untested: tuple[Untested, ...],
    *,
    primary: bool,
) -> TuningResult:
    gaps = [mean_gaps([_gaps(group, part) for part in tasks]) for tasks in parts.values()]
    pairs = []
    for (numbers, tasks), dominance in zip(parts.items(), dominances(gaps), strict=True):
        first, second = (mean_measure([_area(part, which) for part in tasks]) for which in (0, 1))
        difference = compare_pairs([first, second]).differences[0]
        n_examples = sum(len(part.shared.examples) for part in tasks)
        n_pairs = sum(int(part.tables[0].levels[:, 0].sum()) for part in tasks)
        pairs.append(TunedPair(*numbers, dominance, difference, n_pairs, n_examples))
    values = [pair.f_auroc.value for pair in pairs if pair.f_auroc.value is not None]
    return TuningResult(group, task, kind, tuple(pairs), mean_difference(values), primary, untested)


def _gaps(group: Group, part: _Part) -> list[Gap]:
    first, second = part.tables
    return gaps_of(first.levels, second.levels, group.levels)


def _area(part: _Part, which: int) -> Measured:
    paired = METRICS[PRIMARY_OVER_LEVELS].paired
    assert paired is not None  # noqa: S101 - it is compared
    return measure_task(paired, part.tables[which], len(part.shared.examples))


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
