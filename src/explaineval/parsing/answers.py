"""Completion text → Answer or Unreadable: lenient in what it accepts, never guessing (answer format).

`parse` reads both lines of one completion; `parse_label` and `parse_explanation` read one each, where the
explanation is asked for in a second call with the answer given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from explaineval.parsing.denials import find_denials, find_retractions
from explaineval.parsing.layout import (
    Layout,
    Marker,
    Part,
    clean,
    find_inline_markers,
    lay_out,
    lay_out_explanation,
    says_something,
)
from explaineval.parsing.letters import Clash, Value, is_bare, read_value, skip_ending, two_answers
from explaineval.parsing.statements import find_bare_lines, find_statements, read_opening
from explaineval.parsing.text import View, see
from explaineval.records import Answer, Order, Style, Unreadable

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
    denied = find_denials(text, _letters_of(found), options)
    return [*found, *inferred, *retracted, *denied], layout.with_markers(markers)


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

    Also a sentence that takes the answer back, if it follows the first of `claims`, or an answer that was `given`; and
    one that denies it by name.
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
    if all(isinstance(value, Value) and value.letter in known for _, value in found):
        found += find_denials(text, known, options)
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


_DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: pairs)
_OPENING = re.compile(r"(?:^|\n)[ \t`]{0,8}(?P<brace>\{)\s{0,40}\"")
_ANSWER_KEY = re.compile(
    r"(?<!\\)\"(?P<key>(?:final[ _])?answer|label)\"\s{0,8}:\s{0,8}\"(?P<value>[^\"\\]{0,4000})\"", re.I
)
_MOST_OBJECTS = 8  # objects that are tried
_ANSWER_NAMES = frozenset({"answer", "final answer", "final_answer", "label"})
_EXPLANATION_NAMES = frozenset({"explanation", "rationale", "reasoning", "reason", "justification"})


@dataclass(frozen=True, slots=True)
class Found:
    """What the objects say: the answer (None without its key), the explanation or "", and the span they take."""

    value: Value | Clash | None
    explanation: str
    start: int
    end: int


def read_objects(text: str, options: Mapping[str, str]) -> Found | None:
    """What the JSON objects of `text` say, or None if none has the key of an answer or of an explanation.

    Only objects that begin a line are looked at. Several objects, or one with a repeated key, must agree.
    """
    spans: list[tuple[int, int]] = []
    pairs: list[tuple[str, object]] = []
    position = 0
    for _ in range(_MOST_OBJECTS):
        opening = _OPENING.search(text, position)
        if opening is None:
            break
        position = opening.end()
        try:
            found, end = _DECODER.raw_decode(text, opening.start("brace"))
        except (ValueError, RecursionError):
            continue
        named = [(str(key).strip().casefold(), value) for key, value in found]
        if any(name in _ANSWER_NAMES or name == "explanation" for name, _ in named):
            spans.append((opening.start("brace"), end))
            pairs += named
            position = end
    if not spans:
        return None
    return Found(_read_answer(text, spans, pairs, options), _pick_explanation(pairs), spans[0][0], spans[-1][1])


def _read_answer(
    text: str, spans: list[tuple[int, int]], pairs: list[tuple[str, object]], options: Mapping[str, str]
) -> Value | Clash | None:
    wanted = sum(name in _ANSWER_NAMES for name, _ in pairs)
    if not wanted:
        return None
    keys = [key for start, end in spans for key in _ANSWER_KEY.finditer(text, start, end)]
    if len(keys) != wanted:
        return Clash("the answer in the JSON object is no plain text")
    values: list[Value] = []
    for key in keys:
        value = read_value(text, key.start("value"), key.end("value"), options)
        if isinstance(value, Clash):
            return value
        if value is None:
            return Clash(f"the answer names no option: {key['value'][:40]!r}")
        values.append(value)
    letters = list(dict.fromkeys(value.letter for value in values))
    return two_answers(letters) if len(letters) > 1 else values[0]


def _pick_explanation(pairs: list[tuple[str, object]]) -> str:
    """The value of the key "explanation", else of a synonym; "" if there is none that is text."""
    named = [value for name, value in pairs if name == "explanation"]
    others = [value for name, value in pairs if name in _EXPLANATION_NAMES]
    texts = [value.strip() for value in (named or others) if isinstance(value, str) and says_something(value)]
    return texts[0] if texts else ""


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
