"""A run of batches that dies or stops at any stage, and the next one: all is stored, and each request billed once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import open_store, request_key
from explaineval.client.batches import machine
from explaineval.client.batches.journal import PendingKeys
from explaineval.client.batches.machine import BatchOutcome, run_batches
from explaineval.records import Completion, Request
from servers.batch_bench import POLL, BatchBench, Route, chat
from servers.batch_lines import Batch
from servers.batch_server import BatchServer, Call, Fault

COUNT = 9
Stage = tuple[Call, Fault | None]
STAGES: dict[str, Stage] = {
    "planned": ("upload", None),
    "submitting, never made": ("create", "reset"),
    "made, response lost": ("create", "lost"),
    "in progress": ("poll", None),
    "ended, not fetched": ("results", None),
}
"""At which call the run ends, and what happens to that call."""
NO_UPLOAD = ("planned", "anthropic")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., BatchBench]]:
    """A bench with its server, by the server's settings."""
    running: list[BatchServer] = []

    def start(route: Route, **settings: Any) -> BatchBench:
        server = BatchServer(**settings)
        running.append(server.__enter__())
        return BatchBench(server, tmp_path, route)

    yield start
    for server in running:
        server.__exit__(None, None, None)


def end_at(server: BatchServer, call: Call, do: Callable[[], object]) -> None:
    """Do it when the server gets such a call, before it answers."""

    def told(one: Call) -> None:
        if one == call:
            server.on_call = None
            do()

    server.on_call = told


def die_at(bench: BatchBench, requests: list[Request], stage: Stage) -> None:
    """Run batches and cancel them at a stage; afterwards only connections are closed."""
    call, fault = stage
    bench.server.faults = {call: [fault]}

    def during(task: asyncio.Task[BatchOutcome], _: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        def kill() -> None:
            loop.call_soon_threadsafe(task.cancel)
            end = time.monotonic() + 10
            while not task.done() and time.monotonic() < end:
                time.sleep(0.002)

        end_at(bench.server, call, kill)

    with pytest.raises(asyncio.CancelledError):
        bench.run(requests, during=during)


def check_complete(bench: BatchBench, requests: list[Request], outcome: BatchOutcome) -> None:
    """Check that all answers are stored, each was billed once, and every journal entry is closed."""
    keys = {request_key(request) for request in requests}

    assert (outcome.failed, outcome.unsent, outcome.waiting, outcome.errors) == ({}, 0, False, [])
    assert set(bench.stored()) == keys
    assert dict(bench.server.billed) == dict.fromkeys(keys, 1)
    assert {"fetched", "abandoned"} >= set(bench.states())
    assert list(PendingKeys(bench.open_journal())) == []


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("stage", "route"),
    [(stage, route) for stage in STAGES for route in ("openai", "anthropic") if (stage, route) != NO_UPLOAD],
)
def test_death_at_every_stage(make: Callable[..., BatchBench], route: Route, stage: str) -> None:
    """The run dies there; the next one completes it, and puts no request into a second batch that was in a first."""
    bench = make(route)
    requests = bench.requests(COUNT)
    die_at(bench, requests, STAGES[stage])
    made = len(bench.server.batches)

    assert made == (stage not in ("planned", "submitting, never made"))
    check_complete(bench, requests, bench.run(requests))
    assert len(bench.server.batches) == 1


@pytest.mark.parametrize("stage", ["made, response lost", "in progress"])
def test_the_next_run_asks_for_something_else(make: Callable[..., BatchBench], stage: str) -> None:
    """What an earlier run paid for is fetched all the same; what is new goes into a batch of its own."""
    bench = make("openai")
    requests = bench.requests(COUNT)
    die_at(bench, requests[:6], STAGES[stage])
    outcome = bench.run(requests[4:])

    assert (outcome.submitted, outcome.stored) == (3, 9)
    check_complete(bench, requests, outcome)


