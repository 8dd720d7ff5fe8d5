"""Following a run: how fast it is, what became of each model, and when progress.json is written."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from explaineval.config import ClientConfig, ModelConfig
from explaineval.errors import EndpointError
from explaineval.execution.outcome import model_state
from explaineval.execution.progress import WINDOW_SECONDS, WRITE_SECONDS, Pace, ProgressReporter, RunStatus
from explaineval.execution.run import execute
from explaineval.planning.prepare import prepare
from explaineval.planning.units import PlanSize
from explaineval.rundir.directory import read_run
from explaineval.scoring.live import LiveCounts
from makers.prepared import write_run


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make_model_run(**changes: Any) -> Any:
    """As much of a model's run as is looked at: 60 requests, of which 5 were cached and 15 sent."""
    session = {
        "client": SimpleNamespace(offline=False), "writer": SimpleNamespace(message=None), "error": None,
        "out_of_money": False, "messages": [], "budgeted": None, "failed": 0, "not_sent": 0,
        "ledger": SimpleNamespace(known=True, spent=0.3),
        "layers": SimpleNamespace(
            retrying=SimpleNamespace(retries=2),
            limited=SimpleNamespace(availability=SimpleNamespace(outage=None)),
        ),
        "counts": SimpleNamespace(hits=5, sent=15, in_batches=0), "progress": SimpleNamespace(retried=1),
    }  # fmt: skip
    values = {
        "model": SimpleNamespace(endpoint="lab", model="openai/smol", max_usd=None), "live": LiveCounts(),
        "statuses": {"ok": 12}, "size": PlanSize(80, 60), "ended": False, "unreadable": None, "stops": [],
    }  # fmt: skip
    asked = SimpleNamespace(**(session | {name: value for name, value in changes.items() if name in session}))
    rest = {name: value for name, value in changes.items() if name not in session}
    return SimpleNamespace(**(values | rest), session=asked)


@pytest.fixture
def reporter(tmp_path: Path) -> tuple[ProgressReporter, Clock, list[RunStatus], Path]:
    """A reporter with its clock, what it showed, and its run directory."""
    task = {"id": "e1", "fields": {"note": "The clerk waits."}, "options": {"A": "yes", "B": "no"}, "gold": "A"}
    edit = {"id": "i1", "example_id": "e1", "kind": "hand", "field": "note", "offset": 4, "inserted": "grumpy"}
    (tmp_path / "mine.jsonl").write_text(json.dumps(task) + "\n", encoding="utf-8")
    (tmp_path / "edits.jsonl").write_text(json.dumps(edit) + "\n", encoding="utf-8")
    edits = {"file": str(tmp_path / "edits.jsonl")}
    directory, prepared = write_run(tmp_path / "out", tasks=[f"jsonl:{tmp_path / 'mine.jsonl'}"], interventions=edits)
    clock, shown = Clock(), []
    return ProgressReporter(prepared, directory, shown.append, clock), clock, shown, directory


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """Ten a second for a minute, then one a second: what is older than the window no longer counts."""
    pace = Pace()
    assert pace.per_second() is None
    for second in range(61):
        pace.measure(second, 10 * second, 5 * second)
    assert pace.per_second() == (10.0, 5.0)
    for second in range(61, 61 + 2 * int(WINDOW_SECONDS)):
        pace.measure(second, 600 + second - 60, 300)

    assert pace.per_second() == (1.0, 0.0)
    assert len(pace._measured) <= WINDOW_SECONDS + 2


def test_a_snapshot_says_what_is_left(reporter: tuple[ProgressReporter, Clock, list[RunStatus], Path]) -> None:
    """After five seconds with two requests a second, twenty seconds are left for forty, and the dollars of forty."""
    report, clock, shown, _ = reporter
    model_run = make_model_run()
    model_run.session.counts.sent = 5
    report.report([model_run])
    model_run.session.counts.sent = 15
    clock.now += 5
    report.report([model_run])

    (model,) = shown[-1].progress.models
    assert (model.done, model.distinct, model.remaining, model.planned) == (20, 60, 40, 81)
    assert (model.rate, model.seconds_left) == (2.0, 20.0)
    assert (model.usd, model.usd_left) == (0.3, pytest.approx(0.8))


