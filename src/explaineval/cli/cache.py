"""`explaineval cache stats`: what is stored and what it cost; prices, filters and the table for the other commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from explaineval.cache import ModelStats, PriceOf, open_store
from explaineval.cli.app import LazyGroup
from explaineval.cli.options import CACHE, JSON, option, options, read_price
from explaineval.cli.output import echo, echo_table, say, show_document
from explaineval.config import spellings
from explaineval.config.endpoint import is_private
from explaineval.cost import FREE, Price, Tier, price_given, price_listed, tier_of
from explaineval.planning.notes import Note, cache_notes, note
from explaineval.planning.prices import read_price_list
from explaineval.records import Request

COMMANDS = {
    "stats": (
        "cache",
        "stats_command",
        "Count the stored answers, per endpoint and model, with tokens and dollars.",
    ),
    "verify": ("cache_verify", "verify_command", "Check every page and every answer of a cache."),
    "explain": (
        "cache_explain",
        "explain_command",
        "Say why a request is a miss: the nearest stored one, and what differs.",
    ),
    "export": ("cache_packs", "export_command", "Write answers into a pack, a file that others can import."),
    "import": ("cache_packs", "import_command", "Lay the answers of packs into a cache; what is there stays."),
    "prune": ("cache_prune", "prune_command", "Delete answers, after saying what goes and what it cost."),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def cache() -> None:
    """Look at the stored answers, check them, pack them, share them."""


DEFAULT = "default"
"""How the provider's own address is written, which has no name."""

EMBEDDED = "embedded:"
"""What the endpoint name of weights on this machine begins with."""


PRICE = option("--price", metavar="IN,OUT", help="Dollars per million input and output tokens, instead of the list's.")
FILTERS = (
    option("--model", multiple=True, metavar="PROVIDER/MODEL", help="Answers of this model only. Repeatable."),
    option(
        "--endpoint",
        multiple=True,
        metavar="NAME|URL",
        help="Answers of this endpoint only, as `cache stats` writes it. Repeatable.",
    ),
)


@click.command("stats")
@options(CACHE, PRICE, JSON)
def stats_command(cache: Path | None, price: str | None, json: bool) -> int:
    """Count the stored answers, per endpoint and model, with their tokens and what they cost.

    Answers of a model at its provider's own address cost what the price list says, those of a loopback or private
    address and of embedded weights nothing; any other price is unknown unless --price tells it.
    """
    directory = cache or Path("cache")
    price_of, version = pricing(price)
    with open_store(directory, readonly=True) as store:
        found = store.stats(price_of)
        notes = list(cache_notes(store.warnings))
    say(notes)
    if json:
        document = {"directory": str(directory), **asdict(found), "prices": version}
        show_document(document, [*notes, *cautions(found.models)])
        return 0
    worth = f", {spell_usd(found.usd)} (prices: {version})" if found.entries else ""
    echo(f"{directory}: {found.entries} answers, {found.bytes / 1e6:.1f} MB{worth}")
    if found.models:
        echo_table(models_table(found.models))
    say(cautions(found.models))
    return 0


def pricing(given: str | None) -> tuple[PriceOf, str]:
    """What a stored answer's tokens cost, and by which list.

    Raises InputError for a price that cannot be read.
    """
    if given is not None:
        into, out = read_price(given)
        price = price_given((into, out))
        return lambda _: price, f"given:{into:g},{out:g}"
    listed = read_price_list()
    known: dict[tuple[str | None, str, Tier], Price | None] = {}

    def price_of(request: Request) -> Price | None:
        tier = tier_of(request.params)
        group = (request.endpoint, request.model, tier)
        if group not in known:
            known[group] = _look_up(*group)
        return known[group]

    def _look_up(endpoint: str | None, model: str, tier: Tier) -> Price | None:
        if endpoint is None:
            return price_listed(model, listed.prices, tier)
        return FREE if endpoint.startswith(EMBEDDED) or is_private(endpoint) else None

    return price_of, listed.version


def choosing(models: Sequence[str], endpoints: Sequence[str]) -> Callable[[Request], bool] | None:
    """Whether a request is of one of these models and of one of these endpoints; None where none is named.

    Raises InputError for an address that is not one.
    """
    if not models and not endpoints:
        return None
    names = {spelled for name in endpoints for spelled in spellings(name)}

    def chosen(request: Request) -> bool:
        at = DEFAULT if request.endpoint is None else request.endpoint
        return (not models or request.model in models) and (not names or at in names)

    return chosen


def models_table(models: Sequence[ModelStats]) -> Table:
    """A line for each endpoint and model."""
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    for heading in ("endpoint", "model", "answers", "tokens in", "tokens out", "cost"):
        table.add_column(heading, justify="left" if heading in ("endpoint", "model") else "right", no_wrap=True)
    for one in models:
        tokens = (one.tokens.get("prompt_tokens", 0), one.tokens.get("completion_tokens", 0))
        counts = (f"{count:,.0f}" for count in (one.entries, *tokens))
        table.add_row(Text(one.endpoint or DEFAULT), Text(one.model), *counts, spell_usd(one.usd))
    return table


def cautions(models: Sequence[ModelStats]) -> list[Note]:
    """What the dollars do not say."""
    notes = []
    if any(one.usd is None for one in models):
        told = "the price of some answers is unknown: give --price IN,OUT (dollars per million tokens)."
        notes.append(note("price_unknown", told))
    if unmetered := sum(one.unmetered for one in models):
        told = f"{unmetered:,} answers came without a count of tokens: what they cost is not in the sums."
        notes.append(note("tokens_uncounted", told))
    return notes


def spell_usd(usd: float | None) -> str:
    """Dollars for people."""
    return "unknown" if usd is None else f"${usd:,.4f}"
