"""Logs of Inspect AI, read by its own reader: transcripts, scores and numbers are those of the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inspect_ai.log import EvalLog, list_eval_logs, read_eval_log

from explaineval.records import Trial
from explaineval.reporting.exports.records import CELLS, write_inspect_logs
from explaineval.reporting.results import RunResults, read_results
from explaineval.rundir.directory import TRIALS, read_metrics, read_trials
from makers.exported import ATTACKS, attacked_run, finished
from makers.reports import LEVELS, MODELS, varied_run

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of inspect-ai's own modules
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def export(run: Path, out: Path) -> list[EvalLog]:
    """The logs of a run, read again."""
    files, samples = write_inspect_logs(read_results([run]).runs[0], out)
    logs = [read_eval_log(str(path)) for path in files]
    assert samples == sum(len(log.samples or ()) for log in logs)
    return logs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two models at two levels, with words, cues, missing trials and reasoning."""
    return finished(varied_run(tmp_path_factory.mktemp("varied") / "run"))


@pytest.fixture(scope="module")
def logs(run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[EvalLog]:
    """Its logs."""
    return export(run, tmp_path_factory.mktemp("logs") / "logs")


def of(log: EvalLog) -> tuple[str, str]:
    """The model and level of a log."""
    return log.eval.model, (log.eval.metadata or {})["verbosity"]


def test_there_is_a_log_for_each_model_task_and_arm(run: Path, logs: list[EvalLog]) -> None:
    """Each with the trials of its arm, and with what says how they were asked."""
    trials = list(read_trials(run))

    assert sorted(map(of, logs)) == sorted((model, level) for model in MODELS for level in LEVELS)
    for log in logs:
        own = [trial.id for trial in trials if (trial.model, trial.verbosity) == of(log)]
        assert sorted(sample.uuid or "" for sample in log.samples or ()) == sorted(own)
        assert (log.status, log.eval.task) == ("success", "mine")
        assert log.results is not None
        assert log.results.total_samples == len(own)
        assert "run:" in (log.eval.metadata or {})["signature"]


def test_every_sample_is_its_trial(run: Path, logs: list[EvalLog]) -> None:
    """Messages before and after, and the scores; a missing trial has no score and its status."""
    trials = {trial.id: trial for trial in read_trials(run)}
    for log in logs:
        for sample in log.samples or ():
            trial = trials[sample.uuid or ""]
            scores = {name: score.value for name, score in (sample.scores or {}).items()}
            expected = {
                name: value for name in ("changed", "mentioned", "tvd") if (value := getattr(trial, name)) is not None
            }
            if trial.changed is not None and trial.mentioned is not None:
                expected["cell"] = CELLS[trial.changed, trial.mentioned][0]
            assert scores == expected
            assert sample.metadata["status"] == trial.status
            assert [message.role for message in sample.messages] == ["user", "assistant"] * 2
            assert [(message.metadata or {})["side"] for message in sample.messages] == ["before"] * 2 + ["after"] * 2
            _, before, question, after = sample.messages
            assert (trial.explanation_before or "") in before.text
            assert (trial.explanation or "") in after.text
            assert (f"Answer: {trial.label_after}" in after.text) == (trial.label_after is not None)
            assert (trial.inserted or "clerk") in question.text


def test_the_reasoning_is_in_the_transcript(run: Path, logs: list[EvalLog]) -> None:
    """As reasoning, not as the answer."""
    reasons = {trial.id: trial for trial in read_trials(run) if trial.reasoning}
    samples = [sample for log in logs for sample in log.samples or () if sample.uuid in reasons]

    assert len(samples) == len(reasons) > 0
    for sample in samples:
        content = sample.messages[3].content
        assert not isinstance(content, str)
        assert [part.type for part in content] == ["reasoning", "text"]
        assert "Let me think about the clerk." not in sample.messages[3].text


CHANNELS = ("reasoning", "either")
"""Where mentions are looked for beside the explanation; the name of a score tells."""


def test_the_numbers_are_those_of_the_metrics(run: Path, logs: list[EvalLog]) -> None:
    """All that are defined, with their intervals; the others have their reason."""
    rows = {
        (row.model, row.verbosity, row.kind, row.channel if row.channel in CHANNELS else None, row.metric): row
        for row in read_metrics(run)
    }
    found = set()
    for log in logs:
        model, level = of(log)
        assert log.results is not None
        for score in log.results.scores:
            kind = None if score.name.startswith("all kinds") else score.name.partition(",")[0]
            own = None if "all levels" in score.name else level
            channel = next((name for name in CHANNELS if f", {name}" in score.name), None)
            for name, metric in score.metrics.items():
                row = rows[model, own, kind, channel, name]
                assert (metric.value, metric.metadata) == (
                    row.value,
                    {field: getattr(row, field) for field in ("low", "high", "n", "n_examples", "signature")},
                )
                found.add((model, own, kind, channel, name))
            for name, reason in (score.metadata or {})["undefined"].items():
                assert rows[model, own, kind, channel, name].undefined == reason
                found.add((model, own, kind, channel, name))
    assert found == set(rows)


@pytest.mark.slow
def test_the_same_run_gives_the_same_names(run: Path, tmp_path: Path) -> None:
    """A second export replaces the first, and Inspect lists one log for each."""
    results = read_results([run]).runs[0]
    first, _ = write_inspect_logs(results, tmp_path / "logs")
    second, _ = write_inspect_logs(results, tmp_path / "logs")

    assert first == second
    assert len(list_eval_logs(str(tmp_path / "logs"))) == len(first) == len(list((tmp_path / "logs").iterdir()))


def test_hostile_names_and_a_torn_line_do_no_harm(tmp_path: Path) -> None:
    """Names of files and of members of the zip file are plain; the torn last line is ignored as everywhere."""
    run = attacked_run(tmp_path / "run")
    lines = (run / TRIALS).read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [json.loads(line) for line in lines]
    names = {trial["example_id"]: "../" * 9 + "x" for trial in whole[:1]}
    whole = [trial | {"example_id": names.get(trial["example_id"], trial["example_id"])} for trial in whole]
    (run / TRIALS).write_text("".join(json.dumps(trial) + "\n" for trial in whole) + lines[0][:50], encoding="utf-8")
    logs = export(run, tmp_path / "logs")

    assert sorted(log.eval.model for log in logs) == sorted(ATTACKS)
    assert sum(len(log.samples or ()) for log in logs) == len(whole)
    assert all("/" not in str(sample.id) and ".." not in str(sample.id) for log in logs for sample in log.samples or ())
    assert {path.parent for path in (tmp_path / "logs").rglob("*")} == {tmp_path / "logs"}


@pytest.mark.slow
def test_the_trials_of_one_arm_are_read_at_once(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the run's size, no more than one log's samples exist when it is written."""
    import inspect_ai.log

    counts: list[int] = []
    write = inspect_ai.log.write_eval_log

    def counting(log: EvalLog, *arguments: object, **options: object) -> None:
        counts.append(len(log.samples or ()))
        write(log, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(inspect_ai.log, "write_eval_log", counting)
    results: RunResults = read_results([run]).runs[0]
    write_inspect_logs(results, tmp_path / "logs")
    by_arm: dict[object, int] = {}
    for trial in read_trials(run):
        assert isinstance(trial, Trial)
        by_arm[trial.condition.arm] = by_arm.get(trial.condition.arm, 0) + 1

    assert counts == list(by_arm.values())
