"""The spending limit: the most that an attempt can cost is reserved before it is sent, and released with its true cost.

What is spent and what is reserved never exceed a limit together, however many requests are under way, as long as no
attempt costs more than its bound. Where an endpoint bills more than that, the bill is booked and nothing more is sent
there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from explaineval.cache import request_key
from explaineval.client.protocol import Client, SharedLimits, SpendingAccount
from explaineval.cost import Price, dollars, input_tokens, is_metered, most_dollars, most_tokens, output_tokens
from explaineval.errors import (
    BudgetReachedError,
    EndpointError,
    InputError,
    RequestRejectedError,
    RequestUnsentError,
    TransientError,
)
from explaineval.files import FULL
from explaineval.records import Completion, Request
from explaineval.text import dollars_text

ROUNDING = 1e-9
"""How much more than reserved a bill may be, as a share: sums in another order differ by so little."""
SLACK = 1e-12
"""By what share of a limit sums of the same amounts in another order may differ: the last cent can be spent in any."""


FULL_PAUSE = 1.0
"""Seconds between two attempts to write down a reservation on a full disk, in a run of the service."""


@dataclass
class SpendingLimit:
    """A limit in dollars (None: no limit), what is spent of it, and what is reserved for attempts under way.

    `earlier` is what was spent of it before, by other commands.
    """

    usd: float | None
    earlier: float = 0.0
    spent: float = field(default=0.0, init=False)
    reserved: float = field(default=0.0, init=False)
    under_way: int = field(default=0, init=False)

    @property
    def overdrawn(self) -> bool:
        """Whether more is spent than the limit allows."""
        return self.usd is not None and self.earlier + self.spent > self.usd * (1 + SLACK)

    def allows(self, amount: float) -> bool:
        """Whether the amount fits beside what is spent, if nothing under way costs anything; no amount always fits."""
        return self._fits(self.spent, amount)

    def allows_now(self, amount: float) -> bool:
        """Whether the amount fits beside what is spent and what is reserved."""
        return self._fits(self.spent + self.reserved, amount)

    def _fits(self, taken: float, amount: float) -> bool:
        return self.usd is None or amount <= 0 or self.earlier + taken + amount <= self.usd * (1 + SLACK)

    def reserve(self, amount: float) -> None:
        """Reserve the amount for an attempt."""
        self.under_way += 1
        self.reserved += amount

    def release(self, amount: float, cost: float) -> None:
        """End a reservation of this amount, and book what the attempt cost."""
        self.under_way -= 1
        self.reserved = self.reserved - amount if self.under_way else 0.0  # no rounding is left behind
        self.spent += cost


@dataclass
class Budget:
    """The spending limit of a whole run, shared by its models; what does not fit yet waits for a release."""

    total: SpendingLimit
    _waiting: deque[tuple[float, SpendingLimit, asyncio.Future[bool]]] = field(default_factory=deque, init=False)

    async def reserve(self, amount: float, own: SpendingLimit, key: str = "") -> bool:  # noqa: ARG002
        """Reserve an amount of the whole limit and of a model's own; False where it can no longer fit.

        `key` is that of the request, which a shared budget notes.
        """
        fits = self._try(amount, own)
        if fits is not None:
            return fits
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, own, turn))
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                Budget.release(self, amount, 0.0, own)  # nothing was asked of a shared budget yet
            raise

    async def may_retry(self, exc: InputError) -> bool:  # noqa: ARG002 - a shared budget looks at it
        """Return whether writing down a reservation is to be tried again after this error."""
        return False

    def noted(self) -> None:
        """Take note that a reservation was written down."""

    def try_reserve(self, amount: float, own: SpendingLimit) -> bool:
        """Reserve an amount if it fits now, without waiting."""
        return bool(self._try(amount, own))

    def release(
        self,
        amount: float,
        cost: float,
        own: SpendingLimit,
        key: str = "",  # noqa: ARG002 - a shared budget notes it
        *,
        billed: bool = True,  # noqa: ARG002 - as above
    ) -> None:
        """End a reservation with what the attempt cost, and let in what fits now, in the order in which it came."""
        for limit in (self.total, own):
            limit.release(amount, cost)
        waiting, self._waiting = self._waiting, deque()
        for entry in waiting:
            wanted, its_own, turn = entry
            if turn.done():
                continue
            fits = self._try(wanted, its_own)
            if fits is None:
                self._waiting.append(entry)
            else:
                turn.set_result(fits)

    def _try(self, amount: float, own: SpendingLimit) -> bool | None:
        """Reserve an amount if it fits now; None where it may fit later, False where it never can."""
        limits = (self.total, own)
        if not all(limit.allows(amount) for limit in limits):
            return False
        if not all(limit.allows_now(amount) for limit in limits):
            return None
        for limit in limits:
            limit.reserve(amount)
        return True


@dataclass
class SharedBudget(Budget):
    """The spending limit of a run that spends from a budget which other processes spend from too."""

    shared: SharedLimits
    _full: bool = field(default=False, init=False)

    async def reserve(self, amount: float, own: SpendingLimit, key: str = "") -> bool:
        """Reserve an amount of the run's limits, then of the shared budget; False where it can no longer fit."""
        if not await super().reserve(amount, own):
            return False
        granted = False
        try:
            granted = await self.shared.reserve(amount, key)
        finally:
            if not granted:
                super().release(amount, 0.0, own)
        return granted

    async def may_retry(self, exc: InputError) -> bool:
        """Say that the disk is full, and wait a moment: what goes on for others goes on here once there is room."""
        if getattr(exc.__cause__, "errno", None) not in FULL:
            return False
        self.shared.note_full(str(exc))
        self._full = True
        await asyncio.sleep(FULL_PAUSE)
        return True

    def noted(self) -> None:
        """Say that there is room again, if there was none."""
        if self._full:
            self._full = False
            self.shared.note_full(None)

    def release(
        self,
        amount: float,
        cost: float,
        own: SpendingLimit,
        key: str = "",
        *,
        billed: bool = True,
    ) -> None:
        """End a reservation with what the attempt cost, also in the shared budget, which lists it without a bill."""
        self.shared.release(amount, cost, key, billed=billed)
        super().release(amount, cost, own)


