"""`explaineval breakdown`: the numbers of a run by what was inserted, where, and by the answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from explaineval.cli.options import JSON, PATH, Several, option, options
from explaineval.cli.output import SCREEN_WIDTH, columns, echo_document, echo_lines
from explaineval.reporting.breakdown_text import breakdown_lines, document_of, warnings_of
from explaineval.scoring.breakdown import DIMENSIONS, break_down


@click.command("breakdown")
@click.argument("run_dir", type=PATH)
@options(
    option(
        "--by",
        type=Several(list(DIMENSIONS)),
        multiple=True,
        help="What to divide the trials by; several may be given.  [default: everything]",
    ),
    JSON,
)
def breakdown_command(run_dir: Path, by: Sequence[str], json: bool) -> int:
    """Show phi-CCT, TPR, FPR and impact of RUN_DIR by what was inserted, where, and by the answer; test if they differ.

    Tested are TPR, FPR and phi at the pooled impact rate, since phi itself follows how often answers change. The
    p-values are adjusted over all tests of the run, whatever is shown. Nothing is asked.
    """
    found = break_down(run_dir, by)
    if json:
        echo_document(
            {"run_dir": str(run_dir), "breakdowns": list(map(document_of, found))}, warnings=warnings_of(found)
        )
    else:
        echo_lines(breakdown_lines(found, columns(SCREEN_WIDTH)))
    return 0
