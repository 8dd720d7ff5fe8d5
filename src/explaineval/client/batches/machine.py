"""The state machine of a model's batches: planned → submitting → submitted → ended → fetched, or abandoned.

Batches of earlier runs are taken up, what is missing is submitted, answers of ended batches are stored, and requests
without an answer go into another batch or get a reason. The same machine serves every provider of `providers`.

A run may stop or die at any point. The journal says what was submitted and the store what was answered; the next run
needs nothing else, and no request is put into a second batch while its first may still answer it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Coroutine, Iterable
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from typing import Literal, Self

from explaineval.client.batches.client import LINES_EACH, SPARE_LINES, BatchFailure
from explaineval.client.batches.journal import JournalEntry, RequestFile
from explaineval.client.batches.providers import BatchState, ResultLine
from explaineval.client.batches.submit import BatchOutcome, BatchSession, BatchSubmitter
from explaineval.errors import EndpointError, TransientError
from explaineval.records import Completion, Request
from explaineval.text import agreeing, counted, duration_text

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
