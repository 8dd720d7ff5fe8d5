"""What models and users wrote, made fit to be printed: control characters are shown, never carried out."""

from __future__ import annotations

import unicodedata

REORDERING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Signs that turn the direction of what follows: a text could show itself as another one."""


def visible(text: str) -> str:
    """The text with control and direction signs replaced by signs that can be seen, and do nothing.

    Line breaks and tabs are kept.

    >>> visible("a\\x1b[31mred"), visible("\\x9b1m \\u202e"), visible("kept\\n\\t")
    ('a␛[31mred', '\\\\x9b1m \\\\u202e', 'kept\\n\\t')
    """
    return "".join(map(_visible_sign, text))


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


def _visible_sign(sign: str) -> str:
    code = ord(sign)
    if sign in "\n\t" or (unicodedata.category(sign) not in ("Cc", "Cs", "Zl", "Zp") and sign not in REORDERING):
        return sign
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
