"""Print a comparison: a sentence to quote, a table of systems, the differences, and what limits them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from explaineval.metrics.differences import SAME, Difference
from explaineval.metrics.frontiers import Gap
from explaineval.metrics.trends import Trend
from explaineval.reporting.comparison_text import (
    best_of,
    equivalence_of,
    explained_of,
    higher_first,
    order_by_rule,
    rank_text,
    reasons_of,
    remark_of,
    sentence_of,
    shared_ranks_of,
    short_names,
    title_of,
    trend_of,
    tuning_lines,
    tuning_sentences,
    warnings_of,
)
from explaineval.scoring.comparisons import PRIMARY, PRIMARY_OVER_LEVELS, Compared, GroupResult, TunedPair, TuningResult
from explaineval.scoring.registry import CCT, FPR, IMPACT_RATE, ODDS_RATIO_WITHIN, PHI_AT_P, TPR
from explaineval.scoring.shared import NOT_SCORED
from explaineval.scoring.task_means import MEAN
from explaineval.text import (
    NONE,
    ORDERS,
    aligned,
    counted,
    interval_text,
    joined,
    number_text,
    p_text,
    p_value_text,
    wrapped,
)

SHOWN_PAIRS, LOSSES_IN_A_SENTENCE = 10, 2
COLUMNS = (
    ("phi-CCT", PRIMARY),
    ("F-AUROC", PRIMARY_OVER_LEVELS),
    ("at p", PHI_AT_P),
    ("CCT", CCT),
    ("TPR", TPR),
    ("FPR", FPR),
    ("changed", IMPACT_RATE),
)
"""The metrics in the table of systems, with their headings."""

PHI_AT = "phi-CCT at p"
ODDS_RATIO = "ratio of odds ratios"
HEADINGS = dict(COLUMNS) | {PHI_AT: PHI_AT_P, ODDS_RATIO: ODDS_RATIO_WITHIN}
"""What the screen of a comparison calls metrics."""

LEFT_OUT_FIRST = (CCT, PHI_AT_P, IMPACT_RATE)
"""The columns that make room for long names, in this order; `--json` has all numbers."""


def lines_of(results: Sequence[GroupResult], width: int) -> Iterator[str]:
    """The lines of a comparison, none wider than `width` unless a name is."""
    first = True
    for result in results:
        for compared in result.leading:
            if not first:
                yield from ("", "─" * min(width, 40), "")
            first = False
            yield from wrapped(sentence_of(compared), width)
            yield ""
            yield from _conditions(result, compared, width, levels=len(results) > 1)
            yield from _table(result, compared, width)
            yield from _undefined(compared, width)
            if len(compared.family.differences) == 1:
                yield from _metrics(result, compared, width)
            else:
                yield from _pairs(compared, width)
            yield from _tasks(result, compared, width)
            yield from _paragraph(equivalence_of(compared), width)
            yield from _paragraph(order_by_rule(compared), width)
            yield from _warning_lines(result, compared, width)
        if not result.leading:
            if not first:
                yield ""
            first = False
            yield from wrapped(f"{joined(result.group.names)} share no trial, so nothing is compared.", width)
        for compared in result.leading:
            yield from _paragraph(trend_of(compared), width)
            cct = result.family(CCT, compared)
            if cct is not None and cct.trend is not None and cct.trend.value is not None:
                yield from _paragraph(trend_of(cct), width)
        for text in (*explained_of(result), *tuning_lines(result.tuning)):
            yield from _paragraph(text, width)


def _paragraph(text: str | None, width: int, indent: str = "  ") -> Iterator[str]:
    """An indented paragraph after an empty line; nothing for None."""
    if text:
        yield ""
        yield from wrapped(text, width, indent, indent)


def _conditions(result: GroupResult, compared: Compared, width: int, *, levels: bool) -> Iterator[str]:
    """What is compared under which conditions, on how many trials; `levels`: name the level of verbosity too."""
    fixed = result.group.fixed
    parts = [str(fixed["model"])] if fixed["model"] else []
    parts += [compared.task if compared.task != MEAN else f"mean over {joined(compared.tasks)}"]
    parts += [compared.kind.replace("_", " ")]
    parts += [] if compared.primary else ["exploratory"]
    parts += [str(fixed["style"])] if fixed["style"] else []
    parts += [ORDERS.get(str(fixed["order"]), "")] if fixed["order"] else []
    parts += [counted(int(fixed["shots"]), "shot")] if fixed["shots"] else []
    verbosity = fixed["verbosity"]
    parts += [f"verbosity {verbosity}"] if verbosity is not None and (levels or verbosity != "normal") else []
    parts += [f"levels {joined(result.group.levels)}"] if result.group.levels else []
    both = "both" if len(result.group.systems) == 2 else "all of them"
    if NOT_SCORED in compared.undefined:
        both = "all that have any"
    shared = f"{counted(compared.n_pairs, 'trial')} of {counted(compared.n_examples, 'example')} scored in {both}"
    yield from wrapped(f"  {' · '.join(filter(None, parts))} · {shared}", width, rest="  ")
    yield from _losses(result, compared, width)


def _losses(result: GroupResult, compared: Compared, width: int) -> Iterator[str]:
    """How many trials each system loses because they are not shared, and its value with them."""
    title = title_of(compared.metric)
    rows = [
        (name, count, number_text(value))
        for name, count, value in zip(
            short_names(result.group.names), compared.lost, compared.unrestricted, strict=True
        )
        if count
    ]
    if not rows:
        return
    if len(rows) <= LOSSES_IN_A_SENTENCE:
        lost = ", ".join(f"{count} of {name} ({title} with them: {value})" for name, count, value in rows)
        yield from wrapped(f"  Scored trials that are not shared are left out: {lost}.", width, rest="  ")
        return
    room = min(max(len(name) for name, _, _ in rows) + 2, width - 24)
    yield ""
    yield from wrapped(f"  Scored trials that are not shared are left out, and {title} with them:", width, rest="  ")
    for name, count, value in rows:
        yield f"  {_short(name, room - 2).ljust(room)}{count:>8,}{value:>12}"


def _table(result: GroupResult, compared: Compared, width: int) -> Iterator[str]:
    """The systems in the order of the primary metric, with their ranks and their values on the shared trials."""
    families = {metric: result.family(metric, compared) for _, metric in COLUMNS}
    shown = [(head, metric) for head, metric in COLUMNS if any(v is not None for v in _values(families[metric]))]
    names = short_names(result.group.names)
    ranked = result.reference is None
    start = 8 if ranked else 2
    longest = max(map(len, names))
    for metric in LEFT_OUT_FIRST:  # a name that is cut may be the name of another system too
        if start + longest + 2 + 8 * len(shown) > width:
            shown = [(head, other) for head, other in shown if other != metric]
    room = min(max(12, width - start - 8 * len(shown)), max(5, *map(len, names)) + 2)
    sizes = [start, room, *[-8] * len(shown)]
    yield ""
    yield aligned(["  rank" if ranked else "", result.group.by[:room], *(head for head, _ in shown)], sizes)
    order = sorted(
        range(len(result.group.systems)),
        key=lambda number: (compared.values[number] is None, -(compared.values[number] or 0.0)),
    )
    for number in order:
        ranks = rank_text(compared.family.ranks[number]) if compared.tested else "–"
        values = [_values(families[metric])[number] for _, metric in shown]
        cells = [NONE if value is None else number_text(value) for value in values]
        mark = "  reference" if number == result.reference and 8 * len(shown) + room + start + 11 <= width else ""
        yield aligned([f"  {ranks}" if ranked else "", _short(names[number], room - 1), *cells], sizes) + mark
    rates = [item.impact_rate for item in families.values() if item is not None and item.impact_rate is not None]
    metrics = [metric for _, metric in shown]
    legend = (
        [f"at p: phi-CCT at the common impact rate {number_text(rates[0])}"] if rates and PHI_AT_P in metrics else []
    )
    legend += ["changed: impact rate"] if IMPACT_RATE in metrics else []
    if legend:
        yield f"  {'; '.join(legend)}"
    shared_ranks = shared_ranks_of(compared) if ranked else None
    if shared_ranks:
        yield from wrapped(shared_ranks, width, "  ", "  ")
    if not ranked:
        text = f"Reference, named beforehand: {names[result.reference or 0]}."
        yield from _paragraph(text, width)
    else:
        yield from _paragraph(best_of(compared), width)


def _values(compared: Compared | None) -> tuple[float | None, ...]:
    return compared.values if compared is not None else ()


def _short(name: str, room: int) -> str:
    """The name, cut in the middle where it is too long."""
    if len(name) <= room:
        return name
    head = (room - 1) // 2
    return f"{name[:head]}…{name[len(name) - (room - 1 - head) :]}"


def _undefined(compared: Compared, width: int) -> Iterator[str]:
    """Why systems cannot be tested; nothing where the sentence says it already."""
    if compared.tested and any(compared.undefined):
        yield from _paragraph(f"Not tested: {'; '.join(reasons_of(compared))}.", width)


def _metrics(result: GroupResult, compared: Compared, width: int) -> Iterator[str]:
    """One line for each metric of two systems, then why the others have none."""
    families = [item for item in result.families if (item.task, item.kind) == (compared.task, compared.kind)]
    rows = [(item, item.family.differences[0]) for item in families]
    same = [title_of(item.metric) for item, row in rows if row.note == SAME]
    shown = [(item, row) for item, row in rows if row.low is not None and row.note != SAME]
    names, pair = short_names(result.group.names), compared.family.differences[0]
    claims = compared.family.claims
    yield ""
    yield f"  Difference: {names[pair.first]} − {names[pair.second]}"
    if shown:
        yield aligned(["", "", "  95 % interval", "p", "detectable"], DIFFERENCE_SIZES)
        for item, row in shown:
            yield _metric_line(_short(_title_of(item), 26), row, item.on_log_scale)
        yield from wrapped(f"  {_legend_of(compared, [row for _, row in shown], claims)}", width, rest="  ")
    if same:
        text = f"No difference in any example: {joined(same)}." if shown else "None in any example."
        yield from wrapped(f"  {text}", width, rest="  ")
    reasons: dict[str, list[str]] = {}
    for item, row in rows:
        if row.low is None:
            reasons.setdefault(item.why_undefined(row) or "no interval", []).append(title_of(item.metric))
    for reason, titles in reasons.items():
        yield from wrapped(f"  Not compared: {joined(titles)} ({reason}).", width, rest="  ")


def _legend_of(compared: Compared, rows: Sequence[Difference], claims: int) -> str:
    """What the columns of differences mean."""
    others = f"All but {title_of(compared.metric)} are exploratory." if compared.primary else "All are exploratory."
    parts = [others, "Detectable: the true difference that 4 of 5 such studies would find."]
    if claims > 1:
        parts.append(f"p and limits are adjusted over {counted(claims, 'pair')}.")
    if any(row.method == "mover" for row in rows):
        parts.append("MOVER: few changed answers have a mention, or few lack one; limits of both put together, wider.")
    return " ".join(parts)


def _title_of(compared: Compared) -> str:
    if compared.metric == PHI_AT_P and compared.impact_rate is not None:
        return f"{PHI_AT} = {number_text(compared.impact_rate)}"
    return ODDS_RATIO if compared.on_log_scale else title_of(compared.metric)


DIFFERENCE_SIZES = (29, -7, 19, 7, -10)
"""Columns that the title, the difference, its interval, its p and the detectable difference take."""


def _metric_line(title: str, row: Difference, on_log_scale: bool) -> str:
    """One difference with its adjusted limits in a line of at most 75 characters; one of logarithms as a ratio."""
    value, low, high = (
        None if number is None else _scaled(number, on_log_scale)
        for number in (row.value, row.low_adjusted, row.high_adjusted)
    )
    interval = NONE if low is None or high is None else interval_text(low, high)
    p = "same" if row.note == SAME else p_value_text(row.p_adjusted)
    least = "MOVER" if row.method == "mover" else ""
    if row.detectable is not None:
        least = number_text(_scaled(row.detectable, on_log_scale))
    shown = f"×{number_text(value)}" if on_log_scale else number_text(value, sign=True)
    return aligned([f"  {title}", shown, f"  {interval}", p, least], DIFFERENCE_SIZES)


def _scaled(number: float, on_log_scale: bool) -> float:
    return math.exp(number) if on_log_scale else number


def _pairs(compared: Compared, width: int) -> Iterator[str]:
    """The clearest differences of a family of many pairs: those in faithfulness first."""
    family = compared.family
    told = [number for number, claim in enumerate(compared.claims) if claim.is_separated]
    if not told:
        return

    def clearness(number: int) -> tuple[bool, float, float]:
        row = family.differences[number]
        is_less = compared.claims[number].name == "higher_phi"
        return is_less, row.p_adjusted or 0.0, -abs((row.value or 0.0) / (row.error or 1.0))

    told.sort(key=clearness)
    lines = [_pair_text(compared, number) for number in told[:SHOWN_PAIRS]]
    left = max(15, width - 2 - max(len(numbers) for _, numbers in lines) - 2)
    pairs = [_short_pair(*names, left) for names, _ in lines]
    room = max(map(len, pairs))
    yield ""
    adjusted = (
        f"p and limits adjusted over {counted(family.claims, 'pair')}" if family.claims > 1 else "one pair was tested"
    )
    is_all = all(compared.claims[number].name != "higher_phi" for number in told)
    apart = "can be told apart" if is_all else f"differ in {title_of(compared.metric)}"
    yield f"  Pairs that {apart} ({adjusted})"
    for pair, (_, numbers) in zip(pairs, lines, strict=True):
        yield f"  {pair:<{room}}  {numbers}"
    if len(told) > SHOWN_PAIRS:
        yield f"  {len(told) - SHOWN_PAIRS} more pairs {apart}; --json has them all."


def _short_pair(higher: str, lower: str, room: int) -> str:
    """Two names, each cut in its middle where both together are too long.

    >>> _short_pair("lab/one-long-name", "lab/two", 20), _short_pair("a", "b", 20)
    ('lab/…-name > lab/two', 'a > b')
    """
    between = " > "
    if len(higher) + len(between) + len(lower) > room:
        half = (room - len(between)) // 2
        rest = room - len(between)
        higher, lower = _short(higher, max(half, rest - len(lower))), _short(lower, max(half, rest - len(higher)))
    return f"{higher}{between}{lower}"


def _pair_text(compared: Compared, number: int) -> tuple[tuple[str, str], str]:
    """The two names, the higher one first, and the numbers of their difference."""
    first, second, row = higher_first(compared, number)
    shown = dict(zip(compared.group.names, short_names(compared.group.names), strict=True))
    interval = interval_text(row.low_adjusted or 0.0, row.high_adjusted or 0.0)
    numbers = f"{number_text(row.value or 0.0, sign=True)} {interval:<14} p {p_text(row.p_adjusted or 0.0)}"
    remark = remark_of(compared, number)
    return (shown[first], shown[second]), f"{numbers}  {remark}" if remark else numbers


def _tasks(result: GroupResult, compared: Compared, width: int) -> Iterator[str]:
    """The primary metric of each task, where the primary family is the mean over several."""
    families = [
        item
        for item in result.families
        if (item.metric, item.kind) == (compared.metric, compared.kind) and item is not compared
    ]
    if not families:
        return
    yield ""
    if len(compared.family.differences) == 1:
        yield f"  {title_of(compared.metric)} on each task (exploratory)"
        for item in families:
            row = item.family.differences[0]
            if row.value is None:
                yield from wrapped(f"  {item.task}: {item.why_undefined(row)}", width, rest="    ")
            else:
                yield _metric_line(_short(item.task, 26), row, item.on_log_scale)
        return
    for item in families:
        yield from wrapped(f"  Exploratory: {sentence_of(item)}", width, rest="    ")


def _warning_lines(result: GroupResult, compared: Compared, width: int) -> Iterator[str]:
    warnings = warnings_of(result, compared)
    if warnings:
        yield ""
    for warning in warnings:
        grave = "Do not quote: " if warning.grade == "do not quote" else "Mind: "
        yield from wrapped(f"  {grave}{warning.text}", width, rest="    ")


def document_of(results: Sequence[GroupResult]) -> dict[str, Any]:
    """Return the document of a comparison; its first fields are those of the first primary family."""
    main = next((compared for result in results for compared in result.leading), None)
    summary = {} if main is None else _family_summary(main)
    return {
        "family": None if main is None else _family(main),
        "sentence": summary.get("sentence"),
        "not_separated_from_best": summary.get("not_separated_from_best", []),
        "ranks": summary.get("ranks", []),
        "rows": [row for result in results for row in _rows(result)],
        "groups": [
            {
                "by": result.group.by,
                "names": list(result.group.names),
                "levels": list(result.group.levels),
                "reference": None if result.reference is None else result.group.names[result.reference],
                "confounded": list(result.group.confounded),
                "differing": list(result.differing),
                "families": [
                    {
                        **_family(compared),
                        "leading": compared.leading,
                        "primary": compared.primary,
                        **_family_summary(compared),
                    }
                    for compared in result.families
                ],
                "explained_variance": [
                    {"task": task, "kind": kind, **vars(explained)} for task, kind, explained in result.explained
                ],
                "tuning": [tuning_document(tuning) for tuning in result.tuning],
            }
            for result in results
        ],
    }


def _family_summary(compared: Compared) -> dict[str, Any]:
    """What a family says as a whole."""
    names, family = compared.group.names, compared.family
    return {
        "sentence": sentence_of(compared),
        "not_separated_from_best": [names[number] for number in family.not_separated],
        "by_rule": [{"mention": rule, "values": list(values)} for rule, values in compared.by_rule.items()],
        "best_selected": None if family.best is None else names[family.best],
        "ranks": [
            {"model": name, "low": rank.low if rank else None, "high": rank.high if rank else None}
            for name, rank in zip(names, family.ranks, strict=True)
        ],
        "trend": None
        if compared.trend is None
        else {**vars(compared.trend), "slopes": dict(compared.trend.slopes or {})},
        "trends_beside": [_trend_beside(metric, trend) for metric, trend in compared.trends_beside.items()],
    }


def _family(compared: Compared) -> dict[str, Any]:
    return {
        **compared.group.fixed,
        "task": compared.task,
        "kind": compared.kind,
        "metric": compared.metric,
        "pairs": compared.family.claims,
    }


def _trend_beside(metric: str, trend: Trend) -> dict[str, Any]:
    names = ("value", "low", "high", "p", "low_here", "high_here", "undefined")
    return {"metric": metric, **{name: getattr(trend, name) for name in names}}


OF_DIFFERENCES = (
    "low", "high", "low_adjusted", "high_adjusted", "p", "p_adjusted", "detectable", "equivalent", "low_equivalent",
    "high_equivalent", "method",
)  # fmt: skip
"""What rows of JSON documents have of a difference under the same name."""


def _rows(result: GroupResult) -> Iterator[dict[str, Any]]:
    names = result.group.names
    for compared in result.families:
        for number, row in enumerate(compared.family.differences):
            first, second = row.first, row.second
            spread = compared.spreads[number] if compared.spreads else None
            yield {
                **result.group.fixed,
                "task": compared.task,
                "kind": compared.kind,
                "metric": compared.metric,
                "a": names[first],
                "b": names[second],
                "value_a": compared.values[first],
                "value_b": compared.values[second],
                "scale": "log" if compared.on_log_scale else "value",
                "difference": row.value,
                **{name: getattr(row, name) for name in OF_DIFFERENCES},
                "claim": compared.claims[number].name,
                "n_pairs": compared.n_pairs,
                "n_examples": compared.n_examples,
                "lost_a": compared.lost[first],
                "lost_b": compared.lost[second],
                "undefined": compared.why_undefined(row),
                "unrestricted_a": compared.unrestricted[first],
                "unrestricted_b": compared.unrestricted[second],
                "leading": compared.leading,
                "primary": compared.primary,
                "label": remark_of(compared, number),
                "tasks_p": None if spread is None else spread.p,
                "tasks_differ_in_sign": None if spread is None else spread.differ_in_sign,
                "note": row.note,
                "signature": result.signature(compared, row),
            }


def warning_documents(results: Sequence[GroupResult]) -> Iterator[dict[str, Any]]:
    """Yield the warnings of the leading families as they stand in JSON documents."""
    for result in results:
        for compared in result.leading:
            row = {**result.group.fixed, "task": compared.task, "kind": compared.kind}
            row |= dict.fromkeys(("channel", "mention", "judge"))
            for warning in warnings_of(result, compared):
                yield {"row": row, **warning.model_dump(mode="json")}


def tuning_document(result: TuningResult) -> dict[str, Any]:
    """Return a result as it stands in JSON documents."""
    return {
        "task": result.task,
        "kind": result.kind,
        "primary": result.primary,
        "sentences": list(tuning_sentences(result)),
        "pairs": [_pair_document(result, pair) for pair in result.pairs],
        "not_tested": [{"model": result.group.names[one.number], "reason": one.reason} for one in result.untested],
        "f_auroc_mean": None if result.mean is None else vars(result.mean),
    }


def _pair_document(result: TuningResult, pair: TunedPair) -> dict[str, Any]:
    shown, row, names = pair.dominance, pair.f_auroc, result.group.names
    p_levels = shown.p_levels or (None,) * len(shown.gaps)
    return {
        "tuned": names[pair.first],
        "pretrained": names[pair.second],
        "claim": {"first_dominates": "tuned_dominates", "second_dominates": "pretrained_dominates"}.get(
            str(shown.claim), shown.claim
        ),
        "undefined": shown.undefined,
        "p_tuned_dominates": shown.p_first,
        "p_pretrained_dominates": shown.p_second,
        "p_tuned_dominates_adjusted": shown.p_first_adjusted,
        "p_pretrained_dominates_adjusted": shown.p_second_adjusted,
        "levels": [_gap_document(gap, p) for gap, p in zip(shown.gaps, p_levels, strict=True)],
        "f_auroc_difference": row.value,
        "f_auroc_low": row.low,
        "f_auroc_high": row.high,
        "f_auroc_p": row.p,
        "n_pairs": pair.n_pairs,
        "n_examples": pair.n_examples,
    }


def _gap_document(gap: Gap, p_adjusted: float | None) -> dict[str, Any]:
    defined = gap.value is not None
    return {
        "verbosity": gap.level,
        FPR: gap.fpr,
        "difference": gap.value,
        "low": gap.limits[0] if defined else None,
        "high": gap.limits[1] if defined else None,
        "p": gap.p if defined else None,
        "p_adjusted": p_adjusted,
        "undefined": gap.undefined,
    }
