"""A run that is killed or interrupted, and then begun again: nothing that was stored is asked twice."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import read_rows, read_trials

from explaineval.cache import open_store
from servers.commands import WarmCommands
from servers.planted import Place, PlantedServer, recognise
from servers.tables import KIND, Table

TABLE = Table(examples=32, words=4, seed=3)
DISTINCT = 32 * 5
CONNECTIONS = 4
KILLS = 10


def stored_places(cache: Path, aside: Path) -> set[Place]:
    """What a copy of the cache holds answers for; the cache itself is left as the dead process left it."""
    if not (cache / "cache.db").exists():
        return set()
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(cache, aside)
    with open_store(aside) as store:
        found = {
            recognise({"messages": [turn.model_dump() for turn in request.messages or ()]}, "chat")[1]
            for _, request, _ in store.iterate()
        }
        assert store.warnings == ()
    return found


@pytest.mark.slow
def test_ten_kills_lose_no_stored_answer(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """kill -9 at ten moments of one run; each new start asks nothing that was stored, and the numbers are the same."""
    one = bench(TABLE, latency=0.03)
    server: PlantedServer = one.server
    command = one.options("--shams", "0", "--max-connections", str(CONNECTIONS))
    interrupted = [*command, "--cache", "cache", "--out", "out"]
    draw = random.Random(11)
    losses: list[int] = []
    for number in range(KILLS):
        stored = stored_places(one.directory / "cache", one.directory / "aside")
        before = len(server.received)
        child = warm.start(*interrupted, cwd=one.directory)
        if number:  # the first kill falls into the start of the run, before anything is asked
            server.wait_for(before + draw.randint(1, 10))
        time.sleep(draw.uniform(0, 0.03))
        child.send(signal.SIGKILL)
        assert child.finish().code == -signal.SIGKILL
        time.sleep(0.1)  # until the server has read what the dead process had sent
        session = [received.place for received in server.received[before:]]
        assert not stored & set(session)
        assert len(session) == len(set(session))
        after = stored_places(one.directory / "cache", one.directory / "aside")
        assert stored <= after
        lost = set(session) - after
        assert len(lost) <= 2 * CONNECTIONS  # under way at the endpoint, or come home and not yet on the disk
        losses.append(len(lost))

    assert sum(map(bool, losses)) > KILLS / 2
    partial = stored_places(one.directory / "cache", one.directory / "aside")
    before = len(server.received)
    last = warm.run(*interrupted, "--json", cwd=one.directory)
    assert last.code == 0
    assert before + DISTINCT - len(partial) == len(server.received)
    assert {"planned": 32 * 8, "distinct": DISTINCT, "hits": len(partial), "sent": DISTINCT - len(partial)} == {
        name: last.document["requests"][name] for name in ("planned", "distinct", "hits", "sent")
    }
    assert len(server.counts()) == DISTINCT
    assert len(server.received) == DISTINCT + sum(losses)

    undisturbed = warm.run(*command, "--cache", "cache2", "--out", "out2", cwd=one.directory)
    assert undisturbed.code == 0
    for name in ("metrics.json", "metrics.csv"):
        assert (one.directory / "out2" / name).read_bytes() == (one.directory / "out" / name).read_bytes()


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("number", "transport"),
    [(signal.SIGINT, "litellm"), (signal.SIGTERM, "litellm"), (signal.SIGINT, "direct")],
    ids=["SIGINT", "SIGTERM", "SIGINT-direct"],
)
def test_an_interrupted_run_keeps_and_scores_what_it_paid_for(
    bench: Callable[..., Any], warm: WarmCommands, number: signal.Signals, transport: str
) -> None:
    """Ctrl-C in mid-run: exit 130, what was sent comes home, is stored and scored; the rest is asked later."""
    one = bench(TABLE, latency=0.05)
    server: PlantedServer = one.server
    command = one.options("--shams", "0", "--max-connections", str(CONNECTIONS), "--transport", transport)
    command += ["--out", "out", "--json"]
    child = warm.start(*command, cwd=one.directory)
    server.wait_for(40)
    child.send(number)
    stopped = child.finish()
    asked = len(server.received)

    assert 130 == stopped.code == stopped.document["exit_code"]
    assert 40 <= asked < DISTINCT
    assert all(received.answered for received in server.received)
    requests = stopped.document["requests"]
    assert (asked, 0) == (requests["sent"], requests["hits"])
    assert DISTINCT == requests["distinct"] == asked + requests["unsent"]

    trials = [trial for trial in read_trials(one.directory / "out") if trial["kind"] == KIND]
    rows = {row["metric"]: row for row in read_rows(one.directory / "out")}
    assert stopped.document["metrics"] == read_rows(one.directory / "out")
    assert 0 < len(trials) < 32 * 4
    assert {"ok"} == {trial["status"] for trial in trials}
    assert len(trials) == rows["impact_rate"]["n"]
    assert rows["impact_rate"]["value"] == pytest.approx(sum(trial["changed"] for trial in trials) / len(trials))

    again = warm.run(*command, cwd=one.directory)
    assert again.code == 0
    assert (asked, DISTINCT - asked) == (again.document["requests"]["hits"], again.document["requests"]["sent"])
    assert set(server.counts().values()) == {1}
    assert len(read_trials(one.directory / "out")) == 32 * 4


@pytest.mark.slow
def test_a_second_interrupt_gives_up_and_counts_what_was_not_waited_for(
    bench: Callable[..., Any], warm: WarmCommands
) -> None:
    """The answers that never come are counted as given up, each step is told in one line, and the sums agree."""
    one = bench(TABLE, latency=3600)
    server: PlantedServer = one.server
    server.fast = 40
    command = one.options("--shams", "0", "--max-connections", str(CONNECTIONS), "--out", "out", "--timeout", "300")
    child = warm.start(*command, "--json", cwd=one.directory)
    server.wait_for(40 + CONNECTIONS)
    child.send(signal.SIGINT)
    child.wait_for_line("stopping: nothing more is sent")
    child.send(signal.SIGINT)
    stopped = child.finish()
    requests = stopped.document["requests"]

    assert 130 == stopped.code == stopped.document["exit_code"]
    assert 40 + CONNECTIONS == len(server.received) == requests["sent"]
    assert DISTINCT == requests["distinct"] == requests["sent"] + requests["unsent"]
    lines = [line for line in stopped.stderr.splitlines() if "stopping" in line or "not waited for" in line]
    assert len(lines) == 3, stopped.stderr
    assert lines[1] == f"explaineval: {CONNECTIONS} answers under way were not waited for and may be charged."
    assert f"{requests['unsent']} requests were not sent, {CONNECTIONS} answers under way were not waited" in lines[2]
    for wrong in ("Traceback", "never retrieved", "an error in explaineval itself"):
        assert wrong not in stopped.stderr

    server.latency = 0.0
    again = warm.run(*command, "--json", cwd=one.directory)
    assert again.code == 0
    assert (again.document["requests"]["hits"], again.document["requests"]["sent"]) == (40, DISTINCT - 40)
