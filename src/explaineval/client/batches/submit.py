"""Submission of batches: requests are prepared as the ordinary client would send them, recorded, and submitted.

`BatchSession` is what submission and the state machine (`machine`) share.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from explaineval.cache import Claims, Store
from explaineval.client.batches.client import BatchClient, BatchFailure
from explaineval.client.batches.journal import BatchJournal, JournalEntry
from explaineval.client.batches.providers import BatchItem
from explaineval.client.protocol import Client
from explaineval.errors import EndpointError, RequestFailedError, RequestRejectedError, TransientError
from explaineval.records import Completion, Request
from explaineval.text import counted

MAX_REQUESTS = 20_000
MAX_BYTES = 100_000_000
"""Of one batch. OpenAI takes 50,000 requests in 200 MB, Anthropic 100,000 in 256 MB."""
LONGEST_WAIT = 26 * 3600.0
"""Seconds that one command waits for its batches: providers end them within 24 hours."""
ATTEMPTS = 5
"""How often a batch that was certainly not made is submitted in a row."""
JITTER = 0.1

Reserve = Callable[[Request], bool]
"""Reserves the request's worst case; returns whether it fits the spending limit."""
Settle = Callable[[Request, Completion | None], None]
"""Ends a reservation with the request's completion, or with None where it got no answer."""


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait for about this long, or until the run stops."""
    jitter = random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads processes in time, hides nothing
    try:
        async with asyncio.timeout(seconds * jitter):
            await stopping.wait()
    except TimeoutError:
        return


@dataclass
class BatchOutcome:
    """What a call of `run_batches` came to.

    `failed` has a reason for each request that was asked or refused without an answer. `unsent` counts requests that
    never went into a batch (spending limit, stopped, endpoint unusable). `waiting` says that batches go on at the
    provider, and the next call fetches them. `errors` say why an endpoint could not be asked further. `submitted`
    counts requests put into batches now, `stored` answers stored now, and `elsewhere` requests that went into no batch
    because another process is asking for them one by one, `in_other_batches` those that are in another's batch.
    """

    failed: dict[str, BatchFailure] = field(default_factory=dict)
    unsent: int = 0
    waiting: bool = False
    errors: list[str] = field(default_factory=list)
    submitted: int = 0
    stored: int = 0
    elsewhere: int = 0
    in_other_batches: int = 0


@dataclass
class BatchSession:
    """What one call of `run_batches` works with, and its state.

    `poll` is the usual wait between two looks, `wait` the longest for all batches, in seconds. When `stopping` is set,
    the call returns at its next step. `tell` gets sentences for the user. `reserve` and `settle` belong to the spending
    limit; `settle` also gets requests that an earlier run reserved. `book` writes down what is reserved for a request,
    when the journal has the batch and nothing of it is sent yet. With `claims`, a request for which another
    process is asking by itself goes into no batch. `now` returns seconds since the epoch. `open_batches` holds the
    entries of batches by tag.
    """

    provider: BatchClient
    store: Store
    journal: BatchJournal
    stopping: asyncio.Event
    poll: float
    tell: Callable[[str], None] = lambda _: None
    reserve: Reserve | None = None
    book: Callable[[Request], None] | None = None
    settle: Settle | None = None
    claims: Claims | None = None
    max_requests: int = MAX_REQUESTS
    wait: float = LONGEST_WAIT
    now: Callable[[], float] = time.time
    new_tag: Callable[[], str] = lambda: uuid.uuid4().hex
    outcome: BatchOutcome = field(default_factory=BatchOutcome)
    open_batches: dict[str, JournalEntry] = field(default_factory=dict)
    _reserved: set[str] = field(default_factory=set)

    @property
    def is_stopping(self) -> bool:
        """Whether the run stops."""
        return self.stopping.is_set()

    async def pause(self, seconds: float | None = None) -> None:
        """Wait for about this long (by default `poll`), or until the run stops."""
        await pause(self.stopping, self.poll if seconds is None else seconds)

    def say(self, text: str) -> None:
        """Tell the user something about this model's batches."""
        self.tell(f"{self.journal.model}: {text}")

    def admit(self, key: str, request: Request) -> bool:
        """Reserve a request; one that does not fit the spending limit counts as unsent."""
        if self.reserve is not None and not self.reserve(request):
            self.outcome.unsent += 1
            return False
        self._reserved.add(key)
        return True

    def take_over(self, keys: Iterable[str]) -> None:
        """Take over what an earlier run reserved for requests in a batch."""
        self._reserved.update(keys)

    def answer(self, key: str, request: Request, completion: Completion) -> None:
        """Count a completion that is stored, also one of a batch that an earlier run submitted."""
        self.outcome.stored += 1
        self.outcome.failed.pop(key, None)
        self._reserved.discard(key)
        if self.settle is not None:
            self.settle(request, completion)

    def release(self, key: str, request: Request) -> None:
        """End the reservation of a request that got no answer in this batch."""
        if key in self._reserved:
            self._reserved.discard(key)
            if self.settle is not None:
                self.settle(request, None)

    def withdraw(self, key: str, request: Request) -> None:
        """Count a request that goes into no batch after all."""
        self.release(key, request)
        self.outcome.unsent += 1

    def fail(self, key: str, request: Request, failure: BatchFailure) -> None:
        """Count a request that will get no answer."""
        self.release(key, request)
        self.outcome.failed[key] = failure


