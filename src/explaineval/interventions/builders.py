"""Build interventions: words inserted into fields, cues beside the input, and edits that a model proposes.

Random words (Atanasova et al. 2023, section 3.1): an adjective before a noun or an adverb before a verb.
`build_random_words` allows any noun and any verb, as the original does, inside a compound too ("soccer quiet game"),
but no proper noun and no auxiliary. Other than the original it changes nothing but the word, its capital and its
article (see `splice`), and never draws a word that the prompt has already. `build_atanasova` does as the original.

Cues (Turpin et al. 2023; Chen et al. 2025): a suggested answer beside the input. The text of a cue stands after the
options, and says that somebody thinks, or some record holds, that one letter is the answer. Its control says the same
without a letter, so that the effect of the letter can be told from the effect of having such a text in the prompt. A
pattern (Turpin et al. 2023) suggests a letter without any text: the options of the shots are reordered so that all
their answers have that letter; in its control they have mixed letters.

An editor model marks the word that it inserts by square brackets. It may also correct a comma, and the effect of that
would be taken for the effect of the word. So its reply without the brackets must be what our own splice makes of the
original, or the original with a space and the word after one of its words ("He ran [quickly].").
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Literal

from explaineval.interventions.splice import add_space, is_inside_word, splice, splice_naturally, starts_word
from explaineval.interventions.words import SenseLists, WordLists, load_sense_words, load_words
from explaineval.records import Example, Intervention

NATURAL = "_natural"
"""What the name of a kind of inserted words ends in after a judge has chosen the natural ones among its edits."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token: `offset` in code points of its text, `pos` the universal tag (NOUN), `tag` the fine one."""

    text: str
    offset: int
    pos: str
    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """What a builder may use beside the example.

    `kind` is the name of the kind to build, `per_example` the number of interventions that are wanted of an example.
    `tokens` holds the tagged tokens of the example's fields, for kinds that need them. With `field_first` a field is
    drawn before the place in it, so that a short field is edited as often as a long one. `prompt_texts(example)`
    returns the texts of the prompt that depend on the example (its instruction). `is_present(word, texts)` says whether
    a mention of the word could be found in one of the texts, or in what stands around every example (shots, levels).
    `cue_text(letter)` returns what the cue of this kind says, and with None what its control says.
    """

    kind: str
    per_example: int
    seed: int
    prompt_texts: Callable[[Example], Sequence[str]]
    is_present: Callable[[str, Sequence[str]], bool]
    cue_text: Callable[[str | None], str]
    field_first: bool = False
    tokens: Mapping[str, Sequence[Token]] = field(default_factory=dict)


Builder = Callable[[Example, BuildContext], Iterable[Intervention]]
"""Builds the interventions of one example: always the same ones for the same arguments."""


INSERTED_BEFORE = {"NOUN": "ADJ", "VERB": "ADV"}
DRAWS_PER_EDIT = 100
"""Draws after which `build_atanasova` gives up on another edit, since edits repeat."""


@dataclass(frozen=True, slots=True)
class InsertionPoint:
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


ONSETS, VOWELS, CODAS = "bdfgklmnprstvz", "aeiou", "bfkmpvz"
"""Letters of words of no language. They end as no inflected English word does."""


def build_nonwords(example: Example, context: BuildContext) -> Iterator[Intervention]:
    """Yield the edits of `build_random_words` with a word of no language in place of each word: three syllables.

    No such word is in the prompt, nor in any word of the shipped lists.
    """
    random = Random(f"{context.seed}:{example.task}:{example.id}:nonword")  # noqa: S311 - a draw that must repeat
    texts = [*example.fields.values(), *example.options.values(), *context.prompt_texts(example)]
    drawn: set[str] = set()
    for edit in build_random_words(example, context):
        word = _draw_nonword(random)
        while word in drawn or word in _all_words() or context.is_present(word, texts):
            word = _draw_nonword(random)
        drawn.add(word)
        yield _intervention(
            example, context.kind, InsertionPoint(str(edit.field), edit.offset or 0, str(edit.pos)), word
        )


