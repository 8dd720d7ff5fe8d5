"""`plan --half-width`: the number of examples at expected rates and those of a pilot, printed and as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from explaineval.metrics.precision import expect, pilot, population, share_reached
from explaineval.rundir.directory import read_trials
from makers.command_line import Call
from servers import json_page

COLUMNS = 400

ASK = ("--task", "sense", "--limit", "20", "--model", "simulated/no-logprobs")


def test_expected_rates_give_a_number_of_examples(call: Call) -> None:
    """With the one number half of such runs get there, with the other nine of ten; the task has more than the plan."""
    rates = ("--expect", "p=0.2, tpr=0.7,icc=0")
    code, out, err = call("plan", *ASK, "--half-width", "0.05", *rates, "--per-example", "3")
    document = json.loads(call("plan", *ASK, "--half-width", "0.05", *rates, "--per-example", "3", "--json")[1])

    expected = expect(0.2, 0.7, 0.2, 0.0, 3)
    assert (code, err) == (0, "")
    (one,) = document["precision"]
    half, most = one["examples"], one["examples_nine_in_ten"]
    runs = population(0.2, 0.7, 0.2, 0.0, 3)
    assert share_reached(runs, half, 0.05, seed=1) == pytest.approx(0.5, abs=0.06)
    assert share_reached(runs, most, 0.05, seed=1) == pytest.approx(0.9, abs=0.04)
    assert f"{half} examples with 3 interventions each reach it in half of such runs, {most} in nine of ten." in out
    assert f"This plan has 20, which give about ± {one['available_half_width']:.2g}; the task has 72, too few." in out
    assert "phi-CCT ± 0.05, as expected:" in out
    assert (one["in_task"], one["phi"], one["task"], one["kind"]) == (72, expected.phi, "sense", "handwritten")
    assert (one["p"], one["tpr"], one["fpr"], one["icc"]) == (0.2, 0.7, 0.2, 0.0)
    assert one["available_half_width"] == expected.half_width(20)
    assert json_page.check("plan", document) >= {"precision[].examples", "precision[].undefined"}


def test_a_pilot_gives_its_rates(call: Call) -> None:
    """Of each of its conditions, from its examples; with other interventions an example, from its rates."""
    assert call("run", *ASK, "--out", "first")[0] == 0
    found = {}
    for per_example in ("5", "4", "2"):
        arguments = ("--half-width", "0.1", "--pilot", "first", "--per-example", per_example, "--json")
        (found[per_example],) = json.loads(call("plan", *ASK, *arguments)[1])["precision"]

    tables: dict[str, list[int]] = {}
    for trial in read_trials(Path("first")):
        if trial.kind == "handwritten" and trial.status == "ok":
            table = tables.setdefault(trial.example_id, [0, 0, 0, 0])
            table[(0 if trial.changed else 2) + (0 if trial.mentioned else 1)] += 1
    seen = pilot(list(tables.values()))
    assert found["4"]["examples"] == pytest.approx(seen.examples_needed(0.1), rel=0.3)
    assert found["4"]["examples"] < (found["4"]["examples_nine_in_ten"] or math.inf)
    assert (found["4"]["model"], found["4"]["phi"]) == ("simulated/no-logprobs", pytest.approx(seen.phi))
    rates = [found["2"][name] for name in ("p", "tpr", "fpr", "icc")]
    assert found["2"]["examples"] == pytest.approx(expect(*rates, 2).examples_needed(0.1), rel=0.3)
    assert "as in first:" in call("plan", *ASK, "--half-width", "0.1", "--pilot", "first")[1]


def test_rates_of_few_trials_are_told_as_their_number(call: Call, tmp_path: Path) -> None:
    """A TPR of 4 changed answers is no "TPR 0.75"; rates of ten and more trials, and expected ones, stay numbers."""
    (tmp_path / "laws.yaml").write_text("rare: {impact: 0.1, tpr: 0.7}\n", encoding="utf-8")
    assert call("run", *ASK[:2], "--limit", "9", "--model", "simulated/laws.yaml#rare", "--out", "first")[0] == 0
    trials = [trial for trial in read_trials(Path("first")) if trial.kind == "handwritten"]
    changed = [trial for trial in trials if trial.changed]
    named = sum(bool(trial.mentioned) for trial in changed)

    _, out, _ = call("plan", *ASK, "--half-width", "0.1", "--pilot", "first")

    assert 0 < named <= len(changed) < 10 < len(trials)
    assert f" TPR {named} of {len(changed)}, FPR 0." in out
    assert " TPR 0.6, FPR 0.2," in call("plan", *ASK, "--half-width", "0.1")[1]


def test_a_pilot_without_phi_says_so(call: Call) -> None:
    """Two examples of a silent model: nothing is mentioned, so no number can be given, and why."""
    silent = ("--task", "sense", "--limit", "2", "--model", "simulated/silent")
    assert call("run", *silent, "--out", "first")[0] == 0
    _, out, _ = call("plan", *silent, "--half-width", "0.1", "--pilot", "first")
    (one,) = json.loads(call("plan", *silent, "--half-width", "0.1", "--pilot", "first", "--json")[1])["precision"]

    assert one["examples"] is None
    assert "phi-CCT of the pilot is undefined: no " in one["undefined"]
    assert f"unknown, since {one['undefined']}." in out


def test_a_pilot_of_another_task_is_refused(call: Call) -> None:
    """The sentence names what is planned."""
    assert call("run", "--task", "nli", "--limit", "2", "--model", "simulated/faithful", "--out", "first")[0] == 0

    code, _, err = call("plan", *ASK, "--half-width", "0.1", "--pilot", "first")

    assert code == 2
    assert "--pilot first: it has no scored trial of what is planned (sense with handwritten)." in err


def test_a_pilot_of_one_of_two_tasks_says_what_it_lacks(call: Call) -> None:
    """The task that the pilot has keeps its numbers; the other has an entry without numbers, and the reason."""
    assert call("run", *ASK, "--out", "first")[0] == 0
    both = (*ASK, "--task", "nli", "--half-width", "0.1", "--pilot", "first")

    found = json.loads(call("plan", *both, "--json")[1])["precision"]
    _, out, _ = call("plan", *both)

    assert [(one["task"], one["kind"]) for one in found] == [("sense", "handwritten"), ("nli", "handwritten")]
    assert found[0]["examples"] is not None
    missing = {name: found[1][name] for name in ("model", "p", "phi", "examples", "available_half_width")}
    assert missing == dict.fromkeys(missing)
    assert found[1]["undefined"] == "the pilot has no scored trial of it"
    assert found[1]["available"] == 20
    assert "  nli with handwritten: unknown, since the pilot has no scored trial of it." in out


def test_a_plan_that_may_stop_earlier_says_so(call: Call) -> None:
    """The costs are those of all examples."""
    code, _, err = call("plan", *ASK, "--until-half-width", "0.1")

    assert code == 0
    assert "these are the costs of all examples; --until-half-width may stop earlier" in err
