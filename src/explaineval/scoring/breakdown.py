"""Break the numbers of a run down by what was inserted, where, and by the answer, and test whether the parts differ.

A part is one more condition of the same counts: each scored trial of a condition belongs to one part, and a part's
tables per example give its numbers with the intervals that conditions have. Parts are compared as models are, paired
over examples (`metrics.differences`): by phi at the pooled impact rate, by TPR and by FPR. They are never compared by
phi itself, which follows how often answers change. The p-values of all tests of a run are adjusted together (Holm).
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from explaineval.config import RunConfig
from explaineval.interventions.words import load_sense_words
from explaineval.metrics import correlations, rates
from explaineval.metrics.differences import (
    LEVEL,
    Difference,
    Measured,
    Pair,
    holm_adjusted,
    pair_of,
    t_limits,
    undefined_measure,
)
from explaineval.metrics.estimates import (
    NEVER_CHANGED,
    FloatArray,
    IntArray,
    Interval,
    column_sums,
    deviations,
    error_of,
    no_value,
)
from explaineval.metrics.rates import wilson_rate
from explaineval.records import Condition, Estimate, Example, Intervention, Trial
from explaineval.rundir.directory import PROMPTS, read_run, read_trials, stream_examples, stream_interventions
from explaineval.scoring.comparisons.groups import at_impact_rate
from explaineval.scoring.counts import KindCounter, TrialCounter, interval_of
from explaineval.scoring.mentioning import Source, TextReader, phrases_in
from explaineval.scoring.registry import FPR, IMPACT_RATE, MENTION_RATE, METRICS, PHI_AT_P, PHI_CCT, TPR
from explaineval.scoring.rows import condition_order
from explaineval.scoring.shared import FEWEST_OF_EACH, Paired, measure_task, tables_of
from explaineval.text import number_text

SHOWN: Mapping[str, Callable[[IntArray, Interval], Estimate]] = {
    PHI_CCT: correlations.phi_cct,
    TPR: rates.tpr,
    FPR: rates.fpr,
    IMPACT_RATE: rates.impact_rate,
    MENTION_RATE: rates.mention_rate,
}
"""The numbers of each part."""

TESTED = (PHI_AT_P, TPR, FPR)
"""The numbers by which parts are compared."""

FLIPS_TO = "flips_to_answer"
"""The test of whether changed answers go to a letter more or less often than its base rate lets expect."""

THIRDS = 3


class Inserted(NamedTuple):
    """What is known of one intervention: part of speech, place in its field (0 to 1), words after it, senses."""

    pos: str | None = None
    position: float = math.nan
    distance: float = math.nan
    senses: float = math.nan


class Dimension(NamedTuple):
    """One way to divide trials: into named parts, or by a number into thirds.

    `read` gives a trial's part or number; None or NaN where it has none. `cuts` are fixed limits of the thirds; without
    them they are those of the trials. `lacking` says what a run does not have where no trial has a part. `digits` are
    those of the limits of thirds, `thirds` the names of parts with fixed limits.
    """

    title: str
    read: Callable[[Trial, Inserted], str | float | None]
    lacking: str
    digits: int | None = None
    thirds: tuple[str, ...] = ()


def _base_probability(trial: Trial, _: Inserted) -> float:
    return (trial.probs_before or {}).get(trial.label_before or "", math.nan)


KIND = "kind"
ANSWER = "answer"

DIMENSIONS: Mapping[str, Dimension] = {
    "pos": Dimension("part of speech", lambda _, edit: edit.pos, "the interventions have no part of speech"),
    "field": Dimension("field of the input", lambda trial, _: trial.field, "nothing was inserted into a field"),
    "position": Dimension(
        "position in the field",
        lambda _, edit: edit.position,
        "nothing was inserted at a known place in a field",
        thirds=("first third", "middle third", "last third"),
    ),
    "distance": Dimension(
        "words from there to the end of the input",
        lambda _, edit: edit.distance,
        "nothing was inserted at a known place in a field",
        digits=0,
    ),
    "frequency": Dimension(
        "word frequency, by its number of senses in WordNet",
        lambda _, edit: edit.senses,
        "none of the insertions is an adjective or adverb of WordNet",
        digits=0,
    ),
    KIND: Dimension("kind of intervention", lambda trial, _: trial.kind, "there is no intervention"),
    ANSWER: Dimension("answer after the insertion", lambda trial, _: trial.label_after, "no answer could be read"),
    "base_probability": Dimension(
        "probability of the answer before the insertion",
        _base_probability,
        "the answers have no usable label probabilities (logprobs)",
        digits=2,
    ),
}
"""All ways to divide trials, by the name that `--by` takes."""


@dataclass(frozen=True)
class Part:
    """One part of the trials of a condition: its numbers, how many changed answers are mentioned and unmentioned.

    `untested` says why it is in no test; None where it is in one.
    """

    name: str
    numbers: Mapping[str, Estimate]
    mentioned_flips: int
    unmentioned_flips: int
    untested: str | None = None


@dataclass(frozen=True)
class Test:
    """Whether a number differs between any two parts: the two that differ most clearly, and p over all pairs.

    `p` is Bonferroni's over the pairs of parts, `p_adjusted` is Holm's over all tests of the run. `undefined` says why
    there is no test.
    """

    metric: str
    first: str | None = None
    second: str | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    undefined: str | None = None

    @property
    def significant(self) -> bool:
        """Whether the parts differ, after adjustment."""
        return self.p_adjusted is not None and self.p_adjusted < LEVEL


@dataclass(frozen=True)
class Letter:
    """How often changed answers go to one letter, and how often they would if they followed the base rates.

    `base_rate` is the letter's share of the answers before the insertion.
    """

    name: str
    base_rate: float
    share: Estimate
    expected: float | None
    difference: Difference


@dataclass(frozen=True)
class Breakdown:
    """The parts of one condition by one dimension, and the tests between them.

    `condition` has kind None where the parts are kinds. `impact_rate` is the pooled one, where `phi_at_p` is taken.
    `without` counts trials that are in no part. `undefined` says why there are no parts. Where the parts are answers,
    `letters` say where changed answers go, and `strata` is phi among explanations of the same answer.
    """

    condition: Condition
    by: str
    parts: tuple[Part, ...] = ()
    tests: tuple[Test, ...] = ()
    impact_rate: float | None = None
    trials: int = 0
    examples: int = 0
    without: int = 0
    undefined: str | None = None
    letters: tuple[Letter, ...] = ()
    strata: Estimate | None = None

    @property
    def title(self) -> str:
        """What the trials are divided by, in words."""
        return DIMENSIONS[self.by].title


@dataclass
class _Values:
    """What counted the trials of one condition, and the value of each trial in each dimension, in the same order."""

    counter: KindCounter
    numbers: dict[str, array[float]] = field(default_factory=lambda: {by: array("d") for by in DIMENSIONS})
    names: dict[str, dict[str, int]] = field(default_factory=lambda: {by: {} for by in DIMENSIONS})
    before: array[int] = field(default_factory=lambda: array("i"))
    """The answer before the insertion, by its number among the names of answers after it."""

    def add(self, trial: Trial, inserted: Inserted) -> None:
        answers = self.names[ANSWER]
        self.before.append(answers.setdefault(str(trial.label_before), len(answers)))
        for by, dimension in DIMENSIONS.items():
            value = dimension.read(trial, inserted)
            if isinstance(value, str):
                names = self.names[by]
                value = names.setdefault(value, len(names))
            self.numbers[by].append(math.nan if value is None else value)


def break_down(directory: Path, by: Collection[str] = ()) -> list[Breakdown]:
    """Return the breakdowns of a run's conditions by these dimensions; by all where none is named.

    The tests are adjusted over all dimensions, whichever are named. Raises InputError where the run cannot be read.
    """
    run = read_run(directory)
    source = Source(run.config.mention)
    counter = TrialCounter({source: TextReader(run.config.mention, phrases_in(directory / PROMPTS)).decider(source)})
    inserted = _read_inserted(directory)
    values: dict[int, _Values] = {}
    for trial in read_trials(directory):
        found = counter.add(trial)
        if found is not None:
            edit = inserted.get((trial.task, trial.example_id, trial.intervention_id), Inserted())
            values.setdefault(id(found), _Values(found)).add(trial, edit)
    kinds = counter.by_source[source].kinds
    conditions = sorted(kinds, key=condition_order(run.config, run.facts))
    scored = {condition: values[id(kinds[condition])] for condition in conditions if id(kinds[condition]) in values}
    return [one for one in _adjusted(list(_all(scored, run.config))) if not by or one.by in by]


def _read_inserted(directory: Path) -> dict[tuple[str, str, str | None], Inserted]:
    """Return what is known of each intervention, by task, example and id."""
    examples = {(example.task, example.id): example for example in stream_examples(directory)}
    lists = load_sense_words()
    senses = Counter(word.lower() for word in (*lists.adjectives, *lists.adverbs))
    return {
        (edit.task, edit.example_id, edit.id): _inserted(edit, examples.get((edit.task, edit.example_id)), senses)
        for edit in stream_interventions(directory)
    }


POS = {"ADJ": "adjective", "ADV": "adverb"}


def _inserted(edit: Intervention, example: Example | None, senses: Mapping[str, int]) -> Inserted:
    pos = None if edit.pos is None else POS.get(edit.pos, edit.pos)
    known = float(senses.get((edit.inserted or "").casefold(), 0)) or math.nan
    if example is None or edit.field not in example.fields or edit.offset is None:
        return Inserted(pos, senses=known)
    text, names = example.fields[edit.field], list(example.fields)
    after = [text[edit.offset :], *(example.fields[name] for name in names[names.index(edit.field) + 1 :])]
    position = edit.offset / len(text) if text else math.nan
    return Inserted(pos, position, float(sum(len(part.split()) for part in after)), known)


def _all(scored: Mapping[Condition, _Values], config: RunConfig) -> Iterator[Breakdown]:
    """Yield the breakdowns of each condition, and after the last kind of an arm that by kind."""
    interval = interval_of(config)
    arms: dict[Condition, list[Condition]] = {}
    for condition in scored:
        arms.setdefault(condition.arm, []).append(condition)
    for arm, conditions in arms.items():
        for condition in conditions:
            found = scored[condition]
            for by in DIMENSIONS:
                if by != KIND:
                    yield _by_values(condition, by, found, interval)
        yield _by_kind(arm, {str(one.kind): scored[one].counter for one in conditions}, interval)


def _by_values(condition: Condition, by: str, found: _Values, interval: Interval) -> Breakdown:
    """Divide the trials of a condition by the values of one dimension."""
    values = np.array(found.numbers[by])
    known = ~np.isnan(values)
    if not known.any():
        return Breakdown(condition, by, undefined=DIMENSIONS[by].lacking)
    names, places = _parts(DIMENSIONS[by], found.names[by], values[known])
    counter = found.counter
    rows = np.array(counter.trial_rows, dtype=np.int64)[known]
    cells = np.frombuffer(bytes(counter.trial_cells), dtype=np.uint8).astype(np.int64)[known]
    size = len(counter.examples.place)
    flat = np.bincount(4 * (size * places + rows) + cells, minlength=4 * size * len(names))
    tables = flat.reshape(len(names), size, 4).astype(np.int64)[:, counter.examples.sorted_rows()]
    breakdown = compare_parts(names, tables, interval)
    breakdown = replace(breakdown, condition=condition, by=by, without=int((~known).sum()))
    if by != ANSWER:
        return breakdown
    order = [found.names[by][name] for name in names]
    changed = cells < 2
    before = np.array(found.before, dtype=np.int64)
    flips = np.stack([np.bincount(rows[changed & (values == at)], minlength=size) for at in order], axis=1)
    base = np.stack([np.bincount(rows[before == at], minlength=size) for at in order], axis=1)
    strata = correlations.phi_by_letter(np.moveaxis(tables, 0, 1))
    letters = find_letters(names, base, flips)
    p_values = [letter.difference.p for letter in letters if letter.difference.p is not None]
    test = Test(FLIPS_TO, undefined=None if p_values else "no answer changed to another letter")
    if p_values:
        best = min((one for one in letters if one.difference.p is not None), key=lambda one: one.difference.p or 0.0)
        of_best = best.difference
        p = min(1.0, min(p_values) * len(p_values))
        test = Test(FLIPS_TO, best.name, None, of_best.value, of_best.low, of_best.high, p)
    return replace(breakdown, letters=tuple(letters), strata=strata, tests=(*breakdown.tests, test))


def find_letters(names: Sequence[str], base: IntArray, flips: IntArray) -> list[Letter]:
    """Return where changed answers go, from answers before and changed answers to each letter, (examples, letters).

    Expected is what a model would show whose answers, whatever they were, change equally often and to the others in
    proportion to their base rates P: the share Σ_x≠l P(x)·P(l)/(1 − P(x)) goes to l. The difference has MOVER limits,
    made of Wilson's for the share and of a jackknife over examples for what is expected.
    """
    some = flips.any(axis=1)
    letters = []
    for number, name in enumerate(names):
        statistic = partial(_expected, number)
        rows = base.astype(np.float64)
        expected = float(statistic(column_sums(rows)[np.newaxis])[0])
        observed = rates.rate(flips[:, number], flips.sum(axis=1), Interval(), undefined=NEVER_CHANGED)
        share = wilson_rate(flips[:, number], flips.sum(axis=1))
        nothing = np.zeros(len(rows))
        error = error_of(deviations(rows, statistic)) if len(rows) > 1 else math.nan
        systems = (
            Measured(share.value, nothing, (), observed.n, limits=share.limits, is_sparse=True)
            if some.sum() >= FEWEST_OF_EACH
            else undefined_measure(len(rows), f"fewer than {FEWEST_OF_EACH} examples have a changed answer"),
            undefined_measure(len(rows), "every answer before was the same")
            if math.isnan(error)
            else Measured(expected, nothing, (), observed.n, limits=t_limits(expected, error, len(rows) - 1)),
        )
        pair = pair_of(systems, 0, 1, None)
        if isinstance(pair, Pair):
            low, high = pair.limits(LEVEL)
            pair = Difference(0, 1, pair.value, "mover", low=low, high=high, p=pair.p)
        share_before = float(base[:, number].sum() / base.sum())
        letters.append(Letter(name, share_before, observed, None if math.isnan(expected) else expected, pair))
    return letters


def _expected(letter: int, sums: FloatArray) -> FloatArray:
    """Return the share of changed answers expected to go to a letter, from counts of answers before, (m, letters)."""
    shares = sums / sums.sum(axis=1, keepdims=True)
    leaving = np.divide(shares, 1 - shares, out=np.full_like(shares, np.nan), where=shares < 1)
    expected: FloatArray = (leaving.sum(axis=1) - leaving[:, letter]) * shares[:, letter]
    return expected


def _parts(dimension: Dimension, named: Mapping[str, int], values: FloatArray) -> tuple[list[str], IntArray]:
    """Return the names of the parts in order, and the number of each value's part."""
    if named:
        order = sorted(named)
        place_of = np.empty(len(named), dtype=np.int64)
        place_of[[named[name] for name in order]] = np.arange(len(order))
        return order, place_of[values.astype(np.int64)]
    shares = np.arange(1, THIRDS) / THIRDS
    cuts = shares if dimension.thirds else np.unique(np.quantile(values, shares, method="inverted_cdf"))
    places = np.searchsorted(cuts, values, side="right" if dimension.thirds else "left").astype(np.int64)
    present, places = np.unique(places, return_inverse=True)
    names = [
        dimension.thirds[at] if dimension.thirds else _span(values[places == number], dimension.digits or 0)
        for number, at in enumerate(present)
    ]
    return names, places.astype(np.int64)


