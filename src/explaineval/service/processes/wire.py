"""The server's end of the connection to the process of one run: lines of JSON over a pair of sockets.

What the process asks is answered from the ledger and the turns of endpoints. When the connection ends, as it does when
the process dies, its turns are given back; what it left reserved is settled when the process has ended.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import select
import socket
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from explaineval.errors import RequestUnsentError
from explaineval.service.processes.budgets import Budgets
from explaineval.service.processes.sharing import RateQueue, Turns

LONGEST_LINE = 16 << 20
"""Bytes of a message; progress with many models is the longest."""


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True)
class PendingRequest:
    """One request of a run that waits: for room in the budget (place None) or for its turn at a place, since when."""

    place: str | None
    since: float


@dataclass(frozen=True)
class Idle:
    """Why nothing of a run is under way: what all its requests wait for, since when, and for how long at least."""

    waits_for: Literal["budget", "endpoint", "rate", "turn"]
    since: float
    seconds: float = 0.0
    place: str | None = None


@dataclass(eq=False)
class RunConnection:
    """The connection to the process of one run of a token.

    `paces` are the rates that the run itself keeps to, by place. `receive` gets what is not about limits. `out` are the
    endpoints for which all models wait that are not done.
    """

    run: str
    token: str
    ledger: Budgets
    turns: Turns
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    receive: Callable[[dict[str, Any]], None]
    paces: Mapping[str, RateQueue] = field(default_factory=dict)
    out: frozenset[str] = frozenset()
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _held: Counter[str] = field(default_factory=Counter, init=False)
    _waiting: dict[int, PendingRequest] = field(default_factory=dict, init=False)
    _probes: dict[int, str] = field(default_factory=dict, init=False)
    """The endpoints that are tried, by the numbers of the turns."""
    _busy: float = field(default=0.0, init=False)
    """When something was under way last."""

    async def serve(self) -> None:
        """Answer until the connection ends."""
        try:
            while line := await self.reader.readline():
                self._handle(json.loads(line))
        except (ValueError, LookupError, TypeError, ConnectionError):  # no message of ours: it is not trusted any more
            pass
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.turns.outages.leave(self.run)
            for place, count in self._held.items():
                for _ in range(count):
                    self.turns.endpoints[place].give_back()
            self._held.clear()
            self.writer.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; nothing happens where the process is gone."""
        if not self.writer.is_closing():
            self.writer.write(encode(message))

    def idle(self) -> Idle | None:
        """Return why nothing of the run is under way; None where something is, or nothing waits."""
        outages, now = self.turns.outages.now, asyncio.get_running_loop().time()
        unpaid = sum(one.place is None for one in self._waiting.values())  # they have a connection and are not sent
        if self._held.total() - unpaid > len(self._probes) or not (self._waiting or self.out or self._probes):
            return None
        places = {one.place for one in self._waiting.values()} | self.out | set(self._probes.values())
        named = sorted(place for place in places if place is not None)
        out = [place for place in named if place in outages]
        if out and len(out) == len(places):
            return Idle("endpoint", outages[out[0]].begun, place=out[0])
        since = max(self._busy, min((one.since for one in self._waiting.values()), default=now))
        if not named:
            return Idle("budget", since)
        seconds = min(self._due(place, now) for place in named)
        return Idle("rate" if seconds > 0 else "turn", since, seconds, named[0])

    def _due(self, place: str, now: float) -> float:
        own = self.paces[place].due(self.run, now) if place in self.paces else 0.0
        return max(own, self.turns.endpoints[place].pace.due(self.run, now))

    def _handle(self, message: dict[str, Any]) -> None:
        match message.pop("do"):
            case "reserve":
                self._start(self._reserve(**message))
            case "release":
                self.ledger.release(message["reservation"], message["cost"], billed=message["billed"])
            case "take":
                self._start(self._take(**message))
            case "give_back":
                self._give_back(message["place"], message["taken"])
            case "correct":
                turns = self.turns.endpoints.get(message["place"])
                if turns is not None:
                    self.turns.outages.answered(message["place"])
                    for pace in (turns.pace, self.paces.get(message["place"])):
                        if pace is not None:
                            pace.rate.correct(message["estimated"], message["used"])
            case "probe":
                self._start(self._probe(**message))
            case "probed":
                if message["answers"]:
                    self.turns.outages.answered(message["place"])
                else:
                    self.turns.outages.failed(message["place"], self.run)
            case other:
                self.receive({"do": other, **message})

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait(self, number: int, place: str | None, turn: Coroutine[Any, Any, Any]) -> Any:
        """Wait for what a request of the run asked for, and note that it waits. Raises RequestUnsentError."""
        self._waiting[number] = PendingRequest(place, asyncio.get_running_loop().time())
        try:
            return await turn
        finally:
            del self._waiting[number]

    async def _reserve(self, number: int, usd: float, key: str | None) -> None:
        try:
            granted = await self._wait(number, None, self.ledger.reserve(self.run, self.token, usd, key))
        except RequestUnsentError as exc:
            self.send({"do": "unsent", "number": number, "reason": str(exc)})
            return
        self.send({"do": "reserved", "number": number, "reservation": granted})

    async def _take(self, number: int, place: str, tokens: int) -> None:
        turns = self.turns.endpoints.get(place)
        if turns is not None:
            await self._wait(number, place, self._turn(number, place, tokens))
            self._held[place] += 1
        self.send({"do": "taken", "number": number, "place": place})

    async def _turn(self, number: int, place: str, tokens: int) -> None:
        """Wait for a connection; while an endpoint does not answer, for being the one that tries it."""
        turns, outages = self.turns.endpoints[place], self.turns.outages
        await turns.take(tokens, self.run, self.paces.get(place))
        while place in outages.now:
            if outages.try_now(place, self.run):
                self._probes[number] = place
                return
            turns.give_back()  # who has to wait holds no connection
            await outages.enter(place, self.run)
            await turns.take(tokens, self.run)

    async def _probe(self, number: int, place: str) -> None:
        self.turns.outages.begin(place)
        granted = await self._wait(number, place, self.turns.outages.enter(place, self.run))
        self.send({"do": "probe", "number": number, "granted": granted})

    def _give_back(self, place: str, taken: int) -> None:
        if self._held[place] > 0:
            self._held[place] -= 1
            self._busy = asyncio.get_running_loop().time()
            if self._probes.pop(taken, None) is not None:  # an answer would have ended the outage before
                self.turns.outages.failed(place, self.run)
            self.turns.endpoints[place].give_back()


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
