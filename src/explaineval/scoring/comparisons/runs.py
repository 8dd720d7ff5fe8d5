"""Compare what run directories hold: read their trials, form groups, test, and say what else differs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

from explaineval.config import RunConfig
from explaineval.errors import InputError
from explaineval.mentions import SEARCHES
from explaineval.metrics.differences import DRAWS, Difference
from explaineval.metrics.trends import ExplainedVariance
from explaineval.records import Condition, Mention, Trial
from explaineval.rundir.directory import PROMPTS, count_trials_read, read_run, read_trials
from explaineval.rundir.schema import Facts, Snapshot
from explaineval.scoring.codes import MetricWarning
from explaineval.scoring.comparisons.families import (
    Compared,
    compare_groups,
    sham_differences,
    variance_explained,
)
from explaineval.scoring.comparisons.groups import (
    PRIMARY,
    By,
    Carried,
    Choices,
    Group,
    GroupTrials,
    ModelSize,
    TuningResult,
    compare_tuned,
    form_groups,
    share_trials,
)
from explaineval.scoring.counts import KindCounts, RunCounts
from explaineval.scoring.mentioning import TextReader, phrases_in
from explaineval.scoring.metric import KindMetric, KindResults
from explaineval.scoring.registry import (
    CCT,
    PHI_AT_P,
    PHI_EXAMPLE_ONLY,
    PHI_TVD_TRIALS,
    PHI_WITHIN,
    compute_all,
    metrics_of,
)
from explaineval.scoring.rows import check_facts, row_signature
from explaineval.scoring.shared import System, Trials, system_of
from explaineval.scoring.task_means import merge_signatures
from explaineval.scoring.warnings import kind_warnings

CARRIED = ("noise", "many_missing", "mostly_unknown", "inside_example_only", "follows_answer", "answer_tells_change")
"""The codes that a comparison carries on from the numbers that it compares. That there are few trials of some sort is
carried by the intervals of differences."""

ASKED_BY_CHECKS = (PHI_EXAMPLE_ONLY, PHI_TVD_TRIALS, PHI_WITHIN)
"""Numbers that the checks of compared metrics need."""


def carried_warnings(run: int, counts: RunCounts, config: RunConfig, facts: Facts) -> Carried:
    """Return the warnings of the run's numbers, by system (with the number of the run), task, kind and metric."""
    metrics = [
        metric for metric in metrics_of(KindMetric) if metric.paired is not None or metric.name in ASKED_BY_CHECKS
    ]
    found: dict[tuple[System, str, str], dict[str, list[MetricWarning]]] = {}
    for condition in counts.kinds:
        of_kind = KindCounts(condition, counts, config)
        available = facts.tasks[condition.task].available(config.limit)
        results = KindResults(of_kind, compute_all(metrics, of_kind), available=available)
        by_metric: dict[str, list[MetricWarning]] = {}
        for warning in kind_warnings(results):
            if warning.code in CARRIED:
                by_metric.setdefault(warning.metric, []).append(warning)
        if by_metric:
            found[system_of(run, condition), condition.task, str(condition.kind)] = by_metric
    return found


Through = Callable[[int, Iterator[Trial]], Iterator[Trial]]

WIDEST = 12
"""Columns to which numbers are filled up, so that they are sorted by value."""


def in_order_of(runs: Sequence[tuple[RunConfig, Facts]], trials: Trials) -> Trials:
    """Return the same trials with systems, tasks and kinds in the order of the runs' configurations.

    Systems are ordered by run, model, order, style, shots and verbosity, tasks and kinds as in the first run that has
    them. What a configuration does not name comes last, by name.
    """
    keys = [_key_of_systems(config) for config, _ in runs]

    def of_system(system: System) -> Any:
        return system.run, keys[system.run](system)

    tasks = _place_in([task for _, facts in runs for task in facts.tasks])
    kinds = _place_in([kind for _, facts in runs for task in facts.tasks.values() for kind in task.kinds])
    return Trials(
        scored={
            (task, kind): {system: outcomes[system] for system in sorted(outcomes, key=of_system)}
            for (task, kind), outcomes in sorted(
                trials.scored.items(), key=lambda item: (tasks(item[0][0]), kinds(item[0][1]))
            )
        },
        shams=dict(sorted(trials.shams.items(), key=lambda item: tasks(item[0]))),
        systems=dict.fromkeys(sorted(trials.systems, key=of_system)),
    )


