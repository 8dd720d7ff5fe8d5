"""Say in words how tuned models compare with their pretrained siblings over levels of verbosity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from explaineval.metrics.differences import LEVEL
from explaineval.metrics.frontiers import Gap, MeanDifference
from explaineval.reporting.comparison_text import place_text, short_names, title_of
from explaineval.scoring.comparisons.groups import PRIMARY_OVER_LEVELS, TunedPair, TuningResult
from explaineval.scoring.registry import FPR
from explaineval.text import counted, interval_text, joined, number_text, p_text

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
            yield from sentences_of(result)


def sentences_of(result: TuningResult) -> Iterator[str]:
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
    limits = "" if row.low is None else f" {interval_text(row.low, row.high)}"
    return f" {title_of(PRIMARY_OVER_LEVELS)} differs by {number_text(row.value, sign=True)}{limits}."


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
        f"one's is {number_text(mean.value, sign=True)} {interval_text(mean.low, mean.high)} on average, p "
        f"{p_text(mean.p)}, for pairs like "
        f"these.{note}"
    )


def tuning_document(result: TuningResult) -> dict[str, Any]:
    """Return a result as it stands in JSON documents."""
    return {
        "task": result.task,
        "kind": result.kind,
        "primary": result.primary,
        "sentences": list(sentences_of(result)),
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
