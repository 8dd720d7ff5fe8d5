"""The state machine of a model's batches: planned → submitting → submitted → ended → fetched, or abandoned.

Batches of earlier runs are taken up, what is missing is submitted, answers of ended batches are stored, and requests
without an answer go into another batch or get a reason. A submitted request is what the ordinary client would send. The
same machine serves every provider of `providers`.

A run may stop or die at any point. The journal says what was submitted and the store what was answered; the next run
needs nothing else, and no request is put into a second batch while its first may still answer it.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field
from typing import Literal, Self

from explaineval.cache import Claims, Store
from explaineval.client.batches.client import LINES_EACH, SPARE_LINES, BatchClient, BatchFailure
from explaineval.client.batches.journal import BatchJournal, JournalEntry, RequestFile
from explaineval.client.batches.providers import BatchItem, BatchState, ResultLine
from explaineval.errors import EndpointError, RequestFailedError, RequestRejectedError, TransientError
from explaineval.records import Completion, Request
from explaineval.text import agreeing, counted, duration_text

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


LOCK_WAIT = 1.0
"""Seconds between two looks whether another process has finished its work on the same batches."""
GROUP = 200
"""Answers that are committed to the disk together."""
MAX_SEARCHES = 3
"""How often the provider's list must show no batch that could be ours before its requests are submitted again."""
MAX_MISSING = 3
"""How often the provider must not know a batch before that is an error."""
MAX_PASSES = 3
"""How often the results of a batch are read while some of its requests are not among them."""
MAX_TURNS = 2
"""How many batches a request goes into that expire or fail temporarily."""
MAX_TRIES = 3
"""How many batches in a row may turn out not to have been made."""


@dataclass(frozen=True)
class Resubmission:
    """Requests to be submitted again: for the `turn`-th time, with the `tries`-th attempt to make a batch of them."""

    requests: tuple[tuple[str, Request], ...]
    turn: int
    tries: int = 1

    def split(self) -> tuple[Resubmission, ...]:
        """Return the same requests in two halves."""
        middle = len(self.requests) // 2
        halves = (self.requests[:middle], self.requests[middle:])
        return tuple(Resubmission(half, self.turn, self.tries) for half in halves if half)


class ResultReader:
    """Reads the results of one batch once, and stores each answer that is not stored yet.

    The order of the lines and repeated lines do not matter. Afterwards `failures` holds the reasons of requests without
    an answer, `missing` the keys of requests without a readable line; `foreign` counts lines of other requests and
    `unreadable` lines that cannot be read. `stopped` says that the run stopped meanwhile.
    """

    def __init__(self, session: BatchSession, requests: RequestFile) -> None:
        self._session = session
        self._requests = requests
        self._answered: set[str] = set()
        self._group: list[tuple[str, Request, Completion]] = []
        self.failures: dict[str, BatchFailure] = {}
        self.missing: list[str] = []
        self.foreign = 0
        self.unreadable = 0
        self.stopped = False

    async def read(self, batch: str) -> None:
        """Read the results.

        Raises:
            TransientError: they break off. What came before is stored.
            EndpointError, StoreError: they cannot be read or stored, or do not end.
        """
        most, read = LINES_EACH * len(list(self._requests)) + SPARE_LINES, 0
        async with aclosing(self._session.provider.results(batch)) as lines:
            try:
                async for line in lines:
                    read += 1
                    if read > most:
                        if all(key in self._answered or key in self.failures for key in self._requests):
                            break
                        raise EndpointError(
                            f"the results of batch {batch} have more than {most:,} lines and do not end: the answers "
                            "among them are stored, the rest is not read; remove its files in "
                            f"{self._session.journal.directory} to give up what is missing."
                        )
                    await self._take(line)
                    if self._session.is_stopping:
                        self.stopped = True
                        break
            finally:
                await self._commit()
        for key in self._answered:
            self.failures.pop(key, None)
        self.missing = [key for key in self._requests if key not in self._answered and key not in self.failures]

    async def _take(self, line: ResultLine) -> None:
        if line.key is None:
            self.unreadable += 1
            return
        request = self._requests.get(line.key)
        if request is None:
            self.foreign += 1
            return
        if line.key in self._answered or self._session.store.get(line.key) is not None:
            self._answered.add(line.key)
            return
        result = await self._session.provider.read(request, line)
        if isinstance(result, BatchFailure):
            self.failures.setdefault(line.key, result)
            return
        self._answered.add(line.key)
        self._group.append((line.key, request, result))
        if len(self._group) >= GROUP:
            await self._commit()

    async def _commit(self) -> None:
        """Store the group, then count it."""
        group, self._group = self._group, []
        await asyncio.gather(*(self._session.store.put(request, completion) for _, request, completion in group))
        for key, request, completion in group:
            self._session.answer(key, request, completion)


