"""A made-up endpoint that keeps books: what it generated and what that cost, whatever became of the delivery.

It runs in a process of its own and has rooms: `PUT /NAME` with settings opens one, `/NAME/v1` is then a base URL,
`GET /NAME` tells its books and `GET /NAME/calls` every call. What it answers depends on the prompt alone, so that two
runs of one task of `made_up_cases` come to the same numbers.
"""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import math
import random
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

from made_up_cases import answer_to, draw_from, logprobs_of

UNBILLED = ("429", "503", "500", "400", "reset", "hangup", "time-out")
"""Faults before anything was generated."""
BILLED = ("late-reset", "late-hangup", "late-time-out", "cut", "504", "no-choices", "error-object", "broken-json")
"""Faults after: the answer was generated and charged, and did not arrive."""
UNCOUNTED = "no-usage"
"""An answer in due form, without its count of tokens."""


@dataclass(frozen=True)
class Settings:
    """A room. Prices are dollars per million tokens (input, output) by model; latencies are in seconds.

    An answer takes a share between `shortest` and `longest` of max_tokens, of which `hidden` is reasoning that only the
    total counts. `faults` gives each fault's share of all attempts.
    """

    seed: int = 0
    prices: dict[str, tuple[float, float]] = field(default_factory=dict)
    tokens_per_byte: float = 0.25
    template: int = 8
    shortest: float = 0.1
    longest: float = 0.5
    hidden: float = 0.0
    latency: float = 0.05
    spread: float = 0.5
    faults: dict[str, float] = field(default_factory=dict)
    rejects_logprobs: bool = False


@dataclass
class Call:
    """One attempt: which prompt (a digest), when received and when its last byte was written, what became of it."""

    prompt: str
    received: float
    outcome: str = ""
    billed: bool = False
    written: float | None = None


