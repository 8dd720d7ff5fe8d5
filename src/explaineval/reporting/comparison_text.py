"""Put comparisons into words: the sentence that can be quoted, what equals what, and what limits a difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from explaineval.metrics.differences import SAME, Difference, Rank
from explaineval.metrics.trends import Trend
from explaineval.records import SIMULATED_PREFIX
from explaineval.scoring.checks import MetricWarning, describe_snapshots, make_warning
from explaineval.scoring.comparisons import (
    IMPACT_NOT_MENTION,
    PRIMARY,
    PRIMARY_OVER_LEVELS,
    Compared,
    GroupResult,
)
from explaineval.scoring.registry import text_of
from explaineval.scoring.task_means import MEAN

SHOWN_NAMES = 12
"""Names of systems that one sentence lists."""

WORTH_A_TREND = 6
"""Models from which on it is said why there is no trend over their size: three families of two are the least."""

LARGEST = 2.0
"""The largest difference that two correlations can have: no sentence names one beyond it."""


def title_of(metric: str) -> str:
    """Return how sentences call a metric that is compared."""
    return text_of(metric).title


def task_of(compared: Compared) -> str:
    """Return how sentences call what a family is about: a task or the mean over tasks, and the levels."""
    task = "the mean over tasks" if compared.task == MEAN else compared.task
    levels = compared.group.levels
    return f"{task} over {len(levels)} levels of verbosity" if levels else task


def sentence_of(compared: Compared) -> str:
    """Return what a family says, in a sentence that can be quoted; of arms and runs it names the model."""
    body, model = _sentence(compared), compared.group.fixed["model"]
    if compared.group.by == "model" or model is None:
        return body
    start, rest = body.split(" ", 1)
    return f"For {model}, {start.lower() if start in ('Cannot', 'No') else start} {rest}"


def _sentence(compared: Compared) -> str:
    names, task, title = compared.group.names, task_of(compared), title_of(compared.metric)
    tested = compared.tested
    if not tested:
        if all(row.note == SAME for row in compared.family.differences):
            return f"{join(names)} have the same {title} on {task}, example by example."
        return f"No difference in {title} can be tested on {task}: {'; '.join(reasons_of(compared))}."
    told = [row for row in tested if row.significant]
    if not told:
        return _nothing_told(compared, tested)
    row = max(told, key=lambda row: abs(row.value or 0.0) / (row.error or 1.0))
    first, second, sign = (row.first, row.second, 1.0) if (row.value or 0.0) > 0 else (row.second, row.first, -1.0)
    low, high = sorted((sign * (row.low_adjusted or 0.0), sign * (row.high_adjusted or 0.0)))
    relation = "is more faithful than" if compared.metric in (PRIMARY, PRIMARY_OVER_LEVELS) else "is above"
    p = f"p {p_text(row.p_adjusted or 0.0)}"
    if len(tested) > 1:
        p = f"adjusted {p} over {len(tested)} pairs"
    scale = " (logarithm)" if compared.on_log_scale else ""
    claim = (
        f"{names[first]} {relation} {names[second]} on {task}: {title}{scale} {sign * (row.value or 0.0):+.2f} "
        f"[{low:.2f}, {high:.2f}], {p}."
    )
    if len(tested) == 1:
        return claim
    return f"{len(told)} of {len(tested)} pairs can be told apart; the clearest: {claim}"


def reasons_of(compared: Compared) -> list[str]:
    """Return why systems have nothing that can be tested, each reason once with the names of its systems."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in zip(short_names(compared.group.names), compared.undefined, strict=True):
        if reason:
            by_reason.setdefault(reason, []).append(name)
    if not by_reason:
        return list(dict.fromkeys(row.undefined or row.note or "" for row in compared.family.differences))
    return [f"{join(names)}: {reason}" for reason, names in by_reason.items()]


def _nothing_told(compared: Compared, tested: Sequence[Difference]) -> str:
    """Say what could have been seen, or that the two are equivalent, where no pair is told apart."""
    names, task, title = compared.group.names, task_of(compared), title_of(compared.metric)
    if len(tested) == 1:
        row = tested[0]
        both = f"{names[row.first]} and {names[row.second]}"
        if row.equivalent:
            return (
                f"{both} are equivalent within {compared.equivalent:g} on {task}: {title} differs by "
                f"{row.value or 0.0:+.2f} [{row.low_adjusted or 0.0:.2f}, {row.high_adjusted or 0.0:.2f}]."
            )
        size = f"{min(row.detectable or 0.0, LARGEST):.2f}"
    else:
        both = "any two of them"
        least = sorted(min(row.detectable, LARGEST) for row in tested if row.detectable is not None)
        size = f"{least[0]:.2f}"
        if f"{least[-1]:.2f}" != size:
            size += f" to {least[-1]:.2f}, depending on the pair,"
    return f"Cannot tell {both} apart on {task}: a difference in {title} below {size} would not have been seen."


def equivalence_of(compared: Compared) -> str | None:
    """Say which pairs are equivalent within the margin declared beforehand; None where none was declared."""
    if compared.equivalent is None:
        return None
    within = f"within {compared.equivalent:g} (declared beforehand)"
    rows = [row for row in compared.family.differences if row.equivalent is not None]
    equal = [row for row in rows if row.equivalent]
    if not equal:
        return (
            f"No two of them are shown to be equivalent {within}."
            if len(rows) > 1
            else f"Not shown to be equivalent {within}."
        )
    if len(rows) == 1:
        return f"Equivalent {within}."
    names = short_names(compared.group.names)
    pairs = [f"{names[row.first]} and {names[row.second]}" for row in equal[:SHOWN_NAMES]]
    more = f"; {len(equal) - SHOWN_NAMES} more pairs" if len(equal) > SHOWN_NAMES else ""
    return f"Equivalent {within}, {len(equal)} of {len(rows)} pairs: {'; '.join(pairs)}{more}."


