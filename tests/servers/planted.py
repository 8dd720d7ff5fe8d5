"""An OpenAI-compatible endpoint whose answers follow a planted table. It counts requests and plays faults.

It runs in a thread of the test process on an ephemeral loopback port. Which example and which inserted word a
request is about it reads from the last input block of the prompt, as a model would: shots come before it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

from explaineval.prompts import default_directory
from servers import replies
from servers.tables import EAGERNESS, LETTERS, Arm, Table

TOKEN, MARKER = re.compile(r"\bzq(\d{3})\b"), re.compile(r"\bmork[a-t]{4}q\b")
LEVELS = {
    name: (default_directory() / "verbosity" / f"{name}.txt").read_text(encoding="utf-8").strip() for name in EAGERNESS
}
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests", 500: "Error"}

Fault = Literal[
    "429", "500", "400", "reset",  # no answer
    "truncated", "refusal", "content_filter", "empty", "unparsed",  # an answer that cannot be scored
    "contradiction",  # an explanation that begins with another answer than the one it was given
]  # fmt: skip
Place = tuple[str, str | None]
"""(example id, inserted word or None for the untouched input)."""


@dataclass(frozen=True)
class Behaviour:
    """What one model of the endpoint takes and gives."""

    logprobs: Literal["on", "ignored", "rejected"] = "on"
    text_shape: Literal["lists", "content"] = "lists"
    rejects_zero: bool = False


@dataclass(frozen=True)
class Received:
    """One request as it came in, and what became of it."""

    digest: str
    arm: Arm
    place: Place
    authorization: str | None
    body: Mapping[str, Any]
    outcome: list[str] = field(default_factory=list)
    given: str | None = None
    """The answer that is given and to be explained (the second call of order pe2)."""

    @property
    def answered(self) -> bool:
        """Whether a completion was written to the socket."""
        return self.outcome[:1] == ["200"]


@dataclass
class PlantedServer:
    """Use as a context manager. `faults` holds for each place what happens to its next attempts, in order; a place
    in `always` meets that fault every time."""

    table: Table
    behaviours: Mapping[str, Behaviour] = field(default_factory=dict)
    latency: float = 0.0
    faults: dict[Place, list[Fault]] = field(default_factory=dict)
    always: dict[Place, Fault] = field(default_factory=dict)
    explained_faults: dict[Place, list[Fault]] = field(default_factory=dict)
    explained_always: dict[Place, Fault] = field(default_factory=dict)
    """The same for second calls, of every level."""
    usages: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """Usage in place of the ordinary one, by the number of the answer (from 0); -1 for all others."""
    accepted_key: str | None = None
    received: list[Received] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    port: int = 0
    _visits: Counter[str] = field(default_factory=Counter)
    _answers: int = 0

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def counts(self) -> Counter[str]:
        """How often each exact body was received."""
        return Counter(one.digest for one in self.received)

    def wait_for(self, requests: int, timeout: float = 60.0) -> None:
        """Return once so many requests have come in."""
        end = time.monotonic() + timeout
        while len(self.received) < requests:
            if time.monotonic() > end:
                raise TimeoutError(f"only {len(self.received)} of {requests} requests came in")
            time.sleep(0.002)

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(ready)), daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise TimeoutError("the planted server did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(10)
        if self.errors and error is None:
            raise self.errors[0]

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        self._open: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._closing.wait()
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._converse(reader, writer))
        self._open.add(task)
        try:
            await asyncio.gather(task, return_exceptions=True)
        finally:
            self._open.discard(task)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
                }
                payload = await reader.readexactly(int(headers.get("content-length", 0)))
                if not await self._respond(lines[0].split(" ")[1], headers, payload, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except Exception as exc:  # told to the test by __exit__
            self.errors.append(exc)
        finally:
            writer.close()

    async def _respond(
        self, path: str, headers: Mapping[str, str], payload: bytes, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; whether the connection lives on."""
        if path == "/v1/models":
            models = [{"id": name, "object": "model"} for name in self.behaviours]
            return await _send(writer, 200, {"object": "list", "data": models})
        body = json.loads(payload)
        style = {"/v1/chat/completions": "chat", "/v1/completions": "completion"}[path]
        order, place = recognise(body, style)
        given = given_answer(body, style)
        level = level_of(body, style) if order != "pe2" or given else None
        one = Received(
            hashlib.sha256(path.encode() + payload).hexdigest(),
            Arm(body["model"], style, order, level),
            place,
            headers.get("authorization"),
            body,
            given=given,
        )
        self.received.append(one)
        if self.latency:
            await asyncio.sleep(self.latency)
        if self.accepted_key is not None and one.authorization != f"Bearer {self.accepted_key}":
            one.outcome.append("401")
            given = str(one.authorization).removeprefix("Bearer ")
            return await _send(writer, 401, replies.error(f"Incorrect API key provided: {given}, {one.authorization}."))
        complaint = self._complaint(one)
        if complaint:
            one.outcome.append("400")
            return await _send(writer, 400, replies.error(complaint))
        some, always = (self.faults, self.always) if given is None else (self.explained_faults, self.explained_always)
        waiting = some.get(place)
        fault = waiting.pop(0) if waiting else always.get(place)
        if fault in ("429", "500", "400", "reset"):
            one.outcome.append(fault)
            return await _refuse(writer, fault)
        found = self._answer(one, fault)
        if self.usages:
            found["usage"] = self.usages.get(self._answers, self.usages.get(-1, found["usage"]))
            self._answers += 1
        status = await _send(writer, 200, found)
        one.outcome.extend(("200", fault or "ok"))
        return status

    def _complaint(self, one: Received) -> str | None:
        """Why this model rejects the body as such."""
        behaviour = self.behaviours.get(one.arm.model, Behaviour())
        if behaviour.logprobs == "rejected" and one.body.get("logprobs") not in (None, False):
            return "logprobs are not supported by this model"
        if behaviour.rejects_zero and one.body.get("temperature") == 0:
            return "temperature 0 is not supported by this model"
        return None

    def _answer(self, one: Received, fault: str | None) -> dict[str, Any]:
        arm, (example, word), table = one.arm, one.place, self.table
        behaviour = self.behaviours.get(arm.model, Behaviour())
        self._visits[one.digest] += 1
        visit = self._visits[one.digest]
        if fault == "refusal":
            return replies.body(arm.style, arm.model, None, "stop", None, refusal="I would rather not say.")
        if fault in ("content_filter", "empty"):
            finish = "content_filter" if fault == "content_filter" else "stop"
            return replies.body(arm.style, arm.model, "" if fault == "empty" else None, finish, None)
        form = arm.order if one.given is None else f"{arm.order} explained"
        label, explanation = table.label(arm, example, word, visit), table.explanation(arm, example, word)
        if one.given is not None and one.given not in (label, table.label(arm, example, word, visit + 1)):
            raise AssertionError(f"{one.given} was never answered for {one.place}")
        text = replies.compose(form, arm.style, label, explanation)
        if fault == "unparsed":
            text = "Who knows?" if one.given is None else "Explanation:"
        if fault == "contradiction":
            text = f"Answer: {next(letter for letter in LETTERS if letter != one.given)}\n{text}"
        top = one.body.get("top_logprobs") if arm.style == "chat" else one.body.get("logprobs")
        logprobs = None
        if behaviour.logprobs == "on" and top:
            tokens = replies.spell_tokens(text, arm.order, table.distribution(arm, example, word, visit), int(top))
            lists = arm.style == "completion" and behaviour.text_shape == "lists"
            logprobs = replies.list_logprobs(tokens) if lists else replies.content_logprobs(tokens)
        return replies.body(arm.style, arm.model, text, "length" if fault == "truncated" else "stop", logprobs)


