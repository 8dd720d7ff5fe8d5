"""Answers without a marker: "The answer is B.", "I choose (B)", or a line that is nothing but the label."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice

from explaineval.parsing.markers import Marker
from explaineval.parsing.values import Clash, Value, is_bare, read_value, skip_ending

_TURN = (
    "so|thus|therefore|hence|overall|in conclusion|wait|no|sorry|oops|actually|rather|correction|hmm|on second thought"
)
_SENTENCE = rf"(?:^|(?<=[.!?。:]\s))[ \t>#*_]{{0,8}}+(?:(?:{_TURN})[,:.…]{{0,3}}\s{{1,3}}){{0,3}}"
_SAYING = re.compile(
    rf"{_SENTENCE}(?:"
    r"(?:(?:the|my)\s{1,3})?(?:(?:correct|right|best|final|most likely)\s{1,3}){0,2}"
    r"(?:answer|option|choice|label)"
    r"\s{1,3}(?:is|would be|must be|should be)\s{0,3}[:：]?"
    r"|i(?:\s{1,3}would|['’]d)?\s{1,3}(?:choose|pick|select|answer|go with)(?=\s)"
    r"|(?=(?:(?:option|choice|answer)\s{1,3})?[(\[*]{0,4}[A-Z][)\]*]{0,4}\s{1,3}is\s{1,3}(?:the\s{1,3})?(?:correct|right|best)"
    r"(?:\s{1,3}(?:answer|option|choice|label|one))?\s{0,3}(?:[.,;!*)]|$|because|since|as\b|given|here))"
    r")",
    re.IGNORECASE | re.MULTILINE,
)


def find_statements(text: str, options: Mapping[str, str], most: int) -> list[tuple[Marker, Value | Clash]]:
    """The sentences of `text` that state an answer: markers whose content begins at the value, and the value.

    At most `most` are looked at.
    """
    found: list[tuple[Marker, Value | Clash]] = []
    for match in islice(_SAYING.finditer(text), most):
        value = read_value(text, match.end(), _line_end(text, match.end()), options)
        if isinstance(value, Value) or (isinstance(value, Clash) and not value.reason.startswith("the letter")):
            found.append((Marker("answer", match.start(), match.end()), value))
    return found


def find_bare_lines(text: str, before: int, options: Mapping[str, str]) -> list[tuple[Marker, Value | Clash]]:
    """Lines that are nothing but a label: the first, the last before `before`, or (a letter) the last."""
    spans = [span for span in (_first_line(text), _last_line(text, before), _last_line(text, len(text))) if span]
    found: list[tuple[Marker, Value | Clash]] = []
    for start, end in dict.fromkeys(spans):
        value = read_value(text, start, end, options)
        if isinstance(value, Clash):
            found.append((Marker("answer", start, start), value))
        elif value is not None and is_bare(text, skip_ending(text, value, options), end):
            lettered = value.end - value.start == 1
            if lettered or start < before:
                found.append((Marker("answer", start, start), value))
    return found


def _line_end(text: str, start: int) -> int:
    end = text.find("\n", start)
    return len(text) if end < 0 else end


def _first_line(text: str) -> tuple[int, int] | None:
    start = len(text) - len(text.lstrip())
    return (start, _line_end(text, start)) if start < len(text) else None


def _last_line(text: str, before: int) -> tuple[int, int] | None:
    end = len(text[:before].rstrip())
    return (text.rfind("\n", 0, end) + 1, end) if end else None
