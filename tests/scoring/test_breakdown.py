"""Breakdowns: the parts of a run's trials have the numbers of their trials, and planted differences are found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.multitest import multipletests

from explaineval.metrics.estimates import Interval
from explaineval.records import Trial
from explaineval.reporting.breakdown_text import warnings_of
from explaineval.rundir.directory import INTERVENTIONS
from explaineval.scoring.breakdown import TESTED, Breakdown, break_down, compare_parts, find_letters
from explaineval.scoring.registry import FPR, IMPACT_RATE, PHI_AT_P, PHI_CCT, TPR
from makers.runs import make_run, make_trial
from servers import json_page

EXAMPLES, WORDS = 100, 6
COLUMNS = 100
TPR_OF = {"ADJ": 0.8, "ADV": 0.3}


def write_planted(directory: Path) -> Path:
    """A run whose explanations name adjectives that changed the answer much more often than adverbs."""
    trials, draw = [], Random(7)
    for example in range(EXAMPLES):
        for number in range(WORDS):
            changed = draw.random() < 0.3
            mentioned = draw.random() < (TPR_OF["ADJ" if number % 2 else "ADV"] if changed else 0.1)
            before, other = "AB" if example % 2 else "BA"
            answers = {"label_before": before, "label_after": other if changed else before}
            trials.append(make_trial(example, number, changed=changed, mentioned=mentioned, **answers))
    run = make_run(directory, trials, EXAMPLES, shams=0)
    path = run / INTERVENTIONS
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["pos"] = "ADJ" if int(line["id"].partition(".")[2]) % 2 else "ADV"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted run."""
    return write_planted(tmp_path_factory.mktemp("planted") / "run")


def by_name(found: list[Breakdown]) -> dict[str, Breakdown]:
    """The breakdowns of a run with one condition."""
    return {one.by: one for one in found}


def trials_of(run: Path) -> list[Trial]:
    """The trials as they stand in the file."""
    return [Trial.model_validate_json(line) for line in (run / "trials.jsonl").read_text("utf-8").splitlines()]


def test_the_parts_have_the_numbers_of_their_trials(planted: Path) -> None:
    """phi is numpy's correlation over the trials of the part alone, rates are shares of them."""
    parts = {part.name: part for part in by_name(break_down(planted))["pos"].parts}

    assert list(parts) == ["adjective", "adverb"]
    for name, odd in (("adjective", 1), ("adverb", 0)):
        own = [trial for trial in trials_of(planted) if int(str(trial.intervention_id).partition(".")[2]) % 2 == odd]
        pairs = np.array([(bool(trial.changed), bool(trial.mentioned)) for trial in own], dtype=float)
        flips = pairs[pairs[:, 0] == 1]
        assert parts[name].numbers[PHI_CCT].value == pytest.approx(np.corrcoef(pairs.T)[0, 1])
        assert parts[name].numbers[TPR].value == pytest.approx(flips[:, 1].mean())
        assert parts[name].numbers[IMPACT_RATE].value == pytest.approx(pairs[:, 0].mean())
        assert (parts[name].mentioned_flips, parts[name].unmentioned_flips) == (
            flips[:, 1].sum(),
            len(flips) - flips[:, 1].sum(),
        )


def test_a_planted_difference_is_found_and_no_other(planted: Path) -> None:
    """TPR and phi at the common rate differ between parts of speech; FPR does not, nor anything in other parts."""
    found = break_down(planted)
    significant = {(one.by, test.metric) for one in found for test in one.tests if test.significant}

    assert significant == {("pos", TPR), ("pos", PHI_AT_P)}


def test_what_the_run_lacks_is_said(planted: Path) -> None:
    """One field, one place, one word: one part, or the reason why there is none."""
    found = by_name(break_down(planted))

    assert [part.name for part in found["field"].parts] == ["note"]
    assert found["kind"].undefined == "there is one kind of intervention: hand"
    assert [part.name for part in found["answer"].parts] == ["A", "B"]


def test_the_tests_are_adjusted_over_the_whole_set_whatever_is_shown(planted: Path) -> None:
    """Holm's p-values are statsmodels' over all tests of the run."""
    tests = [test for one in break_down(planted) for test in one.tests if test.p is not None]
    (shown,) = break_down(planted, ["pos"])

    expected = multipletests([test.p for test in tests], method="holm")[1]
    assert [test.p_adjusted for test in tests] == pytest.approx(list(expected))
    assert {test.p_adjusted for test in shown.tests} <= {test.p_adjusted for test in tests}


