"""Raw responses, checked before anything is stored, reduced to a Completion.

Two shapes of logprobs are read: chat's `content[]` (llama.cpp uses it for text completions too) and the older
text-completion lists `tokens` / `top_logprobs`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from explaineval.errors import TransientError
from explaineval.parsing.outcomes import FILTERED, REFUSED, TRUNCATED
from explaineval.records import Completion, Style, TokenAlternatives

Alternatives = list[tuple[str, float | None]]

BROKEN_OFF = frozenset({"error", "network_error"})
"""Finish reasons by which a gateway says, with status 200, that the provider behind it failed half-way."""


def read_response(raw: Mapping[str, Any], style: Style) -> Completion:
    """The completion in a response body.

    Raises TransientError for a body that holds no answer at all: an error object, no choices, no usable choice.
    """
    if raw.get("error"):
        raise TransientError(f"the endpoint answered 200 with an error object: {_short(raw['error'])}")
    choices = raw.get("choices") or []
    if not choices:
        raise TransientError("the endpoint answered 200 without any choice")
    choice = choices[0]
    finish = _finish_reason(choice)
    if finish in BROKEN_OFF:
        raise TransientError("the endpoint answered 200, but its provider failed before the text was finished")
    if style == "chat":
        message = choice.get("message")
        if not isinstance(message, Mapping):
            raise TransientError("the endpoint answered 200 with a choice that holds no message")
        text = message.get("content")
        extras = message.get("provider_specific_fields") or {}
        refusal = message.get("refusal") or extras.get("refusal")
    else:
        text, refusal = choice.get("text"), None
    if text is not None and not isinstance(text, str):
        raise TransientError(f"the endpoint's text is not a string but {type(text).__name__}")
    if text is None and finish is None and refusal is None:
        raise TransientError("the endpoint answered 200 with an empty choice")
    return Completion(
        text=text,
        finish_reason=finish,
        refusal=refusal or None,
        logprobs=None if text is None else read_logprobs(text, choice.get("logprobs")),
        usage=_without_nulls(raw.get("usage") or {}),
        model=raw.get("model"),
        fingerprint=raw.get("system_fingerprint"),
        created=raw.get("created"),
    )


def _finish_reason(choice: Mapping[str, Any]) -> str | None:
    """Why the text ended. litellm turns reasons that it does not know into "stop", but keeps the provider's word."""
    finish: str | None = choice.get("finish_reason")
    own = str((choice.get("provider_specific_fields") or {}).get("native_finish_reason") or "").strip().casefold()
    if own in BROKEN_OFF:
        return own
    for reasons, word in ((TRUNCATED, "length"), (FILTERED, "content_filter"), (REFUSED, "refusal")):
        if own in reasons:
            return word
    return finish


def read_logprobs(text: str, logprobs: Mapping[str, Any] | None) -> tuple[TokenAlternatives, ...] | None:
    """The alternatives at every token of `text` that, stripped, is one letter; None where none were returned."""
    if not logprobs:
        return None
    tokens = list(_tokens(logprobs))
    if not tokens:
        return None
    spelled = b"".join(piece for piece, _, _ in tokens)
    wanted = text.encode("utf-8", "surrogatepass")
    start = spelled.rfind(wanted)
    if start < 0:  # a server may strip the text but not its tokens
        start = spelled.rfind(wanted.strip()) - (len(wanted) - len(wanted.lstrip()))
        if spelled.rfind(wanted.strip()) < 0:
            return ()
    kept = []
    at = -start
    for piece, token, top in tokens:
        letter = token.strip()
        blank = token[: len(token) - len(token.lstrip())].encode("utf-8", "surrogatepass")
        if len(letter) == 1 and letter.isalpha() and 0 <= at + len(blank) < len(wanted):  # the letter itself is in it
            offset = _characters(wanted[:at]) if at >= 0 else -_characters(piece[:-at])
            kept.append(TokenAlternatives(offset=offset, token=token, top=tuple(top)))
        at += len(piece)
    return tuple(kept)


def _tokens(logprobs: Mapping[str, Any]) -> Iterator[tuple[bytes, str, Alternatives]]:
    content = logprobs.get("content")
    if content:
        for entry in content:
            token = entry.get("token") or ""
            raw = entry.get("bytes")
            top = [(t.get("token") or "", _finite(t.get("logprob"))) for t in entry.get("top_logprobs") or ()]
            yield bytes(raw) if raw else token.encode("utf-8", "surrogatepass"), token, top
        return
    tops = logprobs.get("top_logprobs") or []
    for token, alternatives in zip(logprobs.get("tokens") or (), tops, strict=False):
        top = [(name, _finite(value)) for name, value in (alternatives or {}).items()]
        yield token.encode("utf-8", "surrogatepass"), token, top


def _characters(raw: bytes) -> int:
    """Code points of UTF-8 bytes that may end inside one."""
    return len(raw.decode("utf-8", "surrogatepass" if _is_whole(raw) else "ignore"))


def _is_whole(raw: bytes) -> bool:
    try:
        raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _finite(value: object) -> float | None:
    """A log probability as it came; minus infinity (and what is no number) becomes None."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return value


def _short(value: object) -> str:
    text = value.get("message", value) if isinstance(value, Mapping) else value
    return " ".join(str(text).split())[:200]
