"""How requests are sent: negotiated with an endpoint, kept, and kept to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from explaineval.cache import Store, open_store
from explaineval.cache.keys import verdict_name
from explaineval.client.endpoints.capabilities import (
    REASONS,
    Accepted,
    Capabilities,
    StyleVerdict,
    determine_capabilities,
    negotiate,
    store_probe,
    stored_probe,
    style_verdict,
)
from explaineval.client.endpoints.probe import name_served_models, served_models
from explaineval.config import Endpoint, RunConfig
from explaineval.errors import EndpointError, RequestRejectedError, TransientError
from explaineval.records import Completion, Message, Request, TokenAlternatives
from servers.personas import Persona, PersonaServer

ENDPOINT, MODEL = "lab", "openai/m"
TOP = (TokenAlternatives(offset=8, token=" B", top=((" B", -0.1), (" A", -2.4))),)  # noqa: S106 - a token of text


def build(logprobs: int | None, temperature: float | None) -> Request:
    """What a plan would ask first."""
    turn = (Message(role="user", content="Which?"),)
    return Request(
        endpoint=ENDPOINT,
        model=MODEL,
        style="chat",
        messages=turn,
        max_tokens=9,
        temperature=temperature,
        logprobs=logprobs,
    )


Complain = Callable[[int | None, float | None], str | None]


def refuse(*, above: int = 20, zero: bool = False, says: str | None = None) -> Complain:
    """Complain of more top alternatives than `above`, and of temperature 0; `says` hides the cause."""

    def complain(logprobs: int | None, temperature: float | None) -> str | None:
        if zero and temperature == 0:
            return says or "temperature must be 1"
        return says or "top_logprobs are too many" if (logprobs or 0) > above else None

    return complain


def refuse_all(*_: object) -> str:
    """Complain of everything."""
    return "context too long"


@dataclass
class Scripted:
    """A client that complains by a rule, or answers; `asked` is what it was asked."""

    complain: Complain = field(default_factory=refuse)
    gives: bool = True
    asked: list[tuple[int | None, float | None]] = field(default_factory=list)

    async def complete(self, request: Request) -> Completion:
        """An answer, or the complaint as a rejection."""
        self.asked.append((request.logprobs, request.temperature))
        complaint = self.complain(request.logprobs, request.temperature)
        if complaint is not None:
            raise RequestRejectedError(complaint)
        return Completion(text="Answer: B", logprobs=TOP if self.gives and request.logprobs else None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with open_store(tmp_path / "cache") as opened:
        yield opened


def config(**settings: Any) -> RunConfig:
    """A run's configuration."""
    return RunConfig(tasks=("sense",), models=({"model": MODEL},), **settings)


def agree(client: Scripted, rungs: tuple[int | None, ...] = (20, 5, 1, None), *, may_omit: bool = True) -> Accepted:
    """Negotiate from temperature 0."""
    return asyncio.run(negotiate(client, rungs, 0.0, may_omit=may_omit, build=build))


def settled(client: Any, store: Store, **settings: Any) -> Capabilities:
    """Settle for chat."""
    return asyncio.run(determine_capabilities(client, store, config(**settings), "chat", build))


NEGOTIATIONS = {
    "all is taken": (refuse(), (20, 0.0), [(20, 0.0)]),
    "fewer alternatives": (
        refuse(above=5),
        (5, 0.0),
        [(20, 0.0), (5, 0.0)],
    ),
    "no logprobs": (
        refuse(above=0),
        (None, 0.0),
        [(20, 0.0), (5, 0.0), (1, 0.0), (None, 0.0)],
    ),
    "no logprobs, curt": (
        refuse(above=0, says="no"),
        (None, 0.0),
        [(20, 0.0), (None, 0.0), (5, 0.0), (1, 0.0)],
    ),
    "fewer alternatives, curt": (
        refuse(above=5, says="no"),
        (5, 0.0),
        [(20, 0.0), (None, 0.0), (5, 0.0)],
    ),
    "no temperature": (
        refuse(zero=True),
        (20, None),
        [(20, 0.0), (20, None)],
    ),
    "no temperature, curt": (
        refuse(zero=True, says="no"),
        (20, None),
        [(20, 0.0), (None, 0.0), (None, None), (20, None)],
    ),
    "neither, curt": (
        refuse(above=0, zero=True, says="no"),
        (None, None),
        [(20, 0.0), (None, 0.0), (None, None), (20, None), (5, None), (1, None)],
    ),
}