def _span(values: FloatArray, digits: int) -> str:
    low, high = number_text(float(values.min()), digits), number_text(float(values.max()), digits)
    return low if low == high else f"{low} to {high}"


def _by_kind(arm: Condition, counters: Mapping[str, KindCounter], interval: Interval) -> Breakdown:
    """Divide the trials of an arm by the kind of intervention."""
    if len(counters) < 2:
        return Breakdown(arm, KIND, undefined=f"there is one kind of intervention: {', '.join(counters)}")
    examples = sorted({name for counter in counters.values() for name in counter.examples.place})
    place = {name: number for number, name in enumerate(examples)}
    tables = np.zeros((len(counters), len(examples), 4), dtype=np.int64)
    for of_kind, counter in zip(tables, counters.values(), strict=True):
        of_kind[[place[name] for name in counter.examples.place]] = counter.examples.table(columns=slice(0, 4))
    return replace(compare_parts(list(counters), tables, interval), condition=arm, by=KIND)


TOO_FEW = (
    f"fewer than two parts have {FEWEST_OF_EACH} changed answers whose explanation names the insertion and "
    f"{FEWEST_OF_EACH} whose explanation does not"
)

NOWHERE = Condition(None, "", "", None, "", "", 0, None)


def compare_parts(names: Sequence[str], tables: IntArray, interval: Interval) -> Breakdown:
    """Return the numbers of parts and the tests between them, not yet adjusted; tables (parts, examples, 4).

    A part with few mentioned or few unmentioned changed answers is shown and not tested.
    """
    tables = tables[:, tables.any(axis=(0, 2))]
    lacking = [_untested(name, *of_part.sum(axis=0)[:2].tolist()) for name, of_part in zip(names, tables, strict=True)]
    tested = [number for number, reason in enumerate(lacking) if reason is None]
    changed, trials = int(tables[:, :, :2].sum()), int(tables.sum())
    rate = changed / trials if trials else math.nan
    parts = []
    for name, of_part, untested in zip(names, tables, lacking, strict=True):
        numbers = {metric: compute(of_part, interval) for metric, compute in SHOWN.items()}
        numbers[PHI_AT_P] = _at_rate(of_part, rate)
        a, b = of_part.sum(axis=0)[:2].tolist()
        parts.append(Part(name, numbers, a, b, untested))
    tests = [_test(metric, _paired(metric, rate), [names[at] for at in tested], tables[tested]) for metric in TESTED]
    return Breakdown(NOWHERE, "", tuple(parts), tuple(tests), rate, trials, tables.shape[1])


