"""Read what run directories hold once, for the page, its figures and the exports: numbers, warnings, comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from explaineval.config import ModelConfig
from explaineval.records import MetricRow
from explaineval.rundir.directory import read_run
from explaineval.rundir.schema import EndpointRecord, RunRecord
from explaineval.scoring.comparisons import GroupResult, compare_runs, run_names
from explaineval.scoring.rows import Scores, score


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
