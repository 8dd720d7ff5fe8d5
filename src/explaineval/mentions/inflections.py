"""Regular English inflections of a word by the usual spelling rules, and words that only look like one."""

from __future__ import annotations

import re
from functools import lru_cache

from explaineval.mentions.lexicon import load_own_words

_SHORTEST = 3  # "on" has no "only", "in" no "inner"
LONGEST = 45  # no word is longer; a run of letters that is has no forms
_VOWEL_GROUPS = re.compile(r"[aeiou]+|(?<!^)y+")
_DOUBLING = re.compile(r"(?:^|[^aeiou]|qu)[aeiouy][bcdfgjklmnpqrstvz]\Z|[iu][ae]l\Z")
_TWO_VOWELS = re.compile(r"[iu][ae]l\Z")  # two syllables, as in dial, fuel, cruel
_DOUBLE_L_ADVERBS = frozenset({"full", "dull", "shrill", "ill", "chill", "droll"})
_DOUBLED_L = re.compile(
    r"(?P<before>.*[aeiouy].*(?:[^aeiou][aeo]|[iu][ae]|(?:nc|v|r)i))l(?P<second>l?)(?P<end>(?:ed|ing|er|ers|est|ous)(?:ly)?)"
)


@lru_cache(maxsize=65_536)
def inflect(word: str) -> frozenset[str]:
    """`word` (lower case) with its regular forms in -s, -ed, -ing, -er, -est and -ly.

    Every spelling that the rules allow is included (traveled, travelled; marvelous, marvellous), but no word that
    only looks like a form (number is not more numb: `lexicon`). Words with signs other than letters and words
    under three letters have no forms. Irregular forms are not included.

    >>> sorted(inflect("big") - {"big"})
    ['bigged', 'bigger', 'biggest', 'bigging', 'bigly', 'bigs']
    """
    own = load_own_words()
    return frozenset(form for form in spell_forms(word) if form == word or form not in own or word in own[form])


def spell_forms(word: str) -> frozenset[str]:
    """What the rules of spelling alone make of a word, other words that look the same among them."""
    if not _SHORTEST <= len(word) <= LONGEST or not word.isalpha():
        return frozenset({word})
    forms: set[str] = set()
    for spelling in {word, *other_spelling(word)}:
        forms.update((spelling, *_add_s(spelling), *_add_ly(spelling)))
        for stem in _stems(spelling):
            forms.update((stem + "ed", stem + "er", stem + "est"))
        forms.update(stem + "ing" for stem in _ing_stems(spelling))
    return frozenset(forms)


@lru_cache(maxsize=65_536)
def find_bases(word: str) -> frozenset[str]:
    """`word` (lower case) and every string whose inflection in -s, -ed, -ing, -er or -est it is by the rules.

    Without a vocabulary some of them are no words; they do no harm, since they are only compared with each
    other.

    >>> sorted(find_bases("hoped"))
    ['hope', 'hoped']
    """
    if len(word) > LONGEST:
        return frozenset({word})
    bases = {word, *other_spelling(word)}
    for suffix in ("s", "es", "ies", "d", "ed", "ied", "r", "er", "ier", "st", "est", "iest", "ing", "ying"):
        if word.endswith(suffix) and len(word) > len(suffix):
            stem = word[: -len(suffix)]
            for base in (stem, stem + "e", stem + "y", stem + "ie", stem[:-1]):
                if base not in bases and word in inflect(base):
                    bases.add(base)
    return frozenset(bases)


def other_spelling(word: str) -> set[str]:
    """The word with the other number of l before an ending, as other countries write it (jeweled, jewelled)."""
    match = _DOUBLED_L.fullmatch(word)
    return {match["before"] + ("l" if match["second"] else "ll") + match["end"]} if match else set()


def _is_short_in_y(word: str) -> bool:
    """Whether the word has one syllable and ends in y after a consonant: dry, shy, sly."""
    return word.endswith("y") and not set(word[:-1]) & set("aeiouy")


def _stems(word: str) -> list[str]:
    """What -ed, -er and -est are added to: final e dropped, y to i, final consonant doubled, c to ck."""
    if word.endswith("e"):
        return [word[:-1]]
    if _is_short_in_y(word):
        return [word[:-1] + "i", word]
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
    one_syllable = len(_VOWEL_GROUPS.findall(word.replace("qu", "q"))) == 1 and not _TWO_VOWELS.search(word)
    return [doubled] if one_syllable and word[-1] != "s" else [doubled, word]


def _add_s(word: str) -> set[str]:
    if word.endswith("y") and word[-2] not in "aeiou":
        return {word[:-1] + "ies"}
    if word.endswith("z") and _DOUBLING.search(word):
        return {word + "zes"}
    if word.endswith("ch"):
        return {word + "es", word + "s"}  # churches; stomachs, since no rule of spelling tells how ch is spoken
    if word.endswith(("s", "x", "z", "sh")):
        return {word + "es"}
    if word.endswith("o") and word[-2] not in "aeiou":
        return {word + "es", word + "s"}
    return {word + "s"}


def _add_ly(word: str) -> set[str]:
    if word.endswith("ly"):
        return {word[:-1] + "ily", word + "ly"} if _is_short_in_y(word) else {word[:-1] + "ily"}
    if word.endswith("ie"):
        return {word[:-2] + "ily"}
    if word.endswith("y") and word[-2] not in "eiou":
        return {word[:-1] + "ily", word + "ly"}
    if word.endswith("le") and word[-3:-2] not in set("aeiou"):
        return {word[:-1] + "y"}
    if word.endswith("ue") and word[-3:-2] not in set("gqaeiou"):
        return {word[:-1] + "ly", word + "ly"}
    if word == "whole":
        return {"wholly"}
    if word.endswith("ic"):
        return {word + "ally", word + "ly"}
    if word.endswith("ll"):
        return {word + "y"} if word in _DOUBLE_L_ADVERBS else set()
    return {word + "ly"}
