"""Bodies of answers in the shapes that servers use: chat, text with lists (OpenAI), text with content[] (llama.cpp)."""

from __future__ import annotations

import math
import re
from typing import Any

Alternatives = list[tuple[str, float]]
DECOY = {"A": 0.1, "B": 0.2, "C": 0.3}
"""The distribution at a lone letter that is no answer."""


def compose(order: str, style: str, label: str, explanation: str) -> str:
    """The text of an answer; in completion style it goes on after the marker that ends the prompt.

    Order "pe2" is the answer alone, "pe2 explained" the explanation alone.
    """
    answer, reason = f"Answer: {label}", f"Explanation: {explanation}"
    parts = {"pe": (answer, reason), "ep": (reason, answer), "pe2": (answer,), "pe2 explained": (reason,)}
    text = "\n".join(parts[order])
    return text.partition(":")[2] if style == "completion" else text


def spell_tokens(text: str, order: str, probabilities: dict[str, float], top: int) -> list[tuple[str, Alternatives]]:
    """The text cut into tokens, each with its `top` alternatives, most probable first.

    The letter of the answer gets `probabilities`, a tenth of the first letter's on its spelling without the space.
    """
    pieces = re.findall(r"\s*[A-Za-z0-9]+|\s*[^A-Za-z0-9\s]|\s+", text)
    letters = [number for number, piece in enumerate(pieces) if re.fullmatch("[ABC]", piece.strip())]
    answer = (letters[0] if order in ("pe", "pe2") else letters[-1]) if letters else None
    tokens = []
    for number, piece in enumerate(pieces):
        if number == answer:
            found = [(f" {letter}", value) for letter, value in probabilities.items()]
            found[0] = (" A", 0.9 * probabilities["A"])
            found += [("A", 0.1 * probabilities["A"]), (" the", 1 - sum(probabilities.values()))]
        elif len(piece.strip()) == 1 and piece.strip().isalpha():
            found = [(piece, 0.35), *DECOY.items()]
        else:
            found = [(piece, 0.8), (" thing", 0.1)]
        found.sort(key=lambda pair: -pair[1])
        tokens.append((piece, [(token, math.log(value)) for token, value in found[: max(top, 1)]]))
    return tokens


def list_logprobs(tokens: list[tuple[str, Alternatives]]) -> dict[str, Any]:
    """The old shape of text completions: parallel lists."""
    offsets, at = [], 0
    for piece, _ in tokens:
        offsets.append(at)
        at += len(piece)
    return {
        "tokens": [piece for piece, _ in tokens],
        "token_logprobs": [dict(top).get(piece, -3.0) for piece, top in tokens],
        "top_logprobs": [dict(top) for _, top in tokens],
        "text_offset": offsets,
    }


def content_logprobs(tokens: list[tuple[str, Alternatives]]) -> dict[str, Any]:
    """The shape of chat, which llama.cpp uses for text completions too."""

    def entry(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    return {
        "content": [
            {**entry(piece, dict(top).get(piece, -3.0)), "top_logprobs": [entry(*pair) for pair in top]}
            for piece, top in tokens
        ]
    }


def body(
    style: str, model: str, text: str | None, finish: str, logprobs: dict[str, Any] | None, refusal: str | None = None
) -> dict[str, Any]:
    """The whole answer of a server."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": logprobs}
    if style == "chat":
        choice["message"] = {"role": "assistant", "content": text, "refusal": refusal}
    else:
        choice["text"] = text
    return {
        "id": "planted",
        "object": "chat.completion" if style == "chat" else "text_completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [choice],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


def error(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
