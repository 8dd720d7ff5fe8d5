"""The layer that stores an answer before its slot is free again: a crash loses no more than what is on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field

from explaineval.cache import Store, request_key
from explaineval.client.protocols import Client
from explaineval.errors import RequestRejectedError
from explaineval.records import Completion, Request


@dataclass
class StoringClient:
    """Stores every completion, committed to the disk, before it hands it on."""

    inner: Client
    store: Store
    _sent: set[str] = field(default_factory=set, init=False)

    async def complete(self, request: Request) -> Completion:
        """The inner client's completion, stored."""
        key = request_key(request)
        self._sent.add(key)
        try:
            completion = await self.inner.complete(request)
        except RequestRejectedError as exc:
            if not exc.sent:
                self._sent.discard(key)
            raise
        await self.store.put(request, completion)
        self._sent.discard(key)
        return completion

    def was_sent(self, request: Request) -> bool:
        """Whether an attempt for the request was made that brought no answer."""
        return request_key(request) in self._sent
