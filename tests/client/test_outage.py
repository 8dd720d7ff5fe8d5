"""Endpoints that go out of service while a run asks them: waited for, tried one at a time, given up in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from explaineval.client.concurrency import FAILURES_IN_A_ROW, ConcurrencyLimit, LimitedClient
from explaineval.client.retries import LONGEST_PAUSE, Availability, RetryingClient
from explaineval.errors import (
    EndpointError,
    ExplainevalError,
    RequestFailedError,
    RequestRejectedError,
    RequestUnsentError,
    TransientError,
)
from explaineval.records import Completion, Request
from makers.scripted_client import ANSWER
from makers.virtual_time import run_virtually

REFUSED = TransientError("the connection is refused", refused=True)
RESET = TransientError("the connection broke", unavailable=True)
TIMED_OUT = TransientError("no answer within the time-out", unavailable=True)
TOO_MANY = TransientError("status 429: slow down", overload=True)
LOADING = TransientError("status 503: loading", overload=True)
UNKNOWN_HOST = EndpointError("the host name cannot be resolved", unavailable=True)


def requests(count: int) -> list[Request]:
    return [Request(model="a/b", style="completion", prompt=str(number), max_tokens=1) for number in range(count)]


class Server:
    """Answers after `seconds`, but from the virtual time `down` to `up` fails as `failure` says.

    `times` are those of all attempts, `poisoned` makes it fail for one prompt always.
    """

    def __init__(
        self,
        failure: ExplainevalError,
        down: float = 5.0,
        up: float = 60.0,
        *,
        seconds: float = 0.5,
        poisoned: str | None = None,
    ) -> None:
        self.failure, self.down, self.up, self.seconds, self.poisoned = failure, down, up, seconds, poisoned
        self.times: list[float] = []
        self.under_way = self.most_while_down = 0

    async def complete(self, request: Request) -> Completion:
        loop = asyncio.get_running_loop()
        self.times.append(loop.time())
        self.under_way += 1
        if self.down + 5.0 <= loop.time() < self.up:
            self.most_while_down = max(self.most_while_down, self.under_way)
        try:
            await asyncio.sleep(self.seconds)
            if self.down <= loop.time() < self.up or request.prompt == self.poisoned:
                raise self.failure
            return ANSWER
        finally:
            self.under_way -= 1


class Model:
    """One model's layers over a server, as the stack builds them."""

    def __init__(self, server: Server, patience: float, *, width: int = 8, retries: int = 6) -> None:
        self.stopping, self.messages = asyncio.Event(), list[str]()
        limit = ConcurrencyLimit(width, self.stopping)
        self.availability = Availability(
            "lab", patience, self.stopping, slots=lambda: limit.adaptive.slots, report=self.messages.append
        )
        self.limited = LimitedClient(server, limit, self.stopping, availability=self.availability)
        self.client = RetryingClient(
            self.limited, retries, self.stopping, limit.is_busy, availability=self.availability
        )

    async def ask(self, asked: list[Request], width: int = 8) -> list[Completion | BaseException]:
        rest, outcomes = iter(enumerate(asked)), dict[int, Completion | BaseException]()

        async def work() -> None:
            for number, request in rest:
                try:
                    outcomes[number] = await self.client.complete(request)
                except RequestFailedError as exc:
                    outcomes[number] = exc

        await asyncio.gather(*(work() for _ in range(width)))
        return [outcomes[number] for number in range(len(asked))]


Run = tuple[Model, list[Completion | BaseException], float]


def run(make: Callable[[], Model], count: int = 400, width: int = 8) -> Run:
    async def work() -> tuple[Model, list[Completion | BaseException]]:
        model = make()
        return model, await model.ask(requests(count), width)

    (model, outcomes), seconds = run_virtually(work())
    return model, outcomes, seconds


