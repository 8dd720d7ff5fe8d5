"""Random words: an adjective before a noun or an adverb before a verb (Atanasova et al. 2023, section 3.1).

As in the original, any noun and any verb will do, inside a compound too ("soccer quiet game"); proper nouns
and auxiliaries will not. Unlike it, nothing but the word, its capital and its article changes (see
`splices`), and a word that the prompt already has is never drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from explaineval.interventions.edit import OPENERS, splice, splice_naturally
from explaineval.interventions.files import intervention_id
from explaineval.interventions.words import SenseLists, WordLists, load_sense_words, load_words
from explaineval.records import Example, Intervention


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `offset` in code points of its text, `pos` the universal tag (NOUN), `tag` the fine one."""

    text: str
    offset: int
    pos: str
    tag: str


KIND = "random_word"
INSERTED_BEFORE = {"NOUN": "ADJ", "VERB": "ADV"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a word may go: before `offset` of `field`; `pos` is the word's part of speech (ADJ or ADV)."""

    field: str
    offset: int
    pos: str


def build_random_words(
    example: Example,
    tokens_by_field: Mapping[str, Sequence[Token]],
    *,
    per_example: int,
    seed: int,
    fields: Sequence[str],
    coin: bool,
    forbidden_texts: Sequence[str],
    is_present: Callable[[str, Sequence[str]], bool],
    words: WordLists | None = None,
) -> list[Intervention]:
    """Up to `per_example` interventions with different words, always the same for the same arguments.

    `fields` are those that may be edited and `tokens_by_field` holds their tagged tokens. With `coin` each
    intervention first draws its field (among those that have a place), without it each place is as likely as
    any other. `is_present(word, texts)` says whether a word counts as present under any mention policy; it is
    asked about the example's fields, options and instruction together with `forbidden_texts` (the prompt's
    instructions, shots, level texts). The draw depends on the seed, the task and the example alone, and the
    first k of a longer list are the list of k. Fewer come back where places or words run out; the caller
    counts. `words` replaces the shipped lists.
    """
    random = Random(f"{seed}:{example.task}:{example.id}")  # noqa: S311 - a draw that must repeat, not a secret
    texts = [*example.fields.values(), *example.options.values(), example.instruction or "", *forbidden_texts]
    places = [
        place
        for field in dict.fromkeys(fields)
        for place in find_places(field, example.fields[field], tokens_by_field[field])
    ]
    lists = words or load_words()
    pools = {"ADJ": list(lists.adjectives), "ADV": list(lists.adverbs)}
    built: list[Intervention] = []
    while len(built) < per_example and places:
        place = _draw_place(random, places, coin)
        word = next((drawn for drawn in _drain(random, pools[place.pos]) if not is_present(drawn, texts)), None)
        if word is None:
            places = [other for other in places if other.pos != place.pos]
        else:
            built.append(_intervention(example, place, word))
    return built


def find_places(field: str, text: str, tokens: Sequence[Token]) -> list[Place]:
    """The places of a text: before each noun and verb that starts the text or follows a space or an opener.

    A token inside a word (the shirt of "T-shirt", the "n't" of "don't") is no place, nor is a single letter.
    """
    return [
        Place(field, token.offset, INSERTED_BEFORE[token.pos])
        for token in tokens
        if token.pos in INSERTED_BEFORE
        and len(token.text) > 1
        and token.text[0].isalnum()
        and _starts_word(text, token.offset)
    ]


def _starts_word(text: str, offset: int) -> bool:
    """Whether a word starts at the offset. A quote or bracket counts only where it opens: after a space."""
    outside = text[:offset].rstrip(OPENERS)
    return not outside or outside[-1].isspace()


def _draw_place(random: Random, places: Sequence[Place], coin: bool) -> Place:
    if coin:
        field = random.choice(list(dict.fromkeys(place.field for place in places)))
        places = [place for place in places if place.field == field]
    return random.choice(places)


def _drain(random: Random, pool: list[str]) -> Iterator[str]:
    """Words of the pool in random order, each removed as it is drawn: none is drawn twice for one example."""
    while pool:
        yield pool.pop(random.randrange(len(pool)))


def _intervention(example: Example, place: Place, word: str) -> Intervention:
    text = example.fields[place.field]
    edited = splice_naturally(text, place.offset, word)
    more_than_splice = edited if edited != splice(text, place.offset, word) else None
    identifier = intervention_id(
        task=example.task, example_id=example.id, kind=KIND, field=place.field, offset=place.offset,
        inserted=word, pos=place.pos, edited=more_than_splice,
    )  # fmt: skip
    return Intervention(
        id=identifier, task=example.task, example_id=example.id, kind=KIND, field=place.field,
        offset=place.offset, inserted=word, pos=place.pos, edited=more_than_splice,
    )  # fmt: skip


COMPAT_KIND = "random_word_atanasova"
DRAWS_PER_EDIT = 100
"""Draws that may repeat an edit before the example counts as exhausted."""


def build_atanasova(
    example: Example,
    tokens_by_field: Mapping[str, Sequence[Token]],
    *,
    per_example: int,
    seed: int,
    fields: Sequence[str],
    words: SenseLists | None = None,
) -> list[Intervention]:
    """Up to `per_example` edits of one example, different from one another; the same for the same arguments.

    As in the original one field is drawn for the example, and all its edits are made there. Each draws its place
    and its word anew (the original draws places without replacement, one by default). Fewer come back where the
    field has neither noun nor verb. The first k of a longer list are the list of k.
    """
    random = Random(f"{seed}:{example.task}:{example.id}:atanasova")  # noqa: S311 - a draw that must repeat
    field = random.choice(list(fields))
    tokens = tokens_by_field[field]
    places = [number for number, token in enumerate(tokens) if token.pos in INSERTED_BEFORE]
    lists = words or load_sense_words()
    built: dict[str, Intervention] = {}
    draws = 0
    while places and len(built) < per_example and draws < DRAWS_PER_EDIT * per_example:
        draws += 1
        one = _edit(example, field, tokens, random.choice(places), random, lists)
        built.setdefault(one.id, one)
    return list(built.values())


def _edit(
    example: Example, field: str, tokens: Sequence[Token], place: int, random: Random, lists: SenseLists
) -> Intervention:
    pos = INSERTED_BEFORE[tokens[place].pos]
    word = random.choice(lists.adjectives if pos == "ADJ" else lists.adverbs)
    texts = [token.text for token in tokens]
    edited = " ".join([*texts[:place], word, *texts[place:]])
    offset = tokens[place].offset
    identifier = intervention_id(
        task=example.task, example_id=example.id, kind=COMPAT_KIND, field=field, offset=offset, inserted=word, pos=pos,
        edited=edited,
    )  # fmt: skip
    return Intervention(
        id=identifier, task=example.task, example_id=example.id, kind=COMPAT_KIND, field=field, offset=offset,
        inserted=word,
        pos=pos, edited=edited,
    )  # fmt: skip
