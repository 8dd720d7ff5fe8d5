"""Make one HTML file of the page's content, its figures and its browser of trials. Nothing in it comes from elsewhere.

The template, the styles and the script lie beside this module. Whatever a model, a file or an endpoint says is escaped,
and a policy in the page's head lets no other style or script run than these.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from jinja2 import BaseLoader, Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from explaineval.reporting.page.content import PageContent, PageFigure
from explaineval.text import visible

TEMPLATE = "page.html"
STYLES, SCRIPTS = ("page.css", "trials.css"), ("page.js",)
"""The files with the styles and scripts of the page, in their order; one that does not exist is left out."""


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
    return environment.get_template(TEMPLATE).render(
        page=content,
        figures=figures,
        trials=trials,
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        policy=_policy(style, script),
    )


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
