"""What a run prints about itself on standard error where that is no terminal."""

from __future__ import annotations

from typing import Any

import pytest

from explaineval.cli import progress
from explaineval.execution.progress import RunStatus
from explaineval.records import Estimate
from explaineval.rundir.schema import ModelProgress, RunProgress
from explaineval.scoring.live import LivePhi

NOW = "2026-11-25T12:00:00+00:00"
PHI = LivePhi("hand", Estimate(value=0.13, low=-0.14, high=0.38, n=8, n_examples=4), 1)


def make_status(*states: dict[str, Any], messages: tuple[str, ...] = ()) -> RunStatus:
    """A run of models m0, m1, …, each half done, with these changes."""
    values = {
        "endpoint": None, "planned": 20, "distinct": 20, "hits": 4, "sent": 6, "unsent": 0, "retries": 0, "rate": 2.0,
        "seconds_left": 5.0, "usd": 0.0, "usd_left": 0.0, "started": NOW, "updated": NOW,
    }  # fmt: skip
    models = tuple(
        ModelProgress.model_validate({**values, "model": f"openai/m{number}", **state})
        for number, state in enumerate(states)
    )
    run = RunProgress(state="asking", started=NOW, updated=NOW, models=models)
    return RunStatus(run, tuple((PHI,) for _ in states), messages)


def test_nothing_is_printed_in_the_first_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """A short run says only what it has to say: its messages, each once."""
    with progress.watch_run() as show:
        show(make_status({}, messages=("a proxy is used",)))
        show(make_status({}))

    assert capsys.readouterr().err == "explaineval: a proxy is used\n"


def test_a_line_for_each_model_and_one_for_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words of `watch`; a single model needs no sum."""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0)
    with progress.watch_run() as show:
        show(make_status({}, {}))
        show(make_status({}))

    line = "10 of 20 requests (4 cached), 2.0/s, phi-CCT so far 0.13 [-0.14, 0.38] (8 trials), $0, 5 s left"
    assert capsys.readouterr().err.splitlines() == [
        f"explaineval: openai/m0: {line}",
        f"explaineval: openai/m1: {line}",
        "explaineval: in all: 2 running; 20 of 40 requests; 5 s left",
        f"explaineval: openai/m0: {line}",
    ]


def test_a_failure_is_told_at_once_and_an_ended_model_once_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence comes without waiting; afterwards only the models that run have a line."""
    failed = {"state": "failed", "reason": "openai/m0: the key is refused."}
    with progress.watch_run() as show:
        show(make_status(failed, {}))
        show(make_status(failed, {}))
        assert capsys.readouterr().err == "explaineval: openai/m0: the key is refused. The other model goes on.\n"
        monkeypatch.setattr(progress, "LINE_SECONDS", 0)
        show(make_status(failed, {}))
        first = capsys.readouterr().err
        show(make_status(failed, {}))
        second = capsys.readouterr().err

    assert "openai/m0: failed, 10 of 20 requests" in first
    assert "openai/m0" not in second
    assert "openai/m1" in second


def test_the_last_model_that_fails_is_told_at_the_end_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing goes on, the run's own error follows at once."""
    with progress.watch_run() as show:
        show(make_status({"state": "failed", "reason": "openai/m0: the key is refused."}, {"state": "finished"}))

    assert capsys.readouterr().err == ""
