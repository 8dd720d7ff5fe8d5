"""Connections and rates of endpoints, which hold over all runs at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from explaineval.client.concurrency import RateLimit
from explaineval.config import ClientConfig, EndpointConfig

CONNECTIONS: int = ClientConfig.model_fields["max_connections"].default


@dataclass
class EndpointTurns:
    """The connections of one endpoint: how many there are, how many are taken, and how long requests waited for one.

    `waited` sums seconds over `taken` requests that got a connection; `waiting` wait now.
    """

    connections: int
    rate: RateLimit
    in_use: int = field(default=0, init=False)
    waiting: int = field(default=0, init=False)
    taken: int = field(default=0, init=False)
    waited: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.connections)

    async def take(self, tokens: int) -> None:
        """Take a connection in the order of asking, when the rates allow a request of about so many tokens."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.waiting += 1
        try:
            await self._free.acquire()
            try:
                delay = self.rate.delay(loop.time(), tokens)
                if delay > 0:
                    await asyncio.sleep(delay)
            except asyncio.CancelledError:
                self._free.release()
                raise
        finally:
            self.waiting -= 1
        self.in_use += 1
        self.taken += 1
        self.waited += loop.time() - start

    def give_back(self) -> None:
        """Give a connection back."""
        self.in_use -= 1
        self._free.release()


class Turns:
    """The connections of all endpoints, by their names; those of other places are not limited here."""

    def __init__(self, endpoints: Mapping[str, EndpointConfig]) -> None:
        self.endpoints = {
            name: EndpointTurns(entry.max_connections or CONNECTIONS, RateLimit(entry.rpm, entry.tpm))
            for name, entry in endpoints.items()
        }
