"""The only functions that print: what is foreign (an endpoint's, a file's, a model's) harmlessly, nothing with a key.

Every text goes through `visible`, which shows control characters, escape sequences and signs that reorder or hide text
instead of carrying them out, and through the set of secrets. A test holds that nothing else of this package prints.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from explaineval.report.texts import escaped, visible
from explaineval.secrets import SECRETS

if TYPE_CHECKING:
    from rich.console import RenderableType


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text, on standard error with `err`; line breaks and tabs in it are kept.

    Where standard error cannot be written nobody is told, and the work goes on.
    """
    with suppress(*((OSError,) if err else ())):
        click.echo(visible(SECRETS.mask(text)), err=err, nl=nl)


def echo_json(document: Any) -> None:
    """Print one JSON document on one line. Nothing is lost: what a terminal would obey is written as \\uXXXX."""
    click.echo(escaped(json.dumps(SECRETS.mask_value(document), ensure_ascii=False)))


def echo_table(content: RenderableType, *, width: int | None = None, color: bool = False, err: bool = False) -> None:
    """Print a table or any other layout of rich's; its own colours are the only sequences that pass."""
    from explaineval.report.tables import render

    with suppress(*((OSError,) if err else ())):
        click.echo(SECRETS.mask(render(content, width=width, color=color)), err=err)