def _key_of_systems(config: RunConfig) -> Callable[[System], Any]:
    """Return the sort key of the systems of one run."""
    models = _place_in([(model.endpoint, model.model) for model in config.models])
    arms = config.arms
    parts = [_place_in(values or ()) for values in (arms.order, arms.style, arms.shots, arms.verbosity)]

    def key(system: System) -> Any:
        values = (system.order, system.style, system.shots, system.verbosity or "")
        return models(system[1:3]), *(place(value) for place, value in zip(parts, values, strict=True))

    return key


def _place_in(values: Sequence[Hashable]) -> Callable[[Any], tuple[int, str]]:
    """Return the sort key of values: their place in the list, for others the end, by their text."""
    places = {value: number for number, value in enumerate(dict.fromkeys(values))}
    return lambda value: (places[value], "") if value in places else (len(places), str(value).rjust(WIDEST))


class ComparedRun(NamedTuple):
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
    in words what else of the systems' configuration differs. `signatures` are those of each system by metric, task and
    kind. `tuning` compares tuned with pretrained models.
    """

    group: Group
    families: tuple[Compared, ...]
    noise: tuple[tuple[int, int, float, float], ...] = ()
    explained: tuple[tuple[str, str, ExplainedVariance], ...] = ()
    tuning: tuple[TuningResult, ...] = ()
    reference: int | None = None
    seed: int = 0
    snapshots: tuple[tuple[Snapshot, ...], ...] = ()
    differing: tuple[str, ...] = ()
    signatures: Mapping[tuple[str, str, str], tuple[str, ...]] = field(default_factory=dict)

    @property
    def leading(self) -> tuple[Compared, ...]:
        """The families that come first, one for each kind of intervention."""
        return tuple(compared for compared in self.families if compared.leading)

    def family(self, metric: str, like: Compared) -> Compared | None:
        """The family of another metric on the same task and kind."""
        where = (like.task, like.kind)
        return next((item for item in self.families if item.metric == metric and (item.task, item.kind) == where), None)

    def signature(self, compared: Compared, row: Difference) -> str:
        """The signature of one difference: those of both numbers, which systems share the trials, and the test."""
        own = self.signatures[compared.metric, compared.task, compared.kind]
        everyone = hashlib.sha256("\n".join(sorted(own)).encode("utf-8", "surrogatepass")).hexdigest()[:8]
        parts = [merge_signatures([own[row.first], own[row.second]]), f"shared:{len(own)}@{everyone}"]
        if compared.impact_rate is not None:
            parts.append(f"impact_rate:{compared.impact_rate:.6g}")
        method, count = METHODS[row.method], compared.family.claims
        if self.reference is not None:
            parts.append(f"test:{method}, Holm over {count}")
        elif row.method == "mover":
            parts.append(f"test:{method}, Bonferroni over {count}")
        else:
            parts.append(f"test:{method}, max-t over {count}, {DRAWS} draws, seed {self.seed}")
        if compared.equivalent is not None:
            parts.append(f"equivalent:{compared.equivalent:g}")
        return "|".join(parts)


METHODS = {"jackknife": "paired jackknife", "mover": "MOVER"}


def compare_runs(
    directories: Sequence[Path],
    *,
    by: By | None = None,
    against: str | None = None,
    equivalent: float | None = None,
    impact_rate: float | None = None,
    primary: str | None = None,
    mention: Mention | None = None,
    seed: int = 0,
    or_none: bool = False,
    through: Through | None = None,
) -> list[GroupResult]:
    """Compare what run directories hold; `against` names the reference, in full or without its provider.

    See `Choices` for the other arguments. With `or_none` the list is empty where nothing is to compare. The trials
    of each run go `through` a function of the run's number and them, for others who need them: they are read once.

    Raises InputError where there is nothing to compare otherwise, for a name that is not there, for a value outside its
    range, or for a directory that holds no finished run or is given twice.
    """
    if by is not None and by not in get_args(By):
        raise InputError(f"by: expected {', '.join(map(repr, get_args(By)))}, not {by!r}.")
    if mention is not None and SEARCHES.find(mention) is None:
        raise InputError(f"mention: expected {', '.join(map(repr, SEARCHES.complete()))}, not {mention!r}.")
    if equivalent is not None and not 0 < equivalent <= 2:
        raise InputError(f"equivalent: expected a number above 0 and at most 2, not {equivalent}.")
    if impact_rate is not None and not 0 < impact_rate < 1:
        raise InputError(f"impact_rate: expected a number between 0 and 1, not {impact_rate}.")
    trials = Trials()
    sizes: dict[tuple[str | None, str], ModelSize] = {}
    runs = []
    carried: dict[tuple[System, str, str], Mapping[str, Sequence[MetricWarning]]] = {}
    for number, (directory, name) in enumerate(zip(directories, run_names(directories), strict=True)):
        run, found, limiting = _add_run(trials, number, directory, name, mention, through)
        runs.append(run)
        sizes |= found
        carried |= limiting
    trials = in_order_of([(run.config, run.facts) for run in runs], trials)
    groups = form_groups(list(trials.systems), by, [run.name for run in runs])
    if not groups:
        if or_none:
            return []
        raise InputError("there is nothing to compare: give runs with two models, two arms, or two runs of one model.")
    references = [_find_reference(group, against) for group in groups]
    if against is not None and all(reference is None for reference in references):
        names = dict.fromkeys(name for group in groups for name in group.names)
        raise InputError(f"--against {against}: there is no such name among {', '.join(names)}.")
    kinds = list(dict.fromkeys(kind for _, kind in trials.scored))
    if primary is not None and primary not in kinds:
        raise InputError(f"--primary {primary}: there is no such kind of intervention among {', '.join(kinds)}.")
    choices = Choices(equivalent=equivalent, impact_rate=impact_rate, primary=primary, seed=seed, sizes=sizes)
    shared = [
        GroupTrials(group, share_trials(group, trials), reference, carried)
        for group, reference in zip(groups, references, strict=True)
    ]
    results = []
    for of_group, found_families in zip(shared, compare_groups(shared, choices), strict=True):
        group, families = of_group.group, tuple(found_families)
        contexts = {(compared.task, compared.kind): compared.context for compared in families}
        results.append(
            GroupResult(
                group,
                families,
                noise=tuple(sham_differences(group, trials)),
                explained=tuple(variance_explained(group, of_group.parts, seed)),
                tuning=tuple(
                    replace(tuning, context=contexts.get((tuning.task, tuning.kind), ()))
                    for tuning in compare_tuned(group, trials, sizes)
                ),
                reference=of_group.reference,
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
    # what is primary comes first, and with it the sentence that can be quoted
    return sorted(results, key=lambda result: not any(compared.primary for compared in result.families))


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
    trials: Trials, number: int, directory: Path, name: str, mention: Mention | None, through: Through | None
) -> tuple[ComparedRun, dict[tuple[str | None, str], ModelSize], Carried]:
    """Count the trials of a run; return the run, the sizes of its models, and what limits its numbers."""
    record = read_run(directory)
    policy = mention or record.config.mention
    reader = TextReader(record.own_policy, phrases_in(directory / PROMPTS))
    # Differences have jackknife intervals, whatever the run's own rows have: a difference does not depend on that.
    config = record.config.model_copy(update={"mention": policy, "interval": "jackknife"})
    read = count_trials_read(directory, record, read_trials(directory))
    counts = trials.add(number, read if through is None else through(number, read), policy, reader)
    twice = trials.repeated(number)
    if twice is not None:
        raise InputError(
            f"{directory}: trials.jsonl holds a trial of {twice.model} twice, so it was changed: give the same run "
            "command again, which writes it anew."
        )
    check_facts(directory, counts.statuses, record.facts)
    snapshots = {(endpoint.endpoint, endpoint.model): endpoint.snapshots for endpoint in record.endpoints}
    sizes = {
        (model.endpoint, model.model): ModelSize(model.family, model.parameters, model.tuned)
        for model in record.config.models
        if model.family is not None and model.parameters is not None
    }
    return (
        ComparedRun(name, config, record.facts, snapshots),
        sizes,
        carried_warnings(number, counts, config, record.facts),
    )


def _condition(system: System, task: str, kind: str) -> Condition:
    return Condition(
        system.endpoint, system.model, task, kind, system.order, system.style, system.shots, system.verbosity
    )


def _signature(compared: Compared, metric: str, system: System, runs: Sequence[ComparedRun]) -> str:
    """The signature of one system's number, over all tasks that the system was asked."""
    run = runs[system.run]
    signatures = []
    for task in compared.tasks:
        condition = _condition(system, task, compared.kind)
        levels = compared.group.levels or (str(system.verbosity),)
        if task in run.facts.tasks and all(
            condition._replace(verbosity=level).arm_name in run.facts.arms for level in levels
        ):
            name = PRIMARY if metric == PHI_AT_P else metric
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


def _what_else_differs(group: Group, families: Sequence[Compared], runs: Sequence[ComparedRun]) -> Iterator[str]:
    """Name what differs between the systems' configurations beside what is compared and what is confounded."""
    expected = EXPECTED[group.by] | (EXPECTED["arm"] if group.confounded else frozenset())
    differing: dict[str, dict[str, None]] = {}
    for compared in families:
        if compared.leading:  # one for each kind: kinds differ from each other by themselves
            values: dict[str, dict[str, None]] = {}
            for system in group.systems:
                for part in _signature(compared, CCT, system, runs).split("|"):
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
