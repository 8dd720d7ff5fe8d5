"""All warnings of a run as text for a terminal: each reason once, with the numbers it limits and what to do. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from explaineval.records import MetricRow
from explaineval.reporting.page.limits import Limit, limits_of
from explaineval.reporting.page.places import Names
from explaineval.reporting.summary import Line, wrap
from explaineval.scoring.codes import GRADES
from explaineval.scoring.registry import METRICS
from explaineval.scoring.rows import Scores
from explaineval.text import counted

OF_OTHERS = "thin_tasks"
"""The code of a mean over tasks that rests on numbers with warnings: what settles theirs settles it."""

MOST_METRICS = 6
"""Metrics that are named below a warning; `--json` names each."""


def notes_lines(scores: Scores, run: str, width: int) -> Iterator[Line]:
    """Yield all warnings of a run in lines of at most `width` columns, the gravest grade first.

    Under each grade a reason stands once, with a sentence for each condition that it holds for. Last comes what would
    settle the warnings of the gravest grade. `run` is how the run directory is named in commands.
    """
    grades = limits_of([scores], Names(scores.rows, [run]))
    titles = _titles(scores.rows)
    for grade in grades:
        yield Line(grade.title, "head")
        for limit in grade.limits:
            yield from _limit_lines(limit, titles, width, grave=grade.grade == GRADES[0])
    grave = [limit for grade in grades if grade.grade == GRADES[0] for limit in grade.limits]
    todos = list(
        dict.fromkeys(limit.todo.replace("RUN_DIR", shlex.quote(run)) for limit in grave if limit.code != OF_OTHERS)
    )
    # a plain "Ask more examples." says nothing beside a sentence that begins so and says more
    todos = [todo for todo in todos if not any(todo.rstrip(".") in other and todo != other for other in todos)]
    if todos:
        yield Line("What would settle it", "head")
        for todo in todos:
            yield from wrap(f"  {todo}", width, "    ")


def _limit_lines(limit: Limit, titles: Sequence[str], width: int, *, grave: bool) -> Iterator[Line]:
    where = limit.shared
    if limit.count == 1:  # the only condition is named in the first line, not before each sentence
        where = " · ".join(filter(None, (limit.instances[0].places[0], limit.shared)))
    heading = limit.title + (f", in {counted(limit.count, 'condition')}" if limit.count > 1 else "")
    yield from wrap(
        f"  {heading}: {where}" if where else f"  {heading}", width, "    ", "warning" if grave else "plain"
    )
    for instance in limit.instances:
        names = "; ".join(instance.places) if limit.count > 1 else ""
        yield from wrap(f"    {f'{names}: ' if names else ''}{instance.text}", width, "      ")
    metrics = [title for title in titles if title in limit.metrics]
    metrics += [title for title in limit.metrics if title not in metrics]
    if set(titles) - set(metrics):
        more = f" and {len(metrics) - MOST_METRICS} more" if len(metrics) > MOST_METRICS else ""
        yield from wrap(f"    Limits {', '.join(metrics[:MOST_METRICS])}{more}.", width, "      ", "dim")
    if not grave:
        yield from wrap(f"    {limit.todo}", width, "      ")


def _titles(rows: Sequence[MetricRow]) -> list[str]:
    """Return the titles of all metrics that have a value, in the order of the registry."""
    having = {row.metric for row in rows if row.value is not None}
    return [metric.title for name, metric in METRICS.items() if name in having]
