"""Read the trials of run directories and count, per example, those that several systems share.

A system is what is compared with another: one model under one arm in one run, or such a model at several levels of
verbosity together. Two trials are the same where example, intervention, sample and the edited text are. The shared
trials of a task and kind are those with a score in every system that has any.

`Paired` says how a metric is computed from such counts; `scoring.registry` holds one for each metric that is compared.
`measure_task` computes it with what a test of differences needs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from explaineval.interventions import SHAM, kind_of
from explaineval.metrics.auroc import is_order_unsure
from explaineval.metrics.correlations import grouped_moments
from explaineval.metrics.differences import Measured, measure, undefined_measure
from explaineval.metrics.estimates import FEWEST, FloatArray, IntArray, Statistic, column_sums, empty_margin
from explaineval.metrics.rates import FromRates, mover_limits, wilson_rate
from explaineval.records import Condition, Mention, Trial
from explaineval.scoring.counts import SHAMS, KindCounter, RunCounts, TrialCounter
from explaineval.scoring.mentioning import Source, TextReader
from explaineval.scoring.verbosity import DIFFERENT_ANSWERS
from explaineval.text import only


class System(NamedTuple):
    """One model under one arm in one run. `run` is the number of the run directory.

    `verbosity` None stands for several levels together.
    """

    run: int
    endpoint: str | None
    model: str
    order: str
    style: str
    shots: int
    verbosity: str | None


KEY_BYTES = 8
"""Bytes of the hash that stands for a trial: among a million trials two share one with a probability of 3 in 10⁸."""


@dataclass(slots=True)
class Outcomes:
    """The scored trials of one system on one task and kind: what counted them, and which trials they are.

    `keys` are aligned with the trials of `counter`, 8 bytes of a hash each.
    """

    counter: KindCounter = field(default_factory=KindCounter)
    keys: bytearray = field(default_factory=bytearray)

    def add(self, trial: Trial) -> None:
        """Note which trial was counted last."""
        parts = (trial.example_id, trial.intervention_id, trial.sample, trial.inserted, trial.text_after)
        text = repr(parts).encode("utf-8", "surrogatepass")
        self.keys += hashlib.blake2b(text, digest_size=KEY_BYTES).digest()

    @property
    def examples(self) -> list[str]:
        """The id of each row's example."""
        return list(self.counter.examples.place)

    @property
    def rows(self) -> IntArray:
        """The row of each trial's example."""
        return np.array(self.counter.trial_rows, dtype=np.int64)

    @property
    def cells(self) -> IntArray:
        """The place of each trial in the table a, b, c, d."""
        return np.frombuffer(bytes(self.counter.trial_cells), dtype=np.uint8).astype(np.int64)

    @property
    def has_tvd(self) -> NDArray[np.bool_]:
        """Whether each trial has a TVD."""
        return np.frombuffer(bytes(self.counter.trial_has_tvd), dtype=np.bool_)

    @property
    def distances(self) -> FloatArray:
        """The TVD of each trial; NaN where it has none."""
        found = np.full(len(self.has_tvd), np.nan)
        found[self.has_tvd] = self.counter.distances
        return found


@dataclass
class Trials:
    """All that is compared, from one pass over the trials of all runs.

    `scored` has the outcomes by (task, kind) and system; a system that was asked has an entry, even without a score.
    `shams` counts changed and scored shams by task, system and example.
    """

    scored: dict[tuple[str, str], dict[System, Outcomes]] = field(default_factory=dict)
    shams: dict[str, dict[System, dict[str, list[int]]]] = field(default_factory=dict)
    systems: dict[System, None] = field(default_factory=dict)

    def add(self, run: int, trials: Iterable[Trial], policy: Mention, reader: TextReader) -> RunCounts:
        """Count the trials of one run, with mentions as `reader` finds them by this policy; return all counts."""
        source = Source(policy)
        counter = TrialCounter({source: reader.decider(source)})
        counted: dict[int, Outcomes] = {}
        for trial in trials:
            found = counter.add(trial)
            if found is not None:
                outcomes = counted.get(id(found))
                if outcomes is None:
                    outcomes = counted[id(found)] = Outcomes(found)
                outcomes.add(trial)
        counts = counter.by_source[source]
        for condition in counts.statuses:
            system = system_of(run, condition)
            self.systems.setdefault(system)
            kind = str(condition.kind)
            if not kind_of(kind).measures_noise:
                outcomes = counted.get(id(counts.kinds.get(condition)), Outcomes())
                self.scored.setdefault((condition.task, kind), {})[system] = outcomes
            elif kind == SHAM:
                shams = counts.arms[condition.arm].examples
                pairs = zip(shams.place, shams.table(columns=SHAMS)[:, :2].tolist(), strict=True)
                of_system = {example: pair for example, pair in pairs if pair[1]}
                self.shams.setdefault(condition.task, {})[system] = of_system
        return counts

    def repeated(self, run: int) -> System | None:
        """A system of this run that has a trial twice, as no run writes it; None if there is none."""
        for by_system in self.scored.values():
            for system, outcomes in by_system.items():
                if system.run == run and len(np.unique(_keys(outcomes))) < len(_keys(outcomes)):
                    return system
        return None


