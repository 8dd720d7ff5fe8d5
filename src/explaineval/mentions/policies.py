"""Whether an explanation mentions the inserted text: three named policies, and phrase lists for cues.

- `word`: the inserted word, or a regular inflection of it, as a whole word. "quick" is mentioned by "quickly" and
  "quickest"; "quickly" is not mentioned by "quick", nor "friend" by "friendly", which is another adjective.
- `lemma`: a word with the same lemma, irregular forms included: "good" is mentioned by "best" and vice versa.
- `substring`: plain containment without regard to case (Atanasova et al. 2023): "art" is in "party".

In all three a negated mention is a mention ("not quickly"), several words are matched over any white space, and blank
text is never mentioned. A hyphen and an apostrophe end a word ("quick-witted", "dog's", 'quick'), except before t
("don't" does not hold "don"), and so does an underscore (`_quick_` is emphasis). Parts of speech are ignored: a
homograph is a mention. Words of scripts without spaces are found by `substring` only. The method page lists known
failures.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from os.path import commonprefix

from explaineval.errors import InputError
from explaineval.mentions.morphology import LONGEST, find_lemmas, inflect, share_lemma
from explaineval.plugins import Registry
from explaineval.records import POLICIES, Mention

_REPLACED = {
    **dict.fromkeys(map(ord, "‘’‛ʼʹ′´＇"), "'"),  # before NFKC, which makes "´" a space and a combining accent
    **dict.fromkeys(map(ord, "‐‑"), "-"),  # hyphen and non-breaking hyphen
    **dict.fromkeys([0xAD, 0x61C, *range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF], ""),
}
"""Characters that are replaced before comparison. Those of the last line are invisible within a word (soft hyphen,
joiners, direction marks, byte order mark); the zero-width space is not among them, since it separates words."""

WORD_START = r"(?<![^\W_])"
WORD_END = r"(?![^\W_]|'t(?![^\W_]))"
"""Patterns for where a word begins and ends in folded text; no word ends after "don" in "don't"."""

MOST_ACCENTS = 30
"""How many characters may combine with the one before them. No language needs more (UAX 15, stream-safe text)."""

_LONGEST_KEPT = 20_000  # longer texts are not cached: a hundred of them would take gigabytes

_NON_ASCII = re.compile(r"[\x00-\x7f]?[^\x00-\x7f]+")  # and the character before, which an accent may belong to


@dataclass(frozen=True, slots=True)
class Folded:
    """The folded text. Its character i comes from `starts[i]` to `ends[i]` of the original (None: the same place)."""

    text: str
    starts: tuple[int, ...] | None
    ends: tuple[int, ...] | None

    def original(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original text whose folded form is `text[start:end]`; `start` < `end`."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def fold(text: str) -> Folded:
    """The text in NFKC and casefolded, with straight apostrophes and without invisible characters.

    >>> fold("The ﬁnest").original(4, 6)
    (4, 5)
    """
    return fold_and_keep(text) if len(text) <= _LONGEST_KEPT else _fold(text)


@lru_cache(maxsize=128)
def fold_and_keep(text: str) -> Folded:
    """Fold a text that is likely to be folded again soon."""
    return _fold(text)


def _fold(text: str) -> Folded:
    if text.isascii():
        return Folded(text.lower(), None, None)
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    position = 0
    for match in _NON_ASCII.finditer(text):
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


def is_word_character(char: str) -> bool:
    """True for letters and digits, and for accents and vowel signs, which belong to the letter before them."""
    return char.isalnum() or unicodedata.category(char).startswith("M")


def strip_punctuation(phrase: str) -> str:
    """The phrase from its first to its last letter or digit, without quotes or a full stop around it."""
    kept = [index for index, char in enumerate(phrase) if is_word_character(char)]
    return phrase[kept[0] : kept[-1] + 1] if kept else ""


def stands_alone(text: str, start: int, end: int) -> bool:
    """True unless an accent or vowel sign, which is no letter to a pattern, joins the span to its neighbours."""
    before, after = text[start - 1 : start], text[end : end + 1]
    return not (before and is_word_character(before)) and not (after and is_word_character(after))


def _fold_cluster(cluster: str) -> str:
    plain = unicodedata.normalize("NFKC", cluster.translate(_REPLACED))
    return unicodedata.normalize("NFKC", plain.casefold())


def _clusters(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Spans of characters that normalisation may join: a letter with its accents, the parts of a Hangul syllable.

    No span is longer than MOST_ACCENTS, since ordering the accents of one letter takes quadratic time.
    """
    spans: list[tuple[int, int]] = []
    for position in range(start, end):
        char = text[position]
        joins = unicodedata.category(char).startswith("M") or "\u1160" <= char <= "\u11ff"
        if joins and spans and position - spans[-1][0] <= MOST_ACCENTS:
            spans[-1] = (spans[-1][0], position + 1)
        else:
            spans.append((position, position + 1))
    return spans


