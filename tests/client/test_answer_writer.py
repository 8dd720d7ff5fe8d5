"""`AnswerWriter`: where the store fails, the run stops, answers are kept, and storing is tried again at the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from explaineval.cache import request_key
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
        assert not any(map(client.was_sent, map(request_key, map(ask, range(10)))))
        store.room = later
        await writer.retry()
        return writer, [answer.text for answer in answers]

    return asyncio.run(course())


def test_a_store_with_room_stores_every_answer() -> None:
    """The run is not stopped, and there is no message."""
    writer, answers = store_ten(store := FullStore(10), 10)

    assert store.stored == answers == [f"Q{number}" for number in range(10)]
    assert (writer.message, writer.stopping.is_set()) == (None, False)


def test_kept_answers_are_stored_when_there_is_room_again() -> None:
    """Every answer is returned to its caller, and stored in the end; one message says so."""
    writer, answers = store_ten(store := FullStore(3), 10)

    assert answers == [f"Q{number}" for number in range(10)]
    assert sorted(store.stored) == answers
    assert writer.message == (
        "Cannot write to the cache: the disk is full. Nothing more was sent. 7 answers that were under way were stored "
        "at the end."
    )


def test_answers_that_cannot_be_stored_at_the_end_are_counted() -> None:
    """The message says that they are lost, and asked again."""
    writer, _ = store_ten(store := FullStore(3), 5)

    assert len(store.stored) == 5
    assert len(writer.unstored) == 5
    assert "2 answers that were under way were stored at the end. 5 answers that were under way are lost" in str(
        writer.message
    )
