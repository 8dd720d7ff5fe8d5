"""Spending limits: compared with a simple model in whole dollars under any order of events, and case by case."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from explaineval.client import spending
from explaineval.client.retries import RetryingClient
from explaineval.client.spending import Budget, BudgetedClient, CostBound, SharedBudget, SpendingLimit
from explaineval.cost import FREE, Price, most_tokens
from explaineval.errors import (
    BudgetReachedError,
    EndpointError,
    ExplainevalError,
    InputError,
    RequestRejectedError,
    RequestUnsentError,
    TransientError,
)
from explaineval.records import Completion, Request
from makers.waiting import run

PRICE = Price(0.0, 1.0)
"""A dollar for each token that comes back, so that every sum is a whole number and floats are exact."""


def ask(dollars: int, prompt: str = "Q") -> Request:
    """A request that costs at most so many dollars at PRICE."""
    return Request(model="a/b", style="completion", prompt=prompt, max_tokens=dollars)


def answer(dollars: int) -> Completion:
    """An answer that costs so many dollars at PRICE."""
    return Completion(text="x", usage={"prompt_tokens": 1, "completion_tokens": dollars})


UNMETERED = Completion(text="x", usage={})


@dataclass
class Held:
    """Answers when it is told to, and keeps what it was asked."""

    under_way: dict[int, asyncio.Future[Completion]] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    async def complete(self, request: Request) -> Completion:
        number = len(self.asked)
        self.asked.append(request)
        self.under_way[number] = asyncio.get_running_loop().create_future()
        try:
            return await self.under_way[number]
        finally:
            del self.under_way[number]


@dataclass
class Scripted:
    """Gives its outcomes one after the other."""

    outcomes: list[Completion | ExplainevalError]
    asked: int = 0

    async def complete(self, _: Request) -> Completion:
        self.asked += 1
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, ExplainevalError):
            raise outcome
        return outcome


def budgeted(inner: Any, limit: float | None, price: Price = PRICE, own: float | None = None) -> BudgetedClient:
    """A client with a budget of its own."""
    return BudgetedClient(inner, CostBound(price), Budget(SpendingLimit(limit)), SpendingLimit(own))


@dataclass
class Attempt:
    """One request of the machine, and what the model of the budget knows of it."""

    lane: int
    amount: int
    task: asyncio.Task[Completion]
    number: int | None = None


LANES = 2


class Spending(RuleBasedStateMachine):
    """Requests of two models begin, are answered, fail and are cancelled in any order."""

    @initialize(total=st.none() | st.integers(0, 40), own=st.tuples(*[st.none() | st.integers(0, 30)] * LANES))
    def begin(self, total: int | None, own: tuple[int | None, ...]) -> None:
        self.loop = asyncio.new_event_loop()
        self.inner = Held()
        budget = Budget(SpendingLimit(total))
        self.clients = [BudgetedClient(self.inner, CostBound(PRICE), budget, SpendingLimit(limit)) for limit in own]
        self.limits = (total, own)
        self.attempts: list[Attempt] = []
        self.spent = [0] * LANES
        self.started = 0
        self.refused: list[Attempt] = []

    def teardown(self) -> None:
        for attempt in self.attempts:
            attempt.task.cancel()
        self._run()
        self.loop.close()

    def _run(self) -> None:
        """Let everything happen that can, and find out who was let in and who turned away."""
        self.loop.run_until_complete(_idle())
        for attempt in list(self.attempts):
            if attempt.task.done():
                self.attempts.remove(attempt)
                error = None if attempt.task.cancelled() else attempt.task.exception()
                if isinstance(error, BudgetReachedError):
                    self.refused.append(attempt)
            elif attempt.number is None:
                mine = [number for number, one in self._asked() if one == attempt.task.get_name()]
                attempt.number = mine[0] if mine else None

    def _asked(self) -> list[tuple[int, str]]:
        return [(number, str(request.prompt)) for number, request in enumerate(self.inner.asked)]

    def _under_way(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.number is not None]

    def _waiting(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.number is None]

    @rule(lane=st.integers(0, LANES - 1), amount=st.integers(1, 12))
    def start(self, lane: int, amount: int) -> None:
        self.started += 1
        name = f"request {self.started}"
        task = self.loop.create_task(self.clients[lane].complete(ask(amount, name)), name=name)
        self.attempts.append(Attempt(lane, amount, task))
        self._run()

    @precondition(lambda self: self._under_way())
    @rule(data=st.data(), how=st.sampled_from(("answer", "unmetered", "error", "refused", "lost", "cancelled")))
    def end(self, data: st.DataObject, how: str) -> None:
        attempt = data.draw(st.sampled_from(self._under_way()))
        assert attempt.number is not None
        turn = self.inner.under_way[attempt.number]
        if how == "answer":
            cost = data.draw(st.integers(0, attempt.amount))
            turn.set_result(answer(cost))
        else:
            cost = attempt.amount if how in ("unmetered", "lost", "cancelled") else 0
            if how == "unmetered":
                turn.set_result(UNMETERED)
            elif how == "cancelled":
                attempt.task.cancel()
            else:
                turn.set_exception(
                    {
                        "error": TransientError("500", unbilled=True),
                        "refused": RequestRejectedError("400"),
                        "lost": TransientError("reset"),
                    }[how]
                )
        self.spent[attempt.lane] += cost
        self._run()

    @precondition(lambda self: self._waiting())
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self._waiting())).task.cancel()
        self._run()

    @precondition(lambda self: self._waiting() and self._under_way())
    @rule(data=st.data(), turns=st.integers(0, 4))
    def leave_when_let_in(self, data: st.DataObject, turns: int) -> None:
        """An answer comes, and while those it lets in begin to move, one that waited is cancelled."""
        ended, leaving = data.draw(st.sampled_from(self._under_way())), data.draw(st.sampled_from(self._waiting()))
        assert ended.number is not None
        self.inner.under_way[ended.number].set_result(answer(0))
        self.loop.run_until_complete(_idle(turns))
        leaving.task.cancel()
        if any(name == leaving.task.get_name() for _, name in self._asked()):  # too late, it went out
            self.spent[leaving.lane] += leaving.amount
        self._run()

    @invariant()
    def holds(self) -> None:
        """The limits say what really happened, nothing exceeds a limit, and who waits does so for a reason."""
        if not hasattr(self, "clients"):
            return
        total, own = self.limits
        limits = [(self.clients[0].budget.total, total, range(LANES))]
        limits += [(self.clients[lane].own, own[lane], range(lane, lane + 1)) for lane in range(LANES)]
        for limit, most, lanes in limits:
            held = sum(attempt.amount for attempt in self._under_way() if attempt.lane in lanes)
            assert (limit.spent, limit.reserved) == (sum(self.spent[lane] for lane in lanes), held)
            assert most is None or limit.spent + limit.reserved <= most
        for attempt in self._waiting():
            assert any(
                most is not None and attempt.lane in lanes and limit.spent + limit.reserved + attempt.amount > most
                for limit, most, lanes in limits
            )
            assert self._under_way()
        for attempt in self.refused:
            assert any(
                most is not None and attempt.lane in lanes and limit.spent + attempt.amount > most
                for limit, most, lanes in limits
            )
        assert len(self.refused) == sum(client.refused for client in self.clients)


async def _idle(turns: int = 12) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=settings().max_examples, stateful_step_count=25)


def test_many_concurrent_requests_stay_within_the_limit() -> None:
    """200 requests of 7 dollars at once, 100 dollars: 14 fit at first, cheap answers make room for more of them."""
    most = 0
    client: BudgetedClient

    class Slow:
        async def complete(self, _: Request) -> Completion:
            nonlocal most
            limit = client.budget.total
            most = max(most, int(limit.spent + limit.reserved))
            await asyncio.sleep(0)
            return answer(2)

    client = budgeted(Slow(), 100)

    async def course() -> list[Any]:
        return await asyncio.gather(*(client.complete(ask(7)) for _ in range(200)), return_exceptions=True)

    found = run(course())
    answered = sum(isinstance(one, Completion) for one in found)

    # the last may begin at 93 dollars or less: after 46 answers 92 are spent, after 47 it is too late
    assert (answered, client.budget.total.spent, client.budget.total.reserved) == (47, 94.0, 0.0)
    assert all(isinstance(one, (Completion, BudgetReachedError)) for one in found)
    assert most <= 100


def test_requests_are_let_through_in_the_order_of_arrival() -> None:
    """Equal requests are sent in the order in which they were made."""
    inner = Held()
    client = budgeted(inner, 10)

    async def course() -> list[str]:
        tasks = [asyncio.create_task(client.complete(ask(5, f"{number}"))) for number in range(8)]
        for _ in range(8):
            await _idle()
            next(iter(inner.under_way.values())).set_result(answer(0))
        await asyncio.gather(*tasks)
        return [str(request.prompt) for request in inner.asked]

    assert [f"{number}" for number in range(8)] == run(course())


@pytest.mark.parametrize(
    ("outcome", "cost", "unbilled"),
    [
        (answer(3), 3, 0),
        (answer(0), 0, 0),
        (UNMETERED, 10, 0),
        (RequestRejectedError("400"), 0, 0),
        (InputError("the way to the endpoint"), 0, 0),
        (EndpointError("401"), 0, 0),
        (TransientError("429", overload=True), 0, 0),
        (TransientError("refused", refused=True), 0, 0),
        (TransientError("500", unbilled=True), 0, 0),
        (TransientError("reset"), 10, 1),
    ],
    ids=str,
)
def test_an_attempt_is_charged_by_its_outcome(outcome: Completion | ExplainevalError, cost: int, unbilled: int) -> None:
    """The bill where there is one, nothing where there can be none, the worst case where it is not known."""
    client = budgeted(Scripted([outcome]), 100)
    run(asyncio.wait_for(_swallow(client.complete(ask(10))), 5))

    assert (cost, 0, unbilled, 10 * unbilled) == (
        client.budget.total.spent,
        client.budget.total.reserved,
        client.unbilled,
        client.unknown,
    )


async def _swallow(course: Coroutine[Any, Any, Completion]) -> None:
    try:
        await course
    except ExplainevalError:
        return


def test_retries_are_paid_from_the_same_limit() -> None:
    """Two lost attempts at 10 dollars leave 5 of 25: the third attempt is not made."""
    inner = Scripted([TransientError("reset"), TransientError("reset"), answer(1)])
    client = budgeted(inner, 25)

    async def course() -> None:
        retrying = RetryingClient(client, 6, asyncio.Event(), first_wait=0.001)
        with pytest.raises(BudgetReachedError):
            await retrying.complete(ask(10))

    run(course())

    assert (inner.asked, client.budget.total.spent, client.unbilled, client.refused) == (2, 20.0, 2, 1)


@pytest.mark.parametrize("limit", [0, 5])
def test_free_requests_are_never_refused(limit: float) -> None:
    """A free model is asked at limit 0, and also after another model has used up the limit, or more."""
    client = budgeted(Scripted([answer(3), UNMETERED]), limit, FREE)
    client.budget.total.spent = limit + 1.0

    async def course() -> None:
        await client.complete(ask(10))
        await client.complete(ask(10))

    run(course())

    assert (limit + 1.0, 0) == (client.budget.total.spent, client.refused)


def test_a_limit_of_zero_pays_for_nothing() -> None:
    """With a price, not one attempt is made."""
    inner = Scripted([answer(1)])

    with pytest.raises(BudgetReachedError):
        run(budgeted(inner, 0).complete(ask(1)))
    assert inner.asked == 0


def test_the_limit_itself_can_be_spent() -> None:
    """An attempt that costs exactly what is left is made."""
    client = budgeted(Scripted([answer(10), answer(10)]), 20)

    async def course() -> None:
        await client.complete(ask(10))
        await client.complete(ask(10))

    run(course())

    assert client.budget.total.spent == 20


def test_an_endpoint_that_counts_more_tokens_raises_later_bounds() -> None:
    """Input beyond the bound is added to later bounds, output beyond max_tokens stretches later ones."""
    cost_bound, request = CostBound(Price(1.0, 100.0)), ask(10)
    bound = most_tokens(["Q"])
    before = cost_bound.worst(request)
    cost = cost_bound.bill(request, Completion(text="x", usage={"prompt_tokens": bound + 7, "completion_tokens": 25}))

    assert bound + 10 * 100 == before
    assert bound + 7 + 25 * 100 == cost
    assert cost_bound.worst(request) == cost
    assert cost_bound.worst(ask(20)) == bound + 7 + 50 * 100
    # a modest answer afterwards lowers nothing
    cost_bound.bill(request, answer(1))
    assert cost_bound.worst(request) == cost


def test_the_worst_case_covers_the_most_expensive_kind_of_token() -> None:
    """Hidden reasoning at twice the price is reserved for, and so is what goes into the provider's cache."""
    cost_bound = CostBound(Price(1.0, 2.0, cached_input=0.1, written_input=1.25, reasoning=4.0, request=0.5))

    assert most_tokens(["Q"]) * 1.25 + 10 * 4.0 + 0.5 == cost_bound.worst(ask(10))


