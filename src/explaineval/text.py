"""Text for people: foreign text made harmless, and numbers, money, times and counts in words.

No other module turns a result into text.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from decimal import Decimal

HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters: C0 without line break and tab, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction of text
    "\xad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"  # invisible
    "\u2028\u2029"  # line ends for some programs
    "\ud800-\udfff"  # lone surrogates, which no output can encode
    "\U000e0000-\U000e007f]"  # tags: an invisible alphabet
    "|(?<=[!-~])[\u200c\u200d]|[\u200c\u200d](?=[!-~])"  # joiners, which other scripts and emoji need, in ASCII words
)
"""Characters that control a terminal or are invisible."""

FORMULA = re.compile(r"[\s\0]*[=+\-@＝＋－＠']|[\t\r\n]")
"""Beginnings of a text that a spreadsheet may take for a formula or reads as something else, and the mark itself."""

MARK = "'"
"""Stands before a text of a CSV file that begins like a formula."""


def visible(text: str) -> str:
    """The text with control, direction and invisible characters replaced by visible ones that do nothing.

    Line breaks and tabs are kept.

    >>> visible("a\\x1b[31mred"), visible("\\x9b1m \\u202e"), visible("kept\\n\\t")
    ('a␛[31mred', '\\\\x9b1m \\\\u202e', 'kept\\n\\t')
    """
    return HARMFUL.sub(_show, text)


def escaped(document: str) -> str:
    """A JSON document with the same characters written as JSON escapes, so that its meaning is unchanged.

    >>> escaped('["\\x7f\\u202e"]')
    '["\\\\u007f\\\\u202e"]'
    """
    return HARMFUL.sub(lambda match: json.dumps(match.group())[1:-1].replace("\x7f", "\\u007f"), document)


def flat(text: str) -> str:
    """Like `visible`, for a text that has to stay on one line: line breaks and tabs are shown too.

    >>> flat("one\\ntwo")
    'one␊two'
    """
    return visible(text).replace("\n", "␊").replace("\t", "␉")


def quoted(text: str) -> str:
    """The text in quotes, on one line.

    >>> quoted("quick")
    "'quick'"
    """
    return f"'{flat(text)}'"


LONGEST_WORD, LONGEST_MESSAGE = 400, 20_000
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")


def shortened(message: str) -> str:
    """The message with the middle of each word of more than 400 characters left out, and without what exceeds 20,000.

    >>> shortened("--limit " + "9" * 5000)[:60], len(shortened("x " * 50_000))
    ('--limit 9999999999999999999999999999999999999999999999999999', 20001)
    """
    text = _LONG_WORD.sub(lambda match: f"{match[0][:80]}…{match[0][-40:]} ({len(match[0]):,} characters)", message)
    return text if len(text) <= LONGEST_MESSAGE else text[:LONGEST_MESSAGE] + "…"


def json_kind(value: object) -> str:
    """Return what a value of JSON or YAML is, in words.

    >>> json_kind(None), json_kind([1]), json_kind({}), json_kind("x")
    ('nothing', 'a list', 'a mapping', 'a text')
    """
    if isinstance(value, bool):
        return "true or false"
    kinds = {int: "a number", float: "a number", str: "a text", list: "a list", dict: "a mapping"}
    return kinds.get(type(value), "nothing")


def _show(match: re.Match[str]) -> str:
    """The visible form of a character: a control picture or an escape."""
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def harmless(text: str) -> str:
    """Return a text with an apostrophe before it if it begins like a formula, or with an apostrophe.

    Removing one leading apostrophe, where there is one, gives the text back.

    >>> harmless("=1+1"), harmless(" -x"), harmless("'"), harmless("a=b")
    ("'=1+1", "' -x", "''", 'a=b')
    """
    return MARK + text if FORMULA.match(text) else text


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


UNDEFINED = "undefined"
"""Stands where a number has no value; the reason stands beside it."""

NO_INTERVAL = "no interval"

NONE = "–"
"""Stands in a table where nothing belongs."""

NARROW_SPACE = "\N{NARROW NO-BREAK SPACE}"

FEWEST_FOR_PERCENT = 10
"""A rate of fewer trials than this is told as their number: 2 of 5."""

LEAST_DOLLARS = 1e-6
LEAST_P = 0.001
SIGNIFICANT = 0.05
"""A p-value near it is written with as many digits as show on which side it lies."""

_SIZES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def number_text(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number with so many decimals, with `sign` also a plus; zero has neither minus nor plus.

    >>> number_text(0.12345), number_text(-0.001), number_text(0.2, sign=True), number_text(None)
    ('0.12', '0.00', '+0.20', 'undefined')
    """
    if value is None:
        return UNDEFINED
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def significant_text(value: float, digits: int = 3) -> str:
    """Return a number of any size with so many digits.

    >>> significant_text(1_234_567), significant_text(0.00012345)
    ('1.23e+06', '0.000123')
    """
    return f"{value:.{digits}g}"


def interval_text(low: float | None, high: float | None, digits: int = 2) -> str:
    """Return the limits of an interval in brackets, or that there are none.

    A limit that is nearly 0 has as many digits as show on which side of it it lies.

    >>> interval_text(-0.1, 0.25), interval_text(-0.002, 0.25), interval_text(None, None)
    ('[-0.10, 0.25]', '[-0.002, 0.25]', 'no interval')
    """
    if low is None or high is None:
        return NO_INTERVAL
    return f"[{_limit(low, digits)}, {_limit(high, digits)}]"


