"""An endpoint that fails on demand, in the shapes of OpenAI, Anthropic and Gemini.

A prompt that holds `[[fault:NAME]]` meets that
fault at every attempt, with `[[fault:NAME*2]]` at the first two attempts of that body only.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from servers import shapes
from servers.loopback import HANG_UP, RESET, SILENCE, Asked, LoopbackServer, Reply
from servers.shapes import Shape

FORCED = re.compile(rb"\[\[fault:([a-z0-9-]+)(?:\*(\d+))?\]\]")
ROUTES: tuple[tuple[str, Shape], ...] = (
    ("/chat/completions", "chat"), ("/completions", "text"), ("/v1/messages", "anthropic"),
    (":generateContent", "gemini"),
)  # fmt: skip
WAIT = 0.6
"""Seconds that a 429 with Retry-After asks to wait."""
REASONING = 400

BROKEN = {"reset": RESET, "hangup": HANG_UP, "time-out": SILENCE}
"""What happens to the connection instead of a response."""

STATUSES: dict[str, tuple[int, str]] = {
    "429": (429, "Rate limit reached for requests"),
    "429-retry-after": (429, "Rate limit reached for requests"),
    "quota": (429, "You exceeded your current quota, please check your plan and billing details."),
    "400": (400, "this prompt is not taken"),
    "context": (400, "This model's maximum context length is 8192 tokens. However, your prompt has 9000 tokens."),
    "401": (401, "Incorrect API key provided"),
    "402": (402, "Insufficient credits"),
    "403": (403, "You have no access to this model"),
    "flagged": (403, "this model requires moderation and your input was flagged for violence"),
    "404": (404, "The model does not exist"),
    "408": (408, "The request took too long to arrive"),
    "413": (413, "Request body too large"),
    "500": (500, "The server had an error"),
    "502": (502, "Bad gateway"),
    "503": (503, "The model is overloaded"),
    "504": (504, "The deadline is exceeded"),
    "529": (529, "Overloaded"),
}
"""Faults that are an error body with a status."""

OWN_STATUSES: dict[tuple[Shape, str], tuple[int, str]] = {
    ("anthropic", "quota"): (400, "Your credit balance is too low to access the Anthropic API. Please go to Plans."),
    ("anthropic", "context"): (400, "prompt is too long: 213000 tokens > 200000 maximum"),
    ("gemini", "quota"): (
        429,
        "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: "
        "generate_content_free_tier_requests, limit: 50. Please retry in 30000.5s.",
    ),
    ("gemini", "429-retry-after"): (
        429,
        "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: "
        f"generate_content_free_tier_requests, limit: 15. Please retry in {WAIT}s.",
    ),
    ("gemini", "context"): (400, "The input token count (9000) exceeds the maximum number of tokens allowed (8192)."),
    ("gemini", "401"): (400, "API key not valid. Please pass a valid API key."),
}
"""The same in the provider's own words, where it has some."""

WHOLE = {
    "html": "<html><body>Please log in to this network.</body></html>",
    "broken-json": '{"id": "x", "choices": [{"index": 0, "mess',
    "not-json": "upstream timed out",
}
"""Faults that are a body with status 200 which no provider would send."""

OUTCOMES: dict[str, tuple[str | None, str]] = {
    "null-content": (None, "stop"),
    "blank-content": (" \n", "stop"),
    "filter": (None, "content_filter"),
    "length": ("Answer: B\nExpl", "length"),
    "length-after-reasoning": (None, "length"),
    "recitation": (None, "RECITATION"),
    "unreadable": ("Who knows?", "stop"),
    "error-finish": ("Answer: B\nExplanation: It may r", "error"),
    "model-length": ("Answer: B\nExplanation: It may r", "model_length"),
}
"""Faults that are an answer in due form: its text and finish reason."""

LOGPROBS: dict[str, Callable[[float], float]] = {
    "logprobs-constant": lambda _: -0.5,
    "logprobs-zero": lambda _: 0.0,
    "logprobs-positive": lambda value: -value,
    "logprobs-inf": lambda _: -math.inf,
    "logprobs-some-inf": lambda value: value if value > math.log(0.1) else -math.inf,
    "logprobs-one-hot": lambda value: 0.0 if value > math.log(0.5) else -math.inf,
    "logprobs-nan": lambda _: math.nan,
}
"""Faults that spoil every log-probability."""


@dataclass(frozen=True)
class Attempt:
    """One request as it came in: when, by which route, which attempt at the same body, and the fault it met."""

    at: float
    shape: Shape
    body: Mapping[str, Any]
    number: int
    fault: str | None
    headers: Mapping[str, str]

    @property
    def prompt(self) -> str:
        """The text of its last turn."""
        return shapes.prompt_of(self.shape, self.body)


