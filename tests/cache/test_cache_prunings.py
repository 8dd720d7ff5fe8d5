"""Deleting: exactly what was planned, through the writer, and the space when nobody else is there."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import (
    Store,
    open_store,
    plan_pruning,
    prune,
    reclaim_space,
    request_key,
    store,
    verify_store,
)
from explaineval.cost import FREE, Price
from explaineval.errors import StoreError
from explaineval.records import Completion, Request

Make = Callable[..., Any]


@pytest.fixture
def filled(store: Store, make_request: Make, make_completion: Make) -> Store:
    """Six answers of one model and four of another."""

    async def put_all() -> None:
        await asyncio.gather(
            *(store.put(make_request(n), make_completion(n)) for n in range(6)),
            *(store.put(make_request(n, endpoint=None, model="m/other"), make_completion(n)) for n in range(4)),
        )

    asyncio.run(put_all())
    return store


def is_other(request: Request) -> bool:
    """Of the other model."""
    return request.model == "m/other"


def test_only_the_keys_given_are_deleted(filled: Store, make_request: Make) -> None:
    """How many there were is told; a key that is not there is none."""
    keys = [request_key(make_request(number)) for number in (0, 1, 99)]

    assert asyncio.run(filled.delete(keys)) == 2
    assert [filled.get(request_key(make_request(number))) is not None for number in range(4)] == [
        False,
        False,
        True,
        True,
    ]
    assert filled.stats().entries == 8


def test_a_deletion_outlives_the_store(directory: Path, filled: Store, make_request: Make) -> None:
    """It is committed when it returns, like a write."""
    asyncio.run(filled.delete([request_key(make_request(0))]))
    filled.close()
    with open_store(directory, readonly=True) as store:
        assert store.get(request_key(make_request(0))) is None
        assert store.stats().entries == 9
        with pytest.raises(StoreError, match="reading only"):
            asyncio.run(store.delete([request_key(make_request(1))]))


def test_a_plan_says_what_goes_and_what_it_cost(filled: Store) -> None:
    """Counted by hand: ten tokens in and 0 + 1 + 2 + 3 out, at 1 and 2 dollars."""
    planned = plan_pruning(filled, is_other, damaged=False, price_of=lambda _: Price(1.0, 2.0))

    assert (planned.rows, planned.versions) == (4, ())
    assert [(one.endpoint, one.model, one.entries, one.usd) for one in planned.models] == [
        (None, "m/other", 4, 4 * 10 * 1.0 + (0 + 1 + 2 + 3) * 2.0)
    ]
    assert filled.stats().entries == 10


def test_what_was_planned_goes_and_nothing_else(filled: Store, make_request: Make, make_completion: Make) -> None:
    """An answer that came after the plan stays; verdicts stay."""
    asyncio.run(filled.put_verdict("v", {"x": 1}))
    planned = plan_pruning(filled, lambda _: True, damaged=True)
    asyncio.run(filled.put(make_request(50), make_completion(50)))

    assert asyncio.run(prune(filled, planned)) == 10
    assert [request for _, request, _ in filled.iterate()] == [make_request(50)]
    assert filled.get_verdict("v") == {"x": 1}


def test_damaged_and_foreign_rows_go(directory: Path, filled: Store, plant: Make, make_request: Make) -> None:
    """Whatever they hold and under whatever key; sound answers stay, and no file that a row names is touched."""
    outside = directory.with_name("outside.txt")
    outside.write_text("precious")
    plant("UPDATE Cache SET value = x'00' WHERE key = ?", request_key(make_request(0)))
    plant("UPDATE Cache SET mode = 2, filename = '../outside.txt' WHERE key = ?", request_key(make_request(1)))
    plant("UPDATE Cache SET filename = CAST(x'ff' AS TEXT) WHERE key = ?", request_key(make_request(2)))
    for key in (7, b"pickled", "short"):
        plant("INSERT INTO Cache(key, raw, mode, value) VALUES (?, 0, 4, x'00')", key)
    planned = plan_pruning(filled, None, damaged=True)

    assert (len(planned.keys), len(planned.versions), planned.models) == (0, 6, ())
    assert asyncio.run(prune(filled, planned)) == 6
    assert verify_store(directory).whole
    assert filled.stats().entries == 7
    assert outside.read_text() == "precious"


def test_a_damaged_row_that_was_bought_again_stays(filled: Store, plant: Make, make_request: Make) -> None:
    """Between the plan and its confirmation another run may have put a good answer there."""
    key = request_key(make_request(0))
    plant("UPDATE Cache SET value = x'00' WHERE key = ?", key)
    planned = plan_pruning(filled, None, damaged=True)
    asyncio.run(filled.put(make_request(0), Completion(text="new")))

    assert len(planned.versions) == 1
    assert asyncio.run(prune(filled, planned)) == 0
    assert filled.get(key) == Completion(text="new")


def test_space_is_given_back(directory: Path, filled: Store, make_request: Make) -> None:
    """The file shrinks, is whole, and keeps its log for the next opening."""
    noise = random.Random("noise").randbytes(250_000).hex()
    asyncio.run(filled.put(make_request(60), Completion(text=noise)))
    asyncio.run(filled.delete([request_key(make_request(60))]))
    filled.close()
    before = (directory / "cache.db").stat().st_size

    assert reclaim_space(directory) is None
    assert (directory / "cache.db").stat().st_size < before - 200_000
    assert verify_store(directory).whole
    with open_store(directory) as store:
        assert store.stats().entries == 10


def test_space_stays_while_another_process_uses_the_store(
    directory: Path, filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is kept waiting, and nothing is lost."""
    monkeypatch.setattr(store, "BUSY_TIMEOUT", 0.1)
    before = (directory / "cache.db").read_bytes()

    assert "another process uses the cache" in str(reclaim_space(directory))
    assert before == (directory / "cache.db").read_bytes()
    assert filled.stats().entries == 10


