"""Regular English inflections of a word by the usual spelling rules, and words that only look like one."""

from __future__ import annotations

import re
from functools import lru_cache

_SHORTEST = 3  # "on" has no "only", "in" no "inner"
_VOWEL_GROUPS = re.compile(r"[aeiou]+|(?<!^)y+")
_DOUBLING = re.compile(r"(?:^|[^aeiou]|qu)[aeiouy][bcdfgjklmnpqrstvz]\Z")
_DOUBLE_L_ADVERBS = frozenset({"full", "dull", "shrill", "ill", "chill", "droll"})

_OWN = """
after ally alter apply arrest batter battered beer better bitter bitterly briefing briefs brother brothers
butted butter butting center clothing conquest contest copper corner cover customer deer dinner early
earnest easter evening ever feed fined fines flower forest former formerly goods hammer harvest herring
honest hunger hyper inner inning inter interest invest ladder laser letter likely litter manly manner
manners master matter modest mother namely news number odds offer offing outing peer pepper pier plains
potter power quarter quest rapids robber rubber rugged seed severed shed shorts shower simmer stables
stocking stockings summer supper supply temper tempest tender thing tights tower wedding weed weeds wicked
"""
_OWN_WORDS = frozenset(_OWN.split())
"""Words that the rules would take for inflections, but that are words of their own (number is not more numb)."""


@lru_cache(maxsize=65_536)
def inflect(word: str) -> frozenset[str]:
    """`word` (lower case) with its regular forms in -s, -ed, -ing, -er, -est and -ly.

    Every spelling that the rules allow is included (traveled, travelled). Words with signs other than
    letters and words under three letters have no forms. Irregular forms are not included.

    >>> sorted(inflect("big") - {"big"})
    ['bigged', 'bigger', 'biggest', 'bigging', 'bigly', 'bigs']
    """
    if len(word) < _SHORTEST or not word.isalpha():
        return frozenset({word})
    forms = {word, *_add_s(word), *_add_ly(word)}
    for stem in _stems(word):
        forms.update((stem + "ed", stem + "er", stem + "est"))
    forms.update(stem + "ing" for stem in _ing_stems(word))
    return frozenset((forms - _OWN_WORDS) | {word})


@lru_cache(maxsize=65_536)
def find_bases(word: str) -> frozenset[str]:
    """`word` (lower case) and every string whose inflection in -s, -ed, -ing, -er or -est it is by the rules.

    Without a vocabulary some of them are no words; they do no harm, since they are only compared with each
    other.

    >>> sorted(find_bases("hoped"))
    ['hope', 'hoped']
    """
    bases = {word}
    for suffix in ("s", "es", "ies", "d", "ed", "ied", "r", "er", "ier", "st", "est", "iest", "ing", "ying"):
        if word.endswith(suffix) and len(word) > len(suffix):
            stem = word[: -len(suffix)]
            for base in (stem, stem + "e", stem + "y", stem + "ie", stem[:-1]):
                if base not in bases and word in inflect(base):
                    bases.add(base)
    return frozenset(bases)


def _stems(word: str) -> list[str]:
    """What -ed, -er and -est are added to: final e dropped, y to i, final consonant doubled, c to ck."""
    if word.endswith("e"):
        return [word[:-1]]
    if word.endswith("y") and word[-2] not in "aeiou":
        return [word[:-1] + "i"]
    return _doublings(word)


def _ing_stems(word: str) -> list[str]:
    if word.endswith("ie"):
        return [word[:-2] + "y"]
    if word.endswith(("ee", "oe", "ye")):
        return [word]
    if word.endswith("e"):
        return [word[:-1], word] if word.endswith(("nge", "ge")) else [word[:-1]]  # singing, singeing
    return _doublings(word)


def _doublings(word: str) -> list[str]:
    if word.endswith("c"):
        return [word + "k", word]
    if not _DOUBLING.search(word):
        return [word]
    doubled = word + word[-1]
    one_syllable = len(_VOWEL_GROUPS.findall(word.replace("qu", "q"))) == 1
    return [doubled] if one_syllable and word[-1] != "s" else [doubled, word]


def _add_s(word: str) -> set[str]:
    if word.endswith("y") and word[-2] not in "aeiou":
        return {word[:-1] + "ies"}
    if word.endswith("z") and _DOUBLING.search(word):
        return {word + "zes"}
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return {word + "es"}
    if word.endswith("o") and word[-2] not in "aeiou":
        return {word + "es", word + "s"}
    return {word + "s"}


def _add_ly(word: str) -> set[str]:
    if word.endswith("ly"):
        return set()
    if word.endswith("y") and word[-2] not in "aeiou":
        return {word[:-1] + "ily", word + "ly"}
    if word.endswith("le") and word[-3:-2] not in set("aeiou"):
        return {word[:-1] + "y"}
    if word in {"true", "due", "whole"}:
        return {word[:-1] + "ly"}
    if word.endswith("ic"):
        return {word + "ally", word + "ly"}
    if word.endswith("ll"):
        return {word + "y"} if word in _DOUBLE_L_ADVERBS else set()
    return {word + "ly"}
