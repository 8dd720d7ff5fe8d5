"""Repeat attempts that failed for a while, and wait for an endpoint that does not answer any more.

A single request is repeated after as long as the endpoint asks for, else with exponential backoff. Where an endpoint
that has answered in this run is out of service, all its requests wait. One of them at a time is sent, to find out
whether it answers again, with growing pauses in between. The first answer lets all of them go on; after `patience`
seconds without an answer nothing more is sent there.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from explaineval.client.protocol import Client
from explaineval.errors import EndpointError, ExplainevalError, RequestUnsentError, TransientError
from explaineval.records import Completion, Request
from explaineval.text import duration_text

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
"""Seconds between two attempts of an outage: the first, which is doubled each time, and the longest."""
FEWEST, FEWEST_SECONDS = 3, 1.0
"""So many failures in a row over so many seconds are an outage."""
LONE_PATIENCE = 30.0
"""For how many seconds an endpoint is waited for at most that only one request finds out of service, and that takes its
connections: the request may be the cause."""
MANY, OVERLOADED_SECONDS = 8, 3.0
"""More failures in a row than this, and than there are slots, are an outage; where the endpoint says that it is
overloaded, over so many seconds."""
MODEL_AND_ADDRESS = re.compile(r"^\S+ at \S+: ")
"""How the error of an attempt at an address begins."""


@dataclass(frozen=True)
class OutageStatus:
    """What is known of an endpoint that is waited for. All times are in UTC.

    `place` names the endpoint, `reason` says how the latest attempt failed, `tries` counts the attempts since it is
    waited for. At `until` it is given up.
    """

    place: str
    reason: str
    since: datetime
    next_try: datetime
    until: datetime
    tries: int

    @property
    def sentence(self) -> str:
        """What is waited for, since when, and when it is tried again."""
        return (
            f"waiting for {self.place} since {_clock(self.since)}: {self.reason.rstrip('.')}. It is tried next at "
            f"{_clock(self.next_try)}, and given up at {_clock(self.until)} (--patience); what was paid for is kept."
        )


@runtime_checkable
class ProbeTurns(Protocol):
    """Lets one of several processes at a time try an endpoint that all of them wait for."""

    async def next_probe(self, place: str) -> bool:
        """Wait until this process may try the endpoint; False where another one has found that it answers again."""
        ...

    def probed(self, place: str, *, answers: bool) -> None:
        """Note what came of the attempt that `next_probe` allowed."""
        ...


@dataclass(eq=False)
class Availability:
    """Whether one endpoint answers, as all requests to it tell. Shared by all models asked there.

    Args:
        place: the endpoint's name or URL.
        patience: for how many seconds an endpoint that has answered is waited for; 0 for not at all.
        stopping: set when the run stops: then nothing is waited for.
        slots: how many requests may be under way at once.
        report: shows a message to the user.
        turns: coordinates several processes.

    Attributes:
        answers: the requests that it has answered in this run.
        outage: what is known of the outage under way; None while it answers.
        error: why it was given up.
        waited: the seconds of all outages that are over, `outages` their number.
    """

    place: str = ""
    patience: float = 0.0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    slots: Callable[[], int] = lambda: 1
    report: Callable[[str], None] = lambda _: None
    turns: ProbeTurns | None = None
    answers: int = field(default=0, init=False)
    outage: OutageStatus | None = field(default=None, init=False)
    error: EndpointError | None = field(default=None, init=False)
    waited: float = field(default=0.0, init=False)
    outages: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._failures = 0
        self._failed: list[Request] = []  # at most two of those that failed in a row: more than one speak for an outage
        self._first = self._next = 0.0
        self._pause = FIRST_PAUSE
        self._probing = self._reported = self._refuses = False
        self._waiting: deque[asyncio.Future[bool]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None

    def is_waited_for(self, failure: TransientError | EndpointError) -> bool:
        """Return whether a failure of this kind is waited for: the endpoint has answered before, and may come back."""
        return failure.unavailable and self.patience > 0 and self.answers > 0

    @property
    def is_patience_over(self) -> bool:
        """Return whether it has not answered for as long as it is waited for."""
        return bool(self._failures) and asyncio.get_running_loop().time() >= self._first + self._longest_wait

    @property
    def _longest_wait(self) -> float:
        return self.patience if self._refuses or len(self._failed) > 1 else min(self.patience, LONE_PATIENCE)

    async def enter(self) -> bool:
        """Wait while the endpoint is out; return whether the request is the one that finds out if it answers again.

        Raises RequestUnsentError where the run stops meanwhile, or the endpoint is given up.
        """
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._schedule()
        stopped = asyncio.create_task(self.stopping.wait())
        waited_for: set[asyncio.Future[bool] | asyncio.Task[Any]] = {turn, stopped}
        try:
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if turn.done() and turn.result():
                self.leave(probing=True)
            raise
        finally:
            stopped.cancel()
        probing = turn.done() and turn.result()
        turn.cancel()
        if self.error is not None:
            raise RequestUnsentError(str(self.error))
        if self.stopping.is_set():
            self.leave(probing=probing)
            raise RequestUnsentError("stopped while waiting for the endpoint")
        return probing

    def failed(self, request: Request, failure: TransientError, *, probing: bool) -> None:
        """Note an attempt that failed; where it tells of an outage, the outage begins or goes on."""
        if not self.is_waited_for(failure):
            self.replied(probing=probing)
            return
        now = asyncio.get_running_loop().time()
        if not self._failures:
            self._first = now
        self._failures += 1
        self._refuses = self._refuses or failure.refused
        if len(self._failed) < 2 and request not in self._failed:
            self._failed.append(request)
        if probing:
            self._probe_failed(failure)
        elif self.outage is None and self._tells_of_outage(failure, now - self._first):
            self.begin(failure)

    def begin(self, failure: TransientError) -> None:
        """Begin an outage, of which the endpoint's latest failure tells."""
        self._pause = FIRST_PAUSE
        self._reported = False
        self._plan_next(failure, tries=0)

    def answered(self) -> None:
        """Note an answer: the endpoint is there."""
        self.answers += 1
        if self._failures:
            self._end()

    def replied(self, *, probing: bool) -> None:
        """Note a reply that is no answer, such as status 400 or 500: the endpoint is there."""
        if self._failures and (probing or self.outage is None):
            self._end()

    def leave(self, *, probing: bool) -> None:
        """Note that an attempt was given up before anything came of it; another request is tried instead of a probe."""
        if probing:
            self._probing = False
            self._schedule()

    def _tells_of_outage(self, failure: TransientError, seconds: float) -> bool:
        many = self._failures > max(MANY, self.slots())
        if failure.overload:
            return many and seconds >= OVERLOADED_SECONDS
        return failure.refused or many or (self._failures >= FEWEST and seconds >= FEWEST_SECONDS)

    def _probe_failed(self, failure: TransientError) -> None:
        self._probing = False
        if self.turns is not None:
            self.turns.probed(self.place, answers=False)
        if self.outage is None:
            return
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        self._plan_next(failure, tries=self.outage.tries + 1)
        if self.outage is not None and not self._reported:  # one that is over at once is not worth a message
            self._reported = True
            self.report(self.outage.sentence)

    def _plan_next(self, failure: TransientError, tries: int) -> None:
        """Plan the next attempt, or give the endpoint up where its time is over."""
        now = asyncio.get_running_loop().time()
        end = self._first + self._longest_wait
        self._next = min(end, now + max(self._pause, failure.retry_after or 0.0))
        if now >= end:
            self._give_up(failure)
            return
        today = datetime.now(UTC)
        since, next_try, until = (today + timedelta(seconds=when - now) for when in (self._first, self._next, end))
        reason = MODEL_AND_ADDRESS.sub("", str(failure))  # the address is said beside it, and all models wait for it
        self.outage = OutageStatus(self.place, reason, since, next_try, until, tries)
        self._schedule()

    def _give_up(self, failure: TransientError) -> None:
        """End the outage without an answer; where only one request failed, it alone fails, and others are tried."""
        self.outage = None
        if len(self._failed) > 1 or self._refuses:
            self.error = EndpointError(
                f"{str(failure).rstrip('.')}; it was waited for as long as --patience says "
                f"({duration_text(self.patience)}), so nothing more is sent there: give the same command again when it "
                "answers."
            )
        self._let_go()

    def _end(self, *, is_known: bool = False) -> None:
        """Let everything go on: the endpoint is there, as the other processes know already or are told."""
        self._failures, self._failed = 0, []
        self._probing = self._refuses = False
        if self.outage is None:
            return
        seconds = asyncio.get_running_loop().time() - self._first
        self.outages += 1
        self.waited += seconds
        if self.turns is not None and not is_known:
            self.turns.probed(self.place, answers=True)
        if self._reported:
            self.report(
                f"{self.place or 'the endpoint'} answers again after {duration_text(seconds)}: the run goes on."
            )
        self.outage = None
        self._let_go()

    def _let_go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, deque()
        for turn in waiting:
            if not turn.done():
                turn.set_result(False)

    def _schedule(self) -> None:
        """Have the request that waits longest sent when it is time to."""
        if self.outage is None:
            self._let_go()
        elif not self._probing and self._timer is None and self._waiting:
            self._timer = asyncio.get_running_loop().call_at(self._next, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        if self.turns is None:
            self._send_one()
        elif self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask_for_turn(self.turns))

    async def _ask_for_turn(self, turns: ProbeTurns) -> None:
        if await turns.next_probe(self.place):
            self._send_one()
        elif not self.stopping.is_set():
            self._end(is_known=True)

    def _send_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._probing = True
                turn.set_result(True)
                return


