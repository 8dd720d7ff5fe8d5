"""The calls about batches of one model at one endpoint, whatever its provider, and what the ordinary client would send.

The calls are made with httpx and not with litellm's functions for batches. Those open a client per call without closing
it, read whole result files into memory, fetch the results of every finished batch a second time in the background to
compute its cost, and cannot create Anthropic's batches. Here nothing is retried, no redirect is followed (so that the
key stays at its address), and results are read line by line.

A batch must ask what a plain run asks, or one cache key would stand for two different requests. litellm renames, adds
and refuses parameters by provider and model, and none of these rules is repeated here. Instead each request goes
through the ordinary client over a wire that keeps the body and sends nothing. Each result goes through it again, over a
wire that responds with this result. A dummy stands for the key.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx

from explaineval.client.batches.journal import BatchJournal, JournalEntry
from explaineval.client.batches.providers import (
    CUT,
    PROVIDERS,
    TOO_LONG,
    BatchItem,
    BatchState,
    Candidate,
    ResultFile,
    ResultLine,
    as_list,
    check_batches,
    is_identifier,
    path_segment,
)
from explaineval.client.endpoints import guard
from explaineval.client.endpoints.bodies import MOST_BYTES
from explaineval.client.endpoints.routes import Renamed, advice_on, declared_origins, key_of
from explaineval.client.errors import NO_HOST, Advice, chain, classify
from explaineval.client.litellm_client import LiteLLMClient
from explaineval.client.protocol import Client
from explaineval.config import Endpoint
from explaineval.errors import (
    EndpointError,
    ExplainevalError,
    OversizedError,
    RequestRejectedError,
    TransientError,
)
from explaineval.records import Completion, Message, Request
from explaineval.secrets import SECRETS

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
LONGEST_REASON = 1_000
"""Characters that are kept of what a line of results says of a request without an answer."""
SLOWEST_UPLOAD = 10_000
"""Bytes per second of an upload that is waited for."""
RENAMED_LIMIT = "max_completion_tokens"
"""A rejection that names this parameter can be retried: the token limit is then written by this name."""
DUMMY_KEY = "explaineval-dry-run"
"""Stands for the key, and marks its place in the headers."""
HEADERS = (
    "authorization", "api-key", "x-api-key", "openai-organization", "openai-project", "anthropic-version",
    "anthropic-beta",
)  # fmt: skip
"""The headers that a provider needs with every call; all others are about the single request."""
ANSWERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/chat/completions", {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "."}}]}),
    ("/completions", {"choices": [{"index": 0, "finish_reason": "stop", "text": "."}]}),
    ("/messages", {"content": [{"type": "text", "text": "."}], "stop_reason": "end_turn"}),
)  # fmt: skip
"""By the end of the path: an answer with which a dry run succeeds."""
COMMON_FIELDS = {
    "id": "dry-run",
    "model": "dry-run",
    "created": 0,
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "input_tokens": 1, "output_tokens": 1},
}
"""Fields of every such answer."""


@dataclass(frozen=True)
class BatchFailure:
    """Why a request has no answer.

    `retryable` means that another batch may bring one, `rejected` that the endpoint refused the request.
    """

    reason: str
    retryable: bool = False
    rejected: bool = False


class BatchClient:
    """Asks one model at one endpoint by batches.

    Every method raises EndpointError where the endpoint is unusable and TransientError where another attempt may help.

    Args:
        endpoint: where the batches are: at the provider's own address, or at the server of the base URL.
        model: as provider/model; its provider is one of PROVIDERS.
        timeout: seconds of one call.
        renamed: the models that take their token limit by its newer name only. Sharing it with the ordinary client
            avoids a batch that is refused because of the older name.

    Raises:
        InputError: there are no batches.
    """

    def __init__(self, endpoint: Endpoint, model: str, *, timeout: float, renamed: Renamed | None = None) -> None:
        check_batches(model, endpoint)
        self.endpoint, self.model = endpoint, model
        self.name = model.partition("/")[0]
        self._api = PROVIDERS[self.name]
        self._dry_run = DryRunClient(endpoint, model, timeout=timeout)
        if renamed is not None:
            self._dry_run.renamed = renamed
        self._http = BatchHTTP(endpoint, model, timeout)
        self._root: httpx.URL | None = None

    async def check(self) -> None:
        """Check with one free call that the endpoint takes batches.

        Raises:
            EndpointError: it takes none, or this cannot be found out now.
        """
        await self._http.check_list(await self._url("batches"))

    async def prepare(self, request: Request, key: str) -> BatchItem:
        """Return the request with the body that the ordinary client would send.

        Raises:
            RequestRejectedError: the ordinary client refuses it.
        """
        sent = await self._dry_run.send(request)
        return BatchItem(key, self._api.item_path(sent.url.path), sent.body)

    async def upload(self, items: Sequence[BatchItem], tag: str) -> str | None:
        """Upload the requests where that is a step of its own, and return the file's id. This costs nothing."""
        content = self._api.upload(items, tag)
        if content is None:
            return None
        uploaded = await self._http.post(await self._url("files"), **content)
        return path_segment(uploaded.get("id"))

    async def submit(self, items: Sequence[BatchItem], tag: str, uploaded: str | None) -> str:
        """Create the batch with one attempt and return its id.

        Raises:
            TransientError: with `unbilled` where certainly no batch was made, without it where that is unknown.
        """
        content = self._api.creation(items, tag, uploaded)
        made = await self._http.post(await self._url("batches"), creates=True, **content)
        if not is_identifier(made.get("id")):
            raise TransientError(f"{self.model}: the endpoint made a batch without a usable id")
        return str(made["id"])

    async def find(self, entry: JournalEntry, taken: frozenset[str]) -> list[Candidate]:
        """Return the batches in the provider's list that may be the one of this entry.

        `taken` holds the ids of batches that belong to other entries.
        """
        candidates: list[Candidate] = []
        query = {"limit": str(PAGE_SIZE)}
        for _ in range(MAX_PAGES):
            page = await self._http.get(await self._url("batches"), query) or {}
            batches = [description for description in as_list(page.get("data")) if isinstance(description, Mapping)]
            matches = (self._api.match(description, entry, taken) for description in batches)
            candidates += [candidate for candidate in matches if candidate is not None]
            if any(candidate.certain for candidate in candidates) or not batches or not page.get("has_more"):
                break
            if max(map(self._api.created, batches)) < entry.created - self._api.clock_skew:
                break
            query[self._api.cursor] = path_segment(batches[-1].get("id"))
        return candidates

    async def status(self, batch: str) -> BatchState:
        """Return how far the batch is."""
        description = await self._http.get(await self._url(f"batches/{batch}"))
        return BatchState("missing") if description is None else self._api.state(description)

    async def results(self, batch: str) -> AsyncGenerator[ResultLine]:
        """Yield the lines of an ended batch, in any order, one at a time."""
        description = await self._http.get(await self._url(f"batches/{batch}")) or {}
        for file in self._api.result_files(batch, description):
            async with aclosing(self._http.lines(await self._address(file))) as lines:
                blank = 0
                async for line in lines:
                    if line.strip():
                        yield self._api.parse_line(line)
                    elif (blank := blank + 1) > SPARE_LINES:
                        raise EndpointError(f"the results of batch {batch} are blank lines without an end.")

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

    async def _url(self, path: str) -> httpx.URL:
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
            self._root = sent.url.copy_with(path=self._api.root_path(sent.url.path))
        return self._root.copy_with(path=f"{self._root.path}/{path}")

    async def _address(self, file: ResultFile) -> httpx.URL:
        """Return where a file of results is: as the provider says, if that is on the host to which the key belongs."""
        url = await self._url(file.path)
        try:
            named = httpx.URL(file.named) if isinstance(file.named, str) else url
        except httpx.InvalidURL:
            return url
        return named if (named.scheme, named.host, named.port) == (url.scheme, url.host, url.port) else url


