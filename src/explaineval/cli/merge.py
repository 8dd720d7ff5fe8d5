"""`explaineval merge`: put the shards of a run together."""

from __future__ import annotations

from pathlib import Path

import click

from explaineval.archive.merge import merge_runs
from explaineval.cli.options import JSON, PATH, TABLE, option, options
from explaineval.cli.output import (
    SCREEN_WIDTH,
    columns,
    echo,
    echo_document,
    echo_notes,
    echo_scores,
    echo_text,
    run_document,
    totals_line,
)


@click.command("merge")
@click.argument("run_dirs", type=PATH, nargs=-1, required=True, metavar="RUN_DIR...")
@options(
    option("--out", type=PATH, metavar="DIR", required=True, help="The run directory to write; a new or empty one."),
    option("--unfinished", is_flag=True, default=False,
           help="Merge also shards that did not come to their end: what is there of them."),
    TABLE,
    JSON,
)  # fmt: skip
def merge_command(run_dirs: tuple[Path, ...], out: Path, unfinished: bool, table: bool, json: bool) -> int:
    """Merge the run directories of all shards (`run --shard I/N`) into one, as if one machine had run the whole.

    Nothing is asked and no cache is needed; the numbers are those of the whole run, to the last digit. All shards must
    be there: one that is missing, stands twice or is of another run is named. Their caches travel by
    `explaineval cache export` and `cache import`.
    """
    merged = merge_runs(run_dirs, out, unfinished=unfinished)
    record, scores = merged.record, merged.scores
    echo_notes(merged.notes)
    if json:
        echo_document(run_document(out, 0, record.signature, record.totals, scores), merged.notes, scores)
        return 0
    if scores.rows:
        echo_scores(scores, out, table=table)
        echo()
    if record.totals is not None:
        echo_text(totals_line(record.totals), columns(SCREEN_WIDTH))
    echo(f"Run directory: {out}")
    return 0
