"""Whether phi-CCT is told from 0 among all conditions of a run: Holm over the primary ones, intervals kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t
from statsmodels.stats.multitest import multipletests

from explaineval.records import Trial
from explaineval.scoring.registry import PHI_CCT
from explaineval.scoring.rows import score
from makers.runs import ENDPOINT, make_run, make_trial

COLUMNS = 100
MODELS = [f"lab/{number}" for number in range(5)]
EXAMPLES = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five models: one clearly faithful, one a little, three that name at random; a control beside them."""
    generator = np.random.default_rng(16)
    trials = []
    for model, tpr in zip(MODELS, (0.7, 0.4, 0.2, 0.2, 0.2), strict=True):
        for example in range(EXAMPLES):
            for number in range(4):
                changed = bool(generator.random() < 0.3)
                mentioned = bool(generator.random() < (tpr if changed else 0.2))
                trials.append(make_trial(example, number, model=model, changed=changed, mentioned=mentioned))
    models = [{"model": model, "endpoint": ENDPOINT} for model in MODELS]
    return make_run(tmp_path_factory.mktemp("zero") / "run", trials, EXAMPLES, models=models, shams=0)


def test_p_values_belong_to_the_intervals_and_are_adjusted_by_holm(run: Path) -> None:
    """p is scipy's of t on Fisher's scale with the interval's degrees of freedom; Holm is statsmodels'."""
    scores = score(run)
    lines = (run / "trials.jsonl").read_text("utf-8").splitlines()
    trials = list(map(Trial.model_validate_json, lines))
    expected = []
    for row in (row for row in scores.headline.rows if row.metric == PHI_CCT):
        own = {trial.example_id for trial in trials if trial.model == row.model and trial.changed and trial.mentioned}
        df = len(own) - 1
        error = (math.atanh(row.high) - math.atanh(row.value)) / t.ppf(0.975, df)
        expected.append(2 * t.sf(abs(math.atanh(row.value)) / error, df))
    tests = list(scores.zero_tests.values())

    assert [test.p for test in tests] == pytest.approx(expected)
    assert [test.p_adjusted for test in tests] == pytest.approx(list(multipletests(expected, method="holm")[1]))
    assert {test.conditions for test in tests} == {len(MODELS)}


def test_a_phi_above_0_that_does_not_survive_is_said_on_the_screen(run: Path, call: Callable[..., Any]) -> None:
    """The interval and "above 0" stay, and it is said that this does not hold among all conditions."""
    tests = score(run).zero_tests
    lost = [condition.model for condition, test in tests.items() if test.is_lost]
    _, out, _ = call("score", str(run))

    assert len(lost) == 1
    assert out.count("not among all 5 conditions") == 1
    _, out, _ = call("score", str(run), "--json")
    assert [entry["model"] for entry in json.loads(out)["zero_tests"]] == MODELS
