"""One model of a run: its clients, its progress, its costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

from explaineval.cache import Claims, Store, holds_store, open_store, request_key
from explaineval.client.batches.journal import DIRECTORY, BatchJournal, PendingKeys
from explaineval.client.cached import AnswerWriter, CachedClient, StoredOnlyClient
from explaineval.client.endpoints.capabilities import Capabilities, older_verdicts, stored_probe
from explaineval.client.endpoints.token_limits import LimitNames, Renamed
from explaineval.client.protocol import Client, SharedLimits, SpendingAccount, Transport
from explaineval.client.spending import BudgetedClient
from explaineval.client.stack import ClientStack, Layers, open_transport
from explaineval.config import ClientConfig, Endpoint, ModelConfig, RunConfig, arms_for
from explaineval.digests import NumberSet
from explaineval.errors import EndpointError, InputError
from explaineval.execution.pool import Pool, Progress, StopRequest, run_until_done
from explaineval.execution.readability import ReadabilityCheck
from explaineval.planning.cost import CostEstimate
from explaineval.planning.prepare import Prepared
from explaineval.planning.prices import Ledger, Prices
from explaineval.planning.units import PlanSize
from explaineval.records import EMBEDDED_ENDPOINT, OUTCOMES, Completion, Request, Trial
from explaineval.rundir.schema import UnreadableArm
from explaineval.scoring.live import LiveCounts
from explaineval.text import agreeing, counted

if TYPE_CHECKING:
    from explaineval.client.batches.protocol import BatchProvider
    from explaineval.client.batches.submit import CheckedClient
    from explaineval.client.endpoints.llamacpp import EmbeddedClient

OPENAI_SHAPED = ("openai", "azure")
ANTHROPIC = "anthropic"


def provider_for(
    model: ModelConfig,
    endpoint: Endpoint,
    timeout: float,
    renamed: Renamed | None = None,
) -> BatchProvider:
    """The provider of this model's batches; with a base URL, the batches of that server. `timeout` in seconds.

    `renamed` is shared with the ordinary client (see `DryRunClient`). Raises InputError where there are no batches.
    """
    from explaineval.client.batches.anthropic import AnthropicBatches
    from explaineval.client.batches.openai import OpenAIBatches

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


NO_REQUESTS = PlanSize(0, 0)

UNSENT_SHOWN = 5
"""Unsent requests that are remembered to be shown."""


@dataclass
class ModelRun:
    """One model of a run: its clients, its progress, what its endpoint takes, what it cost."""

    model: ModelConfig
    ledger: Ledger
    estimate: CostEstimate
    layers: Layers
    cached: CachedClient
    pool: Pool
    writer: AnswerWriter
    """All models of a run share it."""
    batches: CheckedClient | None = None
    probe: dict[str, Any] | None = None
    threads: int | None = None
    """Of the embedded model's server; None for other endpoints."""
    capabilities: dict[str, Capabilities] = field(default_factory=dict)
    """How requests are sent, by style."""
    assumed: bool = False
    """Whether some of that is a guess, since nothing is stored about it and nothing was asked."""
    error: EndpointError | None = None
    unsent: list[Request] = field(default_factory=list)
    answers: int = 0
    """Answers that were bought or found."""
    written: int = 0
    """Lines of trials.jsonl that are the model's."""
    labels: int = 0
    """Sides of trials whose answer could be read."""
    readability: ReadabilityCheck = field(init=False)
    """Notices arms whose answers cannot be read."""
    keep_unreadable: bool = False
    """Whether these are asked on."""
    live: LiveCounts = field(default_factory=LiveCounts)
    """The trials so far."""
    size: PlanSize = NO_REQUESTS
    """The requests of the whole plan."""
    ended: bool = False
    """Whether nothing more is asked of the model."""
    address: str | None = None
    hides_address: bool = False
    """Whether users are told the endpoint's name alone."""
    """The base URL of the endpoint, which is stored beside new answers; None for a provider's own, or a simulation."""
    messages: list[str] = field(default_factory=list)
    """What is to be told while the run goes on."""

    def __post_init__(self) -> None:
        self.readability = ReadabilityCheck(self.model.model, self.keep_unreadable, self.messages.append)

    def count_answer(self, request: Request, completion: Completion, hit: bool) -> None:
        """Count an answer and its cost: what was sent alone at its own price, all else at the ledger's."""
        self.answers += 1
        alone = not hit and self.budgeted is not None and request_key(request) not in self.cached.bought
        self.ledger.add(completion, hit=hit, price=self.budgeted.bound.price if alone and self.budgeted else None)
        self.estimate.lengths.add(request, completion)

    def count_trial(self, trial: Trial) -> None:
        """Count a trial."""
        self.live.add(trial)
        self.labels += (trial.label_before is not None) + (trial.label_after is not None)

    def release(self) -> None:
        """Give back the memory that only asking needs: which requests were seen, and the tables of phi-CCT so far."""
        self.cached.counts.seen = NumberSet()
        self.live.tables.clear()

    def count_unsent(self, request: Request) -> None:
        """Count a request that was not sent."""
        self.estimate.add_missing(request)
        if len(self.unsent) < UNSENT_SHOWN:
            self.unsent.append(request)

    @property
    def statuses(self) -> Counter[str]:
        """Trials by their status."""
        return self.live.statuses

    @property
    def progress(self) -> Progress:
        """How far its pool is."""
        return self.pool.progress

    @property
    def withheld(self) -> int:
        """The requests that were not sent since the model's answers cannot be read there."""
        return self.cached.counts.withheld + self.progress.withheld

    @property
    def unreadable_arms(self) -> tuple[UnreadableArm, ...]:
        """The arms of which too much cannot be read; they were stopped only where something was left out."""
        found = self.readability.findings
        return found if self.withheld else tuple(arm.model_copy(update={"stopped": False}) for arm in found)

    @property
    def stops(self) -> list[str]:
        """The sentences on arms that were asked no further, since the answers cannot be read."""
        return [self.readability.note(arm).text for arm in self.unreadable_arms if arm.stopped]

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

    @property
    def budgeted(self) -> BudgetedClient | None:
        """The layer that holds the spending limit; None where the price is not known."""
        return self.layers.budgeted

    @property
    def billing_error(self) -> EndpointError | None:
        """Which bill of the endpoint was higher than its request can cost, if one was."""
        return None if self.budgeted is None else self.budgeted.overbilling.error

    @property
    def out_of_money(self) -> bool:
        """Whether the spending limit turned a request away."""
        return self.budgeted is not None and self.budgeted.refused > 0

    async def set_error(self, client: ClientConfig, raised: EndpointError | None = None) -> None:
        """Set `error`, unless there is one, to why the endpoint cannot be used any more, where that is so.

        An error that says that the model is not known names those that the endpoint serves.
        """
        error = raised or self.billing_error or self.layers.limited.down or self.layers.limited.availability.error
        if self.error is None and error is not None:
            from explaineval.client.endpoints.model_list import name_served_models

            self.error = await name_served_models(error, client.endpoint_of(self.model))