def system_of(run: int, condition: Condition) -> System:
    """Return the system whose trials stand under a condition of this run."""
    return System(
        run, condition.endpoint, condition.model, condition.order, condition.style, condition.shots,
        str(condition.verbosity),
    )  # fmt: skip


class Tables(NamedTuple):
    """Counts of one system on the shared trials of one task, one row per shared example.

    `levels` (G, V, 4) are a, b, c, d at each level of verbosity; V is 1 but where levels are compared together.
    `moments` (G, 6) are those of TVD and mention on the trials with a TVD in every system that has any, and `graded`
    (G, 4) is the table of the same trials.
    """

    levels: IntArray
    graded: IntArray
    moments: FloatArray

    @property
    def cells(self) -> IntArray:
        """The tables (G, 4), summed over levels."""
        total: IntArray = self.levels.sum(axis=1)
        return total


@dataclass(frozen=True)
class Shared:
    """Several systems on the trials of one task and kind that they share.

    `tables` are aligned with the systems; None for a system without any scored trial. `own` has the counts of all of a
    system's scored trials, shared or not.
    """

    examples: tuple[str, ...]
    tables: tuple[Tables | None, ...]
    own: tuple[Tables | None, ...]


Keys = NDArray[np.uint64]
"""Hashes that stand for trials."""


def share(systems: Sequence[Sequence[Outcomes]]) -> Shared:
    """Count the trials that all systems with any scored trial share; the order of trials changes no digit.

    A system is its outcomes at each level of verbosity (one, but where levels are compared together); it counts as one
    without a scored trial where a level has none.
    """
    keys = [[_keys(outcomes) for outcomes in levels] for levels in systems]
    present = [bool(levels) and all(len(found) for found in levels) for levels in keys]
    own = [reduce(_in_both, levels) if there else None for levels, there in zip(keys, present, strict=True)]
    common = reduce(_in_both, [found for found in own if found is not None], None)
    if common is None:
        nothing: tuple[None, ...] = (None,) * len(systems)
        return Shared((), nothing, nothing)
    graded = [_graded_keys(levels) if there else None for levels, there in zip(systems, present, strict=True)]
    in_common = [np.intersect1d(found, common) for found in graded if found is not None]
    graded_in_all = reduce(_in_both, [found for found in in_common if len(found)], None)
    shared: list[Tables | None] = []
    everything: list[Tables | None] = []
    for levels, own_keys, own_graded in zip(systems, own, graded, strict=True):
        if own_keys is None or own_graded is None:
            shared.append(None)
            everything.append(None)
            continue
        usable = own_graded[:0] if graded_in_all is None else np.intersect1d(own_graded, graded_in_all)
        counted = _count(levels, common, usable)
        shared.append(counted)
        is_all = len(own_keys) == len(common) and len(own_graded) == len(usable)
        everything.append(counted if is_all else _count(levels, own_keys, own_graded))
    first = next(levels[0] for levels, there in zip(systems, present, strict=True) if there)
    names = _names_of(first, common)
    return Shared(tuple(names), tuple(shared), tuple(everything))


def _keys(outcomes: Outcomes) -> Keys:
    return np.frombuffer(bytes(outcomes.keys), dtype=np.uint64)


def _in_both(first: Keys | None, second: Keys) -> Keys:
    return np.unique(second) if first is None else np.intersect1d(first, second)


