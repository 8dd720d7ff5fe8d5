"""Shards of a run, each asked by a process with a cache of its own, merged: numbers, files and answers of one run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servers.commands import WarmCommands
from servers.tables import Table


@pytest.mark.slow
def test_shards_on_machines_of_their_own_are_one_run(
    bench: Callable[..., Any], warm: WarmCommands, tmp_path: Path
) -> None:
    """A verdict travels, three machines ask, one merges; from their packs `run` of the whole sends nothing."""
    place: Any = bench(Table(examples=10, words=2, seed=14))
    more = ("--order", "pe", "--order", "pe2", "--shams", "2")
    machines = [tmp_path / f"machine{number}" for number in (1, 2, 3)]
    for machine in machines:
        machine.mkdir()

    def call(where: Path, *words: str | Path) -> None:
        done = warm.run(*map(str, words), cwd=where)
        assert done.code == 0, done.stdout + done.stderr

    whole = place.options(*more, "--cache", "cache", "--out", "whole")
    call(tmp_path, *whole)
    asked_by_whole = len(place.server.received)
    refused = warm.run(*place.options(*more, "--shard", "1/3", "--out", "refused"), cwd=machines[0])
    call(tmp_path, *place.options("--limit", "1", "--cache", "first", "--out", "first-run"))
    call(tmp_path, "cache", "export", "--cache", "first", "--out", "verdict.pack")
    before = len(place.server.received)
    for number, machine in enumerate(machines, start=1):
        call(machine, "cache", "import", tmp_path / "verdict.pack")
        call(machine, *place.options(*more, "--shard", f"{number}/3", "--out", "out"))
        call(machine, "cache", "export", "--out", "own.pack")
    call(tmp_path, "merge", *(machine / "out" for machine in machines), "--out", "merged")
    call(tmp_path, "cache", "import", *(machine / "own.pack" for machine in machines), "--cache", "all")
    asked = len(place.server.received)
    metrics = (tmp_path / "merged" / "metrics.json").read_bytes()
    call(tmp_path, *place.options(*more, "--cache", "all", "--out", "merged"))

    assert refused.code == 2
    assert "does not say how openai/planted takes requests in chat style" in refused.stderr
    assert not (machines[0] / "refused").exists()
    assert metrics == (tmp_path / "whole" / "metrics.json").read_bytes()
    assert (tmp_path / "merged" / "metrics.json").read_bytes() == metrics
    assert len(place.server.received) == asked
    # each machine has the answers of the first run by the pack, and asks the others of its own examples once
    stored = json.loads((tmp_path / "first-run" / "run.json").read_text("utf-8"))["requests"]["distinct"]
    assert asked - before == asked_by_whole - stored
    for name in ("trials.jsonl", "examples.jsonl", "interventions.jsonl"):
        lines = [(tmp_path / run / name).read_bytes().splitlines() for run in ("whole", "merged")]
        assert sorted(lines[0]) == sorted(lines[1])
