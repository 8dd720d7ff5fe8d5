"""The bundled tasks as data: enough examples, clean edits, and words that prove something when they are mentioned."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from explaineval.datasets import BUNDLED, read_task, ready_interventions
from explaineval.datasets.readers import shape_of
from explaineval.interventions import apply
from explaineval.mentions import already_present
from explaineval.prompts import PromptBook, default_directory
from explaineval.records import Example, Intervention

RESERVE = 12
"""The most shots that the words are kept away from."""

WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
ARTICLE = re.compile(r"\b(an?)\s+[\"'“‘(]?(\w[\w'’-]*)", re.IGNORECASE)
CONSONANT_SOUND = re.compile(r"(uni(?!n|m)|us[aeiu]|eu|one\b|once\b|ut[ei]|ubiq)", re.IGNORECASE)
VOWEL_SOUND = re.compile(r"(hour|honest|hono|heir)", re.IGNORECASE)
PAIRS = [(task, example) for task in BUNDLED for example in read_task(task, None, task)]


def edits_of(task: str) -> list[tuple[Example, Intervention]]:
    """Every ready intervention with its example."""
    examples = {example.id: example for example in read_task(task, None, task)}
    found = ready_interventions(task, list(examples.values()))
    return [(examples[one.example_id], one) for one in found]


def words(text: str) -> list[str]:
    """The words of a text, articles in one form and without case, since both are repaired by an edit."""
    return ["a" if word == "an" else word for word in (found.lower() for found in WORD.findall(text))]


def wanted_article(word: str) -> str:
    """The article before a word, by a rule of our own."""
    if VOWEL_SOUND.match(word):
        return "an"
    return "an" if word[0].lower() in "aeiou" and not CONSONANT_SOUND.match(word) else "a"


@pytest.mark.parametrize("task", BUNDLED)
def test_there_are_enough_examples_and_edits(task: str) -> None:
    """At least sixty examples, each with at least four interventions with different words."""
    examples = read_task(task, None, task)
    words_of: dict[str, list[str]] = {example.id: [] for example in examples}
    for _, one in edits_of(task):
        words_of[one.example_id].append(one.inserted.lower())

    assert len(examples) >= 60
    assert {
        name: found for name, found in words_of.items() if len(set(found)) < 4 or len(set(found)) < len(found)
    } == {}


@pytest.mark.parametrize("task", BUNDLED)
def test_every_example_is_whole(task: str) -> None:
    """Fields of the task's shape, a gold letter among the options, a human explanation, no stray white space."""
    for example in read_task(task, None, task):
        texts = [*example.fields.values(), *example.options.values(), example.explanation or ""]

        assert task == shape_of(example)
        assert example.gold in example.options
        assert all(text and text == " ".join(text.split()) for text in texts), example.id


@pytest.mark.parametrize("task", BUNDLED)
def test_no_text_stands_twice(task: str) -> None:
    """Two examples with one text would be one example counted twice."""
    counts = Counter(tuple(example.fields.values()) for example in read_task(task, None, task))

    assert [fields for fields, count in counts.items() if count > 1] == []


@pytest.mark.parametrize("task", BUNDLED)
def test_the_gold_letters_are_balanced(task: str) -> None:
    """A model that always says one letter is no better than chance; among the shots too every letter occurs."""
    examples = read_task(task, None, task)
    counts = Counter(example.gold for example in examples)
    fair = len(examples) / len(examples[0].options)

    assert set(examples[0].options) == set(counts)
    assert all(abs(count - fair) <= 0.15 * fair for count in counts.values()), counts
    assert set(examples[0].options) == {example.gold for example in examples[-8:]}


@pytest.mark.parametrize("task", BUNDLED)
def test_every_edit_adds_exactly_its_word(task: str) -> None:
    """Without the inserted word, the words after the edit are the words before, and nothing else has changed."""
    for example, one in edits_of(task):
        before, after = example.fields[str(one.field)], apply(example, one)
        left = Counter(words(after)) - Counter(words(before))

        assert Counter(words(one.inserted)) == left, one.id
        assert len(words(before)) + len(words(one.inserted)) == len(words(after)), one.id
        assert re.sub(r"[\w\s]", "", before) == re.sub(r"[\w\s]", "", after.replace(one.inserted, "", 1)), one.id
        assert " ".join(after.split()) == after, one.id


@pytest.mark.parametrize("task", BUNDLED)
def test_every_inserted_word_is_one_lower_case_word_of_its_kind(task: str) -> None:
    """One word, an adjective or an adverb."""
    for _, one in edits_of(task):
        assert re.fullmatch(r"[a-z]+(-[a-z]+)?", one.inserted), one.id
        assert one.pos in ("ADJ", "ADV"), one.id


@pytest.mark.parametrize("task", BUNDLED)
def test_every_article_fits_its_word(task: str) -> None:
    """A before consonants and an before vowels, in the texts and in what the edits make of them."""
    texts = [text for example in read_task(task, None, task) for text in example.fields.values()]
    texts += [apply(example, one) for example, one in edits_of(task)]
    wrong = [
        found.group()
        for text in texts
        for found in ARTICLE.finditer(text)
        if found[1].lower() != wanted_article(found[2]) and found[1] != "A"
    ]

    assert wrong == []


@pytest.mark.parametrize("task", BUNDLED)
def test_no_inserted_word_was_there_before(task: str) -> None:
    """Under no mention policy is a word in its own fields or options, in the shots, or in any text of the prompts."""
    reserve = read_task(task, None, task)[-RESERVE:]
    shown = [
        text for shot in reserve for text in (*shot.fields.values(), *shot.options.values(), shot.explanation or "")
    ]
    directory = default_directory()
    book = PromptBook(directory)
    example = Example(id="e", task=task, fields=dict.fromkeys(reserve[0].fields, ""), options=dict.fromkeys("AB", ""))
    for style in ("chat", "completion"):
        for order in ("pe", "ep"):
            for level in sorted(path.stem for path in (directory / "verbosity").glob("*.txt")):
                rendered = book.render(
                    example,
                    example.fields,
                    style=style,  # type: ignore[arg-type]
                    order=order,  # type: ignore[arg-type]
                    shape=task,
                    shots=(),
                    verbosity=level,
                )
                shown += [rendered] if isinstance(rendered, str) else [turn.content for turn in rendered]
    present = [
        (one.id, one.inserted)
        for owner, one in edits_of(task)
        if already_present(one.inserted, [*owner.fields.values(), *owner.options.values(), "\n".join(shown)])
    ]

    assert present == []


def test_no_edit_stands_twice() -> None:
    """Intervention ids are unique over all bundled tasks."""
    counts = Counter(one.id for task in BUNDLED for _, one in edits_of(task))

    assert [name for name, count in counts.items() if count > 1] == []


def test_every_field_is_edited_somewhere() -> None:
    """Each field of each task receives a fair share of the insertions."""
    for task in BUNDLED:
        counts = Counter(one.field for _, one in edits_of(task))
        names = set(read_task(task, None, task)[0].fields)

        assert names == set(counts)
        assert min(counts.values()) >= 0.25 * sum(counts.values()) / len(names)
