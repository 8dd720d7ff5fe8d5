"""`run --batch`: requests without an answer go through the provider's batches before the plan is executed.

Afterwards the ordinary execution finds the answers in the store. A request that failed in its batch fails there, and
one that the spending limit left out is unsent: nothing is sent one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from explaineval.cache import request_key
from explaineval.client.batches.client import BatchFailure, CheckedClient
from explaineval.client.batches.machine import BatchSession, pause, run_batches
from explaineval.client.protocol import SpendingAccount
from explaineval.client.spending import BudgetedClient, CostBound, SpendingLimit
from explaineval.errors import (
    BudgetReachedError,
    EndpointError,
    RequestFailedError,
    RequestRejectedError,
    RequestUnsentError,
)
from explaineval.execution.session import ModelSession
from explaineval.records import Completion, Request
from explaineval.text import counted, dollars_text


@dataclass
class UnansweredClient:
    """The client of a model after its batches: raises for each request the reason why it has no answer."""

    failed: dict[str, BatchFailure] = field(default_factory=dict)
    waiting: bool = False
    out_of_money: set[str] = field(default_factory=set)

    async def complete(self, request: Request) -> Completion:
        """Raise what became of the request."""
        key = request_key(request)
        failure = self.failed.get(key)
        if failure is not None:
            raise (RequestRejectedError if failure.rejected else RequestFailedError)(failure.reason)
        if key in self.out_of_money:
            raise BudgetReachedError("the spending limit leaves no room for this request")
        raise RequestUnsentError("its batch is not back yet" if self.waiting else "it was in no batch")


@dataclass
class BatchSpending:
    """The spending limit's part in batches: a request is reserved before it goes in and settled with its answer.

    `bought` holds the keys of answers that batches brought.
    """

    budgeted: BudgetedClient | None
    bound: CostBound | None
    client: UnansweredClient
    bought: set[str] = field(default_factory=set)
    _held: dict[str, float] = field(default_factory=dict)
    """Dollars that are reserved, by key."""
    _numbers: dict[str, int] = field(default_factory=dict)
    """Under which numbers the run's account has them, by key."""

    def reserve(self, request: Request) -> bool:
        """Reserve the request's worst case; returns whether it fits the limit now."""
        key = request_key(request)
        if self.budgeted is not None and self.budgeted.overbilling.error is not None:
            return False
        amount = 0.0 if self.bound is None else self.bound.worst(request)
        if self.budgeted is not None and not self.budgeted.budget.try_reserve(amount, self.own):
            self.client.out_of_money.add(key)
            return False
        self.client.out_of_money.discard(key)
        self._held[key] = amount
        return True

    def book(self, request: Request) -> None:
        """Write what is reserved for a request to the run's account. Raises InputError where that is impossible."""
        key = request_key(request)
        if self.account is None or self._held[key] <= 0:
            return
        while (found := self.account.open_batch(key)) is not None:  # that batch was given up, and may be charged
            number, most = found
            self.account.settle(number, most, billed=False)
        self._numbers[key] = self.account.reserve((request.endpoint, request.model), key, self._held[key], batch=True)

    def settle(self, request: Request, completion: Completion | None) -> None:
        """Book the cost of an answer, or release what was reserved for a request without one."""
        key = request_key(request)
        if completion is not None:
            self.bought.add(key)
        amount = self._held.pop(key, None)
        if self.budgeted is None:
            return
        cost, most = 0.0, amount
        if completion is not None and self.bound is not None:
            most = self.bound.worst(request) if amount is None else amount
            cost = self.bound.bill(request, completion)
        number = self._numbers.pop(key, None)
        if self.account is not None and number is not None:
            self.account.settle(number, cost)
        if amount is not None:
            self.budgeted.budget.release(amount, cost, self.own)
        elif self.account is not None:  # an earlier run submitted the request, and its limit counted it
            self._settle_earlier(self.account, key, cost)
        if completion is not None and most is not None:
            self.budgeted.overbilling.check(request, completion, most, cost, self.budgeted.limits)

    def _settle_earlier(self, account: SpendingAccount, key: str, cost: float) -> None:
        """Book what a request cost that counted at its most until now, as an earlier run had reserved it."""
        found = account.open_batch(key)
        if found is not None and self.budgeted is not None:
            number, most = found
            for limit in self.budgeted.limits:
                limit.earlier += cost - most
            account.settle(number, cost)

    @property
    def account(self) -> SpendingAccount | None:
        """What books the run's spending; None where nothing does."""
        return None if self.budgeted is None else self.budgeted.account

    def close(self) -> float:
        """Count as spent what is still reserved, because open batches may cost it. Returns these dollars."""
        held, self._held = self._held, {}
        if self.budgeted is not None:
            for amount in held.values():
                self.budgeted.unknown += amount
                self.budgeted.budget.release(amount, amount, self.own)
        return sum(held.values())

    @property
    def own(self) -> SpendingLimit:
        """The model's own limit."""
        assert self.budgeted is not None  # noqa: S101 - only used where there is one
        return self.budgeted.own


