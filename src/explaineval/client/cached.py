"""The outermost client layer: use stored answers, and pay for each distinct request at most once.

Below it `StoringClient` stores each new answer before it is returned.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Collection, Container, Mapping
from dataclasses import dataclass, field

from explaineval.cache import AnswerOrigin, Claims, Store, is_stopped, request_key
from explaineval.client.protocol import Client, Listener
from explaineval.errors import (
    EndpointError,
    ExplainevalError,
    NotStoredError,
    RequestFailedError,
    RequestRejectedError,
    RequestUnsentError,
    StoreError,
    WithheldError,
)
from explaineval.records import Completion, Request
from explaineval.spill import NumberSet
from explaineval.text import agreeing, counted

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds between two attempts to store an answer on a full disk: the first, and the longest."""


@dataclass
class AnswerWriter:
    """Writes answers to the store. The first that cannot be stored sets `stopping`, and `error` to the reason.

    From then on answers are kept in `unstored`, at most one for each connection, until `retry`; `stored_late` counts
    those that could be stored then. With `on_full` answers wait for room on a full disk instead, and so does whoever
    asked for them; it is called with why, and with None once there is room. When the run stops they wait no longer than
    LONGEST_PAUSE.
    """

    store: Store
    stopping: asyncio.Event
    on_full: Callable[[str | None], None] | None = None
    error: StoreError | None = field(default=None, init=False)
    unstored: list[tuple[Request, Completion]] = field(default_factory=list, init=False)
    stored_late: int = field(default=0, init=False)

    async def put(self, request: Request, completion: Completion) -> None:
        """Store an answer, or keep it in memory where that fails."""
        pause, last = FIRST_PAUSE, False
        while self.error is None:
            try:
                await self.store.put(request, completion)
            except StoreError as exc:
                if self.on_full is None or not exc.full or last:
                    self.error = self.error or exc
                    self.stopping.set()
                    break
                self.on_full(str(exc))
                last = await self._is_stopping_after(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)
            else:
                if pause > FIRST_PAUSE and self.on_full is not None:
                    self.on_full(None)
                return
        self.unstored.append((request, completion))

    async def _is_stopping_after(self, pause: float) -> bool:
        """Wait for room; return whether the run stops, so that the next attempt to store is the last."""
        if self.stopping.is_set():
            await asyncio.sleep(LONGEST_PAUSE)
            return True
        try:
            async with asyncio.timeout(pause):
                await self.stopping.wait()
        except TimeoutError:
            return False
        await asyncio.sleep(LONGEST_PAUSE)
        return True

    async def retry(self) -> None:
        """Store the answers that were kept, until one fails again."""
        while self.unstored:
            try:
                await self.store.put(*self.unstored[0])
            except StoreError:
                return
            del self.unstored[0]
            self.stored_late += 1

    @property
    def message(self) -> str | None:
        """Return why the store could not be written, and what became of the answers under way; None without error."""
        if self.error is None:
            return None
        late, lost = self.stored_late, len(self.unstored)
        kept = (
            f" {counted(late, 'answer')} that {agreeing(late, 'were')} under way {agreeing(late, 'were')} "
            "stored at the end."
            if late
            else ""
        )
        gone = (
            f" {counted(lost, 'answer')} that {agreeing(lost, 'were')} under way {agreeing(lost, 'are')} lost, "
            "and asked again."
            if lost
            else ""
        )
        return f"{self.error} Nothing more was sent.{kept}{gone}"


@dataclass
class StoringClient:
    """Stores every completion, committed to the disk, before it returns it."""

    inner: Client
    writer: AnswerWriter
    _sent: set[str] = field(default_factory=set, init=False)
    _on_wire: set[str] = field(default_factory=set, init=False)

    async def complete(self, request: Request) -> Completion:
        """Return the inner client's completion, stored."""
        key = request_key(request)
        sent_before = key in self._sent
        self._sent.add(key)
        self._on_wire.add(key)
        try:
            completion = await self.inner.complete(request)
        except ExplainevalError as exc:  # cancelled, it stays on the wire
            if not (exc.sent or sent_before):
                self._sent.discard(key)
            self._on_wire.discard(key)
            raise
        self._on_wire.discard(key)
        await self.writer.put(request, completion)
        self._sent.discard(key)
        return completion

    def is_on_wire(self, key: str) -> bool:
        """Return whether an attempt at the request of a key was cancelled under way, so that it may be charged."""
        return key in self._on_wire

    def was_sent(self, key: str) -> bool:
        """Return whether an attempt at the request of a key was made that brought no answer."""
        return key in self._sent


