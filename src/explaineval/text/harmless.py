"""Make text by models, endpoints and users safe to print."""

from __future__ import annotations

import json
import re

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
