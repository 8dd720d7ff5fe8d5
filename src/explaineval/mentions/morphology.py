"""Inflections of English words by the usual spelling rules, lemmas, and words that only look like an inflection."""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib.resources import files


@cache
def load_own_words() -> dict[str, frozenset[str]]:
    """Words that look like regular forms of more words than they are, each with those that it is a form of."""
    return {form: frozenset(bases) for form, bases in _read("own_words.txt")}


@cache
def load_irregular() -> dict[str, frozenset[str]]:
    """Irregular forms, each with the words that it may be a form of."""
    bases: dict[str, set[str]] = {}
    for base, forms in _read("irregular.txt"):
        for form in forms:
            bases.setdefault(form, set()).add(base)
    return {form: frozenset(words) for form, words in bases.items()}


def _read(name: str) -> list[tuple[str, list[str]]]:
    """The lines "word: others" of a file of this package."""
    lines = files(__package__).joinpath(name).read_text(encoding="utf-8").splitlines()
    return [(word, rest.split()) for word, _, rest in (line.partition(":") for line in lines)]


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

    Every spelling that the rules allow is included (traveled, travelled; marvelous, marvellous), but no word that only
    looks like a form ("number" is not "more numb": own_words.txt). Words with characters other than letters and words
    of fewer than three letters have no forms. Irregular forms are not included.

    >>> sorted(inflect("big") - {"big"})
    ['bigged', 'bigger', 'biggest', 'bigging', 'bigly', 'bigs']
    """
    own = load_own_words()
    return frozenset(form for form in spell_forms(word) if form == word or form not in own or word in own[form])


def spell_forms(word: str) -> frozenset[str]:
    """All spellings that the rules give for the forms of a word, even those that are words of their own."""
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
    """`word` (lower case) and every string that it is an inflection of, in -s, -ed, -ing, -er or -est, by the rules.

    There is no vocabulary, so some of the strings are not words. That does no harm: they are only compared with each
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
    """The word with one l instead of two before an ending, or two instead of one (jeweled, jewelled)."""
    match = _DOUBLED_L.fullmatch(word)
    return {match["before"] + ("l" if match["second"] else "ll") + match["end"]} if match else set()


def _is_short_in_y(word: str) -> bool:
    """True if the word has one syllable and ends in y after a consonant: dry, shy, sly."""
    return word.endswith("y") and not set(word[:-1]) & set("aeiouy")


def _stems(word: str) -> list[str]:
    """The stems for -ed, -er and -est: final e dropped, y to i, final consonant doubled, c to ck."""
    if word.endswith("e"):
        return [word[:-1]]
    if _is_short_in_y(word):
        return [word[:-1] + "i", word]
    if word.endswith("y") and word[-2] not in "aeiou":
        return [word[:-1] + "i"]
    return _doublings(word)


def _ing_stems(word: str) -> list[str]:
    """The stems for -ing."""
    if word.endswith("ie"):
        return [word[:-2] + "y"]
    if word.endswith(("ee", "oe", "ye")):
        return [word]
    if word.endswith(("nge", "ge", "eue", "cue", "lue", "hue")):
        return [word[:-1], word]  # singing and singeing, queuing and queueing
    if word.endswith("e"):
        return [word[:-1]]
    return _doublings(word)


def _doublings(word: str) -> list[str]:
    """The word with its final consonant doubled where that is the rule, or with both spellings where either may be."""
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
        return {word + "es", word + "s"}  # churches, stomachs: spelling does not show how ch is spoken
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


_CLOSED = frozenset({"is", "was", "has", "does", "am", "are", "were", "less", "being", "goes", "better", "best"})
"""Irregular forms to which the regular rules are not applied."""


@lru_cache(maxsize=65_536)
def find_lemmas(word: str) -> frozenset[str]:
    """The base forms that `word` (lower case) may come from, itself among them unless it is only a form.

    An ambiguous form has several (`lay`: lay, lie). Limits: nouns for persons look like comparatives ("teacher" is
    taken for a form of "teach"); -ly is derivation and is kept, so the lemma of "quickly" is "quickly"; regular forms
    of words of one or two letters are not reduced.

    >>> sorted(find_lemmas("better")), sorted(find_lemmas("lay"))
    (['good', 'well'], ['lay', 'lie'])
    """
    irregular = load_irregular().get(word)
    if irregular is None:
        return find_bases(word)
    return irregular if word in _CLOSED else irregular | find_bases(word)


def share_lemma(first: str, second: str) -> bool:
    """True if the two words (lower case) may be forms of one word."""
    if first == second:
        return True
    if max(len(first), len(second)) > LONGEST:
        return False
    return not find_lemmas(first).isdisjoint(find_lemmas(second))
