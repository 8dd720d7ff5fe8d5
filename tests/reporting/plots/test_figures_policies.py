"""phi-CCT under each mention policy, side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from explaineval.reporting import results as reading
from explaineval.reporting.plots import figures_of
from explaineval.reporting.plots.figure import Figure, MissingFigure
from explaineval.reporting.results import read_results
from explaineval.scoring.rows import score
from makers.planted import Planted, make_planted_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two models; half of the explanations without the word hold it inside another one."""
    run = make_planted_run(tmp_path / "run", [Planted("lab/a", 0.8, 0.1), Planted("lab/b", 0.4, 0.2)])
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        if not line["mentioned"] and number % 2:
            line["explanation"] = "Because of the ungrumpyish clerk."
    (run / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_every_policy_has_a_mark_for_every_model(run: Path) -> None:
    """Each is what `score --mention` gives; the run's own policy comes first."""
    results = read_results([run], every_policy=True)

    [figure] = [figure for figure in figures_of(results) if figure.subject == "policies"]

    assert isinstance(figure, Figure)
    assert [series.name for series in figure.series] == ["word", "lemma", "substring"]
    for series in figure.series:
        rows = score(run, {"mention": series.name}).rows
        expected = {row.model: (row.value, (row.low, row.high)) for row in rows if row.metric == "phi_cct"}
        assert {point.condition.model: (point.x, point.x_limits) for point in series.points} == expected
    spread = max(abs(first.x - last.x) for first, last in zip(figure.series[0].points, figure.series[2].points))  # noqa: B905 - same length by the loop above
    assert figure.caption.endswith(f"by {spread:.2f}.")


def test_the_run_s_own_numbers_do_not_depend_on_the_other_policies(run: Path) -> None:
    """Rows and warnings are those without them."""
    alone, together = read_results([run]).runs[0], read_results([run], every_policy=True).runs[0]

    assert together.rows == alone.rows
    assert together.scores.rows == alone.scores.rows
    assert together.scores.warnings == alone.scores.warnings
    assert {row.mention for row in together.other_policies if row.mention} == {"lemma", "substring"}


def test_a_run_with_one_policy_has_no_such_figure(run: Path) -> None:
    """Neither has a run with too many trials to score them again, which is why other policies are not there."""
    [figure] = [figure for figure in figures_of(read_results([run])) if figure.subject == "policies"]

    assert isinstance(figure, MissingFigure)


def test_policies_that_agree_are_said_to(tmp_path: Path) -> None:
    """Three marks on top of each other would show nothing."""
    run = make_planted_run(tmp_path / "run", [Planted("lab/a", 0.8, 0.1)], examples=10, per_example=4)

    results = read_results([run], every_policy=True)
    [figure] = [figure for figure in figures_of(results) if figure.subject == "policies"]

    assert isinstance(figure, MissingFigure)
    assert figure.undefined == (
        "word, lemma and substring give the same phi-CCT for every model, so there is nothing to see"
    )


def test_a_large_run_is_scored_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From one trial more than the bound on, no other policy is computed."""
    trials = len((run / "trials.jsonl").read_text().splitlines())

    monkeypatch.setattr(reading, "MOST_TRIALS", trials)
    assert read_results([run], every_policy=True).runs[0].other_policies
    monkeypatch.setattr(reading, "MOST_TRIALS", trials - 1)
    assert not read_results([run], every_policy=True).runs[0].other_policies
