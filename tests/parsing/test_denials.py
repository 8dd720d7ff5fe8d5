"""An explanation that denies or replaces the answer it stands beside is left unread, in every style."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from explaineval.parsing import parse, parse_explanation
from explaineval.records import Answer, Unreadable

CASES = json.loads((Path(__file__).parent / "cases" / "denials.json").read_text(encoding="utf-8"))
NLI = {"A": "entailment", "B": "neutral", "C": "contradiction"}
FORMS = [
    ("chat", "Answer: {answer}\nExplanation: {explanation}"),
    ("completion", " {answer}\nExplanation: {explanation}"),
]


def _cases() -> list[Any]:
    return [pytest.param(case, id=f"{case['answer']}: {case['explanation']}") for case in CASES]


@pytest.mark.parametrize("case", _cases())
@pytest.mark.parametrize(("style", "form"), FORMS)
def test_beside_an_answer(case: dict[str, Any], style: Any, form: str) -> None:
    """`parse` reads the answer with its explanation, or neither, as the case says."""
    result = parse(form.format(**case), case["options"], "pe", style)

    if case["read"]:
        assert isinstance(result, Answer), result
        assert (case["answer"], case["explanation"]) == (result.label, result.explanation)
    else:
        assert isinstance(result, Unreadable), result


@pytest.mark.parametrize("case", _cases())
@pytest.mark.parametrize("style", ["chat", "completion"])
def test_of_a_given_answer(case: dict[str, Any], style: Any) -> None:
    """`parse_explanation` reads the explanation of a given answer, or leaves it unread, as the case says."""
    result = parse_explanation(case["explanation"], case["answer"], case["options"], style)

    if case["read"]:
        assert case["explanation"] == result
    else:
        assert isinstance(result, Unreadable), result


def test_cases_are_many() -> None:
    """At least 30 explanations that deny their answer and 30 that do not, no two alike."""
    kinds = [case["read"] for case in CASES]

    assert len({(case["explanation"], case["answer"], *case["options"].values()) for case in CASES}) == len(CASES)
    assert min(kinds.count(True), kinds.count(False)) >= 30


@pytest.mark.parametrize(
    "answer",
    [
        "~~A~~",
        "~~(A)~~",
        "**~~A~~**",
        "~~entailment~~",
        "~~A~~.",
        "~~A) entailment~~",
        "<del>A</del>",
        "~~A. neutral~~",
    ],
)
@pytest.mark.parametrize(("style", "form"), FORMS)
def test_a_struck_out_answer_is_none(answer: str, style: Any, form: str) -> None:
    """A label that is struck out is not read."""
    result = parse(form.format(answer=answer, explanation="He is walking."), NLI, "pe", style)

    assert isinstance(result, Unreadable), result


def test_a_struck_out_line_is_none() -> None:
    """An answer line or a value in JSON that is struck out is not read either."""
    for text in ("~~Answer: A~~\nExplanation: x y", '{"answer": "~~A~~", "explanation": "x y"}'):
        assert isinstance(parse(text, NLI, "pe", "chat"), Unreadable), text


def test_what_is_struck_out_elsewhere_leaves_the_answer() -> None:
    """Struck-out words in the explanation, and a fence of tildes, do not touch the answer."""
    for text in (
        "Answer: A\nExplanation: He is ~~running~~ walking.",
        "~~~\nAnswer: A\nExplanation: He is walking.\n~~~",
    ):
        result = parse(text, NLI, "pe", "chat")
        assert isinstance(result, Answer), text
        assert result.label == "A"
