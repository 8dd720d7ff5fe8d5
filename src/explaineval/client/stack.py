"""Build the layers through which models are asked: cached → retries → concurrency → spending → storing → transport.

This is the only place that puts them together. A transport is a client that sends requests itself; TRANSPORTS names
them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pkgutil import resolve_name
from types import TracebackType
from typing import Self

from explaineval.cache import Claims, Store
from explaineval.client.cached import CachedClient, Deposit, StoredOnlyClient, StoringClient
from explaineval.client.concurrency import Gate, Pace, SlotClient
from explaineval.client.protocol import Client, Transport
from explaineval.client.retries import RetryingClient
from explaineval.client.spending import BillCheck, Budget, BudgetedClient, Gauge, Purse
from explaineval.config import ClientConfig, ModelConfig
from explaineval.cost import Price
from explaineval.errors import EndpointError

TRANSPORTS = {"litellm": "explaineval.client.litellm_client:LiteLLMClient"}
"""The class of each transport, as module:class, so that one that is not used is not imported.

A model whose provider (what stands before the slash in its name) is named here is asked by that transport, every other
model by litellm. The class is called with the endpoints, by their identity in requests, and `timeout`, the seconds that
one attempt may take.
"""
DEFAULT_TRANSPORT = "litellm"


@dataclass(frozen=True)
class Layers:
    """The layers of one model, outermost first, each with its own counters.

    `budgeted` is None where the price is unknown, so that no spending can be limited; `storing` where nothing is kept.
    """

    retrying: RetryingClient
    slots: SlotClient
    budgeted: BudgetedClient | None
    storing: StoringClient | None


class ClientStack:
    """Builds the layers of the models of one run, and holds what these share.

    All models share the transports and the spending limit; models of one endpoint share its concurrency limit and the
    check of its bills. Leaving it as an asynchronous context closes the transports.

    Args:
        config: how endpoints are reached, how often a request is retried, what may be spent.
        models: all models that will be asked.
        stopping: set when the run stops, so that nothing more is sent.
        transport: used instead of those in TRANSPORTS, for all models.
    """

    def __init__(
        self,
        config: ClientConfig,
        models: Iterable[ModelConfig],
        stopping: asyncio.Event,
        *,
        transport: Transport | None = None,
    ) -> None:
        self.config = config
        self.stopping = stopping
        self.budget = Budget(Purse(config.max_usd))
        self.bills: dict[str, BillCheck] = {}
        self._limits: dict[str, Gate] = {}
        self._endpoints = {model.endpoint: config.endpoint_of(model) for model in models}
        self._transport = transport
        self._opened: dict[str, Transport] = {}

    def transport_of(self, model: ModelConfig) -> Transport:
        """The transport of this model, opened when it is first asked for."""
        if self._transport is not None:
            return self._transport
        provider = model.model.partition("/")[0]
        name = provider if provider in TRANSPORTS else DEFAULT_TRANSPORT
        if name not in self._opened:
            connect = resolve_name(TRANSPORTS[name])
            self._opened[name] = connect(self._endpoints, timeout=self.config.timeout)
        return self._opened[name]

    def layers(
        self, model: ModelConfig, price: Price | None, transport: Client, deposit: Deposit | None = None
    ) -> Layers:
        """The layers over `transport` (a transport, or a client around one) that send a model's requests."""
        place = _place(model)
        if place not in self._limits:
            pace = Pace(*self.config.pace_of(model))
            self._limits[place] = Gate(self.config.connections_of(model), self.stopping, pace)
        limit = self._limits[place]
        storing = None if deposit is None else StoringClient(transport, deposit)
        budgeted = self._budgeted(model, price, storing or transport)
        slots = SlotClient(budgeted or storing or transport, limit, self.stopping, self.bills[place])
        retrying = RetryingClient(slots, self.config.max_retries, self.stopping, limit.is_busy)
        return Layers(retrying, slots, budgeted, storing)

    def cached(self, layers: Layers, store: Store, claims: Claims | None) -> CachedClient:
        """The layer that looks into the store first, over the others; offline, over nothing."""
        inner: Client = StoredOnlyClient() if self.config.offline else layers.retrying
        cached = CachedClient(inner, store, self.stopping, claims, older_names=self.config.older_names)
        if layers.storing is not None:
            cached.was_sent, cached.is_on_wire = layers.storing.was_sent, layers.storing.is_on_wire
        return cached

    def sequential(self, model: ModelConfig, price: Price | None, transport: Client) -> Client:
        """The layers for one request at a time: no concurrency limit, and an endpoint's error stops nothing."""
        inner = self._budgeted(model, price, transport) or transport
        return RetryingClient(inner, self.config.max_retries, self.stopping)

    def _budgeted(self, model: ModelConfig, price: Price | None, inner: Client) -> BudgetedClient | None:
        bills = self.bills.setdefault(_place(model), BillCheck(model.endpoint))
        if price is None:
            return None
        return BudgetedClient(inner, Gauge(price), self.budget, Purse(model.max_usd), self.stopping, bills)

    @property
    def billing_fault(self) -> EndpointError | None:
        """The first bill that was higher than its request can cost, if there was one."""
        return next((bills.fault for bills in self.bills.values() if bills.fault is not None), None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for transport in (*self._opened.values(), *([] if self._transport is None else [self._transport])):
            await transport.close()


def _place(model: ModelConfig) -> str:
    """What stands for the endpoint of a model where things are shared: its name or URL, else its provider."""
    return model.endpoint or model.model.partition("/")[0]
