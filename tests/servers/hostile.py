"""Answers with status 200 that no honest endpoint gives, and a server that gives them, singly and in batches.

Each hostile answer is made from an honest one. What Python's own `json` would refuse to write (half of a surrogate
pair, a number of 400 digits, NaN) stands in marks that are replaced in the bytes that go out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from servers import replies, shapes
from servers.batch_server import BatchServer
from servers.planted import recognise
from servers.shapes import Shape
from servers.tables import Table

Body = dict[str, Any]
Spoil = Callable[[Body], Any]
KEY = "sk-Zm9yYmlkZGVuLWtleQ-0123456789abcdef"
"""The key that the client sends, which no file may hold."""

_RAW = re.compile(rb'"@@RAW:(.*?):RAW@@"', re.DOTALL)


def raw(text: str) -> str:
    """A place in a body where this very text stands in the JSON."""
    return f"@@RAW:{text}:RAW@@"


HALF = "@@HALF@@"
"""A place in a text where half of a surrogate pair stands."""


def spell(body: Any) -> bytes:
    """The bytes of a body."""
    data = json.dumps(body).encode()
    data = _RAW.sub(lambda found: json.loads(b'"' + found[1] + b'"').encode(), data)
    return data.replace(HALF.encode(), rb"\ud83d")


def _choice(body: Body) -> Body:
    found: Body = body["choices"][0]
    return found


def _say(text: object) -> Spoil:
    """The text of the answer is another one (of any type)."""

    def spoil(body: Body) -> Body:
        choice = _choice(body)
        if "message" in choice:
            choice["message"]["content"] = text
        else:
            choice["text"] = text
        return body

    return spoil


def _add(text: str) -> Spoil:
    """The text of the answer goes on with this."""

    def spoil(body: Body) -> Body:
        choice = _choice(body)
        return _say((choice["message"]["content"] if "message" in choice else choice["text"]) + text)(body)

    return spoil


def _top(**entries: object) -> Spoil:
    """Entries of the body itself are others."""
    return lambda body: {**body, **entries}


def _in_choice(**entries: object) -> Spoil:
    def spoil(body: Body) -> Body:
        _choice(body).update(entries)
        return body

    return spoil


def _in_message(**entries: object) -> Spoil:
    def spoil(body: Body) -> Body:
        choice = _choice(body)
        choice.get("message", choice).update(entries)
        return body

    return spoil


def _count(**entries: object) -> Spoil:
    """Counts of tokens are others."""

    def spoil(body: Body) -> Body:
        body["usage"].update(entries)
        return body

    return spoil


def _nested(depth: int) -> Any:
    found: Any = "deep"
    for _ in range(depth):
        found = {"x": [found]}
    return found


def _logprobs(**entries: object) -> Spoil:
    """One token with a letter, spoiled."""
    plain: Body = {"token": " B", "logprob": -0.1, "bytes": [32, 66], "top_logprobs": []}
    return _in_choice(logprobs={"content": [{**plain, **entries}]})


DIGITS = raw("1" + "0" * 400)
LETTER = {"token": " B", "logprob": -0.1, "bytes": None}

STORED: dict[str, Spoil] = {
    "half-a-pair-in-the-text": _add(f" So {HALF} it is."),
    "half-a-pair-alone": _say(HALF),
    "half-a-pair-in-the-label": _say(f"Answer: {HALF}\nExplanation: It may rain."),
    "half-a-pair-in-the-model": _top(model=f"m{HALF}"),
    "half-a-pair-in-the-fingerprint": _top(system_fingerprint=f"fp{HALF}"),
    "half-a-pair-in-the-finish-reason": _in_choice(finish_reason=f"stop{HALF}"),
    "half-a-pair-in-a-refusal": _in_message(refusal=f"No {HALF}."),
    "half-a-pair-in-a-token": _logprobs(token=f" B{HALF}", bytes=None, top_logprobs=[{**LETTER, "token": HALF}]),
    "half-a-pair-in-usage": _count(**{f"extra{HALF}": f"x{HALF}"}),
    "prompt-tokens-of-400-digits": _count(prompt_tokens=DIGITS),
    "completion-tokens-of-400-digits": _count(completion_tokens=DIGITS),
    "total-tokens-of-400-digits": _count(total_tokens=DIGITS),
    "minus-400-digits": _count(prompt_tokens=raw("-1" + "0" * 400)),
    "details-of-400-digits": _count(completion_tokens_details={"reasoning_tokens": DIGITS}),
    "extra-count-of-400-digits": _count(extra=DIGITS),
    "5000-digits": _count(extra=raw("9" * 5000)),
    "created-of-400-digits": _top(created=DIGITS),
    "nan-in-extra-count": _count(extra=raw("NaN")),
    "infinity-in-extra-count": _count(extra={"inner": [raw("Infinity"), raw("-Infinity")]}),
    "infinite-tokens": _count(prompt_tokens=raw("Infinity")),
    "nan-tokens": _count(completion_tokens=raw("NaN")),
    "exponent-beyond-floats": _count(extra=raw("1e999")),
    "cost-not-finite": _count(cost=raw("NaN")),
    "nan-created": _top(created=raw("NaN")),
    "negative-tokens": _count(prompt_tokens=-100, completion_tokens=-20, total_tokens=-120),
    "boolean-tokens": _count(prompt_tokens=True, completion_tokens=True, total_tokens=False),
    "fractional-tokens": _count(prompt_tokens=100.5, completion_tokens=20.25, total_tokens=120.75),
    "tokens-in-words": _count(prompt_tokens="hundred", completion_tokens="20", total_tokens=None),
    "tokens-in-lists": _count(prompt_tokens=[100], completion_tokens={"n": 20}),
    "usage-is-text": _top(usage="a lot"),
    "usage-is-a-list": _top(usage=[1, 2, 3]),
    "usage-is-a-number": _top(usage=7),
    "details-are-text": _count(prompt_tokens_details="none", completion_tokens_details=[1]),
    "usage-nested": _count(extra=_nested(20)),
    "usage-of-ten-thousand-names": _count(**{f"n{number}": number for number in range(10_000)}),
    "usage-of-a-long-text": _count(extra="x" * 300_000),
    "text-is-a-number": _say(5),
    "text-is-true": _say(True),
    "text-is-an-object": _say({"text": "Answer: B"}),
    "text-is-a-list": _say([1, None, {"x": 2}]),
    "text-is-a-list-of-parts": _say([{"type": "text", "text": "Answer: B\nExplanation: It may rain."}]),
    "text-of-nul": _add("\x00" * 2000),
    "text-of-controls": _add("".join(map(chr, range(1, 27))) + "\x7f\x85\u2028\u2029\ufeff"),
    "text-of-combining-marks": _add("a" + "\u0301" * 5000),
    "text-beyond-the-bound": _add("x" * 3_000_000),
    "text-of-escapes-beyond-the-bound": _add("\x00" * 600_000),
    "text-of-17-mib": _add("y" * (17 * 2**20)),
    "message-is-null": _in_choice(message=None, text=None),
    "message-is-text": _in_choice(message="Answer: B", text=["Answer: B"]),
    "message-is-a-list": _in_choice(message=[{"content": "Answer: B"}], text={"0": "Answer: B"}),
    "choices-is-an-object": _top(choices={"0": {"message": {"content": "Answer: B"}}}),
    "choices-is-text": _top(choices="Answer: B"),
    "choices-is-a-number": _top(choices=1),
    "choices-of-null": _top(choices=[None]),
    "choices-of-text": _top(choices=["Answer: B"]),
    "finish-reason-is-a-number": _in_choice(finish_reason=1),
    "finish-reason-is-an-object": _in_choice(finish_reason={"type": "stop"}),
    "finish-reason-is-long": _in_choice(finish_reason="stop" * 50_000),
    "refusal-is-an-object": _in_message(refusal={"why": "no"}),
    "refusal-is-a-number": _in_message(refusal=1),
    "provider-fields-are-text": _in_message(provider_specific_fields="x"),
    "tool-calls-are-rubbish": _in_message(tool_calls=[{"x": 1}, None]),
    "role-is-a-number": _in_message(role=7),
    "model-is-a-number": _top(model=4),
    "model-is-a-list": _top(model=["m"]),
    "model-is-null": _top(model=None),
    "fingerprint-is-an-object": _top(system_fingerprint={"x": 1}),
    "created-is-text": _top(created="yesterday"),
    "created-is-an-object": _top(created={"at": 1}),
    "created-is-fractional": _top(created=1.5),
    "id-is-an-object": _top(id={"x": [1]}),
    "object-is-a-number": _top(object=3),
    "logprobs-are-text": _in_choice(logprobs="high"),
    "logprobs-are-a-number": _in_choice(logprobs=-0.5),
    "logprobs-of-null": _in_choice(logprobs={"content": [None], "tokens": [None], "top_logprobs": [None]}),
    "logprobs-of-text": _in_choice(logprobs={"content": ["B"], "tokens": "B", "top_logprobs": "B"}),
    "logprob-is-text": _logprobs(logprob="high", top_logprobs=[{**LETTER, "logprob": "high"}]),
    "logprob-is-nan": _logprobs(top_logprobs=[{**LETTER, "logprob": raw("NaN")}]),
    "top-logprobs-are-an-object": _logprobs(top_logprobs={" B": -0.1}),
    "token-is-a-number": _logprobs(token=5, top_logprobs=[{**LETTER, "token": 7}]),
    "bytes-are-no-bytes": _logprobs(bytes=[1000, -1, "x"]),
    "bytes-are-a-number": _logprobs(bytes=10**9),
    "body-is-a-list": lambda body: [body],
    "body-is-text": lambda _: "Answer: B",
    "body-is-a-number": lambda _: 5,
    "body-is-null": lambda _: None,
    "body-is-empty-object": lambda _: {},
}
"""What the reading and the storing of answers must stand by themselves."""

SHOWN: dict[str, Spoil] = {
    "escape-in-the-text": _add(" \x1b[2J\x1b]0;owned\x07 "),
    "escape-in-the-model": _top(model="m\x1b[31m"),
    "escape-in-the-fingerprint": _top(system_fingerprint="\x1b[31m"),
    "escape-in-a-refusal": _in_message(refusal="\x1b[2J no"),
    "escape-in-the-finish-reason": _in_choice(finish_reason="\x1b[2J"),
    "escape-in-an-error-object": _top(error={"message": "\x1b[2J sorry", "code": 500}),
    "key-in-the-text": _add(f" The key is {KEY}."),
    "key-in-the-model": _top(model=f"m-{KEY}"),
    "key-in-the-fingerprint": _top(system_fingerprint=KEY),
    "key-in-a-refusal": _in_message(refusal=f"Your key {KEY} is bad."),
    "key-in-the-finish-reason": _in_choice(finish_reason=KEY),
    "key-in-usage": _count(extra=KEY, **{KEY: 1}),
    "key-in-an-error-object": _top(error={"message": f"Bad key {KEY}", "code": 500}),
    "key-escaped-in-the-text": _add(" " + KEY.replace("-", "%2D")),
    "piece-of-the-key-in-the-text": _add(f" {KEY[8:28]}"),
}
"""What is printed and kept of foreign texts: no escape sequence, no key."""

BOUNDED: dict[str, Spoil] = {
    "ten-thousand-choices": lambda body: {**body, "choices": body["choices"] * 10_000},
    "hundred-thousand-choices": lambda body: {**body, "choices": [{**body["choices"][0], "logprobs": None}] * 100_000},
    "nested-beyond-pythons-depth": _count(extra=raw("[" * 100_000 + "]" * 100_000)),
    "message-nested": _say(_nested(400)),
    "body-of-60-mib": _add("z" * (60 * 2**20)),
    "million-logprobs": _in_choice(logprobs={"content": [{"token": " B"}] * 300_000}),
}
"""What must be bounded as it is received."""


@dataclass
class HostileServer(BatchServer):
    """Gives the hostile answers of `cases`, each to the first inserted word of an example of `table`; else honest ones.

    Use as a context manager. `served` counts by case how often it was given.
    """

    cases: Sequence[tuple[str, Spoil]] = ()
    table: Table = field(default_factory=Table)
    served: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.answer = self._reply

    def case_of(self, body: Mapping[str, Any]) -> tuple[str, Spoil] | None:
        """The hostile answer that a request meets."""
        _, (example, word) = recognise(body, "chat" if "messages" in body else "completion")
        number = self.table.ids.index(example)
        if word is None or word != self.table.markers(example)[0] or number >= len(self.cases):
            return None
        return self.cases[number]

    def _reply(self, shape: Shape, body: Mapping[str, Any]) -> Any:
        style = "chat" if shape == "chat" else "completion"
        text = replies.compose("pe", style, "B", "It may rain.")
        top = shapes.top_asked(shape, body)
        honest = shapes.answer(shape, str(body["model"]), text, "stop", shapes.spell(text, top) if top else None)
        case = self.case_of(body)
        if case is None:
            return honest
        self.served[case[0]] = self.served.get(case[0], 0) + 1
        return case[1](honest)

    def _plain(self, rest: str, body: dict[str, Any]) -> Any:
        return spell(super()._plain(rest, body))

    def _execute(self, batch: Any) -> None:
        done = batch.end is not None
        super()._execute(batch)
        if not done:
            batch.answers = b"".join(spell(json.loads(line)) + b"\n" for line in batch.answers.splitlines())
