"""Cache keys and the contents of rows. Pure.

A key is the SHA-256 hash of a request in canonical form (docs/method.md, "cache key"). Two spellings of one request (0
and 0.0, another order of parameters) have the same key and share an answer; any real difference gives another key.
Changing that makes every stored answer useless: then raise `SCHEMA`.

Rows hold compressed JSON, which is parsed into an answer or a verdict at once: an answer is the request in canonical
form beside the completion, a verdict is a document about what an endpoint takes."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn

from pydantic import ValidationError

from explaineval.errors import ExplainevalError, InputError
from explaineval.records import Completion, Request

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


MAX_BYTES = 16 * 2**20
"""Largest row before compression, in bytes: thousands of times a usual one, small enough to be harmless."""

MAX_PACKED = MAX_BYTES + 2**16
"""Largest compressed row, in bytes: what cannot be compressed grows a little."""

VERDICT_PREFIX = "verdict:"
"""Begins the key of a verdict's row, so that it cannot be the key of an answer."""

MAX_NAME = 200
"""Longest name of a verdict that is read from a pack, in characters."""

ORIGIN = ("address", "pack", "imported")
"""What a row may say of its answer's origin."""

MAX_ORIGIN = 4096
"""Longest text in it, in characters."""

_ZLIB_HEADER = zlib.compress(b"")[:2]


class RefusedRowError(ExplainevalError):
    """A row that explaineval did not write, or that is damaged. Its value was not used."""


class DamagedRowError(RefusedRowError):
    """A row of explaineval whose bytes changed: the disk, or whatever wrote to it, cannot be trusted."""


class Packed(bytes):
    """Bytes that `pack` made, ready for the database."""

    __slots__ = ()


class AnswerOrigin(NamedTuple):
    """Where a stored answer came from; it is no part of the answer, of its key, or of packs.

    `known` is false for rows of versions that did not note it. `address` is the base URL that answered, None where that
    is the provider's own; `pack` names the file that the answer was imported from, on the day `imported`.
    """

    known: bool = False
    address: str | None = None
    pack: str | None = None
    imported: str | None = None

    @property
    def bought(self) -> bool:
        """Whether the answer is known to have come from an endpoint, and not from a pack."""
        return self.known and self.pack is None


UNKNOWN_ORIGIN = AnswerOrigin()


class StoredAnswer(NamedTuple):
    """A stored completion, its request, and their key."""

    key: str
    request: Request
    completion: Completion


def pack(value: object) -> Packed:
    """Return a JSON value as compressed bytes.

    Raises:
        RefusedRowError: not a JSON value (NaN and infinities are none), or larger than `MAX_BYTES`.
    """
    try:
        data = encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise RefusedRowError(f"A value cannot be stored because it is not JSON: {error}.") from error
    if len(data) > MAX_BYTES:
        raise RefusedRowError(f"A value of {len(data):,} bytes cannot be stored: the limit is {MAX_BYTES:,}.")
    return Packed(zlib.compress(data))


def unpack(data: bytes) -> Any:
    """Return the JSON value in bytes made by `pack`, using at most `MAX_BYTES` for decompression.

    Raises:
        RefusedRowError: damaged, cut or too large data, anything after its end, or text that is not JSON. It is a
            `DamagedRowError` where the bytes begin as those of `pack` do.
    """
    return decode(_decompress(data))


def is_damaged(data: bytes) -> bool:
    """Return whether bytes that begin as those of `pack` do not fit their checksum any more."""
    try:
        _decompress(data)
    except RefusedRowError as error:
        return isinstance(error, DamagedRowError)
    return False


def _decompress(data: bytes) -> bytes:
    error_type = DamagedRowError if data[:2] == _ZLIB_HEADER else RefusedRowError
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise error_type(f"its compressed data are damaged ({error})") from error
    if len(text) > MAX_BYTES:
        raise RefusedRowError(f"it is larger than {MAX_BYTES:,} bytes when decompressed")
    if not inflater.eof:
        raise error_type("its compressed data are cut short")
    if inflater.unused_data:
        raise RefusedRowError("something follows its compressed data")
    return text


