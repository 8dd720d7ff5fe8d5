"""The few HTTP calls of batches: no retry, no redirect (the key stays where it belongs), results line by line.

httpx of our own instead of litellm's functions for batches, which open a client a call and never close it, read
whole result files into memory (Azure's always), fetch every finished batch's results a second time in the background
to reckon its cost, and cannot create Anthropic's batches at all.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, Self
from urllib.parse import quote

import httpx

from explaineval.cache import canonical, request_from, request_key
from explaineval.client.batches.dry_run import DUMMY, Rehearsal, Sent
from explaineval.client.endpoints import guard
from explaineval.client.endpoints.bodies import MOST_BYTES, MOST_VALUES, TooLargeError, measure
from explaineval.client.endpoints.origins import declared_origins
from explaineval.client.errors import NO_HOST, Advice, chain, classify
from explaineval.client.litellm_client import advice_on, key_of
from explaineval.client.responses import read_json
from explaineval.config import Endpoint
from explaineval.errors import (
    EndpointError,
    ExplainevalError,
    InputError,
    OversizedError,
    RequestRejectedError,
    StoreError,
    TransientError,
)
from explaineval.files import open_atomic
from explaineval.records import Completion, Request
from explaineval.secrets import SECRETS

Progress = Literal["in_progress", "ended", "failed", "expired", "cancelled", "missing"]


@dataclass(frozen=True)
class Item:
    """One request as it goes into a batch: its key, which is its custom_id, the route's path, the body as JSON."""

    key: str
    path: str
    body: bytes


@dataclass(frozen=True)
class BatchState:
    """How far a batch is. `failed`: refused as a whole, nothing was executed; `missing`: the provider knows no such id.

    `full` marks a refusal because too much is queued already: the same may be taken later.
    """

    progress: Progress
    total: int = 0
    done: int = 0
    reason: str = ""
    full: bool = False


@dataclass(frozen=True)
class Line:
    """One line of a batch's results.

    `key` is None where the line cannot be read. `status` and `body` are what the request met, as the ordinary route
    would have met it; without a status it was never executed, and `reason` says why.
    """

    key: str | None
    status: int | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    expired: bool = False
    oversized: bool = False
    """Whether it goes beyond the bounds on what is received, so that its body was not read."""


@dataclass(frozen=True)
class BatchFailure:
    """Why a request has no answer. `retryable`: another batch may bring one. `rejected`: the endpoint refused it."""

    reason: str
    retryable: bool = False
    rejected: bool = False


@dataclass(frozen=True)
class Trace:
    """What is known of a batch whose creation nobody confirmed: enough to find it again in the provider's list.

    `since` is when it was about to be created, in seconds since the epoch by this machine's clock; `known` are the
    batches that belong to other ledgers.
    """

    tag: str
    uploaded: str | None
    count: int
    since: float
    known: frozenset[str]


@dataclass(frozen=True)
class Found:
    """A batch that may be the one of a trace; `sure` where it carries our mark."""

    batch: str
    sure: bool
    progress: Progress


class BatchProvider(Protocol):
    """One model of one provider, asked by batches.

    Every method raises EndpointError where the endpoint is unusable, TransientError where another attempt may help.
    """

    @property
    def name(self) -> str:
        """The provider: openai, azure or anthropic."""
        ...

    async def check(self) -> None:
        """One free call: EndpointError where batches are not taken, or where that cannot be told now."""
        ...

    async def prepare(self, request: Request, key: str) -> Item:
        """The request as the ordinary route would send it. Raises RequestRejectedError where the route refuses it."""
        ...

    async def upload(self, items: Sequence[Item], tag: str) -> str | None:
        """Bring the requests to the provider, where that is a step of its own. Costs nothing, can be repeated."""
        ...

    async def submit(self, items: Sequence[Item], tag: str, uploaded: str | None) -> str:
        """Create the batch; returns its id. One attempt.

        Raises TransientError with `unbilled` where for certain no batch was made, without it where nobody knows.
        """
        ...

    async def find(self, trace: Trace) -> list[Found]:
        """The batches in the provider's list that may be the one of this trace."""
        ...

    async def status(self, batch: str) -> BatchState:
        """How far the batch is."""
        ...

    def results(self, batch: str) -> AsyncIterator[Line]:
        """The lines of an ended batch, in any order, one at a time."""
        ...

    async def read(self, request: Request, line: Line) -> Completion | BatchFailure:
        """What the ordinary route would have made of this line."""
        ...

    async def close(self) -> None:
        """Close the connections. Call before the event loop ends."""
        ...


