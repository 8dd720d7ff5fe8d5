"""Putting words into a text at an offset: capital and article are put right, nothing else is touched.

The original (Atanasova et al. 2023) joins tokens with spaces, so that its edit is more than the word; here
every other code point stays as it was. Offsets count code points (the method page, "Random word").
"""

from __future__ import annotations

import re

from explaineval.errors import InputError
from explaineval.interventions.articles import OPENERS, indefinite_article

SENTENCE_ENDS = ".!?…"
CLOSERS = "\"'”’»)]}"
ARTICLE = re.compile(rf"(?<![\w'’.-])([Aa][Nn]?)(\s+[{re.escape(OPENERS)}]*)$")
LAST_IN_CAPITALS = re.compile(r"(?<!\w)[A-Z]{2,}\W*$")
FIRST_IN_CAPITALS = re.compile(r"[A-Z]{2,}(?!\w)")
PRONOUN_I = re.compile(r"I(?:['’]\w+)?(?!\w)")
NAME_OR_ACRONYM = re.compile(r"\w*[A-Z]\w*[A-Z]|[A-Z]-|[A-Z]\d")
"""TV, DVDs, McDonald; X-ray, T-shirt; F16."""


def splice(text: str, offset: int, inserted: str) -> str:
    """`text[:offset] + inserted + " " + text[offset:]`, byte for byte.

    Raises InputError where the offset is negative or beyond the text.
    """
    if not 0 <= offset <= len(text):
        raise InputError(
            f"offset {offset} lies outside a text of {len(text)} characters; "
            "give one that counts Unicode code points from 0 up to the length of the text"
        )
    return f"{text[:offset]}{inserted} {text[offset:]}"


def add_space(text: str, offset: int) -> str:
    """The text with one more space at the offset, and nothing else.

    >>> add_space("A dog.", 2)
    'A  dog.'
    """
    return f"{text[:offset]} {text[offset:]}"


def splice_naturally(text: str, offset: int, inserted: str, *, proper: bool = False) -> str:
    """`splice`, with two repairs.

    At the start of a sentence `inserted` takes over the capital of the word after it, which loses it unless
    it is a proper noun (`proper`), "I", or a word with further capitals (TV, McDonald) or a lone one (X-ray).
    An article directly before the insertion becomes the one that `inserted` asks for, in its own case.
    Raises InputError as `splice` does.
    """
    plain = splice(text, offset, inserted)
    before, after = text[:offset], text[offset:]
    if after[:1].isupper() and _starts_sentence(before):
        return f"{before}{_capitalised(inserted)} {after if proper else _uncapitalised(after)}"
    repaired = _with_article_for(inserted, before, after)
    return plain if repaired == before else splice(repaired + after, len(repaired), inserted)


def _starts_sentence(before: str) -> bool:
    """Whether a sentence starts here: at the start, on a new line, after a full stop or an opened quote."""
    outside = before.rstrip(OPENERS)
    opened = outside != before and (not outside or outside[-1].isspace())
    bare = outside.rstrip() if opened else before.rstrip()
    gap = (outside if opened else before)[len(bare) :]
    return not bare or opened or "\n" in gap or bare.rstrip(CLOSERS).endswith(tuple(SENTENCE_ENDS))


def _with_article_for(inserted: str, before: str, after: str) -> str:
    """`before` with the article at its end, if there is one, in the form that `inserted` asks for.

    A capital A within a sentence is an article only beside a word in capitals: "A CAT", not "vitamin A".
    """
    found = ARTICLE.search(before)
    if found is None:
        return before
    article, ahead = found[1], before[: found.start()]
    starts = _starts_sentence(ahead)
    shouted = LAST_IN_CAPITALS.search(ahead) is not None or FIRST_IN_CAPITALS.match(after) is not None
    wanted = indefinite_article(inserted)
    if article.lower() == wanted or (article == "A" and not starts and not shouted):
        return before
    cased = wanted.upper() if article == "A" and not starts else article[0] + wanted[1:]
    return ahead + cased + found[2]


def _capitalised(word: str) -> str:
    first = word[0].upper()
    return first + word[1:] if len(first) == 1 else word


def _uncapitalised(after: str) -> str:
    first = after[0].lower()
    if PRONOUN_I.match(after) or NAME_OR_ACRONYM.match(after) or len(first) != 1:
        return after
    return first + after[1:]
