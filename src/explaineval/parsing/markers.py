"""The lines `Answer:` and `Explanation:`, however models write them (the method page, answer format)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal

_NAMES = "think|thinking|thought|thoughts|reasoning|analysis|scratchpad|reflection"
TAG = re.compile(  # in square brackets only names that no explanation uses as a word in brackets
    rf"(?i:<(?P<close>/?)(?:\w{{1,16}}:)?(?:{_NAMES})>|(?P<square>\[/?|◁/?)think(?:ing)?[\]▷]"
    r"|<\|(?P<edge>begin|end)_of_thought\|>)"
)
"""What opens or closes reasoning."""

FINAL_CHANNEL = "<|channel|>final<|message|>"


def find_reasoning(text: str) -> list[tuple[int, int]]:
    """Spans of reasoning in `text`, ordered and disjoint.

    A closing tag without an opening one ends reasoning that began in the prompt, so all before it is
    reasoning; an opening tag without a closing one makes all after it reasoning.

    >>> find_reasoning("<think>A? No.</think>Answer: B")
    [(0, 21)]
    """
    spans: list[tuple[int, int]] = []
    opened: int | None = None
    channel = text.rfind(FINAL_CHANNEL)
    if channel >= 0:
        spans.append((0, channel + len(FINAL_CHANNEL)))
    for tag in TAG.finditer(text, spans[0][1] if spans else 0):
        if not closes(tag):
            opened = tag.start() if opened is None else opened
        elif opened is not None:
            spans.append((opened, tag.end()))
            opened = None
        else:
            spans = [(0, tag.end())]
    if opened is not None:
        spans.append((opened, len(text)))
    return spans


def closes(tag: re.Match[str]) -> bool:
    """True if a match of `TAG` closes reasoning."""
    return tag["edge"] == "end" or (tag["close"] or tag["square"] or "").endswith("/")


def mask(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """`text` with line ends in place of the spans: offsets stay, and a line may begin after a span."""
    pieces: list[str] = []
    position = 0
    for start, end in spans:
        pieces += [text[position:start], "\n" * (end - start)]
        position = end
    return "".join([*pieces, text[position:]])


def cut_out(text: str, start: int, end: int, spans: Iterable[tuple[int, int]]) -> str:
    """`text[start:end]` without what lies in the spans."""
    pieces: list[str] = []
    for low, high in spans:
        if low >= end:
            break
        if high > start:
            pieces.append(text[start : max(start, low)])
            start = min(end, high)
    return "".join([*pieces, text[start:end]])


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
