"""The label and the explanation in a completion's text, or the reason why they cannot be read.

`parse` reads both from one completion. `parse_label` and `parse_explanation` read one each, where the explanation is
asked for in a second call with the answer given. Reading is lenient about the form of an answer and never guesses: a
text that names two different options is unreadable. The method page specifies the answer format.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from explaineval.parsing.denials import find_denials, find_retractions
from explaineval.parsing.layout import Layout, Marker, Part, clean, find_inline_markers, lay_out, says_something
from explaineval.parsing.letters import Clash, Value, agree, is_bare, read_value, skip_ending
from explaineval.parsing.statements import Claim, find_bare_lines, find_statements, read_opening
from explaineval.parsing.text import View, make_view
from explaineval.records import Answer, Order, Style, Unreadable

_MOST_LINES = 100  # answer lines that are read; a text with more repeats itself without end
_MOST_OBJECTS = 8  # JSON objects that are tried
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
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
    """The value that all claims agree on, its marker (None: it stands in JSON), and the explanation in JSON or ""."""

    value: Value
    marker: Marker | None
    layout: Layout
    explanation: str


def parse(
    text: str, options: Mapping[str, str], order: Order, style: Style, *, fields: Collection[str] = ()
) -> Answer | Unreadable:
    """Read the label and the explanation in the text of a completion.

    `options` maps capital letters to option texts. In completion style `text` begins right after the `Answer:` (order
    pe) or `Explanation:` (order ep) that ends the prompt, and `fields` names the task's input fields, whose lines begin
    the model's next example. Nothing is raised: an Unreadable has the status "unparsed" and says in its reason what is
    missing or contradictory. `label_offset` counts code points of `text`.

    >>> options = {"A": "entailment", "B": "neutral"}
    >>> parse("**Answer:** b) neutral\\nExplanation: It may rain.", options, "pe", "chat")
    Answer(label='B', explanation='It may rain.', label_offset=12)
    >>> parse(" A or B\\nExplanation: It may rain.", options, "pe", "completion").reason
    'two different answers: A and B'
    """
    reading = _read_label(make_view(text), options, order, style, fields)
    if isinstance(reading, Unreadable):
        return reading
    explanation = _read_explanation(reading, options, order)
    if isinstance(explanation, Unreadable):
        return explanation
    return Answer(label=reading.value.letter, explanation=explanation, label_offset=reading.value.start)


def parse_label(
    text: str, options: Mapping[str, str], style: Style, *, fields: Collection[str] = ()
) -> Label | Unreadable:
    """Read the label alone, as `parse` does in order pe; the explanation may be missing.

    An explanation that is there is not returned, but a second answer in it still makes the text unreadable.

    >>> parse_label(" B", {"A": "yes", "B": "no"}, "completion")
    Label(label='B', label_offset=1)
    """
    reading = _read_label(make_view(text), options, "pe", style, fields)
    return reading if isinstance(reading, Unreadable) else Label(reading.value.letter, reading.value.start)


def parse_explanation(
    text: str, label: str, options: Mapping[str, str], style: Style, *, fields: Collection[str] = ()
) -> str | Unreadable:
    """Read the explanation alone, where the model was given `label` as its answer.

    The text need not begin with `Explanation:`; without that word, all of it but its answer lines is the explanation.
    An Unreadable has the status "unparsed": the text says nothing, or gives another answer than `label`.

    >>> parse_explanation("It may rain.", "B", {"A": "yes", "B": "no"}, "chat")
    'It may rain.'
    >>> parse_explanation("Answer: A\\nExplanation: It rains.", "B", {"A": "yes", "B": "no"}, "chat").reason
    'the answer A contradicts the answer B that was given'
    """
    view = make_view(text)
    if not view.text.strip():
        return _describe_blank(view)
    reply = _read_objects(view.unreasoned, options)
    if reply is not None:
        view = view.without(reply.start, reply.end)
    layout = lay_out(view, None, style, fields)
    lines = _read_answer_lines(layout, options)
    if style == "chat" and not layout.of("answer"):
        lines = find_bare_lines(layout.text, layout.limit, options)
        layout = layout.with_markers(marker for marker, _ in lines)
    values = [value for _, value in [*lines, *_find_contradictions(layout, options, lines, label)]]
    for value in [reply.value, *values] if reply and reply.value else values:
        if isinstance(value, Clash):
            return _unparsed(value.reason)
        if value.letter != label:
            return _unparsed(f"the answer {value.letter} contradicts the answer {label} that was given")
    if reply is not None and reply.explanation:
        return reply.explanation
    return _read_only_explanation(layout, lines, options)


def _read_label(
    view: View, options: Mapping[str, str], order: Order, style: Style, fields: Collection[str]
) -> _Reading | Unreadable:
    """The label that all claims of the text agree on."""
    if not view.text.strip():
        return _describe_blank(view)
    reply = _read_objects(view.unreasoned, options)
    if reply is not None and reply.value is not None:
        view = view.without(reply.start, reply.end)
    layout = lay_out(view, order, style, fields)
    claims, layout = _find_claims(layout, options, style)
    in_object = reply if reply is not None and reply.value is not None and reply.start < layout.limit else None
    values = [value for _, value in claims] + ([in_object.value] if in_object and in_object.value else [])
    value = agree(values)
    if isinstance(value, Clash):
        return _unparsed(value.reason)
    if value is None:
        return _describe_no_answer(layout)
    return _Reading(value, claims[0][0] if claims else None, layout, in_object.explanation if in_object else "")


def _find_claims(layout: Layout, options: Mapping[str, str], style: Style) -> tuple[list[Claim], Layout]:
    """All claims to be the answer, those of answer lines first, and the layout with their places added.

    With answer lines, firm statements anywhere count too, and so does what the explanation begins with ("Wait, the
    answer is C.", "C, because …"). Without answer lines, statements count and, in chat, lines that are nothing but a
    label and the beginning of the text.
    """
    text = layout.text[: layout.limit]
    claims = _read_answer_lines(layout, options)
    if layout.of("answer"):
        return [*claims, *_find_contradictions(layout, options, claims)] if claims else [], layout
    statements = find_statements(text, options)
    direct = [(marker, value) for marker, value in statements if not _is_inferred(value)]
    first = min((part.marker.start for part in layout.of("explanation")), default=layout.limit)
    bare = find_bare_lines(text, first, options) if style == "chat" else []
    opening = _read_beginning(text[:first], options) if style == "chat" and not bare else []
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
    claims = [claim for part in parts[:_MOST_LINES] for claim in _read_part(layout.text, part, options)]
    if len(parts) > _MOST_LINES:
        claims.append((parts[_MOST_LINES].marker, Clash(f"more than {_MOST_LINES} lines begin with an answer")))
    return claims


def _read_part(text: str, part: Part, options: Mapping[str, str]) -> list[Claim]:
    """What the first line after an answer marker names, and the next line if it is nothing but a label."""
    line = _first_line(text, part.marker.end, part.end)
    value = (read_value(text, *line, options) or _read_sentence(text, *line, options)) if line else None
    if line is None or value is None:
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
        inline = read_value(text, marker.end, _line_end(text, marker.end, len(text)), options)
        if isinstance(inline, Value):
            others.append((marker, inline))
    for start, end in _explanation_spans(layout, claims, given):
        opening = read_opening(text, start, end, options, strict=True)
        if isinstance(opening, Value):
            others.append((Marker("answer", start, start), opening))
    others += _find_last_letter(layout, options)
    if all(isinstance(value, Value) and value.letter in known for _, value in others):
        others += find_denials(text, known, options)
    retractions = find_retractions(text, known)
    return [*others, *(retractions if given else _after(claims[0], retractions) if claims else [])]


def _explanation_spans(layout: Layout, claims: list[Claim], given: str | None) -> list[tuple[int, int]]:
    """Where explanations begin and end: after their markers, or else after the answer's line, or else all the text."""
    text, parts = layout.text, layout.of("explanation")
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
    start, text = explanations[-1].marker.end, layout.text[: explanations[-1].end].rstrip()
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
    """The content of the first explanation marker that has one; JSON's own if the label stands in it.

    Without such a marker it is what follows the answer or, in order ep, what stands before it.
    """
    layout, marker = reading.layout, reading.marker
    parts = layout.of("explanation")
    written = next(filter(None, _contents(layout)), "")
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
    end = layout.end_of(marker)
    content = clean(layout, min(end, skip_ending(layout.text, reading.value, options)), end, marker.wrap)
    place = "stands beside" if order == "ep" else "follows"
    return content or _unparsed(f"there is no explanation: nothing {place} the answer")


def _read_only_explanation(layout: Layout, lines: list[Claim], options: Mapping[str, str]) -> str | Unreadable:
    """The explanation in a text that need not mark it: what follows its marker, or else all but the answer lines."""
    contents, answers = _contents(layout), layout.of("answer")
    if not layout.of("explanation"):
        ends = {marker: skip_ending(layout.text, value, options) for marker, value in lines if isinstance(value, Value)}
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
    """Why there is no answer: the first answer line names no option, or there is no such line."""
    parts = layout.of("answer")
    if not parts:
        return _unparsed("there is no answer: no line begins with 'Answer:' and nothing else names an option")
    line = _first_line(layout.text, parts[0].marker.end, parts[0].end)
    shown = " ".join(layout.text[slice(*line)][:200].split()) if line else ""
    if not shown:
        return _unparsed("there is no answer: nothing follows 'Answer:'")
    return _unparsed(f"the answer names no option: {shown if len(shown) <= 60 else shown[:59] + '…'!r}")


def _unparsed(reason: str) -> Unreadable:
    return Unreadable(status="unparsed", reason=reason)


_DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: pairs)
_OBJECT = re.compile(r"(?:^|\n)[ \t`]{0,8}(?P<brace>\{)\s{0,40}\"")
_ANSWER_KEY = re.compile(
    r"(?<!\\)\"(?P<key>(?:final[ _])?answer|label)\"\s{0,8}:\s{0,8}\"(?P<value>[^\"\\]{0,4000})\"", re.I
)
_ANSWER_NAMES = frozenset({"answer", "final answer", "final_answer", "label"})
_EXPLANATION_NAMES = frozenset({"explanation", "rationale", "reasoning", "reason", "justification"})


