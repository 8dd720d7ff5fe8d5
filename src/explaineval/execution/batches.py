"""--batch: what a model lacks goes through its provider's batch endpoint, wave after wave, then the cache is read.

Afterwards the ordinary course finds the answers in the store. What failed in the batch is a failed request there, and
what the spending limit left out is unsent: nothing is sent one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from explaineval.cache import Store, request_key
from explaineval.client.batches import DIRECTORY, BatchFailure, CheckedClient, run_batches
from explaineval.client.batches.submit import Patience
from explaineval.client.spending import Gauge, Purse
from explaineval.errors import (
    BudgetReachedError,
    EndpointError,
    RequestFailedError,
    RequestRejectedError,
    RequestUnsentError,
)
from explaineval.execution.model_run import ModelRun
from explaineval.planning.prepare import Prepared
from explaineval.planning.units import Unit
from explaineval.planning.walk import walk_unit
from explaineval.records import Completion, Request


@dataclass
class BatchedClient:
    """Stands in for the wire after the batches: says of each request why it has no answer."""

    failed: dict[str, BatchFailure] = field(default_factory=dict)
    waiting: bool = False
    out_of_money: set[str] = field(default_factory=set)

    async def complete(self, request: Request) -> Completion:
        """Raises what became of the request."""
        key = request_key(request)
        failure = self.failed.get(key)
        if failure is not None and failure.rejected:
            raise RequestRejectedError(failure.reason)
        if failure is not None:
            raise RequestFailedError(failure.reason)
        if key in self.out_of_money:
            raise BudgetReachedError("the spending limit leaves no room for this request")
        raise RequestUnsentError("its batch is not back yet" if self.waiting else "it was in no batch")


@dataclass
class Till:
    """The spending limit's part in a batch: reserves before an item goes in, settles with its answer."""

    model_run: ModelRun
    gauge: Gauge | None
    client: BatchedClient
    bought: set[str] = field(default_factory=set)
    _held: dict[str, float] = field(default_factory=dict)

    def reserve(self, request: Request) -> bool:
        """Hold the request's worst case; False where it does not fit now."""
        key = request_key(request)
        if self.model_run.budgeted is not None and self.model_run.budgeted.bills.fault is not None:
            return False
        amount = 0.0 if self.gauge is None else self.gauge.worst(request)
        if self.model_run.budgeted is not None and not self.model_run.budgeted.budget.try_reserve(amount, self.own):
            self.client.out_of_money.add(key)
            return False
        self.client.out_of_money.discard(key)
        self._held[key] = amount
        return True

    def settle(self, request: Request, completion: Completion | None) -> None:
        """Book an answer, or give back what was held for none."""
        key = request_key(request)
        if completion is not None:
            self.bought.add(key)
        amount = self._held.pop(key, None)
        if self.model_run.budgeted is None:
            return
        cost, most = 0.0, amount
        if completion is not None and self.gauge is not None:
            most = self.gauge.worst(request) if amount is None else amount
            cost = self.gauge.bill(request, completion)
        if amount is not None:  # else submitted by an earlier run, whose limit it was
            self.model_run.budgeted.budget.settle(amount, cost, self.own)
        if completion is not None and most is not None:
            self.model_run.budgeted.bills.check(request, completion, most, cost, self.model_run.budgeted.purses)

    def close(self) -> float:
        """Count as spent what is still held: batches that go on may cost it. Returns these dollars."""
        held, self._held = self._held, {}
        if self.model_run.budgeted is not None:
            for amount in held.values():
                self.model_run.budgeted.unknown += amount
                self.model_run.budgeted.budget.settle(amount, amount, self.own)
        return sum(held.values())

    @property
    def own(self) -> Purse:
        """The model's own purse."""
        assert self.model_run.budgeted is not None  # noqa: S101 - asked only where there is one
        return self.model_run.budgeted.own


async def submit(
    prepared: Prepared, store: Store, model_run: ModelRun, batches: CheckedClient, units: Callable[[], Iterator[Unit]]
) -> None:
    """Ask by batches whatever the model's plan lacks; afterwards its client answers from the store and that alone.

    What another process is asking by itself is left to it, and put into a batch where it gets no answer there. An
    endpoint that takes no batches is the model_run's fault.
    """
    config, client, name = prepared.config, prepared.client, model_run.model.model
    after = BatchedClient()
    till = Till(model_run, None if model_run.ledger.price is None else Gauge(model_run.ledger.price), after)

    def misses() -> Iterator[tuple[str, Request]]:
        seen: set[int] = set()
        for unit in units():
            for step in walk_unit(unit, seen, store.get, config.retry, prepared.client.older_names):
                if step.completion is None and step.certain and step.key not in after.failed:
                    yield step.key, step.request

    model_run.cached.pending, model_run.cached.tally.in_batches = (), 0  # they are taken up again
    waits = 0
    try:
        # again after each wave: explanations follow answers, and what is settled makes room under a spending limit
        while next(misses(), None) is not None:
            try:
                await batches.check()
            except EndpointError as exc:
                model_run.fault = exc
                break
            found = await run_batches(
                batches.provider,
                store,
                client.cache / DIRECTORY,
                model_run.model.endpoint,
                model_run.model.model,
                misses(),
                poll=client.batch_poll,
                stopping=model_run.slots.stopping,
                reserve=till.reserve,
                settle=till.settle,
                tell=model_run.messages.append,
                claims=model_run.cached.claims,
            )
            after.failed |= found.failed
            after.waiting = found.waiting
            if found.faults:
                model_run.fault = EndpointError(found.faults[0])
            if found.waiting or found.faults or model_run.billing_fault or model_run.slots.stopping.is_set():
                break
            if not found.stored and not found.elsewhere:
                break
            if not found.stored:
                if not waits:
                    model_run.messages.append(
                        f"{name}: another process is asking {found.elsewhere} of these requests by itself; "
                        "they go into no batch, and its answers are waited for."
                    )
                await Patience(model_run.slots.stopping, min(client.batch_poll, 2.0 ** min(waits, 10))).pause()
                waits += 1
    finally:
        open_bill = till.close()
    if after.waiting:
        bill = f" and may cost ${open_bill:.4f} at the most" if open_bill else ""
        model_run.messages.append(
            f"{name}: a batch goes on at the provider{bill}; the same command fetches it when it is done."
        )
    if after.failed:
        reasons = Counter(failure.reason for failure in after.failed.values())
        told = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(3))
        model_run.messages.append(f"{name}: {len(after.failed)} requests failed in their batch: {told}")
    if model_run.budgeted is not None:
        model_run.budgeted.refused += len(after.out_of_money)
    model_run.cached.inner, model_run.cached.bought = after, till.bought
