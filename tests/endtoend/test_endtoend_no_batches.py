"""`run --batch` where no batches are taken: said at once in one sentence, before anything is paid for."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from batch_runs import DISTINCT, BatchRuns, Route, answer, counts

from servers.batch_server import BatchServer, Fault
from servers.commands import WarmCommands
from servers.personas import Persona, PersonaServer


def no_list(*_: Any) -> dict[str, Any]:
    """What a server says that answers every address alike."""
    return {"object": "chat.completion", "choices": [], "id": "x1"}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("route", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("404", "no batches are taken here"),
        ("400", "no batches are taken here"),
        ("html", "no batches are taken here"),
        ("redirect", "a redirect (status 307) to"),
        ("401", "no key was sent"),
        ("500", "whether it takes batches cannot be told"),
        ("reset", "whether it takes batches cannot be told"),
        ("alike", "no batches are taken here"),
    ],
)
def test_an_endpoint_without_batches_is_told_before_anything_is_bought(
    warm: WarmCommands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, route: Route, fault: Any, said: str
) -> None:
    """One look at the list of batches and not one request; exit 5 with one sentence that says what to do."""
    faults: list[Fault | None] = [] if fault == "alike" else [fault] * 9
    if fault == "alike":
        monkeypatch.setattr(BatchServer, "_list", no_list)
    with BatchRuns(warm, tmp_path, route, BatchServer(answer=answer, faults={"list": faults})) as runs:
        found = runs.run("--batch", "--out", "out")
        sentences = [line for line in found.stderr.splitlines() if said in line]

        assert found.code == 5, found.stderr
        assert [call for call, _, _ in runs.server.calls] == ["list"]
        assert len(sentences) == 1
        assert (fault in ("redirect", "401")) or "leave out --batch" in sentences[0]
        assert "the endpoint serves" not in found.stderr

        runs.server.faults.clear()
        plain = runs.run("--out", "out")
        assert (plain.code, counts(plain)) == (0, (DISTINCT, 0, DISTINCT, 0)), plain.stderr


def test_a_busy_endpoint_takes_batches(warm: WarmCommands, tmp_path: Path) -> None:
    """A busy list of batches (429) is one; the run goes on."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, faults={"list": ["429"]})) as runs:
        found = runs.run("--batch", "--out", "out")

        assert (found.code, counts(found)) == (0, (DISTINCT, 0, DISTINCT, 0)), found.stderr


def test_an_endpoint_that_took_a_batch_is_not_checked_again(warm: WarmCommands, tmp_path: Path) -> None:
    """A batch under way is fetched though its list is out of order; with everything stored nothing is asked at all."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer, polls=None)) as runs:
        runs.end_at(signal.SIGKILL, "poll", "--batch")
        runs.server.faults["list"] = ["500"] * 9
        runs.server.finish()
        done = runs.run("--batch", "--out", "out")
        calls = len(runs.server.calls)
        again = runs.run("--batch", "--out", "out")

        assert (done.code, again.code) == (0, 0), done.stderr
        assert runs.is_billed_once()
        assert len(runs.server.calls) == calls


def test_a_plain_server_gets_one_request(warm: WarmCommands, tmp_path: Path) -> None:
    """A server that gives its list of models at every address: it is asked for a list once, and no prompt."""
    with BatchRuns(warm, tmp_path) as runs, PersonaServer(Persona(models=("tiny",))) as plain:
        command = runs.options("--batch", "--out", "out")
        command[command.index("--base-url") + 1] = plain.url
        found = warm.run(*command, cwd=tmp_path)

        assert found.code == 5
        assert "no batches are taken here" in found.stderr
        assert plain.asked == []
