"""Who is next: workers, planners, rates and attempts at an endpoint that is out are shared fairly."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from explaineval.client.concurrency import RateLimit
from explaineval.service.processes import sharing
from explaineval.service.processes.sharing import (
    IDLE,
    LONG_QUANTUM,
    QUANTUM,
    FairSlots,
    Holder,
    Outages,
    Queue,
    RateQueue,
    TooManyJobsError,
    choose_to_pause,
)
from explaineval.service.table import RunRow


def row(number: int, token: str) -> RunRow:
    """Return a run that waits."""
    values: dict[str, Any] = dict.fromkeys(RunRow.__dataclass_fields__)
    return RunRow(**values | {"id": f"{number}", "number": number, "token": token, "state": "queued"})


def order(rows: list[RunRow], held: dict[str, int]) -> str:
    """Return the order in which runs get workers, by their numbers."""
    queue, found = Queue(rows, held), []
    while (popped := queue.pop()) is not None:
        queue.count(popped)
        found.append(popped.id)
    return "".join(found)


@pytest.mark.parametrize(
    ("tokens", "held", "expected"),
    [("aaab", {}, "0312"), ("aab", {"a": 1}, "201"), ("aab", {"b": 2}, "012"), ("abc", {"a": 1, "b": 1}, "201")],
)
def test_tokens_take_turns(tokens: str, held: dict[str, int], expected: str) -> None:
    """The oldest run of the token with the fewest workers is next."""
    assert order([row(number, token) for number, token in enumerate(tokens)], held) == expected


def holders(*given: tuple[str, float, float | None]) -> list[Holder]:
    """Return runs that have workers: token, seconds, seconds of waiting."""
    return [Holder(f"{number}", *one) for number, one in enumerate(given)]


@pytest.mark.parametrize(
    ("wanting", "given", "expected"),
    [
        ("b", [("a", 5, None), ("a", 5, IDLE), ("a", 5, 2 * IDLE)], "2"),
        ("a", [("a", 5, IDLE - 1), ("a", 5, None)], None),
        ("b", [("a", QUANTUM, None), ("a", QUANTUM + 9, None)], "1"),
        ("b", [("a", QUANTUM - 1, None), ("a", 1, None)], None),
        ("b", [("a", QUANTUM, None), ("c", QUANTUM, None)], None),
        ("b", [("a", LONG_QUANTUM, None), ("c", QUANTUM, None)], "0"),
        ("b", [("a", 9999, None), ("a", 9999, None), ("b", 1, None)], None),
        ("a", [("a", 9999, None)], None),
    ],
)
def test_a_worker_is_given_away_where_that_is_fair(
    wanting: str, given: list[tuple[str, float, float | None]], expected: str | None
) -> None:
    """By whoever only waits, or by the token that has the most, after a while."""
    chosen = choose_to_pause(wanting, holders(*given))

    assert expected == (None if chosen is None else chosen.run)


def test_planners_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """One user never holds all of them, the others do not wait behind that user's queue, and queues are bounded."""
    done: list[str] = []

    async def act() -> None:
        shares, go = FairSlots(2, 1, 3), asyncio.Event()

        async def work(user: str) -> None:
            async with shares.slot(user):
                await go.wait()
                done.append(user)

        greedy = [asyncio.create_task(work("a")) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyJobsError, match="3 requests of a wait"):
            await work("a")
        other = asyncio.create_task(work("b"))
        greedy[1].cancel()
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*greedy, other, return_exceptions=True)
        async with asyncio.timeout(5), shares.slot("a"), shares.slot("b"):
            pass

    asyncio.run(act())
    assert Counter(done) == {"a": 3, "b": 1}
    assert done.index("b") <= 1


def test_who_gives_up_takes_no_time_from_others() -> None:
    """A rate lets requests begin in the order of asking; those of a run that ends are as if they had not been."""

    async def act() -> None:
        pace = RateQueue(RateLimit(rpm=60))  # every second
        await pace.begin("a", 1)
        gone = [asyncio.create_task(pace.begin("a", 1)) for _ in range(1000)]
        kept = asyncio.create_task(pace.begin("b", 1))
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        assert 0 < pace.due("a", now) <= 1
        assert 1000 <= pace.due("b", now) <= 1001
        assert pace.due("c", now) == 0
        for task in gone:
            task.cancel()
        async with asyncio.timeout(20):
            await kept

    asyncio.run(act())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses short."""
    monkeypatch.setattr(sharing, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(sharing, "LONGEST_PAUSE", 0.04)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("quick")
def test_one_run_at_a_time_tries_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """With growing pauses; one answer lets all go on, and the first answer of an endpoint is told once."""
    told: list[str] = []

    async def act() -> None:
        outages = Outages(60.0, ["other"])
        outages.on_first_answer = told.append
        outages.begin("lab", "refused")
        waiting = {run: asyncio.create_task(outages.enter("lab", run)) for run in "abc"}
        pauses = []
        for _ in range(4):
            await until(lambda: any(task.done() for task in waiting.values()))
            run = next(run for run, task in waiting.items() if task.done())
            assert [task.done() for task in waiting.values()].count(True) == 1
            assert waiting[run].result()
            assert outages.is_prober("lab", run)
            outages.failed("lab", "nobody")
            assert outages.is_prober("lab", run)
            outages.failed("lab", run)
            pauses.append(outages.now["lab"].pause)
            waiting[run] = asyncio.create_task(outages.enter("lab", run))
            await asyncio.sleep(0)
        assert pauses == pytest.approx([0.02, 0.04, 0.04, 0.04])
        assert "lab, which has not answered since" in (outages.sentence("lab") or "")
        await until(lambda: any(task.done() for task in waiting.values()))
        outages.answered("lab")
        outages.answered("lab")
        outages.answered("other")
        assert sorted([await task for task in waiting.values()]) == [False, False, True]
        assert outages.sentence("lab") is None

    asyncio.run(act())
    assert told == ["lab"]


@pytest.mark.usefixtures("quick")
def test_a_run_that_ends_lets_another_one_try() -> None:
    """Also where it was trying just then; an endpoint is waited for only so long."""

    async def act() -> None:
        outages = Outages(0.05)
        outages.begin("lab", "refused.")
        assert await outages.enter("lab", "a")
        assert (outages.try_now("lab", "b"), outages.try_now("lab", "a"), outages.try_now("lab", "a")) == (
            False, True, False,
        )  # fmt: skip
        second = asyncio.create_task(outages.enter("lab", "b"))
        await asyncio.sleep(0.05)
        assert not second.done()
        outages.leave("a")
        assert await second
        assert outages.is_over("lab")
        assert "has not answered since" in outages.farewell("lab")
        assert "(refused)" in outages.farewell("lab")
        outages.forget([])
        assert not outages.is_over("lab")

    asyncio.run(act())
