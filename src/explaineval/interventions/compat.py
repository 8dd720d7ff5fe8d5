"""Random words as Atanasova et al. (2023, section 3.1) insert them, for comparison with their numbers.

The field is re-joined from its tokens by single spaces, the word is drawn from all of WordNet's adjectives or
adverbs, each as often as it has senses, with underscores in place of spaces; nothing is repaired, and nothing is
done against a word that the prompt already has. Ours (`random_words`) does otherwise on each of these counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from explaineval.interventions.lines import intervention_id
from explaineval.interventions.random_words import INSERTED_BEFORE
from explaineval.interventions.tokens import Token
from explaineval.interventions.words import SenseLists, load_sense_words
from explaineval.records import Example, Intervention

KIND = "random_word_atanasova"
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
        task=example.task, example_id=example.id, kind=KIND, field=field, offset=offset, inserted=word, pos=pos,
        edited=edited,
    )  # fmt: skip
    return Intervention(
        id=identifier, task=example.task, example_id=example.id, kind=KIND, field=field, offset=offset, inserted=word,
        pos=pos, edited=edited,
    )  # fmt: skip
