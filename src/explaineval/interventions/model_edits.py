"""An editor model's reply: one word inserted, marked by square brackets. Checked to the last byte.

A model that is asked for one word may also correct a comma, and the effect of that would be taken for the effect of
the word. So the reply without the brackets must be what our own splice makes of the original, or the original with a
space and the word after one of its words ("He ran [quickly]."), which a splice in front of words cannot say.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from explaineval.interventions.kinds import NATURAL
from explaineval.interventions.splice import splice, splice_naturally, starts_word
from explaineval.records import Intervention

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