def estimate_text(value: float, low: float | None, high: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number with its interval in brackets, or that it has none; with `sign` also a plus.

    >>> estimate_text(0.2, 0.1, 0.3, sign=True), estimate_text(0.2, None, None)
    ('+0.20 [0.10, 0.30]', '0.20 no interval')
    """
    return f"{number_text(value, digits, sign=sign)} {interval_text(low, high, digits)}"


def _limit(value: float, digits: int) -> str:
    enough = next((more for more in range(digits, digits + 4) if float(f"{value:.{more}f}")), digits)
    return number_text(value, enough)


def share_text(value: float, digits: int = 0, space: str = " ") -> str:
    """Return a share in per cent, but never 0 or 100 for one that is neither; rounded as `number_text` rounds it.

    >>> share_text(0.4567), share_text(0.4567, 1), share_text(0)
    ('46 %', '45.7 %', '0 %')
    >>> share_text(0.175), number_text(0.175)
    ('17 %', '0.17')
    >>> share_text(0.004), share_text(0.996), share_text(0.0001, 1)
    ('under 1 %', 'over 99 %', 'under 0.1 %')
    """
    text = f"{Decimal(f'{value:.{digits + 2}f}') * 100:.{digits}f}"
    step = 10.0**-digits
    if 0 < value < 1 and float(text) <= 0:
        return f"under {step:g}{space}%"
    if 0 < value < 1 and float(text) >= 100:
        return f"over {100 - step:g}{space}%"
    return f"{text.lstrip('-') if float(text) == 0 else text}{space}%"


def hits_text(share: float, trials: int) -> str | None:
    """Return a share of under FEWEST_FOR_PERCENT trials as their number; None where it is no share of so few.

    >>> hits_text(0.4, 5), hits_text(0.4, 50), hits_text(0.123, 5)
    ('2 of 5', None, None)
    """
    hits = round(share * trials)
    is_count = trials < FEWEST_FOR_PERCENT and math.isclose(hits, share * trials, abs_tol=1e-9)
    return f"{hits} of {trials}" if is_count else None


def p_value_text(p: float | None) -> str:
    """Return a p-value as tables have it.

    >>> [p_value_text(p) for p in (0.0042, 0.00004, 0.31, 0.0499, 0.9999, None)]
    ['.004', '< .001', '.31', '.0499', '> .99', '–']
    """
    if p is None:
        return NONE
    if p < LEAST_P:
        return "< .001"
    if 0.995 <= p < 1:
        return "> .99"
    digits = 3 if p < 0.01 else 2
    while p != SIGNIFICANT and digits < 9 and float(f"{p:.{digits}f}") == SIGNIFICANT:
        digits += 1
    text = f"{p:.{digits}f}"
    return text.removeprefix("0")


def p_text(p: float) -> str:
    """Return a p-value as sentences have it, with its sign of relation.

    >>> p_text(0.0042), p_text(0.00004), p_text(0.31)
    ('= .004', '< .001', '= .31')
    """
    text = p_value_text(p)
    return text if text[0] in "<>" else f"= {text}"


def dollars_text(amount: float | None) -> str:
    """Return an amount of money: cents, or three digits of less than a dollar.

    >>> [dollars_text(amount) for amount in (12.5, 1234.567, 0.5, 0.02134, 0.00123, 0, None)]
    ['$12.50', '$1,234.57', '$0.50', '$0.0213', '$0.00123', '$0', 'unknown']
    """
    if amount is None:
        return "unknown"
    if amount == 0:
        return "$0"
    size = abs(amount)
    minus = "-" if amount < 0 else ""
    if size < LEAST_DOLLARS:
        return f"under ${LEAST_DOLLARS:.6f}"
    if size >= 0.9995:
        return f"{minus}${size:,.2f}"
    text = f"{size:.{2 - math.floor(math.log10(size))}f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"{minus}${whole}.{cents:0<2}"


def duration_text(seconds: float) -> str:
    """Return a duration in its two largest units.

    >>> duration_text(4), duration_text(200), duration_text(9000), duration_text(400_000)
    ('4 s', '3 min', '2 h 30 min', '4 days 15 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, hours = round(seconds / 60), round(seconds / 3600)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h" + (f" {minutes} min" if minutes else "")
    days, hours = divmod(hours, 24)
    return f"{days} days" + (f" {hours} h" if hours else "")


def bytes_text(size: int) -> str:
    """Return a size in bytes, in units of 1,000.

    >>> bytes_text(512), bytes_text(5_300_000)
    ('512 B', '5.3 MB')
    """
    for factor, unit in _BYTES:
        if size >= factor * 0.99995:
            return f"{size / factor:,.1f} {unit}"
    return f"{size} B"


def parameters_text(parameters: float) -> str:
    """Return a number of parameters as names of models have it.

    >>> parameters_text(1.35e8), parameters_text(7e9), parameters_text(1.5e9)
    ('135M', '7B', '1.5B')
    """
    for factor, letter in _SIZES:
        if parameters >= factor * 0.9995:
            return f"{significant_text(parameters / factor)}{letter}"
    return significant_text(parameters)


def count_text(count: int) -> str:
    """Return a count in few characters.

    >>> count_text(9999), count_text(12_345), count_text(2_340_000)
    ('9,999', '12k', '2.3M')
    """
    if count < 10_000:
        return f"{count:,}"
    return f"{count / 1000:.0f}k" if count < 999_500 else f"{count / 1e6:.1f}M"
