"""What a row holds: the readable request beside its completion. Pure."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from typing import Any, NoReturn

import diskcache
from pydantic import ValidationError

from explaineval.cache.keys import SCHEMA, hash_canonical
from explaineval.errors import ExplainevalError, InputError
from explaineval.records import Completion

MAX_BYTES = 16 * 2**20
"""Largest decompressed row, in bytes: thousands of times a usual one, small enough to be harmless."""

MAX_PACKED = MAX_BYTES + 2**16
"""Largest compressed row, in bytes: what cannot be compressed grows a little."""

MODE_RAW = 1
"""diskcache's mode of a value that stands in the row itself."""

_log = logging.getLogger("explaineval.cache")


class RefusedRowError(ExplainevalError):
    """A row that is not one of ours, or no longer whole. Its value was not used."""


class DamagedRowError(RefusedRowError):
    """A row of ours whose bytes are not what was written: the disk, or whatever wrote to it, cannot be trusted."""


class Packed(bytes):
    """Bytes that `pack` made: ready for the database."""

    __slots__ = ()


def pack(value: object) -> Packed:
    """A JSON value as compressed bytes.

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
    """The JSON value in bytes made by `pack`; never uses more than `MAX_BYTES` for decompressing.

    Raises:
        RefusedRowError: damaged, cut or too large data, anything after its end, or text that is not JSON;
            `DamagedRowError` where they begin as ours do.
    """
    fault = DamagedRowError if _begins_as_ours(data) else RefusedRowError
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise fault(f"its compressed data are damaged ({error})") from error
    if len(text) > MAX_BYTES:
        raise RefusedRowError(f"it is larger than {MAX_BYTES:,} bytes when decompressed")
    if not inflater.eof:
        raise fault("its compressed data are cut short")
    if inflater.unused_data:
        raise RefusedRowError("something follows its compressed data")
    return decode(text)


def is_damaged(data: bytes) -> bool:
    """Whether bytes that begin as `pack` begins them do not fit their checksum any more."""
    if not _begins_as_ours(data):
        return False
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, MAX_BYTES + 1)
    except zlib.error:
        return True
    return not inflater.eof and len(text) <= MAX_BYTES


def _begins_as_ours(data: bytes) -> bool:
    return data[:2] == _BEGINNING


def decode(text: bytes) -> Any:
    """The JSON value in a UTF-8 text.

    Raises:
        RefusedRowError: not JSON (NaN and infinities are none), or nested too deep.
    """
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RefusedRowError(f"its text is not JSON ({error})") from error


class JsonDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache ships no types
    """diskcache's serialisation, reduced to JSON inside the row; text keys only; never a file.

    The settings that diskcache reads from the database for its disk are ignored: none applies here, and a
    stranger may have written them.
    """

    def __init__(self, directory: str, **_settings: object) -> None:
        super().__init__(directory)

    def put(self, key: object) -> tuple[str, bool]:
        """The key as it stands in the database.

        Raises:
            RefusedRowError: the key is not text.
        """
        if type(key) is not str:
            raise RefusedRowError(f"A key of type {type(key).__name__} is refused: keys are text.")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """The key in a row.

        Raises:
            RefusedRowError: the row's key is not text, or marked as pickled.
        """
        if type(key) is not str or raw != 1:
            raise RefusedRowError("its key is not plain text")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, bytes]:  # noqa: ARG002
        """(size, mode, file name, value) of a row; the size counts files, so it is 0.

        Raises:
            RefusedRowError: see `pack`; also a value to be read from a file.
        """
        if read:
            raise RefusedRowError("A value read from a file is refused: rows hold JSON only.")
        return 0, MODE_RAW, None, bytes(value if isinstance(value, Packed) else pack(value))

    def fetch(self, mode: object, filename: object, value: object, read: bool) -> Any:
        """The JSON value of a row.

        Raises:
            RefusedRowError: a row that another program wrote (any other mode, a file name, no bytes), or that
                `unpack` refuses; a value asked for as an open file.
        """
        if read or filename is not None:
            raise RefusedRowError("it names a file")
        if type(mode) is not int or mode != MODE_RAW:
            raise RefusedRowError(f"its mode is {mode!r}, not plain bytes")
        if type(value) is not bytes:
            raise RefusedRowError(f"its value is {type(value).__name__}, not bytes")
        return unpack(value)

    def filename(self, key: object = None, value: object = None) -> NoReturn:  # noqa: ARG002
        """Refuse: no value ever gets a file.

        Raises:
            RefusedRowError: always.
        """
        raise RefusedRowError("A value in a file of its own is refused: rows hold JSON only.")

    def remove(self, file_path: object) -> None:
        """Leave the file alone: no file is ours, so a row that names one was written by somebody else.

        diskcache calls this after a row was overwritten, deleted, culled or expired; an error here would
        make a committed write look failed.
        """
        _log.warning("A row named the file %r; it was not touched, because rows never have files.", file_path)


def encode(value: object, *, ordered: bool = False) -> bytes:
    """Compact JSON in UTF-8, with JSON's escapes where a text holds half of a surrogate pair; `ordered` sorts names.

    Raises:
        TypeError, ValueError, RecursionError: not a JSON value.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, sort_keys=ordered)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate in an answer: JSON's escapes keep it, UTF-8 could not
        return json.dumps(value, separators=(",", ":"), allow_nan=False, sort_keys=ordered).encode("ascii")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_BEGINNING = zlib.compress(b"")[:2]

