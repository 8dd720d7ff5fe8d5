"""The few HTTP calls of batches: no retry, no redirect (the key stays where it belongs), results line by line.

httpx of our own instead of litellm's functions for batches, which open a client a call and never close it, read
whole result files into memory (Azure's always), fetch every finished batch's results a second time in the background
to reckon its cost, and cannot create Anthropic's batches at all.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from explaineval.client.endpoints import guard
from explaineval.client.endpoints.bodies import MOST_BYTES
from explaineval.client.endpoints.origins import declared_origins
from explaineval.client.failures import NO_HOST, Advice, chain, classify
from explaineval.config import Endpoint
from explaineval.errors import EndpointError, ExplainevalError, OversizedError, RequestRejectedError, TransientError
from explaineval.secrets import SECRETS

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
