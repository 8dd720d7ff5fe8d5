"""JSON in a reply, unwrapped into the lines that it stands for, so that the rules for texts read it too.

`{"answer": "B", "explanation": "It may rain."}` becomes the lines "answer: B" and "explanation: It may rain.". Objects
may be nested, stand in lists or in a code fence, and break the rules of JSON as models do: with raw line breaks, single
quotation marks, or a last bracket that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

_MOST = 8  # objects that are looked at
_DEEPEST = 8  # objects within objects that are read
_LONGEST_ANSWER = 100  # characters of a value that are an answer though the key may mean something else: "response"
_OBJECT = re.compile(
    r"(?:^|\n|(?<!xplanation:)(?<=:)|(?<=\]>))[^\S\n]{0,8}(?P<fence>(?:```|~~~)\w{0,10}\s{0,3})?(?P<start>\[\s{0,40}(?=\{)|\{(?=\s{0,40}[\"'}]))"
)
_FENCE_END = re.compile(r"[^\S\n]{0,8}\n?[^\S\n]{0,8}(?:```|~~~)[^\S\n]{0,8}(?=\n|\Z)")
_SPACE = re.compile(r"\s*+")
_ESCAPE = re.compile(
    r"\\u(?P<high>d[89ab][0-9a-f]{2})\\u(?P<low>d[c-f][0-9a-f]{2})|\\u(?P<code>[0-9a-f]{4})|\\(?P<sign>[^u])",
    re.DOTALL | re.IGNORECASE,
)
_STRING_END = {
    quote: re.compile(rf"(?:[^\\{quote}]|\\.|{quote}(?!\s{{0,40}}(?:[,:}}\]]|\Z|```)))*+{quote}", re.DOTALL)
    for quote in "\"'"
}
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
    stand for an object.
    """

    text: str
    places: Sequence[int] | None = None
    objects: tuple[tuple[int, int], ...] = ()

    def origin(self, place: int) -> int:
        """The place in the original text."""
        return place if self.places is None else self.places[place]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A string or another plain value: its text, and the place of each of its characters."""

    text: str
    places: tuple[int, ...]


_Pairs = list[tuple[_Piece | None, "_Piece | _Pairs"]]  # a list has values without keys


def unwrap(text: str, known: Collection[str] = ()) -> Unwrapped:
    """`text` with its JSON objects as lines "key: value", if one of their keys is an answer or an explanation.

    So are objects with a key in `known`, folded names that the prompt uses: letters and texts of options, and fields.
    Objects are read where they begin a line or follow a colon. An explanation comes last in its object's lines, since
    what follows it would be taken for a part of it; what stands in the prompt comes first.
    """
    pieces: list[_Piece] = []
    spans: list[tuple[int, int]] = []
    position = end = length = 0
    for _ in range(_MOST):
        opening = _OBJECT.search(text, position)
        if opening is None:
            break
        position = opening.end()
        reader = _Reader(text)
        try:
            value, stop = reader.read(opening.start("start"))
        except _NoJsonError:
            continue
        if not isinstance(value, list) or not _is_known(value, known):
            continue
        fence = _FENCE_END.match(text, stop) if opening["fence"] else None
        start = opening.start("fence") if fence else opening.start("start")
        before = _Piece(text[end:start], tuple(range(end, start)))
        lines = list(_lines(value, known, start))
        if before.text and not before.text.endswith("\n"):
            lines.insert(0, _made("\n", start))
        pieces += [before, *lines]
        length += len(before.text)
        spans.append((length, length + sum(len(line.text) for line in lines)))
        length = spans[-1][1]
        position = end = fence.end() if fence else stop
    if not pieces:
        return Unwrapped(text)
    pieces.append(_Piece(text[end:], tuple(range(end, len(text)))))
    places = [place for piece in pieces for place in piece.places]
    return Unwrapped("".join(piece.text for piece in pieces), [*places, len(text)], tuple(spans))


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
        while place < len(self._text) and self._text[place] != close:
            key: _Piece | None = None
            if close == "}":
                if self._text[place] not in {'"', "'"}:
                    raise _NoJsonError
                key, place = self._read_string(place, self._text[place])
                place = self._skip(place)
                if self._text[place : place + 1] != ":":
                    raise _NoJsonError
                place = self._skip(place + 1)
            value, place = self.read(place, depth + 1)
            pairs.append((key, value))
            place = self._skip(place)
            if self._text[place : place + 1] == ",":
                place = self._skip(place + 1)
            elif self._text[place : place + 1] not in {close, ""}:
                raise _NoJsonError
        return pairs, min(place + 1, len(self._text))  # the last brackets may be missing

    def _read_string(self, start: int, quote: str) -> tuple[_Piece, int]:
        """A string, in which a quotation mark that nothing of JSON follows is a part of it."""
        match = _STRING_END[quote].match(self._text, start + 1)
        if match is None:
            raise _NoJsonError
        raw, begin = self._text[start + 1 : match.end() - 1], start + 1
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
        return _Piece(stripped[first:last], tuple(places[first:last])), match.end()

    def _skip(self, place: int) -> int:
        match = _SPACE.match(self._text, place)
        return match.end() if match else place