async def run_batches(session: BatchSession, misses: Iterable[tuple[str, Request]]) -> BatchOutcome:
    """Ask by batches for those of `misses` (key, request) that are not stored, and store the answers.

    Several processes may work on a model's batches. One at a time submits and fetches, and each batch belongs to one of
    them as long as that lives, so nobody waits for another's batch before submitting its own. Requests in the batches
    of others are left to them.

    The outcome's `errors` describe an unusable endpoint. Whatever is raised, the journal stays, and the next call goes
    on from there.

    Raises:
        StoreError: the store or the journal cannot be read or written.
        InputError: the variable of the key is not set, or the journal is damaged.
    """
    with BatchMachine(session) as run:
        while not session.is_stopping:
            with session.journal.lock() as locked:
                wait = await run.step(misses) if locked else min(session.poll, LOCK_WAIT)
            if run.ended:
                break
            await session.pause(wait)
        run.count_rest(misses)
    return session.outcome


class BatchMachine:
    """One call of `run_batches`. Use it as a context manager: leaving it gives up the batches that are its own."""

    def __init__(self, session: BatchSession) -> None:
        self._session = session
        self._submitter = BatchSubmitter(session)
        self._owned: dict[str, ExitStack] = {}
        """What holds the lock of each batch that is this process's own, by tag."""
        self._inherited: set[str] = set()
        """The tags of batches that an earlier run submitted."""
        self._wanted: set[str] = set()
        """The keys in them for which this run asks too."""
        self._queue: deque[Resubmission] = deque()
        """What is to be submitted again: one for each of `_room`, or when no batch is open any more."""
        self._room = 0
        self._counts: Counter[tuple[str, str]] = Counter()
        self._said: dict[str, str] = {}
        self._end: float | None = None
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for owned in self._owned.values():
            owned.close()

    async def step(self, misses: Iterable[tuple[str, Request]]) -> float | None:
        """Do what there is to do now, while no other process does; return for how long to wait then."""
        session, queue = self._session, self._queue
        if self._end is None:
            self._end = time.monotonic() + session.wait
            taken_up, foreign = self._take_up()
            await self._submit(self._submit_new(misses, taken_up, foreign))
        self._own_open_batches()
        wait = await self._advance_all()
        while queue and (self._room or not session.open_batches) and not session.is_stopping:
            self._room = max(0, self._room - 1)
            await self._submit(self._resubmit())
        self._own_open_batches()
        if session.open_batches and time.monotonic() >= self._end:
            self._stop_waiting()
            self.ended = True
        self.ended = self.ended or not session.open_batches
        return wait

    def count_rest(self, misses: Iterable[tuple[str, Request]]) -> None:
        """Count what goes on at the provider, and what went into no batch."""
        session = self._session
        if self._end is None:  # stopped before it began
            session.outcome.unsent += sum(session.store.get(key) is None for key, _ in misses)
            session.outcome.waiting = bool(session.journal.open_entries())
            return
        session.outcome.unsent += sum(len(resubmission.requests) for resubmission in self._queue)
        session.outcome.waiting |= bool(session.open_batches)

    def _own(self, entry: JournalEntry) -> bool:
        """Make a batch this process's own, unless it is another's."""
        if entry.tag in self._owned:
            return True
        with ExitStack() as stack:
            if not stack.enter_context(self._session.journal.lock(entry.tag)):
                return False
            self._owned[entry.tag] = stack.pop_all()
        return True

    def _own_open_batches(self) -> None:
        """Own all open batches, and no longer those that are closed."""
        for entry in self._session.open_batches.values():
            self._own(entry)
        for tag in [tag for tag in self._owned if tag not in self._session.open_batches]:
            self._owned.pop(tag).close()
            self._session.journal.drop_lock(tag)

    def _keys_of_others(self) -> set[str]:
        """Return the keys in open batches of other processes."""
        keys = set[str]()
        for entry in self._session.journal.open_entries():
            if entry.tag not in self._owned and entry.tag not in self._session.open_batches:
                with self._session.journal.requests(entry) as requests:
                    keys.update(requests)
        return keys

    def _stop_waiting(self) -> None:
        """Leave the open batches to a later run: they stay in the journal."""
        names = ", ".join(entry.batch or "of unknown fate" for entry in self._session.open_batches.values())
        self._add_error(
            EndpointError(
                f"{self._session.journal.model}: batch {names} has not ended after "
                f"{duration_text(self._session.wait)}, so "
                "it is not waited for any longer (--batch-wait): the same command goes on waiting, and fetches it when "
                f"it has ended; to give it up, remove its files in {self._session.journal.directory}."
            )
        )

    def _take_up(self) -> tuple[set[str], set[str]]:
        """Take up the open batches of processes that are gone; return their keys, and those in batches of others.

        What was only planned was not submitted.
        """
        session, keys, foreign = self._session, set[str](), set[str]()
        for entry in session.journal.open_entries():
            if entry.state == "planned":
                self._release(entry)
                session.journal.update(entry, "abandoned", reason="the run ended before it was submitted")
                continue
            if not self._own(entry):
                with session.journal.requests(entry) as requests:
                    foreign.update(requests)
                continue
            session.open_batches[entry.tag] = entry
            self._inherited.add(entry.tag)
            with session.journal.requests(entry) as requests:
                keys.update(requests)
                session.take_over(requests)
            session.say(
                f"batch {entry.batch or 'of unknown fate'} of {counted(entry.count, 'request')} is taken up again"
            )
        return keys, foreign

    def _release(self, entry: JournalEntry) -> None:
        """Release what an earlier run reserved for the requests of a batch that was not submitted."""
        with self._session.journal.requests(entry) as requests:
            self._session.take_over(requests)
            for key in requests:
                if (request := requests.get(key)) is not None:
                    self._session.release(key, request)

    async def _submit_new(self, misses: Iterable[tuple[str, Request]], taken_up: set[str], foreign: set[str]) -> None:
        """Submit what is neither stored nor in a batch that was taken up, or is another process's."""
        seen: set[int] = set()
        for key, request in misses:
            short_key = int(key[:16], 16)
            if short_key in seen or self._session.store.get(key) is not None:
                continue
            seen.add(short_key)
            if key in taken_up:
                self._wanted.add(key)
            elif key in foreign:
                self._session.outcome.in_other_batches += 1
            else:
                await self._submitter.add(key, request)
        await self._submitter.flush()

    async def _resubmit(self) -> None:
        """Submit the first of the tracker's queue."""
        resubmission, foreign = self._queue.popleft(), self._keys_of_others()
        for key, request in resubmission.requests:
            if key in foreign:  # another process has put it into a batch meanwhile
                self._session.outcome.in_other_batches += 1
                continue
            await self._submitter.add(key, request, resubmission.turn, resubmission.tries)
        await self._submitter.flush()

    async def _submit(self, submission: Coroutine[None, None, None]) -> None:
        """Perform a submission. An endpoint that takes no batch ends it, while open batches go on."""
        try:
            await submission
        except EndpointError as exc:
            self._add_error(exc)
        finally:
            self._submitter.drop()

    async def _advance_all(self) -> float | None:
        """Look at every open batch once; return the seconds to wait before the next look where one failed."""
        wait = None
        session = self._session
        for entry in list(session.open_batches.values()):
            if session.is_stopping:
                break
            try:
                await self._advance(entry)
            except TransientError as exc:
                self._say_once(entry, f"{exc}; it is tried again")
                wait = max(wait or 0.0, session.poll, exc.retry_after or 0.0)
            except EndpointError as exc:  # the entry stays on the disk, the other batches go on
                self._add_error(exc)
                session.outcome.waiting = True
                del session.open_batches[entry.tag]
        return wait

    def _add_error(self, exc: EndpointError) -> None:
        if str(exc) not in self._session.outcome.errors:
            self._session.outcome.errors.append(str(exc))

    async def _advance(self, entry: JournalEntry) -> None:
        """Look at one batch once and do what follows from its state.

        Raises:
            TransientError: the look failed.
            EndpointError: the provider does not know the batch, or the endpoint is unusable.
        """
        if entry.state == "submitting":
            await self._search(entry)
            return
        batch = str(entry.batch)
        state = await self._session.provider.status(batch)
        if state.progress == "missing":
            self._report_missing(entry, batch)
            return
        self._counts[entry.tag, "missing"] = 0
        if state.fault and not self._counts[entry.tag, state.fault]:
            self._counts[entry.tag, state.fault] += 1
            self._session.say(f"batch {batch}: the endpoint describes it wrongly ({state.fault}); that is not used")
        if state.progress == "in_progress":
            self._say_once(
                entry, f"{state.done} of {counted(entry.count, 'request')} {agreeing(state.done, 'are')} done"
            )
        elif state.progress == "failed":
            self._handle_refusal(entry, state)
        else:
            await self._fetch(entry, batch, state)

    def _say_once(self, entry: JournalEntry, text: str) -> None:
        """Tell the user something about a batch, unless it was the last thing said about it."""
        if self._said.get(entry.tag) != text:
            self._said[entry.tag] = text
            self._session.say(f"batch {entry.batch or 'of unknown fate'}: {text}")

    async def _search(self, entry: JournalEntry) -> None:
        """Look for a batch of unknown fate in the provider's list."""
        session, undecided = self._session, False
        for candidate in await session.provider.find(entry, session.journal.batch_ids()):
            if candidate.certain or (candidate.ended and await self._has_results_of(entry, candidate.batch)):
                session.open_batches[entry.tag] = session.journal.update(entry, "submitted", batch=candidate.batch)
                session.say(f"batch {candidate.batch} was made, and is found again")
                return
            undecided = undecided or not candidate.ended
        if undecided:
            self._say_once(entry, "a batch that may be ours is not ended; only its results will tell")
        elif self._count(entry, "searches") >= MAX_SEARCHES:
            session.say(f"no batch was made of the {counted(entry.count, 'request')}")
            again = self._reclaim(entry, entry.tries + 1)
            self._close(entry, "abandoned", "the provider's list shows no such batch")
            if entry.tries >= MAX_TRIES:
                self._fail(again, "no batch came into being")
            elif again.requests:
                self._room += 1
                self._queue.append(again)

    async def _has_results_of(self, entry: JournalEntry, batch: str) -> bool:
        """Return whether the first readable result of a batch is of one of the entry's requests."""
        with self._session.journal.requests(entry) as requests:
            async with aclosing(self._session.provider.results(batch)) as lines:
                async for line in lines:
                    if line.key is not None:
                        return requests.get(line.key) is not None
        return False

    def _report_missing(self, entry: JournalEntry, batch: str) -> None:
        if self._count(entry, "missing") >= MAX_MISSING:
            raise EndpointError(
                f"batch {batch} is not known to the endpoint of {entry.model}: use the key and address that it was "
                f"submitted with, or remove {self._session.journal.path_of(entry)} to give it up and ask its requests "
                "again."
            )

    def _handle_refusal(self, entry: JournalEntry, state: BatchState) -> None:
        """Close a batch that was refused as a whole: nothing in it was executed, nothing is billed."""
        reason = f"batch {entry.batch} was refused: {state.reason or 'without a reason'}"
        again = self._reclaim(entry, entry.tries)
        self._close(entry, "abandoned", reason)
        self._session.say(reason)
        if state.queue_full and self._session.open_batches:
            self._queue.append(again)
        elif state.queue_full and len(again.requests) > 1:
            self._queue.extendleft(reversed(again.split()))
        else:
            self._fail(again, reason)

    async def _fetch(self, entry: JournalEntry, batch: str, state: BatchState) -> None:
        """Store the answers of an ended batch, and close it when each of its requests has a result."""
        session = self._session
        if entry.state != "ended":
            entry = session.open_batches[entry.tag] = session.journal.update(entry, "ended")
        with session.journal.requests(entry) as requests:
            reader = ResultReader(session, requests)
            await reader.read(batch)
            if reader.stopped:
                return
            if reader.missing and self._count(entry, "passes") < MAX_PASSES:
                missing = len(reader.missing)
                self._say_once(
                    entry, f"{counted(missing, 'request', 'are')} not among its results; they are read again"
                )
                return
            self._conclude(entry, state, requests, reader)

    def _conclude(self, entry: JournalEntry, state: BatchState, requests: RequestFile, reader: ResultReader) -> None:
        """Close a fetched batch; requests without an answer go into another one or fail."""
        session = self._session
        lost = BatchFailure(f"batch {entry.batch} has no readable result for it", retryable=state.progress == "expired")
        failures = {**reader.failures, **dict.fromkeys(reader.missing, lost)}
        again: list[tuple[str, Request]] = []
        for key, failure in failures.items():
            request = requests.get(key)
            if request is None:
                continue
            session.release(key, request)
            if not self._is_wanted(entry, key):
                continue
            if failure.retryable and entry.turn < MAX_TURNS:
                again.append((key, request))
            else:
                session.fail(key, request, failure)
        self._room += 1
        self._close(entry, "fetched", f"{len(failures)} without an answer" if failures else None)
        for count, what in ((reader.foreign, "are not of this batch"), (reader.unreadable, "cannot be read")):
            if count:
                session.say(f"{counted(count, 'line')} in the results of batch {entry.batch} {what}: ignored")
        answered = entry.count - len(failures)
        session.say(
            f"batch {entry.batch} is {state.progress}: {answered} of {counted(entry.count, 'request')} "
            f"{agreeing(answered, 'are')} answered"
        )
        if again:
            self._queue.append(Resubmission(tuple(again), entry.turn + 1))

    def _reclaim(self, entry: JournalEntry, tries: int) -> Resubmission:
        """Release the requests of a batch that does not exist and return those that this run wants."""
        with self._session.journal.requests(entry) as requests:
            pairs = [(key, request) for key in requests if (request := requests.get(key)) is not None]
        for key, request in pairs:
            self._session.release(key, request)
        return Resubmission(tuple(pair for pair in pairs if self._is_wanted(entry, pair[0])), entry.turn, tries)

    def _fail(self, resubmission: Resubmission, reason: str) -> None:
        for key, request in resubmission.requests:
            self._session.fail(key, request, BatchFailure(reason))

    def _is_wanted(self, entry: JournalEntry, key: str) -> bool:
        """Return whether this run asks for the key, not only the run that made the entry."""
        return entry.tag not in self._inherited or key in self._wanted

    def _close(self, entry: JournalEntry, state: Literal["fetched", "abandoned"], reason: str | None) -> None:
        self._session.journal.update(entry, state, reason=reason)
        del self._session.open_batches[entry.tag]

    def _count(self, entry: JournalEntry, what: str) -> int:
        """Count one more of this event for the entry, and return how many there were."""
        self._counts[entry.tag, what] += 1
        return self._counts[entry.tag, what]
