"""`explaineval probe`: find out what an endpoint really does; print a table, or one JSON document."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Group
from rich.table import Table
from rich.text import Text

from explaineval.cache import open_store
from explaineval.cli.configuration import resolve_model
from explaineval.cli.options import ENDPOINT, JSON, offered, option, options
from explaineval.cli.output import echo_document, echo_notes, echo_table
from explaineval.client.endpoints.capabilities import Findings, StyleFinding, route_warning, store_probe
from explaineval.client.endpoints.guard import proxy_note
from explaineval.client.endpoints.probe import probe_endpoint
from explaineval.config import ClientConfig, ModelConfig
from explaineval.cost import Price
from explaineval.errors import ExitCode, InputError
from explaineval.planning.cost import prices_of, read_price_list
from explaineval.records import SIMULATED_NOTE, SIMULATED_PREFIX, ReasoningReturned
from explaineval.scoring.codes import Note, note
from explaineval.text import counted, dollars_text

MAX_RETRIES = 2

Row = tuple[str, str, str]
"""The cells of a row: what was asked, what was found, what it means for a run."""


@click.command()
@options(
    option("--model", metavar="PROVIDER/MODEL", help="litellm's spelling, e.g. openai/gpt-4o."),
    *ENDPOINT,
    offered("max_retries", default=MAX_RETRIES),
    *map(offered, ("timeout", "max_usd", "transport", "cache")),
    JSON,
)
def probe(json: bool, **given: Any) -> int:
    """Find out by a few cheap requests what an endpoint can do: chat, text completion, log-probabilities.

    What is found is kept in the cache, and `run` keeps to it until `probe` is run again. Nothing is kept of a probe
    that failed.
    """
    if not given["model"]:
        raise InputError("no model given: add --model PROVIDER/MODEL.")
    model, transport = resolve_model(given)
    price = prices_of([model], transport, read_price_list()).singly[model.endpoint, model.model]
    proxy = proxy_note(transport.endpoint_of(model), model.model)
    notes = [] if proxy is None else [note("proxy_used", text=proxy)]
    findings = asyncio.run(_probe_and_keep(model, transport, price))
    notes += warnings_of(findings)
    code = ExitCode.DONE if findings.usable else ExitCode.ENDPOINT
    if json:
        echo_document(findings.document(), notes, None, code, findings.error or findings.logprobs_reason or "")
    else:
        _show(findings, _price_source(model, transport, findings))
    echo_notes(notes)
    return code


async def _probe_and_keep(model: ModelConfig, transport: ClientConfig, price: Price | None) -> Findings:
    with open_store(transport.cache) as store:  # first: a cache that cannot be used should cost nothing
        findings = await probe_endpoint(model, transport, price)
        if findings.usable:
            made = datetime.now(UTC).isoformat(timespec="seconds")
            document = {**findings.document(), "probed": made}
            await store_probe(store, model.endpoint, model.model, document, findings.verdicts)
    return findings


def warnings_of(findings: Findings) -> list[Note]:
    """Return notes on what limits a run at this endpoint."""
    notes = [] if findings.error is None else [note("endpoint_unusable", text=findings.error)]
    route = route_warning(findings.model)
    if route is not None:
        notes.append(note("route_loses_logprobs", text=route))
    if findings.main.reasoning is not None:
        notes.append(note("reasons_first", "probing", model=findings.model, how=findings.main.reasoning))
    return notes


def _show(findings: Findings, price_source: str) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="bold")
    table.add_column("what", no_wrap=True)
    table.add_column("finding", overflow="fold", max_width=44)
    table.add_column("what it means")
    for row in _rows(findings, price_source):
        table.add_row(*map(Text, row))
    simulated = f" ({SIMULATED_NOTE})" if findings.model.startswith(SIMULATED_PREFIX) else ""
    title = Text(findings.model + simulated + (f" at {findings.endpoint}" if findings.endpoint else ""), style="bold")
    content = Group(title, table, Text(), Text(_cost(findings)), Text(_outlook(findings)))
    echo_table(content, piped=120)


def _rows(findings: Findings, price_source: str) -> list[Row]:
    chat, text, main = findings.style("chat"), findings.style("completion"), findings.main
    reasons_first = main.reasoning is not None
    rows: list[Row] = [
        ("reachable", _yes_or_no(findings.reachable), "" if findings.reachable else "nothing else could be found out"),
        ("chat", _worked(chat), "for --style chat" if chat.works else "--style chat cannot be used"),
        (
            "text completion",
            _worked(text),
            "for --style completion (pretrained models)" if text.works else "--style completion cannot be used",
        ),
    ]
    rows += [_logprobs_row(name, style) for name, style in (("chat", chat), ("text", text)) if style.works]
    if not main.works:
        return rows
    zero = main.temperature_zero
    rows += [
        ("temperature 0", _taken(zero), "sent by default" if zero else "omitted: answers are sampled; see sham rate"),
        ("same text twice", _yes_or_no(main.stable), STABLE[main.stable]),
        ("seed", _taken(main.seed), "never sent by explaineval"),
        ("token limit", main.limit_name or "not told", "the name under which --max-tokens is sent"),
        ("system role", _taken(main.system_role), "not needed by the bundled prompts"),
        (
            "reasoning first",
            f"yes: {main.reasoning}" if reasons_first else "no",
            "order pe is not predict-then-explain; raise --max-tokens"
            if reasons_first
            else "order pe is predict, then explain",
        ),
        ("reasoning", *_reasoning_cells(main)),
        ("returned model", main.returned_model or "none", "stored with every answer"),
        ("fingerprint", main.fingerprint or "none", "stored with every answer"),
        ("price", _price(findings), price_source),
    ]
    return rows


def _reasoning_cells(finding: StyleFinding) -> tuple[str, str]:
    """Return what comes of the reasoning, and what that means for the channels of mention."""
    where = {"text": "in the text, in tags", None: ""}.get(finding.reasoning_field, f"in {finding.reasoning_field}")
    cells: Mapping[ReasoningReturned | None, tuple[str, str]] = {
        "text": (f"its text, {where}", "channels reasoning and either will have numbers"),
        "summary": (f"a summary or a part, {where}", "channels reasoning and either rest on it: read them so"),
        "hidden": ("hidden: tokens are counted, no text comes", "channels reasoning and either stay undefined"),
        "absent": ("none", "no channels reasoning and either"),
        None: ("not told", ""),
    }
    return cells[finding.returned]


STABLE = {
    True: "repeats are likely to agree; shams measure it",
    False: "answers vary by themselves: mind the sham rate",
    None: "",
}


def _logprobs_row(name: str, finding: StyleFinding) -> Row:
    what, judgement = f"logprobs, {name}", finding.logprobs
    if judgement.usable:
        answer = f"usable: {finding.asked} alternatives asked, {judgement.returned} returned"
        return what, answer, "CCT will be given"
    if judgement.usable is False:
        return what, f"not usable: {judgement.reason}", "no CCT"
    return what, str(judgement.reason), "CCT is open"


def _outlook(findings: Findings) -> str:
    """Return the sentence that says whether a run will have a CCT, and why."""
    main = findings.main
    if not main.works:
        return f"CCT will not be given: {findings.logprobs_reason}."
    style = "chat" if main is findings.style("chat") else "completion"
    if main.logprobs.usable:
        more = f" ({findings.logprobs_reason})" if findings.logprobs_reason else ""
        return f"CCT will be given in {style} style, beside phi-CCT: log-probabilities are usable{more}."
    if main.logprobs.usable is None:
        return f"Whether CCT will be given shows in the run ({main.logprobs.reason}); phi-CCT needs no logprobs."
    other = findings.style("completion")
    also = "; in completion style it will" if other is not main and other.works and other.logprobs.usable else ""
    return f"CCT will not be given in {style} style, only phi-CCT: {main.logprobs.reason}{also}."


def _cost(findings: Findings) -> str:
    usd = "cost unknown (give --price IN,OUT)" if findings.usd is None else dollars_text(findings.usd)
    tokens = f"{counted(findings.tokens_in, 'token')} in, {findings.tokens_out} out"
    return f"This probe: {counted(findings.requests, 'request')}, {tokens}, {usd}."


def _price(findings: Findings) -> str:
    if findings.price is None:
        return "unknown"
    price_in, price_out = findings.price
    return f"{dollars_text(price_in)} in, {dollars_text(price_out)} out per million tokens"


def _price_source(model: ModelConfig, transport: ClientConfig, findings: Findings) -> str:
    if model.model.startswith(SIMULATED_PREFIX):
        return "a simulated model"
    if findings.price is None:
        return "give --price IN,OUT to have costs counted"
    if transport.price_of(model) is not None:
        return "as given by --price"
    return "a loopback or private address" if transport.endpoint_of(model).private else "from the installed price list"


def _worked(finding: StyleFinding) -> str:
    if finding.works:
        return "yes"
    return f"{'no' if finding.works is False else 'not told'}{f': {finding.why}' if finding.why else ''}"


def _yes_or_no(value: bool | None) -> str:
    return "not told" if value is None else "yes" if value else "no"


def _taken(value: bool | None) -> str:
    return "not told" if value is None else "accepted" if value else "rejected"