class Room:
    """Settings, and the books of what was asked under them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.draw = random.Random(settings.seed)
        self.calls: list[Call] = []
        self.dollars: Counter[str] = Counter()

    def books(self) -> dict[str, Any]:
        """Attempts, outcomes, dollars by model; `under_way` were received and are not answered."""
        return {
            "attempts": len(self.calls),
            "under_way": sum(not call.outcome for call in self.calls[-1000:]),
            "billed": sum(call.billed for call in self.calls),
            "outcomes": Counter(call.outcome for call in self.calls),
            "dollars": self.dollars,
        }

    def draw_fault(self) -> str:
        """What happens to the next attempt: a fault's name, or "ok"."""
        draw = self.draw.random()
        for name, share in self.settings.faults.items():
            if draw < share:
                return name
            draw -= share
        return "ok"

    def generate(self, body: dict[str, Any], call: Call, fault: str) -> dict[str, Any]:
        """Make the answer and charge it."""
        settings, model = self.settings, body["model"]
        prompt = body["messages"][-1]["content"]
        size = sum(len(turn["content"].encode()) for turn in body["messages"])
        into = settings.template + math.floor(size * settings.tokens_per_byte)
        most = body.get("max_tokens") or body["max_completion_tokens"]
        share = draw_from("length", settings.seed, prompt)
        out = max(1, math.floor(most * (settings.shortest + (settings.longest - settings.shortest) * share)))
        price = settings.prices.get(model, (0.0, 0.0))
        self.dollars[model] += (into * price[0] + out * price[1]) / 1e6
        call.billed = True
        shown = out - math.floor(out * settings.hidden)
        letter, text = answer_to(prompt)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice["message"] = {"role": "assistant", "content": text}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": logprobs_of(letter, text)}
        answer = {"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
        if fault != UNCOUNTED:
            answer["usage"] = {"prompt_tokens": into, "completion_tokens": shown, "total_tokens": into + out}
        return answer


class Endpoint:
    """The server's side of every connection."""

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection, one after the other."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                length = next((line.split(":")[1] for line in head if line.lower().startswith("content-length")), "0")
                method, path, _ = head[0].split(" ")
                if not await self.respond(method, path, await reader.readexactly(int(length)), reader, writer):
                    return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    async def respond(
        self, method: str, path: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; whether the connection lives on."""
        _, name, *rest = path.split("/")
        if method == "PUT":
            self.rooms[name] = Room(Settings(**json.loads(body)))
            return send(writer, 200, {})
        room = self.rooms[name]
        if method == "GET":
            calls = [asdict(call) for call in room.calls] if rest == ["calls"] else None
            listed = {"object": "list", "data": []} if rest else room.books()
            return send(writer, 200, calls if calls is not None else listed)
        asked = json.loads(body)
        if "messages" not in asked:
            return send(writer, 404, error("there are only chat completions"))
        call = Call(digest_of(asked["messages"][-1]["content"]), time.monotonic())
        room.calls.append(call)
        try:
            call.outcome, alive = await self.play(room, asked, call, reader, writer)
            return alive
        finally:
            call.written = time.monotonic()

    async def play(
        self,
        room: Room,
        asked: dict[str, Any],
        call: Call,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> tuple[str, bool]:
        """What becomes of a call, and whether its connection lives on. The bill is written before anything is sent."""
        if room.settings.rejects_logprobs and asked.get("logprobs"):
            return "400-logprobs", send(writer, 400, error("logprobs are not supported by this model"))
        fault = room.draw_fault()
        answer = None if fault in UNBILLED else room.generate(asked, call, fault)
        if fault not in ("429", "503"):
            await asyncio.sleep(room.settings.latency * math.exp(room.draw.gauss(0, room.settings.spread)))
        if fault in ("time-out", "late-time-out"):
            await reader.read(1)  # until the client gives up
            return fault, False
        if fault in ("hangup", "late-hangup"):
            return fault, False
        if fault in ("reset", "late-reset"):
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return fault, False
        if fault.isdecimal():
            return fault, send(writer, int(fault), error("not now"), "retry-after: 0.05\r\n" if fault == "429" else "")
        text = json.dumps(answer)
        if fault == "cut":
            writer.write(response(200, text)[: -len(text) // 2])
            return fault, False
        if fault == "broken-json":
            text = text[: len(text) // 2]
        elif fault == "no-choices":
            text = json.dumps({**(answer or {}), "choices": []})
        elif fault == "error-object":
            text = json.dumps(error("the provider behind this failed"))
        writer.write(response(200, text))
        return fault, True


def response(status: int, text: str, extra: str = "") -> bytes:
    """A whole HTTP response."""
    data = text.encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{extra}\r\n"
    return head.encode() + data


def send(writer: asyncio.StreamWriter, status: int, value: object, extra: str = "") -> bool:
    """Write a document; the connection lives on."""
    writer.write(response(status, json.dumps(value), extra))
    return True


def error(message: str) -> dict[str, Any]:
    """The body of an error."""
    return {"error": {"message": message, "type": "made_up", "param": None, "code": None}}


def digest_of(prompt: str) -> str:
    """What stands for a prompt in the books."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


class BillingServer:
    """The process, seen from outside. Use as a context manager."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()

    def open(self, name: str, settings: Settings) -> str:
        """Open a room, or empty it; returns its base URL."""
        self._ask("PUT", f"/{name}", json.dumps(asdict(settings)))
        return f"http://127.0.0.1:{self.port}/{name}/v1"

    def books(self, name: str) -> dict[str, Any]:
        """See `Room.books`."""
        found: dict[str, Any] = self._ask("GET", f"/{name}")
        return found

    def calls(self, name: str) -> list[Call]:
        """Every call in the order in which they came."""
        return [Call(**one) for one in self._ask("GET", f"/{name}/calls")]

    def _ask(self, method: str, path: str, body: str | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


async def serve() -> None:
    """Serve until standard input closes; the port is the one line of output."""
    server = await asyncio.start_server(Endpoint().handle, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
