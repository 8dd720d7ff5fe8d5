"""`explaineval plan`: what a run would ask and cost. Nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from explaineval.cache import holds_store, open_store
from explaineval.cli.configuration import resolve
from explaineval.cli.options import PATH, RUN, options
from explaineval.cli.output import finish
from explaineval.execution.model_run import check_batches
from explaineval.planning.cost import PlanCost, estimate_costs, total_costs
from explaineval.planning.notes import Note, cache_notes, note
from explaineval.planning.prepare import prepare
from explaineval.planning.prices import prices_of, read_price_list

CASES = ("low", "expected", "worst")


@click.command("plan")
@click.argument("config", required=False, type=PATH, metavar="[CONFIG.yaml]")
@options(*RUN)
def plan_command(config: Path | None, json: bool, **given: Any) -> int:
    """Show what a run with these options would ask and cost. Nothing is sent, nothing written.

    Takes the options of `run`. Every request is built as `run` builds it and looked up in the cache. Dollars are for
    the missing answers; "worst" assumes that every answer has full length (--max-tokens) and every prompt as many
    tokens as its text can have.
    """
    science, client, _ = resolve(config, given)
    prepared = prepare(science, client)
    if client.batch and not client.offline:
        for model in science.models:
            check_batches(model, client.endpoint_of(model))
    price_list = read_price_list()
    prices = prices_of(science, client, price_list)
    notes = list(prepared.chosen.notes)
    if holds_store(client.cache):
        with open_store(client.cache, readonly=True) as store:
            costs = estimate_costs(prepared, store, prices)
            notes += cache_notes(store.warnings)
    else:
        costs = estimate_costs(prepared, None, prices)
    total = total_costs(costs)
    return finish(
        {"models": [cost.document() for cost in costs], "total": total},
        _lines(costs, total, client.max_usd, price_list.version),
        [*notes, *_unknowns(costs)],
        json=json,
    )


def _lines(costs: Sequence[PlanCost], total: dict[str, Any], limit: float | None, price_version: str) -> Iterator[str]:
    for cost in costs:
        model = cost.model
        yield model.model + (f" at {model.endpoint}" if model.endpoint else "")
        yield from _figures(cost.document())
        if cost.estimate.missing:
            yield f"  {cost.estimate.basis}"
    if len(costs) > 1:
        yield "total"
        yield from _figures(total)
    yield ""
    saved, expected = total["usd_saved"], total["usd"]["expected"]
    share = total["hits"] / total["distinct"] if total["distinct"] else 0.0
    line = f"{share:.0%} of the answers are in the cache"
    if saved is not None and expected is not None and saved + expected > 0:
        line += f", {saved / (saved + expected):.0%} of the expected cost"
    yield f"{line}."
    if any(cost.estimate.price is not None for cost in costs):
        yield f"Prices: {price_version}, unless given; loopback and private addresses cost nothing."
    worst = total["usd"]["worst"]
    if limit is not None and worst is not None:
        reached = "the limit cannot be reached" if worst <= limit else "the limit may be reached before the end"
        yield f"--max-usd {limit:g}: {reached}."


def _figures(row: dict[str, Any]) -> Iterator[str]:
    """Yield the counts, tokens and dollars of one model, or of all together."""
    tokens, usd = row["tokens_out"], row["usd"]
    counts = "{planned:,} planned, {distinct:,} distinct: {hits:,} in the cache, {misses:,} to ask".format_map(row)
    yield f"  requests    {counts}"
    yield f"  tokens in   {row['tokens_in']:,}"
    yield f"  tokens out  {', '.join(f'{tokens[case]:,} {case}' for case in CASES)}"
    known = usd["worst"] is not None
    yield f"  dollars     {', '.join(f'{_dollars(usd[case])} {case}' for case in CASES) if known else 'unknown'}"
    yield f"  saved       {'unknown' if row['usd_saved'] is None else _dollars(row['usd_saved'])} by the cache"


def _unknowns(costs: Sequence[PlanCost]) -> Iterator[Note]:
    """Yield a note for each thing that is not known about a model and makes its figures uncertain."""
    for cost in costs:
        name = cost.model.model
        if cost.assumed:
            yield note(
                "capabilities_assumed",
                f"{name}: its endpoint was not probed yet, so logprobs and temperature 0 are assumed; `explaineval "
                "probe` finds out. If the endpoint takes neither, the requests have other cache keys than these.",
            )
        if cost.estimate.price is None:
            yield note("price_unknown", f"{name}: its price is unknown; give --price IN,OUT.")


def _dollars(value: float) -> str:
    return f"${value:,.2f}" if value >= 100 or value == 0 else f"${value:.4f}"
