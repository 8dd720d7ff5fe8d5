"""The transport that sends requests itself, to servers in OpenAI's protocol: one HTTP call each, without retries.

It sends what litellm would send there, and reads what comes back in the same way, at a small part of its CPU time:
litellm is never imported. Connections are aiohttp's, below httpx's requests and responses, since httpx's own pool takes
six times as long.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Mapping
from functools import partial
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from explaineval._version import __version__
from explaineval.client.endpoints.api_keys import advice_on, key_of, without_secrets
from explaineval.client.endpoints.bodies import bounds_of
from explaineval.client.endpoints.guard import Attempt, Wire, allow, watch_clients
from explaineval.client.endpoints.openai_routes import PATHS, ROUTES, check_route, refused_params
from explaineval.client.endpoints.origins import Origin, declared_origins
from explaineval.client.endpoints.token_limits import NAME, LimitNames
from explaineval.client.errors import classify, message_of
from explaineval.client.openai_answers import read_answer
from explaineval.client.responses import read_body
from explaineval.config import Endpoint, check_params
from explaineval.config.params import EXTRA_BODY
from explaineval.errors import ExplainevalError, OversizedError, RequestRejectedError, TransientError
from explaineval.records import Completion, Request, Style
from explaineval.secrets import SECRETS

HEADERS = {
    "accept": "application/json",
    "content-type": "application/json",
    "user-agent": f"explaineval/{__version__}",
}


class StatusError(Exception):
    """A response whose status is an error; `response` has the status and the headers, the text quotes the body."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(_words_of(response))
        self.response = response


class DirectClient(LimitNames):
    """Sends each request exactly once.

    Args:
        endpoints: where each endpoint is reached, by its identity in requests.
        timeout: seconds that one attempt may take.
    """

    def __init__(self, endpoints: Mapping[str | None, Endpoint], *, timeout: float) -> None:
        super().__init__()
        self._endpoints = endpoints
        self._timeout = timeout
        SECRETS.learn(os.environ)
        watch_clients(AiohttpTransport, httpx.AsyncHTTPTransport, httpx.HTTPTransport)
        self.wire = Wire(_open_pool)
        self._urls: dict[tuple[str | None, Style], httpx.URL] = {}
        self._origins: dict[str | None, tuple[Origin, ...]] = {}

    async def complete(self, request: Request) -> Completion:
        """Make one attempt.

        Raises:
            ExplainevalError: the attempt failed; `classify` says which error stands for what.
        """
        endpoint = self._endpoints[request.endpoint]
        where = f"{request.model} at {endpoint.identity}"
        check_route(request.model, endpoint)
        _check(request, where)
        key = key_of(endpoint, request.model)
        try:
            async with asyncio.timeout(self._timeout):
                return await self.send_by_name(request, partial(self._send, request, endpoint, key, where))
        except TimeoutError as exc:
            raise classify(exc, where=where) from exc

    async def close(self) -> None:
        """Close all connections. Call it before the event loop ends."""
        await self.wire.aclose()

    async def _send(self, request: Request, endpoint: Endpoint, key: str | None, where: str) -> Completion:
        attempt = Attempt(
            where,
            self._origins_of(request, endpoint),
            self.wire,
            bounds_of(request.max_tokens, request.logprobs or 0),
            moved_by_user=True,
            key=key,
            lean=False,  # nothing is built from what is not used, so removing it costs more
            keeps_document=True,
        )
        try:
            with allow(attempt):
                response = await self._post(self._build(request, endpoint, key), attempt)
            if not response.is_success:
                raise StatusError(response)
            return without_secrets(self._read(attempt, request, response))
        except Exception as exc:
            if isinstance(attempt.error, OversizedError):
                return Completion(text=None, fault="oversized")
            if isinstance(exc, ExplainevalError):
                raise
            advice = partial(advice_on, endpoint, request.model)
            raise classify(_cause(exc), where=where, advice=advice) from exc

    async def _post(self, message: httpx.Request, attempt: Attempt) -> httpx.Response:
        """Send a request through the guard, and return the response, whole and within its bounds."""
        return await self.wire.send(message, attempt)

    def _origins_of(self, request: Request, endpoint: Endpoint) -> tuple[Origin, ...]:
        if request.endpoint not in self._origins:
            self._origins[request.endpoint] = declared_origins(endpoint, request.model)
        return self._origins[request.endpoint]

    def _build(self, request: Request, endpoint: Endpoint, key: str | None) -> httpx.Request:
        body = body_of(request, self.limit_name(request))
        place = request.endpoint, request.style
        url = self._urls.get(place)
        if url is None:
            url = self._urls[place] = httpx.URL(f"{endpoint.base_url}{PATHS[request.style]}")
        return httpx.Request("POST", url, headers={**HEADERS, "authorization": f"Bearer {key}"}, content=body)

    def _read(self, attempt: Attempt, request: Request, response: httpx.Response) -> Completion:
        """Return the completion, from what the guard has parsed already."""
        if isinstance(attempt.document, Mapping):
            return read_answer(attempt.document, request.style, attempt.bounds.most_bytes)
        completion = read_body(attempt.body, request.style, attempt.bounds.most_bytes)
        if completion is None:
            said = message_of(ValueError(response.text))
            raise TransientError(f"{attempt.where}: the endpoint answered 200 with what is no answer: {said}")
        return completion


