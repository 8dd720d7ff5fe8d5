"""The base of all HTTP servers of the tests: aiohttp in a thread of the test process, on a loopback port."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from aiohttp import web

MOST_THREADS = 256
LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Asked:
    """A request as it came in; `target` is its path with the query, names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    payload: bytes

    @property
    def path(self) -> str:
        """Its path without the query."""
        return self.target.partition("?")[0]

    @property
    def body(self) -> Any:
        """What it says in JSON."""
        return json.loads(self.payload)


@dataclass(frozen=True)
class Reply:
    """What goes out: bytes as they are, anything else as JSON.

    Of a reply that is `cut` half of the body is sent. Then the connection ends, or it stays open without another byte
    where the reply is `held`.
    """

    status: int = 200
    content: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    held: bool = False

    @property
    def data(self) -> bytes:
        """The body."""
        return self.content if isinstance(self.content, bytes) else json.dumps(self.content).encode()


RESET = Reply(-1)
"""The connection is reset instead of an answer."""
HANG_UP = Reply(-2)
"""The connection is closed instead of an answer."""
SILENCE = Reply(-3)
"""Nothing is sent, and the connection stays open until the client gives up."""


class LoopbackServer:
    """Use as a context manager. A subclass says in `reply`, or in the coroutine `respond`, what a request gets.

    What a subclass raises is raised again at the end. Without a `port` it takes a free one.
    """

    host: str = "127.0.0.1"
    port: int = 0

    @property
    def root(self) -> str:
        """The address without a path."""
        return f"http://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{self.root}/v1"

    def reply(self, asked: Asked) -> Reply:
        """Return what a request gets; called in a thread, so it may wait."""
        raise NotImplementedError

    async def respond(self, asked: Asked) -> Reply:
        """Return what a request gets; called in the thread of all connections, so it must not wait but by `await`."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.reply, asked)

    def __enter__(self) -> Self:
        self.failures: list[BaseException] = []
        self._threads = ThreadPoolExecutor(MOST_THREADS)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.do(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._threads.shutdown(wait=False)
        if self.failures and error is None:
            raise self.failures[0]

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the thread of all connections."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def open(self) -> None:
        """Take connections, at the same port as before."""
        self.is_open = True
        self._site = web.TCPSite(self._runner, self.host, self.port, backlog=1024)
        await self._site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Reset all connections, and refuse new ones."""
        if self.is_open:
            self.is_open = False
            await self._site.stop()
        for connection in self._server.connections:
            _reset(connection.transport)

    async def _start(self) -> None:
        self._server = web.Server(
            self._handle,
            request_factory=self._make_request,
            handler_cancellation=True,  # who waits for a client to give up ends with it
            access_log=None,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )
        self._runner = web.ServerRunner(self._server, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.open()

    def _make_request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(request.method, request.raw_path, headers, await request.read())
        try:
            reply = await self.respond(asked)
        except Exception as exc:  # told to the test by __exit__
            self.failures.append(exc)
            raise
        if reply in (RESET, HANG_UP, SILENCE) or reply.cut:
            return await self._break(request, reply)
        headers = {"content-type": "application/json", **reply.headers}
        if not "".join(headers.values()).isprintable():
            return self._write(request, reply, headers)
        return web.Response(status=reply.status, body=reply.data, headers=headers)

    def _write(self, request: web.BaseRequest, reply: Reply, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send headers that no sound server would send, and close the connection."""
        lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in headers.items())]
        lines += [f"content-length: {len(reply.data)}", "connection: close", "", ""]
        if isinstance(request.transport, asyncio.Transport):
            request.transport.write("\r\n".join(lines).encode() + reply.data)
            request.transport.close()
        return web.StreamResponse()

    async def _break(self, request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(status=max(reply.status, 200), headers=reply.headers)
        if reply.cut:
            response.content_length = len(reply.data)
            await response.prepare(request)
            await response.write(reply.data[: len(reply.data) // 2])
        if reply == SILENCE or reply.held:
            await asyncio.Event().wait()
        if reply == RESET:
            _reset(request.transport)
        elif request.transport is not None:
            request.transport.close()
        return response


def _reset(transport: asyncio.BaseTransport | None) -> None:
    """Close a connection without what TCP sends at its end."""
    if isinstance(transport, asyncio.Transport) and not transport.is_closing():
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
