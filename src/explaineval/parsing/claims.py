"""Every place where a text names an option as its answer; two that differ leave it unread."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from explaineval.parsing.layouts import Layout, Part
from explaineval.parsing.markers import Marker, find_inline_markers
from explaineval.parsing.statements import find_bare_lines, find_statements
from explaineval.parsing.values import Clash, Value, is_bare, read_value, skip_ending, two_answers
from explaineval.records import Style

_MOST = 100  # answers in one text that are looked at; a text with more repeats itself without end
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")

Claim = tuple[Marker, Value | Clash]


def find_claims(layout: Layout, options: Mapping[str, str], style: Style) -> tuple[list[Claim], Layout]:
    """All claims, those of answer lines first, and the layout that shows their places.

    Beside answer lines the explanation's own firm statements count ("Wait, the answer is C."). Without an
    answer line statements anywhere and, in chat, bare lines do.
    """
    parts = layout.of("answer")
    claims = read_answer_lines(layout, options)
    if parts and not claims:
        return [], layout
    outside = find_statements(layout.text[: layout.limit], options, _MOST)
    if parts:
        apart = [claim for claim in outside if not _in_explanation(layout, claim[0])]
        inside = [claim for claim in find_firm_claims(layout, options) if _in_explanation(layout, claim[0])]
        return [*claims, *apart, *inside], layout
    first = min((part.marker.start for part in layout.of("explanation")), default=layout.limit)
    bare = find_bare_lines(layout.text[: layout.limit], first, options) if style == "chat" else []
    closing = [marker for marker, _ in outside if _closes_explanation(layout, marker)]
    return [*bare, *outside], layout.with_markers([*(marker for marker, _ in bare), *closing])


def read_answer_lines(layout: Layout, options: Mapping[str, str]) -> list[Claim]:
    """What the lines with an answer marker name."""
    parts = layout.of("answer")
    claims = [claim for part in parts[:_MOST] for claim in _read_part(layout.text, part, options)]
    if len(parts) > _MOST:
        claims.append((parts[_MOST].marker, Clash(f"more than {_MOST} lines begin with an answer")))
    return claims


def find_firm_claims(layout: Layout, options: Mapping[str, str]) -> list[Claim]:
    """Statements and answer markers anywhere in a line that name one option; not what is reported or quoted."""
    text = layout.text[: layout.limit]
    found: list[Claim] = [
        (marker, value)
        for marker, value in find_statements(text, options, _MOST)
        if isinstance(value, Value) and not text[: marker.start].rstrip().endswith((":", "："))
    ]
    for marker in find_inline_markers(text, "answer")[:_MOST]:
        value = read_value(text, marker.end, line_end(text, marker.end, len(text)), options)
        if isinstance(value, Value):
            found.append((marker, value))
    return found


def agree(claims: Iterable[Claim]) -> Claim | Clash | None:
    """The first claim if all name the same option, the Clash that keeps them from it, None without a claim."""
    first: Claim | None = None
    letters: dict[str, None] = {}
    for marker, value in claims:
        if isinstance(value, Clash):
            return value
        first = first or (marker, value)
        letters[value.letter] = None
    return two_answers(list(letters)) if len(letters) > 1 else first


def first_line(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The first line of `text[start:end]` that holds a letter or a digit."""
    sign = _LETTER_OR_DIGIT.search(text, start, end)
    if sign is None:
        return None
    return max(start, text.rfind("\n", 0, sign.start()) + 1), line_end(text, sign.end(), end)


def line_end(text: str, start: int, end: int) -> int:
    """Where the line that holds `start` ends, at most `end`."""
    stop = text.find("\n", start, end)
    return end if stop < 0 else stop


def _read_part(text: str, part: Part, options: Mapping[str, str]) -> list[Claim]:
    """What the first line after an answer marker names, and the next if it is nothing but a label too."""
    line = first_line(text, part.marker.end, part.end)
    value = read_value(text, *line, options) if line else None
    if line is None or value is None:
        return []
    claims: list[Claim] = [(part.marker, value)]
    after = first_line(text, line[1], part.end)
    if after:
        second = read_value(text, *after, options)
        if isinstance(second, Value) and is_bare(text, skip_ending(text, second, options), after[1]):
            claims.append((part.marker, second))
    return claims


def _in_explanation(layout: Layout, marker: Marker) -> bool:
    return any(part.marker.end <= marker.start < part.end for part in layout.of("explanation"))


def _closes_explanation(layout: Layout, marker: Marker) -> bool:
    """True if the statement is the last line of an explanation that has lines before it."""
    text = layout.text
    for part in layout.of("explanation"):
        if part.marker.end <= marker.start < part.end:
            own_line = text[: marker.start].endswith("\n")
            last = "\n" not in text[marker.end : part.end].strip()
            return own_line and last and bool(text[part.marker.end : marker.start].strip())
    return False
