"""Load a run as pandas data frames: `explaineval.load(RUN_DIR)`. No other module imports pandas at its head."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from explaineval.records import Condition, Example, Intervention, MetricRow, Trial
from explaineval.rundir.directory import read_examples, read_interventions, read_metrics, read_run, read_trials
from explaineval.text import counted

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
    names = list(kind.model_fields)
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for record in records:
        for name in names:
            columns[name].append(getattr(record, name))
    return pd.DataFrame(columns)
