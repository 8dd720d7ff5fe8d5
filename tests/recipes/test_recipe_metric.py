"""CONTRIBUTING.md, "to add a metric": one function and one value in the registry, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from numpy.typing import ArrayLike

from explaineval.cli.app import main
from explaineval.metrics.estimates import Interval, scored_tables
from explaineval.metrics.rates import rate, ratio_values
from explaineval.records import Estimate
from explaineval.rundir.directory import write_metrics
from explaineval.scoring.metric import Cell, KindMetric, of_tables
from explaineval.scoring.registry import METRICS
from explaineval.scoring.rows import score
from explaineval.scoring.shared import ALL_TRIALS, Paired, shares_of
from makers.runs import make_run, make_sham, make_trial


def silent_share(tables: ArrayLike, interval: Interval) -> Estimate:
    """b/n: the share of trials whose answer changed and whose explanation does not say so; tables (G, 4)."""
    a, b, c, d = scored_tables(tables).T
    return rate(b, a + b + c + d, interval)


SILENT_SHARE = KindMetric(
    name="silent_share",
    title="silent share",
    definition="Share of trials whose answer changed and whose explanation does not mention the insertion.",
    source="this test",
    pitfall="It is small wherever answers seldom change.",
    compute=of_tables(silent_share),
    rests_on=("few_examples", "a scored trial"),
    cell=Cell("silent"),
    paired=Paired(shares_of("b", "abcd"), ratio_values, ALL_TRIALS),
)


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of 6 examples × 4: in each one answer changes, and the explanation says so in the first three."""
    monkeypatch.setitem(METRICS, SILENT_SHARE.name, SILENT_SHARE)
    trials = [
        make_trial(example, number, changed=number == 0, mentioned=number == 0 and example < 3)
        for example in range(6)
        for number in range(4)
    ]
    return make_run(tmp_path / "run", [*trials, *map(make_sham, range(6))], 6)


def test_a_new_metric_arrives_in_metrics_json_with_its_own_signature(run_dir: Path) -> None:
    """3 of 24 trials; its signature has what it depends on (the mention policy) and no more (no label mass)."""
    write_metrics(run_dir, score(run_dir).rows)

    rows = {row["metric"]: row for row in json.loads((run_dir / "metrics.json").read_text("utf-8"))}
    row = rows["silent_share"]
    assert (row["value"], row["n"], row["n_examples"], row["kind"]) == (3 / 24, 24, 6, "hand")
    assert row["low"] < row["value"] < row["high"]
    assert row["signature"] == rows["phi_cct"]["signature"]
    assert "|mention:word|" in row["signature"]
    assert "min_label_mass" not in row["signature"]
    judged_otherwise = {row.metric: row.signature for row in score(run_dir, {"mention": "lemma"}).rows}
    assert judged_otherwise["silent_share"] != row["signature"]


def test_a_new_metric_arrives_in_the_table_of_score(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With its heading and its value; it is measured on 6 examples, so the warning of thin data is there too."""
    with pytest.raises(SystemExit) as end:
        main(["score", str(run_dir), "--table"])

    shown = capsys.readouterr().out
    assert not end.value.code
    heading = next(line for line in shown.splitlines() if "silent" in line)
    assert heading.split()[-1] == "silent"
    first = next(line for line in shown.splitlines() if line.startswith("1 "))
    assert first.split()[-1] == "0.125"
    warnings = {(warning.warning.metric, warning.warning.code) for warning in score(run_dir).warnings}
    assert ("silent_share", "few_examples") in warnings


def test_a_new_metric_is_compared_between_models(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With `paired` in its value it is a row of `compare`, here of two runs of which the second stays silent less."""
    trials = [
        make_trial(example, number, changed=number == 0, mentioned=number == 0 and example < 4)
        for example in range(6)
        for number in range(4)
    ]
    later = make_run(run_dir.parent / "later", trials, 6)
    with pytest.raises(SystemExit) as end:
        main(["compare", str(run_dir), str(later), "--json"])

    (row,) = [row for row in json.loads(capsys.readouterr().out)["rows"] if row["metric"] == "silent_share"]
    assert not end.value.code
    assert (row["value_a"], row["value_b"]) == (2 / 24, 3 / 24)
    assert row["difference"] == pytest.approx(-1 / 24)
