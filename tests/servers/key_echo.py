"""An endpoint that writes whatever a test likes into everything it sends, for instance the key that it got.

Chat and text completions in OpenAI's shape, Anthropic's messages, and the list of models.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote

from servers.loopback import Asked, LoopbackServer, Reply

Mode = Literal["200", "400", "401", "404", "429", "500", "html", "200-error"]
KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


def key_of_headers(headers: Mapping[str, str]) -> str:
    """The key that came with a request, whichever header carried it."""
    return next((headers[name].removeprefix("Bearer ") for name in KEY_HEADERS if headers.get(name)), "")


def spellings(key: str) -> str:
    """A key in every way in which a server may write it down, and pieces of it."""
    coded = base64.b64encode
    found = [
        key, f"Bearer {key}", json.dumps(key), json.dumps(json.dumps(key)), quote(key, safe=""), repr(key),
        "".join(f"\\u{ord(letter):04x}" for letter in key), "".join(f"%{ord(letter):02x}" for letter in key),
        coded(key.encode()).decode(), coded(f"lab:{key}".encode()).decode(), coded(f"Bearer {key}".encode()).decode(),
        key[:14], key[5:20], key[-13:], key.upper(), key.encode().hex(),
    ]  # fmt: skip
    return " | ".join(found)


def traces(data: bytes, key: str) -> set[str]:
    """Which pieces of a key of 12 characters or more stand in these bytes, as they are, in base64 or in hexadecimal."""
    text = data.decode("utf-8", "replace").lower()
    found = {key[at : at + 12] for at in range(len(key) - 11) if key[at : at + 12].lower() in text}
    for shift in range(3):
        form = base64.b64encode(b"x" * shift + key.encode()).decode()[2 * shift : -4]
        found |= {form[at : at + 16] for at in range(len(form) - 15) if form[at : at + 16].lower() in text}
    digits = key.encode().hex()
    return found | {digits[at : at + 24] for at in range(len(digits) - 23) if digits[at : at + 24] in text}


@dataclass
class EchoingServer(LoopbackServer):
    """Use as a context manager. `plant(headers)` is what is written everywhere; `mode` is how requests end.

    `text` makes the answer's text of what is planted. `headers` keeps those of every request.
    """

    plant: Callable[[Mapping[str, str]], str] = lambda headers: spellings(key_of_headers(headers))
    mode: Mode = "200"
    text: Callable[[str], str] = lambda planted: f"Answer: A\nExplanation: because of {planted}."
    headers: list[Mapping[str, str]] = field(default_factory=list)

    def reply(self, asked: Asked) -> Reply:
        """An answer of this mode, with what is planted in a header of its own too."""
        self.headers.append(asked.headers)
        planted = self.plant(asked.headers)
        status, kind, data = self.answer(asked.target, asked.body if asked.payload else {}, planted)
        echo = planted.encode("ascii", "ignore").decode().replace("\n", " ")[:500]
        return Reply(status, data, {"content-type": kind, "x-echo": echo})

    def answer(self, path: str, body: dict[str, Any], planted: str) -> tuple[int, str, bytes]:
        """Status, content type and body of an answer."""
        if path.endswith("/models"):
            return 200, "application/json", json.dumps({"data": [{"id": planted}, {"id": f"m {planted}"}]}).encode()
        if self.mode == "html":
            return 200, "text/html", f"<html><title>{planted}</title><body>{planted}</body></html>".encode()
        if self.mode != "200":
            status = 200 if self.mode == "200-error" else int(self.mode)
            error = {"message": f"no: {planted}", "type": planted, "code": planted}
            return status, "application/json", json.dumps({"error": error}).encode()
        return 200, "application/json", json.dumps(self._completion(path, body, planted)).encode()

    def _completion(self, path: str, body: dict[str, Any], planted: str) -> dict[str, Any]:
        said = self.text(planted)
        if path.endswith("/messages"):
            usage = {"input_tokens": 9, "output_tokens": 9, "note": planted}
            return {
                "id": planted, "type": "message", "role": "assistant", "model": planted, "stop_reason": "end_turn",
                "content": [{"type": "text", "text": said}], "usage": usage,
            }  # fmt: skip
        top = [{"token": token, "logprob": -0.7, "bytes": None} for token in (" A", planted)]
        logprobs = {"content": [{"token": said, "logprob": -0.7, "bytes": None, "top_logprobs": top}]}
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": logprobs}
        if "messages" in body:
            choice["message"] = {"role": "assistant", "content": said, "reasoning_content": planted}
        else:
            choice |= {"text": said.removeprefix("Answer:"), "logprobs": None}
        return {
            "id": planted, "object": "chat.completion", "created": 1, "model": planted, "system_fingerprint": planted,
            "choices": [choice],
            "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18, "note": planted},
        }  # fmt: skip
