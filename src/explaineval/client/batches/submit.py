"""From requests to batches: prepared as the ordinary route would send them, recorded on the disk, submitted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from explaineval.cache import Claims, Store
from explaineval.client.batches.journal import Books, Ledger, Shelf
from explaineval.client.batches.protocol import BatchFailure, BatchProvider, Item, Trace
from explaineval.client.protocol import Client
from explaineval.errors import EndpointError, RequestFailedError, RequestRejectedError, TransientError
from explaineval.records import Completion, Request

ENDED = ("ended", "expired", "cancelled")


@dataclass(frozen=True)
class Sighting:
    """`batch` is the one looked for. `undecided`: one that may be it is not ended, and only its results can tell."""

    batch: str | None = None
    undecided: bool = False


async def look_for(provider: BatchProvider, shelf: Shelf, ledger: Ledger) -> Sighting:
    """One look into the provider's list. Raises TransientError, EndpointError."""
    trace = Trace(ledger.tag, ledger.uploaded, ledger.count, ledger.created, shelf.batches())
    undecided = False
    for found in await provider.find(trace):
        if found.sure:
            return Sighting(found.batch)
        if found.progress not in ENDED:
            undecided = True
        elif await _is_ours(provider, shelf, ledger, found.batch):
            return Sighting(found.batch)
    return Sighting(undecided=undecided)


async def _is_ours(provider: BatchProvider, shelf: Shelf, ledger: Ledger, batch: str) -> bool:
    """Whether the first readable result is of one of the ledger's requests."""
    lines = cast("Any", provider.results(batch))  # a generator, whose connection must be closed
    with shelf.requests(ledger) as requests:
        async with aclosing(lines):
            async for line in lines:
                if line.key is not None:
                    return requests.get(line.key) is not None
    return False


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


MOST_REQUESTS = 20_000
MOST_BYTES = 100_000_000
"""Of one batch; OpenAI takes 50,000 requests in 200 MB, Anthropic 100,000 in 256 MB."""
ATTEMPTS = 5
"""How often a batch that for certain was not made is submitted in a row."""
JITTER = 0.1


@dataclass(frozen=True)
class Patience:
    """Waiting that ends when the run stops. `poll` is the usual wait in seconds."""

    stopping: asyncio.Event
    poll: float

    @property
    def over(self) -> bool:
        """Whether the run stops."""
        return self.stopping.is_set()

    async def pause(self, seconds: float | None = None) -> None:
        """Wait so long (else about `poll`), or until the run stops."""
        spread = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - keeps processes apart, hides nothing
        try:
            async with asyncio.timeout((self.poll if seconds is None else seconds) * spread):
                await self.stopping.wait()
        except TimeoutError:
            return


@dataclass(frozen=True)
class Parcel:
    """Requests that go into a batch for the `turn`-th time, and are about to be submitted for the `tries`-th."""

    requests: tuple[tuple[str, Request], ...]
    turn: int = 1
    tries: int = 1

    def halves(self) -> tuple[Parcel, ...]:
        """The same in two parts."""
        middle = len(self.requests) // 2
        parts = (self.requests[:middle], self.requests[middle:])
        return tuple(Parcel(part, self.turn, self.tries) for part in parts if part)


@dataclass
class _Group:
    items: list[Item] = field(default_factory=list)
    requests: list[tuple[str, Request]] = field(default_factory=list)
    size: int = 0