class StoredOnlyClient:
    """The innermost client where nothing may be sent: it refuses every request."""

    async def complete(self, request: Request) -> Completion:
        """Raises NotStoredError."""
        raise NotStoredError(f"the answer of {request.model} is not stored")


LOOK_AGAIN = 0.05
LOOK_AGAIN_AT_MOST = 0.5
"""Seconds between two look-ups of an answer that another process is asking for: the first, and the longest."""
PATIENCE = 5.0
"""Seconds of waiting for another process after which a message is shown."""
LOOK_AT_HOLDERS = 0.5
"""Seconds between two look-ups of the processes that are waited for."""


@dataclass
class CacheCounts:
    """Counts of distinct requests: answered from the store, sent (answered or not), and unsent.

    `shared` counts the hits whose answer another process stored while this one was about to ask, `in_batches` the
    unsent that are in a batch which is not fetched yet, `given_up` the sent whose answers were not waited for,
    `withheld` the unsent that are not wanted any more. `seen` holds the first 64 bits of the key of each distinct
    request.
    """

    hits: int = 0
    sent: int = 0
    unsent: int = 0
    shared: int = 0
    in_batches: int = 0
    given_up: int = 0
    withheld: int = 0
    seen: NumberSet = field(default_factory=NumberSet, repr=False)


