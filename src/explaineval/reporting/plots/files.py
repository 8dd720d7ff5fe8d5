"""Write the figures of runs as files: SVG and PDF of each, and the plotted numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from explaineval.files import open_atomic, write_text_atomic
from explaineval.reporting.plots.drawing import draw_pdf, draw_svg, require_matplotlib
from explaineval.reporting.plots.figure import Figure, MissingFigure
from explaineval.reporting.plots.figures import figures_of
from explaineval.reporting.results import Results
from explaineval.rundir.directory import writing
from explaineval.text import escaped

NUMBERS = "figures.json"
"""The plotted numbers, and what is said of each figure."""


def write_plots(results: Results, directory: Path) -> list[Path]:
    """Write the figures of these results into a directory, which is made; return the files that were written.

    These are `ID.svg` and `ID.pdf` of each figure, and `figures.json` with the plotted numbers, captions, and the
    reasons why figures are left out. Files with these names are replaced. Raises InputError where matplotlib is not
    installed, or the directory cannot be written.
    """
    require_matplotlib()
    figures = figures_of(results)
    written = []
    with writing(directory):
        directory.mkdir(parents=True, exist_ok=True)
        for figure in figures:
            if isinstance(figure, Figure):
                path = directory / f"{figure.id}.svg"
                write_text_atomic(path, draw_svg(figure, standalone=True))
                written.append(path)
                path = directory / f"{figure.id}.pdf"
                with open_atomic(path) as handle:
                    handle.write(draw_pdf(figure))
                written.append(path)
        path = directory / NUMBERS
        write_text_atomic(path, escaped(json.dumps(document_of(figures), indent=1, ensure_ascii=False)) + "\n")
        written.append(path)
    return written


def document_of(figures: Sequence[Figure | MissingFigure]) -> dict[str, Any]:
    """Return what `figures.json` holds."""
    return {
        "figures": [asdict(figure) for figure in figures if isinstance(figure, Figure)],
        "missing": [asdict(figure) for figure in figures if isinstance(figure, MissingFigure)],
    }
