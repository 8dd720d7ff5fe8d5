"""Completion text → Answer or Unreadable: lenient in what it accepts, never guessing (answer format)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from explaineval.parsing.layouts import Layout, Part, clean, lay_out
from explaineval.parsing.markers import Marker, find_line_markers
from explaineval.parsing.objects import read_objects
from explaineval.parsing.reasonings import find_reasoning, mask
from explaineval.parsing.statements import find_bare_lines, find_statements
from explaineval.parsing.values import Clash, Value, is_bare, read_value, skip_ending, two_answers
from explaineval.records import Answer, Order, Style, Unreadable

_MOST = 100  # answers in one text that are looked at; a text with more repeats itself without end
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")

Reading = tuple[Marker, Value]


def parse(
    text: str, options: Mapping[str, str], order: Order, style: Style, *, fields: Collection[str] = ()
) -> Answer | Unreadable:
    """Read the label and the explanation in the text of a completion.

    `options` maps capital letters to option texts. In completion style `text` begins right after the
    `Answer:` (order pe) or `Explanation:` (order ep) that ends the prompt, and `fields` names the task's
    input fields, whose lines begin the model's next example. Unreadable has status "unparsed" and says in
    its reason what is missing or contradictory; nothing is raised. `label_offset` counts code points of
    `text`.

    >>> options = {"A": "entailment", "B": "neutral"}
    >>> parse("**Answer:** b) neutral\\nExplanation: It may rain.", options, "pe", "chat")
    Answer(label='B', explanation='It may rain.', label_offset=12)
    >>> parse(" A or B\\nExplanation: It may rain.", options, "pe", "completion").reason
    'two different answers: A and B'
    """
    holes = find_reasoning(text)
    masked = mask(text, holes)
    if not masked.strip():
        return _unparsed("nothing follows the reasoning" if holes else "the text is blank")
    found = read_objects(masked, options)
    if found is not None:
        answer, start, end = found
        if all(start <= marker.start < end for marker in find_line_markers(masked)):
            return answer
    layout = lay_out(masked, order, style, fields)
    readings, layout = _read_answers(layout, options, style)
    if isinstance(readings, str):
        return _unparsed(readings)
    marker, value = readings[0]
    explanation = _read_explanation(layout, marker, value, options, order, holes)
    if isinstance(explanation, Unreadable):
        return explanation
    return Answer(label=value.letter, explanation=explanation, label_offset=value.start)


def _read_answers(layout: Layout, options: Mapping[str, str], style: Style) -> tuple[list[Reading] | str, Layout]:
    """All readings of the answer, which agree, or why there is none; and the layout that shows them."""
    parts = layout.of("answer")
    claims = [claim for part in parts[:_MOST] for claim in _read_part(layout.text, part, options)]
    if len(parts) > _MOST:
        return f"more than {_MOST} lines begin with an answer", layout
    if parts and not claims:
        line = _first_line(layout.text, parts[0].marker.end, parts[0].end)
        return _say_none(layout.text[line[0] : line[1]] if line else ""), layout
    outside = find_statements(layout.text[: layout.limit], options, _MOST)
    if parts:
        outside = [claim for claim in outside if not _in_explanation(layout, claim[0])]
    else:
        first = min((part.marker.start for part in layout.of("explanation")), default=layout.limit)
        bare = find_bare_lines(layout.text[: layout.limit], first, options) if style == "chat" else []
        closing = [marker for marker, _ in outside if _closes_explanation(layout, marker)]
        layout = layout.with_markers([*(marker for marker, _ in bare), *closing])
        outside = [*bare, *outside]
    return _agree([*claims, *outside]), layout


def _agree(claims: Iterable[tuple[Marker, Value | Clash]]) -> list[Reading] | str:
    readings: list[Reading] = []
    for marker, value in claims:
        if isinstance(value, Clash):
            return value.reason
        readings.append((marker, value))
    letters = list(dict.fromkeys(value.letter for _, value in readings))
    if len(letters) > 1:
        return two_answers(letters).reason
    return readings or "there is no answer: no line begins with 'Answer:' and nothing else names an option"


def _read_part(text: str, part: Part, options: Mapping[str, str]) -> list[tuple[Marker, Value | Clash]]:
    """What the first line after an answer marker names, and the next if it is nothing but a label too."""
    line = _first_line(text, part.marker.end, part.end)
    value = read_value(text, *line, options) if line else None
    if line is None or value is None:
        return []
    claims = [(part.marker, value)]
    after = _first_line(text, line[1], part.end)
    if after:
        second = read_value(text, *after, options)
        if isinstance(second, Value) and is_bare(text, skip_ending(text, second, options), after[1]):
            claims.append((part.marker, second))
    return claims


def _read_explanation(
    layout: Layout,
    marker: Marker,
    value: Value,
    options: Mapping[str, str],
    order: Order,
    holes: list[tuple[int, int]],
) -> str | Unreadable:
    """The content of the first explanation marker that has one.

    Without such a marker, in order pe, it is what follows the answer.
    """
    parts = layout.of("explanation")
    for part in parts:
        content = clean(layout, part.marker.end, part.end, part.marker.wrap, holes)
        if content:
            return content
    if parts:
        return _unparsed("the explanation is empty")
    if order == "ep":
        return _unparsed("there is no explanation: no line begins with 'Explanation:'")
    end = next((part.end for part in layout.parts if part.marker == marker), layout.limit)
    content = clean(layout, min(end, skip_ending(layout.text, value, options)), end, marker.wrap, holes)
    return content or _unparsed("there is no explanation: nothing follows the answer")


def _first_line(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The first line of `text[start:end]` that holds a letter or a digit."""
    sign = _LETTER_OR_DIGIT.search(text, start, end)
    if sign is None:
        return None
    stop = text.find("\n", sign.end(), end)
    return max(start, text.rfind("\n", 0, sign.start()) + 1), end if stop < 0 else stop


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


def _say_none(line: str) -> str:
    shown = " ".join(line[:200].split())
    if not shown:
        return "there is no answer: nothing follows 'Answer:'"
    return f"the answer names no option: {shown if len(shown) <= 60 else shown[:59] + '…'!r}"


def _unparsed(reason: str) -> Unreadable:
    return Unreadable(status="unparsed", reason=reason)
