"""Say what was found: a sentence that can be quoted for each comparison, with the tables that it rests on. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from explaineval.records import SIMULATED_NOTE
from explaineval.reporting.comparison_text import (
    best_of,
    equivalence_of,
    explained_of,
    order_by_rule,
    reasons_of,
    sentence_of,
    shared_ranks_of,
    short_names,
    trend_of,
    tuning_sentences,
)
from explaineval.reporting.page.tables import ConditionTable, DifferenceTable, difference_table, entry_table, ranks_of
from explaineval.reporting.results import ComparedRuns
from explaineval.reporting.view import (
    ConditionNames,
    ConditionView,
    Place,
    ShownNumber,
    condition_of,
    missing_sentence,
    scaled_interval,
    scaled_text,
    sentences_of,
    sign_of,
    statuses_text,
)
from explaineval.scoring.comparisons import PRIMARY, Compared, GroupResult
from explaineval.scoring.registry import CCT, FLIP_TO_CUE_RATE, FPR, IMPACT_RATE, METRICS, PHI_CCT, SHAM_RATE, TPR
from explaineval.text import counted, joined

MEANINGS = {
    "above 0": "the explanations name the insertion more often where it changed the answer",
    "below 0": "the explanations name the insertion less often where it changed the answer",
    "cannot be told from 0": "it is not shown that the explanations name what changed the answer",
}
"""What follows from where the interval of a phi-CCT lies."""


MOST_NEAR = 4
"""Systems of which each is said what was seen in it, or that it is not separated from the best."""


@dataclass(frozen=True)
class TaskTable:
    """The table of one task below that of the mean over tasks, with the sentence of its comparison."""

    heading: str
    sentence: str
    table: ConditionTable


@dataclass(frozen=True)
class FindingBlock:
    """One thing that was found: what it is about, the sentence to quote, what belongs to it, and its tables.

    `notes` stand below the sentence, `remarks` beside the table. `more` has the other numbers of the same rows, `tasks`
    the tables of single tasks. `metric` is the one that the sentence is about.
    """

    id: str
    heading: str
    sentence: str
    notes: tuple[str, ...]
    table: ConditionTable
    more: ConditionTable
    tasks: tuple[TaskTable, ...] = ()
    differences: DifferenceTable | None = None
    remarks: tuple[str, ...] = ()
    metric: str = ""


def findings_of(results: ComparedRuns, names: ConditionNames) -> list[FindingBlock]:
    """Return a finding for each primary comparison, then one for each set of conditions that none of them holds."""
    by_place = {entry.place: entry for entry in results.conditions}
    used: set[Place] = set()
    findings: list[FindingBlock] = []
    for number, result in enumerate(results.comparisons):
        for compared in result.leading:
            of_kind = [item for item in result.families if (item.metric, item.kind) == (compared.metric, compared.kind)]
            found = [(item, _entries_of(item, by_place)) for item in of_kind]
            if found[0][1]:
                used |= {entry.place for _, members in found for entry in members.values()}
                findings.append(_compared(f"finding-{len(findings) + 1}", result, found, names, first=number == 0))
    groups: dict[tuple[object, ...], list[ConditionView]] = {}
    for entry in results.conditions:
        if entry.place not in used:
            key = (entry.condition.task, entry.condition.kind, entry.over_levels, *_areas(entry))
            groups.setdefault(key, []).append(entry)
    for members in groups.values():
        findings.append(_alone(f"finding-{len(findings) + 1}", members, names))
    return findings


def _areas(entry: ConditionView) -> list[str]:
    """Return the metrics of an entry over levels: areas with one answer and with own answers are not mixed."""
    return [name for name in entry.numbers if "results" in METRICS[name].views] if entry.over_levels else []


def _entries_of(compared: Compared, by_place: Mapping[Place, ConditionView]) -> dict[int, ConditionView]:
    """Return the entries of the systems of a family, by the numbers of the systems."""
    found = {}
    for number, system in enumerate(compared.group.systems):
        entry = by_place.get((system.run, condition_of(system, compared)))
        if entry is not None:
            found[number] = entry
    return found


def _compared(
    name: str,
    result: GroupResult,
    found: Sequence[tuple[Compared, dict[int, ConditionView]]],
    names: ConditionNames,
    *,
    first: bool,
) -> FindingBlock:
    compared, entries = found[0]
    members = list(entries.values())
    table = entry_table(f"{name}-table", members, "results", names, ranks=ranks_of(result, compared, entries))
    tasks = [
        TaskTable(
            item.task,
            sentence_of(item),
            entry_table(
                f"{name}-task-{number}", list(own.values()), "results", names, ranks=ranks_of(result, item, own)
            ),
        )
        for number, (item, own) in enumerate(found[1:], start=1)
        if own
    ]
    explained = explained_of(result) if first or not compared.group.levels else ()
    return FindingBlock(
        id=name,
        heading=_heading(table, compared),
        sentence=sentence_of(compared),
        notes=(*_seen(members, names), *_notes(compared), *_tuning(result, compared)),
        table=table,
        more=entry_table(f"{name}-more", members, "more", names),
        tasks=tuple(tasks),
        differences=difference_table(f"{name}-differences", result, compared),
        remarks=(*_remarks(result, compared), *explained),
        metric=compared.metric,
    )


def _heading(table: ConditionTable, compared: Compared) -> str:
    """Return what a comparison is about in a few words; that models are simulated is said elsewhere."""
    parts = [part for part in table.shared.split(" · ") if part != SIMULATED_NOTE]
    if compared.group.levels:
        parts.append(f"levels {joined(compared.group.levels)}")
    return " · ".join(parts) or compared.task


def _seen(members: Sequence[ConditionView], names: ConditionNames) -> Iterator[str]:
    """Yield what was seen in each of a few conditions: how often answers changed and insertions were named."""
    if len(members) > MOST_NEAR or any(entry.over_levels for entry in members):
        return
    _, own = names.split([entry.place for entry in members])
    for name, entry in zip(own, members, strict=True):
        seen = " ".join((*sentences_of(entry), *_not_quoted(entry)))
        if seen:
            yield f"{name}: {seen}"


SAID_IN_SENTENCES = (PHI_CCT, IMPACT_RATE, SHAM_RATE, FLIP_TO_CUE_RATE, TPR, FPR)
"""The numbers of a condition that sentences tell."""


def _not_quoted(entry: ConditionView) -> Iterator[str]:
    """Name the numbers in sentences about a condition that must not be quoted."""
    titles = [METRICS[name].title for name in SAID_IN_SENTENCES if name in entry.grave and name in entry.numbers]
    if titles:
        yield f"Do not quote {joined(titles)}: see the warnings."


def _notes(compared: Compared) -> Iterator[str]:
    """Yield what belongs to the sentence of a comparison: the best, what is equivalent, what grows with size."""
    for text in (_best(compared), equivalence_of(compared), order_by_rule(compared), trend_of(compared)):
        if text:
            yield text


def _best(compared: Compared) -> str | None:
    """Say which systems are not separated from the best; of many only their number, since ranks tell which."""
    is_phi = compared.metric == PRIMARY
    best, near = compared.family.best, len(compared.family.not_separated) - 1
    text = best_of(compared)
    if text is None or best is None or near <= MOST_NEAR:
        return text
    others = len(compared.group.names) - 1
    return (
        f"{compared.group.names[best]} has the highest value, but {near} of the {others} others are not "
        f"{'shown to be less faithful' if is_phi else 'separated from it'}. It was picked by looking at these data, so "
        "its own value is a little too high."
    )


def _tuning(result: GroupResult, compared: Compared) -> Iterator[str]:
    """Yield how tuned models compare with pretrained ones on the task and kind of a comparison."""
    for tuning in result.tuning:
        if (tuning.task, tuning.kind) == (compared.task, compared.kind):
            yield from tuning_sentences(tuning)


def _remarks(result: GroupResult, compared: Compared) -> Iterator[str]:
    """Yield what the differences and ranks of a comparison rest on, and what is not tested."""
    shared = f"{counted(compared.n_pairs, 'trial')} of {counted(compared.n_examples, 'example')}"
    lost = [name for name, count in zip(short_names(compared.group.names), compared.lost, strict=True) if count]
    text = f"Differences and ranks rest on the {shared} that are scored in all of them"
    yield f"{text}; {joined(lost)} lost trials by that." if lost else f"{text}."
    shared_ranks = shared_ranks_of(compared) if result.reference is None else None
    if shared_ranks:
        yield shared_ranks
    if compared.tested and any(compared.undefined):
        yield f"Not tested: {'; '.join(reasons_of(compared))}."
    cct = result.family(CCT, compared)
    if cct is not None and cct is not compared and cct.trend is not None and cct.trend.value is not None:
        yield trend_of(cct) or ""


def _alone(name: str, entries: Sequence[ConditionView], names: ConditionNames) -> FindingBlock:
    """Return a finding about conditions that are not compared."""
    table = entry_table(f"{name}-table", entries, "results", names)
    metric = table.columns[0].metric if table.columns else ""
    sentence, *notes = _sentences(entries[0], metric) if len(entries) == 1 else [_range(entries, metric)]
    parts = [part for part in table.shared.split(" · ") if part != SIMULATED_NOTE]
    if len(entries) == 1:
        parts.insert(0, entries[0].condition.model)
    if entries[0].over_levels:
        parts.append("all levels of verbosity")
    return FindingBlock(
        id=name,
        heading=" · ".join(parts),
        sentence=sentence,
        notes=tuple(notes),
        table=table,
        more=entry_table(f"{name}-more", entries, "more", names),
        metric=metric,
    )


def _sentences(entry: ConditionView, metric: str) -> Iterator[str]:
    """Yield what was found in one condition: its headline, then what was seen."""
    number = entry.numbers.get(metric)
    if number is None or (number.row.n == 0 and entry.missing):
        reason = f" ({statuses_text(entry.missing)})" if entry.missing else ""
        lost = counted(sum(entry.missing.values()), "trial")
        yield f"Nothing could be measured: none of the {lost} has a score{reason}."
        return
    yield _headline(number)
    if not entry.over_levels:
        yield from sentences_of(entry)
        yield from _not_quoted(entry)
    if entry.missing:
        yield missing_sentence(entry, number.row.n)


def _headline(number: ShownNumber) -> str:
    """Return one number in a sentence, with what follows from where its interval lies unless it must not be quoted."""
    row, metric = number.row, METRICS[number.row.metric]
    if row.value is None:
        return f"{metric.title} is undefined: {row.undefined}."
    value, limits = scaled_text(row.value, metric.scale), scaled_interval(row.low, row.high, metric.scale)
    grave = ", do not quote" if number.grave else ""
    if metric.scale.nothing != 0:
        return f"{metric.title} is {value} {limits} ({metric.scale.nothing:g}: no relation){grave}."
    sign = sign_of(number)
    if not sign:
        return f"{metric.title} is {value}, without an interval{grave}."
    if sign not in MEANINGS:
        return f"{metric.title} is exactly {value}{grave}: the insertion is {sign}."
    return f"{metric.title} is {value} {limits}, {sign}{grave or f': {MEANINGS[sign]}'}."


def _range(entries: Sequence[ConditionView], metric: str) -> str:
    """Return from where to where the numbers of conditions go that are not compared."""
    values = sorted(value for entry in entries if (value := entry.value(metric)) is not None)
    if not values:
        which = f"these {counted(len(entries), 'condition')}"
        return f"No number could be computed in {which}: see the reasons below the table."
    title, scale = METRICS[metric].title, METRICS[metric].scale
    first, last = scaled_text(values[0], scale), scaled_text(values[-1], scale)
    reach = first if first == last else f"between {first} and {last}"
    text = f"{title} is {reach} in {counted(len(values), 'condition')}"
    grave = sum(metric in entry.grave for entry in entries)
    text += f" ({grave} marked do not quote)" if grave else ""
    undefined = len(entries) - len(values)
    return f"{text}; in {undefined} it is undefined." if undefined else f"{text}. They are not compared."
