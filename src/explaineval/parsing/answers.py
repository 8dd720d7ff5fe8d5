"""Completion text → Answer or Unreadable: lenient in what it accepts, never guessing (answer format).

`parse` reads both lines of one completion; `parse_label` and `parse_explanation` read one each, where the
explanation is asked for in a second call with the answer given.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from explaineval.parsing.claims import Claim, agree, find_claims, find_contradictions, first_line, read_answer_lines
from explaineval.parsing.layouts import Layout, clean, lay_out, lay_out_explanation, says_something
from explaineval.parsing.letters import Clash, Value, skip_ending
from explaineval.parsing.markers import Marker
from explaineval.parsing.objects import read_objects
from explaineval.parsing.statements import find_bare_lines
from explaineval.parsing.views import View, see
from explaineval.records import Answer, Order, Style, Unreadable

_BESIDE = {"pe": "follows", "ep": "stands beside", "pe2": "follows"}
_INTRODUCTION = re.compile(
    r"(?:(?:sure|certainly|of course|okay|ok|alright|great|absolutely|yes|hello|hi)\b[^\n.:!]{0,60}[!,.:]\s*)?"
    r"(?:[^\n:]{0,120}\b(?:answer|reply|response|analysis|reasoning|explanation)\b[^\n:.!?]{0,60}:\s*)?",
    re.IGNORECASE,
)
"""What models say before they begin: "Sure! Here is my answer:"."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label read without an explanation; `label_offset` counts code points of the text, as in Answer."""

    label: str
    label_offset: int


@dataclass(frozen=True, slots=True)
class _Reading:
    """The value that all claims agree on, its marker in the layout (None: in JSON), and what JSON explains or ""."""

    value: Value
    marker: Marker | None
    layout: Layout
    explanation: str


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
    reading = _read_label(see(text), options, order, style, fields)
    if isinstance(reading, Unreadable):
        return reading
    explanation = _read_explanation(reading, options, order)
    if isinstance(explanation, Unreadable):
        return explanation
    return Answer(label=reading.value.letter, explanation=explanation, label_offset=reading.value.start)


def parse_label(
    text: str, options: Mapping[str, str], style: Style, *, fields: Collection[str] = ()
) -> Label | Unreadable:
    """Read the label alone, as `parse` does in order pe; an explanation is not wanted and may be missing.

    One that is given is left out, but a second answer in it still makes the text unreadable.

    >>> parse_label(" B", {"A": "yes", "B": "no"}, "completion")
    Label(label='B', label_offset=1)
    """
    reading = _read_label(see(text), options, "pe", style, fields)
    if isinstance(reading, Unreadable):
        return reading
    return Label(reading.value.letter, reading.value.start)


def parse_explanation(
    text: str, label: str, options: Mapping[str, str], style: Style, *, fields: Collection[str] = ()
) -> str | Unreadable:
    """Read the explanation alone, where the model was given `label` as its answer.

    It need not begin with `Explanation:`; without that word all of the text but its answer lines is the
    explanation. Unreadable has status "unparsed": nothing is said, or another answer than `label` is given.

    >>> parse_explanation("It may rain.", "B", {"A": "yes", "B": "no"}, "chat")
    'It may rain.'
    >>> parse_explanation("Answer: A\\nExplanation: It rains.", "B", {"A": "yes", "B": "no"}, "chat").reason
    'the answer A contradicts the answer B that was given'
    """
    view = see(text)
    if not view.text.strip():
        return _say_blank(view)
    found = read_objects(view.unreasoned, options)
    if found is not None:
        view = view.without(found.start, found.end)
    layout = lay_out_explanation(view, style, fields)
    lines = read_answer_lines(layout, options)
    if style == "chat" and not layout.of("answer"):
        lines = find_bare_lines(layout.text, layout.limit, options)
        layout = layout.with_markers(marker for marker, _ in lines)
    claims = [value for _, value in [*lines, *find_contradictions(layout, options, lines, label)]]
    for value in [found.value, *claims] if found and found.value else claims:
        if isinstance(value, Clash):
            return _unparsed(value.reason)
        if value.letter != label:
            return _unparsed(f"the answer {value.letter} contradicts the answer {label} that was given")
    if found is not None and found.explanation:
        return found.explanation
    return _read_only_explanation(layout, lines, options)


