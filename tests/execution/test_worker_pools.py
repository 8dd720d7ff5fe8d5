"""Workers that wait for another process make room for others, and no more than that."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from explaineval.execution import pool as execution_pool
from explaineval.execution.pool import WorkerPool


def run(course: Coroutine[Any, Any, Any]) -> Any:
    """Run it, and fail instead of waiting for ever."""

    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await course

    return asyncio.run(bounded())


@pytest.mark.parametrize("held", [1, 2, 3, 50])
def test_what_is_held_up_does_not_hold_up_the_rest(held: int) -> None:
    """Two workers, any number of items that wait until everything else is done: all are done, two at a time."""
    pool = WorkerPool(2)
    done: list[int] = []
    others_done = asyncio.Event()
    working = most = 0

    async def handle(item: int) -> bool:
        nonlocal working, most
        if item < held:
            pool.hold_up(1)
            await others_done.wait()
            pool.hold_up(-1)
        working += 1
        most = max(most, working)
        await asyncio.sleep(0)
        working -= 1
        done.append(item)
        if len(done) >= 200 - held:
            others_done.set()
        return True

    run(pool.run(iter(range(200)), handle))

    assert sorted(done) == list(range(200))
    assert set(done[-held:]) == set(range(held))
    assert most <= 2 + held


def test_who_stood_in_leaves_again() -> None:
    """When the waiting is over there are as many workers as before."""
    pool = WorkerPool(2)
    working = 0
    seen: list[int] = []

    async def handle(item: int) -> bool:
        nonlocal working
        working += 1
        if item < 10:
            pool.hold_up(1)
            await asyncio.sleep(0.01)
            pool.hold_up(-1)
        await asyncio.sleep(0.001)
        seen.append(working)
        working -= 1
        return True

    run(pool.run(iter(range(300)), handle))

    assert len(seen) == 300
    assert max(seen[-100:]) <= 2


def test_how_many_may_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound no more items are begun, so that memory holds few."""
    monkeypatch.setattr(execution_pool, "MOST_HELD_UP", 5)
    pool = WorkerPool(2)
    begun: list[int] = []
    free = asyncio.Event()

    async def handle(item: int) -> bool:
        begun.append(item)
        if len(begun) == 7:
            asyncio.get_running_loop().call_later(0.05, free.set)
        pool.hold_up(1)
        await free.wait()
        assert len(begun) == 7 or free.is_set()
        pool.hold_up(-1)
        return True

    run(pool.run(iter(range(40)), handle))

    assert len(begun) == 40


def test_a_failure_ends_the_pool() -> None:
    """The error comes out, the others are cancelled, nobody joins any more; a refusal to go on ends it quietly."""
    pool = WorkerPool(3)

    async def fail(item: int) -> bool:
        if item == 5:
            raise ValueError("broken")
        try:
            await asyncio.sleep(0.01 if item < 5 else 3600)
        finally:
            pool.hold_up(1)
        return True

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        run(pool.run(iter(range(100)), fail))

    items = iter(range(100))

    async def refuse(item: int) -> bool:
        return item < 4

    run(WorkerPool(1).run(items, refuse))
    assert next(items) == 5
