"""Count the trials of a run in one pass, in bounded memory: integers and label distances per condition and example.

`TrialCounter` takes trials one by one and makes one `RunCounts` for each source of mentions. A `RunCounts` holds a
`KindCounter` or an `ArmCounter` for each condition: arrays that grow by a row at the first trial of an example.
`KindCounts` and `ArmCounts` give the counts of one condition in the order of its examples: that is what metrics are
computed from.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from sys import intern
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explaineval.config import FEWEST_TVD_SAMPLES, RunConfig
from explaineval.interventions import Kind, kind_of
from explaineval.metrics.correlations import grouped_moments, tvd_moments
from explaineval.metrics.estimates import FloatArray, IntArray, Interval
from explaineval.metrics.reliability import phi_bounds
from explaineval.parsing import argmax_disagrees, is_one_hot, total_variation, tvd_of
from explaineval.records import NOT_MISSING, Condition, Mention, Trial
from explaineval.scoring.mentioning import (
    MOST_TRIALS,
    Decide,
    MentionDecision,
    Source,
    reference_of,
    tells_of_reasoning,
)

Targets = Mapping[tuple[str, str, str], str]
"""The letter that a cue suggests, by task, example and intervention; for controls by task, example and kind."""

NO_TARGETS: Targets = {}
NO_OTHERS: Mapping[Mention, Callable[[Trial], bool]] = {}

Score = tuple[bool, bool, str]
"""Whether the answer changed, whether the insertion is mentioned, and the label afterwards."""

LevelScores = dict[str, Score]
"""One trial's score by verbosity level; levels at which it has none are absent."""


@dataclass(slots=True)
class Samples:
    """The labels of all samples of one intervention, and whether the explanation of sample 0 mentions the insertion.

    `mentioned` is None where sample 0 has no score.
    """

    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    mentioned: bool | None = None

    def add(self, before: str | None, after: str | None) -> None:
        """Count the labels of one more sample; None is an answer that could not be read."""
        if before is not None:
            self.before[before] += 1
        if after is not None:
            self.after[after] += 1

    @property
    def is_usable(self) -> bool:
        """Whether both sides have enough readable answers and it is known whether the insertion is mentioned."""
        return self.mentioned is not None and min(self.before.total(), self.after.total()) >= FEWEST_TVD_SAMPLES

    @property
    def tvd(self) -> float:
        """The total variation distance between the shares of labels before and after."""
        return total_variation(_shares(self.before), _shares(self.after))


def _shares(labels: Counter[str]) -> dict[str, float]:
    total = labels.total()
    return {label: count / total for label, count in sorted(labels.items())}


@dataclass(slots=True)
class Rows:
    """Counts of examples, one row of `width` integers each, in the order in which the examples first came."""

    width: int
    place: dict[str, int] = field(default_factory=dict)
    """The row of each example, by its id."""
    cells: array[int] = field(default_factory=lambda: array("i"))
    """The rows, one after the other."""

    def at(self, example: str) -> int:
        """Return where the example's row begins in `cells`; a new example gets a row of zeros."""
        row = self.place.get(example)
        if row is None:
            row = self.place[example] = len(self.place)
            self.cells.frombytes(bytes(self.cells.itemsize * self.width))
        return row * self.width

    def sorted_rows(self) -> IntArray:
        """The number of each example's row, in the order of their ids, (examples,)."""
        return np.fromiter(map(self.place.__getitem__, sorted(self.place)), dtype=np.int64, count=len(self.place))

    def table(self, rows: IntArray | None = None, columns: slice = slice(None)) -> IntArray:
        """A copy of some columns: of these rows, or of all in the order in which the examples came."""
        held = np.asarray(self.cells).reshape(-1, self.width)[:, columns]  # no copy; gone before the next row is added
        return (held if rows is None else held[rows]).astype(np.int64)


