"""`run --batch` beside a plain run of the same requests, in two processes with one cache: nothing is bought twice."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from batch_runs import DISTINCT, BatchRuns, answer, counts

from servers.batch_server import BatchServer, Call
from servers.commands import WarmCommands

TABLE_BODIES = Counter({2: 6, 1: DISTINCT - 12})
"""How many bodies are to be billed how often: the untouched input of each example has a sham of the same body."""


def billed(runs: BatchRuns) -> Counter[int]:
    """How many bodies were billed how often, alone or in a batch."""
    found = Counter(runs.server.bodies)
    found.update(json.dumps(body, sort_keys=True) for body in runs.server.plain)
    return Counter(found.values())


def is_complete(runs: BatchRuns) -> bool:
    """Whether a further run finds every answer in the cache, with batches and without."""
    results = [runs.run(*more, "--out", f"last{len(more)}") for more in ((), ("--batch",))]
    return [(result.code, counts(result)) for result in results] == [(0, (DISTINCT, DISTINCT, 0, 0))] * 2


@pytest.mark.slow
@pytest.mark.parametrize("polls", [0, 3])
def test_a_batch_beside_a_plain_run_that_began_before_it(warm: WarmCommands, tmp_path: Path, polls: int) -> None:
    """What the plain run is asking goes into no batch, what is in the batch the plain run does not ask; all arrives."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, polls=polls)) as runs:
        submitted = threading.Event()

        def slowly(call: Call) -> None:
            if call == "create":
                submitted.set()
            if call == "plain" and len(runs.server.plain) > 4:
                submitted.wait(30)

        runs.server.on_call = slowly
        plain = runs.start("--max-connections", "2", "--out", "plain")
        runs.wait_for("plain", 5)
        batched = runs.run("--batch", "--out", "batched")
        beside = plain.finish()

        assert batched.code == 0, batched.stderr
        assert beside.code in (0, 5), beside.stderr
        assert (beside.code == 5) is ("in a batch that is not fetched yet" in beside.stderr)
        assert runs.server.batches
        assert billed(runs) == TABLE_BODIES
        assert is_complete(runs)


def test_a_plain_run_beside_a_batch_that_is_being_submitted(warm: WarmCommands, tmp_path: Path) -> None:
    """It waits while the batch is not yet recorded as submitted, then says what is in it, and buys none of that."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, polls=None)) as runs:
        going = threading.Event()

        def hold(call: Call) -> None:
            if call == "upload":
                going.wait(20)

        runs.server.on_call = hold
        batched = runs.start("--batch", "--out", "batched")
        runs.wait_for("upload")
        plain = runs.start("--out", "plain")
        time.sleep(1.5)  # long enough to ask everything, if nothing held it back
        asked = len(runs.server.plain)
        going.set()
        beside = plain.finish()
        runs.server.finish()
        done = batched.finish()

        assert asked == 1  # the batch run's own first request
        assert (beside.code, counts(beside)) == (5, (DISTINCT, 1, 0, DISTINCT - 1)), beside.stderr
        assert f"{DISTINCT - 1} requests are in a batch that is not fetched yet" in beside.stderr
        assert done.code == 0, done.stderr
        assert billed(runs) == TABLE_BODIES
        assert is_complete(runs)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("call", "again"), [("upload", DISTINCT - 1), ("create", 0), ("poll", 0)])
def test_a_plain_run_beside_a_batch_process_that_is_killed(
    warm: WarmCommands, tmp_path: Path, call: Call, again: int
) -> None:
    """Killed before the batch could exist, its requests are free; from then on they stay in it for everybody."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, polls=None)) as runs:
        killed = threading.Event()

        def hold(this: Call) -> None:
            if this == call:
                killed.wait(20)

        runs.server.on_call = hold
        batched = runs.start("--batch", "--out", "batched")
        runs.wait_for(call)
        beside = runs.start("--out", "plain")
        time.sleep(1.0)  # by now it waits for the claims, or has seen the batch
        batched.send(signal.SIGKILL)
        assert batched.finish().code == -signal.SIGKILL
        killed.set()
        plain = beside.finish()

        assert (plain.code, counts(plain)) == (5 if not again else 0, (DISTINCT, 1, again, DISTINCT - 1 - again))
        runs.server.finish()
        done = runs.run("--batch", "--out", "batched")
        assert done.code == 0, done.stderr
        assert billed(runs) == TABLE_BODIES
        assert is_complete(runs)


@pytest.mark.slow
def test_what_the_other_process_does_not_bring_home_goes_into_a_batch(warm: WarmCommands, tmp_path: Path) -> None:
    """A plain run is killed while it asks: the batch run waits for its requests, then asks them itself."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, polls=0)) as runs:
        going = threading.Event()

        def hold(call: Call) -> None:
            if call == "plain" and len(runs.server.plain) > 1:
                going.wait(20)

        runs.server.on_call = hold
        plain = runs.start("--max-connections", "2", "--out", "plain")
        runs.wait_for("plain", 2)
        batched = runs.start("--batch", "--out", "batched")
        runs.wait_for("results")
        plain.send(signal.SIGKILL)
        plain.finish()
        done = batched.finish()
        going.set()

        assert (done.code, counts(done)[3]) == (0, 0), done.stderr
        assert len(runs.server.batches) >= 2
        assert set(runs.server.billed.values()) == {1}
        assert len(runs.server.billed) == DISTINCT - 1
        assert is_complete(runs)
