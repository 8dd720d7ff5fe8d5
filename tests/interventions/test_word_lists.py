"""The shipped word lists keep what they promise."""

from __future__ import annotations

import re

import pytest

from explaineval.interventions import load_words

LISTS = {"adjectives": load_words().adjectives, "adverbs": load_words().adverbs}


@pytest.mark.parametrize(("name", "at_least"), [("adjectives", 1000), ("adverbs", 400)])
def test_lists_are_long_sorted_and_without_doubles(name: str, at_least: int) -> None:
    """Enough words for large sets, in an order that a seed can rely on."""
    words = LISTS[name]

    assert len(words) >= at_least
    assert list(words) == sorted(set(words))


@pytest.mark.parametrize("name", LISTS)
def test_words_are_plain_lower_case_words(name: str) -> None:
    """Single words of at least three letters, nothing else."""
    assert [word for word in LISTS[name] if not re.fullmatch("[a-z]{3,}", word)] == []


def test_no_word_is_on_both_lists() -> None:
    """An adjective is no adverb here, so that the part of speech is known from the word."""
    assert set(LISTS["adjectives"]).isdisjoint(LISTS["adverbs"])


LEFT_OUT = {
    "adjectives": "all no such other past down two first true neutral sexy dead black",
    "adverbs": "up back home however very therefore actually brutally",
}


@pytest.mark.parametrize(("name", "word"), [(name, word) for name in LISTS for word in LEFT_OUT[name].split()])
def test_words_that_would_mislead_are_left_out(name: str, word: str) -> None:
    """Determiners, numbers, particles, words of inference, of violence, of sex and of race are not there."""
    assert word not in LISTS[name]
