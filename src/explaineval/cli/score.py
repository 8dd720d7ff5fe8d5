"""`explaineval score`: compute the metrics of a run directory again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from explaineval.cli.options import JSON, PATH, TABLE, options, scoring_options
from explaineval.cli.output import echo_document, echo_notes, echo_scores, run_document
from explaineval.planning.notes import note
from explaineval.rundir.directory import read_run
from explaineval.scoring.rows import score


@click.command("score")
@click.argument("run_dir", type=PATH)
@options(*scoring_options(*["the run's own"] * 3), TABLE, JSON)
def score_command(run_dir: Path, json: bool, table: bool, **given: Any) -> int:
    """Compute the metrics of RUN_DIR again from its files alone: no request, no cache.

    With another --mention, --min-label-mass or --resamples the numbers are computed that way and only printed; the
    run's own metrics.json stays as it is.
    """
    run = read_run(run_dir)
    changes = {name: value for name, value in given.items() if value is not None}
    scores = score(run_dir, changes)
    signature = run.signature
    if "mention" in changes:
        signature = signature.replace(f"mention:{run.config.mention}", f"mention:{changes['mention']}")
    notes = []
    if changes:
        settings = ", ".join(f"{name}={value}" for name, value in changes.items())
        notes.append(note("scored_otherwise", f"scored with {settings}; the run's own metrics.json stays as it is."))
    echo_notes(notes)
    if json:
        echo_document(run_document(run_dir, 0, signature, run.totals, scores), notes, scores)
    else:
        echo_scores(scores, run_dir, table=table)
    return 0
