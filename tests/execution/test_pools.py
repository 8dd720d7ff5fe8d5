"""The bounded pool: workers that wait for another process make room for others; dialogues; Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from explaineval.client.cached import StoredOnlyClient
from explaineval.errors import EndpointError, RequestFailedError, RequestRejectedError, RequestUnsentError, StoreError
from explaineval.execution import pool as execution_pool
from explaineval.execution.pool import STOPPING, Pending, Pool, StopRequest, run_until_done
from explaineval.planning.requests import RETRY_SAMPLES, Dialogue, Failure
from explaineval.records import Completion, Request
from makers.waiting import run
from servers.batch_bench import chat


def make_pool(width: int) -> Pool:
    """A pool that sends nothing."""
    return Pool(StoredOnlyClient(), width, asyncio.Event())


@pytest.mark.parametrize("held", [1, 2, 3, 50])
def test_what_is_asked_elsewhere_does_not_hold_up_the_rest(held: int) -> None:
    """Two workers, any number of items that wait until everything else is done: all are done, two at a time."""
    pool = make_pool(2)
    done: list[int] = []
    others_done = asyncio.Event()
    working = most = 0

    async def handle(item: int) -> None:
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

    run(pool.run(range(200), handle))

    assert sorted(done) == list(range(200))
    assert set(done[-held:]) == set(range(held))
    assert most <= 2 + held
    assert pool.progress.complete


def test_a_replacement_leaves_again() -> None:
    """When the waiting is over there are as many workers as before."""
    pool = make_pool(2)
    working = 0
    seen: list[int] = []

    async def handle(item: int) -> None:
        nonlocal working
        working += 1
        if item < 10:
            pool.hold_up(1)
            await asyncio.sleep(0.01)
            pool.hold_up(-1)
        await asyncio.sleep(0.001)
        seen.append(working)
        working -= 1

    run(pool.run(range(300), handle))

    assert len(seen) == 300
    assert max(seen[-100:]) <= 2


def test_how_many_may_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound no more items are begun, so that memory holds few."""
    monkeypatch.setattr(execution_pool, "MAX_WAITING", 5)
    pool = make_pool(2)
    begun: list[int] = []
    free = asyncio.Event()

    async def handle(item: int) -> None:
        begun.append(item)
        if len(begun) == 7:
            asyncio.get_running_loop().call_later(0.05, free.set)
        pool.hold_up(1)
        await free.wait()
        assert len(begun) == 7 or free.is_set()
        pool.hold_up(-1)

    run(pool.run(range(40), handle))

    assert len(begun) == 40


def test_an_error_ends_the_pool() -> None:
    """The error comes out, the others are cancelled, no worker is added any more."""
    pool = make_pool(3)

    async def fail(item: int) -> None:
        if item == 5:
            raise ValueError("broken")
        try:
            await asyncio.sleep(0.01 if item < 5 else 3600)
        finally:
            pool.hold_up(1)

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        run(pool.run(range(100), fail))
    assert not pool.progress.complete


def test_a_stop_leaves_the_rest() -> None:
    """Once `stopping` is set no item is begun, and the pool says that it is not complete."""
    pool = make_pool(1)
    begun: list[int] = []

    async def handle(item: int) -> None:
        begun.append(item)
        if item == 4:
            pool.stopping.set()

    run(pool.run(range(100), handle))

    assert begun == [0, 1, 2, 3, 4]
    assert not pool.progress.complete


class Replies:
    """A client that gives or raises what stands in a list, one after the other."""

    def __init__(self, *replies: Completion | Exception) -> None:
        self.replies = list(replies)

    async def complete(self, _request: Request) -> Completion:
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def ask_twice() -> Dialogue[list[object]]:
    """A dialogue of a request and its retry, which does without a reply to the second."""
    first = yield chat(0)
    try:
        second: object = yield chat(0).model_copy(update={"sample": RETRY_SAMPLES})
    except RequestUnsentError as exc:
        second = exc
    return [first, second]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (RequestRejectedError("too long"), Failure("rejected", "too long")),
        (RequestFailedError("down"), Failure("failed", "down")),
        (EndpointError("wrong key"), Failure("failed", "wrong key")),
    ],
)
def test_a_dialogue_gets_failures_as_replies(error: Exception, failure: Failure) -> None:
    """What has no completion is a value, counted by its status; the dialogue goes on."""
    answer = Completion(text="Answer: A", finish_reason="stop")
    pool = Pool(Replies(error, answer), 1, asyncio.Event())

    assert run(pool.hold(ask_twice())) == [failure, answer]
    assert pool.progress.outcomes == {failure.status: 1}
    assert (pool.progress.requests, pool.progress.retried, pool.progress.planned) == (2, 1, 1)


