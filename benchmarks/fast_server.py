"""A made-up endpoint that answers as fast as it can, in a process of its own, and counts what it was asked.

It speaks just enough HTTP/1.1 and JSON for OpenAI-shaped chat requests: the answer depends on the body alone, and its
bytes are made once for each letter and number of alternatives. `GET /count` tells how many requests it has answered.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import http.client
import json
import math
import re
import subprocess
import sys
from functools import cache
from types import TracebackType
from typing import Any, Self

from made_up_cases import FILLER

LETTERS = "ABC"
ALTERNATIVES = re.compile(rb'"top_logprobs": ?(\d+)')
LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@cache
def response(letter: str, alternatives: int, tokens: int) -> bytes:
    """The whole response for a letter: `tokens` tokens after it, each with so many alternatives."""
    pieces = ["Answer", ":", f" {letter}", "\n", "Explanation", ":"]
    pieces += [f" {FILLER[number % len(FILLER)]}" for number in range(tokens)]
    content = [_token(piece, letter, alternatives) for piece in pieces]
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    choice["message"] = {"role": "assistant", "content": "".join(pieces)}
    if alternatives:
        choice["logprobs"] = {"content": content}
    usage = {"prompt_tokens": 260, "completion_tokens": len(pieces), "total_tokens": 260 + len(pieces)}
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return respond(answer)


def _token(piece: str, letter: str, alternatives: int) -> dict[str, Any]:
    others = [f" {other}" for other in LETTERS if other != letter] if piece == f" {letter}" else []
    others += [f"{piece}{number}" for number in range(alternatives)]
    top = [(piece, 0.6), *((other, 0.3 / 2**place) for place, other in enumerate(others))][:alternatives]
    shown = [{"token": text, "logprob": math.log(share), "bytes": list(text.encode())} for text, share in top]
    return {"token": piece, "logprob": math.log(0.6), "bytes": list(piece.encode()), "top_logprobs": shown}


def respond(value: object) -> bytes:
    """A response with this JSON value."""
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Connection(asyncio.Protocol):
    """The server's side of one connection."""

    answered = 0
    under_way = 0
    most_under_way = 0

    def __init__(self, tokens: int, latency: float) -> None:
        self.tokens, self.latency, self.received = tokens, latency, b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that has arrived whole."""
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end]
            length = LENGTH.search(head)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self.received) < size:
                return
            body, self.received = self.received[end + 4 : size], self.received[size:]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        """Answer a request, `latency` seconds later."""
        kind = type(self)
        if head.startswith(b"GET"):
            found: dict[str, Any] = {"answered": kind.answered, "most_under_way": kind.most_under_way}
            if b"/models" in head:
                found = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, "owned_by": "us"}]}
            self.transport.write(respond(found))
            return
        kind.under_way += 1
        kind.most_under_way = max(kind.under_way, kind.most_under_way)
        wanted = ALTERNATIVES.search(body)
        letter = LETTERS[hashlib.blake2b(body, digest_size=2).digest()[0] % 3]
        data = response(letter, int(wanted[1]) if wanted else 0, self.tokens)
        asyncio.get_running_loop().call_later(self.latency, self.send, data)

    def send(self, data: bytes) -> None:
        """Send a response."""
        kind = type(self)
        kind.under_way -= 1
        kind.answered += 1
        self.transport.write(data)


class FastServer:
    """The server in a process of its own, until the context is left; `url` is its base URL.

    Args:
        tokens: how many tokens follow the answer's letter.
        latency: seconds from a request to its answer.
    """

    def __init__(self, tokens: int, latency: float) -> None:
        self._arguments = ["--tokens", str(tokens), "--latency", str(latency)]

    def __enter__(self) -> Self:
        command = [sys.executable, __file__, *self._arguments]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._child.stdout is not None
        self._port = int(self._child.stdout.readline())
        self.url = f"http://127.0.0.1:{self._port}/v1"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._child.communicate()

    def counts(self) -> dict[str, int]:
        """How many requests were answered so far, and how many were under way at the most."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.request("GET", "/count")
        counts: dict[str, int] = json.load(connection.getresponse())
        connection.close()
        return counts


async def serve(tokens: int, latency: float) -> None:
    """Serve on a free port, which is printed, until standard input closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(tokens, latency), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=14, help="tokens after the answer's letter")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds from a request to its answer")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.tokens, arguments.latency))
