"""The outermost layer: look into the store first, and pay for a distinct request at most once, whoever asks it.

Below it `StoringClient` stores what was bought, before anybody gets it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field

from explaineval.cache import Claims, Store, is_stopped, request_key
from explaineval.client.protocol import Client
from explaineval.errors import (
    EndpointError,
    ExplainevalError,
    NotStoredError,
    RequestFailedError,
    RequestRejectedError,
    RequestUnsentError,
    StoreError,
)
from explaineval.records import Completion, Request


@dataclass
class AnswerWriter:
    """Puts answers into the store. The first that it does not take sets `stopping`, and `error` to the reason.

    From then on answers are kept in `unstored`, no more than one for each connection, until `retry`; `stored_late`
    counts those that the store took then.
    """

    store: Store
    stopping: asyncio.Event
    error: StoreError | None = field(default=None, init=False)
    unstored: list[tuple[Request, Completion]] = field(default_factory=list, init=False)
    stored_late: int = field(default=0, init=False)

    async def put(self, request: Request, completion: Completion) -> None:
        """Store an answer, or keep it."""
        if self.error is None:
            try:
                await self.store.put(request, completion)
            except StoreError as exc:
                self.error = self.error or exc
                self.stopping.set()
            else:
                return
        self.unstored.append((request, completion))

    async def retry(self) -> None:
        """Store what was kept, as far as the store takes it now."""
        while self.unstored:
            try:
                await self.store.put(*self.unstored[0])
            except StoreError:
                return
            del self.unstored[0]
            self.stored_late += 1

    @property
    def message(self) -> str | None:
        """What to say where the store could not be written: why, and what became of the answers under way."""
        if self.error is None:
            return None
        late, lost = self.stored_late, len(self.unstored)
        kept = f" {late} answers that were under way were stored at the end." if late else ""
        gone = f" {lost} answers that were under way are lost, and asked again." if lost else ""
        return f"{self.error} Nothing more was sent.{kept}{gone}"


@dataclass
class StoringClient:
    """Stores every completion, committed to the disk, before it returns it."""

    inner: Client
    writer: AnswerWriter
    _sent: set[str] = field(default_factory=set, init=False)
    _on_wire: set[str] = field(default_factory=set, init=False)

    async def complete(self, request: Request) -> Completion:
        """The inner client's completion, stored."""
        key = request_key(request)
        self._sent.add(key)
        self._on_wire.add(key)
        try:
            completion = await self.inner.complete(request)
        except ExplainevalError as exc:  # cancelled, it stays on the wire
            if isinstance(exc, RequestRejectedError) and not exc.sent:
                self._sent.discard(key)
            self._on_wire.discard(key)
            raise
        self._on_wire.discard(key)
        await self.writer.put(request, completion)
        self._sent.discard(key)
        return completion

    def is_on_wire(self, request: Request) -> bool:
        """Whether an attempt for the request was under way when it was cancelled, so that it may be charged."""
        return request_key(request) in self._on_wire

    def was_sent(self, request: Request) -> bool:
        """Whether an attempt for the request was made that brought no answer."""
        return request_key(request) in self._sent


class StoredOnlyClient:
    """Stands where nothing may be sent: only stored answers are wanted."""

    async def complete(self, request: Request) -> Completion:
        """Raises NotStoredError."""
        raise NotStoredError(f"the answer of {request.model} is not stored")


LOOK_AGAIN = 0.05
LOOK_AGAIN_AT_MOST = 0.5
"""Seconds between two looks for an answer that another process is asking for."""
PATIENCE = 5.0
"""Seconds of waiting for another process after which the user is told."""
LOOK_AT_HOLDERS = 0.5
"""Seconds between two looks at which processes are waited for."""


