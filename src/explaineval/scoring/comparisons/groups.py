"""Sort models, arms and runs into groups of systems that are compared; compare tuned models with pretrained ones.

A pair of a tuned and a pretrained model is of one family and size, asked in the same style with the same shots, over
levels of verbosity. Siegel et al. (2025) report trade-offs between TPR and FPR and no dominance;
`explaineval.metrics.frontiers` tests both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from explaineval.metrics.differences import Difference, Measured, mean_measure
from explaineval.metrics.families import compare_pairs
from explaineval.metrics.frontiers import (
    Dominance,
    Gap,
    MeanDifference,
    dominances,
    gaps_of,
    mean_difference,
    mean_gaps,
)
from explaineval.scoring.registry import F_AUROC, METRICS, PHI_CCT
from explaineval.scoring.shared import Outcomes, Shared, System, Tables, Trials, measure_task, share
from explaineval.scoring.task_means import MEAN
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
