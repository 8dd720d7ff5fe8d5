"""The parts of a completion's text: the markers `Answer:` and `Explanation:`, in all forms, and what follows each.

In completion style the text ends where the model goes on with a few-shot example of its own. The method page specifies
the answer format.
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

Kind = Literal["answer", "explanation"]
KINDS: tuple[Kind, ...] = ("explanation", "answer")

_MOST = 1000  # markers that are read; a text with more repeats itself without end
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
    """A marker: where it starts, where its content starts (`end`), and the emphasis that it leaves open (`wrap`).

    `emphatic` is true for "Final answer:" and the like, which no few-shot example has.
    """

    kind: Kind
    start: int
    end: int
    wrap: str = ""
    emphatic: bool = False


def find_line_markers(text: str) -> list[Marker]:
    """The answer and explanation markers that begin a line, in order of place.

    Bullets, numbers, headings, quotation signs and emphasis may stand before the word. Instead of the colon, a
    capitalised word may have a dash or an equals sign between spaces (`Answer - B`), be in square brackets
    (`[Answer] B`), or be a line of its own, and so may a heading (`## Answer`) or an emphasised word. Words such as
    "Rationale" count only if the text has no "Explanation" marker.
    """
    matches = [match for match in islice(_LINE.finditer(text), _MOST) if match["colon"] or _marks_without_colon(match)]
    if any(match["explanation"] for match in matches):
        matches = [match for match in matches if not match["synonym"]]
    return [_make_marker(text, match, "answer" if match["answer"] else "explanation") for match in matches]


def _marks_without_colon(match: re.Match[str]) -> bool:
    """True if the word is a marker by its dash, its brackets, its heading or emphasis, or by standing alone."""
    word = match["answer"] or match["explanation"] or ""
    if match["dash"]:
        return word[:1].isupper()
    if match["close"].startswith("]"):
        return match["lead"].endswith("[") and bool(word)
    if "#" in match["lead"] or (match["close"] and match["lead"].endswith(match["close"])):
        return True
    return word[:1].isupper() and not match["lead"] and not match["close"]


def find_inline_markers(text: str, kind: Kind) -> list[Marker]:
    """The capitalised markers of one kind anywhere in a line, for texts that put both on one line."""
    matches = islice(_INLINE_MARKER.finditer(text), _MOST)
    return [_make_marker(text, match, kind) for match in matches if match[kind]]


@lru_cache(maxsize=64)
def _field_pattern(fields: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(re.escape(name.replace("_", " ")) for name in (*_FIELDS, *fields) if name)
    return re.compile(rf"^(?:#{{1,4}}{_GAP})?(?:{names}){_GAP}?\d{{0,3}}{_GAP}?[:：]", re.IGNORECASE | re.MULTILINE)


def _make_marker(text: str, match: re.Match[str], kind: Kind) -> Marker:
    """The marker of a match, with emphasis that closes right after the colon taken in ("**Answer:** B")."""
    opened = _EMPHASIS_END.search(match["lead"])
    wrap = opened.group() if opened and not match["close"] else ""
    closing = re.compile(rf"{_GAP}?{re.escape(wrap)}").match(text, match.end()) if wrap else None
    end = closing.end() if closing else match.end()
    emphatic = _EMPHATIC.search(match.group()) is not None
    return Marker(kind, match.start(), end, "" if closing else wrap, emphatic)


_FENCE = re.compile(r"^[ \t]{0,8}(?:```|~~~)[^\n`~]{0,40}$", re.MULTILINE)
_LAST_RULE = re.compile(r"\n[ \t]*(?:-{3,}|\*{3,}|_{3,})\Z")
_PLACEHOLDER = re.compile(  # what the prompt's form shows in place of the text
    r"<(?:(?:the|your|an?|short|brief) ){0,2}(?:text|explanation|reason|reasoning)(?: here)?>(?:\n|\Z)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Part:
    """A marker and where its content ends: at the next marker, at the end of its code fence, or at the limit."""

    marker: Marker
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """All parts of a text in order of place. What lies at `limit` and beyond belongs to another example."""

    view: View
    parts: tuple[Part, ...]
    limit: int

    @property
    def text(self) -> str:
        """The text that is read: the view's."""
        return self.view.text

    def of(self, kind: Kind) -> list[Part]:
        """The parts of one kind."""
        return [part for part in self.parts if part.marker.kind == kind]

    def end_of(self, marker: Marker) -> int:
        """Where the content of a marker ends."""
        return next((part.end for part in self.parts if part.marker == marker), self.limit)

    def with_markers(self, markers: Iterable[Marker]) -> Layout:
        """The same layout with more markers."""
        return _build(self.view, [*(part.marker for part in self.parts), *markers], self.limit)


