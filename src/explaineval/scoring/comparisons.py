"""Compare models, arms of one model, or runs on the trials that all of them share.

Reads run directories only. For each set of compared systems (a group) it counts the shared trials per example and tests
the differences of every metric that has a `paired` in the registry (`explaineval.metrics.differences`).
`explaineval.reporting` puts the results into words.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from explaineval.config import RunConfig
from explaineval.errors import InputError
from explaineval.metrics.correlations import cct_values, phi_at_p_values, phi_values
from explaineval.metrics.differences import (
    DRAWS,
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
from explaineval.metrics.trends import ExplainedVariance, SizedModel, Trend, explained_variance, trend_over_size
from explaineval.records import Condition, Mention, Trial
from explaineval.rundir.directory import PROMPTS, count_trials_read, read_run, read_trials
from explaineval.rundir.schema import Facts, Snapshot
from explaineval.scoring.mentioning import is_mentioned, phrases_in
from explaineval.scoring.registry import METRICS, LevelMetric
from explaineval.scoring.rows import check_facts, row_signature
from explaineval.scoring.shared import (
    MENTIONED_FLIPS,
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
from explaineval.scoring.task_means import MEAN, merge_signatures
from explaineval.scoring.verbosity import DIFFERENT_ANSWERS

By = Literal["model", "arm", "run"]

PRIMARY, PRIMARY_OVER_LEVELS, AT_P = "phi_cct", "f_auroc", "phi_at_p"
"""The metrics whose families are primary, of single arms and over levels of verbosity, and phi at a common rate."""

ASKED_ONCE = "pe2"
"""The order in which levels of verbosity explain one and the same answer: only then are areas compared."""


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


@dataclass(frozen=True)
class Compared:
    """One family: all differences of one metric on one task (or the mean over tasks) and kind in one group.

    `tasks` are the tasks that it rests on, `left_out` those that the mean leaves out since not all systems were asked
    them. `values`, `undefined`, `lost` and `unrestricted` are aligned with the group's systems: the value on the shared
    trials, why there is none, the trials that the metric could use but that are not shared, and the value with them.
    `n_pairs` and `n_examples` count the shared trials that the metric rests on, and their examples. The first family of
    a group is primary, the others are exploratory. `equivalent` is the margin declared beforehand and `impact_rate`
    where `phi_at_p` is taken.
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


