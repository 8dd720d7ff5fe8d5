"""The HTTP calls about batches: results that are too long, and addresses that a variable changes."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise

import pytest

from explaineval.client.batches.client import BatchClient, BatchHTTP, LineBuffer
from explaineval.client.batches.providers import CUT, PROVIDERS, BatchAPI, ResultLine
from explaineval.client.endpoints.bodies import MOST_BYTES
from explaineval.config import Endpoint
from explaineval.errors import EndpointError, InputError
from explaineval.parsing import classify
from explaineval.records import Message, Request
from servers.floods import FloodServer

KEY = "ab" * 32
MODEL = "openai/m"
REQUEST = Request(model=MODEL, style="chat", messages=(Message(role="user", content="Hello."),), max_tokens=16)


def result(pad: str = "") -> bytes:
    """Return a line of OpenAI's results with this text at the end of the answer."""
    message = {"role": "assistant", "content": f"Answer: A{pad}"}
    body = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}], "model": "m"}
    return json.dumps({"id": "x", "custom_id": KEY, "response": {"status_code": 200, "body": body}}).encode()


@pytest.mark.parametrize("size", [1_000, 65_536, 100_000_000])
def test_lines_are_cut_from_any_pieces(size: int) -> None:
    """Of a long line the beginning is kept, and its neighbours are whole, whatever the size of the pieces."""
    whole = b"\n".join((b"first", result("x" * (MOST_BYTES + 1)), b"", result(), b"last"))
    ends = [*range(0, len(whole), size), len(whole)]
    buffer = LineBuffer()
    lines = [line for start, end in pairwise(ends) for line in buffer.add(whole[start:end])] + [buffer.line]

    assert [lines[0], *lines[2:]] == [b"first", b"", result(), b"last"]
    assert len(lines[1]) < CUT + 100
    assert PROVIDERS["openai"].parse_line(lines[1]) == ResultLine(KEY, oversized=True)


@pytest.mark.parametrize("provider", PROVIDERS.values())
def test_a_line_is_measured_before_it_is_parsed(provider: BatchAPI) -> None:
    """Deep nesting and too many values make an oversized answer of the request that the line names."""
    head = result()[:-1]
    for pad in (b', "deep": ' + b"[" * 100_000 + b"]" * 100_000, b', "many": [' + b"{}," * 1_000_000 + b"{}]"):
        assert provider.parse_line(head + pad + b"}") == ResultLine(KEY, oversized=True)
    assert provider.parse_line(b"[" * 1_000_000) == ResultLine(None, oversized=True)


def test_an_oversized_line_is_an_outcome() -> None:
    """An oversized line becomes an unparsed answer, which is stored and not bought again."""

    async def read(line: ResultLine) -> object:
        batches = BatchClient(Endpoint("http://127.0.0.1:9/v1", "lab"), MODEL, timeout=5)
        try:
            return await batches.read(REQUEST.model_copy(update={"endpoint": "lab"}), line)
        finally:
            await batches.close()

    choices = [{"index": 0, "finish_reason": "stop", "message": {"content": "A"}}] * 500
    for line in (ResultLine(KEY, oversized=True), ResultLine(KEY, 200, {"choices": choices})):
        found = classify(asyncio.run(read(line)))  # type: ignore[arg-type]
        assert found is not None
        assert (found.status, found.reason.partition(":")[0]) == ("unparsed", "oversized")


def test_a_variable_does_not_move_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the key nor the file of requests is sent to the address in the variable."""
    with FloodServer() as thief:
        monkeypatch.setenv("OPENAI_BASE_URL", thief.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-own-0123456789abcdef")

        async def upload() -> None:
            batches = BatchClient(Endpoint(), MODEL, timeout=5)
            try:
                await batches.upload([await batches.prepare(REQUEST, KEY)], "tag")
            finally:
                await batches.close()

        with pytest.raises(InputError, match="OPENAI_BASE_URL points there"):
            asyncio.run(upload())
        assert thief.connections == 0


def test_an_oversized_page_is_an_error() -> None:
    """A list of batches that is too large raises an error, because it is no answer that could be stored."""

    async def get(url: str) -> object:
        http = BatchHTTP(Endpoint(url), MODEL, 5)
        try:
            return await http.get(f"{url}/batches")
        finally:
            await http.close()

    for word in ("endless", "bomb", "nested"):
        with FloodServer(word=word) as server, pytest.raises(EndpointError, match="leave out --batch"):
            asyncio.run(get(server.url))
