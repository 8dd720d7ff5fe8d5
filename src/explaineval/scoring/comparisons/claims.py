"""Say what may be claimed of a difference: that one system is more faithful, that its phi-CCT is higher, or nothing.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from explaineval.metrics.differences import LEVEL, SAME, Difference, Measured, Pair, contrast, pair_of
from explaineval.metrics.estimates import IntArray
from explaineval.metrics.families import Family, SystemSet, compare_sets
from explaineval.scoring.codes import GRADES, MetricWarning
from explaineval.scoring.comparisons.groups import PRIMARY
from explaineval.scoring.comparisons.task_groups import Choices, TaskGroup, at_impact_rate
from explaineval.scoring.registry import IMPACT_RATE, PHI_AT_P, PHI_WITHIN, YOUDEN_J

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
