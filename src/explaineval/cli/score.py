"""`explaineval score`: compute the metrics of a run directory again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from explaineval.cli.options import JSON, PATH, TABLE, offered, option, options
from explaineval.cli.output import echo_document, echo_notes, echo_scores, run_document
from explaineval.config import read_columns
from explaineval.errors import InputError
from explaineval.rundir.directory import read_run
from explaineval.scoring.codes import note
from explaineval.scoring.rows import score


@click.command("score")
@click.argument("run_dir", type=PATH)
@options(
    offered(
        "mention",
        several=True,
        default_text="the run's own",
        help="What counts as a mention; several stand beside each other.",
    ),
    offered("metric", default_text="the run's own"),
    *(offered(name, default_text="the run's own") for name in ("min_label_mass", "resamples")),
    option(
        "--columns",
        metavar="NAME=COLUMN,…",
        help="Which columns of FILE.csv or FILE.jsonl hold what, where they have other names: "
        "changed=Flipped,mentioned=Named.",
    ),
    TABLE,
    JSON,
)
def score_command(run_dir: Path, columns: str | None, json: bool, table: bool, **given: Any) -> int:
    """Compute the metrics of RUN_DIR again from its files alone: no request, no cache.

    RUN_DIR may also be a FILE.csv or FILE.jsonl of trials that another program collected, with the columns changed (or
    label_before, label_after) and mentioned (or inserted, explanation); docs/python.md names them all.

    With another --mention, --min-label-mass or --resamples the numbers are computed that way and only printed; the
    run's own metrics.json stays as it is. Of several --mention the run's own, else the first, gives the numbers that
    are shown first; a table sets the others beside it.
    """
    given["mention"] = given["mention"] or None
    if not run_dir.is_dir() and _is_trials_file(run_dir):
        return _score_file(run_dir, columns, json=json, table=table, **given)
    if columns is not None:
        raise InputError(f"--columns does not apply to {run_dir}: a run directory has columns of its own.")
    run = read_run(run_dir)
    metrics = given.pop("metric")
    changes = {name: value for name, value in given.items() if value is not None}
    if metrics:
        changes["metrics"] = metrics
    scores = score(run_dir, changes)
    signature = run.signature
    signature = signature.replace(f"mention:{run.config.mention}", f"mention:{scores.policy}")
    notes = []
    if changes:
        shown = {name: "+".join(value) if isinstance(value, tuple) else value for name, value in changes.items()}
        settings = ", ".join(f"{name}={value}" for name, value in shown.items())
        notes.append(note("scored_otherwise", settings=settings))
    echo_notes(notes)
    if json:
        echo_document(run_document(run_dir, 0, signature, run.totals, scores), notes, scores)
    else:
        echo_scores(scores, run_dir, table=table)
    return 0


def _is_trials_file(path: Path) -> bool:
    from explaineval.scoring.external import is_trials_file

    return is_trials_file(path)


def _score_file(path: Path, columns: str | None, *, json: bool, table: bool, **given: Any) -> int:
    metrics = given.pop("metric")
    settings = {name: value for name, value in given.items() if value is not None and name != "min_label_mass"}
    if given.get("min_label_mass") is not None:
        raise InputError("--min-label-mass does not apply to a file of trials, which has no label probabilities.")
    from explaineval.scoring.external import score_file

    scores = score_file(path, read_columns(columns or ""), metrics=metrics, **settings)
    if json:
        echo_document(run_document(None, 0, None, None, scores), (), scores)
    else:
        echo_scores(scores, path, table=table)
    return 0
