"""The gate and the retry loop on a real event loop, with a client that is told what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from explaineval.client.concurrency import ConcurrencyLimit, LimitedClient, RateLimit
from explaineval.client.retries import PATIENCE, RetryingClient
from explaineval.errors import EndpointError, RequestRejectedError, RequestUnsentError, TransientError
from explaineval.records import Completion, Request

REQUEST = Request(model="a/b", style="completion", prompt="x", max_tokens=1)
ANSWER = Completion(text="A")


class Told:
    """A client that does what it is told, and counts who is inside."""

    def __init__(self, act: Callable[[int], Exception | None] = lambda _: None, seconds: float = 0.0) -> None:
        self.act, self.seconds = act, seconds
        self.calls = self.inside = self.most = 0

    async def complete(self, _: Request) -> Completion:
        self.calls += 1
        call = self.calls
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(self.seconds)
            failure = self.act(call)
            if failure is not None:
                raise failure
            return ANSWER
        finally:
            self.inside -= 1


def always(failure: Exception) -> Callable[[int], Exception]:
    """Fail each time."""
    return lambda _: failure


def run_many(told: Told, count: int, ceiling: int) -> list[object]:
    """`count` requests at once through a gate."""

    async def go() -> list[object]:
        stopping = asyncio.Event()
        client = LimitedClient(told, ConcurrencyLimit(ceiling, stopping), stopping)
        return await asyncio.gather(*(client.complete(REQUEST) for _ in range(count)), return_exceptions=True)

    return asyncio.run(go())


@pytest.mark.parametrize("ceiling", [1, 3, 8])
def test_never_more_than_the_ceiling_are_under_way(ceiling: int) -> None:
    """All are answered, and the gate is used to its full width."""
    told = Told(seconds=0.002)
    answers = run_many(told, 60, ceiling)

    assert answers == [ANSWER] * 60
    assert ceiling == told.most


def test_a_waiter_that_gives_up_leaves_no_hole() -> None:
    """Cancelling those who wait, or who were just let in, does not shrink the gate."""

    async def go() -> tuple[int, list[Completion]]:
        stopping = asyncio.Event()
        gate = ConcurrencyLimit(2, stopping)
        client = LimitedClient(Told(seconds=0.005), gate, stopping)
        tasks = [asyncio.create_task(client.complete(REQUEST)) for _ in range(20)]
        await asyncio.sleep(0.002)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return gate.under_way, await asyncio.gather(*(client.complete(REQUEST) for _ in range(5)))

    under_way, answers = asyncio.run(go())

    assert under_way == 0
    assert answers == [ANSWER] * 5


def test_a_wrong_key_turns_the_rest_away_unsent() -> None:
    """The first error that no retry can mend opens the circuit."""
    told = Told(always(EndpointError("the key is not accepted")))
    answers = run_many(told, 10, 1)

    assert told.calls == 1
    assert isinstance(answers[0], EndpointError)
    assert all(isinstance(answer, RequestUnsentError) for answer in answers[1:])


def test_a_dead_endpoint_is_given_up() -> None:
    """Failures in a row open the circuit; refusals for overload never do."""
    dead, busy = Told(always(TransientError("reset"))), Told(always(TransientError("slow", overload=True)))
    run_many(dead, 100, 4)
    run_many(busy, 100, 4)

    assert dead.calls == 24
    assert busy.calls == 100


def test_an_overloaded_endpoint_holds_everybody_back() -> None:
    """When all are refused, a Retry-After pauses the whole gate, not only who got it."""

    async def go() -> float:
        stopping = asyncio.Event()
        told = Told(lambda call: TransientError("slow", overload=True, retry_after=0.2) if call <= 12 else None)
        client = LimitedClient(told, ConcurrencyLimit(4, stopping), stopping)
        for _ in range(12):
            with pytest.raises(TransientError):
                await client.complete(REQUEST)
        started = asyncio.get_running_loop().time()
        await client.complete(REQUEST)
        return asyncio.get_running_loop().time() - started

    assert 0.1 < asyncio.run(go()) < 2.0


def test_pace_spaces_requests() -> None:
    """1,200 a minute is one every 50 ms."""

    async def go() -> float:
        stopping = asyncio.Event()
        client = LimitedClient(Told(), ConcurrencyLimit(8, stopping, RateLimit(rpm=1200)), stopping)
        started = asyncio.get_running_loop().time()
        await asyncio.gather(*(client.complete(REQUEST) for _ in range(5)))
        return asyncio.get_running_loop().time() - started

    assert asyncio.run(go()) > 0.19


@pytest.mark.parametrize(
    ("failure", "calls"),
    [
        (TransientError("reset"), 3),
        (TransientError("slow", overload=True), 3),
        (TransientError("nobody listens", refused=True), 3),
        (RequestRejectedError("400"), 1),
        (EndpointError("401"), 1),
    ],
)
def test_how_often_a_request_is_tried(failure: Exception, calls: int) -> None:
    """With two retries: what may pass thrice, what cannot be mended once."""
    told = Told(always(failure))

    async def go() -> None:
        await RetryingClient(told, 2, asyncio.Event(), first_wait=0.001).complete(REQUEST)

    with pytest.raises(type(failure)):
        asyncio.run(go())
    assert calls == told.calls


def test_a_busy_endpoint_gets_more_patience() -> None:
    """Where others are answered meanwhile, being turned away does not use up a request's retries so soon."""
    told = Told(always(TransientError("slow", overload=True)))

    async def go() -> None:
        await RetryingClient(told, 2, asyncio.Event(), lambda: True, first_wait=0.001).complete(REQUEST)

    with pytest.raises(TransientError):
        asyncio.run(go())
    assert told.calls == 1 + PATIENCE * 2


def test_a_new_address_that_refuses_is_not_waited_for() -> None:
    """Nothing has ever answered there: three attempts, whatever the retries."""
    told = Told(always(TransientError("nobody listens", refused=True)))

    async def go() -> None:
        await RetryingClient(told, 9, asyncio.Event(), first_wait=0.001).complete(REQUEST)

    with pytest.raises(TransientError):
        asyncio.run(go())
    assert told.calls == 3


def test_a_stop_ends_the_waiting() -> None:
    """Who waits to ask again when the run stops is told at once: it was not paid for."""

    async def go() -> float:
        stopping = asyncio.Event()
        client = RetryingClient(Told(always(TransientError("slow", retry_after=30.0))), 5, stopping)
        task = asyncio.create_task(client.complete(REQUEST))
        await asyncio.sleep(0.01)
        started = asyncio.get_running_loop().time()
        stopping.set()
        with pytest.raises(RequestUnsentError):
            await task
        return asyncio.get_running_loop().time() - started

    assert asyncio.run(go()) < 1.0
