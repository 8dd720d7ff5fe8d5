"""What models and users wrote, made fit to be printed: control characters are shown, never carried out."""

from __future__ import annotations

import json
import re

HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # what terminals obey: C0 without line break and tab, DEL, C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what turns the direction of a text
    "\xad\u180e\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"  # what cannot be seen
    "\u2028\u2029"  # what some programs take for the end of a line
    "\ud800-\udfff"  # halves of pairs, which no output can encode
    "\U000e0000-\U000e007f]"  # an alphabet that cannot be seen
    "|(?<=[!-~])[\u200c\u200d]|[\u200c\u200d](?=[!-~])"  # joiners, which other scripts and emoji need, in ASCII words
)
"""Signs that do something, or hide, instead of being seen."""


def visible(text: str) -> str:
    """The text with control and direction signs, and hidden ones, replaced by signs that can be seen and do nothing.

    Line breaks and tabs are kept.

    >>> visible("a\\x1b[31mred"), visible("\\x9b1m \\u202e"), visible("kept\\n\\t")
    ('a␛[31mred', '\\\\x9b1m \\\\u202e', 'kept\\n\\t')
    """
    return HARMFUL.sub(_shown, text)


def escaped(document: str) -> str:
    """A JSON document with the same signs written as JSON writes them, so that it means what it meant.

    >>> escaped('["\\x7f\\u202e"]')
    '["\\\\u007f\\\\u202e"]'
    """
    return HARMFUL.sub(lambda found: json.dumps(found.group())[1:-1].replace("\x7f", "\\u007f"), document)


def flat(text: str) -> str:
    """The same for a text that has to stay in one line: line breaks and tabs are shown too.

    >>> flat("one\\ntwo")
    'one␊two'
    """
    return visible(text).replace("\n", "␊").replace("\t", "␉")


def quoted(text: str) -> str:
    """The text in quotes, in one line.

    >>> quoted("quick")
    "'quick'"
    """
    return f"'{flat(text)}'"


def _shown(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