def test_the_difference_in_tpr_agrees_with_a_clustered_regression() -> None:
    """The interval of a difference in TPR is that of statsmodels' linear model with errors clustered by example."""
    generator = np.random.default_rng(3)
    tables = np.zeros((2, 200, 4), dtype=np.int64)
    tables[:, :, 0] = generator.binomial(3, [[0.6], [0.4]], (2, 200))
    tables[:, :, 1] = 3 - tables[:, :, 0]
    tables[:, :, 3] = 3
    rows = [
        (part, example, cell == 0)
        for part, example, cell in np.ndindex(2, 200, 2)
        for _ in range(tables[part, example, cell])
    ]
    part, example, named = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    fit = sm.OLS(named, sm.add_constant(1 - part)).fit(cov_type="cluster", cov_kwds={"groups": example.astype(int)})
    (test,) = [one for one in compare_parts(["one", "two"], tables, Interval()).tests if one.metric == TPR]

    assert test.difference == pytest.approx(fit.params[1])
    assert test.high - test.low == pytest.approx(2 * 1.96 * fit.bse[1], rel=0.02)


def test_a_part_with_few_flips_is_shown_and_not_tested() -> None:
    """Under 8 mentioned or 8 unmentioned changed answers: limits, but no test."""
    tables = np.tile(np.array([[1, 1, 1, 3]]), (3, 30, 1))
    tables[2, 7:, 0] = 0
    found = compare_parts(["one", "two", "few"], tables, Interval())

    assert [part.untested is None for part in found.parts] == [True, True, False]
    assert found.parts[2].numbers[FPR].low is not None
    assert all("few" not in (test.first, test.second) for test in found.tests)
    warnings = list(warnings_of([replace(found, by="pos")]))
    assert {warning["metric"] for warning in warnings} == set(TESTED)
    assert "few: only 7 mentioned changes of the answer; 8 are needed" in warnings[0]["text"]


def test_impact_alone_makes_no_difference_in_what_is_tested() -> None:
    """Where only the impact rate differs, phi does, but TPR, FPR and phi at the pooled rate do not."""
    generator = np.random.default_rng(5)
    tables = np.zeros((2, 200, 4), dtype=np.int64)
    for part, rate in enumerate((0.05, 0.5)):
        for _ in range(3):
            changed = generator.random(200) < rate
            named = generator.random(200) < np.where(changed, 0.6, 0.2)
            tables[part, np.arange(200), 2 * (1 - changed) + (1 - named)] += 1
    found = compare_parts(["rare", "frequent"], tables, Interval())
    rare, frequent = (part.numbers[PHI_CCT] for part in found.parts)

    assert frequent.value - rare.value > 0.15
    assert all(test.p > 0.05 for test in found.tests)


def test_the_command_prints_a_table_and_one_document(planted: Path, call: Callable[..., Any]) -> None:
    """The table says what differs; the document has the schema, the parts, the tests and the warnings."""
    code, out, _ = call("breakdown", str(planted), "--by", "pos")
    assert code == 0
    assert "They differ in named if changed: adjective − adverb +0.4" in out

    code, out, _ = call("breakdown", str(planted), "--by", "answer", "--json")
    document = json.loads(out)
    assert (code, document["schema"]) == (0, 2)
    (found,) = document["breakdowns"]
    assert json_page.documented()["breakdown"].keys() - json_page.check("breakdown", document) == set()
    assert sum(letter["share"]["value"] for letter in found["letters"]) == pytest.approx(1)
    assert [part["part"] for part in found["parts"]] == ["A", "B"]


def test_changed_answers_that_go_to_one_letter_are_found() -> None:
    """Of two planted worlds the one whose changed answers go to A is found; the one by base rates is not."""
    generator = np.random.default_rng(1)
    base = np.eye(3, dtype=np.int64)[generator.integers(0, 3, 200)] * 6
    even, towards = np.zeros_like(base), np.zeros_like(base)
    for example, before in enumerate(base.argmax(axis=1)):
        others = [letter for letter in range(3) if letter != before]
        even[example, generator.choice(others)] += 1
        towards[example, others[0]] += 1

    assert all(letter.difference.p > 0.05 for letter in find_letters("ABC", base, even))
    assert [letter.difference.p < 0.01 for letter in find_letters("ABC", base, towards)] == [True, False, True]


def test_the_expected_flips_follow_the_base_rates_of_the_other_letters() -> None:
    """With base rates .5, .3 and .2, A gets .3·.5/.7 + .2·.5/.8 of the changed answers."""
    base, flips = np.tile([5, 3, 2], (10, 1)), np.tile([1, 0, 0], (10, 1))
    letters = find_letters("ABC", base, flips)

    assert letters[0].expected == pytest.approx(0.3 * 0.5 / 0.7 + 0.2 * 0.5 / 0.8)
    assert sum(letter.expected or 0 for letter in letters) == pytest.approx(1)


def test_phi_among_explanations_of_one_answer_is_that_of_centred_columns(planted: Path) -> None:
    """It is the correlation of changes and mentions after each answer's own means are taken away."""
    found = by_name(break_down(planted))["answer"]
    trials = trials_of(planted)
    columns = np.array([(bool(trial.changed), bool(trial.mentioned)) for trial in trials], dtype=float)
    letters = np.array([trial.label_after for trial in trials])
    for letter in "AB":
        columns[letters == letter] -= columns[letters == letter].mean(axis=0)

    assert found.strata is not None
    assert found.strata.value == pytest.approx(np.corrcoef(columns.T)[0, 1])
