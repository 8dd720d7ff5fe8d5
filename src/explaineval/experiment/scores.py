"""From tallies to metric rows, each with its interval, its reason where it is undefined, and its signature.

Pure apart from reading the run directory in `score`. Rows and sums stand in a fixed order: the order in which
answers came home never changes a digit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explaineval import metrics
from explaineval.config import RunConfig, build
from explaineval.errors import InputError
from explaineval.experiment.directories import PROMPTS, read_run, read_trials
from explaineval.experiment.kinds import KindNumbers, undefined
from explaineval.experiment.levels import LevelNumbers
from explaineval.experiment.means import means
from explaineval.experiment.mentionings import phrases_in
from explaineval.experiment.tallies import ArmTally, Group, Tally, tally
from explaineval.records import OUTCOMES, SHAM, Estimate, MetricRow
from explaineval.signature import signature


@dataclass(frozen=True)
class Caution:
    """One thing that a reader of a group's numbers should know."""

    group: Group
    text: str


@dataclass(frozen=True)
class Scores:
    """What a run says: rows in a fixed order, warnings, and the missing trials by group and status."""

    rows: tuple[MetricRow, ...]
    warnings: tuple[Caution, ...]
    missing: Mapping[Group, Mapping[str, int]]


def score(directory: Path, changes: Mapping[str, Any] | None = None) -> Scores:
    """Metrics of a run directory, from its files alone.

    `changes` may replace mention, resamples or min_label_mass. Raises InputError where the directory is not whole.
    """
    run = read_run(directory)
    changes = changes or {}
    if not isinstance(run.get("config"), dict) or not isinstance(run.get("facts"), dict):
        raise InputError(f"{directory}: run.json holds no configuration or no facts: it is no run of explaineval.")
    config = build(RunConfig, {**run["config"], **changes}, str(directory))
    counts = tally(
        read_trials(directory),
        config.mention,
        rejudge=config.mention != run["config"].get("mention"),
        min_label_mass=changes.get("min_label_mass"),
        by_level=len(config.arms.verbosity) > 1,
        phrases=phrases_in(directory / PROMPTS),
    )
    if counts.arms and not run["facts"].get("arms"):
        raise InputError(f"{directory}: the run was cut off before it ended; give the same command again, then score.")
    return score_tally(counts, config, run["facts"])


def score_tally(counts: Tally, config: RunConfig, facts: Mapping[str, Any]) -> Scores:
    """Metrics of one tally. `facts` are the hashes and names that `run` recorded for the signatures."""
    rows: list[MetricRow] = []
    warnings: list[Caution] = []
    order = _group_order(config, facts)
    for arm in sorted(counts.arms, key=order):
        examples = counts.arms[arm]
        for group in sorted((g for g in counts.kinds if g._replace(kind=None) == arm), key=order):
            found = KindNumbers(group, counts, examples, config)
            rows += _rows(group, found.estimates(), config, facts)
            warnings += [Caution(group, text) for text in found.warnings()]
        rows += _rows(arm, _arm_estimates(examples, config), config, facts)
    for group in sorted(counts.levels, key=order):
        levels = [level for level in config.arms.verbosity if group._replace(verbosity=level) in counts.kinds]
        across = LevelNumbers(group, counts.levels[group], levels, config)
        rows += _rows(group, across.estimates(), config, facts, levels)
        warnings += [Caution(group, text) for text in across.warnings()]
    rows += means(rows, list(facts["tasks"]))
    missing: dict[Group, dict[str, int]] = {
        group: {str(status): counts.statuses[group][status] for status in OUTCOMES if counts.statuses[group][status]}
        for group in sorted(counts.statuses, key=order)
    }
    return Scores(tuple(rows), tuple(warnings), {group: by for group, by in missing.items() if by})


def _arm_estimates(examples: Mapping[str, ArmTally], config: RunConfig) -> Iterator[tuple[str, Estimate]]:
    interval = metrics.Interval(method=config.interval, resamples=config.resamples, seed=config.seed)
    found = [examples[name] for name in sorted(examples)]
    right = np.array([[sum(one.right.values()), len(one.right)] for one in found], dtype=np.int64).reshape(-1, 2)
    accuracy = metrics.rate(right[:, 0], right[:, 1], interval)
    if not right[:, 1].sum():
        accuracy = undefined("no example has both a gold label and a readable answer", 0)
    yield "accuracy", accuracy
    shams = np.array([[one.sham_flips, one.shams] for one in found], dtype=np.int64).reshape(-1, 2)
    if config.shams:
        yield "sham_flip_rate", metrics.rate(shams[:, 0], shams[:, 1], interval)
    else:
        yield "sham_flip_rate", undefined("no shams were asked (--shams 0)", 0)


def _rows(
    group: Group,
    estimates: Iterator[tuple[str, Estimate]],
    config: RunConfig,
    facts: Mapping[str, Any],
    levels: Sequence[str] = (),
) -> Iterator[MetricRow]:
    """Rows of one group; `levels` where it is about several of them (its own verbosity is blank)."""
    by_level = [facts_of(group._replace(verbosity=level), facts) for level in levels or (group.verbosity,)]
    known = {name: "+".join(dict.fromkeys(one[name] for one in by_level)) for name in by_level[0]}
    for metric, estimate in estimates:
        where = group._asdict() | ({"kind": SHAM} if metric == "sham_flip_rate" else {})
        where["verbosity"] = group.verbosity or None  # blank where a number is over several levels
        yield MetricRow(
            **where,
            metric=metric,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            n=estimate.n,
            n_examples=estimate.n_examples,
            undefined=estimate.undefined,
            signature=signature(config, known, metric),
        )


def facts_of(group: Group, facts: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a signature that a group knows by itself."""
    task = facts["tasks"][group.task]
    arm = facts["arms"][arm_name(group)]
    known = {
        "task": f"{group.task}@{task['examples']}",
        "model": group.model,
        "endpoint": group.endpoint or "default",
        "order": group.order,
        "style": group.style,
        "shots": f"{group.shots}@{arm['shots']}" if group.shots else "0",
        "verbosity": group.verbosity,
        "prompts": arm["prompts"],
        "temperature": arm["temperature"],
        "logprobs": arm["logprobs"],
    }
    if group.kind is not None:
        known["kind"] = f"{group.kind}@{task['kinds'].get(group.kind, 'none')}"
    return known


def arm_name(group: Group) -> str:
    """The name under which run.json keeps the facts of one model, task and arm."""
    return " ".join(str(part) for name, part in group._asdict().items() if name != "kind")


def _group_order(config: RunConfig, facts: Mapping[str, Any]) -> Callable[[Group], tuple[Any, ...]]:
    models = {(model.endpoint, model.model): index for index, model in enumerate(config.models)}
    tasks = {name: index for index, name in enumerate(facts["tasks"])}

    def key(group: Group) -> tuple[Any, ...]:
        return (
            models.get((group.endpoint, group.model), len(models)),
            tasks.get(group.task, len(tasks)),
            group.style,
            group.order,
            group.shots,
            group.verbosity,
            group.kind or "",
        )

    return key
