"""A label or an explanation is read alone, as the cases say, where the two are asked for in two calls."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from explaineval.parsing import Label, label_probabilities, parse, parse_explanation, parse_label
from explaineval.records import Answer, Completion, LabelProbabilities, TokenAlternatives, Unreadable

FOLDER = Path(__file__).parent / "cases"
LABELS = json.loads((FOLDER / "labels_only.json").read_text(encoding="utf-8"))
EXPLANATIONS = json.loads((FOLDER / "explanations_only.json").read_text(encoding="utf-8"))
NLI = {"A": "entailment", "B": "neutral", "C": "contradiction"}
STYLES = st.sampled_from(["chat", "completion"])
PIECES = [
    "Answer:", "Explanation:", "A", "B", "C", "D", " ", "\n", "neutral", "he waits", "**", "```\n", "Premise:",
    '{"answer": "B", ', '"explanation": "x"}', "<think>", "</think>", "The answer is ", ". ", "<p>", "</p>", '"',
    "\u200b",
]  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=15).map("".join))


@pytest.mark.parametrize("case", LABELS, ids=[case["name"] for case in LABELS])
def test_label(case: dict[str, Any]) -> None:
    """Each case of the data file has the label that it says, or the reason why there is none."""
    result = parse_label(case["text"], case["options"], case["style"])

    if "unparsed" in case:
        assert isinstance(result, Unreadable), result
        assert result.status == "unparsed"
        assert case["unparsed"] in result.reason
    else:
        assert isinstance(result, Label), result
        assert case["label"] == result.label


@pytest.mark.parametrize("case", EXPLANATIONS, ids=[case["name"] for case in EXPLANATIONS])
def test_explanation(case: dict[str, Any]) -> None:
    """Each case of the data file has the explanation that it says, or the reason why there is none."""
    result = parse_explanation(case["text"], case["given"], case["options"], case["style"])

    if "unparsed" in case:
        assert isinstance(result, Unreadable), result
        assert result.status == "unparsed"
        assert case["unparsed"] in result.reason
    else:
        assert case["explanation"] == result


@pytest.mark.parametrize("cases", [LABELS, EXPLANATIONS])
def test_case_names_are_unique_and_of_both_kinds(cases: list[dict[str, Any]]) -> None:
    """Each data file holds many cases under different names, a quarter of them unreadable."""
    assert len({case["name"] for case in cases}) == len(cases) >= 45
    assert 4 * sum("unparsed" in case for case in cases) >= len(cases)


@settings(max_examples=3 * settings().max_examples)
@given(text=TEXTS, style=STYLES)
def test_a_label_is_the_one_of_the_whole_answer(text: str, style: Any) -> None:
    """Wherever both lines can be read the label alone is the same, at the same place."""
    both = parse(text, NLI, "pe", style)
    alone = parse_label(text, NLI, style)

    if isinstance(both, Answer):
        assert alone == Label(both.label, both.label_offset)
    elif "explanation" not in both.reason:
        assert alone == both


@settings(max_examples=3 * settings().max_examples)
@given(text=TEXTS, style=STYLES)
def test_any_text_has_an_explanation_or_a_reason(text: str, style: Any) -> None:
    """Nothing is raised, and an explanation is never blank."""
    result = parse_explanation(text, "B", NLI, style)

    if isinstance(result, Unreadable):
        assert result.status == "unparsed"
        assert result.reason
    else:
        assert result == result.strip() != ""


@given(given_label=st.sampled_from("ABC"), written=st.sampled_from("ABC"), style=STYLES)
def test_only_the_given_answer_may_be_repeated(given_label: str, written: str, style: Any) -> None:
    """An explanation with an answer line can be read just if the line repeats the answer that was given."""
    before = parse_explanation(f"\nAnswer: {written}\nExplanation: He waits.", given_label, NLI, style)
    after = parse_explanation(f" He waits.\nAnswer: {written}", given_label, NLI, style)

    assert (given_label == written) == (before == "He waits.") == (after == "He waits.")


TWO_LETTERS = re.compile(r"\n[ -]*(?:A C\)|C\) A [“-])[^\n]*\Z")
"""A last line that begins with two letters, neither of them the article of a word."""


@given(
    words=st.lists(st.sampled_from(["a man", "waits", "B-side", "A", "“no”", "C)", "é", "\n", "- "]), min_size=1),
    marker=st.sampled_from(["", "Explanation: ", "**Explanation:** ", "## Explanation\n"]),
    style=STYLES,
)
@example(words=["\n", "A", "C)"], marker="", style="chat")
@example(words=["\n", "- ", "A", "C)"], marker="Explanation: ", style="chat")
@example(words=["\n", "C)", "A", "“no”"], marker="", style="chat")
@example(words=["\n", "A", "C)"], marker="", style="completion")
def test_an_explanation_without_answers_comes_back(words: list[str], marker: str, style: Any) -> None:
    """With its marker or without it, the text is the explanation, whatever letters are in it.

    Only a last line that begins with two letters ("A C) …") looks in chat style like two answers, and is unparsed.
    """
    explanation = f"He {' '.join(words)} so."
    result = parse_explanation(marker + explanation, "B", NLI, style)

    if style == "chat" and TWO_LETTERS.search(explanation):
        assert isinstance(result, Unreadable)
        assert result.reason in {"two different answers: A and C", "two different answers: C and A"}
    else:
        assert explanation == result


def test_named_fields_begin_the_next_example() -> None:
    """A line with a field of the task ends a completion in both calls."""
    label = parse_label(" B\nReview text: Bad.\nAnswer: C", NLI, "completion", fields=["review_text"])
    explanation = parse_explanation(" Fine.\nReview text: Bad.", "B", NLI, "completion", fields=["review_text"])

    assert label == Label("B", 1)
    assert explanation == "Fine."


@pytest.mark.parametrize(
    "text",
    [
        "Answer: B", "I think the answer is B.", "Based on the premise, the correct answer would be B: neutral.",
        " B - it may be.", "So it is $\\boxed{ B}$", "Answer: Option B<|im_end|>",
    ],
)  # fmt: skip
def test_probabilities_are_read_at_a_label(text: str) -> None:
    """A label read alone has its place, which is all that its probabilities need, wherever it stands."""
    label = parse_label(text, NLI, "chat")
    assert isinstance(label, Label)
    alternatives = TokenAlternatives.model_validate(
        {"offset": text.index(" B"), "token": " B", "top": [(" B", -0.5), (" A", -1.5)]}
    )

    result = label_probabilities(Completion(text=text, logprobs=(alternatives,)), label, "ABC")

    assert isinstance(result, LabelProbabilities)
    assert result.probs["B"] > result.probs["A"] > result.probs["C"] == 0
