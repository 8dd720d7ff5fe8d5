"""Answers written as a JSON object `{"answer": "B", "explanation": "…"}` in place of the two lines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from explaineval.parsing.values import Clash, Value, read_value, two_answers
from explaineval.records import Answer, Unreadable

_DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: pairs)
_OPENING = re.compile(r"(?:^|\n)[ \t`]{0,8}(?P<brace>\{)\s{0,40}\"")
_ANSWER_KEY = re.compile(
    r"(?<!\\)\"(?P<key>(?:final[ _])?answer|label)\"\s{0,8}:\s{0,8}\"(?P<value>[^\"\\]{0,4000})\"", re.I
)
_MOST = 8  # objects that are tried
_ANSWER_NAMES = frozenset({"answer", "final answer", "final_answer", "label"})
_EXPLANATION_NAMES = frozenset({"explanation", "rationale", "reasoning", "reason", "justification"})


def read_objects(text: str, options: Mapping[str, str]) -> tuple[Answer | Unreadable, int, int] | None:
    """The answer in the JSON objects of `text` and the span they take, or None if none holds an answer.

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
        if any(str(key).strip().casefold() in _ANSWER_NAMES for key, _ in found):
            spans.append((opening.start("brace"), end))
            pairs += [(str(key).strip().casefold(), value) for key, value in found]
            position = end
    if not spans:
        return None
    return _read_pairs(text, spans, pairs, options), spans[0][0], spans[-1][1]


def _read_pairs(
    text: str, spans: list[tuple[int, int]], pairs: list[tuple[str, object]], options: Mapping[str, str]
) -> Answer | Unreadable:
    values: list[Value] = []
    keys = [key for start, end in spans for key in _ANSWER_KEY.finditer(text, start, end)]
    if len(keys) != sum(name in _ANSWER_NAMES for name, _ in pairs):
        return Unreadable(status="unparsed", reason="the answer in the JSON object is no plain text")
    for key in keys:
        value = read_value(text, key.start("value"), key.end("value"), options)
        if isinstance(value, Clash):
            return Unreadable(status="unparsed", reason=value.reason)
        if value is None:
            return Unreadable(status="unparsed", reason=f"the answer names no option: {key['value'][:40]!r}")
        values.append(value)
    letters = list(dict.fromkeys(value.letter for value in values))
    if len(letters) > 1:
        return Unreadable(status="unparsed", reason=two_answers(letters).reason)
    explanation = _pick_explanation(pairs)
    if not explanation:
        return Unreadable(status="unparsed", reason="the explanation is empty: the JSON object holds none as text")
    return Answer(label=letters[0], explanation=explanation, label_offset=values[0].start)


def _pick_explanation(pairs: list[tuple[str, object]]) -> str:
    """The value of the key "explanation", else of a synonym; "" if there is none that is text."""
    named = [value for name, value in pairs if name == "explanation"]
    others = [value for name, value in pairs if name in _EXPLANATION_NAMES]
    texts = [value.strip() for value in (named or others) if isinstance(value, str) and value.strip()]
    return texts[0] if texts else ""
