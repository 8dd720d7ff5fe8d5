"""Print a comparison: a sentence to quote, a table of models, the differences, and what limits them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from explaineval.metrics.differences import Difference
from explaineval.records import SIMULATED_PREFIX
from explaineval.scoring.checks import MetricWarning, make_warning
from explaineval.scoring.comparisons import (
    IMPACT_NOT_MENTION,
    PRIMARY,
    Compared,
    GroupResult,
    Naming,
    p_text,
    sentence_of,
)
from explaineval.scoring.registry import METRICS
from explaineval.scoring.task_means import MEAN

SHOWN_PAIRS = 10
COLUMNS = (
    ("phi-CCT", "phi_cct"),
    ("at p", "phi_at_p"),
    ("CCT", "cct"),
    ("TPR", "tpr"),
    ("FPR", "fpr"),
    ("changed", "impact_rate"),
)
"""The metrics in the table of systems, with their headings."""

ORDERS = {"pe": "predict, then explain", "pe2": "predict, then explain in a second call", "ep": "explain, then predict"}


def lines_of(results: Sequence[GroupResult], titles: Mapping[str, str], width: int) -> Iterator[str]:
    """The lines of a comparison, none wider than `width` unless a name is; `titles` are the metrics' names."""
    for number, result in enumerate(results):
        if number:
            yield ""
        for compared in result.primary:
            yield from _wrapped(sentence_of(compared, naming_of(compared, titles)), width)
            yield ""
            yield from _conditions(result, compared, width)
            yield from _table(result, compared, width)
            if len(result.group.systems) == 2:
                yield from _metrics(result, compared, titles)
            else:
                yield from _pairs(result, compared, width)
            yield from _warning_lines(result, compared, width)
        for compared in result.families:
            yield from _trend(compared, titles, width)
        yield from _explained(result, width)


def naming_of(compared: Compared, titles: Mapping[str, str]) -> Naming:
    """How sentences call this family's metric and task."""
    task = "the mean over tasks" if compared.task == MEAN else compared.task
    return Naming(titles.get(compared.metric, compared.metric), task)


