"""Budgets of tokens: what is granted is on the disk before, and never exceeds them, over any crash."""

from __future__ import annotations

import asyncio
import logging
import random
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from explaineval.errors import InputError, RequestUnsentError
from explaineval.service.processes import budgets as ledgers
from explaineval.service.processes import settlements
from explaineval.service.processes.background import BusyError
from explaineval.service.processes.budgets import Budgets, end
from explaineval.service.processes.settlements import Settlements
from explaineval.service.processes.sharing import TooManyJobsError
from explaineval.service.processes.workers import Workers
from explaineval.service.table import RESERVE, Reservation, StateFile

OLD_TABLE = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY, number INTEGER UNIQUE, token TEXT NOT NULL, state TEXT NOT NULL, reason TEXT,
    created TEXT NOT NULL, started TEXT, ended TEXT, settings TEXT NOT NULL, job TEXT NOT NULL, plan TEXT NOT NULL,
    worst_usd REAL, max_usd REAL, usd REAL NOT NULL DEFAULT 0, restarts INTEGER NOT NULL DEFAULT 0,
    exit_code INTEGER, progress TEXT
) STRICT;
CREATE TABLE spending (token TEXT PRIMARY KEY, usd REAL NOT NULL) STRICT;
CREATE TABLE reservations (id INTEGER PRIMARY KEY, run TEXT NOT NULL, token TEXT NOT NULL, usd REAL NOT NULL) STRICT;
INSERT INTO runs VALUES ('r', 1, 'ann', 'running', NULL, 'now', NULL, NULL, '{}', '{}', '{}', 1, NULL, 0.05, 0, NULL,
    NULL);
INSERT INTO reservations VALUES (7, 'r', 'ann', 0.25);
PRAGMA user_version = 1;
"""
"""What explaineval 0.2 left after a crash."""


def spent(table: StateFile, run: str) -> float:
    """Return the dollars that a run spent; 0 where there is no such run."""
    row = table.run(run)
    return 0.0 if row is None else row.usd


def with_ledger(directory: Path, act: Callable[[Budgets], Awaitable[None]], budget: float = 1.0) -> StateFile:
    """Do something with the ledger of a token, and leave it without an orderly end; return the table."""
    table = StateFile(directory)

    async def run() -> None:
        ledger = Budgets(table, {"ann": budget})
        ledger.load()
        for name in ("r", "s"):
            if table.run(name) is None:
                table.add_run(name, "ann", "now", {}, {}, {}, None, None)
            ledger.open_run(name, None, spent(table, name))
        task = asyncio.create_task(ledger.run())
        try:
            await act(ledger)
        finally:
            await end(task)

    asyncio.run(run())
    return table


def test_what_is_granted_is_on_the_disk(tmp_path: Path) -> None:
    """Another connection sees the reservation as soon as it is granted; after a crash it stays reserved."""

    async def act(ledger: Budgets) -> None:
        assert await ledger.reserve("r", "ann", 0.25) is not None
        other = StateFile(tmp_path)
        assert [(entry.id, entry.usd) for entry in other.reservations()] == [(1, 0.25)]
        other.close()

    with_ledger(tmp_path, act).close()

    async def after(ledger: Budgets) -> None:
        assert (ledger.spent("ann"), ledger.reserved("ann"), ledger.has_left_open("r")) == (0.0, 0.25, True)
        waiting = asyncio.create_task(ledger.reserve("s", "ann", 0.76))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert ledger.settle_run("r") == 0.25
        assert await waiting is None
        assert await ledger.reserve("r", "ann", 0.75) == 2
        assert not ledger.has_left_open("r")

    table = with_ledger(tmp_path, after)
    assert spent(table, "r") == 0.25


class CacheReader:
    """A cache that cannot be read at first, on a disk with no room for as many tries; `spent` is what answers cost."""

    def __init__(self, errors: Iterable[Exception], full: int) -> None:
        self.errors, self.full, self.spent = list(errors), full, {"stored": 0.01}
        self.faults: dict[str, str] = {}

    async def do(self, job: str, user: str = "", **_: Any) -> Any:
        """Return the costs, or fail."""
        assert (job, user) == ("bills", "(settlements)")
        if self.errors:
            raise self.errors.pop(0)
        return self.spent

    def suspect(self) -> None:
        """Try to write soon."""

    async def check(self) -> None:
        """Find out whether there is room."""
        self.full -= 1
        self.faults = {"cache/": "no space left on device"} if self.full >= 0 else {}


@pytest.mark.parametrize(
    ("errors", "full", "closing", "booked"),
    [
        ([InputError("disk I/O error")] * 9, 8, False, 0.21),
        ([TooManyJobsError("wait for one")] * 9, 0, False, 0.21),
        ([BusyError("too long")] * 9, 0, False, 0.4),
        ([InputError("disk I/O error")] * 9, 9, True, 0.0),
    ],
    ids=["a-full-disk", "a-queue", "a-damaged-cache", "the-server-ends"],
)
def test_answers_that_cannot_be_looked_up_yet_are_waited_for(
    errors: list[Exception], full: int, closing: bool, booked: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Booked at their bills once there is room; at their worst only where the cache stays unreadable all the same."""
    monkeypatch.setattr(settlements, "PAUSE", 0.0)

    async def act(ledger: Budgets) -> None:
        for key in ("stored", "lost"):
            await ledger.reserve("r", "ann", 0.2, key)
        reader: Any = CacheReader(errors, full)
        job = {"science": {}, "client": {}}
        settling = Settlements(
            ledger.table, ledger, reader, lambda _: job, lambda _: tmp_path, disk=reader, closing=lambda: closing
        )
        assert await settling.settle("r") == pytest.approx(booked)
        assert ledger.open_keys("r") == (["stored", "lost"] if closing else [])
        assert ledger.spent("ann") == pytest.approx(booked)

    with_ledger(tmp_path, act).close()