def lay_out(view: View, order: Order | None, style: Style, fields: Collection[str] = ()) -> Layout:
    """The parts of the text, by markers that begin a line, or by markers within lines where there are no others.

    In completion style the prompt ends with the first marker, so the text begins with its content, unless the model
    repeats the marker. There the text ends where the model begins another example: at a field of the input or, once
    both markers have been given, at a marker of the first kind. `order` None is for texts that should hold nothing but
    an explanation: there only a field ends the text, since an answer may contradict or repeat the one that was given.
    """
    text = view.text
    markers = find_line_markers(text)
    limit = len(text)
    if style == "completion":
        first: Kind = "answer" if order == "pe" else "explanation"
        repeated = markers and markers[0].kind == first and not text[: markers[0].start].strip()
        markers = markers if repeated else [Marker(first, 0, 0), *markers]
        field = _field_pattern(tuple(sorted(fields))).search(text)
        limit = min(_find_next_example(markers, order, limit) if order else limit, field.start() if field else limit)
    for kind in KINDS:
        if not any(marker.kind == kind and marker.start < limit for marker in markers):
            markers = markers + find_inline_markers(text, kind)
    return _build(view, markers, limit)


def _find_next_example(markers: Iterable[Marker], order: Order, limit: int) -> int:
    """Where a plain marker follows although both kinds have been seen: the model begins another example there.

    A line such as "Final answer: C" has not the form of an example: it is the model's own last word.
    """
    last: Kind = "explanation" if order == "pe" else "answer"
    seen = False
    for marker in markers:
        if seen and marker.kind != last and not marker.emphatic:
            return marker.start
        seen = seen or marker.kind == last
    return limit


def clean(layout: Layout, start: int, end: int, wrap: str = "") -> str:
    """The source from `start` to `end` without reasoning and without markdown that belongs to what surrounds it.

    "" if nothing is said: no letter, digit or symbol, or only the `<text>` of the form in the prompt.
    """
    content = layout.view.cut(start, end)
    fences = list(_FENCE.finditer(content))
    if len(fences) % 2 and fences[-1].end() == len(content):  # the last fence opens the block of the next marker
        content = content[: fences[-1].start()].rstrip()
    content = _LAST_RULE.sub("", content).rstrip()
    if wrap and content.endswith(wrap):
        content = content[: -len(wrap)].rstrip()
    return "" if _PLACEHOLDER.match(content) or not says_something(content) else content


def says_something(content: str) -> bool:
    """True if the content holds a letter, a digit or a pictorial sign."""
    return any(char.isalnum() or unicodedata.category(char) == "So" for char in content)


def _build(view: View, markers: Iterable[Marker], limit: int) -> Layout:
    """The layout of a text with these markers; a part that begins in a code fence ends with it."""
    ordered = sorted((marker for marker in markers if marker.start < limit), key=lambda marker: marker.start)
    fences = [match.start() for match in _FENCE.finditer(view.text)]
    ends = [*(marker.start for marker in ordered[1:]), limit]
    parts: list[Part] = []
    for marker, end in zip(ordered, ends, strict=False):
        before = bisect_left(fences, marker.start)
        fenced = before % 2 == 1 and before < len(fences)
        parts.append(Part(marker, min(end, fences[before]) if fenced else end))
    return Layout(view, tuple(parts), limit)
