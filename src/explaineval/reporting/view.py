"""What readers see of results, as values: conditions with numbers, intervals, grades, names and sentences.

The screen, tables, the page, figures and exports only lay these out. They are built once, from the scores of a run
(`conditions_of`, `limits_of`). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from explaineval.config import ModelConfig
from explaineval.interventions import Kind, kind_of
from explaineval.metrics.differences import LEVEL
from explaineval.records import EITHER, EXPLANATION, REASONING, SIMULATED_NOTE, SIMULATED_PREFIX, Condition, MetricRow
from explaineval.reporting.comparison_text import own_warnings_of, title_of
from explaineval.scoring.codes import CODES, GRADES, Grade, MetricWarning
from explaineval.scoring.comparisons import Compared, GroupResult, TuningResult
from explaineval.scoring.external import EXTERNAL
from explaineval.scoring.mentioning import JUDGE_REASON
from explaineval.scoring.metric import CORRELATION, Scale
from explaineval.scoring.registry import (
    COMPARED_ONLY,
    FLIP_TO_CUE_RATE,
    FPR,
    IMPACT_RATE,
    METRICS,
    SHAM_RATE,
    TPR,
    UNFAITHFULNESS_PER_EXAMPLE,
    text_of,
)
from explaineval.scoring.rows import PhiByRule, Rule, Scores, ZeroTest, is_headline_row
from explaineval.scoring.shared import System
from explaineval.scoring.task_means import MEAN, task_text
from explaineval.scoring.warnings import RowWarning
from explaineval.text import (
    NARROW_SPACE,
    NO_INTERVAL,
    ORDERS,
    UNDEFINED,
    counted,
    hits_text,
    interval_text,
    joined,
    number_text,
    share_text,
)

if TYPE_CHECKING:
    from explaineval.reporting.results import RunResults


Place = tuple[int, Condition]
"""The number of a run and a condition in it: what numbers, warnings and missing trials are about."""


def scaled_text(value: float, scale: Scale, *, sign: bool = False) -> str:
    """Return a number as the page writes it: shares in per cent, and no -0.00; with `sign` also a plus.

    >>> scaled_text(-0.001, Scale()), scaled_text(0.4567, Scale(0, 1, percent=True, digits=1))
    ('0.00', '45.7\\u202f%')
    """
    if scale.percent:
        return share_text(value, scale.digits, NARROW_SPACE)
    return number_text(value, scale.digits, sign=sign)


def scaled_interval(low: float | None, high: float | None, scale: Scale) -> str:
    """Return an interval in brackets, or `no interval`; the sign of per cent stands at the value alone.

    >>> scaled_interval(-0.1, 0.25, Scale()), scaled_interval(None, None, Scale())
    ('[-0.10, 0.25]', 'no interval')
    """
    if low is None or high is None:
        return NO_INTERVAL
    factor = 100 if scale.percent else 1
    return interval_text(factor * low, factor * high, scale.digits)


@dataclass(frozen=True)
class ShownNumber:
    """One number of one condition; `grave` says that it must not be quoted as it stands.

    `mark` is the number of the footnote that says why it is undefined, where a table has footnotes.
    """

    row: MetricRow
    grave: bool = False
    mark: int | None = None

    @property
    def value(self) -> float | None:
        """The number itself; None where it is undefined."""
        return self.row.value

    @property
    def low(self) -> float | None:
        """The lower limit, None where there is none."""
        return self.row.low

    @property
    def high(self) -> float | None:
        """The upper limit, None where there is none."""
        return self.row.high

    @property
    def limits(self) -> tuple[float, float] | None:
        """Both limits, None where there are none."""
        return None if self.row.low is None or self.row.high is None else (self.row.low, self.row.high)

    @property
    def exact(self) -> str:
        """The number with all of its digits."""
        return "" if self.value is None else repr(self.value)

    @property
    def hits(self) -> str | None:
        """A rate of few trials as "2 of 5"; None for other numbers, and for means over tasks."""
        row = self.row
        if row.value is None or row.task == MEAN or not METRICS[row.metric].scale.percent:
            return None
        trials = row.n_examples if row.metric == UNFAITHFULNESS_PER_EXAMPLE else row.n
        return hits_text(row.value, trials)

    @property
    def share(self) -> str:
        """A rate as sentences tell it: in per cent, or of few trials as their number."""
        return UNDEFINED if self.value is None else self.hits or share_text(self.value)

    @property
    def without_interval(self) -> str | None:
        """What stands in place of an interval: a correlation of 1 or −1 is exact in these trials."""
        if self.limits is not None:
            return None
        is_exact = self.value is not None and abs(self.value) == 1 and METRICS[self.row.metric].scale == CORRELATION
        return "exactly" if is_exact else NO_INTERVAL

    def plain(self, digits: int = 2) -> str:
        """Return the value alone, as terminals and papers show it."""
        return UNDEFINED if self.value is None else number_text(self.value, digits)

    def plain_interval(self, digits: int = 2) -> str:
        """Return the interval as terminals and papers show it, or what stands in its place."""
        return self.without_interval or interval_text(self.low, self.high, digits)

    def __str__(self) -> str:
        """The value with its interval, on one line."""
        return UNDEFINED if self.value is None else f"{self.plain()} {self.plain_interval()}"

    @property
    def text(self) -> str:
        """The value as the page shows it, on the scale of its metric."""
        return UNDEFINED if self.value is None else self.hits or scaled_text(self.value, METRICS[self.row.metric].scale)

    @property
    def interval(self) -> str:
        """The interval as the page shows it; empty for a number that is undefined or never has one."""
        metric = METRICS[self.row.metric]
        if self.value is None or not metric.has_interval:
            return ""
        limits = self.without_interval or scaled_interval(self.low, self.high, metric.scale)
        counted_hits = self.hits is not None and self.without_interval is None
        return limits.replace("]", f"{NARROW_SPACE}%]") if counted_hits else limits


@dataclass
class Footnotes:
    """Reasons, numbered in the order of their first use: why numbers are undefined, or what is to be said of them."""

    reasons: list[str] = field(default_factory=list)

    def mark(self, reason: str) -> int:
        """Return the number of a reason."""
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason) + 1


@dataclass(frozen=True)
class ConditionView:
    """One condition of one run: its numbers by metric, those of its arm included, and what limits them.

    `run` is the number of the run among those that are read together, and `source` that run, where there is a run
    directory. `missing` counts its trials without a score by status. `by_rule` is phi-CCT by every rule for mentions,
    `zero_test` whether it is told from 0 among all conditions of the run.
    """

    run: int
    condition: Condition
    numbers: Mapping[str, ShownNumber]
    missing: Mapping[str, int] = field(default_factory=dict)
    warnings: tuple[RowWarning, ...] = ()
    source: RunResults | None = None
    by_rule: PhiByRule | None = None
    zero_test: ZeroTest | None = None

    @property
    def place(self) -> Place:
        """What it is about."""
        return self.run, self.condition

    @property
    def over_levels(self) -> bool:
        """Whether it is about several levels of verbosity together."""
        return self.condition.verbosity is None

    @property
    def grave(self) -> set[str]:
        """The metrics that must not be quoted as they stand."""
        return {row.warning.metric for row in self.warnings if row.warning.grade == GRADES[0]}

    @property
    def run_name(self) -> str:
        """The name of its run among those that are read together."""
        return "" if self.source is None else self.source.name

    @property
    def model(self) -> ModelConfig | None:
        """What the configuration says of its model."""
        return None if self.source is None else self.source.model(self.condition.endpoint, self.condition.model)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that the numbers rest on: one, or all of the run for the mean."""
        is_mean = self.source is not None and self.condition.task == MEAN
        return tuple(self.source.record.facts.tasks) if self.source and is_mean else (self.condition.task,)

    def value(self, metric: str) -> float | None:
        """Return the value of a metric, None where it is undefined or not there."""
        number = self.numbers.get(metric)
        return None if number is None else number.value

    def limits(self, metric: str) -> tuple[float, float] | None:
        """Return the limits of a metric, None where it has none."""
        number = self.numbers.get(metric)
        return None if number is None else number.limits


