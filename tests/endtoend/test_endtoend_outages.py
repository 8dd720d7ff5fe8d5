"""An endpoint that goes out of service in the middle of a run: the run waits, says so, and goes on by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from makers.waiting import wait_for
from servers.commands import WarmCommands
from servers.outages import FailingServer, Manner

REQUESTS = 12 * (1 + 4 + 1)
"""The input, four insertions and a sham of each example."""


def progress(directory: Path) -> list[dict[str, Any]]:
    """The models in progress.json, as far as there is one."""
    path = directory / "run" / "progress.json"
    return json.loads(path.read_text(encoding="utf-8"))["models"] if path.exists() else []


def write_config(directory: Path, servers: dict[str, FailingServer], **more: object) -> None:
    endpoints = {name: {"base_url": server.url, "max_connections": 4} for name, server in servers.items()}
    models = [{"model": f"openai/{name}", "endpoint": name} for name in servers]
    config = {"tasks": ["nli"], "limit": 12, "endpoints": endpoints, "models": models, "transport": "direct", **more}
    (directory / "study.yaml").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("manner", ["refused", "reset", "503"])
def test_a_run_waits_for_its_endpoint_and_goes_on(tmp_path: Path, warm: WarmCommands, manner: Manner) -> None:
    """The other model comes to its end meanwhile; afterwards every request has its answer, at exit code 0."""
    with FailingServer(0.02) as failing, FailingServer(0.02) as sound:
        write_config(tmp_path, {"lab": failing, "other": sound})
        failing.go_down(manner, answers=20)
        child = warm.start("run", "study.yaml", "--out", "run", "--json", cwd=tmp_path)
        wait_for(lambda: any(model["waiting"] for model in progress(tmp_path)))
        wait_for(lambda: any(model["state"] == "finished" for model in progress(tmp_path)))
        lab, other = progress(tmp_path)
        watched = warm.run("watch", "run", cwd=tmp_path)
        child.wait_for_line("is tried next at")
        failing.come_back()
        ended = child.finish()

    assert ended.code == 0, ended.stderr
    assert (lab["state"], other["state"]) == ("running", "finished")
    assert lab["waiting"]["endpoint"] == failing.url or lab["waiting"]["endpoint"] == "lab"
    assert "Waiting for" in watched.stdout
    assert "answers again" in ended.stderr
    told = next(line for line in ended.stderr.splitlines() if "is tried next at" in line)
    assert told.count(failing.url) == 1, told
    assert failing.url not in lab["waiting"]["reason"]
    assert ended.document["requests"]["unsent"] == 0
    assert [row["code"] for row in ended.document["warnings"]].count("endpoint_waited_for") == 1
    assert failing.answered == sound.answered


def test_after_its_patience_the_run_ends_and_keeps_everything(tmp_path: Path, warm: WarmCommands) -> None:
    """Exit code 5; the same command asks what is missing, and nothing else."""
    with FailingServer() as failing:
        write_config(tmp_path, {"lab": failing}, patience="3s")
        failing.go_down("refused", answers=20)
        given_up = warm.run("run", "study.yaml", "--out", "run", cwd=tmp_path)
        failing.come_back()
        ended = warm.run("run", "study.yaml", "--out", "run", "--json", cwd=tmp_path)

    assert given_up.code == 5
    assert "--patience" in given_up.stderr
    assert ended.code == 0, ended.stderr
    assert ended.document["requests"]["hits"] == 20


@pytest.mark.sampled(1)
@pytest.mark.parametrize("patience", ["0", "1h"])
def test_an_endpoint_that_answers_500_only_is_not_waited_for(tmp_path: Path, warm: WarmCommands, patience: str) -> None:
    """As many attempts whatever the patience: 20 in a row, and one for each connection."""
    with FailingServer() as failing:
        write_config(tmp_path, {"lab": failing}, max_retries=1)
        failing.go_down("500", answers=20)
        ended = warm.run("run", "study.yaml", "--out", "run", "--patience", patience, cwd=tmp_path)

    assert ended.code == 5
    assert "waiting for" not in ended.stderr


def test_a_wrong_patience_is_refused(tmp_path: Path, warm: WarmCommands) -> None:
    """On the command line and in the file, with the ways to write it."""
    for name, text in (("command line", "soon"), ("negative", "-1")):
        ended = warm.run("run", "--task", "nli", "--model", "openai/x", f"--patience={text}", cwd=tmp_path)
        assert (name, ended.code) == (name, 2)
        assert "5m" in ended.stderr
