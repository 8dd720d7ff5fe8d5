"""Make the page of `report`: one HTML file of its content, its figures and its browser of trials.

Nothing in it comes from elsewhere: the template, the styles and the script lie beside this module. Whatever a model, a
file or an endpoint says is escaped, and a policy in the page's head lets no other style or script run than these.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from jinja2 import BaseLoader, Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from explaineval.errors import InputError
from explaineval.records import SIMULATED_NOTE
from explaineval.reporting.page.content import PageContent, content_of, for_page
from explaineval.reporting.page.trials import Draw, TrialBrowser, browse_trials, start_draws
from explaineval.reporting.plots import figures_of
from explaineval.reporting.plots.drawing import draw_svg, require_matplotlib
from explaineval.reporting.plots.figure import Figure
from explaineval.reporting.results import ComparedRuns, read_results
from explaineval.secrets import SECRETS
from explaineval.text import counted, joined, visible

TEMPLATE = "page.html"
STYLES, SCRIPTS = ("tokens.css", "page.css", "trials.css"), ("page.js",)
"""The files with the styles and scripts of the page, in their order; one that does not exist is left out."""

LISTED = 4
"""Metrics that a warning names."""

LONGEST, HEAD, TAIL = 80, 48, 16
"""Characters of a word that is shown whole, and of the two ends that are shown of a longer one."""

_LONG = re.compile(rf"\S{{{LONGEST + 1},}}")

LEFTWARD = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff"
"""The letters that run from right to left."""

_MARKED = re.compile(rf"`(?P<code>[^`\n]+)`|(?P<turning>[{LEFTWARD}](?:[^A-Za-z`]*[{LEFTWARD}])*)")


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


class Page(NamedTuple):
    """A page as HTML without secrets, and what it holds."""

    html: str
    content: PageContent
    figures: Sequence[PageFigure]
    trials: TrialBrowser


def read_for_page(directories: Sequence[Path]) -> tuple[ComparedRuns, list[Draw]]:
    """Read what a page holds of runs: their results under every policy, and the trials that it shows."""
    draws = start_draws(len(directories))
    results = read_results(directories, every_policy=True, on_trial=lambda number, trial: draws[number].add(trial))
    return results, draws


def page_of(results: ComparedRuns, draws: Sequence[Draw] | None = None) -> Page:
    """Make the page on what runs found, with `draws` from their trials. Needs no network and writes nothing."""
    results = for_page(results)
    content, figures, trials = content_of(results), page_figures(results), browse_trials(results, draws)
    return Page(SECRETS.mask(render(content, figures, trials)), content, figures, trials)


def page_figures(results: ComparedRuns) -> list[PageFigure]:
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


def render(content: PageContent, figures: Sequence[PageFigure] = (), trials: object | None = None) -> str:
    """Return the page as HTML.

    `trials` is what the template `trials.html` shows under this name; None leaves the browser of trials out.
    """
    style, script = _joined(STYLES), _joined(SCRIPTS) if trials is not None else ""
    environment = Environment(
        loader=_loader(),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters.update(
        b=isolated, counted=counted, name=_name, svg=embedded, listed=_listed, by_reason=_by_reason
    )
    return environment.get_template(TEMPLATE).render(
        page=content,
        parts=_parts(figures, trials),
        figures=figures,
        trials=trials,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=_policy(style, script),
    )


def isolated(text: str) -> Markup:
    """Return a text as HTML: commands between backticks as code, and what runs from right to left apart from the rest.

    The middle of a word of more than LONGEST characters is left out.

    >>> isolated("a < b: `explaineval notes`")
    Markup('a &lt; b: <code>explaineval notes</code>')
    """
    return Markup("").join(
        Markup(f"<{name}>{{}}</{name}>").format(part) if name else escape(part)  # noqa: S704 - names of ours
        for part, name in _pieces(_LONG.sub(_shorten, visible(text)))
    )


def _shorten(word: re.Match[str]) -> str:
    return f"{word[0][:HEAD]}…{word[0][-TAIL:]}"


def _name(text: str) -> Markup:
    """Return a name as HTML that may be broken after each slash; that a model is simulated stands below, small."""
    remark = f" · {SIMULATED_NOTE}"
    name = Markup("/<wbr>").join(isolated(part) for part in text.replace(remark, "").split("/"))
    return name + Markup("<small> {}</small>").format(SIMULATED_NOTE) if remark in text else name


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Yield the parts of a text, each with the name of the element that holds it; empty for plain text."""
    start = 0
    for match in _MARKED.finditer(text):
        yield text[start : match.start()], ""
        yield (match["code"], "code") if match["code"] else (match["turning"], "bdi")
        start = match.end()
    yield text[start:], ""


def embedded(svg: str) -> Markup:
    """Return a drawing of ours as it can stand in the page, whose policy allows no `style` attributes.

    Each property becomes an attribute of its own, which SVG knows for all that matplotlib writes.
    """
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own drawing, made a moment ago
    for element in root.iter():
        style = element.attrib.pop("style", "")
        for name, value in (part.split(":", 1) for part in style.split(";") if ":" in part):
            element.set(name.strip(), value.strip())
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - written as XML


def _listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them, no more than LISTED."""
    if len(names) <= LISTED:
        return joined(names)
    return f"{', '.join(names[:LISTED])} and {len(names) - LISTED} more"


def _by_reason(figures: Sequence[PageFigure]) -> dict[str, list[str]]:
    """Return the titles of the figures that cannot be drawn by the reason why."""
    found: dict[str, list[str]] = {}
    for figure in figures:
        if figure.svg is None:
            found.setdefault(figure.undefined or "", []).append(figure.title)
    return found


def _parts(figures: Sequence[PageFigure], trials: object | None) -> list[tuple[str, str]]:
    """Return the parts of the page that its head leads to."""
    return [
        ("found", "What was found"),
        ("numbers", "Numbers"),
        *([("figures", "Figures")] if figures else []),
        ("warnings", "Warnings"),
        ("missing", "Missing trials"),
        ("noise", "Noise"),
        ("costs", "Costs"),
        ("method", "Method"),
        ("reproduce", "Reproduce"),
        *([("trials", "Trials")] if trials is not None else []),
    ]


def _harmless(value: object) -> object:
    """Show control characters and signs that turn the direction of text; the template's own parts stay as they are."""
    return visible(value) if type(value) is str else value


def _loader() -> BaseLoader:
    return FunctionLoader(_read)


def _read(name: str) -> str | None:
    path = files(__package__) / name
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _joined(names: Sequence[str]) -> str:
    return "\n".join(filter(None, map(_read, names)))


def _policy(style: str, script: str) -> str:
    """Return the Content-Security-Policy: nothing is loaded or run but this very style and this very script."""
    allowed = f"script-src {_hash(script)}; " if script else ""
    return f"default-src 'none'; style-src {_hash(style)}; {allowed}img-src data:; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
