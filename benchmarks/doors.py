"""A port of this machine that leads to another one and can be closed for a while, as when a server restarts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

BLOCK = 1 << 16


class Door:
    """Forwards connections to a port of loopback.

    While it is closed, connections are refused; those that were open are cut.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._do(self._listen())

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Keep it closed while inside."""
        self._do(self._close())
        try:
            yield
        finally:
            self._do(self._listen())

    def close(self) -> None:
        """Close it for good."""
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=256)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.sleep(0.1)  # those who forward notice it

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            their_reader, their_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._open |= {writer, their_writer}
            try:
                await asyncio.gather(forward(reader, their_writer), forward(their_reader, writer))
            finally:
                self._open -= {writer, their_writer}
                for end in (writer, their_writer):
                    end.close()


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on what comes until it ends."""
    with suppress(OSError):
        while block := await reader.read(BLOCK):
            writer.write(block)
            await writer.drain()
    writer.close()