@pytest.mark.parametrize("name", NEGOTIATIONS)
def test_negotiation_finds_the_most_that_is_taken(name: str) -> None:
    """In this order, never asking the same twice."""
    complain, taken, asked = NEGOTIATIONS[name]
    client = Scripted(complain)
    found = agree(client)

    assert taken == (found.logprobs, found.temperature)
    assert asked == client.asked


def test_negotiation_ends_in_the_last_complaint() -> None:
    """Where nothing is taken at all, in three requests."""
    client = Scripted(refuse_all)

    with pytest.raises(RequestRejectedError, match="context too long"):
        agree(client)
    assert len(client.asked) == 3


def test_negotiation_may_not_drop_a_temperature_that_was_wished() -> None:
    """Then a rejection of it is final."""
    client = Scripted(refuse(zero=True))

    with pytest.raises(RequestRejectedError, match="temperature"):
        agree(client, may_omit=False)
    assert all(temperature == 0.0 for _, temperature in client.asked)


def test_negotiation_may_not_do_without_logprobs_that_were_wished() -> None:
    """Without None among the rungs no request goes without logprobs."""
    client = Scripted(refuse_all)

    with pytest.raises(RequestRejectedError):
        agree(client, (20, 5, 1))
    assert [logprobs for logprobs, _ in client.asked] == [20, 5, 1]


def test_negotiation_leaves_other_failures_alone() -> None:
    """A server in trouble tells nothing."""

    class Broken:
        async def complete(self, _: Request) -> Completion:
            raise TransientError("status 500")

    with pytest.raises(TransientError):
        asyncio.run(negotiate(Broken(), (20, None), 0.0, may_omit=True, build=build))


@pytest.mark.parametrize(
    ("client", "expected", "reason"),
    [
        (Scripted(), Capabilities(20, 0.0, "returned"), None),
        (Scripted(gives=False), Capabilities(20, 0.0, "ignored"), REASONS["ignored"]),
        (Scripted(refuse(above=0)), Capabilities(None, 0.0, "rejected"), REASONS["rejected"]),
        (Scripted(refuse(zero=True)), Capabilities(20, None, "returned"), None),
    ],
)
def test_without_a_probe_the_first_request_decides(
    store: Store, client: Scripted, expected: Capabilities, reason: str | None
) -> None:
    """And a second run asks once, under the same wish."""
    first = settled(client, store)
    client.asked.clear()
    second = settled(client, store)

    assert expected == first == second
    assert reason == first.reason
    assert [(expected.logprobs, expected.temperature)] == client.asked


def test_logprobs_off_are_never_asked_for_and_nothing_is_learned(store: Store) -> None:
    """A run without logprobs says nothing about the endpoint."""
    client = Scripted()

    assert Capabilities(None, 0.0, "off") == settled(client, store, logprobs="off")
    assert style_verdict(store, ENDPOINT, MODEL, "chat") is None


def test_logprobs_on_will_not_do_without(store: Store) -> None:
    """Where they are rejected the endpoint cannot be used."""
    with pytest.raises(EndpointError, match="--logprobs on"):
        settled(Scripted(refuse(above=0)), store, logprobs="on")


def test_a_run_with_a_temperature_leaves_the_verdict_on_zero(store: Store) -> None:
    """0 was rejected before; that 1 is taken does not change it."""
    client = Scripted(refuse(zero=True))
    settled(client, store)
    settled(client, store, temperature=1.0)
    client.asked.clear()
    settled(client, store)

    assert client.asked == [(20, None)]


def keep(store: Store, **styles: StyleVerdict) -> None:
    """Keep a probe with these verdicts."""
    asyncio.run(store_probe(store, ENDPOINT, MODEL, {"logprobs": False, "probed": "now"}, styles))  # type: ignore[arg-type]


def test_a_probe_that_finds_logprobs_unusable_is_followed(store: Store) -> None:
    """No wish is sent, and the reason is the probe's."""
    keep(store, chat=StyleVerdict(None, "sent", "the log-probabilities are one-hot", True))
    client = Scripted()
    found = settled(client, store)

    assert Capabilities(None, 0.0, "unusable", "the log-probabilities are one-hot (found by probe)") == found
    assert found.reason == "the log-probabilities are one-hot (found by probe)"
    assert client.asked == [(None, 0.0)]


