"""Whole runs against servers that send more than anybody should take in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from servers.commands import WarmCommands
from servers.floods import FloodServer

MOST_MEGABYTES = 600
LAUNCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=open("peak", "w"))
"""
"""Runs a command and notes its peak memory. A process counts what its parent held when it was started, so it is started
by a small one: the test's own process may be large."""


def options(server: FloodServer, *more: str) -> list[str]:
    """A run with 32 connections."""
    fixed = ["run", "--task", "sense", "--model", "openai/m", "--base-url", server.url, "--endpoint-name", "flood"]
    fixed += ["--max-connections", "32", "--max-retries", "0", "--logprobs", "off", "--temperature", "omit"]
    return [*fixed, "--out", "run", "--cache", "cache", *more]


def run_alone(arguments: list[str], directory: Path) -> tuple[int, float, str]:
    """A run in a process of its own: exit code, peak memory in megabytes, standard error."""
    command = [sys.executable, "-c", LAUNCH, sys.executable, "-m", "explaineval", *arguments]
    with (directory / "stdout").open("wb") as out, (directory / "stderr").open("wb") as err:
        subprocess.run(command, cwd=directory, stdout=out, stderr=err, check=True)
    code, peak = map(int, (directory / "peak").read_text(encoding="utf-8").split())
    scale = 1 if sys.platform == "darwin" else 1024
    return code, peak * scale / 1e6, (directory / "stderr").read_text(encoding="utf-8")


def statuses(directory: Path) -> Counter[str]:
    """How the trials ended."""
    lines = (directory / "run" / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    return Counter(json.loads(line)["status"] for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["endless", "bomb", "endless bomb choices nested values heavy"])
def test_memory_stays_bounded(words: str, tmp_path: Path, warm: WarmCommands) -> None:
    """32 connections to endless bodies, gzip bombs and what is worse: under 600 MB, each asked once, no traceback."""
    with FloodServer(word=words) as server:
        arguments = options(server, "--limit", "12", "--max-tokens", "4000")
        code, megabytes, told = run_alone(arguments, tmp_path)
        asked = len(server.received)
        again = warm.run(*arguments, cwd=tmp_path)

        assert megabytes < MOST_MEGABYTES
        assert "Traceback" not in told
        assert (code, len(server.received)) == (again.code, asked)
    assert asked >= 32
    found = statuses(tmp_path)
    assert found["unparsed"] > 0
    assert set(found) <= {"unparsed", "ok"}
    assert found["ok"] == 0 or "heavy" in words


def test_a_mix_of_good_and_bad_answers_is_scored(tmp_path: Path, warm: WarmCommands) -> None:
    """One bad answer spoils its own trial, no other."""
    with FloodServer(word="plain plain plain bomb") as server:
        done = warm.run(*options(server, "--limit", "12"), cwd=tmp_path)

    found = statuses(tmp_path)
    assert done.code == 0, done.stderr
    assert found["ok"] > 0
    assert found["unparsed"] > 0


def test_a_redirect_ends_the_run_in_one_sentence(tmp_path: Path, warm: WarmCommands) -> None:
    """With where it pointed, and nothing sent there."""
    with FloodServer(word="redirect") as server, FloodServer() as thief:
        server.target = f"http://127.0.0.1:{thief.port}/elsewhere?key=1"
        done = warm.run(*options(server, "--limit", "2"), cwd=tmp_path)

        assert thief.connections == 0
    assert done.code == 5
    assert f"redirect (status 307) to http://127.0.0.1:{thief.port}/elsewhere; it was not followed" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_variable_that_moves_the_address_ends_the_run(tmp_path: Path, warm: WarmCommands) -> None:
    """Exit 2, the variable named, the key not sent."""
    with FloodServer() as thief:
        env = {"OPENAI_API_KEY": "sk-own-0123456789abcdef", "OPENAI_BASE_URL": thief.url}
        command = ["run", "--task", "sense", "--limit", "2", "--model", "openai/m", "--cache", "cache", "--out", "run"]
        done = warm.run(*command, cwd=tmp_path, env=env)

        assert thief.connections == 0
    assert done.code == 2
    assert "OPENAI_BASE_URL points there. Nothing was sent; unset OPENAI_BASE_URL" in done.stderr
    assert "Traceback" not in done.stderr
