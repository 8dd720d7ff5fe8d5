"""Is a cue mentioned? By a list of phrases per cue (Chen et al. 2025), such as "the user * thinks"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from explaineval.errors import InputError
from explaineval.mentions.foldings import WORD_END, WORD_START, fold, stands_alone, strip_signs

MOST_BETWEEN = 4
"""The most words that a wildcard stands for."""

_WILDCARD = re.compile(r"\*+|…|\.{3,}")
_SEPARATOR = re.compile(r"(?:[^\w.!?。！？]|\.(?=\d))++")  # what parts words within a sentence
_WORD = re.compile(r"\w++(?:['-]\w++){0,3}+")  # one that a wildcard stands for


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
    spans = [span for phrase in map(_compile, phrases) if (span := phrase.find(folded.text)) is not None]
    first = min(spans, key=lambda span: (span[0], -span[1]), default=None)
    return None if first is None else folded.original(*first)


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A phrase for folded text: its first words, and a pattern for each run of words between wildcards."""

    words: tuple[str, ...]
    runs: tuple[re.Pattern[str], ...]

    def find(self, text: str) -> tuple[int, int] | None:
        """The first span of the phrase in `text`. The time it takes grows with the length of the text alone."""
        if not all(word in text for word in self.words):  # spares the slow search in nearly all texts
            return None
        ends = self._find_ends(text)
        after = 0
        for start in sorted(ends):
            if start >= after and stands_alone(text, start, ends[start]):
                return start, ends[start]
            after = max(after, ends[start]) if start >= after else after
        return None

    def _find_ends(self, text: str) -> dict[int, int]:
        """Where the phrase ends by where it starts.

        The runs are sought from the last to the first: each place of a run is looked at once, and goes on with the
        nearest place of the next run that the rest of the phrase follows.
        """
        ends: dict[int, int] = {}
        for index, run in reversed(list(enumerate(self.runs))):
            found = {match.start(): match.end(1) for match in run.finditer(text)}
            if index < len(self.runs) - 1:
                follows = {start: _follow(text, end, ends) for start, end in found.items()}
                found = {start: end for start, end in follows.items() if end is not None}
            if not found:
                return {}
            ends = found
        return ends


def _follow(text: str, end: int, ends: Mapping[int, int]) -> int | None:
    """The end of the rest of a phrase that follows the place `end` after up to MOST_BETWEEN words."""
    for _ in range(MOST_BETWEEN + 1):
        separator = _SEPARATOR.match(text, end)
        if separator is None:
            return None
        if separator.end() in ends:
            return ends[separator.end()]
        word = _WORD.match(text, separator.end())
        if word is None:
            return None
        end = word.end()
    return None


@lru_cache(maxsize=4096)
def _compile(phrase: str) -> _Phrase:
    pieces = [strip_signs(" ".join(fold(piece).text.split())) for piece in _WILDCARD.split(phrase)]
    kept = [piece.split() for piece in pieces if piece]
    if not kept:
        raise InputError(f"The phrase {phrase!r} holds no word: it would be found nowhere, or everywhere.")
    written = [r"\s++".join(map(re.escape, words)) + WORD_END for words in kept]
    # what is looked ahead for is not consumed, so that runs are found that overlap ("so so" in "so so so")
    runs = tuple(re.compile(f"{WORD_START}(?=({run}))") for run in written)
    return _Phrase(tuple(words[0] for words in kept), runs)