_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def make_row(entries: dict[str, Any], completion: Completion) -> dict[str, Any]:
    """The row of an answer: the request in canonical form and the completion without defaults and nulls."""
    kept = completion.model_dump(exclude_defaults=True)
    if completion.text is None:
        del kept["text"]
    return {"request": entries, "completion": kept}


def verify_row(key: str, row: object) -> dict[str, Any]:
    """The request's canonical form in a row, after checking that it hashes to the row's key.

    Raises:
        RefusedRowError: another shape, or a row that was stored for another request.
    """
    if not isinstance(row, dict) or row.keys() != {"request", "completion"}:
        raise RefusedRowError("it does not hold a request and a completion")
    entries = row["request"]
    try:
        found = hash_canonical(entries) if isinstance(entries, dict) else None
    except (InputError, RecursionError) as error:
        raise RefusedRowError(f"its request has no key ({error})") from error
    if found != key:
        raise RefusedRowError("its request is not the one that its key stands for")
    return dict(entries)


def read_completion(row: dict[str, Any]) -> Completion:
    """The completion in a row.

    Raises:
        RefusedRowError: not a completion.
    """
    kept = row["completion"]
    try:
        return Completion.model_validate({"text": None, **kept} if isinstance(kept, dict) else kept)
    except ValidationError as error:
        raise RefusedRowError(f"its completion cannot be read ({error.error_count()} faults)") from error


PREFIX = "verdict:"
"""What the key of a verdict's row begins with, so that it is no answer's."""

MAX_NAME = 200


def verdict_name(endpoint: str | None, model: str) -> str:
    """The name under which the verdict on one (endpoint, model) is stored."""
    return hashlib.sha256(json.dumps([endpoint, model]).encode()).hexdigest()[:32]


def make_verdict(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """The row of a verdict."""
    return {"name": name, "verdict": document}


def read_verdict(name: str, row: object) -> dict[str, Any]:
    """The document about an endpoint in the row of that name.

    Raises:
        RefusedRowError: another shape, or the row of another name.
    """
    if not isinstance(row, dict) or row.get("name") != name or not isinstance(row.get("verdict"), dict):
        raise RefusedRowError("it is not the document of that name")
    return dict(row["verdict"])


def name_request(name: str) -> dict[str, Any]:
    """What stands for a verdict's name where answers have their request."""
    return {"schema": SCHEMA, "verdict": name}


def find_name(request: dict[str, Any]) -> str | None:
    """The name in what `name_request` made, None for anything else."""
    name = request.get("verdict")
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        return None
    return name if request == name_request(name) and type(request["schema"]) is int else None
