"""The frozen word lists (WordNet 3.0, see NOTICE) and the one function that reads them."""

from __future__ import annotations

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
    """The lists that ship with the package. The only reading from disk in `explaineval.interventions`."""
    folder = files(__name__)
    adjectives, adverbs = (
        tuple((folder / f"{name}.txt").read_text(encoding="utf-8").split()) for name in ("adjectives", "adverbs")
    )
    return WordLists(adjectives, adverbs)
