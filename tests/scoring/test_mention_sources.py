"""Several policies and judges scored from the same trials: each gives its own numbers, the run's own come first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from explaineval.records import Condition, MetricRow, Trial
from explaineval.rundir.directory import VERDICTS
from explaineval.scoring.rows import Scores, score
from makers.runs import make_missing, make_run, make_sham, make_trial

EXAMPLES, WORDS = 40, 4
TEXTS = {
    "word": "Because the grumpy clerk is there.",  # every policy finds it
    "substring": "Because of ungrumpyness.",  # only the policy `substring` does
    "none": "Because the clerk is there.",
}
SEED = 20


def draw_trials() -> list[dict[str, Any]]:
    """Trials whose explanations hold the word, a longer word around it, or neither; some are missing."""
    generator = np.random.default_rng(SEED)
    trials: list[dict[str, Any]] = []
    for example in range(EXAMPLES):
        trials.append(make_sham(example))
        for number in range(WORDS):
            changed = bool(generator.random() < 0.4)
            text = str(generator.choice([*TEXTS], p=[0.5, 0.2, 0.3] if changed else [0.1, 0.2, 0.7]))
            values = {"changed": changed, "explanation": TEXTS[text], "mentioned": text == "word"}
            trials.append(make_trial(example, number, changed=changed) | values)
    trials.append(make_missing(0, 9, "before", mentioned=True))
    trials.append(make_missing(1, 9, "after"))
    return trials


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of these trials."""
    return make_run(tmp_path_factory.mktemp("sources") / "run", draw_trials(), EXAMPLES)


def rows_by(scores: Scores, **where: Any) -> dict[tuple[Condition, str], MetricRow]:
    """The rows that depend on a mention and whose columns have these values, by what they are about."""
    return {
        (row.condition.without_mention, row.metric): row
        for row in scores.rows
        if row.mention is not None and all(getattr(row, name) == value for name, value in where.items())
    }


def test_each_policy_has_the_rows_that_it_has_alone(run_dir: Path) -> None:
    """Values, limits, reasons and signatures; the run's own rows and warnings stand first, as they are alone."""
    own, several = score(run_dir), score(run_dir, {"mention": ("substring", "lemma", "word")})

    assert several.rows[: len(own.rows)] == own.rows
    assert several.headline.rows == own.rows
    assert several.headline.warnings == own.warnings
    assert several.missing == own.missing
    order = [row.mention for row in several.rows if row.mention is not None]
    assert list(dict.fromkeys(order)) == ["word", "substring", "lemma"]
    for policy in ("substring", "lemma"):
        assert rows_by(several, mention=policy) == rows_by(score(run_dir, {"mention": policy}), mention=policy)
    assert not [row for row in several.rows[len(own.rows) :] if row.mention is None]
    values = {policy: rows_by(several, mention=policy, metric="phi_cct") for policy in ("word", "substring")}
    assert len({row.value for rows in values.values() for row in rows.values()}) == 2


def test_the_first_one_given_leads_where_the_runs_own_is_not_among_them(run_dir: Path) -> None:
    """`--mention lemma --mention substring` of a run by words."""
    found = score(run_dir, {"mention": ["substring", "lemma", "substring"]})

    assert found.policy == "substring"
    assert {row.mention for row in found.headline.rows} == {"substring", None}
    assert {row.mention for row in found.rows} == {"substring", "lemma", None}


def test_sensitivity_is_counted_on_the_same_trials(run_dir: Path) -> None:
    """Kappa against scikit-learn, J against scipy's and numpy's own counts, and the cells by hand."""
    trials = [trial for trial in draw_trials() if trial["kind"] == "hand" and trial["status"] == "ok"]
    (found,) = score(run_dir, {"mention": ("word", "substring")}).sensitivity
    word = [trial["mentioned"] for trial in trials]
    substring = ["grumpy" in trial["explanation"] for trial in trials]
    changed = np.array([trial["changed"] for trial in trials])

    assert (found.condition.mention, found.reference.mention) == ("substring", "word")
    assert found.counts == tuple(
        sum(pair == wanted for pair in zip(word, substring, strict=True))
        for wanted in ((True, True), (True, False), (False, True), (False, False))
    )
    assert found.kappa.value == pytest.approx(cohen_kappa_score(word, substring), abs=1e-12)
    for value, mentioned in ((found.reference_youden_j, word), (found.youden_j, substring)):
        assert value == pytest.approx(stats.linregress(changed.astype(float), np.array(mentioned, float)).slope)
    assert found.difference.value == pytest.approx(float(found.youden_j or 0) - float(found.reference_youden_j or 0))
    low, high = found.difference.low, found.difference.high
    assert low is not None
    assert high is not None
    assert low < float(found.difference.value or 0) < high


