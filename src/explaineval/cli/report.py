"""`explaineval report`: one HTML page of what runs found, with their tables, warnings and trials."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from explaineval.archive.bundle import unpacked
from explaineval.cli.options import JSON, PATH, option, options
from explaineval.cli.output import finish
from explaineval.errors import InputError
from explaineval.files import write_text_atomic
from explaineval.reporting.page import WITHOUT_MATPLOTLIB, PageFigure, page_of, read_for_page
from explaineval.reporting.page.content import PageContent
from explaineval.reporting.page.trials import TrialBrowser
from explaineval.reporting.plots import write_plots
from explaineval.reporting.plots.drawing import no_matplotlib
from explaineval.rundir.directory import check_ending, check_is_no_file_name, check_output, read_run
from explaineval.scoring.codes import Note, note
from explaineval.text import bytes_text, counted

REPORT = "report.html"
"""The page in a run directory."""

BUNDLE = ".zip"
"""How the names of bundles end."""


@click.command("report")
@click.argument("run_dirs", type=PATH, nargs=-1, required=True, metavar="RUN_DIR...")
@options(
    option("--out", type=PATH, metavar="F.html", help="The file to write.  [default: report.html in the only RUN_DIR]"),
    option("--plots", type=PATH, metavar="DIR", help="Write the figures there too, as SVG and PDF."),
    JSON,
)
def report_command(run_dirs: Sequence[Path], out: Path | None, plots: Path | None, json: bool) -> int:
    """Write one HTML page on what RUN_DIR found and how sure that is; several are compared.

    The page is one file that needs no network: it can be opened from the disk, sent by mail and printed. RUN_DIR may
    also be a bundle, a F.zip of `explaineval export`, which gives the same page as its run. Figures need the extra
    `report`; without it the page has none.
    """
    target = out or _default_target(run_dirs)
    written = write_report(run_dirs, target, plots)
    document = {
        "file": str(target),
        "bytes": target.stat().st_size,
        "findings": [{"about": finding.heading, "sentence": finding.sentence} for finding in written.content.findings],
        "figures": sum(figure.svg is not None for figure in written.figures),
        "trials": written.trials.total,
        "trials_shown": written.trials.shown,
        "plots": list(map(str, written.plots)),
    }
    return finish(document, _lines(document, plots), figure_notes(written.figures), json=json)


class Written(NamedTuple):
    """What a page that was written holds, and the files of its figures that were written beside it."""

    content: PageContent
    figures: Sequence[PageFigure]
    trials: TrialBrowser
    plots: Sequence[Path]


def write_report(run_dirs: Sequence[Path], target: Path, plots: Path | None = None) -> Written:
    """Write the page on run directories or bundles into the file `target`, and its figures into `plots` if given."""
    for path in run_dirs:
        if path.suffix != BUNDLE:
            read_run(path)  # first, so that no directory is made where there is no run
    check_output(target, *run_dirs)
    check_ending(target, "an HTML page", ".html", ".htm")
    if plots is not None:
        check_is_no_file_name(plots, "--plots")
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="explaineval-") as workshop:
        directories = [unpacked(path, Path(workshop) / str(n)) for n, path in enumerate(run_dirs)]
        results, draws = read_for_page(directories)
        files = [] if plots is None else write_plots(results, plots)
        page = page_of(results, draws)
    with _writing(target):
        write_text_atomic(target, page.html)
    return Written(page.content, page.figures, page.trials, files)


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn an OSError inside the block into an InputError that names the page."""
    try:
        yield
    except OSError as exc:
        raise InputError(f"--out {target} cannot be written ({exc.strerror or exc}): name another file.") from None


def _lines(document: Mapping[str, Any], plots: Path | None) -> Iterator[str]:
    """Yield what was written."""
    trials, shown = document["trials"], document["trials_shown"]
    held = f"{counted(trials, 'trial')}" if shown == trials else f"{shown:,} of {counted(trials, 'trial')}"
    figures = "1 figure" if document["figures"] == 1 else f"{document['figures']} figures"
    yield f"{document['file']}: {bytes_text(document['bytes'])} with {figures} and {held}. Open it in a browser."
    if plots is not None:
        yield f"{plots}: {counted(len(document['plots']), 'file')} of figures."


def figure_notes(figures: Sequence[PageFigure]) -> list[Note]:
    """Say once that figures are missing because matplotlib is."""
    lacking = any(figure.undefined == WITHOUT_MATPLOTLIB for figure in figures)
    return [note("no_figures", reason=no_matplotlib())] if lacking else []


def _default_target(run_dirs: Sequence[Path]) -> Path:
    if len(run_dirs) > 1 or run_dirs[0].suffix == BUNDLE:
        raise InputError("--out is needed where there are several runs, or a bundle: name the HTML file to write.")
    return run_dirs[0] / REPORT
