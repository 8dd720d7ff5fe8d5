"""Trials scored without a run directory: through the tally to rows and warnings, with the facts that those need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from explaineval.config import RunConfig
from explaineval.records import Condition, MetricRow, Trial
from explaineval.rundir.schema import Facts
from explaineval.scoring.counts import count_sources
from explaineval.scoring.mentioning import Source, TextReader
from explaineval.scoring.rows import Scores, score_sources
from makers.runs import ENDPOINT, MODEL, make_trial

LEVELS = ("minimal", "normal", "exhaustive")


def score_trials(
    trials: Sequence[Mapping[str, Any]],
    *,
    kinds: Sequence[str] = ("hand",),
    tasks: Sequence[str] = ("mine",),
    targets: Mapping[tuple[str, str, str], str] | None = None,
    lacking: Sequence[Mapping[str, Any]] = (),
    available: int = 0,
    **values: Any,
) -> Scores:
    """What these trials come to; `values` are of the configuration, `lacking` the arms that no shots could show.

    `available` is how many examples each task has.
    """
    science = {"tasks": tasks, "models": [{"model": MODEL, "endpoint": ENDPOINT}]} | values
    config = RunConfig.model_validate(science)
    by_level, by_sample = len(config.arms.verbosity) > 1, config.tvd_samples is not None
    found = [Trial.model_validate(one) for one in trials]
    source = Source(config.mention)
    sources = {source: TextReader(config.mention).decider(source)}
    by_source = count_sources(found, sources, by_level=by_level, by_sample=by_sample, targets=targets or {})
    arms = {arm.arm_name for arm in by_source[source].arms} | {Condition(kind=None, **one).arm_name for one in lacking}
    sent = {"shots": "s", "prompts": "p", "temperature": "0", "logprobs": "top20"}
    facts = {
        "tasks": {
            task: {"examples": "x", "kinds": {kind: f"h-{kind}" for kind in kinds}, "n_available": available}
            for task in tasks
        },
        "arms": dict.fromkeys(arms, sent),
        "no_level_shots": list(lacking),
    }
    return score_sources(by_source, config, Facts.model_validate(facts))


def values_of(scores: Scores, metric: str, **where: Any) -> list[float | None]:
    """The values of a metric, in the order of the rows."""
    return [row.value for row in rows_of(scores, metric, **where)]


def rows_of(scores: Scores, metric: str, **where: Any) -> list[MetricRow]:
    """The rows of a metric whose fields have these values."""
    return [
        row
        for row in scores.rows
        if row.metric == metric and all(getattr(row, name) == value for name, value in where.items())
    ]


def sweep(
    said: Mapping[str, Sequence[Sequence[bool]]], changed: Sequence[Sequence[bool]], **values: Any
) -> list[dict[str, Any]]:
    """Trials of order pe2 at several levels: whether each is mentioned at a level, and whether its answer changed."""
    return [
        make_trial(example, number, changed=flip, mentioned=said[level][example][number], order="pe2",
                   verbosity=level, **values)
        for level in said
        for example, row in enumerate(changed)
        for number, flip in enumerate(row)
    ]  # fmt: skip