@dataclass(frozen=True)
class SentRequest:
    """What the ordinary client would send: the address, those of HEADERS that it sets, and the body as JSON."""

    url: httpx.URL
    headers: Mapping[str, str]
    body: bytes


class RecordingWire(guard.Wire):
    """Keeps the latest request as `sent` instead of sending it, and responds with `response` or with one of ANSWERS."""

    def __init__(self) -> None:
        super().__init__()
        self.response: tuple[int, bytes] | None = None
        self.sent: SentRequest | None = None

    async def send(self, request: httpx.Request, attempt: guard.Attempt) -> httpx.Response:
        """Check where the request would go, and respond at once."""
        attempt.check(request.url, request.method)
        headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
        self.sent = SentRequest(request.url, headers, await request.aread())
        status, content = self.response or (200, _answer_to(request.url.path))
        if httpx.codes.is_success(status):
            content, _ = attempt.check_answer(content)
        return httpx.Response(status, content=content, headers={"content-type": "application/json"}, request=request)


class DryRunClient(LiteLLMClient):
    """The ordinary client of one model without a network."""

    wire: RecordingWire

    def __init__(self, endpoint: Endpoint, model: str, *, timeout: float) -> None:
        super().__init__({endpoint.identity: endpoint}, timeout=timeout)
        self.wire = RecordingWire()
        self._endpoint, self._model = endpoint, model
        self._lock = asyncio.Lock()

    async def send(self, request: Request) -> SentRequest:
        """Return what the ordinary client would send.

        Raises:
            RequestRejectedError: the ordinary client refuses the request.
        """
        return (await self._perform(request, None))[1]

    async def receive(self, request: Request, status: int, body: Mapping[str, Any]) -> Completion:
        """Return the completion in a response, or raise what the ordinary client raises for it."""
        return (await self._perform(request, (status, json.dumps(body).encode())))[0]

    async def address(self) -> SentRequest:
        """Return where and with which headers the ordinary client sends a chat request of this model."""
        messages = (Message(role="user", content="Hello."),)
        return await self.send(
            Request(endpoint=self._endpoint.identity, model=self._model, style="chat", messages=messages, max_tokens=16)
        )

    async def _perform(self, request: Request, response: tuple[int, bytes] | None) -> tuple[Completion, SentRequest]:
        async with self._lock:
            self.wire.response = response
            task = asyncio.ensure_future(self.complete(request))
            try:
                completion = await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])  # takes milliseconds; cancelled midway, litellm leaves a coroutine behind
                raise
            assert self.wire.sent is not None  # noqa: S101 - the call succeeded, so it went over the wire
            return completion, self.wire.sent

    def _arguments(self, request: Request, endpoint: Endpoint, key: str | None) -> dict[str, Any]:
        return {**super()._arguments(request, endpoint, key), "api_key": DUMMY_KEY}


def _answer_to(path: str) -> bytes:
    fields = next((answer for end, answer in ANSWERS if path.endswith(end)), {})
    return json.dumps({**COMMON_FIELDS, **fields}).encode()


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


@dataclass
class CheckedClient:
    """Sends nothing before the endpoint has shown that it takes batches, which is checked once for all requests.

    Where `journal` shows that the endpoint took a batch before, nothing is checked.
    """

    inner: Client
    provider: BatchClient
    journal: BatchJournal
    _checked: bool = field(default=False, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def check(self) -> None:
        """Check the endpoint.

        Raises:
            EndpointError: it takes no batches, or this cannot be found out.
        """
        async with self._lock:
            if not self._checked and not self.journal.has_batches():
                await self.provider.check()
            self._checked = True

    async def complete(self, request: Request) -> Completion:
        """Return the inner client's completion, after the check."""
        await self.check()
        return await self.inner.complete(request)
