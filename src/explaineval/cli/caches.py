"""`explaineval cache stats`: what is stored."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from explaineval.cache import open_store
from explaineval.cli.options import CACHE, JSON, options
from explaineval.cli.outputs import say
from explaineval.report.tables import render


@click.group()
def cache() -> None:
    """Look at the stored answers."""


@cache.command()
@options(CACHE, JSON)
def stats(cache: Path | None, json: bool) -> int:
    """Count the stored answers, per endpoint and model, with their tokens."""
    directory = cache or Path("cache")
    with open_store(directory, readonly=True) as store:
        found = store.stats()
        warnings = store.warnings
    say(warnings)
    if json:
        click.echo(json_module.dumps({"directory": str(directory), **asdict(found)}, ensure_ascii=False))
        return 0
    click.echo(f"{directory}: {found.entries} answers, {found.bytes / 1e6:.1f} MB")
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for heading in ("endpoint", "model", "answers", "tokens in", "tokens out"):
        table.add_column(heading, justify="left" if heading in ("endpoint", "model") else "right", no_wrap=True)
    for one in found.models:
        tokens = (one.tokens.get("prompt_tokens", 0), one.tokens.get("completion_tokens", 0))
        table.add_row(one.endpoint or "default", one.model, f"{one.entries:,}", *(f"{count:,.0f}" for count in tokens))
    if found.models:
        click.echo(render(table))
    return 0
