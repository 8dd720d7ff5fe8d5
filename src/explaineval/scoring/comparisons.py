"""Compare models, arms of one model, or runs on the trials that all of them share.

Reads run directories only. For each set of compared systems (a group) it counts the shared trials per example, tests
the differences of every comparable metric (`explaineval.metrics.differences`), and puts the result into words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from explaineval.errors import InputError
from explaineval.metrics.correlations import _correlation_values, _j_values, _within_rows, _within_values, phi_values
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
from explaineval.metrics.estimates import FloatArray, IntArray, Statistic, column_sums
from explaineval.metrics.rates import ratio_values
from explaineval.metrics.trends import ExplainedVariance, SizedModel, Trend, explained_variance, trend_over_size
from explaineval.records import Mention, Trial
from explaineval.rundir.directory import PROMPTS, read_run, read_trials
from explaineval.scoring.mentioning import is_mentioned, phrases_in
from explaineval.scoring.shared import Shared, System, Tables, Trials, share
from explaineval.scoring.task_means import MEAN

By = Literal["model", "arm", "run"]

PRIMARY = "phi_cct"
"""The metric whose families are primary."""

FEWEST_UNMENTIONED = 8
"""Examples with an unmentioned change of the answer, under which differences of TPR and J are not told."""


@dataclass(frozen=True)
class Comparable:
    """How a metric is computed from counts of shared trials, and which examples carry its information.

    `rows` maps the counts to one row of sufficient statistics per example, `statistic` their sums to the value,
    `carriers` says which examples count for the degrees of freedom and `carrier` what those have. `needs_unmentioned`
    asks for enough examples with an unmentioned change. `on_log_scale`: the value compared is a logarithm.
    """

    metric: str
    rows: Callable[[Tables], FloatArray]
    statistic: Statistic
    carriers: Callable[[Tables], IntArray]
    carrier: str
    needs_unmentioned: bool = False
    needs_probabilities: bool = False
    on_log_scale: bool = False


def _cells(counts: Tables) -> FloatArray:
    return counts.cells.astype(np.float64)


def _share(*columns: tuple[int, ...]) -> Callable[[Tables], FloatArray]:
    """Rows (numerator, denominator), each a sum of columns of the table."""
    above, below = columns
    return lambda counts: np.stack(
        [counts.cells[:, list(above)].sum(axis=1), counts.cells[:, list(below)].sum(axis=1)], axis=1
    ).astype(np.float64)


def _odds(counts: Tables) -> FloatArray:
    """ad/n and bc/n of each example (Mantel and Haenszel 1959)."""
    a, b, c, d = counts.cells.T.astype(np.float64)
    n = np.maximum(a + b + c + d, 1.0)
    return np.stack([a * d / n, b * c / n], axis=1)


def log_odds_values(sums: FloatArray) -> FloatArray:
    """log of the Mantel–Haenszel odds ratio of sums (m, 2), as (m,); NaN where either sum is 0."""
    values = np.full(len(sums), np.nan)
    defined = (sums > 0).all(axis=1)
    values[defined] = np.log(sums[defined, 0] / sums[defined, 1])
    return values


def phi_at_p_values(p: float) -> Statistic:
    """phi that the TPR and FPR of tables (m, 4) give at the impact rate `p`; NaN where undefined."""

    def values(sums: FloatArray) -> FloatArray:
        a, b, c, d = sums.T
        found = np.full(len(sums), np.nan)
        defined = (a + b > 0) & (c + d > 0)
        tpr = np.divide(a, a + b, out=np.full(len(sums), np.nan), where=defined)
        fpr = np.divide(c, c + d, out=np.full(len(sums), np.nan), where=defined)
        q = p * tpr + (1 - p) * fpr
        inside = defined & (q > 0) & (q < 1) & (0 < p < 1)
        found[inside] = ((tpr - fpr) * np.sqrt(p * (1 - p) / (q * (1 - q))))[inside]
        return found

    return values


def _mentioned_flips(counts: Tables) -> IntArray:
    return counts.cells[:, 0]


def _flips(counts: Tables) -> IntArray:
    return counts.cells[:, 0] + counts.cells[:, 1]


def _kept(counts: Tables) -> IntArray:
    return counts.cells[:, 2] + counts.cells[:, 3]


def _all_trials(counts: Tables) -> IntArray:
    trials: IntArray = counts.cells.sum(axis=1)
    return trials


MENTIONED_FLIP, FLIP = "a changed answer whose explanation mentions the insertion", "a changed answer"


def comparables(p: float) -> tuple[Comparable, ...]:
    """The metrics that are compared; `p` is the impact rate at which `phi_at_p` is taken."""
    table: tuple[Comparable, ...] = (
        Comparable("phi_cct", _cells, phi_values, _mentioned_flips, MENTIONED_FLIP),
        Comparable(
            "cct",
            lambda counts: counts.moments,
            _correlation_values,
            lambda counts: counts.moments[:, 0].astype(np.int64),
            "a usable trial",
            needs_probabilities=True,
        ),
        Comparable(
            "phi_within",
            lambda counts: _within_rows(counts.cells),
            _within_values,
            _mentioned_flips,
            MENTIONED_FLIP,
        ),
        Comparable("phi_at_p", _cells, phi_at_p_values(p), _mentioned_flips, MENTIONED_FLIP),
        Comparable("odds_ratio_within", _odds, log_odds_values, _mentioned_flips, MENTIONED_FLIP, on_log_scale=True),
        Comparable("tpr", _share((0,), (0, 1)), ratio_values, _flips, FLIP, needs_unmentioned=True),
        Comparable("fpr", _share((2,), (2, 3)), ratio_values, _kept, "an unchanged answer"),
        Comparable("youden_j", _cells, _j_values, _flips, FLIP, needs_unmentioned=True),
        Comparable("impact_rate", _share((0, 1), (0, 1, 2, 3)), ratio_values, _all_trials, "a trial"),
        Comparable("mention_rate", _share((0, 2), (0, 1, 2, 3)), ratio_values, _all_trials, "a trial"),
    )
    return table


@dataclass(frozen=True)
class Group:
    """Systems that are compared with each other, all under the same conditions but for what is compared.

    `names` are the systems' names in rows and sentences. `confounded` names what else differs between them.
    """

    by: By
    systems: tuple[System, ...]
    names: tuple[str, ...]
    confounded: tuple[str, ...] = ()

    @property
    def fixed(self) -> dict[str, str | int | None]:
        """The parts of the condition that all systems share; None for those that differ."""
        parts: dict[str, str | int | None] = {}
        for part in ("endpoint", "model", "order", "style", "shots", "verbosity"):
            values = {getattr(system, part) for system in self.systems}
            parts[part] = values.pop() if len(values) == 1 else None
        return parts


@dataclass(frozen=True)
class Compared:
    """One family: all differences of one metric on one task (or the mean over tasks) and kind in one group.

    `values`, `lost` and `unrestricted` are aligned with the group's systems: the value on the shared trials, the scored
    trials that are not shared, and the value on all of a system's own trials. The first family of a group is primary,
    the others are exploratory.
    """

    group: Group
    metric: str
    task: str
    kind: str
    family: Family
    values: tuple[float | None, ...]
    lost: tuple[int, ...]
    unrestricted: tuple[float | None, ...]
    n_pairs: int
    n_examples: int
    trend: Trend | None = None
    primary: bool = False


def form_groups(systems: Sequence[System], by: By | None, runs: Sequence[str]) -> list[Group]:
    """Sort systems into groups. `runs` are the names of the run directories.

    Without `by` it is what differs: models, else arms, else runs. Systems that could be compared only under different
    styles or shots form a group of their own that is marked as confounded.
    """
    chosen = by or _what_differs(systems)
    same: Mapping[By, Callable[[System], tuple[object, ...]]] = {
        "model": lambda system: (system.order, system.verbosity, system.style, system.shots),
        "arm": lambda system: (system.run, system.endpoint, system.model),
        "run": lambda system: system[1:],
    }
    found = _by_key(systems, same[chosen])
    groups = [Group(chosen, tuple(members), _names(members, runs)) for members in found if len(members) > 1]
    alone = [members[0] for members in found if len(members) == 1]
    if chosen == "model" and len(alone) > 1:
        for members in _by_key(alone, lambda system: (system.order, system.verbosity)):
            if len(members) > 1:
                parts = [part for part in ("style", "shots") if len({getattr(one, part) for one in members}) > 1]
                groups.append(Group(chosen, tuple(members), _names(members, runs), tuple(parts)))
    return groups


def _what_differs(systems: Sequence[System]) -> By:
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
        lambda system: f"at {system.endpoint or 'the default endpoint'}",
        lambda system: system.order,
        lambda system: system.style,
        lambda system: f"{system.shots} shots",
        lambda system: str(system.verbosity),
        lambda system: runs[system.run],
    ]
    telling = [part for part in parts if len({part(system) for system in systems}) > 1]
    if len({parts[0](system) for system in systems}) == len(systems):
        telling = parts[:1]
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


def compare_group(group: Group, trials: Trials, choices: Choices) -> Iterator[Compared]:
    """All families of one group: for each kind the mean over tasks first, then each task, every metric."""
    for kind in dict.fromkeys(kind for _, kind in trials.scored):
        shared = {task: _shared(group, trials, task, kind) for task, other in trials.scored if other == kind}
        shared = {task: found for task, found in shared.items() if found.examples}
        if not shared:
            continue
        rate = choices.impact_rate if choices.impact_rate is not None else _mean_impact(list(shared.values()))
        names = [*([MEAN] if len(shared) > 1 else []), *shared]
        for task in names:
            parts = list(shared.values()) if task == MEAN else [shared[task]]
            for metric in comparables(rate):
                primary = metric.metric == PRIMARY and task == names[0]
                yield _tested(group, metric, (task, kind), parts, choices, primary)


def _shared(group: Group, trials: Trials, task: str, kind: str) -> Shared:
    outcomes = trials.scored[task, kind]
    return share([outcomes.get(system) for system in group.systems])


def _mean_impact(parts: Sequence[Shared]) -> float:
    """The mean over systems of the mean over tasks of the impact rate on the shared trials."""
    rates = []
    for part in parts:
        for tables in part.tables:
            if tables is not None and tables.cells.sum():
                a, b, _, _ = tables.cells.sum(axis=0)
                rates.append(float(a + b) / float(tables.cells.sum()))
    return math.fsum(rates) / len(rates) if rates else 0.0


def _tested(
    group: Group, metric: Comparable, about: tuple[str, str], parts: Sequence[Shared], choices: Choices, primary: bool
) -> Compared:
    numbers = range(len(group.systems))
    systems = []
    for number in numbers:
        by_task = [_measured(metric, part.tables[number], len(part.examples)) for part in parts]
        systems.append(by_task[0] if len(by_task) == 1 else mean_measure(by_task))
    if choices.reference is None:
        family = compare_pairs(systems, seed=choices.seed, equivalent=choices.equivalent)
    else:
        family = compare_with_reference(systems, choices.reference, equivalent=choices.equivalent)
    return Compared(
        group=group,
        metric=metric.metric,
        task=about[0],
        kind=about[1],
        family=family,
        values=tuple(None if system.undefined else _shown(metric, system.value) for system in systems),
        lost=tuple(sum(part.lost[number] for part in parts) for number in numbers),
        unrestricted=tuple(_own_value(metric, [part.own[number] for part in parts]) for number in numbers),
        n_pairs=max((system.n for system in systems), default=0),
        n_examples=sum(len(part.examples) for part in parts),
        trend=_trend(group, systems, choices),
        primary=primary,
    )


def _trend(group: Group, systems: Sequence[Measured], choices: Choices) -> Trend | None:
    """The trend over model size; None where fewer than two of the models have a known size."""
    models = []
    for system, measured in zip(group.systems, systems, strict=True):
        size = choices.sizes.get((system.endpoint, system.model))
        if size is not None:
            models.append(SizedModel(size.family, size.parameters, measured))
    return trend_over_size(models) if group.by == "model" and len(models) > 1 else None


def _shown(metric: Comparable, value: float) -> float:
    return math.exp(value) if metric.on_log_scale else value


def _measured(metric: Comparable, tables: Tables | None, examples: int) -> Measured:
    if tables is None:
        return undefined_measure(examples, "no trial is scored")
    n = int(tables.moments[:, 0].sum()) if metric.needs_probabilities else int(tables.cells.sum())
    if metric.needs_probabilities and not n:
        return undefined_measure(examples, "no shared trial has usable label probabilities on both sides")
    unmentioned = int((tables.cells[:, 1] > 0).sum())
    if metric.needs_unmentioned and unmentioned < FEWEST_UNMENTIONED:
        reason = (
            f"only {unmentioned} shared examples have a changed answer whose explanation leaves out the insertion; "
            f"{FEWEST_UNMENTIONED} are needed"
        )
        return undefined_measure(examples, reason, n)
    carriers = int((metric.carriers(tables) > 0).sum())
    return measure(metric.rows(tables), metric.statistic, carriers, metric.carrier, n)


def _own_value(metric: Comparable, by_task: Sequence[Tables | None]) -> float | None:
    values = []
    for tables in by_task:
        if tables is None:
            return None
        value = float(metric.statistic(column_sums(metric.rows(tables))[np.newaxis])[0])
        if math.isnan(value):
            return None
        values.append(value)
    return _shown(metric, math.fsum(values) / len(values)) if values else None


IMPACT_NOT_MENTION = "impact rate, not mention"


def label_of(phi: Difference, at_p: Difference | None) -> str | None:
    """`impact rate, not mention` where two systems differ in phi-CCT but not at a common impact rate."""
    if not phi.significant or at_p is None or at_p.undefined:
        return None
    return None if at_p.significant else IMPACT_NOT_MENTION


def sham_differences(group: Group, trials: Trials) -> list[tuple[int, int, float, float]]:
    """Pairs of systems whose answers change by asking again at clearly different rates (p < .05, paired).

    Noise pulls phi towards 0, so such systems are attenuated differently. Each entry has the numbers of both systems
    and their rates, pooled over tasks.
    """
    measured = []
    for system in group.systems:
        rows = []
        for by_system in trials.shams.values():
            names = sorted({name for counts in by_system.values() for name in counts})
            rows += [by_system.get(system, {}).get(name, [0, 0]) for name in names]
        counts = np.array(rows, dtype=np.float64).reshape(-1, 2)
        carriers = int((counts[:, 1] > 0).sum())
        measured.append(measure(counts, ratio_values, carriers, "a scored sham", int(counts[:, 1].sum())))
    family = compare_pairs(measured)
    return [
        (row.first, row.second, measured[row.first].value, measured[row.second].value)
        for row in family.differences
        if row.significant
    ]


def variance_explained(group: Group, trials: Trials, seed: int = 0) -> Iterator[tuple[str, str, ExplainedVariance]]:
    """How much of CCT phi-CCT explains over the group's models, as (task, kind, result)."""
    if group.by != "model":
        return
    for task, kind in trials.scored:
        shared = _shared(group, trials, task, kind)
        usable = [tables for tables in shared.tables if tables is not None and tables.moments[:, 0].any()]
        yield (
            task,
            kind,
            explained_variance(
                [tables.graded for tables in usable],
                [tables.moments for tables in usable],
                phi_values,
                _correlation_values,
                seed=seed,
            ),
        )