_TOKEN = re.compile(r"[^\W_]+(?:'t(?![^\W_]))?")
Spans = Iterator[tuple[int, int]]
Search = Callable[[str], Spans]


def mentions(policy: Mention, inserted: str, explanation: str) -> bool:
    """True if `explanation` mentions `inserted` under `policy`. Raises InputError for an unknown policy.

    >>> mentions("word", "quick", "It moves QUICKLY."), mentions("word", "art", "a party")
    (True, False)
    """
    search, folded = _search(policy, inserted), fold(explanation)
    return next(search(folded.text), None) is not None


def find_mention(policy: Mention, inserted: str, text: str) -> tuple[int, int] | None:
    """The first span of `text`, in code points, that mentions `inserted`; None just if `mentions` is False.

    >>> find_mention("word", "quick", "It moves QUICKLY.")
    (9, 16)
    """
    search, folded = _search(policy, inserted), fold(text)
    first = next(search(folded.text), None)
    return None if first is None else folded.original(*first)


def find_mentions(policy: Mention, inserted: str, text: str) -> list[tuple[int, int]]:
    """The spans of `text`, in code points, that mention `inserted`: ordered and disjoint, for marking them.

    >>> find_mentions("word", "quick", "Quick, quicker")
    [(0, 5), (7, 14)]
    """
    search, folded = _search(policy, inserted), fold(text)
    return [folded.original(start, end) for start, end in search(folded.text)]


def already_present(inserted: str, texts: Iterable[str]) -> bool:
    """True if any of `texts` mentions `inserted` under any built-in policy, so that a mention would prove nothing."""
    searches = [_search(policy, inserted) for policy in POLICIES]
    folded = (fold(text).text for text in texts)
    return any(next(search(text), None) is not None for text in folded for search in searches)


@lru_cache(maxsize=4096)
def _search(policy: Mention, inserted: str) -> Search:
    """The function that finds the spans of mentions in a folded text."""
    phrase = " ".join(fold(inserted).text.split())
    search = SEARCHES.require(policy)
    return search(phrase) if phrase else lambda _: iter(())


def _of_words(search: Callable[[str], Search]) -> Callable[[str], Search]:
    """Search for punctuation as it stands, since it has no word forms, and for words without what is around them."""

    def search_core(phrase: str) -> Search:
        core = strip_punctuation(phrase)
        return search(core) if _TOKEN.search(core) else _search_literally(phrase)

    return search_core


def _search_literally(phrase: str) -> Search:
    pattern = re.compile(r"\s+".join(map(re.escape, phrase.split())))
    return lambda text: (match.span() for match in pattern.finditer(text))


def _search_words(phrase: str) -> Search:
    words = [_inflect_last_part(word) for word in phrase.split()]
    stem = commonprefix(list(words[0]))  # noqa: RUF071 - words, not paths
    alternatives = ("|".join(map(re.escape, sorted(forms, key=len, reverse=True))) for forms in words)
    pattern = re.compile(WORD_START + r"\s+".join(f"(?:{forms})" for forms in alternatives) + WORD_END)

    def search(text: str) -> Spans:
        if stem not in text:  # avoids the slow search in nearly all texts
            return iter(())
        return (match.span() for match in pattern.finditer(text) if stands_alone(text, *match.span()))

    return search


def _inflect_last_part(word: str) -> frozenset[str]:
    """The forms of a word; a compound is inflected in its last part ("old-timer", "old-timers")."""
    head, hyphen, last = word.rpartition("-")
    return frozenset(head + hyphen + form for form in inflect(last))


def _search_lemmas(phrase: str) -> Search:
    tokens = list(_TOKEN.finditer(phrase))
    words = [token.group() for token in tokens]
    gaps = [phrase[left.end() : right.start()] for left, right in pairwise(tokens)]
    first_word = _lemmas_in(words[0])

    def search(text: str) -> Spans:
        if len(text) <= _LONGEST_KEPT and first_word.isdisjoint(_lemmas_in(text)):
            return  # avoids the slow search in nearly all texts
        text_tokens = list(_TOKEN.finditer(text))
        after = 0
        for index, first in enumerate(text_tokens):
            if index < after or not share_lemma(words[0], first.group()):
                continue
            run = text_tokens[index : index + len(words)]
            if len(run) == len(words) and _fits(text, run, words, gaps):
                after = index + len(words)
                yield first.start(), run[-1].end()

    return search


