"""The few HTTP calls of batches: no retry, no redirect (the key stays where it belongs), results line by line.

httpx of our own instead of litellm's functions for batches, which open a client a call and never close it, read
whole result files into memory (Azure's always), fetch every finished batch's results a second time in the background
to reckon its cost, and cannot create Anthropic's batches at all.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from explaineval.client.failures import NO_HOST, Advice, chain, classify
from explaineval.errors import EndpointError, ExplainevalError, TransientError
from explaineval.secrets import SECRETS

TOO_MANY = 429
NOT_FOUND = (404, 405, 501)
IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,300}")
MOST_OF_ERROR = 65_536
"""Bytes of an error's body that are looked at."""


class _RefusedError(Exception):
    """An answer with a status for an error, in the form that `classify` reads."""

    def __init__(self, response: httpx.Response, message: str) -> None:
        super().__init__(message)
        self.response = response


class Wire:
    """Calls to one endpoint. `where` names it in messages."""

    def __init__(self, where: str, timeout: float) -> None:
        self._where = where
        self._http = httpx.AsyncClient(timeout=timeout)  # follows no redirect
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
        """The lines of the file at an address, as they come. Raises TransientError also where it breaks off."""
        rest = b""
        try:
            async with self._http.stream("GET", url, headers=self.headers) as response:
                await self._check(response)
                async for chunk in response.aiter_bytes():
                    *whole, rest = (rest + chunk).split(b"\n")  # never at what else Unicode calls a line's end
                    for line in whole:
                        yield line
        except (httpx.HTTPError, _RefusedError) as exc:
            raise self._classified(exc) from exc
        yield rest

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _ask(self, method: str, url: httpx.URL, **content: Any) -> dict[str, Any]:
        headers = {**self.headers, **content.pop("headers", {})}
        try:
            response = await self._http.request(method, url, headers=headers, **content)
            await self._check(response)
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
        if response.is_redirect:
            raise EndpointError(
                f"{self._where}: the address of its batches leads elsewhere, where the key is not sent; give the right "
                "one by --base-url."
            )
        if not response.is_success:
            text = b""
            async for chunk in response.aiter_bytes():
                text += chunk
                if len(text) > MOST_OF_ERROR:
                    break
            raise _RefusedError(response, _message(response, text))

    def _classified(self, exc: Exception) -> ExplainevalError:
        if any(type(link).__name__ in NO_HOST for link in chain(exc)):  # the network is away: batches can wait for it
            return TransientError(f"{self._where}: the host name cannot be resolved", refused=True)
        return classify(exc, where=self._where, advice=self.advice)


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
