"""The parts of a completion's text: the lines `Answer:` and `Explanation:`, however models write them, with contents.

The method page specifies the answer format.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal

from explaineval.parsing.text import View
from explaineval.records import Order, Style

Kind = Literal["answer", "explanation", "field"]

_MOST = 1000  # markers that are looked at; a text with more repeats itself without end
_GAP = r"[^\S\n]"  # white space within a line
_ANSWER = (
    rf"(?:(?:the|my|final|correct|corrected|revised|updated|actual|right|best|predicted|chosen|short){_GAP}){{0,3}}"
    rf"answer(?:{_GAP}\(?(?:letter|choice|option|label)\)?)?(?:{_GAP}is)?"
    r"|antwort|réponse|respuesta|risposta|resposta|antwoord|odpowiedź|ответ|答案|回答|答え|解答|答"
)
_EXPLANATION = (
    rf"(?:(?:the|my|brief|short|detailed){_GAP}){{0,2}}explanation"
    r"|erklärung|begründung|explication|explicación|spiegazione|explicação|uitleg|wyjaśnienie|объяснение"
    r"|解释|解釋|说明|説明|解説|理由"
)
_SYNONYM = "rationale|reasoning|reason|justification"  # read only where no "Explanation:" is written

_LEAD = rf"(?P<lead>(?:(?:[^\w\s\"'{{}}(<]|_|\d{{1,2}}[.)]{_GAP}){_GAP}{{0,3}}){{0,12}}+)"
_LINE = re.compile(
    rf"^{_GAP}{{0,12}}+{_LEAD}(?:(?P<answer>{_ANSWER})|(?P<explanation>{_EXPLANATION})|(?P<synonym>{_SYNONYM}))"
    rf"(?P<close>[*_`\]]{{0,4}}+)(?:{_GAP}{{0,3}}+(?P<colon>[:：])|{_GAP}{{1,3}}+(?P<dash>[-–—=→]|[-=]>)(?={_GAP})"
    rf"|{_GAP}{{0,3}}+(?P<alone>$)|(?<=\]))",
    re.IGNORECASE | re.MULTILINE,
)
_INLINE_MARKER = re.compile(
    r"(?<![\w\"'“‘{])(?P<lead>[*_`]{0,3})(?:(?:The|My|Final|Correct|Best) ){0,2}"
    r"(?:(?P<answer>Answer|ANSWER)|(?P<explanation>Explanation|EXPLANATION))"
    rf"(?P<close>[*_`]{{0,3}}+){_GAP}{{0,3}}+(?P<colon>[:：])"
)
_EMPHATIC = re.compile(r"\b(?:my|final|correct|corrected|revised|updated|actual|right)\s", re.IGNORECASE)
_EMPHASIS_END = re.compile(r"[*_`]+$")
_FIELDS = ("premise", "hypothesis", "question", "sentence", "options", "choices", "passage", "instruction")


@dataclass(frozen=True, slots=True)
class Marker:
    """A marker's place `start`, its content's beginning `end`, and the emphasis it leaves open.

    `emphatic` is true of "Final answer:" and the like, which no few-shot example has.
    """

    kind: Kind
    start: int
    end: int
    wrap: str = ""
    emphatic: bool = False


def find_line_markers(text: str) -> list[Marker]:
    """The answer and explanation markers that begin a line, in order of place.

    Bullets, numbers, headings, quotation signs and emphasis may stand before the word. In place of the colon
    a capitalised word may have a dash or an equals sign between spaces (`Answer - B`), be in square brackets
    (`[Answer] B`), or be a line of its own, and so may a heading (`## Answer`) or an emphasised word. Words
    such as "Rationale" count only where the text has no "Explanation" marker.
    """
    found: list[tuple[Marker, bool]] = []
    for match in islice(_LINE.finditer(text), _MOST):
        if match["colon"] or _marks_without_colon(match):
            kind: Kind = "answer" if match["answer"] else "explanation"
            found.append((_marker(text, match, kind), match["synonym"] is not None))
    explained = any(marker.kind == "explanation" and not synonym for marker, synonym in found)
    return [marker for marker, synonym in found if not (synonym and explained)]


def _marks_without_colon(match: re.Match[str]) -> bool:
    word = match["answer"] or match["explanation"] or ""
    if match["dash"]:
        return word[:1].isupper()
    if match["close"].startswith("]"):
        return match["lead"].endswith("[") and bool(word)
    if "#" in match["lead"] or (match["close"] and match["lead"].endswith(match["close"])):
        return True
    return word[:1].isupper() and not match["lead"] and not match["close"]


def find_inline_markers(text: str, kind: Kind) -> list[Marker]:
    """The capitalised markers of that kind anywhere, for texts that put both on one line."""
    return [_marker(text, match, kind) for match in islice(_INLINE_MARKER.finditer(text), _MOST) if match.group(kind)]


def find_field_markers(text: str, fields: Collection[str] = ()) -> list[Marker]:
    """Lines that begin the next few-shot example: "Premise:", "Question:", … and the names in `fields`."""
    matches = _field_pattern(tuple(sorted(fields))).finditer(text)
    return [Marker("field", match.start(), match.end()) for match in matches]


@lru_cache(maxsize=64)
def _field_pattern(fields: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(re.escape(name.replace("_", " ")) for name in (*_FIELDS, *fields) if name)
    return re.compile(rf"^(?:#{{1,4}}{_GAP})?(?:{names}){_GAP}?\d{{0,3}}{_GAP}?[:：]", re.IGNORECASE | re.MULTILINE)


def _marker(text: str, match: re.Match[str], kind: Kind) -> Marker:
    opened = _EMPHASIS_END.search(match["lead"])
    wrap = opened.group() if opened else ""
    end = match.end()
    emphatic = _EMPHATIC.search(match.group()) is not None
    if wrap and not match["close"]:
        closing = re.compile(rf"{_GAP}?{re.escape(wrap)}").match(text, end)
        if closing:
            return Marker(kind, match.start(), closing.end(), emphatic=emphatic)
        return Marker(kind, match.start(), end, wrap, emphatic)
    return Marker(kind, match.start(), end, emphatic=emphatic)


_FENCE = re.compile(r"^[ \t]{0,8}(?:```|~~~)[^\n`~]{0,40}$", re.MULTILINE)
_LAST_RULE = re.compile(r"\n[ \t]*(?:-{3,}|\*{3,}|_{3,})\Z")
_PLACEHOLDER = re.compile(  # what the prompt's form shows in place of the text
    r"<(?:(?:the|your|an?|short|brief) ){0,2}(?:text|explanation|reason|reasoning)(?: here)?>(?:\n|\Z)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Part:
    """A marker and where its content ends: at the next marker, its code fence's end, or the limit."""

    marker: Marker
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """All parts in order of place; what lies at `limit` and beyond belongs to another example."""

    view: View
    parts: tuple[Part, ...]
    limit: int

    @property
    def text(self) -> str:
        """What is looked at: the view's text."""
        return self.view.text

    def of(self, kind: Kind) -> list[Part]:
        """The parts of that kind."""
        return [part for part in self.parts if part.marker.kind == kind]

    def with_markers(self, markers: Iterable[Marker]) -> Layout:
        """The same layout with more markers."""
        return _build(self.view, [*(part.marker for part in self.parts), *markers], self.limit)


