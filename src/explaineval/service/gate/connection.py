"""The server's end of the connection to the process of one run: lines of JSON over a pair of sockets.

What the process asks is answered from the ledger and the turns of endpoints. When the connection ends, as it does when
the process dies, its turns are given back; what it left reserved is settled when the process has ended.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from explaineval.errors import RequestUnsentError
from explaineval.service.gate.ledger import Budgets
from explaineval.service.gate.turns import RateQueue, Turns

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
        if self._held.total() - unpaid > len(self._probes) or not (self._waiting or self.out):
            return None
        places = {one.place for one in self._waiting.values()} | self.out
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