@dataclass
class CheckedClient:
    """Sends nothing before the endpoint has shown that it takes batches, which is checked once for all requests.

    Where `journal` shows that the endpoint took a batch before, nothing is checked.
    """

    inner: Client
    provider: BatchClient
    journal: BatchJournal
    _checked: bool = field(default=False, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def check(self) -> None:
        """Check the endpoint.

        Raises:
            EndpointError: it takes no batches, or this cannot be found out.
        """
        async with self._lock:
            if not self._checked and not self.journal.has_batches():
                await self.provider.check()
            self._checked = True

    async def complete(self, request: Request) -> Completion:
        """Return the inner client's completion, after the check."""
        await self.check()
        return await self.inner.complete(request)


@dataclass
class _Draft:
    """Requests that are collected for one batch."""

    turn: int
    tries: int
    items: list[BatchItem] = field(default_factory=list)
    requests: list[tuple[str, Request]] = field(default_factory=list)
    size: int = 0


class BatchSubmitter:
    """Collects requests and submits them when there are enough for a batch.

    A request is claimed from when it is added until its journal entry says that it is in a batch. So no other process
    is asking for it one by one, and none begins to.
    """

    def __init__(self, session: BatchSession) -> None:
        self._session = session
        self._drafts: dict[tuple[str, int, int], _Draft] = {}

    async def add(self, key: str, request: Request, turn: int = 1, tries: int = 1) -> None:
        """Collect one request, unless the route refuses it or the spending limit leaves no room.

        Raises:
            EndpointError, StoreError: a batch that became full could not be submitted.
        """
        session = self._session
        if session.is_stopping:
            session.outcome.unsent += 1
            return
        if session.claims is not None and not session.claims.claim(key):
            session.outcome.elsewhere += 1
            return
        item = None
        try:
            if session.store.get(key) is None:  # looked up after the claim: nobody can be asking for it any more
                item = await self._prepare(key, request)
        finally:
            if item is None:
                self._release([(key, request)])
        if item is None:
            return
        name = (item.path, turn, tries)  # all requests of a batch have the same path
        draft = self._drafts.get(name)
        if draft is not None and (len(draft.items) >= session.max_requests or draft.size + len(item.body) > MAX_BYTES):
            await self._submit(self._drafts.pop(name))
            draft = None
        if draft is None:
            draft = self._drafts[name] = _Draft(turn, tries)
        draft.items.append(item)
        draft.requests.append((key, request))
        draft.size += len(item.body)

    async def flush(self) -> None:
        """Submit what was collected, however little it is. Raises EndpointError and StoreError."""
        while self._drafts:
            await self._submit(self._drafts.popitem()[1])

    def drop(self) -> None:
        """Give up what was collected and not submitted."""
        while self._drafts:
            draft = self._drafts.popitem()[1]
            self._release(draft.requests)
            for key, request in draft.requests:
                self._session.withdraw(key, request)

    async def _prepare(self, key: str, request: Request) -> BatchItem | None:
        """Return the request as it goes into a batch, None where it does not."""
        try:
            item = await self._session.provider.prepare(request, key)
        except RequestFailedError as exc:
            failure = BatchFailure(str(exc), rejected=isinstance(exc, RequestRejectedError))
            self._session.fail(key, request, failure)
            return None
        return item if self._session.admit(key, request) else None

    def _release(self, requests: Iterable[tuple[str, Request]]) -> None:
        """End the claims on these requests."""
        if self._session.claims is not None:
            for key, _ in requests:
                self._session.claims.release(key)

    async def _submit(self, draft: _Draft) -> None:
        try:
            await self._submit_claimed(draft)
        finally:
            self._release(draft.requests)

    async def _submit_claimed(self, draft: _Draft) -> None:
        session, journal, provider = self._session, self._session.journal, self._session.provider
        entry = journal.plan(session.new_tag(), draft.requests, session.now(), draft.turn, draft.tries)
        if session.book is not None:  # only now: what the journal does not have may be a batch that was given up
            for _, request in draft.requests:
                session.book(request)
        reason = ""
        try:
            for attempt in range(ATTEMPTS):
                if session.is_stopping:
                    break
                try:
                    uploaded = await provider.upload(draft.items, entry.tag)
                    entry = journal.update(entry, "submitting", uploaded=uploaded)
                    batch = await provider.submit(draft.items, entry.tag, uploaded)
                except TransientError as exc:
                    reason = str(exc)
                    if entry.state == "submitting" and not exc.unbilled:
                        session.say(f"whether a batch was made is not known ({reason}); the provider's list will tell")
                        session.open_batches[entry.tag] = entry
                        return
                    entry = journal.update(entry, "planned")
                    await session.pause(exc.retry_after or min(session.poll, 2.0**attempt))
                else:
                    session.open_batches[entry.tag] = journal.update(entry, "submitted", batch=batch)
                    session.outcome.submitted += entry.count
                    session.say(f"batch {batch} of {counted(entry.count, 'request')} submitted")
                    return
        except EndpointError as exc:  # it was refused, so no batch was made
            self._abandon(entry, draft, str(exc), unsent=True)
            raise
        self._abandon(entry, draft, reason or "stopped before it was submitted", unsent=session.is_stopping)

    def _abandon(self, entry: JournalEntry, draft: _Draft, reason: str, *, unsent: bool) -> None:
        self._session.journal.update(entry, "abandoned", reason=reason)
        for key, request in draft.requests:
            if unsent:
                self._session.withdraw(key, request)
            else:
                self._session.fail(key, request, BatchFailure(f"no batch could be submitted: {reason}"))
