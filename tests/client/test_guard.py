"""The guard under all HTTP clients: where requests go, that redirects are not followed, what comes back."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import aiohttp
import httpx
import pytest
import requests
import urllib3

from explaineval.client.direct import DirectClient
from explaineval.client.endpoints.guard import (
    Attempt,
    GuardedTransport,
    Wire,
    allow,
    proxy_for,
    proxy_note,
)
from explaineval.client.endpoints.probe import served_models
from explaineval.client.endpoints.routes import Origin, built_in
from explaineval.client.litellm_client import LiteLLMClient, load_litellm
from explaineval.config import Endpoint
from explaineval.errors import EndpointError, ExplainevalError, InputError, TransientError
from explaineval.parsing import classify
from explaineval.records import Completion, Message, Request
from servers.floods import FloodServer

KEY = "sk-guarded-0123456789abcdef"
ROUTES = ("openai/m", "text-completion-openai/m", "anthropic/m", "gemini/m", "mistral/m", "hosted_vllm/m")
"""litellm's OpenAI client, in both styles, and its own handler."""
DIRECT = ("direct openai/m", "direct text-completion-openai/m", "direct hosted_vllm/m")
"""The same by the direct transport."""
EVERY = (*ROUTES, *DIRECT)


@pytest.fixture
def flood() -> Iterator[FloodServer]:
    """The server."""
    with FloodServer() as server:
        yield server


def ask(url: str, model: str = "openai/m", *, word: str = "plain", timeout: float = 20, tokens: int = 64) -> Completion:
    """One request by the ordinary client, or by the direct one where `model` begins with the word."""
    kind = DirectClient if model.startswith("direct ") else LiteLLMClient
    model = model.removeprefix("direct ")

    async def send() -> Completion:
        client = kind({"lab": Endpoint(url, "lab")}, timeout=timeout)
        style = "completion" if model.startswith("text-") else "chat"
        text = f"Rain? [[flood:{word}]]"
        what = {"prompt": text} if style == "completion" else {"messages": (Message(role="user", content=text),)}
        try:
            return await client.complete(
                Request.model_validate(
                    {"endpoint": "lab", "model": model, "style": style, "max_tokens": tokens, **what}
                )
            )
        finally:
            await client.close()

    return asyncio.run(send())


@pytest.mark.parametrize("model", ["openai/m", "direct openai/m"])
@pytest.mark.parametrize("word", ["plain", "zipped"])
def test_an_ordinary_answer_comes_through(flood: FloodServer, model: str, word: str) -> None:
    """Compressed or not."""
    assert ask(flood.url, model, word=word).text == "Answer: A\nExplanation: It may rain."


@pytest.mark.parametrize("model", EVERY)
@pytest.mark.parametrize("word", ["endless", "bomb", "choices", "few-choices", "nested", "values"])
def test_an_oversized_answer_is_an_outcome(flood: FloodServer, model: str, word: str) -> None:
    """By whatever client litellm sends: unparsed, reason oversized, and asked for once."""
    found = classify(ask(flood.url, model, word=word))

    assert found is not None
    assert (found.status, found.reason.partition(":")[0]) == ("unparsed", "oversized")
    assert len(flood.received) == 1


def test_an_oversized_error_is_an_error_all_the_same() -> None:
    """The beginning of its body is enough for a message."""
    body = b'{"error": {"message": "no such thing"}}' + b" " * 50_000_000

    async def flooded(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, content=body, request=request)

    async def get() -> httpx.Response:
        wire = Wire(lambda _: httpx.MockTransport(flooded))
        attempt = Attempt("here", (Origin.of("http://lab.invalid"),), wire)
        async with httpx.AsyncClient(transport=GuardedTransport()) as client:
            with allow(attempt):
                return await client.get("http://lab.invalid/v1")

    found = asyncio.run(get())
    assert found.status_code == 404
    assert len(found.content) <= 65_536


@pytest.mark.sampled(8)
@pytest.mark.parametrize("model", [*EVERY, "featherless_ai/m", "nvidia_nim/m", "sambanova/m", "ai21_chat/m"])
@pytest.mark.parametrize("word", ["error", "hang-up"])
def test_an_attempt_sends_once(flood: FloodServer, model: str, word: str) -> None:
    """Some routes lose the instruction not to retry: the guard holds it all the same."""
    with pytest.raises(TransientError):
        ask(flood.url, model, word=word)

    assert len(flood.received) == 1


@pytest.mark.parametrize("model", ["openai/m", "direct openai/m"])
def test_a_trickle_ends_with_the_time_out(flood: FloodServer, model: str) -> None:
    """A byte now and then keeps no attempt alive."""
    with pytest.raises(TransientError, match="within the time-out"):
        ask(flood.url, model, word="trickle", timeout=1)


