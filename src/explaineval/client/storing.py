"""The layer that stores an answer before its slot is free again: a crash loses no more than what is on the wire.

Where the store cannot be written (a full disk), the run stops taking work, what was on the wire is kept in memory, and
at the end it is tried once more.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from explaineval.cache import Store, request_key
from explaineval.client.protocols import Client
from explaineval.errors import ExplainevalError, RequestRejectedError, StoreError
from explaineval.records import Completion, Request


@dataclass
class Deposit:
    """Puts answers into the store; `stopping` is set at the first that it does not take, with the `fault`.

    From then on answers are kept in `waiting`, no more than one for each connection, until `put_again`. `late` counts
    those that the store took then.
    """

    store: Store
    stopping: asyncio.Event
    fault: StoreError | None = field(default=None, init=False)
    waiting: list[tuple[Request, Completion]] = field(default_factory=list, init=False)
    late: int = field(default=0, init=False)

    async def put(self, request: Request, completion: Completion) -> None:
        """Store an answer, or keep it."""
        if self.fault is None:
            try:
                await self.store.put(request, completion)
            except StoreError as exc:
                self.fault = self.fault or exc
                self.stopping.set()
            else:
                return
        self.waiting.append((request, completion))

    async def put_again(self) -> None:
        """Store what was kept, as far as the store takes it now."""
        while self.waiting:
            try:
                await self.store.put(*self.waiting[0])
            except StoreError:
                return
            del self.waiting[0]
            self.late += 1

    @property
    def sentence(self) -> str | None:
        """What to say where the store could not be written: why, and what became of the answers under way."""
        if self.fault is None:
            return None
        kept = f" {self.late} answers that were under way were stored at the end." if self.late else ""
        lost = f" {len(self.waiting)} answers that were under way are lost, and asked again." if self.waiting else ""
        return f"{self.fault} Nothing more was sent.{kept}{lost}"


@dataclass
class StoringClient:
    """Stores every completion, committed to the disk, before it hands it on."""

    inner: Client
    deposit: Deposit
    _sent: set[str] = field(default_factory=set, init=False)
    _on_wire: set[str] = field(default_factory=set, init=False)

    async def complete(self, request: Request) -> Completion:
        """The inner client's completion, stored."""
        key = request_key(request)
        self._sent.add(key)
        self._on_wire.add(key)
        try:
            completion = await self.inner.complete(request)
        except asyncio.CancelledError:
            raise
        except RequestRejectedError as exc:
            if not exc.sent:
                self._sent.discard(key)
            self._on_wire.discard(key)
            raise
        except ExplainevalError:
            self._on_wire.discard(key)
            raise
        self._on_wire.discard(key)
        await self.deposit.put(request, completion)
        self._sent.discard(key)
        return completion

    def is_on_wire(self, request: Request) -> bool:
        """Whether an attempt for the request was under way when it was last heard of, so that it may be charged."""
        return request_key(request) in self._on_wire

    def was_sent(self, request: Request) -> bool:
        """Whether an attempt for the request was made that brought no answer."""
        return request_key(request) in self._sent