def encode(value: object, *, ordered: bool = False) -> bytes:
    """Return compact JSON in UTF-8. `ordered` sorts names; a lone surrogate is written as an escape.

    Raises:
        TypeError, ValueError, RecursionError: not a JSON value.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, sort_keys=ordered)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # UTF-8 cannot hold a lone surrogate, JSON's escapes can
        return json.dumps(value, separators=(",", ":"), allow_nan=False, sort_keys=ordered).encode("ascii")


def decode(text: bytes) -> Any:
    """Return the JSON value in a UTF-8 text.

    Raises:
        RefusedRowError: not JSON (NaN and infinities are none), or nested too deep.
    """
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RefusedRowError(f"its text is not JSON ({error})") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def make_row(entries: dict[str, Any], completion: Completion, origin: AnswerOrigin = UNKNOWN_ORIGIN) -> dict[str, Any]:
    """Return the row of an answer: the request in canonical form, the completion without defaults and nulls."""
    stored = completion.model_dump(exclude_defaults=True)
    if completion.text is None:
        del stored["text"]
    row = {"request": entries, "completion": stored}
    if origin.known:
        row["origin"] = {name: value for name in ORIGIN if (value := getattr(origin, name)) is not None}
    return row


def origin_of(row: dict[str, Any]) -> AnswerOrigin:
    """Return where the answer in a row came from; what cannot be read counts as unknown."""
    stored = row.get("origin")
    if not isinstance(stored, dict) or not stored.keys() <= set(ORIGIN):
        return UNKNOWN_ORIGIN
    if not all(isinstance(value, str) and len(value) <= MAX_ORIGIN for value in stored.values()):
        return UNKNOWN_ORIGIN
    return AnswerOrigin(known=True, **stored)


def parse_completion(key: str, row: object) -> Completion:
    """Return the completion in the row of an answer, whose request must hash to the row's key.

    Raises:
        RefusedRowError: another shape, or a row that was stored for another request.
    """
    if not isinstance(row, dict) or row.keys() - {"origin"} != {"request", "completion"}:
        raise RefusedRowError("it does not hold a request and a completion")
    check_key(key, row["request"])
    return read_completion(row)


def parse_answer(key: str, row: Any) -> StoredAnswer:
    """Return the answer in a row.

    Raises:
        RefusedRowError: the row is no answer, or not the one of this key.
    """
    completion = parse_completion(key, row)
    try:
        return StoredAnswer(key, request_from(row["request"]), completion)
    except (InputError, RecursionError) as error:
        raise RefusedRowError(f"its request cannot be read ({error})") from error


def check_key(key: str, entries: object) -> None:
    """Check that a request in canonical form hashes to this key.

    Raises:
        RefusedRowError: it does not, or it has no key.
    """
    try:
        expected = hash_canonical(entries) if isinstance(entries, dict) else None
    except (InputError, RecursionError) as error:
        raise RefusedRowError(f"its request has no key ({error})") from error
    if expected != key:
        raise RefusedRowError("its request is not the one that its key stands for")


def read_completion(row: dict[str, Any]) -> Completion:
    """Return the completion in a row whose request is not looked at.

    Raises:
        RefusedRowError: it holds no completion.
    """
    stored = row["completion"]
    try:
        return Completion.model_validate({"text": None, **stored} if isinstance(stored, dict) else stored)
    except ValidationError as error:
        raise RefusedRowError(f"its completion cannot be read ({error.error_count()} faults)") from error


def verdict_name(endpoint: str | None, model: str) -> str:
    """Return the name under which the verdict on one model at one endpoint is stored."""
    return hashlib.sha256(json.dumps([endpoint, model]).encode()).hexdigest()[:32]


def make_verdict_row(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a verdict."""
    return {"name": name, "verdict": document}


def parse_verdict(key: str, row: object) -> dict[str, Any]:
    """Return the document in the row of a verdict.

    Raises:
        RefusedRowError: another shape, or the row of another verdict.
    """
    name = key.removeprefix(VERDICT_PREFIX)
    if not isinstance(row, dict) or row.get("name") != name or not isinstance(row.get("verdict"), dict):
        raise RefusedRowError("it is not the document of that name")
    return dict(row["verdict"])


def verdict_request(name: str) -> dict[str, Any]:
    """Return what a pack holds for a verdict where answers have their request."""
    return {"schema": SCHEMA, "verdict": name}


def verdict_name_in(request: dict[str, Any]) -> str | None:
    """Return the name in what `verdict_request` made, None for anything else."""
    name = request.get("verdict")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        return None
    return name if request == verdict_request(name) and type(request["schema"]) is int else None
