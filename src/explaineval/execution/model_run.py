"""One model of a run: the layers of its client, its progress, its costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explaineval.cache import Claims, Store, request_key
from explaineval.client import (
    BillCheck,
    Budget,
    BudgetedClient,
    CachedClient,
    Capabilities,
    Client,
    Deposit,
    Gate,
    Gauge,
    Pace,
    Purse,
    RetryingClient,
    SlotClient,
    StoredOnlyClient,
    StoringClient,
    stored_probe,
)
from explaineval.config import Endpoint, ModelConfig
from explaineval.errors import EndpointError, InputError
from explaineval.execution.pool import Progress
from explaineval.planning.cost import Forecast
from explaineval.planning.prepare import Prepared
from explaineval.planning.prices import Ledger, Prices
from explaineval.records import OUTCOMES, Completion, Request, Trial

if TYPE_CHECKING:
    from explaineval.client.batches import BatchProvider, CheckedClient

OPENAI_SHAPED = ("openai", "azure")
ANTHROPIC = "anthropic"


def provider_for(
    model: ModelConfig,
    endpoint: Endpoint,
    timeout: float,
    renamed: set[tuple[str | None, str]] | None = None,
) -> BatchProvider:
    """The provider of this model's batches; with a base URL, the batches of that server. `timeout` in seconds.

    `renamed` is shared with the ordinary client (see `Rehearsal`). Raises InputError where there are no batches.
    """
    from explaineval.client.batches import AnthropicBatches, OpenAIBatches

    check_batches(model, endpoint)
    if model.model.partition("/")[0] == ANTHROPIC:
        return AnthropicBatches(endpoint, model.model, timeout=timeout)
    return OpenAIBatches(endpoint, model.model, timeout=timeout, renamed=renamed)


def check_batches(model: ModelConfig, endpoint: Endpoint) -> None:
    """Raises InputError where this model cannot be asked by batches."""
    provider = model.model.partition("/")[0]
    if provider == "azure" and endpoint.base_url is None:
        raise InputError(f"{model.model}: Azure has no common address; give your resource's by --base-url.")
    if provider not in (*OPENAI_SHAPED, ANTHROPIC):
        raise InputError(
            f"{model.model} cannot be asked by batches, which only openai/, azure/ and anthropic/ models have; leave "
            "out --batch."
        )


SHOWN = 5
"""Unsent requests that are remembered to be shown."""


@dataclass
class ModelRun:
    """One model of the run on its way: its clients, its progress, what its endpoint takes, what it cost."""

    model: ModelConfig
    ledger: Ledger
    forecast: Forecast
    slots: SlotClient
    retrying: RetryingClient
    cached: CachedClient
    budgeted: BudgetedClient | None
    deposit: Deposit
    batches: CheckedClient | None = None
    probe: dict[str, Any] | None = None
    progress: Progress = field(default_factory=Progress)
    able: dict[str, Capabilities] = field(default_factory=dict)
    assumed: bool = False
    fault: EndpointError | None = None
    unsent: list[Request] = field(default_factory=list)
    answers: int = 0
    """Answers that were bought or found."""
    labels: int = 0
    """Sides of trials whose answer could be read."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Trials by their status."""
    messages: list[str] = field(default_factory=list)
    """What is to be told while the run goes on."""

    def book(self, request: Request, completion: Completion, hit: bool) -> None:
        """Enter an answer into the books: what went over the wire at its own price, all else at the ledger's."""
        self.answers += 1
        singly = not hit and self.budgeted is not None and request_key(request) not in self.cached.bought
        self.ledger.add(completion, hit=hit, price=self.budgeted.gauge.price if singly and self.budgeted else None)
        self.forecast.lengths.see(request, completion)

    def read(self, trial: Trial) -> None:
        """Count a trial."""
        self.statuses[trial.status] += 1
        self.labels += (trial.label_before is not None) + (trial.label_after is not None)

    @property
    def unreadable(self) -> str | None:
        """The sentence for a model of which there are answers, but not one that could be read; else None."""
        if self.labels or not any(self.statuses[name] for name in OUTCOMES if name != "failed"):
            return None
        reasons = ", ".join(f"{count} {name}" for name, count in self.statuses.most_common() if name in OUTCOMES)
        return (
            f"{self.model.model}: not one answer could be read (trials: {reasons}), so none of its numbers is defined. "
            "Look at an answer with `explaineval show RUN_DIR --example ID --answers`; --shots 4 or --style completion "
            "may help a model that does not keep the answer's form, --max-tokens one that is cut off."
        )

    def miss(self, request: Request) -> None:
        """Enter a request that was not sent."""
        self.forecast.miss(request)
        if len(self.unsent) < SHOWN:
            self.unsent.append(request)

    @property
    def billing_fault(self) -> EndpointError | None:
        """Which bill of the endpoint was higher than its request can cost, if one was."""
        return None if self.budgeted is None else self.budgeted.bills.fault

    @property
    def out_of_money(self) -> bool:
        """Whether the spending limit turned a request away."""
        return self.budgeted is not None and self.budgeted.refused > 0