Watch = Callable[[list[ModelRun]], None]
"""Called now and then to show progress."""


def open_cache(
    client: ClientConfig, stack: ExitStack, models: Iterable[ModelConfig] = ()
) -> tuple[Store, Claims | None]:
    """The store, and this process's claims on it; offline nothing is written, so nothing is claimed."""
    store, claims = _open_cache(client, stack)
    store.addresses = client.addresses
    store.older_verdicts = older_verdicts(client, models)
    return store, claims


def _open_cache(client: ClientConfig, stack: ExitStack) -> tuple[Store, Claims | None]:
    if not client.offline:
        store = stack.enter_context(open_store(client.cache))
        return store, stack.enter_context(Claims(store.directory))
    if not holds_store(client.cache):  # then every answer is missing, and the list of them says so
        return stack.enter_context(open_store(Path(stack.enter_context(TemporaryDirectory())))), None
    return stack.enter_context(open_store(client.cache, readonly=True)), None


def build_model_runs(
    prepared: Prepared,
    store: Store,
    claims: Claims | None,
    prices: Prices,
    stopping: asyncio.Event,
    stack: AsyncExitStack,
    embedded: Path | None,
    shared: SharedLimits | None = None,
    account: SpendingAccount | None = None,
) -> list[ModelRun]:
    """Build the run of each model; whatever must be closed is given to the stack.

    `embedded` are the weights of the model that is served by a child process: the one at an endpoint `embedded:…`.
    `shared` are limits that other processes keep to as well, `account` books what is spent.
    """
    config, client = prepared.config, prepared.client
    served: dict[str | None, EmbeddedClient] = {}
    if embedded is not None and not client.offline:
        from explaineval.client.endpoints.llamacpp import EmbeddedClient

        served = {
            model.endpoint: EmbeddedClient(
                model.endpoint,
                embedded,
                slots=client.connections_of(model) * count_beginnings(config, model),
                connect=partial(open_transport, client.transport, timeout=client.timeout),
            )
            for model in config.models
            if model.endpoint is not None and model.endpoint.startswith(EMBEDDED_ENDPOINT)
        }
    clients = ClientStack(client, config.models, stopping, transports=served, shared=shared, account=account)
    stack.push_async_exit(clients)
    writer = AnswerWriter(store, stopping, None if shared is None else shared.note_full)
    model_runs: list[ModelRun] = []
    noted: set[str] = set()
    for model in config.models:
        sender: Client = StoredOnlyClient()
        messages: list[str] = []
        batches = pending = None
        if not client.offline:
            unpriced = prices.singly[model.endpoint, model.model] is None

            def opened(model: ModelConfig = model, messages: list[str] = messages, unpriced: bool = unpriced) -> None:
                if unpriced and account is not None:
                    account.mark_unknown(f"no price of {model.model} was known")
                _note_proxy(client, model, messages, noted)

            sender = lazy = clients.transport_of(model, opened)
            journal = BatchJournal(client.cache / DIRECTORY, model.model.partition("/")[0], model.endpoint, model.model)
            pending = PendingKeys(journal)
            if client.batch:
                sender = batches = _check_batches_first(lazy.open(), journal, client, model)
                stack.push_async_callback(batches.provider.close)
        layers = clients.layers(model, prices.singly[model.endpoint, model.model], sender, writer)
        cached = clients.cached(layers, store, claims)
        if pending is not None:
            cached.pending = pending
        probe = stored_probe(store, model.endpoint, model.model)
        asked_at = prices.of_run[model.endpoint, model.model]
        pool = Pool(cached, layers.limited.limit.ceiling, stopping, cached.stored)
        model_run = ModelRun(
            model, Ledger(asked_at), CostEstimate(asked_at), layers, cached, pool, writer, batches, probe,
            served[model.endpoint].threads if model.endpoint in served else None, messages=messages,
            keep_unreadable=client.keep_unreadable,
            address=client.addresses.get(model.endpoint or ""),
            hides_address=shared is not None,
        )  # fmt: skip
        cached.on_answer, cached.on_unsent = model_run.count_answer, model_run.count_unsent
        cached.report, cached.on_wait = model_run.messages.append, pool.hold_up
        cached.is_withheld = layers.limited.is_withheld = pool.is_withheld
        model_runs.append(model_run)
    clients.report = model_runs[0].messages.append
    return model_runs


