"""A small English lemmatiser: irregular forms by list, regular ones by rule; no parts of speech."""

from __future__ import annotations

from functools import lru_cache

from explaineval.mentions.inflections import LONGEST, find_bases
from explaineval.mentions.lexicon import load_irregular

_CLOSED = frozenset({"is", "was", "has", "does", "am", "are", "were", "less", "being", "goes", "better", "best"})
"""Irregular forms that no rule may read in another way."""


@lru_cache(maxsize=65_536)
def find_lemmas(word: str) -> frozenset[str]:
    """The base forms that `word` (lower case) may come from, itself among them unless it is only a form.

    An ambiguous form has several (`lay`: lay, lie). Limits: nouns of doers look like comparatives (a teacher
    is taken for the comparative of teach); -ly is derivation and is kept, so the lemma of quickly is
    quickly; a regular form of a word of one or two letters is not undone.

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