def conditions_of(scores: Scores, run: int = 0, source: RunResults | None = None) -> list[ConditionView]:
    """Return each kind of intervention at each level, and over the levels, with the numbers of the headline source.

    Those that measure noise and those of whole arms (accuracy) stand in all conditions of their arm.
    """
    scores = scores.headline
    by_rule = {item.condition: item for item in scores.by_rule}
    by_condition: dict[Condition, dict[str, MetricRow]] = {}
    for row in scores.rows:
        by_condition.setdefault(row.condition.without_mention, {})[row.metric] = row
    arms: dict[Condition, dict[str, MetricRow]] = {}
    for condition, rows in by_condition.items():
        if not has_own_row(condition):
            arms.setdefault(condition.arm, {}).update(rows)
    warnings: dict[Condition, list[tuple[int, RowWarning]]] = {}
    for number, warning in enumerate(scores.warnings):
        condition = warning.condition.without_mention
        warnings.setdefault(condition if has_own_row(condition) else condition.arm, []).append((number, warning))
    views = []
    for condition, rows in by_condition.items():
        if has_own_row(condition):
            limiting = sorted(
                [*warnings.get(condition, ()), *warnings.get(condition.arm, ())], key=lambda item: item[0]
            )
            grave = {item.warning.metric for _, item in limiting if item.warning.grade == GRADES[0]}
            numbers = {
                name: ShownNumber(row, name in grave) for name, row in (rows | arms.get(condition.arm, {})).items()
            }
            missing = scores.missing.get(condition, {})
            said = tuple(item for _, item in limiting)
            more = by_rule.get(condition), scores.zero_tests.get(condition)
            views.append(ConditionView(run, condition, numbers, missing, said, source, *more))
    return views


