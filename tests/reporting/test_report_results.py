"""Results of runs as page, figures and exports read them."""

from __future__ import annotations

from pathlib import Path

from explaineval.reporting.results import read_results
from makers.runs import make_run, make_trial


def test_the_rows_of_cues_are_among_those_shown_first(tmp_path: Path) -> None:
    """Their mentions are decided by phrases, not by the run's mention policy."""
    trials = [make_trial(0, number, changed=number == 0, mentioned=number == 0) for number in range(4)]
    cues = [trial | {"kind": "cue_user", "field": None} for trial in trials]
    run = make_run(tmp_path / "run", [*trials, *cues], 1)

    rows = read_results([run]).runs[0].rows

    assert {row.kind: row.mention for row in rows if row.metric == "phi_cct"} == {"hand": "word", "cue_user": "phrases"}
