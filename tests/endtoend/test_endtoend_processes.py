"""Several processes at once: they share the work, pay for nothing twice, and do not write into each other's files."""

from __future__ import annotations

import json
import signal
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import read_rows, read_trials

from servers.commands import WarmCommands
from servers.planted import PlantedServer
from servers.tables import Table

TABLE = Table(examples=60, words=3, seed=3)
EACH = 1 + TABLE.words + 1
DISTINCT = TABLE.examples * EACH
PROCESSES = 3


def bodies(server: PlantedServer) -> Counter[tuple[str, str | None]]:
    """How often each input was asked about: once for each key, so twice where the sham has the same body."""
    return Counter(one.place for one in server.received)


ONCE = Counter({**dict.fromkeys(TABLE.pairs(), 1), **{(example, None): 2 for example in TABLE.ids}})


@pytest.mark.slow
def test_three_runs_at_once_pay_once(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """The same 300 requests in three processes: each is asked once by one of them, and all have the same numbers."""
    one = bench(TABLE, latency=0.03)
    server: PlantedServer = one.server
    started = [
        warm.start(*one.options("--out", f"out{number}", "--json", "--max-connections", "8"), cwd=one.directory)
        for number in range(PROCESSES)
    ]
    results = [child.finish() for child in started]
    requests = [result.document["requests"] for result in results]

    assert [result.code for result in results] == [0] * PROCESSES, [result.stderr for result in results]
    assert bodies(server) == ONCE
    assert all(entry.answered for entry in server.received)
    assert sum(found["sent"] for found in requests) == DISTINCT
    assert all(found["hits"] + found["sent"] == found["distinct"] == DISTINCT for found in requests)
    assert all(found["unsent"] == 0 for found in requests)
    assert sum(found["sent"] > DISTINCT / 10 for found in requests) > 1  # they did share the work
    for name in ("metrics.json", "metrics.csv"):
        assert len({(one.directory / f"out{number}" / name).read_bytes() for number in range(PROCESSES)}) == 1
    lines = [sorted(json.dumps(trial) for trial in read_trials(one.directory / f"out{number}")) for number in (0, 1, 2)]
    assert lines[0] == lines[1] == lines[2]
    assert any("from another process" in result.stderr for result in results)


def test_the_dollars_of_several_processes_are_each_spent_once(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Together they spend what one alone would; each says what the others saved it."""
    table = Table(examples=15, words=1, seed=3)
    one = bench(table, latency=0.02)
    started = [
        warm.start(*one.options("--out", f"out{number}", "--json", "--price", "0,1000"), cwd=one.directory)
        for number in range(2)
    ]
    found = [child.finish().document for child in started]

    assert len(one.server.received) == 15 * 3
    assert sum(document["usd_spent"] for document in found) == pytest.approx(15 * 3 * 0.02)
    assert [document["usd_from_scratch"] for document in found] == pytest.approx([15 * 3 * 0.02] * 2)


def test_a_killed_process_leaves_its_requests_to_the_other(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """One of two is killed in mid-run: the other finishes everything, and only what was on the wire is asked again."""
    table = Table(examples=30, words=2, seed=3)
    one = bench(table, latency=0.05)
    server: PlantedServer = one.server
    options = ("--max-connections", "4", "--json")
    first = warm.start(*one.options("--out", "out0", *options), cwd=one.directory)
    second = warm.start(*one.options("--out", "out1", *options), cwd=one.directory)
    server.wait_for(30)
    first.send(signal.SIGKILL)
    assert first.finish().code == -signal.SIGKILL
    done = second.finish()

    distinct = 30 * 4
    assert done.code == 0, done.stderr
    assert done.document["requests"]["distinct"] == distinct
    assert distinct <= len(server.received) <= distinct + 4
    assert len(read_trials(one.directory / "out1")) == 30 * 3


@pytest.mark.slow
def test_two_processes_never_write_one_run_directory(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """By default the second takes a directory of its own; afterwards the first's is continued, not a third made."""
    table = Table(examples=10, words=1, seed=3)
    one = bench(table, latency=0.1)
    options = one.options("--json", "--max-connections", "2")
    started = [warm.start(*options, cwd=one.directory) for _ in range(PROCESSES)]
    results = [child.finish() for child in started]
    places = sorted(result.document.get("run_dir", "") for result in results)

    assert [result.code for result in results] == [0] * PROCESSES, [result.stdout for result in results]
    assert [f"{places[0]}-2", f"{places[0]}-3"] == places[1:]
    assert len({json.dumps(read_rows(one.directory / place)) for place in places}) == 1
    assert warm.run(*options, cwd=one.directory).document["run_dir"] == places[0]
    assert sorted(path.name for path in (one.directory / "runs").iterdir()) == [Path(place).name for place in places]


@pytest.mark.slow
def test_a_run_directory_that_is_in_use_is_refused(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """The same --out: exit 2 in one sentence, before anything is asked; the first run is not disturbed."""
    table = Table(examples=10, words=1, seed=3)
    one = bench(table, latency=0.1)
    options = one.options("--out", "out", "--json", "--max-connections", "2")
    first = warm.start(*options, cwd=one.directory)
    one.server.wait_for(3)
    refused = warm.run(*options, cwd=one.directory)
    done = first.finish()

    assert (done.code, refused.code) == (0, 2)
    assert "another run is writing out" in refused.document["error"]["message"]
    assert len(one.server.received) == 10 * 3 == done.document["requests"]["sent"]
    assert warm.run(*options, cwd=one.directory).code == 0


@pytest.mark.slow
def test_a_stopped_process_holds_up_nobody(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """The free requests are asked first, the stopped process is named, and when it is killed the rest is asked."""
    table = Table(examples=40, words=4, seed=3)
    distinct, fast, connections = 40 * 5, 10, 4
    one = bench(table, latency=3600)
    server: PlantedServer = one.server
    server.fast = fast
    options = ("--shams", "0", "--max-connections", str(connections), "--json")
    first = warm.start(*one.options("--out", "out0", *options), cwd=one.directory)
    server.wait_for(fast + connections)
    first.send(signal.SIGSTOP)
    server.latency = 0.0
    second = warm.start(*one.options("--out", "out1", *options), cwd=one.directory)
    under_way = connections * 5  # units of the first process, each with its requests
    server.wait_for(fast + connections + distinct - fast - under_way)
    second.wait_for_line(f"waiting for process {first.pid} on {socket.gethostname()}, which is asking ")
    first.send(signal.SIGKILL)
    assert first.finish().code == -signal.SIGKILL
    done = second.finish()
    told = [line for line in done.stderr.splitlines() if "waiting for process" in line]

    assert done.code == 0, done.stderr
    assert len(told) == 1
    held = int(told[0].partition("is asking ")[2].split()[0])
    assert 1 <= held <= under_way
    assert f"kill -CONT {first.pid}" in told[0]
    assert f"kill {first.pid})" in told[0]
    requests = done.document["requests"]
    assert requests["hits"] + requests["sent"] == distinct
    assert len(server.received) == distinct + connections
    assert len(read_trials(one.directory / "out1")) == 40 * 4


@pytest.mark.slow
def test_a_process_stopped_at_its_first_request_holds_up_nobody(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """What the endpoint takes is then found out with another example: 199 of 200 requests are free."""
    table = Table(examples=40, words=4, seed=3)
    one = bench(table, latency=3600)
    server: PlantedServer = one.server
    options = ("--shams", "0", "--max-connections", "4", "--json")
    first = warm.start(*one.options("--out", "out0", *options), cwd=one.directory)
    server.wait_for(1)
    first.send(signal.SIGSTOP)
    server.latency = 0.0
    second = warm.start(*one.options("--out", "out1", *options), cwd=one.directory)
    server.wait_for(1 + 199)
    second.wait_for_line(f"waiting for process {first.pid} on {socket.gethostname()}, which is asking 1 of the same")
    first.send(signal.SIGKILL)
    assert first.finish().code == -signal.SIGKILL
    done = second.finish()

    assert done.code == 0, done.stderr
    assert len(server.received) == 201
    assert done.document["requests"]["sent"] == 200