def _read_label(
    view: View, options: Mapping[str, str], order: Order, style: Style, fields: Collection[str]
) -> _Reading | Unreadable:
    if not view.text.strip():
        return _say_blank(view)
    found = read_objects(view.unreasoned, options)
    if found is not None and found.value is not None:
        view = view.without(found.start, found.end)
    layout = lay_out(view, order, style, fields)
    claims, layout = find_claims(layout, options, style)
    in_object: list[Claim] = []
    if found is not None and found.value is not None and found.start < layout.limit:
        in_object = [(Marker("answer", found.start, found.start), found.value)]
    first = agree([*claims, *in_object])
    if isinstance(first, Clash):
        return _unparsed(first.reason)
    if first is None:
        return _say_none(layout)
    marker, value = first
    if isinstance(value, Clash):
        return _unparsed(value.reason)
    return _Reading(value, marker if claims else None, layout, found.explanation if found and in_object else "")


def _read_explanation(reading: _Reading, options: Mapping[str, str], order: Order) -> str | Unreadable:
    """The content of the first explanation marker that has one; JSON's own where the label stands in it.

    Without such a marker, in order pe, it is what follows the answer.
    """
    layout, marker = reading.layout, reading.marker
    parts = layout.of("explanation")
    contents = [clean(layout, part.marker.end, part.end, part.marker.wrap) for part in parts]
    written = next(filter(None, contents), "")
    if marker is None or not written:
        written = reading.explanation or written
    if written:
        return written
    if parts:
        return _unparsed("the explanation is empty")
    if marker is None:
        return _unparsed("the explanation is empty: the JSON object holds none as text")
    if order == "ep":
        before = _strip_introduction(clean(layout, 0, min(marker.start, layout.limit)))
        if before:
            return before
    end = next((part.end for part in layout.parts if part.marker == marker), layout.limit)
    content = clean(layout, min(end, skip_ending(layout.text, reading.value, options)), end, marker.wrap)
    return content or _unparsed(f"there is no explanation: nothing {_BESIDE[order]} the answer")


def _read_only_explanation(layout: Layout, lines: list[Claim], options: Mapping[str, str]) -> str | Unreadable:
    """The explanation in a text that need not say so: after its marker, else all but the answer lines."""
    parts = layout.of("explanation")
    contents = [clean(layout, part.marker.end, part.end, part.marker.wrap) for part in parts]
    answers = layout.of("answer")
    if not parts and answers:
        ends = {marker: skip_ending(layout.text, value, options) for marker, value in lines if isinstance(value, Value)}
        contents = [clean(layout, 0, answers[0].marker.start)]
        contents += [clean(layout, min(part.end, ends.get(part.marker, part.end)), part.end) for part in answers]
    elif not parts:
        contents = [clean(layout, 0, layout.limit)]
    return next(filter(None, contents), None) or _unparsed("the explanation is empty")


def _strip_introduction(content: str) -> str:
    """`content` without the words that only introduce a reply; "" if nothing else is said."""
    introduction = _INTRODUCTION.match(content)
    rest = content[introduction.end() :] if introduction else content
    return rest.strip() if says_something(rest) else ""


def _say_blank(view: View) -> Unreadable:
    if view.reasoned:
        return _unparsed("nothing follows the reasoning")
    return _unparsed("nothing stands before the end of the turn" if view.ended else "the text is blank")


def _say_none(layout: Layout) -> Unreadable:
    """Why there is no answer: the first answer line names none, or there is no such line."""
    parts = layout.of("answer")
    if not parts:
        return _unparsed("there is no answer: no line begins with 'Answer:' and nothing else names an option")
    line = first_line(layout.text, parts[0].marker.end, parts[0].end)
    shown = " ".join(layout.text[slice(*line)][:200].split()) if line else ""
    if not shown:
        return _unparsed("there is no answer: nothing follows 'Answer:'")
    return _unparsed(f"the answer names no option: {shown if len(shown) <= 60 else shown[:59] + '…'!r}")


def _unparsed(reason: str) -> Unreadable:
    return Unreadable(status="unparsed", reason=reason)