@pytest.mark.parametrize("turns", range(4))
def test_a_request_cancelled_when_it_is_let_through_gives_its_reserve_back(turns: int) -> None:
    """At every moment between another request's answer and its own start."""
    inner = Held()
    client = budgeted(inner, 10)

    async def course() -> None:
        first, second, third = (asyncio.create_task(client.complete(ask(6))) for _ in range(3))
        await _idle()
        inner.under_way[0].set_result(answer(4))
        await _idle(turns)
        second.cancel()
        await _idle()
        assert (second.cancelled(), first.done()) == (True, True)
        sent = sum(request.prompt is not None for request in inner.asked)
        if sent == 2 and client.unbilled == 0:  # the second never went out, so its place is the third's
            inner.under_way[1].set_result(answer(6))
            assert (await third).usage["completion_tokens"] == 6
        else:
            with pytest.raises(BudgetReachedError):
                await third
        assert client.budget.total.spent == 10

    run(course())
    assert (client.budget.total.reserved, client.budget.total.under_way) == (0.0, 0)


def test_nothing_is_sent_after_the_run_began_to_stop() -> None:
    """A request that waits for room in the limit when the run stops ends unsent, and reserves nothing."""
    inner, stopping = Held(), asyncio.Event()
    client = BudgetedClient(inner, CostBound(PRICE), Budget(SpendingLimit(10)), SpendingLimit(None), stopping)

    async def course() -> Any:
        tasks = [asyncio.create_task(client.complete(ask(6))) for _ in range(2)]
        await _idle()
        stopping.set()
        inner.under_way[0].set_result(answer(0))
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second = run(course())

    assert isinstance(first, Completion)
    assert isinstance(second, RequestUnsentError)
    assert not isinstance(second, BudgetReachedError)
    assert (len(inner.asked), client.budget.total.spent, client.budget.total.reserved) == (1, 0.0, 0.0)


