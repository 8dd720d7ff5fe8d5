"""The client that stands in for the wire after batches, and the spending limit's part in them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.cache import open_store, request_key
from explaineval.client.batches.client import BatchFailure
from explaineval.client.batches.journal import DIRECTORY, BatchJournal, PendingKeys
from explaineval.client.batches.providers import check_batches
from explaineval.client.cached import StoredOnlyClient
from explaineval.client.spending import Budget, BudgetedClient, CostBound, SpendingLimit
from explaineval.config import ClientConfig, Endpoint, ModelConfig, RunConfig
from explaineval.cost import Price, dollars
from explaineval.errors import (
    BudgetReachedError,
    InputError,
    RequestFailedError,
    RequestRejectedError,
    RequestUnsentError,
)
from explaineval.execution.batches import BatchSpending, UnansweredClient
from explaineval.planning.cost import PriceList, prices_of
from explaineval.records import Completion, Request
from explaineval.rundir.ledger import Account, open_ledger
from servers.batch_bench import BatchBench, chat
from servers.batch_server import BatchServer

PRICE = Price(0.0, 0.01)
WORST = 32 * 0.01
"""Dollars of one of these requests at the most."""


def make_spending(limit: float | None, own: float | None = None) -> BatchSpending:
    """Return the spending of batches under these limits in dollars."""
    budgeted = BudgetedClient(StoredOnlyClient(), CostBound(PRICE), Budget(SpendingLimit(limit)), SpendingLimit(own))
    return BatchSpending(budgeted, CostBound(PRICE), UnansweredClient())


def spent(spending: BatchSpending) -> float:
    """What the whole budget counts as spent."""
    assert spending.budgeted is not None
    return spending.budgeted.budget.total.spent


def completion(tokens: int) -> Completion:
    """An answer of so many tokens."""
    usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": 9 + tokens}
    return Completion(text="Answer: B", finish_reason="stop", usage=usage)


@pytest.mark.parametrize(
    ("setting", "error", "said"),
    [
        ({"failed": BatchFailure("too long", rejected=True)}, RequestRejectedError, "too long"),
        ({"failed": BatchFailure("it expired")}, RequestFailedError, "it expired"),
        ({"money": True}, BudgetReachedError, "spending limit"),
        ({"waiting": True}, RequestUnsentError, "not back yet"),
        ({}, RequestUnsentError, "in no batch"),
    ],
)
def test_why_there_is_no_answer(setting: dict[str, Any], error: type[Exception], said: str) -> None:
    """What failed is failed or rejected, what was not asked is unsent, and the limit's share is known as such."""
    key = request_key(chat(0))
    client = UnansweredClient(
        {key: setting["failed"]} if "failed" in setting else {},
        setting.get("waiting", False),
        {key} if "money" in setting else set(),
    )

    with pytest.raises(error, match=said) as caught:
        asyncio.run(client.complete(chat(0)))
    assert type(caught.value) is error


@given(st.floats(0, 4), st.none() | st.floats(0, 4), st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 32))))
def test_batches_never_spend_more_than_either_limit(
    limit: float, own: float | None, moves: list[tuple[int, int]]
) -> None:
    """Whatever is reserved and settled (-1: without an answer), and whatever is still held when it is closed."""
    spending, held, cost = make_spending(limit, own), set[int](), 0.0
    for number, tokens in moves:
        if number in held:
            spending.settle(chat(number), None if tokens < 0 else completion(tokens))
            held.discard(number)
            cost += max(0, tokens) * 0.01
        elif spending.reserve(chat(number)):
            held.add(number)
        else:
            assert cost + (len(held) + 1) * WORST > min(limit, limit if own is None else own) - 1e-9
    assert spent(spending) == pytest.approx(cost)

    assert spending.close() == pytest.approx(len(held) * WORST)
    assert spent(spending) == pytest.approx(cost + len(held) * WORST)
    assert spent(spending) <= min(limit, limit if own is None else own) + 1e-9
    assert spending.budgeted is not None
    assert spending.budgeted.unknown == pytest.approx(len(held) * WORST)
    assert spending.close() == 0