def reply_plainly(shape: Shape, prompt: str) -> str:
    """The answer to everything: B, in the form that the prompt asks for."""
    return " B\nExplanation: It may rain." if shape == "text" else "Answer: B\nExplanation: It may rain."


@dataclass
class FaultServer(LoopbackServer):
    """Use as a context manager. `answer` makes the text from shape and prompt, `latency` is in seconds."""

    answer: Callable[[Shape, str], str] = reply_plainly
    latency: float = 0.0
    received: list[Attempt] = field(default_factory=list)
    _attempts: Counter[str] = field(default_factory=Counter)

    def attempts(self, mark: str) -> list[Attempt]:
        """The requests whose prompt holds `mark`."""
        return [one for one in self.received if mark in one.prompt]

    async def respond(self, asked: Asked) -> Reply:
        """Answer one request."""
        path, payload = asked.path, asked.payload
        if path.endswith("/models"):
            return Reply(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
        shape = next((shape for end, shape in ROUTES if path.endswith(end)), None)
        if shape is None:
            return Reply(404, shapes.error("chat", 404, f"no such route: {path}"))
        digest = hashlib.sha256(path.encode() + payload).hexdigest()
        self._attempts[digest] += 1
        number, forced = self._attempts[digest], FORCED.search(payload)
        fault = forced[1].decode() if forced and number <= int(forced[2] or 1_000_000) else None
        one = Attempt(time.monotonic(), shape, asked.body, number, fault, asked.headers)
        self.received.append(one)
        await asyncio.sleep(self.latency)
        if fault in BROKEN:
            return BROKEN[fault]
        if fault in ("half-closed", "stalled"):
            return Reply(200, self._body(one, None, path), cut=True, held=fault == "stalled")
        if fault in STATUSES:
            status, message = OWN_STATUSES.get((shape, fault), STATUSES[fault])
            return _refusal(shape, fault, status, message)
        if fault in WHOLE:
            kind = "application/json" if fault == "broken-json" else "text/html"
            return Reply(200, WHOLE[fault].encode(), {"content-type": kind})
        return Reply(200, self._body(one, fault, path))

    def _body(self, one: Attempt, fault: str | None, path: str) -> bytes:
        shape, model = one.shape, str(one.body.get("model") or path.rpartition("/")[2].partition(":")[0])
        text, finish = OUTCOMES.get(fault or "", (self.answer(shape, one.prompt), "stop"))
        if shape == "text" and text is not None:
            text = text.removeprefix("Answer:")
        top = shapes.top_asked(shape, one.body)
        tokens = shapes.spell(text, top) if text is not None and top and fault != "logprobs-missing" else None
        if tokens and fault == "logprobs-no-top":
            tokens = [(piece, []) for piece, _ in tokens]
        if tokens and fault in LOGPROBS:
            tokens = [(piece, [(name, LOGPROBS[fault](value)) for name, value in pairs]) for piece, pairs in tokens]
        refusal = "I would rather not say." if fault == "refusal" else None
        if refusal:
            text, tokens = None, None
        reasoning = REASONING if fault == "length-after-reasoning" else 0
        found = shapes.answer(shape, model, text, finish, tokens, refusal=refusal, reasoning=reasoning)
        return json.dumps(_spoil(found, fault, shape)).encode()


def _spoil(found: dict[str, Any], fault: str | None, shape: Shape) -> Any:
    """The body with its fault in it, where the fault is one of form."""
    choices = {"gemini": "candidates", "anthropic": "content"}.get(shape, "choices")
    if fault == "error-object":
        return shapes.error(shape, 502, "upstream provider failed", "server_error", 502)
    if fault == "empty-choices":
        return {**found, choices: []}
    if fault == "null-choices":
        return {**found, choices: None}
    if fault == "refusal" and shape in ("anthropic", "gemini"):  # neither has a field for it
        return shapes.answer(shape, "m", None, "content_filter", None)
    if fault == "blocked" and shape == "gemini":
        return {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": found["usageMetadata"]}
    if fault == "blocked-unbilled" and shape == "gemini":
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
    if fault == "logprobs-null" and shape in ("chat", "text"):
        found["choices"][0]["logprobs"] = None
    if fault == "logprobs-missing" and shape in ("chat", "text"):
        del found["choices"][0]["logprobs"]
    return found


def _refusal(shape: Shape, fault: str, status: int, message: str) -> Reply:
    """Return an error in due form."""
    kind, code = ("insufficient_quota",) * 2 if fault == "quota" else ("invalid_request_error", None)
    body = shapes.error(shape, status, message, kind, "context_length_exceeded" if fault == "context" else code)
    if shape == "gemini" and fault == "401":
        body["error"]["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    waits = fault == "429-retry-after" and shape != "gemini"
    return Reply(status, body, {"retry-after": str(WAIT)} if waits else {})


@contextmanager
def dead_port() -> Iterator[int]:
    """A loopback port that refuses every connection and that nobody else can take meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])
