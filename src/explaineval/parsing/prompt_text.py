"""What a reply repeats of its prompt: the input's fields, the list of options, the form's placeholders, sentences.

None of it is the model's answer. `find_echoes` finds it once, in a text as a reader sees it (JSON, tags and chat tokens
are unwrapped before), and says for what purpose each span is to be passed over.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby, islice
from typing import NamedTuple

from explaineval.parsing.letters import CROSS, EMOJI, find_option, fold, letter_of_number

Span = tuple[int, int]

DEFAULT_FIELDS = ("premise", "hypothesis", "question", "sentence", "passage", "text", "review")
_LISTS = ("options", "choices", "instruction")

_LINE_LEAD = r"[\s>*_#•·|\"'“„‚‘«»`(\[{\\–—-]{0,16}(?:\d{1,2}[.)]\s{1,3}[*_\"'“„`]{0,4})?"
_NAME_CLOSE = r"[*_\"'”’»`)\]]{0,5}"
_WORD = re.compile(r"\w+")
_WRAP = re.compile(r"[\s\"'“”„‚‘’«»`*_(\[|]{0,8}")
_UNWRAP = re.compile(r"[ \t\"'“”‘’«»`*_)\]|.!?…。]{0,10}")
_ENDS_ECHO = re.compile(  # what a line of a field may go on with on the same line
    r"(?:^|[\s.!?|\"”])[*_]{0,3}(?:(?:final\s|correct\s)?(?:answer|explanation|options|choices)[*_]{0,3}\s{0,2}[:：]"
    r"|(?:so,?\s|thus,?\s|therefore,?\s)?(?:the|my)\s(?:\w+\s)?answer\s(?:is|would\sbe)\b)",
    re.IGNORECASE,
)

_JUDGES = re.compile(
    r"\b(?:(?:im)?plausible|(?:im)?possible|sense|(?:in)?correct|wrong|true|false|because|(?:il)?logical|(?:un)?realistic"
    r"|(?:un)?likely|normal|against|entails?|implies|contradicts?)\b",
    re.IGNORECASE,
)

_STATES = re.compile(
    r"\b(?:answer\s(?:is|was|would\sbe|should\sbe|must\sbe)|(?:choose|pick|select|go\swith))\s?[\s*_\"'“(:]{0,5}\Z",
    re.IGNORECASE,
)

_LETTER_PLACE = r"(?:(?:the|your|a|an|one|single|correct|chosen|option|answer|capital)\s){0,4}letter"
_TEXT_PLACE = (
    r"(?:(?:the|your|a|an|short|brief|own)\s){0,3}(?:text|explanation\stext|reason|reasoning|rationale)"
    r"|(?:your|the|an?|short|brief)\s(?:(?:short|brief|own)\s)?(?:explanation|answer|option|choice|label)"
)
_PLACEHOLDER = re.compile(
    rf"[<\[{{(＜][*_\s]{{0,2}}(?:{_LETTER_PLACE}|{_TEXT_PLACE})(?:\s(?:here|goes\shere))?[*_\s]{{0,2}}[>\]}})＞]"
    r"(?P<says>\s(?:says|names|explains|gives|describes|is\sone\sof|is\sA\s\()[^\n.!?]{0,200}+"
    r"|(?<=>)\s(?:is|should|must|can|will|contains)\b[^\n.!?]{0,200}+)?"
    r"|<(?:explanation|answer)>(?=[\s.!\"'*_]{0,6}(?:\n|\Z))"
    r"|^[\s*_>-]{0,6}(?:the\s)?(?:text|letter)\ssays\s(?:in\sa|why)\b[^\n.!?]{0,200}+"
    r"|\b(?:the\s)?(?:letter\s)?is\sone\sof\s[A-Z](?:,\s[A-Z]){1,9}\b",
    re.IGNORECASE | re.MULTILINE,
)
_HOLDS_PLACEHOLDER = re.compile(r"[<\[{(＜]|says|one of", re.IGNORECASE)
_IN_PLACE = re.compile(r"[<\[{(＜]\s?[\w ]{1,40}\s?[>\]})＞]")
_SENTENCE = re.compile(r"[^\n.!?。！？]+[.!?。！？]*")
_MARKER = re.compile(r"\W{0,8}(?:\w+\s){0,2}(?:answer|explanation|antwort|erklärung)\W{0,4}[:：]\W{0,4}", re.IGNORECASE)
_FEWEST_WORDS, _PART_WORDS, _MORE_WORDS = 3, 5, 2

_ITEM_LETTER = re.compile(
    r"(?:(?:option|choice|answer|label)\s)?(?P<open>[(\[]?)(?P<letter>[A-Z]|[a-z](?=[)\].:：]))[*_`\"'”]{0,4}"
    r"(?P<sep>[)\]][:：]?|[.:：=|\t]|\s{1,2}[-–—=→:|](?=\s|$)|\s?(?=\()|\s?$)(?P<close>[*_`\"'”]{0,4})\s{0,3}",
    re.IGNORECASE | re.MULTILINE,
)
_ITEM_SEPARATOR = re.compile(
    rf"[*_`\"'”’»)\]]{{0,6}}(?P<sep>\s?[:：=|?]|\s{{1,2}}[-–—→](?=\s|$)|\s?(?=\(|{CROSS}|{EMOJI})|\.?\s{{0,3}}$)",
    re.MULTILINE,
)
_ITEM_NUMBER = re.compile(r"(?P<number>\d{1,2})(?P<sep>[.):：])\s{0,3}")
_ITEM_LEAD = re.compile(r"(?:(?!\d{1,2}[.)])[\s>*_#•·|\"'“„‘«`\\–—-]){0,16}+")
_NUMBERING = re.compile(r"\d{1,2}[.)]\s{1,3}[*_\"'“„`]{0,4}")
_REJECTS = re.compile(r"\b(?:not|than|instead\sof|over|but|versus|rather|unlike)\W{0,4}\Z", re.IGNORECASE)
_REASON = re.compile(r"\W{0,4}(?:because|since|as|given|due\sto)\b", re.IGNORECASE)
_AND = re.compile(r"\b(?:and|or)\b", re.IGNORECASE)
_LINE_END = re.compile(r"\n")
_MOST_ITEMS = 200


@dataclass(frozen=True)
class Prompt:
    """What the prompt said: options by letter, the input's fields (the text None where unknown), and other sentences.

    Without fields, the names that tasks usually have are taken for headings; what follows them is unknown then.
    """

    options: Mapping[str, str]
    fields: Mapping[str, str | None] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The folded names that mark parts of the prompt: of fields, and of options by letter and text."""
        options = {fold(key) for key in self.options} | {fold(text) for text in self.options.values()}
        fields = self.fields or DEFAULT_FIELDS
        return frozenset(options | {fold(text) for name in fields for text in (name, " ".join(_label(name)))})

    @property
    def elements(self) -> frozenset[str]:
        """The names of elements of XML in which a reply may put fields."""
        return frozenset({"options", "choices", "label", *map(str.lower, self.fields or DEFAULT_FIELDS)})