def has_own_row(condition: Condition) -> bool:
    """Return whether tables have a row for a condition; the numbers of all others hold for a whole arm."""
    return condition.kind is not None and not kind_of(condition.kind).measures_noise


def condition_of(system: System, compared: Compared | TuningResult) -> Condition:
    """Return what the numbers of a compared system are about, on the task and kind of a comparison."""
    asked = (system.order, system.style, system.shots, system.verbosity)
    return Condition(system.endpoint, system.model, compared.task, compared.kind, *asked)


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


def rule_name(rule: Rule) -> str:
    """Return a rule for mentions as a short name: a policy, or a judge."""
    return f"{rule.judge}, as a reason" if rule.mention == JUDGE_REASON else rule.judge or rule.mention


SAME_BY_RULE = "phi-CCT is the same by each rule for mentions"


def rules_sentence(by_rule: PhiByRule | None) -> str | None:
    """Say how far phi-CCT depends on who decides on mentions; None where there is one rule, or phi is undefined."""
    if by_rule is None or by_rule.range is None:
        return None
    values = {rule_name(rule): value for rule, value in by_rule.values.items()}
    defined = {name: number_text(value) for name, value in values.items() if value is not None}
    low, high = (number_text(limit) for limit in by_rule.range)
    if low == high:
        return f"{SAME_BY_RULE}: {joined([*defined])}."
    return (
        f"Depending on the rule for mentions phi-CCT is {low} to {high} "
        f"({', '.join(f'{name} {text}' for name, text in defined.items())})."
    )


def widest_range(views: Sequence[ConditionView], names: Sequence[str]) -> str | None:
    """Say of which condition phi-CCT depends most on who decides on mentions; None where no rule but one decides."""
    ranges = [
        (found[1] - found[0], rules_sentence(view.by_rule) or "", name)
        for view, name in zip(views, names, strict=True)
        if view.by_rule is not None and (found := view.by_rule.range) is not None
    ]
    if not ranges:
        return None
    _, sentence, name = max(ranges, key=lambda item: item[0])
    if sentence.startswith(SAME_BY_RULE):
        return f"{sentence.removesuffix('.')}, in every condition."
    return f"{sentence.removesuffix('.')}: that is {name}, the others depend less on it."


def source_of(condition: Condition) -> str:
    """Say who or what decided on the mentions, or predicted, in a row that does not stand first."""
    if condition.mention is None:
        return f"predictions of {condition.judge}"
    return f"mentions {describe_source(condition)}"


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


def sign_of(number: ShownNumber | None) -> str:
    """Say where the interval of a phi-CCT lies: above 0, below 0, or on both sides; empty without an interval.

    Of a phi-CCT of exactly 1 or −1 say what that means in these trials.
    """
    if number is None or number.limits is None:
        return EXACT.get(number.value or 0.0, "") if number is not None else ""
    low, high = number.limits
    return "above 0" if low > 0 else "below 0" if high < 0 else "cannot be told from 0"


def told_from_zero(views: Iterable[ConditionView]) -> str | None:
    """Say how many phi-CCTs are told from 0 after adjustment over all conditions; None where one test was made."""
    tests = [view.zero_test for view in views if view.zero_test is not None]
    if not tests or tests[0].conditions < 2:
        return None
    told = sum(test.p_adjusted < LEVEL for test in tests)
    return f"phi-CCT is told from 0 in {told} of {tests[0].conditions} conditions after adjustment over them (Holm)."


