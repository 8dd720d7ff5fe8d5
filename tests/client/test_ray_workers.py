"""Workers that are lost, replaced or wrong, with a stand-in for Ray that runs them in the process of the test."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import explaineval
from explaineval._version import __version__
from explaineval.cli.configuration import resolve
from explaineval.client import ray_workers
from explaineval.client.ray_workers import RayWorkers, WorkerTransport, check_engine
from explaineval.client.worker import Hello, RequestSender
from explaineval.config import ClientConfig, Endpoint
from explaineval.errors import EndpointError, ExplainevalError, InputError, TransientError
from explaineval.records import Completion, Request

SCRIPTED = f"{__name__}:Scripted"


class RayError(Exception):
    """Stands for ray.exceptions.RayError."""


class Scripted:
    """A transport whose answers wait until the test lets them go."""

    go: asyncio.Event
    asked: list[str]

    def __init__(self, endpoints: Mapping[str | None, Endpoint], *, timeout: float) -> None:
        pass

    async def complete(self, request: Request) -> Completion:
        """Answer once the test says so."""
        Scripted.asked.append(str(request.prompt))
        await Scripted.go.wait()
        return Completion(text=request.prompt)

    async def close(self) -> None:
        """Nothing is open."""


class Method:
    """A method of an actor; a dead actor raises."""

    def __init__(self, actor: Actor, method: Callable[..., Coroutine[Any, Any, Any]]) -> None:
        self.actor, self.method = actor, method

    def remote(self, *arguments: bytes) -> asyncio.Future[Any]:
        """Call it. What travels is bytes."""
        assert all(type(argument) is bytes for argument in arguments)
        return asyncio.ensure_future(self._call(*arguments))

    async def _call(self, *arguments: bytes) -> Any:
        call = asyncio.ensure_future(self.method(*arguments))
        death = asyncio.ensure_future(self.actor.dead.wait())
        await asyncio.wait({call, death}, return_when=asyncio.FIRST_COMPLETED)
        if death.done():
            call.cancel()
            raise RayError("The actor died.")
        death.cancel()
        return call.result()


class Actor:
    """A worker in the process of the test."""

    def __init__(self, worker: RequestSender) -> None:
        self.dead = asyncio.Event()
        self.hello, self.send, self.collect = (
            Method(self, method) for method in (worker.hello, worker.send, worker.collect)
        )


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> list[Actor]:
    """Put the stand-in in Ray's place, and return the actors that it will have started."""
    actors: list[Actor] = []

    def start(setup: bytes) -> Actor:
        actors.append(Actor(RequestSender(setup)))
        return actors[-1]

    module, private = ModuleType("ray"), ModuleType("ray._private.worker")
    module.__spec__ = ModuleSpec("ray", None)
    actor_class = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=start))
    module.__dict__.update(
        remote=lambda _: actor_class,
        kill=lambda actor: actor.dead.set(),
        is_initialized=lambda: False,
        init=lambda *_, **__: None,
        shutdown=lambda: None,
        exceptions=SimpleNamespace(RayError=RayError),
    )
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.setitem(sys.modules, "ray._private", ModuleType("ray._private"))
    monkeypatch.setitem(sys.modules, "ray._private.worker", private)
    node = ModuleType("ray._private.node")
    node.__dict__["Node"] = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "ray._private.node", node)
    monkeypatch.setattr(logging.getLogger("ray"), "level", logging.WARNING)
    return actors


def request(text: str) -> Request:
    """A request to the lab."""
    return Request(endpoint="lab", model="openai/m", style="completion", prompt=text, max_tokens=5)


def play(script: Callable[[RayWorkers, list[str]], Coroutine[Any, Any, None]]) -> None:
    """Run a script with two workers and the messages to the user."""

    async def main() -> None:
        Scripted.go, Scripted.asked = asyncio.Event(), []
        messages: list[str] = []
        workers = RayWorkers({"lab": Endpoint("http://127.0.0.1:1/v1", "lab")}, 3.0, 2, None, messages.append)
        try:
            async with asyncio.timeout(20):
                await script(workers, messages)
        finally:
            await workers.close()

    asyncio.run(main())


async def until(true: Callable[[], bool]) -> None:
    """Return once it is so."""
    while not true():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)


def test_calls_go_to_the_worker_with_the_fewest(ray: list[Actor]) -> None:
    """Four calls at once are two for each, and each gets its own answer."""

    async def script(workers: RayWorkers, _: list[str]) -> None:
        transport = WorkerTransport(SCRIPTED, workers)
        calls = [asyncio.create_task(transport.complete(request(text))) for text in "abcd"]
        await until(lambda: len(Scripted.asked) == 4)
        loads = [len(link.pending) for link in workers._links]
        Scripted.go.set()

        assert [answer.text for answer in await asyncio.gather(*calls)] == [*"abcd"]
        assert loads == [2, 2]
        assert len(ray) == 2

    play(script)


def test_a_lost_worker_fails_its_calls_alone(ray: list[Actor]) -> None:
    """They may have been charged, unless they were not yet handed over; another worker is started."""

    async def script(workers: RayWorkers, messages: list[str]) -> None:
        calls = [asyncio.create_task(workers.complete(SCRIPTED, request(text))) for text in "abcd"]
        await until(lambda: len(Scripted.asked) == 4)
        dying = workers._links[0]
        late = asyncio.create_task(workers.complete(SCRIPTED, request("late")))
        await until(lambda: bool(dying.outbox))
        workers._lose(dying)  # as if its loss were noticed just now
        assert dying.collecting is not None
        dying.collecting.cancel()
        await until(lambda: len(workers._links) == 2)
        Scripted.go.set()
        found = await asyncio.gather(*calls, late, return_exceptions=True)
        failed = [one for one in found if isinstance(one, TransientError)]

        assert [one.text for one in found if isinstance(one, Completion)] == ["b", "d"]
        assert [one.unbilled for one in failed] == [False, False, True]
        assert all("openai/m at lab: the worker on" in str(one) for one in failed)
        assert len(ray) == 3
        assert "its 3 calls under way" in messages[0]
        assert (await workers.complete(SCRIPTED, request("again"))).text == "again"

    play(script)


