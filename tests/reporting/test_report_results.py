"""Results of runs as page, figures and exports read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from explaineval.reporting.page import page_of, read_for_page
from explaineval.reporting.results import read_results
from explaineval.rundir import directory
from makers.runs import make_run, make_trial


def test_the_rows_of_cues_are_among_those_shown_first(tmp_path: Path) -> None:
    """Their mentions are decided by phrases, not by the run's mention policy."""
    trials = [make_trial(0, number, changed=number == 0, mentioned=number == 0) for number in range(4)]
    cues = [trial | {"kind": "cue_user", "field": None} for trial in trials]
    run = make_run(tmp_path / "run", [*trials, *cues], 1)

    rows = read_results([run]).runs[0].rows

    assert {row.kind: row.mention for row in rows if row.metric == "phi_cct"} == {"hand": "word", "cue_user": "phrases"}


def test_a_page_reads_the_trials_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For its numbers under all policies, its comparisons and the trials that it shows."""
    trials = [make_trial(example, 0, model=model) for model in ("lab/a", "lab/b") for example in range(6)]
    models = [{"model": name, "endpoint": "lab"} for name in ("lab/a", "lab/b")]
    run = make_run(tmp_path / "run", trials, 6, models=models)
    opened: list[str] = []
    records = directory._records
    monkeypatch.setattr(directory, "_records", lambda path, kind: opened.append(path.name) or records(path, kind))

    results, draws = read_for_page([run])
    page_of(results, draws)

    assert results.comparisons
    assert opened.count(directory.TRIALS) == 1
