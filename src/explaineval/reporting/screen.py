"""What a terminal shows of the numbers of a run, in plain words: the first screen, its warnings, and other sources.

The first screen says what was found in each condition, how sure it is, and what limits it. Below it stand the other
sources of mentions (words, judges, people; explanation or reasoning) and what predictors made of the explanations.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from explaineval.records import EXPLANATION, Condition, MetricRow
from explaineval.reporting.view import (
    MOST_METRICS,
    ConditionNames,
    ConditionView,
    Limit,
    ShownNumber,
    conditions_of,
    describe,
    limits_of,
    lower_first,
    missing_sentence,
    parts_of,
    ranked,
    sentences_of,
    sign_of,
    source_name,
    split_shared,
    statuses_text,
    told_from_zero,
    widest_range,
)
from explaineval.scoring.codes import CODES, GRADES, MetricWarning
from explaineval.scoring.external import EXTERNAL
from explaineval.scoring.metric import LevelMetric, PredictionMetric
from explaineval.scoring.predictions import PANEL
from explaineval.scoring.registry import (
    ACCURACY_WITH,
    ACCURACY_WITHOUT,
    CCT,
    CCT_SAMPLED,
    FPR,
    GAIN_BALANCED,
    GAIN_DIFFERENCE,
    GAIN_SHUFFLED,
    IMPACT_RATE,
    METRICS,
    NSG,
    NSG_DIFFERENCE,
    NSG_SHUFFLED,
    PHI_CCT,
    SHAM_RATE,
    TPR,
    YOUDEN_J,
)
from explaineval.scoring.rows import Scores, Sensitivity
from explaineval.scoring.warnings import RowWarning
from explaineval.text import NONE, UNDEFINED, aligned, counted, estimate_text, joined, number_text, share_text, wrapped

MOST_BLOCKS = 6
"""Conditions that are shown as blocks of sentences; more become one table in the same words."""

LABEL = 12
"""Columns that the name of a number takes in a block."""

LineStyle = Literal["head", "plain", "warning", "dim"]


class StyledLine(NamedTuple):
    """One line of the screen, and how it looks on a terminal with colours."""

    text: str
    look: LineStyle = "plain"


def wrap(text: str, width: int, indent: str, look: LineStyle = "plain") -> Iterator[StyledLine]:
    """Yield a text as lines of at most `width` columns; the second and later ones begin with `indent`."""
    start = text[: len(text) - len(text.lstrip())]
    yield from (StyledLine(line, look) for line in wrapped(text.strip(), max(20, width), start, indent))


def _interval_cell(number: ShownNumber | None) -> str:
    return UNDEFINED if number is None else str(number)


def _plain_cell(number: ShownNumber | None) -> str:
    return NONE if number is None or number.value is None else number.plain()


def _share_cell(number: ShownNumber | None) -> str:
    return NONE if number is None or number.value is None else number.share


class ScreenColumn(NamedTuple):
    """A column of the table of many conditions: its metric, two lines of heading, its width, and how it is written."""

    metric: str
    heading: str
    second: str
    size: int
    cell: Callable[[ShownNumber | None], str] = _share_cell


COLUMNS = (
    ScreenColumn(PHI_CCT, "phi-CCT", "[95 % interval]", 22, _interval_cell),
    ScreenColumn(CCT, "CCT", "", 7, _plain_cell),
    ScreenColumn(IMPACT_RATE, "changed", "", 9),
    ScreenColumn(SHAM_RATE, "again", "", 7),
    ScreenColumn(TPR, "named if", "changed", 10),
    ScreenColumn(FPR, "named", "if not", 8),
)
"""The columns of the first screen from left to right, after the name of the condition. To add one, add it here."""

NARROWEST_TABLE = 14 + sum(column.size for column in COLUMNS)
"""Columns of the terminal that the table needs; a narrower one gets blocks, however many."""

SCREEN_HEADINGS = {
    f"{column.heading} {column.second}".strip(): column.metric for column in COLUMNS if column.cell is _share_cell
} | {"J": YOUDEN_J}
"""The metrics that the screen heads by plain words."""

LEGEND = (
    "changed: answers that the insertion changed. again: answers that changed when the same was asked again. named: "
    "explanations that named the insertion, where the answer changed and where it did not."
)

DAGGER = "†"
"""Stands behind a number of the table that must not be quoted."""


def summary(scores: Scores, run: str, width: int, headlines: Sequence[str] = ()) -> list[StyledLine]:
    """Return the screen of a run, no line wider than `width`; `run` is how the run directory is named in commands.

    `headlines` are sentences that stand before everything else: what a comparison of several models says.

    The numbers are those of the headline source of mentions.
    """
    run, rows, views = shlex.quote(run), scores.headline.rows, conditions_of(scores)
    kinds = [view for view in views if not view.over_levels]
    lines = [line for text in headlines for line in (*wrap(text, width, "  ", "head"), StyledLine(""))]
    if len(kinds) > MOST_BLOCKS and width >= NARROWEST_TABLE:
        lines += _table(kinds, rows, scores.headline.warnings, run, width)
    else:
        for view in kinds:
            lines += [*_block(view, rows, run, width), StyledLine("")]
    lines += _levels([view for view in views if view.over_levels], rows, width)
    while lines and not lines[-1].text:
        lines.pop()
    systems = {(*view.condition[:2], *view.condition[4:8]) for view in kinds if EXTERNAL not in view.condition}
    if len(systems) > 1:
        lines += [StyledLine(""), *wrap(f"How they differ, with intervals: explaineval compare {run}", width, "  ")]
    return lines


def _block(view: ConditionView, rows: Sequence[MetricRow], run: str, width: int) -> Iterator[StyledLine]:
    """One condition in sentences."""
    phi = view.numbers.get(PHI_CCT)
    n, examples = (phi.row.n, phi.row.n_examples) if phi is not None else (0, 0)
    head = f"{describe(view.condition, rows)} · {counted(n, 'trial')} of {counted(examples, 'example')}"
    yield from wrap(head, width, "  ", "head")
    lost = sum(view.missing.values())
    if n == 0 and view.missing:
        text = (
            f"  Nothing could be measured: none of the {counted(lost, 'trial')} has a score "
            f"({statuses_text(view.missing)})."
        )
        if view.condition.style != EXTERNAL:
            text += f" Look at some of them: explaineval show {run} --list"
        yield from wrap(text, width, "  ", "warning")
        return
    differing = [row.text.rstrip(".") for row in view.warnings if row.warning.code == "tasks_differ"]
    test = view.zero_test
    alone = f"not among all {test.conditions} conditions" if test is not None and test.is_lost else ""
    remarks = [sign_of(phi), alone, *differing, "do not quote" if PHI_CCT in view.grave else ""]
    yield from _estimate_line("phi-CCT", phi, ", ".join(filter(None, remarks)), width)
    cct = view.numbers.get(CCT_SAMPLED) or view.numbers.get(CCT)
    if cct is not None:
        remark = f"on the {counted(cct.row.n, 'trial')} with usable probabilities"
        yield from _estimate_line("CCT", cct, remark + (", do not quote" if cct.grave else ""), width)
    for text in sentences_of(view):
        yield from wrap(f"  {text}", width, "  ")
    if view.missing:
        yield from wrap(f"  {missing_sentence(view, n)}", width, "  ")
    yield from _notes_line(view.warnings, run, width)


def _estimate_line(name: str, number: ShownNumber | None, remark: str, width: int) -> Iterator[StyledLine]:
    if number is None:
        return
    start = f"  {name:<{LABEL - 2}}"
    text = f"{start}{number.plain()}   {number.plain_interval():<16} {remark}".rstrip()
    if number.value is None:
        text = f"{start}undefined: {number.row.undefined}"
    yield from wrap(text, width, " " * LABEL)


def _on_screen(metric: str) -> bool:
    """Say whether a metric is on the screen: only what limits one of these stands there in full."""
    return "screen" in METRICS[metric].views


def _first_grave(warnings: Iterable[RowWarning]) -> MetricWarning | None:
    """The gravest warning about a number on the screen that must not be quoted; None if there is none."""
    shown = ranked(row for row in warnings if _on_screen(row.warning.metric))
    return next((item for item in shown if item.grade == GRADES[0]), None)


def _notes_line(warnings: Sequence[RowWarning], run: str, width: int) -> Iterator[StyledLine]:
    """The gravest warning in full, the numbers not to be quoted, and how many other warnings the command prints."""
    first, parts = _first_grave(warnings), []
    if first is not None:
        limited = {row.warning.metric for row in warnings if row.warning.text == first.text}
        titles = [METRICS[name].title for name in METRICS if name in limited and _on_screen(name)]
        parts.append(f"Do not quote {joined(titles)}: {_continued(first.text, titles).rstrip('.')}")
        grave: dict[str, str] = {}  # the first reason of each of the others
        for row in warnings:
            if row.warning.grade == GRADES[0]:
                grave.setdefault(row.warning.metric, lower_first(CODES[row.warning.code].title))
        others = [name for name in METRICS if name in grave.keys() - limited and _on_screen(name)]
        if others:
            reasons = "; ".join(dict.fromkeys(grave[name] for name in others))
            parts.append(f"do not quote {joined([METRICS[name].title for name in others])} either ({reasons})")
    yield from _with_more(parts, first, warnings, run, width)


def _continued(text: str, titles: Sequence[str]) -> str:
    """Return a sentence as it continues one that names these metrics: the only one is not named again."""
    if len(titles) == 1 and text.startswith(f"{titles[0]} "):
        return f"it{text.removeprefix(titles[0])}"
    return lower_first(text.removeprefix(f"{titles[0]}: ") if titles else text)


def _with_more(
    parts: Sequence[str], first: MetricWarning | None, warnings: Sequence[RowWarning], run: str, width: int
) -> Iterator[StyledLine]:
    """The parts of a line of warnings, and how many warnings beside the `first` the command prints."""
    others = len(ranked(warnings)) - (first is not None)
    more = [f"{counted(others, 'more note' if parts else 'note')}: explaineval notes {run}"] if others else []
    if parts or more:
        yield from wrap(f"  {' · '.join([*parts, *more])}", width, "  ", "dim" if first is None else "warning")


def _levels(views: Sequence[ConditionView], rows: Sequence[MetricRow], width: int) -> Iterator[StyledLine]:
    """The areas over verbosity levels, below the conditions: one line for each, under what all of them share."""
    areas = {view.place: [number for name, number in view.numbers.items() if _is_area(name)] for view in views}
    areas = {place: numbers for place, numbers in areas.items() if numbers}
    if not areas:
        return
    shared, names = split_shared([parts_of(condition, rows) for _, condition in areas])
    yield StyledLine("")
    head = " · ".join([*shared, "all verbosity levels (0.5: what is named tells nothing)"])
    yield from wrap(head, width, "  ", "head")
    for numbers, name in zip(areas.values(), names, strict=True):
        for number in numbers:
            text = f"undefined: {number.row.undefined}"
            if number.value is not None:
                text = f"{number}{', do not quote' if number.grave else ''}"
            parts = (name, f"{METRICS[number.row.metric].title} {text}")
            yield from wrap(f"  {' · '.join(filter(None, parts))}", width, "    ")


def _is_area(metric: str) -> bool:
    """Whether a metric is an area over levels that the screen shows: the hull is in the wide table alone."""
    return isinstance(METRICS[metric], LevelMetric) and METRICS[metric].has_interval


def _table(
    views: Sequence[ConditionView], rows: Sequence[MetricRow], warnings: Sequence[RowWarning], run: str, width: int
) -> Iterator[StyledLine]:
    """One line of figures for each condition, below what all of them share, and the gravest warning."""
    shared, names = split_shared([parts_of(view.condition, rows) for view in views])
    if shared:
        yield from wrap(" · ".join(shared), width, "  ", "head")
        yield StyledLine("")
    room = width - NARROWEST_TABLE + 14
    sizes = [room, *(-column.size for column in COLUMNS)]
    yield StyledLine(aligned(["", *(f"{column.heading} " for column in COLUMNS)], sizes), "head")
    yield StyledLine(aligned(["", *(f"{column.second} " for column in COLUMNS)], sizes), "head")
    for view, name in zip(views, names, strict=True):
        cells = []
        for column in COLUMNS:
            number = view.numbers.get(column.metric)
            is_marked = number is not None and number.value is not None and number.grave and _on_screen(column.metric)
            cells.append(f"{column.cell(number)}{DAGGER if is_marked else ' '}")
        yield from _row(name, cells, sizes, "  ")
        phi = view.numbers.get(PHI_CCT)
        if phi is not None and phi.value is None:
            yield from wrap(f"  phi-CCT is undefined: {phi.row.undefined}", width, "    ")
    yield StyledLine("")
    yield from wrap(LEGEND, width, "  ", "dim")
    if (text := widest_range(views, names)) is not None:
        yield from wrap(text, width, "  ")
    if (told := told_from_zero(views)) is not None:
        yield from wrap(told, width, "  ")
    yield StyledLine("")
    gravest = [
        (list(METRICS).index(first.metric), name, first)
        for name, view in zip(names, views, strict=True)
        if (first := _first_grave(view.warnings)) is not None
    ]
    _, name, first = min(gravest, key=lambda item: item[0], default=(0, "", None))
    parts = []
    if first is not None:
        parts = [f"{DAGGER}: do not quote. The first reason, of {name}: {lower_first(first.text).rstrip('.')}"]
    yield from _with_more(parts, first, warnings, run, width)


def _row(name: str, cells: Sequence[str], sizes: Sequence[int], indent: str) -> Iterator[StyledLine]:
    """A row of a table; a long name has a line of its own."""
    if len(name) >= sizes[0]:
        yield from wrap(name, sizes[0] - sum(sizes[1:]), indent)
        name = ""
    yield StyledLine(aligned([name, *cells], sizes))


OF_OTHERS = "thin_tasks"
"""The code of a mean over tasks that rests on numbers with warnings: what settles theirs settles it."""


def notes_lines(scores: Scores, run: str, width: int) -> Iterator[StyledLine]:
    """Yield all warnings of a run in lines of at most `width` columns, the gravest grade first.

    Under each grade a reason stands once, with a sentence for each condition that it holds for. Last comes what would
    settle the warnings of the gravest grade. `run` is how the run directory is named in commands.
    """
    grades = limits_of([scores], ConditionNames(scores.rows, [run]))
    having = {row.metric for row in scores.rows if row.value is not None}
    titles = [metric.title for name, metric in METRICS.items() if name in having]
    for grade in grades:
        yield StyledLine(grade.title, "head")
        for limit in grade.limits:
            yield from _limit_lines(limit, titles, width, grave=grade.grade == GRADES[0])
    grave = [limit for grade in grades if grade.grade == GRADES[0] for limit in grade.limits]
    todos = list(
        dict.fromkeys(limit.todo.replace("RUN_DIR", shlex.quote(run)) for limit in grave if limit.code != OF_OTHERS)
    )
    # a plain "Ask more examples." says nothing beside a sentence that begins so and says more
    todos = [todo for todo in todos if not any(todo.rstrip(".") in other and todo != other for other in todos)]
    if todos:
        yield StyledLine("What would settle it", "head")
        for todo in todos:
            yield from wrap(f"  {todo}", width, "    ")


def _limit_lines(limit: Limit, titles: Sequence[str], width: int, *, grave: bool) -> Iterator[StyledLine]:
    where = limit.shared
    if limit.count == 1:  # the only condition is named in the first line, not before each sentence
        where = " · ".join(filter(None, (limit.instances[0].places[0], limit.shared)))
    heading = limit.title + (f", in {counted(limit.count, 'condition')}" if limit.count > 1 else "")
    yield from wrap(
        f"  {heading}: {where}" if where else f"  {heading}", width, "    ", "warning" if grave else "plain"
    )
    for instance in limit.instances:
        places = "; ".join(instance.places) if limit.count > 1 else ""
        about = " of ".join(filter(None, (instance.named_metrics, places)))
        yield from wrap(f"    {f'{about}: ' if about else ''}{instance.text}", width, "      ")
    metrics = [title for title in titles if title in limit.metrics]
    metrics += [title for title in limit.metrics if title not in metrics]
    if set(titles) - set(metrics):
        more = f" and {len(metrics) - MOST_METRICS} more" if len(metrics) > MOST_METRICS else ""
        yield from wrap(f"    Limits {', '.join(metrics[:MOST_METRICS])}{more}.", width, "      ", "dim")
    if not grave:
        yield from wrap(f"    {limit.todo}", width, "      ")


TITLE = "Who decides what is mentioned, and where it is looked for"

NAME_HEADING = "  decided by"

SOURCE_COLUMNS = (
    ("phi-CCT", "[95 % interval]", 20),
    ("named if", "changed", 10),
    ("named", "if not", 10),
    ("J", "", 7),
    ("kappa", "", 8),
    ("difference", "in J", 21),
)
"""Two lines of headings, and the columns that each takes, after the name of the source."""

NARROWEST_NAME = 20
"""Columns that the name of a source needs at least; a narrower terminal gets sentences."""

SOURCE_LEGEND = (
    "kappa: agreement with the first line beyond chance (1 full, 0 none). Difference in J: this line minus the first, "
    "on the trials that both can decide on, with its 95 % interval."
)
LEGEND_OF_CHANNELS = (
    "Lines on the reasoning, or on either of reasoning and explanation, are held against the line on the explanation "
    "by the same rule."
)

Numbers = Mapping[str, ShownNumber]


def sensitivity_lines(scores: Scores, width: int) -> Iterator[StyledLine]:
    """Yield the table of all sources of mentions; nothing where there is the headline alone.

    Of more than a few conditions only the ranges over them are shown.
    """
    by_condition: dict[Condition, list[Sensitivity]] = {}
    for item in scores.sensitivity:
        by_condition.setdefault(item.condition.without_mention, []).append(item)
    if not by_condition:
        return
    has_channels = any(item.condition.channel != EXPLANATION for item in scores.sensitivity)
    legend = f"{SOURCE_LEGEND} {LEGEND_OF_CHANNELS}" if has_channels else SOURCE_LEGEND
    yield StyledLine("")
    yield from wrap(f"{TITLE}:", width, "  ", "head")
    if len(by_condition) > MOST_BLOCKS:
        yield from _ranges(scores.sensitivity, legend, width)
        return
    numbers = _by_source(scores.rows)
    headline = {
        condition.without_mention: condition
        for condition, own in reversed(numbers.items())
        if PHI_CCT in own and condition.verbosity is not None
    }
    for condition, items in by_condition.items():
        yield StyledLine("")
        yield from wrap(f"  {describe(condition, scores.headline.rows)}", width, "  ", "head")
        sources: list[tuple[Condition, Sensitivity | None]] = [(headline[condition], None)]
        sources += [(item.condition, item) for item in items]
        yield from _sources(sources, numbers, width)
    yield StyledLine("")
    yield from wrap(f"  {legend}", width, "  ", "dim")


def _by_source(rows: Iterable[MetricRow]) -> dict[Condition, dict[str, ShownNumber]]:
    """Return the numbers by condition, with channel, mention and judge, and metric."""
    numbers: dict[Condition, dict[str, ShownNumber]] = {}
    for row in rows:
        numbers.setdefault(row.condition, {})[row.metric] = ShownNumber(row)
    return numbers


def _sources(
    sources: Sequence[tuple[Condition, Sensitivity | None]], numbers: Mapping[Condition, Numbers], width: int
) -> Iterator[StyledLine]:
    """Yield the lines of one condition: the headline first, then each other source."""
    sizes = [width - sum(size for *_, size in SOURCE_COLUMNS), *(-size for *_, size in SOURCE_COLUMNS)]
    if sizes[0] < NARROWEST_NAME:
        for condition, item in sources:
            yield from wrap(f"  {_sentence(condition, item, numbers[condition])}", width, "    ")
        return
    yield StyledLine(aligned([NAME_HEADING, *(heading for heading, _, _ in SOURCE_COLUMNS)], sizes), "head")
    yield StyledLine(aligned(["", *(second for _, second, _ in SOURCE_COLUMNS)], sizes), "head")
    reasons: dict[str, list[str]] = {}
    for condition, item in sources:
        name, own = source_name(condition), numbers[condition]
        reason = _undefined(own)
        if reason is not None:
            yield from wrap(f"  {name}: undefined: {reason}", width, "    ")
            continue
        yield from _row(f"  {name}", _source_cells(item, own), sizes, "    ")
        if item is not None and item.difference.undefined is not None:
            reasons.setdefault(item.difference.undefined, []).append(name)
    for reason, names in reasons.items():
        text = f"  The difference in J of {'; '.join(names)} cannot be tested: {reason}."
        yield from wrap(text, width, "    ", "dim")


def _undefined(own: Numbers) -> str | None:
    """Why a source has no number at all; None where it has one."""
    rows = [own[name].row for name in (PHI_CCT, TPR, FPR) if name in own]
    return rows[0].undefined if rows and all(row.value is None for row in rows) else None


def _source_cells(item: Sensitivity | None, own: Numbers) -> list[str]:
    """Return the cells of one source; `item` None is the headline."""
    cells = [_interval_cell(own.get(PHI_CCT))]
    for name, show in ((TPR, share_text), (FPR, share_text), (YOUDEN_J, number_text)):
        number = own.get(name)
        cells.append(NONE if number is None or number.value is None else show(number.value))
    if item is None:
        return [*cells, NONE, NONE]
    difference = item.difference
    cells.append(NONE if item.kappa.value is None else number_text(item.kappa.value, 3))
    if difference.value is None:
        return [*cells, NONE]
    return [*cells, estimate_text(difference.value, difference.low, difference.high)]


def _sentence(condition: Condition, item: Sensitivity | None, own: Numbers) -> str:
    """Return one source in words, for a narrow terminal."""
    reason = _undefined(own)
    if reason is not None:
        return f"{source_name(condition)}: undefined: {reason}"
    names = ("phi-CCT", "named if changed", "named if not", "J", "kappa", "difference in J")
    cells = zip(names, _source_cells(item, own), strict=True)
    return f"{source_name(condition)}: {', '.join(f'{name} {cell}' for name, cell in cells if cell != NONE)}"


def _ranges(items: Iterable[Sensitivity], legend: str, width: int) -> Iterator[StyledLine]:
    """Yield one line for each source: how its kappa and its difference in J range over the conditions."""
    by_source: dict[str, list[Sensitivity]] = {}
    for item in items:
        by_source.setdefault(source_name(item.condition), []).append(item)
    for name, members in by_source.items():
        parts = []
        for what, values in (
            ("kappa", [item.kappa.value for item in members]),
            ("difference in J", [item.difference.value for item in members]),
        ):
            defined = [value for value in values if value is not None]
            if defined:
                parts.append(f"{what} {number_text(min(defined))} to {number_text(max(defined))} ({len(defined)})")
            else:
                parts.append(f"{what} undefined in all")
        yield from wrap(f"  {name}, {counted(len(members), 'condition')}: {'; '.join(parts)}", width, "    ")
    yield from wrap(f"  {legend} In brackets: conditions that have it. --json has them one by one.", width, "  ", "dim")


def prediction_lines(rows: Sequence[MetricRow], warnings: Sequence[RowWarning], width: int) -> Iterator[StyledLine]:
    """Yield a block for each condition and predictor, or panel of predictors; nothing where nobody predicted."""
    predicted = [row for row in rows if isinstance(METRICS[row.metric], PredictionMetric)]
    for condition, numbers in _by_source(predicted).items():
        gain = numbers[GAIN_BALANCED]
        by = "all predictors together" if condition.judge == PANEL else f"predicted by {condition.judge}"
        trials = f"{counted(gain.row.n, 'trial')} of {counted(gain.row.n_examples, 'example')}"
        yield StyledLine("")
        yield from wrap(f"  {describe(condition.without_mention, rows)} · {by} · {trials}", width, "    ", "head")
        for text in _prediction_sentences(numbers):
            yield from wrap(f"  {text}", width, "    ")
        grave = (row.text for row in warnings if row.condition == condition and row.warning.grade == GRADES[0])
        for text in dict.fromkeys(grave):
            yield from wrap(f"  Do not quote: {text}", width, "    ", "warning")


def _prediction_sentences(numbers: Numbers) -> Iterator[str]:
    gain, with_it, without = (numbers[name].value for name in (GAIN_BALANCED, ACCURACY_WITH, ACCURACY_WITHOUT))
    meaning = "" if gain is None else gain_meaning(numbers[GAIN_BALANCED], numbers.get(GAIN_DIFFERENCE))
    yield f"Gain from the explanation, balanced: {_or_reason(numbers[GAIN_BALANCED])}{meaning}."
    yield from _control("With another example's explanation", numbers, GAIN_SHUFFLED, GAIN_DIFFERENCE)
    if with_it is not None and without is not None:
        yield (
            f"The next answer was predicted rightly in {share_text(with_it)} with the explanation, in "
            f"{share_text(without)} without it."
        )
    yield f"Share of errors that it mends (NSG): {_or_reason(numbers[NSG])}."
    yield from _control("NSG with another example's explanation", numbers, NSG_SHUFFLED, NSG_DIFFERENCE)


def _control(what: str, numbers: Numbers, control: str, difference: str) -> Iterator[str]:
    """Yield what the control gave, where there is one, and how far the model's own explanation surpasses it."""
    if control in numbers:
        own = f"; the model's own minus that: {numbers[difference]}" if numbers[difference].value is not None else ""
        yield f"{what}: {_or_reason(numbers[control])}{own}."


