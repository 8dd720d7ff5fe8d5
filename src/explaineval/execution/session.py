"""Ask models, for whatever purpose: a run, a judge, a predictor, an editor, or stored requests asked again.

A `ModelSession` is one model as it is asked. `Sessions` are the models that are asked at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Container, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.request import getproxies

from explaineval.cache import Claims, Store, holds_store, open_store
from explaineval.client.batches.journal import DIRECTORY, BatchJournal, PendingKeys
from explaineval.client.cached import AnswerWriter, CacheCounts, CachedClient, StoredOnlyClient
from explaineval.client.endpoints.capabilities import (
    Build,
    Capabilities,
    Sampling,
    assume_capabilities,
    determine_capabilities,
    older_verdicts,
    stored_probe,
)
from explaineval.client.endpoints.routes import LimitNames
from explaineval.client.protocol import Client, Listener, SharedLimits, SpendingAccount, Transport
from explaineval.client.spending import BudgetedClient
from explaineval.client.stack import ClientStack
from explaineval.config import ClientConfig, ModelConfig
from explaineval.errors import EndpointError, RequestRejectedError, RequestUnsentError
from explaineval.execution.pool import Pool, RequestTally, StopRequest, run_until_done
from explaineval.planning.cost import CostEstimate, DistinctCost, Prices
from explaineval.records import Completion, Request, Style
from explaineval.text import agreeing, counted

if TYPE_CHECKING:
    from explaineval.client.batches.client import CheckedClient

UNSENT_SHOWN = 5
"""Unsent requests that are remembered to be shown."""


@contextmanager
def open_cache(client: ClientConfig, models: Iterable[ModelConfig]) -> Iterator[tuple[Store, Claims | None]]:
    """The store, and this process's claims on it; offline nothing is written, so nothing is claimed."""
    if not client.offline:
        with open_store(client.cache) as store, Claims(store.directory) as claims:
            yield _addressed(store, client, models), claims
    elif holds_store(client.cache):
        with open_store(client.cache, readonly=True) as store:
            yield _addressed(store, client, models), None
    else:  # then every answer is missing, and the list of them says so
        with open_empty_cache() as store:
            yield _addressed(store, client, models), None


def _addressed(store: Store, client: ClientConfig, models: Iterable[ModelConfig]) -> Store:
    """The store, which knows where endpoints are and what they were called before."""
    store.addresses = client.addresses
    store.older_verdicts = older_verdicts(client, models)
    return store


@contextmanager
def open_empty_cache() -> Iterator[Store]:
    """A store without answers, which is gone afterwards."""
    with TemporaryDirectory() as directory, open_store(Path(directory)) as store:
        yield store


class Sessions:
    """The models that are asked at the same time: they share the cache, connections, limits and the end.

    Leaving it as an asynchronous context closes the connections.

    Args:
        client: how endpoints are reached, and what may be spent.
        models: all models that will be asked.
        prices: what they cost.
        store: where answers are looked up and stored.
        claims: this process's claims on the store; without them it is no store that others use.
        transports: used instead of the usual ones, by the endpoint of the models that they ask.
        shared: limits on spending and sending that other processes keep to as well.
        account: books what is spent.
    """

    def __init__(
        self,
        client: ClientConfig,
        models: Collection[ModelConfig],
        prices: Prices,
        store: Store,
        claims: Claims | None,
        *,
        transports: Mapping[str | None, Transport] | None = None,
        shared: SharedLimits | None = None,
        account: SpendingAccount | None = None,
    ) -> None:
        self.client, self.prices, self.store, self.claims = client, prices, store, claims
        self.shared, self.account = shared, account
        self.messages: list[str] = []
        """What is to be told of all models; the first one's messages."""
        self.stopping = asyncio.Event()
        self.writer = AnswerWriter(store, self.stopping, None if shared is None else shared.note_full)
        self.clients = ClientStack(
            client,
            models,
            self.stopping,
            transports=transports,
            shared=shared,
            account=account,
            report=self.messages.append,
        )
        self._proxies: set[str] = set()
        messages = [self.messages, *([] for _ in models)]
        self.models = tuple(ModelSession(self, *pair) for pair in zip(models, messages, strict=False))

    async def ask(
        self, work: Iterable[Coroutine[Any, Any, None]], report: Callable[[], None], stop: StopRequest | None = None
    ) -> bool:
        """Do the work of all models at once, and store every answer under way; whether the user interrupted it.

        `report` is called now and then to show progress, `stop` asks for an interruption from another thread. Raises
        the first error of any work.
        """
        gave_up = False

        def cancel() -> None:
            nonlocal gave_up
            gave_up = True
            for session in self.models:
                session.cached.cancel()

        async def finish() -> None:
            await asyncio.gather(*(session.cached.finish() for session in self.models))
            await self.writer.retry()
            given_up = sum(session.counts.given_up for session in self.models)
            if given_up:
                self.messages.append(
                    f"{counted(given_up, 'answer')} under way {agreeing(given_up, 'were')} not waited for and may "
                    "be charged."
                )
            elif gave_up:
                self.messages.append("no answer was under way, so none was given up.")

        return await run_until_done(
            work, self.stopping, cancel=cancel, finish=finish, say=self.messages.append, report=report, stop=stop
        )

    def tell_proxy(self, session: ModelSession) -> None:
        """Say through which proxy a model's endpoint is reached, unless that was said before."""
        if not getproxies():  # a simulated model needs no HTTP client, which the guard imports
            return
        from explaineval.client.endpoints.guard import proxy_note

        note = proxy_note(self.client.endpoint_of(session.model), session.model.model)
        if note is not None and note not in self._proxies:
            self._proxies.add(note)
            session.messages.append(note)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self.models:
            if session.batches is not None:
                await session.batches.provider.close()
        await self.clients.__aexit__(kind, error, trace)


