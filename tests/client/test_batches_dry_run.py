"""A batch asks what a plain run asks, and reads what a plain run reads: the same key stands for the same request."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import open_store, request_key
from explaineval.client.batches.client import BatchClient
from explaineval.client.litellm_client import LiteLLMClient
from explaineval.config import Endpoint
from explaineval.errors import InputError
from explaineval.records import Completion, Request
from servers import shapes
from servers.batch_bench import MODELS, BatchBench, Route, chat, text
from servers.batch_server import BatchServer


def model(name: str, request: Request) -> Request:
    """The request to another model."""
    return request.model_copy(update={"model": name})


CASES: dict[str, tuple[Route, Request]] = {
    "chat with logprobs": ("openai", chat(1)),
    "no temperature, a sample": ("openai", chat(1, temperature=None, sample=3)),
    "parameters of its own": ("openai", chat(1, params={"top_p": 0.5, "min_p": 0.1, "seed": 3})),
    "text": ("openai", text(1)),
    "text to a chat model": ("openai", model("openai/gpt-4o-mini", text(1))),
    "reasoning model": ("openai", model("openai/o3-mini", chat(1, temperature=None, logprobs=None))),
    "newer model": ("openai", model("openai/gpt-5-mini", chat(1, temperature=None, logprobs=None))),
    "letters beyond ASCII": ("openai", chat(1, params={"extra_body": {"user": "Zoë\u2028\x85🌧"}})),
    "azure": ("azure", chat(1, "azure")),
    "anthropic": ("anthropic", chat(1, "anthropic")),
    "anthropic with more": ("anthropic", chat(1, "anthropic", stop=("END",), params={"top_k": 3})),
    "anthropic that thinks": (
        "anthropic",
        model(
            "anthropic/claude-sonnet-4-5",
            chat(1, "anthropic", temperature=None, params={"thinking": {"type": "enabled", "budget_tokens": 1024}}),
        ).model_copy(update={"max_tokens": 2000}),
    ),
}


def answer_with_all(shape: shapes.Shape, body: Any) -> dict[str, Any]:
    """An answer with hidden reasoning, logprobs where they are asked for, and what line splitters stumble over."""
    said, top = "Answer: B\nExplanation: It \u2028may\x85 rain 🌧.", shapes.top_asked(shape, body)
    tokens = shapes.spell(said, top) if top else None
    found = shapes.answer(shape, str(body["model"]), said, "length", tokens, reasoning=40)
    if shape != "anthropic":
        choice = found["choices"][0]
        choice.get("message", choice)["reasoning_content"] = "Hm."
    return found


@pytest.mark.sampled(4)
@pytest.mark.parametrize("case", CASES)
def test_the_same_body_and_the_same_completion(case: str, tmp_path: Path) -> None:
    """The ordinary client against the same server is the oracle, for what is sent and for what comes out."""
    route, request = CASES[case]
    with BatchServer(answer=answer_with_all) as server:
        bench = BatchBench(server, tmp_path, route, model=request.model)

        async def ask() -> Completion:
            wire = LiteLLMClient({"lab": bench.endpoint}, timeout=5)
            try:
                return await wire.complete(request)
            finally:
                await wire.close()

        plain = asyncio.run(ask())
        outcome = bench.run([request])
        with open_store(tmp_path) as store:
            found = store.get(request_key(request))
        (batch,) = server.batches.values()

    gc.collect()
    assert outcome.stored == 1
    assert [body for _, _, body in batch.items] == server.plain
    assert found is not None
    assert found.model_copy(update={"created": None}) == plain.model_copy(update={"created": None})
    assert "\x85" in str(plain.text)
    assert plain.reasoning == "Hm."


def test_what_the_route_refuses_is_rejected_unsent(tmp_path: Path) -> None:
    """Logprobs by a route that has none: named as rejected, the others go on."""
    with BatchServer() as server:
        bench = BatchBench(server, tmp_path, "anthropic")
        refused = chat(0, "anthropic", logprobs=5)
        outcome = bench.run([refused, *bench.requests(2)])

        assert list(outcome.failed) == [request_key(refused)]
        assert outcome.failed[request_key(refused)].rejected
        assert outcome.stored == 2


@pytest.mark.parametrize("route", ["openai", "azure", "anthropic"])
def test_the_key_goes_to_its_address_as_the_route_sends_it(
    route: Route, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call carries the named key in the route's own header; a provider's key in the environment goes nowhere."""
    monkeypatch.setenv("LAB_KEY", "sk-lab")
    for name in ("OPENAI_API_KEY", "AZURE_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-provider")
    with BatchServer() as server:
        bench = BatchBench(server, tmp_path, route, key_env="LAB_KEY")
        assert bench.run(bench.requests(1)).stored == 1

        sent = {"openai": ("authorization", "Bearer sk-lab"), "azure": ("api-key", "sk-lab"),
                "anthropic": ("x-api-key", "sk-lab")}[route]  # fmt: skip
        assert {headers.get(sent[0]) for _, _, headers in server.calls} == {sent[1]}
        assert not any("sk-provider" in str(headers) for _, _, headers in server.calls)
        assert route != "anthropic" or all("anthropic-version" in headers for _, _, headers in server.calls)
        assert route != "azure" or all("api-version=" in path for _, path, _ in server.calls)


def test_providers_without_batches() -> None:
    """One sentence says what to leave out, or what to give."""
    for name, words in (("gemini/gemini-2.0-flash", "leave out --batch"), ("hosted_vllm/m", "leave out --batch"),
                        ("azure/deployed", "--base-url")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            BatchClient(Endpoint(), name, timeout=5.0)
    for route in MODELS:
        found = BatchClient(Endpoint("http://127.0.0.1:9"), MODELS[route], timeout=5.0)
        assert found.name == route
        asyncio.run(found.close())


def test_a_key_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key for the provider's own address nothing is tried, and a sentence says which variable to set."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert "OPENAI_API_KEY" not in os.environ
    with BatchServer() as server:
        bench = BatchBench(server, tmp_path, own_address=True)
        outcome = bench.run([chat(1).model_copy(update={"endpoint": None})])

    assert outcome.unsent == 1
    assert "OPENAI_API_KEY" in outcome.errors[0]
