"""`explaineval notes` and `explaineval explain`: what limits the numbers of a run, and what each number means."""

from __future__ import annotations

import difflib
import textwrap
from pathlib import Path

import click

from explaineval.cli.options import JSON, PATH, options
from explaineval.cli.output import columns, echo, echo_document, echo_lines
from explaineval.errors import InputError
from explaineval.reporting.summary import notes_lines
from explaineval.rundir.ledger import spending_sentence
from explaineval.scoring.external import is_trials_file, score_file
from explaineval.scoring.registry import COMPARED_ONLY, METRICS, text_of
from explaineval.scoring.rows import score

NARROW = 100


@click.command("notes")
@click.argument("run_dir", type=PATH)
@options(JSON)
def notes_command(run_dir: Path, json: bool) -> int:
    """Print all warnings of RUN_DIR, the gravest first, each with the numbers that it limits and what to do.

    Below them stands what was spent in RUN_DIR, by run, judge and simulate.

    RUN_DIR may also be a FILE.csv or FILE.jsonl of trials that another program collected.
    """
    scores = score_file(run_dir) if is_trials_file(run_dir) else score(run_dir)
    spending = None if run_dir.is_file() else spending_sentence(run_dir)
    if json:
        echo_document({"run_dir": str(run_dir), "spending": spending}, [], scores)
    elif scores.warnings:
        echo_lines(notes_lines(scores, columns(NARROW)))
    else:
        echo("Nothing limits these numbers.")
    if spending is not None and not json:
        echo()
        echo(textwrap.fill(spending, columns(NARROW), break_on_hyphens=False))
    return 0


@click.command("explain")
@click.argument("metric", required=False, metavar="[METRIC]")
@options(JSON)
def explain_command(metric: str | None, json: bool) -> int:
    """Explain METRIC: its meaning, its source, what would make it wrong. Without METRIC, list all metrics."""
    names = [*METRICS, *COMPARED_ONLY]
    if metric is None:
        if json:
            echo_document({"metrics": [_document(name) for name in names]})
        else:
            width = max(map(len, names))
            for name in names:
                echo(f"{name:<{width}}  {text_of(name).title}")
        return 0
    if metric not in names:
        near = difflib.get_close_matches(metric, names, 3)
        hint = f"did you mean {', '.join(near)}?" if near else "`explaineval explain` lists them all."
        raise InputError(f"there is no metric {metric!r}: {hint}")
    if json:
        echo_document(_document(metric))
        return 0
    about = text_of(metric)
    echo(f"{metric}: {about.title}")
    for name, text in (("Meaning", about.definition), ("Source", about.source), ("Beware", about.pitfall)):
        start = f"  {name:<9}"
        echo(textwrap.fill(text, columns(NARROW), initial_indent=start, subsequent_indent=" " * len(start)))
    return 0


def _document(name: str) -> dict[str, str]:
    about = text_of(name)
    return {
        "metric": name,
        "title": about.title,
        "definition": about.definition,
        "source": about.source,
        "pitfall": about.pitfall,
    }
