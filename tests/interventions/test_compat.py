"""Random words as in the original: token join, senses as weights, nothing repaired."""

from __future__ import annotations

import re
from collections import Counter

from explaineval.interventions import BuildContext, SenseLists, Token, apply, build_atanasova, check, load_sense_words
from explaineval.records import Example, Intervention

TEXT = "A man rides, it's his  bike."
TAGS = {"man": "NOUN", "rides": "VERB", "bike": "NOUN", "Dogs": "NOUN", "bark": "VERB"}
WORDS = SenseLists(("big", "big", "big", "a_la_carte"), ("often", "A.M."))


def example(**fields: str) -> Example:
    """An example with these fields."""
    return Example(id="e1", task="nli", fields=fields, options={"A": "big", "B": "no"})


def tagged(text: str) -> list[Token]:
    """Words and punctuation apart, double spaces as a token, as spaCy has them."""
    return [
        Token(x[0], x.start(), TAGS.get(x[0], "X"), "X") for x in re.finditer(r"\w+(?=')|'s|\w+|[.,]|(?<= ) ", text)
    ]


def build(one: Example, count: int = 40, seed: int = 0) -> list[Intervention]:
    """Edits of an example."""
    tokens = {name: tagged(text) for name, text in one.fields.items()}
    context = BuildContext(
        kind="random_word_atanasova", per_example=count, seed=seed, tokens=tokens,
        prompt_texts=lambda _: [], is_present=lambda _, __: False, cue_text=str,
    )  # fmt: skip
    return build_atanasova(one, context, WORDS)


def test_the_field_is_joined_from_its_tokens() -> None:
    """Every token is followed by one space, the word stands before its noun or verb, "a" and capitals stay."""
    found = {apply(example(q=TEXT), one) for one in build(example(q=TEXT))}

    assert found == {
        "A big man rides , it 's his   bike .",
        "A a_la_carte man rides , it 's his   bike .",
        "A man often rides , it 's his   bike .",
        "A man A.M. rides , it 's his   bike .",
        "A man rides , it 's his   big bike .",
        "A man rides , it 's his   a_la_carte bike .",
    }


def test_records_fit_their_example() -> None:
    """Kind, offset in the original, part of speech; a word that the options have is no hindrance, as there."""
    records = build(example(q=TEXT))

    assert records
    for one in records:
        check(example(q=TEXT), one)
        assert one.kind == "random_word_atanasova"
        assert one.offset in (TEXT.index("man"), TEXT.index("rides"), TEXT.index("bike"))
        assert one.pos == ("ADV" if one.offset == TEXT.index("rides") else "ADJ")


def test_more_adds_to_fewer_and_a_seed_repeats() -> None:
    """The first two of four are the two; another seed draws others."""
    one = example(q=TEXT)

    assert build(one, 4)[:2] == build(one, 2)
    assert build(one, 4) == build(one, 4)
    assert len({tuple(x.id for x in build(one, 3, seed)) for seed in range(8)}) > 1


def test_one_field_is_drawn_for_the_whole_example() -> None:
    """The field is drawn once for an example, and over examples each field comes up."""
    fields = [
        {edit.field for edit in build(example(premise=TEXT, hypothesis="Dogs bark."), 3, seed)} for seed in range(20)
    ]

    assert {frozenset(found) for found in fields} == {frozenset({"premise"}), frozenset({"hypothesis"})}


def test_no_noun_and_no_verb_give_no_edit() -> None:
    """The caller counts what is missing."""
    assert build(example(q="So what?")) == []


def test_a_word_is_drawn_as_often_as_it_has_senses() -> None:
    """Three senses against one: three quarters of the first draws."""
    drawn = Counter(build(example(q="man"), 1, seed)[0].inserted for seed in range(2000))

    assert abs(drawn["big"] / 2000 - 0.75) < 0.05


def test_the_shipped_lists_are_all_of_wordnet() -> None:
    """WordNet 3.0 counts 21,479 adjectives and 4,481 adverbs, in 30,002 and 5,580 senses (its own statistics)."""
    lists = load_sense_words()

    assert abs(len(lists.adjectives) - 30_002) <= 5
    assert len(lists.adverbs) == 5_580
    assert (len({x.lower() for x in lists.adjectives}), len({x.lower() for x in lists.adverbs})) == (21_479, 4_481)
    assert "well-known" in lists.adjectives
    assert "a_la_carte" in lists.adjectives
    assert Counter(lists.adjectives)["good"] == 21
    assert not any(re.search(r"\s|\(", word) for word in (*lists.adjectives, *lists.adverbs))