def best_of(compared: Compared) -> str | None:
    """Say which systems are not separated from the best; None for two systems, or where none is the best."""
    names, best = compared.group.names, compared.family.best
    if best is None or len(names) < 3 or not compared.tested:
        return None
    others = [names[number] for number in compared.family.not_separated if number != best]
    tested = "all others that were tested" if any(compared.undefined) else "all others"
    text = f"Not separated from the best: {join(others)}." if others else f"The best is separated from {tested}."
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
    together = f" (over the same models {join(others)})" if others else ""
    here = [("", trend), *((f" of {name}", other) for name, other in beside)]
    intervals = [f"[{one.low_here or 0.0:.2f}, {one.high_here or 0.0:.2f}]{name}" for name, one in here if one.slopes]
    return (
        f"For ten times the parameters {title_of(compared.metric)} on {task_of(compared)} changes by {_slope(trend)}"
        f"{together}: mean slopes of {count} families, with limits for families like these. For these very "
        f"families they are {join(intervals)}.{note}"
    )


def _slope(trend: Trend) -> str:
    """A slope with its interval for families like these, and its p-value."""
    if trend.value is None:
        return f"an unknown amount ({trend.undefined})"
    p = "" if trend.p is None else f", p {p_text(trend.p)}"
    return f"{trend.value:+.2f} [{trend.low or 0.0:.2f}, {trend.high or 0.0:.2f}]{p}"


def explained_of(result: GroupResult) -> Iterator[str]:
    """Say how much of CCT phi-CCT explains; why that is not known, where there are enough models."""
    shares, unknown = [], []
    for task, kind, explained in result.explained:
        where = f"on {task}, {kind.replace('_', ' ')}"
        if explained.value is not None:
            limits = (
                f" [{explained.low:.0%}, {explained.high:.0%}]"
                if explained.low is not None and explained.high is not None
                else ""
            )
            shares.append(f"{explained.value:.0%}{limits} {where} ({explained.n_models} models)")
        elif explained.reliability_phi is not None:
            unknown.append(f"How much of CCT phi-CCT explains {where} is unknown: {explained.undefined}.")
    if shares:
        text = f"Of the variance of CCT between models phi-CCT explains {join(shares)}"
        yield f"{text}, from different halves of the examples, corrected for reliability."
    yield from unknown


def join(names: Sequence[str]) -> str:
    """Return names as a sentence lists them.

    >>> join(["a", "b", "c"])
    'a, b and c'
    """
    shown = list(names[:SHOWN_NAMES])
    if len(names) > SHOWN_NAMES:
        shown.append(f"{len(names) - SHOWN_NAMES} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def short_names(names: Sequence[str]) -> list[str]:
    """Return the names without the provider that all of them begin with; simulated models keep it."""
    providers = {name.partition("/")[0] if "/" in name else "" for name in names}
    if len(providers) > 1 or providers & {"", SIMULATED_PREFIX.rstrip("/")}:
        return list(names)
    return [name.partition("/")[2] for name in names]


def p_text(p: float) -> str:
    """Return a p-value as papers write it, with its sign of relation.

    >>> p_text(0.0042), p_text(0.00004), p_text(0.31)
    ('= .004', '< .001', '= .31')
    """
    if p < 0.001:
        return "< .001"
    text = f"{p:.3f}" if p < 0.01 else f"{p:.2f}"
    if text == "0.05":  # on which side of .05 it lies must show
        text = f"{p:.4f}" if f"{p:.3f}" == "0.050" else f"{p:.3f}"
    return f"= {text.removeprefix('0')}"


def warnings_of(result: GroupResult, compared: Compared) -> list[MetricWarning]:
    """Return what limits a family of differences, the gravest first."""
    return [make_warning(code, compared.metric, text) for code, text in _warnings(result, compared)]


def _warnings(result: GroupResult, compared: Compared) -> Iterator[tuple[str, str]]:
    group, names = result.group, result.group.names
    for note in dict.fromkeys(row.note for row in compared.family.differences if row.note and row.note != SAME):
        yield "rough_difference", f"rough interval: {note}."
    if group.confounded:
        what = "arms differ" if group.by == "arm" else "models were asked under arms that differ"
        yield (
            "confounded",
            f"the {what} in {join(group.confounded)}: the difference may be one of "
            f"{'that' if len(group.confounded) == 1 else 'these'}.",
        )
    if any(result.label(compared, number) for number in range(len(compared.family.differences))):
        yield "impact_not_mention", f"a difference marked `{IMPACT_NOT_MENTION}` vanishes at a common impact rate."
    if result.differing:
        yield (
            "asked_otherwise",
            f"they also differ in {join(result.differing)}; only trials that are the same in all of them count."
            + (" --mention decides all by one policy." if any("mention" in part for part in result.differing) else ""),
        )
    if compared.left_out:
        yield "tasks_left_out", f"not all of them were asked {join(compared.left_out)}, which is left out here."
    for first, second, rate, other in result.noise[:SHOWN_NAMES]:
        yield (
            "noise_differs",
            f"asking the same again changed {rate:.0%} of the answers of {names[first]} and {other:.0%} of those of "
            f"{names[second]}: noise pulls their phi-CCT towards 0 by different amounts.",
        )
    if len(result.noise) > SHOWN_NAMES:
        yield "noise_differs", f"the same holds for {len(result.noise) - SHOWN_NAMES} more pairs."
    for name, snapshots in zip(names, result.snapshots, strict=False):
        if len(snapshots) > 1:
            yield "snapshots_mixed", f"{name}: {describe_snapshots(snapshots)}"
