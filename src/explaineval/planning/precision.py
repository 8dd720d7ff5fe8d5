"""How many examples bring the interval of phi-CCT to a wanted half width: by rates that are expected, or by a pilot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from explaineval.errors import InputError
from explaineval.interventions import counts_for_phi
from explaineval.metrics.estimates import IntArray
from explaineval.metrics.precision import (
    HALF,
    NINE_IN_TEN,
    Expected,
    Population,
    examples_for,
    expect,
    pilot,
    piloted_population,
    piloted_rates_population,
    population,
    rates_of,
)
from explaineval.planning.prepare import Prepared
from explaineval.records import Condition
from explaineval.rundir.directory import read_run, read_trials
from explaineval.scoring.live import LiveCounts

SAME_TRIALS = 0.5
"""A pilot with about so many interventions an example more or fewer than the plan is like it."""


NOT_PILOTED = "the pilot has no scored trial of it"
"""Why there is no number for a task and kind that the plan has and the pilot has not."""


class Rates(NamedTuple):
    """What the width of an interval depends on: impact rate, TPR, FPR, and the correlation of an example's changes."""

    p: float = 0.1
    tpr: float = 0.6
    fpr: float = 0.2
    icc: float = 0.4


@dataclass(frozen=True)
class Precision:
    """The precision of phi-CCT of one task and kind of intervention, of a pilot's condition or as expected.

    `trials` are the planned interventions an example. With `examples` half of such runs have the `half_width`, with
    `examples_nine_in_ten` nine of ten (None where a pilot is too small to tell). `available` ones are planned, with
    which it comes to `available_half_width`; the task has `in_task`. Where `undefined` says why, there is no number.
    """

    condition: Condition | None
    task: str
    kind: str
    half_width: float
    rates: Rates | None
    phi: float | None
    trials: float
    examples: int | None
    examples_nine_in_ten: int | None
    available: int
    in_task: int
    available_half_width: float | None
    undefined: str | None = None
    outcomes: tuple[int, int] | None = None
    """Trials of the pilot whose answer changed, and whose answer did not; None without a pilot."""

    def document(self) -> dict[str, Any]:
        """Return this as in `plan --json`."""
        names = ("endpoint", "model", "order", "style", "shots", "verbosity")
        rates = dict.fromkeys(Rates._fields) if self.rates is None else self.rates._asdict()
        return {
            **{name: None if self.condition is None else getattr(self.condition, name) for name in names},
            "task": self.task,
            "kind": self.kind,
            **rates,
            "phi": self.phi,
            "interventions": self.trials,
            "half_width": self.half_width,
            "examples": self.examples,
            "examples_nine_in_ten": self.examples_nine_in_ten,
            "available": self.available,
            "in_task": self.in_task,
            "available_half_width": self.available_half_width,
            "undefined": self.undefined,
        }


class PlannedKind(NamedTuple):
    """A task's kind of intervention in a plan: examples that have one, and interventions (and samples) of each.

    `in_task` is how many examples the task has without a limit.
    """

    task: str
    kind: str
    examples: int
    trials: float
    in_task: int


def planned_kinds(prepared: Prepared) -> Iterator[PlannedKind]:
    """Yield what phi-CCT is computed of: not the controls of cues, nor what measures noise."""
    for task in prepared.tasks:
        examples, edits = Counter[str](), Counter[str]()
        for example in task.examples:
            kinds = Counter(edit.kind for edit in prepared.chosen.edits.get((task.name, example.id), ()))
            examples.update(kinds.keys())
            edits.update(kinds)
        for name in sorted(examples):
            if counts_for_phi(name):
                trials = edits[name] / examples[name] * prepared.config.samples
                yield PlannedKind(task.name, name, examples[name], trials, max(task.n_available, examples[name]))


def expected_precision(prepared: Prepared, half_width: float, rates: Rates) -> list[Precision]:
    """Return the precision of each task and kind of a plan at these rates. Raises InputError for impossible ones."""
    found = []
    for planned in planned_kinds(prepared):
        try:
            expected = expect(*rates, planned.trials)
        except ValueError as exc:
            raise InputError(f"--expect: {exc}.") from None
        of = population(*rates, planned.trials)
        found.append(_precision(planned, None, half_width, rates, expected, of))
    return found


def piloted_precision(prepared: Prepared, half_width: float, directory: Path) -> list[Precision]:
    """Return the precision of each condition of a pilot's run directory whose task and kind the plan has.

    What the plan has and the pilot has not comes last, without a number.

    Where the plan has another number of interventions an example than the pilot, the pilot's rates decide instead of
    its examples. Raises InputError where the directory holds no run, or one of other tasks or kinds.
    """
    read_run(directory)
    live = LiveCounts()
    for trial in read_trials(directory):
        live.add(trial)
    kinds = {(planned.task, planned.kind): planned for planned in planned_kinds(prepared)}
    found = []
    for kind, tables in live.tables.items():
        for condition in sorted(tables.cells, key=str):
            planned, counts = kinds.get((condition.task, kind)), tables.of(condition)
            if planned is not None and counts is not None:
                found.append(_piloted(planned, condition, half_width, counts[counts.sum(axis=1) > 0]))
    if not found:
        asked = ", ".join(f"{task} with {kind}" for task, kind in kinds)
        raise InputError(f"--pilot {directory}: it has no scored trial of what is planned ({asked}).")
    piloted = {(one.task, one.kind) for one in found}
    lacking = [planned for key, planned in kinds.items() if key not in piloted]
    return found + [_precision(planned, None, half_width, None, None, None, NOT_PILOTED) for planned in lacking]


def _piloted(planned: PlannedKind, condition: Condition, half_width: float, tables: IntArray) -> Precision:
    try:
        expected = pilot(tables)
    except ValueError as exc:
        reason = f"phi-CCT of the pilot is undefined: {exc}"
        return _precision(planned, condition, half_width, None, None, None, reason)
    rates = Rates(*rates_of(tables))
    if abs(float(tables.sum()) / len(tables) - planned.trials) > SAME_TRIALS:
        of, expected = piloted_rates_population(tables, planned.trials), expect(*rates, planned.trials)
    else:
        of = piloted_population(tables)
    outcomes = int(tables[:, :2].sum()), int(tables[:, 2:].sum())
    return replace(_precision(planned, condition, half_width, rates, expected, of), outcomes=outcomes)


def _precision(
    planned: PlannedKind,
    condition: Condition | None,
    half_width: float,
    rates: Rates | None,
    expected: Expected | None,
    of: Population | None,
    undefined: str | None = None,
) -> Precision:
    start = None if expected is None else expected.examples_needed(half_width)
    if expected is not None and start is None:
        undefined = "no number of examples suffices: |phi| is 1, or no change or every change would be mentioned"
    needed, most = None, None
    if of is not None and start is not None:
        needed = examples_for(of, half_width, HALF, start)
        most = None if needed is None else examples_for(of, half_width, NINE_IN_TEN, needed)
        if needed is None:
            undefined = "the pilot is too small to tell"
    return Precision(
        condition=condition,
        task=planned.task,
        kind=planned.kind,
        half_width=half_width,
        rates=rates,
        phi=None if expected is None else expected.phi,
        trials=planned.trials,
        examples=needed,
        examples_nine_in_ten=most,
        available=planned.examples,
        in_task=planned.in_task,
        available_half_width=None if expected is None else expected.half_width(planned.examples),
        undefined=undefined,
    )