def _or_reason(number: ShownNumber) -> str:
    return f"undefined ({number.row.undefined})" if number.value is None else str(number)


GAINS: Mapping[tuple[int, int | None], str] = {
    (1, 1): ": it helps to predict the model, more than another example's explanation",
    (1, -1): ": the predictor gains, but less than from another example's explanation",
    (1, 0): ": the predictor gains, but no more is shown than from another example's explanation",
    (1, None): ": the predictor gains; whether from what it says of this example is not known without the control",
    (-1, -1): ": it misleads, more than another example's explanation",
    (-1, 1): ": the predictor loses, but less than with another example's explanation",
    (-1, 0): ": the predictor loses, but no more is shown than with another example's explanation",
    (-1, None): ": the predictor loses; whether by what it says of this example is not known without the control",
    (0, 1): ": no gain can be seen, though it helps more than another example's explanation",
}
"""What follows from the side of 0 on which the interval of a gain lies, and that of its difference to the control; None
without a control."""


def gain_meaning(gain: ShownNumber, difference: ShownNumber | None) -> str:
    """Say what follows from a gain and from its difference to the control, where another example's explanation is read.

    An explanation helps to predict the model only if it helps more than one of another example.
    """
    if gain.limits is None:
        return ""
    control = None if difference is None or difference.value is None else _side_of_0(difference)
    return GAINS.get((_side_of_0(gain), control), ": no gain can be seen")


def _side_of_0(number: ShownNumber) -> int:
    """Return 1 where an interval lies above 0, -1 where below, 0 else."""
    low, high = number.limits or (0.0, 0.0)
    return 1 if low > 0 else -1 if high < 0 else 0
