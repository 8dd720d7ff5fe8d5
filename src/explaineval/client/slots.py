"""One model's way through its endpoint's gate, and the circuit that opens when the model cannot be reached."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from explaineval.client.budgets import BillCheck
from explaineval.client.gates import Gate
from explaineval.client.protocols import Client
from explaineval.costs import total_tokens
from explaineval.errors import EndpointError, RequestUnsentError, TransientError
from explaineval.records import Completion, Request

FAILURES_IN_A_ROW = 20
CHARACTERS_PER_TOKEN = 4
BELIEVED = 16
"""How many times the tokens booked for a request an answer may have used."""


@dataclass
class SlotClient:
    """Sends a request when the gate lets it in, and gives up on a model that is dead.

    After FAILURES_IN_A_ROW failed attempts (and one for each place in the gate) without one success in between, or the
    first error that no retry can mend (wrong key, unknown model), `down` says why and every further request is turned
    away unsent. So it is after a bill that cannot be right (`bills`).
    """

    inner: Client
    gate: Gate
    stopping: asyncio.Event
    bills: BillCheck | None = None
    down: EndpointError | None = field(default=None, init=False)
    _failures: int = field(default=0, init=False)

    async def complete(self, request: Request) -> Completion:
        """One attempt inside a slot."""
        booked = _tokens(request)
        self._turn_away()  # at once: the gate's pace is for what is sent
        async with self.gate.slot(booked):
            self._turn_away()
            try:
                completion = await self.inner.complete(request)
            except TransientError as exc:
                self.gate.failed(exc)
                self._count(exc)
                raise
            except EndpointError as exc:
                self.down = exc
                raise
            self._failures = 0
            self.gate.answered(booked, _used(completion, most=BELIEVED * booked))
            return completion

    def _turn_away(self) -> None:
        if self.stopping.is_set():
            raise RequestUnsentError("the run is stopping")
        reason = self.down or (None if self.bills is None else self.bills.fault)
        if reason is not None:
            raise RequestUnsentError(str(reason))

    def _count(self, exc: TransientError) -> None:
        if exc.overload:  # it is alive, only busy
            return
        self._failures += 1
        if self._failures >= FAILURES_IN_A_ROW + self.gate.ceiling:
            self.down = EndpointError(f"{exc}; {self._failures} attempts in a row failed, so no more are made.")


def _tokens(request: Request) -> int:
    """About how many tokens a request takes: its text, and what it may answer at the most."""
    characters = len(request.prompt or "") + sum(len(message.content) for message in request.messages or ())
    return characters // CHARACTERS_PER_TOKEN + request.max_tokens


def _used(completion: Completion, most: int) -> int:
    """The tokens that the endpoint counted, `most` at the most: one wild count must not hold up the pace for hours."""
    return min(most, total_tokens(completion.usage))
