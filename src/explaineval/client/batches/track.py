"""What becomes of a submitted batch: found again, refused, ended; its answers stored, the rest asked again or named."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from explaineval.cache import Store
from explaineval.client.batches.journal import Books, Ledger, Shelf
from explaineval.client.batches.protocol import BatchFailure, BatchProvider, BatchState, Line, RequestFile
from explaineval.client.batches.submit import Parcel, Patience, look_for
from explaineval.errors import EndpointError
from explaineval.records import Completion, Request

GROUP = 200
"""Answers that are committed to the disk together."""


@dataclass
class Retrieval:
    """One pass over the results of a batch. `failures` and `missing` are by key; `strangers` counts foreign lines."""

    failures: dict[str, BatchFailure] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    strangers: int = 0
    unreadable: int = 0
    stopped: bool = False


@dataclass
class _Pass:
    provider: BatchProvider
    store: Store
    books: Books
    requests: RequestFile
    found: Retrieval = field(default_factory=Retrieval)
    answered: set[str] = field(default_factory=set)
    group: list[tuple[str, Request, Completion]] = field(default_factory=list)

    async def take(self, line: Line) -> None:
        """Sort one line. What is stored already, from an earlier pass or another line, is left as it is."""
        if line.key is None:
            self.found.unreadable += 1
            return
        request = self.requests.get(line.key)
        if request is None:
            self.found.strangers += 1
            return
        if line.key in self.answered or self.store.get(line.key) is not None:
            self.answered.add(line.key)
            return
        result = await self.provider.read(request, line)
        if isinstance(result, BatchFailure):
            self.found.failures.setdefault(line.key, result)
            return
        self.answered.add(line.key)
        self.group.append((line.key, request, result))
        if len(self.group) >= GROUP:
            await self.commit()

    async def commit(self) -> None:
        """Store the group, then tell of it."""
        group, self.group = self.group, []
        await asyncio.gather(*(self.store.put(request, completion) for _, request, completion in group))
        for key, request, completion in group:
            self.books.answer(key, request, completion)

    def finish(self) -> Retrieval:
        """What is left without an answer."""
        for key in self.answered:
            self.found.failures.pop(key, None)
        self.found.missing = [
            key for key in self.requests if key not in self.answered and key not in self.found.failures
        ]
        return self.found


async def retrieve(
    provider: BatchProvider,
    store: Store,
    books: Books,
    requests: RequestFile,
    batch: str,
    stopping: Callable[[], bool],
) -> Retrieval:
    """Store every answer of the batch that is not stored yet. Order and repetitions do not matter.

    Raises TransientError where the results break off (what came before is stored), EndpointError, StoreError.
    """
    one = _Pass(provider, store, books, requests)
    lines = cast("Any", provider.results(batch))  # a generator, whose connection must be closed
    async with aclosing(lines):
        try:
            async for line in lines:
                await one.take(line)
                if stopping():
                    one.found.stopped = True
                    break
        finally:
            await one.commit()
    return one.finish()


LOOKS = 3
"""How often, a poll apart, the provider's list must show no batch that could be ours before another is submitted."""
ASKED_FOR = 3
"""How often, a poll apart, the provider must not know a batch of ours before that is believed."""
PASSES = 3
"""How often the results of a batch are read while some of its requests are not among them."""
TURNS = 2
"""How many batches a request goes into that one after the other expire, or fail for a while."""
TRIES = 3
"""How many batches in a row may fail to come into being."""


