"""Batches against a server: every answer is stored once, every request billed once, and each failure has a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from explaineval.cache import request_key
from explaineval.records import Completion, Request
from servers.batch_bench import BatchBench, Route, chat, text
from servers.batch_lines import Fate
from servers.batch_server import BatchServer

ROUTES: tuple[Route, ...] = ("openai", "azure", "anthropic")
Make = Callable[..., BatchBench]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """A bench with its server, by the server's settings."""
    running: list[BatchServer] = []

    def start(route: Route = "openai", **settings: object) -> BatchBench:
        server = BatchServer(**settings)  # type: ignore[arg-type]
        running.append(server.__enter__())
        return BatchBench(server, tmp_path, route)

    yield start
    for server in running:
        server.__exit__(None, None, None)


def keys(requests: list[Request]) -> set[str]:
    """The keys of requests."""
    return {request_key(request) for request in requests}


@pytest.mark.parametrize("route", ROUTES)
def test_all_answers_are_stored_and_nothing_is_asked_twice(make: Make, route: Route) -> None:
    """Shuffled, repeated and foreign lines in several batches: all is stored once; a second run asks nothing."""
    bench = make(route, duplicates=True, stranger=True)
    requests = bench.requests(25)
    outcome = bench.run(requests + requests[:3], max_requests=10)

    assert (
        outcome.failed, outcome.unsent, outcome.waiting, outcome.submitted, outcome.stored,
    ) == ({}, 0, False, 25, 25)  # fmt: skip
    assert outcome.errors == []
    assert dict.fromkeys(keys(requests), 1) == dict(bench.server.billed)
    assert keys(requests) == set(bench.stored())
    assert bench.states() == ["fetched"] * 3
    assert list(bench.journal.glob("*.requests.jsonl")) == []
    assert any("1 line in the results" in said and "not of this batch" in said for said in bench.said)

    calls = len(bench.server.calls)
    assert bench.run(requests).submitted == 0
    assert calls == len(bench.server.calls)


def test_chat_and_text_go_into_batches_of_their_own(make: Make) -> None:
    """A batch has one path, so two styles of one model make two batches."""
    bench = make()
    requests = [chat(1), text(1), chat(2), text(2)]

    assert bench.run(requests).stored == 4
    assert [{"/v1/chat/completions"}, {"/v1/completions"}] == sorted(
        ({path for _, path, _ in batch.items} for batch in bench.server.batches.values()), key=str
    )


FAILURES: dict[Fate, tuple[bool, str]] = {
    "400": (True, "this prompt is not taken"),
    "500": (False, "The server had an error"),
    "canceled": (False, "cancel"),
    "expired": (False, "expired"),
    "malformed": (False, "no readable result"),
    "missing": (False, "no readable result"),
}


@pytest.mark.parametrize("route", ["openai", "anthropic"])
def test_partial_failures_are_named(make: Make, route: Route) -> None:
    """Each failed request has its reason; what may pass was asked in one more batch, what was executed was not."""
    bench = make(route)
    requests = bench.requests(len(FAILURES) + 2)
    marks = dict(zip(FAILURES, (request_key(request) for request in requests), strict=False))
    bench.server.fates.update({key: fate for fate, key in marks.items()})
    outcome = bench.run(requests)

    assert set(marks.values()) == set(outcome.failed)
    for fate, (rejected, words) in FAILURES.items():
        assert rejected == outcome.failed[marks[fate]].rejected
        assert words in outcome.failed[marks[fate]].reason
    assert keys(requests[len(FAILURES) :]) == set(bench.stored())
    assert {1} == set(bench.server.billed.values())
    assert [len(requests), 2] == [len(batch.items) for batch in bench.server.batches.values()]  # 500 and expired again
    assert any("cannot be read" in said for said in bench.said)


@pytest.mark.parametrize("route", ["openai", "anthropic"])
def test_what_expired_is_asked_once_more(make: Make, route: Route) -> None:
    """A batch that expires keeps what it answered; the rest goes into one new batch."""
    bench = make(route, ends=["expired"])
    requests = bench.requests(9)
    outcome = bench.run(requests)

    assert (outcome.failed, outcome.stored) == ({}, 9)
    assert [len(batch.items) for batch in bench.server.batches.values()] == [9, 4]
    assert dict.fromkeys(keys(requests), 1) == dict(bench.server.billed)