def test_what_an_earlier_run_submitted_is_bought_but_not_settled() -> None:
    """Its limit was the earlier run's; the answer counts as bought now, where it is first booked."""
    spending = make_spending(0.0)
    spending.settle(chat(1), completion(20))
    spending.settle(chat(2), None)

    assert spending.bought == {request_key(chat(1))}
    assert spent(spending) == 0


def test_a_refusal_is_taken_back_when_there_is_room() -> None:
    """The request that did not fit goes into the next batch, and is out of money no more."""
    spending = make_spending(1.5 * WORST)

    assert (spending.reserve(chat(1)), spending.reserve(chat(2))) == (True, False)
    assert spending.client.out_of_money == {request_key(chat(2))}
    spending.settle(chat(1), completion(1))
    assert spending.reserve(chat(2))
    assert spending.client.out_of_money == set()


def test_another_model_does_not_wait_for_a_batch_that_goes_on() -> None:
    """A reservation that waits for what a batch holds is refused when the batch is left to go on."""

    async def wait() -> bool:
        spending = make_spending(1.5 * WORST)
        assert spending.budgeted is not None
        assert spending.reserve(chat(1))
        waiting = asyncio.create_task(spending.budgeted.budget.reserve(WORST, SpendingLimit(None)))
        await asyncio.sleep(0)
        assert not waiting.done()
        spending.close()
        return await asyncio.wait_for(waiting, 1)

    assert asyncio.run(wait()) is False


def test_pending_keys_are_of_this_model_and_endpoint(tmp_path: Path) -> None:
    """What is submitted for one model at one endpoint is pending for no other."""
    journal = BatchJournal(tmp_path / DIRECTORY, "openai", "lab", "openai/planted")
    entry = journal.plan("t1", [(request_key(chat(1)), chat(1))], 0.0)

    def pending(model: str, endpoint: str | None) -> set[str]:
        return set(PendingKeys(BatchJournal(tmp_path / DIRECTORY, model.partition("/")[0], endpoint, model)))

    assert pending("openai/planted", "lab") == set()  # planned only: it was never submitted
    journal.update(entry, "submitting")
    assert pending("openai/planted", "lab") == {request_key(chat(1))}
    assert (
        pending("openai/planted", None) == pending("openai/other", "lab") == pending("gemini/planted", "lab") == set()
    )


@pytest.mark.parametrize(
    ("model", "url", "refused"),
    [
        ("openai/m", None, ""),
        ("anthropic/m", None, ""),
        ("azure/m", "http://127.0.0.1:1", ""),
        ("azure/m", None, "--base-url"),
        ("gemini/m", None, "leave out --batch"),
        ("hosted_vllm/m", "http://127.0.0.1:1", "leave out --batch"),
    ],
)
def test_which_models_have_batches(model: str, url: str | None, refused: str) -> None:
    """OpenAI, Anthropic, and Azure with its address; everybody else is refused by name."""
    if not refused:
        check_batches(model, Endpoint(url))
        return
    with pytest.raises(InputError, match=refused) as caught:
        check_batches(model, Endpoint(url))
    assert model in str(caught.value)


LISTED = PriceList(
    {
        "own": {"input_cost_per_token": 4e-6, "output_cost_per_token": 8e-6, "input_cost_per_token_batches": 1e-6,
                "output_cost_per_token_batches": 3e-6},
        "none": {"input_cost_per_token": 4e-6, "output_cost_per_token": 8e-6},
        "only": {"input_cost_per_token_batches": 1e-6, "output_cost_per_token_batches": 3e-6},
    },
    "made up",
)  # fmt: skip


@pytest.mark.parametrize(("model", "batched"), [("own", (1e-6, 3e-6)), ("none", (2e-6, 4e-6))])
@pytest.mark.parametrize("batch", [True, False])
def test_the_price_of_batches(model: str, batched: tuple[float, float], batch: bool) -> None:
    """The list's own for batches, else half the usual; alone it is always the usual spending."""
    config = RunConfig(tasks=("nli",), models=(ModelConfig(model=f"openai/{model}"),))
    found = prices_of(config.models, ClientConfig(batch=batch), LISTED, config.params)
    name = (None, f"openai/{model}")
    singly, of_run = found.singly[name], found.of_run[name]

    assert singly is not None
    assert of_run is not None
    assert (singly.input, singly.output) == (4e-6, 8e-6)
    assert (of_run.input, of_run.output) == (batched if batch else (4e-6, 8e-6))


