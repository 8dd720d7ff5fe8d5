"""Articles: the usage of dictionaries, word by word."""

from __future__ import annotations

import pytest

from explaineval.interventions.splice import indefinite_article

AN = """apple egg idle old ugly honest honestly honorable honor hour hourly heir heiress unusual unimportant
    uninvited unnecessary unidentified unissued upset usher utter utmost urgent urban umbrella only onerous
    oncoming FBI MRI MRIs X-ray L-shaped SOS S HTML 8 80 8,000 8th 11 11th 18 18-year-old 11,000 1800s
    élan éclair "old' (airy IOU AI"""
A = """dog horse happy hotel historic history humble university unique uniform union united universal
    unanimous unilateral unison useful useless usual usage user utensil utility utopian uranium urinary
    ubiquitous Ugandan Ukrainian ukulele European eulogy euphoric ewe one one-way one-legged once-great yellow
    yummy young wise UFO US T-shirt U-turn DVD PC NATO NASA UNICEF 1 10 100 118 1,100 7 12 "young (wise b"""


@pytest.mark.parametrize("word", AN.split())
def test_words_said_with_a_vowel_take_an(word: str) -> None:
    """A word whose first sound is a vowel takes "an", whatever its first letter."""
    assert indefinite_article(word) == "an"


@pytest.mark.parametrize("word", A.split())
def test_words_said_with_a_consonant_take_a(word: str) -> None:
    """A word whose first sound is a consonant takes "a", whatever its first letter."""
    assert indefinite_article(word) == "a"
