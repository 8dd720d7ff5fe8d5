"""The interface of batch providers, the part of it that all of them share, and their HTTP calls.

The calls are made with httpx and not with litellm's functions for batches. Those open a client per call without closing
it, read whole result files into memory, fetch the results of every finished batch a second time in the background to
compute its cost, and cannot create Anthropic's batches. Here nothing is retried, no redirect is followed (so that the
key stays at its address), and results are read line by line.
"""

from __future__ import annotations

import asyncio
import os
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import httpx

from explaineval.client.batches.dry_run import DUMMY_KEY, DryRunClient
from explaineval.client.batches.journal import JournalEntry
from explaineval.client.endpoints import guard
from explaineval.client.endpoints.bodies import MOST_BYTES, MOST_VALUES, OverBoundsError, measure
from explaineval.client.endpoints.routes import Renamed, advice_on, declared_origins, key_of
from explaineval.client.errors import NO_HOST, Advice, chain, classify
from explaineval.client.responses import read_json
from explaineval.config import Endpoint
from explaineval.errors import (
    EndpointError,
    ExplainevalError,
    OversizedError,
    RequestRejectedError,
    TransientError,
)
from explaineval.records import Completion, Request
from explaineval.secrets import SECRETS

Progress = Literal["in_progress", "ended", "failed", "expired", "cancelled", "missing"]

MOST_COUNTED = 10**9
"""A count of requests above this is no count."""
SPARE_LINES = 1_000
"""Lines that results may have beyond a few for each request of their batch."""
LINES_EACH = 4
MOST_LINE_BYTES = 16 * MOST_BYTES
"""Bytes of one line of results after which nothing more of the file is read."""
PAGE_SIZE = 100
MAX_PAGES = 100
TOO_MANY = 429
NOT_SUPPORTED = (404, 405, 501)
"""Statuses of an endpoint that has no batches."""
CHECK_TIMEOUT = 10.0
"""Seconds that an endpoint has for showing that it takes batches."""
IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,300}")
CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([0-9A-Za-z_.:-]{1,200})"')
CUT = 65_536
"""Bytes that are kept of a line of results that is too long."""
TOO_LONG = b"\x00too long"
"""Ends what is kept of a line of results that is too long. No JSON text contains it."""
LONGEST_REASON = 1_000
"""Characters that are kept of what a line of results says of a request without an answer."""
SLOWEST_UPLOAD = 10_000
"""Bytes per second of an upload that is waited for."""
RENAMED_LIMIT = "max_completion_tokens"
"""A rejection that names this parameter can be retried: the dry run then writes the token limit by this name."""


@dataclass(frozen=True)
class BatchItem:
    """One request as it goes into a batch.

    `key` is the request's cache key and the item's custom_id, `path` the route's path, `body` the request as JSON.
    """

    key: str
    path: str
    body: bytes


@dataclass(frozen=True)
class BatchState:
    """How far a batch is.

    The progress `failed` means that the batch was refused as a whole and nothing was executed, `missing` that the
    provider knows no batch of this id. `total` and `done` count requests. `queue_full` marks a refusal because too much
    is queued already, so that the same batch may be taken later. `fault` says what in the description cannot be read.
    """

    progress: Progress
    total: int = 0
    done: int = 0
    reason: str = ""
    queue_full: bool = False
    fault: str = ""


@dataclass(frozen=True)
class ResultLine:
    """One line of a batch's results.

    `key` is None where the line cannot be read. `status` and `body` are those of the response to the request. Without a
    status the request was not executed, and `reason` says why. `oversized` marks a line beyond the bounds on responses,
    whose body was not read.
    """

    key: str | None
    status: int | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    expired: bool = False
    oversized: bool = False


@dataclass(frozen=True)
class BatchFailure:
    """Why a request has no answer.

    `retryable` means that another batch may bring one, `rejected` that the endpoint refused the request.
    """

    reason: str
    retryable: bool = False
    rejected: bool = False


@dataclass(frozen=True)
class Candidate:
    """A batch in the provider's list that may be the one of a journal entry.

    `certain` where it carries the entry's tag; `ended` where its results can be read.
    """

    batch: str
    certain: bool
    ended: bool


