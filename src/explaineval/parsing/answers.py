"""The label and the explanation in a completion's text, or the reason why they cannot be read.

`parse` reads both from one completion. `parse_label` and `parse_explanation` read one each, where the explanation is
asked for in a second call with the answer given. Reading is lenient about the form of an answer and never guesses: a
text that names two different options is unreadable. The method page specifies the answer format.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from explaineval.parsing.denials import find_denials, find_retractions
from explaineval.parsing.layout import Layout, Marker, Section, clean, find_inline_markers, lay_out, says_something
from explaineval.parsing.letters import Clash, Value, agree, is_bare, read_value, skip_ending, two_answers
from explaineval.parsing.objects import Unwrapped, unwrap
from explaineval.parsing.prompt_text import Prompt, make_prompt
from explaineval.parsing.statements import Claim, find_bare_lines, find_statements, read_opening
from explaineval.parsing.text import View, make_view
from explaineval.records import Answer, Order, Style, Unreadable

_MOST_LINES = 100  # answer lines that are read; a text with more repeats itself without end
_CUT = "the explanation is cut off: the JSON ends in the middle of it"
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_INTRODUCTION = re.compile(
    r"(?:(?:sure|certainly|of course|okay|ok|alright|great|absolutely|yes|hello|hi)\b[^\n.:!]{0,60}[!,.:]\s*)?"
    r"(?:[^\n:]{0,120}\b(?:answer|reply|response|analysis|reasoning|explanation)\b[^\n:.!?]{0,60}:\s*)?",
    re.IGNORECASE,
)
"""What models say before they begin: "Sure! Here is my answer:"."""


_PREPOSITION = re.compile(r"[\W_]{0,8}(?:in|inside|into|at|on|to|from|with|by|under|near)\s{1,3}", re.IGNORECASE)
_CLOSING = re.compile(  # what ends a statement and explains nothing: "I'd go with B here."
    r"\s?(?:here|then|in\sthis\s(?:case|example|pair)|for\sthis\s(?:one|pair|question)|as\s(?:my|the)\s(?:\w+\s)?answer|to\sme)"
    r"\s?(?:[.!:;,–—-]\s{0,2}|\Z)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Label:
    """A label read without an explanation; `label_offset` counts code points of the text, as in Answer."""

    label: str
    label_offset: int


Fields = Collection[str] | Mapping[str, str]
"""The names of the input's fields, or their texts by name."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """The value that all claims agree on, its marker, and the layout."""

    value: Value
    marker: Marker
    layout: Layout


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply in the form in which it is read: JSON unwrapped, and as a reader sees it."""

    unwrapped: Unwrapped
    view: View
    prompt: Prompt


def parse(
    text: str,
    options: Mapping[str, str],
    order: Order,
    style: Style,
    *,
    fields: Fields = (),
    said: Sequence[str] | str = (),
) -> Answer | Unreadable:
    """Read the label and the explanation in the text of a completion.

    What the text repeats of its prompt is no answer. Nothing is raised: an Unreadable has the status "unparsed" and
    says in its reason what is missing or contradictory. `label_offset` counts code points of `text`.

    Args:
        text: of the completion; in completion style it begins right after the `Answer:` (order pe) or `Explanation:`
            (order ep) that ends the prompt.
        options: their texts by capital letter.
        order: of answer and explanation.
        style: of the prompt.
        fields: the input's fields as the prompt showed them, texts by name, or their names alone. In completion style
            they begin the model's next example.
        said: what else the prompt said: the sentence on verbosity, the form, the instruction.

    >>> options = {"A": "entailment", "B": "neutral"}
    >>> parse("**Answer:** b) neutral\\nExplanation: It may rain.", options, "pe", "chat")
    Answer(label='B', explanation='It may rain.', label_offset=12)
    >>> parse(" A or B\\nExplanation: It may rain.", options, "pe", "completion").reason
    'two different answers: A and B'
    """
    reply = _see(text, make_prompt(options, fields, said))
    reading = _read_label(reply, order, style)
    if isinstance(reading, Unreadable):
        return reading
    explanation = _read_explanation(reading, options, order)
    if isinstance(explanation, str) and reply.unwrapped.cut:
        return _unparsed(_CUT)
    if isinstance(explanation, Unreadable):
        return explanation
    offset = reply.unwrapped.origin(reading.value.start)
    return Answer(label=reading.value.letter, explanation=explanation, label_offset=offset)


def parse_label(
    text: str, options: Mapping[str, str], style: Style, *, fields: Fields = (), said: Sequence[str] | str = ()
) -> Label | Unreadable:
    """Read the label alone, as `parse` does in order pe; the explanation may be missing.

    An explanation that is there is not returned, but a second answer in it still makes the text unreadable.

    >>> parse_label(" B", {"A": "yes", "B": "no"}, "completion")
    Label(label='B', label_offset=1)
    """
    reply = _see(text, make_prompt(options, fields, said))
    reading = _read_label(reply, "pe", style)
    if isinstance(reading, Unreadable):
        return reading
    return Label(reading.value.letter, reply.unwrapped.origin(reading.value.start))


def parse_explanation(
    text: str,
    label: str,
    options: Mapping[str, str],
    style: Style,
    *,
    fields: Fields = (),
    said: Sequence[str] | str = (),
) -> str | Unreadable:
    """Read the explanation alone, where the model was given `label` as its answer.

    The text need not begin with `Explanation:`; without that word, all of it but its answer lines is the explanation.
    An Unreadable has the status "unparsed": the text says nothing, or gives another answer than `label`.

    >>> parse_explanation("It may rain.", "B", {"A": "yes", "B": "no"}, "chat")
    'It may rain.'
    >>> parse_explanation("Answer: A\\nExplanation: It rains.", "B", {"A": "yes", "B": "no"}, "chat").reason
    'the answer A contradicts the answer B that was given'
    """
    reply = _see(text, make_prompt(options, fields, said))
    view = reply.view
    if not view.text.strip():
        return _describe_blank(view)
    layout = lay_out(view, None, style, reply.prompt)
    lines = _read_answer_lines(layout, options)
    if not any(
        part.marker.end > part.marker.start for part in layout.of("explanation")
    ):  # "The answer is: the reason is …" names no option: it is the explanation
        named = {marker for marker, _ in lines}
        parts = [part for part in layout.of("answer") if part.marker not in named]
        layout = layout.without_markers({part.marker for part in parts if clean(layout, part.marker.end, part.end)})
    if style == "chat" and not layout.of("answer"):
        lines = find_bare_lines(layout.lines, layout.limit, options)
        layout = layout.with_markers(marker for marker, _ in lines)
    values = [value for _, value in [*lines, *_find_contradictions(layout, options, lines, label)]]
    for value in values:
        if isinstance(value, Clash):
            return _unparsed(value.reason)
        if value.letter != label:
            return _unparsed(f"the answer {value.letter} contradicts the answer {label} that was given")
    explanation = _read_only_explanation(layout, lines, options)
    return _unparsed(_CUT) if isinstance(explanation, str) and reply.unwrapped.cut else explanation


def _see(text: str, prompt: Prompt) -> _Reply:
    """The reply in the form in which it is read."""
    unwrapped = unwrap(text, prompt.names)
    return _Reply(unwrapped, make_view(unwrapped.text, prompt.elements, unwrapped.objects), prompt)


def _read_label(reply: _Reply, order: Order, style: Style) -> _Reading | Unreadable:
    """The label that all claims of the text agree on."""
    if not reply.view.text.strip():
        return _describe_blank(reply.view)
    layout = lay_out(reply.view, order, style, reply.prompt)
    claims, layout = _find_claims(layout, reply.prompt.options, style)
    value = agree(value for _, value in claims)
    if isinstance(value, Clash):
        return _unparsed(value.reason)
    if value is None:
        return _describe_no_answer(layout)
    return _Reading(value, claims[0][0], layout)


def _find_claims(layout: Layout, options: Mapping[str, str], style: Style) -> tuple[list[Claim], Layout]:
    """All claims to be the answer, those of answer lines first, and the layout with their places added.

    With answer lines, firm statements anywhere count too, and so does what the explanation begins with ("Wait, the
    answer is C.", "C, because …"). Without answer lines, statements count and, in chat, lines that are nothing but a
    label and the beginning of the text.
    """
    text, lines = layout.text[: layout.limit], layout.lines[: layout.limit]
    claims = _read_answer_lines(layout, options)
    if layout.of("answer"):
        return [*claims, *_find_contradictions(layout, options, claims)] if claims else [], layout
    statements = find_statements(text, options)
    direct = [(marker, value) for marker, value in statements if not _is_inferred(value)]
    first = min((part.marker.start for part in layout.of("explanation")), default=layout.limit)
    bare = find_bare_lines(lines, first, options) if style == "chat" else []
    opening = _read_beginning(lines[:first], options) if style == "chat" and not bare else []
    if not (bare or opening or direct):
        return [], layout
    claims = [*bare, *opening, *direct]
    if opening:
        claims.sort(key=lambda claim: claim[0].start)
    markers = [marker for marker, _ in [*bare, *opening]]
    markers += [marker for marker, _ in direct if _closes_explanation(layout, marker)]
    inferred = [(marker, value) for marker, value in statements if _is_inferred(value)]
    retracted = _after(claims[0], find_retractions(text, _letters_of(claims)))
    denied = find_denials(text, _letters_of(claims), options)
    return [*claims, *inferred, *retracted, *denied], layout.with_markers(markers)


def _read_answer_lines(layout: Layout, options: Mapping[str, str]) -> list[Claim]:
    """What the lines with an answer marker name."""
    parts = layout.of("answer")
    claims = [claim for part in parts[:_MOST_LINES] for claim in _read_part(layout.lines, part, options)]
    if len(parts) > _MOST_LINES:
        claims.append((parts[_MOST_LINES].marker, Clash(f"more than {_MOST_LINES} lines begin with an answer")))
    return claims


def _read_part(text: str, part: Section, options: Mapping[str, str]) -> list[Claim]:
    """What the first line after an answer marker names, and the next line if it is nothing but a label."""
    line = _first_line(text, part.marker.end, part.end)
    if line is None:
        return []
    value = (
        read_value(text, *line, options) or _read_sentence(text, *line, options) or _read_phrase(text, *line, options)
    )
    if value is None:
        return []
    after = _first_line(text, line[1], part.end)
    second = read_value(text, *after, options) if after else None
    if after and isinstance(second, Value) and is_bare(text, skip_ending(text, second, options), after[1]):
        return [(part.marker, value), (part.marker, second)]
    return [(part.marker, value)]


def _read_sentence(text: str, start: int, end: int, options: Mapping[str, str]) -> Value | Clash | None:
    """What the line `text[start:end]` states in a sentence: "Based on the premise, the answer is B."."""
    line = text[start : min(end, start + 1000)]
    value = agree(value for _, value in find_statements(line, options) if not _is_inferred(value))
    if not isinstance(value, Value):
        return value
    return Value(value.letter, start + value.start, start + value.end, start + value.tail if value.tail else 0)


def _read_phrase(text: str, start: int, end: int, options: Mapping[str, str]) -> Value | None:
    """The option whose text, after a preposition, is all of the line: "In the refrigerator."."""
    preposition = _PREPOSITION.match(text, start, end)
    value = read_value(text, preposition.end(), end, options) if preposition else None
    alone = isinstance(value, Value) and not value.lettered and is_bare(text, skip_ending(text, value, options), end)
    return value if isinstance(value, Value) and alone else None


def _read_beginning(text: str, options: Mapping[str, str]) -> list[Claim]:
    """The claim of a text that begins with a label and goes on with prose: "B. The premise says …"."""
    start = len(text) - len(text.lstrip())
    value = read_opening(text, start, len(text), options, strict=False)
    return [] if value is None else [(Marker("answer", start, start), value)]


def _find_contradictions(
    layout: Layout, options: Mapping[str, str], claims: list[Claim], given: str | None = None
) -> list[Claim]:
    """Claims outside of answer lines: firm statements, markers within a line, beginnings of explanations.

    Sentences that deny an answer by name count too, and so do sentences that take the answer back, if they follow the
    first of `claims` or an answer was `given`.
    """
    text = layout.text[: layout.limit]
    known = _letters_of(claims) | ({given} if given else set())
    others: list[Claim] = []
    for marker, value in find_statements(text, options):
        if isinstance(value, Value) or not known & set(value.letters):
            others.append((marker, value))
    for marker in find_inline_markers(text, "answer")[:_MOST_LINES]:
        inline = read_value(layout.lines, marker.end, _line_end(text, marker.end, len(text)), options)
        if isinstance(inline, Value):
            others.append((marker, inline))
    for start, end in _explanation_spans(layout, claims, given):
        opening = read_opening(layout.lines, start, end, options, strict=True)
        if isinstance(opening, Value):
            others.append((Marker("answer", start, start), opening))
    others += _find_last_letter(layout, options)
    if all(isinstance(value, Value) and value.letter in known for _, value in others):
        others += find_denials(text, known, options)
    retractions = find_retractions(text, known)
    return [*others, *(retractions if given else _after(claims[0], retractions) if claims else [])]


def _explanation_spans(layout: Layout, claims: list[Claim], given: str | None) -> list[tuple[int, int]]:
    """Where explanations begin and end: after their markers, or else after the answer's line, or else all the text."""
    text, parts = layout.lines, layout.of("explanation")
    spans = [(part.marker.end, part.end) for part in parts[:_MOST_LINES]]
    if not parts and claims:
        marker = claims[0][0]
        end = layout.end_of(marker)
        line = _first_line(text, marker.end, end)
        spans = [(line[1], end)] if line else []
        spans += [(0, marker.start)] if text[: marker.start].strip() else []
    elif not parts and given:
        spans = [(0, layout.limit)]
    stripped = [(end - len(text[start:end].lstrip()), end) for start, end in spans]
    return [(start, end) for start, end in stripped if start < end]


def _find_last_letter(layout: Layout, options: Mapping[str, str]) -> list[Claim]:
    """The last line of an explanation if it is nothing but a letter: some models repeat their answer there."""
    explanations = layout.of("explanation")
    if not explanations or explanations[-1] != layout.parts[-1]:
        return []
    start, text = explanations[-1].marker.end, layout.lines[: explanations[-1].end].rstrip()
    line = text.rfind("\n", start) + 1
    value = read_value(text, line, len(text), options) if line else None
    if not isinstance(value, Value) or not value.lettered:
        return []
    bare = is_bare(text, skip_ending(text, value, options), len(text))
    return [(Marker("answer", line, line), value)] if bare else []


def _closes_explanation(layout: Layout, marker: Marker) -> bool:
    """True if the statement is the last line of an explanation that has lines before it."""
    text = layout.text
    for part in layout.of("explanation"):
        if part.marker.end <= marker.start < part.end:
            own_line = text[: marker.start].endswith("\n")
            last = "\n" not in text[marker.end : part.end].strip()
            return own_line and last and bool(text[part.marker.end : marker.start].strip())
    return False


def _letters_of(claims: Iterable[Claim]) -> set[str]:
    return {value.letter for _, value in claims if isinstance(value, Value)}


def _is_inferred(value: Value | Clash) -> bool:
    return isinstance(value, Value) and value.inferred


def _after(claim: Claim, others: list[Claim]) -> list[Claim]:
    return [other for other in others if other[0].start > claim[0].start]


def _first_line(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The first line of `text[start:end]` that holds a letter or a digit."""
    said = _LETTER_OR_DIGIT.search(text, start, end)
    return (max(start, text.rfind("\n", 0, said.start()) + 1), _line_end(text, said.end(), end)) if said else None


def _line_end(text: str, start: int, end: int) -> int:
    """Where the line that holds `start` ends, at most `end`."""
    stop = text.find("\n", start, end)
    return end if stop < 0 else stop


def _read_explanation(reading: _Reading, options: Mapping[str, str], order: Order) -> str | Unreadable:
    """The content of the first explanation marker that has one.

    Without such a marker it is what follows the answer or, in order ep, what stands before it.
    """
    layout, marker = reading.layout, reading.marker
    written = next(filter(None, _contents(layout)), "")
    if written:
        return written
    if layout.of("explanation"):
        return _unparsed("the explanation is empty")
    if order == "ep":
        before = _strip_introduction(clean(layout, 0, min(marker.start, layout.limit)))
        if before:
            return before
    end = layout.end_of(marker)
    start = skip_ending(layout.lines, reading.value, options)
    closing = _CLOSING.match(layout.lines, start)
    content = clean(layout, min(end, closing.end() if closing else start), end, marker.wrap)
    if any(start <= marker.start < stop for start, stop in layout.view.objects):
        return content or _unparsed("the explanation is empty: the JSON object holds none")
    place = "stands beside" if order == "ep" else "follows"
    return content or _unparsed(f"there is no explanation: nothing {place} the answer")


def _read_only_explanation(layout: Layout, lines: list[Claim], options: Mapping[str, str]) -> str | Unreadable:
    """The explanation in a text that need not mark it: what follows its marker, or else all but the answer lines."""
    contents, answers = _contents(layout), layout.of("answer")
    if not layout.of("explanation"):
        ends = {
            marker: skip_ending(layout.lines, value, options) for marker, value in lines if isinstance(value, Value)
        }
        contents = [clean(layout, 0, answers[0].marker.start if answers else layout.limit)]
        contents += [clean(layout, min(part.end, ends.get(part.marker, part.end)), part.end) for part in answers]
    return next(filter(None, contents), None) or _unparsed("the explanation is empty")


def _contents(layout: Layout) -> list[str]:
    """The contents of all explanation markers."""
    return [clean(layout, part.marker.end, part.end, part.marker.wrap) for part in layout.of("explanation")]


def _strip_introduction(content: str) -> str:
    """`content` without the words that only introduce a reply; "" if nothing else is said."""
    introduction = _INTRODUCTION.match(content)
    rest = content[introduction.end() :] if introduction else content
    return rest.strip() if says_something(rest) else ""


def _describe_blank(view: View) -> Unreadable:
    if view.reasoned:
        return _unparsed("nothing follows the reasoning")
    return _unparsed("nothing stands before the end of the turn" if view.ended else "the text is blank")


def _describe_no_answer(layout: Layout) -> Unreadable:
    """Why there is no answer: options are gone through, the first answer line names none, or there is no such line."""
    parts = layout.of("answer")
    if parts and layout.listed:
        return _unparsed(f"{two_answers(list(layout.listed)).reason}: the text goes through its options")
    if not parts and layout.repeats_prompt:
        return _unparsed("there is no answer: the text repeats its prompt, and nothing else in it names an option")
    if not parts:
        return _unparsed("there is no answer: no line begins with 'Answer:' and nothing else names an option")
    text = layout.view.text
    line = _first_line(text, parts[0].marker.end, parts[0].end)
    shown = " ".join(text[slice(*line)][:200].split()) if line else ""
    if not shown:
        return _unparsed("there is no answer: nothing follows 'Answer:'")
    return _unparsed(f"the answer names no option: {shown if len(shown) <= 60 else shown[:59] + '…'!r}")


def _unparsed(reason: str) -> Unreadable:
    return Unreadable(status="unparsed", reason=reason)
