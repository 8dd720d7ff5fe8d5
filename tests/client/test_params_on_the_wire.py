"""What parameters become on the wire: the body and nothing else, whatever litellm calls by the same name."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import JsonValue

from explaineval.client.litellm_client import LiteLLMClient, load_litellm
from explaineval.config import Endpoint, check_params
from explaineval.errors import RequestFailedError, RequestRejectedError
from explaineval.records import Message, Request
from servers.loopback import Asked, LoopbackServer, Reply

VALUES: tuple[JsonValue, ...] = (0.5, 3, "low", True, {"type": "a"}, ["a"])

PROVIDERS_OWN = {
    "frequency_penalty", "logit_bias", "presence_penalty", "reasoning_effort", "seed", "service_tier", "thinking",
    "top_p", "verbosity",
}  # fmt: skip
"""Arguments of litellm's functions that are a model's parameters and nothing else."""

ROUTES = (
    "openai/x", "openai/gpt-5-mini", "hosted_vllm/x", "text-completion-openai/x", "gemini/gemini-2.5-flash",
    "mistral/mistral-small", "groq/llama-3.1-8b", "openrouter/a/b", "ollama_chat/x", "azure/x",
    "deepseek/deepseek-chat",
    "together_ai/x", "fireworks_ai/x", "xai/grok-3", "perplexity/sonar", "databricks/x",
    "cerebras/x", "litellm_proxy/x", "moonshot/x",
)  # fmt: skip
"""A route of each kind that litellm has for bodies in JSON."""


@dataclass
class Recorder(LoopbackServer):
    """A loopback server that refuses everything and keeps what came: (path, headers, body) of each request."""

    came: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)

    def reply(self, asked: Asked) -> Reply:
        """Keep what came, and refuse it."""
        self.came.append((asked.target, dict(asked.headers), asked.body))
        return Reply(400, {"error": {"message": "no"}})

    def take(self) -> tuple[str, dict[str, str], dict[str, Any]] | None:
        """The last request since the last taking."""
        last = self.came[-1] if self.came else None
        self.came.clear()
        return last


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    """A running recorder; the first request makes litellm build what it warns about while it builds it."""
    with Recorder() as running:
        ask(running, "openai/x", [{}])
        running.take()
        yield running


def ask(recorder: Recorder, model: str, all_params: list[dict[str, Any]], style: str = "chat") -> list[Any]:
    """Send one request for each set of parameters; what came of each, as (path, headers, body), None for nothing."""

    async def send() -> list[Any]:
        client = LiteLLMClient({"lab": Endpoint(recorder.url, "lab")}, timeout=5)
        found = []
        try:
            for params in all_params:
                request = Request(
                    endpoint="lab", model=model, style=style, max_tokens=7, params=params,
                    messages=(Message(role="user", content="Q"),) if style == "chat" else None,
                    prompt=None if style == "chat" else "Q",
                )  # fmt: skip
                with pytest.raises(RequestFailedError):
                    await client.complete(request)
                found.append(recorder.take())
        finally:
            await client.close()
        return found

    return asyncio.run(send())


def litellms_names() -> set[str]:
    """Every name that litellm's functions, or what they hand on, read as an argument."""
    litellm = load_litellm()
    from litellm.types.utils import all_litellm_params

    functions = (litellm.acompletion, litellm.completion, litellm.atext_completion, litellm.text_completion)
    signatures = {name for function in functions for name in inspect.signature(function).parameters}
    return {*all_litellm_params, *signatures, "acompletion", "headers", "organization", "proxy", "default_headers"}


def test_no_argument_of_litellms_passes(recorder: Recorder) -> None:
    """Of the hundreds of names in litellm's own source only the providers' parameters are let through."""
    names = litellms_names()
    passed = {name for name in names for value in VALUES if check_params({name: value}) is None}

    assert len(names) > 300
    assert {"fallbacks", "headers", "mock_response", "api_base", "cache", "client"} <= names
    assert passed == PROVIDERS_OWN


