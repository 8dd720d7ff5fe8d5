"""Phrases of a cue are found as the cases say, and marked where they stand."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.errors import InputError
from explaineval.mentions import mentions_phrase, policies
from explaineval.mentions.policies import MOST_ACCENTS, MOST_BETWEEN

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
    pairs = [(left, right) for left in range(len(text)) for right in range(left + 1, len(text))]
    wanted = any(
        text[left] == first and text[right] == last and right - left - 1 <= MOST_BETWEEN for left, right in pairs
    )

    assert wanted == (mentions_phrase([f"{first} * {last}"], " ".join(text)) is not None)


@given(text=st.text(max_size=80), wanted=st.lists(st.text(max_size=12).map("{} x".format), max_size=3))
def test_any_text_is_searched(text: str, wanted: list[str]) -> None:
    """Nothing is raised for phrases with a letter, and a span lies in the text and is not empty."""
    span = mentions_phrase(wanted, text)

    assert span is None or 0 <= span[0] < span[1] <= len(text)


@pytest.mark.parametrize("phrase", ["", " ", "*", "…", "!!! * ?", "_"])
def test_a_phrase_without_a_word_is_refused(phrase: str) -> None:
    """It would be found nowhere or everywhere, so it is an error of input that quotes it."""
    with pytest.raises(InputError, match="holds no word"):
        mentions_phrase(["the user", phrase], "the user")


NASTY = [
    "the ",
    "the user ",
    "the   ",
    "the-",
    "the'a",
    ", ",
    "the\n",
    "a.",
    "the _",
    "the_",
    "the user thinks ",
    "so ",
]


class Counted:
    """A pattern that counts the signs it looks at."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self.pattern, self.looks = pattern, 0

    def match(self, text: str, position: int) -> re.Match[str] | None:
        """As the pattern does."""
        match = self.pattern.match(text, position)
        self.looks += 1 + (match.end() - position if match else 0)
        return match


@pytest.mark.parametrize("phrase", ["the * user * thinks * so", "the * the * the * the * so", "the user * user the"])
@pytest.mark.parametrize("unit", NASTY)
def test_wildcards_take_steps_in_proportion_to_the_text(
    monkeypatch: pytest.MonkeyPatch, unit: str, phrase: str
) -> None:
    """Each sign of a text is looked at a bounded number of times, though it be one unit repeated."""
    separator, word = Counted(policies._SEPARATOR), Counted(policies._WORD)
    monkeypatch.setattr(policies, "_SEPARATOR", separator)
    monkeypatch.setattr(policies, "_WORD", word)
    text = unit * (20_000 // len(unit)) + " user thinks so the"
    runs, parts = phrase.count("*") + 1, 4  # a word of four parts may hold four places of a run

    mentions_phrase([phrase, "the user"], text)

    assert separator.looks + word.looks <= runs * parts * 2 * (MOST_BETWEEN + 2) * len(text)


def test_the_nearest_words_are_taken_and_overlaps_are_seen() -> None:
    """Of several ways to read a wildcard the one with the fewest words between counts, from left to right."""
    text = "so the the user user thinks so so so"

    for wanted, marked in [
        ("the * user", "the the user"), ("the * user * so", "the the user user thinks so"), ("so so so", "so so so"),
        ("so * thinks", "so the the user user thinks"), ("so * so", "so so"),
        ("the user user * so so", "the user user thinks so so"),
    ]:  # fmt: skip
        span = mentions_phrase([wanted], text)
        assert marked == (None if span is None else text[slice(*span)])


@pytest.mark.parametrize("unit", ["\u0301\u0316", "\u1161", "\u0316\u0301\u0327"])
def test_endless_accents_are_made_equal_in_pieces(monkeypatch: pytest.MonkeyPatch, unit: str) -> None:
    """To order a letter's accents takes the square of their number, so no more than some are ordered at a time."""
    lengths: list[int] = []
    normalize = unicodedata.normalize

    def counted(form: Literal["NFKC"], text: str) -> str:
        lengths.append(len(text))
        return normalize(form, text)

    monkeypatch.setattr(unicodedata, "normalize", counted)

    assert mentions_phrase(["the user"], "e" + unit * 1000 + " the user") is not None
    assert max(lengths) <= MOST_ACCENTS + 1
