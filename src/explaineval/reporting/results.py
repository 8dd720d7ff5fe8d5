"""Read what run directories hold, once: as results for the page, figures and exports, or as pandas data frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from explaineval.config import ModelConfig
from explaineval.cost import dollars_of_all
from explaineval.errors import InputError
from explaineval.files import read_lines
from explaineval.records import POLICIES, Condition, Example, Intervention, Mention, MetricRow, Trial
from explaineval.reporting.comparison_text import headlines_of
from explaineval.reporting.view import ConditionView, Place, ShownNumber, conditions_of, source_of
from explaineval.rundir.directory import (
    RUN,
    TRIALS,
    read_examples,
    read_interventions,
    read_metrics,
    read_run,
    read_trials,
)
from explaineval.rundir.schema import EndpointRecord, RunRecord
from explaineval.scoring.comparisons import GroupResult, compare_runs, run_names
from explaineval.scoring.mentioning import MOST_TRIALS
from explaineval.scoring.registry import EXCLUDED_RATE
from explaineval.scoring.rows import RunScorer, Scores, score
from explaineval.scoring.task_means import MEAN
from explaineval.text import counted

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class UnknownCost:
    """Why it is not known what a model cost, in words that can stand in brackets after its name."""

    reason: str


@dataclass(frozen=True)
class RunResults:
    """One run: where it is, its name among the runs that are read with it, its record, and its numbers."""

    directory: Path
    name: str
    record: RunRecord
    scores: Scores
    other_policies: tuple[MetricRow, ...] = ()
    """Rows under the other word policies for mentions, where they were asked for (`read_results`)."""

    number: int = 0
    """Which of the runs it is that are read together."""

    @cached_property
    def conditions(self) -> list[ConditionView]:
        """What is shown first: each condition with its numbers and what limits them."""
        return conditions_of(self.scores, self.number, self)

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
            return UnknownCost("run.json holds no count of tokens")
        if usage.price is None:
            return UnknownCost("no price is known")
        tokens, requests = usage.tokens, usage.requests.hits + usage.requests.sent
        paid = usage.price.input or usage.price.output or usage.price.request or usage.price.above
        uncounted = self.record.totals is not None and self.record.totals.usd_from_scratch is None
        if paid and uncounted and all(entry.price is not None for entry in self.record.endpoints):
            return UnknownCost("answers came without a count of tokens")
        trials = sum(
            row.n
            for row in self.rows
            if (row.endpoint, row.model, row.metric) == (endpoint, model, EXCLUDED_RATE) and row.task != MEAN
        )
        if not trials:
            return UnknownCost("no trials")
        everything = tokens.sent_in + tokens.hit_in, tokens.sent_out + tokens.hit_out
        return dollars_of_all(*everything, requests, usage.price) / trials


@dataclass(frozen=True)
class ComparedRuns:
    """Several runs in the order in which they were given, and their comparisons; none where nothing can be compared."""

    runs: tuple[RunResults, ...]
    comparisons: tuple[GroupResult, ...]

    @property
    def conditions(self) -> list[ConditionView]:
        """The conditions of all runs, in the order of the runs."""
        return [condition for run in self.runs for condition in run.conditions]


def other_conditions(results: ComparedRuns) -> dict[str, list[ConditionView]]:
    """Return the numbers that do not stand first by their source in words: other channels, judges, predictors."""
    by_source: dict[str, dict[Place, dict[str, ShownNumber]]] = {}
    for number, run in enumerate(results.runs):
        first = set(map(id, run.rows))
        for row in run.scores.rows:
            if id(row) not in first:
                place = number, row.condition.without_mention
                by_source.setdefault(source_of(row.condition), {}).setdefault(place, {})[row.metric] = ShownNumber(row)
    return {
        source: [ConditionView(run, condition, numbers) for (run, condition), numbers in places.items()]
        for source, places in by_source.items()
    }


def read_results(
    directories: Sequence[Path], *, every_policy: bool = False, on_trial: Callable[[int, Trial], None] | None = None
) -> ComparedRuns:
    """Score run directories from their files alone and compare what they hold. Nothing is written.

    With `every_policy` runs of at most MOST_TRIALS trials are also scored under the word policies that are not their
    own. `on_trial` is called with the number of the run and each trial: the trials of a run are read once.

    Raises InputError for a directory that holds no finished run, whose files are damaged, or that is given twice.
    """
    names = run_names(directories)
    records = [read_run(directory) for directory in directories]
    scorers = [
        RunScorer(directory, record, {"mention": _policies(directory, record)} if every_policy else None)
        for directory, record in zip(directories, records, strict=True)
    ]

    def through(number: int, trials: Iterator[Trial]) -> Iterator[Trial]:
        for trial in trials:
            scorers[number].add(trial)
            if on_trial is not None:
                on_trial(number, trial)
            yield trial

    comparisons = compare_runs(directories, or_none=True, through=through)
    parts = zip(directories, names, records, scorers, strict=True)
    return ComparedRuns(
        tuple(_own_first(*part, number=number) for number, part in enumerate(parts)), tuple(comparisons)
    )


def read_run_results(directory: Path) -> RunResults:
    """Score one run directory without comparing anything; it raises the errors of `read_results`."""
    return RunResults(directory, run_names([directory])[0], read_run(directory), score(directory))


def _policies(directory: Path, run: RunRecord) -> list[Mention]:
    """Return the mention policies under which a run is scored, its own first: all, unless it has too many trials."""
    trials = run.trials
    if trials is None:  # a run of an older version, which did not record it
        path = directory / TRIALS
        trials = sum(1 for _ in islice(read_lines(path), MOST_TRIALS + 1)) if path.exists() else 0
    own = run.config.mention
    return [own, *(policy for policy in POLICIES if policy != own and trials <= MOST_TRIALS)]


def _own_first(directory: Path, name: str, run: RunRecord, scorer: RunScorer, *, number: int) -> RunResults:
    """Return the results of a run, with the rows under other policies than its own apart."""
    scores = scorer.scores()

    def is_other(condition: Condition) -> bool:
        return condition.judge is None and condition.mention in POLICIES and condition.mention != run.config.mention

    own = replace(
        scores,
        rows=tuple(row for row in scores.rows if not is_other(row.condition)),
        warnings=tuple(row for row in scores.warnings if not is_other(row.condition)),
        sensitivity=tuple(item for item in scores.sensitivity if not is_other(item.condition)),
    )
    return RunResults(directory, name, run, own, tuple(row for row in scores.rows if is_other(row.condition)), number)


MOST_COMPARED = 500_000
"""Trials of a run up to which its first screen begins with a comparison, for which all of them are read once more."""


def run_headlines(directory: Path, scores: Scores) -> list[str]:
    """Return the sentences with which the first screen of a run begins: what its models say beside each other.

    Empty for one model, for trials from elsewhere, for an unfinished run and for one of over MOST_COMPARED trials.
    """
    models = {(row.endpoint, row.model) for row in scores.rows}
    trials = sum(row.n for row in scores.headline.rows if row.metric == EXCLUDED_RATE and row.task != MEAN)
    if len(models) < 2 or trials > MOST_COMPARED or not (directory / RUN).is_file():
        return []
    try:
        return headlines_of(compare_runs([directory], or_none=True))
    except InputError:  # an interrupted run, whose own screen says so
        return []


MENTION = ("channel", "mention", "judge")
"""The columns that say where and how a mention was looked for, None for numbers without mentions."""

NUMBERS = ("value", "low", "high")

DECISIONS = ("changed", "mentioned", "mentioned_before", "mentioned_reasoning")
"""The columns of trials that hold true, false or, where it is not known, NA."""


@dataclass(frozen=True, repr=False)
class Run:
    """A run directory as data frames.

    `metrics` has one row for each number (columns of metrics.csv), `trials` one for each trial (columns of
    trials.jsonl), `examples` and `interventions` one for each of theirs. An undefined number is NaN, with the reason in
    `undefined`. `changed` and `mentioned` of trials are of the type boolean, which has NA for what is not known.
    `document` is the content of run.json.
    """

    directory: Path
    document: dict[str, Any]
    metrics: pd.DataFrame
    trials: pd.DataFrame
    examples: pd.DataFrame
    interventions: pd.DataFrame

    def __repr__(self) -> str:
        return (
            f"Run({str(self.directory)!r}, {counted(len(self.metrics), 'metric row')}, "
            f"{counted(len(self.trials), 'trial')})"
        )

    def wide(self) -> pd.DataFrame:
        """Return the values with one column for each metric.

        The index has the model, the task and the kind of intervention, and as much of the rest of what a number is
        about as is not the same everywhere. NaN stands for a number that is undefined or that does not exist there.
        """
        several = [name for name in Condition._fields if self.metrics[name].nunique(dropna=name in MENTION) > 1]
        index = [name for name in Condition._fields if name in several or name in ("model", "task", "kind")]
        return self.metrics.set_index([*index, "metric"])["value"].unstack("metric", sort=False)


def load(directory: str | PathLike[str]) -> Run:
    """Load a run directory into data frames.

    Args:
        directory: a run directory.

    Returns:
        The run: its metrics, trials, examples and interventions as data frames, and run.json.

    Raises:
        InputError: it holds no finished run, or a file in it is damaged; the file is named.
    """
    path = Path(directory)
    document = read_run(path).model_dump(mode="json")
    trials = _frame(read_trials(path), Trial)
    return Run(
        path,
        document,
        metrics_frame(read_metrics(path)),
        trials.astype(dict.fromkeys(DECISIONS, "boolean")),
        _frame(read_examples(path), Example),
        _frame(read_interventions(path), Intervention),
    )


def metrics_frame(rows: Iterable[MetricRow]) -> pd.DataFrame:
    """Return metric rows as a data frame whose numbers are floats, also where all of them are undefined."""
    return _frame(rows, MetricRow).astype(dict.fromkeys(NUMBERS, float))


def _frame(records: Iterable[BaseModel], kind: type[BaseModel]) -> pd.DataFrame:
    """Return records as a data frame with a column for each field, also where there are no records."""
    import pandas as pd

    names = list(kind.model_fields)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for record in records:
        for name in names:
            columns[name].append(getattr(record, name))
    return pd.DataFrame(columns)
