"""`explaineval cache verify`: is everything as it was stored, and does the endpoint still answer so?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from explaineval.cache import Verification, open_store, verify_store
from explaineval.cli.cache_packs import keys_of
from explaineval.cli.options import AT_LEAST_1, ENDPOINT, JSON, PATH, STORED, TRANSPORT, offered, option, options
from explaineval.cli.output import finish
from explaineval.client.endpoints.routes import check_keys
from explaineval.config import ClientConfig, EndpointConfig, ModelConfig, build, normalise_url, read_price
from explaineval.errors import ExitCode, InputError
from explaineval.execution.recheck import ReaskedAnswers, choose_stored
from explaineval.execution.recheck import reask as ask_stored
from explaineval.planning.cost import prices_of, read_price_list
from explaineval.rundir.ledger import account_of
from explaineval.scoring.codes import Note, note
from explaineval.text import counted, dollars_text


@click.command("verify")
@options(
    STORED,
    option("--reask", type=AT_LEAST_1, metavar="N", help="Ask N stored requests again and compare the answers."),
    option("--model", multiple=True, metavar="PROVIDER/MODEL", help="With --reask: these models only. Repeatable."),
    option(
        "--imported",
        is_flag=True,
        help="With --reask: only answers that came from packs, or of which it is not known where they came from.",
    ),
    option(
        "--run",
        type=PATH,
        metavar="RUN_DIR",
        help="With --reask: only answers of this run. What they cost is booked in its ledger, and --max-usd counts all "
        "that asking again has spent there.",
    ),
    *ENDPOINT,
    offered("allow_key"),
    offered("max_usd"),
    *TRANSPORT,
    JSON,
)
def verify_command(
    directory: Path,
    reask: int | None,
    model: tuple[str, ...],
    imported: bool,
    run: Path | None,
    json: bool,
    **given: Any,
) -> int:
    """Check every page of the database, and every answer against its key. Nothing is written.

    With --reask stored requests are sent again, and paid for again, to see whether the endpoint still answers as it
    did; the stored answers stay. Exit code 6 if something is damaged, was not written by explaineval, or is answered
    differently now.
    """
    verification = verify_store(directory)
    agreement = None if reask is None else _ask_again(directory, reask, model, given, imported=imported, run=run)
    notes = [note("cache", text=text) for text in _advice(directory, verification)]
    lines = list(_description(directory, verification))
    if agreement is not None:
        notes += _unanswered(agreement)
        lines += _comparison(agreement)
    document: dict[str, Any] = {"directory": str(directory), **asdict(verification), "whole": verification.whole}
    document["reask"] = None if agreement is None else asdict(agreement)
    return finish(document, lines, notes, json=json, code=_code(verification, agreement), message=" ".join(lines))


def _unanswered(agreement: ReaskedAnswers) -> Iterator[Note]:
    """Yield notes on requests that were not asked again, or got no answer."""
    if agreement.fault is not None:
        failed = f"{counted(agreement.failed, 'request')} got no answer; the first: " if agreement.failed else ""
        yield note("requests_failed", "asked again", failed=failed, fault=agreement.fault)
    if agreement.unsent:
        limit = f", {agreement.over_limit} of them because of the spending limit" if agreement.over_limit else ""
        yield note("requests_unsent", requests=counted(agreement.unsent, "request", "were"), limit=limit)


def _code(verification: Verification, agreement: ReaskedAnswers | None) -> ExitCode:
    codes = [] if verification.whole else [ExitCode.DIFFERENT]
    if agreement is not None:
        reasons = {
            ExitCode.INTERRUPTED: agreement.interrupted,
            ExitCode.DIFFERENT: agreement.differs,
            ExitCode.SPENDING_LIMIT: agreement.over_limit > 0,
            ExitCode.ENDPOINT: agreement.fault is not None,
        }
        codes += [code for code, holds in reasons.items() if holds]
    return ExitCode.worst(codes)


def _ask_again(
    directory: Path, count: int, models: tuple[str, ...], given: dict[str, Any], *, imported: bool, run: Path | None
) -> ReaskedAnswers:
    with open_store(directory, readonly=True) as store:
        keys = None if run is None else keys_of([run], store)
        pairs = choose_stored(store, count, models, imported=imported, keys=keys)
    if not pairs:
        kind, of = "imported " if imported else "", f" of {', '.join(models)}" if models else ""
        of += "" if run is None else f" of the run in {run}"
        raise InputError(f"{directory} holds no {kind}answer{of} to ask again.")
    asked = sorted({(request.endpoint, request.model) for request, _ in pairs}, key=str)
    client = _client_config(asked, given)
    entries = tuple(ModelConfig(model=model, endpoint=endpoint) for endpoint, model in asked)
    check_keys(client, entries)
    prices = prices_of(entries, client, read_price_list())
    with nullcontext() if run is None else account_of(run, "reask") as account:
        if account is not None:
            account.check(limited=client.max_usd is not None, stated=None)
        return ask_stored(pairs, client, prices, account)


def _client_config(asked: Sequence[tuple[str | None, str]], given: Mapping[str, Any]) -> ClientConfig:
    """Return how these stored (endpoint, model) pairs are reached: a URL by itself, a name by --base-url.

    Raises InputError for a name without --base-url.
    """
    base_url = None if given.get("base_url") is None else normalise_url(given["base_url"])
    endpoints = {}
    for name in {endpoint for endpoint, _ in asked if endpoint is not None}:
        if base_url is not None and given.get("endpoint_name") in (None, name):
            address, chosen = base_url, True
        elif name.startswith(("http://", "https://")):
            address, chosen = normalise_url(name), False  # it may stand in a stranger's pack
        else:
            raise InputError(
                f"these answers came from the endpoint called {name!r}: give --endpoint-name {name} with a --base-url."
            )
        endpoints[name] = EndpointConfig(
            base_url=address, api_key_env=given.get("api_key_env"), key_from_file=not chosen
        )
    names = (
        "allow_key",
        "transport",
        "max_usd",
        "max_connections",
        "rpm",
        "tpm",
        "max_retries",
        "timeout",
        "patience",
        "api_key_env",
    )
    values = {name: given[name] for name in names if given.get(name) is not None}
    if given.get("price") is not None:
        values["price"] = read_price(given["price"])
    return build(ClientConfig, {**values, "endpoints": endpoints}, "options")


def _comparison(agreement: ReaskedAnswers) -> Iterator[str]:
    yield f"asked again: {agreement.asked:,}, at {dollars_text(agreement.usd)}"
    yield f"the same text: {agreement.same_text:,} of {agreement.asked:,}"
    yield f"the same answer letter: {agreement.same_letter:,} of {agreement.lettered:,} that name one"
    if agreement.other_model:
        yield f"another model or fingerprint named by the endpoint: {agreement.other_model:,}"


def _description(directory: Path, verification: Verification) -> Iterator[str]:
    yield f"{directory}: {'everything is sound' if verification.whole else 'NOT everything is sound'}."
    yield f"database: {verification.integrity or 'every page and the index of keys are whole'}"
    yield f"answers: {verification.sound:,} readable, each under the key of its own request"
    yield f"documents on endpoints: {verification.verdicts:,}"
    if verification.strangers:
        yield f"foreign rows: {verification.strangers:,} under keys that explaineval does not write; never read"
    if verification.faulty:
        yield f"damaged: {verification.faulty:,}"
    yield from (f"  {text}" for text in verification.faults)
    if verification.faulty > len(verification.faults):
        yield f"  and {verification.faulty - len(verification.faults):,} more"


def _advice(directory: Path, verification: Verification) -> Iterator[str]:
    """Yield what to do about damage."""
    if verification.integrity is not None and verification.sound:
        yield (
            f"the database is damaged: make a copy of {directory}, save what can be read with `explaineval cache "
            f"export --cache {directory} --out FILE`, and import it into a new cache."
        )
    elif verification.faulty or verification.strangers:
        yield (
            "damaged rows count as not stored and are asked again; import a pack that has them, or delete them with "
            f"`explaineval cache prune --damaged --cache {directory}`."
        )
