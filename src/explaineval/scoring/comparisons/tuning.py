"""Compare instruction-tuned models with their pretrained siblings over levels of verbosity.

A pair is one family and size, asked in the same style with the same shots. Siegel et al. (2025) report trade-offs
between TPR and FPR and no dominance; `explaineval.metrics.frontiers` tests both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
from explaineval.scoring.comparisons.groups import PRIMARY_OVER_LEVELS, Group
from explaineval.scoring.registry import METRICS
from explaineval.scoring.shared import Outcomes, Shared, System, Tables, Trials, measure_task, share
from explaineval.scoring.task_means import MEAN

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


@dataclass(frozen=True)
class TuningResult:
    """All pairs of a group on one task (or the mean over tasks) and kind. `mean` is of the differences of F-AUROC."""

    group: Group
    task: str
    kind: str
    pairs: tuple[TunedPair, ...]
    mean: MeanDifference | None
    primary: bool


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

    Each pair rests on the trials that these two share, on the tasks that both were asked.
    """
    numbers = tuned_pairs(group, sizes) if group.by == "model" and group.levels else []
    for kind in dict.fromkeys(kind for _, kind in trials.scored) if numbers else ():
        by_task: dict[str, dict[tuple[int, int], _Part]] = {}
        for (task, other), outcomes in trials.scored.items():
            if other == kind:
                parts = {pair: _share(group, outcomes, pair) for pair in numbers}
                shared = {pair: part for pair, part in parts.items() if part is not None}
                if shared:
                    by_task[task] = shared
        results = [_result(group, task, kind, {p: [part] for p, part in parts.items()}, primary=len(by_task) == 1)
                   for task, parts in by_task.items()]  # fmt: skip
        if len(by_task) > 1:
            everywhere = [pair for pair in numbers if all(pair in parts for parts in by_task.values())]
            together = {pair: [parts[pair] for parts in by_task.values()] for pair in everywhere}
            if together:
                yield _result(group, MEAN, kind, together, primary=True)
        yield from results


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
    group: Group, task: str, kind: str, parts: Mapping[tuple[int, int], Sequence[_Part]], *, primary: bool
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
    return TuningResult(group, task, kind, tuple(pairs), mean_difference(values), primary)


def _gaps(group: Group, part: _Part) -> list[Gap]:
    first, second = part.tables
    return gaps_of(first.levels, second.levels, group.levels)


def _area(part: _Part, which: int) -> Measured:
    paired = METRICS[PRIMARY_OVER_LEVELS].paired
    assert paired is not None  # noqa: S101 - it is compared
    return measure_task(paired, part.tables[which], len(part.shared.examples))
