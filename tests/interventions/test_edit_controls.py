"""Controls of inserted words: a word of no language, and a word of the text that is doubled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from explaineval.interventions import (
    BuildContext,
    Token,
    apply,
    build_duplicates,
    build_nonwords,
    build_random_words,
    counts_for_phi,
    load_sense_words,
    load_words,
)
from explaineval.mentions import already_present
from explaineval.records import Example

TEXT = "Dogs near an old T-shirt bark, and children watch the dog-house."
TAGS = {
    "Dogs": "NOUN",
    "T": "NOUN",
    "shirt": "NOUN",
    "bark": "VERB",
    "children": "NOUN",
    "watch": "VERB",
    "dog": "NOUN",
}
EXAMPLE = Example(id="e1", task="nli", fields={"premise": TEXT, "hypothesis": "Dogs bark."}, options={"A": "yes"})


def context(kind: str, **changes: Any) -> BuildContext:
    """What a builder gets for the example."""
    tokens = {
        name: [Token(word[0], word.start(), TAGS.get(word[0], "X"), "X") for word in re.finditer(r"\w+|[^\w\s]", text)]
        for name, text in EXAMPLE.fields.items()
    }
    arguments = {
        "kind": kind, "per_example": 5, "seed": 0, "tokens": tokens, "cue_text": str, "prompt_texts": lambda _: [],
        "is_present": already_present,
    }  # fmt: skip
    return BuildContext(**{**arguments, **changes})


def test_a_nonword_stands_where_the_random_word_stands() -> None:
    """Edit by edit, with the same seed: the two kinds differ in the word alone."""
    for seed in range(20):
        words = list(build_random_words(EXAMPLE, context("random_word", seed=seed)))
        nonwords = list(build_nonwords(EXAMPLE, context("random_nonword", seed=seed)))

        assert [(one.field, one.offset, one.pos) for one in nonwords] == [(o.field, o.offset, o.pos) for o in words]
        assert len({one.inserted for one in nonwords}) == 5
        assert all(str(one.inserted).lower() in apply(EXAMPLE, one).lower() for one in nonwords)


def test_nonwords_are_mentioned_by_no_word_of_the_shipped_lists() -> None:
    """Neither whole, nor inflected, nor as a part of one; and each has three vowels between consonants."""
    drawn = {str(one.inserted) for n in range(3) for one in build_nonwords(EXAMPLE, context("x", seed=n))}
    listed = [*load_words().adjectives, *load_words().adverbs, *load_sense_words().adjectives]
    text = " ".join(listed)

    assert len(drawn) == 15
    assert not [word for word in drawn if already_present(word, [text])]
    assert all(re.fullmatch("(?:[^aeiou][aeiou]){3}[^aeiou]", word) for word in drawn)


def test_a_nonword_of_the_prompt_is_drawn_again() -> None:
    """The first word that is drawn is another one where the texts around the example have it."""
    first = next(iter(build_nonwords(EXAMPLE, context("x"))))

    def texts(_: Example) -> Sequence[str]:
        return [f"He said {first.inserted}s."]

    again = next(iter(build_nonwords(EXAMPLE, context("x", prompt_texts=texts))))
    assert again.inserted != first.inserted


def test_whole_nouns_and_verbs_are_doubled_each_once() -> None:
    """Neither a part of a compound nor a single letter; the capital stays in front, and the draw repeats."""
    built = list(build_duplicates(EXAMPLE, context("duplicate_word", per_example=9)))

    assert {apply(EXAMPLE, one) for one in built} == {
        "Dogs dogs" + TEXT[4:],
        TEXT.replace("bark", "bark bark"),
        TEXT.replace("children", "children children"),
        TEXT.replace("watch", "watch watch"),
        "Dogs dogs bark.",
        "Dogs bark bark.",
    }
    assert len(built) == 6
    assert built[:3] == list(build_duplicates(EXAMPLE, context("duplicate_word", per_example=3)))
    assert {one.pos for one in built} == {"NOUN", "VERB"}


def test_neither_counts_for_the_phi_of_a_model() -> None:
    """They are controls, which no primary family and no rule for stopping looks at."""
    assert not counts_for_phi("random_nonword")
    assert not counts_for_phi("duplicate_word")
