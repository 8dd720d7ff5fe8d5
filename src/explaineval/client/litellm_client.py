"""The transport that sends requests through litellm: one call each, without retries, and nothing printed or fetched.

Importing litellm takes seconds, and without the settings below it reads prices from the network and a nearby .env. So
it is imported at the first request, in a thread, after these are set.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import httpx

from explaineval.client.endpoints.bodies import bounds_of
from explaineval.client.endpoints.guard import Attempt, GuardedTransport, Wire, allow, watch_clients
from explaineval.client.endpoints.routes import LimitNames, advice_on, declared_origins, key_of, without_secrets
from explaineval.client.errors import chain, classify, wire_status
from explaineval.client.responses import add_reasoning, read_body, read_response
from explaineval.config import Endpoint, check_params
from explaineval.errors import (
    EndpointError,
    ExplainevalError,
    InputError,
    OversizedError,
    RequestRejectedError,
    TransientError,
)
from explaineval.records import Completion, Request
from explaineval.secrets import SECRETS

PREPARING = 30.0
"""Seconds that litellm may take before it sends anything: its first call in a process imports much."""

LOGGERS = ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy")

_loaded: ModuleType | None = None


def load_litellm() -> ModuleType:
    """Import litellm, once, and return it with its network access and its printing switched off."""
    global _loaded
    if _loaded is None:
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
        os.environ["LITELLM_MODE"] = "PRODUCTION"
        os.environ["LITELLM_RUST"] = "False"  # its native clients would send past the guard
        import litellm
        from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport
        from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

        watch_clients(LiteLLMAiohttpTransport, httpx.AsyncHTTPTransport, httpx.HTTPTransport)
        litellm.disable_aiohttp_trust_env = True  # which proxy is used, the guard decides
        AsyncHTTPHandler.single_connection_post_request = _fail_at_once  # type: ignore[method-assign]
        litellm.suppress_debug_info = True
        litellm.drop_params = False
        litellm.telemetry = False
        # pydantic, inside litellm, would print what an endpoint sent in a wrong type
        warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)
        for name in LOGGERS:
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.addHandler(logging.NullHandler())
            logger.propagate = False
        _loaded = litellm
    return _loaded


async def _fail_at_once(*_: Any, **__: Any) -> None:
    """Replace litellm's own second attempt after a reset: what was sent may have been paid for already."""
    raise  # the exception that litellm is handling


@dataclass
class Clock:
    """The time limit of one attempt, which begins when its first byte is about to be sent."""

    limit: asyncio.Timeout
    seconds: float
    started: bool = False

    def start(self) -> None:
        """Start the time limit, unless it runs already."""
        if not self.started:
            self.started = True
            with suppress(RuntimeError):  # sent from a thread, or the limit has passed
                self.limit.reschedule(asyncio.get_running_loop().time() + self.seconds)


