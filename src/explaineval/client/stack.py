"""Build the layers through which models are asked: cached → retries → concurrency → spending → storing → transport.

This is the only place that puts them together. A transport is a client that sends requests itself; TRANSPORTS names
them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from types import TracebackType
from typing import TYPE_CHECKING, Self, get_args

from explaineval.cache import Claims, Store
from explaineval.client.cached import AnswerWriter, CachedClient, StoredOnlyClient, StoringClient
from explaineval.client.concurrency import ConcurrencyLimit, LimitedClient, RateLimit
from explaineval.client.endpoints.routes import check_route
from explaineval.client.protocol import Client, Listener, SharedLimits, SpendingAccount, Transport
from explaineval.client.retries import Availability, ProbeTurns, RetryingClient
from explaineval.client.spending import (
    Budget,
    BudgetedClient,
    CostBound,
    OverbillingCheck,
    SharedBudget,
    SpendingLimit,
)
from explaineval.config import ClientConfig, Endpoint, ModelConfig, TransportName
from explaineval.cost import Price
from explaineval.errors import EndpointError, InputError
from explaineval.records import Completion, Request

if TYPE_CHECKING:
    from explaineval.client.ray_workers import RayWorkers

TRANSPORTS = {
    "litellm": "explaineval.client.litellm_client:LiteLLMClient",
    "direct": "explaineval.client.direct:DirectClient",
    "simulated": "explaineval.client.simulated:SimulatedTransport",
}
"""The class of each transport, as module:class, so that one that is not used is not imported.

Those in GENERAL ask models of any provider; `--transport` chooses between them. Every other asks the models whose
provider (what stands before the slash in a model's name) has its name. The class is called with the endpoints, by their
identity in requests, and `timeout`, the seconds that one attempt may take.
"""
GENERAL: tuple[str, ...] = get_args(TransportName)


class LazyTransport:
    """Opens a transport at the first request, so that a run that sends nothing does not import what would send it.

    Args:
        connect: opens the transport.
        on_open: called before the first request is sent.
    """

    def __init__(self, connect: Callable[[], Transport], on_open: Callable[[], None] = lambda: None) -> None:
        self._connect, self._on_open = connect, on_open
        self._transport: Transport | None = None

    def open(self) -> Transport:
        """Return the transport, opened if it was not yet."""
        if self._transport is None:
            self._transport = self._connect()
            self._on_open()
        return self._transport

    async def complete(self, request: Request) -> Completion:
        """Return the transport's completion."""
        return await self.open().complete(request)


def transport_name(model: str, chosen: TransportName) -> str:
    """The name in TRANSPORTS of the transport that asks a model; `chosen` unless its provider has one of its own."""
    provider = model.partition("/")[0]
    return provider if provider in TRANSPORTS and provider not in GENERAL else chosen


def check_transport(config: ClientConfig, models: Iterable[ModelConfig]) -> None:
    """Check that the chosen transport can ask all these models, before anything is sent. Raises InputError."""
    if config.transport != "direct":
        return
    if config.batch:
        raise InputError("--batch builds its requests through litellm: leave --transport direct out, or --batch.")
    for model in models:
        if transport_name(model.model, config.transport) == config.transport:
            check_route(model.model, config.endpoint_of(model))


def open_transport(name: str, endpoints: Mapping[str | None, Endpoint], timeout: float) -> Transport:
    """Open a transport of TRANSPORTS: `endpoints` by their identity in requests, `timeout` seconds for an attempt."""
    connect: Callable[..., Transport] = resolve_name(TRANSPORTS[name])
    return connect(endpoints, timeout=timeout)


@dataclass(frozen=True)
class Layers:
    """The layers of one model, outermost first, each with its own counters.

    `budgeted` is None where the price is unknown, so that spending cannot be limited.
    """

    retrying: RetryingClient
    limited: LimitedClient
    budgeted: BudgetedClient | None
    storing: StoringClient


class ClientStack:
    """Builds the layers of the models of one run, and holds what these share.

    All models share the transports and the spending limit; models of one endpoint share its concurrency limit and the
    check of its bills. Leaving it as an asynchronous context closes the transports.

    Args:
        config: how endpoints are reached, how often a request is retried, what may be spent.
        models: all models that will be asked.
        stopping: set when the run stops, so that nothing more is sent.
        transports: used instead of those in TRANSPORTS, by the endpoint of the models that they ask.
        shared: limits that hold over several processes, kept to beside the run's own.
        account: books what is spent, and knows what was spent before.
        report: shows a message about workers or endpoints to the user.
    """

    def __init__(
        self,
        config: ClientConfig,
        models: Iterable[ModelConfig],
        stopping: asyncio.Event,
        *,
        transports: Mapping[str | None, Transport] | None = None,
        shared: SharedLimits | None = None,
        account: SpendingAccount | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        models = tuple(models)
        check_transport(config, models)
        self.config = config
        self.stopping = stopping
        self.shared = shared
        self.account = account
        total = SpendingLimit(config.max_usd, 0.0 if account is None else account.spent())
        self.budget = Budget(total) if shared is None else SharedBudget(total, shared)
        self._overbilling: dict[str, OverbillingCheck] = {}
        self._limits: dict[str, ConcurrencyLimit] = {}
        self._availability: dict[str, Availability] = {}
        self._endpoints = {model.endpoint: config.endpoint_of(model) for model in models}
        self._transports = dict(transports or {})
        self._opened: dict[str, Transport] = {}
        self._workers: RayWorkers | None = None
        self.report = report

    def transport_of(self, model: ModelConfig, on_open: Callable[[], None] = lambda: None) -> LazyTransport:
        """Return the transport of this model, which is opened at its first request; `on_open` is called then."""
        given = self._transports.get(model.endpoint)
        return LazyTransport(lambda: given or self._open(transport_name(model.model, self.config.transport)), on_open)

    def _open(self, name: str) -> Transport:
        """Return the transport of this name in TRANSPORTS, which all its models share."""
        if name not in self._opened:
            if self.config.engine == "local":
                self._opened[name] = open_transport(name, self._endpoints, self.config.timeout)
            else:
                self._opened[name] = self._open_on_workers(name)
        return self._opened[name]

    def _open_on_workers(self, name: str) -> Transport:
        """Return a transport of this name whose requests are sent by workers on Ray, which all transports share."""
        from explaineval.client.ray_workers import WORKERS, RayWorkers, WorkerTransport

        if self._workers is None:
            config = self.config
            count = config.workers or WORKERS
            self._workers = RayWorkers(self._endpoints, config.timeout, count, config.ray_address, self.report)
        return WorkerTransport(TRANSPORTS[name], self._workers)

    def layers(
        self,
        model: ModelConfig,
        price: Price | None,
        transport: Client,
        writer: AnswerWriter,
        listener: Listener,
    ) -> Layers:
        """The layers over `transport` (a transport, or a client around one) that send a model's requests."""
        place = place_of(model)
        if place not in self._limits:
            rate = RateLimit(*self.config.pace_of(model))
            ceiling = self.config.connections_of(model)
            limit = self._limits[place] = ConcurrencyLimit(ceiling, self.stopping, rate, place, self.shared)
            self._availability[place] = Availability(
                place,
                self.config.patience,
                self.stopping,
                slots=lambda: limit.adaptive.slots,
                report=self.report,
                turns=self.shared if isinstance(self.shared, ProbeTurns) else None,
            )
            if self.shared is not None and self.shared.has_answered(place):
                self._availability[place].answers = 1
        limit, availability = self._limits[place], self._availability[place]
        storing = StoringClient(transport, writer)
        budgeted = self._budgeted(model, price, storing)
        limited = LimitedClient(
            budgeted or storing, limit, self.stopping, self._overbilling[place], listener, availability
        )
        retrying = RetryingClient(
            limited, self.config.max_retries, self.stopping, limit.is_busy, availability=availability
        )
        return Layers(retrying, limited, budgeted, storing)

    def cached(
        self, layers: Layers, store: Store, claims: Claims | None, listener: Listener, pending: Container[str]
    ) -> CachedClient:
        """The layer that looks into the store first, over the others; offline, over nothing. See `CachedClient`."""
        return CachedClient(
            StoredOnlyClient() if self.config.offline else layers.retrying,
            store,
            self.stopping,
            claims,
            layers.storing,
            listener=listener,
            pending=pending,
            older_names=self.config.older_names,
        )

    def sequential(self, model: ModelConfig, price: Price | None, transport: Client) -> Client:
        """The layers for one request at a time: no concurrency limit, and an endpoint's error stops nothing."""
        inner = self._budgeted(model, price, transport) or transport
        return RetryingClient(inner, self.config.max_retries, self.stopping)

    def _budgeted(self, model: ModelConfig, price: Price | None, inner: Client) -> BudgetedClient | None:
        check = self._overbilling.setdefault(place_of(model), OverbillingCheck(model.endpoint))
        if price is None:
            return None
        earlier = 0.0 if self.account is None else self.account.spent((model.endpoint, model.model))
        own = SpendingLimit(model.max_usd, earlier)
        return BudgetedClient(inner, CostBound(price), self.budget, own, self.stopping, check, self.account)

    @property
    def billing_error(self) -> EndpointError | None:
        """The first bill that was higher than its request can cost, if there was one."""
        return next((check.error for check in self._overbilling.values() if check.error is not None), None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for transport in (*self._opened.values(), *self._transports.values()):
            await transport.close()


def place_of(model: ModelConfig) -> str:
    """What stands for the endpoint of a model where things are shared: its name or URL, else its provider."""
    return model.endpoint or model.model.partition("/")[0]