def form_groups(systems: Sequence[System], by: By | None, runs: Sequence[str]) -> list[Group]:
    """Sort systems into groups. `runs` are the names of the run directories.

    Without `by` it is what differs: runs where all of them hold the same models and arms, else models, else arms.
    Systems that could be compared only under different styles or shots form a group of their own that is marked as
    confounded. Models that were asked once and explained at several levels of verbosity also form groups over those
    levels. A later run stands before an earlier one, so that a difference is the later minus the earlier; within a run
    the order is that of the trials.
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
        lambda system: f"{system.shots} shots",
        lambda system: f"{system.verbosity} verbosity",
        lambda system: runs[system.run],
    ]
    if len({parts[0](system) for system in systems}) == len(systems):
        return tuple(parts[0](system) for system in systems)
    telling = [part for part in parts if len({part(system) for system in systems}) > 1]
    if len({tuple(part(system) for part in telling) for system in systems}) < len(systems):
        telling.append(lambda system: f"at {system.endpoint or 'the default endpoint'}")
    return tuple(", ".join(part(system) for part in telling) for system in systems)


class ModelSize(NamedTuple):
    """What the configuration says of a model: its family and its number of parameters."""

    family: str
    parameters: float


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
    sizes: Mapping[tuple[str | None, str], ModelSize] = field(default_factory=dict)


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
            for metric, paired in comparable_metrics(rate, over_levels=bool(group.levels)).items():
                systems = _measure(group, paired, shared)
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
                    trend=_trend(group, systems, choices),
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


def _trend(group: Group, systems: Sequence[Measured], choices: Choices) -> Trend | None:
    """The trend over model size; None where fewer than two of the models have a known size."""
    models = []
    for system, measured in zip(group.systems, systems, strict=True):
        size = choices.sizes.get((system.endpoint, system.model))
        if size is not None:
            models.append(SizedModel(size.family, size.parameters, measured))
    return trend_over_size(models) if group.by == "model" and len(models) > 1 else None


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


class Run(NamedTuple):
    """What a comparison needs of one run directory beside its trials.

    `config` has the mention policy under which the comparison counts, and its kind of interval. `snapshots` are what
    the endpoint of each model (by endpoint and model) said that it served.
    """

    name: str
    config: RunConfig
    facts: Facts
    snapshots: Mapping[tuple[str | None, str], tuple[Snapshot, ...]]


@dataclass(frozen=True)
class GroupResult:
    """Everything that is said of one group.

    `noise` are the pairs that shams tell apart, with both rates. `snapshots` are those of each system, `differing` says
    in words what else of the systems' configuration differs, by primary family. `signatures` are those of each system
    by metric, task and kind.
    """

    group: Group
    families: tuple[Compared, ...]
    noise: tuple[tuple[int, int, float, float], ...] = ()
    explained: tuple[tuple[str, str, ExplainedVariance], ...] = ()
    reference: int | None = None
    seed: int = 0
    snapshots: tuple[tuple[Snapshot, ...], ...] = ()
    differing: tuple[str, ...] = ()
    signatures: Mapping[tuple[str, str, str], tuple[str, ...]] = field(default_factory=dict)

    @property
    def primary(self) -> tuple[Compared, ...]:
        """The primary families, one for each kind of intervention."""
        return tuple(compared for compared in self.families if compared.primary)

    def family(self, metric: str, like: Compared) -> Compared | None:
        """The family of another metric on the same task and kind."""
        where = (like.task, like.kind)
        return next((item for item in self.families if item.metric == metric and (item.task, item.kind) == where), None)

    def label(self, compared: Compared, number: int) -> str | None:
        """What has to be said of one difference in phi-CCT: that it is one of impact rates."""
        if compared.metric != PRIMARY:
            return None
        rows = []
        for metric in (AT_P, "impact_rate"):
            family = self.family(metric, compared)
            rows.append(family.family.differences[number] if family else None)
        return label_of(compared.family.differences[number], *rows)

    def signature(self, compared: Compared, row: Difference) -> str:
        """The signature of one difference: those of both numbers, which systems share the trials, and the test."""
        own = self.signatures[compared.metric, compared.task, compared.kind]
        everyone = hashlib.sha256("\n".join(sorted(own)).encode("utf-8", "surrogatepass")).hexdigest()[:8]
        parts = [merge_signatures([own[row.first], own[row.second]]), f"shared:{len(own)}@{everyone}"]
        if compared.impact_rate is not None:
            parts.append(f"impact_rate:{compared.impact_rate:.6g}")
        if self.reference is None:
            parts.append(f"test:paired jackknife, max-t over {len(compared.tested)}, {DRAWS} draws, seed {self.seed}")
        else:
            parts.append(f"test:paired jackknife, Holm over {len(compared.tested)}")
        if compared.equivalent is not None:
            parts.append(f"equivalent:{compared.equivalent:g}")
        return "|".join(parts)


def compare_runs(
    directories: Sequence[Path],
    *,
    by: By | None = None,
    against: str | None = None,
    equivalent: float | None = None,
    impact_rate: float | None = None,
    mention: Mention | None = None,
    seed: int = 0,
    or_none: bool = False,
) -> list[GroupResult]:
    """Compare what run directories hold; `against` names the reference, in full or without its provider.

    See `Choices` for the other arguments. With `or_none` the list is empty where there is nothing to compare. Raises
    InputError where there is nothing to compare otherwise, for a name that is not there, for a value outside its
    range, or for a directory that holds no finished run or is given twice.
    """
    if by is not None and by not in get_args(By):
        raise InputError(f"by: expected {', '.join(map(repr, get_args(By)))}, not {by!r}.")
    if mention is not None and mention not in get_args(Mention):
        raise InputError(f"mention: expected {', '.join(map(repr, get_args(Mention)))}, not {mention!r}.")
    if equivalent is not None and not 0 < equivalent <= 2:
        raise InputError(f"equivalent: expected a number above 0 and at most 2, not {equivalent}.")
    if impact_rate is not None and not 0 < impact_rate < 1:
        raise InputError(f"impact_rate: expected a number between 0 and 1, not {impact_rate}.")
    trials = Trials()
    sizes: dict[tuple[str | None, str], ModelSize] = {}
    runs = []
    for number, (directory, name) in enumerate(zip(directories, run_names(directories), strict=True)):
        run, found = _add_run(trials, number, directory, name, mention)
        runs.append(run)
        sizes |= found
    groups = form_groups(list(trials.systems), by, [run.name for run in runs])
    if not groups:
        if or_none:
            return []
        raise InputError("there is nothing to compare: give runs with two models, two arms, or two runs of one model.")
    references = [_find_reference(group, against) for group in groups]
    if against is not None and all(reference is None for reference in references):
        names = dict.fromkeys(name for group in groups for name in group.names)
        raise InputError(f"--against {against}: there is no such name among {', '.join(names)}.")
    choices = Choices(equivalent=equivalent, impact_rate=impact_rate, seed=seed, sizes=sizes)
    results = []
    for group, reference in zip(groups, references, strict=True):
        parts = share_trials(group, trials)
        families = tuple(compare_group(group, parts, replace(choices, reference=reference)))
        results.append(
            GroupResult(
                group,
                families,
                noise=tuple(sham_differences(group, trials)),
                explained=tuple(variance_explained(group, parts, seed)),
                reference=reference,
                seed=seed,
                snapshots=tuple(
                    runs[system.run].snapshots.get((system.endpoint, system.model), ()) for system in group.systems
                ),
                differing=tuple(_what_else_differs(group, families, runs)),
                signatures={
                    (compared.metric, compared.task, compared.kind): tuple(
                        _signature(compared, compared.metric, system, runs) for system in group.systems
                    )
                    for compared in families
                },
            )
        )
    if not any(result.families for result in results):
        if or_none:
            return []
        raise InputError("there is nothing to compare: no trial has a score in two of the models, arms or runs.")
    return results


def run_names(directories: Sequence[Path]) -> list[str]:
    """Names for run directories: their last part, or the whole path where two share it.

    Raises InputError where a directory is given twice.
    """
    resolved = [directory.resolve() for directory in directories]
    for number, path in enumerate(resolved):
        if path in resolved[:number]:
            raise InputError(f"{directories[number]} is given twice: a run is compared with another one.")
    short = [path.name or str(path) for path in resolved]
    return [
        name if short.count(name) == 1 else str(directory) for name, directory in zip(short, directories, strict=True)
    ]


def _add_run(
    trials: Trials, number: int, directory: Path, name: str, mention: Mention | None
) -> tuple[Run, dict[tuple[str | None, str], ModelSize]]:
    """Count the trials of a run; return the run and what its configuration says of the sizes of its models."""
    record = read_run(directory)
    phrases = phrases_in(directory / PROMPTS)
    policy = mention or record.config.mention

    def judge(trial: Trial) -> bool | None:
        if policy == record.config.mention:
            return trial.mentioned
        return is_mentioned(policy, trial.kind, trial.inserted or "", trial.explanation or "", phrases(trial.kind))

    trials.add(number, count_trials_read(directory, record, read_trials(directory)), judge)
    twice = trials.repeated(number)
    if twice is not None:
        raise InputError(
            f"{directory}: trials.jsonl holds a trial of {twice.model} twice, so it was changed: give the same run "
            "command again, which writes it anew."
        )
    arms = [
        _condition(system, task, kind)
        for (task, kind), outcomes in trials.scored.items()
        for system in outcomes
        if system.run == number
    ]
    check_facts(directory, arms, record.facts)
    # Differences have jackknife intervals, whatever the run's own rows have: a difference does not depend on that.
    config = record.config.model_copy(update={"mention": policy, "interval": "jackknife"})
    snapshots = {(endpoint.endpoint, endpoint.model): endpoint.snapshots for endpoint in record.endpoints}
    return Run(name, config, record.facts, snapshots), {
        (model.endpoint, model.model): ModelSize(model.family, model.parameters)
        for model in record.config.models
        if model.family is not None and model.parameters is not None
    }


def _condition(system: System, task: str, kind: str) -> Condition:
    return Condition(
        system.endpoint, system.model, task, kind, system.order, system.style, system.shots, system.verbosity
    )


def _signature(compared: Compared, metric: str, system: System, runs: Sequence[Run]) -> str:
    """The signature of one system's number, over all tasks that the system was asked."""
    run = runs[system.run]
    signatures = []
    for task in compared.tasks:
        condition = _condition(system, task, compared.kind)
        levels = compared.group.levels or (str(system.verbosity),)
        if task in run.facts.tasks and all(
            condition._replace(verbosity=level).arm_name in run.facts.arms for level in levels
        ):
            name = PRIMARY if metric == AT_P else metric
            signatures.append(row_signature(name, condition, run.config, run.facts, compared.group.levels))
    return merge_signatures(signatures)