def lay_out(view: View, order: Order, style: Style, fields: Collection[str] = ()) -> Layout:
    """The parts of the text, by markers that begin a line, else by markers within lines.

    In completion style the prompt ends with the first marker, so the text begins with its content, unless
    the model repeats the marker. There the text ends where the model goes on with the next example: at a
    field of the input or, once both have been given, at a marker of the first kind.
    """
    text = view.text
    markers = find_line_markers(text)
    limit = len(text)
    if style == "completion":
        markers = _open_completion(text, markers, "answer" if order == "pe" else "explanation")
        limit = min(next_example(markers, order, limit), next_field(text, fields))
    return _build(view, _with_inline_markers(text, markers, limit), limit)


def lay_out_explanation(view: View, style: Style, fields: Collection[str] = ()) -> Layout:
    """The parts of a text that should be nothing but an explanation; other than `lay_out` in where it ends.

    In completion style it ends at a field of the input alone: an answer before that contradicts or repeats
    the one that was given.
    """
    text = view.text
    markers = find_line_markers(text)
    limit = len(text)
    if style == "completion":
        markers = _open_completion(text, markers, "explanation")
        limit = next_field(text, fields)
    return _build(view, _with_inline_markers(text, markers, limit), limit)


def clean(layout: Layout, start: int, end: int, wrap: str = "") -> str:
    """The source from `start` to `end` without reasoning and without markdown that frames it from outside.

    "" also where nothing is said: no letter, digit or pictorial sign, or only the form's own `<text>`.
    """
    content = layout.view.cut(start, end)
    fences = list(_FENCE.finditer(content))
    if len(fences) % 2 and fences[-1].end() == len(content):  # it opens the block of the next marker
        content = content[: fences[-1].start()].rstrip()
    content = _LAST_RULE.sub("", content).rstrip()
    if wrap and content.endswith(wrap):
        content = content[: -len(wrap)].rstrip()
    return "" if _PLACEHOLDER.match(content) or not says_something(content) else content


def says_something(content: str) -> bool:
    """True if there is a letter, a digit or a pictorial sign in it."""
    return any(sign.isalnum() or unicodedata.category(sign) == "So" for sign in content)


def _with_inline_markers(text: str, markers: list[Marker], limit: int) -> list[Marker]:
    for kind in ("explanation", "answer"):
        if not any(marker.kind == kind and marker.start < limit for marker in markers):
            markers = markers + find_inline_markers(text, kind)
    return markers


def _open_completion(text: str, markers: list[Marker], kind: Kind) -> list[Marker]:
    repeated = markers and markers[0].kind == kind and not text[: markers[0].start].strip()
    return markers if repeated else [Marker(kind, 0, 0), *markers]


def _build(view: View, markers: Iterable[Marker], limit: int) -> Layout:
    ordered = sorted((marker for marker in markers if marker.start < limit), key=lambda marker: marker.start)
    fences = [match.start() for match in _FENCE.finditer(view.text)]
    ends = [*(marker.start for marker in ordered[1:]), limit]
    parts: list[Part] = []
    for marker, end in zip(ordered, ends, strict=False):
        before = bisect_left(fences, marker.start)
        fenced = before % 2 == 1 and before < len(fences)
        parts.append(Part(marker, min(end, fences[before]) if fenced else end))
    return Layout(view, tuple(parts), limit)


def next_example(markers: Iterable[Marker], order: Order, limit: int) -> int:
    """Where a plain marker follows although both have been seen: the next example, begun by the model.

    A line such as "Final answer: C" is no part of an example's form: it is the model's own last word.
    """
    last: Kind = "explanation" if order == "pe" else "answer"
    seen = False
    for marker in markers:
        if seen and marker.kind != last and not marker.emphatic:
            return marker.start
        seen = seen or marker.kind == last
    return limit


def next_field(text: str, fields: Collection[str]) -> int:
    """Where the first line stands that begins with a field of the input."""
    return min((marker.start for marker in find_field_markers(text, fields)), default=len(text))
