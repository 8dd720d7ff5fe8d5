"""Budgets of tokens: what is granted is on the disk before, and never exceeds them, over any crash."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from explaineval.errors import RequestUnsentError
from explaineval.service.gate.ledger import Ledger, end
from explaineval.service.table import Table


def with_ledger(directory: Path, act: Callable[[Ledger], Awaitable[None]], budget: float = 1.0) -> Table:
    """Do something with the ledger of a token, and leave it without an orderly end; return the table."""
    table = Table(directory)

    async def run() -> None:
        ledger = Ledger(table, {"ann": budget})
        ledger.load()
        for name in ("r", "s"):
            if table.run(name) is None:
                table.add_run(name, "ann", "now", {}, {}, {}, None, None)
            ledger.open_run(name, None, table.run_spending(name))
        task = asyncio.create_task(ledger.run())
        try:
            await act(ledger)
        finally:
            await end(task)

    asyncio.run(run())
    return table


def test_what_is_granted_is_on_the_disk(tmp_path: Path) -> None:
    """Another connection sees the reservation as soon as it is granted; after a crash it counts in full."""

    async def act(ledger: Ledger) -> None:
        assert await ledger.reserve("r", "ann", 0.25) is not None
        other = Table(tmp_path)
        assert other.last_reservation() == 1
        other.close()

    with_ledger(tmp_path, act).close()

    async def after(ledger: Ledger) -> None:
        assert ledger.spent("ann") == 0.25
        assert await ledger.reserve("r", "ann", 0.76) is None
        assert await ledger.reserve("r", "ann", 0.75) is not None

    table = with_ledger(tmp_path, after)
    assert table.run_spending("r") == 0.25


def test_what_does_not_fit_yet_waits(tmp_path: Path) -> None:
    """Until another attempt costs less than was reserved; what can never fit is refused at once."""

    async def act(ledger: Ledger) -> None:
        first = await ledger.reserve("r", "ann", 0.9)
        waiting = asyncio.create_task(ledger.reserve("s", "ann", 0.5))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert await ledger.reserve("s", "ann", 1.5) is None
        assert first is not None
        ledger.release(first, 0.2)
        assert await waiting is not None
        assert (ledger.spent("ann"), ledger.reserved("ann")) == (pytest.approx(0.2), pytest.approx(0.5))

    with_ledger(tmp_path, act)


def test_a_run_that_dies_pays_its_worst_case(tmp_path: Path) -> None:
    """Its own open reservations alone, also in the table."""

    async def act(ledger: Ledger) -> None:
        for run in ("r", "r", "s"):
            await ledger.reserve(run, "ann", 0.1)
        assert ledger.settle_run("r") == pytest.approx(0.2)
        await ledger.flush()
        assert (ledger.spent("ann"), ledger.reserved("ann")) == (pytest.approx(0.2), pytest.approx(0.1))

    table = with_ledger(tmp_path, act)
    assert table.spending() == {"ann": pytest.approx(0.2)}
    assert (table.run_spending("r"), table.run_spending("s")) == (pytest.approx(0.2), 0.0)


def test_a_cancelled_reservation_is_given_back(tmp_path: Path) -> None:
    """Nothing was sent for it."""

    async def act(ledger: Ledger) -> None:
        task = asyncio.create_task(ledger.reserve("r", "ann", 0.6))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ledger.flush()
        assert (ledger.spent("ann"), ledger.reserved("ann")) == (0.0, pytest.approx(0.0))

    assert with_ledger(tmp_path, act).settle() == 0.0


def test_without_a_disk_nothing_is_granted(tmp_path: Path) -> None:
    """The budget is as before."""

    async def act(ledger: Ledger) -> None:
        ledger.table.close()
        with pytest.raises(RequestUnsentError, match="cannot be written down"):
            await ledger.reserve("r", "ann", 0.5)
        assert (ledger.spent("ann"), ledger.reserved("ann")) == (0.0, 0.0)

    with_ledger(tmp_path, act)


def test_many_at_once_never_exceed_the_budget(tmp_path: Path) -> None:
    """Drawn amounts and costs of many attempts: the sum of true costs stays within the budget, and the table agrees."""
    draw = random.Random(7)
    paid = 0.0

    async def act(ledger: Ledger) -> None:
        nonlocal paid

        async def attempt(run: str, worst: float, share: float) -> None:
            nonlocal paid
            reservation = await ledger.reserve(run, "ann", worst)
            if reservation is None:
                return
            await asyncio.sleep(0)
            paid += worst * share
            ledger.release(reservation, worst * share)
            assert ledger.spent("ann") + ledger.reserved("ann") <= 1.0 + 1e-9

        work = [attempt(draw.choice("rs"), draw.uniform(0.001, 0.05), draw.random()) for _ in range(400)]
        await asyncio.gather(*work)
        await ledger.flush()

    table = with_ledger(tmp_path, act)
    assert 0.9 < paid <= 1.0
    assert table.spending()["ann"] == pytest.approx(paid)
    assert table.settle() == 0.0
