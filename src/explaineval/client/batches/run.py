"""A model's batches from beginning to end: those of earlier runs are taken up, then what is missing is submitted.

A run may stop or die at any point. The journal says what was submitted and the store what was answered; the next run
needs nothing else, and no request is put into a second batch while its first may still answer it.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable

from explaineval.client.batches.submit import BatchOutcome, BatchSession, BatchSubmitter
from explaineval.client.batches.track import BatchTracker
from explaineval.errors import EndpointError, TransientError
from explaineval.records import Request
from explaineval.text import duration

LOCK_WAIT = 1.0
"""Seconds between two looks whether another process has finished its work on the same batches."""


async def run_batches(session: BatchSession, misses: Iterable[tuple[str, Request]]) -> BatchOutcome:
    """Ask by batches for those of `misses` (key, request) that are not stored, and store the answers.

    One process at a time works on a model's batches. Another one waits for it, and then finds the answers in the store.
    The outcome's `errors` describe an unusable endpoint. Whatever is raised, the journal stays, and the next call goes
    on from there.

    Raises:
        StoreError: the store or the journal cannot be read or written.
        InputError: the variable of the key is not set, or the journal is damaged.
    """
    said = False
    while not session.is_stopping:
        with session.journal.lock() as locked:
            if locked:
                return await _BatchRun(session).run(misses)
        if not said:
            session.say("another process works on this model's batches; waiting for it")
            said = True
        await session.pause(min(session.poll, LOCK_WAIT))
    session.outcome.unsent += sum(session.store.get(key) is None for key, _ in misses)
    session.outcome.waiting = bool(session.journal.open_entries())
    return session.outcome


class _BatchRun:
    """One call of `run_batches` in the process that holds the lock."""

    def __init__(self, session: BatchSession) -> None:
        self._session = session
        self._submitter = BatchSubmitter(session)
        self._tracker = BatchTracker(session)

    async def run(self, misses: Iterable[tuple[str, Request]]) -> BatchOutcome:
        session, queue = self._session, self._tracker.queue
        end = session.now() + session.wait
        await self._submit(self._submit_new(misses, self._take_up()))
        while (session.open_batches or queue) and not session.is_stopping:
            wait = await self._advance_all()
            while queue and (self._tracker.room or not session.open_batches) and not session.is_stopping:
                self._tracker.room = max(0, self._tracker.room - 1)
                await self._submit(self._resubmit())
            if session.open_batches and session.now() >= end:
                self._stop_waiting()
                break
            if session.open_batches:
                await session.pause(wait)
        session.outcome.unsent += sum(len(resubmission.requests) for resubmission in queue)
        session.outcome.waiting |= bool(session.open_batches)
        return session.outcome

    def _stop_waiting(self) -> None:
        """Leave the open batches to a later run: they stay in the journal."""
        names = ", ".join(entry.batch or "of unknown fate" for entry in self._session.open_batches.values())
        self._add_error(
            EndpointError(
                f"{self._session.journal.model}: batch {names} has not ended after {duration(self._session.wait)}, so "
                "it is not waited for any longer (--batch-wait): the same command goes on waiting, and fetches it when "
                f"it has ended; to give it up, remove its files in {self._session.journal.directory}."
            )
        )

    def _take_up(self) -> set[str]:
        """Take up the open batches of earlier runs and return their keys. What was only planned was not submitted."""
        session, keys = self._session, set[str]()
        for entry in session.journal.open_entries():
            if entry.state == "planned":
                session.journal.update(entry, "abandoned", reason="the run ended before it was submitted")
                continue
            session.open_batches[entry.tag] = entry
            self._tracker.inherited.add(entry.tag)
            with session.journal.requests(entry) as requests:
                keys.update(requests)
            session.say(f"batch {entry.batch or 'of unknown fate'} of {entry.count} requests is taken up again")
        return keys

    async def _submit_new(self, misses: Iterable[tuple[str, Request]], taken_up: set[str]) -> None:
        """Submit what is neither stored nor in a batch that was taken up."""
        seen: set[int] = set()
        for key, request in misses:
            short_key = int(key[:16], 16)
            if short_key in seen or self._session.store.get(key) is not None:
                continue
            seen.add(short_key)
            if key in taken_up:
                self._tracker.wanted.add(key)
            else:
                await self._submitter.add(key, request)
        await self._submitter.flush()

    async def _resubmit(self) -> None:
        """Submit the first of the tracker's queue."""
        resubmission = self._tracker.queue.popleft()
        for key, request in resubmission.requests:
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
