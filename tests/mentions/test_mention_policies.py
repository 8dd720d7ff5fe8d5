"""Mentions are found as the cases say, under each of the three policies."""

from __future__ import annotations

import json
import re
import string
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.errors import InputError
from explaineval.interventions.words import load_words
from explaineval.mentions import already_present, find_mention, find_mentions, mentions
from explaineval.mentions.morphology import (
    LONGEST,
    find_bases,
    find_lemmas,
    inflect,
    load_irregular,
    load_own_words,
    other_spelling,
)
from explaineval.mentions.policies import fold, fold_and_keep
from explaineval.records import POLICIES, Mention
from makers.steps import count_steps

CASES = json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))
WORDS = st.text(alphabet=string.ascii_lowercase, min_size=1, max_size=12)
ANY_TEXT = st.text(max_size=80)
PIECES = [
    "red", "Red", "ＲＥＤ", "bored", "old", "older", "dog", "dogs", "well", "known", "don", "'t", "’s", "-", "_", " ",
    "\n", ".", "é", "\u0301", "\u200d", "\u200b", "\u00ad", "grün", "GRU\u0308N", "ﬁ", "İ", "ß", "“", "**",
]  # fmt: skip


@pytest.mark.sampled(800)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(case: dict[str, Any], policy: Mention) -> None:
    """Each case of the data file is a mention or none, as it says for the policy, and its spans agree.

    A known failure says what holds today, so that a change of it is noticed.
    """
    wanted = case[policy]

    assert mentions(policy, case["inserted"], case["text"]) is wanted
    assert (find_mention(policy, case["inserted"], case["text"]) is not None) is wanted
    assert bool(find_mentions(policy, case["inserted"], case["text"])) is wanted


def test_cases_are_named_and_of_both_kinds() -> None:
    """The data file holds many cases under different names, mentions and none, and its failures have a reason."""
    keys = {"name", "inserted", "text", *POLICIES}

    assert len({case["name"] for case in CASES}) == len(CASES) >= 690
    assert 4 * sum(not case["word"] for case in CASES) >= len(CASES)
    for case in CASES:
        failure = {"known_failure", "wrong"} if "known_failure" in case else set()
        assert keys | failure == set(case)
        assert set(case.get("wrong", [])) <= set(POLICIES)


@pytest.mark.parametrize(
    ("policy", "inserted", "text", "marked"),
    [
        ("word", "quick", "Quick, quicker; quickly.", ["Quick", "quicker", "quickly"]),
        ("lemma", "good", "good, better, well, best", ["good", "better", "best"]),
        ("substring", "art", "Art party", ["Art", "art"]),
        ("word", "fine", "a ﬁne “ﬁner” day", ["ﬁne", "ﬁner"]),
        ("substring", "fi", "of one ﬁne day", ["ﬁ"]),
        ("word", "café", "le cafe\u0301, İİ cafés", ["cafe\u0301", "cafés"]),
        ("word", "very old", "so very\n old ’tis", ["very\n old"]),
        ("lemma", "old dog", "İ older dogs, old dog", ["older dogs", "old dog"]),
        ("lemma", "ha ha", "ha ha ha ha", ["ha ha", "ha ha"]),
        ("word", "gross", "GROẞ", ["GROẞ"]),
    ],
)
def test_spans_lie_in_the_original_text(policy: Mention, inserted: str, text: str, marked: list[str]) -> None:
    """Spans count code points of the text as given, whatever folding did to its length."""
    assert marked == [text[start:end] for start, end in find_mentions(policy, inserted, text)]


def test_present_under_any_policy() -> None:
    """An insertion is present if any policy finds it in any of the texts."""
    assert already_present("art", ["nothing", "a party"])  # substring alone
    assert already_present("good", ["a better man"])  # lemma alone
    assert already_present("happy", ["He smiles happily."])  # word alone
    assert not already_present("red", ["a blue car", ""])
    assert not already_present("red", [])


