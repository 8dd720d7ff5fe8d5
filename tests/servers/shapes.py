"""Bodies of answers and errors as OpenAI, Anthropic and Gemini send them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from servers import replies

Shape = Literal["chat", "text", "anthropic", "gemini"]

ANTHROPIC_ERRORS = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
    404: "not_found_error", 408: "timeout_error", 413: "request_too_large", 429: "rate_limit_error",
    500: "api_error", 504: "timeout_error", 529: "overloaded_error",
}  # fmt: skip
GEMINI_ERRORS = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip
STOPS = {
    "anthropic": {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"},
    "gemini": {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"},
}


def prompt_of(shape: Shape, body: Mapping[str, Any]) -> str:
    """The text of the last turn, or of the whole prompt."""
    if shape == "text":
        return str(body["prompt"])
    if shape == "gemini":
        return "".join(part.get("text", "") for part in body["contents"][-1]["parts"])
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def top_asked(shape: Shape, body: Mapping[str, Any]) -> int:
    """How many alternatives at each token are asked for; 0 where no logprobs are, or where there are never any."""
    name = {"chat": "top_logprobs", "text": "logprobs"}.get(shape)
    return int(body.get(name) or 0) if name else 0


def spell(text: str, top: int) -> list[tuple[str, list[tuple[str, float]]]]:
    """The text cut into tokens; at a single letter the alternatives are A, B and C, the letter itself at 0.7."""
    tokens = []
    for piece in re.findall(r"\s*\w+|\s*[^\w\s]|\s+", text):
        letter = piece.strip()
        found = [(piece, 0.9)]
        if letter in ("A", "B", "C"):
            others = [piece.replace(letter, other) for other in "ABC" if other != letter]
            found = [(piece, 0.7), (others[0], 0.2), (others[1], 0.08)]
        tokens.append((piece, [(token, math.log(share)) for token, share in found[:top]]))
    return tokens


def error(shape: Shape, status: int, message: str, kind: str = "invalid_request_error", code: object = None) -> Any:
    """The body of an error with this status."""
    if shape == "anthropic":
        return {"type": "error", "error": {"type": ANTHROPIC_ERRORS.get(status, "api_error"), "message": message}}
    if shape == "gemini":
        return {"error": {"code": status, "message": message, "status": GEMINI_ERRORS.get(status, "UNKNOWN")}}
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def answer(
    shape: Shape,
    model: str,
    text: str | None,
    finish: str,
    tokens: list[tuple[str, list[tuple[str, float]]]] | None,
    *,
    refusal: str | None = None,
    reasoning: int = 0,
) -> dict[str, Any]:
    """The body of an answer; `finish` is OpenAI's word or the provider's own, `reasoning` counts hidden tokens."""
    if shape == "anthropic":
        thoughts = [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}] if reasoning else []
        return {
            "id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_sequence": None,
            "content": thoughts + ([] if text is None else [{"type": "text", "text": text}]),
            "stop_reason": STOPS[shape].get(finish, finish),
            "usage": {"input_tokens": 100, "output_tokens": 20 + reasoning},
        }  # fmt: skip
    if shape == "gemini":
        candidate: dict[str, Any] = {"index": 0, "finishReason": STOPS[shape].get(finish, finish)}
        candidate["content"] = {"role": "model"} | ({} if text is None else {"parts": [{"text": text}]})
        usage = {"promptTokenCount": 100, "candidatesTokenCount": 20, "totalTokenCount": 120 + reasoning}
        return {
            "candidates": [candidate],
            "usageMetadata": usage | ({"thoughtsTokenCount": reasoning} if reasoning else {}),
            "modelVersion": model,
        }
    style = "chat" if shape == "chat" else "completion"
    make = replies.content_logprobs if shape == "chat" else replies.list_logprobs
    found = replies.body(style, model, text, finish, None if tokens is None else make(tokens), refusal)
    if reasoning:
        found["usage"] |= {"completion_tokens": 20 + reasoning, "total_tokens": 120 + reasoning}
        found["usage"]["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return found
