"""A full disk under the cache, the run directory, standard output: one sentence, and nothing paid is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.commands import Child, Result, WarmCommands
from servers.full_disks import SmallDisk
from servers.tables import Table

TABLE = Table(examples=60, words=4, seed=3)
DISTINCT = 60 * 5
CONNECTIONS = 8


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk in the test's own directory."""
    with SmallDisk(tmp_path / "small") as small:
        yield small


def is_told_in_one_line(stderr: str, *words: str) -> bool:
    """Whether exactly one line speaks of the fault, in these words, without a traceback or a fault of ours."""
    lines = [line for line in stderr.splitlines() if "written" in line or "write to" in line]
    wrong = ("Traceback", "never retrieved", "an error in explaineval itself", "Exception ignored", "[Errno")
    return len(lines) == 1 and all(word in lines[0] for word in words) and not any(word in stderr for word in wrong)


def begin(warm: WarmCommands, one: Any, *more: str) -> tuple[Child, list[str]]:
    """A run with some connections, and its command."""
    command = one.options("--shams", "0", "--max-connections", str(CONNECTIONS), *more)
    return warm.start(*command, cwd=one.directory), command


def fill_in_the_middle(warm: WarmCommands, one: Any, disk: SmallDisk, *more: str) -> tuple[Result, list[str]]:
    """A run whose disk gets full after 60 requests."""
    child, command = begin(warm, one, *more)
    one.server.wait_for(60)
    disk.fill(child)
    return child.finish(), command


@pytest.mark.slow
def test_a_full_cache_disk_loses_one_answer_a_connection_at_most(
    bench: Callable[..., Any], warm: WarmCommands, disk: SmallDisk
) -> None:
    """No more is sent after the first failed write; with room again the rest is asked, and what was stored is not."""
    one = bench(TABLE, latency=0.03)
    found, command = fill_in_the_middle(warm, one, disk, "--cache", str(disk.directory / "cache"), "--out", "out")
    asked = len(one.server.received)

    assert found.code == 2, found.stderr
    assert is_told_in_one_line(found.stderr, "small/cache", "Nothing more was sent"), found.stderr
    assert len(found.stderr.splitlines()) <= 4
    assert asked < DISTINCT
    assert json.loads((one.directory / "out" / "run.json").read_text(encoding="utf-8"))["complete"] is False

    disk.free()
    again = warm.run(*command, "--json", cwd=one.directory)
    lost = len(one.server.received) - DISTINCT
    assert again.code == 0
    assert 0 <= lost <= CONNECTIONS
    assert again.document["requests"]["hits"] == asked - lost
    assert again.document["requests"]["sent"] == DISTINCT - asked + lost


def test_a_full_disk_under_the_run_directory_loses_nothing(
    bench: Callable[..., Any], warm: WarmCommands, disk: SmallDisk
) -> None:
    """The answers are in the cache: the same command with room asks only the rest."""
    one = bench(TABLE, latency=0.03)
    out = disk.directory / "out"
    found, command = fill_in_the_middle(warm, one, disk, "--cache", "cache", "--out", str(out))
    asked = len(one.server.received)

    assert found.code == 2, found.stderr
    assert is_told_in_one_line(found.stderr, "small/out" if disk.mounted else "written"), found.stderr
    assert asked <= DISTINCT  # lines wait for room, so it may ask to the end

    disk.free()
    again = warm.run(*command, "--json", cwd=one.directory)
    assert again.code == 0
    lost = len(one.server.received) - DISTINCT
    assert 0 <= lost <= (0 if disk.mounted else CONNECTIONS)  # a limit on files holds for the cache too
    assert again.document["requests"]["hits"] == asked - lost
    assert not list(out.glob("*.part"))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["metrics.json", "metrics.csv", "trials.jsonl", "examples.jsonl", "shots.jsonl"])
def test_a_file_of_the_run_directory_that_cannot_be_written_is_named(
    bench: Callable[..., Any], warm: WarmCommands, name: str
) -> None:
    """Whichever file fails, with whatever error of the disk: one sentence, exit 2 (a directory stands in its place)."""
    one = bench(Table(examples=3, words=1, seed=3))
    command = one.options("--shams", "0", "--out", "out")
    assert warm.run(*command, cwd=one.directory).code == 0
    (one.directory / "out" / name).unlink()
    (one.directory / "out" / name).mkdir()
    found = warm.run(*command, cwd=one.directory)

    assert found.code == 2
    assert name in found.stderr
    assert "an error in explaineval itself" not in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "more",
    [["run", "--json"], ["run"], ["score", "--json"], ["score"], ["stats", "--json"], ["show"], ["help"], ["bad"]],
)
def test_standard_output_on_a_full_disk_is_one_sentence(
    bench: Callable[..., Any], warm: WarmCommands, more: list[str]
) -> None:
    """Also for --json, for help, and for the document of an error: exit 2 and no traceback."""
    one = bench(Table(examples=3, words=1, seed=3))
    run = one.options("--shams", "0", "--out", "out")
    assert warm.run(*run, cwd=one.directory).code == 0
    commands = {
        "run": run,
        "score": ["score", "out"],
        "stats": ["cache", "stats"],
        "show": ["show", "out", "--example", "x000"],
        "help": ["run", "--help"],
        "bad": ["score", "nowhere", "--json"],
    }
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, "-m", "explaineval", *commands[more[0]], *more[1:]],
            stdout=full, stderr=subprocess.PIPE, cwd=one.directory, env=os.environ, text=True, check=False, timeout=60,
        )  # fmt: skip

    assert found.returncode == 2
    assert "Traceback" not in found.stderr
    assert "Exception ignored" not in found.stderr
    assert "an error in explaineval itself" not in found.stderr
    if more[0] == "bad":
        assert "nowhere" in found.stderr
    else:
        assert is_told_in_one_line(found.stderr, "standard output cannot be written"), found.stderr


def test_a_full_standard_error_stops_nothing(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Nobody can be told, and the numbers are there all the same."""
    one = bench(Table(examples=3, words=1, seed=3))
    run = one.options("--shams", "0", "--out", "out", "--json")
    assert warm.run(*run, cwd=one.directory).code == 0
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [sys.executable, "-m", "explaineval", *run],
            stdout=subprocess.PIPE, stderr=full, cwd=one.directory, env=os.environ, text=True, check=False, timeout=60,
        )  # fmt: skip

    assert found.returncode == 0
    assert json.loads(found.stdout)["exit_code"] == 0