def _graded_keys(levels: Sequence[Outcomes]) -> Keys:
    """The trials with a TVD at every level; none where all label distributions are one-hot (as `scoring` has it)."""
    found = [_keys(outcomes)[outcomes.has_tvd & outcomes.counter.is_graded] for outcomes in levels]
    return reduce(np.intersect1d, found)


def _names_of(outcomes: Outcomes, keys: Keys) -> list[str]:
    names = outcomes.examples
    return sorted(names[row] for row in np.unique(outcomes.rows[np.isin(_keys(outcomes), keys)]))


def _count(levels: Sequence[Outcomes], keys: Keys, graded: Keys) -> Tables:
    """Count the trials with these keys, and for `graded` and `moments` those among `graded`, at each level."""
    place = {name: number for number, name in enumerate(_names_of(levels[0], keys))}
    tables = [_table(outcomes, np.isin(_keys(outcomes), keys), place) for outcomes in levels]
    usable = np.isin(_keys(levels[0]), graded)
    return Tables(np.stack(tables, axis=1), _table(levels[0], usable, place), _moments(levels[0], usable, place))


def _table(outcomes: Outcomes, chosen: NDArray[np.bool_], place: Mapping[str, int]) -> IntArray:
    """Count the chosen trials of each example as a, b, c, d, (examples, 4)."""
    places = 4 * _places(outcomes, place)[chosen] + outcomes.cells[chosen]
    return np.bincount(places, minlength=4 * len(place)).reshape(len(place), 4).astype(np.int64)


def _moments(outcomes: Outcomes, chosen: NDArray[np.bool_], place: Mapping[str, int]) -> FloatArray:
    """The moments (examples, 6) of TVD and mention of the chosen trials."""
    mentions = outcomes.cells[chosen] % 2 == 0
    return grouped_moments(outcomes.distances[chosen], mentions, _places(outcomes, place)[chosen], len(place))


def _places(outcomes: Outcomes, place: Mapping[str, int]) -> IntArray:
    """The place of each trial's example; −1 for an example that has none."""
    of_row = np.array([place.get(name, -1) for name in outcomes.examples], dtype=np.int64)
    return of_row[outcomes.rows]


class Carriers(NamedTuple):
    """The examples that carry the information of a metric: how often each has what it takes, and what that is."""

    having: Callable[[Tables], IntArray]
    what: str


MENTIONED_FLIPS = Carriers(
    lambda counts: counts.cells[:, 0], "a changed answer whose explanation mentions the insertion"
)
FLIPS = Carriers(lambda counts: counts.levels[:, :, :2].sum(axis=2).min(axis=1), "a changed answer")
UNCHANGED = Carriers(lambda counts: counts.cells[:, 2:].sum(axis=1), "an unchanged answer")
MIXED = Carriers(
    lambda counts: counts.cells[:, :2].sum(axis=1) * counts.cells[:, 2:].sum(axis=1),
    "both changed and unchanged answers",
)
ALL_TRIALS = Carriers(lambda counts: counts.cells.sum(axis=1), "a trial")
USABLE_TRIALS = Carriers(lambda counts: counts.moments[:, 0].astype(np.int64), "a usable trial")


@dataclass(frozen=True)
class Paired:
    """How a metric is compared: from the counts of shared trials to its value.

    `rows` maps the counts to one row of sufficient statistics per example, `statistic` their sums to the value, and
    `carriers` are the examples that count for the degrees of freedom. `from_rates` makes the value of TPR and FPR,
    where that can be done: then a difference has MOVER limits where few examples have a changed answer with or without
    a mention. `needs_both` says that there is none at all in that case, `needs_probabilities` that only trials with a
    TVD count. `on_log_scale`: `statistic` gives a logarithm, and that is compared.
    """

    rows: Callable[[Tables], FloatArray]
    statistic: Statistic
    carriers: Carriers
    from_rates: FromRates | None = None
    needs_both: bool = False
    needs_probabilities: bool = False
    on_log_scale: bool = False

    def trials_of(self, counts: Tables) -> IntArray:
        """Return how many trials of each example the metric rests on, (G,)."""
        if self.needs_probabilities:
            return counts.moments[:, 0].astype(np.int64)
        trials: IntArray = counts.cells.sum(axis=1)
        return trials


def cells_of(counts: Tables) -> FloatArray:
    """Return the tables as rows, (G, 4)."""
    return counts.cells.astype(np.float64)


