"""Counts with their nouns and verbs, and lists, as sentences have them."""

from __future__ import annotations

from collections.abc import Sequence

MOST_NAMES = 12
"""Names that one sentence lists."""


def counted(number: int, noun: str, verb: str = "") -> str:
    """Return a number with its noun, in the plural where it is not one, and with a verb that agrees.

    >>> counted(1, "request"), counted(1200, "request"), counted(0, "reply"), counted(2, "batch")
    ('1 request', '1,200 requests', '0 replies', '2 batches')
    >>> counted(1, "request", "are"), counted(2, "request", "are")
    ('1 request is', '2 requests are')
    """
    plural = f"{noun}s"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        plural = f"{noun[:-1]}ies"
    elif noun.endswith(("s", "ch", "sh", "x")):
        plural = f"{noun}es"
    text = f"1 {noun}" if number == 1 else f"{number:,} {plural}"
    return f"{text} {agreeing(number, verb)}" if verb else text


def only(number: int, noun: str, verb: str) -> str:
    """Return a number that is too small, with its noun and verb.

    >>> only(0, "example", "have"), only(1, "example", "have"), only(2, "example", "have")
    ('no example has', 'only 1 example has', 'only 2 examples have')
    """
    return f"only {counted(number, noun, verb)}" if number else f"no {noun} {agreeing(1, verb)}"


_SINGULAR = {"are": "is", "were": "was", "have": "has", "do": "does", "go": "goes"}


def agreeing(number: int, verb: str) -> str:
    """Return a verb, given as it stands after many, as it stands after so many.

    >>> agreeing(1, "are"), agreeing(1, "differ"), agreeing(2, "differ")
    ('is', 'differs', 'differ')
    """
    return verb if number != 1 else _SINGULAR.get(verb, f"{verb}s")


def joined(names: Sequence[str]) -> str:
    """Return names as a sentence lists them, at most twelve of them.

    >>> joined(["a", "b", "c"]), joined(["a"])
    ('a, b and c', 'a')
    """
    listed = list(names[:MOST_NAMES])
    if len(names) > MOST_NAMES:
        listed.append(f"{len(names) - MOST_NAMES} more")
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
