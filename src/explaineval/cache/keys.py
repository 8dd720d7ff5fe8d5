"""Cache keys: a request in canonical form, and the SHA-256 hash of it (docs/method.md, "cache key"). Pure.

Two spellings of one request (0 and 0.0, another order of parameters) have the same key and share an answer; any real
difference gives another key. Changing anything here makes every stored answer useless: then raise `SCHEMA`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from explaineval.errors import InputError
from explaineval.records import Request

SCHEMA = 1

REMEMBERED = 1024
"""Requests whose keys are remembered: each layer of a client asks for the key of the same object."""

_TEXT_OF_STYLE = {"chat": "messages", "completion": "prompt"}


def canonical(request: Request) -> dict[str, Any]:
    """Return the request as a plain JSON dictionary without unused entries and nulls, with normalised numbers.

    Raises:
        InputError: a chat request without messages, a completion request without a prompt (or with both), a
            null or a number that is not finite.
    """
    used = _TEXT_OF_STYLE[request.style]
    if request.messages is None and request.prompt is None:
        raise InputError(f"The request to {request.model} has no text: style {request.style} needs {used}.")
    if (request.messages is not None) + (request.prompt is not None) > 1 or getattr(request, used) is None:
        raise InputError(f"The request to {request.model} mixes styles: style {request.style} takes {used} only.")
    entries: dict[str, Any] = {"schema": SCHEMA, "model": request.model, "style": request.style}
    if request.endpoint is not None:
        entries["endpoint"] = request.endpoint
    if request.messages is not None:
        entries["messages"] = [{"role": turn.role, "content": turn.content} for turn in request.messages]
    else:
        entries["prompt"] = request.prompt
    entries["max_tokens"] = request.max_tokens
    if request.temperature is not None:
        entries["temperature"] = _normalise(request.temperature, "temperature")
    if request.stop:
        entries["stop"] = list(request.stop)
    if request.logprobs is not None:
        entries["logprobs"] = request.logprobs
    if request.params:
        entries["params"] = _normalise(request.params, "params")
    entries["sample"] = request.sample
    return entries


def request_key(request: Request) -> str:
    """Return the key of a request: 64 hexadecimal digits.

    Raises:
        InputError: see `canonical`; also text that is not valid Unicode.
    """
    return _key_of(_SameObject(request))


class _SameObject:
    """A request that is equal to itself alone, so that its key can be remembered without comparing texts."""

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        self.request = request

    def __hash__(self) -> int:
        return id(self.request)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameObject) and other.request is self.request


@lru_cache(maxsize=REMEMBERED)
def _key_of(same: _SameObject) -> str:
    return hash_canonical(canonical(same.request))


def hash_canonical(entries: Mapping[str, Any]) -> str:
    """Return the SHA-256, in hexadecimal, of the canonical form's JSON (sorted keys, no spaces, UTF-8).

    Raises:
        InputError: some text holds half of a surrogate pair, which UTF-8 cannot spell.
    """
    text = json.dumps(entries, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 30) : error.start]
        raise InputError(
            f"A request to {entries.get('model')!r} holds a lone surrogate {text[error.start]!r} (a broken "
            f"character) after {near!r}: repair the input's encoding."
        ) from error
    return hashlib.sha256(data).hexdigest()


def is_key(text: str) -> bool:
    """Return whether a text has the form of a key."""
    return len(text) == 64 and not text.strip("0123456789abcdef")


def request_from(entries: Mapping[str, Any]) -> Request:
    """Return the request whose canonical form is `entries`; the inverse of `canonical`.

    Raises:
        InputError: another schema, or entries that are not the canonical form of a request.
    """
    schema = entries.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise InputError(f"A stored request has schema {schema!r}, this version reads schema {SCHEMA} only.")
    fields = {name: value for name, value in entries.items() if name != "schema"}
    if "sample" not in fields or None in fields.values():
        raise InputError("A stored request is not in canonical form: it lacks `sample` or holds a null.")
    try:
        request = Request.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"A stored request cannot be read at {place!r}: {first['msg']}.") from error
    # The spelling is compared too: 1, 1.0 and True are equal in Python, but not on the wire.
    if request_key(request) != hash_canonical(entries):
        raise InputError("A stored request is not in canonical form: its entries are spelled differently.")
    return request


def _normalise(value: object, path: str) -> Any:
    """Return a JSON value with one spelling per number; `path` names the place in errors."""
    if value is None:
        raise InputError(f"The request parameter {path} is null: leave it out instead.")
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InputError(f"The request parameter {path} is {value}: only finite numbers can be sent.")
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {str(name): _normalise(inner, f"{path}.{name}") for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_normalise(inner, f"{path}[{index}]") for index, inner in enumerate(value)]
    raise InputError(f"The request parameter {path} is a {type(value).__name__}: only JSON values can be sent.")