@dataclass
class CachedClient:
    """Returns stored answers, and asks for each other key once, however many tasks wait for it.

    With `claims` no two processes ask for the same key at the same time; without them nothing is stored.
    """

    inner: Client
    store: Store
    stopping: asyncio.Event
    claims: Claims | None = None
    storing: StoringClient | None = None
    """The layer below that stores answers, which knows what was sent."""
    counts: CacheCounts = field(default_factory=CacheCounts)
    listener: Listener = field(default_factory=Listener)
    bought: Collection[str] = ()
    """Keys whose answers this run has bought by batches: found in the store, but no hits."""
    pending: Container[str] = ()
    """Keys that are in a batch which is not fetched yet: asking for them here would buy them twice."""
    older_names: Mapping[str, str] = field(default_factory=dict)
    """Names of endpoints → the names under which earlier versions stored their answers, which are used too."""
    origins: Counter[AnswerOrigin] = field(default_factory=Counter)
    """Where the answers that were stored already came from, each counted once."""
    patience: float = PATIENCE
    _waiting_since: dict[str, float] = field(default_factory=dict, init=False)
    _reported: set[int] = field(default_factory=set, init=False)
    _next_look: float = field(default=0.0, init=False)
    _under_way: dict[str, asyncio.Task[Completion]] = field(default_factory=dict, init=False)
    _taken_over: set[int] = field(default_factory=set, init=False)
    _unanswered: dict[int, bool] = field(default_factory=dict, init=False)
    """Requests without an answer so far → whether they were sent."""
    _withheld: set[int] = field(default_factory=set, init=False)
    """Those of them that are not wanted any more."""

    async def complete(self, request: Request) -> Completion:
        """Return the stored completion, or that of the same request under way, or a new one."""
        key = request_key(request)
        stored = self._stored(request, key)
        if stored is not None:
            return stored
        task = self._under_way.get(key)
        if task is None:
            short = int(key[:16], 16)
            self.counts.seen.add(short)
            task = asyncio.create_task(self._fetch(request, key, short))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._end(key, done))
        # shielded: a waiter that is cancelled must not cancel an answer that is being paid for
        return await asyncio.shield(task)

    def stored(self, request: Request) -> Completion | None:
        """Return the stored completion, counted as `complete` counts it; None if none is stored or it is under way."""
        return self._stored(request, request_key(request))

    def _stored(self, request: Request, key: str) -> Completion | None:
        if key in self._under_way:
            return None
        completion = self.store.get(key)
        if completion is None:
            return None
        short = int(key[:16], 16)
        if self.counts.seen.add(short) or short in self._unanswered:
            self._count_stored(request, completion, key, short)
        return completion

    def is_asked_elsewhere(self, request: Request) -> bool:
        """Return whether another process is asking this request just now."""
        key = request_key(request)
        claimed = self.claims is not None and self.claims.holder(key) is not None
        return claimed and self.store.get(key) is None

    def _end(self, key: str, done: asyncio.Task[Completion]) -> None:
        """Remove a task that is done; reading its exception keeps asyncio from logging one that nobody awaits."""
        self._under_way.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def finish(self) -> None:
        """Wait for all requests under way; their errors are raised where they were asked."""
        if self._under_way:
            await asyncio.gather(*self._under_way.values(), return_exceptions=True)

    def cancel(self) -> None:
        """Cancel all requests under way."""
        for task in self._under_way.values():
            task.cancel()

    def _count_stored(self, request: Request, completion: Completion, key: str, short: int) -> None:
        self._uncount(short)
        hit = key not in self.bought
        self.counts.hits += hit
        self.counts.sent += not hit
        if hit:
            self.origins[self.store.latest_origin] += 1
        self.listener.on_answer(request, key, completion, hit=hit)

    def _count_unanswered(self, short: int, *, sent: bool) -> None:
        """Count a request without an answer; one that was sent stays counted as sent when it is asked again."""
        sent = self._uncount(short) or sent
        self._unanswered[short] = sent
        self.counts.sent += sent
        self.counts.unsent += not sent

    def _uncount(self, short: int) -> bool:
        """Undo how a request without an answer was counted, and return whether it had been sent."""
        was_sent = self._unanswered.pop(short, None)
        self.counts.withheld -= short in self._withheld
        self._withheld.discard(short)
        self.counts.sent -= was_sent is True
        self.counts.unsent -= was_sent is False
        return was_sent is True

    async def _fetch(self, request: Request, key: str, short: int) -> Completion:
        """Return the completion of a request that is not stored under its key."""
        try:
            completion = find_older(self.store.get, request, self.older_names)
            if completion is not None:
                origin = self.store.latest_origin
                if self.claims is not None:
                    await self.store.add(request, completion, origin)
                self.store.latest_origin = origin
                if short not in self._taken_over:
                    self._taken_over.add(short)
                    self._count_stored(request, completion, key, short)
                return completion
            if self.listener.is_withheld(request):
                raise WithheldError("nothing more is asked there")
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
        except WithheldError:
            sent = self.storing is not None and self.storing.was_sent(key)
            self._count_unanswered(short, sent=sent)
            if not self._unanswered[short]:
                self._withheld.add(short)
                self.counts.withheld += 1
            raise
        except (RequestUnsentError, EndpointError, asyncio.CancelledError):
            if short not in self._unanswered:
                self.listener.on_unsent(request)
            self._count_unanswered(short, sent=self.storing is not None and self.storing.was_sent(key))
            self.counts.given_up += self.storing is not None and self.storing.is_on_wire(key)
            raise
        except RequestFailedError as exc:
            if not isinstance(exc, RequestRejectedError) or exc.sent:
                sent = exc.sent or (self.storing is not None and self.storing.was_sent(key))
                self._count_unanswered(short, sent=sent)
            raise
        self._uncount(short)
        self.counts.sent += 1
        self.listener.on_answer(request, key, completion, hit=False)
        return completion

    async def _claim(self, key: str, claims: Claims) -> Completion | None:
        """Wait until this process has claimed the key, or return the completion that another process has stored."""
        if claims.claim(key):
            return None
        self._waiting_since[key] = asyncio.get_running_loop().time()
        self.listener.on_wait(1)
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
            self.listener.on_wait(-1)

    def _report_waiting(self, claims: Claims) -> None:
        """Report each process that is waited for, once and only after `patience` seconds, and what to do."""
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
                self.listener.report(
                    f"waiting for process {process} on {socket.gethostname()}, which is asking {count} of the same "
                    f"requests{stopped}; the others are asked meanwhile. When it ends, or is ended (kill {process}), "
                    "the rest is asked here."
                )


def find_older(
    get: Callable[[str], Completion | None], request: Request, older_names: Mapping[str, str]
) -> Completion | None:
    """Return the answer that an earlier version stored under another name of the same endpoint, if there is one."""
    older = older_names.get(request.endpoint or "")
    return None if older is None else get(request_key(request.model_copy(update={"endpoint": older})))
