"""Text made comparable (Unicode forms, case, apostrophes), with a way back to the original offsets."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_SIGNS = {
    **dict.fromkeys(map(ord, "‘’‛ʼʹ′´＇"), "'"),  # before NFKC, which makes "´" a space and a combining accent
    **dict.fromkeys(map(ord, "‐‑"), "-"),  # hyphen and non-breaking hyphen
    **dict.fromkeys([0xAD, 0x61C, *range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF], ""),
}
"""Signs made equal. The last line's are invisible within a word: soft hyphen, joiners, marks of direction, byte order
mark; the zero-width space is not among them, since it is there to part words."""

WORD_START = r"(?<![^\W_])"
WORD_END = r"(?![^\W_]|'t(?![^\W_]))"
"""Where a word begins and ends in folded text; "don't" does not end after "don"."""

MOST_ACCENTS = 30
"""Signs that may join the one before them. No language needs so many (Unicode's stream-safe text format, UAX 15)."""

_LONGEST_KEPT = 20_000  # longer texts are folded again each time: a hundred of them would take gigabytes

_FOREIGN = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]+")  # with the sign before it, which an accent may belong to


@dataclass(frozen=True, slots=True)
class Folded:
    """The folded text; `starts[i]`, `ends[i]` say where its sign i came from (None: from the same place)."""

    text: str
    starts: tuple[int, ...] | None
    ends: tuple[int, ...] | None

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original text whose folded form is `text[start:end]`, `start` < `end`."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def fold(text: str) -> Folded:
    """NFKC and casefold of `text`; curly apostrophes become straight, invisible signs vanish.

    >>> fold("The ﬁnest").original(4, 6)
    (4, 5)
    """
    return fold_and_keep(text) if len(text) <= _LONGEST_KEPT else _fold(text)


@lru_cache(maxsize=128)
def fold_and_keep(text: str) -> Folded:
    """As `fold`, of a text that is likely to be folded again soon."""
    return _fold(text)


def _fold(text: str) -> Folded:
    if text.isascii():
        return Folded(text.lower(), None, None)
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    position = 0
    for match in _FOREIGN.finditer(text):
        pieces.append(text[position : match.start()].lower())
        starts += range(position, match.start())
        ends += range(position + 1, match.start() + 1)
        for start, end in _clusters(text, match.start(), match.end()):
            folded = _fold_cluster(text[start:end])
            pieces.append(folded)
            starts += [start] * len(folded)
            ends += [end] * len(folded)
        position = match.end()
    pieces.append(text[position:].lower())
    starts += range(position, len(text))
    ends += range(position + 1, len(text) + 1)
    return Folded("".join(pieces), tuple(starts), tuple(ends))


def is_word_sign(sign: str) -> bool:
    """True for letters, digits, and the accents and vowel signs that belong to the letter before them."""
    return sign.isalnum() or unicodedata.category(sign).startswith("M")


def strip_signs(phrase: str) -> str:
    """The phrase from its first to its last letter or digit: quotes or a full stop around it do not count."""
    kept = [index for index, sign in enumerate(phrase) if is_word_sign(sign)]
    return phrase[kept[0] : kept[-1] + 1] if kept else ""


def stands_alone(text: str, start: int, end: int) -> bool:
    """True unless a vowel sign or an accent, no letter to a pattern, joins the span to its neighbours."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (before and is_word_sign(before)) and not (after and is_word_sign(after))


def _fold_cluster(cluster: str) -> str:
    plain = unicodedata.normalize("NFKC", cluster.translate(_SIGNS))
    return unicodedata.normalize("NFKC", plain.casefold())


def _clusters(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Spans of signs that normalisation may join: a letter with its accents, a Hangul syllable's parts.

    None is longer than MOST_ACCENTS: to order the accents of one letter takes the square of their number.
    """
    spans: list[tuple[int, int]] = []
    for position in range(start, end):
        sign = text[position]
        joins = unicodedata.category(sign).startswith("M") or "\u1160" <= sign <= "\u11ff"
        if joins and spans and position - spans[-1][0] <= MOST_ACCENTS:
            spans[-1] = (spans[-1][0], position + 1)
        else:
            spans.append((position, position + 1))
    return spans
