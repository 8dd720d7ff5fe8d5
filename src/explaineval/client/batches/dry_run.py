"""A client that is the ordinary one without a network: it shows what would be sent, and how a response would be read.

A batch must ask what a plain run asks, or one cache key would stand for two different requests. litellm renames, adds
and refuses parameters by provider and model, and none of these rules is repeated here. Instead each request goes
through the ordinary client with a transport that keeps the body and sends nothing. Each result goes through it again,
with a transport that responds with this result. A dummy stands for the key.
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
from explaineval.client.endpoints.routes import Renamed
from explaineval.client.litellm_client import LiteLLMClient, load_litellm
from explaineval.config import Endpoint
from explaineval.records import Completion, Message, Request

DUMMY_KEY = "explaineval-dry-run"
"""Stands for the key, and marks its place in the headers."""

HEADERS = (
    "authorization", "api-key", "x-api-key", "openai-organization", "openai-project", "anthropic-version",
    "anthropic-beta",
)  # fmt: skip
"""The headers that a provider needs with every call; all others are about the single request."""

RESPONSES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/chat/completions", {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "."}}]}),
    ("/completions", {"choices": [{"index": 0, "finish_reason": "stop", "text": "."}]}),
    ("/messages", {"content": [{"type": "text", "text": "."}], "stop_reason": "end_turn"}),
)  # fmt: skip
"""By the end of the path: a response with which a dry run succeeds."""

COMMON_FIELDS = {
    "id": "dry-run",
    "model": "dry-run",
    "created": 0,
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "input_tokens": 1, "output_tokens": 1},
}
"""Fields of every such response."""


@dataclass(frozen=True)
class SentRequest:
    """What the ordinary client would send: the address, those of HEADERS that it sets, and the body as JSON."""

    url: httpx.URL
    headers: Mapping[str, str]
    body: bytes


class _RecordingTransport(httpx.AsyncBaseTransport):
    """Keeps the latest request as `sent`, and responds with `response` or with one of RESPONSES."""

    def __init__(self) -> None:
        self.response: tuple[int, bytes] | None = None
        self.sent: SentRequest | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        attempt = guard.current()
        if attempt is None:
            raise RuntimeError("a request without an attempt: nobody declared where it may go")
        attempt.check(request.url)
        body = await request.aread()
        headers = {name: request.headers[name] for name in HEADERS if name in request.headers}
        self.sent = SentRequest(request.url, headers, body)
        status, content = self.response or (200, _response_for(request.url.path))
        attempt.check_answer(content)
        return httpx.Response(status, content=content, headers={"content-type": "application/json"}, request=request)


class DryRunClient(LiteLLMClient):
    """The ordinary client of one model without a network.

    `renamed` holds the (endpoint, model) pairs that take their token limit by its newer name only. Sharing it with the
    ordinary client avoids a batch that is refused because of the older name.
    """

    def __init__(self, endpoint: Endpoint, model: str, *, timeout: float, renamed: Renamed | None = None) -> None:
        super().__init__({endpoint.identity: endpoint}, timeout=timeout)
        if renamed is not None:
            self.renamed = renamed
        self._endpoint, self._model = endpoint, model
        self._transport = _RecordingTransport()
        self._http = httpx.AsyncClient(transport=self._transport)
        self._lock = asyncio.Lock()
        self._provider_client: Any = None

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

    async def close(self) -> None:
        """Close the client. litellm's own connections belong to the ordinary client."""
        await self._http.aclose()

    async def _perform(self, request: Request, response: tuple[int, bytes] | None) -> tuple[Completion, SentRequest]:
        async with self._lock:
            self._transport.response = response
            task = asyncio.ensure_future(self.complete(request))
            try:
                completion = await asyncio.shield(task)
            except asyncio.CancelledError:
                await asyncio.wait([task])  # takes milliseconds; cancelled midway, litellm leaves a coroutine behind
                raise
            assert self._transport.sent is not None  # noqa: S101 - the call succeeded, so it went through the transport
            return completion, self._transport.sent

    async def _ready(self) -> ModuleType:
        if self._litellm is None:
            self._litellm = await asyncio.to_thread(load_litellm)
            self._provider_client = self._build_provider_client(self._litellm)
        return self._litellm

    def _arguments(self, request: Request, endpoint: Endpoint, key: str | None) -> dict[str, Any]:
        return {**super()._arguments(request, endpoint, key), "api_key": DUMMY_KEY, "client": self._provider_client}

    def _build_provider_client(self, litellm: ModuleType) -> Any:
        """Build the provider's own client as litellm would, with the recording transport."""
        provider, base = self._model.partition("/")[0], self._endpoint.base_url
        if provider == "anthropic":
            from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

            return AsyncHTTPHandler(transport=self._transport)
        from openai import AsyncAzureOpenAI, AsyncOpenAI

        shared: dict[str, Any] = {"api_key": DUMMY_KEY, "http_client": self._http, "max_retries": 0}
        if provider != "azure":
            return AsyncOpenAI(base_url=base, organization=os.environ.get("OPENAI_ORGANIZATION"), **shared)
        from litellm.llms.azure.common_utils import BaseAzureLLM, select_azure_base_url_or_endpoint

        version = os.environ.get("AZURE_API_VERSION", litellm.AZURE_DEFAULT_API_VERSION)
        if BaseAzureLLM._is_azure_v1_api_version(version):
            return AsyncOpenAI(base_url=f"{base}/openai/v1/", **shared)
        where = select_azure_base_url_or_endpoint({"azure_endpoint": base, "api_version": version})
        return AsyncAzureOpenAI(**where, **shared)


def _response_for(path: str) -> bytes:
    fields = next((response for end, response in RESPONSES if path.endswith(end)), {})
    return json.dumps({**COMMON_FIELDS, **fields}).encode()
