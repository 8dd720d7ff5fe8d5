"""`explaineval cache prune`: delete answers, never by accident."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path

import click

from explaineval.cache import Pruning, open_store, plan_pruning, prune, reclaim_space, total_usd
from explaineval.cli.cache import FILTERS, PRICE, cautions, choosing, models_table, pricing, spell_usd
from explaineval.cli.options import AT_LEAST_0, CACHE, JSON, option, options
from explaineval.cli.output import echo, echo_table, say, show_document
from explaineval.errors import DamageError, InputError
from explaineval.planning.notes import note as make_note


@click.command("prune")
@options(
    CACHE,
    *FILTERS,
    option("--damaged", is_flag=True, default=False, help="Rows that cannot be read, or are none of ours."),
    option("--all", is_flag=True, default=False, help="All answers."),
    option("--yes", type=AT_LEAST_0, metavar="N", help="Confirm that N rows go, without being asked."),
    PRICE,
    JSON,
)
def prune_command(
    cache: Path | None,
    model: tuple[str, ...],
    endpoint: tuple[str, ...],
    damaged: bool,
    all: bool,
    yes: int | None,
    price: str | None,
    json: bool,
) -> int:
    """Delete answers of models and endpoints, or damaged rows, or both, or all answers.

    What would go is shown first, with what it cost. Nothing goes unless its number is typed, or given with --yes. What
    is known of endpoints stays.
    """
    directory = cache or Path("cache")
    chosen = choosing(model, endpoint)
    if all and chosen is not None:
        raise InputError("--all and --model or --endpoint contradict each other: give one of them.")
    if all:
        chosen = _any
    if chosen is None and not damaged:
        raise InputError("cache prune needs to know what: give --model, --endpoint, --damaged or --all.")
    price_of, version = pricing(price)
    with open_store(directory, readonly=True) as store:
        if store.damage is not None:
            raise DamageError(store.damage)
        planned = plan_pruning(store, chosen, damaged=damaged, price_of=price_of)
    _confirm(directory, planned, version, yes)
    deleted, note = _delete(directory, planned) if planned.rows else (0, None)
    if json:
        document = {"directory": str(directory), "deleted": deleted, "answers": len(planned.keys)}
        document |= {"damaged": len(planned.versions), "usd": total_usd(planned.models), "prices": version}
        document |= {"models": [asdict(one) for one in planned.models], "reclaimed": note is None}
        show_document(document, cautions(planned.models) + ([] if note is None else [make_note("space_kept", note)]))
    else:
        echo(f"{directory}: {deleted:,} rows deleted.")
    if note is not None:
        say([note])
    return 0


def _any(_: object) -> bool:
    return True


def _confirm(directory: Path, planned: Pruning, version: str, yes: int | None) -> None:
    """Show what would go, and return only where its number was confirmed."""
    if planned.models:
        echo_table(models_table(planned.models), err=True)
    worth = f" that cost {spell_usd(total_usd(planned.models))} (prices: {version})" if planned.keys else ""
    damaged = f" and {len(planned.versions):,} damaged rows" if planned.versions else ""
    say([f"from {directory} would go: {len(planned.keys):,} answers{worth}{damaged}.", *cautions(planned.models)])
    if yes is None and planned.rows:
        echo(f"Type {planned.rows} to delete them for good: ", nl=False, err=True)
        typed = sys.stdin.readline().strip()
        if typed != str(planned.rows):
            raise InputError(f"nothing was deleted: that needs {planned.rows} typed in, or --yes {planned.rows}.")
    elif yes is not None and yes != planned.rows:
        raise InputError(f"--yes {yes} is not the number of rows that would go, {planned.rows}: nothing was deleted.")


def _delete(directory: Path, planned: Pruning) -> tuple[int, str | None]:
    """How many rows were deleted, and why their space was not given back, if it was not."""
    with open_store(directory, repairing=True) as store:
        deleted = asyncio.run(prune(store, planned))
    return deleted, reclaim_space(directory)