class LiteLLMClient(LimitNames):
    """Sends each request exactly once.

    Args:
        endpoints: where each endpoint is reached, by its identity in requests.
        timeout: seconds that one attempt may take.
    """

    lean = True
    """Whether litellm gets answers without what is never used of them."""

    def __init__(self, endpoints: dict[str | None, Endpoint], *, timeout: float) -> None:
        super().__init__()
        self._endpoints = endpoints
        self._timeout = timeout
        SECRETS.learn(os.environ)  # litellm looks for a provider's own key there by itself
        self._litellm: ModuleType | None = None
        self._session: httpx.AsyncClient | None = None
        self.wire = Wire(_direct_transport)

    async def complete(self, request: Request) -> Completion:
        """Make one attempt.

        Raises:
            ExplainevalError: the attempt failed; `classify` says which error stands for what.
        """
        endpoint = self._endpoints[request.endpoint]
        error = check_params(request.params, request.model) if request.params else None
        if error is not None:  # the request is from a foreign pack or file
            raise RequestRejectedError(f"{request.model}: {error}", sent=False)
        key = key_of(endpoint, request.model)
        await self._ready()  # the import is no part of an attempt
        try:
            async with asyncio.timeout(self._timeout + PREPARING) as limit:
                send = partial(self._send, request, endpoint, key, Clock(limit, self._timeout))
                return await self.send_by_name(request, send)
        except TimeoutError as exc:
            raise classify(exc, where=_where(request, endpoint)) from exc

    async def _send(self, request: Request, endpoint: Endpoint, key: str | None, clock: Clock) -> Completion:
        litellm = await self._ready()
        attempt = Attempt(
            _where(request, endpoint),
            declared_origins(endpoint, request.model),
            self.wire,
            bounds_of(request.max_tokens, request.logprobs or 0),
            moved_by_user=endpoint.base_url is not None,
            key=key,
            lean=self.lean,
            on_first_send=clock.start,
        )
        try:
            with allow(attempt):
                if request.style == "chat":
                    raw = await litellm.acompletion(**self._arguments(request, endpoint, key))
                else:
                    raw = await litellm.atext_completion(**self._arguments(request, endpoint, key))
            if not attempt.sent:
                raise EndpointError(
                    f"{attempt.where}: litellm answered without sending anything that explaineval saw; the answer is "
                    "not used."
                )
            completion = read_response(raw.model_dump(warnings=False), request.style, attempt.bounds.most_bytes)
            if request.style == "completion":
                completion = add_reasoning(completion, attempt.body, attempt.bounds.most_bytes)
            return without_secrets(completion)
        except Exception as exc:  # whatever litellm raises is classified here
            if isinstance(attempt.error, OversizedError):
                return Completion(text=None, fault="oversized")
            if attempt.error is not None and not _is_side_request(attempt, exc):  # whatever litellm made of it
                raise attempt.error from exc
            completion_in_body = _read_body(attempt, exc, request)
            if completion_in_body is not None:
                return without_secrets(completion_in_body)
            if isinstance(exc, ExplainevalError):
                raise
            advice = partial(advice_on, endpoint, request.model)
            raise classify(exc, where=attempt.where, advice=advice) from exc

    async def close(self) -> None:
        """Close all connections, litellm's too. Call it before the event loop ends."""
        if self._litellm is not None:
            self._litellm.__dict__["aclient_session"] = None
            await self._litellm.close_litellm_async_clients()
            self._litellm.in_memory_llm_clients_cache.flush_cache()  # or the next run of this process gets closed ones
        if self._session is not None:
            await self._session.aclose()
        await self.wire.aclose()

    async def _ready(self) -> ModuleType:
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(load_litellm)
            if self._session is None:
                self._session = _session()
                # One pool for every OpenAI-shaped call: litellm would open a client a text completion and leak it.
                self._litellm.__dict__["aclient_session"] = self._session
        return self._litellm

    def _arguments(self, request: Request, endpoint: Endpoint, key: str | None) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": request.model,
            "timeout": self._timeout,
            "num_retries": 0,
            "max_retries": 0,
            **request.params,
        }
        arguments[self.limit_name(request)] = request.max_tokens
        if request.style == "chat":
            arguments["messages"] = [m.model_dump() for m in request.messages or ()]
        else:
            arguments["prompt"] = request.prompt
        if request.temperature is not None:
            arguments["temperature"] = request.temperature
        if request.stop:
            arguments["stop"] = list(request.stop)
        if request.logprobs is not None and request.style == "chat":
            arguments |= {"logprobs": True, "top_logprobs": request.logprobs}
        elif request.logprobs is not None:
            arguments["logprobs"] = request.logprobs
        if endpoint.base_url is not None:
            arguments["api_base"] = endpoint.base_url
        if key is not None:
            arguments["api_key"] = key
        return arguments


def _where(request: Request, endpoint: Endpoint) -> str:
    return f"{request.model} at {endpoint.identity}" if endpoint.identity else request.model


def _read_body(attempt: Attempt, exc: Exception, request: Request) -> Completion | None:
    """Return the answer in the body, which was paid for, where litellm could not read it; None without an answer."""
    if wire_status(exc) or (isinstance(exc, ExplainevalError) and not isinstance(exc, TransientError)):
        return None
    return read_body(attempt.body, request.style, attempt.bounds.most_bytes)


def _is_side_request(attempt: Attempt, exc: BaseException) -> bool:
    """Return whether the guard refused only a request that litellm made besides, and this one failed by itself."""
    links = list(chain(exc))
    if attempt.error in links or not isinstance(attempt.error, InputError):
        return False
    answered = attempt.sent > 0 and wire_status(exc) is not None
    return answered or any(type(link).__name__ == "UnsupportedParamsError" for link in links)


def _session() -> httpx.AsyncClient:
    """Return the HTTP client of every OpenAI-shaped call; it sends through the guard."""
    return httpx.AsyncClient(transport=GuardedTransport(), trust_env=False)


def _direct_transport(context: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    """Return litellm's aiohttp transport, which takes a sixth of the CPU time of httpx's own."""
    from aiohttp import ClientSession, DummyCookieJar, TCPConnector
    from litellm.llms.custom_httpx.aiohttp_transport import LiteLLMAiohttpTransport

    transport: httpx.AsyncBaseTransport = LiteLLMAiohttpTransport(
        client=lambda: ClientSession(
            connector=TCPConnector(ssl=context, limit=0), cookie_jar=DummyCookieJar(), trust_env=False
        ),
        ssl_verify=context,
    )
    return transport
