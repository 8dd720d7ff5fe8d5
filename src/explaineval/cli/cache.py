"""`explaineval cache stats` and `cache prune`: what is stored and what it cost; delete some of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from explaineval.cache import (
    ModelStats,
    PriceOf,
    Pruning,
    open_store,
    plan_pruning,
    prune,
    reclaim_space,
    total_usd,
)
from explaineval.cli.options import AT_LEAST_0, JSON, STORED, option, options
from explaineval.cli.output import echo, echo_document, echo_notes, echo_table
from explaineval.config import read_price, spellings
from explaineval.config.values import is_private
from explaineval.cost import FREE, Price, Tier, price_given, price_listed, tier_of
from explaineval.errors import DamageError, InputError
from explaineval.planning.cost import read_price_list
from explaineval.planning.notes import cache_notes
from explaineval.records import EMBEDDED_ENDPOINT, SIMULATED_ENDPOINT, Request
from explaineval.scoring.codes import Note, note
from explaineval.text import bytes_text, counted, dollars_text

DEFAULT = "default"
"""The name printed for a provider's own address."""

PRICE = option("--price", metavar="IN,OUT", help="Dollars per million input and output tokens, for all models.")
FILTERS = (
    option("--model", multiple=True, metavar="PROVIDER/MODEL", help="Answers of this model only. Repeatable."),
    option(
        "--endpoint",
        multiple=True,
        metavar="NAME|URL",
        help="Answers of this endpoint only, as `cache stats` prints it. Repeatable.",
    ),
)


@click.command("stats")
@options(STORED, PRICE, JSON)
def stats_command(directory: Path, price: str | None, json: bool) -> int:
    """Count the stored answers of each endpoint and model, with their tokens and what they cost.

    Answers from a provider's own address cost what the price list says; those from a loopback or private address, or
    from embedded weights and simulated models, nothing; any other price is unknown unless --price gives it.
    """
    price_of, price_version = prices(price)
    with open_store(directory, readonly=True) as store:
        stats = store.stats(price_of)
        notes = list(cache_notes(store.warnings))
    echo_notes(notes)
    cost_notes = _cost_notes(stats.models)
    if json:
        document = {"directory": str(directory), **asdict(stats), "prices": price_version}
        echo_document(document, [*notes, *cost_notes])
        return 0
    cost = f", {dollars_text(stats.usd)} (prices: {price_version})" if stats.entries else ""
    echo(f"{directory}: {counted(stats.entries, 'answer')}, {bytes_text(stats.bytes)}{cost}")
    if stats.models:
        echo_table(_models_table(stats.models))
    echo_notes(cost_notes)
    return 0


def prices(given: str | None) -> tuple[PriceOf, str]:
    """Return the function that gives the price of a stored request, and the version of the price list it uses.

    `given` is the text of --price, which then holds for all but simulated models. Raises InputError for a price
    that cannot be read.
    """
    if given is not None:
        per_input, per_output = read_price(given)
        price = price_given((per_input, per_output))
        return lambda request: FREE if _is_simulated(request) else price, f"given:{per_input:g},{per_output:g}"
    price_list = read_price_list()
    known: dict[tuple[str | None, str, Tier], Price | None] = {}

    def price_of(request: Request) -> Price | None:
        group = (request.endpoint, request.model, tier_of(request.params))
        if group not in known:
            known[group] = look_up(*group)
        return known[group]

    def look_up(endpoint: str | None, model: str, tier: Tier) -> Price | None:
        if endpoint is None:
            return price_listed(model, price_list.prices, tier)
        return FREE if endpoint.startswith((EMBEDDED_ENDPOINT, SIMULATED_ENDPOINT)) or is_private(endpoint) else None

    return price_of, price_list.version


def _is_simulated(request: Request) -> bool:
    return (request.endpoint or "").startswith(SIMULATED_ENDPOINT)


def request_filter(models: Sequence[str], endpoints: Sequence[str]) -> Callable[[Request], bool] | None:
    """Return whether a request is of one of these models and endpoints, as a function; None if none is named.

    Raises InputError for an address that is not valid.
    """
    if not models and not endpoints:
        return None
    names = {spelling for name in endpoints for spelling in spellings(name)}

    def fits(request: Request) -> bool:
        endpoint = DEFAULT if request.endpoint is None else request.endpoint
        return (not models or request.model in models) and (not names or endpoint in names)

    return fits


