"""`explaineval score`: metrics again, from a run directory alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from explaineval.cli.options import JSON, SCORING, options
from explaineval.cli.output import say, show_json, show_scores
from explaineval.planning.notes import note
from explaineval.rundir.directory import read_run
from explaineval.scoring.rows import score


@click.command("score")
@click.argument("run_dir", type=click.Path(path_type=Path))
@options(*SCORING, JSON)
def score_command(run_dir: Path, json: bool, **given: Any) -> int:
    """Compute the metrics of RUN_DIR again: no request, no cache.

    With another --mention, --min-label-mass or --resamples the numbers are computed that way and only printed; the
    run's own metrics.json stays as it is.
    """
    run = read_run(run_dir)
    changes = {name: value for name, value in given.items() if value is not None}
    scores = score(run_dir, changes)
    signature = str(run["signature"])
    if "mention" in changes:
        signature = signature.replace(f"mention:{run['config']['mention']}", f"mention:{changes['mention']}")
    notes = []
    if changes:
        told = ", ".join(f"{name}={value}" for name, value in changes.items())
        notes.append(note("scored_otherwise", f"scored with {told}; the run's own metrics.json stays as it is."))
    say(notes)
    if json:
        show_json(run_dir, 0, signature, run, scores, notes)
    else:
        show_scores(scores)
    return 0
