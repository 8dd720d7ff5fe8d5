"""The adaptive limit and the pace, against simulated endpoints: no clock, no network."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.client.concurrency import AdaptiveLimit, RateLimit


def settle(limit: AdaptiveLimit, capacity: int, refusing: float, rounds: int = 400, seed: int = 0) -> list[float]:
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

    for one in refused:
        limit.note(refused=one)

        assert 1 <= limit.slots <= ceiling


def test_an_easy_endpoint_soon_gets_all_the_ceiling_allows() -> None:
    """Slow start doubles: 4, 8, 16, 32, 64."""
    values = settle(AdaptiveLimit(64), capacity=1000, refusing=0.0, rounds=4)

    assert values == [8, 16, 32, 64]


@pytest.mark.parametrize("refusing", [0.0, 0.2])
@pytest.mark.parametrize("capacity", [10, 48])
def test_the_limit_finds_the_capacity(capacity: int, refusing: float) -> None:
    """It hovers around what the server takes, rather above than below: a refusal costs nothing, an empty slot time."""
    late = settle(AdaptiveLimit(128), capacity, refusing)[200:]

    assert 0.7 * capacity < sum(late) / len(late) < 1.9 * capacity


def test_refusals_that_have_nothing_to_do_with_load_do_not_throttle() -> None:
    """A gateway that refuses a fifth of everything still gets nearly the ceiling."""
    late = settle(AdaptiveLimit(32), capacity=1000, refusing=0.2)[100:]

    assert sum(late) / len(late) > 24


def test_an_endpoint_that_refuses_everything_is_left_alone() -> None:
    """The limit falls to one and waiting is advised, until something is answered."""
    limit = AdaptiveLimit(64)
    settle(limit, capacity=0, refusing=0.0, rounds=100)

    assert limit.slots == 1
    assert limit.overloaded
    limit.note(refused=False)
    assert not limit.overloaded


def test_requests_are_spaced() -> None:
    """60 a minute is one a second; time that passed counts."""
    pace = RateLimit(rpm=60)

    assert [pace.delay(10.0, 5) for _ in range(3)] == [0.0, 1.0, 2.0]
    assert pace.delay(20.0, 5) == 0.0


def test_tokens_are_spaced_and_corrected() -> None:
    """A request books its estimate; what it did not use is given back."""
    pace = RateLimit(tpm=600)

    assert pace.delay(0.0, 100) == 0.0
    assert pace.delay(0.0, 100) == pytest.approx(10.0)
    pace.correct(100, 50)
    assert pace.delay(0.0, 100) == pytest.approx(15.0)


def test_no_limit_is_no_wait() -> None:
    """Without rpm and tpm nothing is held back."""
    assert [RateLimit().delay(0.0, 10**6) for _ in range(2)] == [0.0, 0.0]
