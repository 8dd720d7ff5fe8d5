"""Counts with their nouns and verbs, and lists, as sentences have them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence

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


ORDERS = {"pe": "predict then explain", "pe2": "predict, then explain in a second call", "ep": "explain then predict"}
"""The orders of answer and explanation in words."""

NO_BREAK = "\N{NO-BREAK SPACE}"

_KEPT = re.compile(
    r"(?<=\d) (?=%)"  # 5 %
    r"|(?<=\bp [<=>]) (?=\.)|(?<=\bp) (?=[<=>] \.)"  # p < .001
    r"|(?<=[\d.]) (?=\[[-+]?[\d.])|(?<=[\d.%],) (?=[-+]?[\d.]+ ?%?\])"  # 0.13 [-0.14, 0.37]
    r"|(?<=±) (?=[\d.])|(?<=\d) (?=[×±] \d)|(?<=\d [×±]) (?=\d)"  # 100 × 4
)
"""Spaces within a number with its sign, unit or interval."""


def wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Return a text as lines of at most so many columns, with indents; no number is torn from its unit or interval.

    A word that is longer than a line stays whole.

    >>> wrapped("It is 0.13 [-0.14, 0.37], p < .001.", 22, "  ", "  ")
    ['  It is', '  0.13 [-0.14, 0.37],', '  p < .001.']
    """
    kept = _KEPT.sub(NO_BREAK, text)
    lines = textwrap.wrap(
        kept, width, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(NO_BREAK, " ") for line in lines]


def aligned(cells: Iterable[str], sizes: Iterable[int]) -> str:
    """Return one line of a table: each cell filled up to its size, to the left where the size is below 0.

    >>> aligned(["name", "1", "20"], [6, -3, -4])
    'name    1  20'
    """
    filled = (cell.ljust(size) if size > 0 else cell.rjust(-size) for cell, size in zip(cells, sizes, strict=True))
    return "".join(filled).rstrip()
