"""`explaineval plan`: what a run would ask and cost, as a table or one JSON document. Nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from explaineval.cache import holds_store, open_store
from explaineval.cli.options import (
    CACHE,
    HOW,
    INTERVAL,
    JSON,
    MONEY,
    OUT,
    SCORING,
    TRANSPORT,
    WHAT,
    WHOM,
    options,
    resolve,
)
from explaineval.cli.output import echo, echo_table, say, show_document
from explaineval.execution.model_run import check_batches
from explaineval.planning.cost import Projection, project, total_of
from explaineval.planning.notes import Note, cache_notes, note
from explaineval.planning.prepare import prepare
from explaineval.planning.prices import prices_of, read_price_list


@click.command("plan")
@click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.yaml]")
@options(*WHAT, *WHOM, *HOW, *SCORING, INTERVAL, *MONEY, *TRANSPORT, CACHE, OUT, JSON)
def plan_command(config: Path | None, json: bool, **given: Any) -> int:
    """Say what a run with these options would ask and cost. Nothing is sent, nothing written.

    Takes the options of `run`. Every request is built as `run` builds it and looked up in the cache. Dollars are for
    the missing answers: "worst" is every answer in full length (--max-tokens) and the longest prompt the text can be.
    """
    science, transport, _ = resolve(config, given)
    prepared = prepare(science, transport)
    if transport.batch and not transport.offline:
        for model in science.models:
            check_batches(model, transport.endpoint_of(model))
    listed = read_price_list()
    prices = prices_of(science, transport, listed)
    notes = list(prepared.chosen.notes)
    if holds_store(transport.cache):
        with open_store(transport.cache, readonly=True) as store:
            found = project(prepared, store, prices)
            notes += cache_notes(store.warnings)
    else:
        found = project(prepared, None, prices)
    total = total_of(found)
    say(notes)
    if json:
        show_document({"models": [one.document() for one in found], "total": total}, [*notes, *_unknown(found)])
        return 0
    echo_table(_table(found, total), width=200)
    echo()
    for line in _remarks(found, total, transport.max_usd, listed.version):
        echo(line)
    return 0


def _table(found: list[Projection], total: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    table.add_column("model", no_wrap=True)
    for heading in (
        *("planned", "distinct", "cached", "to ask", "tokens in", "tokens out\nlow / expected / worst"),
        *("dollars\nlow / expected / worst", "saved by\nthe cache"),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    rows = [
        (one.model.model + (f" at {one.model.endpoint}" if one.model.endpoint else ""), one.document()) for one in found
    ]
    for name, row in [*rows, *([("total", total)] if len(rows) > 1 else [])]:
        table.add_row(
            name,
            *(f"{row[column]:,}" for column in ("planned", "distinct", "hits", "misses", "tokens_in")),
            " / ".join(f"{row['tokens_out'][how]:,}" for how in ("low", "expected", "worst")),
            " / ".join(_dollars(row["usd"][how]) for how in ("low", "expected", "worst")),
            _dollars(row["usd_saved"]),
        )
    return table


def _remarks(found: list[Projection], total: dict[str, Any], limit: float | None, version: str) -> list[str]:
    lines = []
    saved, ahead = total["usd_saved"], total["usd"]["expected"]
    share = total["hits"] / total["distinct"] if total["distinct"] else 0.0
    line = f"{share:.0%} of the answers are in the cache"
    if saved is not None and ahead is not None and saved + ahead > 0:
        line += f", {saved / (saved + ahead):.0%} of the expected cost"
    lines.append(line + ".")
    for one in found:
        if one.forecast.misses:
            lines.append(f"{one.model.model}: {one.forecast.basis}.")
        lines += [found.text for found in _unknown([one])]
    if any(one.forecast.price is not None for one in found):
        lines.append(f"Prices: {version}, unless given; loopback and private addresses cost nothing.")
    worst = total["usd"]["worst"]
    if limit is not None and worst is not None:
        fits = "the limit cannot be reached" if worst <= limit else "the limit may be reached before the end"
        lines.append(f"--max-usd {limit:g}: {fits}.")
    return lines


def _unknown(found: list[Projection]) -> Iterator[Note]:
    """What is not known of the models, so that the forecast is one under conditions."""
    for one in found:
        if one.assumed:
            yield note(
                "capabilities_assumed",
                f"{one.model.model}: nothing is known of its endpoint yet, so logprobs and temperature 0 are assumed; "
                "`explaineval probe` finds out. If it takes neither, requests have other keys than these.",
            )
        if one.forecast.price is None:
            yield note("price_unknown", f"{one.model.model}: its price is unknown; give --price IN,OUT.")


def _dollars(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"${value:,.2f}" if value >= 100 or value == 0 else f"${value:.4f}"
