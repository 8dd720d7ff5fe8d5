"""JSON and tables in a reply, unwrapped into the lines that they stand for, so that the rules for texts read them too.

`{"answer": "B", "explanation": "It may rain."}` becomes the lines "answer: B" and "explanation: It may rain.". Objects
may be nested, stand in lists or in a code fence, and break the rules of JSON as models do: with raw line breaks, single
quotation marks, or an end that is missing. A row of a table with the headings "Answer" and "Explanation" becomes the
same lines.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

_MOST = 8  # objects and tables that are looked at
_MOST_ROWS = 100  # rows of a table that are read
_DEEPEST = 8  # objects within objects that are read
_LONGEST_ANSWER = 100  # characters of a value that are an answer though the key may mean something else: "response"
_OBJECT = re.compile(
    r"(?:^|\n|(?<!xplanation:)(?<=:)|(?<=\]>))[^\S\n]{0,8}(?P<fence>(?:```|~~~)\w{0,10}\s{0,3})?(?P<start>\[\s{0,40}(?=\{)|\{(?=\s{0,40}(?:[\"'}]|[A-Za-z_]{1,20}\s?:)))"
)
_FENCES = ("```", "~~~")
_FENCE_END = re.compile(r"[^\S\n]{0,8}\n?[^\S\n]{0,8}(?:```|~~~)[^\S\n]{0,8}(?=\n|\Z)")
_SPACE = re.compile(r"\s*+")
_ESCAPE = re.compile(
    r"\\u(?P<high>d[89ab][0-9a-f]{2})\\u(?P<low>d[c-f][0-9a-f]{2})|\\u(?P<code>[0-9a-f]{4})|\\(?P<sign>[^u])",
    re.DOTALL | re.IGNORECASE,
)
_STRING_END = {
    quote: re.compile(
        rf"(?:[^\\{quote}]|\\.|{quote}(?!\s{{0,40}}(?:[,:}}\]]|\Z|```)|[^\S\n]{{0,20}}\n\s{{0,40}}[\"']\w))*+{quote}",
        re.DOTALL,
    )
    for quote in "\"'"
}
_CUT_END = re.compile(r"[\s}\]]{0,20}(?:(?:```|~~~)\s{0,20})?\Z")  # of a string without its last quotation mark
_SENTENCE_END = re.compile(r"[.!?…。！？][\s\"'”’»)*_]{0,4}\Z")
_TABLE_RULE = re.compile(
    r"^[ \t]{0,8}\|?[ \t]{0,4}:?-{1,99}:?[ \t]{0,4}(?:\|[ \t]{0,4}:?-{1,99}:?[ \t]{0,4}){1,8}\|?[ \t]{0,8}$",
    re.MULTILINE,
)
_CELL = re.compile(r"(?:[^|\\]|\\.)++", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]{1,40}")
_LITERAL = re.compile(r"[^\s,:{}\[\]\"']{1,60}")
_END_TOKEN = re.compile(r"\s{0,4}(?:<[|｜][^\s<>|｜]{1,40}[|｜]>|</s>|<(?:eos|end_of_turn)>|\[/?INST\])\s{0,4}\Z")
_SIGNS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}

_ANSWER_KEY = re.compile(
    r"(?:(?:the|my|your|model|final|correct|best|predicted|chosen|selected)\s){0,3}"
    r"(?:answer|label|option|choice|letter|prediction|response|output|verdict|decision|classification|result)"
    r"(?:\s(?:letter|option|choice|label|key|text))?"
)
_LISTS = frozenset({"options", "choices"})
EXPLANATION_KEYS = ("explanation", "rationale", "reasoning", "reason", "justification")


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """A text without JSON, and for each of its characters the place in the text from which it came.

    `places` is None where nothing was unwrapped: all places are the same. `objects` are the spans of the lines that
    stand for an object. `cut` is true where JSON ends in the middle of a text that is no answer.
    """

    text: str
    places: Sequence[int] | None = None
    objects: tuple[tuple[int, int], ...] = ()
    cut: bool = False

    def origin(self, place: int) -> int:
        """The place in the original text."""
        return place if self.places is None else self.places[place]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A string or another plain value: its text, the place of each of its characters, and whether it is cut off."""

    text: str
    places: tuple[int, ...]
    cut: bool = False


