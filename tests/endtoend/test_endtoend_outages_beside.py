"""Models that are asked beside a run (judges, predictors, judges of insertions) are waited for as those of runs are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.commands import WarmCommands
from servers.outages import FailingServer

COMMANDS = {
    "judge": ("judge", "run", "--judge-model", "openai/x", "--judge-base-url"),
    "simulate": ("simulate", "run", "--predictor-model", "openai/x", "--predictor-base-url"),
    "build": (
        "interventions", "build", "--task", "sense", "--limit", "4", "--per-example", "2", "--out", "words.jsonl",
        "--judge-model", "openai/x", "--judge-base-url",
    ),
}  # fmt: skip
"""Commands that ask a model, up to its address."""
DIRECT = ("--transport", "direct", "--cache", "beside", "--json")
FIRST = 3
"""Answers before the endpoint goes out of service."""


@pytest.fixture(scope="module")
def finished(warm: WarmCommands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in it."""
    folder = tmp_path_factory.mktemp("beside")
    done = warm.run(
        "run", "--task", "sense", "--limit", "4", "--model", "simulated/faithful", "--out", "run", cwd=folder
    )
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture
def server() -> Iterator[FailingServer]:
    """An endpoint that goes out of service after its first answers."""
    with FailingServer(0.01) as started:
        started.go_down("refused", answers=FIRST)
        yield started


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", COMMANDS)
def test_it_waits_and_goes_on_by_itself(
    name: str, finished: Path, server: FailingServer, warm: WarmCommands, tmp_path: Path
) -> None:
    """It says for what it waits; afterwards it comes to its end, and no answer was asked for twice."""
    child = warm.start(*COMMANDS[name], server.url, *DIRECT, "--cache", tmp_path / "cache", cwd=finished)
    child.wait_for_line("is tried next at")
    answered = server.answered
    server.come_back()
    ended = child.finish()
    asked = server.answered
    again = warm.run(*COMMANDS[name], server.url, *DIRECT, "--cache", tmp_path / "cache", cwd=finished)

    assert (ended.code, again.code) == (0, 0), ended.stderr + again.stderr
    assert "answers again" in ended.stderr
    assert FIRST <= answered < asked
    assert server.answered == asked


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_without_patience_it_ends_at_once(
    name: str, finished: Path, server: FailingServer, warm: WarmCommands, tmp_path: Path
) -> None:
    """Exit code 5, and nothing was waited for."""
    options = (*DIRECT, "--cache", tmp_path / "cache", "--patience", "0")
    (finished / "words.jsonl").unlink(missing_ok=True)
    ended = warm.run(*COMMANDS[name], server.url, *options, cwd=finished)

    assert ended.code == 5, ended.stdout + ended.stderr
    assert "is tried next at" not in ended.stderr
