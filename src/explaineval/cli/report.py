"""`explaineval report`: one HTML page of what runs found, with their tables, warnings and trials."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from explaineval.archive.bundle import unpacked
from explaineval.cli.options import JSON, PATH, option, options
from explaineval.cli.output import finish
from explaineval.errors import InputError
from explaineval.files import write_text_atomic
from explaineval.reporting.page.content import content_of
from explaineval.reporting.page.render import render
from explaineval.reporting.page.trials import browse_trials
from explaineval.reporting.results import read_results
from explaineval.rundir.directory import writing

REPORT = "report.html"
"""The page in a run directory."""


@click.command("report")
@click.argument("run_dirs", type=PATH, nargs=-1, required=True, metavar="RUN_DIR...")
@options(
    option("--out", type=PATH, metavar="F.html", help="The file to write.  [default: report.html in the only RUN_DIR]"),
    JSON,
)
def report_command(run_dirs: Sequence[Path], out: Path | None, json: bool) -> int:
    """Write one HTML page on what RUN_DIR found and how sure that is; several are compared.

    The page is one file that needs no network: it can be opened from the disk, sent by mail and printed. RUN_DIR may
    also be a bundle, a F.zip of `explaineval export`, which gives the same page as its run.
    """
    target = out or _default_target(run_dirs)
    write_report(run_dirs, target)
    size = target.stat().st_size
    return finish({"file": str(target), "bytes": size}, [f"{target}: {size / 1e6:.1f} MB"], json=json)


def write_report(run_dirs: Sequence[Path], target: Path) -> None:
    """Write the page on run directories or bundles into the file `target`."""
    with tempfile.TemporaryDirectory(prefix="explaineval-") as workshop:
        results = read_results([unpacked(path, Path(workshop) / str(n)) for n, path in enumerate(run_dirs)])
        page = render(content_of(results), trials=browse_trials(results))
    with writing(target):
        write_text_atomic(target, page)


def _default_target(run_dirs: Sequence[Path]) -> Path:
    if len(run_dirs) > 1 or not run_dirs[0].is_dir():
        raise InputError("--out is needed where there are several runs, or a bundle: name the HTML file to write.")
    return run_dirs[0] / REPORT