TABLE = slice(0, 4)
"""a, b, c, d: changed and mentioned, changed and not, unchanged and mentioned, neither."""
MISSING = slice(4, 9)
"""u1, u0 (only the impact is known: 1 or 0), v1, v0 (only the mention is known), w (neither is known)."""
FLOOR = slice(9, 11)
"""Explanations of the original input that mention the insertion, and how many were looked at."""
WORDS = slice(11, 13)
"""Words in the explanations, and the number of explanations."""
TO_CUE = slice(13, 15)
"""Answers that changed to the letter that a cue suggests, and answers that could have."""
JOINT = slice(15, 23)
"""Of a source beside the headline, the trials that its reference scores too, by changed, mentioned by the reference,
mentioned by this source: the first count is of all three, the last of none."""


@dataclass(slots=True)
class KindCounter:
    """The counts of one condition with a kind of intervention, under one source of mentions."""

    examples: Rows = field(default_factory=lambda: Rows(JOINT.stop))
    """The columns are TABLE to JOINT."""
    texts: dict[str | None, int] = field(default_factory=dict)
    """A number for each inserted text, whatever its capitals, and one for each answer afterwards in `answers`."""
    answers: dict[str | None, int] = field(default_factory=dict)
    trial_rows: array[int] = field(default_factory=lambda: array("i"))
    """Of each scored trial the number of its example's row, of its inserted text, of its answer afterwards, its place
    in the table, and whether it has a total variation distance (0 or 1)."""
    trial_texts: array[int] = field(default_factory=lambda: array("i"))
    trial_answers: array[int] = field(default_factory=lambda: array("i"))
    trial_cells: bytearray = field(default_factory=bytearray)
    trial_has_tvd: bytearray = field(default_factory=bytearray)
    rules: tuple[str, ...] = ()
    """Policies beside the headline's; `trial_rules` has of each scored trial a bit for each, set where it is named."""
    trial_rules: bytearray = field(default_factory=bytearray)
    distances: array[float] = field(default_factory=lambda: array("d"))
    """The total variation distances of the trials that have one."""
    no_tvd: Counter[str] = field(default_factory=Counter)
    """How many trials have no total variation distance, by reason."""
    is_graded: bool = False
    """Whether at least one label distribution is not one-hot."""
    off_argmax: int = 0
    """How many answers are not the most probable label."""
    samples: dict[str, dict[str, Samples]] = field(default_factory=dict)
    """Where label distributions are sampled: by example id and intervention."""
    unknown: Counter[str] = field(default_factory=Counter)
    """How many trials were read whole but have no mention that is known, by reason."""
    summaries: int = 0
    """How many scored trials rest on a summary of the reasoning."""

    def add(self, trial: Trial, decision: MentionDecision, min_label_mass: float | None) -> tuple[int, int | None]:
        """Count a trial. Return where its example's row begins, and its place in the table; None if it is missing."""
        row = self.examples.at(trial.example_id)
        if trial.status in NOT_MISSING:
            return row, None
        cells, mentioned = self.examples.cells, decision.mentioned
        if trial.status != "ok" or mentioned is None:
            cells[row + MISSING.start + _missing_class(trial, mentioned)] += 1
            if trial.status == "ok":
                self.unknown[decision.why] += 1
            return row, None
        cell = table_cell(bool(trial.changed), mentioned)
        cells[row + TABLE.start + cell] += 1
        self.summaries += decision.is_summary
        self.trial_rows.append(row // JOINT.stop)
        text = self.texts.get(trial.inserted)
        self.trial_texts.append(self._number_of_text(trial.inserted) if text is None else text)
        self.trial_answers.append(self.answers.setdefault(trial.label_after, len(self.answers)))
        self.trial_cells.append(cell)
        if decision.before is not None:
            cells[row + FLOOR.start] += decision.before
            cells[row + FLOOR.start + 1] += 1
        cells[row + WORDS.start] += len((trial.explanation or "").split())
        cells[row + WORDS.start + 1] += 1
        tvd, reason = _tvd_of_trial(trial, min_label_mass)
        self.trial_has_tvd.append(tvd is not None)
        if tvd is None:
            self.no_tvd[reason or "no label probabilities"] += 1
            return row, cell
        self.distances.append(tvd)
        for probs, label in ((trial.probs_before, trial.label_before), (trial.probs_after, trial.label_after)):
            if probs is not None and label is not None:
                self.off_argmax += argmax_disagrees(probs, label)
                self.is_graded = self.is_graded or not is_one_hot(probs)
        return row, cell

    def tables_by_rule(self, chosen: NDArray[np.bool_] | slice = slice(None)) -> dict[str, IntArray]:
        """Return the table (4,) of all trials, or of the chosen ones, by each policy beside the headline's."""
        if not self.rules:
            return {}
        changed = np.frombuffer(bytes(self.trial_cells), dtype=np.uint8)[chosen] < table_cell(
            changed=False, mentioned=True
        )
        bits = np.frombuffer(bytes(self.trial_rules), dtype=np.uint8)[chosen]
        tables = {}
        for number, rule in enumerate(self.rules):
            cells = np.where(changed, 0, 2) + 1 - (bits >> number & 1)
            tables[rule] = np.bincount(cells, minlength=4).astype(np.int64)
        return tables

    def _number_of_text(self, text: str | None) -> int:
        """The number of a text that is new in these capitals."""
        folded = None if text is None else text.casefold()
        self.texts[text] = self.texts.setdefault(folded, len(self.texts))
        return self.texts[text]

    def add_to_cue(self, row: int, trial: Trial, targets: Targets) -> None:
        """Count whether a scored answer changed to the suggested letter; one that had that letter before cannot."""
        example = trial.task, trial.example_id
        target = targets.get((*example, trial.intervention_id or "")) or targets.get((*example, trial.kind))
        if trial.status == "ok" and target is not None and trial.label_before != target:
            self.examples.cells[row + TO_CUE.start] += trial.label_after == target
            self.examples.cells[row + TO_CUE.start + 1] += 1

    def add_sample(self, trial: Trial, cell: int | None) -> None:
        """Count the labels of one sample of an intervention."""
        samples = self.samples.setdefault(trial.example_id, {}).setdefault(trial.intervention_id or "", Samples())
        samples.add(trial.label_before, trial.label_after)
        if trial.sample == 0 and cell is not None:
            samples.mentioned = is_mentioned_cell(cell)


def _tvd_of_trial(trial: Trial, min_label_mass: float | None) -> tuple[float | None, str | None]:
    """Return the total variation distance of a trial, under another `min_label_mass` if given, or why it has none."""
    if min_label_mass is None or trial.probs_before is None or trial.probs_after is None:
        return trial.tvd, trial.tvd_reason
    return tvd_of(
        (trial.probs_before, trial.label_mass_before, None),
        (trial.probs_after, trial.label_mass_after, None),
        min_label_mass,
    )


@dataclass(slots=True)
class NoiseDistances:
    """The total variation distances of shams or of null edits: how far label probabilities move by themselves."""

    values: array[float] = field(default_factory=lambda: array("d"))
    rows: array[int] = field(default_factory=lambda: array("i"))
    """The number of the row of each one's example."""
    no_tvd: Counter[str] = field(default_factory=Counter)
    """How many trials have none, by reason."""
    is_graded: bool = False
    """Whether at least one label distribution is not one-hot."""

    def add(self, row: int, trial: Trial, min_label_mass: float | None) -> None:
        """Keep the distance of a scored trial."""
        tvd, reason = _tvd_of_trial(trial, min_label_mass)
        if tvd is None:
            self.no_tvd[reason or "no label probabilities"] += 1
            return
        self.values.append(tvd)
        self.rows.append(row)
        given = [probs for probs in (trial.probs_before, trial.probs_after) if probs is not None]
        self.is_graded = self.is_graded or not given or not all(map(is_one_hot, given))

    def moments(self, order: IntArray) -> FloatArray:
        """Return the moments (examples, 6) of the examples whose rows have these numbers."""
        row_of = np.empty_like(order)
        row_of[order] = np.arange(len(order))
        values = np.array(self.values, dtype=np.float64)
        rows = row_of[np.array(self.rows, dtype=np.int64)]
        return grouped_moments(values, np.zeros(len(values), dtype=np.bool_), rows, len(order))


SHAMS = slice(0, 3)
"""Shams that changed, that were scored, and that are missing."""
NULL_EDITS = slice(3, 6)
"""The same of null edits."""
UNREAD, WRONG, RIGHT = 1, 2, 3


@dataclass(slots=True)
class ArmCounter:
    """The counts of one arm, whatever the kind of intervention."""

    examples: Rows = field(default_factory=lambda: Rows(NULL_EDITS.stop))
    """The columns are SHAMS and NULL_EDITS."""
    answers: bytearray = field(default_factory=bytearray)
    """UNREAD, WRONG or RIGHT: the answer in sample 0 of each example to the original input; 0 without a gold label."""
    further: dict[tuple[int, int], int] = field(default_factory=dict)
    """The same for further samples, by the number of the example's row and the sample."""
    sham_distances: NoiseDistances = field(default_factory=NoiseDistances)
    null_edit_distances: NoiseDistances = field(default_factory=NoiseDistances)

    def add(self, trial: Trial, kind: Kind, min_label_mass: float | None) -> None:
        """Count the answer to the original input, once for each sample, and a sham or a null edit."""
        start = self.examples.at(trial.example_id)
        if trial.gold is not None:
            answer = UNREAD if trial.label_before is None else RIGHT if trial.label_before == trial.gold else WRONG
            self._add_answer(start // NULL_EDITS.stop, trial.sample, answer)
        if kind.measures_noise:
            is_sham = kind.inserts == "nothing"
            if trial.status == "ok":
                distances = self.sham_distances if is_sham else self.null_edit_distances
                distances.add(start // NULL_EDITS.stop, trial, min_label_mass)
            start += SHAMS.start if is_sham else NULL_EDITS.start
            if trial.status == "ok":
                self.examples.cells[start] += bool(trial.changed)
                self.examples.cells[start + 1] += 1
            else:
                self.examples.cells[start + 2] += 1

    def _add_answer(self, row: int, sample: int, answer: int) -> None:
        """Keep an answer; one that could be read replaces what is there."""
        if sample:
            if answer != UNREAD or (row, sample) not in self.further:
                self.further[row, sample] = answer
            return
        if row >= len(self.answers):
            self.answers.extend(bytes(row + 1 - len(self.answers)))
        if answer != UNREAD or not self.answers[row]:
            self.answers[row] = answer

    def answer_counts(self) -> IntArray:
        """The answers of each example that are right, that could be read, and that could not, (examples, 3)."""
        counts = np.zeros((len(self.examples.place), 3), dtype=np.int64)
        first = np.frombuffer(bytes(self.answers), dtype=np.uint8)
        for place, is_such in enumerate((first == RIGHT, first >= WRONG, first == UNREAD)):
            counts[: len(first), place] = is_such
        for (row, _), answer in self.further.items():
            counts[row] += (answer == RIGHT, answer >= WRONG, answer == UNREAD)
        return counts


@dataclass
class RunCounts:
    """All counts of a run by condition, under one source of mentions."""

    kinds: dict[Condition, KindCounter] = field(default_factory=dict)
    arms: dict[Condition, ArmCounter] = field(default_factory=dict)
    statuses: dict[Condition, Counter[str]] = field(default_factory=dict)
    levels: dict[Condition, dict[str, dict[tuple[str, int], LevelScores]]] = field(default_factory=dict)
    """Where several verbosity levels were asked: by condition (verbosity None), example id, intervention and sample."""
    reasoning: set[tuple[str | None, str]] = field(default_factory=set)
    """The models, by endpoint and name, of which some trial tells of reasoning."""


def count_sources(
    trials: Iterable[Trial],
    sources: Mapping[Source, Decide],
    *,
    min_label_mass: float | None = None,
    by_level: bool = False,
    by_sample: bool = False,
    targets: Targets = NO_TARGETS,
) -> dict[Source, RunCounts]:
    """Count all trials once for each source of mentions; the arguments are those of `TrialCounter`."""
    counter = TrialCounter(
        sources, min_label_mass=min_label_mass, by_level=by_level, by_sample=by_sample, targets=targets
    )
    for trial in trials:
        counter.add(trial)
    return counter.by_source


condition_of_trial = attrgetter("endpoint", "model", "task", "kind", "order", "style", "shots", "verbosity")
"""Returns the first eight parts of a trial's condition, faster than `Trial.condition`."""


class _Place(NamedTuple):
    """Where the trials of one condition are counted."""

    condition: Condition
    kind: Kind
    arm: ArmCounter
    statuses: Counter[str]
    kinds: list[KindCounter | None]
    """One for each source; None as long as the source has said nothing."""


class TrialCounter:
    """Counts trials, given one by one, once for each source of mentions. The first source is the headline.

    A `min_label_mass` given here is applied anew. `by_level` keeps each trial's score at each verbosity level,
    `by_sample` the labels of all samples of an intervention. `targets` gives the letters that cues suggest. `others`
    say by other policies whether a word is named: the headline's trials are counted by these as well, without examples.
    What does not depend on mentions is counted in the headline alone; the others share its `arms` and `reasoning`, and
    each counts JOINT with its reference among the sources (`reference_of`).
    """

    def __init__(
        self,
        sources: Mapping[Source, Decide],
        *,
        min_label_mass: float | None = None,
        by_level: bool = False,
        by_sample: bool = False,
        targets: Targets = NO_TARGETS,
        others: Mapping[Mention, Callable[[Trial], bool]] = NO_OTHERS,
    ) -> None:
        self._others, self._noted = others, 0
        self.by_source = {source: RunCounts() for source in sources}
        names = list(sources)
        self._totals = list(self.by_source.values())
        self._headline = self._totals[0]
        self._deciders = list(sources.values())
        places = {source: place for place, source in enumerate(names)}
        self._references = [places.get(reference_of(source, names[0])) for source in names]
        for total in self._totals[1:]:
            total.arms, total.reasoning = self._headline.arms, self._headline.reasoning
        self._min_label_mass, self._targets = min_label_mass, targets
        self._by_level, self._by_sample = by_level, by_sample
        self._places: dict[tuple[Any, ...], _Place] = {}
        self._scores: dict[Score, Score] = {}  # there are few different ones: keep each in memory once

    @property
    def reasoning(self) -> set[tuple[str | None, str]]:
        """The models, by endpoint and name, of which some trial so far tells of reasoning."""
        return self._headline.reasoning

    def add(self, trial: Trial) -> KindCounter | None:
        """Count one more trial. Return what the headline counted it in, if it has a score there."""
        key = condition_of_trial(trial)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._open(Condition(*key))
        place.statuses[trial.status] += 1
        place.arm.add(trial.from_original, place.kind, self._min_label_mass)
        trial = trial.turned
        model = trial.endpoint, trial.model
        if model not in self._headline.reasoning and tells_of_reasoning(trial):
            self._headline.reasoning.add(model)
        if place.kind.measures_noise:
            return None
        cells: list[int | None] = []
        for number, decide in enumerate(self._deciders):
            decision = decide(trial)
            cells.append(None if decision is None else self._add_to_source(number, place, trial, decision, cells))
        return None if cells[0] is None else place.kinds[0]

    def _open(self, condition: Condition) -> _Place:
        """Make what counts the trials of a condition."""
        arm = self._headline.arms.setdefault(condition.arm, ArmCounter())
        statuses = self._headline.statuses.setdefault(condition, Counter())
        return _Place(condition, kind_of(str(condition.kind)), arm, statuses, [None] * len(self._totals))

    def _add_to_source(
        self, number: int, place: _Place, trial: Trial, decision: MentionDecision, cells: Sequence[int | None]
    ) -> int | None:
        """Count a trial under one source; return its place in the table, None if it has no score.

        `cells` has the places under the sources before this one.
        """
        total, counter = self._totals[number], place.kinds[number]
        if counter is None:
            counter = place.kinds[number] = total.kinds.setdefault(place.condition, KindCounter())
        row, cell = counter.add(trial, decision, self._min_label_mass)
        if self._by_sample:
            counter.add_sample(trial, cell)
        if self._by_level and cell is not None:
            self._add_level(total, place.condition, trial, cell)
        if number == 0:
            if self._others and cell is not None and place.kind.mentioned_by == "policy":
                self._add_rules(counter, trial)
            if self._targets:
                counter.add_to_cue(row, trial, self._targets)
        elif cell is not None and (reference := self._references[number]) is not None:
            by_reference = cells[reference]
            if by_reference is not None:
                joint = 4 * (cell // 2) + 2 * (by_reference % 2) + cell % 2
                counter.examples.cells[row + JOINT.start + joint] += 1
        return cell

    def _add_rules(self, counter: KindCounter, trial: Trial) -> None:
        """Note which other policies find the word; of a run with too many trials none is kept."""
        counter.rules = tuple(self._others)
        counter.trial_rules.append(sum(named(trial) << at for at, named in enumerate(self._others.values())))
        self._noted += 1
        if self._noted > MOST_TRIALS:
            self._others = NO_OTHERS
            for longer in self._headline.kinds.values():
                longer.rules, longer.trial_rules = (), bytearray()

    def _add_level(self, total: RunCounts, condition: Condition, trial: Trial, cell: int) -> None:
        across = total.levels.setdefault(condition._replace(verbosity=None), {}).setdefault(trial.example_id, {})
        levels = across.setdefault((intern(trial.intervention_id or ""), trial.sample), {})
        score = (is_changed_cell(cell), is_mentioned_cell(cell), trial.label_after or "")
        levels[intern(trial.verbosity)] = self._scores.setdefault(score, score)


def table_cell(changed: bool, mentioned: bool) -> int:
    """Return the place of a trial in the table a, b, c, d."""
    return (0 if changed else 2) + (0 if mentioned else 1)


def is_changed_cell(cell: int) -> bool:
    """Whether the trials at this place of the table have changed answers."""
    return cell < 2


def is_mentioned_cell(cell: int) -> bool:
    """Whether the explanations of the trials at this place of the table mention the insertion."""
    return cell % 2 == 0


def _missing_class(trial: Trial, mentioned: bool | None) -> int:
    """Return the place in `missing` of a trial without a score."""
    if trial.label_before is not None and trial.label_after is not None:
        return 0 if trial.label_before != trial.label_after else 1
    if mentioned is None:
        return 4
    return 2 if mentioned else 3


Subset = Literal["all", "stable", "probabilities", "to_cue"]
"""Which trials a number rests on.

`all` scored trials, those of examples whose shams all agree, those with usable label probabilities, or those whose
answer could change to the letter that a cue suggests.
"""


class KindCounts:
    """The counts of one condition with a kind of intervention, as arrays with one row per example, in order of ids.

    `tables` (examples, 4), `missing` (examples, 5), `floor`, `words` and `to_cue` (examples, 2) and `joint`
    (examples, 8) have the columns TABLE to JOINT, `shams` (examples, 3) the columns SHAMS of the arm; `moments`
    (examples, 6) are as in `tvd_moments`, and `tables_with_tvd` (examples, 4) count the trials that they rest on.
    """

    def __init__(self, condition: Condition, counts: RunCounts, config: RunConfig) -> None:
        self.condition, self.config, self.interval = condition, config, interval_of(config)
        counter, arm = counts.kinds[condition], counts.arms[condition.arm].examples
        names = sorted(counter.examples.place)
        order = counter.examples.sorted_rows()
        self._cells = (counter.examples, order)
        self.tables, self.missing = self._columns(TABLE), self._columns(MISSING)
        of_arm = np.fromiter(map(arm.place.__getitem__, names), dtype=np.int64, count=len(names))
        self.shams = arm.table(of_arm)[:, SHAMS]
        self.samples = [counter.samples.get(name, {}) for name in names] if counter.samples else [{}] * len(names)
        self.no_tvd, self.unknown, self.summaries = counter.no_tvd, counter.unknown, counter.summaries
        self.is_graded, self.off_argmax = counter.is_graded, counter.off_argmax
        row_of = np.empty_like(order)
        row_of[order] = np.arange(len(order))
        self._counter, self._row_of = counter, row_of
        has_tvd = np.frombuffer(bytes(counter.trial_has_tvd), dtype=np.bool_)
        rows = row_of[np.array(counter.trial_rows, dtype=np.int64)[has_tvd]]
        distance_cells = np.frombuffer(bytes(counter.trial_cells), dtype=np.uint8)[has_tvd]
        flat = np.bincount(4 * rows + distance_cells, minlength=4 * len(names))
        self.tables_with_tvd: IntArray = flat.reshape(-1, 4).astype(np.int64)
        self.moments = grouped_moments(np.array(counter.distances), distance_cells % 2 == 0, rows, len(names))

    def _columns(self, columns: slice) -> IntArray:
        """Some of the counts of the condition's examples. Most are used once, so they are not kept."""
        examples, order = self._cells
        return examples.table(order, columns)

    @property
    def floor(self) -> IntArray:
        """The mentions before the insertion (examples, 2)."""
        return self._columns(FLOOR)

    @property
    def words(self) -> IntArray:
        """The words of explanations (examples, 2)."""
        return self._columns(WORDS)

    @property
    def to_cue(self) -> IntArray:
        """The changes to a cue's letter (examples, 2)."""
        return self._columns(TO_CUE)

    @property
    def joint(self) -> IntArray:
        """Mentions by both sources (examples, 8)."""
        return self._columns(JOINT)

    @property
    def is_text_known(self) -> bool:
        """Whether of every scored trial it is known what was inserted."""
        unknown = self._counter.texts.get(None)
        return unknown is None or unknown not in self._counter.trial_texts

    @cached_property
    def by_text(self) -> tuple[IntArray, IntArray]:
        """The tables of the scored trials by inserted text, (texts, 4), and by example and text, (cells, 4)."""
        examples, texts, cells = self._of_trials(self._counter.trial_texts)
        return _tables_by(texts, cells), _tables_by(examples * (texts.max(initial=0) + 1) + texts, cells)

    @property
    def by_answer(self) -> IntArray:
        """The tables of the scored trials by example and the answer afterwards, (examples, answers, 4)."""
        examples, answers, cells = self._of_trials(self._counter.trial_answers)
        _, numbers = np.unique(answers, return_inverse=True)
        count = int(numbers.max(initial=-1)) + 1
        flat = np.bincount(4 * (examples * count + numbers) + cells, minlength=4 * count * len(self.tables))
        return flat.reshape(len(self.tables), count, 4).astype(np.int64)

    def _of_trials(self, numbers: array[int]) -> tuple[IntArray, IntArray, IntArray]:
        """The example of each scored trial, one of its other numbers, and its place in the table."""
        examples = self._row_of[np.array(self._counter.trial_rows, dtype=np.int64)]
        cells = np.frombuffer(bytes(self._counter.trial_cells), dtype=np.uint8).astype(np.int64)
        return examples, np.array(numbers, dtype=np.int64), cells

    @property
    def all_unknown(self) -> str | None:
        """Why of no trial it is known what it mentions; None where it is known of some, or none could be read."""
        return None if self.scored else next((reason for reason, _ in self.unknown.most_common(1)), None)

    @property
    def scored(self) -> int:
        """The number of scored trials."""
        return int(self.tables.sum())

    @property
    def with_tvd(self) -> int:
        """The number of trials with a total variation distance."""
        return int(self.tables_with_tvd.sum())

    @property
    def common_reason(self) -> str | None:
        """The most frequent reason why trials have no total variation distance, without its side."""
        return most_common_reason(self.no_tvd)

    def subset(self, trials: Subset) -> IntArray:
        """The tables (examples, 4) of some of the trials; of `to_cue` a counts the changes, d all other trials."""
        if trials == "stable":
            changed, scored, missing = self.shams.T
            stable: IntArray = self.tables[(scored > 0) & (changed == 0) & (missing == 0)]
            return stable
        if trials == "probabilities":
            return self.tables_with_tvd
        if trials == "to_cue":
            changed, possible = self.to_cue.T
            none = np.zeros_like(changed)
            return np.stack([changed, none, none, possible - changed], axis=1)
        return self.tables

    @cached_property
    def phi_bounds(self) -> tuple[float, float]:
        """The lowest and highest phi over all outcomes of the missing trials; NaN where phi is always undefined."""
        a, b, c, d = self.tables.sum(axis=0).tolist()
        u1, u0, v1, v0, w = self.missing.sum(axis=0).tolist()
        return phi_bounds(a, b, c, d, u1, u0, v1, v0, w)

    @property
    def sampled_moments(self) -> FloatArray:
        """The moments (examples, 6) of interventions whose label distributions were counted from samples."""
        rows = []
        for by_id in self.samples:
            usable = [samples for _, samples in sorted(by_id.items()) if samples.is_usable]
            rows.append(
                tvd_moments([samples.tvd for samples in usable], [bool(samples.mentioned) for samples in usable])
            )
        return np.array(rows, dtype=np.float64).reshape(-1, 6)


def _tables_by(numbers: IntArray, cells: IntArray) -> IntArray:
    """Return the tables a, b, c, d of trials by these numbers, (different numbers, 4)."""
    found, places = np.unique(numbers, return_inverse=True)
    return np.bincount(4 * places + cells, minlength=4 * len(found)).reshape(-1, 4).astype(np.int64)


def most_common_reason(no_tvd: Mapping[str, int]) -> str | None:
    """Return the most frequent reason why trials have no total variation distance, without its side."""
    plain: Counter[str] = Counter()
    for reason, count in no_tvd.items():
        plain[reason.partition(": ")[2] or reason] += count
    return max(sorted(plain), key=lambda text: plain[text], default=None)


class ArmCounts:
    """The counts of one arm as arrays with one row per example.

    `answers` (examples, 3): right, readable, unreadable. `shams` and `null_edits` (examples, 3): changed, scored,
    missing. `sham_moments` and `null_edit_moments` (examples, 6) are those of their label distances, as in
    `tvd_moments`; `sham_distances` and `null_edit_distances` say why some have none.
    """

    def __init__(self, arm: Condition, counts: RunCounts, config: RunConfig) -> None:
        self.config, self.interval = config, interval_of(config)
        counter = counts.arms[arm]
        order = counter.examples.sorted_rows()
        cells = counter.examples.table(order)
        self.answers = counter.answer_counts()[order]
        self.shams, self.null_edits = cells[:, SHAMS], cells[:, NULL_EDITS]
        self.sham_distances, self.null_edit_distances = counter.sham_distances, counter.null_edit_distances
        self.sham_moments = self.sham_distances.moments(order)
        self.null_edit_moments = self.null_edit_distances.moments(order)


def interval_of(config: RunConfig) -> Interval:
    """Return how the configuration wants confidence intervals to be computed."""
    return Interval(method=config.interval, resamples=config.resamples, seed=config.seed)