def make_prompt(
    options: Mapping[str, str], fields: Collection[str] | Mapping[str, str] = (), said: Sequence[str] | str = ()
) -> Prompt:
    """The prompt of a reply, from the arguments of the reading functions."""
    texts = (
        dict(fields) if isinstance(fields, Mapping) else dict.fromkeys([fields] if isinstance(fields, str) else fields)
    )
    return Prompt(options, texts, (said,) if isinstance(said, str) else tuple(said))


@dataclass(frozen=True, slots=True)
class Heading:
    """A field's heading at `start`, its text from `text` to `end`; `own` if that is the text in the prompt."""

    name: str
    start: int
    text: int
    end: int
    own: bool

    @property
    def span(self) -> Span:
        """Heading and text."""
        return self.start, self.end


@dataclass(frozen=True, slots=True)
class Lists:
    """What a text goes through of its prompt.

    Attributes:
        fields: fields with what follows each: no part of a claim.
        items: lines of options: no label, though a sentence in them may state one.
        silent: what of both says nothing of the model's own.
        quoted: fields that stand alone, each with its own text.
        letters: of the options that are gone through.
        copied: where headings of the prompt's own fields begin; a text of another example begins at others.
    """

    fields: list[Span]
    items: list[Span]
    silent: list[Span]
    quoted: list[Heading]
    letters: tuple[str, ...]
    copied: frozenset[int]


def find_forms(text: str, prompt: Prompt) -> list[Span]:
    """The form's placeholders, and the sentences of the prompt, that `text` repeats."""
    return [*_find_placeholders(text), *_find_sentences(text, prompt.said)]


