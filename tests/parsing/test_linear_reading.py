"""Reading takes steps in proportion to the length of the text, and no pattern can backtrack over all of it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from functools import partial
from re import _constants as constants
from re import _parser as parser
from typing import Any

import pytest

import explaineval.parsing
from explaineval.parsing import parse, parse_explanation
from explaineval.parsing.layout import _field_pattern
from explaineval.parsing.letters import (
    _letter_pattern,
    _letter_tail,
    _name_texts,
    _number_pattern,
    _numbered_pattern,
    _text_pattern,
)
from explaineval.parsing.prompt_text import _following, heading_pattern
from makers.steps import count_steps

NLI = {"A": "entailment", "B": "neutral", "C": "contradiction"}
SENSE = {"A": "Sentence 1", "B": "Sentence 2"}
SHORT, TIMES = 1_500, 4
UNITS = [
    "Answer: B\n", "Answer: ", "Answer:\n", "The answer is B. ", "I choose ", "*", "**Answer", "* * ", "_" * 3,
    "```\n", '{"answer": ', "{\"a\":", "[", "<think>", "</think>", "<think>x</think>", " ", "\n", "\t\n", "A or ",
    "B) ", "Explanation: ", "Explanation:\n", "1. ", "# ", "the ", "so, the ", "a man ", "final final ", "\\boxed{",
    "(" * 9, "Premise:\n", "Option B is correct. ", "neutral, ", "é", "\u0301", "<b>", "</b>", "<b>x</b>", "<br>",
    "<answer>", "<answer>B</answer>", "<", "<a ", "\u200b", "\r", '"', "Answer - ", "[Answer] ", "no, ",
    "wait ", "so, so, ", "A: 1, ", "\\(", "Answer: B ", "Answer\n", "<|im_end|>", '"<|im_end|>"', "<s>", "</s>",
    "[INST]", "<|im_start|>user ", "\nUser: x", "### Human:\n", "the correct answer is ", "the answer that is ",
    "so B ",
    "B or ", "one might say the answer is C ", "the hypothesis is entailed ", "the premise contradicts the ", "it is ",
    "Sentence 1 ", "I made a mistake. ", "change my answer to ", "most likely ", "b) ", "\u20e3", "🇧", "✅ ",
    "say that ",
    "according to the ", "B is the most ", "Sentence 2 makes no sense. ", "the hypothesis is entailed. ",
    "B is wrong. ", "B is not the right answer ", "B and C are wrong ", "I disagree with B. ", "neither B nor C ",
    "~~B~~ ",
    "Premise: ", "Premise: x Hypothesis: y ", "\nPremise: x\nHypothesis: y", "A: 1 B: 2 ",
    "\nA) entailment\nB) neutral",
    "\nneutral: x\nentailment: y", "<text> says ", "<letter>", "is one of A, B",
    '{"answer": "B"}\n', '{"a": {', "{'answer': 'B ",
    "one of these two sentences ", "\n1. ", "So B it is. ", "It's B that ",
    "~~", "B is what I'd go with. ", "not B ", "I gave the wrong answer. ",
    "Sentence 1 is perfectly ", "Both sentences are quite ", "nothing wrong with Sentence 2 ",
    "| Answer | Explanation |\n|---|---|\n| B | x |\n", "|-", "| B ", '\n{"answer": "B', "</reasoning> <answer>",
    "The answer is Sentence 2: ", "<text> is ",
]  # fmt: skip


@pytest.mark.sampled(16)
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("style", "order"), [("chat", "pe"), ("completion", "ep")])
def test_steps_grow_with_the_text(unit: str, style: Any, order: Any) -> None:
    """A text four times as long takes at most about four times as many steps, whatever is repeated in it."""
    options = SENSE if "Sentence" in unit else NLI
    for head in ("Answer: B\nExplanation: ", ""):
        texts = [head + unit * (length // len(unit)) for length in (SHORT, TIMES * SHORT)]
        few, many = (count_steps(partial(parse, text, options, order, style)) for text in texts)
        assert many <= 1.4 * TIMES * few + 1000, head
    few, many = (count_steps(partial(parse_explanation, text, "B", options, style)) for text in texts)

    assert many <= 1.4 * TIMES * few + 1000


def test_tags_that_close_late_are_matched_in_one_pass() -> None:
    """Tags opened within an explanation and closed at its end take steps in proportion to their number."""
    texts = ["Answer: B\nExplanation: x" + "<b>x" * count + "</b>" * count for count in (500, TIMES * 500)]
    few, many = (count_steps(partial(parse, text, NLI, "pe", "chat")) for text in texts)

    assert many <= 1.5 * TIMES * few


def test_a_megabyte_of_statements_is_read_to_an_end() -> None:
    """A million characters that state answers without end are dealt with, and not read as an answer of one letter."""
    text = "Answer: B\nExplanation: " + "The answer is B, so it is C. " * 35_000

    assert not hasattr(parse(text, NLI, "pe", "chat"), "label")


def test_no_pattern_can_go_back_over_the_text() -> None:
    """No pattern repeats without bound what itself repeats without bound, and only single signs without possession."""
    patterns = dict(_patterns())

    assert len(patterns) > 60
    assert [
        name for name, pattern in patterns.items() if _goes_back(parser.parse(pattern.pattern, pattern.flags))
    ] == []


@pytest.mark.parametrize(
    ("pattern", "bad"),
    [(r"(?:a*b?)*c", True), (r"(?:ab)+c", True), (r"(?:ab)*+c", False), (r"(?:a+b){0,9}", False), (r"(a|b+)+", True)],
)
def test_patterns_that_go_back_are_seen(pattern: str, bad: bool) -> None:
    """The look at patterns tells those that may take exponential time from those that cannot."""
    assert bad == _goes_back(parser.parse(pattern))


def _patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    """All patterns of the package, those built from options or fields by example."""
    for module in pkgutil.iter_modules(explaineval.parsing.__path__, "explaineval.parsing."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern):
                yield f"{module.name}.{name}", value
    for options in (NLI, SENSE):
        items = tuple(options.items())
        yield f"letters of {options}", _letter_pattern("".join(options))
        for plain in (False, True):
            yield f"texts after letters of {options}, {plain=}", _letter_tail(tuple(_name_texts(items)), plain=plain)
            yield f"texts of {options}, {plain=}", _text_pattern(tuple(_name_texts(items)), plain=plain)
        yield f"numbers that name {options}", _numbered_pattern(items)
        yield f"numbers of {options}", _number_pattern(tuple(options.items()))
    yield "fields", _field_pattern(("review_text",))
    yield "items by letter", _following(")")
    yield "items by text", _following("")
    yield "headings", heading_pattern(("premise", "sentence1"))


def _goes_back(tree: Any, *, repeated: bool = False) -> bool:
    for operator, value in tree:
        if operator in {constants.MAX_REPEAT, constants.MIN_REPEAT, constants.POSSESSIVE_REPEAT}:
            _, most, body = value
            endless = most == constants.MAXREPEAT
            single = len(body) == 1 and body[0][0] in {constants.IN, constants.LITERAL, constants.ANY}
            possessive = operator == constants.POSSESSIVE_REPEAT
            if endless and (repeated or not (single or possessive)):
                return True
            if _goes_back(body, repeated=repeated or endless):
                return True
        elif any(_goes_back(part, repeated=repeated) for part in _parts(value)):
            return True
    return False


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, parser.SubPattern):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _parts(part)