def test_unknown_policy() -> None:
    """An unknown policy is an error of input that names the policies."""
    with pytest.raises(InputError, match="there is no mention policy 'stem': choose from word, lemma, substring"):
        mentions("stem", "red", "red")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base", "forms"),
    [
        ("run", "runs running runner"), ("quit", "quits quitting"), ("box", "boxes boxed boxing"),
        ("panic", "panics panicked panicking"), ("hero", "heroes heros"), ("play", "plays played playing player"),
        ("agree", "agrees agreed agreeing"), ("tie", "ties tied tying"), ("quiz", "quizzes quizzed quizzing"),
        ("begin", "begins beginning"), ("visit", "visited visiting"), ("singe", "singeing singed"),
        ("free", "freer freest freely"), ("simple", "simpler simplest simply"), ("whole", "wholly"), ("sole", "solely"),
        ("dry", "drier driest drily dryly drying"), ("shy", "shyer shiest shyly"), ("sly", "slily slyly slier"),
        ("eerie", "eerily eerier"), ("undue", "unduly"), ("vague", "vaguely"), ("gay", "gaily"), ("silly", "sillily"),
        ("epoch", "epochs"), ("cruel", "crueller crueler"), ("marvelous", "marvellous marvellously"),
        ("gray", "grayer grayest"), ("slow", "slower slowest slowly"),
    ],
)  # fmt: skip
def test_regular_inflections(base: str, forms: str) -> None:
    """The usual changes of spelling, by the examples that grammars give for them."""
    assert set(forms.split()) <= inflect(base)


@pytest.mark.parametrize(
    "word", ["hopped hoping", "staring starred", "later latter", "planing planned", "biter bitter"]
)
def test_spellings_that_keep_words_apart(word: str) -> None:
    """A doubled consonant and a dropped e lead to different bases."""
    first, second = word.split()

    assert find_bases(first).isdisjoint(find_bases(second))


def test_every_adverb_that_is_inserted_is_a_form_of_its_adjective() -> None:
    """The adverbs in -ly among the shipped words, but the one of a noun, are what the rules make of adjectives."""
    words = files("explaineval.interventions.words")
    adjectives = [line.split()[0] for line in words.joinpath("adjectives.senses.txt").read_text("utf-8").splitlines()]
    adverbs = [word for word in load_words().adverbs if word.endswith("ly")]
    reached = {form for adjective in adjectives for form in inflect(adjective)}

    assert len(adverbs) >= 400
    assert {word for word in adverbs if word not in reached} == {"purposely"}


def test_own_words_are_forms_of_what_is_named_and_of_nothing_else() -> None:
    """A word that looks like a form of another leads back to the words that the list names, and to no other."""
    own = load_own_words()

    assert len(own) >= 1000
    assert list(own) == sorted(own)
    for word, bases in own.items():
        assert all(word in inflect(base) for base in bases)
        assert find_bases(word) <= bases | {word} | other_spelling(word)


def test_irregular_forms_are_one_word_each() -> None:
    """The list of irregular forms holds plain words, none of them beside itself."""
    for form, bases in load_irregular().items():
        assert form.isalpha()
        assert form.islower()
        assert bases
        assert form not in bases


@pytest.mark.parametrize("length", [46, 10_000])
def test_a_run_of_letters_that_is_no_word_has_no_forms(length: int) -> None:
    """Nothing is made of what is longer than any word."""
    assert inflect("a" * length) == {"a" * length}
    assert find_bases("s" * length) == {"s" * length}


def test_endless_words_and_texts_are_not_kept() -> None:
    """What an endpoint may send without end is compared and forgotten: only short texts and words are remembered."""
    fold_and_keep.cache_clear()
    find_lemmas.cache_clear()
    for number in range(5):
        assert not mentions("lemma", "quick", f"{number}" + "é" * 30_000)
        assert mentions("lemma", "x" * (LONGEST + number), "x" * (LONGEST + number))

    assert fold_and_keep.cache_info().currsize <= 10
    assert fold_and_keep("short") is fold("short")
    assert find_lemmas.cache_info().currsize <= 2


@given(word=WORDS)
def test_regular_forms_lead_back_to_their_base(word: str) -> None:
    """What inflection makes of a word, undoing it finds again (but -ly, which is no inflection)."""
    for form in inflect(word):
        assert form.endswith("y") or word in find_bases(form)