@dataclass
class RequestCounts:
    """Counts of distinct requests by where their answers came from: the store, the wire (answered or not), nowhere.

    `shared` counts the hits that another process brought while this one was about to ask, `in_batches` what is unsent
    because a batch that is not fetched yet has it, `given_up` those of the sent whose answers were not waited for.
    `seen` are the distinct requests, by the first 64 bits of their keys.
    """

    hits: int = 0
    sent: int = 0
    unsent: int = 0
    shared: int = 0
    in_batches: int = 0
    given_up: int = 0
    seen: set[int] = field(default_factory=set, repr=False)


@dataclass
class CachedClient:
    """Looks into the store first; asks for each key once, however many wait for it.

    With `claims` no two processes ask for the same key at the same time; without them nothing is written either.
    """

    inner: Client
    store: Store
    stopping: asyncio.Event
    claims: Claims | None = None
    storing: StoringClient | None = None
    """The layer below that stores answers, which knows what was sent."""
    counts: RequestCounts = field(default_factory=RequestCounts)
    on_answer: Callable[[Request, Completion, bool], None] = lambda *_: None
    """Called once for each distinct request that is answered; `hit` says whether the answer was stored already."""
    on_unsent: Callable[[Request], None] = lambda *_: None
    """Called once for each distinct request that stays unsent."""
    on_wait: Callable[[int], None] = lambda *_: None
    """Called with 1 where a request begins to wait for another process's answer, with -1 where it no longer waits."""
    report: Callable[[str], None] = lambda *_: None
    """Shows a message to the user."""
    bought: Collection[str] = ()
    """Keys whose answers this run has bought by batches: found in the store, but no hits."""
    pending: Container[str] = ()
    """Keys that are in a batch which is not fetched yet: asking for them here would buy them twice."""
    older_names: Mapping[str, str] = field(default_factory=dict)
    """How earlier versions named an endpoint: its answers are taken over from there."""
    patience: float = PATIENCE
    _waiting_since: dict[str, float] = field(default_factory=dict, init=False)
    _reported: set[int] = field(default_factory=set, init=False)
    _next_look: float = field(default=0.0, init=False)
    _under_way: dict[str, asyncio.Task[Completion]] = field(default_factory=dict, init=False)
    _taken_over: set[int] = field(default_factory=set, init=False)
    _unanswered: dict[int, bool] = field(default_factory=dict, init=False)
    """Requests without an answer so far; whether they were sent."""

    async def complete(self, request: Request) -> Completion:
        """The stored completion, or the one that is under way, or a new one, stored first."""
        key = request_key(request)
        short = int(key[:16], 16)
        new = short not in self.counts.seen
        self.counts.seen.add(short)
        task = self._under_way.get(key)
        if task is None:
            stored = self.store.get(key)
            if stored is not None:
                if new or short in self._unanswered:
                    self._count_stored(request, stored, key, short)
                return stored
            task = asyncio.create_task(self._fetch(request, key, short))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._end(key, done))
        # shielded: a waiter that is cancelled must not cancel an answer that is being paid for
        return await asyncio.shield(task)

    def is_asked_elsewhere(self, request: Request) -> bool:
        """Whether another process is asking for an answer that is not stored."""
        key = request_key(request)
        claimed = self.claims is not None and self.claims.holder(key) is not None
        return claimed and self.store.get(key) is None

    def _end(self, key: str, done: asyncio.Task[Completion]) -> None:
        """Forget what was under way, and its failure where nobody waits for it any more."""
        self._under_way.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def finish(self) -> None:
        """Wait for everything under way; whoever asked for it gets the failures."""
        if self._under_way:
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def cancel(self) -> None:
        """Give up on everything under way."""
        for task in self._under_way.values():
            task.cancel()

    def _count_stored(self, request: Request, completion: Completion, key: str, short: int) -> None:
        self._uncount(short)
        hit = key not in self.bought
        self.counts.hits += hit
        self.counts.sent += not hit
        self.on_answer(request, completion, hit)

    def _count_unanswered(self, short: int, *, sent: bool) -> None:
        """Count a request without an answer; once it was sent, it stays so whatever comes of it later."""
        sent = self._uncount(short) or sent
        self._unanswered[short] = sent
        self.counts.sent += sent
        self.counts.unsent += not sent

    def _uncount(self, short: int) -> bool:
        """Take back how a request was counted that had no answer before; whether it had been sent."""
        was_sent = self._unanswered.pop(short, None)
        self.counts.sent -= was_sent is True
        self.counts.unsent -= was_sent is False
        return was_sent is True

    async def _fetch(self, request: Request, key: str, short: int) -> Completion:
        """The completion of a request that is not stored under its key."""
        try:
            completion = find_older(self.store.get, request, self.older_names)
            if completion is not None:
                if self.claims is not None:
                    await self.store.add(request, completion)
                if short not in self._taken_over:
                    self._taken_over.add(short)
                    self._count_stored(request, completion, key, short)
                return completion
            completion = None if self.claims is None else await self._claim(key, self.claims)
            try:
                if completion is None:
                    pending = key in self.pending  # looked up first: a batch that is done with is in the store by then
                    completion = None if self.claims is None else self.store.get(key)
                if completion is not None:
                    self.counts.shared += 1
                    self._count_stored(request, completion, key, short)
                    return completion
                if pending:
                    self.counts.in_batches += short not in self._unanswered
                    raise RequestUnsentError("it is in a batch that is not fetched yet")
                completion = await self.inner.complete(request)
            finally:
                if self.claims is not None:
                    self.claims.release(key)
        except (RequestUnsentError, EndpointError, asyncio.CancelledError):
            if short not in self._unanswered:
                self.on_unsent(request)
            self._count_unanswered(short, sent=self.storing is not None and self.storing.was_sent(request))
            self.counts.given_up += self.storing is not None and self.storing.is_on_wire(request)
            raise
        except RequestFailedError as exc:
            if not isinstance(exc, RequestRejectedError) or exc.sent:
                self._count_unanswered(short, sent=True)
            raise
        self._uncount(short)
        self.counts.sent += 1
        self.on_answer(request, completion, False)
        return completion

    async def _claim(self, key: str, claims: Claims) -> Completion | None:
        """Wait until the key is claimed by this process; the completion where another one stored it meanwhile."""
        if claims.claim(key):
            return None
        self._waiting_since[key] = asyncio.get_running_loop().time()
        self.on_wait(1)
        try:
            pause = LOOK_AGAIN
            while not self.stopping.is_set():
                await asyncio.sleep(pause)
                pause = min(2 * pause, LOOK_AGAIN_AT_MOST)
                stored = self.store.get(key)
                if stored is not None or claims.claim(key):
                    return stored
                self._report_waiting(claims)
            raise RequestUnsentError("stopped while another process asks the same")
        finally:
            del self._waiting_since[key]
            self.on_wait(-1)

    def _report_waiting(self, claims: Claims) -> None:
        """Say once of each process how many of its answers are waited for, when it takes long, and what to do."""
        now = asyncio.get_running_loop().time()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_AT_HOLDERS
        if now - min(self._waiting_since.values()) < self.patience:
            return
        holders = Counter(holder for key in self._waiting_since if (holder := claims.holder(key)) is not None)
        for process, count in holders.items():
            if process not in self._reported:
                self._reported.add(process)
                stopped = f", and is stopped (kill -CONT {process} lets it go on)" if is_stopped(process) else ""
                self.report(
                    f"waiting for process {process} on {socket.gethostname()}, which is asking {count} of the same "
                    f"requests{stopped}; the others are asked meanwhile. When it ends, or is ended (kill {process}), "
                    "the rest is asked here."
                )


def find_older(
    get: Callable[[str], Completion | None], request: Request, older_names: Mapping[str, str]
) -> Completion | None:
    """The answer that an earlier version stored under another name of the same endpoint."""
    older = older_names.get(request.endpoint or "")
    return None if older is None else get(request_key(request.model_copy(update={"endpoint": older})))