@pytest.mark.parametrize("model", ROUTES)
def test_extra_body_goes_into_the_body_and_nowhere_else(recorder: Recorder, model: str) -> None:
    """Its entries stand in the body as given; path, headers and everything else are as without it."""
    entries = {"zz_extra": 1, "deep": {"a": [True, "é"]}}
    plain, more = ask(recorder, model, [{}, {"extra_body": entries}])

    assert {name: value for name, value in more[2].items() if name in entries} == entries
    assert {name: value for name, value in more[2].items() if name not in entries} == plain[2]
    assert more[0] == plain[0]
    assert _lasting(more[1]) == _lasting(plain[1])


@pytest.mark.parametrize("model", ["openai/x", "azure/x", "gemini/gemini-2.5-flash", "litellm_proxy/x"])
def test_litellms_names_in_extra_body_steer_nothing(recorder: Recorder, model: str) -> None:
    """Each is refused, or stands in the body like any other entry while address, headers and the rest stay."""
    names = sorted(name for name in litellms_names() if check_params({"extra_body": {name: "zz"}}, model) is None)
    plain, came = ask(recorder, model, [{}, {"extra_body": dict.fromkeys(names, "zz")}])

    assert len(names) > 50
    assert came is not None
    assert came[0] == plain[0]
    assert _lasting(came[1]) == _lasting(plain[1])
    assert {name: value for name, value in came[2].items() if name not in names} == plain[2]
    assert {value for name, value in came[2].items() if name in names} == {"zz"}


def test_extra_body_goes_with_text_completions_too(recorder: Recorder) -> None:
    """The other style sends it as well."""
    (found,) = ask(recorder, "openai/x", [{"extra_body": {"zz_extra": {"a": 1}}, "top_k": 3}], style="completion")

    assert found[0].endswith("/completions")
    assert (found[2]["zz_extra"], found[2]["top_k"], found[2]["max_tokens"]) == ({"a": 1}, 3, 7)


@pytest.mark.parametrize(
    "params",
    [
        {"fallbacks": ["openai/y"]},
        {"headers": {"Authorization": "Bearer other"}},
        {"mock_response": "Answer: A"},
        {"api_base": "http://127.0.0.1:9/v1"},
        {"extra_body": {"max_tokens": 100_000}},
    ],
)
def test_the_client_refuses_what_a_foreign_request_holds(recorder: Recorder, params: dict[str, Any]) -> None:
    """A request out of somebody's pack never went through the configuration: nothing is sent for it."""
    turn = Message(role="user", content="Q")
    request = Request(endpoint="lab", model="openai/x", style="chat", messages=(turn,), max_tokens=7, params=params)

    async def send() -> None:
        client = LiteLLMClient({"lab": Endpoint(recorder.url, "lab")}, timeout=5)
        try:
            await client.complete(request)
        finally:
            await client.close()

    with pytest.raises(RequestRejectedError, match="is not allowed") as caught:
        asyncio.run(send())

    assert not caught.value.sent
    assert recorder.take() is None


def test_a_parameter_that_a_route_refuses_is_pointed_to_extra_body(recorder: Recorder) -> None:
    """litellm's table of a route may lag behind the endpoint; its advice about litellm's settings is left out."""
    turn = Message(role="user", content="Q")
    params = {"thinking": {"type": "enabled"}}
    request = Request(endpoint="lab", model="openai/x", style="chat", messages=(turn,), max_tokens=7, params=params)

    async def send() -> None:
        client = LiteLLMClient({"lab": Endpoint(recorder.url, "lab")}, timeout=5)
        try:
            await client.complete(request)
        finally:
            await client.close()

    with pytest.raises(RequestRejectedError, match="give it inside extra_body") as caught:
        asyncio.run(send())

    assert "thinking" in str(caught.value)
    assert "drop_params" not in str(caught.value)


def _lasting(headers: dict[str, str]) -> dict[str, str]:
    """Headers without those that follow from the body's length or the single call."""
    return {name: value for name, value in headers.items() if name not in ("content-length", "x-stainless-retry-count")}
