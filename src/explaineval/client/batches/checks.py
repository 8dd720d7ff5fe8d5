"""Whether an endpoint takes batches at all, found out before the first request is paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from explaineval.client.batches.protocols import BatchProvider
from explaineval.client.protocols import Client
from explaineval.records import Completion, Request


@dataclass
class CheckedClient:
    """Sends nothing before the endpoint has shown that it takes batches, once for all requests.

    `known` says whether it took one before; then nothing is asked.
    """

    inner: Client
    provider: BatchProvider
    known: Callable[[], bool]
    _sure: bool = field(default=False, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def check(self) -> None:
        """Raises EndpointError where no batches are taken, or where that cannot be told."""
        async with self._turn:
            if not self._sure and not self.known():
                await self.provider.check()
            self._sure = True

    async def complete(self, request: Request) -> Completion:
        """The inner client's completion, after the check."""
        await self.check()
        return await self.inner.complete(request)