def build_model_runs(
    prepared: Prepared,
    store: Store,
    claims: Claims | None,
    prices: Prices,
    stopping: asyncio.Event,
    stack: AsyncExitStack,
    embedded: Path | None,
) -> list[ModelRun]:
    """The model runs of all models; whatever must be closed is given to the stack.

    Models of one endpoint share its gate; all of them share one budget.
    """
    config, client = prepared.config, prepared.client
    wire = None
    if not client.offline:  # what sends is not even imported where nothing is sent
        from explaineval.client import EmbeddedClient, LiteLLMClient, proxy_note
        from explaineval.client.batches import DIRECTORY, CheckedClient, PendingKeys, Shelf

        endpoints = {model.endpoint: client.endpoint_of(model) for model in config.models}
        wire = LiteLLMClient(endpoints, timeout=client.timeout)
        stack.push_async_callback(wire.close)
    gates: dict[str, Gate] = {}
    bills: dict[str, BillCheck] = {}
    deposit = Deposit(store, stopping)
    budget = Budget(Purse(client.max_usd))
    model_runs: list[ModelRun] = []
    for model in config.models:
        sender: Client = wire or StoredOnlyClient()
        if embedded is not None and wire is not None:
            embedding = EmbeddedClient(wire, str(model.endpoint), embedded, client.connections_of(model))
            stack.push_async_callback(embedding.close)
            sender = embedding
        place = model.endpoint or model.model.partition("/")[0]
        gate = gates.setdefault(
            place,
            Gate(client.connections_of(model), stopping, Pace(*client.pace_of(model))),
        )
        price = prices.singly[model.endpoint, model.model]
        checked = bills.setdefault(place, BillCheck(model.endpoint))
        batches = pending = None
        if wire is not None:
            shelf = Shelf(client.cache / DIRECTORY, model.model.partition("/")[0], model.endpoint, model.model)
            pending = PendingKeys(shelf)
            if client.batch:
                provider = provider_for(model, client.endpoint_of(model), client.timeout, wire.renamed)
                stack.push_async_callback(provider.close)
                sender = batches = CheckedClient(sender, provider, shelf.has_batches)
        wired = StoringClient(sender, deposit)
        inner: Client = wired
        budgeted = None
        if price is not None:
            inner = budgeted = BudgetedClient(inner, Gauge(price), budget, Purse(model.max_usd), stopping, checked)
        slots = SlotClient(inner, gate, stopping, checked)
        retrying = RetryingClient(slots, client.max_retries, stopping, gate.is_busy)
        outer: Client = StoredOnlyClient() if client.offline else retrying
        cached = CachedClient(outer, store, stopping, claims, older_names=client.older_names)
        if pending is not None:
            cached.pending = pending
        probe = stored_probe(store, model.endpoint, model.model)
        asked_at = prices.of_run[model.endpoint, model.model]
        model_run = ModelRun(
            model, Ledger(asked_at), Forecast(asked_at), slots, retrying, cached, budgeted, deposit, batches, probe
        )
        cached.book, cached.miss, cached.was_sent = model_run.book, model_run.miss, wired.was_sent
        cached.is_on_wire, cached.tell = wired.is_on_wire, model_run.messages.append
        note = None if wire is None else proxy_note(client.endpoint_of(model), model.model)
        if note is not None and not any(note in other.messages for other in model_runs):
            model_run.messages.append(note)
        model_runs.append(model_run)
    return model_runs