@dataclass(frozen=True, slots=True)
class _JsonReply:
    """What JSON objects say: the answer (None without its key), the explanation or "", and the span they take."""

    value: Value | Clash | None
    explanation: str
    start: int
    end: int


def _read_objects(text: str, options: Mapping[str, str]) -> _JsonReply | None:
    """What the JSON objects of `text` say, or None if none has the key of an answer or of an explanation.

    Only objects that begin a line are read. Several objects, or one with a repeated key, must agree.
    """
    spans: list[tuple[int, int]] = []
    pairs: list[tuple[str, object]] = []
    position = 0
    for _ in range(_MOST_OBJECTS):
        opening = _OBJECT.search(text, position)
        if opening is None:
            break
        position = opening.end()
        try:
            content, end = _DECODER.raw_decode(text, opening.start("brace"))
        except (ValueError, RecursionError):
            continue
        named = [(str(key).strip().casefold(), value) for key, value in content]
        if any(name in _ANSWER_NAMES or name == "explanation" for name, _ in named):
            spans.append((opening.start("brace"), end))
            pairs += named
            position = end
    if not spans:
        return None
    value = _read_object_answer(text, spans, sum(name in _ANSWER_NAMES for name, _ in pairs), options)
    return _JsonReply(value, _pick_explanation(pairs), spans[0][0], spans[-1][1])


def _read_object_answer(
    text: str, spans: list[tuple[int, int]], expected: int, options: Mapping[str, str]
) -> Value | Clash | None:
    """The option named by the `expected` number of answers in the objects at `spans`; None if there is no answer."""
    if not expected:
        return None
    keys = [key for start, end in spans for key in _ANSWER_KEY.finditer(text, start, end)]
    if len(keys) != expected:
        return Clash("the answer in the JSON object is no plain text")
    return agree(
        read_value(text, *key.span("value"), options) or Clash(f"the answer names no option: {key['value'][:40]!r}")
        for key in keys
    )


def _pick_explanation(pairs: list[tuple[str, object]]) -> str:
    """The value of the key "explanation", or else of a synonym; "" if there is none that is text."""
    named = [value for name, value in pairs if name == "explanation"]
    others = [value for name, value in pairs if name in _EXPLANATION_NAMES]
    texts = [value.strip() for value in (named or others) if isinstance(value, str) and says_something(value)]
    return texts[0] if texts else ""
