"""Batches of an endpoint that describes them wrongly, or without an end: told once, and never out of reach."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from explaineval.client.batches.client import LONGEST_REASON, BatchFailure, BatchHTTP
from explaineval.client.batches.providers import PROVIDERS
from explaineval.config import Endpoint
from explaineval.errors import TransientError
from servers.batch_bench import BatchBench, Route
from servers.batch_server import Batch, BatchServer

Change = Callable[[dict[str, Any]], dict[str, Any]]


class Liar(BatchServer):
    """Changes its descriptions by `change`, and sends `endless` after the results, over and over, up to a bound."""

    change: Change = staticmethod(lambda shown: shown)
    endless: bytes = b""

    def _show(self, batch: Batch) -> dict[str, Any]:
        shown = type(self).change(super()._show(batch))
        if self.endless:
            for name in self.files:
                self.files[name] = batch.answers + self.endless
        return shown


@pytest.fixture
def liar(tmp_path: Path) -> Iterator[BatchBench]:
    with Liar() as server:
        yield BatchBench(server, tmp_path)
    Liar.change, Liar.endless = staticmethod(lambda shown: shown), b""


COUNTS = [
    {"total": float("inf"), "completed": 1, "failed": 0},
    {"total": float("nan"), "completed": float("nan"), "failed": 0},
    {"total": 10**400, "completed": 0, "failed": 0},
    {"total": 3, "completed": -5, "failed": 0},
    {"total": "3", "completed": [3], "failed": {}},
    [3, 3],
    "many",
    True,
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("route", ["openai", "anthropic"])
@pytest.mark.parametrize("counts", COUNTS, ids=lambda value: repr(value)[:30])
def test_impossible_counts_are_told_once_and_the_answers_fetched(tmp_path: Path, route: Route, counts: object) -> None:
    """How many are done is for the user alone: it decides nothing."""
    if route == "anthropic" and isinstance(counts, dict):
        counts = {"processing": counts["total"], "succeeded": counts["completed"]}
    Liar.change = staticmethod(lambda shown: {**shown, "request_counts": counts})
    try:
        with Liar(polls=3) as server:
            bench = BatchBench(server, tmp_path, route)
            outcome = bench.run(bench.requests(3))
    finally:
        Liar.change = staticmethod(lambda shown: shown)

    assert (outcome.stored, outcome.errors, outcome.failed) == (3, [], {})
    assert sum("describes it wrongly" in said for said in bench.said) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda shown: {**shown, "created_at": float("inf")},
        lambda shown: {**shown, "created_at": 10**400},
        lambda shown: {**shown, "errors": {"data": 7}},
        lambda shown: {**shown, "metadata": 7, "errors": [1]},
        lambda shown: {**shown, "status": ["completed"] if shown["status"] == "in_progress" else shown["status"]},
    ],
)
def test_other_impossible_values_change_nothing(liar: BatchBench, change: Change) -> None:
    """The answers are fetched all the same."""
    Liar.change = staticmethod(change)
    outcome = liar.run(liar.requests(3))

    assert (outcome.stored, outcome.errors) == (3, [])


@pytest.mark.parametrize("file", ["../../v1/secret", "a/b", ["x"], 7, ".."])
def test_a_file_with_a_path_is_an_error_and_the_batch_stays_in_reach(liar: BatchBench, file: object) -> None:
    """Told once; when the endpoint names the file rightly, the same command fetches the answers."""
    Liar.change = staticmethod(
        lambda shown: {**shown, "output_file_id": file} if shown.get("output_file_id") else shown
    )
    wrong = liar.run(liar.requests(3))
    Liar.change = staticmethod(lambda shown: shown)
    right = liar.run(liar.requests(3))

    assert len(wrong.errors) == 1
    assert wrong.waiting
    assert (right.stored, right.submitted, right.errors) == (3, 0, [])
    assert set(liar.server.billed.values()) == {1}


@pytest.mark.parametrize(
    "line",
    [b'{"custom_id": "nobody", "response": {"body": {}}}\n', b"{}\n", b"\n"],
    ids=["foreign", "unreadable", "blank"],
)
def test_results_without_an_end_are_bounded(liar: BatchBench, line: bytes) -> None:
    """What is among them is stored, and one error says so."""
    Liar.endless = line * 4_000
    outcome = liar.run(liar.requests(3))

    assert outcome.stored == 3
    assert len(outcome.errors) <= 1


def test_a_line_without_an_end_is_bounded(liar: BatchBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more of the file is read."""
    monkeypatch.setattr("explaineval.client.batches.client.MOST_LINE_BYTES", 1 << 20)
    Liar.endless = b"x" * (8 << 20)
    outcome = liar.run(liar.requests(3))

    assert outcome.stored == 3
    assert len(outcome.errors) == 1
    assert "does not end" in outcome.errors[0]


