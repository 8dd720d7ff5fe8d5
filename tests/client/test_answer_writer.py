"""Answers that the store does not take: the run stops, they are kept, and at the end the store is asked once more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from explaineval.client.cached import AnswerWriter, StoringClient
from explaineval.errors import StoreError
from explaineval.records import Completion, Request


def ask(number: int) -> Request:
    """One of several requests."""
    return Request(model="a/b", style="completion", prompt=f"Q{number}", max_tokens=9)


@dataclass
class FullStore:
    """Takes `room` answers, then none, until it gets more room."""

    room: int
    stored: list[str] = field(default_factory=list)
    refused: int = 0

    async def put(self, request: Request, _: Completion) -> None:
        await asyncio.sleep(0)
        if len(self.stored) >= self.room:
            self.refused += 1
            raise StoreError("Cannot write to the cache: the disk is full.")
        self.stored.append(str(request.prompt))


@dataclass
class Wire:
    """Answers everything."""

    async def complete(self, request: Request) -> Completion:
        await asyncio.sleep(0)
        return Completion(text=str(request.prompt))


def store_ten(store: FullStore, later: int) -> tuple[AnswerWriter, list[str | None]]:
    """Ten answers under way at once; before the end there is room for `later` answers."""

    async def course() -> tuple[AnswerWriter, list[str | None]]:
        writer = AnswerWriter(cast("Any", store), asyncio.Event())
        client = StoringClient(Wire(), writer)
        answers = await asyncio.gather(*(client.complete(ask(number)) for number in range(10)))
        assert writer.stopping.is_set() == (writer.error is not None)
        assert not any(map(client.was_sent, map(ask, range(10))))
        store.room = later
        await writer.retry()
        return writer, [answer.text for answer in answers]

    return asyncio.run(course())


def test_a_store_with_room_takes_everything() -> None:
    """Nothing stops, nothing is said."""
    writer, answers = store_ten(store := FullStore(10), 10)

    assert store.stored == answers == [f"Q{number}" for number in range(10)]
    assert (writer.message, writer.stopping.is_set()) == (None, False)


def test_what_was_under_way_is_stored_when_there_is_room_again() -> None:
    """Every answer reaches its waiter, and the store in the end; one sentence tells it."""
    writer, answers = store_ten(store := FullStore(3), 10)

    assert answers == [f"Q{number}" for number in range(10)]
    assert sorted(store.stored) == answers
    assert writer.message == (
        "Cannot write to the cache: the disk is full. Nothing more was sent. 7 answers that were under way were stored "
        "at the end."
    )


def test_what_a_full_store_does_not_take_at_the_end_is_counted() -> None:
    """The rest stays lost, and is asked again."""
    writer, _ = store_ten(store := FullStore(3), 5)

    assert len(store.stored) == 5
    assert len(writer.unstored) == 5
    assert "2 answers that were under way were stored at the end. 5 answers that were under way are lost" in str(
        writer.message
    )
