"""Runs whose requests are sent by workers on Ray, of which one is killed: the same numbers, and no limit is broken."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import read_trials

from servers.commands import WarmCommands
from servers.planted import PlantedServer
from servers.tables import Table

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra `ray`"),
]

KEY = "sk-lab-4fUz91pQx7Lm2Vd8"
LOST = re.compile(r"was lost: its\s+(\d+)\s+calls")
LONGEST = 100.0


class RayRun:
    """A run with --engine ray in a process group of its own, as a terminal starts it."""

    def __init__(self, directory: Path, options: list[str]) -> None:
        self.directory = directory
        self._streams = [(directory / name).open("w+") for name in ("ray.stdout", "ray.stderr")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "explaineval", *options, "--engine", "ray", "--json"],
            cwd=directory,
            env={**os.environ, "LAB_KEY": KEY, "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            stdout=self._streams[0],
            stderr=self._streams[1],
            start_new_session=True,
        )

    def processes(self) -> dict[int, bytes]:
        """The command lines of all processes that it started, by /proc."""
        parents, commands = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    commands[int(entry.name)] = (entry / "cmdline").read_bytes()
                except OSError:
                    continue

        def descends(pid: int) -> bool:
            return pid == self.process.pid or (pid in parents and descends(parents[pid]))

        return {pid: command for pid, command in commands.items() if descends(pid)}

    def kill_a_worker(self) -> None:
        """Kill one of the workers by SIGKILL."""
        workers = [pid for pid, command in self.processes().items() if command.startswith(b"ray::RequestSender")]
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)

    def ray_files(self) -> Path:
        """The directory of Ray's sockets and logs, which is made for the run."""
        found = re.search(rb"(/tmp/explaineval-[^/\0]+)/", b"\0".join(self.processes().values()))
        assert found is not None
        return Path(found[1].decode())

    def finish(self) -> tuple[int, dict[str, Any], str]:
        """Its exit code, its document, and what it printed on standard error."""
        code = self.process.wait(LONGEST)
        texts = []
        for stream in self._streams:
            stream.seek(0)
            texts.append(stream.read())
        return code, json.loads(texts[0]), texts[1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str]], RayRun]]:
    """Start a run; at the end of the test its process group is killed if it lives."""
    running: list[RayRun] = []

    def begin(options: list[str]) -> RayRun:
        running.append(RayRun(tmp_path, options))
        return running[-1]

    yield begin
    for run in running:
        if run.process.poll() is None:
            os.killpg(run.process.pid, signal.SIGKILL)
            run.process.wait()
        for stream in run._streams:
            stream.close()


def holding(directory: Path, text: str) -> list[str]:
    """The files below a directory that hold a text."""
    found = []
    for path in directory.rglob("*"):
        try:
            if path.is_file() and text.encode() in path.read_bytes():
                found.append(str(path))
        except OSError:
            continue
    return found


@pytest.mark.slow
def test_a_killed_worker_costs_its_calls_under_way_alone(
    bench: Callable[..., Any], warm: WarmCommands, start: Callable[[list[str]], RayRun]
) -> None:
    """The numbers are those of a run without Ray, only what was under way is sent again, and no key is found."""
    table = Table(examples=30, words=2, seed=3)
    one = bench(table, latency=0.1, accepted_key=KEY)
    server: PlantedServer = one.server
    options = one.options("--api-key-env", "LAB_KEY", "--max-connections", "8")
    run = start([*options, "--out", "ray", "--cache", "ray-cache"])
    server.wait_for(40, LONGEST)
    files, commands = run.ray_files(), b"\0".join(run.processes().values())
    leaks = holding(files, KEY)
    run.kill_a_worker()
    code, document, printed = run.finish()
    received, counts = len(server.received), server.counts()
    lost = [int(number) for number in LOST.findall(printed)]
    alone = warm.run(*options, "--out", "alone", "--cache", "alone-cache", cwd=one.directory, env={"LAB_KEY": KEY})

    assert (code, alone.code) == (0, 0), printed + alone.stderr
    assert len(lost) == 1
    assert 0 < lost[0] <= 8
    distinct = document["requests"]["distinct"]
    assert distinct == document["requests"]["sent"] == len(table.ids) * 4
    assert distinct <= received <= distinct + lost[0]
    assert set(counts) == {body for body, times in (server.counts() - counts).items() if times}  # the same bodies
    assert (one.directory / "ray" / "metrics.json").read_bytes() == (
        one.directory / "alone" / "metrics.json"
    ).read_bytes()
    lines = [Counter(json.dumps(trial) for trial in read_trials(one.directory / name)) for name in ("ray", "alone")]
    assert lines[0] == lines[1]
    assert leaks == []
    assert KEY.encode() not in commands
    assert KEY not in printed
    assert not files.exists()  # Ray is gone, and so is what it wrote


