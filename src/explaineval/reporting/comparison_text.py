"""Put comparisons into words: the sentence that can be quoted, what equals what, and what limits a difference."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from explaineval.metrics.differences import LEVEL, SAME, Difference, Rank
from explaineval.metrics.frontiers import MeanDifference
from explaineval.metrics.trends import Trend
from explaineval.records import SIMULATED_PREFIX
from explaineval.scoring.codes import CODES, GRADES, Finding, MetricWarning, finding, versions_text, warning_of
from explaineval.scoring.comparisons import PRIMARY, CarriedWarning, Claim, Compared, GroupResult
from explaineval.scoring.comparisons.groups import PRIMARY_OVER_LEVELS, TunedPair, TuningResult
from explaineval.scoring.registry import text_of
from explaineval.scoring.task_means import task_text
from explaineval.text import (
    MOST_NAMES,
    counted,
    estimate_text,
    interval_text,
    joined,
    number_text,
    p_text,
    share_text,
    significant_text,
)

SHOWN_NAMES = MOST_NAMES
"""Names of systems that one sentence lists."""

WORTH_A_TREND = 6
"""Models from which on it is said why there is no trend over their size: three families of two are the least."""

NOTHING_SEEN = 1.0
"""A detectable difference between correlations from which on it is said that nothing could have been seen."""

GOES_WITH_RATES = "goes with impact rates"


MOST_HEADLINES = 3
"""Sentences about comparisons at the head of the first screen of a run."""


def headlines_of(results: Sequence[GroupResult]) -> list[str]:
    """Return what comparisons say first, as `explaineval compare` says it: the sentences of the leading families.

    Where there are more than MOST_HEADLINES, one more sentence says how many are left out.
    """
    sentences = [sentence_of(compared) for result in results for compared in result.leading]
    left = len(sentences) - MOST_HEADLINES
    rest = [f"{counted(left, 'more comparison')}: see explaineval compare."] if left > 0 else []
    return [*sentences[:MOST_HEADLINES], *rest]


def title_of(metric: str) -> str:
    """Return how sentences call a metric that is compared."""
    return text_of(metric).title


def task_of(compared: Compared) -> str:
    """Return how sentences call what a family is about: a task or the mean over tasks, the levels, kind and arm."""
    return place_text(compared.task, compared.group.levels, compared.context)


def place_text(task: str, levels: Sequence[str], context: Sequence[str]) -> str:
    """Return a task or the mean over tasks in words, over levels where there are any, with the kind and arm named.

    >>> place_text("nli", ("brief", "normal"), ("random word",))
    'nli over 2 levels of verbosity (random word)'
    """
    where = f"{task_text(task)} over {counted(len(levels), 'level')} of verbosity" if levels else task_text(task)
    return f"{where} ({', '.join(context)})" if context else where


def sentence_of(compared: Compared) -> str:
    """Return what a family says, in a sentence that can be quoted; of arms and runs it names the model."""
    body, model = _sentence(compared), compared.group.fixed["model"]
    if compared.leading and not compared.primary:
        body = f"{body.removesuffix('.')} (exploratory)."
    if compared.group.by == "model" or model is None:
        return body
    start, rest = body.split(" ", 1)
    return f"For {model}, {start.lower() if start in ('Cannot', 'No') else start} {rest}"


def _sentence(compared: Compared) -> str:
    names, title = compared.group.names, title_of(compared.metric)
    tested = compared.tested
    if not tested:
        if all(row.note == SAME for row in compared.family.differences):
            return f"{joined(names)} have the same {title} on {task_of(compared)}, example by example."
        if compared.instead is not None:
            return f"{_sentence(compared.instead).removesuffix('.')} ({'; '.join(_why_untested(compared))})."
        return f"No difference in {title} can be tested on {task_of(compared)}: {'; '.join(reasons_of(compared))}."
    told = [number for number, claim in enumerate(compared.claims) if claim.is_separated]
    if not told:
        return _nothing_told(compared, tested)
    faithful = [number for number in told if compared.claims[number].name == "more_faithful"]
    clearest = min(faithful or told, key=lambda number: _clearness(compared.family.differences[number]))
    claim = _claim_sentence(compared, clearest)
    if len(tested) == 1:
        return claim
    if len(faithful) == len(told) or compared.metric != PRIMARY:
        return f"{len(told)} of {counted(len(tested), 'pair')} can be told apart; the clearest: {claim}"
    differ = f"{len(told)} of {counted(len(tested), 'pair')} {'differs' if len(told) == 1 else 'differ'} in {title}"
    if not faithful:
        return f"{differ}, none is shown to differ in faithfulness; the clearest: {claim}"
    return f"{differ}, {len(faithful)} of them in faithfulness; the clearest of these: {claim}"


def _clearness(row: Difference) -> tuple[float, float]:
    """Sort key: the smallest p first, then the largest difference for its error."""
    return row.p_adjusted or 0.0, -abs((row.value or 0.0) / (row.error or 1.0))


def higher_first(compared: Compared, number: int) -> tuple[str, str, Difference]:
    """Return the names of both systems of a difference, the higher one first, and the difference turned that way."""
    row, names = compared.family.differences[number], compared.group.names
    if (row.value or 0.0) >= 0:
        return names[row.first], names[row.second], row
    return names[row.second], names[row.first], row.turned


def _numbers(row: Difference, compared: Compared) -> str:
    """Return a difference with its adjusted limits and p."""
    p = f"p {p_text(row.p_adjusted or 0.0)}"
    if compared.family.claims > 1:
        p = f"adjusted {p} over {counted(compared.family.claims, 'pair')}"
    return f"{_interval(row.value, row.low_adjusted, row.high_adjusted)}, {p}"


def _interval(value: float | None, low: float | None, high: float | None) -> str:
    return estimate_text(value or 0.0, low or 0.0, high or 0.0, sign=True)


def _claim_sentence(compared: Compared, number: int) -> str:
    """Return what is claimed of one difference that is told apart."""
    claim, (higher, lower, row) = compared.claims[number], higher_first(compared, number)
    title, where = title_of(compared.metric), task_of(compared)
    numbers, spread = _numbers(row, compared), _spread_text(compared, number, row)
    if claim.name == "more_faithful":
        return f"{higher} is more faithful than {lower} on {where}: {title} {numbers}{spread}."
    if claim.name == "higher_phi":
        more = " The difference goes with their impact rates." if claim.goes_with_rates else ""
        reasons = "; ".join(_why_no_more(compared, number, claim))
        return f"{higher} has the higher {title} on {where} ({numbers}{spread}), but {reasons}.{more}"
    scale = " (logarithm)" if compared.on_log_scale else ""
    return f"{higher} has the higher {title} on {where}: {numbers}{scale}{spread}."


def _why_no_more(compared: Compared, number: int, claim: Claim) -> Iterator[str]:
    """Say why a higher phi-CCT does not mean more faithful."""
    higher, lower, row = higher_first(compared, number)
    if claim.rates is not None and claim.at_rates is not None:
        turned = row is not compared.family.differences[number]
        rates, at_rates = (claim.rates[::-1], claim.at_rates[::-1]) if turned else (claim.rates, claim.at_rates)
        signs = [(-one.sign if turned else one.sign) for one in at_rates]
        if signs != [1, 1]:
            shown = [rate_text(rate, rates) for rate in rates]
            tail = _at_common_rate(claim, (higher, lower), shown, signs)
            yield f"their answers change at different rates ({', '.join(shown)}); {tail}"
    if claim.within is not None:
        within = claim.within if row is compared.family.differences[number] else claim.within.turned
        yield f"phi within examples does not show it ({_interval(within.value, within.low, within.high)})"
    codes: dict[int, dict[str, None]] = {}
    for system, warning in claim.unquotable:
        codes.setdefault(system, {})[warning.code] = None
    by_reasons: dict[str, list[str]] = {}
    for system, of_system in codes.items():
        reasons = "; ".join(_lower_first(CODES[code].title) for code in of_system)
        by_reasons.setdefault(reasons, []).append(compared.group.names[system])
    for reasons, systems in by_reasons.items():
        what = f"{title_of(compared.metric)} of {joined(systems)}"
        yield f"{what} {'is' if len(systems) == 1 else 'are'} marked do not quote ({reasons})"


def _at_common_rate(claim: Claim, names: tuple[str, str], rates: Sequence[str], signs: Sequence[int]) -> str:
    """Say what phi is at one rate for both; rates and signs are those of the higher one first."""
    undefined = [row.undefined for row in claim.at_rates or () if row.undefined]
    if undefined:
        return f"what phi is at a common rate cannot be computed ({'; '.join(dict.fromkeys(undefined))})"
    if set(signs) == {-1}:
        return f"at a common rate {names[1]} is higher"
    if set(signs) == {1, -1}:
        return "which is higher depends on the rate"
    if set(signs) == {0}:
        if claim.at_p is not None and claim.at_p.p is not None and claim.at_p.p <= LEVEL:
            return (
                "at the rate of either they cannot be told apart"  # at the rate between, the table shows that they can
            )
        return "at a common rate they cannot be told apart"
    told, other = (0, 1) if signs[0] else (1, 0)
    who = names[0] if signs[told] > 0 else names[1]
    return f"at the rate {rates[told]} {who} is higher, at {rates[other]} they cannot be told apart"


def rate_text(rate: float, beside: Sequence[float]) -> str:
    """Return an impact rate as sentences write it, with as many digits as tell it from the others.

    >>> rate_text(0.4, (0.4, 0.05)), rate_text(0.101, (0.101, 0.104))
    ('.40', '.101')
    """
    digits = 2 if len({number_text(one) for one in beside}) == len(beside) else 3
    return number_text(rate, digits).removeprefix("0")


def _lower_first(text: str) -> str:
    return f"{text[:1].lower()}{text[1:]}"


def _spread_text(compared: Compared, number: int, told: Difference) -> str:
    """Say that the tasks of a mean differ, and how, in the direction in which the difference is told."""
    if not compared.spreads:
        return ""
    spread = compared.spreads[number]
    if not spread.differ and not spread.differ_in_sign:
        return ""
    turned = told is not compared.family.differences[number]
    values = [
        f"{task} {number_text(-value if turned else value, sign=True)}"
        for task, value in zip(compared.tasks, spread.values, strict=True)
        if value is not None
    ]
    p = f"; Cochran's Q, p {p_text(spread.p)}" if spread.p is not None and spread.differ else ""
    return f"; tasks differ{' in sign' if spread.differ_in_sign else ''} ({', '.join(values)}{p})"


def remark_of(compared: Compared, number: int) -> str | None:
    """Say in a few words why a difference in phi-CCT is not one of faithfulness; None where nothing has to be said."""
    claim = compared.claims[number]
    if claim.youden is not None:
        return "few changed answers"
    if claim.name != "higher_phi":
        return None
    if claim.goes_with_rates:
        return GOES_WITH_RATES
    if claim.unquotable:
        return "do not quote"
    return "not within examples" if claim.within is not None else "impact rates differ"


def reasons_of(compared: Compared) -> list[str]:
    """Return why systems have nothing that can be tested, each reason once with the names of its systems."""
    if not any(compared.undefined):
        return list(dict.fromkeys(row.undefined or row.note or "" for row in compared.family.differences))
    return _by_reason(compared, range(len(compared.undefined)))


def _by_reason(compared: Compared, systems: Iterable[int]) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    names = short_names(compared.group.names)
    for number in systems:
        if reason := compared.undefined[number]:
            by_reason.setdefault(reason, []).append(names[number])
    return [f"{joined(names)}: {reason}" for reason, names in by_reason.items()]


def _why_untested(compared: Compared) -> Iterator[str]:
    """Say of which systems the metric is undefined, and which have a value that cannot be compared."""
    title, values = title_of(compared.metric), compared.values
    undefined = _by_reason(compared, [number for number, value in enumerate(values) if value is None])
    untested = _by_reason(compared, [number for number, value in enumerate(values) if value is not None])
    if undefined:
        yield f"{title} is undefined for {'; '.join(undefined)}"
    if untested:
        yield f"a difference in {title} cannot be tested for {'; '.join(untested)}"
    if not undefined and not untested:
        yield f"no difference in {title} can be tested: {'; '.join(reasons_of(compared))}"


def _nothing_told(compared: Compared, tested: Sequence[Difference]) -> str:
    """Say what could have been seen, or that the two are equivalent, where no pair is told apart."""
    title, where = title_of(compared.metric), task_of(compared)
    shown = min(tested, key=_clearness)
    number = next(at for at, row in enumerate(compared.family.differences) if row is shown)
    names, spread = compared.group.names, _spread_text(compared, number, shown)
    if len(tested) > 1:
        higher, lower, row = higher_first(compared, number)
        numbers = f"{_numbers(row, compared)}{_spread_text(compared, number, row)}"
        what = f"the clearest difference in {title} is {higher} minus {lower}, {numbers}"
        reason = _few_changed(compared, number, row) or _detectable(compared, tested)
        return f"Cannot tell any two of {_tested_systems(compared)} apart on {where}: {what}{reason}."
    both = f"{names[shown.first]} and {names[shown.second]}"
    if shown.equivalent:
        return f"{both} are equivalent within {compared.equivalent:g} on {where}: {_equivalence(compared, shown)}."
    differs = _interval(shown.value, shown.low_adjusted, shown.high_adjusted)
    text, few = (
        f"Cannot tell {both} apart on {where}: {title} differs by {differs}",
        _few_changed(compared, number, shown),
    )
    if few:
        return f"{text}{few}{spread}."
    adjusted = f", adjusted over {counted(compared.family.claims, 'pair')}" if compared.family.claims > 1 else ""
    return f"{text}{adjusted}{spread}{_detectable(compared, tested)}."


def _few_changed(compared: Compared, number: int, told: Difference) -> str:
    """Say why phi-CCT tells two apart and they are not: few answers changed; in the direction in which it is told."""
    youden = compared.claims[number].youden
    if youden is None:
        return ""
    if youden.value is None or youden.low_adjusted is None:
        reads = f"cannot be tested ({youden.undefined})"
    else:
        turned = youden if told is compared.family.differences[number] else youden.turned
        reads = f"does not show it ({_interval(turned.value, turned.low_adjusted, turned.high_adjusted)})"
    return f", but it rests on few changed answers, and Youden's J {reads}"


def _tested_systems(compared: Compared) -> str:
    """Return how many systems were tested: all of them, or those that could be."""
    group, tested = compared.group, {number for row in compared.tested for number in (row.first, row.second)}
    what = counted(len(tested), group.by)
    return f"the {what}" if len(tested) == len(group.names) else f"the {what} that could be tested"


def _detectable(compared: Compared, tested: Sequence[Difference]) -> str:
    """Say how large a true difference would have been found; nothing where no such number is known."""
    least = sorted(row.detectable for row in tested if row.detectable is not None)
    if not least:
        return ""
    if least[0] >= NOTHING_SEEN and not compared.on_log_scale:
        return "; nothing could have been seen with so few changed answers"
    size, largest = number_text(least[0]), number_text(least[-1])
    if largest != size:
        size += f" to {largest}, depending on the pair,"
    return f"; a true difference of {size} would have been found in 4 of 5 such studies"


def _equivalence(compared: Compared, row: Difference) -> str:
    """Return a difference with the interval that decides on equivalence."""
    numbers = _interval(row.value, row.low_equivalent, row.high_equivalent)
    level = _level(compared)
    return f"{title_of(compared.metric)} differs by {numbers} ({level} interval)"


def _level(compared: Compared) -> str:
    """Return the level of the interval that decides on equivalence."""
    return f"{significant_text(100 * (1 - compared.family.equivalence_level))} %"


def equivalence_of(compared: Compared) -> str | None:
    """Say which pairs are equivalent within the margin declared beforehand; None where that is said or not asked."""
    if compared.equivalent is None:
        return None
    within = f"within {compared.equivalent:g} (declared beforehand)"
    rows = [row for row in compared.family.differences if row.equivalent is not None]
    equal = [row for row in rows if row.equivalent]
    if len(rows) == 1:
        (row,) = rows
        if row.equivalent and not any(claim.is_separated for claim in compared.claims) and row.note != SAME:
            return None  # the sentence says it
        if row.note == SAME:
            return f"Equivalent {within}."
        text = "Equivalent" if row.equivalent else "Not shown to be equivalent"
        return f"{text} {within}: {_equivalence(compared, row)}."
    if not equal:
        return f"No two of them are shown to be equivalent {within}."
    names = short_names(compared.group.names)
    pairs = [
        f"{names[row.first]} and {names[row.second]} ({_interval(row.value, row.low_equivalent, row.high_equivalent)})"
        for row in equal[:SHOWN_NAMES]
    ]
    more = f"; {len(equal) - SHOWN_NAMES} more pairs" if len(equal) > SHOWN_NAMES else ""
    level = f"{_level(compared)} intervals"
    return f"Equivalent {within}, {len(equal)} of {counted(len(rows), 'pair')} ({level}): {'; '.join(pairs)}{more}."


def best_of(compared: Compared) -> str | None:
    """Say which systems are not separated from the best; None for two systems, or where none is the best.

    In phi-CCT only a claim that one is more faithful separates two.
    """
    names, best = compared.group.names, compared.family.best
    if best is None or len(names) < 3 or not compared.tested:
        return None
    others = [names[number] for number in compared.family.not_separated if number != best]
    tested = "all others that were tested" if any(compared.undefined) else "all others"
    top = compared.values[best] or 0.0
    is_highest = all(value is None or value <= top for value in compared.values)
    of_tested = "" if is_highest else " of those that were tested"
    high = f"{names[best]}, which has the highest {title_of(compared.metric)}{of_tested}"
    less = "shown to be less faithful than" if compared.metric == PRIMARY else "separated from"
    text = f"{tested.capitalize()} are {less} {high}."
    if others:
        text = f"Not {less} {high}: {joined(others)}."
    chosen = "was picked as the best by looking at these data, so its own value is a little too high."
    return f"{text} {names[best]} {chosen}"


def rank_text(rank: Rank | None) -> str:
    """Return the ranks that a system may hold, as tables show them.

    >>> rank_text(Rank(1, 3)), rank_text(Rank(2, 2)), rank_text(None)
    ('1–3', '2', '–')
    """
    if rank is None:
        return "–"
    return f"{rank.low}" if rank.low == rank.high else f"{rank.low}–{rank.high}"


SHARED_RANKS: Mapping[str | None, str] = {
    None: "the interval of the difference holds 0",
    "do not quote": "a number is marked do not quote",
    "not within examples": "phi within examples does not show the difference",
    GOES_WITH_RATES: f"the difference {GOES_WITH_RATES}",
}
"""Why two systems share their ranks, by the remark on their difference; other remarks are told as they are."""


def shared_ranks_of(compared: Compared) -> str | None:
    """Say what ranks such as 1–2 mean and why they are none of their own; None where each rank is a single one."""
    ranges = [rank for rank in compared.family.ranks if rank is not None and rank.low != rank.high]
    if not compared.tested or not ranges:
        return None
    is_phi = compared.metric == PRIMARY
    reasons: Counter[str] = Counter()
    for number, (claim, row) in enumerate(zip(compared.claims, compared.family.differences, strict=True)):
        if claim.name == "same":
            reasons["they are the same in every example"] += 1
        elif row.p_adjusted is not None and claim.name not in ("more_faithful", "higher"):
            remark = remark_of(compared, number)
            reasons[SHARED_RANKS.get(remark, remark or "")] += 1
    what = "shown to differ in faithfulness" if is_phi else "separated"
    if len(compared.group.names) == 2:
        return f"Ranks {rank_text(ranges[0])}: not {what} ({'; '.join(reasons)})."
    told = "; ".join(f"{reason} in {counted(count, 'pair')}" for reason, count in reasons.most_common())
    widest = max(ranges, key=lambda rank: rank.high - rank.low)
    return f"Ranks such as {rank_text(widest)}: not {what} from some of the others ({told})."


def order_by_rule(compared: Compared) -> str | None:
    """Say whether the order of the systems holds by every mention policy; None where there is one, or one system.

    Systems whose values are the same to two digits change no order.
    """
    names = short_names(compared.group.names)
    usable = {
        rule: values for rule, values in compared.by_rule.items() if None not in values and None not in compared.values
    }
    if not usable or len(names) < 2:
        return None
    turned = {rule: _turned(compared.values, values) for rule, values in usable.items()}
    others = [rule for rule, pairs in turned.items() if pairs]
    if not others:
        return f"Their order by phi-CCT also holds by {joined([*usable])}."
    rule = others[0]
    first, second = turned[rule][0]
    values = f"{names[first]} {number_text(usable[rule][first])}, {names[second]} {number_text(usable[rule][second])}"
    more = counted(len(turned[rule]) - 1, "more pair")
    rest = f", and {more}" if len(turned[rule]) > 1 else ""
    return f"Their order by phi-CCT is another by {joined(others)} ({values} by {rule}{rest})."


def _turned(values: Sequence[float | None], by_rule: Sequence[float | None]) -> list[tuple[int, int]]:
    """Return the pairs of systems, the higher one first, that a rule puts in the other order."""
    rounded = [[round(value or 0.0, 2) for value in row] for row in (values, by_rule)]
    pairs = itertools.permutations(range(len(values)), 2)
    return [(i, j) for i, j in pairs if rounded[0][i] > rounded[0][j] and rounded[1][i] < rounded[1][j]]


def trend_of(compared: Compared) -> str | None:
    """Say how a metric changes with model size, or why that is not known; None where nothing is known of sizes.

    phi-CCT follows the impact rate, so its trend is told with those of the impact rate and of phi-CCT at a common rate.
    """
    trend = compared.trend
    if trend is None:
        return None
    if trend.value is None:
        return f"No trend over model size: {trend.undefined}." if len(compared.group.systems) >= WORTH_A_TREND else None
    count = len(trend.slopes or {})
    note = f" {trend.note[0].upper()}{trend.note[1:]}." if trend.note and compared.primary else ""
    beside = [(title_of(metric), other) for metric, other in compared.trends_beside.items()]
    others = [f"{'the ' if name == 'impact rate' else ''}{name} by {_slope(other)}" for name, other in beside]
    together = f" (over the same models {joined(others)})" if others else ""
    here = [("", trend), *((f" of {name}", other) for name, other in beside)]
    intervals = [
        f"{interval_text(one.low_here or 0.0, one.high_here or 0.0)}{name}" for name, one in here if one.slopes
    ]
    return (
        f"For ten times the parameters {title_of(compared.metric)} on {task_of(compared)} changes by {_slope(trend)}"
        f"{together}: mean slopes of {counted(count, 'family')}, with limits for families like these. For these very "
        f"families they are {joined(intervals)}.{note}"
    )


def _slope(trend: Trend) -> str:
    """A slope with its interval for families like these, and its p-value."""
    if trend.value is None:
        return f"an unknown amount ({trend.undefined})"
    p = "" if trend.p is None else f", p {p_text(trend.p)}"
    return f"{_interval(trend.value, trend.low, trend.high)}{p}"


def explained_of(result: GroupResult) -> Iterator[str]:
    """Say how much of CCT phi-CCT explains; why that is not known, where there are enough models."""
    shares, unknown = [], []
    for task, kind, explained in result.explained:
        where = f"on {task}, {kind.replace('_', ' ')}"
        if explained.value is not None:
            limits = (
                f" [{share_text(explained.low)}, {share_text(explained.high)}]"
                if explained.low is not None and explained.high is not None
                else ""
            )
            shares.append(f"{share_text(explained.value)}{limits} {where} ({counted(explained.n_models, 'model')})")
        elif explained.reliability_phi is not None:
            unknown.append(f"How much of CCT phi-CCT explains {where} is unknown: {explained.undefined}.")
    if shares:
        text = f"Of the variance of CCT between models phi-CCT explains {joined(shares)}"
        yield f"{text}, from different halves of the examples, corrected for reliability."
    yield from unknown


def short_names(names: Sequence[str]) -> list[str]:
    """Return the names without the provider that all of them begin with; simulated models keep it."""
    providers = {name.partition("/")[0] if "/" in name else "" for name in names}
    if len(providers) > 1 or providers & {"", SIMULATED_PREFIX.rstrip("/")}:
        return list(names)
    return [name.partition("/")[2] for name in names]


def warnings_of(result: GroupResult, compared: Compared) -> list[MetricWarning]:
    """Return what limits a family of differences, the gravest first: also what limits the numbers that it compares."""
    by_text: dict[CarriedWarning, list[str]] = {}
    for name, found in zip(result.group.names, compared.carried, strict=True):
        for one in found:
            by_text.setdefault(one, []).append(name)
    carried = [
        one.warning.model_copy(
            update={"metric": compared.metric, "text": f"{one.about(joined(systems))}: {one.warning.text}"}
        )
        for one, systems in by_text.items()
    ]
    every = [*carried, *own_warnings_of(result, compared)]
    return sorted(every, key=lambda warning: GRADES.index(warning.grade))


def own_warnings_of(result: GroupResult, compared: Compared) -> list[MetricWarning]:
    """Return what limits the differences of a family and not already the numbers that it compares."""
    return [warning_of(compared.metric, found) for found in _findings(result, compared)]


def _findings(result: GroupResult, compared: Compared) -> Iterator[Finding]:
    group, names = result.group, result.group.names
    for reason in dict.fromkeys(row.note for row in compared.family.differences if row.note and row.note != SAME):
        yield finding("rough_difference", reason=reason)
    if group.confounded:
        yield finding(
            "confounded",
            what="arms differ" if group.by == "arm" else "models were asked under arms that differ",
            settings=joined(group.confounded),
            these="that" if len(group.confounded) == 1 else "these",
        )
    if any(row.method == "mover" for row in compared.family.differences):
        yield finding("mover_difference")
    if any(claim.goes_with_rates for claim in compared.claims):
        yield finding("impact_not_mention", rates=GOES_WITH_RATES)
    if result.differing:
        by_mention = any("mention" in part for part in result.differing)
        mention = " --mention decides all by one policy." if by_mention else ""
        yield finding("asked_otherwise", settings=joined(result.differing), mention=mention)
    if compared.left_out:
        yield finding("tasks_left_out", tasks=joined(compared.left_out))
    for first, second, rate, other in result.noise[:SHOWN_NAMES]:
        rates = {"rate": share_text(rate), "other": share_text(other)}
        yield finding("noise_differs", first=names[first], second=names[second], **rates)
    if len(result.noise) > SHOWN_NAMES:
        yield finding("noise_differs", "more", number=len(result.noise) - SHOWN_NAMES)
    for name, snapshots in zip(names, result.snapshots, strict=False):
        if len(snapshots) > 1:
            yield finding("snapshots_mixed", model=name, versions=versions_text(snapshots))


MOST_SENTENCES = 4
"""Pairs that have a sentence of their own; of more, those with a claim are listed."""

CLAIMS = {
    "first_dominates": "the instruction-tuned model dominates",
    "second_dominates": "the pretrained model dominates",
    "trade_off": "there is a trade-off",
    "neither_shown": "neither is shown",
}


def tuning_lines(results: Sequence[TuningResult]) -> Iterator[str]:
    """Yield what the primary results say, each pair in a sentence, or the pairs by claim where there are many."""
    for result in results:
        if result.primary:
            yield from tuning_sentences(result)


def tuning_sentences(result: TuningResult) -> Iterator[str]:
    """Yield the sentences on one task and kind: the pairs, the mean difference of F-AUROC, and what is not tested."""
    if len(result.pairs) <= MOST_SENTENCES:
        for pair in result.pairs:
            yield pair_sentence(result, pair)
    else:
        yield _summary(result)
    for text in (_mean_sentence(result.mean), _untested_sentence(result)):
        if text is not None:
            yield text


def where_of(result: TuningResult) -> str:
    """Return the task and the levels in words, and the kind and arm where several are compared."""
    return place_text(result.task, result.group.levels, result.context)


def _untested_sentence(result: TuningResult) -> str | None:
    """Say which models have no sibling that they could be tested against, and why; None where all have one."""
    by_reason: dict[str, list[str]] = {}
    names = short_names(result.group.names)
    for number, reason in result.untested:
        by_reason.setdefault(reason, []).append(names[number])
    if not by_reason:
        return None
    parts = [f"{_some(models)} ({reason})" for reason, models in by_reason.items()]
    return f"Tuned against pretrained on {where_of(result)}: not tested for {joined(parts)}."


def _some(names: Sequence[str]) -> str:
    """Return the names; of many the first ones and how many more."""
    more = len(names) - MOST_SENTENCES
    return joined([*names[:MOST_SENTENCES], f"{more:,} more"] if more > 0 else names)


def names_of(result: TuningResult, pair: TunedPair) -> tuple[str, str]:
    """Return the names of the tuned and of the pretrained model."""
    names = short_names(result.group.names)
    return names[pair.first], names[pair.second]


def pair_sentence(result: TuningResult, pair: TunedPair) -> str:
    """Say what is shown of one pair, in a sentence that can be quoted."""
    tuned, base = names_of(result, pair)
    shown, where = pair.dominance, where_of(result)
    area = _area(pair)
    if shown.undefined is not None:
        return f"{tuned} against {base} on {where}: not tested, since {shown.undefined}.{area}"
    gaps = shown.defined
    span = _span([gap.value or 0.0 for gap in gaps])
    if shown.claim in ("first_dominates", "second_dominates"):
        higher, lower = (tuned, base) if shown.claim == "first_dominates" else (base, tuned)
        p = shown.p_first_adjusted if shown.claim == "first_dominates" else shown.p_second_adjusted
        text = (
            f"{higher} dominates {lower} on {where}: at equal FPR it names more of the insertions that changed the "
            f"answer at every level ({tuned} − {base}: TPR {span}, adjusted p {p_text(p or 0.0)})"
        )
    elif shown.claim == "trade_off":
        text = (
            f"{tuned} and {base} trade off on {where}: at equal FPR the TPR of {tuned} lies {_levels(pair, 1.0)} and "
            f"{_levels(pair, -1.0)}"
        )
    else:
        text = (
            f"Neither {tuned} nor {base} is shown to dominate on {where}, and no trade-off is shown "
            f"({tuned} − {base} at equal FPR: TPR {span})"
        )
    left_out = [gap.level for gap in shown.gaps if gap.value is None]
    note = f"; left out: level {joined(left_out)}" if left_out else ""
    return f"{text}{note}.{area}"


def _levels(pair: TunedPair, sign: float) -> str:
    """The levels of the pretrained model at which the gap is shown to have this sign, with the gap."""
    shown = pair.dominance
    side = "above" if sign > 0 else "below"
    told = [
        f"{number_text(abs(gap.value))} {side} at the pretrained level {gap.level} (adjusted p {p_text(p)})"
        for gap, p in zip(shown.gaps, shown.p_levels, strict=True)
        if gap.value is not None and p is not None and p < LEVEL and gap.value * sign > 0
    ]
    return joined(told)


def _span(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    first, last = number_text(low, sign=True), number_text(high, sign=True)
    return first if first == last else f"{first} to {last}"


def _area(pair: TunedPair) -> str:
    row = pair.f_auroc
    if row.value is None:
        return ""
    number = number_text(row.value, sign=True) if row.low is None else _interval(row.value, row.low, row.high)
    return f" {title_of(PRIMARY_OVER_LEVELS)} differs by {number}."


def _summary(result: TuningResult) -> str:
    counts = []
    for claim, text in CLAIMS.items():
        members = [pair for pair in result.pairs if pair.dominance.claim == claim]
        if members:
            named = joined([names_of(result, pair)[0] for pair in members])
            counts.append(f"{text} in {len(members)}" + ("" if claim == "neither_shown" else f" ({named})"))
    untested = sum(pair.dominance.undefined is not None for pair in result.pairs)
    if untested:
        counts.append(f"{untested} could not be tested")
    return (
        f"Tuned against pretrained on {where_of(result)}, {counted(len(result.pairs), 'pair')} of one family "
        "and size, at equal "
        f"FPR: {'; '.join(counts)}."
    )


def _mean_sentence(mean: MeanDifference | None) -> str | None:
    """Say how the areas differ on average; None for fewer than two pairs."""
    if mean is None or mean.low is None or mean.high is None or mean.p is None:
        return None
    note = f" {mean.note[0].upper()}{mean.note[1:]}." if mean.note else ""
    return (
        f"Over {counted(mean.n, 'pair')} {title_of(PRIMARY_OVER_LEVELS)} of the instruction-tuned model minus "
        "the pretrained "
        f"one's is {_interval(mean.value, mean.low, mean.high)} on average, p "
        f"{p_text(mean.p)}, for pairs like "
        f"these.{note}"
    )
