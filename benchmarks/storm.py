"""A storm: 20 % 429, 5 % 500, 2 % resets, 2 % stalls, and room for 48 requests at once. Who comes through how fast?

Compares explaineval's client with a bare loop over `litellm.acompletion` (fixed concurrency, exponential backoff)
against the same server on the same machine in one run. Prints attempts per request and throughput as a share of the
server's capacity (48 requests under way, mean latency 0.4 s).

    python benchmarks/storm.py [REQUESTS]
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
from pathlib import Path

from explaineval.cache import open_store, request_key
from explaineval.client.cached import CachedClient, StoringClient
from explaineval.client.concurrency import ConcurrencyLimit, LimitedClient
from explaineval.client.litellm_client import LiteLLMClient, load_litellm
from explaineval.client.retries import RetryingClient
from explaineval.config import Endpoint
from explaineval.errors import RequestFailedError
from explaineval.records import Message, Request

CAPACITY = 48
MEDIAN, SIGMA = 0.35, 0.5
MEAN = MEDIAN * math.exp(SIGMA**2 / 2)
RETRY_AFTER = 0.5
STALL = 3.0
FAULTS = (("429", 0.20), ("500", 0.05), ("reset", 0.02), ("stall", 0.02))


class Storm:
    """The server: counts bodies, refuses what exceeds its capacity, and breaks a share of all requests."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
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
        if self.under_way >= CAPACITY:
            fault = "full"
        self.outcomes[fault] += 1
        if fault in ("429", "full"):
            self.send(
                writer, 429, {"error": {"message": "slow down", "type": "requests"}}, f"retry-after: {RETRY_AFTER}\r\n"
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
            await asyncio.sleep(MEDIAN * math.exp(self.random.gauss(0, SIGMA)))
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


async def ours(url: str, count: int) -> int:
    """explaineval's whole client; returns how many were answered."""
    stopping = asyncio.Event()
    wire = LiteLLMClient({url: Endpoint(url, url)}, timeout=STALL)
    answered = 0
    with tempfile.TemporaryDirectory() as directory, open_store(Path(directory)) as store:
        gate = ConcurrencyLimit(64, stopping)
        slots = LimitedClient(StoringClient(wire, store), gate, stopping)
        client = CachedClient(RetryingClient(slots, 6, stopping, gate.is_busy), store, stopping)
        work = iter(requests(count, url))

        async def worker() -> None:
            nonlocal answered
            for request in work:
                try:
                    await client.complete(request)
                    answered += 1
                except RequestFailedError as exc:
                    print("failed:", exc)

        await asyncio.gather(*(worker() for _ in range(96)))
        stored = sum(store.get(request_key(request)) is not None for request in requests(count, url))
        print(f"  stored {stored} of {count}")
    await wire.close()
    return answered


async def bare(url: str, count: int) -> int:
    """The private script: a semaphore, litellm, exponential backoff."""
    import litellm

    gate = asyncio.Semaphore(64)
    answered = 0

    async def one(request: Request) -> None:
        nonlocal answered
        for attempt in range(20):
            async with gate:
                try:
                    await litellm.acompletion(
                        model=request.model, api_base=url, api_key="none", max_tokens=32, temperature=0,
                        messages=[message.model_dump() for message in request.messages or ()],
                        timeout=STALL, num_retries=0, max_retries=0,
                    )  # fmt: skip
                except Exception:  # noqa: S110 - whatever it is, the script tries again
                    pass
                else:
                    answered += 1
                    return
            await asyncio.sleep(random.random() * min(60, 2**attempt))

    await asyncio.gather(*(one(request) for request in requests(count, url)))
    return answered


async def serve() -> None:
    """The storm in a process of its own: tells its port, and its counts when standard input closes."""
    storm = Storm()
    server = await asyncio.start_server(storm.handle, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    twice = sum(times > 1 for times in storm.answered.values())
    print(json.dumps({"attempts": sum(storm.bodies.values()), "twice": twice, **storm.outcomes}), flush=True)


def main(count: int) -> None:
    """Run both against a fresh storm each."""
    for name, client in (("explaineval", ours), ("bare litellm loop", bare)):
        child = subprocess.Popen([sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        url = f"http://127.0.0.1:{int(child.stdout.readline())}/v1"
        print(name, flush=True)
        load_litellm()  # its import is not what is measured
        started, cpu = time.perf_counter(), time.process_time()
        answered = asyncio.run(client(url, count))
        seconds = time.perf_counter() - started
        seen = json.loads(child.communicate()[0])
        share = answered / seconds / (CAPACITY / MEAN)
        print(
            f"  answered {answered} of {count} in {seconds:.1f} s ({time.process_time() - cpu:.1f} s of CPU), "
            f"{seen['attempts'] / count:.2f} attempts a request, {share:.0%} of capacity, {seen}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        asyncio.run(serve())
    else:
        parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("requests", nargs="?", type=int, default=5000, help="how many to ask (default 5000)")
    main(parser.parse_args().requests)
