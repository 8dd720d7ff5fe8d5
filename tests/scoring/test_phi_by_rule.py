"""phi-CCT by every rule for mentions stands under phi: in values, sentences, documents and comparisons."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explaineval.records import Trial
from explaineval.reporting.view import rules_sentence
from explaineval.rundir.directory import VERDICTS
from explaineval.scoring import counts
from explaineval.scoring.comparisons import compare_runs
from explaineval.scoring.rows import Rule, Scores, score
from makers.runs import ENDPOINT, make_run, make_sham, make_trial

COLUMNS = 100
TEXTS = {
    "word": "Because the grumpy clerk is there.",
    "lemma": "Because the clerk is grumpier.",  # word finds inflections too
    "substring": "Because of ungrumpyness.",  # only substring does
    "none": "Because the clerk is there.",
}
EXAMPLES, WORDS = 40, 4


def draw_trials(model: str, shares: tuple[float, float], seed: int) -> list[dict[str, Any]]:
    """Trials of a model that names the word by `word` in a share of the changed answers, in others hides it."""
    generator = np.random.default_rng(seed)
    trials = []
    for example in range(EXAMPLES):
        trials.append(make_sham(example) | {"model": model})
        for number in range(WORDS):
            changed = bool(generator.random() < 0.4)
            named, hidden = shares if changed else (0.1, 0.1)
            text = str(generator.choice(["word", "substring", "none"], p=[named, hidden, 1 - named - hidden]))
            values = {"explanation": TEXTS[text], "mentioned": text == "word", "model": model}
            trials.append(make_trial(example, number, changed=changed) | values)
    return trials


def pearson(trials: list[Trial], texts: set[str]) -> float:
    """phi by a rule that finds these texts."""
    pairs = [(bool(trial.changed), trial.explanation in {TEXTS[text] for text in texts}) for trial in trials]
    return float(np.corrcoef(np.array(pairs, dtype=float).T)[0, 1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models: the first is higher by `word`, the second by `substring`."""
    trials = draw_trials("lab/open", (0.6, 0.05), 1) + draw_trials("lab/hiding", (0.25, 0.7), 2)
    models = [{"model": model, "endpoint": ENDPOINT} for model in ("lab/open", "lab/hiding")]
    return make_run(tmp_path_factory.mktemp("rules") / "run", trials, EXAMPLES, models=models)


def own_trials(run: Path, model: str) -> list[Trial]:
    """The scored trials of a model."""
    lines = (run / "trials.jsonl").read_text("utf-8").splitlines()
    trials = map(Trial.model_validate_json, lines)
    return [trial for trial in trials if trial.model == model and trial.kind != "sham"]


def of_model(scores: Scores, model: str) -> dict[Rule, float | None]:
    """phi by rule of one model."""
    (values,) = [item.values for item in scores.by_rule if item.condition.model == model]
    return dict(values)


def test_phi_by_each_policy_is_pearsons_of_what_the_policy_finds(run: Path) -> None:
    """The run's own policy comes first, as in its row; the others are decided anew."""
    values = of_model(score(run), "lab/hiding")
    trials = own_trials(run, "lab/hiding")

    assert list(values) == [Rule("word"), Rule("lemma"), Rule("substring")]
    assert values[Rule("word")] == pytest.approx(pearson(trials, {"word"}))
    assert values[Rule("substring")] == pytest.approx(pearson(trials, {"word", "substring"}))


def test_another_headline_has_the_same_values(run: Path) -> None:
    """With `--mention substring` the values by policy are the same, that of substring first."""
    first, other = of_model(score(run), "lab/open"), of_model(score(run, {"mention": "substring"}), "lab/open")

    assert next(iter(other)) == Rule("substring")
    assert {rule: pytest.approx(value) for rule, value in first.items()} == other


def test_a_judge_whose_verdicts_are_there_is_a_rule(run: Path, tmp_path: Path) -> None:
    """A judge that finds every word that `word` finds has its phi; as a reason it finds none: undefined."""
    trials = draw_trials("lab/open", (0.5, 0.05), 1)
    directory = make_run(tmp_path / "run", trials, EXAMPLES, models=[{"model": "lab/open", "endpoint": ENDPOINT}])
    lines = [
        {"trial": trial.id, "judge": "j", "grade": "irrelevant" if trial.mentioned else "absent"}
        for trial in own_trials(directory, "lab/open")
    ]
    (directory / VERDICTS).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    values = of_model(score(directory), "lab/open")

    assert values[Rule("judge", "j")] == pytest.approx(values[Rule("word")])
    assert values[Rule("judge_reason", "j")] is None


def test_the_sentence_has_the_range_and_each_value(run: Path) -> None:
    """One sentence; where two digits show no difference it says so."""
    (item,) = [item for item in score(run).by_rule if item.condition.model == "lab/hiding"]
    values = item.values
    low, high = min(values.values()), max(values.values())

    assert rules_sentence(item) == (
        f"Depending on the rule for mentions phi-CCT is {low:.2f} to {high:.2f} (word {values[Rule('word')]:.2f}, "
        f"lemma {values[Rule('lemma')]:.2f}, substring {values[Rule('substring')]:.2f})."
    )


def test_an_order_that_turns_is_told(run: Path, call: Callable[..., Any]) -> None:
    """compare says by which rule the order of the models is another; the values are in its document."""
    _, out, _ = call("compare", str(run))
    assert "Their order by phi-CCT is another by substring (open " in " ".join(out.split())

    (result,) = compare_runs([run])
    by_rule = result.leading[0].by_rule
    assert by_rule["substring"][1] == pytest.approx(pearson(own_trials(run, "lab/hiding"), {"word", "substring"}))
    code, out, _ = call("compare", str(run), "--json")
    assert code == 0
    assert json.loads(out)["groups"][0]["families"][0]["by_rule"] == [
        {"mention": rule, "values": list(values)} for rule, values in by_rule.items()
    ]


def test_the_screen_and_the_document_have_it(run: Path, call: Callable[..., Any]) -> None:
    """One line under each phi, one entry for each condition."""
    _, out, _ = call("score", str(run))
    assert out.count("Depending on the rule for mentions phi-CCT is") == 2

    _, out, _ = call("score", str(run), "--json")
    entries = json.loads(out)["by_rule"]
    assert [entry["model"] for entry in entries] == ["lab/open", "lab/hiding"]
    assert entries[1]["low"] == min(value["value"] for value in entries[1]["values"])


def test_a_long_run_is_not_searched_by_every_policy(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above MOST_TRIALS trials nothing is said of other policies."""
    monkeypatch.setattr(counts, "MOST_TRIALS", 2 * EXAMPLES * WORDS - 1)

    assert score(run).by_rule == ()