def body_of(request: Request, limit_name: str = NAME) -> bytes:
    """Return the body of a request as JSON, in which the limit of tokens has this name."""
    chat = request.style == "chat"
    extra = request.params.get(EXTRA_BODY)
    body: dict[str, Any] = {"model": request.model.partition("/")[2]}
    if chat:
        body["messages"] = [{"role": message.role, "content": message.content} for message in request.messages or ()]
    else:
        body["prompt"] = request.prompt
    body[limit_name] = request.max_tokens
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.stop:
        body["stop"] = list(request.stop)
    if request.logprobs is not None:
        body |= {"logprobs": True, "top_logprobs": request.logprobs} if chat else {"logprobs": request.logprobs}
    body |= {name: value for name, value in request.params.items() if name != EXTRA_BODY}
    return json.dumps(body | extra if isinstance(extra, dict) else body, allow_nan=False).encode()


def _check(request: Request, where: str) -> None:
    """Raise RequestRejectedError where the route has no such style, or the parameters may not be sent."""
    route, _, name = request.model.partition("/")
    if request.style not in ROUTES[route]:
        raise RequestRejectedError(
            f"{where}: the route {route}/ has no requests in style {request.style}; ask the same server as "
            f"openai/{name}",
            sent=False,
        )
    if not request.params:
        return
    error = check_params(request.params, request.model)  # the request may be from a foreign pack or file
    if error is not None:
        raise RequestRejectedError(f"{request.model}: {error}", sent=False)
    refused = refused_params(request.style, request.params)
    if refused:
        raise RequestRejectedError(
            f"{where}: the route does not take a parameter: {', '.join(refused)}; where the endpoint takes it all the "
            "same, give it inside extra_body",
            sent=False,
        )


def _words_of(response: httpx.Response) -> str:
    """Return what an error response says, in the form in which `classify` reads it."""
    try:
        said = response.json()
    except (ValueError, RecursionError):
        said = response.text
    return f"Error code: {response.status_code} - {said}" if isinstance(said, dict) else str(said)


def _cause(exc: Exception) -> BaseException:
    """Return what really happened: httpx-aiohttp calls every lost connection a time-out."""
    cause = exc.__cause__
    if not isinstance(exc, httpx.TimeoutException) or not isinstance(cause, aiohttp.ClientConnectionError):
        return exc
    if isinstance(cause, TimeoutError):
        return exc
    lost = httpx.ReadError(str(cause))
    lost.__cause__ = cause
    return lost


def _open_pool(context: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    return AiohttpTransport(verify=context, client=partial(_open_session, context))


def _open_session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    """Open a session without a limit of connections (the layers above have one), cookies, or proxies of its own."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=0), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )
