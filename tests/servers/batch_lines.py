"""A batch on the server, its results in the words of OpenAI and Anthropic, and what faults make of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from servers import shapes
from servers.loopback import RESET, Reply
from servers.shapes import Shape

Fate = Literal["ok", "400", "500", "rename", "expired", "canceled", "malformed", "missing", "no-choices"]
"""What becomes of one request. `rename` rejects max_tokens and takes max_completion_tokens."""
End = Literal["ended", "expired", "cancelled", "refused", "full"]
"""What becomes of a whole batch; `refused` and `full` are decided before anything is executed."""
Answer = Callable[[Shape, Mapping[str, Any]], dict[str, Any]]

MESSAGES = {
    "400": (400, "this prompt is not taken"),
    "500": (500, "The server had an error"),
    "rename": (400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
}
WAITED = {"expired": "batch_expired", "canceled": "batch_cancelled"}


@dataclass
class Batch:
    """One batch as the server knows it."""

    id: str
    shape: Literal["openai", "anthropic"]
    items: list[tuple[str, str, dict[str, Any]]]
    created: float
    metadata: Any = None
    file: str | None = None
    end: End | None = None
    polls: int = 0
    answers: bytes = b""
    failures: bytes = b""


def compose_line(
    shape_of_batch: str, answer: Answer, key: str, path: str, body: Mapping[str, Any], fate: Fate
) -> bytes:
    """The line of one request with this fate."""
    shape = shape_of(path)
    one: dict[str, Any] = {"custom_id": key}
    if fate in MESSAGES:
        status, message = MESSAGES[fate]
        error = shapes.error(shape, status, message)
        if shape_of_batch == "anthropic":
            one["result"] = {"type": "errored", "error": error}
        else:
            one |= {"response": {"status_code": status, "body": error}, "error": None}
    elif fate in WAITED:
        if shape_of_batch == "anthropic":
            one["result"] = {"type": fate}
        else:
            one |= {"response": None, "error": {"code": WAITED[fate], "message": f"The request is {fate}."}}
    else:
        found = answer(shape, body)
        if fate == "no-choices":
            found = {**found, "choices": []}
        if shape_of_batch == "anthropic":
            one["result"] = {"type": "succeeded", "message": found}
        else:
            one |= {"response": {"status_code": 200, "body": found}, "error": None}
    data = json.dumps(one, ensure_ascii=False).encode()
    return data[: len(data) // 2] if fate == "malformed" else data


def shape_of(path: str) -> Shape:
    """Which kind of request a path takes."""
    if path.endswith("/messages"):
        return "anthropic"
    return "chat" if path.endswith("/chat/completions") else "text"


def reply_of(fault: str | None, content: Any) -> Reply:
    """Return the answer to a call, or what the fault makes of it."""
    if fault in ("reset", "lost"):
        return RESET
    status = {"html": 200, "cut": 200, "redirect": 307, None: 404 if content is None else 200}.get(fault)
    if status is None:
        status = int(str(fault).removeprefix("late-"))
    if status >= 300:
        content = shapes.error("chat", status, "as the test wants it")
    data = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    if fault == "html":
        data = b"<html>Please log in.</html>"
    moved = {"location": "http://127.0.0.1:9/elsewhere"} if fault == "redirect" else {}
    return Reply(status, data, moved, cut=fault == "cut")
