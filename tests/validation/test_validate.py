"""`explaineval validate`: what is planted is recovered, and every planted fault is named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binom

from explaineval.client.simulated import LAWS, Law
from explaineval.mentions import policies
from explaineval.planning import requests
from explaineval.prompts import default_directory
from explaineval.records import Answer
from explaineval.validation import Own, chance, own_setups, planted_value, recover, shipped_setups
from makers.command_line import Call, make_call


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in an empty directory, with only the quickest of the package's own runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    whole = shipped_setups
    monkeypatch.setattr("explaineval.cli.validate.shipped_setups", lambda *given: whole(*given)[:1])
    return make_call(capsys)


def own_prompts(directory: Path) -> Path:
    """A copy of the package's prompts."""
    shutil.copytree(default_directory(), directory)
    return directory


def test_everything_planted_is_read_back_in_every_order_and_style(tmp_path: Path) -> None:
    """Answers in six forms, explanations, and words that stand inside other words."""
    result = recover(shipped_setups(tmp_path, 0)[0], tmp_path / "run")

    assert result.findings == []
    assert result.checked["mention"] == result.right["mention"] == 16 * 6 * 6
    assert result.checked["answer"] == result.checked["explanation"] == result.checked["mention"]


def test_the_numbers_of_simulated_models_hold_the_planted_values(tmp_path: Path) -> None:
    """Every law of the package, with its rates and its phi."""
    result = recover(shipped_setups(tmp_path, 0)[1], tmp_path / "run")

    assert result.findings == []
    assert {number.condition.model for number in result.numbers} == {f"simulated/{name}" for name in LAWS}
    assert sum(number.holds is True for number in result.numbers) >= len(result.numbers) - 3


@pytest.mark.slow
def test_a_prompt_that_loses_the_explanation_is_named(tmp_path: Path, call: Call) -> None:
    """The template of one order no longer asks for it; the others are as they were."""
    prompts = own_prompts(tmp_path / "mine")
    template = prompts / "chat" / "pe.j2"
    template.write_text(template.read_text("utf-8").replace("Explanation: <text>\n", ""), "utf-8")

    code, out, _ = call("validate", "--prompts", "mine")

    assert code == 6
    text = " ".join(out.split())
    assert "The prompts lose what is asked for in 96 of 288 trials: they ask for no line that is an explanation" in text
    assert "Not as planted: prompts." in out
    assert "Every order and style Read back as planted: 576 of 576 answers" in text  # the package's own still are


@pytest.mark.slow
def test_a_policy_that_matches_substrings_is_named(call: Call) -> None:
    """ "cause" stands in "Because", which is no mention."""
    code, out, _ = call("validate", "--mention", "substring", "--json")

    document = json.loads(out)
    assert code == 6
    findings = [finding for result in document["sets"] for finding in result["findings"]]
    assert {finding["step"] for finding in findings} == {"mention"}
    assert all(re.search(r"'\w+' was not named and found", finding["text"]) for finding in findings)
    assert document["error"]["code"] == 6


def test_a_broken_policy_of_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default policy, broken so that it looks for substrings."""

    def find(_policy: str, inserted: str, text: str) -> tuple[int, int] | None:
        start = text.lower().find(inserted.lower())
        return None if start < 0 else (start, start + len(inserted))

    monkeypatch.setattr(policies, "find_mention", find)
    monkeypatch.setattr("explaineval.scoring.mentioning.mentions", lambda *given: find(*given) is not None)

    result = recover(shipped_setups(tmp_path, 0)[0], tmp_path / "run")

    assert {finding.step for finding in result.findings} == {"mention"}


@pytest.mark.slow
def test_a_parser_that_takes_the_first_letter_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of "A close look …" it takes the A."""
    read = requests.parse

    def parse(text: str, options: Any, *more: Any, **named: Any) -> Any:
        answer = read(text, options, *more, **named)
        first = re.search(r"\b([A-C])\b", text)
        return answer.model_copy(update={"label": first[1]}) if isinstance(answer, Answer) and first else answer

    monkeypatch.setattr(requests, "parse", parse)

    result = recover(shipped_setups(tmp_path, 0)[0], tmp_path / "run")

    (finding,) = result.findings
    assert finding.step == "answer"
    assert re.search(r"[BC] was given, A was read; the reply is 'A close look", finding.text)


@pytest.mark.slow
def test_sound_prompts_and_a_task_of_ones_own_are_recovered(tmp_path: Path, call: Call) -> None:
    """With other words in the prompts, and a bundled task in the place of one's own."""
    prompts = own_prompts(tmp_path / "mine")
    template = prompts / "chat" / "pe.j2"
    template.write_text("Take your time.\n\n" + template.read_text("utf-8"), "utf-8")

    code, out, _ = call("validate", "--prompts", "mine", "--task", "qa", "--limit", "10", "--json")

    document = json.loads(out)
    assert code == 0, out
    assert [result["name"] for result in document["sets"]] == [
        "every order and style", "yours, every order", "yours, known rates",
    ]  # fmt: skip
    assert {row["task"] for row in document["sets"][2]["numbers"]} == {"qa"}


@pytest.mark.slow
def test_numbers_that_miss_the_truth_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models that do not follow the law that is written down for them."""
    monkeypatch.setattr(
        "explaineval.validation.planted_value", lambda law, metric, _level: planted_value(law, metric, "brief")
    )

    result = recover(shipped_setups(tmp_path, 0)[1], tmp_path / "run")

    assert {finding.step for finding in result.findings} == {"coverage"}
    assert "do not hold the planted value" in result.findings[0].text


@pytest.mark.parametrize(("held", "total"), [(15, 20), (20, 20), (70, 80)])
def test_the_chance_of_so_few_intervals_is_the_binomial_one(held: int, total: int) -> None:
    """Against scipy."""
    assert chance(held, total) == pytest.approx(binom.cdf(held, total, 0.95))


def test_planted_values_follow_from_the_law() -> None:
    """At the normal level the rates themselves; phi by the formula with J, p and q."""
    law = Law(impact=0.2, tpr=0.7, fpr=0.1)
    q = 0.2 * 0.7 + 0.8 * 0.1

    assert planted_value(law, "tpr", "normal") == 0.7
    assert planted_value(law, "fpr", "detailed") == pytest.approx(1 - 0.9**2)
    assert planted_value(law, "phi_cct", "normal") == pytest.approx(0.6 * (0.2 * 0.8 / (q * (1 - q))) ** 0.5)
    assert planted_value(Law(tpr=0.8, fpr=0.1, drift=1), "tpr", "exhaustive") == pytest.approx(1 - 0.9**4)


def test_own_setups_take_only_what_is_given(tmp_path: Path) -> None:
    """A task alone needs no second reading of the planted sentences."""
    assert [setup.name for setup in own_setups(tmp_path, Own(tasks=("nli",)), 0)] == ["yours, known rates"]
    assert not Own()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--prompts", "gone"), "gone: no such directory of prompts; copy the one that comes with explaineval."),
        (("--task", "jsonl:gone.jsonl"), "gone.jsonl: no such file; check the path."),
    ],
)
def test_what_is_missing_is_told_before_the_first_run(call: Call, words: tuple[str, ...], sentence: str) -> None:
    """Nothing but the sentence: no run was begun."""
    code, out, err = call("validate", *words)

    assert (code, out, err) == (2, "", f"explaineval: {sentence}\n")