def _clock(when: datetime) -> str:
    return when.astimezone().strftime("%H:%M:%S")


LONGEST_WAIT = 60.0
LONGEST_WAIT_IF_BUSY = 4.0
"""Seconds, while other requests are answered: the concurrency limit already keeps the load down."""
ATTEMPTS_IF_REFUSED = 3
"""Attempts at an address that refuses connections and has never answered: probably nothing listens there."""
PATIENCE = 3
"""A busy endpoint that answers other requests may turn one away for overload (429, 503, 529) so many times as often as
the request may fail otherwise: nothing is wrong with it, and nothing was paid."""
BREAKS_IT = 6
"""So many times more than once a request may fail while its endpoint goes out of service: that one may be the cause."""


@dataclass
class RetryingClient:
    """Sends a request again after a transient failure, up to `max_retries` more times.

    It waits without holding a slot of the concurrency limit. `busy` returns whether the endpoint answers other requests
    while it turns this one away. While the endpoint is out of service (`availability`), attempts are not counted.
    """

    inner: Client
    max_retries: int
    stopping: asyncio.Event
    busy: Callable[[], bool] = lambda: False
    first_wait: float = 0.5
    availability: Availability = field(default_factory=Availability)
    retries: int = field(default=0, init=False)
    _answered: bool = field(default=False, init=False)

    async def complete(self, request: Request) -> Completion:
        """Return the completion of the first successful attempt; raise the last error when no attempt is left."""
        failure: TransientError | None = None
        answers = self.availability.answers
        try:
            completion = await self._attempt(request)
        except TransientError as exc:  # set up only now: that takes more time than all else of an attempt that succeeds
            failure = exc
        if failure is not None:
            completion = await self._repeat(request, failure, answers)
        self._answered = True
        return completion

    async def _repeat(self, request: Request, failure: TransientError, answers: int) -> Completion:
        """Repeat an attempt that failed like this; when it began, the endpoint had given so many answers."""
        attempts = _Attempts(
            self.max_retries, self.first_wait, self.busy, self.availability, answers, answered_before=self._answered
        )
        retrying = AsyncRetrying(
            stop=attempts.stop,
            wait=attempts.wait,
            retry=retry_if_exception_type(TransientError),
            sleep=self._sleep,
            before_sleep=self._count,
            reraise=True,
        )
        made = [failure]

        async def attempt() -> Completion:
            if made:
                raise made.pop()
            attempts.begin()
            return await self._attempt(request)

        completion: Completion = await retrying(attempt)
        return completion

    async def _attempt(self, request: Request) -> Completion:
        """Send a request once; where its endpoint is out of service, when it is this one's turn."""
        endpoint = self.availability
        probing = endpoint.outage is not None and await endpoint.enter()
        try:
            completion = await self.inner.complete(request)
        except TransientError as exc:
            endpoint.failed(request, exc, probing=probing)
            raise
        except (RequestUnsentError, asyncio.CancelledError):
            endpoint.leave(probing=probing)
            raise
        except ExplainevalError:
            endpoint.replied(probing=probing)
            raise
        endpoint.answered()
        return completion

    def _count(self, _: RetryCallState) -> None:
        self.retries += 1

    async def _sleep(self, seconds: float) -> None:
        """Sleep, unless the run stops meanwhile: what waits was not paid for, and is not sent then."""
        if not seconds:
            return
        try:
            async with asyncio.timeout(seconds):
                await self.stopping.wait()
        except TimeoutError:
            return
        raise RequestUnsentError("stopped while waiting to ask again")


