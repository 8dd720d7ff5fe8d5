"""How a finished run is told: one table (or one JSON document) on standard output, the rest on standard error."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from explaineval.cli.documents import show_document
from explaineval.cli.printing import echo, echo_table
from explaineval.experiment import Scores
from explaineval.experiment.notes import Note
from explaineval.report.tables import Line, legend, results_table, table_warnings


def show_scores(scores: Scores) -> None:
    """Print the table of a run."""
    warnings = table_warnings((Line(*one.group), one.warning) for one in scores.warnings)
    missing = {Line(*group): counts for group, counts in scores.missing.items()}
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 160
    content = results_table(scores.rows, warnings, missing, width)
    echo_table(content, width=max(width, 40), color=terminal and not _no_color())


def show_legend() -> None:
    """Print how to read the table."""
    echo_table(legend(), width=min(100, shutil.get_terminal_size().columns))


def show_json(
    directory: Path | None,
    code: int,
    signature: str,
    summary: Mapping[str, Any],
    scores: Scores,
    notes: Sequence[Note] = (),
    faults: Sequence[str] = (),
) -> None:
    """Print the run's one JSON document."""
    document = {
        "run_dir": None if directory is None else str(directory),
        "exit_code": code,
        "signature": signature,
        **{name: summary.get(name) for name in ("usd_spent", "usd_saved_by_cache", "usd_from_scratch", "requests")},
        "metrics": [row.model_dump(mode="json") for row in scores.rows],
    }
    show_document(document, notes, scores, code, " ".join(faults))


def summary_line(summary: Mapping[str, Any]) -> str:
    """Requests and dollars of a run in one line."""
    counts = summary["requests"]
    text = (
        f"{counts['planned']} requests planned, {counts['distinct']} distinct: {counts['hits']} from the cache, "
        f"{counts['sent']} sent, {counts['unsent']} unsent, {counts['retries']} retries."
    )
    if summary["usd_spent"] is None:
        return text + " Cost unknown (no price is known for a model; give --price IN,OUT)."
    return (
        f"{text} Spent ${summary['usd_spent']:.4f}, saved by the cache ${summary['usd_saved_by_cache']:.4f}, "
        f"from scratch ${summary['usd_from_scratch']:.4f}."
    )


def say(lines: Iterable[str | Note]) -> None:
    """Print notes on standard error."""
    for line in lines:
        echo(f"explaineval: {line if isinstance(line, str) else line.text}", err=True)


def _no_color() -> bool:
    return bool(os.environ.get("NO_COLOR"))
