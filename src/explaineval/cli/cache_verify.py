"""`explaineval cache verify`: is everything as it was stored?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from explaineval.cache import Verification, open_store, verify_store
from explaineval.cli.options import (
    API_KEY_ENV,
    AT_LEAST_1,
    BASE_URL,
    CACHE,
    ENDPOINT_NAME,
    JSON,
    MAX_USD,
    PRICE,
    TRANSPORT,
    option,
    options,
    read_price,
)
from explaineval.cli.output import echo, say, show_document
from explaineval.config import ClientConfig, ModelConfig, RunConfig, build, normalise_url
from explaineval.config.client_config import EndpointConfig
from explaineval.errors import InputError
from explaineval.execution.recheck import Agreement, choose_stored
from explaineval.execution.recheck import reask as reask_stored
from explaineval.planning.notes import Note, note
from explaineval.planning.prices import prices_of, read_price_list

OUT_OF_MONEY, UNUSABLE, DIFFERENT, INTERRUPTED = 3, 5, 6, 130


@click.command("verify")
@options(
    CACHE,
    option("--reask", type=AT_LEAST_1, metavar="N", help="Ask N stored requests again and compare: does it drift?"),
    option("--model", multiple=True, metavar="PROVIDER/MODEL", help="With --reask: these models only. Repeatable."),
    BASE_URL,
    ENDPOINT_NAME,
    API_KEY_ENV,
    PRICE,
    MAX_USD,
    *TRANSPORT,
    JSON,
)
def verify_command(cache: Path | None, reask: int | None, model: tuple[str, ...], json: bool, **given: Any) -> int:
    """Check every page of the database, and every answer against its key. Nothing is written.

    With --reask stored requests are sent again, and paid for again, to see whether the endpoint still answers as it
    did; the stored answers stay. Exits 6 where something is damaged, was not written by explaineval, or is answered
    differently now.
    """
    directory = cache or Path("cache")
    found = verify_store(directory)
    again = None if reask is None else _ask_again(directory, reask, model, given)
    notes = [note("cache", text) for text in advise(directory, found)]
    notes += () if again is None else _shortfalls(again)
    code = _verdict(found, again)
    if json:
        document: dict[str, Any] = {"directory": str(directory), **asdict(found), "whole": found.whole}
        document["reask"] = None if again is None else asdict(again)
        told = [*describe(directory, found), *(() if again is None else tell(again))]
        show_document(document, notes, None, code, " ".join(told))
    else:
        for line in describe(directory, found):
            echo(line)
        for line in () if again is None else tell(again):
            echo(line)
    say(notes)
    return code


def _shortfalls(again: Agreement) -> Iterator[Note]:
    """What was not asked again, or not answered."""
    if again.fault is not None:
        failed = f"{again.failed} requests stayed without answer; the first: " if again.failed else ""
        yield note("requests_failed", f"{failed}{again.fault}")
    if again.unsent:
        limit = f", {again.over_limit} of them for the spending limit" if again.over_limit else ""
        yield note("requests_unsent", f"{again.unsent} requests were not sent{limit}.")


def _verdict(found: Verification, again: Agreement | None) -> int:
    if again is not None and again.interrupted:
        return INTERRUPTED
    if not found.whole or (again is not None and again.differs):
        return DIFFERENT
    if again is not None and again.over_limit:
        return OUT_OF_MONEY
    return UNUSABLE if again is not None and again.fault is not None else 0


def _ask_again(directory: Path, count: int, models: tuple[str, ...], given: dict[str, Any]) -> Agreement:
    with open_store(directory, readonly=True) as store:
        pairs = choose_stored(store, count, models)
    if not pairs:
        raise InputError(
            f"{directory} holds no answer" + (f" of {', '.join(models)}" if models else "") + " to ask again."
        )
    whom = sorted({(one.endpoint, one.model) for one, _ in pairs}, key=str)
    client = client_for(whom, given)
    config = RunConfig(tasks=("none",), models=tuple(ModelConfig(model=name, endpoint=at) for at, name in whom))
    return reask_stored(pairs, client, prices_of(config, client, read_price_list()).singly)


def client_for(whom: Sequence[tuple[str | None, str]], given: Mapping[str, Any]) -> ClientConfig:
    """How these stored (endpoint, model) are reached: a URL by itself, a name by --base-url.

    Raises InputError for a name that no --base-url goes with.
    """
    url = None if given.get("base_url") is None else normalise_url(given["base_url"])
    endpoints = {}
    for name in {at for at, _ in whom if at is not None}:
        own = name if name.startswith(("http://", "https://")) else None
        named = url is not None and given.get("endpoint_name") in (None, name)
        address = url if named else None if own is None else normalise_url(own)
        if address is None:
            raise InputError(
                f"these answers came from the endpoint called {name!r}: give --endpoint-name {name} with a --base-url."
            )
        endpoints[name] = EndpointConfig(base_url=address, api_key_env=given.get("api_key_env"))
    kept = ("max_usd", "max_connections", "rpm", "tpm", "max_retries", "timeout", "api_key_env")
    values = {name: given[name] for name in kept if given.get(name) is not None}
    if given.get("price") is not None:
        values["price"] = read_price(given["price"])
    return build(ClientConfig, {**values, "endpoints": endpoints}, "options")


def tell(again: Agreement) -> Iterator[str]:
    """How the answers compare, a line each."""
    yield f"asked again: {again.asked:,}, at ${again.usd:.4f}"
    yield f"the same text: {again.same_text:,} of {again.asked:,}"
    yield f"the same answer letter: {again.same_letter:,} of {again.lettered:,} that name one"
    if again.other_model:
        yield f"another model or fingerprint named by the endpoint: {again.other_model:,}"


def describe(directory: Path, found: Verification) -> Iterator[str]:
    """What was checked and what was found, a line each."""
    yield f"{directory}: {'all is sound' if found.whole else 'NOT all is sound'}."
    yield f"database: {found.integrity or 'every page and the index of keys are whole'}"
    yield f"answers: {found.sound:,} readable, each under the key of its own request"
    yield f"documents on endpoints: {found.verdicts:,}"
    if found.strangers:
        yield f"rows of strangers: {found.strangers:,} under keys that are no answer's; they are never read"
    if found.faulty:
        yield f"damaged: {found.faulty:,}"
    yield from (f"  {fault}" for fault in found.faults)
    if found.faulty > len(found.faults):
        yield f"  and {found.faulty - len(found.faults):,} more"


def advise(directory: Path, found: Verification) -> Iterator[str]:
    """What to do about it."""
    if found.integrity is not None and found.sound:
        yield (
            f"the database is damaged: copy {directory} aside, save what can be read with `explaineval cache export "
            f"--cache {directory} --out FILE`, and import it into a new cache."
        )
    elif found.faulty or found.strangers:
        yield (
            "damaged rows count as misses and are asked again; import a pack that has them, or delete them with "
            f"`explaineval cache prune --damaged --cache {directory}`."
        )
