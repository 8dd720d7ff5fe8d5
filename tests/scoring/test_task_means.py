"""Means over tasks: per-task numbers averaged, never trials pooled."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import sqrt
from typing import Any

import pytest

from explaineval.records import MetricRow
from explaineval.scoring.task_means import means
from makers.runs import make_sham, make_trial
from makers.scores import LEVELS, rows_of, score_trials, values_of


def row_of(task: str, value: float | None, half: float | None = None, **changes: Any) -> MetricRow:
    """A row of one task with a symmetric interval."""
    bounded = value is not None and half is not None
    values = {
        "endpoint": "lab", "model": "openai/smol", "task": task, "kind": "hand", "order": "pe", "style": "chat",
        "shots": 0, "verbosity": "normal", "metric": "phi_cct", "value": value,
        "low": value - half if bounded else None, "high": value + half if bounded else None, "n": 10, "n_examples": 4,
        "undefined": None if value is not None else "no answer changed", "signature": f"task:{task}@1|mention:word",
    }  # fmt: skip
    return MetricRow.model_validate(values | changes)


@pytest.mark.parametrize("halves", [(0.1, 0.2), (0.3, 0.3, 0.3), (0.05, 0.1, 0.2, 0.4)])
def test_symmetric_intervals_add_in_squares(halves: Sequence[float]) -> None:
    """SE = √(ΣSE²)/T, so the half widths do the same."""
    names = [f"t{index}" for index in range(len(halves))]
    rows = [row_of(name, index / 10, half) for index, (name, half) in enumerate(zip(names, halves, strict=True))]

    (mean,) = means(rows, names)

    half = sqrt(sum(one**2 for one in halves)) / len(halves)
    value = sum(index / 10 for index in range(len(halves))) / len(halves)
    assert (value, value - half, value + half) == pytest.approx((mean.value, mean.low, mean.high))
    assert (mean.task, mean.n, mean.n_examples) == ("mean", 10 * len(halves), 4 * len(halves))


def test_lopsided_intervals_keep_their_sides() -> None:
    """Each side adds up by itself."""
    rows = [row_of("a", 0.1, low=0.0, high=0.5), row_of("b", 0.9, low=0.6, high=1.0)]

    (mean,) = means(rows, ["a", "b"])

    expected = (0.5, 0.5 - sqrt(0.1**2 + 0.3**2) / 2, 0.5 + sqrt(0.4**2 + 0.1**2) / 2)
    assert expected == pytest.approx((mean.value, mean.low, mean.high))


def test_one_undefined_task_leaves_the_mean_undefined() -> None:
    """It says which; tasks with the same reason are named together."""
    rows = [
        row_of("a", 0.1, 0.1),
        row_of("b", None),
        row_of("c", None, undefined="every answer changed"),
        row_of("d", None),
    ]

    (mean,) = means(rows, ["a", "b", "c", "d"])

    assert (mean.value, mean.low, mean.high) == (None, None, None)
    assert mean.undefined == "b, d: no answer changed; c: every answer changed"
    assert mean.n == 40


def test_a_task_without_interval_leaves_none() -> None:
    """The mean has its value; half an interval would be no interval."""
    (mean,) = means([row_of("a", 0.1, 0.1), row_of("b", 0.5)], ["a", "b"])

    assert (pytest.approx(mean.value), mean.low, mean.high) == (0.3, None, None)


def test_what_some_task_lacks_has_no_mean() -> None:
    """Kinds, levels, models and arms are averaged only with themselves; one task alone has no mean."""
    rows = [row_of("a", 0.1), row_of("b", 0.2, kind="other"), row_of("a", 0.3, order="ep"), row_of("b", 0.4, shots=1)]

    assert list(means(rows, ["a", "b"])) == []
    assert list(means([row_of("a", 0.1)], ["a"])) == []


def test_the_signature_names_all_tasks() -> None:
    """What the tasks share stands once."""
    (mean,) = means([row_of("a", 0.1), row_of("b", 0.2)], ["a", "b"])

    assert mean.signature == "task:a@1+b@1|mention:word"


def test_trials_are_never_pooled() -> None:
    """Two tasks of different size and impact: the mean of their numbers, not the number of their trials."""
    draw = random.Random("tasks")
    trials = []
    for task, examples, impact in (("mine", 40, 0.2), ("yours", 15, 0.6)):
        for example in range(examples):
            trials.append(make_sham(example, changed=draw.random() < 0.1) | {"task": task})
            for number in range(4):
                flip = draw.random() < impact
                said = draw.random() < 0.2 + 0.4 * flip
                gold = "A" if draw.random() < impact else "B"
                trials.append(make_trial(example, number, changed=flip, mentioned=said, task=task, after=draw.random(),
                                         gold=gold))  # fmt: skip

    scores = score_trials(trials, tasks=("mine", "yours"))

    averaged = {row.metric for row in scores.rows if row.task == "mean"}
    always = {
        "phi_cct",
        "phi_within",
        "cct",
        "accuracy",
        "sham_flip_rate",
        "tpr",
        "fpr",
        "impact_rate",
        "excluded_rate",
    }
    assert always <= averaged
    assert {"phi_cct_random", "phi_cct_example_only"}.isdisjoint(averaged)
    for name in averaged:
        first, second, mean = values_of(scores, name)
        assert first is not None
        assert second is not None
        assert (first + second) / 2 == pytest.approx(mean)
    kinds = {row.metric: row.kind for row in scores.rows if row.task == "mean"}
    assert (kinds["phi_cct"], kinds["accuracy"], kinds["sham_flip_rate"]) == ("hand", None, "sham")


def test_levels_have_a_mean_of_their_areas() -> None:
    """F-AUROC of each task, averaged."""
    draw = random.Random("areas")
    trials = []
    for task in ("mine", "yours"):
        for example in range(30):
            for number in range(4):
                flip = draw.random() < 0.3
                trials += [
                    make_trial(example, number, changed=flip, mentioned=draw.random() < share + 0.2 * flip, task=task,
                               order="pe2", verbosity=level)
                    for level, share in zip(LEVELS, (0.1, 0.3, 0.6), strict=True)
                ]  # fmt: skip

    scores = score_trials(trials, tasks=("mine", "yours"), arms={"order": ["pe2"], "verbosity": list(LEVELS)})

    first, second, mean = rows_of(scores, "f_auroc")
    assert ((first.value or 0) + (second.value or 0)) / 2 == pytest.approx(mean.value)
    assert (mean.task, mean.verbosity, mean.low is not None) == ("mean", None, True)
    assert [row.task for row in rows_of(scores, "f_auroc_hull")] == ["mine", "yours"]