class BatchProvider(ABC):
    """Asks one model at one endpoint by batches. A subclass describes one provider's interface.

    Every method raises EndpointError where the endpoint is unusable and TransientError where another attempt may help.
    """

    cursor: ClassVar[str]
    """The query parameter that takes the id after which the next page of the list begins."""
    clock_skew: ClassVar[float]
    """Seconds by which the provider's clock may differ from this machine's."""

    def __init__(self, endpoint: Endpoint, model: str, *, timeout: float, renamed: Renamed | None = None) -> None:
        """Prepare connections with this timeout in seconds. For `renamed` see `DryRunClient`."""
        self.endpoint, self.model = endpoint, model
        self.name = model.partition("/")[0]
        self._dry_run = DryRunClient(endpoint, model, timeout=timeout, renamed=renamed)
        self._http = BatchHTTP(endpoint, model, timeout)
        self._root: httpx.URL | None = None

    async def check(self) -> None:
        """Check with one free call that the endpoint takes batches.

        Raises:
            EndpointError: it takes none, or this cannot be found out now.
        """
        await self._http.check_list(await self._url("batches"))

    @abstractmethod
    async def prepare(self, request: Request, key: str) -> BatchItem:
        """Return the request with the body that the ordinary client would send.

        Raises:
            RequestRejectedError: the ordinary client refuses it.
        """

    @abstractmethod
    async def upload(self, items: Sequence[BatchItem], tag: str) -> str | None:
        """Upload the requests where that is a step of its own, and return the file's id. This costs nothing."""

    @abstractmethod
    async def submit(self, items: Sequence[BatchItem], tag: str, uploaded: str | None) -> str:
        """Create the batch with one attempt and return its id.

        Raises:
            TransientError: with `unbilled` where certainly no batch was made, without it where that is unknown.
        """

    async def find(self, entry: JournalEntry, known: frozenset[str]) -> list[Candidate]:
        """Return the batches in the provider's list that may be the one of this entry.

        `known` holds the ids of batches that belong to other entries.
        """
        candidates: list[Candidate] = []
        query = {"limit": str(PAGE_SIZE)}
        for _ in range(MAX_PAGES):
            page = await self._http.get(await self._url("batches"), query) or {}
            batches = [description for description in as_list(page.get("data")) if isinstance(description, Mapping)]
            matches = (self._match(description, entry, known) for description in batches)
            candidates += [candidate for candidate in matches if candidate is not None]
            if any(candidate.certain for candidate in candidates) or not batches or not page.get("has_more"):
                break
            if max(self._created(description) for description in batches) < entry.created - self.clock_skew:
                break
            query[self.cursor] = path_segment(batches[-1].get("id"))
        return candidates

    async def status(self, batch: str) -> BatchState:
        """Return how far the batch is."""
        description = await self._http.get(await self._url("batches", batch))
        return BatchState("missing") if description is None else self._parse_state(description)

    async def results(self, batch: str) -> AsyncGenerator[ResultLine]:
        """Yield the lines of an ended batch, in any order, one at a time."""
        description = await self._http.get(await self._url("batches", batch)) or {}
        for url in await self._result_urls(batch, description):
            async with aclosing(self._http.lines(url)) as lines:
                blank = 0
                async for line in lines:
                    if line.strip():
                        yield self.parse_line(line)
                    elif (blank := blank + 1) > SPARE_LINES:
                        raise EndpointError(f"the results of batch {batch} are blank lines without an end.")

    @classmethod
    def parse_line(cls, line: bytes) -> ResultLine:
        """Parse a line of results. Its size is checked before its JSON is parsed."""
        try:
            if line.endswith(TOO_LONG):
                raise OverBoundsError("too long")
            measure(line, MOST_VALUES)
        except OverBoundsError:
            match = CUSTOM_ID.search(line, 0, CUT)
            return ResultLine(match[1].decode("ascii") if match else None, oversized=True)
        try:
            entry = read_json(line)
        except (ValueError, RecursionError):  # also bytes that are not UTF-8
            return ResultLine(None)
        if not isinstance(entry, dict) or not isinstance(entry.get("custom_id"), str):
            return ResultLine(None)
        return cls._parse_result(entry["custom_id"], entry)

    async def read(self, request: Request, line: ResultLine) -> Completion | BatchFailure:
        """Return what the ordinary client would have made of this line, or why there is no answer."""
        if line.oversized:
            return Completion(text=None, fault="oversized")
        if line.status is None:
            reason = SECRETS.mask(line.reason[:LONGEST_REASON])
            return BatchFailure(reason or "the batch did not execute it", retryable=line.expired)
        try:
            return await self._dry_run.receive(request, line.status, line.body)
        except RequestRejectedError as exc:
            return BatchFailure(str(exc), retryable=RENAMED_LIMIT in str(exc), rejected=True)
        except TransientError as exc:
            return BatchFailure(str(exc), retryable=True)
        except EndpointError as exc:
            return BatchFailure(str(exc))

    async def close(self) -> None:
        """Close the connections. Call it before the event loop ends."""
        await self._http.close()
        await self._dry_run.close()

    async def _create(self, **content: Any) -> str:
        """Create a batch from this content and return its id."""
        created = await self._http.post(await self._url("batches"), creates=True, **content)
        if not is_identifier(created.get("id")):
            raise TransientError(f"{self.model}: the endpoint made a batch without a usable id")
        return str(created["id"])

    async def _url(self, *parts: str) -> httpx.URL:
        """Return an address beside that of the ordinary route, whose headers and key the HTTP calls take over.

        Raises:
            EndpointError: there is no key.
            InputError: see `key_of`.
        """
        if self._root is None:
            key = key_of(self.endpoint, self.model) or os.environ.get(f"{self.name.upper()}_API_KEY")
            if not key:
                raise EndpointError(f"{self.model}: {advice_on(self.endpoint, self.model, 401)}.")
            SECRETS.add(key)
            sent = await self._dry_run.address()
            self._http.headers = {name: value.replace(DUMMY_KEY, key) for name, value in sent.headers.items()}
            self._http.advice = partial(advice_on, self.endpoint, self.model)
            self._root = sent.url.copy_with(path=self._root_path(sent.url.path))
        return self._root.copy_with(path="/".join((self._root.path, *parts)))

    @staticmethod
    @abstractmethod
    def _root_path(path: str) -> str:
        """Return the path under which batches are found, from that of the chat route."""

    @staticmethod
    @abstractmethod
    def _created(description: Mapping[str, Any]) -> float:
        """Return when a batch was created, in seconds since the epoch."""

    @classmethod
    @abstractmethod
    def _match(cls, description: Mapping[str, Any], entry: JournalEntry, known: frozenset[str]) -> Candidate | None:
        """Return the batch as a candidate for this entry, None where it cannot be the entry's."""

    @staticmethod
    @abstractmethod
    def _parse_state(description: Mapping[str, Any]) -> BatchState:
        """Parse the provider's description of a batch."""

    @abstractmethod
    async def _result_urls(self, batch: str, description: Mapping[str, Any]) -> list[httpx.URL]:
        """Return the addresses of the files with the batch's results."""

    @staticmethod
    @abstractmethod
    def _parse_result(key: str, entry: dict[str, Any]) -> ResultLine:
        """Parse the JSON object in a line of results, whose custom_id is `key`."""


