"""The spending limit: before each attempt its worst case is reserved, with its answer the true cost is settled.

What is settled and what is held never exceed a limit together, whatever the concurrency, as long as no attempt costs
more than its worst case. Where an endpoint bills more than that, the bill is booked and nothing more is asked of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from explaineval.client.protocol import Client
from explaineval.cost import Price, dollars, input_tokens, is_metered, most_dollars, most_tokens, output_tokens
from explaineval.errors import (
    BudgetReachedError,
    EndpointError,
    RequestRejectedError,
    RequestUnsentError,
    TransientError,
)
from explaineval.records import Completion, Request

ROUNDING = 1e-9
"""How much more than reserved a bill may be, as a share: sums in another order differ by so little."""
SLACK = 1e-12
"""By what share of a limit sums of the same amounts in another order may differ: the last cent can be spent in any."""


@dataclass
class Purse:
    """A limit in dollars (None: none), what is spent of it, and what is held for attempts under way."""

    limit: float | None
    spent: float = field(default=0.0, init=False)
    held: float = field(default=0.0, init=False)
    under_way: int = field(default=0, init=False)

    @property
    def overdrawn(self) -> bool:
        """Whether more is spent than the limit allows."""
        return self.limit is not None and self.spent > self.limit * (1 + SLACK)

    def is_short(self, amount: float) -> bool:
        """Whether the amount can no longer be spent, whatever the attempts under way will cost; nothing always can."""
        return self.limit is not None and amount > 0 and self.spent + amount > self.limit * (1 + SLACK)

    def has(self, amount: float) -> bool:
        """Whether the amount fits beside all that is held."""
        return self.limit is None or amount <= 0 or self.spent + self.held + amount <= self.limit * (1 + SLACK)

    def hold(self, amount: float) -> None:
        """Reserve."""
        self.under_way += 1
        self.held += amount

    def settle(self, amount: float, cost: float) -> None:
        """Give back what was held and book what it cost."""
        self.under_way -= 1
        self.held = self.held - amount if self.under_way else 0.0  # no rounding is left behind
        self.spent += cost


@dataclass(eq=False)
class _Claim:
    amount: float
    purses: Sequence[Purse]
    turn: asyncio.Future[bool] | None


@dataclass
class Budget:
    """Hands out reservations over all models of a run; who does not fit yet waits until something is settled."""

    total: Purse
    _waiting: deque[_Claim] = field(default_factory=deque, init=False)

    async def reserve(self, amount: float, own: Purse) -> bool:
        """Hold an amount of the whole budget and of a model's own; False where it can no longer fit."""
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        claim = _Claim(amount, (self.total, own), turn)
        verdict = self._judge(claim)
        if verdict is not None:
            return verdict
        self._waiting.append(claim)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self.settle(amount, 0.0, own)
            raise

    def try_reserve(self, amount: float, own: Purse) -> bool:
        """Hold an amount if it fits now, without waiting."""
        return bool(self._judge(_Claim(amount, (self.total, own), None)))

    def settle(self, amount: float, cost: float, own: Purse) -> None:
        """End a reservation with what the attempt cost."""
        for purse in (self.total, own):
            purse.settle(amount, cost)
        waiting, self._waiting = self._waiting, deque()
        for claim in waiting:
            if claim.turn is None or claim.turn.done():
                continue
            verdict = self._judge(claim)
            if verdict is None:
                self._waiting.append(claim)
            else:
                claim.turn.set_result(verdict)

    def _judge(self, claim: _Claim) -> bool | None:
        if any(purse.is_short(claim.amount) for purse in claim.purses):
            return False
        if not all(purse.has(claim.amount) for purse in claim.purses):
            return None
        for purse in claim.purses:
            purse.hold(claim.amount)
        return True