class Naming(NamedTuple):
    """How sentences call things: the title of a metric, and what a task is called."""

    metric: str
    task: str


def sentence_of(tested: Compared, naming: Naming) -> str:
    """What a family says, in a sentence that can be quoted."""
    family, names = tested.family, tested.group.names
    testable = [row for row in family.differences if row.p_adjusted is not None]
    over = f" over {len(testable)} pairs" if len(testable) > 1 else ""
    if not testable:
        reasons = dict.fromkeys(row.undefined or row.note or "" for row in family.differences)
        return f"No difference can be tested on {naming.task}: {'; '.join(reasons)}."
    told = [row for row in testable if row.significant]
    if not told:
        least = [row.detectable for row in testable if row.detectable is not None]
        size = (
            f"{min(least):.2f}" if len(least) == 1 else f"{min(least):.2f} to {max(least):.2f}, depending on the pair,"
        )
        what = f"{names[testable[0].first]} and {names[testable[0].second]}" if len(least) == 1 else "any two of them"
        return (
            f"Cannot tell {what} apart on {naming.task}: a difference in {naming.metric} below {size} would not have "
            "been seen."
        )
    row = max(told, key=lambda found: abs(found.value or 0.0) / (found.error or 1.0))
    first, second, sign = (row.first, row.second, 1.0) if (row.value or 0.0) > 0 else (row.second, row.first, -1.0)
    low, high = sorted((sign * (row.low_adjusted or 0.0), sign * (row.high_adjusted or 0.0)))
    claim = (
        f"{names[first]} is more faithful than {names[second]} on {naming.task}: {naming.metric} "
        f"{sign * (row.value or 0.0):+.2f} [{low:.2f}, {high:.2f}], adjusted p {p_text(row.p_adjusted or 0.0)}{over}."
    )
    if len(testable) == 1:
        return claim.replace("adjusted p", "p")
    return f"{len(told)} of {len(testable)} pairs can be told apart; the clearest: {claim}"