def count_beginnings(config: RunConfig, model: ModelConfig) -> int:
    """How many beginnings the prompts of a model have, apart from their inputs: one for each arm, and one more for each
    style and number of shots in which the answer is asked for once, for all levels of verbosity (order pe2).
    """
    arms = set(arms_for(config, model))
    return len(arms) + len({(arm.style, arm.shots) for arm in arms if arm.order == "pe2"})


def _check_batches_first(
    transport: Transport, journal: BatchJournal, client: ClientConfig, model: ModelConfig
) -> CheckedClient:
    """Return the client that sends nothing by the transport before the endpoint has taken batches."""
    from explaineval.client.batches.submit import CheckedClient

    renamed = transport.renamed if isinstance(transport, LimitNames) else None
    provider = provider_for(model, client.endpoint_of(model), client.timeout, renamed)
    return CheckedClient(transport, provider, journal.has_batches)


def _note_proxy(client: ClientConfig, model: ModelConfig, messages: list[str], noted: set[str]) -> None:
    """Add to the messages through which proxy the model's endpoint is reached, unless that is among those `noted`."""
    if not getproxies():  # a simulated model needs no HTTP client, which the guard imports
        return
    from explaineval.client.endpoints.guard import proxy_note

    note = proxy_note(client.endpoint_of(model), model.model)
    if note is not None and note not in noted:
        noted.add(note)
        messages.append(note)


async def run_models(
    model_runs: list[ModelRun],
    work: Iterable[Coroutine[Any, Any, None]],
    stopping: asyncio.Event,
    watch: Watch,
    stop: StopRequest | None = None,
) -> bool:
    """Do the work of all models at once, and store every answer under way; whether the user interrupted it.

    `stop` asks for an interruption from another thread. Raises the first error of any work.
    """
    first = model_runs[0]
    gave_up = False

    def cancel() -> None:
        nonlocal gave_up
        gave_up = True
        for model_run in model_runs:
            model_run.cached.cancel()

    async def finish() -> None:
        await asyncio.gather(*(model_run.cached.finish() for model_run in model_runs))
        await first.writer.retry()
        given_up = sum(model_run.cached.counts.given_up for model_run in model_runs)
        if given_up:
            first.messages.append(
                f"{counted(given_up, 'answer')} under way {agreeing(given_up, 'were')} not waited for and may "
                "be charged."
            )
        elif gave_up:
            first.messages.append("no answer was under way, so none was given up.")

    return await run_until_done(
        work,
        stopping,
        cancel=cancel,
        finish=finish,
        say=first.messages.append,
        report=lambda: watch(model_runs),
        stop=stop,
    )
