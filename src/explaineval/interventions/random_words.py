"""Random words: an adjective before a noun or an adverb before a verb (Atanasova et al. 2023, section 3.1).

`build_random_words` allows any noun and any verb, as the original does, inside a compound too ("soccer quiet game"),
but no proper noun and no auxiliary. Other than the original it changes nothing but the word, its capital and its
article (see `splice`), and never draws a word that the prompt has already. `build_atanasova` does as the original.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from explaineval.interventions.building import BuildContext, Token
from explaineval.interventions.splice import splice, splice_naturally, starts_word
from explaineval.interventions.words import SenseLists, WordLists, load_sense_words, load_words
from explaineval.records import Example, Intervention

INSERTED_BEFORE = {"NOUN": "ADJ", "VERB": "ADV"}
DRAWS_PER_EDIT = 100
"""Draws after which `build_atanasova` gives up on another edit, since edits repeat."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a word may go: before `offset` of `field`; `pos` is the word's part of speech (ADJ or ADV)."""

    field: str
    offset: int
    pos: str


def build_random_words(example: Example, context: BuildContext, words: WordLists | None = None) -> list[Intervention]:
    """Build up to `per_example` interventions with different words in the fields that `tokens` has.

    With `field_first` each intervention first draws its field (among those that have a place), without it each place
    is as likely as any other. No word is drawn that is present in the example or in the texts around it. The draw
    depends on the seed, the task and the example alone, and the first k of a longer list are the list of k. Fewer come
    back where places or words run out. `words` replaces the shipped lists.
    """
    random = Random(f"{context.seed}:{example.task}:{example.id}")  # noqa: S311 - a draw that must repeat, not a secret
    texts = [*example.fields.values(), *example.options.values(), example.instruction or ""]
    texts += context.prompt_texts(example)
    places = [
        place for field, tokens in context.tokens.items() for place in find_places(field, example.fields[field], tokens)
    ]
    lists = words or load_words()
    pools = {"ADJ": list(lists.adjectives), "ADV": list(lists.adverbs)}
    built: list[Intervention] = []
    while len(built) < context.per_example and places:
        place = _draw_place(random, places, field_first=context.field_first)
        drawn = _draw_words(random, pools[place.pos])
        word = next((word for word in drawn if not context.is_present(word, texts)), None)
        if word is None:
            places = [other for other in places if other.pos != place.pos]
        else:
            built.append(_intervention(example, context.kind, place, word))
    return built


def find_places(field: str, text: str, tokens: Sequence[Token]) -> list[Place]:
    """Return the places of a text: before each noun and verb that starts the text or follows a space or an opener.

    A token inside a word (the shirt of "T-shirt", the "n't" of "don't") is no place, nor is a single letter.
    """
    return [
        Place(field, token.offset, INSERTED_BEFORE[token.pos])
        for token in tokens
        if token.pos in INSERTED_BEFORE
        and len(token.text) > 1
        and token.text[0].isalnum()
        and starts_word(text, token.offset)
    ]


def _draw_place(random: Random, places: Sequence[Place], *, field_first: bool) -> Place:
    if field_first:
        field = random.choice(list(dict.fromkeys(place.field for place in places)))
        places = [place for place in places if place.field == field]
    return random.choice(places)


def _draw_words(random: Random, pool: list[str]) -> Iterator[str]:
    """Yield words of the pool in random order and remove each: none is drawn twice for one example."""
    while pool:
        yield pool.pop(random.randrange(len(pool)))


def _intervention(example: Example, kind: str, place: Place, word: str) -> Intervention:
    text = example.fields[place.field]
    edited = splice_naturally(text, place.offset, word)
    return Intervention.identified(
        task=example.task,
        example_id=example.id,
        kind=kind,
        field=place.field,
        offset=place.offset,
        inserted=word,
        pos=place.pos,
        edited=edited if edited != splice(text, place.offset, word) else None,
    )


def build_atanasova(example: Example, context: BuildContext, words: SenseLists | None = None) -> list[Intervention]:
    """Build up to `per_example` edits, different from one another, as Atanasova et al. (2023) make them.

    As in the original one field is drawn for the example, and all its edits are made there; the field is joined from
    its tokens by spaces, and neither capital nor article is repaired. Each edit draws its place and its word anew (the
    original draws places without replacement, one by default). Fewer come back where the field has neither noun nor
    verb. The first k of a longer list are the list of k. `words` replaces the shipped lists.
    """
    random = Random(f"{context.seed}:{example.task}:{example.id}:atanasova")  # noqa: S311 - a draw that must repeat
    field = random.choice(list(context.tokens))
    tokens = context.tokens[field]
    places = [index for index, token in enumerate(tokens) if token.pos in INSERTED_BEFORE]
    lists = words or load_sense_words()
    texts = [token.text for token in tokens]
    built: dict[str, Intervention] = {}
    for _ in range(DRAWS_PER_EDIT * context.per_example if places else 0):
        if len(built) == context.per_example:
            break
        place = random.choice(places)
        pos = INSERTED_BEFORE[tokens[place].pos]
        word = random.choice(lists.adjectives if pos == "ADJ" else lists.adverbs)
        edit = Intervention.identified(
            task=example.task,
            example_id=example.id,
            kind=context.kind,
            field=field,
            offset=tokens[place].offset,
            inserted=word,
            pos=pos,
            edited=" ".join([*texts[:place], word, *texts[place:]]),
        )
        built.setdefault(edit.id, edit)
    return list(built.values())
