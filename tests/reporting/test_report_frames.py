"""`explaineval.load`: a run directory as data frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import explaineval
from explaineval.errors import InputError


def write_run(directory: Path) -> Path:
    """A small finished run, written line by line."""
    directory.mkdir()
    key = {
        "endpoint": None,
        "model": "openai/smol",
        "task": "nli",
        "order": "pe",
        "style": "chat",
        "shots": 0,
        "verbosity": "normal",
    }
    metrics: list[dict[str, Any]] = [
        key
        | {
            "kind": kind,
            "metric": metric,
            "value": value,
            "low": None,
            "high": None,
            "n": 4,
            "n_examples": 2,
            "undefined": None if value is not None else "no answer changed",
            "signature": "s",
        }
        for kind, metric, value in [
            ("hand", "phi_cct", None),
            ("hand", "tpr", 0.5),
            ("other", "phi_cct", 0.25),
            (None, "accuracy", 1.0),
            ("sham", "sham_flip_rate", 0.0),
        ]
    ]
    metrics += [metrics[1] | {"metric": "f_auroc", "value": 0.75, "verbosity": None}]
    averaged = [("null_edit_flip_rate", 0.125, "null_edit"), ("flip_to_cue_rate", 0.5, "cue_user")]
    metrics += [
        metrics[1] | {"metric": name, "value": value, "kind": kind, "task": "mean"} for name, value, kind in averaged
    ]
    trials = [key | {"kind": "hand", "example_id": f"e{i}", "changed": None, "explanation": "wé"} for i in range(3)]
    files: dict[str, Any] = {
        "trials.jsonl": trials,
        "examples.jsonl": [{"id": "e0"}, {"id": "e1"}],
        "interventions.jsonl": [{"id": "i0"}],
    }
    (directory / "run.json").write_text(json.dumps({"signature": "whole"}), "utf-8")
    (directory / "metrics.json").write_text(json.dumps(metrics), "utf-8")
    for name, rows in files.items():
        (directory / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return directory


def test_a_run_is_loaded_whole(tmp_path: Path) -> None:
    """One frame a file, in file order, and run.json as it is."""
    run = explaineval.load(write_run(tmp_path / "run"))

    assert tuple(len(one) for one in (run.metrics, run.trials, run.examples, run.interventions)) == (8, 3, 2, 1)
    assert run.document["signature"] == "whole"
    assert list(run.trials["example_id"]) == ["e0", "e1", "e2"]
    assert tmp_path / "run" == run.directory
    assert isinstance(run, explaineval.Run)


def test_a_path_may_be_text(tmp_path: Path) -> None:
    """A string is as good as a path."""
    assert len(explaineval.load(str(write_run(tmp_path / "run"))).metrics) == 8


def test_an_undefined_value_is_no_zero(tmp_path: Path) -> None:
    """It is missing in the frame, with its reason beside it."""
    metrics = explaineval.load(write_run(tmp_path / "run")).metrics

    undefined = metrics[metrics["value"].isna()]

    assert list(zip(undefined["metric"], undefined["undefined"], strict=True)) == [("phi_cct", "no answer changed")]


def test_the_wide_frame_has_a_column_a_metric(tmp_path: Path) -> None:
    """One row a kind; rows without kind or endpoint are not lost."""
    wide = explaineval.load(write_run(tmp_path / "run")).wide()

    assert {
        "phi_cct",
        "tpr",
        "accuracy",
        "sham_flip_rate",
        "f_auroc",
        "null_edit_flip_rate",
        "flip_to_cue_rate",
    } == set(wide.columns)
    assert len(wide) == 7
    assert {0.75} == set(wide["f_auroc"].dropna())
    assert {0.25} == set(wide["phi_cct"].dropna())
    assert {1.0} == set(wide["accuracy"].dropna())


@pytest.mark.parametrize("cut", [b'{"kind": "ha', b'{"explanation": "w\xc3', b"{}"])
def test_a_torn_last_line_is_ignored_by_frames(tmp_path: Path, cut: bytes) -> None:
    """Wherever it was torn, in the middle of a character too."""
    path = write_run(tmp_path / "run") / "trials.jsonl"
    path.write_bytes(path.read_bytes() + cut)

    assert len(explaineval.load(tmp_path / "run").trials) == 3


@pytest.mark.parametrize("gone", ["run.json", "metrics.json", "trials.jsonl", "examples.jsonl", "interventions.jsonl"])
def test_a_run_that_is_not_finished_is_told(tmp_path: Path, gone: str) -> None:
    """Which file is missing."""
    (write_run(tmp_path / "run") / gone).unlink()

    with pytest.raises(InputError, match=gone.replace(".", r"\.")):
        explaineval.load(tmp_path / "run")


@pytest.mark.parametrize("name", ["run.json", "metrics.json", "trials.jsonl"])
def test_a_file_that_is_no_json_is_told(tmp_path: Path, name: str) -> None:
    """Damage is bad input, in one sentence."""
    (write_run(tmp_path / "run") / name).write_text("{broken\n{}\n", "utf-8")

    with pytest.raises(InputError, match="run"):
        explaineval.load(tmp_path / "run")


def test_the_package_has_no_other_names() -> None:
    """A misspelt attribute is told as Python does."""
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = explaineval.lode