@dataclass
class Gauge:
    """What a request of one model can cost at most, corrected by what its endpoint has counted so far."""

    price: Price
    extra_in: int = field(default=0, init=False)
    stretch_out: float = field(default=1.0, init=False)

    def worst(self, request: Request) -> float:
        """Dollars of the longest prompt this text can be, answered in full length."""
        return most_dollars(self._most_in(request), self._most_out(request), self.price)

    def bill(self, request: Request, completion: Completion) -> float:
        """Dollars of an answer; its worst case where the endpoint did not count."""
        usage = completion.usage
        if not is_metered(usage):
            return self.worst(request)
        self.extra_in = max(self.extra_in, input_tokens(usage) - most_tokens(texts_of(request)))
        self.stretch_out = max(self.stretch_out, output_tokens(usage) / request.max_tokens)
        return dollars(usage, self.price)

    def _most_in(self, request: Request) -> int:
        return most_tokens(texts_of(request)) + self.extra_in

    def _most_out(self, request: Request) -> int:
        return int(request.max_tokens * self.stretch_out + 0.999)


@dataclass(eq=False)
class BillCheck:
    """The bills of one endpoint held against what was reserved for them. Shared by all models asked there.

    `fault` says which bill was higher than its request can cost; from then on nothing more is to be asked there.
    """

    endpoint: str | None = None
    fault: EndpointError | None = field(default=None, init=False)

    def check(
        self, request: Request, completion: Completion, reserved: float, cost: float, purses: Iterable[Purse]
    ) -> None:
        """Look at one bill that is booked already."""
        if self.fault is not None or cost <= reserved * (1 + ROUNDING):
            return
        over = next((purse.limit for purse in purses if purse.overdrawn), None)
        usage, at = completion.usage, f" at {self.endpoint}" if self.endpoint else ""
        most_in = most_tokens(texts_of(request))
        self.fault = EndpointError(
            f"{request.model}{at} billed {input_tokens(usage):,} tokens in and {output_tokens(usage):,} out "
            f"(${cost:.4f}) for a request that can take {most_in:,} in and {request.max_tokens:,} out "
            f"(${reserved:.4f}): it is booked{'' if over is None else f', above the spending limit (${over:g}),'} and "
            "nothing more is asked there; check what the endpoint counts, or raise --max-tokens if it writes more than "
            "it is allowed."
        )

    def unsent(self) -> RequestUnsentError:
        """What a request meets that is not sent for this reason."""
        return RequestUnsentError(str(self.fault))


@dataclass
class BudgetedClient:
    """Makes an attempt only where its worst case fits. `unknown` sums what attempts without a bill may have cost."""

    inner: Client
    gauge: Gauge
    budget: Budget
    own: Purse
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    bills: BillCheck = field(default_factory=BillCheck)
    unknown: float = field(default=0.0, init=False)
    unbilled: int = field(default=0, init=False)
    refused: int = field(default=0, init=False)

    async def complete(self, request: Request) -> Completion:
        """The inner client's completion.

        Raises BudgetReachedError where the limit leaves no room for the attempt, RequestUnsentError where a bill of
        this endpoint was higher than it can be.
        """
        if self.bills.fault is not None:
            raise self.bills.unsent()
        amount = self.gauge.worst(request)
        if not await self.budget.reserve(amount, self.own):
            if self.bills.fault is not None:  # its bill took what this waited for
                raise self.bills.unsent()
            self.refused += 1
            raise BudgetReachedError("the spending limit leaves no room for this request")
        cost: float | None = None
        try:
            if self.stopping.is_set():  # while this waited for its turn
                raise RequestUnsentError("the run is stopping")
            if self.bills.fault is not None:
                raise self.bills.unsent()
            completion = await self.inner.complete(request)
            cost = self.gauge.bill(request, completion)
        except (RequestRejectedError, RequestUnsentError, EndpointError):
            cost = 0.0
            raise
        except TransientError as exc:
            cost = 0.0 if exc.unbilled else None
            raise
        finally:
            if cost is None:  # a time-out, a reset, a cut body: it may have been charged in full
                self.unbilled += 1
                self.unknown += amount
            self.budget.settle(amount, amount if cost is None else cost, self.own)
        self.bills.check(request, completion, amount, cost, self.purses)
        return completion

    @property
    def purses(self) -> tuple[Purse, Purse]:
        """The whole budget and the model's own."""
        return self.budget.total, self.own

    @property
    def overdrawn(self) -> bool:
        """Whether a bill that no reservation could cover took more than a limit."""
        return self.bills.fault is not None and any(purse.overdrawn for purse in self.purses)


def texts_of(request: Request) -> tuple[str, ...]:
    """The texts of a request, a turn each."""
    if request.prompt is not None:
        return (request.prompt,)
    return tuple(turn.content for turn in request.messages or ())