def test_a_call_to_look_for_runs_is_never_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it comes in the moment in which the pause is over: nothing else would start a run that waits."""

    async def act() -> int:
        looks, calls = 0, 0
        worker: Any = object.__new__(Workers)
        worker._wake, worker._starting, worker.closing = asyncio.Event(), asyncio.Lock(), False

        async def nothing() -> bool:
            return False

        async def look() -> None:
            nonlocal looks
            looks += 1

        @asynccontextmanager
        async def over(_: float) -> AsyncIterator[None]:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise asyncio.CancelledError
            worker.wake()
            raise TimeoutError
            yield

        worker.starter, worker._tick, worker._start_all = SimpleNamespace(open=nothing), nothing, look
        monkeypatch.setattr("explaineval.service.processes.workers.asyncio.timeout", over)
        with suppress(asyncio.CancelledError):
            await worker.run()
        return looks

    assert asyncio.run(act()) == 3


def test_after_a_crash_answers_of_the_cache_say_what_attempts_cost(tmp_path: Path) -> None:
    """The rest counts at its worst case and is listed, each answer for one attempt."""

    async def act(ledger: Budgets) -> None:
        for key in ("stored", "lost", "twice", "twice"):
            await ledger.reserve("r", "ann", 0.2, key)

    with_ledger(tmp_path, act).close()

    async def after(ledger: Budgets) -> None:
        assert ledger.open_keys("r") == ["stored", "lost", "twice", "twice"]
        assert ledger.settle_run("r", {"stored": 0.01, "twice": 0.03}) == pytest.approx(0.44)
        await ledger.flush()
        assert (ledger.spent("ann"), ledger.reserved("ann")) == (pytest.approx(0.44), 0.0)

    table = with_ledger(tmp_path, after)
    row = table.run("r")
    assert row is not None
    assert row.unbilled is not None
    assert (row.usd, row.unbilled["attempts"], row.unbilled["usd"]) == (pytest.approx(0.44), 2, pytest.approx(0.4))
    assert [(one["key"], one["usd"]) for one in row.unbilled["listed"]] == [("lost", 0.2), ("twice", 0.2)]
    assert table.reservations() == []


def test_who_asks_again_has_not_found_the_answer(tmp_path: Path) -> None:
    """An attempt that a crash left counts at its worst case before another run may buy the same answer."""

    async def act(ledger: Budgets) -> None:
        await ledger.reserve("r", "ann", 0.2, "key")

    with_ledger(tmp_path, act).close()

    async def after(ledger: Budgets) -> None:
        second = await ledger.reserve("s", "ann", 0.2, "key")
        assert second is not None
        ledger.release(second, 0.05)
        assert ledger.settle_run("r", {"key": 0.05}) == 0
        assert ledger.spent("ann") == pytest.approx(0.25)

    with_ledger(tmp_path, after)


def test_an_attempt_without_a_bill_is_listed(tmp_path: Path) -> None:
    """Such as one that timed out; those with a bill are not."""

    async def act(ledger: Budgets) -> None:
        for billed in (True, False):
            reservation = await ledger.reserve("r", "ann", 0.1, f"billed {billed}")
            assert reservation is not None
            ledger.release(reservation, 0.1, billed=billed)
        await ledger.flush()

    row = with_ledger(tmp_path, act).run("r")
    assert row is not None
    assert row.unbilled is not None
    assert [one["key"] for one in row.unbilled["listed"]] == ["billed False"]


def test_while_the_disk_is_full_reservations_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is granted before it is written, and nothing that is to be booked is lost."""
    monkeypatch.setattr(ledgers, "RETRY_SECONDS", 0.01)
    told: list[bool] = []

    async def act(ledger: Budgets) -> None:
        ledger.on_full = lambda exc: told.append(exc is not None)
        first = await ledger.reserve("r", "ann", 0.1)
        assert first is not None
        book, full = ledger.table.book, [True]

        def fail(entries: object) -> None:
            if full[0]:
                raise sqlite3.OperationalError("database or disk is full")
            book(entries)  # type: ignore[arg-type]

        monkeypatch.setattr(ledger.table, "book", fail)
        ledger.release(first, 0.04)
        waiting = asyncio.create_task(ledger.reserve("r", "ann", 0.5))
        while len(told) < 3:  # noqa: ASYNC110 - it is told by a function
            await asyncio.sleep(0.01)
        assert not waiting.done()
        full[0] = False
        assert await waiting == 2
        assert ledger.spent("ann") == pytest.approx(0.04)

    table = with_ledger(tmp_path, act)
    assert told[:3] == [True] * 3
    assert told[-1] is False
    assert table.spending() == {"ann": pytest.approx(0.04)}
    assert [entry.id for entry in table.reservations()] == [2]


