"""The files of `report --plots`: SVG, PDF, and the plotted numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from explaineval.errors import InputError
from explaineval.reporting.plots import figures_of, write_plots
from explaineval.reporting.plots.figure import Figure
from explaineval.reporting.results import ComparedRuns, read_results
from makers.planted import Planted, make_planted_run


@pytest.fixture
def results(tmp_path: Path) -> ComparedRuns:
    """Two models without a size."""
    run = make_planted_run(tmp_path / "run", [Planted("lab/a"), Planted("lab/b", 0.9, 0.1)], examples=10, per_example=4)
    return read_results([run])


def test_every_figure_is_written_twice_with_its_numbers(results: ComparedRuns, tmp_path: Path) -> None:
    """And figures.json says why others are left out."""
    directory = tmp_path / "new" / "plots"

    written = write_plots(results, directory)

    figures = [figure for figure in figures_of(results) if isinstance(figure, Figure)]
    names = [f"{figure.id}.{kind}" for figure in figures for kind in ("svg", "pdf")]
    assert written == [directory / name for name in [*names, "figures.json"]]
    assert sorted(written) == sorted(directory.iterdir())
    document = json.loads((directory / "figures.json").read_text(encoding="utf-8"))
    assert [figure["id"] for figure in document["figures"]] == [figure.id for figure in figures]
    assert [figure["id"] for figure in document["missing"]] == ["size", "agreement", "cost", "policies"]
    [accuracy] = [figure for figure in document["figures"] if figure["id"] == "accuracy"]
    rows = {(row.model, row.metric): row for row in results.runs[0].rows}
    assert [(point["model"], point["x"], point["y"], point["y_low"]) for point in accuracy["points"]] == [
        (model, rows[model, "accuracy"].value, rows[model, "phi_cct"].value, rows[model, "phi_cct"].low)
        for model in ("lab/a", "lab/b")
    ]


@pytest.mark.slow
def test_figures_are_written_again(results: ComparedRuns, tmp_path: Path) -> None:
    """The same results give the same bytes in every file."""
    first = {path.name: path.read_bytes() for path in write_plots(results, tmp_path / "plots")}

    assert {path.name: path.read_bytes() for path in write_plots(results, tmp_path / "plots")} == first


def test_without_matplotlib_the_extra_is_named(
    results: ComparedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(InputError, match=r"the extra `report` with `pip install '\.\[report\]'`"):
        write_plots(results, tmp_path / "plots")
    assert not (tmp_path / "plots").exists()


def test_a_file_in_place_of_the_directory_is_told(results: ComparedRuns, tmp_path: Path) -> None:
    """One sentence that names it."""
    (tmp_path / "plots").write_text("")

    with pytest.raises(InputError, match=r"plots cannot be written \(File exists\): name another directory"):
        write_plots(results, tmp_path / "plots")
