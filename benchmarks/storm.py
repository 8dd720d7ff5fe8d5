"""A storm: 20 % 429, 5 % 500, 2 % resets, 2 % stalls, and little room. Who comes through, how fast, how politely?

Compares explaineval's client with a bare loop over `litellm.acompletion` with tenacity (64 at a time, random
exponential backoff, attempts without end) against the same server on the same machine in one run: a server with room
for 48 requests at once, and explaineval alone against one with room for 12.

The faults that the server draws are no client's fault. So beside the attempts a request stands how many these faults
alone make necessary, and throughput is a share of what the server can answer with them: each attempt takes its room for
0.4 s on average (a stall for 3 s, a 429 or a reset for no time). The limit in force is that of the second half of the
run, at each attempt.

    python benchmarks/storm.py [REQUESTS] [--small REQUESTS] [--no-rival] [--slower FACTOR]

On a machine with little to spare the client itself is slower than the server can answer: then nothing is measured, and
`--slower 4` makes the server take four times as long for everything.

Exits 1 where throughput is below 75 % of the capacity, more than 1.3 times the necessary attempts are made, the limit
is more than 1.2 times the room, or an answer is lost or paid for twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenacity import retry, wait_random_exponential

from explaineval.cache import open_store, request_key
from explaineval.client.cached import AnswerWriter, CachedClient, StoringClient
from explaineval.client.concurrency import ConcurrencyLimit, LimitedClient
from explaineval.client.litellm_client import LiteLLMClient, load_litellm
from explaineval.client.retries import RetryingClient
from explaineval.config import Endpoint
from explaineval.errors import RequestFailedError
from explaineval.records import Completion, Message, Request

ROOM, SMALL_ROOM = 48, 12
CEILING, WORKERS = 64, 96
MEDIAN, SIGMA = 0.35, 0.5
MEAN = MEDIAN * math.exp(SIGMA**2 / 2)
RETRY_AFTER = 0.5
STALL = 3.0
FAULTS = (("429", 0.20), ("500", 0.05), ("reset", 0.02), ("stall", 0.02))
SHARE = dict(FAULTS)
ANSWERED = 1 - sum(SHARE.values())
HELD = (ANSWERED + SHARE["500"]) * MEAN + SHARE["stall"] * STALL
"""Seconds for which an attempt takes room, on average."""
LEAST_THROUGHPUT, MOST_ATTEMPTS, MOST_ABOVE = 0.75, 1.3, 1.2


class Storm:
    """The server: counts bodies, refuses what exceeds its capacity, and breaks a share of all requests."""

    def __init__(self, room: int, slower: float, seed: int = 0) -> None:
        self.random = random.Random(seed)
        self.room, self.slower = room, slower
        self.under_way = 0
        self.bodies: Counter[bytes] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.answered: Counter[bytes] = Counter()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                length = int(next(line.split(b":")[1] for line in lines if b"content-length" in line))
                body = await reader.readexactly(length)
                if not await self.answer(body, reader, writer):
                    return
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError, StopIteration):
            pass
        finally:
            writer.close()

    async def answer(self, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self.bodies[body] += 1
        draw, fault = self.random.random(), "200"
        for name, share in FAULTS:
            if draw < share:
                fault = name
                break
            draw -= share
        if self.under_way >= self.room:
            fault = "full"
        self.outcomes[fault] += 1
        if fault in ("429", "full"):
            self.send(
                writer,
                429,
                {"error": {"message": "slow down", "type": "requests"}},
                f"retry-after: {RETRY_AFTER * self.slower:g}\r\n",
            )
            return True
        self.under_way += 1
        try:
            if fault == "reset":
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            if fault == "stall":
                await reader.read(1)  # until the client gives up
                return False
            await asyncio.sleep(self.slower * MEDIAN * math.exp(self.random.gauss(0, SIGMA)))
            if fault == "500":
                self.send(writer, 500, {"error": {"message": "oops", "type": "server_error"}})
                return True
            self.answered[body] += 1
            self.send(writer, 200, ANSWER)
            return True
        finally:
            self.under_way -= 1

    def send(self, writer: asyncio.StreamWriter, status: int, value: object, extra: str = "") -> None:
        text = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n{extra}\r\n"
        writer.write(head.encode() + text)


TEXT = "Answer: A\nExplanation: so."
ANSWER = {
    "id": "x", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18},
}  # fmt: skip


def requests(count: int, url: str) -> list[Request]:
    """Distinct chat requests."""
    return [
        Request(
            endpoint=url,
            model="openai/m",
            style="chat",
            messages=(Message(role="user", content=f"question {index}"),),
            max_tokens=32,
            temperature=0,
        )
        for index in range(count)
    ]


async def ours(url: str, count: int, patience: float) -> tuple[int, list[int]]:
    """explaineval's whole client; returns how many answers are stored, and the limits in force in the second half."""
    stopping = asyncio.Event()
    wire = LiteLLMClient({url: Endpoint(url, url)}, timeout=patience)
    limits: list[int] = []
    with tempfile.TemporaryDirectory() as directory, open_store(Path(directory)) as store:
        limit = ConcurrencyLimit(CEILING, stopping)

        class Noting:
            async def complete(self, request: Request) -> Completion:
                limits.append(limit.adaptive.slots)
                return await wire.complete(request)

        slots = LimitedClient(StoringClient(Noting(), AnswerWriter(store, stopping)), limit, stopping)
        client = CachedClient(RetryingClient(slots, 6, stopping, limit.is_busy), store, stopping)
        work = iter(requests(count, url))

        async def worker() -> None:
            for request in work:
                try:
                    await client.complete(request)
                except RequestFailedError as exc:
                    print("failed:", exc)

        await asyncio.gather(*(worker() for _ in range(WORKERS)))
        stored = sum(store.get(request_key(request)) is not None for request in requests(count, url))
    await wire.close()
    return stored, limits[len(limits) // 2 :]


async def bare(url: str, count: int, patience: float) -> tuple[int, list[int]]:
    """The private script: a semaphore, litellm, and tenacity with random exponential backoff."""
    import litellm

    gate = asyncio.Semaphore(CEILING)

    @retry(wait=wait_random_exponential(multiplier=0.5, max=60))
    async def one(request: Request) -> None:
        async with gate:
            await litellm.acompletion(
                model=request.model, api_base=url, api_key="none", max_tokens=32, temperature=0,
                messages=[message.model_dump() for message in request.messages or ()],
                timeout=patience, num_retries=0, max_retries=0,
            )  # fmt: skip

    await asyncio.gather(*(one(request) for request in requests(count, url)))
    return count, [CEILING]


async def serve(room: int, slower: float) -> None:
    """The storm in a process of its own: tells its port, and its counts when standard input closes."""
    storm = Storm(room, slower)
    server = await asyncio.start_server(storm.handle, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    twice = sum(times > 1 for times in storm.answered.values())
    print(json.dumps({"attempts": sum(storm.bodies.values()), "twice": twice, **storm.outcomes}), flush=True)


Client = Callable[[str, int, float], Coroutine[Any, Any, tuple[int, list[int]]]]


@dataclass(frozen=True)
class Result:
    """What a client did: answers a second as a share of the capacity, attempts as a multiple of the necessary ones, and
    the highest limit in force, apart from the highest hundredth, as a multiple of the room; answers that are missing,
    and requests that were answered more than once.
    """

    throughput: float
    attempts: float
    above: float
    lost: int
    twice: int

    def faults(self) -> list[str]:
        """What falls short."""
        found = [f"throughput is {self.throughput:.0%} of the capacity"] * (self.throughput < LEAST_THROUGHPUT)
        found += [f"{self.attempts:.2f} times the necessary attempts"] * (self.attempts > MOST_ATTEMPTS)
        found += [f"the limit is {self.above:.2f} times the room"] * (self.above > MOST_ABOVE)
        found += [f"{self.lost} requests have no answer"] * (self.lost > 0)
        return found + [f"{self.twice} requests were answered twice"] * (self.twice > 0)


def weather(name: str, client: Client, room: int, count: int, slower: float) -> Result:
    """Send `count` requests into a fresh storm, and print what became of them."""
    command = [sys.executable, __file__, "serve", str(room), str(slower)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    url = f"http://127.0.0.1:{int(child.stdout.readline())}/v1"
    load_litellm()  # its import is not what is measured
    started, cpu = time.perf_counter(), time.process_time()
    answered, limits = asyncio.run(client(url, count, STALL * slower))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    seen = json.loads(child.communicate()[0])
    capacity = room * ANSWERED / (HELD * slower)
    high = sorted(limits)[-1 - len(limits) // 100]
    rate, attempts = answered / seconds, seen["attempts"] / count
    result = Result(rate / capacity, attempts * ANSWERED, high / room, count - answered, seen["twice"])
    print(
        f"{name}, room for {room}: {answered:,} answers in {seconds:.1f} s ({cpu:.1f} s of CPU), {rate:.0f} a "
        f"second of {capacity:.0f} that the server can give ({result.throughput:.0%})\n"
        f"  {attempts:.2f} attempts a request, of which {1 / ANSWERED:.2f} are necessary "
        f"({result.attempts:.2f} times as many); {seen.get('full', 0) / count:.2f} a request met a full server\n"
        f"  limit in force: {sum(limits) / len(limits):.1f} on average, {high} at most: {result.above:.2f} times the "
        f"room\n  {seen}",
        flush=True,
    )
    return result


def main() -> int:
    """Weather the storms, and say what falls short."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", nargs="?", type=int, default=5000, help="requests to the large server (5000)")
    parser.add_argument("--small", type=int, default=1500, help="requests to the small server (1500)")
    parser.add_argument("--no-rival", action="store_true", help="leave out the bare loop")
    parser.add_argument("--slower", type=float, default=1.0, help="how many times as long the server takes (1)")
    asked = parser.parse_args()
    faults = weather("explaineval", ours, ROOM, asked.requests, asked.slower).faults()
    faults += weather("explaineval", ours, SMALL_ROOM, asked.small, asked.slower).faults()
    if not asked.no_rival:
        weather("bare loop with tenacity", bare, ROOM, asked.requests, asked.slower)
    for fault in faults:
        print(fault)
    return int(bool(faults))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(int(sys.argv[2]), float(sys.argv[3])))
    else:
        sys.exit(main())
