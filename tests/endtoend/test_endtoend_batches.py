"""A run whose answers came by batches: the plain run afterwards asks nothing, and its numbers are the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from explaineval.cache import Store, open_store
from explaineval.client.batches import BatchOutcome, run_batches
from explaineval.config import Endpoint, ModelConfig
from explaineval.experiment.batches import provider_for
from explaineval.records import Request
from servers.batch_server import BatchServer
from servers.commands import WarmCommands
from servers.shapes import Shape
from servers.tables import Table

TABLE = Table(examples=6, words=3, seed=5)
DISTINCT = 6 * (1 + 3) + 6
POLL = 0.02
STYLES = ("chat", "completion")


def test_answers_by_batches_serve_the_plain_run(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """What a plain run asks, asked by batches into another cache: the run on that cache is served wholly from it."""
    one = bench(TABLE)

    def execute(shape: Shape, body: Mapping[str, Any]) -> dict[str, Any]:
        path = "/chat/completions" if shape == "chat" else "/completions"
        found: dict[str, Any] = httpx.post(one.server.url + path, json=body).json()
        return found

    command = {style: one.options("--style", style, "--json") for style in STYLES}
    for style in STYLES:
        plain = warm.run(*command[style], "--cache", "plain", "--out", f"plain-{style}", cwd=one.directory)
        assert (plain.code, plain.document["requests"]["sent"]) == (0, DISTINCT), plain.stderr
    with open_store(one.directory / "plain") as store:
        misses = [(key, request) for key, request, _ in store.iterate()]
    with BatchServer(answer=execute) as server:
        outcome = ask(server, misses, one.directory / "batched")

    assert (outcome.failed, outcome.stored, len(server.batches)) == ({}, 2 * DISTINCT, 2)
    assert set(server.billed.values()) == {1}
    before = len(one.server.received)
    for style in STYLES:
        again = warm.run(*command[style], "--cache", "batched", "--out", f"batched-{style}", cwd=one.directory)
        assert (again.code, again.document["requests"]["sent"], again.document["requests"]["hits"]) == (0, 0, DISTINCT)
        rows = [json.loads((one.directory / f"{cache}-{style}" / "metrics.json").read_text()) for cache in CACHES]
        assert rows[0] == rows[1]
    assert len(one.server.received) == before


CACHES = ("plain", "batched")


def ask(server: BatchServer, misses: list[tuple[str, Request]], cache: Any) -> BatchOutcome:
    """Everything by batches, into a cache of its own."""
    model = ModelConfig(model="openai/planted", endpoint="lab")

    async def course(store: Store) -> BatchOutcome:
        provider = provider_for(model, Endpoint(f"{server.root}/v1", "lab"), 10.0)
        try:
            return await run_batches(
                provider, store, cache / "batches", "lab", model.model, misses, poll=POLL, stopping=asyncio.Event()
            )
        finally:
            await provider.close()

    with open_store(cache) as store:
        return asyncio.run(course(store))