@pytest.mark.parametrize("failure", [REFUSED, RESET, TIMED_OUT, TOO_MANY, LOADING, UNKNOWN_HOST], ids=str)
@pytest.mark.parametrize("retries", [1, 6])
def test_an_outage_is_waited_for_and_the_run_goes_on_by_itself(failure: ExplainevalError, retries: int) -> None:
    """Everything is answered, although the endpoint was away for longer than all retries take."""
    server = Server(failure, 5.0, 100.0)
    model, outcomes, seconds = run(lambda: Model(server, 300.0, retries=retries))

    assert outcomes == [ANSWER] * 400
    assert seconds < 100.0 + LONGEST_PAUSE + 40.0
    assert model.availability.outages >= 1
    assert model.limited.down is None


@pytest.mark.parametrize("failure", [REFUSED, RESET, TIMED_OUT, UNKNOWN_HOST], ids=str)
def test_one_request_at_a_time_finds_out_with_growing_pauses(failure: ExplainevalError) -> None:
    """While it is away there is one attempt at a time, each pause at least as long as the one before."""
    server = Server(failure, 5.0, 100.0)
    run(lambda: Model(server, 300.0))
    tried = [time for time in server.times if 10.0 < time < 100.0]
    pauses = [round(after - before, 3) for before, after in pairwise(tried)]

    assert server.most_while_down == 1
    assert 5 <= len(tried) <= 12
    assert pauses == sorted(pauses)


@pytest.mark.parametrize("failure", [REFUSED, RESET, TOO_MANY, UNKNOWN_HOST], ids=str)
def test_after_its_patience_the_endpoint_is_given_up(failure: ExplainevalError) -> None:
    """What was answered is kept, the rest is not sent, and the endpoint's error says how long it was waited for."""
    server = Server(failure, 5.0, 1e9)
    model, outcomes, seconds = run(lambda: Model(server, 60.0))

    assert outcomes.count(ANSWER) > 0
    assert sum(isinstance(outcome, RequestUnsentError) for outcome in outcomes) > 100
    assert 5.0 + 60.0 <= seconds < 5.0 + 60.0 + 5.0
    assert "60 s" in str(model.availability.error)


@pytest.mark.parametrize("failure", [REFUSED, RESET, TIMED_OUT, TOO_MANY], ids=str)
def test_without_patience_nothing_is_waited_for(failure: ExplainevalError) -> None:
    """As if there were no such thing: the retries, and then the end."""
    server = Server(failure, 5.0, 1e9)
    model, outcomes, _ = run(lambda: Model(server, 0.0))

    assert ANSWER in outcomes
    assert model.availability.outages == 0
    assert not model.messages


@pytest.mark.parametrize(
    "failure", [REFUSED, RESET, TOO_MANY, TransientError("status 500: oops", unbilled=True)], ids=str
)
def test_an_endpoint_that_never_answered_fails_as_fast_as_without_patience(failure: ExplainevalError) -> None:
    """A wrong port, or nothing started."""
    server = Server(failure, 0.0, 1e9)
    model, outcomes, _ = run(lambda: Model(server, 300.0))

    assert len(server.times) <= FAILURES_IN_A_ROW + 2 * 8 or failure.overload
    assert model.availability.outages == 0
    assert model.availability.outage is None
    assert not model.messages
    assert ANSWER not in outcomes


@pytest.mark.parametrize(
    "failure",
    [
        TransientError("status 500: oops", unbilled=True),
        RequestRejectedError("status 400"),
        EndpointError("status 401"),
    ],
    ids=str,
)
def test_what_no_time_mends_is_not_waited_for(failure: ExplainevalError) -> None:
    """Status 500, 400 and 401 also after it has answered."""
    server = Server(failure, 5.0, 1e9)

    async def work() -> Model:
        model = Model(server, 300.0)
        try:
            await model.ask(requests(200))
        except EndpointError:
            assert isinstance(failure, EndpointError)
        return model

    model, _ = run_virtually(work())

    assert model.availability.outages == 0
    assert model.availability.outage is None


def test_a_request_that_always_times_out_fails_alone() -> None:
    """The endpoint answers others: that one request is no outage, and ends nothing."""
    server = Server(TIMED_OUT, 1e9, 1e9, poisoned="7")
    model, outcomes, _ = run(lambda: Model(server, 60.0), count=30, width=1)

    assert [number for number, outcome in enumerate(outcomes) if outcome != ANSWER] == [7]
    assert type(outcomes[7]) is TransientError
    assert model.availability.error is None