@pytest.mark.parametrize("model", EVERY)
@pytest.mark.parametrize("same_host", [True, False])
def test_redirects_are_never_followed(
    flood: FloodServer, model: str, same_host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither to another host nor on the same; the sentence says where it pointed, without query and key."""
    monkeypatch.setenv("EXPLAINEVAL_API_KEY", KEY)
    with FloodServer() as thief:
        place = flood if same_host else thief
        flood.target = f"http://user:word@127.0.0.1:{place.port}/steal/{KEY}?token={KEY}#part"
        with pytest.raises(EndpointError) as caught:
            ask(flood.url, model, word="redirect")

        assert f"redirect (status 307) to http://127.0.0.1:{place.port}/steal/***; it was not followed" in str(
            caught.value
        )
        assert KEY not in str(caught.value)
        assert "word" not in str(caught.value)
        assert (len(flood.received), thief.connections) == (1, 0)


def test_a_list_of_models_is_guarded_too(flood: FloodServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its redirects are not followed, its bombs not unpacked."""
    monkeypatch.setenv("EXPLAINEVAL_API_KEY", KEY)
    with FloodServer() as thief:
        flood.target = f"{thief.url}/models"
        for word in ("redirect", "bomb", "nested", "choices"):
            flood.word = word
            assert asyncio.run(served_models(Endpoint(flood.url))) is None
        assert thief.connections == 0


def guarded(url: str) -> Attempt:
    """An attempt that may go to another address than this."""
    return Attempt("m", (Origin.of(url),), Wire())


@pytest.mark.parametrize("kind", ["httpx", "httpx async", "requests", "urllib3", "aiohttp", "socket"])
def test_no_client_gets_past_the_guard(flood: FloodServer, kind: str) -> None:
    """Whatever library opens a connection while an attempt is current, not a byte leaves for another origin."""
    load_litellm()
    attempt = guarded("https://api.example.org")

    async def by_httpx() -> None:
        async with httpx.AsyncClient(follow_redirects=True) as client:
            await client.post(flood.url, content=KEY)

    async def by_aiohttp() -> None:
        async with aiohttp.ClientSession() as session, session.post(flood.url, data=KEY):
            pass

    def by_socket() -> None:
        with socket.create_connection(("127.0.0.1", flood.port)) as connection:
            connection.sendall(KEY.encode())

    act = {
        "httpx": lambda: httpx.post(flood.url, content=KEY),
        "httpx async": lambda: asyncio.run(by_httpx()),
        "requests": lambda: requests.post(flood.url, data=KEY, timeout=5),
        "urllib3": lambda: urllib3.request("POST", flood.url, body=KEY, retries=False),
        "aiohttp": lambda: asyncio.run(by_aiohttp()),
        "socket": by_socket,
    }[kind]
    with allow(attempt), pytest.raises(Exception, match="othing was sent") as caught:
        act()

    assert isinstance(attempt.error, InputError)
    assert KEY not in str(caught.value)
    assert (flood.connections, flood.everything) == (0, b"")


def test_nothing_is_sent_after_an_attempt(flood: FloodServer) -> None:
    """What a library's thread still wants to send when the time-out is over stays here."""
    attempt = guarded(flood.url)
    with allow(attempt):
        pass

    with pytest.raises(ExplainevalError):
        attempt.check(httpx.URL(flood.url))


def test_outside_of_attempts_clients_are_as_they_were(flood: FloodServer) -> None:
    """The guard is for what explaineval sends."""
    load_litellm()

    assert httpx.post(flood.url, content="x").status_code == 200


PROXY = "http://user:word@proxy.example.org:3128"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_is_for_public_https_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never for loopback and private addresses, never without encryption; NO_PROXY holds."""
    monkeypatch.setenv(name, PROXY)
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "inside.example.org")

    assert proxy_for("https://api.example.org/v1") == PROXY
    for url in (
        "http://api.example.org", "https://inside.example.org", "http://127.0.0.1:8000", "https://127.0.0.1",
        "https://localhost:8443", "https://10.1.2.3", "http://192.168.0.2", "https://[::1]:8000", "http://[fd00::1]",
    ):  # fmt: skip
        assert proxy_for(url) is None


def test_the_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence."""
    monkeypatch.setenv("HTTPS_PROXY", PROXY)

    assert proxy_note(Endpoint(), "openai/m") == (
        "https://api.openai.com is reached through the proxy http://proxy.example.org:3128, which the environment "
        "names."
    )
    assert proxy_note(Endpoint("http://127.0.0.1:8000/v1"), "openai/m") is None


def test_a_proxy_for_http_takes_nothing(flood: FloodServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to this machine goes there straight, by every route."""
    with FloodServer() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("AIOHTTP_TRUST_ENV", "True")
        for model in ("openai/m", "hosted_vllm/m", "direct openai/m"):
            assert ask(flood.url, model).text

        assert proxy.connections == 0


@pytest.mark.parametrize("model", ["openai/m", "direct openai/m"])
def test_an_attempt_goes_to_its_own_proxy(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    """For https the connection is made to the proxy, which is asked to tunnel."""
    with FloodServer() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        with pytest.raises(ExplainevalError):
            ask("https://api.example.org/v1", model, timeout=2)

        assert b"CONNECT api.example.org:443" in proxy.everything


def test_the_built_in_addresses_are_those_of_the_providers() -> None:
    """Spot checks by hand; the loop over all of them is in test_provider_origins."""
    table = built_in()

    for provider, url in {
        "openai": "https://api.openai.com", "anthropic": "https://api.anthropic.com", "mistral": "https://api.mistral.ai",
        "gemini": "https://generativelanguage.googleapis.com", "groq": "https://api.groq.com",
        "deepseek": "https://api.deepseek.com", "openrouter": "https://openrouter.ai", "xai": "https://api.x.ai",
    }.items():  # fmt: skip
        assert table[provider] == (Origin.of(url),)
    for provider in ("azure", "azure_ai", "vertex_ai", "databricks", "hosted_vllm", "litellm_proxy", "sagemaker"):
        assert table[provider] == ()
