"""Splices: what changes, and above all what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.errors import InputError
from explaineval.interventions import splice, splice_naturally

ODD_TEXTS = [
    "Two  men\twalk.\n",
    " leading and trailing ",
    "a 😀 dog, e\u0301clair, \u200bzero width",
    "“Curly” ‘quotes’ — and\u00a0hard spaces…",
    "\r\nlines\r\n\r\nof Windows\r\n",
    "ﬁ ligature, ß, İ, ǆ, ﷽",
    "\ud83d lone surrogate",
]

REPAIRS = [  # text with | at the insertion, inserted, expected
    ("|Dogs bark.", "old", "Old dogs bark."),
    ("|dogs bark.", "old", "old dogs bark."),
    ("|Running is fun.", "quickly", "Quickly running is fun."),
    ("|I think so.", "often", "Often I think so."),
    ("|I'm here.", "often", "Often I'm here."),
    ("|I’m here.", "often", "Often I’m here."),
    ("|It rains.", "often", "Often it rains."),
    ("|TVs break.", "old", "Old TVs break."),
    ("|McDonald eats.", "old", "Old McDonald eats."),
    ("|X-rays help.", "old", "Old X-rays help."),
    ("|T-shirts shrink.", "old", "Old T-shirts shrink."),
    ('"|Dogs bark," he said.', "old", '"Old dogs bark," he said.'),
    ('He said, "|Dogs bark."', "old", 'He said, "Old dogs bark."'),
    ("He left. |Dogs bark.", "old", "He left. Old dogs bark."),
    ("He left.)  |Dogs bark.", "old", "He left.)  Old dogs bark."),
    ("He left\n|Dogs bark.", "old", "He left\nOld dogs bark."),
    ("The Big |Dog Barks", "old", "The Big old Dog Barks"),
    ("the |Dog", "old", "the old Dog"),
    ("A |dog barks.", "old", "An old dog barks."),
    ("a |dog", "old", "an old dog"),
    ("an |apple", "red", "a red apple"),
    ("An |apple", "red", "A red apple"),
    ("AN |APPLE", "red", "A red APPLE"),
    ("SHE SEES A |CAT", "old", "SHE SEES AN old CAT"),
    ("she places A |PILLOW", "old", "she places AN old PILLOW"),
    ("A |TV", "old", "An old TV"),
    ("a |man", "honest", "an honest man"),
    ("an |hour", "useful", "a useful hour"),
    ("an |orange", "European", "a European orange"),
    ("a  |dog", "old", "an  old dog"),
    ("a\t|dog", "old", "an\told dog"),
    ('a "|dog"', "old", 'an "old dog"'),
    ("a |dog", "big", "a big dog"),
    ("an |elk", "old", "an old elk"),
    ("Vitamin A |helps", "often", "Vitamin A often helps"),
    ("pizza |slice", "old", "pizza old slice"),
    ("an apple or a red |pear", "old", "an apple or a red old pear"),
    ("at 5 a.m. a |dog", "old", "at 5 a.m. an old dog"),
    ("at 5 p.a |dog", "old", "at 5 p.a old dog"),
    ("l'a |dog", "old", "l'a old dog"),
    ("He left. A |dog", "old", "He left. An old dog"),
    ("dog|", "old", "dogold "),
]


@pytest.mark.parametrize(("marked", "inserted", "expected"), REPAIRS)
def test_capital_and_article_are_repaired(marked: str, inserted: str, expected: str) -> None:
    """The capital moves to a word put at the start of a sentence, and the article before it fits it."""
    offset = marked.index("|")

    assert splice_naturally(marked.replace("|", ""), offset, inserted) == expected


def test_proper_noun_keeps_its_capital() -> None:
    """A proper noun at the start keeps its capital, and the word before it gets one too."""
    assert splice_naturally("Paris sleeps.", 0, "old", proper=True) == "Old Paris sleeps."


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_stay_as_they_are_around_the_word(text: str) -> None:
    """At every offset of an odd text, taking the word and its space out again gives back the text."""
    for offset in range(len(text) + 1):
        spliced = splice_naturally(text, offset, "big")

        assert (spliced[:offset], spliced[offset + 4 :].lower()) == (text[:offset], text[offset:].lower())


@pytest.mark.parametrize("offset", [-1, 4])
def test_offset_outside_the_text_is_refused(offset: int) -> None:
    """A negative offset and one beyond the text are input errors, not Python's slices."""
    with pytest.raises(InputError, match=f"offset {offset} lies outside a text of 3 characters"):
        splice("dog", offset, "old")


texts_and_offsets = st.text().flatmap(lambda text: st.tuples(st.just(text), st.integers(0, len(text))))


@given(texts_and_offsets, st.text(min_size=1))
def test_splice_adds_the_word_and_one_space(place: tuple[str, int], inserted: str) -> None:
    """The plain splice is before + word + space + after, for any text."""
    text, offset = place

    spliced = splice(text, offset, inserted)

    assert [*text[:offset], *inserted, " ", *text[offset:]] == list(spliced)


@given(
    st.text(alphabet=st.sampled_from("aAnN xX.\n\t\"'(-Ié😀\u0301"), max_size=12).flatmap(
        lambda text: st.tuples(st.just(text), st.integers(0, len(text)))
    ),
    st.sampled_from(["old", "big", "honest", "useful"]),
)
def test_repairs_touch_at_most_one_capital_and_one_article(place: tuple[str, int], inserted: str) -> None:
    """In any text only the article at the end of the part before and the first letter after may change."""
    text, offset = place
    before, after = text[:offset], text[offset:]

    spliced = splice_naturally(text, offset, inserted)

    tail = " " + after[1:] if not after else after[1:]
    assert spliced.endswith(tail)
    head = spliced[: len(spliced) - len(after) - 1 - len(inserted)]
    word_and_letter = spliced[len(head) :][: len(inserted) + 2]
    assert word_and_letter.lower() == f"{inserted} {after[:1].lower()}"
    if head != before:
        stem = before.rstrip(" \n\t\"'(")
        gap = before[len(stem) :]
        letters = stem.removesuffix("n").removesuffix("N")
        assert head in {letters + gap, letters + "n" + gap, letters + "N" + gap}
        assert letters[-1:] in ("a", "A")
        assert word_and_letter.startswith(inserted)
