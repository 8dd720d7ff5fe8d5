"""Means over tasks: per-task numbers averaged, never trials pooled; undefined where one of them is.

The interval is the one of a mean of independent estimates, each with its own, perhaps lopsided, interval: the distances
to the limits are added in squares and divided by the number of tasks (Zou and Donner 2008, "MOVER"). With symmetric
intervals that is SE = √(ΣSE²)/T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from explaineval.records import Condition, MetricRow

MEAN = "mean"
"""The name of the task in a row that stands for all tasks."""

AVERAGED = frozenset(
    {
        "phi_cct",
        "phi_within",
        "phi_stable",
        "cct",
        "cct_sampled",
        "mean_tvd",
        "ct_unfaithfulness",
        "tpr",
        "fpr",
        "youden_j",
    }
    | {
        "impact_rate",
        "mention_rate",
        "mention_floor",
        "accuracy",
        "sham_flip_rate",
        "excluded_rate",
        "explanation_words",
    }
    | {"f_auroc", "f_auroc_own", "flip_to_cue_rate", "null_edit_flip_rate"}
)


def means(rows: Sequence[MetricRow], tasks: Sequence[str]) -> Iterator[MetricRow]:
    """A row for each number that every one of the tasks (two at least) has, in the order of the first task's rows."""
    if len(tasks) < 2:
        return
    found: dict[tuple[Condition, str], dict[str, MetricRow]] = {}
    for row in rows:
        if row.metric in AVERAGED and row.task in tasks:
            found.setdefault((row.condition._replace(task=MEAN), row.metric), {})[row.task] = row
    for (condition, metric), by_task in found.items():
        if len(by_task) == len(tasks):
            yield _mean(condition, metric, [by_task[task] for task in tasks])


def _mean(condition: Condition, metric: str, rows: Sequence[MetricRow]) -> MetricRow:
    count = len(rows)
    missing: dict[str, list[str]] = {}
    for row in rows:
        if row.value is None:
            missing.setdefault(str(row.undefined), []).append(row.task)
    values = [row.value for row in rows if row.value is not None]
    value = None if missing else math.fsum(values) / count
    low = high = None
    if value is not None and all(row.low is not None and row.high is not None for row in rows):
        below = math.fsum((row.value - row.low) ** 2 for row in rows if row.value is not None and row.low is not None)
        above = math.fsum((row.high - row.value) ** 2 for row in rows if row.value is not None and row.high is not None)
        low, high = value - math.sqrt(below) / count, value + math.sqrt(above) / count
    return MetricRow(
        **condition._asdict(),
        metric=metric,
        value=value,
        low=low,
        high=high,
        n=sum(row.n for row in rows),
        n_examples=sum(row.n_examples for row in rows),
        undefined="; ".join(f"{', '.join(tasks)}: {reason}" for reason, tasks in missing.items()) or None,
        signature=_signature([row.signature for row in rows]),
    )


def _signature(signatures: Sequence[str]) -> str:
    """One signature for all: what they share once, what differs side by side."""
    parts = [[part.partition(":") for part in one.split("|")] for one in signatures]
    names = list(dict.fromkeys(name for one in parts for name, _, _ in one))
    found = []
    for name in names:
        values = list(dict.fromkeys(value for one in parts for own, _, value in one if own == name))
        found.append(f"{name}:{'+'.join(values)}")
    return "|".join(found)
