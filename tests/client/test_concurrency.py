"""The concurrency limit: how it adapts to an endpoint, how it lets requests in, and when it gives up on a model."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.client.concurrency import AdaptiveLimit, ConcurrencyLimit, LimitedClient, RateLimit
from explaineval.errors import EndpointError, RequestUnsentError, TransientError
from explaineval.records import Completion
from makers.scripted_client import ANSWER, REQUEST, ScriptedClient, always
from makers.virtual_time import run_virtually


def simulate(limit: AdaptiveLimit, capacity: int, refusing: float, rounds: int = 400, seed: int = 0) -> list[float]:
    """The limit's values over rounds against a server of this capacity that also refuses a share at random."""
    draws = random.Random(seed)
    values = []
    for _ in range(rounds):
        slots = limit.slots
        for index in range(slots):
            limit.note(refused=index >= capacity or draws.random() < refusing)
        values.append(limit.value)
    return values


@given(refused=st.lists(st.booleans(), max_size=400), ceiling=st.integers(1, 200))
def test_the_limit_stays_between_one_and_its_ceiling(refused: list[bool], ceiling: int) -> None:
    """Whatever comes back, at least one request and at most the ceiling may be under way."""
    limit = AdaptiveLimit(ceiling)

    for each in refused:
        limit.note(refused=each)

        assert 1 <= limit.slots <= ceiling


def test_an_easy_endpoint_soon_gets_all_the_ceiling_allows() -> None:
    """Slow start doubles: 4, 8, 16, 32, 64."""
    values = simulate(AdaptiveLimit(64), capacity=1000, refusing=0.0, rounds=4)

    assert values == [8, 16, 32, 64]


@pytest.mark.parametrize("refusing", [0.0, 0.2])
@pytest.mark.parametrize("capacity", [10, 48])
def test_the_limit_finds_the_capacity(capacity: int, refusing: float) -> None:
    """It stays near what the server takes."""
    late = simulate(AdaptiveLimit(128), capacity, refusing)[200:]

    assert 0.8 * capacity < sum(late) / len(late) < 1.4 * capacity


def test_refusals_that_have_nothing_to_do_with_load_do_not_throttle() -> None:
    """A gateway that refuses a fifth of everything still gets nearly the ceiling."""
    late = simulate(AdaptiveLimit(32), capacity=1000, refusing=0.2)[100:]

    assert sum(late) / len(late) > 24


def test_an_endpoint_that_refuses_everything_is_left_alone() -> None:
    """The limit falls to one and waiting is advised, until something is answered."""
    limit = AdaptiveLimit(64)
    simulate(limit, capacity=0, refusing=0.0, rounds=100)

    assert limit.slots == 1
    assert limit.overloaded
    limit.note(refused=False)
    assert not limit.overloaded


def test_requests_are_srated() -> None:
    """60 a minute is one a second; time that passed counts."""
    rate = RateLimit(rpm=60)

    assert [rate.delay(10.0, 5) for _ in range(3)] == [0.0, 1.0, 2.0]
    assert rate.delay(20.0, 5) == 0.0


def test_tokens_are_srated_and_corrected() -> None:
    """A request books its estimate; what it did not use is given back."""
    rate = RateLimit(tpm=600)

    assert rate.delay(0.0, 100) == 0.0
    assert rate.delay(0.0, 100) == pytest.approx(10.0)
    rate.correct(100, 50)
    assert rate.delay(0.0, 100) == pytest.approx(15.0)


def test_no_limit_is_no_wait() -> None:
    """Without rpm and tpm nothing is held back."""
    assert [RateLimit().delay(0.0, 10**6) for _ in range(2)] == [0.0, 0.0]


def ask_at_once(client: ScriptedClient, count: int, ceiling: int) -> list[object]:
    """What becomes of `count` requests at once through a concurrency limit."""

    async def ask() -> list[object]:
        stopping = asyncio.Event()
        limited = LimitedClient(client, ConcurrencyLimit(ceiling, stopping), stopping)
        return await asyncio.gather(*(limited.complete(REQUEST) for _ in range(count)), return_exceptions=True)

    return run_virtually(ask())[0]


@pytest.mark.parametrize("ceiling", [1, 3, 8])
def test_never_more_than_the_ceiling_are_under_way(ceiling: int) -> None:
    """All are answered, and every slot is used."""
    client = ScriptedClient(seconds=1.0)
    answers = ask_at_once(client, 60, ceiling)

    assert answers == [ANSWER] * 60
    assert ceiling == client.most


def test_a_waiter_that_is_cancelled_leaves_no_slot_taken() -> None:
    """Cancelling requests that wait, or that were just let in, does not shrink the limit."""

    async def ask() -> tuple[int, list[Completion]]:
        stopping = asyncio.Event()
        limit = ConcurrencyLimit(2, stopping)
        client = LimitedClient(ScriptedClient(seconds=2.0), limit, stopping)
        tasks = [asyncio.create_task(client.complete(REQUEST)) for _ in range(20)]
        await asyncio.sleep(1.0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return limit.under_way, await asyncio.gather(*(client.complete(REQUEST) for _ in range(5)))

    under_way, answers = run_virtually(ask())[0]

    assert under_way == 0
    assert answers == [ANSWER] * 5


def test_a_wrong_key_turns_the_rest_away_unsent() -> None:
    """After the first error that no retry can mend nothing more is sent."""
    client = ScriptedClient(always(EndpointError("the key is not accepted")))
    answers = ask_at_once(client, 10, 1)

    assert client.calls == 1
    assert isinstance(answers[0], EndpointError)
    assert all(isinstance(answer, RequestUnsentError) for answer in answers[1:])


def test_a_dead_endpoint_is_given_up() -> None:
    """After failures in a row nothing more is sent; refusals for overload never have that effect."""
    dead = ScriptedClient(always(TransientError("reset")))
    busy = ScriptedClient(always(TransientError("slow", overload=True)))
    ask_at_once(dead, 100, 4)
    ask_at_once(busy, 100, 4)

    assert dead.calls == 24
    assert busy.calls == 100


@pytest.mark.parametrize(("refusals", "pause"), [(12, 20.0), (8, 0.0)])
def test_an_overloaded_endpoint_pauses_all_requests(refusals: int, pause: float) -> None:
    """When all are refused, a Retry-After holds back every request, not only the refused one; a few are not enough."""

    async def ask() -> None:
        stopping = asyncio.Event()
        refusal = TransientError("slow", overload=True, retry_after=20.0)
        client = ScriptedClient(lambda call: refusal if call <= refusals else None)
        limited = LimitedClient(client, ConcurrencyLimit(4, stopping), stopping)
        await asyncio.gather(*(limited.complete(REQUEST) for _ in range(refusals)), return_exceptions=True)
        assert client.calls == refusals
        await limited.complete(REQUEST)

    assert run_virtually(ask())[1] == pytest.approx(pause)


def test_the_rate_limit_spaces_requests() -> None:
    """30 a minute is one every 2 seconds, so five take 8."""

    async def ask() -> None:
        stopping = asyncio.Event()
        client = LimitedClient(ScriptedClient(), ConcurrencyLimit(8, stopping, RateLimit(rpm=30)), stopping)
        await asyncio.gather(*(client.complete(REQUEST) for _ in range(5)))

    assert run_virtually(ask())[1] == pytest.approx(8.0)
