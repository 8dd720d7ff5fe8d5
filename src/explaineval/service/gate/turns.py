"""Connections and rates of endpoints, which hold over all runs at once, and the rates that a run has of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from explaineval.client.concurrency import RateLimit
from explaineval.config import ClientConfig, EndpointConfig
from explaineval.service.gate.outages import Outages

CONNECTIONS: int = ClientConfig.model_fields["max_connections"].default


@dataclass
class RateQueue:
    """Lets requests begin one after the other, as a rate allows, in the order of asking.

    A request that is given up takes no time from those behind it.
    """

    rate: RateLimit
    _order: dict[int, str] = field(default_factory=dict, init=False)
    """The run of each request that waits, in their order."""
    _numbers: Iterator[int] = field(default_factory=count, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def begin(self, run: str, tokens: int) -> None:
        """Wait until a request of a run may begin that takes about so many tokens."""
        if self.rate.rpm is None and self.rate.tpm is None:
            return
        loop = asyncio.get_running_loop()
        number = next(self._numbers)
        self._order[number] = run
        try:
            async with self._turn:
                while (wait := self.rate.wait(loop.time())) > 0:  # noqa: ASYNC110 - only time has to pass
                    await asyncio.sleep(wait)
                self.rate.delay(loop.time(), tokens)
        finally:
            del self._order[number]

    def due(self, run: str, now: float) -> float:
        """Return the seconds until the first request of a run that waits may begin; 0 where none waits."""
        before = next((place for place, other in enumerate(self._order.values()) if other == run), None)
        if before is None:
            return 0.0
        return self.rate.wait(now) + (before * 60.0 / self.rate.rpm if self.rate.rpm is not None else 0.0)


@dataclass
class EndpointTurns:
    """The connections of one endpoint: how many there are, how many are taken, and how long requests waited for one.

    `waited` sums seconds over `taken` requests that got a connection; `waiting` wait now.
    """

    connections: int
    pace: RateQueue
    in_use: int = field(default=0, init=False)
    waiting: int = field(default=0, init=False)
    taken: int = field(default=0, init=False)
    waited: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._free = asyncio.Semaphore(self.connections)

    async def take(self, tokens: int, run: str = "", own: RateQueue | None = None) -> None:
        """Take a connection for a run in the order of asking, when the rates allow a request of about so many tokens.

        `own` is the pace of the run itself, which is waited for first, without a connection.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        self.waiting += 1
        try:
            if own is not None:
                await own.begin(run, tokens)
            await self._free.acquire()
            try:
                await self.pace.begin(run, tokens)
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
    """The connections of all endpoints, by their names, and which of them do not answer.

    Other places, such as simulated models, are not limited here.
    """

    def __init__(self, endpoints: Mapping[str, EndpointConfig], outages: Outages | None = None) -> None:
        self.endpoints = {
            name: EndpointTurns(entry.max_connections or CONNECTIONS, RateQueue(RateLimit(entry.rpm, entry.tpm)))
            for name, entry in endpoints.items()
        }
        self.outages = Outages() if outages is None else outages