def test_logprobs_on_overrules_the_probe(store: Store) -> None:
    """Who insists gets what comes."""
    keep(store, chat=StyleVerdict(None, "sent", "the log-probabilities are one-hot", True))

    assert Capabilities(20, 0.0, "returned") == settled(Scripted(), store, logprobs="on")


def test_a_run_never_overwrites_a_probe(store: Store) -> None:
    """Even where the endpoint behaves otherwise today."""
    verdict = StyleVerdict(20, "sent", None, True)
    keep(store, chat=verdict)
    found = settled(Scripted(refuse(above=0)), store)

    assert found.state == "rejected"
    assert verdict == style_verdict(store, ENDPOINT, MODEL, "chat")


def test_a_probe_keeps_the_wish_of_paid_answers_where_nothing_comes_back(store: Store) -> None:
    """But not where something comes back that must not be used, or where the wish is rejected now."""
    for reason, kept in ((REASONS["ignored"], 20), (REASONS["rejected"], None), ("constant", None)):
        settled(Scripted(gives=False), store)
        keep(store, chat=StyleVerdict(None, "sent", reason, True))

        assert style_verdict(store, ENDPOINT, MODEL, "chat") == StyleVerdict(kept, "sent", reason, True)
        asyncio.run(store.put_verdict(verdict_name(ENDPOINT, MODEL), {}))


def test_a_new_probe_replaces_the_former(store: Store) -> None:
    """Also from unusable to usable; a style it could not tell keeps what was known."""
    keep(store, chat=StyleVerdict(None, "sent", "constant", True), completion=StyleVerdict(5, "sent", None, True))
    keep(store, chat=StyleVerdict(20, "omit", None, True))

    assert style_verdict(store, ENDPOINT, MODEL, "chat") == StyleVerdict(20, "omit", None, True)
    assert style_verdict(store, ENDPOINT, MODEL, "completion") == StyleVerdict(5, "sent", None, True)
    assert stored_probe(store, ENDPOINT, MODEL) == {"logprobs": False, "probed": "now"}


@pytest.mark.parametrize(
    "document",
    [
        {"logprobs": 20, "temperature": "sent"},
        {"styles": []},
        {"styles": {"chat": 5}},
        {"styles": {"chat": {"logprobs": 19, "temperature": "sent"}}},
        {"styles": {"chat": {"logprobs": 5, "temperature": 0}}},
    ],
)
def test_a_document_of_another_form_is_no_verdict(store: Store, document: dict[str, Any]) -> None:
    """What cannot be read is found out again."""
    asyncio.run(store.put_verdict(verdict_name(ENDPOINT, MODEL), document))

    assert style_verdict(store, ENDPOINT, MODEL, "chat") is None
    assert stored_probe(store, ENDPOINT, MODEL) is None
    assert settled(Scripted(), store).logprobs == 20


def serve(models: tuple[str, ...] | None, fault: str = "status 404: no such model") -> str:
    """What a fault at an endpoint with this list becomes."""
    with PersonaServer(Persona(models=models)) as server:
        return str(asyncio.run(name_served_models(EndpointError(fault + "."), Endpoint(server.url))))


def test_a_missing_model_is_told_with_what_is_served() -> None:
    """Ten names at the most; no list, no addition; no other fault is touched."""
    many = tuple(f"m{number}" for number in range(12))

    assert serve(("a", "b")) == "status 404: no such model; the endpoint serves: a, b."
    assert serve(many).endswith("m8, m9 and 2 more.")
    assert serve(()) == "status 404: no such model; the endpoint serves: no model."
    assert serve(None) == "status 404: no such model."
    assert serve(("a",), "status 401: wrong key") == "status 401: wrong key."


def test_a_provider_without_a_base_url_has_no_list() -> None:
    """Nothing is asked."""
    assert asyncio.run(served_models(Endpoint())) is None


def test_nobody_at_the_address_gives_no_list() -> None:
    """A refused connection is no second error."""
    with PersonaServer() as server:
        pass

    assert asyncio.run(served_models(Endpoint(server.url))) is None
