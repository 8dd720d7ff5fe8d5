"""A bundle holds the verdicts of judges, so that whoever computes it again has their numbers without the judges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explaineval.records import Verdict
from explaineval.rundir.directory import VERDICTS, read_trials, replace_verdicts
from makers.command_line import make_call


def test_verdicts_travel_with_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They came after the run's own numbers, which are still reproduced to the byte."""
    call = make_call(capsys)
    run_dir, bundle, again = tmp_path / "run", tmp_path / "run.zip", tmp_path / "again"
    cache = ("--cache", tmp_path / "cache")
    sent = ("--task", "sense", "--limit", 4, "--model", "simulated/faithful")
    code, _, err = call("run", *sent, *cache, "--out", run_dir)
    assert code == 0, err
    judged = [trial for trial in read_trials(run_dir) if trial.status == "ok" and trial.kind != "sham"]
    grades = ["reason" if trial.changed else "absent" for trial in judged]
    replace_verdicts(run_dir, [
        Verdict.model_validate({"trial": trial.id, "judge": "openai/j", "grade": grade, "text": trial.judged_text()})
        for trial, grade in zip(judged, grades, strict=True)
    ])  # fmt: skip
    code, _, err = call("export", run_dir, *cache, "--out", bundle)
    assert code == 0, err
    code, out, _ = call("reproduce", bundle, "--out", again, "--json")

    assert code == 0, out
    assert (again / VERDICTS).read_bytes() == (run_dir / VERDICTS).read_bytes()
    documents = [json.loads(call("score", place, "--json")[1]) for place in (run_dir, again)]
    rows = [[row for row in document["metrics"] if row["judge"] == "openai/j"] for document in documents]
    assert rows[0] == rows[1] != []
