"""The client's layers against endpoints with little room and many faults, in simulated time."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from explaineval.client.concurrency import ConcurrencyLimit, LimitedClient
from explaineval.client.retries import RetryingClient
from explaineval.errors import RequestFailedError, TransientError
from explaineval.records import Completion, Request
from makers.virtual_time import run_virtually

CEILING = 64
MEDIAN, SIGMA = 0.35, 0.5
MEAN = MEDIAN * math.exp(SIGMA**2 / 2)
ROUND_TRIP, STALL = 0.003, 3.0


@dataclass
class Endpoint:
    """Answers `room` requests at once and refuses the others; `faults` are shares of 429, 500 and stalls."""

    room: int
    faults: tuple[float, float, float] = (0.0, 0.0, 0.0)
    retry_after: float | None = 0.5
    seed: int = 0
    under_way: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    limits: list[tuple[float, int]] = field(default_factory=list)
    """When each attempt came, and the limit in force then."""
    answered: list[float] = field(default_factory=list)
    """When each answer was given."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.limit: ConcurrencyLimit

    async def complete(self, request: Request) -> Completion:  # noqa: ARG002
        self.limits.append((asyncio.get_running_loop().time(), self.limit.adaptive.slots))
        await asyncio.sleep(ROUND_TRIP)
        draw = self.random.random()
        refused, failed, stalled = self.faults
        if self.under_way >= self.room or draw < refused:
            self.outcomes["full" if self.under_way >= self.room else "429"] += 1
            raise TransientError("refused", overload=True, retry_after=self.retry_after, unbilled=True)
        self.under_way += 1
        try:
            stalls = draw >= 1 - stalled
            await asyncio.sleep(STALL if stalls else MEDIAN * math.exp(self.random.gauss(0, SIGMA)))
        finally:
            self.under_way -= 1
        if stalls or draw < refused + failed:
            self.outcomes["failed"] += 1
            raise TransientError("failed")
        self.answered.append(asyncio.get_running_loop().time())
        return Completion(text="x")

    @property
    def capacity(self) -> float:
        """Answers a second that the endpoint can give, its own faults among them."""
        refused, failed, stalled = self.faults
        answered = 1 - refused - failed - stalled
        return self.room * answered / ((answered + failed) * MEAN + stalled * STALL)


@dataclass
class Storm:
    """What became of `count` requests to an endpoint."""

    endpoint: Endpoint
    count: int
    seconds: float
    failed: int

    @property
    def throughput(self) -> float:
        """Answers a second as a share of the endpoint's capacity, without the beginning and the last few requests."""
        start, end = 5.0, self.seconds - 8.0
        return (
            sum(start <= seconds < end for seconds in self.endpoint.answered) / (end - start) / self.endpoint.capacity
        )

    @property
    def needless(self) -> float:
        """Attempts that were refused because the endpoint was full, for each request."""
        return self.endpoint.outcomes["full"] / self.count

    def limits(self, start: float, end: float = math.inf) -> list[int]:
        """The limits in force between two seconds, at each attempt."""
        return [slots for seconds, slots in self.endpoint.limits if start <= seconds < end]


def ask(endpoint: Endpoint, count: int, *, later: tuple[float, int] | None = None) -> Storm:
    """Ask by as many workers as a run has; `later` changes the room at a second."""

    async def course() -> Storm:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()
        endpoint.limit = ConcurrencyLimit(CEILING, stopping)
        client = RetryingClient(LimitedClient(endpoint, endpoint.limit, stopping), 6, stopping, endpoint.limit.is_busy)
        rest, failed = iter(range(count)), 0
        if later is not None:
            loop.call_at(later[0], lambda: setattr(endpoint, "room", later[1]))

        async def worker() -> None:
            nonlocal failed
            for number in rest:
                try:
                    await client.complete(Request(model="m", style="completion", prompt=str(number), max_tokens=5))
                except RequestFailedError:
                    failed += 1

        await asyncio.gather(*(worker() for _ in range(CEILING * 3 // 2)))
        return Storm(endpoint, count, loop.time(), failed)

    random.seed(0)  # tenacity draws its waits from there
    return run_virtually(course())[0]


@pytest.mark.parametrize("room", [48, 12, 5])
@pytest.mark.parametrize("retry_after", [0.5, None])
def test_the_limit_stays_close_to_the_room_of_a_small_server(room: int, retry_after: float | None) -> None:
    """It finds the room, stays there, and only now and then tries one more."""
    storm = ask(Endpoint(room, retry_after=retry_after), 30 * room)

    settled = storm.limits(storm.seconds / 2, storm.seconds - 2)
    assert max(settled) <= 1.2 * room
    assert min(settled) >= 0.8 * room
    assert sum(settled) / len(settled) == pytest.approx(room, rel=0.05)
    assert storm.needless < 0.3
    assert storm.failed == 0


@pytest.mark.sampled(2)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("room", [48, 12])
def test_a_storm_is_weathered_close_to_the_capacity(room: int, seed: int) -> None:
    """A fifth of all requests is refused whatever the load, and others fail or stall; the rest is not wasted."""
    storm = ask(Endpoint(room, (0.2, 0.05, 0.02), seed=seed), 60 * room)

    assert storm.failed == 0
    assert storm.throughput > 0.75
    assert storm.needless < 0.15
    settled = storm.limits(storm.seconds / 2)
    assert sum(slots <= 1.2 * room for slots in settled) > 0.95 * len(settled)


def test_refusals_alone_are_no_congestion() -> None:
    """Where there is room for all, a share of refusals that does not depend on the load leaves the limit alone."""
    storm = ask(Endpoint(1000, (0.2, 0.0, 0.0)), 2000)

    assert storm.needless == 0
    assert sum(slots == CEILING for slots in storm.limits(0)) > len(storm.limits(0)) / 2


def test_less_room_is_noticed_and_more_is_used_again() -> None:
    """Within seconds the limit follows an endpoint that loses most of its room; a larger room is found in time."""
    shrunk = ask(Endpoint(48), 1500, later=(10.0, 10))
    grown = ask(Endpoint(10), 2500, later=(20.0, 48))

    assert min(shrunk.limits(5, 10)) >= 40
    assert max(shrunk.limits(20, 40)) <= 12
    assert max(grown.limits(10, 20)) <= 12
    assert min(grown.limits(grown.seconds - 12, grown.seconds - 2)) >= 40