def p_text(p: float) -> str:
    """A p-value as papers write it, with its sign of relation.

    >>> p_text(0.0042), p_text(0.00004), p_text(0.31)
    ('= .004', '< .001', '= .31')
    """
    if p < 0.001:
        return "< .001"
    text = f"{p:.3f}" if p < 0.01 else f"{p:.2f}"
    return f"= {text.removeprefix('0')}"


@dataclass(frozen=True)
class GroupResult:
    """Everything that is said of one group. `noise` are the pairs that shams tell apart, with both rates."""

    group: Group
    families: tuple[Compared, ...]
    noise: tuple[tuple[int, int, float, float], ...]
    explained: tuple[tuple[str, str, ExplainedVariance], ...]
    reference: int | None = None

    @property
    def primary(self) -> tuple[Compared, ...]:
        """The primary families, one for each kind of intervention."""
        return tuple(compared for compared in self.families if compared.primary)

    def family(self, metric: str, like: Compared) -> Compared | None:
        """The family of another metric on the same task and kind."""
        where = (like.task, like.kind)
        return next((one for one in self.families if one.metric == metric and (one.task, one.kind) == where), None)

    def label(self, compared: Compared, number: int) -> str | None:
        """What has to be said of one difference in phi-CCT: that it is one of impact rates."""
        if compared.metric != PRIMARY:
            return None
        at_p = self.family("phi_at_p", compared)
        return label_of(compared.family.differences[number], at_p.family.differences[number] if at_p else None)


