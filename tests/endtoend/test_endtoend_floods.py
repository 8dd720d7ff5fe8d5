"""Whole runs against servers that send more than anybody should take in."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from servers.floods import FloodServer

MOST_MEGABYTES = 600
LAUNCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL).returncode
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=open("peak", "w"))
"""
"""Runs a command and notes its peak memory. A process counts what its parent held when it was started, so it is started
by a small one: the test's own process may be large."""


def run(server: FloodServer, directory: Path, *more: str) -> tuple[int, float, str]:
    """A run with 32 connections: exit code, peak memory in megabytes, standard error."""
    command = [sys.executable, "-m", "explaineval", "run", "--task", "sense", "--model", "openai/m"]
    command += ["--base-url", server.url, "--endpoint-name", "flood", "--max-connections", "32", "--max-retries", "0"]
    command += ["--logprobs", "off", "--temperature", "omit", "--out", "run", "--cache", "cache", *more]
    with (directory / "stdout").open("wb") as out, (directory / "stderr").open("wb") as err:
        subprocess.run([sys.executable, "-c", LAUNCH, *command], cwd=directory, stdout=out, stderr=err, check=True)
    code, peak = map(int, (directory / "peak").read_text(encoding="utf-8").split())
    scale = 1 if sys.platform == "darwin" else 1024
    return code, peak * scale / 1e6, (directory / "stderr").read_text(encoding="utf-8")


def statuses(directory: Path) -> Counter[str]:
    """How the trials ended."""
    lines = (directory / "run" / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    return Counter(json.loads(line)["status"] for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["endless", "bomb", "endless bomb choices nested values heavy"])
def test_memory_stays_bounded(words: str, tmp_path: Path) -> None:
    """32 connections to endless bodies, gzip bombs and what is worse: under 600 MB, each asked once, no traceback."""
    with FloodServer(word=words) as server:
        code, megabytes, told = run(server, tmp_path, "--limit", "12", "--max-tokens", "4000")
        asked = len(server.received)
        again, _, _ = run(server, tmp_path, "--limit", "12", "--max-tokens", "4000")

        assert megabytes < MOST_MEGABYTES
        assert "Traceback" not in told
        assert (code, len(server.received)) == (again, asked)
    assert asked >= 32
    found = statuses(tmp_path)
    assert found["unparsed"] > 0
    assert set(found) <= {"unparsed", "ok"}
    assert found["ok"] == 0 or "heavy" in words


@pytest.mark.slow
def test_a_mix_of_good_and_bad_answers_is_scored(tmp_path: Path) -> None:
    """One bad answer spoils its own trial, no other."""
    with FloodServer(word="plain plain plain bomb") as server:
        code, _, told = run(server, tmp_path, "--limit", "12")

    found = statuses(tmp_path)
    assert code == 0, told
    assert found["ok"] > 0
    assert found["unparsed"] > 0


def test_a_redirect_ends_the_run_in_one_sentence(tmp_path: Path) -> None:
    """With where it pointed, and nothing sent there."""
    with FloodServer(word="redirect") as server, FloodServer() as thief:
        server.target = f"http://127.0.0.1:{thief.port}/elsewhere?key=1"
        code, _, told = run(server, tmp_path, "--limit", "2")

        assert thief.connections == 0
    assert code == 5
    assert f"redirect (status 307) to http://127.0.0.1:{thief.port}/elsewhere; it was not followed" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_variable_that_moves_the_address_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 2, the variable named, the key not sent."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-own-0123456789abcdef")
    with FloodServer() as thief:
        monkeypatch.setenv("OPENAI_BASE_URL", thief.url)
        command = ["run", "--task", "sense", "--limit", "2", "--model", "openai/m", "--cache", "cache", "--out", "run"]
        done = subprocess.run(
            [sys.executable, "-m", "explaineval", *command],
            cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

        assert thief.connections == 0
    assert done.returncode == 2
    assert "OPENAI_BASE_URL points there. Nothing was sent; unset OPENAI_BASE_URL" in done.stderr
    assert "Traceback" not in done.stderr
