"""`explaineval plan`: what a run would ask and cost. Nothing is sent."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click

from explaineval.cli.configuration import resolve
from explaineval.cli.options import AT_LEAST_1, PATH, RUN, GroupedCommand, option, options
from explaineval.cli.output import SCREEN_WIDTH, columns, finish
from explaineval.cli.plan_precision import PRECISION, precision_lines, precision_of, rates_source
from explaineval.execution.dry_run import plan_run
from explaineval.interventions import pattern_of
from explaineval.planning.cost import PlanCost, PreviewedRequest
from explaineval.planning.prepare import key_notes
from explaineval.records import Intervention
from explaineval.text import dollars_text, share_text, wrapped

CASES = ("low", "expected", "worst")
PARAMETERS = ("max_tokens", "temperature", "stop", "logprobs", "params")
"""What is sent beside the text, in the order in which it is shown."""


@click.command("plan", cls=GroupedCommand)
@click.argument("config", required=False, type=PATH, metavar="[CONFIG.yaml]")
@options(
    *RUN,
    option(
        "--show-prompts",
        type=AT_LEAST_1,
        help="Print what would be sent for the first N inputs of each model, task and arm.",
    ),
    PRECISION,
)
def plan_command(
    config: Path | None,
    json: bool,
    show_prompts: int | None,
    half_width: float | None,
    expect: str | None,
    pilot: Path | None,
    **given: Any,
) -> int:
    """Show what a run with these options would ask and cost. Nothing is sent, nothing written.

    Example: explaineval plan --task nli --model openai/gpt-4o-mini --limit 50

    Takes the options of `run`. Every request is built as `run` builds it and looked up in the cache. Dollars are for
    the missing answers; "worst" assumes that every answer has full length (--max-tokens) and every prompt as many
    tokens as its text can have.
    """
    science, client, out = resolve(config, given)
    source = rates_source(half_width, expect, pilot)
    found = plan_run(science, client, show_prompts or 0, out=out)
    precision = [] if half_width is None else precision_of(found.prepared, half_width, source)
    document = found.document
    if half_width is not None:
        document["precision"] = [one.document() for one in precision]
    lines = chain(
        _prompts(found.requests),
        cost_lines(found.costs, found.total, client.max_usd, found.price_version),
        precision_lines(precision, source),
    )
    notes = [*key_notes(found.prepared.config, found.prepared.client, planned=True), *found.notes]
    return finish(document, lines, notes, json=json)


def _prompts(requests: Iterable[PreviewedRequest]) -> Iterator[str]:
    """Yield each request: what it is about, its parameters, and its text exactly as it would be sent."""
    from explaineval.reporting.view import describe

    width = columns(SCREEN_WIDTH)
    for number, request in enumerate(requests, start=1):
        unit, values = request.step.unit, request.document()
        condition = unit.arm.condition(unit.model, unit.task.name)
        yield from wrapped(f"--- {number}: {describe(condition, ())}", width, "", "    ")
        yield from wrapped(f"{_about(request)}.", width, "    ", "    ")
        sent = {name: values[name] for name in PARAMETERS if values[name] not in (None, [], {})}
        text = ", ".join(f"{name} {json_module.dumps(value)}" for name, value in sent.items())
        yield from wrapped(text, width, "    ", "    ")
        for message in values["messages"] or [{"role": "prompt", "content": values["prompt"]}]:
            yield f"[{message['role']}]"
            yield message["content"]
        yield ""


def _about(request: PreviewedRequest) -> str:
    """Return which input a request is about, and what is special about it."""
    step = request.step
    parts = [f"example {step.unit.example.id}"]
    if step.intervention is None:
        parts.append("unchanged" if step.request.sample == step.unit.sample else "unchanged, asked once more")
    else:
        parts.append(f"with {_change(step.intervention)}")
    if step.unit.sample:
        parts.append(f"sample {step.unit.sample}")
    if request.stored:
        parts.append("in the cache, so not sent again")
    text = ", ".join(parts)
    if request.stand_in is None:
        return text
    return f"{text}; asks to explain an answer that is not known yet, for which {request.stand_in} stands in"


def _change(intervention: Intervention) -> str:
    """Return what an intervention changes, in words."""
    pattern = pattern_of(intervention)
    if pattern is not None:
        return pattern.description
    if intervention.fields is not None:
        return f"another input ({', '.join(intervention.fields)})"
    return f"{intervention.inserted!r} inserted" if intervention.field is not None else "a cue"


def cost_lines(
    costs: Sequence[PlanCost], total: dict[str, Any], limit: float | None, price_version: str
) -> Iterator[str]:
    """Yield what a plan takes: requests, tokens and dollars of each model and in all, and what a limit means."""
    width = columns(SCREEN_WIDTH)
    for cost in costs:
        model = cost.model
        yield model.model + (f" at {model.endpoint}" if model.endpoint else "")
        yield from _figures(cost.document())
        if cost.estimate.missing:
            yield from wrapped(cost.estimate.basis, width, "  ", "  ")
    if len(costs) > 1:
        yield "total"
        yield from _figures(total)
    yield ""
    saved, expected = total["usd_saved"], total["usd"]["expected"]
    found = total["hits"] / total["distinct"] if total["distinct"] else 0.0
    line = f"{share_text(found)} of the answers are in the cache"
    if saved is not None and expected is not None and saved + expected > 0:
        line += f", {share_text(saved / (saved + expected))} of the expected cost"
    yield f"{line}."
    if any(cost.estimate.price is not None for cost in costs):
        text = f"Prices: {price_version}, unless given; simulated models, loopback and private addresses cost nothing."
        yield from wrapped(text, width)
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
    yield f"  dollars     {', '.join(f'{dollars_text(usd[case])} {case}' for case in CASES) if known else 'unknown'}"
    yield f"  saved       {dollars_text(row['usd_saved'])} by the cache"