@click.command("prune")
@options(
    STORED,
    *FILTERS,
    option("--damaged", is_flag=True, default=False, help="Rows that cannot be read or are not explaineval's."),
    option("--all", is_flag=True, default=False, help="All answers."),
    option("--yes", type=AT_LEAST_0, metavar="N", help="Confirm that N rows are deleted, without a question."),
    PRICE,
    JSON,
)
def prune_command(
    directory: Path,
    model: tuple[str, ...],
    endpoint: tuple[str, ...],
    damaged: bool,
    all: bool,
    yes: int | None,
    price: str | None,
    json: bool,
) -> int:
    """Delete the answers of models and endpoints, damaged rows, or all answers.

    What would be deleted is shown first, with what it cost. Nothing is deleted unless its number is typed in or given
    with --yes. What is known about endpoints stays.
    """
    wanted = request_filter(model, endpoint)
    if all and wanted is not None:
        raise InputError("--all and --model or --endpoint contradict each other: give one of them.")
    if all:
        wanted = _every_request
    if wanted is None and not damaged:
        raise InputError("nothing to delete is named: give --model, --endpoint, --damaged or --all.")
    price_of, price_version = prices(price)
    with open_store(directory, readonly=True) as store:
        if store.damage is not None:
            raise DamageError(store.damage)
        pruning = plan_pruning(store, wanted, damaged=damaged, price_of=price_of)
    _confirm(directory, pruning, price_version, yes)
    deleted, kept_space = _delete(directory, pruning) if pruning.rows else (0, None)
    notes = [] if kept_space is None else [note("space_kept", text=kept_space)]
    if json:
        document = {
            "directory": str(directory),
            "deleted": deleted,
            "answers": len(pruning.keys),
            "damaged": len(pruning.versions),
            "usd": total_usd(pruning.models),
            "prices": price_version,
            "models": [asdict(stats) for stats in pruning.models],
            "reclaimed": kept_space is None,
        }
        echo_document(document, [*_cost_notes(pruning.models), *notes])
    else:
        echo(f"{directory}: {counted(deleted, 'row')} deleted.")
    echo_notes(notes)
    return 0


def _every_request(_: Request) -> bool:
    return True


def _confirm(directory: Path, pruning: Pruning, price_version: str, yes: int | None) -> None:
    """Show what would be deleted, and return only if its number is confirmed."""
    if pruning.models:
        echo_table(_models_table(pruning.models), err=True)
    cost = f" that cost {dollars_text(total_usd(pruning.models))} (prices: {price_version})" if pruning.keys else ""
    damaged = f" and {counted(len(pruning.versions), 'damaged row')}" if pruning.versions else ""
    echo_notes([f"to be deleted from {directory}: {counted(len(pruning.keys), 'answer')}{cost}{damaged}."])
    echo_notes(_cost_notes(pruning.models))
    if yes is None and pruning.rows:
        echo(f"Type {pruning.rows} to delete them for good: ", nl=False, err=True)
        typed = sys.stdin.readline()
        if not typed.endswith("\n"):
            echo(err=True)
        if typed.strip() != str(pruning.rows):
            raise InputError(f"nothing was deleted: type {pruning.rows}, or give --yes {pruning.rows}.")
    elif yes is not None and yes != pruning.rows:
        raise InputError(f"--yes {yes} is not the number of rows to be deleted, {pruning.rows}: nothing was deleted.")


def _delete(directory: Path, pruning: Pruning) -> tuple[int, str | None]:
    """Return how many rows were deleted, and why their space was not given back, if it was not."""
    with open_store(directory, repairing=True) as store:
        deleted = asyncio.run(prune(store, pruning))
    return deleted, reclaim_space(directory)


def _models_table(models: Sequence[ModelStats]) -> Table:
    """Return a table with a row for each endpoint and model."""
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for heading in ("endpoint", "model"):
        table.add_column(heading, overflow="fold")
    for heading in ("answers", "tokens in", "tokens out", "cost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stats in models:
        tokens = (stats.tokens.get("prompt_tokens", 0), stats.tokens.get("completion_tokens", 0))
        counts = (f"{round(count):,}" for count in (stats.entries, *tokens))
        table.add_row(Text(stats.endpoint or DEFAULT), Text(stats.model), *counts, dollars_text(stats.usd))
    return table


def _cost_notes(models: Sequence[ModelStats]) -> list[Note]:
    """Return notes on what the dollars leave out."""
    notes = []
    if any(stats.usd is None for stats in models):
        notes.append(note("price_unknown", "stored"))
    if unmetered := sum(stats.unmetered for stats in models):
        notes.append(note("tokens_uncounted", "stored", answers=counted(unmetered, "answer")))
    return notes