@pytest.mark.parametrize("status", ["in_progress", "thinking", 7, None])
def test_a_status_that_never_ends_is_waited_for_no_longer_than_stated(liar: BatchBench, status: object) -> None:
    """The batch stays in the journal, and the same command fetches it later."""
    Liar.change = staticmethod(lambda shown: {**shown, "status": status})
    never = liar.run(liar.requests(3), wait=0.3)
    Liar.change = staticmethod(lambda shown: shown)
    later = liar.run(liar.requests(3))

    assert len(never.errors) == 1
    assert "--batch-wait" in never.errors[0]
    assert never.waiting
    assert (later.stored, later.submitted) == (3, 0)


def test_a_list_of_batches_that_is_none_is_survived(liar: BatchBench) -> None:
    """Also where the batch of unknown fate has to be looked for in it."""
    liar.server._list = lambda *_: {"data": 7, "has_more": True}  # type: ignore[method-assign]
    outcome = liar.run(liar.requests(2))

    assert json.dumps(outcome.errors) == "[]"
    assert outcome.stored == 2


@pytest.mark.parametrize("named", ["\x00", "http://[bad", "http://" + "a" * 100_000, "http://127.0.0.1:99999999/x"])
def test_an_address_of_results_that_is_none_is_not_used(tmp_path: Path, named: str) -> None:
    """Anthropic's name theirs; they are fetched from where they always are."""
    Liar.change = staticmethod(lambda shown: {**shown, "results_url": named} if shown.get("results_url") else shown)
    try:
        with Liar() as server:
            bench = BatchBench(server, tmp_path, "anthropic")
            outcome = bench.run(bench.requests(2))
    finally:
        Liar.change = staticmethod(lambda shown: shown)

    assert (outcome.stored, outcome.errors) == (2, [])


def test_of_a_long_reason_the_beginning_is_kept(liar: BatchBench) -> None:
    """Each request of a batch may have one, and all are in memory together."""
    line = PROVIDERS["openai"].parse_line(b'{"custom_id": "a", "error": {"message": "%b"}}' % (b"x" * 5_000_000))
    failure = asyncio.run(liar.provider().read(liar.requests(1)[0], line))

    assert isinstance(failure, BatchFailure)
    assert failure.reason == "x" * LONGEST_REASON


def test_a_description_that_trickles_is_given_up(tmp_path: Path) -> None:
    """The time limit holds for the whole of it, not for each byte; meanwhile no other process could do anything."""

    def trickle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n{")
            while not over.wait(0.05):
                connection.sendall(b" ")

    async def look(address: str) -> None:
        http = BatchHTTP(Endpoint(address, "lab"), "openai/m", timeout=0.5)
        try:
            await asyncio.wait_for(http.get(f"{address}/batches/b"), 60)
        finally:
            await http.close()

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread = threading.Thread(target=lambda: trickle(listener.accept()[0]))
        thread.start()
        try:
            with pytest.raises(TransientError):
                asyncio.run(look(address))
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("route", ["openai", "azure", "anthropic"])
def test_a_key_of_ones_own_is_sent_to_a_base_url(tmp_path: Path, route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whichever header the route wants it."""
    monkeypatch.setenv("LAB_API_KEY", "a-key-of-the-lab-0001")
    with BatchServer() as server:
        bench = BatchBench(server, tmp_path, route, key_env="LAB_API_KEY")
        outcome = bench.run(bench.requests(2))

    assert (outcome.stored, outcome.errors) == (2, [])
