"""The contents of rows: compressed JSON, which is parsed into an answer or a verdict at once. Pure.

The row of an answer holds the request in canonical form beside the completion. The row of a verdict holds a document
about what an endpoint takes.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any, NamedTuple, NoReturn

from pydantic import ValidationError

from explaineval.cache.keys import SCHEMA, hash_canonical, request_from
from explaineval.errors import ExplainevalError, InputError
from explaineval.records import Completion, Request

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
    except DamagedRowError:
        return True
    except RefusedRowError:
        return False
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
