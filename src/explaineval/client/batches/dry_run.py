"""The ordinary route over a wire that ends in this process: what it would send, and what it makes of an answer.

A batch must ask what a plain run asks, or one key would stand for two different requests. litellm renames, adds and
refuses parameters by provider and model, so nothing of that is written down here a second time: each request runs
through the ordinary client, whose wire keeps the body instead of sending it; each result runs through it again, over
a wire that answers with it. No key goes in (a dummy stands for it), nothing goes out.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import httpx

from explaineval.client.endpoints import guard
from explaineval.client.litellm_client import LiteLLMClient, load_litellm
from explaineval.config import Endpoint
from explaineval.records import Completion, Message, Request

DUMMY = "explaineval-rehearses"
"""Stands for the key, and marks where it belongs in the headers."""

HEADERS = (
    "authorization", "api-key", "x-api-key", "openai-organization", "openai-project", "anthropic-version",
    "anthropic-beta",
)  # fmt: skip
"""What a provider wants to see with every call; the rest is about the single message."""

REPLIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/chat/completions", {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "."}}]}),
    ("/completions", {"choices": [{"index": 0, "finish_reason": "stop", "text": "."}]}),
    ("/messages", {"content": [{"type": "text", "text": "."}], "stop_reason": "end_turn"}),
)  # fmt: skip
"""By the end of the path: enough of an answer for the rehearsal to end well."""

FRAME = {
    "id": "rehearsal",
    "model": "rehearsal",
    "created": 0,
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "input_tokens": 1, "output_tokens": 1},
}


@dataclass(frozen=True)
class Sent:
    """What the ordinary route would send: the address, its lasting headers (DUMMY for the key), the body as JSON."""

    url: httpx.URL
    headers: Mapping[str, str]
    body: bytes


class _DeadEnd(httpx.AsyncBaseTransport):
    """Keeps what it is given; answers with `answer`, or with something that will do."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] | None = None
        self.sent: Sent | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        attempt = guard.current()
        if attempt is None:
            raise RuntimeError("a request without an attempt: nobody declared where it may go")
        attempt.check(request.url)
        body = await request.aread()
        headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
        self.sent = Sent(request.url, headers, body)
        status, content = self.answer or (200, _reply(request.url.path))
        attempt.check_answer(content)
        return httpx.Response(status, content=content, headers={"content-type": "application/json"}, request=request)


class Rehearsal(LiteLLMClient):
    """The ordinary client of one model without a network.

    `renamed` holds the (endpoint, model) pairs that take their token limit by its newer name only; shared with the
    ordinary client, it spares a batch that is refused for the older one.
    """

    def __init__(
        self, endpoint: Endpoint, model: str, *, timeout: float, renamed: set[tuple[str | None, str]] | None = None
    ) -> None:
        super().__init__({endpoint.identity: endpoint}, timeout=timeout)
        if renamed is not None:
            self.renamed = renamed
        self._endpoint, self._model = endpoint, model
        self._end = _DeadEnd()
        self._http = httpx.AsyncClient(transport=self._end)
        self._turn = asyncio.Lock()
        self._stage: Any = None

    async def send(self, request: Request) -> Sent:
        """What the ordinary client would put on the wire. Raises RequestRejectedError where the route refuses it."""
        return (await self._perform(request, None))[1]

    async def receive(self, request: Request, status: int, body: Mapping[str, Any]) -> Completion:
        """The completion in an answer; raises what the ordinary client raises for one with this status and body."""
        return (await self._perform(request, (status, json.dumps(body).encode())))[0]

    async def address(self) -> Sent:
        """Where the ordinary client sends a chat request of this model, and with which headers."""
        hello = (Message(role="user", content="Hello."),)
        return await self.send(
            Request(endpoint=self._endpoint.identity, model=self._model, style="chat", messages=hello, max_tokens=16)
        )

    async def close(self) -> None:
        """Nothing was opened; litellm's own connections are the ordinary client's to close."""
        await self._http.aclose()

    async def _perform(self, request: Request, answer: tuple[int, bytes] | None) -> tuple[Completion, Sent]:
        async with self._turn:
            self._end.answer = answer
            task = asyncio.ensure_future(self.complete(request))
            try:
                completion = await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])  # milliseconds; cut off in its middle, litellm leaves a coroutine behind
                raise
            assert self._end.sent is not None  # noqa: S101 - the call ended well, so it went through the dead end
            return completion, self._end.sent

    async def _ready(self) -> ModuleType:
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(load_litellm)
            self._stage = self._set_up(self._litellm)
        return self._litellm

    def _arguments(self, request: Request, endpoint: Endpoint, key: str | None) -> dict[str, Any]:
        return {**super()._arguments(request, endpoint, key), "api_key": DUMMY, "client": self._stage}

    def _set_up(self, litellm: ModuleType) -> Any:
        """The provider's own client as litellm would build it, with our wire."""
        provider, base = self._model.partition("/")[0], self._endpoint.base_url
        if provider == "anthropic":
            from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

            return AsyncHTTPHandler(transport=self._end)
        from openai import AsyncAzureOpenAI, AsyncOpenAI

        shared: dict[str, Any] = {"api_key": DUMMY, "http_client": self._http, "max_retries": 0}
        if provider != "azure":
            return AsyncOpenAI(base_url=base, organization=os.environ.get("OPENAI_ORGANIZATION"), **shared)
        from litellm.llms.azure.common_utils import BaseAzureLLM, select_azure_base_url_or_endpoint

        version = os.environ.get("AZURE_API_VERSION", litellm.AZURE_DEFAULT_API_VERSION)
        if BaseAzureLLM._is_azure_v1_api_version(version):
            return AsyncOpenAI(base_url=f"{base}/openai/v1/", **shared)
        where = select_azure_base_url_or_endpoint({"azure_endpoint": base, "api_version": version})
        return AsyncAzureOpenAI(**where, **shared)


def _reply(path: str) -> bytes:
    found = next((reply for end, reply in REPLIES if path.endswith(end)), {})
    return json.dumps({**FRAME, **found}).encode()
