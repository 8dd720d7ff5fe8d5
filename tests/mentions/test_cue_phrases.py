"""Phrases of a cue are found as the cases say, and marked where they stand."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.errors import InputError
from explaineval.mentions import mentions_phrase
from explaineval.mentions.phrases import MOST_BETWEEN

CASES = json.loads((Path(__file__).parent / "phrases.json").read_text(encoding="utf-8"))
WORDS = ["the", "user", "thinks", "so", "a"]


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    """Each case of the data file has the marked span that it says, or none; a known failure says what holds today."""
    span = mentions_phrase(case["phrases"], case["text"])

    assert case["marked"] == (None if span is None else case["text"][slice(*span)])


def test_cases_are_named_and_of_both_kinds() -> None:
    """The data file holds many cases under different names, a quarter of them without a mention."""
    assert len({case["name"] for case in CASES}) == len(CASES) >= 60
    assert 4 * sum(case["marked"] is None for case in CASES) >= len(CASES)
    assert {"name", "phrases", "text", "marked", "known_failure"} == {key for case in CASES for key in case}


@given(
    phrase=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3),
    text=st.lists(st.sampled_from(WORDS), max_size=12),
)
def test_a_phrase_without_wildcard_is_a_run_of_words(phrase: list[str], text: list[str]) -> None:
    """It is found just where the list of the text's words holds its words side by side, first place first."""
    starts = [at for at in range(len(text)) if text[at : at + len(phrase)] == phrase]
    span = mentions_phrase([" ".join(phrase)], " ".join(text))

    assert bool(starts) == (span is not None)
    if span:
        assert len(" ".join([*text[: starts[0]], ""])) == span[0]


@given(first=st.sampled_from(WORDS), last=st.sampled_from(WORDS), text=st.lists(st.sampled_from(WORDS), max_size=12))
def test_a_wildcard_is_some_words_between(first: str, last: str, text: list[str]) -> None:
    """It is found just if the last word follows the first with at most so many words between."""
    pairs = [(one, two) for one in range(len(text)) for two in range(one + 1, len(text))]
    wanted = any(text[one] == first and text[two] == last and two - one - 1 <= MOST_BETWEEN for one, two in pairs)

    assert wanted == (mentions_phrase([f"{first} * {last}"], " ".join(text)) is not None)


@given(text=st.text(max_size=80), phrases=st.lists(st.text(max_size=12).map("{} x".format), max_size=3))
def test_any_text_is_searched(text: str, phrases: list[str]) -> None:
    """Nothing is raised for phrases with a letter, and a span lies in the text and is not empty."""
    span = mentions_phrase(phrases, text)

    assert span is None or 0 <= span[0] < span[1] <= len(text)


@pytest.mark.parametrize("phrase", ["", " ", "*", "…", "!!! * ?", "_"])
def test_a_phrase_without_a_word_is_refused(phrase: str) -> None:
    """It would be found nowhere or everywhere, so it is an error of input that quotes it."""
    with pytest.raises(InputError, match="holds no word"):
        mentions_phrase(["the user", phrase], "the user")


@pytest.mark.parametrize("unit", ["the ", "the user ", "the   ", "the-", "the'a", ", ", "the\n", "a.", "the _"])
def test_long_nasty_texts_take_no_time(unit: str) -> None:
    """200 kB of any repeated unit are searched in less than half a second."""
    text = unit * (200_000 // len(unit))
    start = time.process_time()
    mentions_phrase(["the * user * thinks * so", "the user"], text)

    assert time.process_time() - start < 0.5
