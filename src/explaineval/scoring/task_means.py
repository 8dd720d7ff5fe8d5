"""Average the numbers of several tasks. Trials are never pooled, and the mean is undefined where one task's number is.

The interval is that of a mean of independent estimates, each with its own, perhaps asymmetric, interval: the distances
to the limits are added in squares and divided by the number of tasks (Zou and Donner 2008, "MOVER"). With symmetric
intervals that is SE = √(ΣSE²)/T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from explaineval.metrics.differences import LEVEL, cochran_p, t_quantile
from explaineval.records import Condition, MetricRow
from explaineval.scoring.registry import METRICS
from explaineval.text import number_text

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


def task_text(task: str) -> str:
    """Return how sentences call a task, or the mean over tasks.

    >>> task_text("nli"), task_text("mean")
    ('nli', 'the mean over tasks')
    """
    return "the mean over tasks" if task == MEAN else task


class TaskSpread(NamedTuple):
    """How numbers of tasks, of which there is a mean, vary.

    `p` is that of Cochran's Q; None where it cannot be computed. `differ_in_sign` says that the intervals of two tasks
    exclude 0 on opposite sides.
    """

    p: float | None
    differ_in_sign: bool
    values: tuple[float | None, ...]
    """The number of each task."""

    @property
    def differ(self) -> bool:
        """Whether the tasks differ."""
        return self.p is not None and self.p < LEVEL


class OfTask(Protocol):
    """A number of one task with its interval."""

    @property
    def value(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


def spread_of(rows: Sequence[OfTask], known_errors: Sequence[float | None] = ()) -> TaskSpread:
    """Return how the numbers of tasks vary; `known_errors` are their standard errors, where those are known.

    Any other standard error is that of a normal interval of the same width.
    """
    limits = [
        (row.value, row.low, row.high)
        for row in rows
        if row.value is not None and row.low is not None and row.high is not None
    ]
    values = tuple(row.value for row in rows)
    opposite = any(low > 0 for _, low, _ in limits) and any(high < 0 for _, _, high in limits)
    if len(limits) < len(rows):
        return TaskSpread(None, opposite, values)
    widths = [(high - low) / (2 * t_quantile(math.inf, 1 - LEVEL / 2)) for _, low, high in limits]
    known = known_errors or [None] * len(rows)
    errors = [width if error is None else error for width, error in zip(widths, known, strict=True)]
    return TaskSpread(cochran_p([value for value, _, _ in limits], errors), opposite, values)


def tasks_differ(rows: Sequence[MetricRow]) -> str | None:
    """Say that the numbers of the tasks of a mean differ, and how; None where they do not."""
    spread = spread_of(rows)
    if not spread.differ and not spread.differ_in_sign:
        return None
    values = ", ".join(f"{row.task} {number_text(row.value, sign=True)}" for row in rows if row.value is not None)
    return f"tasks differ{' in sign' if spread.differ_in_sign else ''} ({values})"


def merge_signatures(signatures: Sequence[str]) -> str:
    """Return one signature for all: parts that they share once, values that differ side by side."""
    values: dict[str, dict[str, None]] = {}
    for signature in signatures:
        for part in signature.split("|"):
            name, _, value = part.partition(":")
            values.setdefault(name, {})[value] = None
    return "|".join(f"{name}:{'+'.join(different)}" for name, different in values.items())