def test_a_disk_without_room_to_rewrite_loses_nothing(
    directory: Path, filled: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rewriting fails (planted); the sentence says why, the answers are there, the log is on again."""
    filled.close()
    connect = sqlite3.connect

    class Full(sqlite3.Connection):
        def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
            if statement == "VACUUM":
                raise sqlite3.OperationalError("database or disk is full")
            return super().execute(statement, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda path, **settings: connect(path, factory=Full, **settings))
        assert "disk is full" in str(reclaim_space(directory))

    connection = connect(directory / "cache.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert verify_store(directory).sound == 10


def test_dollars_are_summed_answer_by_answer(store: Store, make_request: Make) -> None:
    """Tokens from the provider's own cache have their own price; an unknown price is no sum, never 0."""
    usages = [
        {"prompt_tokens": 10, "completion_tokens": 1},
        {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 8}},
        {},
    ]
    for number, usage in enumerate(usages):
        asyncio.run(store.put(make_request(number), Completion(text="x", usage=usage)))
    asyncio.run(store.put(make_request(0, model="m/free"), Completion(text="x")))
    asyncio.run(store.put(make_request(0, model="m/odd"), Completion(text="x", usage=usages[0])))
    prices = {"openai/smol": Price(1.0, 2.0, cached_input=0.25), "m/free": FREE, "m/odd": None}
    found = store.stats(lambda request: prices[request.model])

    assert [(one.model, one.usd, one.unmetered) for one in found.models] == [
        ("m/free", 0.0, 0),
        ("m/odd", None, 0),
        ("openai/smol", (10 * 1.0 + 2.0) + (2 * 1.0 + 8 * 0.25 + 2.0), 1),
    ]
    assert found.usd is None
    assert store.stats(lambda _: FREE).usd == 0.0


def test_add_leaves_what_is_there(store: Store, make_request: Make) -> None:
    """Also what comes while it waits; an answer that cannot be read is replaced."""

    async def add_both() -> list[bool]:
        return await asyncio.gather(*(store.add(make_request(), Completion(text=text)) for text in ("one", "two")))

    assert asyncio.run(add_both()) == [True, False]
    assert store.get(request_key(make_request())) == Completion(text="one")


def test_a_verdict_is_added_unless_a_readable_one_is_there(filled: Store, plant: Make) -> None:
    """A second `add_verdict` changes nothing; a damaged verdict is replaced."""
    for name in ("a", "bad"):
        asyncio.run(filled.put_verdict(name, {"name": name}))
    plant("UPDATE Cache SET value = x'00' WHERE key = 'verdict:bad'")

    assert filled.get_verdict("bad") is None
    assert not asyncio.run(filled.add_verdict("a", {"other": 1}))
    assert asyncio.run(filled.add_verdict("bad", {"good": 1}))
    assert [filled.get_verdict(name) for name in ("a", "bad")] == [{"name": "a"}, {"good": 1}]
