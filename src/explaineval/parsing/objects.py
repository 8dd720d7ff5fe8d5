"""Answers written as a JSON object `{"answer": "B", "explanation": "…"}` in place of the two lines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from explaineval.parsing.layouts import says_something
from explaineval.parsing.letters import Clash, Value, read_value, two_answers

_DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: pairs)
_OPENING = re.compile(r"(?:^|\n)[ \t`]{0,8}(?P<brace>\{)\s{0,40}\"")
_ANSWER_KEY = re.compile(
    r"(?<!\\)\"(?P<key>(?:final[ _])?answer|label)\"\s{0,8}:\s{0,8}\"(?P<value>[^\"\\]{0,4000})\"", re.I
)
_MOST = 8  # objects that are tried
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
    for _ in range(_MOST):
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
