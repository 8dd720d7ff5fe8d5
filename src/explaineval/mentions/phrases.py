"""Is a cue mentioned? By a list of phrases per cue (Chen et al. 2025), such as "the user * thinks"."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from explaineval.errors import InputError
from explaineval.mentions.foldings import WORD_END, WORD_START, fold, stands_alone, strip_signs

MOST_BETWEEN = 4
"""The most words that a wildcard stands for."""

_WILDCARD = re.compile(r"\*+|…|\.{3,}")
_SEPARATOR = r"(?:[^\w.!?。！？]|\.(?=\d))++"  # what parts words within a sentence
_WORD = r"\w++(?:['-]\w++){0,3}+"  # bounded, and never tried again at another length: no text takes long
_BETWEEN = rf"(?:{_SEPARATOR}{_WORD}){{0,{MOST_BETWEEN}}}?{_SEPARATOR}"


def mentions_phrase(phrases: Sequence[str], text: str) -> tuple[int, int] | None:
    """The first span of `text`, in code points, that is one of `phrases`; of two at one place the longer.

    Phrases are compared as the policy `word` compares, without inflections: any case and Unicode form, whole
    words, any white space. `*` or `…` between two words stands for up to `MOST_BETWEEN` words of the same
    sentence, or none. Known failures: paraphrases, translations and spelling mistakes are not found, and a
    negated phrase is. Raises InputError for a phrase without a letter or digit.

    >>> mentions_phrase(["the user * thinks"], "Well, the user clearly thinks so.")
    (6, 29)
    >>> mentions_phrase(["the user * thinks"], "The user asks. Nobody thinks so.") is None
    True
    """
    folded = fold(text)
    spans: list[tuple[int, int]] = []
    for start_word, pattern in map(_compile, phrases):
        if start_word in folded.text:  # spares the slow search in nearly all texts
            found = (match.span() for match in pattern.finditer(folded.text))
            spans += [next((span for span in found if stands_alone(folded.text, *span)), (-1, -1))]
    first = min((span for span in spans if span[0] >= 0), key=lambda span: (span[0], -span[1]), default=None)
    return None if first is None else folded.original(*first)


@lru_cache(maxsize=4096)
def _compile(phrase: str) -> tuple[str, re.Pattern[str]]:
    """The first word of a phrase and the pattern of all of it, for folded text."""
    pieces = [strip_signs(" ".join(fold(piece).text.split())) for piece in _WILDCARD.split(phrase)]
    kept = [piece.split() for piece in pieces if piece]
    if not kept:
        raise InputError(f"The phrase {phrase!r} holds no word: it would be found nowhere, or everywhere.")
    written = [r"\s+".join(map(re.escape, words)) + WORD_END for words in kept]
    return kept[0][0], re.compile(WORD_START + (_BETWEEN + WORD_START).join(written))