def sentences_of(view: ConditionView) -> Iterator[str]:
    """Yield what was seen in sentences: how often answers changed, and how often the insertion was named."""
    kind = kind_of(str(view.condition.kind))
    inserted, named = _words(kind)
    numbers = {name: number for name, number in view.numbers.items() if number.value is not None}
    if IMPACT_RATE in numbers:
        text = f"{inserted} changed {_of_answers(numbers[IMPACT_RATE])}"
        if SHAM_RATE in numbers:
            text += f"; asking the same again changed {numbers[SHAM_RATE].share}"
        yield f"{text}."
    if FLIP_TO_CUE_RATE in numbers:
        letter = "the letter that the cue suggests" if kind.control_of else "the suggested letter"
        yield f"{_of_answers(numbers[FLIP_TO_CUE_RATE])} went to {letter}."
    tpr, fpr = numbers.get(TPR), numbers.get(FPR)
    if tpr is not None:
        rest = "" if fpr is None else f"; when it did not, in {fpr.share}"
        yield f"When the answer changed, the explanation named {named} in {tpr.share}{rest}."
    elif fpr is not None:
        yield f"When the answer did not change, the explanation named {named} in {fpr.share}."
    if (by_rule := rules_sentence(view.by_rule)) is not None:
        yield by_rule


def _of_answers(rate: ShownNumber) -> str:
    if rate.hits is None:
        return f"{rate.share} of the answers"
    return f"{rate.hits} {'answer' if rate.row.n == 1 else 'answers'}"


def _words(kind: Kind) -> tuple[str, str]:
    """How sentences call what was inserted, as the subject, and what an explanation names."""
    if kind.control_of is not None:
        return "The same text without a suggestion", "it"
    if kind.cue is not None:
        return "The suggested answer", "the suggestion"
    if kind.inserts == "word":
        return "Removing a word" if kind.takes_out else "Inserting a word", "the word"
    return "The edit", "it"


def statuses_text(missing: Mapping[str, int]) -> str:
    """Return counts of statuses, the most frequent first."""
    return ", ".join(f"{count:,} {status}" for status, count in sorted(missing.items(), key=lambda item: -item[1]))


def missing_sentence(view: ConditionView, scored: int) -> str:
    """Say how many trials of a condition have no score, and why."""
    lost = sum(view.missing.values())
    have = "has" if lost == 1 else "have"
    return f"{lost:,} of {counted(scored + lost, 'trial')} {have} no score: {statuses_text(view.missing)}."


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


class ConditionNames:
    """Names conditions of runs in words, with the run where several runs hold the same."""

    def __init__(self, rows: Iterable[MetricRow], runs: Sequence[str]) -> None:
        """Take the rows of all runs, and the names of the runs in the order in which places count them."""
        every = {row.condition.without_mention: row for row in rows}
        self._rows = list(every.values())  # one of each condition says which models, kinds and levels there are
        self._runs = runs
        self._parts: dict[Condition, list[str]] = {}

    def parts(self, place: Place) -> list[str]:
        """Return the parts of a place's description, the run last where there are several."""
        run, condition = place
        if condition not in self._parts:
            self._parts[condition] = parts_of(condition, self._rows)
        return [*self._parts[condition], *([self._runs[run]] if len(self._runs) > 1 else [])]

    def split(self, places: Sequence[Place]) -> tuple[list[str], list[str]]:
        """Return the parts that all of these share, and the name of each in what is left; the model at least."""
        if not places:
            return [], []
        shared, names = split_shared([self.parts(place) for place in places])
        if len(places) == 1:
            return shared[1:], shared[:1]
        return shared, [name or self.parts(place)[0] for name, place in zip(names, places, strict=True)]


MOST_METRICS = 6
"""Metrics that are named with a warning; `--json` names each."""

GRADE_TITLES: dict[Grade, str] = {
    "do not quote": "Do not quote these numbers as they stand",
    "mind": "Keep in mind",
    "for the record": "For the record",
}
"""The headings under which warnings stand, by their grade."""


