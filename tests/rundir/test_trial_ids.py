"""The id of a trial names it in verdicts, predictions and links."""

from __future__ import annotations

from pathlib import Path

import pytest

from explaineval.records import Trial
from makers.command_line import make_call
from makers.runs import make_trial


def test_the_id_of_a_trial_is_pinned() -> None:
    """Another id would lose the verdicts and links that were made with it."""
    assert Trial.model_validate(make_trial(1, 0)).id == "07b735ae6a7033a6"


@pytest.mark.parametrize(
    "changes",
    [{"endpoint": "elsewhere"}, {"model": "a/b"}, {"task": "qa"}, {"order": "ep"}, {"style": "completion"},
     {"shots": 3}, {"verbosity": "brief"}, {"sample": 1}, {"example_id": "other"}, {"intervention_id": "other"},
     {"kind": "editor"}],
)  # fmt: skip
def test_trials_that_differ_have_different_ids(changes: dict[str, object]) -> None:
    """Everything that tells two trials of a run apart is in the id."""
    trial = make_trial(1, 0)

    assert Trial.model_validate({**trial, **changes}).id != Trial.model_validate(trial).id


def test_the_id_does_not_depend_on_the_answers() -> None:
    """A trial that is read otherwise keeps its verdicts."""
    trial = make_trial(1, 0)

    assert Trial.model_validate({**trial, "explanation": "other"}).id == Trial.model_validate(trial).id


def test_a_file_of_trials_that_lost_its_end_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`score` and `compare` say so, exit code 2; the same run command mends it."""
    call = make_call(capsys)
    models = ("--model", "simulated/faithful", "--model", "simulated/random")
    run = ("run", "--task", "sense", "--limit", "3", *models, "--cache", tmp_path / "cache", "--out", tmp_path / "run")
    assert call(*run)[0] == 0
    path = tmp_path / "run" / "trials.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:10]), "utf-8")

    for command in ("score", "compare", "report"):
        code, _, err = call(command, tmp_path / "run")
        assert code == 2
        assert f"trials.jsonl holds 10 of the {len(lines)} trials of the run, so it was cut off" in err

    assert call(*run)[0] == 0
    assert call("score", tmp_path / "run")[0] == 0
