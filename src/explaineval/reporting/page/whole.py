"""The whole page on what runs found, from their directories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from explaineval.reporting.page.content import PageContent, content_of, for_page
from explaineval.reporting.page.figures import PageFigure, page_figures
from explaineval.reporting.page.render import render
from explaineval.reporting.page.trials import TrialBrowser, browse_trials
from explaineval.reporting.results import Results
from explaineval.secrets import SECRETS


class Page(NamedTuple):
    """A page as HTML without secrets, and what it holds."""

    html: str
    content: PageContent
    figures: Sequence[PageFigure]
    trials: TrialBrowser


def page_of(results: Results) -> Page:
    """Make the page on what runs found; read the results with `every_policy`. Needs no network and writes nothing."""
    results = for_page(results)
    content, figures, trials = content_of(results), page_figures(results), browse_trials(results)
    return Page(SECRETS.mask(render(content, figures, trials)), content, figures, trials)