def levels_of(counts: Tables) -> FloatArray:
    """Return the tables of all levels as rows, (G, V·4)."""
    return counts.levels.reshape(len(counts.levels), -1).astype(np.float64)


def shares_of(*sums: str) -> Callable[[Tables], FloatArray]:
    """Return what makes rows of sums of cells, each named by the letters of its cells: "a", "ab" for TPR."""
    columns = [["abcd".index(letter) for letter in letters] for letters in sums]

    def rows(counts: Tables) -> FloatArray:
        return np.stack([counts.cells[:, column].sum(axis=1) for column in columns], axis=1).astype(np.float64)

    return rows


NOT_SCORED = "no trial is scored"

FEWEST_OF_EACH = 8
"""Examples with a mentioned change of the answer, and examples with an unmentioned one, under which a system is sparse.

A jackknife of TPR and of what is made of it is too short there (benchmarks/coverage.md)."""


def sparse_reason(tables: Tables) -> str | None:
    """Say which of the examples with a mentioned and with an unmentioned changed answer are too few; None if neither.

    Over levels of verbosity the level in the middle by that number counts, as in the warnings of areas.
    """
    for cell, what in ((1, "leaves out"), (0, "mentions")):
        examples = np.sort((tables.levels[:, :, cell] > 0).sum(axis=0))
        count = int(examples[(len(examples) - 1) // 2])
        if count < FEWEST_OF_EACH:
            has = only(count, "shared example", "have")
            middle = " at the middle level" if len(examples) > 1 else ""
            return f"{has} a changed answer whose explanation {what} the insertion{middle}; {FEWEST_OF_EACH} are needed"
    return None


def measure_task(paired: Paired, tables: Tables | None, examples: int) -> Measured:
    """Return one system's value on one task, with what is needed to test differences.

    `tables` are its counts on the shared trials of so many examples; None: it has no scored trial.
    """
    if tables is None:
        return undefined_measure(examples, NOT_SCORED)
    n = int(paired.trials_of(tables).sum())
    if paired.needs_probabilities and not n:
        return undefined_measure(examples, "no shared trial has usable label probabilities on both sides")
    flips = tables.levels[:, :, 0] + tables.levels[:, :, 1]
    if (flips != flips[:, :1]).any():
        return undefined_measure(examples, DIFFERENT_ANSWERS, n)
    few = sparse_reason(tables)
    if paired.needs_both and few:
        return undefined_measure(examples, few, n)
    rows, carriers = paired.rows(tables), paired.carriers
    if math.isnan(float(paired.statistic(column_sums(rows)[np.newaxis])[0])):
        reason = empty_margin(*tables.cells.sum(axis=0).tolist()) or "undefined"
        return undefined_measure(examples, f"{reason} on the shared trials", n)
    having = int((carriers.having(tables) > 0).sum())
    measured = measure(rows, paired.statistic, having, carriers.what, n)
    if paired.from_rates is not None:
        measured = _with_limits(measured, paired, paired.from_rates, tables, rows, is_sparse=few is not None)
    if tables.levels.shape[1] > 1 and not measured.undefined and is_order_unsure(rows):
        note = "; ".join(filter(None, (measured.note, "the order of two levels by FPR is within chance")))
        return replace(measured, note=note)
    return measured


def _with_limits(
    measured: Measured, paired: Paired, function: FromRates, tables: Tables, rows: FloatArray, *, is_sparse: bool
) -> Measured:
    """Return a system's value with the limits that it has alone, made of those of TPR and FPR.

    A sparse system keeps its value where the jackknife is undefined, if at least two examples have a changed answer.
    """
    a, b, c, d = tables.cells.T
    hits, alarms = wilson_rate(a, a + b), wilson_rate(c, c + d)
    value = float(paired.statistic(column_sums(rows)[np.newaxis])[0])
    if math.isnan(function(hits.value, alarms.value)):
        few = FLIPS if math.isnan(hits.value) else UNCHANGED
        return undefined_measure(len(rows), f"fewer than {FEWEST} shared examples have {few.what}", measured.n)
    if measured.undefined and is_sparse:
        measured = Measured(value, np.zeros(len(rows)), (), measured.n)
    return replace(measured, limits=partial(mover_limits, function, hits, alarms), is_sparse=is_sparse, rows=rows)
