"""phi-CCT while trials are written: equal to the final number, averaged over conditions, rarely computed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from explaineval.metrics.correlations import phi_cct
from explaineval.metrics.estimates import Interval
from explaineval.records import Trial
from explaineval.scoring.live import FEWEST_SECONDS, REST, LiveCounts, LiveNumbers
from makers.runs import make_missing, make_sham, make_trial


def trials_of(examples: int, seed: int, per_example: int = 6, **changes: Any) -> list[Trial]:
    """Trials of which a third changes the answer, and whose explanation names what changed it more often."""
    draw = random.Random(seed)
    rows = []
    for example in range(examples):
        for number in range(per_example):
            changed = draw.random() < 0.3
            mentioned = draw.random() < (0.6 if changed else 0.2)
            rows.append(make_trial(example, number, changed=changed, mentioned=mentioned) | changes)
    return [Trial.model_validate(row) for row in rows]


def counted(trials: Sequence[Trial]) -> LiveCounts:
    """The counts of these trials."""
    counts = LiveCounts()
    for trial in trials:
        counts.add(trial)
    return counts


def table_of(trials: Sequence[Trial]) -> list[int]:
    """Their 2×2 table, counted here."""
    cells = [(bool(trial.changed), bool(trial.mentioned)) for trial in trials]
    return [cells.count(cell) for cell in ((True, True), (True, False), (False, True), (False, False))]


def phi_of(trials: Sequence[Trial]) -> float:
    """Pearson's correlation of changed and mentioned."""
    changed = [float(bool(trial.changed)) for trial in trials]
    return float(np.corrcoef(changed, [float(bool(trial.mentioned)) for trial in trials])[0, 1])


def test_one_condition_gives_phi_cct_to_the_last_digit() -> None:
    """Value and interval are those of the metric, whatever the order in which the trials came."""
    trials = trials_of(30, seed=1)
    tables = [table_of([trial for trial in trials if trial.example_id == f"e{example}"]) for example in range(30)]
    random.Random(2).shuffle(trials)

    (live,) = counted(trials).phis(Interval())

    expected = phi_cct(tables, Interval())
    assert (live.kind, live.conditions) == ("hand", 1)
    assert (expected.value, expected.low, expected.high) == (live.estimate.value, live.estimate.low, live.estimate.high)
    assert (live.estimate.n, live.estimate.n_examples) == (180, 30)


def test_several_conditions_give_their_mean_and_leave_an_example_out_of_all() -> None:
    """The interval is that of a jackknife over examples, computed here in a loop."""
    levels = {level: trials_of(25, seed, verbosity=level) for level, seed in (("brief", 3), ("normal", 4))}
    values = {level: phi_of(trials) for level, trials in levels.items()}
    left_out = np.array(
        [
            np.mean([phi_of([one for one in trials if one.example_id != f"e{example}"]) for trials in levels.values()])
            for example in range(25)
        ]
    )
    mean = np.mean(list(values.values()))
    error = np.sqrt(24 / 25 * np.sum((left_out - left_out.mean()) ** 2))
    all_trials = [trial for trials in levels.values() for trial in trials]
    carriers = len({trial.example_id for trial in all_trials if trial.changed and trial.mentioned})
    half = student.ppf(0.975, carriers - 1) * error / (1 - mean**2)

    (live,) = counted(all_trials).phis(Interval())

    assert live.conditions == 2
    assert pytest.approx(mean) == live.estimate.value
    assert pytest.approx(np.tanh(np.arctanh(mean) - half)) == live.estimate.low
    assert pytest.approx(np.tanh(np.arctanh(mean) + half)) == live.estimate.high


def test_examples_of_different_tasks_are_different_examples() -> None:
    """Two tasks whose examples have the same ids: twice the examples."""
    trials = trials_of(10, seed=5) + trials_of(10, seed=6, task="other")

    (live,) = counted(trials).phis(Interval())

    assert (live.conditions, live.estimate.n_examples) == (2, 20)


def test_kinds_are_never_pooled_and_the_mean_is_undefined_where_a_condition_is() -> None:
    """Each kind has its own number; no answer changed at one level, so there is no mean over the levels."""
    kept = [make_trial(example, 0, mentioned=example % 2 == 0) | {"verbosity": "brief"} for example in range(10)]
    counts = counted([*trials_of(10, seed=7), *trials_of(10, seed=8, kind="cue_user")])
    for row in kept:
        counts.add(Trial.model_validate(row))

    hand, cue = counts.phis(Interval())

    assert (hand.kind, cue.kind) == ("hand", "cue_user")
    assert (hand.estimate.value, hand.estimate.undefined) == (None, "no answer changed")
    assert pytest.approx(phi_of(trials_of(10, seed=8))) == cue.estimate.value


def test_shams_controls_and_missing_trials_enter_the_outcomes_alone() -> None:
    """They are counted by status and change no phi."""
    trials = trials_of(10, seed=9)
    others = [make_sham(0, changed=True), make_missing(1, 0, "after"), make_trial(2, 0) | {"kind": "cue_user_control"}]
    counts = counted(trials)
    before = counts.phis(Interval())
    for row in others:
        counts.add(Trial.model_validate(row))

    assert before == counts.phis(Interval())
    assert counts.statuses == {"ok": 62, "unparsed": 1}


def test_memory_is_bounded_by_the_examples() -> None:
    """Fifty times the trials of ten examples need the same tables."""
    counts = counted(trials_of(10, seed=10, per_example=300))

    (tables,) = counts.tables.values()
    (cells,) = tables.cells.values()
    assert (len(tables.examples), len(cells), counts.statuses.total()) == (10, 40, 3000)


class Clock:
    """Seconds that only pass when told to; every look takes `step`."""

    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step = 100.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_numbers_are_computed_rarely_and_one_model_at_a_time() -> None:
    """Three models, a look every quarter of a second for a minute: each at most every three seconds, all in turn."""
    clock = Clock()
    numbers = LiveNumbers(Interval(), clock)
    models = [counted(trials_of(10, seed)) for seed in (1, 2, 3)]
    computed = 0
    before = [()] * 3
    for _ in range(240):
        for counts in models:
            counts.add(Trial.model_validate(make_trial(0, 0, changed=True, mentioned=True)))
        now = numbers.update(models)
        changed = sum(one != other for one, other in zip(before, now, strict=True))
        assert changed <= 1
        computed += changed
        before, clock.now = now, clock.now + 0.25

    assert 3 * 60 / FEWEST_SECONDS * 0.8 <= computed <= 3 * 60 / FEWEST_SECONDS + 3


def test_slow_computations_are_rarer() -> None:
    """One that takes a second is followed by none for fifty."""
    clock = Clock(step=1.0)
    numbers = LiveNumbers(Interval(), clock)
    counts = counted(trials_of(10, seed=1))
    first = numbers.update([counts])
    counts.add(Trial.model_validate(make_trial(0, 0, changed=True, mentioned=True)))
    end = clock.now + REST - 3
    while clock.now < end:
        assert first == numbers.update([counts])
    clock.now += 5

    assert first != numbers.update([counts])


def test_nothing_new_is_not_computed_again_and_finish_computes_everything() -> None:
    """Without a new trial the very same objects come back; `finish` waits for no clock."""
    clock = Clock()
    numbers = LiveNumbers(Interval(), clock)
    models = [counted(trials_of(10, seed)) for seed in (1, 2)]
    assert [bool(phis) for phis in numbers.update(models)] == [True, False]

    everything = numbers.finish(models)

    assert all(everything)
    clock.now += 1000
    assert all(one is other for one, other in zip(everything, numbers.update(models), strict=True))