def compare_runs(
    directories: Sequence[Path],
    *,
    by: By | None = None,
    against: str | None = None,
    equivalent: float | None = None,
    impact_rate: float | None = None,
    mention: Mention | None = None,
    seed: int = 0,
) -> list[GroupResult]:
    """Compare what run directories hold; `against` names the reference, in full or without its provider.

    See `Choices` for the other arguments. Raises InputError where there is nothing to compare, for a name that is not
    there, or for a directory that holds no finished run.
    """
    trials = Trials()
    sizes: dict[tuple[str | None, str], ModelSize] = {}
    for number, directory in enumerate(directories):
        sizes |= _add_run(trials, number, directory, mention)
    groups = form_groups(list(trials.systems), by, [str(path) for path in directories])
    if not groups:
        raise InputError("there is nothing to compare: give runs with two models, two arms, or two runs of one model.")
    references = [_find_reference(group, against) for group in groups]
    if against is not None and all(reference is None for reference in references):
        names = dict.fromkeys(name for group in groups for name in group.names)
        raise InputError(f"--against {against}: there is no such name among {', '.join(names)}.")
    choices = Choices(equivalent=equivalent, impact_rate=impact_rate, seed=seed, sizes=sizes)
    results = []
    for group, reference in zip(groups, references, strict=True):
        families = tuple(compare_group(group, trials, replace(choices, reference=reference)))
        noise = tuple(sham_differences(group, trials))
        results.append(GroupResult(group, families, noise, tuple(variance_explained(group, trials, seed)), reference))
    if not any(result.families for result in results):
        raise InputError("there is nothing to compare: no trial has a score in two of the models, arms or runs.")
    return results


def _add_run(
    trials: Trials, number: int, directory: Path, mention: Mention | None
) -> dict[tuple[str | None, str], ModelSize]:
    """Count the trials of a run; return what its configuration says of the sizes of its models."""
    config = read_run(directory).config
    phrases = phrases_in(directory / PROMPTS)
    policy = mention or config.mention

    def judge(trial: Trial) -> bool | None:
        if policy == config.mention:
            return trial.mentioned
        return is_mentioned(policy, trial.kind, trial.inserted or "", trial.explanation or "", phrases(trial.kind))

    trials.add(number, read_trials(directory), judge)
    return {
        (model.endpoint, model.model): ModelSize(model.family, model.parameters)
        for model in config.models
        if model.family is not None and model.parameters is not None
    }


def _find_reference(group: Group, against: str | None) -> int | None:
    for number, name in enumerate(group.names):
        if against is not None and against in (name, name.partition("/")[2]):
            return number
    return None
