"""The outermost layer: every distinct request is paid for at most once, here, earlier or in another process."""

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


LOOK_AGAIN = 0.05
LOOK_AGAIN_AT_MOST = 0.5
"""Seconds between two looks for an answer that another process is asking for."""
PATIENCE = 5.0
"""Seconds of waiting for another process after which its number is told."""
LOOK_AT_HOLDERS = 0.5


@dataclass
class Tally:
    """Counts of distinct keys by where their answers came from: the store, the wire (answered or not), nowhere.

    `shared` counts the hits that another process brought while this one was about to ask, `in_batches` what is unsent
    because a batch that nobody fetched yet has it, `given_up` those of the sent whose answers nobody waited for.
    """

    hits: int = 0
    sent: int = 0
    unsent: int = 0
    shared: int = 0
    in_batches: int = 0
    given_up: int = 0
    seen: set[int] = field(default_factory=set, repr=False)


def _book_nothing(request: Request, completion: Completion, hit: bool) -> None:
    """Stands in where nobody keeps books."""


def _miss_nothing(request: Request) -> None:
    """Stands in where nobody asks what was not sent."""


@dataclass
class CachedClient:
    """Looks into the store first; asks each key once however many wait for it.

    `book(request, completion, hit)` is told of every distinct answer, bought or found; `miss(request)` of every
    distinct request that stayed unsent. With `claims` no two processes ask the same at the same time.
    """

    inner: Client
    store: Store
    stopping: asyncio.Event
    claims: Claims | None = None
    tally: Tally = field(default_factory=Tally)
    book: Callable[[Request, Completion, bool], None] = _book_nothing
    miss: Callable[[Request], None] = _miss_nothing
    was_sent: Callable[[Request], bool] = lambda _: False
    """Whether a request without answer went over the wire, in whichever attempt."""
    is_on_wire: Callable[[Request], bool] = lambda _: False
    """Whether an attempt for a request is under way, so that its answer may be charged."""
    bought: Collection[str] = ()
    """Keys whose answers this run has bought on another way (by batches): found in the store, but no hits."""
    pending: Container[str] = ()
    """Keys that are in a batch which is not fetched yet: asking them here would buy them twice."""
    older_names: Mapping[str, str] = field(default_factory=dict)
    """How earlier versions called an endpoint: its answers are taken over from there."""
    hold_up: Callable[[int], None] = lambda _: None
    """Told 1 where a request begins to wait for another process's answer, −1 where it no longer waits."""
    tell: Callable[[str], None] = lambda _: None
    patience: float = PATIENCE
    _held_up: dict[str, float] = field(default_factory=dict, init=False)
    _told: set[int] = field(default_factory=set, init=False)
    _next_look: float = field(default=0.0, init=False)
    _flying: dict[str, asyncio.Task[Completion]] = field(default_factory=dict, init=False)
    _taken_over: set[int] = field(default_factory=set, init=False)
    _answerless: dict[int, bool] = field(default_factory=dict, init=False)

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
                if new or short in self._answerless:
                    self._found(request, stored, key, short)
                return stored
            flying = asyncio.create_task(self._fetch(request, key, short))
            self._flying[key] = flying
            flying.add_done_callback(lambda done: self._end(key, done))
        # shielded: a waiter that is cancelled must not cancel an answer that is being paid for
        return await asyncio.shield(flying)

    def is_held_up(self, request: Request) -> bool:
        """Whether another process is asking a request that is not stored."""
        key = request_key(request)
        held = self.claims is not None and self.claims.holder(key) is not None
        return held and self.store.get(key) is None

    def _end(self, key: str, done: asyncio.Task[Completion]) -> None:
        """Forget what was under way; where nobody waits any more its failure is told to nobody."""
        self._flying.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def finish(self) -> None:
        """Wait for everything under way; failures were or will be told to their waiters."""
        if self._flying:
            await asyncio.gather(*self._flying.values(), return_exceptions=True)

    def cancel(self) -> None:
        """Give up on everything under way."""
        for task in self._flying.values():
            task.cancel()

    def _found(self, request: Request, completion: Completion, key: str, short: int) -> None:
        self._forget(short)
        hit = key not in self.bought
        self.tally.hits += hit
        self.tally.sent += not hit
        self.book(request, completion, hit)

    def _forget(self, short: int) -> bool:
        """Take back how an earlier asking of a key without answer was counted; whether it had been sent."""
        was_sent = self._answerless.pop(short, None)
        self.tally.sent -= was_sent is True
        self.tally.unsent -= was_sent is False
        return was_sent is True

    def _leave(self, short: int, *, sent: bool) -> None:
        """Count a key without answer; it went out once, whatever came of it later."""
        sent = self._forget(short) or sent
        self._answerless[short] = sent
        self.tally.sent += sent
        self.tally.unsent += not sent

    async def _fetch(self, request: Request, key: str, short: int) -> Completion:
        try:
            completion = find_older(self.store.get, request, self.older_names)
            if completion is not None:
                if self.claims is not None:  # offline nothing is written
                    await self.store.add(request, completion)
                if short not in self._taken_over:
                    self._taken_over.add(short)
                    self._found(request, completion, key, short)
                return completion
            completion = await self._claim(key)
            try:
                if completion is None:
                    pending = key in self.pending  # looked up first: a batch that is done with is in the store by then
                    completion = self.store.get(key) if self.claims is not None else None
                if completion is not None:
                    self.tally.shared += 1
                    self._found(request, completion, key, short)
                    return completion
                if pending:
                    self.tally.in_batches += short not in self._answerless
                    raise RequestUnsentError("it is in a batch that is not fetched yet")
                completion = await self.inner.complete(request)
            finally:
                if self.claims is not None:
                    self.claims.release(key)
        except (RequestUnsentError, EndpointError, asyncio.CancelledError):
            if short not in self._answerless:
                self.miss(request)
            self._leave(short, sent=self.was_sent(request))
            self.tally.given_up += self.is_on_wire(request)
            raise
        except RequestFailedError as exc:
            if not isinstance(exc, RequestRejectedError) or exc.sent:
                self._leave(short, sent=True)
            raise
        self._forget(short)
        self.tally.sent += 1
        self.book(request, completion, False)
        return completion

    async def _claim(self, key: str) -> Completion | None:
        """Wait until the key is ours; the completion where another process stored one meanwhile."""
        if self.claims is None:
            return None
        if not self.claims.claim(key):
            self._held_up[key] = asyncio.get_running_loop().time()
            self.hold_up(1)
            try:
                stored = await self._wait_for(key, self.claims)
            finally:
                del self._held_up[key]
                self.hold_up(-1)
            if stored is not None:
                return stored
        return None

    async def _wait_for(self, key: str, claims: Claims) -> Completion | None:
        """Wait for another process's answer, or (None) until the key is free, which is then ours."""
        wait = LOOK_AGAIN
        while True:
            if self.stopping.is_set():
                raise RequestUnsentError("stopped while another process asks the same")
            await asyncio.sleep(wait)
            wait = min(2 * wait, LOOK_AGAIN_AT_MOST)
            stored = self.store.get(key)
            if stored is not None:
                return stored
            if claims.claim(key):
                return None
            self._tell_whom(claims)

    def _tell_whom(self, claims: Claims) -> None:
        """Say once of each process for how many answers of it this one has been waiting for a while, and what to do."""
        now = asyncio.get_running_loop().time()
        if now < self._next_look:
            return
        self._next_look = now + LOOK_AT_HOLDERS
        if now - min(self._held_up.values()) < self.patience:
            return
        holders = Counter(holder for key in self._held_up if (holder := claims.holder(key)) is not None)
        for process, count in holders.items():
            if process not in self._told:
                self._told.add(process)
                stopped = f", and is stopped (kill -CONT {process} lets it go on)" if is_stopped(process) else ""
                self.tell(
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


class StoredOnlyClient:
    """Stands in for the wire where only stored answers are wanted: nothing is ever sent."""

    async def complete(self, request: Request) -> Completion:
        """Raises NotStoredError."""
        raise NotStoredError(f"the answer of {request.model} is not stored")