_Pairs = list[tuple[_Piece | None, "_Piece | _Pairs"]]  # a list has values without keys


def unwrap(text: str, known: Collection[str] = ()) -> Unwrapped:
    """`text` with its JSON objects as lines "key: value", if one of their keys is an answer or an explanation.

    So are objects with a key in `known`, folded names that the prompt uses: letters and texts of options, and fields;
    and so are tables with an answer and an explanation. Objects are read where they begin a line or follow a colon. An
    explanation comes last in its object's lines, since what follows it would be taken for a part of it; what stands in
    the prompt comes first.
    """
    pieces: list[_Piece] = []
    spans: list[tuple[int, int]] = []
    end = length = 0
    cut = False
    for start, stop, value in sorted([*_find_objects(text, known), *_find_tables(text)], key=lambda block: block[0]):
        if start < end:
            continue
        before = _Piece(text[end:start], tuple(range(end, start)))
        lines = list(_lines(value, known, start))
        if before.text and not before.text.endswith("\n"):
            lines.insert(0, _made("\n", start))
        pieces += [before, *lines]
        length += len(before.text)
        spans.append((length, length + sum(len(line.text) for line in lines)))
        length = spans[-1][1]
        end, cut = stop, _is_cut(value)
    if not pieces:
        return Unwrapped(text)
    pieces.append(_Piece(text[end:], tuple(range(end, len(text)))))
    places = [place for piece in pieces for place in piece.places]
    return Unwrapped("".join(piece.text for piece in pieces), [*places, len(text)], tuple(spans), cut)


def _find_objects(text: str, known: Collection[str]) -> Iterator[tuple[int, int, _Pairs]]:
    """Where objects that are to be unwrapped begin and end, each with its code fence, and what they hold."""
    position = 0
    for _ in range(_MOST):
        opening = _OBJECT.search(text, position)
        if opening is None:
            return
        position = opening.end()
        try:
            value, stop = _Reader(text).read(opening.start("start"))
        except _NoJsonError:
            continue
        if isinstance(value, list) and _is_known(value, known):
            fence = _FENCE_END.match(text, stop) if opening["fence"] else None
            position = fence.end() if fence else stop
            yield opening.start("fence") if fence else opening.start("start"), position, value


def _find_tables(text: str) -> Iterator[tuple[int, int, _Pairs]]:
    """Where tables with an answer and an explanation begin and end, and what they hold, as objects do.

    The two are headings of columns, of which each row below is an answer; or they head the rows of two columns.
    """
    for rule in islice(_TABLE_RULE.finditer(text), _MOST):
        start = text.rfind("\n", 0, max(0, rule.start() - 1)) + 1
        heads = _cells(text, start, rule.start())
        rows: list[list[_Piece]] = []
        stop = rule.end()
        while len(rows) < _MOST_ROWS and stop < len(text):
            line = text.find("\n", stop + 1)
            line = len(text) if line < 0 else line
            if "|" not in text[stop:line]:
                break
            rows.append(_cells(text, stop, line, len(heads)))
            stop = line
        across: list[_Pairs] = [list(zip(heads, row, strict=False)) for row in rows]
        down: _Pairs = [(row[0], row[1]) for row in [heads, *rows] if len(row) == 2]
        for pairs in (across, [down]):
            if rows and all(_is_reply(row) for row in pairs):
                yield start, stop, [(None, row) for row in pairs]
                break