def _wrapped(text: str, width: int, indent: str = "") -> Iterator[str]:
    import textwrap

    yield from textwrap.wrap(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _conditions(result: GroupResult, compared: Compared, width: int) -> Iterator[str]:
    fixed = result.group.fixed
    parts = [str(fixed["model"])] if fixed["model"] else []
    parts += [compared.task if compared.task != MEAN else "mean over tasks", compared.kind.replace("_", " ")]
    parts += [str(fixed["style"])] if fixed["style"] else []
    parts += [ORDERS.get(str(fixed["order"]), "")] if fixed["order"] else []
    parts += [f"{fixed['shots']} shots"] if fixed["shots"] else []
    parts += [str(fixed["verbosity"])] if fixed["verbosity"] not in (None, "normal") else []
    lost = [f"{name} lost {count}" for name, count in zip(result.group.names, compared.lost, strict=True) if count]
    shared = f"{compared.n_pairs} trials of {compared.n_examples} examples scored in all of them"
    yield from _wrapped(f"{' · '.join(filter(None, parts))} · {shared}", width, "  ")
    if lost:
        yield from _wrapped(f"Trials that are not shared are left out: {', '.join(lost)}.", width, "  ")


def _table(result: GroupResult, compared: Compared, width: int) -> Iterator[str]:
    found = {metric: result.family(metric, compared) for _, metric in COLUMNS}
    shown = [(head, metric) for head, metric in COLUMNS if any(v is not None for v in _values(found[metric]))]
    names = _without_provider(result.group.names)
    room = max(12, width - 8 - 8 * len(shown))
    yield ""
    yield "  rank  " + "model".ljust(room)[:room] + "".join(f"{head:>8}" for head, _ in shown)
    order = sorted(
        range(len(result.group.systems)),
        key=lambda number: (compared.values[number] is None, -(compared.values[number] or 0.0)),
    )
    for number in order:
        rank = compared.family.ranks[number]
        ranks = "–" if rank is None else f"{rank.low}" if rank.low == rank.high else f"{rank.low}–{rank.high}"
        cells = "".join(f"{_number(_values(found[metric])[number]):>8}" for _, metric in shown)
        yield f"  {ranks:<5} " + _short(names[number], room).ljust(room) + cells
    if compared.family.best is not None and len(order) > 2:
        near = [names[number] for number in compared.family.not_separated]
        best = names[compared.family.best]
        yield ""
        yield from _wrapped(
            f"Not separated from the best: {', '.join(near)}. {best} was picked as the best by looking at these data, "
            "so its own value is a little too high.",
            width,
        )


def _values(compared: Compared | None) -> tuple[float | None, ...]:
    return compared.values if compared is not None else ()


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _without_provider(names: Sequence[str]) -> list[str]:
    """The names without the provider that all of them begin with; simulated models keep it."""
    providers = {name.partition("/")[0] if "/" in name else "" for name in names}
    if len(providers) > 1 or providers & {"", SIMULATED_PREFIX.rstrip("/")}:
        return list(names)
    return [name.partition("/")[2] for name in names]


def _short(name: str, room: int) -> str:
    """The name, cut in the middle where it is too long."""
    if len(name) <= room:
        return name
    head = (room - 1) // 2
    return f"{name[:head]}…{name[len(name) - (room - 1 - head) :]}"


def _metrics(result: GroupResult, compared: Compared, titles: Mapping[str, str]) -> Iterator[str]:
    """One line for each metric of two systems."""
    yield ""
    yield f"  {'first − second':<26}{'difference':>10}  {'95 % interval':<17}{'p':<8}"
    for other in result.families:
        if (other.task, other.kind) != (compared.task, compared.kind):
            continue
        row = other.family.differences[0]
        title = titles.get(other.metric, other.metric)
        if row.value is None:
            continue
        interval = f"[{row.low:.2f}, {row.high:.2f}]" if row.low is not None and row.high is not None else "–"
        p = p_text(row.p).removeprefix("= ") if row.p is not None else "–"
        label = result.label(other, 0)
        note = f"  {label}" if label else ""
        log = " (log)" if other.metric == "odds_ratio_within" else ""
        yield f"  {_short(title + log, 25):<26}{row.value:>+10.2f}  {interval:<17}{p:<8}{note}".rstrip()
    yield "  All but phi-CCT are exploratory."


def _pairs(result: GroupResult, compared: Compared, width: int) -> Iterator[str]:
    """The clearest differences of a family of many pairs."""
    rows = [(number, row) for number, row in enumerate(compared.family.differences) if row.p_adjusted is not None]
    rows.sort(key=lambda pair: pair[1].p_adjusted or 0.0)
    told = [pair for pair in rows if pair[1].significant]
    yield ""
    if not told:
        yield "  No two of them can be told apart."
    for number, row in told[:SHOWN_PAIRS]:
        yield from _wrapped(f"  {_pair_text(result, compared, number, row)}", width, "    ")
    if len(told) > SHOWN_PAIRS:
        yield f"  {len(told) - SHOWN_PAIRS} more pairs can be told apart; --json has them all."


def _pair_text(result: GroupResult, compared: Compared, number: int, row: Difference) -> str:
    value, low, high = row.value or 0.0, row.low_adjusted or 0.0, row.high_adjusted or 0.0
    names = _without_provider(result.group.names)
    first, second = names[row.first], names[row.second]
    if value < 0:
        first, second, value, low, high = second, first, -value, -high, -low
    label = result.label(compared, number)
    note = f" · {label}" if label else ""
    return f"{first} > {second}  {value:+.2f} [{low:.2f}, {high:.2f}], adjusted p {p_text(row.p_adjusted or 0.0)}{note}"


def warnings_of(result: GroupResult, compared: Compared) -> list[MetricWarning]:
    """Return what limits a family of differences."""
    names, metric = result.group.names, compared.metric
    found = [
        make_warning("rough_difference", metric, f"rough interval: {note}.")
        for note in dict.fromkeys(row.note for row in compared.family.differences if row.note)
    ]
    if result.group.confounded:
        text = f"different {' and '.join(result.group.confounded)}: the difference may be one of these."
        found.append(make_warning("confounded", metric, f"the models were asked under {text}"))
    for first, second, rate, other in result.noise:
        text = (
            f"asking the same again changed {rate:.0%} of the answers of {names[first]} and {other:.0%} of those of "
            f"{names[second]}: noise pulls their phi-CCT towards 0 by different amounts."
        )
        found.append(make_warning("noise_differs", metric, text))
    if any(result.label(compared, number) for number in range(len(compared.family.differences))):
        text = f"a difference marked `{IMPACT_NOT_MENTION}` vanishes at a common impact rate."
        found.append(make_warning("impact_not_mention", metric, text))
    return found


def _warning_lines(result: GroupResult, compared: Compared, width: int) -> Iterator[str]:
    warnings = warnings_of(result, compared)
    if warnings:
        yield ""
    for warning in warnings:
        grave = "Before you quote this: " if warning.grade == "do not quote" else "Mind: "
        yield from _wrapped(f"{grave}{warning.text}", width, "  ")


def _trend(compared: Compared, titles: Mapping[str, str], width: int) -> Iterator[str]:
    trend = compared.trend
    if trend is None or compared.metric not in (PRIMARY, "cct"):
        return
    title = titles.get(compared.metric, compared.metric)
    where = "the mean over tasks" if compared.task == MEAN else compared.task
    if trend.value is None:
        if compared.primary:
            yield ""
            yield from _wrapped(f"No trend over model size: {trend.undefined}.", width, "  ")
        return
    count = len(trend.slopes or {})
    yield ""
    low, high = trend.low or 0.0, trend.high or 0.0
    yield from _wrapped(
        f"{title} on {where} changes by {trend.value:+.2f} [{low:.2f}, {high:.2f}] for ten times the parameters (mean "
        f"slope of {count} families); for these very families [{trend.low_here:.2f}, {trend.high_here:.2f}].",
        width,
        "  ",
    )
    if trend.note:
        yield from _wrapped(f"{trend.note[0].upper()}{trend.note[1:]}.", width, "  ")


def _explained(result: GroupResult, width: int) -> Iterator[str]:
    for task, kind, found in result.explained:
        if found.value is None:
            continue
        interval = f" [{found.low:.2f}, {found.high:.2f}]" if found.low is not None and found.high is not None else ""
        yield ""
        yield from _wrapped(
            f"phi-CCT explains {found.value:.0%}{interval} of the variance of CCT between {found.n_models} models on "
            f"{task}, {kind.replace('_', ' ')} (from different halves of the examples, corrected for reliability).",
            width,
            "  ",
        )


def document_of(results: Sequence[GroupResult], titles: Mapping[str, str]) -> dict[str, Any]:
    """The comparison as one JSON document (design: `compare --json`)."""
    main = results[0].primary[0] if results and results[0].primary else None
    rows = [row for result in results for row in _rows(result)]
    return {
        "family": None if main is None else _family(main),
        "sentence": None if main is None else sentence_of(main, naming_of(main, titles)),
        "not_separated_from_best": []
        if main is None
        else [main.group.names[number] for number in main.family.not_separated],
        "ranks": [] if main is None else _ranks(main),
        "rows": rows,
        "groups": [
            {
                "by": result.group.by,
                "confounded": list(result.group.confounded),
                "families": [
                    {
                        **_family(compared),
                        "primary": compared.primary,
                        "sentence": sentence_of(compared, naming_of(compared, titles)),
                        "not_separated_from_best": [
                            result.group.names[number] for number in compared.family.not_separated
                        ],
                        "best_selected": None
                        if compared.family.best is None
                        else result.group.names[compared.family.best],
                        "ranks": _ranks(compared),
                        "trend": None if compared.trend is None else _trend_document(compared),
                    }
                    for compared in result.families
                    if compared.primary or compared.trend is not None
                ],
                "explained_variance": [
                    {"task": task, "kind": kind, **vars(found)} for task, kind, found in result.explained
                ],
            }
            for result in results
        ],
    }


def _family(compared: Compared) -> dict[str, Any]:
    testable = sum(row.p_adjusted is not None for row in compared.family.differences)
    return {
        **compared.group.fixed,
        "task": compared.task,
        "kind": compared.kind,
        "metric": compared.metric,
        "pairs": testable,
    }


def _ranks(compared: Compared) -> list[dict[str, Any]]:
    return [
        {"model": name, "low": rank.low if rank else None, "high": rank.high if rank else None}
        for name, rank in zip(compared.group.names, compared.family.ranks, strict=True)
    ]


def _trend_document(compared: Compared) -> dict[str, Any]:
    assert compared.trend is not None  # noqa: S101 - the caller asks for it
    return {**vars(compared.trend), "slopes": dict(compared.trend.slopes or {})}


def _rows(result: GroupResult) -> Iterator[dict[str, Any]]:
    names = result.group.names
    for compared in result.families:
        for number, row in enumerate(compared.family.differences):
            yield {
                **result.group.fixed,
                "task": compared.task,
                "kind": compared.kind,
                "metric": compared.metric,
                "a": names[row.first],
                "b": names[row.second],
                "value_a": compared.values[row.first],
                "value_b": compared.values[row.second],
                "difference": row.value,
                "low": row.low,
                "high": row.high,
                "low_adjusted": row.low_adjusted,
                "high_adjusted": row.high_adjusted,
                "p": row.p,
                "p_adjusted": row.p_adjusted,
                "detectable": row.detectable,
                "equivalent": row.equivalent,
                "n_pairs": compared.n_pairs,
                "n_examples": compared.n_examples,
                "lost_a": compared.lost[row.first],
                "lost_b": compared.lost[row.second],
                "undefined": row.undefined,
                "unrestricted_a": compared.unrestricted[row.first],
                "unrestricted_b": compared.unrestricted[row.second],
                "primary": compared.primary,
                "label": result.label(compared, number),
                "note": row.note,
            }


def titles() -> dict[str, str]:
    """Return how sentences call each metric that is compared."""
    return {name: metric.title for name, metric in METRICS.items()} | {
        "phi_at_p": "phi-CCT at a common impact rate",
        "odds_ratio_within": "odds ratio within examples",
    }


def warning_documents(results: Sequence[GroupResult]) -> Iterator[dict[str, Any]]:
    """Yield the warnings of the primary families as they stand in JSON documents."""
    for result in results:
        for compared in result.primary:
            row = {**result.group.fixed, "task": compared.task, "kind": compared.kind}
            for warning in warnings_of(result, compared):
                yield {"row": row, **warning.model_dump(mode="json")}
