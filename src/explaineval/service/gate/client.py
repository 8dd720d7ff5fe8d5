"""The process of a run asks the server for its limits before each attempt."""

from __future__ import annotations

import asyncio
import itertools
import json
import select
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from explaineval.errors import RequestUnsentError
from explaineval.service.gate.connection import encode

BLOCK = 1 << 16


class GateClient:
    """Limits kept by the server at the other end of a connection (see `client.protocol.SharedLimits`).

    Where the server asks the run to stop, or is gone, nothing more is granted and `on_stop` is called once.

    Args:
        connection: a connected socket.
        on_stop: called with whether the server is gone.
    """

    def __init__(self, connection: socket.socket, on_stop: Callable[[bool], None]) -> None:
        self.connection = connection
        self.on_stop = on_stop
        self.ended: str | None = None
        self._full = False
        self.answered: frozenset[str] = frozenset()
        """The endpoints that had answered a run of the service before this process was started."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reservations: defaultdict[tuple[str, float], list[int]] = defaultdict(list)
        """Open reservations by the key of the request and their dollars: such ones are interchangeable."""
        self._rest = b""

    def attach(self) -> None:
        """Read from the connection by the event loop that runs now."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop and self.ended is None:
            self._loop = loop
            loop.add_reader(self.connection, self._read)
            loop.call_soon(self._take_lines)  # what came together with the message before

    def receive(self) -> dict[str, Any]:
        """Wait for one message, outside of an event loop. Raises EOFError where the server is gone."""
        while b"\n" not in self._rest:
            block = self.connection.recv(BLOCK)
            if not block:
                raise EOFError
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; nothing happens where the server is gone."""
        try:
            self.connection.sendall(encode(message))
        except OSError:
            self._end("the service has ended", gone=True)

    def wait(self, seconds: float) -> None:
        """Wait outside of an event loop, and take what the server says meanwhile."""
        if select.select([self.connection], [], [], seconds)[0]:
            self._read()

    async def reserve(self, usd: float, key: str) -> bool:
        """Reserve dollars for an attempt at a request; False if they can no longer fit. What is free needs none."""
        if usd <= 0:
            self._raise_ended()
            return True
        reply = await self._ask({"do": "reserve", "usd": usd, "key": key or None})
        if reply["reservation"] is None:
            return False
        self._reservations[key, usd].append(reply["reservation"])
        return True

    def release(self, usd: float, cost: float, key: str, *, billed: bool) -> None:
        """End a reservation of so many dollars for a request with what the attempt cost, and whether that is known."""
        if usd <= 0:
            return
        held = self._reservations[key, usd]
        self.send({"do": "release", "reservation": held.pop(), "cost": cost, "billed": billed})
        if not held:
            del self._reservations[key, usd]

    @asynccontextmanager
    async def slot(self, place: str, tokens: int) -> AsyncIterator[None]:
        """Hold one of the endpoint's connections, once its rates allow a request of about so many tokens."""
        reply = await self._ask({"do": "take", "place": place, "tokens": tokens})
        try:
            yield
        finally:
            self.send({"do": "give_back", "place": place, "taken": reply["number"]})

    def note_full(self, reason: str | None) -> None:
        """Say that answers wait for room on the disk, or that they no longer do."""
        if self._full != (reason is not None):
            self._full = reason is not None
            self.send({"do": "full", "reason": reason})

    async def next_probe(self, place: str) -> bool:
        """Wait until this run may try an endpoint that does not answer; False where another one found it answering."""
        try:
            reply = await self._ask({"do": "probe", "place": place})
        except RequestUnsentError:  # the run stops: nothing is waited for
            return False
        return bool(reply["granted"])

    def probed(self, place: str, *, answers: bool) -> None:
        """Say what came of the attempt that `next_probe` allowed."""
        self.send({"do": "probed", "place": place, "answers": answers})

    def has_answered(self, place: str) -> bool:
        """Return whether an endpoint has answered a run of the service before this process was started."""
        return place in self.answered

    def correct(self, place: str, estimated: int, used: int) -> None:
        """Replace the estimate of a request's tokens by what it used."""
        self.send({"do": "correct", "place": place, "estimated": estimated, "used": used})

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        self.attach()
        self._raise_ended()
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self.send({**message, "number": number})
            reply: dict[str, Any] = await future
        finally:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._waiting.pop(number, None)
        if "reason" in reply:
            raise RequestUnsentError(str(reply["reason"]))
        return reply

    def _raise_ended(self) -> None:
        if self.ended is not None:
            raise RequestUnsentError(self.ended)

    def _read(self) -> None:
        try:
            block = self.connection.recv(BLOCK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        if not block:
            self._end("the service has ended", gone=True)
            return
        self._rest += block
        self._take_lines()

    def _take_lines(self) -> None:
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if message["do"] == "stop":
            self._end("the run is stopping", gone=False)
            return
        number = message["number"]
        future = self._waiting.get(number)
        if future is not None and not future.done():
            future.set_result(message)
            return
        self._waiting.pop(number, None)  # nobody waits for it any longer
        if message["do"] == "taken":
            self.send({"do": "give_back", "place": message["place"], "taken": number})
        elif message.get("reservation") is not None:
            self.send({"do": "release", "reservation": message["reservation"], "cost": 0.0, "billed": True})

    def _end(self, reason: str, *, gone: bool) -> None:
        if gone and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self.connection)
        first, self.ended = self.ended is None, self.ended or reason
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(RequestUnsentError(self.ended))
        if first:
            self.on_stop(gone)
