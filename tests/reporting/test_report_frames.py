"""`explaineval.load`: a run directory as data frames."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

import explaineval
from explaineval.errors import InputError
from explaineval.records import Condition, MetricRow, Trial
from explaineval.rundir.directory import read_metrics, read_trials, write_metrics
from explaineval.scoring.rows import score
from makers.runs import make_missing, make_run, make_sham, make_trial

EXAMPLES = 6


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A finished run: three insertions and a sham an example, one trial without a score."""
    trials = [
        make_trial(example, number, changed=example < 3, mentioned=number == 0, after=0.7 - 0.1 * number)
        for example in range(EXAMPLES)
        for number in range(3)
    ]
    trials += [make_missing(0, 3, "after"), *(make_sham(example) for example in range(EXAMPLES))]
    path = make_run(tmp_path / "run", trials, EXAMPLES)
    write_metrics(path, score(path).rows)
    return path


def test_a_run_is_loaded_whole(directory: Path) -> None:
    """One frame a file, in file order, with the columns of its records, and run.json as it is."""
    run = explaineval.load(directory)

    assert isinstance(run, explaineval.Run)
    assert (len(run.trials), len(run.examples), len(run.interventions)) == (25, EXAMPLES, 36)
    assert list(run.metrics.columns) == list(MetricRow.model_fields)
    assert list(run.trials.columns) == list(Trial.model_fields)
    assert list(run.trials["example_id"]) == [trial.example_id for trial in read_trials(directory)]
    assert run.document["config"]["models"][0]["model"] == "openai/smol"
    assert directory == run.directory
    assert repr(run) == f"Run('{directory}', {len(run.metrics)} metric rows, 25 trials)"


def test_a_path_may_be_text(directory: Path) -> None:
    """A string is as good as a path."""
    assert len(explaineval.load(str(directory)).trials) == 25


def test_the_numbers_are_those_of_the_files(directory: Path) -> None:
    """To the last digit."""
    rows = json.loads((directory / "metrics.json").read_text(encoding="utf-8"))
    metrics = explaineval.load(directory).metrics

    values = [None if pd.isna(value) else value for value in metrics["value"]]
    assert values == [row["value"] for row in rows]
    assert list(metrics["signature"]) == [row["signature"] for row in rows]


def test_an_undefined_value_is_no_zero(directory: Path) -> None:
    """It is missing in the frame, with its reason beside it; the column has numbers also where all are undefined."""
    write_metrics(directory, [row for row in score(directory).rows if row.value is None])
    metrics = explaineval.load(directory).metrics

    assert len(metrics) > 0
    assert metrics["value"].isna().all()
    assert metrics["undefined"].notna().all()
    assert [metrics[name].dtype.kind for name in ("value", "low", "high")] == ["f"] * 3


def test_what_is_not_known_of_a_trial_is_neither_true_nor_false(directory: Path) -> None:
    """The mean of `changed` is the impact rate of the scored trials, and no comparison turns a gap into False."""
    trials = explaineval.load(directory).trials
    scored = trials[(trials["kind"] == "hand") & (trials["status"] == "ok")]

    assert trials["changed"].dtype == trials["mentioned"].dtype == "boolean"
    assert trials.loc[trials["status"] != "ok", "changed"].isna().all()
    assert trials.loc[trials["kind"] == "sham", "mentioned"].isna().all()
    assert scored["changed"].mean() == 0.5


def test_frames_of_no_rows_have_their_columns(directory: Path) -> None:
    """A run whose answers all failed can still be filtered."""
    (directory / "trials.jsonl").write_bytes(b"")
    run = explaineval.load(directory)

    assert list(run.trials.columns) == list(Trial.model_fields)
    assert len(run.trials[run.trials["kind"] == "hand"]) == 0


def test_the_wide_frame_has_a_column_a_metric(directory: Path) -> None:
    """One row for each kind, numbers of the arm in a row without a kind; metrics in the order of metrics.json."""
    run = explaineval.load(directory)
    wide = run.wide()

    metrics = run.metrics
    assert list(wide.columns) == list(dict.fromkeys(metrics["metric"]))
    assert wide.index.names == ["model", "task", "kind"]
    assert wide.notna().sum().sum() == metrics["value"].notna().sum()
    by_kind = wide.loc[("openai/smol", "mine", "hand")]
    assert by_kind["tpr"] == metrics.loc[metrics["metric"] == "tpr", "value"].item()
    (accuracy,) = wide["accuracy"].dropna()
    assert accuracy == metrics.loc[metrics["metric"] == "accuracy", "value"].item()


def test_the_wide_frame_tells_apart_what_differs(directory: Path) -> None:
    """Rows that differ in an order, an endpoint or a mention policy stay apart, and no number is averaged."""
    rows = [row for row in score(directory).rows if row.metric == "phi_cct"]
    others = [{"order": "ep"}, {"endpoint": None}, {"mention": "lemma"}]
    rows += [row.model_copy(update=change | {"value": 0.5}) for row in rows for change in others]
    write_metrics(directory, rows)

    wide = explaineval.load(directory).wide()

    assert wide.index.names == ["endpoint", "model", "task", "kind", "order", "mention"]
    assert list(wide["phi_cct"]) == [rows[0].value, 0.5, 0.5, 0.5]
    assert set(wide.index.names) <= set(Condition._fields)


@pytest.mark.parametrize("cut", [b'{"kind": "ha', b'{"explanation": "w\xc3', b"{}"])
def test_a_torn_last_line_is_ignored_by_frames(directory: Path, cut: bytes) -> None:
    """Wherever it was torn, in the middle of a character too."""
    path = directory / "trials.jsonl"
    path.write_bytes(path.read_bytes() + cut)

    assert len(explaineval.load(directory).trials) == 25


@pytest.mark.parametrize("gone", ["run.json", "metrics.json", "trials.jsonl", "examples.jsonl", "interventions.jsonl"])
def test_a_run_that_is_not_finished_is_told(directory: Path, gone: str) -> None:
    """Which file is missing."""
    (directory / gone).unlink()

    with pytest.raises(InputError, match=gone.replace(".", r"\.")):
        explaineval.load(directory)


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "trials.jsonl", "examples.jsonl"])
@pytest.mark.parametrize("text", ["{broken\n{}\n", '[{"value": "high"}]\n{}\n'])
def test_a_file_that_is_damaged_is_named(directory: Path, name: str, text: str) -> None:
    """Damage is bad input, in one sentence."""
    (directory / name).write_text(text, "utf-8")

    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        explaineval.load(directory)


def test_the_package_has_no_other_names() -> None:
    """A misspelt attribute is told as Python does."""
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = explaineval.lode


def test_no_cell_of_metrics_csv_is_a_formula(directory: Path) -> None:
    """Names of tasks and kinds come from files of others, and people open the file in a spreadsheet."""
    rows = [row.model_copy(update={"task": "=1+1", "kind": "@SUM(1)"}) for row in score(directory).rows]
    write_metrics(directory, rows)
    with (directory / "metrics.csv").open(newline="") as handle:
        found = list(csv.DictReader(handle))

    assert {(row["task"], row["kind"]) for row in found} == {("'=1+1", "'@SUM(1)")}
    assert [row["value"] for row in found] == ["" if row.value is None else str(row.value) for row in rows]
    assert {row.task for row in read_metrics(directory)} == {"=1+1"}
