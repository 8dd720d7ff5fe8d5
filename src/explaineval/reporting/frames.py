"""Load a run as pandas data frames: `explaineval.load(RUN_DIR)`. No other module imports pandas."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from explaineval.errors import InputError


@dataclass(frozen=True, repr=False)
class Run:
    """A run directory as data frames.

    `metrics` has one row per metric row (columns of MetricRow), `trials` one per trial, `examples` and `interventions`
    one each. `document` is the content of run.json.
    """

    directory: Path
    document: dict[str, Any]
    metrics: pd.DataFrame
    trials: pd.DataFrame
    examples: pd.DataFrame
    interventions: pd.DataFrame

    def __repr__(self) -> str:
        return f"Run({str(self.directory)!r}, {len(self.metrics)} metric rows, {len(self.trials)} trials)"

    def wide(self) -> pd.DataFrame:
        """Return a frame with one row per model, task, arm and kind, and one column per metric."""
        keys = [name for name in self.metrics.columns if name in _KEYS]
        return self.metrics.pivot_table(
            index=keys, columns="metric", values="value", dropna=False, observed=True
        ).dropna(how="all")


_KEYS = ("endpoint", "model", "task", "kind", "order", "style", "shots", "verbosity")


def load(directory: str | PathLike[str]) -> Run:
    """Load a run directory into data frames. Raises InputError if it holds no finished run."""
    path = Path(directory)
    try:
        document = json.loads((path / "run.json").read_text(encoding="utf-8"))
        metrics = pd.DataFrame(json.loads((path / "metrics.json").read_text(encoding="utf-8")))
    except FileNotFoundError as exc:
        raise InputError(f"{path} holds no finished run: {Path(exc.filename).name} is missing.") from None
    except ValueError as exc:
        raise InputError(f"{path}: run.json or metrics.json is not JSON: {exc}.") from None
    frames = [_lines(path / name) for name in ("trials.jsonl", "examples.jsonl", "interventions.jsonl")]
    return Run(path, document, metrics, *frames)


def _lines(path: Path) -> pd.DataFrame:
    rows, number = [], 0
    try:
        with path.open("rb") as handle:
            for number, line in enumerate(handle, start=1):  # noqa: B007 - the number stands in the error
                if line.endswith(b"\n"):  # a torn last line is ignored
                    rows.append(json.loads(line))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: the run directory is not whole.") from None
    except ValueError as exc:
        raise InputError(f"{path}:{number}: not a line of a run ({exc}).") from None
    return pd.DataFrame(rows)