@dataclass
class CostBound:
    """The most that a request of one model can cost, corrected by what its endpoint has counted so far.

    `extra_in` is by how many tokens a count went above the bound on the prompt, `stretch_out` how many times the limit
    on the answer one was.
    """

    price: Price
    extra_in: int = field(default=0, init=False)
    stretch_out: float = field(default=1.0, init=False)

    def worst(self, request: Request) -> float:
        """Dollars of the longest prompt that this text can be, answered in full length."""
        tokens_in = most_tokens(texts_of(request)) + self.extra_in
        return most_dollars(tokens_in, int(request.max_tokens * self.stretch_out + 0.999), self.price)

    def bill(self, request: Request, completion: Completion) -> float:
        """Dollars of an answer; the request's bound where the endpoint did not count tokens."""
        usage = completion.usage
        if not is_metered(usage):
            return self.worst(request)
        self.extra_in = max(self.extra_in, input_tokens(usage) - most_tokens(texts_of(request)))
        self.stretch_out = max(self.stretch_out, output_tokens(usage) / request.max_tokens)
        return dollars(usage, self.price)


@dataclass(eq=False)
class OverbillingCheck:
    """Compares the bills of one endpoint with what was reserved for them. Shared by all models asked there.

    `error` says which bill was higher than its request can cost; from then on nothing more is sent there.
    """

    endpoint: str | None = None
    error: EndpointError | None = field(default=None, init=False)

    def check(
        self, request: Request, completion: Completion, reserved: float, cost: float, limits: Iterable[SpendingLimit]
    ) -> None:
        """Look at one bill, which is booked already."""
        if self.error is not None or cost <= reserved * (1 + ROUNDING):
            return
        over = next((limit.usd for limit in limits if limit.overdrawn), None)
        usage, at = completion.usage, f" at {self.endpoint}" if self.endpoint else ""
        most_in = most_tokens(texts_of(request))
        self.error = EndpointError(
            f"{request.model}{at} billed {input_tokens(usage):,} tokens in and {output_tokens(usage):,} out "
            f"({dollars_text(cost)}) for a request that can take {most_in:,} in and {request.max_tokens:,} out "
            f"({dollars_text(reserved)}): it is "
            f"booked{'' if over is None else f', above the spending limit ({dollars_text(over)}),'} and "
            "nothing more is asked there; check what the endpoint counts, or raise --max-tokens if it writes more than "
            "it is allowed."
        )

    def raise_unsent(self) -> None:
        """Raise RequestUnsentError for a request that is not sent because of an earlier bill; else do nothing."""
        if self.error is not None:
            raise RequestUnsentError(str(self.error))