@dataclass
class _Attempts:
    """Counts how often one request failed, and how often it was turned away for overload.

    `answers` are those of the endpoint when the latest attempt began, `was_out` whether it was out of service then,
    `hits` the attempts that failed while it went out of service.
    """

    max_retries: int
    first_wait: float
    busy: Callable[[], bool]
    availability: Availability
    answers: int
    answered_before: bool
    was_out: bool = False
    hits: int = 0
    failures: int = 0
    turned_away: int = 0

    def begin(self) -> None:
        """Note how the endpoint is when an attempt begins."""
        self.answers, self.was_out = self.availability.answers, self.availability.outage is not None

    def stop(self, state: RetryCallState) -> bool:
        """Count the latest failure, and return whether no attempt is left."""
        failure, endpoint = _failure(state), self.availability
        if endpoint.outage is not None:
            self.hits += not self.was_out
            return self.hits > BREAKS_IT
        if endpoint.is_waited_for(failure) and endpoint.is_patience_over:
            return True
        if not self._is_last(failure):
            return False
        if not endpoint.is_waited_for(failure) or endpoint.answers > self.answers:  # it answers others
            return True
        endpoint.begin(failure)
        return endpoint.outage is None

    def _is_last(self, failure: TransientError) -> bool:
        if failure.overload:
            self.turned_away += 1
            return self.turned_away + self.failures > self.max_retries * (PATIENCE if self.busy() else 1)
        self.failures += 1
        most = self.max_retries
        if failure.refused and not self.answered_before:
            most = min(ATTEMPTS_IF_REFUSED - 1, most)
        return self.failures + (0 if self.busy() else self.turned_away) > most

    def wait(self, state: RetryCallState) -> float:
        """Return the seconds until the next attempt: as the endpoint asks, and a little more, else random, growing."""
        if self.availability.outage is not None:  # it waits there
            return 0.0
        failure = _failure(state)
        state.attempt_number = max(1, self.turned_away if failure.overload else self.failures)
        longest = LONGEST_WAIT_IF_BUSY if self.busy() else LONGEST_WAIT
        jittered = wait_random_exponential(multiplier=self.first_wait, max=longest)(state)
        requested = failure.retry_after
        return jittered if requested is None else requested + min(1.0, requested) * jittered / LONGEST_WAIT


def _failure(state: RetryCallState) -> TransientError:
    failure = state.outcome.exception() if state.outcome else None
    assert isinstance(failure, TransientError)  # noqa: S101 - only these are retried
    return failure
