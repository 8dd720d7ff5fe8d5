"""Make the JSON document of a comparison, as `compare --json` prints it and the Python API returns it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from explaineval.metrics.frontiers import Trend
from explaineval.reporting.comparison_text import remark_of, sentence_of, warnings_of
from explaineval.reporting.tuning_text import tuning_document
from explaineval.scoring.comparisons import Compared, GroupResult


def document_of(results: Sequence[GroupResult]) -> dict[str, Any]:
    """Return the document of a comparison; its first fields are those of the first primary family."""
    main = next((compared for result in results for compared in result.leading), None)
    summary = {} if main is None else _summary(main)
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
                        **_summary(compared),
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


def _summary(compared: Compared) -> dict[str, Any]:
    """What a family says as a whole."""
    names, family = compared.group.names, compared.family
    return {
        "sentence": sentence_of(compared),
        "not_separated_from_best": [names[number] for number in family.not_separated],
        "best_selected": None if family.best is None else names[family.best],
        "ranks": [
            {"model": name, "low": rank.low if rank else None, "high": rank.high if rank else None}
            for name, rank in zip(names, family.ranks, strict=True)
        ],
        "trend": None if compared.trend is None else _trend(compared.trend),
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


def _trend(trend: Trend) -> dict[str, Any]:
    return {**vars(trend), "slopes": dict(trend.slopes or {})}


def _trend_beside(metric: str, trend: Trend) -> dict[str, Any]:
    names = ("value", "low", "high", "p", "low_here", "high_here", "undefined")
    return {"metric": metric, **{name: getattr(trend, name) for name in names}}


def _rows(result: GroupResult) -> Iterator[dict[str, Any]]:
    names = result.group.names
    for compared in result.families:
        for number, row in enumerate(compared.family.differences):
            first, second = row.first, row.second
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
                "low": row.low,
                "high": row.high,
                "low_adjusted": row.low_adjusted,
                "high_adjusted": row.high_adjusted,
                "p": row.p,
                "p_adjusted": row.p_adjusted,
                "detectable": row.detectable,
                "equivalent": row.equivalent,
                "low_equivalent": row.low_equivalent,
                "high_equivalent": row.high_equivalent,
                "method": row.method,
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
                "tasks_p": compared.spreads[number].p if compared.spreads else None,
                "tasks_differ_in_sign": compared.spreads[number].differ_in_sign if compared.spreads else None,
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
