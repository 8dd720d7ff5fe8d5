"""An editor's replies: what is taken, and that every further change is refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from explaineval.interventions import Proposal, Refusal, mark_insertion, read_proposal, splice_naturally

TAKEN = [  # original, reply, word, edited
    ("A man rides a bike.", "A man [slowly] rides a bike.", "slowly", "A man slowly rides a bike."),
    ("A man rides a bike.", "Edited: A man rides an [old] bike.", "old", "A man rides an old bike."),
    ("An apple fell.", "A [red] apple fell.", "red", "A red apple fell."),
    ("Dogs bark.", "**Edited:** [Old] dogs bark.", "old", "Old dogs bark."),
    ("Dogs bark.", '"Dogs bark [loudly]."', "loudly", "Dogs bark loudly."),
    ("Dogs bark", "Dogs bark [loudly]", "loudly", "Dogs bark loudly"),
    ("I like [some] dogs.", "I like [some] [big] dogs.", "big", "I like [some] big dogs."),
    (" Dogs  bark.\n", "Dogs  [often] bark.", "often", " Dogs  often bark.\n"),
    ("Dogs bark.", "Sure!\nEdited: Dogs [often] bark.", "often", "Dogs often bark."),
    ('He said "dogs bark".', 'He said "[big] dogs bark".', "big", 'He said "big dogs bark".'),
    ("Line one.\nDogs bark.", "Edited: Line one.\nDogs [often] bark.", "often", "Line one.\nDogs often bark."),
]
REFUSED = [  # original, reply, reason
    ("Dogs bark.", "Dogs often bark.", "no word in brackets"),
    ("Dogs bark.", "", "no word in brackets"),
    ("Dogs bark.", "[Old] dogs [often] bark.", "several words in brackets"),
    ("Dogs bark.", "Dogs [very often] bark.", "not one word of letters"),
    ("Dogs bark.", "Dogs [often ]bark.", "not one word of letters"),
    ("Dogs bark.", "Dogs [well-fed] bark.", "not one word of letters"),
    ("Dogs bark.", "Dogs [0ften] bark.", "not one word of letters"),
    ("Dogs bark.", "Dogs [] bark.", "not one word of letters"),
    ("Dogs bark.", "Dogs [often] bark!", "something else was changed"),
    ("Dogs bark.", "Dogs [often] barked.", "something else was changed"),
    ("Dogs bark.", "dogs [often] bark.", "something else was changed"),
    ("Dogs bark.", "Dogs[often] bark.", "something else was changed"),
    ("Dogs bark.", "Dogs  [often] bark.", "something else was changed"),
    ("Dogs bark.", "Dogs [Often] bark.", "something else was changed"),
    ("Dogs bark.", "[old] dogs bark.", "something else was changed"),
    ("Dogs bark.", "[Old] Dogs bark.", "something else was changed"),
    ("A man.", "A [old] man!", "something else was changed"),
    ("The man.", "An [old] man.", "something else was changed"),
    ("A T-shirt.", "A T-[big] shirt.", "something else was changed"),
    ("It is unhappy.", "It is un [very]happy.", "something else was changed"),
    ("He can't go.", "He can [really]'t go.", "something else was changed"),
    ("The dog's bone.", "The dog [big]'s bone.", "something else was changed"),
    ("He ran.", "He [quickly] ran. He ran.", "something else was changed"),
]


@pytest.mark.parametrize(("original", "reply", "word", "edited"), TAKEN)
def test_one_marked_word_is_taken(original: str, reply: str, word: str, edited: str) -> None:
    """The word in lower case, the whole text, and an offset near which the word is found."""
    found = read_proposal(original, reply)

    assert isinstance(found, Proposal)
    assert (found.word, found.edited) == (word, edited)
    assert mark_insertion(edited, word, found.offset)[1].lower() == word


@pytest.mark.parametrize(("original", "reply", "reason"), REFUSED)
def test_other_replies_are_refused_with_their_reason(original: str, reply: str, reason: str) -> None:
    """No brackets, more than a word in them, or a change beside the word."""
    found = read_proposal(original, reply)

    assert isinstance(found, Refusal)
    assert reason == found.reason


TEXTS = st.lists(
    st.sampled_from(["a", "an", "A", "The", "dog", "apple", "hour", "I", "it's", "x-ray", "ran,", "so.", "“Oh”", "😀"]),
    min_size=1, max_size=8,
).map(" ".join)  # fmt: skip
WORDS = st.sampled_from(["old", "honest", "quickly", "useful"])


@given(TEXTS, WORDS, st.data())
def test_what_our_own_splice_makes_is_taken_back(text: str, word: str, data: st.DataObject) -> None:
    """A reply that inserts as we do, article and capital repaired, is read with its word, place and text."""
    offset = data.draw(st.sampled_from([found.start() for found in re.finditer(r"\S+", text)]))
    edited = splice_naturally(text, offset, word)
    before, marked, after = mark_insertion(edited, word, offset)

    found = read_proposal(text, f"Edited: {before}[{marked}]{after}")

    assert found == Proposal(word, offset, edited)


@given(TEXTS, WORDS, st.data(), st.sampled_from(["x", " ", ".", "A", "\n", "é"]))
def test_any_further_change_is_refused(text: str, word: str, data: st.DataObject, other: str) -> None:
    """One character more, less or other anywhere outside the brackets: no proposal, or another faithful one."""
    offset = data.draw(st.sampled_from([found.start() for found in re.finditer(r"\S+", text)]))
    reply = f"{text[:offset]}[{word}] {text[offset:]}"
    mark = range(offset, offset + len(word) + 2)
    at = data.draw(st.sampled_from([place for place in range(len(reply)) if place not in mark]))
    spoilt = data.draw(
        st.sampled_from(
            [reply[:at] + reply[at + 1 :], reply[:at] + other + reply[at + 1 :], reply[:at] + other + reply[at:]]
        )
    )
    assume(spoilt.strip() != reply.strip())

    found = read_proposal(text, spoilt)

    if isinstance(found, Proposal):  # the spoilt reply happens to be an edit of its own: then its text must say so
        before, marked, after = mark_insertion(found.edited, found.word, found.offset)
        allowed = {
            splice_naturally(text, found.offset, found.word),
            f"{text[: found.offset]} {found.word}{text[found.offset :]}",
        }
        assert found.edited in allowed | {f"{text[: found.offset]}{found.word} {text[found.offset :]}"}
        assert re.sub(r"\W", "", spoilt) == re.sub(r"\W", "", before + marked + after)
