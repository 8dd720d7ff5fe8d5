"""Draw the figures of results for the page, each with its caption; those that cannot be drawn keep their reason."""

from __future__ import annotations

from dataclasses import dataclass

from explaineval.errors import InputError
from explaineval.reporting.plots import figures_of
from explaineval.reporting.plots.drawing import draw_svg, require_matplotlib
from explaineval.reporting.plots.figure import Figure
from explaineval.reporting.results import Results

WITHOUT_MATPLOTLIB = "matplotlib was not installed where this page was made"


@dataclass(frozen=True)
class PageFigure:
    """A figure on the page: an SVG drawing, or the reason why it cannot be drawn.

    The drawing has the text that stands for it where it cannot be seen. `setting` says in words what the figure is
    about, `notes` say what limits it.
    """

    name: str
    title: str
    setting: str = ""
    caption: str = ""
    notes: tuple[str, ...] = ()
    svg: str | None = None
    undefined: str | None = None


def page_figures(results: Results) -> list[PageFigure]:
    """Return the figures of these results in their order. Without matplotlib none of them is drawn."""
    try:
        require_matplotlib()
    except InputError:
        missing: str | None = WITHOUT_MATPLOTLIB
    else:
        missing = None
    figures = []
    for figure in figures_of(results):
        if isinstance(figure, Figure):
            svg = None if missing else draw_svg(figure)
            figures.append(
                PageFigure(figure.id, figure.title, figure.setting, figure.caption, figure.notes, svg, missing)
            )
        else:
            figures.append(PageFigure(figure.id, figure.title, undefined=figure.undefined))
    return figures