def _cells(text: str, start: int, end: int, most: int = 9) -> list[_Piece]:
    """The cells of a table's row without the emphasis of the whole cell; the last of `most` holds what is left."""
    low, high = _inside(text, start, end, " \t\n")
    low, high = low + text.startswith("|", low, high), high - text.endswith("|", low + 1, high)
    cells = [match.span() for match in islice(_CELL.finditer(text, low, high), most)]
    if cells:
        cells[-1] = cells[-1][0], high
    places = [range(*_inside(text, *cell, " \t\n*_`")) for cell in cells]
    return [_Piece(text[place.start : place.stop], tuple(place)) for place in places]


def _inside(text: str, start: int, end: int, signs: str) -> tuple[int, int]:
    """The span without the `signs` at its ends."""
    inner = text[start:end].lstrip(signs)
    start = end - len(inner)
    return start, start + len(inner.rstrip(signs))


def _is_reply(pairs: _Pairs) -> bool:
    """True if the pairs hold an answer and an explanation."""
    names = {fold_key(key.text) for key, _ in pairs if key}
    return any(_names_answer(name, []) for name in names) and not names.isdisjoint(EXPLANATION_KEYS)


def _lines(pairs: _Pairs, known: Collection[str], start: int, *, listed: bool = False) -> Iterator[_Piece]:
    """The lines of an object or list: what stands in the prompt, then the answer, the rest, and the explanation.

    Where options are `listed`, each object is one of them: `{"label": "A", "text": "oven"}` is the line "A) oven".
    """
    names = [fold_key(key.text) if key else "" for key, _ in pairs]
    plain = [value for key, value in pairs if key is not None and not isinstance(value, list)]
    if listed and len(plain) == len(pairs) > 1:
        yield plain[0]
        for place, piece in enumerate(plain[1:]):
            yield _made(" " if place else ") ", piece.places[0] if piece.places else start)
            yield piece
        yield _made("\n", start)
        return
    explanation = next((name for name in EXPLANATION_KEYS if name in names), None)

    def rank(index: int) -> int:
        name = names[index]
        if name == explanation:
            return 3
        return 1 if _names_answer(name, pairs[index][1]) else 0 if name in known else 2

    for index in sorted(range(len(pairs)), key=rank):
        key, value = pairs[index]
        if key is not None:
            start = key.places[0] if key.places else start
            yield _made("answer", start) if _names_answer(names[index], value) else key
            yield _made(":\n" if isinstance(value, list) else ": ", start)
        if isinstance(value, list):
            inner = names[index] in _LISTS if key else listed
            yield from _lines(value, known, start, listed=inner)
        else:
            yield value
            yield _made("\n", value.places[-1] if value.places else start)


def fold_key(key: str) -> str:
    """A key as it is compared: in lower case, with spaces."""
    return " ".join(key.replace("_", " ").replace("-", " ").split()).casefold()


def _is_known(pairs: _Pairs, known: Collection[str], depth: int = 0) -> bool:
    """True if a key of the object, or of one within it, names an answer, an explanation or something in `known`."""
    for key, value in pairs:
        name = fold_key(key.text) if key else ""
        if name == "explanation" or name in known or _names_answer(name, value):
            return True
        if isinstance(value, list) and depth < _DEEPEST and _is_known(value, known, depth + 1):
            return True
    return False


def _is_cut(pairs: _Pairs) -> bool:
    """True if the last value is cut off and is no answer."""
    key, value = pairs[-1] if pairs else (None, [])
    if isinstance(value, list):
        return bool(value) and _is_cut(value)
    return value.cut and not (key and _names_answer(fold_key(key.text), value))


def _names_answer(name: str, value: _Piece | _Pairs) -> bool:
    """True if a key with this folded name holds the answer; unless it says "answer", its value is short."""
    if name in {"answer", "final answer", "label"}:
        return True
    short = isinstance(value, _Piece) and len(value.text) <= _LONGEST_ANSWER and "\n" not in value.text
    return short and _ANSWER_KEY.fullmatch(name) is not None


def _made(text: str, place: int) -> _Piece:
    """Text that stands in no reply, for which a place nearby is given."""
    return _Piece(text, (place,) * len(text))


