"""The retry loop: how often a request is sent again, and after which waits."""

from __future__ import annotations

import asyncio

import pytest

from explaineval.client.retries import LONGEST_WAIT_IF_BUSY, PATIENCE, RetryingClient
from explaineval.errors import EndpointError, RequestRejectedError, RequestUnsentError, TransientError
from makers.scripted_client import ANSWER, REQUEST, ScriptedClient, always
from makers.virtual_time import run_virtually


@pytest.mark.parametrize(
    ("failure", "calls"),
    [
        (TransientError("reset"), 3),
        (TransientError("slow", overload=True), 3),
        (TransientError("nobody listens", refused=True), 3),
        (RequestRejectedError("400"), 1),
        (EndpointError("401"), 1),
    ],
)
def test_how_often_a_request_is_tried(failure: Exception, calls: int) -> None:
    """With two retries: three times where the failure may pass, once where it cannot."""
    client = ScriptedClient(always(failure))
    with pytest.raises(type(failure)):
        run_virtually(RetryingClient(client, 2, asyncio.Event()).complete(REQUEST))

    assert calls == client.calls


def test_a_busy_endpoint_gets_more_patience() -> None:
    """Where others are answered meanwhile, a refusal for overload does not use up a request's retries so soon."""
    client = ScriptedClient(always(TransientError("slow", overload=True)))
    with pytest.raises(TransientError):
        run_virtually(RetryingClient(client, 2, asyncio.Event(), busy=lambda: True).complete(REQUEST))

    assert client.calls == 1 + PATIENCE * 2


def test_a_new_address_that_refuses_connections_is_given_up_soon() -> None:
    """Nothing has ever answered there: three attempts, whatever the number of retries."""
    client = ScriptedClient(always(TransientError("nobody listens", refused=True)))
    with pytest.raises(TransientError):
        run_virtually(RetryingClient(client, 9, asyncio.Event()).complete(REQUEST))

    assert client.calls == 3


def test_an_address_that_has_answered_gets_all_retries() -> None:
    """A server that restarts refuses connections for a while."""
    client = ScriptedClient(lambda call: TransientError("nobody listens", refused=True) if 1 < call < 9 else None)
    retrying = RetryingClient(client, 9, asyncio.Event())

    async def ask_twice() -> None:
        assert [await retrying.complete(REQUEST), await retrying.complete(REQUEST)] == [ANSWER] * 2

    run_virtually(ask_twice())

    assert client.calls == 9


@pytest.mark.parametrize("requested", [0.2, 1.0, 30.0])
def test_the_wait_that_is_asked_for_is_kept(requested: float) -> None:
    """Never shorter than Retry-After, and at most a second longer, so that not all come back at once."""
    client = ScriptedClient(lambda call: TransientError("slow", retry_after=requested) if call == 1 else None)
    _, seconds = run_virtually(RetryingClient(client, 1, asyncio.Event()).complete(REQUEST))

    assert requested <= seconds <= requested + min(1.0, requested)


@pytest.mark.parametrize("busy", [True, False])
def test_waits_of_our_own_grow_up_to_their_limit(busy: bool) -> None:
    """Without Retry-After the n-th wait is at most twice as long as the one before may be: 2 s, 4 s, 8 s and so on."""
    waits: list[float] = []

    class Recording(RetryingClient):
        async def _sleep(self, seconds: float) -> None:
            waits.append(seconds)

    client = ScriptedClient(always(TransientError("reset")))
    with pytest.raises(TransientError):
        run_virtually(Recording(client, 8, asyncio.Event(), busy=lambda: busy, first_wait=2.0).complete(REQUEST))

    longest = LONGEST_WAIT_IF_BUSY if busy else 60.0
    assert len(waits) == 8
    assert all(0 <= wait <= min(longest, 2.0 * 2**number) for number, wait in enumerate(waits))


def test_a_stop_ends_the_waiting() -> None:
    """A request that waits to be sent again when the run stops is unsent at once: it was not paid for."""

    async def ask() -> None:
        stopping = asyncio.Event()
        client = RetryingClient(ScriptedClient(always(TransientError("slow", retry_after=30.0))), 5, stopping)
        task = asyncio.create_task(client.complete(REQUEST))
        await asyncio.sleep(7.0)
        stopping.set()
        with pytest.raises(RequestUnsentError):
            await task

    assert run_virtually(ask())[1] == 7.0
