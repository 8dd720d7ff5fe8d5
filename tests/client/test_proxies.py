"""A proxy of the environment that cannot be used is told as such, and nothing counts as paid."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from explaineval.client.direct import DirectClient
from explaineval.client.litellm_client import LiteLLMClient
from explaineval.config import Endpoint
from explaineval.errors import EndpointError, ExplainevalError, InputError, TransientError
from explaineval.records import Message, Request

CLOSED = "http://127.0.0.1:9"


@contextmanager
def answering(status: str) -> Iterator[str]:
    """A proxy that answers every request by one status; its address with a password."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://me:word@127.0.0.1:{server.getsockname()[1]}"
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def ask(monkeypatch: pytest.MonkeyPatch, proxy: str, model: str) -> ExplainevalError:
    """Make one attempt through a proxy, by the ordinary client or the direct one; return its error."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    kind = DirectClient if model.startswith("direct ") else LiteLLMClient
    message = Message(role="user", content="Rain?")
    request = Request(
        endpoint="lab", model=model.removeprefix("direct "), style="chat", max_tokens=9, messages=(message,)
    )

    async def send() -> None:
        client = kind({"lab": Endpoint("https://api.example.org/v1", "lab")}, timeout=20)
        try:
            await client.complete(request)
        finally:
            await client.close()

    with pytest.raises(ExplainevalError) as caught:
        asyncio.run(send())
    return caught.value


def is_free(error: ExplainevalError) -> bool:
    """Whether the limit on spending counts nothing for it."""
    return isinstance(error, InputError | EndpointError) or (isinstance(error, TransientError) and error.unbilled)


@pytest.mark.parametrize("model", ["openai/m", "direct openai/m"])
@pytest.mark.parametrize(
    ("proxy", "kind", "sentence"),
    [
        (CLOSED, TransientError, f"the proxy {CLOSED} of the environment refuses the connection, so nothing was sent"),
        ("ftp://127.0.0.1:9", InputError, "the proxy ftp://127.0.0.1:9 of the environment cannot be used"),
        ("http://[bad", InputError, "the proxy of the environment has an unreadable address, so nothing was sent"),
    ],
)
def test_an_unusable_proxy_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, proxy: str, kind: type[ExplainevalError], sentence: str, model: str
) -> None:
    """The sentence names it and says what to do, and nothing counts as charged."""
    error = ask(monkeypatch, proxy, model)

    assert isinstance(error, kind)
    assert sentence in str(error)
    assert "HTTPS_PROXY" in str(error)
    assert is_free(error)


@pytest.mark.parametrize("model", ["openai/m", "direct openai/m"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [("407 Proxy Authentication Required", EndpointError), ("502 Bad Gateway", TransientError)],
)
def test_a_proxy_that_refuses_is_not_taken_for_the_endpoint(
    monkeypatch: pytest.MonkeyPatch, status: str, kind: type[ExplainevalError], model: str
) -> None:
    """Its status is not the endpoint's; its password is not shown."""
    with answering(status) as proxy:
        error = ask(monkeypatch, proxy, model)

    assert isinstance(error, kind)
    assert f"of the environment answers with status {status[:3]}, so nothing was sent" in str(error)
    assert "word" not in str(error)
    assert is_free(error)
