"""The plane of TPR and FPR: curves of equal phi and the frontier, against their definitions; levels in order."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from sklearn.metrics import matthews_corrcoef

from explaineval.reporting.plots import figures_of
from explaineval.reporting.plots.figure import Figure
from explaineval.reporting.plots.scatter import iso_phi, pareto_frontier, staircase
from explaineval.reporting.results import read_results
from makers.planted import Planted, make_planted_run


@pytest.mark.sampled(4)
@pytest.mark.parametrize("rate", [0.02, 0.15, 0.5, 0.9])
@pytest.mark.parametrize("phi", [0.2, 0.6, 0.8])
def test_every_place_of_a_curve_has_its_phi(phi: float, rate: float) -> None:
    """phi of the 2×2 table with these rates is the Matthews correlation coefficient, as scikit-learn computes it."""
    for fpr, tpr in iso_phi(phi, rate):
        table = [rate * tpr, rate * (1 - tpr), (1 - rate) * fpr, (1 - rate) * (1 - fpr)]

        assert matthews_corrcoef([1, 1, 0, 0], [1, 0, 1, 0], sample_weight=table) == pytest.approx(phi, abs=1e-6)


def test_a_curve_goes_from_the_left_edge_to_the_top() -> None:
    """Beyond them there is no rate."""
    curve = iso_phi(0.4, 0.15)

    assert curve[0][0] == 0
    assert curve[-1][1] == pytest.approx(1)
    assert curve == sorted(curve)


def test_the_frontier_holds_what_no_other_place_surpasses() -> None:
    """By the definition: no other place is as good in both rates and better in one."""
    draw = Random(3)
    for _ in range(50):
        places = [(draw.randrange(8) / 8, draw.randrange(8) / 8) for _ in range(20)]
        expected = {
            (x, y) for x, y in places if not any((u, v) != (x, y) and u <= x and v >= y for u, v in places)
        }  # fmt: skip

        assert set(pareto_frontier(places)) == expected


def test_between_two_places_the_line_stays_at_what_the_left_one_reaches() -> None:
    """Mixing models is not on offer."""
    assert list(staircase([(0.1, 0.2), (0.3, 0.6)])) == [(0.1, 0.2), (0.3, 0.2), (0.3, 0.6)]


def test_each_model_is_one_line_through_its_levels(tmp_path: Path) -> None:
    """Its points are the rows of metrics.json, in the order of the levels."""
    models = [Planted("lab/low", 0.4, 0.1, tuned="base"), Planted("lab/high", 0.8, 0.2, tuned="instruct")]
    run = make_planted_run(tmp_path / "run", models, levels=("brief", "normal", "detailed"))
    results = read_results([run])

    plane = next(figure for figure in figures_of(results) if figure.id == "plane")

    assert isinstance(plane, Figure)
    rows = {(row.model, row.verbosity, row.metric): row.value for row in results.runs[0].rows}
    assert [series.name for series in plane.series] == ["low", "high"]
    for series, planted in zip(plane.series, models, strict=True):
        assert series.joined
        assert [(point.x, point.y) for point in series.points] == [
            (rows[planted.model, level, "fpr"], rows[planted.model, level, "tpr"])
            for level in ("brief", "normal", "detailed")
        ]


def test_each_tuning_has_a_frontier_of_its_own_points(tmp_path: Path) -> None:
    """The frontier of pretrained models does not see the others."""
    models = [Planted("lab/low", 0.4, 0.1, tuned="base"), Planted("lab/high", 0.8, 0.1, tuned="instruct")]
    run = make_planted_run(tmp_path / "run", models, levels=("brief", "normal", "detailed"))

    plane = next(figure for figure in figures_of(read_results([run])) if figure.id == "plane")

    assert isinstance(plane, Figure)
    for kind, tuned in (("frontier_base", "base"), ("frontier_instruct", "instruct")):
        [line] = [line for line in plane.lines if line.kind == kind]
        own = [(point.x, point.y) for point in plane.points if point.tuned == tuned]
        assert set(line.points) >= set(pareto_frontier(own))
        assert line.points[-1][1] == max(y for _, y in own)