@dataclass
class Follower:
    """Follows the batches under way. `live` are their ledgers by tag, `inherited` the tags of earlier runs' ones.

    `wanted` are the keys of inherited batches that this run asks for too. `held` is to be submitted again: one parcel
    for each of `room`, or when nothing is live any more.
    """

    provider: BatchProvider
    store: Store
    shelf: Shelf
    books: Books
    patience: Patience
    say: Callable[[str], None]
    live: dict[str, Ledger] = field(default_factory=dict)
    inherited: set[str] = field(default_factory=set)
    wanted: set[str] = field(default_factory=set)
    held: deque[Parcel] = field(default_factory=deque)
    room: int = 0
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _told: dict[str, str] = field(default_factory=dict)

    async def advance(self, ledger: Ledger) -> None:
        """One look at one batch, and what follows from it. Raises TransientError where the look failed."""
        if ledger.state == "submitting":
            await self._search(ledger)
            return
        batch = str(ledger.batch)
        state = await self.provider.status(batch)
        if state.progress == "missing":
            self._miss(ledger, batch)
            return
        self._counts[ledger.tag, "missing"] = 0
        if state.progress == "in_progress":
            self.tell_once(ledger, f"{state.done} of {ledger.count} requests are done")
        elif state.progress == "failed":
            self._refuse(ledger, state)
        else:
            await self._fetch(ledger, batch, state)

    async def _search(self, ledger: Ledger) -> None:
        sighting = await look_for(self.provider, self.shelf, ledger)
        if sighting.batch is not None:
            self.live[ledger.tag] = self.shelf.move(ledger, "submitted", batch=sighting.batch)
            self.say(f"batch {sighting.batch} was made, and is found again")
        elif sighting.undecided:
            self.tell_once(ledger, "a batch that may be ours is not ended; only its results will tell")
        elif self._count(ledger, "looks") >= LOOKS:
            self.say(f"no batch was made of the {ledger.count} requests")
            parcel = self._reclaim(ledger, ledger.turn, ledger.tries + 1)
            self._close(ledger, "abandoned", "the provider's list shows no such batch")
            self._put_back(parcel, "no batch came into being", ledger.tries < TRIES)

    def _miss(self, ledger: Ledger, batch: str) -> None:
        if self._count(ledger, "missing") >= ASKED_FOR:
            raise EndpointError(
                f"batch {batch} is not known to the endpoint of {ledger.model}: use the key and address that it was "
                f"submitted with, or remove {self.shelf.page(ledger)} to give it up and ask its requests again."
            )

    def _refuse(self, ledger: Ledger, state: BatchState) -> None:
        """The batch was refused as a whole: nothing in it was executed, nothing is billed."""
        reason = f"batch {ledger.batch} was refused: {state.reason or 'without a reason'}"
        parcel = self._reclaim(ledger, ledger.turn, ledger.tries)
        self._close(ledger, "abandoned", reason)
        self.say(reason)
        if state.full and self.live:
            self.held.append(parcel)
        elif state.full and len(parcel.requests) > 1:
            self.held.extendleft(reversed(parcel.halves()))
        else:
            self._put_back(parcel, reason, False)

    async def _fetch(self, ledger: Ledger, batch: str, state: BatchState) -> None:
        if ledger.state != "ended":
            ledger = self.live[ledger.tag] = self.shelf.move(ledger, "ended")
        with self.shelf.requests(ledger) as requests:
            found = await retrieve(self.provider, self.store, self.books, requests, batch, lambda: self.patience.over)
        if found.stopped:
            return
        if found.missing and self._count(ledger, "passes") < PASSES:
            self.tell_once(ledger, f"{len(found.missing)} requests are not among its results; they are read again")
            return
        self._conclude(ledger, state, found)

    def _conclude(self, ledger: Ledger, state: BatchState, found: Retrieval) -> None:
        lost = BatchFailure(
            f"batch {ledger.batch} has no readable result for it", retryable=state.progress == "expired"
        )
        failures = {**found.failures, **dict.fromkeys(found.missing, lost)}
        again: list[tuple[str, Request]] = []
        with self.shelf.requests(ledger) as requests:
            for key, failure in failures.items():
                request = requests.get(key)
                if request is None:
                    continue
                if failure.retryable and ledger.turn < TURNS and self._is_wanted(ledger, key):
                    self.books.release(key, request)
                    again.append((key, request))
                elif self._is_wanted(ledger, key):
                    self.books.fail(key, request, failure)
        self.room += 1
        self._close(ledger, "fetched", f"{len(failures)} without an answer" if failures else None)
        for count, what in ((found.strangers, "are not of this batch"), (found.unreadable, "cannot be read")):
            if count:
                self.say(f"{count} lines in the results of batch {ledger.batch} {what}: ignored")
        done = ledger.count - len(failures)
        self.say(f"batch {ledger.batch} is {state.progress}: {done} of {ledger.count} requests are answered")
        if again:
            self.held.append(Parcel(tuple(again), ledger.turn + 1))

    def _reclaim(self, ledger: Ledger, turn: int, tries: int) -> Parcel:
        """The requests of a batch that is none, as far as they are wanted now; what was reserved for them is free."""
        with self.shelf.requests(ledger) as requests:
            pairs = [(key, requests.get(key)) for key in requests if self._is_wanted(ledger, key)]
        wanted = tuple((key, request) for key, request in pairs if request is not None)
        for key, request in wanted:
            self.books.release(key, request)
        return Parcel(wanted, turn, tries)

    def _put_back(self, parcel: Parcel, reason: str, again: bool) -> None:
        if again and parcel.requests:
            self.room += 1
            self.held.append(parcel)
        elif not again:
            for key, request in parcel.requests:
                self.books.fail(key, request, BatchFailure(reason))

    def _is_wanted(self, ledger: Ledger, key: str) -> bool:
        """Whether this run asks for the key, not only the run that made the ledger."""
        return ledger.tag not in self.inherited or key in self.wanted

    def _close(self, ledger: Ledger, state: Literal["fetched", "abandoned"], reason: str | None) -> None:
        self.shelf.move(ledger, state, reason=reason)
        del self.live[ledger.tag]

    def _count(self, ledger: Ledger, what: str) -> int:
        self._counts[ledger.tag, what] += 1
        return self._counts[ledger.tag, what]

    def tell_once(self, ledger: Ledger, text: str) -> None:
        """Say it of a batch unless it was the last thing said of it."""
        if self._told.get(ledger.tag) != text:
            self._told[ledger.tag] = text
            self.say(f"batch {ledger.batch or 'of unknown fate'}: {text}")
