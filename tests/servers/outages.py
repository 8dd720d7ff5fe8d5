"""An OpenAI-shaped endpoint that can go out of service and come back, while the test says so."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from types import TracebackType
from typing import Literal, Self

Manner = Literal["refused", "reset", "503", "500"]


class FailingServer:
    """Answers every prompt with letter A. Use as a context manager.

    `go_down` takes it out of service in one manner, after `answers` more answers; `come_back` ends that. `answered` and
    `failed` count requests, `under_way` those that are being answered; while connections are refused none is counted.
    """

    def __init__(self, latency: float = 0.0) -> None:
        self.latency = latency
        self.answered = self.failed = self.under_way = 0
        self.reached_down = threading.Event()
        self._manner: Manner | None = None
        self._left = 0
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def go_down(self, manner: Manner, answers: int = 0) -> None:
        self._manner, self._left = manner, answers

    def come_back(self) -> None:
        self._manner = None
        if self._server is None:
            self._call(self._open())

    def _call(self, work: asyncio.Future[None] | object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)  # type: ignore[arg-type]

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", self.port)

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in list(self._writers):
            self._reset(writer)

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        raw = writer.get_extra_info("socket")
        if raw is not None and not writer.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = next(
                    (row.split(":")[1] for row in head.split("\r\n") if row.startswith("content-length")), "0"
                )
                await reader.readexactly(int(length))
                self.under_way += 1
                try:
                    await asyncio.sleep(self.latency)
                finally:
                    self.under_way -= 1
                if self._manner is None or self._left > 0:
                    self._left -= 1
                    self.answered += 1
                    self._send(writer, 200, ANSWER)
                    continue
                self.failed += 1
                self.reached_down.set()
                if self._manner == "refused":
                    await self._close()
                    return
                if self._manner == "reset":
                    self._reset(writer)
                    return
                self._send(writer, int(self._manner), {"error": {"message": "not now"}})
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    @staticmethod
    def _send(writer: asyncio.StreamWriter, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        writer.write(
            b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(text))
        )
        writer.write(text)


ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Answer: A\nExplanation: because it says so."},
        }
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30},
}
