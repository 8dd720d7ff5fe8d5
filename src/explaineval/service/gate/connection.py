"""The server's end of the connection to the process of one run: lines of JSON over a pair of sockets.

What the process asks is answered from the ledger and the turns of endpoints. When the connection ends, as it does when
the process dies, its turns are given back and its open reservations are booked at their worst case.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from explaineval.errors import RequestUnsentError
from explaineval.service.gate.ledger import Ledger
from explaineval.service.gate.turns import Turns

LONGEST_LINE = 16 << 20
"""Bytes of a message; progress with many models is the longest."""


def encode(message: dict[str, Any]) -> bytes:
    """Return a message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


@dataclass(eq=False)
class RunConnection:
    """The connection to the process of one run of a token. `receive` gets what is not about limits."""

    run: str
    token: str
    ledger: Ledger
    turns: Turns
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    receive: Callable[[dict[str, Any]], None]
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _held: Counter[str] = field(default_factory=Counter, init=False)

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
            for place, count in self._held.items():
                for _ in range(count):
                    self.turns.endpoints[place].give_back()
            self.ledger.settle_run(self.run)
            self.writer.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; nothing happens where the process is gone."""
        if not self.writer.is_closing():
            self.writer.write(encode(message))

    def _handle(self, message: dict[str, Any]) -> None:
        match message.pop("do"):
            case "reserve":
                self._start(self._reserve(**message))
            case "release":
                self.ledger.release(message["reservation"], message["cost"])
            case "take":
                self._start(self._take(**message))
            case "give_back":
                self._give_back(message["place"])
            case "correct":
                turns = self.turns.endpoints.get(message["place"])
                if turns is not None:
                    turns.rate.correct(message["estimated"], message["used"])
            case other:
                self.receive({"do": other, **message})

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reserve(self, number: int, usd: float) -> None:
        try:
            granted = await self.ledger.reserve(self.run, self.token, usd)
        except RequestUnsentError as exc:
            self.send({"do": "unsent", "number": number, "reason": str(exc)})
            return
        self.send({"do": "reserved", "number": number, "reservation": granted})

    async def _take(self, number: int, place: str, tokens: int) -> None:
        turns = self.turns.endpoints.get(place)
        if turns is not None:
            await turns.take(tokens)
            self._held[place] += 1
        self.send({"do": "taken", "number": number, "place": place})

    def _give_back(self, place: str) -> None:
        if self._held[place] > 0:
            self._held[place] -= 1
            self.turns.endpoints[place].give_back()
