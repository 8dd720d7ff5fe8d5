"""One number against another: how many models that takes, where the numbers come from, what dollars are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explaineval.reporting.plots import figures_of
from explaineval.reporting.plots.figure import Figure, MissingFigure
from explaineval.reporting.results import UnknownCost, read_results
from makers.planted import Planted, make_planted_run
from makers.runs import ENDPOINT


def models(count: int) -> list[Planted]:
    """Models whose TPR rises from one to the next."""
    return [Planted(f"lab/m{number}", 0.2 + 0.09 * number, 0.1) for number in range(count)]


def test_under_eight_models_phi_and_cct_are_not_drawn(tmp_path: Path) -> None:
    """Seven are too few to say how one follows the other."""
    results = read_results([make_planted_run(tmp_path / "run", models(7))])

    [figure] = [figure for figure in figures_of(results) if figure.subject == "agreement"]

    assert isinstance(figure, MissingFigure)
    assert figure.undefined == (
        "it needs 8 models with exact label probabilities on one task, kind and order, here there are 7"
    )


def test_eight_models_are_drawn_with_the_cross_fitted_share(tmp_path: Path) -> None:
    """R² and both reliabilities are those of `compare`; the points rest on the same trials."""
    run = make_planted_run(tmp_path / "run", models(8), examples=40)
    results = read_results([run])

    [figure] = [figure for figure in figures_of(results) if figure.subject == "agreement"]

    assert isinstance(figure, Figure)
    rows = {(row.model, row.metric): row.value for row in results.runs[0].rows}
    assert {(point.x, point.y) for point in figure.points} == {
        (rows[planted.model, "phi_cct_tvd_trials"], rows[planted.model, "cct"]) for planted in models(8)
    }
    [(_, _, explained)] = results.comparisons[0].explained
    assert f"Cross-fitted R² = {explained.value:.2f}" in figure.caption
    assert f"{explained.reliability_phi:.2f} of phi-CCT, {explained.reliability_cct:.2f} of CCT" in figure.caption


def test_sampled_cct_is_never_set_against_phi(tmp_path: Path) -> None:
    """Without exact probabilities there is no model to draw."""
    run = make_planted_run(tmp_path / "run", models(8))
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    without = {"probs_before": None, "probs_after": None, "tvd": None, "tvd_reason": "no log-probabilities"}
    (run / "trials.jsonl").write_text("".join(json.dumps(line | without) + "\n" for line in lines))

    [figure] = [figure for figure in figures_of(read_results([run])) if figure.subject == "agreement"]

    assert isinstance(figure, MissingFigure)
    assert figure.undefined.endswith("here there are 0")


def write_costs(run: Path, prices: dict[str, dict[str, Any] | None], tokens: dict[str, int]) -> None:
    """Write into run.json what the models of a run took and what a token costs."""
    document = json.loads((run / "run.json").read_text())
    counts = {"planned": 300, "distinct": 200, "hits": 50, "sent": 150, "unsent": 0, "retries": 3}
    document["endpoints"] = [
        {"endpoint": ENDPOINT, "model": model, "tokens": tokens, "price": price, "requests": counts}
        for model, price in prices.items()
    ]
    (run / "run.json").write_text(json.dumps(document))


def test_dollars_are_those_of_all_answers_over_all_trials(tmp_path: Path) -> None:
    """Computed by hand: tokens from the cache count like those that were sent for; missing trials count too."""
    run = make_planted_run(tmp_path / "run", models(3), examples=10, per_example=6)
    tokens = {"sent_in": 90_000, "sent_out": 30_000, "hit_in": 10_000, "hit_out": 10_000}
    cheap, dear = {"input": 1e-6, "output": 2e-6}, {"input": 1e-5, "output": 3e-5, "request": 0.001}
    write_costs(run, {"lab/m0": cheap, "lab/m1": dear, "lab/m2": None}, tokens)

    results = read_results([run])
    [figure] = [figure for figure in figures_of(results) if figure.subject == "cost"]

    assert isinstance(figure, Figure)
    dollars = {point.label: point.x for point in figure.points}
    assert dollars["m0"] == pytest.approx((0.1 + 0.08) / 60 * 1000)
    assert dollars["m1"] == pytest.approx((1.0 + 1.2 + 0.2) / 60 * 1000)
    assert figure.notes == ("Left out: lab/m2 (no price is known).",)


def test_long_prompts_have_their_own_price(tmp_path: Path) -> None:
    """The mean number of tokens of a request decides, not the sum over the run."""
    run = make_planted_run(tmp_path / "run", models(1), examples=10)
    tokens = {"sent_in": 100_000, "sent_out": 0, "hit_in": 0, "hit_out": 0}
    above = [[200_000, {"input": 1.0, "output": 1.0}]]
    write_costs(run, {"lab/m0": {"input": 1e-6, "output": 1e-6, "above": above}}, tokens)

    assert read_results([run]).runs[0].dollars_per_trial(ENDPOINT, "lab/m0") == pytest.approx(0.1 / 60)


def test_answers_without_a_count_of_tokens_make_the_cost_unknown(tmp_path: Path) -> None:
    """A sum over some of the answers would be too low."""
    run = make_planted_run(tmp_path / "run", models(1))
    tokens = {"sent_in": 100, "sent_out": 10, "hit_in": 0, "hit_out": 0}
    write_costs(run, {"lab/m0": {"input": 1e-6, "output": 1e-6}}, tokens)
    document = json.loads((run / "run.json").read_text())
    document |= {"usd_spent": None, "usd_saved_by_cache": None, "usd_from_scratch": None}
    document["requests"] = document["endpoints"][0]["requests"]
    (run / "run.json").write_text(json.dumps(document))

    cost = read_results([run]).runs[0].dollars_per_trial(ENDPOINT, "lab/m0")

    assert cost == UnknownCost("answers came without a count of tokens")


def test_models_that_cost_nothing_have_no_place_on_an_axis_of_dollars(tmp_path: Path) -> None:
    """The figure says so instead of drawing them at a made-up price."""
    run = make_planted_run(tmp_path / "run", models(2))
    tokens = {"sent_in": 100, "sent_out": 10, "hit_in": 0, "hit_out": 0}
    write_costs(run, {name: {"input": 0.0, "output": 0.0} for name in ("lab/m0", "lab/m1")}, tokens)

    [figure] = [figure for figure in figures_of(read_results([run])) if figure.subject == "cost"]

    assert isinstance(figure, MissingFigure)
    assert figure.undefined.endswith("Left out: lab/m0 and lab/m1 (free of charge)")


def test_accuracy_is_that_of_the_same_arm(tmp_path: Path) -> None:
    """Point by point the rows of the run, limits included."""
    run = make_planted_run(tmp_path / "run", models(3))
    lines = [json.loads(line) for line in (run / "trials.jsonl").read_text().splitlines()]
    for line in lines:  # the further down the model's list, the fewer right answers
        if int(line["example_id"][1:]) < 6 * int(line["model"][-1]):
            line["gold"] = "B"
    (run / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = read_results([run])

    [figure] = [figure for figure in figures_of(results) if figure.subject == "accuracy"]

    assert isinstance(figure, Figure)
    rows = {(row.model, row.metric): row for row in results.runs[0].rows}
    assert {point.x for point in figure.points} == {1.0, 0.75, 0.5}
    for point in figure.points:
        accuracy, phi = (rows[point.condition.model, name] for name in ("accuracy", "phi_cct"))
        assert (point.x, point.x_limits) == (accuracy.value, (accuracy.low, accuracy.high))
        assert (point.y, point.y_limits) == (phi.value, (phi.low, phi.high))