def test_progress_is_written_every_two_seconds_and_when_a_model_ends(
    reporter: tuple[ProgressReporter, Clock, list[RunStatus], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty looks in ten seconds: six versions, with the trials flushed before each; one more when the model ends."""
    report, clock, shown, _ = reporter
    written: list[str] = []
    monkeypatch.setattr("explaineval.execution.progress.write_progress", lambda *_: written.append("written"))
    model_run = make_model_run()

    def flush() -> None:
        written.append("flushed")

    for _ in range(41):
        report.report([model_run], flush)
        clock.now += 0.25
    assert ["flushed", "written"] * int(10 / WRITE_SECONDS + 1) == written
    model_run.ended = True
    report.report([model_run], flush)

    assert len(written) == 2 * int(10 / WRITE_SECONDS + 2)
    assert len(shown) == 42


def test_a_disk_that_takes_no_progress_does_not_end_the_run(
    reporter: tuple[ProgressReporter, Clock, list[RunStatus], Path],
) -> None:
    """Neither the flush of the trials nor the file's own error comes out; the run is shown all the same."""
    report, _, shown, directory = reporter
    (directory / "progress.json").mkdir()

    def fail() -> None:
        raise OSError(28, "No space left on device")

    report.report([make_model_run()], fail)
    report.write([make_model_run(ended=True)], "finished", exit_code=0)

    assert len(shown) == 1


def test_an_error_is_written_with_its_sentence(
    reporter: tuple[ProgressReporter, Clock, list[RunStatus], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run counts as failed, and the error goes on its way."""
    _, _, _, directory = reporter
    config = read_run(directory).config.model_copy(update={"models": (ModelConfig(model="openai/smol"),)})

    def fail(*_: object, **__: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr("explaineval.execution.run.score", fail)
    prepared = prepare(config, ClientConfig(offline=True, cache=directory.parent / "cache"))
    with pytest.raises(ValueError, match="broken"):
        execute(prepared, directory.parent / "again", lambda _: None, keep=True)
    directory = directory.parent / "again"

    document = json.loads((directory / "progress.json").read_text(encoding="utf-8"))
    assert (document["state"], document["reason"]) == ("failed", "broken")


def test_each_message_is_shown_once(reporter: tuple[ProgressReporter, Clock, list[RunStatus], Path]) -> None:
    """What a model's run has to say comes with the next status, in order."""
    report, _, shown, _ = reporter
    model_run = make_model_run(messages=["first"])
    report.report([model_run])
    model_run.session.messages += ["second", "third"]
    report.report([model_run])
    report.report([model_run])

    assert [status.messages for status in shown] == [("first",), ("second", "third"), ()]


IN_BATCHES = SimpleNamespace(hits=5, sent=15, in_batches=40)


@pytest.mark.parametrize(
    ("changes", "offline", "state", "reason"),
    [
        ({"ended": False, "error": EndpointError("lab is down.")}, False, "running", None),
        ({}, False, "finished", None),
        ({"failed": 2}, False, "finished",
         "2 requests failed after all retries."),
        ({"error": EndpointError("lab is down.")}, False, "failed", "lab is down."),
        ({"unreadable": "not one answer could be read."}, False, "failed", "not one answer could be read."),
        ({"not_sent": 40, "stops": ["38 of the first 40 cannot be read."]}, False, "stopped",
         "38 of the first 40 cannot be read."),
        ({"not_sent": 40, "out_of_money": True}, False, "stopped",
         "the spending limit is reached: 40 requests were not sent."),
        ({"not_sent": 40}, True, "stopped", "offline: 40 answers are not in the cache."),
        ({"not_sent": 40, "counts": IN_BATCHES}, False, "stopped",
         "40 requests are in a batch that is not fetched yet."),
        ({"not_sent": 40}, False, "stopped", "40 requests were not sent; the same command asks them."),
    ],
)  # fmt: skip
def test_what_became_of_a_model(changes: dict[str, Any], offline: bool, state: str, reason: str | None) -> None:
    """A model runs until its work is over; then it finished, stopped or failed, with the reason."""
    client = SimpleNamespace(offline=offline)
    assert model_state(make_model_run(**{"ended": True, "client": client, **changes})) == (state, reason)