@given(word=WORDS, before=ANY_TEXT, after=ANY_TEXT, policy=st.sampled_from(POLICIES))
def test_whole_copies_are_mentions(word: str, before: str, after: str, policy: Mention) -> None:
    """A copy between spaces is a mention under every policy, in any case, and a marked span meets it."""
    text = f"{before} {word} {after}"
    at = len(before) + 1

    assert mentions(policy, word, text)
    assert mentions(policy, word.upper(), text)
    assert mentions(policy, word, f"{before} {word.title()} {after}")
    assert any(at < end and start < at + len(word) for start, end in find_mentions(policy, word, text))


@given(
    word=WORDS, text=st.text(alphabet=string.ascii_letters + " .,'-_\n", max_size=80), policy=st.sampled_from(POLICIES)
)
def test_case_does_not_matter(word: str, text: str, policy: Mention) -> None:
    """Neither the insertion's nor the text's case changes the outcome."""
    outcomes = {
        mentions(policy, inserted, written)
        for inserted in (word, word.upper())
        for written in (text, text.upper(), text.lower())
    }

    assert len(outcomes) == 1


@given(word=WORDS, text=st.text(alphabet="abdegrst .,-", max_size=60))
def test_substring_is_containment(word: str, text: str) -> None:
    """On plain words the substring policy is what the language's `in` says."""
    assert mentions("substring", word, text) == (word in text)


@given(word=st.sampled_from(["red", "tag", "bet", "dad"]), text=st.text(alphabet="abdegrst .,-", max_size=60))
def test_word_is_a_form_among_the_words(word: str, text: str) -> None:
    """On plain text the word policy holds just if one of the words, split apart otherwise, is a form."""
    assert mentions("word", word, text) == any(part in inflect(word) for part in re.split(r"[ .,-]+", text))


@given(inserted=st.text(max_size=20), text=ANY_TEXT, policy=st.sampled_from(POLICIES))
def test_any_texts_are_compared(inserted: str, text: str, policy: Mention) -> None:
    """Nothing is raised; spans are ordered, not empty, within the text, and there just if there is a mention."""
    spans = find_mentions(policy, inserted, text)

    assert bool(spans) == mentions(policy, inserted, text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)


@given(
    inserted=st.one_of(st.text(max_size=8), st.sampled_from(["red", "old dog", "well-known", "don't", "grün"])),
    text=st.one_of(ANY_TEXT, st.lists(st.sampled_from(PIECES), max_size=8).map("".join)),
    policy=st.sampled_from(POLICIES),
)
def test_the_first_span_is_there_just_if_there_is_a_mention(inserted: str, text: str, policy: Mention) -> None:
    """`find_mention` is the first of all spans, and its span alone is a mention again."""
    first = find_mention(policy, inserted, text)

    assert mentions(policy, inserted, text) == (first is not None)
    assert ([first] if first else []) == find_mentions(policy, inserted, text)[:1]
    if first:
        assert mentions(policy, inserted, text[first[0] : first[1]])


@given(text=ANY_TEXT)
def test_folding_maps_every_sign_back(text: str) -> None:
    """Each folded sign comes from a span of the text that folds to a part holding it."""
    folded = fold(text)
    for index, sign in enumerate(folded.text):
        start, end = folded.original(index, index + 1)
        assert sign in fold(text[start:end]).text


@pytest.mark.parametrize(("policy", "most"), [("word", 20), ("lemma", 400), ("substring", 20)])
def test_a_search_takes_few_steps(policy: Mention, most: int) -> None:
    """The average explanation of 200 characters is searched in a bounded number of calls, with words seen before."""
    words = ["quick", "slowly", "wooden", "very old", "red"]
    texts = [
        f"{number} the man is outside because a street is outdoors and he rides a bicycle. " * 3
        for number in range(200)
    ]

    def search() -> None:
        for number, text in enumerate(texts):
            mentions(policy, words[number % len(words)], text[:200])

    search()
    fold_and_keep.cache_clear()

    assert count_steps(search) <= most * len(texts)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("inserted", ["\u00a8", "\u0301", "!?"])
def test_signs_without_a_letter_are_found_as_they_are(policy: Mention, inserted: str) -> None:
    """An insertion that holds no letter or digit has no forms: it is looked for literally, and nothing is raised."""
    assert mentions(policy, inserted, f"before {inserted} after")
    assert not mentions(policy, inserted, "0 words")
