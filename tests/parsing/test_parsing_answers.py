"""Texts of completions are read as the cases say, and never guessed."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explaineval.datasets import read_task
from explaineval.parsing import parse
from explaineval.parsing.letters import LETTER_SIGNS
from explaineval.records import Answer, Unreadable

THEMES = (
    "lines", "wild", "thinking", "scripts", "conflicts", "options", "parts", "completion", "contradictions", "plain",
    "turns",
)  # fmt: skip
CASES = [
    case
    for theme in THEMES
    for case in json.loads((Path(__file__).parent / "cases" / f"{theme}.json").read_text(encoding="utf-8"))
]
NLI = {"A": "entailment", "B": "neutral", "C": "contradiction"}
FIVE = {"A": "car park", "B": "bank", "C": "library", "D": "department store", "E": "mall"}
FORMS = {
    ("chat", "pe"): "Answer: {letter}\nExplanation: {explanation}",
    ("chat", "ep"): "Explanation: {explanation}\nAnswer: {letter}",
    ("completion", "pe"): " {letter}\nExplanation: {explanation}",
    ("completion", "ep"): " {explanation}\nAnswer: {letter}",
}
NUMBERS = {"A": ("1", "one", "first"), "B": ("2", "two", "second"), "C": ("3", "three", "third")}
RESERVED = (
    "answer", "antwort", "réponse", "respuesta", "risposta", "resposta", "antwoord", "odpowiedź", "ответ", "答", "回答",
    "expl", "erkl", "begr", "spieg", "uitleg", "wyja", "объяс", "解", "説", "说", "理由", "reason", "rationale",
    "justification", "premise", "hypothesis", "question", "sentence", "option", "choice", "passage", "instruction",
    "think", "thought", "analysis", "scratch", "reflection", "channel", "```", "---", "***", "___", "{",
    "~~~", "<", "label",
)  # fmt: skip


def _cases() -> list[Any]:
    return [
        pytest.param(case, id=case["name"], marks=pytest.mark.xfail(reason=case["xfail"], strict=True))
        if "xfail" in case
        else pytest.param(case, id=case["name"])
        for case in CASES
    ]


@pytest.mark.parametrize("case", _cases())
def test_case(case: dict[str, Any]) -> None:
    """Each case of the data file is read, or left unread, as it says."""
    result = parse(case["text"], case["options"], case["order"], case["style"])

    if "unparsed" in case:
        assert isinstance(result, Unreadable), result
        assert result.status == "unparsed"
        assert case["unparsed"] in result.reason
    else:
        assert isinstance(result, Answer), result
        assert (case["label"], case["explanation"]) == (result.label, result.explanation)
        assert _points_at_label(case["text"], result, case["options"])


def test_case_names_are_unique_and_many() -> None:
    """The data files hold at least 500 cases under different names, all keys known, few known failures."""
    keys = {key for case in CASES for key in case}

    assert len({case["name"] for case in CASES}) == len(CASES) >= 500
    assert keys == {
        "name", "style", "order", "options", "text", "label", "explanation", "unparsed", "xfail",
    }  # fmt: skip
    assert sum("xfail" in case for case in CASES) <= 8
    assert {("chat", "pe"), ("chat", "ep"), ("completion", "pe"), ("completion", "ep")} == {
        (case["style"], case["order"]) for case in CASES
    }


@pytest.mark.parametrize("task", ["nli", "qa", "sense"])
@pytest.mark.parametrize(
    ("style", "order", "form"),
    [
        *((style, order, form) for (style, order), form in FORMS.items()),
        ("chat", "ep", "{explanation}\nAnswer: {letter}"), ("chat", "pe", "{letter}. {explanation}"),
        ("chat", "pe", "I think the answer is {letter}. {explanation}"),
    ],
)  # fmt: skip
def test_what_people_write_is_no_contradiction(task: str, style: Any, order: Any, form: str) -> None:
    """The explanations that people wrote for the bundled tasks come back whole under their own label."""
    for example in read_task(task, None, task):
        assert example.explanation
        text = form.format(letter=example.gold, explanation=example.explanation)
        result = parse(text, example.options, order, style)
        assert isinstance(result, Answer), (text, result)
        assert (result.label, result.explanation) == (example.gold, example.explanation)


def test_named_fields_begin_the_next_example() -> None:
    """A line with a field of the task ends a completion, also a field that other tasks do not have."""
    text = " B\nExplanation: Fine.\nReview text: Bad."

    plain = parse(text, NLI, "pe", "completion")
    named = parse(text, NLI, "pe", "completion", fields=["review_text"])

    assert isinstance(plain, Answer)
    assert isinstance(named, Answer)
    assert (plain.explanation, named.explanation) == ("Fine.\nReview text: Bad.", "Fine.")


def _explanations() -> st.SearchStrategy[str]:
    words = st.sampled_from(
        ["A", "man", "B", "C)", "because", "neutral", "**bold**", "\n", "\n\n", "- ", "“no”", "é", "🎉"]
    )
    text = st.one_of(st.text(min_size=1, max_size=60), st.lists(words, min_size=1, max_size=12).map(" ".join))
    return text.map(str.strip).filter(_is_plain)


def _is_plain(text: str) -> bool:
    """True if the text says something, shows both its ends, neither begins nor ends with a label, holds no marker.

    An explanation whose first word or last line is only a letter is left out on purpose: by the rules, that letter may
    be another answer, so that such a text need not come back as it was.
    """
    if not any(unicodedata.category(sign)[0] in "LN" or unicodedata.category(sign) == "So" for sign in text):
        return False
    if "Cf" in {unicodedata.category(text[0]), unicodedata.category(text[-1])}:
        return False
    folded = unicodedata.normalize("NFKC", text.translate(LETTER_SIGNS)).casefold()
    if re.match(r"[\W_]*(?:[a-z](?![^\W_])|neutral)", folded):
        return False
    if re.search(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029][\W_]*[a-z][\W_]*\Z", folded):
        return False
    return not any(word in folded or word in text.casefold() for word in RESERVED)


@given(
    letter=st.sampled_from("ABCDE"),
    explanation=_explanations(),
    form=st.sampled_from(sorted(FORMS)),
)
def test_well_formed_answers_are_read_back_exactly(letter: str, explanation: str, form: tuple[Any, Any]) -> None:
    """Any letter and any explanation without markers come back as they were, in all styles and orders."""
    style, order = form
    text = FORMS[form].format(letter=letter, explanation=explanation)

    result = parse(text, FIVE, order, style)

    assert isinstance(result, Answer), result
    assert (letter, explanation) == (result.label, result.explanation)
    assert letter == text[result.label_offset]


@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n", "\u2028"])
def test_a_letter_on_the_last_line_is_a_second_answer(line_end: str) -> None:
    """Every kind of line end begins a line: a letter alone on the last line of an explanation repeats the answer."""
    same = parse(f"Answer: B\nExplanation: 0{line_end}B", FIVE, "pe", "chat")
    other = parse(f"Answer: A\nExplanation: 0{line_end}B", FIVE, "pe", "chat")

    assert isinstance(same, Answer)
    assert same.label == "B"
    assert other == Unreadable(status="unparsed", reason="two different answers: A and B")


PIECES = [
    "Answer:", "answer", "Explanation:", "A", "B", "C", "F", "a man", "neutral", "entailment", "\n", "\n\n",
    "**", "```", "```json\n", "{", '{"answer": "', '"}', "<think>", "</think>", "(", ")", ".", ":", " or ",
    "/", "The answer is ", "Premise:", "- ", "# ", "1. ", " ", "because", "I choose ", "，", "́", "\\boxed{",
    "\x00", "\ud800", "<b>", "</b>", "<br>", "<answer>", "</answer>", "\u200b", "\r", "\u2028", "Answer - ",
    "[Answer] ", "Wait, the answer is B.", '"', "<text>", "<letter>",
]  # fmt: skip


@settings(max_examples=4 * settings().max_examples)
@given(
    text=st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=25).map("".join)),
    order=st.sampled_from(["pe", "ep"]),
    style=st.sampled_from(["chat", "completion"]),
)
def test_any_text_is_read_or_left_unread(text: str, order: Any, style: Any) -> None:
    """Nothing is raised; a label is an option, its offset points at it, and an explanation is never blank."""
    result = parse(text, NLI, order, style)

    if isinstance(result, Unreadable):
        assert result.status == "unparsed"
        assert result.reason
    else:
        assert result.label in NLI
        assert result.explanation == result.explanation.strip() != ""
        assert _points_at_label(text, result, NLI)


@given(
    first=st.sampled_from("ABC"),
    second=st.sampled_from("ABC"),
    joined=st.sampled_from([" or ", "/", ", ", " & ", " and "]),
)
def test_two_letters_are_one_answer_only_if_equal(first: str, second: str, joined: str) -> None:
    """Two letters side by side are unreadable unless a line repeats the same letter."""
    side_by_side = parse(f"Answer: {first}{joined}{second}\nExplanation: x", NLI, "pe", "chat")
    repeated = parse(f"Answer: {first}\nExplanation: x\nAnswer: {second}", NLI, "pe", "chat")

    assert first == second or isinstance(side_by_side, Unreadable)
    assert (first == second) == isinstance(repeated, Answer)


def _points_at_label(text: str, answer: Answer, options: dict[str, str]) -> bool:
    """True if at the offset stands the letter in some form, or the option's number or text in any form."""
    shown = text[answer.label_offset :].translate(LETTER_SIGNS)
    bare = "".join(sign for sign in shown if not unicodedata.combining(sign))
    if unicodedata.normalize("NFKC", shown[:1]).upper() == answer.label:
        return True
    option = _plain(options[answer.label]).rstrip(".")
    texts = [option, re.sub(r"^(?:an?|the|to) ", "", option)]
    starts = (*texts, *NUMBERS.get(answer.label, ()))
    return _plain(shown).startswith(starts) or _plain(bare).startswith(starts)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text.replace("’", "'")).split()).casefold()