def _unescape(escape: re.Match[str]) -> str:
    """The one character that an escape sequence stands for."""
    if escape["high"]:
        return chr(0x10000 + ((int(escape["high"], 16) & 0x3FF) << 10) + (int(escape["low"], 16) & 0x3FF))
    return chr(int(escape["code"], 16)) if escape["code"] else _SIGNS.get(escape["sign"], escape["sign"])


class _NoJsonError(Exception):
    """What was taken for JSON is none."""


class _Reader:
    """Reads one value of JSON with the place of every character."""

    def __init__(self, text: str) -> None:
        self._text = text

    def read(self, start: int, depth: int = 0) -> tuple[_Piece | _Pairs, int]:
        """The value that begins at `start`, and where it ends. Raises _NoJsonError."""
        sign = self._text[start : start + 1]
        if sign in {"{", "["}:
            if depth >= _DEEPEST:
                raise _NoJsonError
            return self._read_pairs(start, "}" if sign == "{" else "]", depth)
        if sign in {'"', "'"}:
            return self._read_string(start, sign)
        literal = _LITERAL.match(self._text, start)
        if literal is None:
            raise _NoJsonError
        return _Piece(literal.group(), tuple(range(start, literal.end()))), literal.end()

    def _read_pairs(self, start: int, close: str, depth: int) -> tuple[_Pairs, int]:
        pairs: _Pairs = []
        place = self._skip(start + 1)
        while place < len(self._text) and self._text[place] != close and not self._text.startswith(_FENCES, place):
            key: _Piece | None = None
            if close == "}":
                key, place = self._read_key(place)
                place = self._skip(place)
                if place == len(self._text):  # cut off within the key
                    break
                if self._text[place] != ":":
                    raise _NoJsonError
                place = self._skip(place + 1)
            value, place = self.read(place, depth + 1) if place < len(self._text) else (_Piece("", ()), place)
            pairs.append((key, value))
            place = self._skip(place)
            sign = self._text[place : place + 1]
            if sign == ",":
                place = self._skip(place + 1)
            elif sign not in {close, "", '"', "'"} and not self._text.startswith(_FENCES, place):
                raise _NoJsonError
        return pairs, place + self._text.startswith(close, place)  # the end may be missing

    def _read_key(self, place: int) -> tuple[_Piece, int]:
        """A key, which may lack its quotation marks."""
        if self._text[place] in {'"', "'"}:
            return self._read_string(place, self._text[place])
        name = _NAME.match(self._text, place)
        if name is None:
            raise _NoJsonError
        return _Piece(name.group(), tuple(range(place, name.end()))), name.end()

    def _read_string(self, start: int, quote: str) -> tuple[_Piece, int]:
        """A string, in which a quotation mark that nothing of JSON follows is a part of it.

        Without a last quotation mark it is cut off, unless it ends with a sentence.
        """
        match = _STRING_END[quote].match(self._text, start + 1)
        cut = None if match else _CUT_END.search(self._text, max(start + 1, len(self._text) - 60))
        stop = match.end() if match else len(self._text)
        raw, begin = self._text[start + 1 : stop - 1 if match else cut.start() if cut else stop], start + 1
        chars: list[str] = []
        places: list[int] = []
        position = 0
        for escape in _ESCAPE.finditer(raw):
            chars.append(raw[position : escape.start()])
            places += range(begin + position, begin + escape.start())
            chars.append(_unescape(escape))
            places.append(begin + escape.start())
            position = escape.end()
        chars.append(raw[position:])
        places += range(begin + position, begin + len(raw))
        shown = "".join(chars)
        ending = _END_TOKEN.search(shown, max(0, len(shown) - 60))
        stripped = shown[: ending.start()] if ending else shown
        first = len(stripped) - len(stripped.lstrip())
        last = max(first, len(stripped.rstrip()))
        whole = match or _SENTENCE_END.search(stripped, max(first, last - 8), last)
        return _Piece(stripped[first:last], tuple(places[first:last]), cut=not whole), stop

    def _skip(self, place: int) -> int:
        match = _SPACE.match(self._text, place)
        return match.end() if match else place
