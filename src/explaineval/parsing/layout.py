"""The parts of a completion's text: the markers `Answer:` and `Explanation:`, in all forms, and what follows each.

In completion style the text ends where the model goes on with a few-shot example of its own. The method page specifies
the answer format.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Literal

from explaineval.parsing.letters import fold
from explaineval.parsing.offers import is_offer
from explaineval.parsing.prompt_text import DEFAULT_FIELDS, Lists, Prompt, Span, blank, find_forms, find_lists
from explaineval.parsing.text import View
from explaineval.records import Order, Style

Kind = Literal["answer", "explanation"]
KINDS: tuple[Kind, ...] = ("explanation", "answer")

_MOST = 1000  # markers that are read; a text with more repeats itself without end
_GAP = r"[^\S\n]"  # white space within a line
_ANSWER = (
    rf"(?:(?:the|my|final|correct|corrected|revised|updated|actual|right|best|predicted|chosen|short){_GAP}){{0,3}}"
    rf"(?:answer(?:s|\(s\))?|ans(?:\.(?={_GAP}?[:：]))?)(?:{_GAP}\(?(?:letter|choice|option|label)\)?)?(?:{_GAP}is)?"
    r"|antwort|réponse|respuesta|risposta|resposta|antwoord|odpowiedź|ответ|答案|回答|答え|解答|答"
    r"|정답|답변|답|svar|cevap|yanıt|jawaban|đáp án|trả lời|उत्तर|الإجابة|الجواب"
)
_EXPLANATION = (
    rf"(?:(?:the|my|brief|short|detailed){_GAP}){{0,2}}explanation"
    r"|erklärung|begründung|explication|explicación|spiegazione|explicação|uitleg|wyjaśnienie|объяснение"
    r"|解释|解釋|说明|説明|解説|理由"
    r"|설명|이유|förklaring|forklaring|açıklama|penjelasan|giải thích|व्याख्या|التفسير|الشرح"
)
_SYNONYM = "rationale|reasoning|reason|justification"  # read only where no "Explanation:" is written

_LEAD = rf"(?P<lead>(?:(?:[^\w\s\"'{{}}(<]|_|\d{{1,2}}[.)]{_GAP}){_GAP}{{0,3}}){{0,12}}+)"
_LINE = re.compile(
    rf"^{_GAP}{{0,12}}+{_LEAD}(?:(?P<answer>{_ANSWER})|(?P<explanation>{_EXPLANATION})|(?P<synonym>{_SYNONYM}))"
    rf"(?P<close>[*_`\]]{{0,4}}+)(?:{_GAP}{{0,3}}+(?P<colon>[:：]|=(?![=>])|(?i:(?<=ans))\.(?={_GAP}))|{_GAP}{{1,3}}+(?P<dash>[-–—→]|[-=]>)(?={_GAP})"
    rf"|{_GAP}{{0,3}}+(?P<alone>$)|(?<=\]))",
    re.IGNORECASE | re.MULTILINE,
)
_INLINE_MARKER = re.compile(
    r"(?<![\w\"'“‘{])(?P<lead>[*_`]{0,3})(?:(?:The|My|Final|Correct|Best) ){0,2}"
    r"(?:(?P<answer>Answers?|ANSWERS?)|(?P<explanation>Explanation|EXPLANATION))"
    rf"(?P<close>[*_`]{{0,3}}+){_GAP}{{0,3}}+(?P<colon>[:：])"
)
_EMPHATIC = re.compile(r"\b(?:my|final|correct|corrected|revised|updated|actual|right)\s", re.IGNORECASE)
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_EMPHASIS_END = re.compile(r"[*_`]+$")
_FIELDS = (*DEFAULT_FIELDS[:4], "options", "choices", "passage", "instruction")


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
_FIRST_RULE = re.compile(r"(?:-{3,}|={3,}|\*{3,}|_{3,})[ \t]*\n\s*")
_LAST_RULE = re.compile(r"\n[ \t]*(?:-{3,}|\*{3,}|_{3,})\Z")
_LAST_BOX = re.compile(  # a label in a box on its own line or as a formula of its own
    r"(?:(?:\\\[|\$\$)\s{0,3}|(?:^|\n)[ \t]*(?:\$|\\\()?\s?)\\(?:boxed|fbox)\s?\{(?:\\\w{1,8}\s?\{)?\s?\(?"
    r"(?P<label>[^{}\n]{1,60}?)\)?\s?\}{1,2}"
    r"\s{0,3}(?:\\\]|\$\$?|\\\))?\.?\Z"
)


@dataclass(frozen=True, slots=True)
class Section:
    """A marker and where its content ends: at the next marker, at the end of its code fence, or at the limit."""

    marker: Marker
    end: int


@dataclass(frozen=True, slots=True)
class Layout:
    """All parts of a text in order of place. What lies at `limit` and beyond belongs to another example.

    Three texts of the same length leave out what the prompt said, for three purposes: `text` is searched for sentences
    that state an answer; `lines`, which holds no options that are gone through either, for lines that name an option;
    and an explanation says something where `own` does. Contents are cut from the view, which leaves nothing out.
    `listed` are the letters of the options that are gone through.
    """

    view: View
    parts: tuple[Section, ...]
    limit: int
    text: str
    lines: str
    own: str
    prompt: Prompt
    listed: tuple[str, ...]

    @property
    def repeats_prompt(self) -> bool:
        """Whether the text repeats something of its prompt."""
        return self.lines != self.view.text

    def of(self, kind: Kind) -> list[Section]:
        """The parts of one kind."""
        return [part for part in self.parts if part.marker.kind == kind]

    def end_of(self, marker: Marker) -> int:
        """Where the content of a marker ends."""
        return next((part.end for part in self.parts if part.marker == marker), self.limit)

    def with_markers(self, markers: Iterable[Marker]) -> Layout:
        """The same layout with more markers."""
        parts = _divide(self.view, self.text, [*(part.marker for part in self.parts), *markers], self.limit)
        return replace(self, parts=parts)

    def without_markers(self, markers: Collection[Marker]) -> Layout:
        """The same layout without some of its markers."""
        kept = [part.marker for part in self.parts if part.marker not in markers]
        return replace(self, parts=_divide(self.view, self.text, kept, self.limit))


def lay_out(view: View, order: Order | None, style: Style, prompt: Prompt) -> Layout:
    """The parts of the text, by markers that begin a line, or by markers within lines where there are no others.

    In completion style the prompt ends with the first marker, so the text begins with its content, unless the model
    repeats the marker. There the text ends where the model begins another example: at a field of the input or, once
    both markers have been given, at a marker of the first kind. `order` None is for texts that should hold nothing but
    an explanation: there only a field ends the text, since an answer may contradict or repeat the one that was given.
    """
    forms = find_forms(view.text, prompt)
    text = blank(view.text, forms)
    markers = find_line_markers(text)
    inline = {kind: find_inline_markers(text, kind) for kind in KINDS}
    around = [*markers, *(marker for kind in KINDS for marker in inline[kind])]
    lists = find_lists(text, prompt, [place for marker in around for place in (marker.start, marker.end)])
    rest = blank(text, [*lists.fields, *lists.items])
    limit = len(text)
    if style == "completion":
        first: Kind = "answer" if order == "pe" else "explanation"
        repeated = markers and markers[0].kind == first and not rest[: markers[0].start].strip()
        markers = markers if repeated else [Marker(first, 0, 0), *markers]
        limit = min(_find_field(text, rest, markers, lists.copied, prompt), limit)
        limit = min(_find_next_example(markers, order, limit) if order else limit, limit)
    for kind in KINDS:
        if not any(marker.kind == kind and marker.start < limit for marker in markers):
            markers = markers + inline[kind]
    claims = _blank_quoted(blank(text, lists.fields), markers, lists, prompt, explaining=order is None)
    lines = blank(claims, lists.items)
    own = blank(text, lists.silent)
    return Layout(view, _divide(view, claims, markers, limit), limit, claims, lines, own, prompt, lists.letters)


def _find_field(text: str, rest: str, markers: Sequence[Marker], copied: Collection[int], prompt: Prompt) -> int:
    """Where a field of the input begins another example.

    `rest` is the text without what it repeats of its own prompt; `copied` are the places of the headings in it. At the
    beginning of a part they are no other example, and neither is a single one that is quoted.
    """
    ends = [marker.end for marker in markers]
    for field in _field_pattern(tuple(sorted(prompt.fields))).finditer(text):
        part = max((end for end in ends if end <= field.start()), default=0)
        line = text[field.start() : field.end()]
        own = field.start() + len(line) - len(line.lstrip()) in copied
        if not own or rest[part : field.start()].strip():
            return field.start()
    return len(text)


def _blank_quoted(text: str, markers: Iterable[Marker], lists: Lists, prompt: Prompt, *, explaining: bool) -> str:
    """`text` without fields that stand alone with their own text.

    In an explanation they are a quotation; elsewhere "Sentence 2: …" names the option "Sentence 2".
    """
    ordered = sorted(markers, key=lambda marker: marker.start)
    named = {fold(option).replace(" ", "") for option in prompt.options.values()}
    spans: list[Span] = []
    for heading in lists.quoted:
        before = [marker for marker in ordered if marker.start <= heading.start]
        quotes = before[-1].kind == "explanation" if before else explaining
        begin = max(text.rfind("\n", 0, heading.start) + 1, before[-1].end if before else 0)
        opens = not _LETTER_OR_DIGIT.search(text, begin, heading.start)  # not "the answer is Sentence 2: …"
        names_option = fold(heading.name.replace("_", "")).replace(" ", "") in named and not (quotes and opens)
        spans.append((heading.text if names_option else heading.start, heading.end))
    return blank(text, spans, " ")


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

    "" if nothing of the model's own is said: no letter, digit or symbol beside what it repeats of the prompt.
    """
    content = layout.view.cut(start, end)
    fences = list(_FENCE.finditer(content))
    if len(fences) % 2 and fences[-1].end() == len(content):  # the last fence opens the block of the next marker
        content = content[: fences[-1].start()].rstrip()
    rule = _FIRST_RULE.match(content)
    content = _LAST_RULE.sub("", content[rule.end() :] if rule else content).rstrip()
    if wrap and content.endswith(wrap):
        content = content[: -len(wrap)].rstrip()
    content = _strip_emphasis(_strip_box(content, layout.prompt.options))
    return content if says_something(content) and says_something(layout.own[start:end]) else ""


