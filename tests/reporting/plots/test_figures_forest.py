"""Forest plots show every model with its interval, and say what is undefined."""

from __future__ import annotations

from pathlib import Path

from explaineval.reporting.plots import figures_of
from explaineval.reporting.plots.figure import Figure, MissingFigure
from explaineval.reporting.results import read_results
from makers.planted import Planted, make_planted_run
from makers.runs import make_run, make_trial


def test_two_models_without_a_size_have_a_forest_plot(tmp_path: Path) -> None:
    """Each point is the row of metrics.json, the better one on top."""
    run = make_planted_run(tmp_path / "run", [Planted("lab/worse", 0.3, 0.25), Planted("lab/better", 0.9, 0.05)])
    results = read_results([run])

    forest = next(figure for figure in figures_of(results) if figure.id == "forest-phi_cct")

    assert isinstance(forest, Figure)
    rows = {row.model: row for row in results.runs[0].rows if row.metric == "phi_cct"}
    assert {point.condition.model: (point.x, point.x_limits) for point in forest.points} == {
        model: (row.value, (row.low, row.high)) for model, row in rows.items()
    }
    heights = {point.label: point.y for point in forest.points}
    assert heights["better"] > heights["worse"]
    assert [text for _, text in forest.y.ticks] == ["better", "worse"]


def test_an_undefined_number_keeps_its_row_and_its_reason(tmp_path: Path) -> None:
    """It is neither drawn at 0 nor left out."""
    run = make_planted_run(tmp_path / "run", [Planted("lab/some", 0.6, 0.2), Planted("lab/mute", 0.0, 0.0)])

    forest = next(figure for figure in figures_of(read_results([run])) if figure.id == "forest-phi_cct")

    assert isinstance(forest, Figure)
    mute = next(point for point in forest.points if point.label == "mute")
    assert mute.undefined == "no explanation mentions the insertion"
    assert "mute: undefined, no explanation mentions the insertion" in forest.alt


def test_without_any_value_there_is_no_forest_plot(tmp_path: Path) -> None:
    """The reason stands in its place."""
    run = make_run(tmp_path / "run", [make_trial(0, number) for number in range(4)], 1)

    [forest] = [figure for figure in figures_of(read_results([run])) if figure.subject == "forest"]

    assert isinstance(forest, MissingFigure)
    assert forest.undefined == "it is undefined for every model: no answer changed"