@dataclass
class BudgetedClient:
    """Makes an attempt only where the most that it can cost fits into the limits.

    What an attempt can cost is written to `account` before it is sent, and its cost when it came back. `unbilled`
    counts the attempts that may have been charged without a bill, `unknown` sums their bounds in dollars; both are
    spent. `refused` counts the requests for which no room was left.
    """

    inner: Client
    bound: CostBound
    budget: Budget
    own: SpendingLimit
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    overbilling: OverbillingCheck = field(default_factory=OverbillingCheck)
    account: SpendingAccount | None = None
    unknown: float = field(default=0.0, init=False)
    unbilled: int = field(default=0, init=False)
    refused: int = field(default=0, init=False)

    async def complete(self, request: Request) -> Completion:
        """The inner client's completion.

        Raises BudgetReachedError where the limit leaves no room for the attempt, RequestUnsentError where a bill of
        this endpoint was higher than it can be.
        """
        self.overbilling.raise_unsent()
        amount, key = self.bound.worst(request), request_key(request)
        if not await self.budget.reserve(amount, self.own, key):
            self.overbilling.raise_unsent()  # that bill may have taken what this waited for
            self.refused += 1
            raise BudgetReachedError("the spending limit leaves no room for this request")
        cost: float | None = None
        number: int | None = None
        try:
            if self.stopping.is_set():  # while this waited for its turn
                raise RequestUnsentError("the run is stopping")
            self.overbilling.raise_unsent()
            if self.account is not None and amount > 0:
                cost = 0.0
                number = await self._note(self.account, request, key, amount)
                cost = None
            completion = await self.inner.complete(request)
            cost = self.bound.bill(request, completion)
        except (InputError, RequestRejectedError, RequestUnsentError, EndpointError):  # nothing was generated
            cost = 0.0
            raise
        except TransientError as exc:
            cost = 0.0 if exc.unbilled else None
            raise
        finally:
            if cost is None:  # a time-out, a reset, a cut body: it may have been charged in full
                self.unbilled += 1
                self.unknown += amount
            booked = amount if cost is None else cost
            if number is not None and self.account is not None:
                self.account.settle(number, booked, billed=cost is not None)
            self.budget.release(amount, booked, self.own, key, billed=cost is not None)
        self.overbilling.check(request, completion, amount, cost, self.limits)
        return completion

    async def _note(self, account: SpendingAccount, request: Request, key: str, amount: float) -> int:
        """Write to the account that an attempt is about to be made, and return its number."""
        while True:
            try:
                number = account.reserve((request.endpoint, request.model), key, amount)
            except InputError as exc:
                if not await self.budget.may_retry(exc):
                    raise
            else:
                self.budget.noted()
                return number
            if self.stopping.is_set():
                raise RequestUnsentError("the run is stopping")

    @property
    def limits(self) -> tuple[SpendingLimit, SpendingLimit]:
        """The limit of the whole run and the model's own."""
        return self.budget.total, self.own

    @property
    def overdrawn(self) -> bool:
        """Whether a bill that no reservation could cover took more than a limit allows."""
        return self.overbilling.error is not None and any(limit.overdrawn for limit in self.limits)


def texts_of(request: Request) -> tuple[str, ...]:
    """The texts of a request: its prompt, or each of its messages."""
    if request.prompt is not None:
        return (request.prompt,)
    return tuple(message.content for message in request.messages or ())