def write_verdicts(run_dir: Path, grades: dict[str, str], judge: str = "openai/judge") -> None:
    """A judge's grades by trial id, beside those that are there."""
    with (run_dir / VERDICTS).open("a", encoding="utf-8") as handle:
        for trial, grade in grades.items():
            handle.write(json.dumps({"trial": trial, "judge": judge, "grade": grade, "key": "k"}) + "\n")


def test_a_judges_verdicts_make_two_sources(tmp_path: Path) -> None:
    """What it finds at all, and what it finds given as a reason; a trial without a verdict is missing, not silent."""
    run_dir = make_run(tmp_path / "run", draw_trials(), EXAMPLES)
    trials = [Trial.model_validate(trial) for trial in draw_trials()]
    scored = [trial for trial in trials if trial.kind == "hand" and trial.status == "ok"]
    generator = np.random.default_rng(SEED + 1)
    grades = {
        trial.id: str(
            generator.choice(
                ["absent", "irrelevant", "reason"], p=[0.2, 0.3, 0.5] if trial.changed else [0.7, 0.2, 0.1]
            )
        )
        for trial in scored[3:]
    }
    own = score(run_dir)
    write_verdicts(run_dir, grades)
    found = score(run_dir)

    assert found.rows[: len(own.rows)] == own.rows
    judged = [trial for trial in scored if trial.id in grades]
    changed = [bool(trial.changed) for trial in judged]
    for rule, counted in (("judge", {"irrelevant", "reason"}), ("judge_reason", {"reason"})):
        rows = rows_by(found, mention=rule, judge="openai/judge")
        phi = rows[judged[0].condition, "phi_cct"]
        expected = stats.pearsonr(changed, [grades[trial.id] in counted for trial in judged]).statistic
        assert phi.value == pytest.approx(expected, abs=1e-12)
        assert phi.n == len(judged)
        assert f"mention:{rule}|judge:openai/judge@" in phi.signature
        assert {metric for _, metric in rows} - {"phi_cct_lower_bound", "phi_cct_upper_bound"} == {
            row.metric for row in own.rows if row.mention is not None
        } - {"phi_cct_lower_bound", "phi_cct_upper_bound"}
        assert rows[judged[0].condition, "mention_floor"].value is None
    texts = [row.text for row in found.warnings if row.condition.judge is not None]
    assert any("the judge was not asked about it" in text for text in texts)


def test_other_verdicts_are_another_signature(tmp_path: Path) -> None:
    """One grade that differs makes another number's certificate; the file's order does not."""
    signatures = []
    trials = [Trial.model_validate(trial) for trial in draw_trials() if trial["kind"] == "hand"]
    grades = {trial.id: "reason" if trial.changed else "absent" for trial in trials}
    first = next(iter(grades))
    for name, chosen in (("a", grades), ("b", dict(reversed(grades.items()))), ("c", grades | {first: "irrelevant"})):
        run_dir = make_run(tmp_path / name / "run", draw_trials(), EXAMPLES)
        write_verdicts(run_dir, chosen)
        rows = rows_by(score(run_dir), mention="judge")
        signatures.append(rows[trials[0].condition, "phi_cct"].signature)

    assert signatures[0] == signatures[1] != signatures[2]


def test_phrases_decide_on_cues_once(tmp_path: Path) -> None:
    """Whatever the policies, a cue has one source of mentions; a judge of cues says nothing of words."""
    words = draw_trials()
    cues = []
    for example in range(EXAMPLES):
        said = bool(example % 3)
        values = {
            "kind": "cue_user", "intervention_id": f"e{example}.cue", "field": None, "inserted": "I think it is (B).",
            "mentioned": said, "explanation": "As you think so." if said else "It is so.",
        }  # fmt: skip
        cues.append(make_trial(example, 0, changed=bool(example % 2)) | values)
    run_dir = make_run(tmp_path / "run", [*words, *cues], EXAMPLES)
    record = json.loads((run_dir / "run.json").read_text("utf-8"))
    record["facts"]["tasks"]["mine"]["kinds"]["cue_user"] = "0"
    (run_dir / "run.json").write_text(json.dumps(record), "utf-8")
    write_verdicts(run_dir, {Trial.model_validate(trial).id: "reason" for trial in cues[:30]}, "m")

    found = score(run_dir, {"mention": ("word", "lemma", "substring")})

    assert [row.mention for row in found.rows if (row.kind, row.metric) == ("cue_user", "phi_cct")] == [
        "phrases", "judge", "judge_reason",
    ]  # fmt: skip
    assert [row.mention for row in found.rows if (row.kind, row.metric) == ("hand", "phi_cct")] == [
        "word", "lemma", "substring",
    ]  # fmt: skip
    assert {row.kind for row in found.rows if row.judge is not None} == {"cue_user"}
    assert {row.mention for row in found.headline.rows} == {"word", "phrases", None}
