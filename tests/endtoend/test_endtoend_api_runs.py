"""`explaineval.run` from Python: in a script, awaited where a loop runs, in another thread, and cancelled."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import explaineval
from explaineval.api import Result
from explaineval.errors import InputError
from servers.planted import PlantedServer
from servers.tables import Table

TABLE = Table(examples=12, words=3, seed=6)
DISTINCT = 12 * 4
"""The input and three insertions of each example."""


def settings(bench: Any, name: str = "out") -> dict[str, Any]:
    """A run of the planted model, four requests at a time, with its directories in the test's own."""
    return {
        "tasks": [f"jsonl:{bench.directory / 'task.jsonl'}"],
        "models": [{"model": "openai/planted", "endpoint": "lab"}],
        "endpoints": {"lab": {"base_url": bench.server.url, "max_connections": 4}},
        "interventions": {"file": str(bench.directory / "edits.jsonl")},
        "shams": 0,
        "cache": str(bench.directory / "cache"),
        "out": str(bench.directory / name),
    }


def state_of(directory: Path) -> dict[str, Any]:
    """progress.json."""
    document: dict[str, Any] = json.loads((directory / "progress.json").read_text(encoding="utf-8"))
    return document


def finished(result: object) -> None:
    """Fail unless the result is that of a whole run."""
    assert isinstance(result, Result)
    assert (result.exit_code, result.errors) == (0, ())
    assert result.totals["requests"]["distinct"] == DISTINCT


def test_a_script_gets_the_result(bench: Callable[..., Any]) -> None:
    """Where no loop runs the call returns when the run is done; the handlers of signals are as they were."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    finished(explaineval.run(settings(bench(TABLE)), progress=False))

    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_another_thread_gets_the_result(bench: Callable[..., Any]) -> None:
    """No handler can be installed there, and none is needed."""
    results: list[object] = []
    configuration = settings(bench(TABLE))
    thread = Thread(target=lambda: results.append(explaineval.run(configuration, progress=False)))
    thread.start()
    thread.join()

    finished(results[0])


def test_a_loop_goes_on_while_the_run_is_awaited(bench: Callable[..., Any]) -> None:
    """Another task of the same loop is served during the run."""
    one = bench(TABLE, latency=0.02)

    async def notebook() -> tuple[Any, int]:
        run = explaineval.run(settings(one), progress=False)
        assert isinstance(run, Awaitable)
        task = asyncio.ensure_future(run)
        turns = 0
        while not task.done():
            await asyncio.sleep(0.01)
            turns += 1
        return task.result(), turns

    result, turns = asyncio.run(notebook())

    finished(result)
    assert turns >= DISTINCT // 4
    assert len(one.server.received) == DISTINCT


@pytest.fixture
def slow(bench: Callable[..., Any]) -> Any:
    """A bench whose server answers slowly enough to be stopped in the middle."""
    return bench(TABLE, latency=0.1)


def check_stopped(one: Any) -> None:
    """What was sent was waited for and stored and scored, nothing else was sent, and the same call goes on."""
    server: PlantedServer = one.server
    sent = len(server.received)
    assert 8 <= sent < DISTINCT
    assert all(received.answered for received in server.received)
    progress = state_of(one.directory / "out")
    (model,) = progress["models"]
    assert (progress["state"], progress["exit_code"], model["state"]) == ("stopped", 130, "stopped")
    assert (model["sent"], model["unsent"]) == (sent, DISTINCT - sent)
    assert (one.directory / "out" / "metrics.json").exists()
    server.latency = 0.0

    again = explaineval.run(settings(one), progress=False)

    assert isinstance(again, Result)
    assert (again.exit_code, again.totals["requests"]["hits"]) == (0, sent)
    assert set(server.counts().values()) == {1}


def test_a_cancelled_run_stores_what_it_paid_for(slow: Any) -> None:
    """The task ends as cancelled when the run has ended."""

    async def notebook() -> None:
        task = asyncio.ensure_future(explaineval.run(settings(slow), progress=False))  # type: ignore[arg-type]
        await asyncio.to_thread(slow.server.wait_for, 8)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(notebook())

    check_stopped(slow)


def test_ctrl_c_in_a_script_with_a_loop_does_the_same(slow: Any) -> None:
    """`asyncio.run` turns the signal into a cancellation, and into KeyboardInterrupt at the end."""

    async def notebook() -> None:
        async def interrupt() -> None:
            await asyncio.to_thread(slow.server.wait_for, 8)
            os.kill(os.getpid(), signal.SIGINT)

        task = asyncio.ensure_future(interrupt())
        await explaineval.run(settings(slow), progress=False)  # type: ignore[misc]
        await task

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(notebook())

    check_stopped(slow)


def test_a_second_cancellation_gives_up_what_is_under_way(bench: Callable[..., Any]) -> None:
    """Answers that never come are not waited for, and the run still ends in order."""
    one = bench(TABLE, latency=3600)
    one.server.fast = 8

    async def notebook() -> None:
        task = asyncio.ensure_future(explaineval.run(settings(one), progress=False))  # type: ignore[arg-type]
        await asyncio.to_thread(one.server.wait_for, 12)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(notebook())

    progress = state_of(one.directory / "out")
    assert (progress["state"], progress["exit_code"]) == ("stopped", 130)
    assert "4 answers under way were not waited for" in progress["reason"]


def test_an_error_before_the_first_request_comes_out_of_both(bench: Callable[..., Any]) -> None:
    """A directory with other files is refused, called and awaited."""
    one = bench(TABLE)
    (one.directory / "out").mkdir()
    (one.directory / "out" / "notes.txt").write_text("mine", encoding="utf-8")

    async def notebook() -> None:
        await explaineval.run(settings(one), progress=False)  # type: ignore[misc]

    with pytest.raises(InputError, match=r"holds files that are no run"):
        explaineval.run(settings(one), progress=False)
    with pytest.raises(InputError, match=r"holds files that are no run"):
        asyncio.run(notebook())