def test_what_expires_twice_is_named(make: Make) -> None:
    """After the second batch the requests are named, not asked for ever."""
    bench = make(ends=["expired", "expired"])
    outcome = bench.run(bench.requests(8))

    assert [len(batch.items) for batch in bench.server.batches.values()] == [8, 4]
    assert (len(outcome.failed), outcome.stored) == (2, 6)


def test_a_cancelled_batch_is_not_asked_again(make: Make) -> None:
    """Somebody cancelled it for a reason: what it answered is stored, the rest is named."""
    bench = make(ends=["cancelled"])
    outcome = bench.run(bench.requests(8))

    assert [len(batch.items) for batch in bench.server.batches.values()] == [8]
    assert (len(outcome.failed), outcome.stored) == (4, 4)


def test_the_newer_name_of_the_limit(make: Make) -> None:
    """Rejected for max_tokens, the requests are asked once more with max_completion_tokens, and stored."""
    bench = make(fates={"Rain": "rename"})
    outcome = bench.run(bench.requests(3))
    first, second = bench.server.batches.values()

    assert (outcome.failed, outcome.stored) == ({}, 3)
    assert all("max_tokens" in body and "max_completion_tokens" not in body for _, _, body in first.items)
    assert all("max_completion_tokens" in body and "max_tokens" not in body for _, _, body in second.items)
    assert {1} == set(bench.server.billed.values())


def test_a_refused_batch_is_named(make: Make) -> None:
    """A batch that does not pass the endpoint's checks: its reason stands with each of its requests, once."""
    bench = make(ends=["refused"])
    settled: list[object] = []
    outcome = bench.run(bench.requests(3), reserve=lambda _: True, settle=lambda _, answer: settled.append(answer))

    assert settled == [None] * 3
    assert len(outcome.failed) == 3
    assert all("invalid_json_line" in failure.reason for failure in outcome.failed.values())
    assert bench.states() == ["abandoned"]


def test_a_full_queue_is_filled_in_smaller_parts(make: Make) -> None:
    """Where too much is queued, a batch waits for the others, and is cut in two when there is none."""
    bench = make(ends=["full", "full", "full"])
    requests = bench.requests(8)
    outcome = bench.run(requests)

    assert (outcome.failed, outcome.stored, outcome.unsent) == ({}, 8, 0)
    assert [len(batch.items) for batch in bench.server.batches.values()] == [8, 4, 2, 1, 1, 2, 4]
    assert dict.fromkeys(keys(requests), 1) == dict(bench.server.billed)


def test_a_full_queue_is_waited_for(make: Make) -> None:
    """While other batches are under way, one that found no room stays whole and goes in when the next has ended."""
    bench = make(ends=["full"])
    outcome = bench.run(bench.requests(8), max_requests=4)

    assert (outcome.failed, outcome.stored) == ({}, 8)
    assert [len(batch.items) for batch in bench.server.batches.values()] == [4, 4, 4]


@pytest.mark.parametrize("route", ["openai", "anthropic"])
def test_faults_while_polling_and_fetching_lose_nothing(make: Make, route: Route) -> None:
    """429, 5xx, resets, HTML and files that break off are waited out."""
    bench = make(route, polls=5)
    bench.server.faults = {"poll": ["429", "500", "reset", "html"], "results": ["cut", "500", "cut"]}
    requests = bench.requests(12)
    outcome = bench.run(requests)

    assert (outcome.failed, outcome.stored, outcome.errors) == ({}, 12, [])
    assert dict.fromkeys(keys(requests), 1) == dict(bench.server.billed)