def test_a_store_that_fails_after_the_answer_counts_as_spent() -> None:
    """The disk is full when the answer comes: its worst case is counted as spent, and nothing stays reserved."""
    client = budgeted(Scripted([ExplainevalError("disk full")]), 100)
    run(_swallow(client.complete(ask(10))))

    assert (client.budget.total.spent, client.budget.total.reserved, client.unbilled) == (10.0, 0.0, 1)


@dataclass
class FullDisk:
    """Stands for the limits of a service, which it tells of a full disk, and for an account on it."""

    failures: int
    said: list[str | None] = field(default_factory=list)

    async def reserve(self, usd: float, key: str) -> bool:  # noqa: ARG002 - as the protocol has it
        return True

    def release(self, usd: float, cost: float, key: str, *, billed: bool) -> None:
        """Nothing is kept."""

    def note_full(self, reason: str | None) -> None:
        self.said.append(reason)


@dataclass
class Account:
    """Writes reservations to the disk."""

    disk: FullDisk
    number: int = errno.ENOSPC

    def reserve(self, *_: object) -> int:
        if self.disk.failures:
            self.disk.failures -= 1
            raise InputError("it cannot be written") from OSError(self.number, "no")
        return 1

    def settle(self, number: int, usd: float, *, billed: bool) -> None:
        """Nothing is kept."""


