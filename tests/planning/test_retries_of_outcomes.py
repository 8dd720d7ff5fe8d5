"""`--retry`: answers that could not be scored are asked once more, as new requests, and only where it is wanted."""

from __future__ import annotations

import asyncio

import pytest

from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.execution.model_run import unit_trials
from explaineval.execution.pool import Pool, ask_units
from explaineval.planning.prepare import prepare
from explaineval.planning.requests import LONGER, RETRY_SAMPLES, Reply
from explaineval.planning.units import Unit, plan
from explaineval.records import Completion, Request, Trial

GOOD = Completion(text="Answer: A\nExplanation: It is so.", finish_reason="stop")
BAD = {
    "truncated": Completion(text="Answer: A\nExplanation: It is", finish_reason="length"),
    "unparsed": Completion(text="It may well be so.", finish_reason="stop"),
    "empty": Completion(text="", finish_reason="stop"),
}


class Stubborn:
    """Gives a bad answer to every first asking, a good one to every second."""

    def __init__(self, bad: Completion, second: Completion = GOOD) -> None:
        self.bad, self.second, self.asked = bad, second, list[Request]()

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        return self.second if request.sample >= RETRY_SAMPLES else self.bad


def run(client: Stubborn, retry: list[str]) -> list[Trial]:
    """The trials of two bundled examples."""
    config = build(
        RunConfig,
        {
            "tasks": ["sense"],
            "models": [{"model": "a/b"}],
            "limit": 2,
            "retry": retry,
            "interventions": {"per_example": 2},
        },
        "t",
    )
    found = prepare(config, ClientConfig())
    trials: list[Trial] = []

    def receive(unit: Unit, replies: list[Reply | None]) -> None:
        assert None not in replies
        trials.extend(unit_trials(unit, replies, "word", 0.9))

    units = plan(found, config.models[0], lambda _: Capabilities(None, 0.0, "off"))
    asyncio.run(ask_units(Pool(client, 2, asyncio.Event()), units, config.retry, receive))
    return trials


@pytest.mark.parametrize("status", ["truncated", "unparsed"])
def test_what_is_to_be_retried_is_asked_once_more(status: str) -> None:
    """Every request gets a second one under a new index; the trials rest on the second answers."""
    client = Stubborn(BAD[status])
    trials = run(client, [status])

    again = [request for request in client.asked if request.sample >= RETRY_SAMPLES]
    assert len(client.asked) == 2 * len(again)
    assert {"ok"} == {trial.status for trial in trials}
    assert {512 * (LONGER if status == "truncated" else 1)} == {request.max_tokens for request in again}
    assert {0, 1} == {request.sample - RETRY_SAMPLES for request in again}  # samples, and the shams' index


@pytest.mark.parametrize(
    ("status", "retry"), [("truncated", ["unparsed"]), ("unparsed", []), ("empty", ["truncated", "unparsed"])]
)
def test_nothing_else_is_asked_again(status: str, retry: list[str]) -> None:
    """An outcome that was not named stays as it is: kept with its status, never silently retried."""
    client = Stubborn(BAD[status])
    trials = run(client, retry)

    assert {request.sample for request in client.asked} == {0, 1}
    assert {trial.status for trial in trials} == {status}


def test_a_second_failure_is_final() -> None:
    """Once more means once: the second answer counts, whatever it is."""
    client = Stubborn(BAD["truncated"], second=BAD["unparsed"])
    trials = run(client, ["truncated", "unparsed"])

    assert {trial.status for trial in trials} == {"unparsed"}
    assert max(request.sample for request in client.asked) < 2 * RETRY_SAMPLES