@dataclass
class Intake:
    """Collects requests and submits them when there are enough for a batch; `live` gets the open ledgers, by tag.

    A request is claimed from when it is taken until its ledger on the disk says that it is in a batch: no other process
    can be asking for it by itself, and none begins to.
    """

    provider: BatchProvider
    shelf: Shelf
    books: Books
    live: dict[str, Ledger]
    patience: Patience
    say: Callable[[str], None]
    now: Callable[[], float]
    new_tag: Callable[[], str]
    store: Store
    claims: Claims | None = None
    most: int = MOST_REQUESTS
    _groups: dict[tuple[str, int, int], _Group] = field(default_factory=dict)

    async def send(self, parcel: Parcel) -> None:
        """Submit a parcel at once. Raises EndpointError, StoreError."""
        for key, request in parcel.requests:
            await self.take(key, request, parcel.turn, parcel.tries)
        await self.flush()

    async def take(self, key: str, request: Request, turn: int = 1, tries: int = 1) -> None:
        """Put one request into a batch to be, unless the route refuses it or the spending limit leaves no room."""
        if self.patience.over:
            self.books.outcome.unsent += 1
            return
        if self.claims is not None and not self.claims.claim(key):
            self.books.outcome.elsewhere += 1
            return
        item = None
        try:
            if self.store.get(key) is None:  # looked up once it is ours: nobody can be asking it any more
                item = await self._admit(key, request)
        finally:
            if item is None:
                self._release([(key, request)])
        if item is None:
            return
        name = (item.path, turn, tries)  # one batch has one path
        group = self._groups.get(name)
        if group is not None and (len(group.items) >= self.most or group.size + len(item.body) > MOST_BYTES):
            await self._submit(self._groups.pop(name), turn, tries)
            group = None
        if group is None:
            group = self._groups[name] = _Group()
        group.items.append(item)
        group.requests.append((key, request))
        group.size += len(item.body)

    async def _admit(self, key: str, request: Request) -> Item | None:
        """The request as it goes into a batch; None where it does not."""
        try:
            item = await self.provider.prepare(request, key)
        except RequestFailedError as exc:
            self.books.fail(key, request, BatchFailure(str(exc), rejected=isinstance(exc, RequestRejectedError)))
            return None
        return item if self.books.admit(key, request) else None

    def _release(self, requests: Iterable[tuple[str, Request]]) -> None:
        """Others may ask for these, or see on the disk that they are in a batch."""
        if self.claims is not None:
            for key, _ in requests:
                self.claims.release(key)

    async def flush(self) -> None:
        """Submit what was taken, however little."""
        while self._groups:
            (_, turn, tries), group = self._groups.popitem()
            await self._submit(group, turn, tries)

    def drop(self) -> None:
        """Give up what was taken and not submitted."""
        while self._groups:
            group = self._groups.popitem()[1]
            self._release(group.requests)
            for key, request in group.requests:
                self.books.withdraw(key, request)

    async def _submit(self, group: _Group, turn: int, tries: int) -> None:
        try:
            await self._submit_claimed(group, turn, tries)
        finally:
            self._release(group.requests)

    async def _submit_claimed(self, group: _Group, turn: int, tries: int) -> None:
        ledger = self.shelf.plan(self.new_tag(), group.requests, self.now(), turn, tries)
        reason = ""
        try:
            for attempt in range(ATTEMPTS):
                if self.patience.over:
                    break
                try:
                    uploaded = await self.provider.upload(group.items, ledger.tag)
                    ledger = self.shelf.move(ledger, "submitting", uploaded=uploaded)
                    batch = await self.provider.submit(group.items, ledger.tag, uploaded)
                except TransientError as exc:
                    reason = str(exc)
                    if ledger.state == "submitting" and not exc.unbilled:
                        self.say(f"whether a batch was made is not known ({reason}); the provider's list will tell")
                        self.live[ledger.tag] = ledger
                        return
                    ledger = self.shelf.move(ledger, "planned")
                    await self.patience.pause(exc.retry_after or min(self.patience.poll, 2.0**attempt))
                else:
                    self.live[ledger.tag] = self.shelf.move(ledger, "submitted", batch=batch)
                    self.books.outcome.submitted += ledger.count
                    self.say(f"batch {batch} of {ledger.count} requests submitted")
                    return
        except EndpointError as exc:  # it was refused, so no batch was made
            self._give_up(ledger, group, str(exc), unsent=True)
            raise
        self._give_up(ledger, group, reason or "stopped before it was submitted", unsent=self.patience.over)

    def _give_up(self, ledger: Ledger, group: _Group, reason: str, *, unsent: bool) -> None:
        self.shelf.move(ledger, "abandoned", reason=reason)
        for key, request in group.requests:
            if unsent:
                self.books.withdraw(key, request)
            else:
                self.books.fail(key, request, BatchFailure(f"no batch could be submitted: {reason}"))
