"""The thread that writes: rows that come together share a transaction, and a row that comes alone does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from explaineval.cache import Store, request_key
from explaineval.cache import database as cache_writer
from explaineval.cache.database import Database

Make = Callable[..., Any]


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One item for each transaction that was begun."""
    begun: list[int] = []
    plain = Database.transact

    def transact(self: Database) -> AbstractContextManager[None]:
        begun.append(1)
        context: AbstractContextManager[None] = plain(self)
        return context

    monkeypatch.setattr(Database, "transact", transact)
    return begun


def test_rows_of_many_writers_share_transactions(
    store: Store, transactions: list[int], make_request: Make, make_completion: Make
) -> None:
    """Each is stored once its transaction is committed, many in one."""
    numbers = iter(range(256))

    async def work() -> None:
        for number in numbers:
            await store.put(make_request(number), make_completion(number))
            assert store.get(request_key(make_request(number))) == make_completion(number)

    async def main() -> None:
        await asyncio.gather(*(work() for _ in range(32)))

    asyncio.run(main())

    assert 8 <= len(transactions) <= 64


def test_a_row_that_comes_alone_does_not_wait(
    store: Store,
    transactions: list[int],
    monkeypatch: pytest.MonkeyPatch,
    make_request: Make,
    make_completion: Make,
) -> None:
    """One writer, whose next row comes after the one before is stored, gets a transaction for each, at once."""
    waits: list[float] = []
    monkeypatch.setattr(cache_writer.time, "sleep", waits.append)

    async def main() -> None:
        for number in range(10):
            await store.put(make_request(number), make_completion(number))

    asyncio.run(main())

    assert len(transactions) == 10
    assert waits == []


def test_a_row_whose_loop_has_ended_is_stored_all_the_same(
    store: Store, make_request: Make, make_completion: Make
) -> None:
    """The writer has nobody to tell, and goes on."""

    async def leave() -> None:
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]
        await store.put(make_request(1), make_completion(1))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(leave())
    asyncio.run(store.put(make_request(2), make_completion(2)))

    assert [store.get(request_key(make_request(number))) for number in (1, 2)] == [
        make_completion(1),
        make_completion(2),
    ]
    assert store.warnings == ()