@dataclass(frozen=True)
class Instance:
    """One sentence of a warning, the metrics that it limits, and the names of what it is about.

    `shares_place` says that another sentence of the warning is about one of these places too, and about other metrics.
    """

    text: str
    metrics: tuple[str, ...]
    places: tuple[str, ...]
    shares_place: bool = False

    @property
    def named_metrics(self) -> str:
        """The metrics by name, where neither the places nor the sentence's first words tell which they are."""
        if not self.shares_place or self.text.lower().startswith(f"{self.metrics[0]} ".lower()):
            return ""
        more = len(self.metrics) - MOST_METRICS
        return joined([*self.metrics[:MOST_METRICS], *([f"{more} more"] if more > 0 else [])])


@dataclass(frozen=True)
class Limit:
    """All warnings of one code and grade: what they are about, what to do, and each sentence with its places.

    `shared` is what all places have in common; `count` is their number.
    """

    code: str
    grade: Grade
    title: str
    todo: str
    metrics: tuple[str, ...]
    shared: str
    count: int
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class GradeLimits:
    """The warnings of one grade under their heading."""

    grade: Grade
    title: str
    limits: tuple[Limit, ...]


Found = tuple[MetricWarning, Place | str]
"""A warning with its place; one of a comparison with a text that says what is compared."""


def limits_of(
    runs: Sequence[Scores], names: ConditionNames, comparisons: Sequence[GroupResult] = ()
) -> tuple[GradeLimits, ...]:
    """Return everything that limits the numbers of these runs and their comparisons, the gravest grade first.

    Within a grade what limits the first metrics of the registry comes first.
    """
    found: list[Found] = []
    for result in comparisons:
        for compared in result.leading:
            about = f"the comparison of {compared.kind.replace('_', ' ')}, {task_text(compared.task)}"
            found += [(warning, about) for warning in own_warnings_of(result, compared)]
    for number, scores in enumerate(runs):
        for row in scores.warnings:
            place = number, row.condition.without_mention
            if is_headline_row(row.condition, scores.policy):
                found.append((row.warning, place))
            else:
                parts = [part for part in names.parts(place) if part != SIMULATED_NOTE]
                found.append((row.warning, " · ".join([*parts, source_of(row.condition)])))
    grades = []
    for grade in GRADES:
        codes: dict[str, list[Found]] = {}
        for item in found:
            if item[0].grade == grade:
                codes.setdefault(item[0].code, []).append(item)
        if codes:
            limits = tuple(_limit(code, grade, members, names) for code, members in codes.items())
            grades.append(GradeLimits(grade, GRADE_TITLES[grade], tuple(sorted(limits, key=_order))))
    return tuple(grades)


def _order(limit: Limit) -> tuple[int, int]:
    """Sort what limits the first metrics of the registry first, then what concerns most conditions."""
    titles = [text_of(name).title for name in (*METRICS, *COMPARED_ONLY)]
    return min(map(titles.index, limit.metrics)), -limit.count


def _limit(code: str, grade: Grade, members: Iterable[Found], names: ConditionNames) -> Limit:
    by_text: dict[str, list[Found]] = {}
    for item in members:
        # what is said of several metrics alike is one sentence: their titles stand beside it
        by_text.setdefault(item[0].text.removeprefix(f"{title_of(item[0].metric)}: "), []).append(item)
    places = list(dict.fromkeys(place for _, place in members if not isinstance(place, str)))
    shared, own = names.split(places)
    name_of: dict[Place | str, str] = dict(zip(places, own, strict=True))
    metrics_of = {
        text: tuple(dict.fromkeys(title_of(warning.metric) for warning, _ in items)) for text, items in by_text.items()
    }
    told: dict[Place | str, set[tuple[str, ...]]] = {}
    for text, items in by_text.items():
        for _, place in items:
            told.setdefault(place, set()).add(metrics_of[text])
    instances = tuple(
        Instance(
            upper_first(text),
            metrics_of[text],
            tuple(dict.fromkeys(name_of.get(place, str(place)) for _, place in items)),
            shares_place=any(len(told[place]) > 1 for _, place in items),
        )
        for text, items in by_text.items()
    )
    return Limit(
        code=code,
        grade=grade,
        title=CODES[code].title or code.replace("_", " ").capitalize(),
        todo=next(warning.todo for warning, _ in members),
        metrics=tuple(dict.fromkeys(title_of(warning.metric) for warning, _ in members)),
        shared=" · ".join(shared),
        count=len(dict.fromkeys(place for _, place in members)),
        instances=instances,
    )
