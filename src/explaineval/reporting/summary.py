"""The first screen after a run: what was found in each condition, how sure it is, what limits it, in plain words."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from explaineval.records import Condition, MetricRow
from explaineval.reporting.condition_text import (
    Numbers,
    arm_numbers,
    by_condition,
    describe,
    is_kind,
    lower_first,
    parts_of,
    ranked,
    sentences_of,
    split_shared,
    statuses_text,
    verdict_of,
    warnings_of,
)
from explaineval.reporting.view import ShownNumber, not_quoted
from explaineval.scoring.codes import GRADES, MetricWarning
from explaineval.scoring.external import EXTERNAL
from explaineval.scoring.metric import LevelMetric
from explaineval.scoring.registry import (
    CCT,
    CCT_SAMPLED,
    FPR,
    IMPACT_RATE,
    METRICS,
    PHI_CCT,
    SHAM_RATE,
    TPR,
)
from explaineval.scoring.rows import Scores
from explaineval.scoring.warnings import RowWarning
from explaineval.text import NONE, UNDEFINED, counted, joined, wrapped

MOST_BLOCKS = 6
"""Conditions that are shown as blocks of sentences; more become one table in the same words."""

NARROWEST_TABLE = 77
"""Columns that the table needs; a narrower terminal gets blocks, however many."""

LABEL = 12
"""Columns that the name of a number takes in a block."""

SHOWN = frozenset(name for name, metric in METRICS.items() if "screen" in metric.views)
"""The metrics on the screen: only what limits one of these stands there in full."""

Look = Literal["head", "plain", "warning", "dim"]


class Line(NamedTuple):
    """One line of the screen, and how it looks on a terminal with colours."""

    text: str
    look: Look = "plain"


def summary(scores: Scores, run: str, width: int, headlines: Sequence[str] = ()) -> list[Line]:
    """Return the screen of a run, no line wider than `width`; `run` is how the run directory is named in commands.

    `headlines` are sentences that stand before everything else: what a comparison of several models says.

    The numbers are those of the headline source of mentions.
    """
    scores, run = scores.headline, shlex.quote(run)
    conditions = by_condition(scores.rows)
    kinds = [condition for condition in conditions if is_kind(condition)]
    lines = [line for text in headlines for line in (*wrap(text, width, "  ", "head"), Line(""))]
    if len(kinds) > MOST_BLOCKS and width >= NARROWEST_TABLE:
        lines += _table(kinds, conditions, scores, run, width)
    else:
        for condition in kinds:
            lines += [*_block(condition, conditions, scores, run, width), Line("")]
    lines += _levels({c: n for c, n in conditions.items() if c.verbosity is None}, scores, width)
    while lines and not lines[-1].text:
        lines.pop()
    systems = {(*condition[:2], *condition[4:8]) for condition in kinds if EXTERNAL not in condition}
    if len(systems) > 1:
        lines += [Line(""), *wrap(f"How they differ, with intervals: explaineval compare {run}", width, "  ", "plain")]
    return lines


def _block(
    condition: Condition, conditions: Mapping[Condition, Numbers], scores: Scores, run: str, width: int
) -> Iterator[Line]:
    numbers = conditions[condition]
    arm = arm_numbers(condition, conditions)
    phi = numbers.get(PHI_CCT)
    n, examples = (phi.n, phi.n_examples) if phi is not None else (0, 0)
    head = f"{describe(condition, scores.rows)} · {counted(n, 'trial')} of {counted(examples, 'example')}"
    yield from wrap(head, width, "  ", "head")
    missing = scores.missing.get(condition, {})
    if n == 0 and missing:
        total = sum(missing.values())
        text = (
            f"  Nothing could be measured: none of the {counted(total, 'trial')} has a score "
            f"({statuses_text(missing)})."
        )
        if condition.style != EXTERNAL:
            text += f" Look at some of them: explaineval show {run} --list"
        yield from wrap(text, width, "  ", "warning")
        return
    warnings = warnings_of(condition, scores.warnings)
    grave = _grave(warnings)
    differing = [row.text.rstrip(".") for row in warnings if row.warning.code == "tasks_differ"]
    verdict = [verdict_of(phi), *differing, "do not quote" if PHI_CCT in grave else ""]
    yield from _estimate_line("phi-CCT", phi, ", ".join(filter(None, verdict)), width)
    cct = numbers.get(CCT_SAMPLED) or numbers.get(CCT)
    if cct is not None:
        remark = f"on the {counted(cct.n, 'trial')} with usable probabilities"
        yield from _estimate_line("CCT", cct, remark + (", do not quote" if cct.metric in grave else ""), width)
    for text in sentences_of(condition, numbers, arm):
        yield from wrap(f"  {text}", width, "  ")
    if missing:
        lost = sum(missing.values())
        have = "has" if lost == 1 else "have"
        yield from wrap(
            f"  {lost:,} of {counted(n + lost, 'trial')} {have} no score: {statuses_text(missing)}.", width, "  "
        )
    yield from _notes_line(warnings, run, width)


def _estimate_line(name: str, row: MetricRow | None, remark: str, width: int) -> Iterator[Line]:
    if row is None:
        return
    start = f"  {name:<{LABEL - 2}}"
    if row.value is None:
        yield from wrap(f"{start}undefined: {row.undefined}", width, " " * LABEL)
        return
    number = ShownNumber(row)
    yield from wrap(f"{start}{number.value()}   {number.interval():<16} {remark}".rstrip(), width, " " * LABEL)


def _grave(warnings: Iterable[RowWarning]) -> set[str]:
    """Return the metrics that one of these warnings says not to quote."""
    return {metric for metrics in not_quoted(warnings).values() for metric in metrics}


def _first_grave(warnings: Iterable[RowWarning]) -> MetricWarning | None:
    """The gravest warning about a number on the screen that must not be quoted; None if there is none."""
    return next((one for one in ranked(warnings) if one.grade == GRADES[0] and one.metric in SHOWN), None)


def _notes_line(warnings: Sequence[RowWarning], run: str, width: int) -> Iterator[Line]:
    """The gravest warning in full, the numbers not to be quoted, and how many other warnings the command prints."""
    first, parts = _first_grave(warnings), []
    if first is not None:
        limited = {row.warning.metric for row in warnings if row.warning.text == first.text}
        titles = [METRICS[name].title for name in METRICS if name in limited & SHOWN]
        parts.append(f"Do not quote {joined(titles)}: {lower_first(first.text).rstrip('.')}")
        others = [METRICS[name].title for name in METRICS if name in (_grave(warnings) & SHOWN) - limited]
        parts += [f"do not quote {joined(others)} either"] if others else []
    yield from _with_more(parts, first, warnings, run, width)


def _with_more(
    parts: Sequence[str], first: MetricWarning | None, warnings: Sequence[RowWarning], run: str, width: int
) -> Iterator[Line]:
    """The parts of a line of warnings, and how many warnings beside the `first` the command prints."""
    others = len(ranked(warnings)) - (first is not None)
    more = [f"{counted(others, 'more note' if parts else 'note')}: explaineval notes {run}"] if others else []
    if parts or more:
        yield from wrap(f"  {' · '.join([*parts, *more])}", width, "  ", "dim" if first is None else "warning")


def _levels(conditions: Mapping[Condition, Numbers], scores: Scores, width: int) -> Iterator[Line]:
    """The areas over verbosity levels, below the conditions: one line for each, under what all of them share."""
    areas = {
        condition: [row for name, row in numbers.items() if _is_area(name)] for condition, numbers in conditions.items()
    }
    areas = {condition: rows for condition, rows in areas.items() if rows}
    if not areas:
        return
    shared, names = split_shared([parts_of(condition, scores.rows) for condition in areas])
    yield Line("")
    yield from wrap(
        " · ".join([*shared, "all verbosity levels (0.5: what is named tells nothing)"]), width, "  ", "head"
    )
    for (condition, rows), name in zip(areas.items(), names, strict=True):
        grave = _grave(warnings_of(condition, scores.warnings))
        for row in rows:
            title = METRICS[row.metric].title
            value = interval_cell(row) if row.value is not None else f"undefined: {row.undefined}"
            value += ", do not quote" if row.value is not None and row.metric in grave else ""
            yield from wrap(f"  {' · '.join(filter(None, (name, f'{title} {value}')))}", width, "    ")


def _is_area(metric: str) -> bool:
    """Whether a metric is an area over levels that the screen shows: the hull is in the wide table alone."""
    return isinstance(METRICS[metric], LevelMetric) and METRICS[metric].has_interval


HEADINGS = (
    ("", "", 0),
    ("phi-CCT", "[95 % interval]", 22),
    ("CCT", "", 7),
    ("changed", "", 9),
    ("again", "", 7),
    ("named if", "changed", 10),
    ("named", "if not", 8),
)
"""Two lines of headings, and the columns that each takes; the first takes what is left."""

SCREEN_HEADINGS = {
    "changed": IMPACT_RATE,
    "again": SHAM_RATE,
    "named if changed": TPR,
    "named if not": FPR,
}
"""The metrics that the screen heads by plain words."""

LEGEND = (
    "changed: answers that the insertion changed. again: answers that changed when the same was asked again. named: "
    "explanations that named the insertion, where the answer changed and where it did not."
)


MARK = "†"
"""Stands behind a number of the table that must not be quoted."""


def _table(
    kinds: Sequence[Condition], conditions: Mapping[Condition, Numbers], scores: Scores, run: str, width: int
) -> Iterator[Line]:
    """One line of figures for each condition, below what all of them share, and the gravest warning."""
    shared, names = split_shared([parts_of(condition, scores.rows) for condition in kinds])
    if shared:
        yield from wrap(" · ".join(shared), width, "  ", "head")
        yield Line("")
    room = max(14, width - sum(columns for _, _, columns in HEADINGS))
    for place in (0, 1):
        headings = [f"{heading[place]} " for heading in HEADINGS[1:]]
        yield Line(_row("", headings, room), "head")
    graves = []
    for condition, name in zip(kinds, names, strict=True):
        numbers, arm = conditions[condition], arm_numbers(condition, conditions)
        warnings = warnings_of(condition, scores.warnings)
        grave = _grave(warnings) & SHOWN
        graves += [(name, warnings)] if grave else []
        phi, cct = numbers.get(PHI_CCT), numbers.get(CCT)
        rows = (phi, cct, numbers.get(IMPACT_RATE), arm.get(SHAM_RATE), numbers.get(TPR), numbers.get(FPR))
        cells = [interval_cell(phi), NONE if cct is None or cct.value is None else ShownNumber(cct).value()]
        cells += [NONE if row is None or row.value is None else ShownNumber(row).share for row in rows[2:]]
        marks = [row is not None and row.value is not None and row.metric in grave for row in rows]
        cells = [f"{cell}{MARK if mark else ' '}" for cell, mark in zip(cells, marks, strict=True)]
        if len(name) >= room:  # a long name has a line of its own
            yield from wrap(name, width, "  ")
            name = ""
        yield Line(_row(name, cells, room))
        if phi is not None and phi.value is None:
            yield from wrap(f"  phi-CCT is undefined: {phi.undefined}", width, "    ")
    yield Line("")
    yield from wrap(LEGEND, width, "  ", "dim")
    yield Line("")
    name, first = min(
        ((name, found) for name, warnings in graves if (found := _first_grave(warnings)) is not None),
        key=lambda item: list(METRICS).index(item[1].metric),
        default=("", None),
    )
    reason = None if first is None else lower_first(first.text).rstrip(".")
    parts = [] if first is None else [f"{MARK}: do not quote. The first reason, of {name}: {reason}"]
    yield from _with_more(parts, first, scores.warnings, run, width)


def _row(name: str, cells: Sequence[str], room: int) -> str:
    columns = [columns for _, _, columns in HEADINGS[1:]]
    return (f"{name:<{room}}" + "".join(f"{cell:>{size}}" for cell, size in zip(cells, columns, strict=True))).rstrip()


def interval_cell(row: MetricRow | None) -> str:
    """Return a number with its interval as it stands in a table."""
    return UNDEFINED if row is None else str(ShownNumber(row))


def wrap(text: str, width: int, indent: str, look: Look = "plain") -> Iterator[Line]:
    """Yield a text as lines of at most `width` columns; the second and later ones begin with `indent`."""
    start = text[: len(text) - len(text.lstrip())]
    yield from (Line(line, look) for line in wrapped(text.strip(), max(20, width), start, indent))
