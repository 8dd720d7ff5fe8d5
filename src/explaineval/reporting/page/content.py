"""Say what stands on the report page, from results that were read: frozen texts and numbers, no HTML. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from explaineval.records import SIMULATED_NOTE, SIMULATED_PREFIX
from explaineval.reporting.comparison_text import join, sentence_of
from explaineval.reporting.results import Results


@dataclass(frozen=True)
class PageFigure:
    """A figure on the page: an SVG drawing, or the reason why it cannot be drawn.

    `alt` says in words what the drawing shows, for those who do not see it.
    """

    name: str
    title: str
    caption: str
    alt: str
    svg: str | None
    undefined: str | None = None


@dataclass(frozen=True)
class PageContent:
    """Everything on the page but its figures and its browser of trials."""

    title: str
    banners: tuple[str, ...]
    findings: tuple[str, ...]


def content_of(results: Results) -> PageContent:
    """Return what the page says of these results."""
    rows = [row for run in results.runs for row in run.rows]
    models = list(dict.fromkeys(row.model for row in rows))
    simulated = [name for name in models if name.startswith(SIMULATED_PREFIX)]
    return PageContent(
        title=f"Faithfulness of explanations: {join(models)}" if models else "Faithfulness of explanations",
        banners=(f"{join(simulated)}: {SIMULATED_NOTE}.",) if simulated else (),
        findings=tuple(sentence_of(compared) for result in results.comparisons for compared in result.primary),
    )
