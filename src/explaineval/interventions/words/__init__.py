"""The frozen word lists (WordNet 3.0, see NOTICE) and the functions that read them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class WordLists:
    """The words that may be inserted: lower case, sorted. The order decides what a seed draws."""

    adjectives: tuple[str, ...]
    adverbs: tuple[str, ...]


@cache
def load_words() -> WordLists:
    """The lists that ship with the package."""
    return WordLists(*(tuple(_read(f"{name}.txt").split()) for name in ("adjectives", "adverbs")))


@dataclass(frozen=True, slots=True)
class SenseLists:
    """All of WordNet's words, each as often as it has senses, spelled as there (underscores, capitals); sorted."""

    adjectives: tuple[str, ...]
    adverbs: tuple[str, ...]


@cache
def load_sense_words() -> SenseLists:
    """The lists of `compat` that ship with the package: lines of a word and, where it is not 1, its number of senses.

    About 30,000 adjectives and 5,600 adverbs.
    """
    return SenseLists(*(tuple(_repeated(_read(f"{name}.senses.txt"))) for name in ("adjectives", "adverbs")))


def _repeated(text: str) -> Iterator[str]:
    for line in text.splitlines():
        word, _, senses = line.partition(" ")
        yield from [word] * int(senses or 1)


def _read(name: str) -> str:
    """The only reading from disk in `explaineval.interventions`."""
    return (files(__name__) / name).read_text(encoding="utf-8")