def _draw_nonword(random: Random) -> str:
    letters = (ONSETS, VOWELS, ONSETS, VOWELS, ONSETS, VOWELS, CODAS)
    return "".join(map(random.choice, letters))


@cache
def _all_words() -> str:
    """All words of the shipped lists as one text."""
    lists = load_words(), load_sense_words()
    return "\n".join(word for words in lists for word in (*words.adjectives, *words.adverbs)).lower()


def build_duplicates(example: Example, context: BuildContext) -> Iterator[Intervention]:
    """Yield up to `per_example` edits that double a whole noun or verb at its place; `pos` is its own tag."""
    random = Random(f"{context.seed}:{example.task}:{example.id}:duplicate")  # noqa: S311 - a draw that must repeat
    found: dict[InsertionPoint, Token] = {}
    for name, tokens in context.tokens.items():
        text = example.fields[name]
        at = {token.offset: token for token in tokens}
        for place in find_places(name, text, tokens):
            token = at[place.offset]
            if not is_inside_word(text, token.offset + len(token.text)):
                found[replace(place, pos=token.pos)] = token
    for _ in range(min(context.per_example, len(found))):
        place = _draw_place(random, list(found), field_first=context.field_first)
        yield _intervention(example, context.kind, place, found.pop(place).text)


def find_places(field: str, text: str, tokens: Sequence[Token]) -> list[InsertionPoint]:
    """Return the places of a text: before each noun and verb that starts the text or follows a space or an opener.

    A token inside a word (the shirt of "T-shirt", the "n't" of "don't") is no place, nor is a single letter.
    """
    return [
        InsertionPoint(field, token.offset, INSERTED_BEFORE[token.pos])
        for token in tokens
        if token.pos in INSERTED_BEFORE
        and len(token.text) > 1
        and token.text[0].isalnum()
        and starts_word(text, token.offset)
    ]


def _draw_place(random: Random, places: Sequence[InsertionPoint], *, field_first: bool) -> InsertionPoint:
    if field_first:
        field = random.choice(list(dict.fromkeys(place.field for place in places)))
        places = [place for place in places if place.field == field]
    return random.choice(places)


def _draw_words(random: Random, pool: list[str]) -> Iterator[str]:
    """Yield words of the pool in random order and remove each: none is drawn twice for one example."""
    while pool:
        yield pool.pop(random.randrange(len(pool)))


def _intervention(example: Example, kind: str, place: InsertionPoint, word: str) -> Intervention:
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


def draw_letter(seed: int, example: Example, kind: str) -> str | None:
    """Return the letter that a cue of this kind suggests for the example: not the gold one; any if gold is unknown.

    It is drawn by the SHA-256 of seed, example id and kind alone, so that it is known before a model is asked and is
    the same in every set. None where no letter is left.
    """
    letters = [letter for letter in example.options if letter != example.gold]
    if not letters:
        return None
    content = json.dumps([seed, example.id, kind], ensure_ascii=False).encode("utf-8", "surrogatepass")
    return letters[int.from_bytes(hashlib.sha256(content).digest()) % len(letters)]


def build_cue(example: Example, context: BuildContext) -> tuple[Intervention, ...]:
    """Build the cue of this kind and its control; nothing where the example has no letter to suggest."""
    letter = draw_letter(context.seed, example, context.kind)
    if letter is None:
        return ()
    return tuple(
        Intervention.identified(
            task=example.task, example_id=example.id, kind=kind, inserted=context.cue_text(target), target=target
        )
        for kind, target in ((context.kind, letter), (f"{context.kind}_control", None))
    )


