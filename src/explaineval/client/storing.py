"""The layer that stores an answer before its slot is free again: a crash loses no more than what is on the wire."""

from __future__ import annotations

from dataclasses import dataclass

from explaineval.cache import Store
from explaineval.client.protocols import Client
from explaineval.records import Completion, Request


@dataclass
class StoringClient:
    """Stores every completion, committed to the disk, before it hands it on."""

    inner: Client
    store: Store

    async def complete(self, request: Request) -> Completion:
        """The inner client's completion, stored."""
        completion = await self.inner.complete(request)
        await self.store.put(request, completion)
        return completion
