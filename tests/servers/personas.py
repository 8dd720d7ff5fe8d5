"""A small OpenAI-shaped server whose character is set by a Persona: what it takes, what it gives, how it lies.

It answers any prompt: letter and probabilities follow from a hash of what was asked.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from servers.loopback import Asked, LoopbackServer, Reply

LETTERS = "ABCD"
Logprobs = Literal[
    "true", "ignored", "constant", "one-hot", "repeated", "positive", "above-one", "null", "single", "fused"
]  # fmt: skip


@dataclass(frozen=True)
class Persona:
    """`refuses` names parameters (temperature: only 0) that get a 400, which names them unless `curt`.

    `most` is the largest number of top alternatives that is taken, `gives` the largest that comes back.
    """

    logprobs: Logprobs = "true"
    text_logprobs: Logprobs | None = None
    text_shape: Literal["lists", "content"] = "lists"
    most: int = 20
    gives: int = 20
    refuses: frozenset[str] = frozenset()
    curt: bool = False
    chat: bool = True
    text: bool = True
    status: int | None = None
    text_status: int | None = None
    stable: bool = True
    reasoning: Literal["usage", "field", "tags", "blank"] | None = None
    model: str | None = None
    fingerprint: str | None = None
    says: str | None = None
    models: tuple[str, ...] | None = ("tiny",)


@dataclass
class PersonaServer(LoopbackServer):
    """Use as a context manager. `bodies` holds what came in: (path, body, authorization)."""

    persona: Persona = field(default_factory=Persona)
    bodies: list[tuple[str, dict[str, Any], str | None]] = field(default_factory=list)
    usage: dict[str, Any] | None = None
    """What every answer counts, in place of the persona's own."""
    host: str = "127.0.0.1"
    headers: list[dict[str, str]] = field(default_factory=list)
    """The headers of every request, with names in lower case."""

    @property
    def asked(self) -> list[dict[str, Any]]:
        """The bodies of requests for a completion, in the order in which they came."""
        return [body for _, body, _ in self.bodies]

    def reply(self, asked: Asked) -> Reply:
        """The list of models, or a completion."""
        self.headers.append(dict(asked.headers))
        if asked.method == "GET":
            names = self.persona.models
            found = {"object": "list", "data": [{"id": name, "object": "model"} for name in names or ()]}
            return Reply(404, _error("no list")) if names is None else Reply(200, found)
        self.bodies.append((asked.target, asked.body, asked.headers.get("authorization")))
        return Reply(*self.answer(asked.target, asked.body))

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, object]:
        """Status and body of the answer to one request."""
        persona, chat = self.persona, path.endswith("/chat/completions")
        if persona.status is not None:
            return persona.status, _error("not today")
        if not chat and persona.text_status is not None:
            return persona.text_status, _error("text is out of order")
        if not (persona.chat if chat else persona.text):
            return 404, _error("no such address")
        complaint = self._complaint(body)
        if complaint is not None:
            return 400, _error("bad request" if persona.curt else complaint)
        return 200, self._completion(body, chat)

    def _complaint(self, body: dict[str, Any]) -> str | None:
        refuses = self.persona.refuses
        roles = {message["role"] for message in body.get("messages", ())}
        present = {name for name in body if body[name] not in (None, False)}
        if "temperature" in refuses and body.get("temperature") == 0:
            return "temperature 0 is not supported"
        if "max_tokens" in refuses and "max_tokens" in present:
            return "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        if "system" in refuses and "system" in roles:
            return "system role not supported"
        if "seed" in refuses and "seed" in present:
            return "seed is unknown here"
        if "logprobs" in refuses and "logprobs" in present:
            return "logprobs are not supported"
        if self._wish(body) > self.persona.most:
            return f"top_logprobs must be at most {self.persona.most}"
        return None

    def _wish(self, body: dict[str, Any]) -> int:
        return int((body.get("top_logprobs") if "messages" in body else body.get("logprobs")) or 0)

    def _completion(self, body: dict[str, Any], chat: bool) -> dict[str, Any]:
        persona = self.persona
        prompt = json.dumps(body["messages"][-1:] if chat else body["prompt"])
        draw = hashlib.sha256(prompt.encode()).digest()
        letter = LETTERS[draw[0] % 4]
        more = "" if persona.stable else f" ({len(self.bodies)})"
        text = persona.says or f"Answer: {letter}\nExplanation: It seems so{more}."
        if not chat and persona.says is None:
            text = text.removeprefix("Answer:")
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or 1000
        message: dict[str, Any] = {"role": "assistant", "content": text}
        finish, usage = "stop", {"prompt_tokens": 40, "completion_tokens": 12, "total_tokens": 52}
        if persona.reasoning is not None and chat:
            text, finish = self._reason(message, text, limit, usage)
        logprobs = self._logprobs(text, draw, body, chat) if self._wish(body) else None
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": logprobs}
        choice |= {"message": message} if chat else {"text": text}
        return {
            "id": "x",
            "object": "chat.completion" if chat else "text_completion",
            "created": 1,
            "model": persona.model or body["model"],
            "system_fingerprint": persona.fingerprint,
            "choices": [choice],
            "usage": usage if self.usage is None else self.usage,
        }

    def _reason(self, message: dict[str, Any], text: str, limit: int, usage: dict[str, Any]) -> tuple[str, str]:
        """Spend a hundred tokens on thoughts first; with a smaller limit there is no answer."""
        cut = limit < 100
        usage["completion_tokens"] = usage["total_tokens"] = limit if cut else 112
        usage["total_tokens"] += 40
        if self.persona.reasoning == "usage":
            usage["completion_tokens_details"] = {"reasoning_tokens": min(limit, 100)}
        elif self.persona.reasoning == "field":
            message["reasoning_content"] = "Let me see"
        elif self.persona.reasoning == "tags":
            message["content"] = "<think>Let me see" + ("" if cut else f"</think>{text}")
            return ("", "length") if cut else (text, "stop")
        message["content"] = None if cut else text
        return ("", "length") if cut else (text, "stop")

    def _logprobs(self, text: str, draw: bytes, body: Mapping[str, Any], chat: bool) -> dict[str, Any] | None:
        kind = self.persona.logprobs if chat else self.persona.text_logprobs or self.persona.logprobs
        if kind == "ignored":
            return None
        pieces = re.findall(
            r"Answer: [A-D]|\s*\w+|\s*[^\w\s]|\s+" if kind == "fused" else r"\s*\w+|\s*[^\w\s]|\s+", text
        )
        top = min(self._wish(dict(body)), self.persona.gives)
        rows = [(piece, _alternatives(kind, piece, number, draw)[:top]) for number, piece in enumerate(pieces)]
        if not chat and self.persona.text_shape == "lists":
            return {
                "tokens": [piece for piece, _ in rows],
                "token_logprobs": [row[0][1] for _, row in rows],
                "top_logprobs": [dict(row) for _, row in rows],
            }
        return {
            "content": [
                {"token": piece, "logprob": row[0][1], "top_logprobs": [{"token": t, "logprob": v} for t, v in row]}
                for piece, row in rows
            ]
        }


def _alternatives(kind: Logprobs, piece: str, number: int, draw: bytes) -> list[tuple[str, float | None]]:
    """Alternatives at one token, the written one first, as a server of this kind tells them."""
    names = [piece, *(f" {letter}" for letter in LETTERS if letter != piece.strip()), *(f"w{n}" for n in range(16))]
    share = 0.5 + 0.4 * draw[number % 32] / 255
    true = [math.log(share)] + [math.log((1 - share) / 2**n) for n in range(1, len(names))]
    values: list[float | None] = {
        "constant": [-1.5] * len(names),
        "one-hot": [0.0] + [-9999.0] * (len(names) - 1),
        "repeated": [math.log(0.7)] + [math.log(0.2 / 2**n) for n in range(1, len(names))],
        "positive": [-value for value in true],
        "above-one": [-0.1 - 0.001 * n for n in range(len(names))],
        "null": [None] * len(names),
        "single": true[:1],
    }.get(kind, true)  # type: ignore[assignment]
    return list(zip(names, values, strict=False))


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