@pytest.mark.slow
def test_a_model_stops_where_its_answers_cannot_be_read(
    bench: Callable[..., Any], start: Callable[[list[str]], RayRun]
) -> None:
    """All of the first 40 unreadable: exit 5, what was paid is kept, and little more than those 40 is sent."""
    table = Table(examples=60, words=2, seed=1)
    one = bench(table)
    for example in table.ids:
        for place in (None, *table.markers(example)[: table.words]):
            one.server.always[example, place] = "unparsed"
    code, document, _ = start(one.options("--max-connections", "4", "--out", "out")).finish()
    sent = len(one.server.received)
    record = json.loads((one.directory / "out" / "run.json").read_text(encoding="utf-8"))

    assert (code, document["error"]["code"]) == (5, 5)
    assert "40 of the first 40 answers cannot be read" in document["error"]["message"]
    assert 40 <= sent < len(table.ids) * 4
    assert document["requests"]["sent"] == sent
    assert document["requests"]["unsent"] == len(table.ids) * 4 - sent
    assert [(found["unreadable"], found["stopped"]) for found in record["endpoints"][0]["unreadable"]] == [(40, True)]


@pytest.mark.slow
def test_the_budget_and_the_rate_hold_over_all_workers(
    bench: Callable[..., Any], start: Callable[[list[str]], RayRun]
) -> None:
    """Also with a worker killed: what was under way there counts as spent in full."""
    one = bench(Table(examples=30, words=2, seed=1), latency=0.25)
    server: PlantedServer = one.server
    limit, answer, worst = 2.5, 0.02, 0.512  # room for four calls at once
    more = ("--price", "0,1000", "--max-usd", f"{limit}", "--rpm", "1200", "--transport", "direct", "--out", "out")
    run = start(one.options(*more))
    server.wait_for(1, LONGEST)
    begun = time.monotonic()
    server.wait_for(20, LONGEST)
    run.kill_a_worker()
    code, document, printed = run.finish()
    lost = int(LOST.findall(printed)[0])

    assert code == 3
    assert lost > 0
    assert time.monotonic() - begun >= (len(server.received) - 2) * 60 / 1200  # the first is not waited for exactly
    # the answers that came, and the lost calls at their worst case; then no room for another worst case is left
    totals = json.loads((one.directory / "out" / "run.json").read_text())
    booked = totals["usd_spent"] + totals["usd_unbilled_at_most"]
    assert totals["usd_spent"] == pytest.approx(document["usd_spent"]) == pytest.approx(answer * answers(one))
    assert totals["usd_unbilled_at_most"] == pytest.approx(worst * lost)
    assert limit - worst < booked <= limit
    assert answer * len(server.received) <= booked


def answers(one: Any) -> int:
    """How many answers the bench's cache holds."""
    from explaineval.cache import open_store

    with open_store(one.directory / "cache", readonly=True) as store:
        return sum(1 for _ in store.iterate())


def test_an_interrupted_run_stores_what_is_under_way(
    bench: Callable[..., Any], warm: WarmCommands, start: Callable[[list[str]], RayRun]
) -> None:
    """Ctrl-C reaches all processes of a terminal; the workers bring their answers home all the same."""
    one = bench(Table(examples=30, words=2, seed=1), latency=0.5)
    server: PlantedServer = one.server
    run = start(one.options("--max-connections", "8", "--transport", "direct"))
    server.wait_for(12, LONGEST)
    os.killpg(run.process.pid, signal.SIGINT)
    code, document, printed = run.finish()

    assert code == 130, printed
    assert document["requests"]["sent"] == len(server.received) == answers(one)
    assert all(entry.answered for entry in server.received)
