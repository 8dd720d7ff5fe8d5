"""Every place where a text names an option as its answer; two that differ leave it unread."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from explaineval.parsing.layouts import Layout, Part
from explaineval.parsing.letters import Clash, Value, is_bare, read_value, skip_ending, two_answers
from explaineval.parsing.markers import Marker, find_inline_markers
from explaineval.parsing.statements import find_bare_lines, find_retractions, find_statements, read_opening
from explaineval.records import Style

_MOST = 100  # answers in one text that are looked at; a text with more repeats itself without end
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")

Claim = tuple[Marker, Value | Clash]


def find_claims(layout: Layout, options: Mapping[str, str], style: Style) -> tuple[list[Claim], Layout]:
    """All claims, those of answer lines first, and the layout that shows their places.

    Beside answer lines firm statements anywhere count, and what the explanation begins with ("Wait, the answer is C.",
    "C, because …"). Without an answer line statements do and, in chat, bare lines and the text's own beginning.
    """
    text = layout.text[: layout.limit]
    parts = layout.of("answer")
    claims = read_answer_lines(layout, options)
    if parts and not claims:
        return [], layout
    if parts:
        return [*claims, *find_contradictions(layout, options, claims)], layout
    statements = find_statements(text, options)
    outright = [(marker, value) for marker, value in statements if not _is_inferred(value)]
    first = min((part.marker.start for part in layout.of("explanation")), default=layout.limit)
    bare = find_bare_lines(text, first, options) if style == "chat" else []
    opening = [] if bare or style != "chat" else _read_beginning(text[:first], options)
    if not (bare or opening or outright):
        return [], layout
    closing = [marker for marker, _ in outright if _closes_explanation(layout, marker)]
    found = sorted([*bare, *opening, *outright], key=lambda claim: claim[0].start) if opening else [*bare, *outright]
    inferred = [(marker, value) for marker, value in statements if _is_inferred(value)]
    markers = [*(marker for marker, _ in [*bare, *opening]), *closing]
    retracted = _after(found[0], find_retractions(text, _letters_of(found)))
    return [*found, *inferred, *retracted], layout.with_markers(markers)


def read_answer_lines(layout: Layout, options: Mapping[str, str]) -> list[Claim]:
    """What the lines with an answer marker name."""
    parts = layout.of("answer")
    claims = [claim for part in parts[:_MOST] for claim in _read_part(layout.text, part, options)]
    if len(parts) > _MOST:
        claims.append((parts[_MOST].marker, Clash(f"more than {_MOST} lines begin with an answer")))
    return claims


def find_contradictions(
    layout: Layout, options: Mapping[str, str], claims: list[Claim], given: str | None = None
) -> list[Claim]:
    """Claims outside of answer lines: firm statements, markers within a line, beginnings of explanations.

    Also a sentence that takes the answer back, if it follows the first of `claims`, or an answer that was `given`.
    """
    text = layout.text[: layout.limit]
    known = _letters_of(claims) | ({given} if given else set())
    found: list[Claim] = []
    for marker, value in find_statements(text, options):
        if isinstance(value, Value) or not known & set(value.letters):
            found.append((marker, value))
    for marker in find_inline_markers(text, "answer")[:_MOST]:
        inline = read_value(text, marker.end, line_end(text, marker.end, len(text)), options)
        if isinstance(inline, Value):
            found.append((marker, inline))
    for start, end in _beginnings(layout, claims, given):
        opening = read_opening(text, start, end, options, strict=True)
        if isinstance(opening, Value):
            found.append((Marker("answer", start, start), opening))
    found += _find_last_letter(layout, options)
    retractions = find_retractions(text, known)
    return [*found, *(retractions if given else _after(claims[0], retractions) if claims else [])]


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
    value = (read_value(text, *line, options) or _read_sentence(text, *line, options)) if line else None
    if line is None or value is None:
        return []
    claims: list[Claim] = [(part.marker, value)]
    after = first_line(text, line[1], part.end)
    if after:
        second = read_value(text, *after, options)
        if isinstance(second, Value) and is_bare(text, skip_ending(text, second, options), after[1]):
            claims.append((part.marker, second))
    return claims


def _read_sentence(text: str, start: int, end: int, options: Mapping[str, str]) -> Value | Clash | None:
    """What the line `text[start:end]` states in a sentence: "Based on the premise, the answer is B."."""
    end = min(end, start + 1000)
    line = text[start:end]
    stated = [value for _, value in find_statements(line, options)]
    direct = [value for value in stated if not _is_inferred(value)]
    agreed = agree((Marker("answer", 0, 0), value) for value in direct)
    if not isinstance(agreed, tuple) or isinstance(agreed[1], Clash):
        return agreed if isinstance(agreed, Clash) else None
    value = agreed[1]
    return Value(value.letter, start + value.start, start + value.end, start + value.tail if value.tail else 0)


def _read_beginning(text: str, options: Mapping[str, str]) -> list[Claim]:
    """The claim of a text that begins with a label and goes on with prose: "B. The premise says …"."""
    start = len(text) - len(text.lstrip())
    value = read_opening(text, start, len(text), options, strict=False)
    return [] if value is None else [(Marker("answer", start, start), value)]


def _beginnings(layout: Layout, claims: list[Claim], given: str | None) -> list[tuple[int, int]]:
    """Where explanations begin and end: after their markers, else after the answer's line, else all of the text."""
    parts = layout.of("explanation")
    spans = [(part.marker.end, part.end) for part in parts[:_MOST]]
    if not parts and claims:
        marker = claims[0][0]
        end = next((part.end for part in layout.parts if part.marker == marker), layout.limit)
        line = first_line(layout.text, marker.end, end)
        spans = [(line[1], end)] if line else []
        spans += [(0, marker.start)] if layout.text[: marker.start].strip() else []
    elif not parts and given:
        spans = [(0, layout.limit)]
    shown = [(start + len(text) - len(text.lstrip()), end) for start, end in spans if (text := layout.text[start:end])]
    return [(start, end) for start, end in shown if start < end]


def _find_last_letter(layout: Layout, options: Mapping[str, str]) -> list[Claim]:
    """A last line of an explanation that is nothing but a letter: some models repeat their answer there."""
    explanations = layout.of("explanation")
    if not explanations or explanations[-1] != layout.parts[-1]:
        return []
    start, text = explanations[-1].marker.end, layout.text[: explanations[-1].end].rstrip()
    line = text.rfind("\n", start) + 1
    value = read_value(text, line, len(text), options) if line else None
    if not isinstance(value, Value) or value.end - value.start > 1:
        return []
    bare = is_bare(text, skip_ending(text, value, options), len(text))
    return [(Marker("answer", line, line), value)] if bare else []


def _letters_of(claims: Iterable[Claim]) -> set[str]:
    return {value.letter for _, value in claims if isinstance(value, Value)}


def _is_inferred(value: Value | Clash) -> bool:
    return isinstance(value, Value) and value.inferred


def _after(claim: Claim, others: list[Claim]) -> list[Claim]:
    return [other for other in others if other[0].start > claim[0].start]


def _closes_explanation(layout: Layout, marker: Marker) -> bool:
    """True if the statement is the last line of an explanation that has lines before it."""
    text = layout.text
    for part in layout.of("explanation"):
        if part.marker.end <= marker.start < part.end:
            own_line = text[: marker.start].endswith("\n")
            last = "\n" not in text[marker.end : part.end].strip()
            return own_line and last and bool(text[part.marker.end : marker.start].strip())
    return False