def test_a_batch_that_was_never_made_is_asked_again_only_if_wanted(make: Callable[..., BatchBench]) -> None:
    """A run that died before its batch came into being leaves nothing to be paid for by another run."""
    bench = make("openai")
    requests = bench.requests(COUNT)
    die_at(bench, requests[:6], STAGES["submitting, never made"])
    outcome = bench.run(requests[4:])

    assert (outcome.submitted, outcome.stored) == (5, 5)
    check_complete(bench, requests[4:], outcome)


@pytest.mark.parametrize("route", ["openai", "anthropic"])
def test_death_half_way_through_fetching(
    make: Callable[..., BatchBench], route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored before stays; the rest is fetched from the same batch, and only that is told of."""
    monkeypatch.setattr(machine, "GROUP", 2)
    bench = make(route)
    requests = bench.requests(COUNT)
    settled: list[Request] = []
    tasks: list[asyncio.Task[BatchOutcome]] = []

    def settle(request: Request, _: Completion | None) -> None:
        settled.append(request)
        if len(settled) == 4:
            tasks[0].cancel()

    with pytest.raises(asyncio.CancelledError):
        bench.run(requests, during=lambda task, *_: tasks.append(task), settle=settle)
    before = set(bench.stored())
    outcome = bench.run(requests)

    assert 4 <= len(before) < COUNT
    assert outcome.stored == COUNT - len(before)
    check_complete(bench, requests, outcome)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("route", ["openai", "anthropic"])
@pytest.mark.parametrize("call", ["create", "poll", "results"])
def test_stopping_returns_at_once_and_the_batch_goes_on(
    make: Callable[..., BatchBench], route: Route, call: Call
) -> None:
    """Ctrl-C: what is submitted is waiting, its keys are known as pending, and the next run fetches it."""
    bench = make(route)
    requests = bench.requests(COUNT)

    def during(_: object, stopping: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        end_at(bench.server, call, lambda: loop.call_soon_threadsafe(stopping.set))

    outcome = bench.run(requests, during=during)

    assert (outcome.waiting, outcome.unsent, outcome.submitted) == (True, 0, COUNT)
    assert set(PendingKeys(bench.open_journal())) == {request_key(request) for request in requests}
    check_complete(bench, requests, bench.run(requests))
    assert len(bench.server.batches) == 1


def test_stopping_before_anything_is_submitted(make: Callable[..., BatchBench]) -> None:
    """Everything is unsent, nothing is waiting, and nothing reached the endpoint."""
    bench = make("openai")
    outcome = bench.run(bench.requests(COUNT), during=lambda _, stopping, __: stopping.set())

    assert (outcome.unsent, outcome.waiting, bench.server.calls) == (COUNT, False, [])


@pytest.mark.sampled(3)
@pytest.mark.parametrize("route", ["openai", "anthropic"])
@pytest.mark.parametrize("fault", ["lost", "late-500", "html", "reset", "500"])
def test_a_creation_of_unknown_fate(make: Callable[..., BatchBench], route: Route, fault: Fault) -> None:
    """After a reset, a 5xx or a broken answer the provider's list tells: the batch is found, or submitted once more."""
    bench = make(route, page=1)
    bench.server.faults = {"create": [fault], "list": ["500", "reset"]}
    requests = bench.requests(COUNT)
    outcome = bench.run(requests)

    check_complete(bench, requests, outcome)
    assert len(bench.server.batches) == 1
    assert bench.server.count("list") > 2


def test_batches_of_others_are_told_apart(make: Callable[..., BatchBench]) -> None:
    """Anthropic keeps no mark of ours: an ended batch of another is known by its results, a running one waited for."""
    bench = make("anthropic", polls=None)
    requests = bench.requests(COUNT)
    foreign = [(f"theirs-{number}", "/v1/messages", {"model": "m", "messages": [{"role": "user", "content": "?"}]})
               for number in range(COUNT)]  # fmt: skip
    ended, running = (Batch(name, "anthropic", foreign, time.time()) for name in ("msgbatch_a", "msgbatch_b"))
    old = Batch("msgbatch_old", "anthropic", foreign, time.time() - 86_400)
    for batch in (ended, running, old):
        bench.server.add(batch)
    bench.server._execute(ended)
    die_at(bench, requests, STAGES["submitting, never made"])

    def during(_: object, stopping: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(20 * POLL, stopping.set)

    waiting = bench.run(requests, during=during)
    assert (waiting.waiting, waiting.submitted) == (True, 0)

    bench.server.finish()
    bench.server.billed.clear()
    bench.server.polls = 1
    check_complete(bench, requests, bench.run(requests))


def test_two_runs_at_once(make: Callable[..., BatchBench]) -> None:
    """One does the asking; the other leaves these requests to it."""
    bench = make("anthropic")
    requests = bench.requests(COUNT)
    misses = [(request_key(request), request) for request in requests]

    async def both() -> list[BatchOutcome]:
        with open_store(bench.directory) as store:
            sessions = [bench.session(store, asyncio.Event()) for _ in range(2)]
            try:
                return await asyncio.gather(*(run_batches(session, misses) for session in sessions))
            finally:
                for session in sessions:
                    await session.provider.close()

    first, second = asyncio.run(both())

    check_complete(bench, requests, first)
    assert (second.submitted, second.stored, second.waiting) == (0, 0, False)
    assert second.in_other_batches in (0, COUNT)


def test_runs_of_other_requests_do_not_wait_for_each_other(make: Callable[..., BatchBench]) -> None:
    """Four runs at once submit their batches while the first is still under way, and each request is billed once."""
    bench = make("openai", polls=None)
    requests = bench.requests(4 * COUNT)
    parts = [[(request_key(one), one) for one in requests[start::4]] for start in range(4)]

    async def all_at_once() -> list[BatchOutcome]:
        with open_store(bench.directory) as store:
            sessions = [bench.session(store, asyncio.Event()) for _ in parts]
            tasks = [
                asyncio.ensure_future(run_batches(session, misses))
                for session, misses in zip(sessions, parts, strict=True)
            ]
            while len(bench.server.batches) < len(parts):  # noqa: ASYNC110 - the server is in a thread
                await asyncio.sleep(0.01)
            bench.server.finish()
            try:
                return await asyncio.gather(*tasks)
            finally:
                for session in sessions:
                    await session.provider.close()

    outcomes = asyncio.run(all_at_once())

    assert [(one.submitted, one.stored, one.waiting) for one in outcomes] == [(COUNT, COUNT, False)] * 4
    assert set(bench.server.billed.values()) == {1}
    assert not list(bench.journal.glob("*.requests.jsonl"))


CHILD = """
import asyncio, sys
from pathlib import Path
from servers.batch_bench import BatchBench, chat
from types import SimpleNamespace
bench = BatchBench(SimpleNamespace(root=sys.argv[1]), Path(sys.argv[2]), "openai")
bench.run([chat(number) for number in range(int(sys.argv[3]))])
"""


@pytest.mark.slow
def test_kill_9_while_the_batch_is_made(make: Callable[..., BatchBench]) -> None:
    """Killed after the batch was made and before the response: the lock is gone, the journal entry is not."""
    bench = make("openai")
    requests = [chat(number) for number in range(COUNT)]
    script = bench.directory / "child.py"
    script.write_text(CHILD, encoding="utf-8")
    end_at(bench.server, "create", lambda: os.kill(child.pid, signal.SIGKILL))
    paths = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    child = subprocess.Popen(
        [sys.executable, str(script), bench.server.root, str(bench.directory), str(COUNT)],
        env={**os.environ, "PYTHONPATH": paths},
    )

    assert child.wait(60) == -signal.SIGKILL
    assert bench.states() == ["submitting"]
    check_complete(bench, requests, bench.run(requests))
    assert len(bench.server.batches) == 1
