"""Average the numbers of several tasks. Trials are never pooled, and the mean is undefined where one task's number is.

The interval is that of a mean of independent estimates, each with its own, perhaps asymmetric, interval: the distances
to the limits are added in squares and divided by the number of tasks (Zou and Donner 2008, "MOVER"). With symmetric
intervals that is SE = √(ΣSE²)/T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from explaineval.metrics.differences import LEVEL, cochran_p, t_quantile
from explaineval.records import Condition, MetricRow
from explaineval.scoring.registry import METRICS

MEAN = "mean"
"""The name of the task in a row that stands for all tasks."""


def means(rows: Sequence[MetricRow], tasks: Sequence[str]) -> Iterator[MetricRow]:
    """Yield a row for each number that every one of at least two tasks has, in the order of the first task's rows."""
    if len(tasks) < 2:
        return
    numbers: dict[tuple[Condition, str], dict[str, MetricRow]] = {}
    for row in rows:
        if METRICS[row.metric].averaged and row.task in tasks:
            numbers.setdefault((row.condition._replace(task=MEAN), row.metric), {})[row.task] = row
    for (condition, metric), by_task in numbers.items():
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
        signature=merge_signatures([row.signature for row in rows]),
    )


def tasks_differ(rows: Sequence[MetricRow]) -> str | None:
    """Say that the numbers of the tasks of a mean differ; None where they do not, or where one has no interval.

    They differ where Cochran's Q has p < .05, and in sign where the intervals of two exclude 0 on opposite sides. The
    standard error of each is that of a normal interval of the same width.
    """
    known = [(row.task, row.value, row.low, row.high) for row in rows]
    limits = [
        (task, value, low, high)
        for task, value, low, high in known
        if value is not None and low is not None and high is not None
    ]
    if len(limits) < len(rows):
        return None
    in_sign = any(low > 0 for _, _, low, _ in limits) and any(high < 0 for _, _, _, high in limits)
    errors = [(high - low) / (2 * t_quantile(math.inf, 1 - LEVEL / 2)) for _, _, low, high in limits]
    p = cochran_p([value for _, value, _, _ in limits], errors)
    if not in_sign and (p is None or p >= LEVEL):
        return None
    values = ", ".join(f"{task} {value:+.2f}" for task, value, _, _ in limits)
    return f"tasks differ{' in sign' if in_sign else ''} ({values})"


def merge_signatures(signatures: Sequence[str]) -> str:
    """Return one signature for all: parts that they share once, values that differ side by side."""
    values: dict[str, dict[str, None]] = {}
    for signature in signatures:
        for part in signature.split("|"):
            name, _, value = part.partition(":")
            values.setdefault(name, {})[value] = None
    return "|".join(f"{name}:{'+'.join(different)}" for name, different in values.items())
