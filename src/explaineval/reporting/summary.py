"""The first screen after a run: what was found in each condition, how sure it is, what limits it, in plain words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from explaineval.interventions import kind_of
from explaineval.records import SIMULATED_NOTE, SIMULATED_PREFIX, Condition, MetricRow
from explaineval.scoring.checks import GRADES, MetricWarning
from explaineval.scoring.external import EXTERNAL
from explaineval.scoring.registry import METRICS, LevelMetric
from explaineval.scoring.rows import Scores
from explaineval.scoring.task_means import MEAN
from explaineval.scoring.warnings import RowWarning

MOST_BLOCKS = 6
"""Conditions that are shown as blocks of sentences; more become one table in the same words."""

NARROWEST_TABLE = 75
"""Columns that the table needs; a narrower terminal gets blocks, however many."""

LABEL = 12
"""Columns that the name of a number takes in a block."""

SHOWN = frozenset({"phi_cct", "cct", "cct_sampled", "impact_rate", "sham_flip_rate", "flip_to_cue_rate", "tpr", "fpr"})
"""The metrics on the screen: only what limits one of these stands there in full."""

ORDERS = {"pe": "predict then explain", "pe2": "predict, then explain in a second call", "ep": "explain then predict"}

UNBROKEN = "\N{NO-BREAK SPACE}"
"""Keeps a number and its unit on one line while lines are broken."""

Look = Literal["head", "plain", "warning", "dim"]


class Line(NamedTuple):
    """One line of the screen, and how it looks on a terminal with colours."""

    text: str
    look: Look = "plain"


Numbers = Mapping[str, MetricRow]


def summary(scores: Scores, run: str, width: int) -> list[Line]:
    """Return the screen of a run, no line wider than `width`; `run` is how the run directory is named in commands."""
    conditions = _conditions(scores.rows)
    kinds = [condition for condition in conditions if _is_kind(condition)]
    lines: list[Line] = []
    if len(kinds) > MOST_BLOCKS and width >= NARROWEST_TABLE:
        lines += _table(kinds, conditions, scores, width)
        lines += _notes_line(scores.warnings, run, width)
    else:
        for condition in kinds:
            lines += [*_block(condition, conditions, scores, run, width), Line("")]
    lines += _levels({c: n for c, n in conditions.items() if c.verbosity is None}, scores, width)
    while lines and not lines[-1].text:
        lines.pop()
    systems = {(*condition[:2], *condition[4:8]) for condition in kinds if EXTERNAL not in condition}
    if len(systems) > 1:
        lines += [Line(""), *_wrap(f"How they differ, with intervals: explaineval compare {run}", width, "  ", "plain")]
    return lines


def _conditions(rows: Iterable[MetricRow]) -> dict[Condition, dict[str, MetricRow]]:
    found: dict[Condition, dict[str, MetricRow]] = {}
    for row in rows:
        found.setdefault(row.condition.without_mention, {})[row.metric] = row
    return found


def _is_kind(condition: Condition) -> bool:
    """Whether a condition is about interventions of one kind at one level."""
    return condition.kind is not None and kind_of(condition.kind).own_metric is None and condition.verbosity is not None


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _block(
    condition: Condition, conditions: Mapping[Condition, Numbers], scores: Scores, run: str, width: int
) -> Iterator[Line]:
    numbers = conditions[condition]
    arm = _arm_numbers(condition, conditions)
    phi = numbers.get("phi_cct")
    n, examples = (phi.n, phi.n_examples) if phi is not None else (0, 0)
    head = f"{describe(condition, scores.rows)} · {_counted(n, 'trial')} of {_counted(examples, 'example')}"
    yield from _wrap(head, width, "  ", "head")
    missing = scores.missing.get(condition, {})
    if n == 0 and missing:
        total = sum(missing.values())
        text = f"  Nothing could be measured: none of the {total:,} trials has a score ({_counts(missing)})."
        if condition.style != EXTERNAL:
            text += f" Look at some of them: explaineval show {run} --list"
        yield from _wrap(text, width, "  ", "warning")
        return
    yield from _estimate_line("phi-CCT", phi, _verdict(phi), width)
    cct = numbers.get("cct_sampled") or numbers.get("cct")
    if cct is not None:
        yield from _estimate_line("CCT", cct, f"on the {cct.n:,} trials with usable probabilities", width)
    yield from _sentences(condition, numbers, arm, width)
    if missing:
        lost = sum(missing.values())
        have = "has" if lost == 1 else "have"
        yield from _wrap(f"  {lost:,} of {n + lost:,} trials {have} no score: {_counts(missing)}.", width, "  ")
    yield from _notes_line(_warnings_of(condition, scores.warnings), run, width)


def describe(condition: Condition, rows: Sequence[MetricRow]) -> str:
    """Return the model, task and arm of a condition in words, as far as they are needed to tell it from others."""
    return " · ".join(_parts(condition, rows))


def _parts(condition: Condition, rows: Sequence[MetricRow]) -> list[str]:
    """The parts of a description: model, simulated or endpoint, task, kind, arm, verbosity."""
    if condition.style == EXTERNAL:
        return list(_external_parts(condition, rows))
    parts = [condition.model]
    if condition.model.startswith(SIMULATED_PREFIX):
        parts.append(SIMULATED_NOTE)
    elif len({row.endpoint for row in rows if row.model == condition.model}) > 1:
        parts.append(f"at {condition.endpoint or 'the default endpoint'}")
    parts.append("mean over tasks" if condition.task == MEAN else condition.task)
    kinds = {row.kind for row in rows if row.kind is not None and kind_of(row.kind).own_metric is None}
    if condition.kind is not None and len(kinds) > 1:
        parts.append(condition.kind)
    shots = f" with {condition.shots} shots" if condition.shots else ""
    parts.append(f"{condition.style}{shots}, {ORDERS[condition.order]}")
    levels = {row.verbosity for row in rows if row.verbosity is not None}
    if condition.verbosity is not None and (len(levels) > 1 or condition.verbosity != "normal"):
        parts.append(condition.verbosity)
    return parts


def _external_parts(condition: Condition, rows: Sequence[MetricRow]) -> Iterator[str]:
    """Yield what trials of another program say of themselves; how they were asked is not known."""
    task = "mean over tasks" if condition.task == MEAN else condition.task
    names = [name for name in (condition.model, task, condition.kind) if name not in (None, EXTERNAL)]
    yield from map(str, names or ["your trials"])
    if condition.order != EXTERNAL:
        yield ORDERS[condition.order]
    if condition.verbosity is not None and len({row.verbosity for row in rows if row.verbosity is not None}) > 1:
        yield condition.verbosity


def _arm_numbers(condition: Condition, conditions: Mapping[Condition, Numbers]) -> dict[str, MetricRow]:
    """The numbers of the arm that a condition belongs to: accuracy, and how often answers change by themselves."""
    found: dict[str, MetricRow] = {}
    for other, numbers in conditions.items():
        if other.arm == condition.arm and not _is_kind(other):
            found.update(numbers)
    return found


def _verdict(phi: MetricRow | None) -> str:
    if phi is None or phi.low is None or phi.high is None:
        return ""
    if phi.low > 0:
        return "above 0"
    return "below 0" if phi.high < 0 else "cannot be told from 0"


def _estimate_line(name: str, row: MetricRow | None, remark: str, width: int) -> Iterator[Line]:
    if row is None:
        return
    start = f"  {name:<{LABEL - 2}}"
    if row.value is None:
        yield from _wrap(f"{start}undefined: {row.undefined}", width, " " * LABEL)
        return
    interval = f"[{row.low:.2f}, {row.high:.2f}]" if row.low is not None and row.high is not None else "no interval"
    yield from _wrap(f"{start}{_signed(row.value)}   {interval:<16} {remark}".rstrip(), width, " " * LABEL)


def _signed(value: float) -> str:
    text = f"{value:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _sentences(condition: Condition, numbers: Numbers, arm: Numbers, width: int) -> Iterator[Line]:
    inserted, named = _words(str(condition.kind))
    impact, sham = numbers.get("impact_rate"), arm.get("sham_flip_rate")
    if impact is not None and impact.value is not None:
        text = f"{inserted} changed {_percent(impact.value)} of the answers"
        if sham is not None and sham.value is not None:
            text += f"; asking the same again changed {_percent(sham.value)}"
        yield from _wrap(f"  {text}.", width, "  ")
    to_cue = numbers.get("flip_to_cue_rate")
    if to_cue is not None and to_cue.value is not None:
        yield from _wrap(f"  {_percent(to_cue.value)} of the answers went to the suggested letter.", width, "  ")
    tpr, fpr = (numbers[name].value if name in numbers else None for name in ("tpr", "fpr"))
    parts = []
    if tpr is not None:
        parts.append(f"When the answer changed, the explanation named {named} in {_percent(tpr)}")
    if fpr is not None:
        start = "when it did not" if parts else f"When the answer did not change, the explanation named {named}"
        parts.append(f"{start}, in {_percent(fpr)}" if parts else f"{start} in {_percent(fpr)}")
    if parts:
        yield from _wrap(f"  {'; '.join(parts)}.", width, "  ")


def _words(kind: str) -> tuple[str, str]:
    """How sentences call what was inserted, as the subject, and what an explanation names."""
    found = kind_of(kind)
    if found.control_of is not None:
        return "The same text without a suggestion", "it"
    if found.cue is not None:
        return "The suggested answer", "the suggestion"
    return ("Inserting a word", "the word") if found.inserts == "word" else ("The insertion", "it")


def _percent(value: float) -> str:
    """A share in whole per cent, but never 0 or 100 for one that is not."""
    rounded = round(100 * value)
    if rounded == 0 and value > 0:
        return "under 1 %"
    return "over 99 %" if rounded == 100 and value < 1 else f"{rounded} %"


def _counts(missing: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in sorted(missing.items(), key=lambda item: -item[1]))


def _warnings_of(condition: Condition, warnings: Iterable[RowWarning]) -> list[RowWarning]:
    """The warnings about the numbers of a condition and of its arm."""
    return [
        row
        for row in warnings
        if row.condition.without_mention == condition
        or (row.condition.arm.without_mention == condition.arm and not _is_kind(row.condition.without_mention))
    ]


def ranked(warnings: Iterable[RowWarning]) -> list[MetricWarning]:
    """Return the distinct warnings, the gravest first and those about phi-CCT before others; each text once."""
    place = {name: number for number, name in enumerate(METRICS)}
    found: dict[str, MetricWarning] = {}
    for row in sorted(warnings, key=lambda row: (GRADES.index(row.warning.grade), place.get(row.warning.metric, 0))):
        found.setdefault(row.warning.text, row.warning)
    return list(found.values())


def _notes_line(warnings: Sequence[RowWarning], run: str, width: int) -> Iterator[Line]:
    """The gravest warning in full and the number of the others, with the command that prints them."""
    found = ranked(warnings)
    if not found:
        return
    first_grave = next((one for one in found if one.grade == "do not quote" and one.metric in SHOWN), None)
    grave = first_grave is not None
    first = f"Before you quote this: {_lower(first_grave.text).rstrip('.')}" if first_grave is not None else ""
    others = len(found) - grave
    rest = f"{others} {'more ' if first else ''}{'note' if others == 1 else 'notes'}: explaineval notes {run}"
    text = " · ".join(filter(None, (first, rest if others else "")))
    yield from _wrap(f"  {text}", width, "  ", "warning" if grave else "dim")


def _lower(text: str) -> str:
    """A sentence as it continues another one: its first letter small, unless it begins a name."""
    first, _, rest = text.partition(" ")
    return f"{first.lower()} {rest}" if first.isalpha() and first.istitle() else text


def _upper(text: str) -> str:
    """A sentence with a capital, unless it begins with the name of a metric."""
    return text if any(text.startswith(metric.title) for metric in METRICS.values()) else f"{text[0].upper()}{text[1:]}"


def _levels(conditions: Mapping[Condition, Numbers], scores: Scores, width: int) -> Iterator[Line]:
    """The areas over verbosity levels, below the conditions: one line for each, under what all of them share."""
    areas = {
        condition: [row for name, row in numbers.items() if _is_area(name)] for condition, numbers in conditions.items()
    }
    areas = {condition: rows for condition, rows in areas.items() if rows}
    if not areas:
        return
    shared, names = _split_shared([_parts(condition, scores.rows) for condition in areas])
    yield Line("")
    yield from _wrap(
        " · ".join([*shared, "all verbosity levels (0.5: what is named tells nothing)"]), width, "  ", "head"
    )
    for (_, rows), name in zip(areas.items(), names, strict=True):
        for row in rows:
            title = METRICS[row.metric].title
            value = _interval_cell(row) if row.value is not None else f"undefined: {row.undefined}"
            yield from _wrap(f"  {' · '.join(filter(None, (name, f'{title} {value}')))}", width, "    ")


def _is_area(metric: str) -> bool:
    """Whether a metric is an area over levels that the screen shows: the hull is in the wide table alone."""
    return isinstance(METRICS[metric], LevelMetric) and METRICS[metric].has_interval


def _split_shared(described: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """The parts that all descriptions share, and what is left of each as a name; a single one is not taken apart."""
    if len(described) == 1:
        return list(described[0]), [""]
    shared = [part for part in described[0] if all(part in parts for parts in described)]
    return shared, [" · ".join(part for part in parts if part not in shared) for parts in described]


HEADINGS = (
    ("", "", 0),
    ("phi-CCT", "[95 % interval]", 20),
    ("CCT", "", 6),
    ("changed", "", 8),
    ("again", "", 6),
    ("named if", "changed", 9),
    ("named", "if not", 7),
)
"""Two lines of headings, and the columns that each takes; the first takes what is left."""

LEGEND = (
    "changed: answers that the insertion changed. again: answers that changed when the same was asked again. named: "
    "explanations that named the insertion, where the answer changed and where it did not."
)


def _table(
    kinds: Sequence[Condition], conditions: Mapping[Condition, Numbers], scores: Scores, width: int
) -> Iterator[Line]:
    """One line of figures for each condition, below what all of them share."""
    shared, names = _split_shared([_parts(condition, scores.rows) for condition in kinds])
    if shared:
        yield from _wrap(" · ".join(shared), width, "  ", "head")
        yield Line("")
    room = max(14, width - sum(columns for _, _, columns in HEADINGS))
    for place in (0, 1):
        headings = [str(heading[place]) for heading in HEADINGS[1:]]
        yield Line(_row("", headings, room), "head")
    for condition, name in zip(kinds, names, strict=True):
        numbers, arm = conditions[condition], _arm_numbers(condition, conditions)
        phi, cct = numbers.get("phi_cct"), numbers.get("cct")
        cells = [_interval_cell(phi), "–" if cct is None or cct.value is None else _signed(cct.value)]
        rows = (numbers.get("impact_rate"), arm.get("sham_flip_rate"), numbers.get("tpr"), numbers.get("fpr"))
        cells += ["–" if row is None or row.value is None else f"{round(100 * row.value)} %" for row in rows]
        if len(name) >= room:  # a long name has a line of its own
            yield from _wrap(name, width, "  ")
            name = ""
        yield Line(_row(name, cells, room))
        if phi is not None and phi.value is None:
            yield from _wrap(f"  phi-CCT is undefined: {phi.undefined}", width, "    ")
    yield Line("")
    yield from _wrap(LEGEND, width, "  ", "dim")
    yield Line("")


def _row(name: str, cells: Sequence[str], room: int) -> str:
    columns = [columns for _, _, columns in HEADINGS[1:]]
    return (f"{name:<{room}}" + "".join(f"{cell:>{size}}" for cell, size in zip(cells, columns, strict=True))).rstrip()


def _interval_cell(row: MetricRow | None) -> str:
    if row is None or row.value is None:
        return "undefined"
    if row.low is None or row.high is None:
        return f"{_signed(row.value)} no interval"
    return f"{_signed(row.value)} [{row.low:.2f}, {row.high:.2f}]"


def _wrap(text: str, width: int, indent: str, look: Look = "plain") -> Iterator[Line]:
    start = text[: len(text) - len(text.lstrip())]
    lines = textwrap.wrap(
        text.strip().replace(" %", f"{UNBROKEN}%"),
        max(20, width),
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    yield from (Line(line.replace(UNBROKEN, " "), look) for line in lines)


def notes_lines(warnings: Sequence[RowWarning], rows: Sequence[MetricRow], width: int) -> Iterator[Line]:
    """Yield all warnings of a run, the gravest first: what each is about, what it says, what to do."""
    for grade in GRADES:
        found: dict[tuple[str, str], list[RowWarning]] = {}
        for row in warnings:
            if row.warning.grade == grade:
                found.setdefault((row.warning.text, row.warning.todo), []).append(row)
        if found:
            yield Line(f"{grade[0].upper()}{grade[1:]}", "head")
        for (text, todo), members in found.items():
            metrics = dict.fromkeys(METRICS[row.warning.metric].title for row in members)
            places = dict.fromkeys(describe(row.condition.without_mention, rows) for row in members)
            yield from _wrap(f"  {_upper(text)}", width, "    ", "warning" if grade == GRADES[0] else "plain")
            yield from _wrap(f"    {todo}", width, "    ")
            yield from _wrap(f"    It limits {', '.join(metrics)} of:", width, "      ", "dim")
            for place in places:
                yield from _wrap(f"      {place}", width, "        ", "dim")
