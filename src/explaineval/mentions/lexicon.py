"""Two frozen lists of English words that no rule of spelling can know (WordNet 3.0, see NOTICE).

`own_words.txt` has words that look like a regular form of another word and are none, each with the words that it is
a form of all the same ("number:", which is not more numb; "lunged: lunge", which is not of lung). `irregular.txt` has
irregular forms by their base ("go: goes gone went"). Both are made by scripts/build_word_forms.py.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def load_own_words() -> dict[str, frozenset[str]]:
    """By word that looks like a form of another, the words that it is a regular form of: none, or not all."""
    return {form: frozenset(bases) for form, bases in _read("own_words.txt")}


@cache
def load_irregular() -> dict[str, frozenset[str]]:
    """By irregular form, the words that it may be a form of."""
    bases: dict[str, set[str]] = {}
    for base, forms in _read("irregular.txt"):
        for form in forms:
            bases.setdefault(form, set()).add(base)
    return {form: frozenset(found) for form, found in bases.items()}


def _read(name: str) -> list[tuple[str, list[str]]]:
    lines = files(__package__).joinpath(name).read_text(encoding="utf-8").splitlines()
    return [(word, rest.split()) for word, _, rest in (line.partition(":") for line in lines)]