TOO_MANY = 429
TOO_LONG = b"\x00too long"
"""Ends what is kept of a line of results that is too long."""
NOT_FOUND = (404, 405, 501)
IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,300}")
CUT = 65_536
"""Bytes that are kept of a line of results that is too long."""
CHECKED_WITHIN = 10.0
"""Seconds that an endpoint has for showing that it takes batches."""
MOST_OF_ERROR = 65_536
"""Bytes of an error's body that are looked at."""


class _RefusedError(Exception):
    """An answer with a status for an error, in the form that `classify` reads."""

    def __init__(self, response: httpx.Response, message: str) -> None:
        super().__init__(message)
        self.response = response


class Wire:
    """Calls about the batches of one model at one endpoint.

    Raises InputError for a provider without a common address.
    """

    def __init__(self, endpoint: Endpoint, model: str, timeout: float) -> None:
        self._where = f"{model} at {endpoint.identity}" if endpoint.identity else model
        self._origins, self._by_user = declared_origins(endpoint, model), endpoint.base_url is not None
        self._guarded = guard.Wire()
        self._http = httpx.AsyncClient(timeout=timeout, transport=guard.GuardedTransport(), trust_env=False)
        self.headers: dict[str, str] = {}
        self.advice: Advice | None = None

    async def get(self, url: httpx.URL | str, params: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """The JSON object at an address; None where there is nothing at it (status 404)."""
        query = httpx.URL(url).copy_merge_params(params or {})
        try:
            return await self._ask("GET", query)
        except EndpointError as exc:
            if isinstance(exc.__cause__, _RefusedError) and exc.__cause__.response.status_code == httpx.codes.NOT_FOUND:
                return None
            raise

    async def check_list(self, url: httpx.URL) -> None:
        """One look at the address that lists batches, within CHECKED_WITHIN seconds.

        Raises EndpointError where there is no such list, and where nobody can tell now.
        """
        try:
            found = await self._ask("GET", url.copy_merge_params({"limit": "1"}), timeout=CHECKED_WITHIN)
        except TransientError as exc:
            answer = exc.__cause__
            status = answer.response.status_code if isinstance(answer, _RefusedError) else None
            if status == TOO_MANY:  # there is one, and it is busy
                return
            if isinstance(answer, ValueError):
                raise self._no_batches("with what is no JSON") from exc
            raise EndpointError(
                f"{str(exc).rstrip('.')}; so whether it takes batches cannot be told, and nothing was asked: try again "
                "later, or leave out --batch."
            ) from exc
        except RequestRejectedError as exc:
            raise self._no_batches(f"so: {str(exc).rstrip('.')}") from exc.__cause__
        except EndpointError as exc:
            answer = exc.__cause__
            status = answer.response.status_code if isinstance(answer, _RefusedError) else None
            if status in NOT_FOUND:
                raise self._no_batches(f"{status}") from exc
            raise
        data = found.get("data")
        others = isinstance(data, list) and any(
            not isinstance(one, Mapping) or one.get("object", "batch") != "batch" for one in data
        )
        if not isinstance(data, list) or others:  # some servers answer every address with their models
            raise self._no_batches("with something else")

    def _no_batches(self, what: str) -> EndpointError:
        return EndpointError(
            f"{self._where}: no batches are taken here (asked for their list, it answered {what}), and nothing was "
            "bought: leave out --batch."
        )

    async def post(self, url: httpx.URL | str, *, creates: bool = False, **content: Any) -> dict[str, Any]:
        """The JSON object in the answer. With `creates` a TransientError is `unbilled` only where nothing was made.

        Raises EndpointError where there are no batches, and for a rejection: it concerns all that was to be sent.
        """
        try:
            return await self._ask("POST", httpx.URL(url), **content)
        except TransientError as exc:
            if not creates:
                raise
            status = exc.__cause__.response.status_code if isinstance(exc.__cause__, _RefusedError) else None
            raise TransientError(
                str(exc), retry_after=exc.retry_after, refused=exc.refused, unbilled=status == TOO_MANY
            ) from exc
        except ExplainevalError as exc:
            status = exc.__cause__.response.status_code if isinstance(exc.__cause__, _RefusedError) else None
            if status in NOT_FOUND:
                raise EndpointError(
                    f"{self._where}: no batches are taken here (status {status}); leave out --batch."
                ) from exc
            raise EndpointError(f"{str(exc).rstrip('.')}.") from exc

    async def lines(self, url: httpx.URL | str) -> AsyncIterator[bytes]:
        """The lines of the file at an address, as they come; of one beyond MOST_BYTES only the beginning and a mark.

        Raises TransientError also where it breaks off.
        """
        rest = Rest()
        try:
            request = self._http.build_request("GET", url, headers=self.headers)
            with guard.allow(self._attempt(streams=True)):
                response = await self._http.send(request, stream=True)
            try:
                await self._check(response)
                async for chunk in response.aiter_bytes():
                    for line in rest.add(chunk):
                        yield line
            finally:
                await response.aclose()
        except (httpx.HTTPError, _RefusedError) as exc:
            raise self._classified(exc) from exc
        yield rest.line

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        await self._guarded.aclose()

    def _attempt(self, *, streams: bool = False) -> guard.Attempt:
        return guard.Attempt(self._where, self._origins, self._guarded, moved_by_user=self._by_user, streams=streams)

    async def _ask(self, method: str, url: httpx.URL, **content: Any) -> dict[str, Any]:
        headers = {**self.headers, **content.pop("headers", {})}
        try:
            with guard.allow(self._attempt()):
                response = await self._http.request(method, url, headers=headers, **content)
            await self._check(response)
        except OversizedError as exc:
            raise EndpointError(f"{exc}; leave out --batch.") from exc
        except (httpx.HTTPError, httpx.InvalidURL, _RefusedError) as exc:
            raise self._classified(exc) from exc
        try:
            found = response.json()
        except ValueError as exc:
            raise TransientError(f"{self._where}: the endpoint answered with what is no JSON") from exc
        if not isinstance(found, dict):
            raise TransientError(f"{self._where}: the endpoint answered with what is no JSON object")
        masked: dict[str, Any] = SECRETS.mask_value(found)  # ids and reasons go into the ledgers
        return masked

    async def _check(self, response: httpx.Response) -> None:
        if not response.is_success:
            raise _RefusedError(response, _message(response, await response.aread()))

    def _classified(self, exc: Exception) -> ExplainevalError:
        if any(type(link).__name__ in NO_HOST for link in chain(exc)):  # the network is away: batches can wait for it
            return TransientError(f"{self._where}: the host name cannot be resolved", refused=True)
        return classify(exc, where=self._where, advice=self.advice)


class Rest:
    """The line that is not whole yet. Beyond MOST_BYTES only its beginning is kept, made longer than any line may be
    by a mark that no JSON holds."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that end in this chunk."""
        *whole, last = chunk.split(b"\n")  # never at what else Unicode calls a line's end
        for piece in whole:
            self._take(piece)
            yield self.line
            self._parts, self._size = [], 0
        self._take(last)

    @property
    def line(self) -> bytes:
        """What is there of the line."""
        line = b"".join(self._parts)
        return line if self._size <= MOST_BYTES else line[:CUT] + TOO_LONG

    def _take(self, piece: bytes) -> None:
        before, self._size = self._size, self._size + len(piece)
        if self._size <= MOST_BYTES:
            self._parts.append(piece)
        elif before <= MOST_BYTES:
            self._parts = [(b"".join(self._parts) + piece)[:CUT]]


def segment(identifier: object) -> str:
    """An identifier from the provider, fit to be part of a path.

    Raises EndpointError for one that could lead elsewhere.
    """
    if not is_identifier(identifier):
        raise EndpointError(f"the endpoint names a batch or file {str(identifier)[:80]!r}, which is no identifier.")
    return quote(str(identifier), safe=":")


def is_identifier(text: object) -> bool:
    """Whether the text can be part of a path and nothing but a part."""
    return isinstance(text, str) and bool(IDENTIFIER.fullmatch(text) and text.strip("."))


def _message(response: httpx.Response, text: bytes) -> str:
    try:
        found = httpx.Response(200, content=text).json()
        error = found.get("error", found)
        return str(error.get("message") or error) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        return " ".join(text.decode("utf-8", "replace").split())[:200] or response.reason_phrase


CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([0-9A-Za-z_.:-]{1,200})"')
RENAMED = "max_completion_tokens"
"""A rejection that names it is mended by the rehearsal, which writes the limit by that name from then on."""


def parse_line(text: bytes) -> dict[str, Any] | Line:
    """The JSON object in a line of results, measured before it is parsed; a Line where there is none to read."""
    try:
        if text.endswith(TOO_LONG):
            raise TooLargeError("too long")
        measure(text, MOST_VALUES)
    except TooLargeError:
        found = CUSTOM_ID.search(text, 0, CUT)
        return Line(found[1].decode("ascii") if found else None, oversized=True)
    try:
        one = read_json(text)
    except (ValueError, RecursionError):  # also bytes that are not UTF-8
        return Line(None)
    return one if isinstance(one, dict) else Line(None)


async def read_line(rehearsal: Rehearsal, request: Request, line: Line) -> Completion | BatchFailure:
    """The completion of a line as the ordinary route would have read it, or why there is none."""
    if line.oversized:
        return Completion(text=None, fault="oversized")
    if line.status is None:
        return BatchFailure(SECRETS.mask(line.reason) or "the batch did not execute it", retryable=line.expired)
    try:
        return await rehearsal.receive(request, line.status, line.body)
    except RequestRejectedError as exc:
        return BatchFailure(str(exc), retryable=RENAMED in str(exc), rejected=True)
    except TransientError as exc:
        return BatchFailure(str(exc), retryable=True)
    except EndpointError as exc:
        return BatchFailure(str(exc))


async def address_wire(rehearsal: Rehearsal, wire: Wire, endpoint: Endpoint, model: str) -> Sent:
    """Where the ordinary route sends its requests; the wire takes its headers, with the key in them.

    Raises EndpointError where there is no key, InputError as `key_of`.
    """
    provider = model.partition("/")[0]
    key = key_of(endpoint, model) or os.environ.get(f"{provider.upper()}_API_KEY")
    if not key:
        raise EndpointError(f"{model}: {advice_on(endpoint, model, 401)}.")
    SECRETS.add(key)
    sent = await rehearsal.address()
    wire.headers = {name: value.replace(DUMMY, key) for name, value in sent.headers.items()}
    wire.advice = partial(advice_on, endpoint, model)
    return sent


class RequestFile:
    """The requests of a batch by their keys, read from the disk one at a time. Use as a context manager.

    Raises InputError for a file that is damaged or not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, int] = {}
        try:
            self._file = path.open("rb")
        except OSError as exc:
            raise self._damage(exc.strerror or exc) from exc
        try:
            place = 0
            for line in self._file:
                self._places[json.loads(line)["key"]] = place
                place += len(line)
        except (OSError, ValueError, KeyError, TypeError) as exc:
            self._file.close()
            raise self._damage(exc) from exc

    def get(self, key: str) -> Request | None:
        """The request of a key, None for a key of no request here."""
        place = self._places.get(key)
        if place is None:
            return None
        self._file.seek(place)
        try:
            request = request_from(json.loads(self._file.readline())["request"])
        except (OSError, ValueError, KeyError, TypeError, InputError) as exc:
            raise self._damage(exc) from exc
        if request_key(request) != key:
            raise self._damage("a request stands under another's key")
        return request

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _damage(self, why: object) -> InputError:
        return InputError(
            f"{self._path} cannot be read ({why}): the answers of its batch cannot be fetched without it; restore it, "
            "or remove all files of that name to give the batch up."
        )


def write_requests(path: Path, requests: Iterable[tuple[str, Request]]) -> int:
    """Write the requests of a batch; returns how many they are. Raises StoreError."""
    count = 0
    with replacing(path) as out:
        for key, request in requests:
            entry = {"key": key, "request": canonical(request)}
            out.write(json.dumps(entry, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
            count += 1
    return count


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` as a whole once it is on the disk; StoreError where it cannot be."""
    try:
        with open_atomic(path, durable=True) as out:
            yield out
    except OSError as exc:
        raise StoreError(f"{path} cannot be written ({exc.strerror or exc}): nothing was submitted after it.") from exc
