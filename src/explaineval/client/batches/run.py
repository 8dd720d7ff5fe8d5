"""A model's batches from beginning to end: what earlier runs left is taken up first, then what is missing is asked.

It may stop or die at any point. The ledgers on the disk say what was submitted, the store says what was answered; the
next course needs nothing else, and no request is put into a second batch while its first may still answer it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from pathlib import Path

from explaineval.cache import Claims, Store
from explaineval.client.batches.journal import BatchOutcome, Books, Reserve, Settle, Shelf
from explaineval.client.batches.protocol import BatchProvider
from explaineval.client.batches.submit import MOST_REQUESTS, Intake, Patience
from explaineval.client.batches.track import Follower
from explaineval.errors import EndpointError, TransientError
from explaineval.records import Request

LOCK_WAIT = 1.0


async def run_batches(
    provider: BatchProvider,
    store: Store,
    directory: Path,
    endpoint: str | None,
    model: str,
    misses: Iterable[tuple[str, Request]],
    *,
    poll: float,
    stopping: asyncio.Event,
    reserve: Reserve | None = None,
    settle: Settle | None = None,
    tell: Callable[[str], None] = lambda _: None,
    claims: Claims | None = None,
    most: int = MOST_REQUESTS,
    now: Callable[[], float] = time.time,
    new_tag: Callable[[], str] = lambda: uuid.uuid4().hex,
) -> BatchOutcome:
    """Ask by batches whatever of `misses` (key, request) is not stored, and store the answers.

    `directory` holds the ledgers, `endpoint` is the identity in the requests, `poll` in seconds. One process at a
    time works on a model's batches; another waits for it, then finds the answers in the store. `reserve` and `settle`
    are the spending limit's (see `books`); `settle` also hears of completions that an earlier run paid for. When
    `stopping` is set the course returns at the next step, with `waiting` where batches go on at the provider. With
    `claims` a request that another process is asking for by itself goes into no batch (`elsewhere`).

    An unusable endpoint is told in `faults`. Raises StoreError, and InputError for a key variable that is not set or a
    damaged ledger; whatever is raised, the ledgers stay, and the next course goes on from there.
    """
    books, patience = Books(reserve, settle), Patience(stopping, poll)
    shelf = Shelf(directory, provider.name, endpoint, model)

    def say(text: str) -> None:
        tell(f"{model}: {text}")

    told = False
    while not patience.over:
        with shelf.hold() as held:
            if held:
                following = Follower(provider, store, shelf, books, patience, say)
                live = following.live
                intake = Intake(provider, shelf, books, live, patience, say, now, new_tag, store, claims, most)
                return await Course(following, intake).run(misses)
        if not told:
            say("another process works on this model's batches; waiting for it")
            told = True
        await patience.pause(min(poll, LOCK_WAIT))
    books.outcome.unsent += sum(store.get(key) is None for key, _ in misses)
    books.outcome.waiting = bool(shelf.open_ledgers())
    return books.outcome


@dataclass
class Course:
    """One course of `run_batches`, in the process that holds the lock."""

    following: Follower
    intake: Intake

    async def run(self, misses: Iterable[tuple[str, Request]]) -> BatchOutcome:
        """See `run_batches`."""
        following, outcome, patience = self.following, self.following.books.outcome, self.following.patience
        taken = self._take_up()
        await self._guard(self._submit(misses, taken))
        while (following.live or following.held) and not patience.over:
            wait = await self._look_round()
            while following.held and (following.room or not following.live) and not patience.over:
                following.room = max(0, following.room - 1)
                await self._guard(self.intake.send(following.held.popleft()))
            if following.live:
                await patience.pause(wait)
        outcome.unsent += sum(len(parcel.requests) for parcel in following.held)
        outcome.waiting |= bool(following.live)
        return outcome

    async def _look_round(self) -> float | None:
        """Look at every batch once; the seconds to wait before the next round where a look failed."""
        wait = None
        following, patience = self.following, self.following.patience
        for ledger in list(following.live.values()):
            if patience.over:
                break
            try:
                await following.advance(ledger)
            except TransientError as exc:
                following.tell_once(ledger, f"{exc}; it is tried again")
                wait = max(wait or 0.0, patience.poll, exc.retry_after or 0.0)
            except EndpointError as exc:  # the ledger stays on the disk, the other batches go on
                self._fault(exc)
                following.books.outcome.waiting = True
                del following.live[ledger.tag]
        return wait

    async def _guard(self, submission: Coroutine[None, None, None]) -> None:
        """An endpoint that takes no batch takes no other either; those under way go on."""
        try:
            await submission
        except EndpointError as exc:
            self._fault(exc)
        finally:
            self.intake.drop()

    def _fault(self, exc: EndpointError) -> None:
        faults = self.following.books.outcome.faults
        if str(exc) not in faults:
            faults.append(str(exc))

    def _take_up(self) -> set[str]:
        """The open ledgers of earlier runs, and their keys; what was only planned was never submitted."""
        following, taken = self.following, set[str]()
        for ledger in following.shelf.open_ledgers():
            if ledger.state == "planned":
                following.shelf.move(ledger, "abandoned", reason="the run ended before it was submitted")
                continue
            following.live[ledger.tag] = ledger
            following.inherited.add(ledger.tag)
            with following.shelf.requests(ledger) as requests:
                taken.update(requests)
            following.say(f"batch {ledger.batch or 'of unknown fate'} of {ledger.count} requests is taken up again")
        return taken

    async def _submit(self, misses: Iterable[tuple[str, Request]], taken: set[str]) -> None:
        seen: set[int] = set()
        for key, request in misses:
            short = int(key[:16], 16)
            if short in seen or self.following.store.get(key) is not None:
                continue
            seen.add(short)
            if key in taken:
                self.following.wanted.add(key)
            else:
                await self.intake.take(key, request)
        await self.intake.flush()