def build_pattern(example: Example, context: BuildContext) -> Iterator[Intervention]:
    """Build a pattern of one letter in the shots, and its control; nothing where the example has no other letter."""
    letter = draw_letter(context.seed, example, context.kind)
    if letter is not None:
        for kind, target in ((context.kind, letter), (f"{context.kind}_control", None)):
            yield Intervention.identified(task=example.task, example_id=example.id, kind=kind, target=target)


FEWEST_SHOTS = 2
"""One answer is no pattern, and cannot be mixed."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which letters the answers of the shots have: all of them `letter`, or mixed ones where it is None."""

    letter: str | None

    @property
    def description(self) -> str:
        """The pattern in words, as it is shown where another cue's text is."""
        return "answers of the shots: " + ("mixed letters" if self.letter is None else f"all {self.letter}")

    def arrange(self, shots: Sequence[Example]) -> tuple[Example, ...]:
        """Return the shots with their options reordered so that their answers have the letters of the pattern.

        The text of the right answer changes places with the text at its new letter. Mixed letters come in blocks in
        which each option's letter stands once, in an order drawn by the ids of the shots, so that they are the same
        at every level of verbosity and make no pattern. Raises KeyError where a shot has no such option.
        """
        letters = [self.letter] * len(shots) if self.letter is not None else _mixed_letters(shots)
        return tuple(_with_answer(shot, str(letter)) for shot, letter in zip(shots, letters, strict=True))


def _mixed_letters(shots: Sequence[Example]) -> list[str]:
    """Return a letter for each shot: each of its options about as often as the others, in a drawn order."""
    seed = json.dumps(["mixed", *(shot.id for shot in shots)])
    draw = Random(seed)  # noqa: S311 - reproducible, not secret
    letters: list[str] = []
    waiting: list[str] = []
    for shot in shots:
        if not set(waiting) & set(shot.options):
            waiting = draw.sample(sorted(shot.options), len(shot.options))
        letter = next(letter for letter in waiting if letter in shot.options)
        waiting.remove(letter)
        letters.append(letter)
    return letters


def _with_answer(shot: Example, letter: str) -> Example:
    """Return the shot with its right answer at this letter."""
    gold = str(shot.gold)
    moved = {letter: shot.options[gold], gold: shot.options[letter]}
    options = {place: moved.get(place, text) for place, text in shot.options.items()}
    return shot.model_copy(update={"options": options, "gold": letter})


def build_null_edit(example: Example, edits: Iterable[Intervention]) -> Intervention | None:
    """Add one space at the place of the first of the example's edits; None where it has none, or only cues."""
    for edit in edits:
        if edit.field is not None and edit.offset is not None:
            return Intervention.identified(
                task=example.task,
                example_id=example.id,
                kind="null_edit",
                field=edit.field,
                offset=edit.offset,
                inserted=" ",
                edited=add_space(example.fields[edit.field], edit.offset),
            )
    return None


Reason = Literal[
    "no word in brackets", "several words in brackets", "not one word of letters", "something else was changed",
    "the word is in the prompt already", "neither adjective nor adverb",
]  # fmt: skip

MARK = re.compile(r"\[([^\[\]]*)\]")
LEAD = re.compile(r"\A\W*edited(?: text)?\W*?:[ \t*]*", re.IGNORECASE)
PAIRS = ('""', "“”", "''", "‘’", "``")
CLOSERS = ".,;:!?…)]}\"'”’»"