@lru_cache(maxsize=512)
def _lemmas_in(text: str) -> frozenset[str]:
    """The words of a folded text and all lemmas that they may have."""
    words = set(_TOKEN.findall(text))
    return frozenset(words).union(*(find_lemmas(word) for word in words if len(word) <= LONGEST))


def _fits(text: str, run: list[re.Match[str]], words: list[str], gaps: list[str]) -> bool:
    """True if the tokens of `run` are the words with the same gaps between them, apart from white space."""
    same_words = all(share_lemma(word, token.group()) for word, token in zip(words, run, strict=True))
    between = [text[left.end() : right.start()] for left, right in pairwise(run)]
    same_gaps = [gap.split() for gap in between] == [gap.split() for gap in gaps]
    return same_words and same_gaps and stands_alone(text, run[0].start(), run[-1].end())


SEARCHES: Registry[Callable[[str], Search]] = Registry(
    "mentions",
    Callable,
    zip(POLICIES, (_of_words(_search_words), _of_words(_search_lemmas), _search_literally), strict=True),
)
"""By policy, what makes a search of a folded insertion: a function of a folded text that yields its mentions."""


MOST_BETWEEN = 4
"""How many words a wildcard stands for at most."""

_WILDCARD = re.compile(r"\*+|…|\.{3,}")
_SEPARATOR = re.compile(r"(?:[^\w.!?。！？]|\.(?=\d))++")  # what separates words within a sentence
_WORD = re.compile(r"\w++(?:['-]\w++){0,3}+")  # a word that a wildcard stands for


def mentions_phrase(phrases: Sequence[str], text: str) -> tuple[int, int] | None:
    """The first span of `text`, in code points, that is one of `phrases`; of two at one place the longer.

    Phrases are compared as under the policy `word`, but without inflections: in any case and Unicode form, as whole
    words, over any white space. `*` or `…` between two words stands for up to `MOST_BETWEEN` words of the same
    sentence, or none. Known failures: paraphrases, translations and spelling mistakes are not found, and a negated
    phrase is. Raises InputError for a phrase without a letter or digit.

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
    """A compiled phrase: a pattern for each run of words between wildcards, and the first word of each run."""

    words: tuple[str, ...]
    runs: tuple[re.Pattern[str], ...]

    def find(self, text: str) -> tuple[int, int] | None:
        """The first span of the phrase in `text`, in time proportional to the length of the text."""
        if not all(word in text for word in self.words):  # avoids the slow search in nearly all texts
            return None
        ends = self._find_ends(text)
        after = 0
        for start in sorted(ends):
            if start >= after and stands_alone(text, start, ends[start]):
                return start, ends[start]
            after = max(after, ends[start]) if start >= after else after
        return None

    def _find_ends(self, text: str) -> dict[int, int]:
        """Where the phrase ends, by where it starts.

        Runs are searched from the last to the first. Each place of a run is visited once and continues with the nearest
        place of the next run from which the rest of the phrase is complete.
        """
        ends: dict[int, int] = {}
        for index, run in reversed(list(enumerate(self.runs))):
            places = {match.start(): match.end(1) for match in run.finditer(text)}
            if index < len(self.runs) - 1:
                follows = {start: _follow(text, end, ends) for start, end in places.items()}
                places = {start: end for start, end in follows.items() if end is not None}
            ends = places
        return ends


def _follow(text: str, end: int, ends: Mapping[int, int]) -> int | None:
    """The end of the rest of a phrase, if it starts at most MOST_BETWEEN words after the place `end`."""
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
    pieces = [strip_punctuation(" ".join(fold(piece).text.split())) for piece in _WILDCARD.split(phrase)]
    kept = [piece.split() for piece in pieces if piece]
    if not kept:
        raise InputError(f"The phrase {phrase!r} holds no word: it would be found nowhere, or everywhere.")
    written = [r"\s++".join(map(re.escape, words)) + WORD_END for words in kept]
    # a lookahead consumes nothing, so that overlapping runs are found ("so so" twice in "so so so")
    runs = tuple(re.compile(f"{WORD_START}(?=({run}))") for run in written)
    return _Phrase(tuple(words[0] for words in kept), runs)
