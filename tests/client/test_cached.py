"""`CachedClient`: each key is asked and counted once, however it ends, also where two processes ask the same."""

from __future__ import annotations

import asyncio
import gc
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.cache import AnswerOrigin, Store, open_store, request_key
from explaineval.client.cached import AnswerWriter, CachedClient, StoredOnlyClient, StoringClient
from explaineval.client.protocol import Listener
from explaineval.errors import (
    BudgetReachedError,
    ExplainevalError,
    NotStoredError,
    RequestRejectedError,
    RequestUnsentError,
    TransientError,
)
from explaineval.records import Completion, Request
from makers.waiting import run

NEIGHBOUR = 2**22 + 7
"""A number that no process has."""

ANSWER = Completion(text="x", usage={"prompt_tokens": 1, "completion_tokens": 1})


def ask(number: int) -> Request:
    """One of several requests."""
    return Request(model="a/b", style="completion", prompt=f"Q{number}", max_tokens=9)


@dataclass
class Wire:
    """Ends the askings of each prompt as it is told, then with an answer; every asking takes a moment."""

    ends: dict[str, list[ExplainevalError]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def complete(self, request: Request) -> Completion:
        prompt = str(request.prompt)
        self.asked.append(prompt)
        await asyncio.sleep(0.001)
        if self.ends.get(prompt):
            raise self.ends[prompt].pop(0)
        return ANSWER


@dataclass
class Neighbours:
    """Claims as other processes hold them: a key is free when its number of refusals is used up."""

    refusals: dict[str, int] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    most: int = 0

    def claim(self, key: str) -> bool:
        if self.refusals.get(key, 0):
            self.refusals[key] -= 1
            return False
        assert key not in self.held
        self.held.add(key)
        self.most = max(self.most, len(self.held))
        return True

    def release(self, key: str) -> None:
        self.held.discard(key)

    def holder(self, key: str) -> int | None:
        return NEIGHBOUR if self.refusals.get(key, 0) else None


@dataclass
class Books(Listener):
    """What a cached client told of answers and misses."""

    entered: list[tuple[str, bool]] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    changes: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def on_answer(self, request: Request, key: str, completion: Completion, *, hit: bool) -> None:  # noqa: ARG002
        self.entered.append((str(request.prompt), hit))

    def on_unsent(self, request: Request) -> None:
        self.missed.append(str(request.prompt))

    def on_wait(self, change: int) -> None:
        self.changes.append(change)

    def report(self, message: str) -> None:
        self.told.append(message)


def cached(wire: Any, store: Store, claims: Any = None) -> tuple[CachedClient, Books]:
    """A cached client over a wire that stores, with books."""
    books = Books()
    client = CachedClient(
        StoringClient(wire, AnswerWriter(store, asyncio.Event())) if isinstance(wire, Wire) else wire,
        store,
        asyncio.Event(),
        claims,
        listener=books,
    )
    return client, books


async def ask_all(client: CachedClient, numbers: list[int]) -> list[Any]:
    """Ask all at once."""
    return await asyncio.gather(*(client.complete(ask(number)) for number in numbers), return_exceptions=True)


def counts(client: CachedClient) -> tuple[int, int, int]:
    """Hits, sent, unsent."""
    return client.counts.hits, client.counts.sent, client.counts.unsent


@pytest.mark.parametrize("claims", [None, Neighbours()], ids=["alone", "with claims"])
def test_each_key_is_asked_once_however_many_callers_wait(tmp_path: Path, claims: Neighbours | None) -> None:
    """Thirty callers ask for three keys at once, and again later: three requests, three counts, no claim left."""

    async def course() -> None:
        wire = Wire()
        with open_store(tmp_path) as store:
            client, books = cached(wire, store, claims)
            for _ in range(2):
                assert await ask_all(client, [0, 1, 2] * 10) == [ANSWER] * 30
        assert sorted(wire.asked) == ["Q0", "Q1", "Q2"]
        assert sorted(books.entered) == [("Q0", False), ("Q1", False), ("Q2", False)]
        assert counts(client) == (0, 3, 0)
        assert claims is None or not claims.held

    run(course())


def test_a_stored_answer_is_counted_as_one_hit(tmp_path: Path) -> None:
    """A second client over the same store asks nothing and counts each key once."""

    async def course() -> None:
        with open_store(tmp_path) as store:
            await ask_all(cached(Wire(), store)[0], [0, 1])
            wire = Wire()
            client, books = cached(wire, store)
            await ask_all(client, [0, 1, 0, 1])
            await ask_all(client, [0, 2])
        assert wire.asked == ["Q2"]
        assert sorted(books.entered) == [("Q0", True), ("Q1", True), ("Q2", False)]
        assert counts(client) == (2, 1, 0)

    run(course())


@pytest.mark.parametrize(
    ("ends", "expected", "missed"),
    [
        ([BudgetReachedError("no")], (0, 0, 1), 1),
        ([BudgetReachedError("no")] * 2, (0, 0, 1), 1),
        ([BudgetReachedError("no"), None], (0, 1, 0), 1),
        ([TransientError("500")] * 2, (0, 1, 0), 0),
        ([TransientError("500"), None], (0, 1, 0), 0),
        ([TransientError("500"), BudgetReachedError("no")], (0, 1, 0), 0),
        ([BudgetReachedError("no"), TransientError("500")], (0, 1, 0), 1),
        ([RequestRejectedError("400")] * 3, (0, 1, 0), 0),
        ([RequestRejectedError("route", sent=False)], (0, 0, 0), 0),
    ],
)
def test_a_key_is_counted_once_however_its_requests_end(
    tmp_path: Path, ends: list[ExplainevalError | None], expected: tuple[int, int, int], missed: int
) -> None:
    """One request for each end (None: answered): counted as sent if any was sent, else as unsent, and missed once."""

    async def course() -> None:
        with open_store(tmp_path) as store:
            client, books = cached(Wire({"Q0": [one for one in ends if one is not None]}), store)
            for _ in ends:
                await ask_all(client, [0])
        assert counts(client) == expected
        assert len(books.missed) == missed

    run(course())


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abnu")), max_size=25))
def test_hits_sent_and_unsent_add_up_to_the_distinct_keys(events: list[tuple[int, str]]) -> None:
    """Requests that are answered, broken, out of money or unsent, in any order."""
    kinds = {"b": TransientError("x"), "n": BudgetReachedError("x"), "u": RequestUnsentError("x")}

    class Memory:
        """As much of a store as this layer needs."""

        answers: dict[str, Completion] = {}  # noqa: RUF012 - made anew for each example
        latest_origin = AnswerOrigin()

        def get(self, key: str) -> Completion | None:
            return self.answers.get(key)

    memory = Memory()
    memory.answers = {request_key(ask(4)): ANSWER}

    async def course() -> None:
        ends: list[ExplainevalError | None] = []

        class Ending:
            async def complete(self, request: Request) -> Completion:
                end = ends.pop()
                if end is not None:
                    raise end
                memory.answers[request_key(request)] = ANSWER
                return ANSWER

        client, books = cached(Ending(), memory)  # type: ignore[arg-type]
        for number, kind in events:
            ends[:] = [kinds.get(kind)]
            await ask_all(client, [number])
            assert len({one for one, _ in events[: events.index((number, kind)) + 1]}) <= sum(counts(client))
        answered = {request_key(ask(number)) for number, _ in events} & set(memory.answers)
        assert sum(counts(client)) == len({number for number, _ in events})
        assert len(books.entered) == len(answered)
        assert counts(client)[0] == any(number == 4 for number, _ in events)

    run(course())


def test_an_answer_of_another_process_is_not_bought_again(tmp_path: Path) -> None:
    """Another process asks the same and stores the answer: it is used, and counted as a shared hit."""

    async def course() -> None:
        key = request_key(ask(0))
        with open_store(tmp_path / "one") as store:
            wire, claims = Wire(), Neighbours({key: 10**9})
            client, books = cached(wire, store, claims)
            waiting = asyncio.create_task(client.complete(ask(0)))
            await asyncio.sleep(0.12)
            assert not waiting.done()
            await store.put(ask(0), ANSWER)
            assert await waiting == ANSWER
        assert (wire.asked, claims.held) == ([], set())
        assert counts(client) == (1, 0, 0)
        assert client.counts.shared == 1
        assert books.entered == [("Q0", True)]

    run(course())


def test_a_key_that_another_process_gives_up_is_asked_here(tmp_path: Path) -> None:
    """Its claim ends without an answer, since it failed or was killed."""

    async def course() -> None:
        with open_store(tmp_path) as store:
            wire = Wire()
            client, _ = cached(wire, store, Neighbours({request_key(ask(0)): 2}))
            assert await client.complete(ask(0)) == ANSWER
        assert wire.asked == ["Q0"]
        assert (counts(client), client.counts.shared) == ((0, 1, 0), 0)

    run(course())


def test_an_answer_stored_between_look_up_and_claim_is_used(tmp_path: Path) -> None:
    """The other process stores it just before this one claims the key: a second look-up finds it."""

    async def course() -> None:
        with open_store(tmp_path) as store:
            wire = Wire()

            class Late(Neighbours):
                def claim(self, key: str) -> bool:
                    monkey["get"] = ANSWER
                    return super().claim(key)

            monkey: dict[str, Completion] = {}
            claims = Late()
            client, _ = cached(wire, store, claims)
            client.store = type(
                "Changing", (), {"get": lambda _, __: monkey.get("get"), "latest_origin": AnswerOrigin()}
            )()  # type: ignore[assignment]
            assert await client.complete(ask(0)) == ANSWER
        assert (wire.asked, claims.held, counts(client)) == ([], set(), (1, 0, 0))

    run(course())


@pytest.mark.parametrize("end", [BudgetReachedError("no"), TransientError("500")], ids=repr)
def test_a_request_without_an_answer_may_become_a_hit(tmp_path: Path, end: ExplainevalError) -> None:
    """It was refused or failed, then another process stored the answer: it is counted as a hit alone."""

    async def course() -> None:
        with open_store(tmp_path) as store:
            client, books = cached(Wire({"Q0": [end]}), store)
            await ask_all(client, [0])
            await store.put(ask(0), ANSWER)
            await ask_all(client, [0])
            await ask_all(client, [0])
        assert counts(client) == (1, 0, 0)
        assert books.entered == [("Q0", True)]

    run(course())


def test_stopping_ends_the_wait_for_another_process(tmp_path: Path) -> None:
    """The run stops while another process has the key: the request is unsent."""

    async def course() -> None:
        with open_store(tmp_path) as store:
            wire = Wire()
            client, books = cached(wire, store, Neighbours({request_key(ask(0)): 10**9}))
            waiting = asyncio.create_task(client.complete(ask(0)))
            await asyncio.sleep(0.01)
            client.stopping.set()
            with pytest.raises(RequestUnsentError):
                await asyncio.wait_for(waiting, 2)
        assert (wire.asked, books.missed, counts(client)) == ([], ["Q0"], (0, 0, 1))

    run(course())


@pytest.mark.parametrize("end", [TransientError("x"), RequestRejectedError("x"), BudgetReachedError("x")], ids=repr)
def test_a_claim_is_given_up_after_a_failure(tmp_path: Path, end: ExplainevalError) -> None:
    """A key that could not be answered is free for other processes."""

    async def course() -> None:
        claims = Neighbours()
        with open_store(tmp_path) as store:
            client, _ = cached(Wire({"Q0": [end]}), store, claims)
            with pytest.raises(type(end)):
                await client.complete(ask(0))
        assert (claims.held, claims.most) == (set(), 1)

    run(course())


def test_a_cancelled_caller_does_not_cancel_the_request(tmp_path: Path) -> None:
    """It is cancelled while its answer is under way: the answer is stored and counted all the same."""

    async def course() -> None:
        with open_store(tmp_path) as store:
            client, books = cached(Wire(), store)
            caller = asyncio.create_task(client.complete(ask(0)))
            await asyncio.sleep(0)
            caller.cancel()
            await client.finish()
            assert store.get(request_key(ask(0))) == ANSWER
        assert caller.cancelled()
        assert books.entered == [("Q0", False)]

    run(course())


def test_offline_only_stored_answers_are_used(tmp_path: Path) -> None:
    """A stored answer is a hit, and any other request an error that says so."""

    async def course() -> None:
        with open_store(tmp_path) as store:
            await store.put(ask(0), ANSWER)
            client, books = cached(StoredOnlyClient(), store)
            found = await ask_all(client, [0, 1, 1])
        assert found[0] == ANSWER
        assert [NotStoredError] * 2 == [type(one) for one in found[1:]]
        assert (counts(client), books.missed) == ((1, 0, 1), ["Q1"])

    run(course())


def test_a_process_that_is_waited_for_is_reported_once(tmp_path: Path) -> None:
    """After `patience`: the process, its machine, how many requests it holds, and how to go on."""
    requests = [ask(number) for number in range(4)]
    keys = [request_key(request) for request in requests]
    books = Books()

    async def course(store: Store) -> None:
        client, _ = cached(Wire(), store, Neighbours(dict.fromkeys(keys[:3], 12)))
        client.patience, client.listener = 0.0, books
        assert [client.is_asked_elsewhere(request) for request in requests] == [True, True, True, False]
        assert await asyncio.gather(*map(client.complete, requests)) == [ANSWER] * 4
        assert not any(map(client.is_asked_elsewhere, requests))

    with open_store(tmp_path) as store:
        run(course(store))

    assert len(books.told) == 1
    assert (
        f"waiting for process {NEIGHBOUR} on {socket.gethostname()}, which is asking 3 of the same requests"
        in books.told[0]
    )
    assert f"kill {NEIGHBOUR}" in books.told[0]


def test_requests_that_wait_for_another_process_are_counted(tmp_path: Path) -> None:
    """`on_wait` gets +1 and -1 for each, also where the run stops meanwhile."""
    books = Books()

    async def course(store: Store) -> None:
        client, _ = cached(Wire(), store, Neighbours({request_key(ask(0)): 10**9, request_key(ask(1)): 2}))
        client.listener = books
        waiting = asyncio.create_task(client.complete(ask(0)))
        await client.complete(ask(1))
        await client.complete(ask(2))
        client.stopping.set()
        with pytest.raises(RequestUnsentError):
            await waiting

    with open_store(tmp_path) as store:
        run(course(store))

    assert sorted(books.changes) == [-1, -1, 1, 1]


def test_an_error_that_nobody_awaits_is_not_logged(tmp_path: Path) -> None:
    """A cancelled caller leaves its request under way; asyncio logs nothing when that fails."""
    complaints: list[str] = []

    async def course(store: Store) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
        client, _ = cached(Wire({"Q0": [TransientError("broken")]}), store)
        waiting = asyncio.create_task(client.complete(ask(0)))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        await asyncio.sleep(0.05)
        gc.collect()

    with open_store(tmp_path) as store:
        run(course(store))

    assert not complaints