@dataclass(frozen=True, slots=True)
class Proposal:
    """One inserted word in lower case, where it goes in the original, and the whole text after the edit."""

    word: str
    offset: int
    edited: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a reply is no proposal, and the word that it inserts, if any."""

    reason: Reason
    word: str | None = None


def read_proposal(original: str, reply: str) -> Proposal | Refusal:
    """Return the edit that a reply proposes for `original`, or why it is refused.

    The reply is the text with the word in brackets, with or without `Edited:` before it and quotes around it. White
    space at the ends of the original need not be repeated. An initial capital and an article before the word may be
    repaired, as `splice_naturally` does and no further.
    """
    core = original.strip()
    lead = original[: len(original) - len(original.lstrip())]
    tail = original[len(lead) + len(core) :]
    worst = Refusal("no word in brackets")
    for text in _readings(reply):
        marks = [found for found in MARK.finditer(text) if found[0] not in core]
        if len(marks) > 1:
            worst = Refusal("several words in brackets")
        if len(marks) != 1:
            continue
        word = marks[0][1].strip()
        if not word.isalpha() or marks[0][1] != word:
            worst = Refusal("not one word of letters", word or None)
            continue
        before, after = text[: marks[0].start()], text[marks[0].end() :]
        offset = _offset(core, before, word, after)
        if offset is not None:
            return Proposal(word.lower(), len(lead) + offset, f"{lead}{before}{word}{after}{tail}")
        worst = Refusal("something else was changed", word)
    return worst


def _readings(reply: str) -> Iterator[str]:
    """Yield what the reply may mean: itself, without `Edited:`, without quotes around it, its last line alone."""
    plain = LEAD.sub("", reply.strip()).strip()
    for text in dict.fromkeys((plain, reply.strip(), LEAD.sub("", reply.strip().rpartition("\n")[2]).strip())):
        yield text
        if len(text) > 1 and text[0] + text[-1] in PAIRS:
            yield text[1:-1].strip()


def _offset(core: str, before: str, word: str, after: str) -> int | None:
    """Return where in `core` the word was inserted; None where anything else differs.

    An article repaired before the word moves it by one in either direction.
    """
    plain = before + word + after
    for offset in (len(before), len(before) - 1, len(before) + 1):
        if not 0 <= offset < len(core) or core[offset].isspace() or not starts_word(core, offset):
            continue
        if plain == splice(core, offset, word) and word.islower():
            return offset
        if plain == splice_naturally(core, offset, word.lower()):
            return offset
    end = len(before) - 1
    if before.endswith(" ") and word.islower() and _ends_word(core, end):
        return end if plain == f"{core[:end]} {word}{core[end:]}" else None
    return None


def _ends_word(text: str, offset: int) -> bool:
    """Whether a word of the text ends here: before the end, a space, or what closes a word and is no part of one."""
    if not 0 < offset <= len(text) or text[offset - 1].isspace():
        return False
    rest = text[offset:].lstrip(CLOSERS)
    return not rest or rest[0].isspace() or text[offset].isspace()


LEAST_MASS = 0.9
"""Probability on the two letters below which a judge's probabilities are not used."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate with the judge's answer, and its probability of "yes" where the endpoint gave usable ones."""

    intervention: Intervention
    natural: bool
    probability: float | None = None


def keep_natural(judged: Sequence[Judged], share: float) -> list[Judged]:
    """Return the top `share` (0 to 1) of one example's judged candidates, in their own order.

    Their number is rounded down, but at least one is kept. They are ranked by the probability of "yes" where each of
    them has one, else by yes or no; ties are broken by a hash of the intervention's id, which does not depend on the
    order of building.
    """
    graded = all(candidate.probability is not None for candidate in judged)
    count = max(1, int(share * len(judged) + 1e-9))

    def rank(candidate: Judged) -> tuple[float, str]:
        score = candidate.natural if not graded or candidate.probability is None else candidate.probability
        digest = hashlib.sha256(candidate.intervention.id.encode("utf-8", "surrogatepass")).hexdigest()
        return -float(score), digest

    kept = {id(candidate) for candidate in sorted(judged, key=rank)[:count]}
    return [candidate for candidate in judged if id(candidate) in kept]


def call_natural(intervention: Intervention) -> Intervention:
    """Return the intervention as one of the kind of the filtered set (random_word_natural), with its new id."""
    content = intervention.model_dump(exclude={"id", "kind"})
    return Intervention.identified(kind=intervention.kind + NATURAL, **content)