def shared_by(disk: FullDisk, account: Account) -> BudgetedClient:
    """A client of a run of the service."""
    limits: Any = disk
    books: Any = account
    budget = SharedBudget(SpendingLimit(None), limits)
    return BudgetedClient(Scripted([answer(3)]), CostBound(PRICE), budget, SpendingLimit(None), account=books)


def test_a_run_of_the_service_waits_until_a_reservation_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that answers under way are not lost with it; it says so meanwhile, once there is room, and only then."""
    monkeypatch.setattr(spending, "FULL_PAUSE", 0.0)
    disk = FullDisk(failures=3)

    assert asyncio.run(shared_by(disk, Account(disk)).complete(ask(5))).text == "x"
    assert disk.said == [*3 * ["it cannot be written"], None]


@pytest.mark.parametrize("shared", [True, False])
def test_elsewhere_and_for_other_errors_it_does_not_wait(shared: bool) -> None:
    """On the command line the user is told; a disk that is not full will not change by itself."""
    disk = FullDisk(failures=1)
    client = shared_by(disk, Account(disk, errno.EBADF if shared else errno.ENOSPC))
    if not shared:
        client.budget = Budget(SpendingLimit(None))

    with pytest.raises(InputError, match="cannot be written"):
        asyncio.run(client.complete(ask(5)))
    assert client.own.spent == client.own.reserved == 0