def _strip_box(content: str, options: Mapping[str, str]) -> str:
    """The content without a box at its end that holds the label alone."""
    box = _LAST_BOX.search(content, max(0, content.rfind("\\", 0, max(0, content.rfind("{"))) - 20))
    names = {fold(name) for option in options.items() for name in option}
    return content[: box.start()].rstrip() if box and fold(box["label"]) in names else content


def _strip_emphasis(content: str) -> str:
    """The content without two asterisks at an end that emphasise nothing: beside a blank, or never closed."""
    if content.startswith("** "):
        content = content[2:].lstrip()
    if content.endswith((" **", "\n**")) or (content.endswith("**") and content.count("**") == 1):
        content = content[:-2].rstrip()
    return content


def says_something(content: str) -> bool:
    """True if the content holds a letter, a digit or a pictorial sign, and not only an assistant's offers."""
    return any(char.isalnum() or unicodedata.category(char) == "So" for char in content) and not is_offer(content)


def _divide(view: View, text: str, markers: Iterable[Marker], limit: int) -> tuple[Section, ...]:
    """The parts of a text with these markers; a part that begins in a code fence or a JSON object ends with it."""
    ordered = sorted((marker for marker in markers if marker.start < limit), key=lambda marker: marker.start)
    fences = [match.start() for match in _FENCE.finditer(text)]
    ends = [*(marker.start for marker in ordered[1:]), limit]
    parts: list[Section] = []
    for marker, end in zip(ordered, ends, strict=False):
        before = bisect_left(fences, marker.start)
        fenced = before % 2 == 1 and before < len(fences)
        around = [stop for start, stop in view.objects if start <= marker.start < stop]
        parts.append(Section(marker, min([end, *around, *fences[before : before + 1]] if fenced else [end, *around])))
    return tuple(parts)
