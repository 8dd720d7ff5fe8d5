"""A model's batches from beginning to end: those of earlier runs are taken up, then what is missing is submitted.

A run may stop or die at any point. The journal says what was submitted and the store what was answered; the next run
needs nothing else, and no request is put into a second batch while its first may still answer it.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Iterable
from contextlib import ExitStack
from typing import Self

from explaineval.client.batches.journal import JournalEntry
from explaineval.client.batches.submit import BatchOutcome, BatchSession, BatchSubmitter
from explaineval.client.batches.track import BatchTracker
from explaineval.errors import EndpointError, TransientError
from explaineval.records import Request
from explaineval.text import counted, duration_text

LOCK_WAIT = 1.0
"""Seconds between two looks whether another process has finished its work on the same batches."""


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
    with _BatchRun(session) as run:
        while not session.is_stopping:
            with session.journal.lock() as locked:
                wait = await run.step(misses) if locked else min(session.poll, LOCK_WAIT)
            if run.ended:
                break
            await session.pause(wait)
        run.count_rest(misses)
    return session.outcome


class _BatchRun:
    """One call of `run_batches`. Use it as a context manager: leaving it gives up the batches that are its own."""

    def __init__(self, session: BatchSession) -> None:
        self._session = session
        self._submitter = BatchSubmitter(session)
        self._tracker = BatchTracker(session)
        self._owned: dict[str, ExitStack] = {}
        """What holds the lock of each batch that is this process's own, by tag."""
        self._end: float | None = None
        self.ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for owned in self._owned.values():
            owned.close()

    async def step(self, misses: Iterable[tuple[str, Request]]) -> float | None:
        """Do what there is to do now, while no other process does; return for how long to wait then."""
        session, queue = self._session, self._tracker.queue
        if self._end is None:
            self._end = time.monotonic() + session.wait
            taken_up, foreign = self._take_up()
            await self._submit(self._submit_new(misses, taken_up, foreign))
        self._own_open_batches()
        wait = await self._advance_all()
        while queue and (self._tracker.room or not session.open_batches) and not session.is_stopping:
            self._tracker.room = max(0, self._tracker.room - 1)
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
        session.outcome.unsent += sum(len(resubmission.requests) for resubmission in self._tracker.queue)
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
            self._tracker.inherited.add(entry.tag)
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
                self._tracker.wanted.add(key)
            elif key in foreign:
                self._session.outcome.in_other_batches += 1
            else:
                await self._submitter.add(key, request)
        await self._submitter.flush()

    async def _resubmit(self) -> None:
        """Submit the first of the tracker's queue."""
        resubmission, foreign = self._tracker.queue.popleft(), self._keys_of_others()
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
                await self._tracker.advance(entry)
            except TransientError as exc:
                self._tracker.say_once(entry, f"{exc}; it is tried again")
                wait = max(wait or 0.0, session.poll, exc.retry_after or 0.0)
            except EndpointError as exc:  # the entry stays on the disk, the other batches go on
                self._add_error(exc)
                session.outcome.waiting = True
                del session.open_batches[entry.tag]
        return wait

    def _add_error(self, exc: EndpointError) -> None:
        if str(exc) not in self._session.outcome.errors:
            self._session.outcome.errors.append(str(exc))