EXPECTED: Mapping[By, frozenset[str]] = {
    "model": frozenset({"model", "endpoint"}),
    "arm": frozenset({"order", "style", "shots", "verbosity", "prompts", "logprobs", "temperature"}),
    "run": frozenset(),
}
"""The parts of signatures that differ because of what is compared."""

HASHED = {"task": "examples", "kind": "insertions", "prompts": "prompts", "shots": "shots"}
"""Parts of signatures that hold a hash, and what they are called."""

PLAIN = {"mention": "mention policy", "explaineval": "version of explaineval"}


def _what_else_differs(group: Group, families: Sequence[Compared], runs: Sequence[Run]) -> Iterator[str]:
    """Name what differs between the systems' configurations beside what is compared and what is confounded."""
    expected = EXPECTED[group.by] | (EXPECTED["arm"] if group.confounded else frozenset())
    differing: dict[str, dict[str, None]] = {}
    for compared in families:
        if compared.primary:  # one for each kind: kinds differ from each other by themselves
            values: dict[str, dict[str, None]] = {}
            for system in group.systems:
                for part in _signature(compared, "cct", system, runs).split("|"):
                    name, _, value = part.partition(":")
                    values.setdefault(name, {})[value] = None
            for name, found in values.items():
                if len(found) > 1 and name not in expected:
                    differing.setdefault(name, {}).update(found)
    for name, different in differing.items():
        if name in HASHED:
            yield HASHED[name]
        else:
            yield f"{PLAIN.get(name, name.replace('_', ' '))} ({' / '.join(different)})"


def _find_reference(group: Group, against: str | None) -> int | None:
    for number, name in enumerate(group.names):
        if against is not None and against in (name, name.partition("/")[2]):
            return number
    return None