def find_lists(text: str, prompt: Prompt, bounds: Sequence[int]) -> Lists:
    """The fields and options that `text` goes through. No list goes on over `bounds`, where markers stand."""
    groups = _find_headings(text, prompt, sorted(bounds))
    through = [heading for group in groups if _goes_through(group) for heading in group]
    alone = [heading for group in groups if not _goes_through(group) for heading in group]
    fields = [heading.span for heading in through]
    lists = [heading.span for heading in alone if heading.name in _LISTS]
    items = _find_items(blank(text, [*fields, *lists]), prompt.options, bounds)
    bare = [(item.start, item.end) for item in items if item.bare]
    foreign = any(not heading.own and prompt.fields.get(heading.name) is not None for heading in through)
    silent = [heading.span for heading in through if heading.own]
    quoted = [heading for heading in alone if heading.own and heading.name not in _LISTS]
    copied = frozenset(heading.start for heading in (*quoted, *([] if foreign else through)))
    spans = [(item.start, item.end) for item in items]
    letters = tuple(dict.fromkeys(item.letter for item in items))
    return Lists([*fields, *lists], spans, [*silent, *lists, *bare], quoted, letters, copied)


def _goes_through(group: Sequence[Heading]) -> bool:
    return len({heading.name for heading in group}) > 1


def blank(text: str, spans: Iterable[Span], sign: str = "\n") -> str:
    """`text` with `sign` in place of each character of the spans, which may overlap."""
    pieces: list[str] = []
    position = 0
    for start, end in sorted(spans):
        start = max(start, position)
        if end > start:
            pieces += [text[position:start], sign * (end - start)]
            position = end
    return "".join([*pieces, text[position:]]) if pieces else text


def _find_placeholders(text: str) -> list[Span]:
    """Where the form's `<letter>` and `<text>` stand, and what the form says of them."""
    if not _HOLDS_PLACEHOLDER.search(text):
        return []
    return [match.span() for match in _PLACEHOLDER.finditer(text)]


def _find_sentences(text: str, said: Sequence[str]) -> list[Span]:
    """The sentences of the text that are sentences of the prompt, or a long part of one, or one with two words more."""
    sentences = _said_sentences(tuple(said))
    spans: list[Span] = []
    for match in _SENTENCE.finditer(text) if sentences else ():
        marker = _MARKER.match(match.group())
        start = match.start() + (marker.end() if marker else 0)
        words = _words(text[start : match.end()])
        count = len(words)
        if count < _FEWEST_WORDS:
            continue
        joined = f" {' '.join(words)} "
        for sentence, length in sentences:
            part = count >= _PART_WORDS and 2 * count > length and joined in sentence
            more = length >= _PART_WORDS and count <= length + _MORE_WORDS and sentence in joined
            if joined == sentence or part or more:
                spans.append((start, match.end()))
                break
    return spans


