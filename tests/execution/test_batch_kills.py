"""A run by batches that is killed at any step: it books no less than is billed, and the same at the end."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import open_store, request_key
from explaineval.client.batches.journal import BatchJournal
from explaineval.client.cached import StoredOnlyClient
from explaineval.client.spending import Budget, BudgetedClient, CostBound, SpendingLimit
from explaineval.cost import Price, dollars
from explaineval.execution.batches import BatchSpending, UnansweredClient
from explaineval.execution.outcome import settle_open
from explaineval.planning.cost import Prices
from explaineval.rundir.ledger import Account, RunLedger, open_ledger, read_ledger
from servers.batch_bench import BatchBench
from servers.batch_server import BatchServer

PRICE = Price(0.0, 0.01)
MODEL = ("lab", "openai/planted")
STEPS = [(BatchJournal, "plan"), (BatchJournal, "update"), (RunLedger, "_append"), (BatchSpending, "settle")]
"""What a process writes while it asks by batches, and what it does between an answer and its cost."""


class Killed(BaseException):
    """Stands for the end of a process: from then on it writes nothing."""


class Death:
    """Ends the process at its step number `at`, before or after it is done; 0 never does."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at, self.after, self.steps, self.dead = at, after, 0, False

    def wrap(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """Return the step as it is done by a process that dies."""

        def done(*arguments: Any, **named: Any) -> Any:
            self.steps += 1
            if self.dead or (self.steps == self.at and not self.after):
                self.dead = True
                raise Killed
            result = step(*arguments, **named)
            if self.steps == self.at:
                self.dead = True
            if self.dead:
                raise Killed
            return result

        return done


def run(bench: BatchBench, directory: Path, count: int, death: Death, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask by batches as a run does, until it is done or dies."""
    with monkeypatch.context() as patch, ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(directory))
        for owner, name in STEPS:
            patch.setattr(owner, name, death.wrap(getattr(owner, name)))
        write = RunLedger.write
        patch.setattr(RunLedger, "write", lambda self: None if death.dead else write(self))
        account = Account(ledger, "run")
        try:
            with open_store(bench.directory) as store:
                settle_open(account, store, Prices({MODEL: PRICE}, {MODEL: PRICE}))
            bound = CostBound(PRICE)
            budget = Budget(SpendingLimit(None, account.spent()))
            client = BudgetedClient(
                StoredOnlyClient(), bound, budget, SpendingLimit(None, account.spent(MODEL)), account=account
            )
            spending = BatchSpending(client, bound, UnansweredClient())
            lacking = [request for request in bench.requests(count) if request_key(request) not in bench.stored()]
            bench.run(lacking, reserve=spending.reserve, book=spending.book, settle=spending.settle, max_requests=2)
        except Killed:
            pass
        finally:
            stack.close()  # while the steps of the dead are still without effect


@pytest.mark.sampled(1)
@pytest.mark.parametrize("seed", [1, 3, 5])
def test_a_run_that_is_killed_books_all_that_is_billed(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three processes die at random steps; the last one buys nothing twice, and books each answer at its cost."""
    rng, count, seen = random.Random(seed), 5, list[tuple[float, int]]()
    with BatchServer() as server:
        bench = BatchBench(server, tmp_path / "cache")
        for _ in range(3):
            death = Death(rng.randint(1, 26), after=rng.random() < 0.5)
            run(bench, tmp_path, count, death, monkeypatch)
            seen.append((read_ledger(tmp_path).spent("run"), sum(server.billed.values())))
        run(bench, tmp_path, count, Death(0, after=False), monkeypatch)
        ledger = read_ledger(tmp_path)
        with open_store(bench.directory) as store:
            (cost,) = {dollars(answer.usage, PRICE) for _, _, answer in store.iterate()}

        assert sorted(server.billed.values()) == [1] * count
        assert all(booked >= billed * cost - 1e-9 for booked, billed in seen), seen
        assert ledger.spent("run") == pytest.approx(count * cost)
        assert ledger.unbilled("run") == 0
        assert not ledger.open
