"""The transport that sends requests itself, to servers in OpenAI's protocol: one HTTP call each, without retries.

It sends what litellm would send there, and reads what comes back in the same way, at a small part of its CPU time:
litellm is never imported. Connections are aiohttp's, below httpx's requests and responses, since httpx's own pool takes
six times as long.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from collections.abc import Mapping
from functools import partial
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from explaineval._version import __version__
from explaineval.client.endpoints.bodies import MOST_BYTES, bounds_of
from explaineval.client.endpoints.guard import Attempt, Wire, allow, watch_clients
from explaineval.client.endpoints.routes import (
    NAME,
    PATHS,
    ROUTES,
    LimitNames,
    Origin,
    advice_on,
    check_route,
    declared_origins,
    key_of,
    refused_params,
    without_secrets,
)
from explaineval.client.errors import classify, message_of
from explaineval.client.responses import read_body, read_document
from explaineval.config import Endpoint, check_params
from explaineval.config.params import EXTRA_BODY
from explaineval.errors import ExplainevalError, OversizedError, RequestRejectedError, TransientError
from explaineval.records import Completion, Request, Style
from explaineval.secrets import SECRETS

FINISH_REASONS: Mapping[str, str] = {
    **dict.fromkeys(("length", "max_tokens", "MAX_TOKENS", "compaction"), "length"),
    **dict.fromkeys(("tool_calls", "tool_use"), "tool_calls"),
    "function_call": "function_call",
    **dict.fromkeys(("content_filter", "content_filtered", "refusal", "sensitive"), "content_filter"),
    **dict.fromkeys(("guardrail_intervened", "ERROR_TOXIC", "SAFETY", "RECITATION", "LANGUAGE"), "content_filter"),
    **dict.fromkeys(("OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION"), "content_filter"),
    **dict.fromkeys(("NO_IMAGE", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT"), "content_filter"),
    **dict.fromkeys(("IMAGE_RECITATION", "IMAGE_OTHER"), "content_filter"),
}
"""What litellm makes of the finish reasons of providers; of every other it makes "stop"."""

COUNTS = ("completion_tokens", "prompt_tokens", "total_tokens")
DETAILS = ("completion_tokens_details", "prompt_tokens_details")
THINKING = re.compile(r"<(?:think|thinking|budget:thinking)>(.*?)</(?:think|thinking|budget:thinking)>(.*)", re.DOTALL)


class ErrorObjectError(Exception):
    """A body with status 200 that holds an error; `status_code` is the code in it, where it has one."""

    def __init__(self, message: str, status_code: object) -> None:
        super().__init__(message)
        self.status_code = status_code


def read_answer(document: Mapping[str, Any], style: Style, most: int = MOST_BYTES) -> Completion:
    """Return the completion in a parsed response body, of at most `most` bytes of text.

    Raises:
        ErrorObjectError: a chat body holds an error instead of an answer.
        TransientError: the body holds no answer at all.
    """
    if style == "chat":
        _check_error(document.get("error"))
    choices = document.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        first = _chat_choice(choices[0]) if style == "chat" else _text_choice(choices[0])
        document = {**document, "choices": [first], "usage": _usage(document.get("usage"))}
    return read_document(document, style, most)


def _check_error(error: object) -> None:
    """Raise ErrorObjectError for an error that says something; some servers send an empty one with every answer."""
    if isinstance(error, Mapping):
        message, code = error.get("message"), error.get("code")
        if message or code is not None:
            raise ErrorObjectError(str(message or "Error in response object"), code if "code" in error else 422)
    elif error:
        raise ErrorObjectError(f"Error in response object: {error}"[:200], 422)


def _text_choice(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    reason = choice.get("finish_reason")
    if not isinstance(reason, str | int | float):
        return choice
    return {**choice, "finish_reason": FINISH_REASONS.get(str(reason), "stop") if reason else None}


def _chat_choice(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return choice
    reason = choice.get("finish_reason")
    reason = choice.get("finish_details") or "stop" if reason is None else reason
    if not isinstance(reason, str | int | float):
        return choice
    name = FINISH_REASONS.get(str(reason), "stop")
    if reason == "stop" and _calls_tools(message.get("tool_calls")):
        name = "tool_calls"
    fields = {"native_finish_reason": choice.get("native_finish_reason") if name == reason else reason}
    return {**choice, "finish_reason": name, "provider_specific_fields": fields, "message": _message(message)}


def _calls_tools(calls: object) -> bool:
    return isinstance(calls, list) and bool(calls) and all(isinstance(call, Mapping) for call in calls)


def _message(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a chat message with the thinking at the head of its text as reasoning, unless it has some already."""
    text = message.get("content")
    if not isinstance(text, str) or "reasoning_content" in message or "reasoning" in message:
        return message
    found = THINKING.match(text)
    return message if found is None else {**message, "reasoning_content": found[1], "content": found[2]}


def _usage(usage: object) -> object:
    """Return the counts of tokens with all three sums, and with what providers count under names of their own."""
    if not usage:
        return dict.fromkeys(COUNTS, 0)
    if not isinstance(usage, Mapping):
        return usage
    sums = {name: usage.get(name) or 0 for name in COUNTS}
    if not all(isinstance(count, int) for count in sums.values()):
        return usage
    sums = {name: int(count) for name, count in sums.items()}  # a truth value is one, too
    if len(usage) == len(COUNTS) and all(name in usage for name in COUNTS):
        return sums
    details = {name: dict(usage[name]) for name in DETAILS if isinstance(usage.get(name), Mapping) and usage[name]}
    rest = {name: value for name, value in usage.items() if name not in COUNTS and name not in DETAILS}
    reasoning = rest.pop("reasoning_tokens", None)
    if isinstance(reasoning, int) and reasoning:
        of_output = details.setdefault(DETAILS[0], {})
        if of_output.get("reasoning_tokens") is None:
            of_output["reasoning_tokens"] = reasoning
        if of_output.get("text_tokens") is None:
            others = (of_output.get("image_tokens") or 0) + (of_output.get("audio_tokens") or 0)
            of_output["text_tokens"] = max(0, sums["completion_tokens"] - reasoning - others)
    for name, own in (("cached_tokens", "prompt_cache_hit_tokens"), ("cached_tokens", "cache_read_input_tokens")):
        if isinstance(rest.get(own), int):
            details.setdefault(DETAILS[1], {})[name] = rest[own]
    if isinstance(rest.get("cache_creation_input_tokens"), int):
        written = rest["cache_creation_input_tokens"]
        details.setdefault(DETAILS[1], {}).update(cache_write_tokens=written, cache_creation_tokens=written)
    return {**sums, **details, **rest}


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
        self.wire: Wire = Wire(open_pool)
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
                response = await self.wire.send(self._build(request, endpoint, key), attempt)
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


def open_pool(context: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    return AiohttpTransport(verify=context, client=partial(_open_session, context))


def _open_session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    """Open a session without a limit of connections (the layers above have one), cookies, or proxies of its own."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=0), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )
