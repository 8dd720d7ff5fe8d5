"""Random words: where they go, that they repeat, and that none is drawn that the prompt already has."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from explaineval.interventions import BuildContext, Token, WordLists, apply, build_random_words, check
from explaineval.interventions.builders import find_places
from explaineval.records import Example, Intervention

PREMISE = "A man quickly rides an old bike in Paris while children watch."
HYPOTHESIS = "Dogs are barking."
TAGS = {
    "man": "NOUN", "rides": "VERB", "bike": "NOUN", "Paris": "PROPN", "children": "NOUN", "watch": "VERB",
    "Dogs": "NOUN", "are": "AUX", "barking": "VERB",
}  # fmt: skip
EXAMPLE = Example(
    id="e1",
    task="nli",
    fields={"premise": PREMISE, "hypothesis": HYPOTHESIS},
    options={"A": "entailment", "B": "awkward"},
    instruction="Be brief.",
)


def tagged(text: str) -> list[Token]:
    """Tokens of a text whose words are all in TAGS or of no interest."""
    return [Token(found[0], found.start(), TAGS.get(found[0], "X"), "X") for found in re.finditer(r"\w+|[^\w\s]", text)]


def whole_word(word: str, texts: Sequence[str]) -> bool:
    """Whether the word is in one of the texts."""
    return any(re.search(rf"\b{word}\b", text, re.IGNORECASE) for text in texts)


def build(
    example: Example = EXAMPLE, words: WordLists | None = None, fields: Sequence[str] | None = None, **changes: Any
) -> list[Intervention]:
    """Random words for some fields of an example (all of them by default), some of the usual arguments changed."""
    tokens = {field: tagged(example.fields[field]) for field in fields or example.fields}
    arguments = {
        "kind": "random_word", "per_example": 6, "seed": 0, "field_first": True, "tokens": tokens, "cue_text": str,
        "prompt_texts": lambda _: [], "is_present": whole_word,
    }  # fmt: skip
    return build_random_words(example, BuildContext(**{**arguments, **changes}), words)


def test_words_stand_before_nouns_and_verbs_only() -> None:
    """Adjectives come directly before nouns, adverbs before verbs; never before names and auxiliaries."""
    built = [made for seed in range(100) for made in build(seed=seed)]

    assert len(built) == 600
    for made in built:
        following = re.match(r"\w+", EXAMPLE.fields[made.field or ""][made.offset or 0 :])
        assert following is not None
        assert {"NOUN": "ADJ", "VERB": "ADV"}[TAGS[following[0]]] == made.pos


def test_every_place_is_used() -> None:
    """Over many seeds each noun and verb of both fields gets its words."""
    used = {(made.field, made.offset) for seed in range(100) for made in build(seed=seed)}
    expected = {
        (field, token.offset)
        for field, text in EXAMPLE.fields.items()
        for token in tagged(text)
        if token.pos in ("NOUN", "VERB")
    }

    assert expected == used


def test_words_come_from_the_list_of_their_kind() -> None:
    """An adjective is drawn from the adjectives, an adverb from the adverbs."""
    words = WordLists(tuple(f"adj{i}" for i in range(9)), tuple(f"adv{i}" for i in range(9)))

    built = [made for seed in range(20) for made in build(seed=seed, words=words)]

    assert all(made.inserted.startswith(str(made.pos).lower()) for made in built)


def test_same_arguments_give_the_same_interventions() -> None:
    """The draw repeats, whatever the state of the global generator and whatever was built before."""
    first = build()
    build(EXAMPLE.model_copy(update={"id": "other"}))
    Random().random()

    assert build() == first


@pytest.mark.parametrize("change", [{"id": "e2"}, {"task": "other"}])
def test_draws_differ_between_examples(change: dict[str, str]) -> None:
    """Another id or task draws other words."""
    drawn = [made.inserted for made in build(EXAMPLE.model_copy(update=change))]

    assert drawn != [made.inserted for made in build()]


def test_draws_are_pinned() -> None:
    """A seed draws these words for ever: changed lists or another order of draws would change experiments."""
    assert [(made.field, made.offset, made.inserted) for made in build(per_example=3)] == PINNED


PINNED = [("hypothesis", 0, "anticipated"), ("premise", 14, "earnestly"), ("premise", 27, "massive")]


@pytest.mark.parametrize("field_first", [True, False])
def test_fewer_are_the_first_of_more(field_first: bool) -> None:
    """Growing the number keeps the earlier ones."""
    many = build(per_example=12, field_first=field_first)

    assert [build(per_example=k, field_first=field_first) for k in range(13)] == [many[:k] for k in range(13)]


def test_insertions_of_an_example_are_distinct() -> None:
    """No word is used twice for one example."""
    inserted = [made.inserted for made in build(per_example=200)]

    assert len(set(inserted)) == len(inserted) == 200


def test_both_fields_get_the_same_chance() -> None:
    """Where the field is drawn first, the short one gets half of the words, else its share of the places (2 of 7)."""
    drawn = Counter(made.field for seed in range(400) for made in build(seed=seed))
    spread = Counter(made.field for seed in range(400) for made in build(seed=seed, field_first=False))

    assert drawn["hypothesis"] / 2400 == pytest.approx(1 / 2, abs=0.04)
    assert spread["hypothesis"] / 2400 == pytest.approx(2 / 7, abs=0.04)


def test_only_the_given_fields_are_edited() -> None:
    """A field that is not given stays as it is."""
    assert {made.field for made in build(fields=["hypothesis"])} == {"hypothesis"}


def test_only_fields_with_a_place_are_drawn() -> None:
    """A field without noun and verb gets no share of the draws."""
    example = EXAMPLE.model_copy(update={"fields": {"premise": PREMISE, "hypothesis": "So what?"}})

    assert [made.field for made in build(example)] == ["premise"] * 6


def test_words_of_the_prompt_are_never_drawn() -> None:
    """A word in any field, option, instruction or forbidden text is left out, and the caller gets fewer."""
    words = WordLists(("old", "awkward", "brief", "loud", "free"), ("quickly", "gladly", "calmly"))

    drawn = {made.inserted for made in build(per_example=9, words=words, prompt_texts=lambda _: ["Be LOUD, calmly."])}

    assert {"free", "gladly"} == drawn


def test_predicate_sees_all_texts() -> None:
    """The predicate is asked about every text that the model will see."""
    seen: list[Sequence[str]] = []

    build(per_example=1, prompt_texts=lambda _: ["shot"], is_present=lambda _, texts: bool(seen.append(texts)))

    assert {PREMISE, HYPOTHESIS, "entailment", "awkward", "Be brief.", "shot"} == set(seen[0])


def test_example_without_places_gives_none() -> None:
    """Where there is no noun and no verb nothing is built."""
    example = EXAMPLE.model_copy(update={"fields": {"premise": "So what?"}})

    assert build(example) == []


def test_repaired_text_is_kept_only_where_it_differs() -> None:
    """`edited` is there exactly where the capital or the article changed, and every edit fits."""
    words = WordLists(("ugly", "big"), ("often",))
    built = [made for seed in range(40) for made in build(seed=seed, words=words)]

    for made in built:
        check(EXAMPLE, made)
    edited = {made.edited for made in built if made.edited is not None}
    assert {
        "An ugly man quickly rides an old bike in Paris while children watch.",
        "Ugly dogs are barking.",
        "Big dogs are barking.",
    } == edited
    assert "A big man quickly rides an old bike in Paris while children watch." in {
        apply(EXAMPLE, made) for made in built if made.edited is None
    }


@pytest.mark.parametrize(
    ("text", "token", "is_place"),
    [
        ("dogs bark", "dogs", True), ("the dogs", "dogs", True), ("the\tdogs", "dogs", True),
        ('"dogs" bark', "dogs", True), ("he (dogs)", "dogs", True), ("the “dogs”", "dogs", True),
        ("a T-shirt", "shirt", False), ("dog(s) bark", "s", False), ("don't", "n't", False),
        ("it's", "'s", False), ("and/or-dogs", "dogs", False), ("plan B", "B", False), ("a 😀", "😀", False),
    ],
)  # fmt: skip
def test_words_go_only_where_a_word_starts(text: str, token: str, is_place: bool) -> None:
    """A noun within a word is no place, nor is a single letter or a sign tagged as a noun."""
    places = find_places("f", text, [Token(token, text.rindex(token), "NOUN", "NN")])

    assert bool(places) == is_place
