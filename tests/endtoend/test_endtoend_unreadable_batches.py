"""A run by batches notices that answers cannot be read: what is paid is scored, and no further batch is submitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from batch_runs import BatchRuns, usage_of
from planted_numbers import read_trials

from servers import shapes
from servers.batch_server import BatchServer
from servers.commands import WarmCommands
from servers.planted import recognise
from servers.shapes import Shape
from servers.tables import Table

TABLE = Table(examples=20, words=2, seed=5)
EACH = 1 + TABLE.words + 1
FIRST = 40 // EACH
"""Examples whose requests are the first 40."""


def answer(shape: Shape, body: dict[str, Any]) -> dict[str, Any]:
    """Nothing that can be read about the first examples, and an answer about the others."""
    _, (example, _) = recognise(body, "chat")
    text = "I would rather not say." if example in TABLE.ids[:FIRST] else "Answer: A\nExplanation: Because it is so."
    found = shapes.answer(shape, str(body["model"]), text, "stop", None)
    used = dict(zip(("prompt_tokens", "completion_tokens"), usage_of(body), strict=True))
    return {**found, "usage": used}


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("order", "code", "lines", "scored"), [("pe", 0, 60, 20), ("pe2", 5, 30, 0)])
def test_batches_that_cannot_be_read_are_scored_and_not_followed_by_others(
    warm: WarmCommands, tmp_path: Path, order: str, code: int, lines: int, scored: int
) -> None:
    """All answers of the only batch of order pe are paid and scored; in order pe2 no explanation is asked for."""
    with BatchRuns(warm, tmp_path, server=BatchServer(answer=answer)) as runs:
        TABLE.write_task(tmp_path / "task.jsonl")
        TABLE.write_interventions(tmp_path / "edits.jsonl")
        done = runs.run("--order", order, "--batch", "--out", "out")
        calls = len(runs.server.calls)
        trials = read_trials(tmp_path / "out")
        again = runs.run("--order", order, "--batch", "--out", "out")

        assert (done.code, len(runs.server.batches)) == (code, 1), done.stderr
        assert "40 of the first 40 answers cannot be read (40 unparsed)" in done.stderr
        assert done.document["requests"]["sent"] == EACH * TABLE.examples
        assert len(trials) == lines
        assert sum(trial["status"] == "ok" and trial["kind"] != "sham" for trial in trials) == scored
        assert (again.code, len(runs.server.calls)) == (code, calls)
        assert again.document["metrics"] == done.document["metrics"]