@pytest.mark.parametrize("route", ["openai", "anthropic"])
def test_what_was_for_certain_not_made_is_submitted_again(make: Make, route: Route) -> None:
    """A 429 at the creation made nothing, and a failed upload costs nothing: both are repeated at once."""
    bench = make(route)
    bench.server.faults = {"upload": ["500", "reset"], "create": ["429", "429"]}
    requests = bench.requests(3)

    assert bench.run(requests).stored == 3
    assert bench.server.count("list") == 0
    assert bench.states() == ["fetched"]


def test_an_endpoint_that_refuses_batches(make: Make) -> None:
    """401 and 404: a fault in one sentence, nothing submitted, everything unsent and released."""
    bench = make()
    for fault, words in (
        ("401", "no key was sent"),
        ("404", "leave out --batch"),
        ("redirect", "a redirect (status 307) to"),
    ):
        bench.server.faults = {"upload": [fault]}  # type: ignore[list-item]
        settled: list[object] = []
        outcome = bench.run(
            bench.requests(3), reserve=lambda _: True, settle=lambda _, answer, to=settled: to.append(answer)
        )

        assert (outcome.unsent, outcome.waiting, len(outcome.errors)) == (3, False, 1)
        assert words in outcome.errors[0]
        assert settled == [None] * 3
    assert bench.server.batches == {}


def test_an_unknown_batch_stays_on_record(make: Make) -> None:
    """A batch that the endpoint does not know (another key?) is neither dropped nor asked again; a sentence says so."""
    bench = make(polls=None)
    requests = bench.requests(3)
    bench.run(
        requests, during=lambda _, stop, loop: _stop_at(bench, "poll", lambda: loop.call_soon_threadsafe(stop.set))
    )
    hidden = dict(bench.server.batches)
    bench.server.batches.clear()
    outcome = bench.run(requests)

    assert (outcome.waiting, outcome.submitted) == (True, 0)
    assert "is not known to the endpoint" in outcome.errors[0]
    assert bench.states() == ["submitted"]

    bench.server.batches.update(hidden)
    bench.server.finish()
    assert bench.run(requests).stored == 3


def _stop_at(bench: BatchBench, call: str, do: Callable[[], object]) -> None:
    def told(one: str) -> None:
        if one == call:
            bench.server.on_call = None
            do()

    bench.server.on_call = told


def test_the_spending_limit(make: Make) -> None:
    """What is not reserved stays unsent; every reserved request is settled once, with its completion or with None."""
    bench = make(ends=["expired"])
    requests = bench.requests(9)
    bench.server.fates[request_key(requests[0])] = "400"
    reserved: list[str] = []
    settled: list[tuple[str, bool]] = []

    def reserve(request: Request) -> bool:
        reserved.append(request_key(request))
        return request != requests[8]

    def settle(request: Request, completion: Completion | None) -> None:
        settled.append((request_key(request), completion is not None))

    outcome = bench.run(requests, reserve=reserve, settle=settle)

    assert (1, 7, [request_key(requests[0])]) == (outcome.unsent, outcome.stored, list(outcome.failed))
    assert sorted(reserved) == sorted([key for key, _ in settled] + [request_key(requests[8])])
    assert sorted(key for key, answered in settled if answered) == sorted(bench.stored())


def test_what_another_process_asks_goes_into_no_batch(make: Make) -> None:
    """A request whose claim fails is counted as elsewhere; the claims of the others end when they are submitted."""
    bench = make()
    requests = bench.requests(3)
    claimed: list[str] = []

    class OthersFirst:
        """Claims of a process that finds the first request claimed."""

        def claim(self, key: str) -> bool:
            if key == request_key(requests[0]):
                return False
            claimed.append(key)
            return True

        def release(self, key: str) -> None:
            claimed.remove(key)

    outcome = bench.run(requests, claims=OthersFirst())

    assert (outcome.elsewhere, outcome.submitted, outcome.stored, claimed) == (1, 2, 2, [])
    assert set(bench.stored()) == keys(requests[1:])


def test_results_are_taken_from_the_same_host_only(make: Make) -> None:
    """An address of results elsewhere is not followed: the key stays with the host that it was given for."""
    with BatchServer() as other:
        bench = make("anthropic", results_host=other.root)

        assert bench.run(bench.requests(3)).stored == 3
        assert other.calls == []
