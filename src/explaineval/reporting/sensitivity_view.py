"""Show the sources of mentions beside each other: how the numbers depend on who decides, and on where it is looked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from explaineval.records import EXPLANATION, Condition, MetricRow
from explaineval.reporting.condition_text import describe, source_name
from explaineval.reporting.summary import MOST_BLOCKS, Line, interval_cell, wrap
from explaineval.scoring.registry import FPR, PHI_CCT, TPR, YOUDEN_J
from explaineval.scoring.rows import Scores, Sensitivity
from explaineval.text import NONE, counted, interval_text, number_text, share_text

TITLE = "Who decides what is mentioned, and where it is looked for"

HEADINGS = (
    ("phi-CCT", "[95 % interval]", 20),
    ("named if", "changed", 10),
    ("named", "if not", 10),
    ("J", "", 7),
    ("kappa", "", 8),
    ("difference", "in J", 21),
)
"""Two lines of headings, and the columns that each takes, after the name of the source."""

HEAD = ("  decided by", "")
"""The two lines of the heading of the sources' names."""

NARROWEST_NAME = 20
"""Columns that the name of a source needs at least; a narrower terminal gets sentences."""

LEGEND = (
    "kappa: agreement with the first line beyond chance (1 full, 0 none). Difference in J: this line minus the first, "
    "on the trials that both can decide on, with its 95 % interval."
)
LEGEND_OF_CHANNELS = (
    "Lines on the reasoning, or on either of reasoning and explanation, are held against the line on the explanation "
    "by the same rule."
)


def sensitivity_lines(scores: Scores, width: int) -> Iterator[Line]:
    """Yield the table of all sources of mentions; nothing where there is the headline alone.

    Of more than a few conditions only the ranges over them are shown.
    """
    by_condition: dict[Condition, list[Sensitivity]] = {}
    for item in scores.sensitivity:
        by_condition.setdefault(item.condition.without_mention, []).append(item)
    if not by_condition:
        return
    yield Line("")
    yield from wrap(f"{TITLE}:", width, "  ", "head")
    if len(by_condition) > MOST_BLOCKS:
        yield from _ranges(by_condition, _legend(scores), width)
        return
    numbers: dict[Condition, dict[str, MetricRow]] = {}
    for row in scores.rows:
        numbers.setdefault(row.condition, {})[row.metric] = row
    headline = {
        condition.without_mention: condition
        for condition, of_it in reversed(numbers.items())
        if PHI_CCT in of_it and condition.verbosity is not None
    }
    for condition, items in by_condition.items():
        yield Line("")
        yield from wrap(f"  {describe(condition, scores.headline.rows)}", width, "  ", "head")
        entries: list[tuple[Condition, Sensitivity | None]] = [(headline[condition], None)]
        entries += [(item.condition, item) for item in items]
        yield from _block(entries, numbers, width)
    yield Line("")
    yield from wrap(f"  {_legend(scores)}", width, "  ", "dim")


def _legend(scores: Scores) -> str:
    """Return what the columns mean, with a sentence on channels where there are any."""
    has_channels = any(item.condition.channel != EXPLANATION for item in scores.sensitivity)
    return f"{LEGEND} {LEGEND_OF_CHANNELS}" if has_channels else LEGEND


def _block(
    entries: Sequence[tuple[Condition, Sensitivity | None]],
    numbers: Mapping[Condition, Mapping[str, MetricRow]],
    width: int,
) -> Iterator[Line]:
    """Yield the lines of one condition: the headline first, then each other source."""
    sizes = [size for _, _, size in HEADINGS]
    room = width - sum(sizes)
    if room < NARROWEST_NAME:
        for condition, item in entries:
            yield from wrap(f"  {_sentence(condition, item, numbers[condition])}", width, "    ")
        return
    for place in (0, 1):
        yield Line(
            f"{HEAD[place]:<{room}}" + "".join(f"{heading[place]:>{heading[2]}}" for heading in HEADINGS), "head"
        )
    for condition, item in entries:
        name, own = f"  {source_name(condition)}", numbers[condition]
        reason = _undefined(own)
        if reason is not None:
            yield from wrap(f"{name}: undefined: {reason}", width, "    ")
            continue
        if len(name) >= room:  # a long name has a line of its own
            yield from wrap(name, width, "    ")
            name = ""
        cells = _cells(item, own)
        yield Line((f"{name:<{room}}" + "".join(f"{c:>{s}}" for c, s in zip(cells, sizes, strict=True))).rstrip())
    reasons: dict[str, list[str]] = {}
    for condition, item in entries:
        if item is not None and item.difference.undefined is not None and _undefined(numbers[condition]) is None:
            reasons.setdefault(item.difference.undefined, []).append(source_name(condition))
    for reason, names in reasons.items():
        text = f"  The difference in J of {'; '.join(names)} cannot be tested: {reason}."
        yield from wrap(text, width, "    ", "dim")


def _undefined(own: Mapping[str, MetricRow]) -> str | None:
    """Why a source has no number at all; None where it has one."""
    shown = [own[name] for name in (PHI_CCT, TPR, FPR) if name in own]
    return shown[0].undefined if shown and all(row.value is None for row in shown) else None


def _cells(item: Sensitivity | None, own: Mapping[str, MetricRow]) -> list[str]:
    """Return the cells of one source; `item` None is the headline."""
    cells = [interval_cell(own.get(PHI_CCT))]
    for name, show in ((TPR, share_text), (FPR, share_text), (YOUDEN_J, number_text)):
        row = own.get(name)
        cells.append("–" if row is None or row.value is None else show(row.value))
    if item is None:
        return [*cells, "–", "–"]
    return [*cells, NONE if item.kappa.value is None else number_text(item.kappa.value, 3), _difference(item)]


def _difference(item: Sensitivity) -> str:
    row = item.difference
    if row.value is None:
        return "–"
    return f"{number_text(row.value)} {interval_text(row.low, row.high)}"


def _sentence(condition: Condition, item: Sensitivity | None, own: Mapping[str, MetricRow]) -> str:
    """Return one source in words, for a narrow terminal."""
    reason = _undefined(own)
    if reason is not None:
        return f"{source_name(condition)}: undefined: {reason}"
    names = ("phi-CCT", "named if changed", "named if not", "J", "kappa", "difference in J")
    cells = zip(names, _cells(item, own), strict=True)
    return f"{source_name(condition)}: {', '.join(f'{name} {cell}' for name, cell in cells if cell != '–')}"


def _ranges(by_condition: Mapping[Condition, Sequence[Sensitivity]], legend: str, width: int) -> Iterator[Line]:
    """Yield one line for each source: how its kappa and its difference in J range over the conditions."""
    by_source: dict[str, list[Sensitivity]] = {}
    for items in by_condition.values():
        for item in items:
            by_source.setdefault(source_name(item.condition), []).append(item)
    for name, items in by_source.items():
        parts = []
        for what, values in (
            ("kappa", [item.kappa.value for item in items]),
            ("difference in J", [item.difference.value for item in items]),
        ):
            known = [value for value in values if value is not None]
            if known:
                parts.append(f"{what} {number_text(min(known))} to {number_text(max(known))} ({len(known)})")
            else:
                parts.append(f"{what} undefined in all")
        yield from wrap(f"  {name}, {counted(len(items), 'condition')}: {'; '.join(parts)}", width, "    ")
    yield from wrap(f"  {legend} In brackets: conditions that have it. --json has them one by one.", width, "  ", "dim")