async def submit(
    session: ModelSession, batches: CheckedClient, lacking: Callable[[], Iterable[tuple[str, Request]]]
) -> None:
    """Ask by batches for whatever the model's plan lacks; afterwards its client answers from the store only.

    `lacking` yields the key and the request of everything that is not stored yet; it is called again after each batch.

    A request for which another process is asking by itself is left to it, and goes into a batch if that process brings
    no answer. An endpoint that takes no batches becomes the model's error.
    """
    name, stopping = session.model.model, session.pool.stopping
    unanswered = UnansweredClient()
    price = session.ledger.price
    spending = BatchSpending(session.budgeted, None if price is None else CostBound(price), unanswered)

    def misses() -> Iterator[tuple[str, Request]]:
        yield from ((key, request) for key, request in lacking() if key not in unanswered.failed)

    session.cached.pending, session.counts.in_batches = (), 0  # these batches are tracked here
    waits = 0
    try:
        # repeated: explanations follow answers, and settled requests make room under the spending limit
        while next(misses(), None) is not None:
            try:
                await batches.check()
            except EndpointError as exc:
                session.error = exc
                break
            submission = BatchSession(
                batches.provider,
                session.store,
                batches.journal,
                stopping,
                session.client.batch_poll,
                tell=session.messages.append,
                reserve=spending.reserve,
                book=spending.book,
                settle=spending.settle,
                claims=session.cached.claims,
                wait=session.client.batch_wait,
            )
            outcome = await run_batches(submission, misses())
            unanswered.failed |= outcome.failed
            unanswered.waiting = outcome.waiting
            if outcome.errors:
                session.error = EndpointError(outcome.errors[0])
            if outcome.waiting or outcome.errors or session.billing_error or submission.is_stopping:
                break
            if not outcome.stored:
                if not outcome.elsewhere and not outcome.in_other_batches:
                    break
                if not waits and outcome.in_other_batches:
                    submission.say(
                        f"another process works on this model's batches, which hold {outcome.in_other_batches} of "
                        "these requests; they go into no other batch, and its answers are waited for."
                    )
                if not waits and outcome.elsewhere:
                    submission.say(
                        f"another process is asking {outcome.elsewhere} of these requests by itself; "
                        "they go into no batch, and its answers are waited for."
                    )
                await pause(stopping, min(session.client.batch_poll, 2.0 ** min(waits, 10)))
                waits += 1
    finally:
        open_bill = spending.close()
    if unanswered.waiting:
        bill = f" and may cost {dollars_text(open_bill)} at the most" if open_bill else ""
        session.messages.append(
            f"{name}: a batch goes on at the provider{bill}; the same command fetches it when it is done."
        )
    if unanswered.failed:
        counts = Counter(failure.reason for failure in unanswered.failed.values())
        reasons = "; ".join(f"{count} × {reason}" for reason, count in counts.most_common(3))
        session.messages.append(
            f"{name}: {counted(len(unanswered.failed), 'request')} failed in their batch: {reasons}"
        )
    if session.budgeted is not None:
        session.budgeted.refused += len(unanswered.out_of_money)
    session.end_sending(unanswered, spending.bought)