def recognise(body: Mapping[str, Any], style: str) -> tuple[str, Place]:
    """Order, example and inserted word of a request, from the last input block of its prompt."""
    given = given_answer(body, style)
    if style == "chat":
        text = body["messages"][-1 if given is None else -3]["content"]
        answer, explanation = text.find("\nAnswer: <"), text.find("\nExplanation: <")
        order = "pe2" if explanation < 0 else "pe" if answer < explanation else "ep"
    else:
        text = body["prompt"].rpartition("\n\n")[2]
        order = "pe" if text.endswith("\nAnswer:") else "ep"
        if given is not None or (order == "pe" and "\nExplanation:" not in body["prompt"]):
            order = "pe2"
    tokens, words = TOKEN.findall(text), MARKER.findall(text)
    if len(tokens) != 1 or len(words) > 1 or not text.rstrip().endswith(("Explanation:", "Answer:", ".")):
        raise AssertionError(f"the last input block shows not one example: {text!r}")
    return order, (f"x{tokens[0]}", words[0] if words else None)


def given_answer(body: Mapping[str, Any], style: str) -> str | None:
    """The letter that a second call of order pe2 was given; None in every other call."""
    if style == "chat":
        turns = body["messages"]
        asked = "\nAnswer: <" not in turns[-1]["content"] and len(turns) > 2
        return turns[-2]["content"].removeprefix("Answer: ") if asked else None
    found = re.search(r"\nAnswer: ([A-Z])\nExplanation:$", body["prompt"])
    return found[1] if found else None


def level_of(body: Mapping[str, Any], style: str) -> str | None:
    """The verbosity that is asked for, None for the normal one: in chat by its text, else by how the shots explain."""
    if style == "chat":
        return next((name for name, text in LEVELS.items() if text in body["messages"][-1]["content"]), None)
    found = re.search(rf"The ({'|'.join(EAGERNESS)}) note about", body["prompt"])
    return found[1] if found else None


async def _send(writer: asyncio.StreamWriter, status: int, content: object, extra: str = "") -> bool:
    data = json.dumps(content).encode()
    fixed = f"content-type: application/json\r\ncontent-length: {len(data)}\r\n"
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\n{fixed}{extra}"
    writer.write(head.encode() + b"\r\n" + data)
    await writer.drain()
    return True


async def _refuse(writer: asyncio.StreamWriter, fault: str) -> bool:
    if fault == "429":
        return await _send(writer, 429, replies.error("slow down", "rate_limit"), "retry-after: 0.05\r\n")
    if fault == "reset":
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return False
    return await _send(writer, int(fault), replies.error("this prompt is not taken" if fault == "400" else "broken"))
