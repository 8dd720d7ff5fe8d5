"""The outermost layer: every distinct request is paid for at most once, here or in an earlier run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from explaineval.cache import Store, request_key
from explaineval.client.protocols import Client
from explaineval.errors import RequestFailedError, RequestRejectedError, RequestUnsentError
from explaineval.records import Completion, Request


@dataclass
class Tally:
    """Counts of distinct keys by where their answers came from: the store, the wire (answered or not), nowhere."""

    hits: int = 0
    sent: int = 0
    unsent: int = 0
    seen: set[int] = field(default_factory=set, repr=False)


@dataclass
class CachedClient:
    """Looks into the store first; asks each key once however many wait for it.

    `book(completion, hit=...)` is told of every distinct answer, bought or found.
    """

    inner: Client
    store: Store
    tally: Tally = field(default_factory=Tally)
    book: Callable[..., None] | None = None
    _flying: dict[str, asyncio.Task[Completion]] = field(default_factory=dict, init=False)

    async def complete(self, request: Request) -> Completion:
        """The stored completion, or the one that is under way, or a new one, stored first."""
        key = request_key(request)
        short = int(key[:16], 16)
        new = short not in self.tally.seen
        self.tally.seen.add(short)
        flying = self._flying.get(key)
        if flying is None:
            stored = self.store.get(key)
            if stored is not None:
                self.tally.hits += new
                if new and self.book is not None:
                    self.book(stored, hit=True)
                return stored
            flying = asyncio.create_task(self._fetch(request))
            self._flying[key] = flying
            flying.add_done_callback(lambda _: self._flying.pop(key, None))
        # shielded: a waiter that is cancelled must not cancel an answer that is being paid for
        return await asyncio.shield(flying)

    async def finish(self) -> None:
        """Wait for everything under way; failures were or will be told to their waiters."""
        if self._flying:
            await asyncio.gather(*self._flying.values(), return_exceptions=True)

    def cancel(self) -> None:
        """Give up on everything under way."""
        for task in self._flying.values():
            task.cancel()

    async def _fetch(self, request: Request) -> Completion:
        try:
            completion = await self.inner.complete(request)
        except RequestUnsentError:
            self.tally.unsent += 1
            raise
        except RequestFailedError as exc:
            self.tally.sent += not (isinstance(exc, RequestRejectedError) and not exc.sent)
            raise
        self.tally.sent += 1
        if self.book is not None:
            self.book(completion, hit=False)
        return completion