def test_what_can_never_be_written_is_given_up_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not tried without end and keeps nothing else from the disk, where it stays reserved at its most."""
    monkeypatch.setattr(ledgers, "RETRY_SECONDS", 0.001)
    caplog.set_level(logging.ERROR)
    tries = [0]

    async def act(ledger: Budgets) -> None:
        bad, good = await ledger.reserve("r", "ann", 0.1), await ledger.reserve("s", "ann", 0.2)
        assert bad is not None
        assert good is not None
        book = ledger.table.book

        def fail(entries: Iterable[Reservation]) -> None:
            rows = list(entries)
            if any(row.id == bad for row in rows):
                tries[0] += 1
                raise sqlite3.DatabaseError("database disk image is malformed")
            book(rows)

        monkeypatch.setattr(ledger.table, "book", fail)
        ledger.release(bad, 0.04)
        ledger.release(good, 0.05)
        async with asyncio.timeout(20):
            while not caplog.records:  # noqa: ASYNC110 - it is told by the log
                await asyncio.sleep(0.001)
        given_up = tries[0]
        await ledger.flush()
        assert await ledger.reserve("s", "ann", 0.3) is not None
        assert tries[0] == given_up == ledgers.MOST_TRIES + 1
        assert ledger.spent("ann") == pytest.approx(0.09)

    table = with_ledger(tmp_path, act)
    assert [record.message for record in caplog.records] == ["cost_not_written"]
    assert table.spending() == {"ann": pytest.approx(0.05)}
    assert [(entry.run, entry.usd) for entry in table.reservations()] == [("r", 0.1), ("s", 0.3)]


def test_the_table_keeps_a_reserve_for_a_full_disk(tmp_path: Path) -> None:
    """When no page can be added any more, states can still be written."""
    table = StateFile(tmp_path)
    for name in ("r", "s"):
        table.add_run(name, "ann", "now", {}, {}, {}, None, None)
    table.keep_reserve()
    pages = table._writer.execute("PRAGMA page_count").fetchone()[0]
    table._writer.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(10):
        assert table.update_run("r", state="stopped", reason=f"{number}" + "x" * 20_000)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        table.update_run("r", progress={"x": "x" * 2 * RESERVE})
    table._writer.execute(f"PRAGMA max_page_count = {pages * 4}")
    table.keep_reserve()
    assert table.run("r") is not None
    assert table._rows("SELECT length(bytes) FROM reserve") == [(RESERVE,)]


def test_a_table_of_the_version_before_is_taken(tmp_path: Path) -> None:
    """Its open reservations, which have no key, count at their worst case."""
    path = tmp_path / "service.sqlite"
    with sqlite3.connect(path) as old:
        old.executescript(OLD_TABLE)
    old.close()

    async def act(ledger: Budgets) -> None:
        assert ledger.settle_run("r") == 0.25
        await ledger.flush()

    table = with_ledger(tmp_path, act)
    row = table.run("r")
    assert row is not None
    assert (row.state, row.usd, row.waits_for) == ("running", pytest.approx(0.3), None)
    table.close()
    StateFile(tmp_path).close()


def test_what_does_not_fit_yet_waits(tmp_path: Path) -> None:
    """Until another attempt costs less than was reserved; what can never fit is refused at once."""

    async def act(ledger: Budgets) -> None:
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

    async def act(ledger: Budgets) -> None:
        for run in ("r", "r", "s"):
            await ledger.reserve(run, "ann", 0.1)
        assert ledger.settle_run("r") == pytest.approx(0.2)
        await ledger.flush()
        assert (ledger.spent("ann"), ledger.reserved("ann")) == (pytest.approx(0.2), pytest.approx(0.1))

    table = with_ledger(tmp_path, act)
    assert table.spending() == {"ann": pytest.approx(0.2)}
    assert (spent(table, "r"), spent(table, "s")) == (pytest.approx(0.2), 0.0)


def test_a_cancelled_reservation_is_given_back(tmp_path: Path) -> None:
    """Nothing was sent for it."""

    async def act(ledger: Budgets) -> None:
        task = asyncio.create_task(ledger.reserve("r", "ann", 0.6))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ledger.flush()
        assert (ledger.spent("ann"), ledger.reserved("ann")) == (0.0, pytest.approx(0.0))

    assert with_ledger(tmp_path, act).reservations() == []


def test_without_a_disk_nothing_is_granted(tmp_path: Path) -> None:
    """The budget is as before."""

    async def act(ledger: Budgets) -> None:
        ledger.table.close()
        with pytest.raises(RequestUnsentError, match="cannot be written down"):
            await ledger.reserve("r", "ann", 0.5)
        assert (ledger.spent("ann"), ledger.reserved("ann")) == (0.0, 0.0)

    with_ledger(tmp_path, act)


def test_many_at_once_never_exceed_the_budget(tmp_path: Path) -> None:
    """Drawn amounts and costs of many attempts: the sum of true costs stays within the budget, and the table agrees."""
    draw = random.Random(7)
    paid = 0.0

    async def act(ledger: Budgets) -> None:
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
    assert table.reservations() == []
