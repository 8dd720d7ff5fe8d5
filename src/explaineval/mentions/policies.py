"""Is the inserted text mentioned? The three named policies (the method page, mention policies).

- `word`: the inserted word, or a regular inflection of it, as a whole word. "quick" is mentioned by "quickly"
  and "quickest"; "quickly" is not mentioned by "quick", nor "friend" by "friendly", which is another adjective.
- `lemma`: a word with the same lemma, irregular forms included: "good" is mentioned by "best" and vice versa.
- `substring`: plain containment without regard to case (Atanasova et al. 2023): "art" is in "party".

In all three a negated mention is a mention ("not quickly"), several words are matched over any white space,
and blank text is never mentioned. A hyphen and an apostrophe end a word ("quick-witted", "dog's", 'quick'),
except before t ("don't" does not hold "don"), and an underscore does too (`_quick_` is emphasis). There are no
parts of speech: a homograph is a mention. Words of scripts without spaces are found by `substring` only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise, takewhile
from typing import Literal

from explaineval.errors import InputError
from explaineval.mentions.foldings import WORD_END, WORD_START, fold, stands_alone, strip_signs
from explaineval.mentions.inflections import inflect
from explaineval.mentions.lemmas import share_lemma

Policy = Literal["word", "lemma", "substring"]
POLICIES: tuple[Policy, ...] = ("word", "lemma", "substring")

_TOKEN = re.compile(r"[^\W_]+(?:'t(?![^\W_]))?")
Spans = Iterator[tuple[int, int]]


def mentions(policy: Policy, inserted: str, explanation: str) -> bool:
    """True if `explanation` mentions `inserted` under `policy`. Raises InputError for an unknown policy.

    >>> mentions("word", "quick", "It moves QUICKLY."), mentions("word", "art", "a party")
    (True, False)
    """
    search, folded = _search(policy, inserted), fold(explanation)
    return next(search(folded.text), None) is not None


def find_mention(policy: Policy, inserted: str, text: str) -> tuple[int, int] | None:
    """The first span of `text`, in code points, that mentions `inserted`; None just if `mentions` is False.

    >>> find_mention("word", "quick", "It moves QUICKLY.")
    (9, 16)
    """
    search, folded = _search(policy, inserted), fold(text)
    first = next(search(folded.text), None)
    return None if first is None else folded.original(*first)


def find_mentions(policy: Policy, inserted: str, text: str) -> list[tuple[int, int]]:
    """The spans of `text`, in code points, that mention `inserted`: ordered and disjoint, for marking them.

    >>> find_mentions("word", "quick", "Quick, quicker")
    [(0, 5), (7, 14)]
    """
    search, folded = _search(policy, inserted), fold(text)
    return [folded.original(start, end) for start, end in search(folded.text)]


def already_present(inserted: str, texts: Iterable[str]) -> bool:
    """True if any of `texts` mentions `inserted` under any policy: then a mention proves nothing."""
    return any(mentions(policy, inserted, text) for text in texts for policy in POLICIES)


@lru_cache(maxsize=4096)
def _search(policy: Policy, inserted: str) -> Callable[[str], Spans]:
    """A function from folded text to the spans of mentions in it."""
    wanted = " ".join(fold(inserted).text.split())
    if policy not in POLICIES:
        raise InputError(f"Unknown mention policy {policy!r}: use one of {', '.join(POLICIES)}.")
    if not wanted:
        return lambda _: iter(())
    core = strip_signs(wanted)
    if policy == "substring" or not _TOKEN.search(core):  # signs alone have no word forms
        return _search_literally(wanted)
    return _search_words(core) if policy == "word" else _search_lemmas(core)


def _search_literally(phrase: str) -> Callable[[str], Spans]:
    pattern = re.compile(r"\s+".join(map(re.escape, phrase.split())))
    return lambda text: (match.span() for match in pattern.finditer(text))


def _search_words(phrase: str) -> Callable[[str], Spans]:
    words = [_inflect_last_part(word) for word in phrase.split()]
    stem = _common_start(words[0])
    options = ("|".join(map(re.escape, sorted(forms, key=len, reverse=True))) for forms in words)
    pattern = re.compile(WORD_START + r"\s+".join(f"(?:{option})" for option in options) + WORD_END)

    def search(text: str) -> Spans:
        if stem not in text:  # spares the slow search in nearly all texts
            return iter(())
        return (match.span() for match in pattern.finditer(text) if stands_alone(text, *match.span()))

    return search


def _inflect_last_part(word: str) -> frozenset[str]:
    """The forms of a word, of a compound those of its last part ("old-timer", "old-timers")."""
    head, hyphen, last = word.rpartition("-")
    return frozenset(head + hyphen + form for form in inflect(last))


def _common_start(words: Iterable[str]) -> str:
    return "".join(signs[0] for signs in takewhile(lambda signs: len(set(signs)) == 1, zip(*words, strict=False)))


def _search_lemmas(phrase: str) -> Callable[[str], Spans]:
    tokens = list(_TOKEN.finditer(phrase))
    words = [token.group() for token in tokens]
    gaps = [phrase[one.end() : two.start()] for one, two in pairwise(tokens)]

    def search(text: str) -> Spans:
        found = list(_TOKEN.finditer(text))
        after = 0
        for index, first in enumerate(found):
            if index < after or not share_lemma(words[0], first.group()):
                continue
            run = found[index : index + len(words)]
            if len(run) == len(words) and _fits(text, run, words, gaps):
                after = index + len(words)
                yield first.start(), run[-1].end()

    return search


def _fits(text: str, run: list[re.Match[str]], words: list[str], gaps: list[str]) -> bool:
    """True if the tokens of `run` are the words with the same gaps, whatever the white space in them."""
    same_words = all(share_lemma(word, token.group()) for word, token in zip(words, run, strict=True))
    between = [text[one.end() : two.start()] for one, two in pairwise(run)]
    same_gaps = all(" ".join(have.split()) == " ".join(want.split()) for have, want in zip(between, gaps, strict=True))
    return same_words and same_gaps and stands_alone(text, run[0].start(), run[-1].end())