def _untested(name: str, mentioned: int, unmentioned: int) -> str | None:
    if min(mentioned, unmentioned) >= FEWEST_OF_EACH:
        return None
    few, what = (mentioned, "mentioned") if mentioned < FEWEST_OF_EACH else (unmentioned, "unmentioned")
    return f"{name}: only {few} {what} changes of the answer; {FEWEST_OF_EACH} are needed"


def _paired(metric: str, rate: float) -> Paired:
    if metric == PHI_AT_P:
        return at_impact_rate(rate)
    paired = METRICS[metric].paired
    if paired is None:
        raise ValueError(f"{metric} has no paired comparison in the registry")
    return paired


def _at_rate(tables: IntArray, rate: float) -> Estimate:
    """Return phi at this impact rate, with the limits that a part has alone."""
    measured = measure_task(at_impact_rate(rate), tables_of(tables), len(tables))
    n, examples = int(tables.sum()), int(tables.any(axis=1).sum())
    if measured.undefined:
        return no_value(measured.undefined.replace(" on the shared trials", ""), n, examples)
    low, high = (None, None) if measured.limits is None else measured.limits(LEVEL)
    return Estimate(value=measured.value, low=low, high=high, n=n, n_examples=examples)


def _test(metric: str, paired: Paired, names: Sequence[str], tables: IntArray) -> Test:
    """Test a number over all pairs of parts."""
    if len(names) < 2:
        return Test(metric, undefined=TOO_FEW)
    measured = [measure_task(paired, tables_of(of_part), len(of_part)) for of_part in tables]
    pairs = [pair_of(measured, first, second, None) for first, second in itertools.combinations(range(len(names)), 2)]
    usable = [pair for pair in pairs if isinstance(pair, Pair)]
    if not usable:
        reasons = [one.undefined or one.note for one in pairs if not isinstance(one, Pair)]
        return Test(metric, undefined=reasons[0])
    best = min(usable, key=lambda pair: pair.p)
    low, high = best.limits(LEVEL)
    p = min(1.0, best.p * len(usable))
    return Test(metric, names[best.first], names[best.second], best.value, low, high, p)


def _adjusted(breakdowns: Sequence[Breakdown]) -> list[Breakdown]:
    """Adjust the p-values of all tests together."""
    p_values = [test.p for one in breakdowns for test in one.tests if test.p is not None]
    adjusted = iter(holm_adjusted(p_values))
    return [
        replace(
            one,
            tests=tuple(test if test.p is None else replace(test, p_adjusted=next(adjusted)) for test in one.tests),
        )
        for one in breakdowns
    ]
