"""Transports are opened at the first request that is sent, and closed with the stack."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from explaineval.client.stack import TRANSPORTS, ClientStack
from explaineval.config import ClientConfig, ModelConfig
from explaineval.cost import FREE
from explaineval.execution.session import Sessions, open_cache
from explaineval.planning.cost import Prices
from explaineval.records import Completion, Message, Request

MODELS = (ModelConfig(model="recorded/first"), ModelConfig(model="recorded/second"))
OPENED: list[RecordedTransport] = []


class RecordedTransport:
    """Records what is done with it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.models: list[str] = []
        self.closed = 0
        OPENED.append(self)

    async def complete(self, request: Request) -> Completion:
        """Return an empty answer."""
        self.models.append(request.model)
        return Completion(text="")

    async def close(self) -> None:
        """Count that it was closed."""
        self.closed += 1


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TRANSPORTS, "recorded", f"{__name__}:RecordedTransport")
    OPENED.clear()


def request_to(model: ModelConfig) -> Request:
    """A chat request to a model."""
    return Request(model=model.model, style="chat", messages=(Message(role="user", content="?"),), max_tokens=1)


def ask(models: tuple[ModelConfig, ...], events: list[str], tmp_path: Path) -> None:
    """Build the transports of both models, ask the given ones twice each, close the stack."""

    async def go() -> None:
        config = ClientConfig(cache=tmp_path)
        async with ClientStack(config, MODELS, asyncio.Event()) as stack:
            clients = {
                model: stack.transport_of(model, lambda model=model: events.append(model.model))  # type: ignore[misc]
                for model in MODELS
            }
            for model in (*models, *models):
                await clients[model].complete(request_to(model))

    asyncio.run(go())


def test_models_of_a_provider_share_one_transport(tmp_path: Path) -> None:
    """It is opened once and closed once; each model's `on_open` is called once."""
    events: list[str] = []
    ask(MODELS, events, tmp_path)

    (transport,) = OPENED
    assert transport.models == ["recorded/first", "recorded/second"] * 2
    assert (transport.closed, events) == (1, ["recorded/first", "recorded/second"])


def test_a_transport_that_sends_nothing_is_not_opened(tmp_path: Path) -> None:
    """Nor is `on_open` called."""
    events: list[str] = []
    ask((), events, tmp_path)

    assert (OPENED, events) == ([], [])


def test_a_proxy_is_named_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two models at one address that is reached through a proxy: one message."""
    monkeypatch.setenv("https_proxy", "http://proxy.example.org:3128")
    config, models = ClientConfig(cache=tmp_path), [ModelConfig(model=name) for name in ("openai/a", "openai/b")]
    free = {(model.endpoint, model.model): FREE for model in models}
    with open_cache(config, models) as (store, claims):
        sessions = Sessions(config, models, Prices(free, free), store, claims)
        for session in sessions.models:
            sessions.tell_proxy(session)

    (message,) = [message for session in sessions.models for message in session.messages]
    assert "https://api.openai.com is reached through the proxy http://proxy.example.org:3128" in message
