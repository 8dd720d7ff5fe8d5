"""What the tables for papers and web pages show: the first numbers of each condition, and what is needed to read them.

It holds texts and numbers of a run as they are; `latex` and `markdown` lay them out and escape them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from explaineval.interventions import kind_of
from explaineval.metrics.families import Rank
from explaineval.records import SIMULATED_PREFIX, Condition, MetricRow
from explaineval.reporting.condition_text import ORDERS, lower_first
from explaineval.reporting.results import Results, RunResults
from explaineval.scoring.comparisons import GroupResult
from explaineval.scoring.registry import METRICS
from explaineval.scoring.task_means import MEAN
from explaineval.text import counted

RANK_LEGEND = (
    "Rank: the ranks in {} that a model may hold among the models compared, on the trials that all of them share, at "
    "the 5 % level adjusted for all pairs."
)
DIGEST = 16
"""Hexadecimal digits of the hash of the signatures."""


class Column(NamedTuple):
    """A metric of the table, its heading, and whether its interval is shown."""

    metric: str
    heading: str
    interval: bool = False


COLUMNS = tuple(
    Column(name, cell.heading, cell.interval)
    for name, cell in sorted(
        ((name, metric.paper_cell) for name, metric in METRICS.items() if metric.paper_cell is not None),
        key=lambda entry: entry[1].column,
    )
)
"""The columns from left to right. One is left out where no row has its metric."""


@dataclass(frozen=True)
class HeadlineRow:
    """The numbers of one condition by metric, the ranks its model may hold, and the words that tell it from others."""

    condition: Condition
    numbers: Mapping[str, MetricRow]
    rank: Rank | None
    about: str

    @property
    def model(self) -> str:
        """The model's name."""
        return self.condition.model

    @property
    def is_simulated(self) -> bool:
        """Whether the model is simulated, and no language model."""
        return self.condition.model.startswith(SIMULATED_PREFIX)

    @property
    def trials(self) -> int:
        """The number of scored trials."""
        return next((self.numbers[column.metric].n for column in COLUMNS if column.metric in self.numbers), 0)


@dataclass(frozen=True)
class Headline:
    """One table of a run: its rows and columns, what holds for all rows, and the hash of the signatures shown."""

    title: str
    rows: tuple[HeadlineRow, ...]
    columns: tuple[Column, ...]
    shared: str
    run: str
    version: str
    digest: str
    ranked: bool

    def legend(self) -> Iterator[str]:
        """Yield what the headings mean, one sentence each."""
        for column in self.columns:
            text = METRICS[column.metric].definition.partition(". ")[0].removesuffix(".")
            yield f"{column.heading}: {lower_first(text)}."
        yield "In brackets: 95 % intervals; examples are the unit. n: scored trials."
        if self.ranked:
            yield RANK_LEGEND.format(self.columns[0].heading)

    def note(self) -> str:
        """Return where the numbers come from."""
        return (
            f"explaineval {self.version}, {self.run}, signatures sha256:{self.digest} (of those that these numbers "
            "have in metrics.json, sorted, one a line)."
        )


def headlines_of(results: Results) -> tuple[Headline, ...]:
    """Return the tables of the first run: that of its arms, and that of its levels of verbosity together, if any."""
    run = results.runs[0]
    conditions = _conditions(run)
    arms = {key: numbers for key, numbers in conditions.items() if key.verbosity is not None}
    levels = {key: numbers for key, numbers in conditions.items() if key.verbosity is None}
    ranks = dict(_ranks(results.comparisons))
    titled = {"Faithfulness of explanations": arms, "Faithfulness of explanations over levels of verbosity": levels}
    return tuple(_headline(title, run, numbers, ranks) for title, numbers in titled.items() if numbers)


def _headline(
    title: str,
    run: RunResults,
    conditions: Mapping[Condition, Mapping[str, MetricRow]],
    ranks: Mapping[Condition, Rank],
) -> Headline:
    parts = {condition: _parts(condition, run) for condition in conditions}
    names = list(dict.fromkeys(name for by_name in parts.values() for name in by_name))
    same = [name for name in names if len({by_name[name] for by_name in parts.values()}) == 1]
    rows = tuple(
        HeadlineRow(
            condition,
            numbers,
            ranks.get(condition),
            ", ".join(text for name, text in parts[condition].items() if name not in same and text),
        )
        for condition, numbers in conditions.items()
    )
    signatures = {number.signature for row in rows for number in row.numbers.values()}
    return Headline(
        title,
        rows,
        tuple(column for column in COLUMNS if any(column.metric in row.numbers for row in rows)),
        ", ".join(text for name, text in next(iter(parts.values())).items() if name in same and text),
        run.record.signature.rpartition("|")[2],
        run.record.explaineval,
        hashlib.sha256("\n".join(sorted(signatures)).encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST],
        any(row.rank is not None for row in rows),
    )


def _conditions(run: RunResults) -> dict[Condition, dict[str, MetricRow]]:
    """Return the shown numbers of each condition that is about interventions of one kind, in the run's order."""
    shown = {column.metric for column in COLUMNS}
    found: dict[Condition, dict[str, MetricRow]] = {}
    for row in run.rows:
        if row.metric in shown and row.kind is not None and not kind_of(row.kind).measures_noise:
            found.setdefault(row.condition.without_mention, {})[row.metric] = row
    return found


def _parts(condition: Condition, run: RunResults) -> dict[str, str]:
    """Return what a condition is about beside its model, by name, in words; empty for what needs no word."""
    endpoints = {model.endpoint for model in run.record.config.models if model.model == condition.model}
    shots = "1 shot" if condition.shots == 1 else f"{counted(condition.shots, 'shot')}"
    return {
        "endpoint": f"at {condition.endpoint or 'the default endpoint'}" if len(endpoints) > 1 else "",
        "task": "mean over tasks" if condition.task == MEAN else f"task {condition.task}",
        "kind": f"insertions {str(condition.kind).replace('_', ' ')}",
        "order": ORDERS.get(condition.order, condition.order),
        "style": f"{condition.style} with {shots}",
        "verbosity": "all levels" if condition.verbosity is None else f"verbosity {condition.verbosity}",
    }


def _ranks(comparisons: Sequence[GroupResult]) -> Iterator[tuple[Condition, Rank]]:
    """Yield the ranks of models that were compared under the same arm, by condition."""
    for result in comparisons:
        group = result.group
        if group.by != "model" or group.confounded:
            continue
        for compared in result.families:
            if compared.metric != group.primary_metric or not compared.tested:
                continue
            for system, rank in zip(group.systems, compared.family.ranks, strict=True):
                if rank is not None:
                    yield (
                        Condition(
                            system.endpoint, system.model, compared.task, compared.kind, system.order, system.style,
                            system.shots, system.verbosity,
                        ),
                        rank,
                    )  # fmt: skip
