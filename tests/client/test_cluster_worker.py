"""What runs in a worker, without Ray: answers are handed back as they come, and an error stays with its call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from explaineval._version import __version__
from explaineval.client import worker as module
from explaineval.client.worker import Hello, RequestSender, Setup, decode_reply, encode_call, join, split
from explaineval.config import Endpoint
from explaineval.errors import ExplainevalError, InputError, TransientError
from explaineval.records import Completion, Request

SETUP = Setup.of({"lab": Endpoint("http://127.0.0.1:1/v1", "lab", "LAB_KEY")}, 3.0).model_dump_json().encode()
SCRIPTED = f"{__name__}:Scripted"


class Scripted:
    """A transport that does what the prompt says."""

    opened = 0

    def __init__(self, endpoints: Mapping[str | None, Endpoint], *, timeout: float) -> None:
        assert endpoints["lab"].api_key_env == "LAB_KEY"
        assert timeout == 3.0
        Scripted.opened += 1

    async def complete(self, request: Request) -> Completion:
        """Answer, wait for ever, or fail."""
        match request.prompt:
            case "wait":
                await asyncio.Event().wait()
            case "no key":
                raise InputError("the environment variable LAB_KEY holds no key.")
            case "later":
                raise TransientError("overloaded", retry_after=1.0, overload=True)
            case "bug":
                raise KeyError("x")
        return Completion(text=request.prompt)

    async def close(self) -> None:
        """Nothing is open."""


def line(number: int, prompt: str) -> bytes:
    """The line of a call."""
    asked = Request(endpoint="lab", model="openai/m", style="completion", prompt=prompt, max_tokens=5)
    return encode_call(number, SCRIPTED, asked)


async def collected(worker: RequestSender, wanted: int) -> dict[int, Completion | ExplainevalError]:
    """So many replies."""
    found: dict[int, Completion | ExplainevalError] = {}
    while len(found) < wanted:
        found.update(decode_reply(one) for one in split(await worker.collect()))
    return found


def test_answers_are_handed_back_while_others_are_under_way() -> None:
    """One that never comes keeps none back, and each has the number of its call."""

    async def main() -> None:
        worker, Scripted.opened = RequestSender(SETUP), 0
        await worker.send(join([line(1, "wait"), line(2, "a"), line(3, "b")]))
        first = await collected(worker, 2)
        await worker.send(line(4, "c"))

        assert first == {2: Completion(text="a"), 3: Completion(text="b")}
        assert await collected(worker, 1) == {4: Completion(text="c")}
        assert Scripted.opened == 1

    asyncio.run(main())


def test_an_error_stays_with_its_call() -> None:
    """Also one that nobody foresaw; a missing key is told with the machine that lacks it."""

    async def main() -> None:
        worker = RequestSender(SETUP)
        await worker.send(join([line(1, "no key"), line(2, "later"), line(3, "bug"), line(4, "a")]))
        found = await collected(worker, 4)
        no_key, later, bug = found[1], found[2], found[3]

        assert isinstance(no_key, InputError)
        assert "LAB_KEY" in str(no_key)
        assert Hello.model_validate_json(await worker.hello()).host in str(no_key)
        assert isinstance(later, TransientError)
        assert (later.overload, later.retry_after) == (True, 1.0)
        assert (type(bug), str(bug)) == (ExplainevalError, "a worker failed: KeyError: 'x'")
        assert found[4] == Completion(text="a")

    asyncio.run(main())


def test_one_collection_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes beyond is there for the next one."""
    monkeypatch.setattr(module, "MOST_BYTES", 1000)

    async def main() -> None:
        worker = RequestSender(SETUP)
        await worker.send(join([line(number, str(number) * 600) for number in range(1, 6)]))
        sizes = [len(list(split(await worker.collect()))) for _ in range(3)]

        assert sum(sizes) == 5
        assert max(sizes) == 2

    asyncio.run(main())


def test_a_collection_ends_without_replies_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """By that a run knows that the worker lives."""
    monkeypatch.setattr(module, "HEARTBEAT", 0.01)

    async def main() -> None:
        worker = RequestSender(SETUP)

        assert await worker.collect() == b""
        assert Hello.model_validate_json(await worker.hello()).version == __version__

    asyncio.run(main())
