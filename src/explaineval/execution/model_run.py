"""One model of a run: the layers of its client, its progress, its costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explaineval.cache import Claims, Store, request_key
from explaineval.client.cached import AnswerWriter, CachedClient, StoredOnlyClient
from explaineval.client.concurrency import LimitedClient
from explaineval.client.endpoints.capabilities import Capabilities, stored_probe
from explaineval.client.protocol import Client
from explaineval.client.retries import RetryingClient
from explaineval.client.spending import BudgetedClient
from explaineval.client.stack import ClientStack
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

    `renamed` is shared with the ordinary client (see `DryRunClient`). Raises InputError where there are no batches.
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
    limited: LimitedClient
    retrying: RetryingClient
    cached: CachedClient
    budgeted: BudgetedClient | None
    writer: AnswerWriter
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
        self.ledger.add(completion, hit=hit, price=self.budgeted.bound.price if singly and self.budgeted else None)
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
        return None if self.budgeted is None else self.budgeted.overbilling.error

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

    Models of one endpoint share its concurrency limit; all of them share one budget.
    """
    config, client = prepared.config, prepared.client
    transport = None
    if not client.offline:  # what sends is not even imported where nothing is sent
        from explaineval.client.batches import DIRECTORY, BatchJournal, CheckedClient, PendingKeys
        from explaineval.client.endpoints.guard import proxy_note
        from explaineval.client.endpoints.llamacpp import EmbeddedClient
        from explaineval.client.litellm_client import LiteLLMClient

        if embedded is not None:
            name, slots = str(config.models[0].endpoint), client.connections_of(config.models[0])
            transport = EmbeddedClient(name, embedded, slots=slots, timeout=client.timeout)
    clients = ClientStack(client, config.models, stopping, transport=transport)
    stack.push_async_exit(clients)
    writer = AnswerWriter(store, stopping)
    model_runs: list[ModelRun] = []
    for model in config.models:
        sender: Client = StoredOnlyClient()
        batches = pending = None
        if not client.offline:
            sender = clients.transport_of(model)
            journal = BatchJournal(client.cache / DIRECTORY, model.model.partition("/")[0], model.endpoint, model.model)
            pending = PendingKeys(journal)
            if client.batch:
                renamed = sender.renamed if isinstance(sender, LiteLLMClient) else None
                provider = provider_for(model, client.endpoint_of(model), client.timeout, renamed)
                stack.push_async_callback(provider.close)
                sender = batches = CheckedClient(sender, provider, journal.has_batches)
        layers = clients.layers(model, prices.singly[model.endpoint, model.model], sender, writer)
        cached = clients.cached(layers, store, claims)
        if pending is not None:
            cached.pending = pending
        probe = stored_probe(store, model.endpoint, model.model)
        asked_at = prices.of_run[model.endpoint, model.model]
        model_run = ModelRun(
            model, Ledger(asked_at), Forecast(asked_at), layers.limited, layers.retrying, cached, layers.budgeted,
            writer, batches, probe,
        )  # fmt: skip
        cached.on_answer, cached.on_unsent = model_run.book, model_run.miss
        cached.report = model_run.messages.append
        note = None if client.offline else proxy_note(client.endpoint_of(model), model.model)
        if note is not None and not any(note in other.messages for other in model_runs):
            model_run.messages.append(note)
        model_runs.append(model_run)
    return model_runs
