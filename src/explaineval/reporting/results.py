"""Read what run directories hold once, for the page, its figures and the exports: numbers, warnings, comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from explaineval.config import ModelConfig
from explaineval.cost import dollars_of_all
from explaineval.records import MetricRow
from explaineval.rundir.directory import read_run
from explaineval.rundir.schema import EndpointRecord, RunRecord
from explaineval.scoring.comparisons import GroupResult, compare_runs, run_names
from explaineval.scoring.rows import Scores, score
from explaineval.scoring.task_means import MEAN


@dataclass(frozen=True)
class UnknownCost:
    """Why it is not known what a model cost, as a clause that follows its name and a colon."""

    reason: str


@dataclass(frozen=True)
class RunResults:
    """One run: where it is, its name among the runs that are read with it, its record, and its numbers."""

    directory: Path
    name: str
    record: RunRecord
    scores: Scores

    @property
    def rows(self) -> list[MetricRow]:
        """The rows under the run's own mention policy, looked for in the explanation: those that are shown first."""
        return list(self.scores.headline.rows)

    def model(self, endpoint: str | None, model: str) -> ModelConfig | None:
        """What the configuration says of a model (its family, parameters, tuning), if it is there."""
        specs = (spec for spec in self.record.config.models if (spec.endpoint, spec.model) == (endpoint, model))
        return next(specs, None)

    def usage(self, endpoint: str | None, model: str) -> EndpointRecord | None:
        """What happened with a model at its endpoint (requests, tokens, price), if it was asked."""
        records = (entry for entry in self.record.endpoints if (entry.endpoint, entry.model) == (endpoint, model))
        return next(records, None)

    def dollars_per_trial(self, endpoint: str | None, model: str) -> float | UnknownCost:
        """Return what a trial of a model cost in dollars, on average over all its trials in the run, scored or missing.

        All answers count, those of shams and those from the cache too, as if they had been bought at the run's price.
        """
        usage = self.usage(endpoint, model)
        if usage is None or usage.tokens is None or usage.requests is None:
            return UnknownCost("run.json does not say how many tokens it took")
        if usage.price is None:
            return UnknownCost("no price is known for it")
        tokens, requests = usage.tokens, usage.requests.hits + usage.requests.sent
        paid = usage.price.input or usage.price.output or usage.price.request or usage.price.above
        uncounted = self.record.totals is not None and self.record.totals.usd_from_scratch is None
        if paid and uncounted and all(entry.price is not None for entry in self.record.endpoints):
            return UnknownCost("answers in its run came without a count of tokens")
        trials = sum(
            row.n
            for row in self.rows
            if (row.endpoint, row.model, row.metric) == (endpoint, model, "excluded_rate") and row.task != MEAN
        )
        if not trials:
            return UnknownCost("it has no trial")
        everything = tokens.sent_in + tokens.hit_in, tokens.sent_out + tokens.hit_out
        return dollars_of_all(*everything, requests, usage.price) / trials


@dataclass(frozen=True)
class Results:
    """Several runs in the order in which they were given, and their comparisons; none where nothing can be compared."""

    runs: tuple[RunResults, ...]
    comparisons: tuple[GroupResult, ...]


def read_results(directories: Sequence[Path]) -> Results:
    """Score run directories from their files alone and compare what they hold. Nothing is written.

    Raises InputError for a directory that holds no finished run, whose files are damaged, or that is given twice.
    """
    names = run_names(directories)
    runs = tuple(
        RunResults(directory, name, read_run(directory), score(directory))
        for directory, name in zip(directories, names, strict=True)
    )
    return Results(runs, tuple(compare_runs(directories, or_none=True)))
