"""Metrics against size: points and trends are the numbers that a run and `compare` hold; nothing is fitted."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from explaineval.reporting.comparison_view import document_of
from explaineval.reporting.plots import figures_of
from explaineval.reporting.plots.figure import Figure, MissingFigure
from explaineval.reporting.results import ComparedRuns, read_results
from makers.planted import Planted, families, make_planted_run


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> ComparedRuns:
    """Three families of two sizes, pretrained and instruction-tuned."""
    return read_results([make_planted_run(tmp_path_factory.mktemp("sizes") / "run", families(3, tuned=True))])


def figure_of(results: ComparedRuns, name: str) -> Figure:
    """The figure of this id."""
    figure = next(figure for figure in figures_of(results) if figure.id == name)
    assert isinstance(figure, Figure)
    return figure


@pytest.mark.parametrize("metric", ["phi_cct", "cct"])
def test_points_are_the_rows_of_the_run(results: ComparedRuns, metric: str) -> None:
    """Size, value and limits, for every model."""
    figure = figure_of(results, f"size-{metric}")
    sizes = {model.model: model.parameters for model in results.runs[0].record.config.models}

    rows = [row for row in results.runs[0].rows if row.metric == metric]
    assert len(rows) == 12
    assert sorted((point.condition.model, point.x, point.y, point.y_limits) for point in figure.points) == sorted(
        (row.model, sizes[row.model], row.value, (row.low, row.high)) for row in rows
    )


@pytest.mark.parametrize("metric", ["phi_cct", "cct", "phi_at_p"])
def test_the_line_has_the_slope_that_compare_prints(results: ComparedRuns, metric: str) -> None:
    """It goes through the mean of the families' own least-squares lines, here those of numpy."""
    figure = figure_of(results, f"size-{metric}")
    [group] = document_of(results.comparisons)["groups"]
    [family] = [family for family in group["families"] if family["metric"] == metric]

    [line] = [line for line in figure.lines if line.kind == "trend"]
    (x, y), (u, v) = line.points
    assert (v - y) / math.log10(u / x) == pytest.approx(family["trend"]["value"])
    fits = []
    for name in ("family0", "family1", "family2"):
        members = [point for point in figure.points if point.family == name]
        fits.append(np.polyfit([math.log10(point.x) for point in members], [point.y for point in members], 1))
    assert y == pytest.approx(np.mean([np.polyval(fit, math.log10(x)) for fit in fits]))
    named = [float(number) for number in re.findall(r"[+-]?\d\.\d\d", line.name)]
    assert named == pytest.approx([family["trend"][name] for name in ("value", "low", "high")], abs=0.0051)


def test_models_of_one_size_stand_side_by_side(results: ComparedRuns) -> None:
    """Each near its size and none on another, with the true size in the data."""
    figure = figure_of(results, "size-phi_cct")

    drawn = [point.drawn_x for point in figure.points]
    assert len(set(drawn)) == len(drawn)
    assert {point.x for point in figure.points} == {1e8, 1e9}
    width = math.log10(figure.x.high / figure.x.low)
    assert max(abs(point.shift) for point in figure.points) <= 0.06 * width + 1e-9


def test_two_families_give_points_without_a_trend(tmp_path: Path) -> None:
    """The reason is that of `compare`."""
    results = read_results([make_planted_run(tmp_path / "run", families(2))])

    figure = figure_of(results, "size-phi_cct")

    assert not [line for line in figure.lines if line.kind == "trend"]
    assert "No trend: 2 families have two or more sizes with a value; 3 are needed." in figure.notes


def test_models_of_unknown_size_give_no_figure(tmp_path: Path) -> None:
    """What is missing, and where to write it."""
    results = read_results([make_planted_run(tmp_path / "run", [Planted("lab/a"), Planted("lab/b")])])

    [figure] = [figure for figure in figures_of(results) if figure.subject == "size"]

    assert isinstance(figure, MissingFigure)
    assert figure.undefined == (
        "it needs models of 2 known sizes with a value, here there are 0; `family` and `parameters` of each model "
        "stand in the configuration file"
    )


def test_a_figure_without_bars_promises_none(results: ComparedRuns) -> None:
    """phi at a common impact rate exists in comparisons only, without an interval of its own."""
    assert "with 95 % intervals" in figure_of(results, "size-phi_cct").caption
    assert "with 95 % intervals" not in figure_of(results, "size-phi_at_p").caption