def test_a_limit_needs_the_usual_price_too() -> None:
    """The request that is sent alone could otherwise not be held back."""
    config = RunConfig(tasks=("nli",), models=(ModelConfig(model="openai/only"),))

    with pytest.raises(InputError, match="openai/only is not known"):
        prices_of(config.models, ClientConfig(batch=True, max_usd=1.0), LISTED, config.params)
    assert prices_of(config.models, ClientConfig(batch=True), LISTED, config.params).singly[None, "openai/only"] is None


def booked(account: Account) -> BatchSpending:
    """Return the spending of batches that this account books."""
    model = ("lab", "openai/planted")
    total, own = SpendingLimit(None, account.spent()), SpendingLimit(None, account.spent(model))
    bound = CostBound(PRICE)
    budgeted = BudgetedClient(StoredOnlyClient(), bound, Budget(total), own, account=account)
    return BatchSpending(budgeted, bound, UnansweredClient())


def test_a_batch_that_was_planned_but_never_submitted_is_booked_once(tmp_path: Path) -> None:
    """The run ended in between; the next one reserves its requests again, and their cost is all that is spent."""
    with BatchServer() as server:
        bench = BatchBench(server, tmp_path / "cache")
        requests = bench.requests(2)
        with open_ledger(tmp_path) as ledger:
            spending = booked(Account(ledger, "run"))

            def end(request: Request) -> None:
                if request == requests[1]:
                    raise InputError("the disk is full")
                spending.book(request)

            with pytest.raises(InputError, match="disk is full"):
                bench.run(requests, reserve=spending.reserve, book=end, settle=spending.settle)
        assert not server.batches
        with open_ledger(tmp_path) as ledger:
            assert ledger.spent("run") == pytest.approx(WORST)
            spending = booked(Account(ledger, "run"))
            bench.run(requests, reserve=spending.reserve, book=spending.book, settle=spending.settle)

            assert spending.own.earlier == pytest.approx(0)
            assert ledger.spent("run") == pytest.approx(2 * server_cost(bench))
            assert not ledger.open


def test_a_batch_that_was_given_up_counts_at_its_most(tmp_path: Path) -> None:
    """Its files were removed, so that nobody will ever learn whether it was charged; asked again, both count."""
    with open_ledger(tmp_path) as ledger:
        spending = booked(Account(ledger, "run"))
        assert spending.reserve(chat(1))
        spending.book(chat(1))
    with open_ledger(tmp_path) as ledger:
        spending = booked(Account(ledger, "run"))
        assert spending.reserve(chat(1))
        spending.book(chat(1))
        spending.settle(chat(1), completion(10))

        assert ledger.spent("run") == pytest.approx(WORST + 0.1)
        assert ledger.unbilled("run") == pytest.approx(WORST)
        assert not ledger.open


@pytest.mark.parametrize("wanted", [3, 0])
def test_a_batch_that_was_taken_up_leaves_nothing_booked_for_requests_without_an_answer(
    tmp_path: Path, wanted: int
) -> None:
    """Whether the later run wants them itself or not; the answers are booked at their cost."""
    with BatchServer(polls=None) as server:
        bench = BatchBench(server, tmp_path / "cache")
        requests = bench.requests(3)
        server.fates[request_key(requests[0])] = "400"
        with open_ledger(tmp_path) as ledger:
            spending = booked(Account(ledger, "run"))
            bench.run(requests, reserve=spending.reserve, book=spending.book, settle=spending.settle, wait=0.0)
            assert len(ledger.open) == 3
        server.finish()
        server.polls = 1
        with open_ledger(tmp_path) as ledger:
            spending = booked(Account(ledger, "run"))
            outcome = bench.run(requests[:wanted], reserve=spending.reserve, book=spending.book, settle=spending.settle)

            assert (outcome.stored, len(outcome.failed)) == (2, min(wanted, 1))
            assert not ledger.open
            assert ledger.spent("run") == pytest.approx(spending.own.earlier) == pytest.approx(2 * server_cost(bench))


def server_cost(bench: BatchBench) -> float:
    """Dollars of one answer of the server."""
    with open_store(bench.directory) as store:
        costs = {dollars(answer.usage, PRICE) for _, _, answer in store.iterate()}
    (cost,) = costs
    return cost