class _StatusError(Exception):
    """A response with the status of an error, in the form that `classify` reads."""

    def __init__(self, response: httpx.Response, message: str) -> None:
        super().__init__(message)
        self.response = response


class BatchHTTP:
    """HTTP calls about the batches of one model at one endpoint, of which none is retried.

    Raises InputError for a provider without a common address.
    """

    def __init__(self, endpoint: Endpoint, model: str, timeout: float) -> None:
        self._where = f"{model} at {endpoint.identity}" if endpoint.identity else model
        self._origins, self._by_user = declared_origins(endpoint, model), endpoint.base_url is not None
        self._guarded = guard.Wire()
        self._client = httpx.AsyncClient(timeout=timeout, transport=guard.GuardedTransport(), trust_env=False)
        self._timeout = timeout
        self.headers: dict[str, str] = {}
        self.advice: Advice | None = None

    async def get(self, url: httpx.URL | str, params: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """Return the JSON object at an address, None where there is nothing (status 404)."""
        try:
            return await self._send("GET", httpx.URL(url).copy_merge_params(params or {}))
        except EndpointError as exc:
            if _status_of(exc) == httpx.codes.NOT_FOUND:
                return None
            raise

    async def check_list(self, url: httpx.URL) -> None:
        """Look once at the address that lists batches, for at most CHECK_TIMEOUT seconds.

        Raises:
            EndpointError: there is no such list, or this cannot be found out now.
        """
        try:
            page = await self._send("GET", url.copy_merge_params({"limit": "1"}), timeout=CHECK_TIMEOUT)
        except TransientError as exc:
            if _status_of(exc) == TOO_MANY:  # there is a list, and the endpoint is busy
                return
            if isinstance(exc.__cause__, ValueError):
                raise self._no_batches("with what is no JSON") from exc
            raise EndpointError(
                f"{str(exc).rstrip('.')}; so whether it takes batches cannot be told, and nothing was asked: try again "
                "later, or leave out --batch."
            ) from exc
        except RequestRejectedError as exc:
            raise self._no_batches(f"so: {str(exc).rstrip('.')}") from exc.__cause__
        except EndpointError as exc:
            if _status_of(exc) in NOT_SUPPORTED:
                raise self._no_batches(f"{_status_of(exc)}") from exc
            raise
        batches = page.get("data")
        if not isinstance(batches, list) or not all(
            isinstance(batch, Mapping) and batch.get("object", "batch") == "batch" for batch in batches
        ):  # some servers answer every address with their models
            raise self._no_batches("with something else")

    async def post(self, url: httpx.URL | str, *, creates: bool = False, **content: Any) -> dict[str, Any]:
        """Return the JSON object in the response to a POST request.

        Raises:
            TransientError: with `creates` it is `unbilled` only where certainly nothing was made.
            EndpointError: there are no batches, or the request was rejected, which concerns the whole batch.
        """
        try:
            return await self._send("POST", httpx.URL(url), **content)
        except TransientError as exc:
            if not creates:
                raise
            raise TransientError(
                str(exc), retry_after=exc.retry_after, refused=exc.refused, unbilled=_status_of(exc) == TOO_MANY
            ) from exc
        except ExplainevalError as exc:
            if _status_of(exc) in NOT_SUPPORTED:
                raise EndpointError(
                    f"{self._where}: no batches are taken here (status {_status_of(exc)}); leave out --batch."
                ) from exc
            raise EndpointError(f"{str(exc).rstrip('.')}.") from exc

    async def lines(self, url: httpx.URL | str) -> AsyncGenerator[bytes]:
        """Yield the lines of the file at an address as they arrive. For lines that are too long see `LineBuffer`.

        Raises:
            TransientError: also where the file breaks off.
            EndpointError: a line does not end.
        """
        buffer = LineBuffer()
        try:
            request = self._client.build_request("GET", url, headers=self.headers)
            with guard.allow(self._attempt(streams=True)):
                response = await self._client.send(request, stream=True)
            try:
                await _raise_for_status(response)
                async for chunk in response.aiter_bytes():
                    for line in buffer.add(chunk):
                        yield line
                    if buffer.size > MOST_LINE_BYTES:
                        raise EndpointError(
                            f"{self._where}: a line in a batch's results has more than {MOST_LINE_BYTES >> 20} MB and "
                            "does not end, so nothing more of them is read."
                        )
            finally:
                await response.aclose()
        except (httpx.HTTPError, _StatusError) as exc:
            raise self._classified(exc) from exc
        yield buffer.line

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._guarded.aclose()

    def _no_batches(self, answer: str) -> EndpointError:
        return EndpointError(
            f"{self._where}: no batches are taken here (asked for their list, it answered {answer}), and nothing was "
            "bought: leave out --batch."
        )

    def _attempt(self, *, streams: bool = False) -> guard.Attempt:
        sent = {name.lower(): value for name, value in self.headers.items()}
        key = sent.get("authorization", "").removeprefix("Bearer ") or sent.get("x-api-key") or sent.get("api-key")
        return guard.Attempt(
            self._where, self._origins, self._guarded, moved_by_user=self._by_user, key=key, streams=streams
        )

    async def _send(self, method: str, url: httpx.URL, **content: Any) -> dict[str, Any]:
        headers = {**self.headers, **content.pop("headers", {})}
        request = self._client.build_request(method, url, headers=headers, **content)
        seconds = content.get("timeout", self._timeout) + int(request.headers.get("content-length", 0)) / SLOWEST_UPLOAD
        try:
            with guard.allow(self._attempt()):
                async with asyncio.timeout(seconds):  # the client's own limit begins anew with every byte
                    response = await self._client.send(request)
            await _raise_for_status(response)
        except TimeoutError as exc:
            raise self._classified(exc) from exc
        except OversizedError as exc:
            raise EndpointError(f"{exc}; leave out --batch.") from exc
        except (httpx.HTTPError, httpx.InvalidURL, _StatusError) as exc:
            raise self._classified(exc) from exc
        try:
            document = response.json()
        except (ValueError, RecursionError) as exc:
            raise TransientError(f"{self._where}: the endpoint answered with what is no JSON") from exc
        if not isinstance(document, dict):
            raise TransientError(f"{self._where}: the endpoint answered with what is no JSON object")
        masked: dict[str, Any] = SECRETS.mask_value(document)  # ids and reasons are written to the journal
        return masked

    def _classified(self, exc: Exception) -> ExplainevalError:
        if any(type(link).__name__ in NO_HOST for link in chain(exc)):  # no network now: batches can wait for it
            return TransientError(f"{self._where}: the host name cannot be resolved", refused=True)
        return classify(exc, where=self._where, advice=self.advice)


async def _raise_for_status(response: httpx.Response) -> None:
    if response.is_success:
        return
    text = await response.aread()
    try:
        document = httpx.Response(200, content=text).json()
        error = document.get("error", document)
        message = str(error.get("message") or error) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        message = " ".join(text.decode("utf-8", "replace").split())[:200] or response.reason_phrase
    raise _StatusError(response, message)


def _status_of(error: ExplainevalError) -> int | None:
    """Return the status of the response that caused this error, None where no response did."""
    cause = error.__cause__
    return cause.response.status_code if isinstance(cause, _StatusError) else None


class LineBuffer:
    """Splits bytes that arrive in pieces into lines, in bounded memory.

    Of a line of more than MOST_BYTES only the first CUT bytes are kept, followed by TOO_LONG.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    @property
    def size(self) -> int:
        """How many bytes the current line has so far."""
        return self._size

    def add(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that end in this chunk."""
        *ends, rest = chunk.split(b"\n")  # splitlines() would also split at line breaks that JSON strings may hold
        for end in ends:
            self._append(end)
            yield self.line
            self._parts, self._size = [], 0
        self._append(rest)

    @property
    def line(self) -> bytes:
        """What has arrived of the current line."""
        line = b"".join(self._parts)
        return line if self._size <= MOST_BYTES else line[:CUT] + TOO_LONG

    def _append(self, part: bytes) -> None:
        before, self._size = self._size, self._size + len(part)
        if self._size <= MOST_BYTES:
            self._parts.append(part)
        elif before <= MOST_BYTES:
            self._parts = [(b"".join(self._parts) + part)[:CUT]]


def read_counts(counts: object, names: Sequence[str]) -> tuple[dict[str, int], str]:
    """Return counts of requests by name, 0 where one is missing, and what in them is no count ("" for nothing).

    >>> read_counts({"total": 3, "done": float("inf")}, ("total", "done"))
    ({'total': 3, 'done': 0}, 'request_counts.done is inf')
    """
    if counts is None:
        return dict.fromkeys(names, 0), ""
    if not isinstance(counts, Mapping):
        return dict.fromkeys(names, 0), f"request_counts is {_shown(counts)}"
    found, fault = {}, ""
    for name in names:
        value = counts.get(name)
        if value is None or (type(value) in (int, float) and 0 <= value <= MOST_COUNTED):
            found[name] = int(value or 0)
        else:
            found[name] = 0
            fault = fault or f"request_counts.{name} is {_shown(value)}"
    return found, fault


def read_time(value: object) -> float:
    """Return a time in seconds since the epoch, 0 where it is none."""
    usable = type(value) in (int, float) and 0 <= value <= 10**12  # type: ignore[operator]
    return float(value) if usable else 0.0  # type: ignore[arg-type]


def as_list(value: object) -> Sequence[Any]:
    """Return a list from the provider; an empty one where it is something else."""
    return value if isinstance(value, list) else ()


def _shown(value: object) -> str:
    """Return a value from the provider in a few characters."""
    if type(value) is int and abs(value) > MOST_COUNTED:
        return "a number beyond all bounds"
    return repr(value)[:40]


def path_segment(identifier: object) -> str:
    """Return an identifier from the provider as one segment of a path.

    Raises:
        EndpointError: the identifier could lead to another path.
    """
    if not is_identifier(identifier):
        raise EndpointError(f"the endpoint names a batch or file {str(identifier)[:80]!r}, which is no identifier.")
    return quote(str(identifier), safe=":")


def is_identifier(text: object) -> bool:
    """Return whether the text can be one segment of a path."""
    return isinstance(text, str) and bool(IDENTIFIER.fullmatch(text) and text.strip("."))