class ModelSession(Listener):
    """One model as it is asked: its clients, its pool, what it cost, and how its endpoint takes requests.

    `messages` is what is to be told while it is asked.
    """

    def __init__(self, sessions: Sessions, model: ModelConfig, messages: list[str]) -> None:
        key = model.endpoint, model.model
        self._sessions, self.model, self.messages = sessions, model, messages
        self.client, self.store, self.writer = sessions.client, sessions.store, sessions.writer
        self.ledger = DistinctCost(sessions.prices.of_run[key])
        self.estimate = CostEstimate(sessions.prices.of_run[key])
        self.capabilities: dict[str, Capabilities] = {}
        """How requests are sent, by style."""
        self.assumed = False
        """Whether some of that is a guess, since nothing is stored about it and nothing was asked."""
        self.probe = stored_probe(self.store, *key)
        self.error: EndpointError | None = None
        """Why the endpoint cannot be used any more, where that is so."""
        self.unsent: list[Request] = []
        self.answers = 0
        """Answers that were bought or found."""
        self.address = self.client.addresses.get(model.endpoint or "")
        """The base URL of the endpoint, which is stored beside new answers; None for a provider's own, or a simulation.
        """
        self.hides_address = sessions.shared is not None
        """Whether users are told the endpoint's name alone."""
        self._unpriced = sessions.prices.singly[key] is None
        self.batches: CheckedClient | None = None
        sender: Client = StoredOnlyClient()
        pending: Container[str] = ()
        if not self.client.offline:
            sender = lazy = sessions.clients.transport_of(model, self._opened)
            if sessions.claims is not None:
                journal = BatchJournal(
                    self.client.cache / DIRECTORY, model.model.partition("/")[0], model.endpoint, model.model
                )
                pending = PendingKeys(journal)
                if self.client.batch:
                    sender = self.batches = self._check_batches_first(lazy.open(), journal)
        price = sessions.prices.singly[key]
        self.layers = sessions.clients.layers(model, price, sender, self.writer, self)
        self.cached: CachedClient = sessions.clients.cached(self.layers, self.store, sessions.claims, self, pending)
        self.pool = Pool(self.cached, self.layers.limited.limit.ceiling, sessions.stopping, self.cached.stored)

    async def settle(self, sampling: Sampling, style: Style, builds: Sequence[Build]) -> None:
        """Find out how one style is sent, by the first of the requests; where that very text is rejected, by a later.

        Where nothing may be sent (offline, no money, stopping) it is assumed. Raises EndpointError where the endpoint
        cannot be used, or rejects all of them.
        """
        keep = not self.client.offline
        for build in builds:
            try:
                capabilities = await determine_capabilities(self.cached, self.store, sampling, style, build, keep=keep)
            except RequestUnsentError:
                capabilities, known = assume_capabilities(self.store, sampling, self.model, style)
                self.assumed = self.assumed or not known
            except EndpointError as exc:
                if not isinstance(exc.__cause__, RequestRejectedError) or build is builds[-1]:
                    raise
                continue
            self.capabilities[style] = capabilities
            return

    def end_sending(self, unanswered: Client, bought: Collection[str]) -> None:
        """Send nothing from here on, and read to the end what is stored; `bought` was put there by batches.

        `unanswered` raises for every other request why it has no answer.
        """
        self.cached.inner, self.cached.bought = unanswered, bought
        self.pool.stopping = asyncio.Event()

    async def set_error(self, raised: EndpointError | None = None) -> None:
        """Set `error`, unless there is one, to why the endpoint cannot be used any more, where that is so.

        An error that says that the model is not known names those that the endpoint serves.
        """
        error = raised or self.billing_error or self.layers.limited.down or self.layers.limited.availability.error
        if self.error is None and error is not None:
            from explaineval.client.endpoints.probe import name_served_models

            self.error = await name_served_models(error, self.client.endpoint_of(self.model))

    @property
    def counts(self) -> CacheCounts:
        """How many distinct requests were answered, sent and not sent."""
        return self.cached.counts

    @property
    def progress(self) -> RequestTally:
        """How far its pool is."""
        return self.pool.progress

    @property
    def not_sent(self) -> int:
        """The distinct requests that were not sent."""
        return self.counts.unsent + self.progress.unsent

    @property
    def failed(self) -> int:
        """The requests that failed after all retries."""
        return self.progress.outcomes["failed"]

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

    def on_answer(self, request: Request, key: str, completion: Completion, *, hit: bool) -> None:
        """Count an answer and its cost: what was sent alone at its own price, all else at the ledger's."""
        self.answers += 1
        alone = not hit and self.budgeted is not None and key not in self.cached.bought
        self.ledger.add(completion, hit=hit, price=self.budgeted.bound.price if alone and self.budgeted else None)
        self.estimate.lengths.add(request, completion)

    def on_unsent(self, request: Request) -> None:
        """Remember what is not asked, and what it would cost."""
        self.estimate.add_missing(request)
        if len(self.unsent) < UNSENT_SHOWN:
            self.unsent.append(request)

    def on_wait(self, change: int) -> None:
        """Let other requests be asked while some wait for another process."""
        self.pool.hold_up(change)

    def is_withheld(self, request: Request) -> bool:
        """Return whether nobody wants the answer any more."""
        return self.pool.is_withheld(request)

    def report(self, message: str) -> None:
        """Show a message beside the others on this model."""
        self.messages.append(message)

    def _opened(self) -> None:
        """Note, before the first request is sent, what its price leaves unknown and which proxy it goes through."""
        if self._unpriced and self._sessions.account is not None:
            self._sessions.account.mark_unknown(f"no price of {self.model.model} was known")
        self._sessions.tell_proxy(self)

    def _check_batches_first(self, transport: Transport, journal: BatchJournal) -> CheckedClient:
        """Return the client that sends nothing by the transport before the endpoint has taken batches."""

        from explaineval.client.batches.client import BatchClient, CheckedClient

        renamed = transport.renamed if isinstance(transport, LimitNames) else None
        endpoint = self.client.endpoint_of(self.model)
        provider = BatchClient(endpoint, self.model.model, timeout=self.client.timeout, renamed=renamed)
        return CheckedClient(transport, provider, journal)