def test_the_last_request_is_not_waited_for_as_long_as_an_endpoint() -> None:
    """It alone finds the endpoint out of service, which others cannot confirm: half a minute, then it fails alone."""
    server = Server(LOADING, 1e9, 1e9, poisoned="29")
    model, outcomes, seconds = run(lambda: Model(server, 3600.0), count=30)

    assert [number for number, outcome in enumerate(outcomes) if outcome != ANSWER] == [29]
    assert seconds < 60
    assert model.availability.error is None


def test_a_request_that_brings_the_server_down_each_time_is_given_up() -> None:
    """Seven times is enough, although each time all others come back."""

    class Fragile(Server):
        async def complete(self, request: Request) -> Completion:
            if request.prompt == "7":
                now = asyncio.get_running_loop().time()
                self.down, self.up = now, now + 20.0
            return await super().complete(request)

    server = Fragile(RESET, 1e9, 1e9)
    _, outcomes, seconds = run(lambda: Model(server, 300.0), count=60, width=4)

    failed = [number for number, outcome in enumerate(outcomes) if outcome != ANSWER]
    assert 7 in failed
    assert len(failed) <= 4  # what is under way with it each time cannot be told from it
    assert seconds < 1000


def test_ctrl_c_ends_the_waiting_at_once() -> None:
    """Nothing was paid for what waits, so it is unsent."""

    async def work() -> list[Completion | BaseException]:
        model = Model(Server(REFUSED, 5.0, 1e9), 300.0)
        asyncio.get_running_loop().call_later(30.0, model.stopping.set)
        return await model.ask(requests(200))

    outcomes, seconds = run_virtually(work())

    assert seconds < 31
    assert sum(isinstance(outcome, RequestUnsentError) for outcome in outcomes) > 100


def test_the_screen_is_told_what_is_waited_for_and_when_it_is_over() -> None:
    """Once when the first attempt has failed, once when it answers again; a moment's fault is not worth a word."""
    told, _, _ = run(lambda: Model(Server(REFUSED, 5.0, 100.0), 300.0))
    silent, _, _ = run(lambda: Model(Server(REFUSED, 5.0, 5.6), 300.0))

    assert len(told.messages) == 2
    assert "the connection is refused" in told.messages[0]
    assert "tried next at" in told.messages[0]
    assert "answers again" in told.messages[1]
    assert silent.messages == []


def test_processes_that_wait_for_one_endpoint_take_turns() -> None:
    """An attempt is made only when its turn comes; where another process found it back, all go on without one."""

    class Turns:
        def __init__(self) -> None:
            self.asked, self.outcomes = 0, list[bool]()

        async def next_probe(self, place: str) -> bool:
            assert place == "lab"
            self.asked += 1
            await asyncio.sleep(20.0)
            return self.asked < 3

        def probed(self, place: str, *, answers: bool) -> None:
            assert place == "lab"
            self.outcomes.append(answers)

    server, turns = Server(REFUSED, 5.0, 40.0), Turns()

    def make() -> Model:
        model = Model(server, 300.0)
        model.availability.turns = turns
        return model

    _, outcomes, _ = run(make)

    assert outcomes == [ANSWER] * 400
    assert turns.asked >= 2
    assert False in turns.outcomes
    assert turns.outcomes[-1] is True


def test_a_run_that_stops_has_not_found_the_endpoint_answering() -> None:
    """It tells the other processes nothing while it waits for its turn to try."""
    told = []

    class Turns:
        async def next_probe(self, place: str) -> bool:
            availability.stopping.set()
            return not place

        def probed(self, place: str, *, answers: bool) -> None:
            told.append((place, answers))

    availability = Availability("lab", patience=300.0, turns=Turns())

    async def wait() -> None:
        availability.answered()
        refused = TransientError("refused", refused=True, unavailable=True)
        availability.failed(requests(1)[0], refused, probing=False)
        with pytest.raises(RequestUnsentError, match="stopped while waiting"):
            await availability.enter()

    asyncio.run(wait())

    assert told == []
    assert availability.outage is not None
