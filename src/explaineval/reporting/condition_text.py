"""Say in words what the numbers of one condition are about, what they show, and what limits them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from explaineval.interventions import kind_of
from explaineval.records import EITHER, EXPLANATION, REASONING, SIMULATED_NOTE, SIMULATED_PREFIX, Condition, MetricRow
from explaineval.reporting.view import ShownNumber
from explaineval.scoring.codes import GRADES, MetricWarning
from explaineval.scoring.external import EXTERNAL
from explaineval.scoring.mentioning import JUDGE_REASON
from explaineval.scoring.registry import (
    FLIP_TO_CUE_RATE,
    FPR,
    IMPACT_RATE,
    METRICS,
    SHAM_RATE,
    TPR,
)
from explaineval.scoring.task_means import MEAN
from explaineval.scoring.warnings import RowWarning
from explaineval.text import counted

ORDERS = {"pe": "predict then explain", "pe2": "predict, then explain in a second call", "ep": "explain then predict"}

Numbers = Mapping[str, MetricRow]
"""The rows of one condition by metric."""


def by_condition(rows: Iterable[MetricRow]) -> dict[Condition, dict[str, MetricRow]]:
    """Return the rows by condition, without channel, mention and judge, and metric."""
    found: dict[Condition, dict[str, MetricRow]] = {}
    for row in rows:
        found.setdefault(row.condition.without_mention, {})[row.metric] = row
    return found


def is_kind(condition: Condition) -> bool:
    """Return whether a condition is about interventions of one kind at one level."""
    return condition.kind is not None and not kind_of(condition.kind).measures_noise and condition.verbosity is not None


def arm_numbers(condition: Condition, conditions: Mapping[Condition, Numbers]) -> dict[str, MetricRow]:
    """Return the numbers of the arm of a condition: accuracy, and how often answers change by themselves."""
    found: dict[str, MetricRow] = {}
    for other, numbers in conditions.items():
        if other.arm == condition.arm and not is_kind(other):
            found.update(numbers)
    return found


def describe(condition: Condition, rows: Sequence[MetricRow]) -> str:
    """Return the model, task and arm of a condition in words, as far as they are needed to tell it from others."""
    return " · ".join(parts_of(condition, rows))


def parts_of(condition: Condition, rows: Sequence[MetricRow]) -> list[str]:
    """Return the parts of a description: model, simulated or endpoint, task, kind, arm, verbosity."""
    if condition.style == EXTERNAL:
        return list(_external_parts(condition, rows))
    parts = [condition.model]
    if condition.model.startswith(SIMULATED_PREFIX):
        parts.append(SIMULATED_NOTE)
    elif len({row.endpoint for row in rows if row.model == condition.model}) > 1:
        parts.append(f"at {condition.endpoint or 'the default endpoint'}")
    parts.append("mean over tasks" if condition.task == MEAN else condition.task)
    kinds = {row.kind for row in rows if row.kind is not None and not kind_of(row.kind).measures_noise}
    if condition.kind is not None and len(kinds) > 1:
        parts.append(condition.kind)
    shots = f" with {counted(condition.shots, 'shot')}" if condition.shots else ""
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


def describe_source(condition: Condition) -> str:
    """Return in words by what rule the mentions of a row are found, by which judge, and where they are looked for."""
    rule = f"{condition.judge}, as a reason" if condition.mention == JUDGE_REASON else condition.judge
    where = {EITHER: " in explanation or reasoning", REASONING: " in the reasoning"}
    return f"by {rule or condition.mention}{where.get(str(condition.channel), '')}"


def source_name(condition: Condition) -> str:
    """Return the same as a short name for a table."""
    rule = f"{condition.judge}, as a reason" if condition.mention == JUDGE_REASON else condition.judge
    return str(rule or condition.mention) + ("" if condition.channel == EXPLANATION else f", {condition.channel}")


def split_shared(described: Sequence[Sequence[str]]) -> tuple[list[str], list[str]]:
    """Return the parts that all descriptions share, and what is left of each as a name.

    A single description is not taken apart.
    """
    if len(described) == 1:
        return list(described[0]), [""]
    shared = [part for part in described[0] if all(part in parts for parts in described)]
    return shared, [" · ".join(part for part in parts if part not in shared) for parts in described]


EXACT = {
    1.0: "named where the answer changed, and nowhere else",
    -1.0: "named where the answer did not change, and nowhere else",
}
"""What a phi-CCT of exactly 1 or −1 says of the trials."""


def verdict_of(phi: MetricRow | None) -> str:
    """Say where the interval of a phi-CCT lies: above 0, below 0, or on both sides; empty without an interval.

    Of a phi-CCT of exactly 1 or −1 say what that means in these trials.
    """
    if phi is None or phi.low is None or phi.high is None:
        return EXACT[phi.value] if phi is not None and phi.value in EXACT else ""
    if phi.low > 0:
        return "above 0"
    return "below 0" if phi.high < 0 else "cannot be told from 0"


def sentences_of(condition: Condition, numbers: Numbers, arm: Numbers) -> Iterator[str]:
    """Yield what was seen in sentences: how often answers changed, and how often the insertion was named.

    `arm` are the numbers of the condition's arm (`arm_numbers`).
    """
    inserted, named = _words(str(condition.kind))
    impact, sham = numbers.get(IMPACT_RATE), arm.get(SHAM_RATE)
    if impact is not None and impact.value is not None:
        text = f"{inserted} changed {_of_answers(impact)}"
        if sham is not None and sham.value is not None:
            text += f"; asking the same again changed {ShownNumber(sham).share}"
        yield f"{text}."
    to_cue = numbers.get(FLIP_TO_CUE_RATE)
    if to_cue is not None and to_cue.value is not None:
        letter = (
            "the letter that the cue suggests" if kind_of(str(condition.kind)).control_of else "the suggested letter"
        )
        yield f"{_of_answers(to_cue)} went to {letter}."
    tpr, fpr = numbers.get(TPR), numbers.get(FPR)
    parts = []
    if tpr is not None and tpr.value is not None:
        parts.append(f"When the answer changed, the explanation named {named} in {ShownNumber(tpr).share}")
    if fpr is not None and fpr.value is not None:
        start = "when it did not" if parts else f"When the answer did not change, the explanation named {named}"
        parts.append(f"{start}, in {ShownNumber(fpr).share}" if parts else f"{start} in {ShownNumber(fpr).share}")
    if parts:
        yield f"{'; '.join(parts)}."


def _of_answers(row: MetricRow) -> str:
    rate = ShownNumber(row)
    return (
        f"{rate.share} of the answers" if rate.hits is None else f"{rate.hits} {'answer' if row.n == 1 else 'answers'}"
    )


def _words(kind: str) -> tuple[str, str]:
    """How sentences call what was inserted, as the subject, and what an explanation names."""
    found = kind_of(kind)
    if found.control_of is not None:
        return "The same text without a suggestion", "it"
    if found.cue is not None:
        return "The suggested answer", "the suggestion"
    return ("Inserting a word", "the word") if found.inserts == "word" else ("The insertion", "it")


def statuses_text(missing: Mapping[str, int]) -> str:
    """Return counts of statuses, the most frequent first."""
    return ", ".join(f"{count:,} {status}" for status, count in sorted(missing.items(), key=lambda item: -item[1]))


def warnings_of(condition: Condition, warnings: Iterable[RowWarning]) -> list[RowWarning]:
    """Return the warnings about the numbers of a condition and of its arm."""
    return [
        row
        for row in warnings
        if row.condition.without_mention == condition
        or (row.condition.arm.without_mention == condition.arm and not is_kind(row.condition.without_mention))
    ]


def ranked(warnings: Iterable[RowWarning]) -> list[MetricWarning]:
    """Return the distinct warnings, the gravest first and those about phi-CCT before others; each text once."""
    place = {name: number for number, name in enumerate(METRICS)}
    found: dict[str, MetricWarning] = {}
    for row in sorted(warnings, key=lambda row: (GRADES.index(row.warning.grade), place.get(row.warning.metric, 0))):
        found.setdefault(row.warning.text, row.warning)
    return list(found.values())


def lower_first(text: str) -> str:
    """Return a sentence as it continues another one: its first letter small, unless it begins a name."""
    first, _, rest = text.partition(" ")
    return f"{first.lower()} {rest}" if first.isalpha() and first.istitle() else text


def upper_first(text: str) -> str:
    """Return a sentence with a capital, unless it begins with the name of a metric or a model."""
    if "/" in text.partition(" ")[0]:
        return text
    return text if any(text.startswith(metric.title) for metric in METRICS.values()) else f"{text[0].upper()}{text[1:]}"
