"""A completion's text cut into parts, each a marker with its content (the method page, answer format)."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from explaineval.parsing.completions import next_example, next_field
from explaineval.parsing.markers import Kind, Marker, find_inline_markers, find_line_markers
from explaineval.parsing.text import View
from explaineval.records import Order, Style

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