def test_a_worker_that_dies_is_noticed(ray: list[Actor]) -> None:
    """By the collection that is always open."""

    async def script(workers: RayWorkers, messages: list[str]) -> None:
        call = asyncio.create_task(workers.complete(SCRIPTED, request("a")))
        await until(lambda: len(Scripted.asked) == 1)
        ray[0].dead.set()
        ray[1].dead.set()
        with pytest.raises(TransientError, match="was lost before the answer came"):
            await call
        await until(lambda: len(ray) == 4)
        Scripted.go.set()

        assert (await workers.complete(SCRIPTED, request("b"))).text == "b"
        assert len(messages) == 2

    play(script)


def test_a_frozen_worker_counts_as_lost(ray: list[Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not even answer an empty collection."""
    monkeypatch.setattr(ray_workers, "SILENCE", 0.01)

    async def script(workers: RayWorkers, _: list[str]) -> None:
        with pytest.raises(TransientError, match="was lost"):
            await workers.complete(SCRIPTED, request("a"))

    play(script)


def test_a_run_ends_where_every_worker_is_lost(ray: list[Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting ever new ones would cost the same calls again and again."""
    monkeypatch.setattr(ray_workers, "MOST_LOSSES", 2)

    async def script(workers: RayWorkers, _: list[str]) -> None:
        async def die() -> None:
            while True:
                for actor in ray:
                    actor.dead.set()
                await asyncio.sleep(0.001)

        death: asyncio.Task[None] | None = None
        errors: list[ExplainevalError] = []
        while not any(isinstance(error, EndpointError) for error in errors):
            try:
                await workers.complete(SCRIPTED, request("a"))
            except ExplainevalError as exc:
                errors.append(exc)
            death = death or asyncio.create_task(die())
            Scripted.go.clear()
        assert death is not None
        death.cancel()

        assert "lost in a row" in str(errors[-1])

    async def started(workers: RayWorkers, messages: list[str]) -> None:
        Scripted.go.set()
        await workers.complete(SCRIPTED, request("first"))
        await script(workers, messages)

    play(started)


def test_another_version_is_refused(ray: list[Actor], monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence names the node and both versions."""

    async def hello(_: RequestSender) -> bytes:
        return Hello(version="0.0.1", host="node7", pid=1).model_dump_json().encode()

    monkeypatch.setattr(RequestSender, "hello", hello)

    async def script(workers: RayWorkers, _: list[str]) -> None:
        with pytest.raises(InputError) as caught:
            await workers.complete(SCRIPTED, request("a"))

        assert f"node node7 has explaineval 0.0.1, this machine {__version__}" in str(caught.value)

    play(script)


def test_nothing_listens_at_the_address() -> None:
    """Ray would wait for minutes."""
    with pytest.raises(InputError, match=r"no Ray cluster is reached at 127.0.0.1:1: Connection refused"):
        ray_workers._check_listens("127.0.0.1:1")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"workers": 3}, "--workers are for --engine ray"),
        ({"ray_address": "auto"}, "--ray-address and"),
        ({"engine": "ray", "batch": True}, "leave out --engine ray, or --batch"),
    ],
)
def test_options_that_do_not_go_together(config: dict[str, Any], sentence: str) -> None:
    """They are refused before anything is sent."""
    with pytest.raises(InputError, match=sentence):
        check_engine(ClientConfig(**config))


@pytest.mark.parametrize(
    "address", ["10.0.0.1:6379", "localhost.example.org:6379", "127.0.0.1.example.org:1", "[::2]:1"]
)
def test_a_file_alone_chooses_no_cluster_elsewhere(
    address: str, ray: list[Actor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Requests, and the keys on its machines, would be at the mercy of whoever wrote the file."""
    monkeypatch.delenv("EXPLAINEVAL_RAY_ADDRESS", raising=False)
    study = tmp_path / "study.yaml"

    def client(of_file: str, **options: Any) -> ClientConfig:
        text = f"tasks: [nli]\nmodels: [{{model: openai/m}}]\nengine: ray\nray_address: '{of_file}'\n"
        study.write_text(text, encoding="utf-8")
        return resolve(study, options)[1]

    with pytest.raises(InputError, match="a file alone may not choose another machine") as caught:
        check_engine(client(address))
    assert f"add --ray-address {address}." in str(caught.value)
    with pytest.raises(InputError, match="a file alone may not"):
        explaineval.run(study, out=tmp_path / "run", cache=str(tmp_path / "cache"), progress=False)
    check_engine(client(address, ray_address=address))
    for local in ("auto", "127.0.0.1:6379", "localhost:6379", "[::1]:6379"):
        check_engine(client(local))
    study.write_text("tasks: [nli]\nray_address_from_file: false\n", encoding="utf-8")
    with pytest.raises(InputError, match="unknown key 'ray_address_from_file'"):
        resolve(study, {})
    assert not ray


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Unless nothing is sent, so that it is not needed."""
    monkeypatch.setattr(ray_workers, "find_spec", lambda _: None)
    check_engine(ClientConfig(engine="ray", offline=True, cache=tmp_path))
    check_engine(ClientConfig())

    with pytest.raises(InputError, match=r"pip install '\.\[ray\]'"):
        check_engine(ClientConfig(engine="ray"))