@lru_cache(maxsize=256)
def _said_sentences(said: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """The sentences of the prompt in folded words between blanks, and how many words each has."""
    split = (_words(match.group()) for text in said for match in _SENTENCE.finditer(text))
    return tuple((f" {' '.join(words)} ", len(words)) for words in dict.fromkeys(split) if len(words) >= _FEWEST_WORDS)


def _words(text: str) -> tuple[str, ...]:
    """The folded words of a text without its placeholders."""
    return tuple(_WORD.findall(_IN_PLACE.sub(" ", text[:2000]).casefold()))


def _label(name: str) -> list[str]:
    """The words of a field's name, its number apart, as prompts show it: sentence, 1."""
    return re.sub(r"(?<=[^\W\d])(?=\d)", " ", name.replace("_", " ")).split()


@lru_cache(maxsize=64)
def heading_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """The pattern of a field's heading at the beginning of a line, or within a line with a capital and a colon."""
    spelled = "|".join(r"\s?".join(re.escape(word) for word in _label(name)) for name in names if name.strip("_ "))
    spelled = spelled or r"(?!)"
    return re.compile(
        rf"^(?P<lead>{_LINE_LEAD})(?i:(?P<line>{spelled})(?P<number>\s?\d{{1,3}})?){_NAME_CLOSE}\s{{0,3}}"
        rf"(?P<sep>[:：|=]|[–—-](?=\s)|→|$)"
        rf"|(?<=[\s.;,|!?])[*_\"'“(]{{0,3}}(?=[A-Z])(?P<inline>(?i:{spelled}))(?P<inline_number>\s?\d{{1,3}})?"
        rf"{_NAME_CLOSE}\s{{0,2}}[:：]",
        re.MULTILINE,
    )


def _find_headings(text: str, prompt: Prompt, bounds: Sequence[int]) -> list[list[Heading]]:
    """The headings of fields with what follows each, in groups that no marker divides.

    One that is stated as the answer ("The answer is Sentence 2: …") goes through nothing and stands alone.
    """
    known = prompt.fields or dict.fromkeys(DEFAULT_FIELDS)
    keys = {_squeeze(name): name for name in known}
    found = heading_pattern((*known, *_LISTS)).finditer(text)
    matches = list(islice((match for match in found if _is_heading(match)), _MOST_ITEMS))
    headings: list[tuple[int, Heading]] = []
    for match, following in zip(matches, [*matches[1:], None], strict=False):
        name = _squeeze(f"{match['line'] or match['inline']}{match['number'] or match['inline_number'] or ''}")
        key = keys.get(name, name)
        segment = bisect_right(bounds, match.start())
        limit = min(following.start() if following else len(text), *bounds[segment : segment + 1], len(text))
        if key in _LISTS[:2]:
            end, own = match.end(), True
        else:
            end, own = _find_field_text(text, match.end(), limit, known.get(key), named=bool(prompt.fields))
        headings.append((segment, Heading(key, match.start() + _blanks(match.group()), match.end(), end, own)))
    stated = [item for item in headings if _STATES.search(text, max(0, item[1].start - 60), item[1].start)]
    through = groupby((item for item in headings if item not in stated), key=lambda item: item[0])
    return [*([heading for _, heading in group] for _, group in through), *([heading] for _, heading in stated)]


def _squeeze(name: str) -> str:
    """A field's name without differences of case and blanks."""
    return fold("".join(_label(name)))


def _blanks(text: str) -> int:
    return len(text) - len(text.lstrip())


def _is_heading(match: re.Match[str]) -> bool:
    """True unless the name is alone on its line without the marks of a heading: there it may be an option's text."""
    return match["inline"] is not None or bool(match["sep"]) or any(sign in match["lead"] for sign in "#*")


def _find_field_text(text: str, start: int, limit: int, field_text: str | None, *, named: bool) -> tuple[int, bool]:
    """Where what follows a heading ends, and whether it is the field's own text, perhaps cut off.

    Of a field that is `named` without its text, all of the line is taken for it, unless it judges something.
    """
    if field_text is not None:
        wrap = _WRAP.match(text, start, limit)
        wanted = _WORD.findall(fold(field_text))
        end = wrap.end() if wrap else start
        count = 0
        for word, match in zip(wanted, _WORD.finditer(text, end, limit), strict=False):
            if fold(match.group()) != word:
                break
            end, count = match.end(), count + 1
        closing = _UNWRAP.match(text, end, limit)
        place = closing.end() if closing else end
        cut = count and not text[place:limit].partition("\n")[0].strip()
        if (count == len(wanted) and count) or cut:
            return place, True
    first = start + _blanks(text[start:limit])
    stop = text.find("\n", first, limit)
    end = limit if stop < 0 else stop
    going_on = _ENDS_ECHO.search(text, start, end)
    stop = going_on.start() if going_on else end
    return stop, named and field_text is None and not _JUDGES.search(text, start, stop)


@dataclass(frozen=True, slots=True)
class _Item:
    """An option at the head of a line, or within one, to the end of the line; `bare` if nothing but options follows.

    `form` tells how it is written: by letter, text or number, with which separator, and whether something follows.
    """

    letter: str
    form: tuple[str, str, bool]
    start: int
    end: int
    bare: bool


class _Head(NamedTuple):
    """The letter, text or number of an option, with the separator that ends it."""

    letter: str
    kind: str
    sep: str
    start: int
    end: int


def _find_items(text: str, options: Mapping[str, str], bounds: Sequence[int]) -> list[_Item]:
    """The items of lists in which options are gone through.

    An option that is given again after a list, apart from it or after all of them, is no item of it.
    """
    groups: dict[tuple[int, tuple[str, str, bool]], list[_Item]] = {}
    for segment, item in islice(_list_items(text, options, sorted(bounds)), _MOST_ITEMS):
        groups.setdefault((segment, item.form), []).append(item)
    lists = (_without_last(text, items, options) for items in groups.values())
    return [item for items in lists if len({item.letter for item in items}) > 1 for item in items]


def _without_last(text: str, items: list[_Item], options: Mapping[str, str]) -> list[_Item]:
    """The items without the last one, if it is given once more after a list that is complete or stands apart."""
    last, before = items[-1], items[:-1]
    if last.letter not in {item.letter for item in before}:
        return items
    apart = "\n\n" in text[before[-1].end : last.start].replace(" ", "")
    complete = len(before) == len(options) and {item.letter for item in before} == set(options)
    return before if apart or (complete and last.bare) else items


def _list_items(text: str, options: Mapping[str, str], bounds: list[int]) -> Iterator[tuple[int, _Item]]:
    """What begins a line, or what follows a marker, like an item of a list of options, with the number of its part."""
    starts = sorted({0, *(match.end() for match in _LINE_END.finditer(text)), *bounds}) if len(options) > 1 else []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        if not text[start:end].isspace():
            segment = bisect_right(bounds, start)
            yield from ((segment, item) for item in _line_items(text, start, end, options))


def _line_items(text: str, start: int, end: int, options: Mapping[str, str]) -> list[_Item]:
    """The item with which the line begins, and those that follow in the same form."""
    lead = _ITEM_LEAD.match(text, start, end)
    place = lead.end() if lead else start
    numbering = _NUMBERING.match(text, place, end)
    first = _read_head(text, place, end, options)
    if first is None and numbering:
        first = _read_head(text, numbering.end(), end, options) or _read_number(text, place, end, options)
    if first is None:
        return []
    heads = [first]
    reason = _REASON.match(text, first.end, end)
    for match in _following(first.sep).finditer(text, first.end, end) if first.sep and not reason else ():
        if match.end() < heads[-1].end or _REJECTS.search(text, max(start, match.start() - 16), match.start()):
            continue
        head = _read_head(text, match.end(), end, options)
        if head and (head.kind, head.sep) == (first.kind, first.sep):
            heads.append(head)
            if len(heads) == _MOST_ITEMS:
                break
    stop = start + len(text[start:end].rstrip())
    nexts = [*(head.start for head in heads[1:]), stop]
    filled = [
        bool(_WORD.search(_AND.sub("", text[head.end : after]))) for head, after in zip(heads, nexts, strict=True)
    ]
    form = (first.kind, first.sep, any(filled))
    return [_Item(head.letter, form, head.start, stop, not any(filled[index:])) for index, head in enumerate(heads)]


def _read_head(text: str, place: int, end: int, options: Mapping[str, str]) -> _Head | None:
    """The option that is named at `place` as the head of an item: "A) …", "A: text", "text - …", "text" alone."""
    match = _ITEM_LETTER.match(text, place, end)
    letter = match["letter"].upper() if match else ""
    if (
        match
        and letter in options
        and not (
            match["sep"] == "." and text[match.end() : match.end() + 1].isalnum() and match.end() == match.end("close")
        )
    ):
        own = find_option(text, match.end(), end, options)
        if (own is None or own[0] == letter) and (own or match["sep"].strip()):  # bare letters are answers
            head_end = match.end()
            if own:
                separator = _ITEM_SEPARATOR.match(text, own[1], end)
                head_end = separator.end() if separator else own[1]
            return _Head(letter, "letter", _separator(text, match["sep"], match.end()), place, head_end)
    named = find_option(text, place, end, options)
    separator = _ITEM_SEPARATOR.match(text, named[1], end) if named else None
    if named is None or separator is None:
        return None
    return _Head(
        named[0], "text", _separator(text, separator["sep"].strip().strip("."), separator.end()), place, separator.end()
    )


def _separator(text: str, written: str, end: int) -> str:
    """The sign that ends the head of an item; "" at the end of a line."""
    return written.strip() or ("(" if text[end : end + 1] == "(" else "")


def _read_number(text: str, place: int, end: int, options: Mapping[str, str]) -> _Head | None:
    """The numbered option whose number begins a line: "1. It is plausible."."""
    match = _ITEM_NUMBER.match(text, place, end)
    letter = letter_of_number(match["number"], options) if match else None
    return _Head(letter, "number", "", place, match.end()) if match and letter else None


@lru_cache(maxsize=64)
def _following(sep: str) -> re.Pattern[str]:
    """What stands before another item in a line: white space, or after a list by full stops a stop and white space."""
    before = r"(?<=[\s|/])" if sep[:1] in set(")]:：|=") else r"(?<=[.;,!?|/]\s)"
    return re.compile(rf"{before}(?=[\w(\[*\"'“„])[*_\"'“„(\[]{{0,4}}")