def test_a_dialogue_decides_what_an_unsent_request_means() -> None:
    """It is thrown into the dialogue: the first request ends it, the second one it does without."""
    unsent, answer = RequestUnsentError("stopping"), Completion(text="Answer: A", finish_reason="stop")

    assert run(Pool(Replies(answer, unsent), 1, asyncio.Event()).hold(ask_twice())) == [answer, unsent]
    with pytest.raises(RequestUnsentError, match="stopping"):
        run(Pool(Replies(unsent), 1, asyncio.Event()).hold(ask_twice()))


def test_what_is_stored_is_answered_without_the_client() -> None:
    """A dialogue is over at once if all is stored; else it waits at the first request that is not. All are counted."""
    stored, sent = Completion(text="Answer: A", finish_reason="stop"), Completion(text="Answer: B")
    all_stored = Pool(StoredOnlyClient(), 1, asyncio.Event(), lambda _: stored)
    first_stored = Pool(
        Replies(sent), 1, asyncio.Event(), lambda request: stored if request.sample < RETRY_SAMPLES else None
    )

    assert all_stored.begin(ask_twice()) == [stored, stored]
    pending = first_stored.begin(ask_twice())
    assert isinstance(pending, Pending)
    assert pending.request.sample == RETRY_SAMPLES
    assert run(first_stored.finish(pending)) == [stored, sent]
    for pool in (all_stored, first_stored):
        assert (pool.progress.requests, pool.progress.retried, pool.progress.planned) == (2, 1, 1)


def test_a_store_that_cannot_be_read_ends_the_dialogue() -> None:
    """The error comes out, and the dialogue is closed."""
    closed: list[bool] = []

    def ask() -> Dialogue[object]:
        try:
            return (yield chat(0))
        finally:
            closed.append(True)

    def fail(_request: Request) -> Completion | None:
        raise StoreError("the disk fails")

    dialogue = ask()
    with pytest.raises(StoreError, match="the disk fails"):
        Pool(StoredOnlyClient(), 1, asyncio.Event(), fail).begin(dialogue)
    assert closed == [True]


def test_ctrl_c_waits_and_twice_gives_up() -> None:
    """The first signal sets `stopping` and is told; the second cancels what is under way, and is told to the caller."""
    said: list[str] = []
    ended: list[str] = []

    async def go(signals: int, end: asyncio.Event) -> bool:
        stopping = asyncio.Event()

        async def work() -> None:
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(0)
            await stopping.wait()
            await end.wait()
            ended.append("work")

        async def finish() -> None:
            ended.append("finish")

        return await run_until_done(
            [work()], stopping, cancel=lambda: ended.append("cancel"), finish=finish, say=said.append
        )

    end = asyncio.Event()
    end.set()

    assert run(go(1, end)) is True
    assert (said, ended) == ([STOPPING], ["work", "finish"])
    said.clear()
    ended.clear()
    assert run(go(2, asyncio.Event())) is True
    assert (said, ended) == ([STOPPING], ["cancel", "finish"])


def test_the_first_error_stops_the_other_work() -> None:
    """The others see `stopping`, end by themselves, and what is under way is stored before the error comes out."""
    ended: list[str] = []

    async def go() -> None:
        stopping = asyncio.Event()

        async def fail() -> None:
            raise ValueError("broken")

        async def work() -> None:
            await stopping.wait()
            ended.append("work")

        async def finish() -> None:
            ended.append("finish")

        await run_until_done([work(), fail()], stopping, finish=finish)

    with pytest.raises(ValueError, match="broken"):
        run(go())
    assert ended == ["work", "finish"]


def test_a_run_in_another_thread_is_stopped_by_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are no signals outside the main thread; one request waits for what is under way, two give it up."""
    monkeypatch.setattr(execution_pool, "TICK", 0.01)
    said: list[str] = []
    ended: list[str] = []
    stop = StopRequest()

    async def go(twice: bool) -> bool:
        stopping = asyncio.Event()

        async def work() -> None:
            stop.ask()
            await stopping.wait()
            if twice:
                stop.ask()
                await asyncio.Event().wait()
            ended.append("work")

        return await run_until_done(
            [work()], stopping, cancel=lambda: ended.append("cancel"), say=said.append, stop=stop
        )

    with ThreadPoolExecutor() as threads:
        assert threads.submit(run, go(False)).result() is True
        assert (said, ended) == ([STOPPING], ["work"])
        said.clear()
        ended.clear()
        stop.times = 0
        assert threads.submit(run, go(True)).result() is True
    assert (said, ended) == ([STOPPING], ["cancel"])
