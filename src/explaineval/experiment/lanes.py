"""One lane a model: the layers of its client, its progress, its books."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from explaineval.cache import Claims, Store, request_key
from explaineval.client import (
    Budget,
    BudgetedClient,
    CachedClient,
    Capabilities,
    Client,
    EmbeddedClient,
    Gate,
    Gauge,
    LiteLLMClient,
    Pace,
    Purse,
    RetryingClient,
    SlotClient,
    StoredOnlyClient,
    StoringClient,
    proxy_note,
    stored_probe,
)
from explaineval.config import ModelConfig
from explaineval.errors import EndpointError
from explaineval.experiment.execution import Progress
from explaineval.experiment.forecasts import Forecast
from explaineval.experiment.ledgers import Ledger, Prices
from explaineval.experiment.preparations import Prepared
from explaineval.records import Completion, Request

SHOWN = 5
"""Unsent requests that are remembered to be shown."""


@dataclass
class Lane:
    """One model of the run on its way: its clients, its progress, what its endpoint takes, what it cost."""

    model: ModelConfig
    ledger: Ledger
    forecast: Forecast
    slots: SlotClient
    retrying: RetryingClient
    cached: CachedClient
    budgeted: BudgetedClient | None
    probe: dict[str, Any] | None = None
    progress: Progress = field(default_factory=Progress)
    able: dict[str, Capabilities] = field(default_factory=dict)
    assumed: bool = False
    fault: EndpointError | None = None
    unsent: list[Request] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    """What is to be told while the run goes on."""

    def book(self, request: Request, completion: Completion, hit: bool) -> None:
        """Enter an answer into the books: what went over the wire at its own price, all else at the ledger's."""
        singly = not hit and self.budgeted is not None and request_key(request) not in self.cached.bought
        self.ledger.add(completion, hit=hit, price=self.budgeted.gauge.price if singly and self.budgeted else None)
        self.forecast.lengths.see(request, completion)

    def miss(self, request: Request) -> None:
        """Enter a request that was not sent."""
        self.forecast.miss(request)
        if len(self.unsent) < SHOWN:
            self.unsent.append(request)

    @property
    def out_of_money(self) -> bool:
        """Whether the spending limit turned a request away."""
        return self.budgeted is not None and self.budgeted.refused > 0


def build_lanes(
    prepared: Prepared,
    store: Store,
    claims: Claims | None,
    prices: Prices,
    stopping: asyncio.Event,
    stack: AsyncExitStack,
    embedded: Path | None,
) -> list[Lane]:
    """A lane for every model; whatever must be closed is given to the stack.

    Models of one endpoint share its gate; all of them share one budget.
    """
    config, client = prepared.config, prepared.client
    wire = LiteLLMClient({model.endpoint: client.endpoint_of(model) for model in config.models}, timeout=client.timeout)
    stack.push_async_callback(wire.close)
    gates: dict[str, Gate] = {}
    budget = Budget(Purse(client.max_usd))
    lanes: list[Lane] = []
    for model in config.models:
        sender: Client = wire
        if embedded is not None:
            embedding = EmbeddedClient(wire, str(model.endpoint), embedded, client.connections_of(model))
            stack.push_async_callback(embedding.close)
            sender = embedding
        gate = gates.setdefault(
            model.endpoint or model.model.partition("/")[0],
            Gate(client.connections_of(model), stopping, Pace(*client.pace_of(model))),
        )
        price = prices.singly[model.endpoint, model.model]
        inner: Client = StoringClient(sender, store)
        budgeted = None
        if price is not None:
            inner = budgeted = BudgetedClient(inner, Gauge(price), budget, Purse(model.max_usd), stopping)
        slots = SlotClient(inner, gate, stopping)
        retrying = RetryingClient(slots, client.max_retries, stopping, gate.is_busy)
        outer: Client = StoredOnlyClient() if client.offline else retrying
        cached = CachedClient(outer, store, stopping, claims, older_names=client.older_names)
        probe = stored_probe(store, model.endpoint, model.model)
        asked_at = prices.of_run[model.endpoint, model.model]
        lane = Lane(model, Ledger(asked_at), Forecast(asked_at), slots, retrying, cached, budgeted, probe)
        cached.book, cached.miss = lane.book, lane.miss
        note = None if client.offline else proxy_note(client.endpoint_of(model), model.model)
        if note is not None and not any(note in other.messages for other in lanes):
            lane.messages.append(note)
        lanes.append(lane)
    return lanes
