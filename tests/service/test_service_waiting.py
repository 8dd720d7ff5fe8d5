"""What runs wait for, seen from outside: a full disk, endpoints that are out, rates, workers and budgets."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from explaineval.service.auth import User
from explaineval.service.models import RunSettings
from explaineval.service.processes import workers
from explaineval.service.processes.states import Status
from explaineval.service.processes.workers import Paused, Workers
from explaineval.service.runs import RunService
from explaineval.service.settings import Settings as ServiceSettings
from makers.waiting import run as run_coroutine
from servers.service import Service

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from billing_server import BillingServer, Settings
from doors import Door
from made_up_cases import write_task
from service_kills import Faults, trouble_service

PRICE = (100.0, 200.0)
TOKENS = {name: f"{name}-" + 20 * "x" for name in ("ann", "bob", "eve")}
LONG = 180.0


@pytest.fixture(scope="module")
def server() -> Iterator[BillingServer]:
    """The endpoint."""
    with BillingServer() as started:
        yield started


def settings_with(endpoints: dict[str, Any], budget: float | None = None, **limits: Any) -> dict[str, Any]:
    """Return the settings of a service that offers endpoints to three tokens."""
    tokens = {name: {"token_env": f"TOKEN_{name}", "max_usd": budget} for name in TOKENS}
    return {"endpoints": endpoints, "tokens": tokens, "embedded": False, "limits": limits}


@contextmanager
def serving(folder: Path, settings: dict[str, Any]) -> Iterator[Service]:
    """Serve, with tasks of 3 and of 12 examples, of five requests each, uploaded by each token."""
    service = Service(folder / "service", settings, {f"TOKEN_{name}": text for name, text in TOKENS.items()})
    service.start()
    try:
        for examples, name in ((3, "task.jsonl"), (12, "long.jsonl")):
            write_task(folder, examples, 4)
            for token in TOKENS.values():
                service.ask("PUT", f"/api/files/{name}", (folder / "task.jsonl").read_bytes(), token)
                service.ask("PUT", f"/api/files/edits-{name}", (folder / "edits.jsonl").read_bytes(), token)
        yield service
    finally:
        with suppress(AssertionError):
            service.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for all tests that need no disk of their own; each gives it its settings."""
    with serving(tmp_path_factory.mktemp("waiting"), settings_with({})) as service:
        yield service


def settings_of(endpoint: str, task: str = "task.jsonl", **changes: Any) -> dict[str, Any]:
    """Return a run of a whole task at an endpoint."""
    return {
        "tasks": [f"jsonl:{task}"], "interventions": {"file": f"edits-{task}"}, "shams": 0,
        "models": [{"model": "openai/m", "endpoint": endpoint}], "max_tokens": 60, **changes,
    }  # fmt: skip


def until(service: Service, run: str, token: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return how a run is once a condition holds."""
    end = time.monotonic() + LONG
    while not condition(found := service.run(run, TOKENS[token])):
        assert time.monotonic() < end, (found["state"], found["reason"], service.log()[-3000:])
        time.sleep(0.05)
    return found


@pytest.mark.slow
def test_an_endpoint_that_is_out_is_waited_for(server: BillingServer, shared: Service) -> None:
    """The state is `waiting`, with the reason; the run can be stopped and continued, and goes on by itself."""
    server.open("out", Settings(prices={"m": PRICE}, latency=0.3))
    door = Door(server.port)
    lab = {"base_url": f"http://127.0.0.1:{door.port}/out/v1", "price": list(PRICE), "max_connections": 1}
    shared.reload(settings_with({"out": lab}))
    run = shared.submit(settings_of("out", "long.jsonl"), TOKENS["ann"])
    until(shared, run, "ann", lambda _: server.books("out")["billed"] >= 3)
    with door.closed():
        found = until(shared, run, "ann", lambda row: "refused" in (row["reason"] or ""))
        refused = shared.ask("DELETE", f"/api/runs/{run}", token=TOKENS["ann"])
        listed = shared.ask("GET", "/api/runs", token=TOKENS["ann"]).document["runs"][0]
        shared.ask("POST", f"/api/runs/{run}/stop", token=TOKENS["ann"])
        stopped = shared.wait(run, TOKENS["ann"])
        again = shared.ask("POST", f"/api/runs/{run}/continue", token=TOKENS["ann"])
        waiting = until(shared, run, "ann", lambda row: row["state"] == "waiting")
    finished = shared.wait(run, TOKENS["ann"])
    door.close()

    assert (found["waits_for"], listed["state"], refused.status) == ("endpoint", "waiting", 409)
    assert "waits for the endpoint out, which has not answered since" in found["reason"]
    assert found["state"] == "waiting"
    assert (stopped["state"], again.status, waiting["waits_for"]) == ("stopped", 200, "endpoint")
    assert (finished["state"], finished["waits_for"]) == ("finished", None)
    unbilled = finished["unbilled"] or {"usd": 0.0, "attempts": 0}
    assert server.books("out")["billed"] <= 60 + unbilled["attempts"]
    assert finished["usd"] >= sum(server.books("out")["dollars"].values()) - 1e-9


@pytest.mark.slow
def test_an_endpoint_is_given_up_after_the_operators_patience(server: BillingServer, tmp_path: Path) -> None:
    """The run is interrupted, with the reason, and can be continued."""
    server.open("gone", Settings(prices={"m": PRICE}, latency=0.3))
    door = Door(server.port)
    lab = {"base_url": f"http://127.0.0.1:{door.port}/gone/v1", "price": list(PRICE), "max_connections": 1}
    with serving(tmp_path, settings_with({"gone": lab}, patience=3)) as service:
        run = service.submit(settings_of("gone", "long.jsonl"), TOKENS["ann"])
        until(service, run, "ann", lambda _: server.books("gone")["billed"] >= 3)
        with door.closed():
            given_up = service.wait(run, TOKENS["ann"])
        service.ask("POST", f"/api/runs/{run}/continue", token=TOKENS["ann"])
        finished = service.wait(run, TOKENS["ann"])
    door.close()

    assert given_up["state"] == "interrupted"
    assert "the endpoint gone has not answered since" in given_up["reason"]
    assert "3 s at the most; continue the run" in given_up["reason"]
    assert finished["state"] == "finished"


@pytest.mark.slow
def test_a_run_without_a_process_waits_no_longer(
    server: BillingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said since when the endpoint does not answer, whatever processes tried it since, and it is given up."""
    monkeypatch.setattr(workers, "IDLE", 0.5)
    server.open("away", Settings(prices={"m": PRICE}, latency=0.3))
    door = Door(server.port)
    lab = {"base_url": f"http://127.0.0.1:{door.port}/away/v1", "price": list(PRICE), "max_connections": 1}
    allowed = ServiceSettings.model_validate(settings_with({"away": lab}, patience=12))
    write_task(tmp_path, 12, 4)
    ann, seen = User("ann", admin=False), []

    async def body(name: str) -> AsyncIterator[bytes]:
        yield (tmp_path / name).read_bytes()

    async def act() -> None:
        async with RunService(tmp_path / "data", allowed, dict.fromkeys(TOKENS, b"")) as service:
            for name, upload in (("task.jsonl", "long.jsonl"), ("edits.jsonl", "edits-long.jsonl")):
                await service.uploads.put("ann", upload, body(name))
            settings = RunSettings.model_validate(settings_of("away", "long.jsonl"))
            run = (await service.submit(ann, settings)).id
            while server.books("away")["billed"] < 3:  # noqa: ASYNC110 - the books are in another thread
                await asyncio.sleep(0.05)
            with door.closed():
                while (found := service.view(await service.get(ann, run))).state != "interrupted":
                    listed = (await service.list_runs(ann)).runs[0]
                    if found.state == listed.state == "waiting":
                        seen.append((found.waits_for, listed.waits_for, found.reason, listed.reason))
                    await asyncio.sleep(0.05)

    run_coroutine(act())
    door.close()
    since = {re.findall("not answered since ([^(]*)", str(reason))[0] for *_, reason, _ in seen}

    assert {waits for waits, listed, *_ in seen for waits in (waits, listed)} == {"endpoint"}
    assert len(since) == 1
    assert any("next try at" in str(listed) for *_, listed in seen)


@pytest.mark.slow
def test_a_run_that_only_waits_for_its_rate_holds_no_worker(server: BillingServer, shared: Service) -> None:
    """Slow runs of one token leave the only worker to another's; they can be stopped, and bounds are the operator's."""
    url = server.open("slow", Settings(prices={"m": PRICE}, latency=0.01))
    shared.reload(settings_with({"slow": {"base_url": url, "price": list(PRICE)}}, workers=1, lowest_rpm=0.0001))
    slow = [shared.submit(settings_of("slow", rpm=0.001, seed=seed), TOKENS["ann"]) for seed in range(2)]
    quick = shared.submit({"tasks": ["sense"], "models": [{"model": "simulated/faithful"}], "limit": 2}, TOKENS["bob"])
    finished = shared.wait(quick, TOKENS["bob"])
    waiting = [until(shared, run, "ann", lambda row: row["waits_for"] == "rate") for run in slow]
    sent = server.books("slow")["attempts"]
    stops = [shared.ask("POST", f"/api/runs/{run}/stop", token=TOKENS["ann"]) for run in slow]
    too_slow = shared.ask("POST", "/api/plans", settings_of("slow", rpm=0.00001), TOKENS["ann"])
    too_long = shared.ask("POST", "/api/plans", settings_of("slow", timeout=601), TOKENS["ann"])

    assert finished["state"] == "finished"
    assert [row["state"] for row in waiting] == ["waiting"] * 2
    assert "its rate allows the next request at" in waiting[0]["reason"]
    assert sent == 2
    assert [(reply.status, reply.document["state"]) for reply in stops] == [(200, "stopped")] * 2
    assert (too_slow.status, too_long.status) == (422, 422)
    assert "0.0001 requests a minute" in too_slow.document["error"]["message"]
    assert "600 seconds" in too_long.document["error"]["message"]


@pytest.mark.slow
def test_one_token_never_has_all_workers(server: BillingServer, shared: Service) -> None:
    """Another's run starts at once; what waits says for what, and its place."""
    url = server.open("busy", Settings(prices={"m": PRICE}, latency=1.0, spread=0.0))
    lab = {"base_url": url, "price": list(PRICE), "max_connections": 1}
    shared.reload(settings_with({"busy": lab}, workers=2))
    runs = [shared.submit(settings_of("busy", seed=seed), TOKENS["ann"]) for seed in range(3)]
    second = until(shared, runs[1], "ann", lambda row: row["waits_for"] is not None)
    third = until(shared, runs[2], "ann", lambda row: row["place"] is not None)
    other = shared.submit({"tasks": ["sense"], "models": [{"model": "simulated/faithful"}], "limit": 2}, TOKENS["bob"])
    finished = shared.wait(other, TOKENS["bob"])
    first = shared.run(runs[0], TOKENS["ann"])
    for run in runs:
        shared.ask("POST", f"/api/runs/{run}/stop", token=TOKENS["ann"])

    assert (finished["state"], first["state"]) == ("finished", "running")
    assert [(row["state"], row["waits_for"], row["place"]) for row in (second, third)] == [
        ("queued", "worker", 1), ("queued", "worker", 2),
    ]  # fmt: skip
    assert "it waits for another run of ann to end" in second["reason"]


@pytest.mark.slow
def test_a_run_keeps_the_lesser_of_its_worst_case_and_its_limit(server: BillingServer, shared: Service) -> None:
    """So another one fits beside it; one that does not fit says for what it waits; a cached one is never refused."""
    url = server.open("kept", Settings(prices={"m": PRICE}, latency=0.5, spread=0.0))
    lab = {"base_url": url, "price": list(PRICE), "max_connections": 1}
    shared.reload(settings_with({"kept": lab}, budget=1.5, workers=4, workers_per_token=4))
    worst = shared.ask("POST", "/api/plans", settings_of("kept"), TOKENS["bob"]).document["total"]["usd"]["worst"]
    assert 0.75 < worst < 1.4
    run = shared.submit(settings_of("kept", max_usd=1.4), TOKENS["bob"])
    kept = until(shared, run, "bob", lambda row: row["state"] == "running")["kept_usd"]
    small = shared.submit(settings_of("kept", limit=1, max_tokens=61, max_usd=0.2), TOKENS["bob"])
    fits = until(shared, small, "bob", lambda row: row["state"] != "queued")
    large = shared.submit(settings_of("kept", max_tokens=70), TOKENS["bob"])
    waits = until(shared, large, "bob", lambda row: row["waits_for"] is not None)
    shared.ask("POST", f"/api/runs/{large}/stop", token=TOKENS["bob"])
    finished = shared.wait(run, TOKENS["bob"])
    again = shared.ask("POST", "/api/runs", settings_of("kept", max_usd=100), TOKENS["bob"])
    cached = shared.wait(again.document["id"], TOKENS["bob"])

    assert kept <= worst + 1e-9
    assert fits["state"] in ("running", "finished", "interrupted")
    assert (waits["state"], waits["waits_for"]) == ("queued", "budget")
    assert "of the budget of bob are free" in waits["reason"]
    assert (finished["state"], finished["kept_usd"]) == ("finished", 0)
    assert (again.status, cached["state"], cached["usd"]) == (201, "finished", 0)


@pytest.mark.slow
def test_a_run_at_its_limit_is_continued_with_a_higher_one(server: BillingServer, shared: Service) -> None:
    """It ends with the reason, keeps what it bought, buys nothing under the same limit, and then the rest, once."""
    url = server.open("limited", Settings(prices={"m": PRICE}, latency=0.01))
    lab = {"base_url": url, "price": list(PRICE), "max_connections": 1}
    shared.reload(settings_with({"limited": lab}, budget=5.0))
    run = shared.submit(settings_of("limited", max_usd=0.2), TOKENS["eve"])
    where = f"/api/runs/{run}/continue"
    limited, bought = shared.wait(run, TOKENS["eve"]), server.books("limited")["billed"]
    shared.ask("POST", where, token=TOKENS["eve"])
    again, bought_again = shared.wait(run, TOKENS["eve"]), server.books("limited")["billed"]
    continued = shared.ask("POST", where, {"max_usd": 3}, TOKENS["eve"])
    finished = shared.wait(run, TOKENS["eve"])

    assert (limited["state"], again["state"]) == ("interrupted", "interrupted")
    assert "its limit ($0.20) is reached" in limited["reason"]
    assert "continue it with a higher one" in limited["reason"]
    assert 0 < limited["usd"] <= 0.2
    assert 0 < bought == bought_again < 15
    assert (continued.status, continued.document["max_usd"], finished["state"]) == (200, 3, "finished")
    assert server.books("limited")["billed"] == 15
    assert finished["usd"] == pytest.approx(sum(server.books("limited")["dollars"].values()))


@pytest.mark.slow
def test_answers_of_several_addresses_are_told_without_an_address(server: BillingServer, shared: Service) -> None:
    """Users know the operator's name of an endpoint; where it has moved, a run says how many answers are older."""
    urls = [server.open(name, Settings(prices={"m": PRICE}, latency=0.01)) for name in ("before", "after")]
    shared.reload(settings_with({"lab": {"base_url": urls[0], "price": list(PRICE)}}))
    first = shared.wait(shared.submit(settings_of("lab", limit=1), TOKENS["ann"]), TOKENS["ann"])
    shared.reload(settings_with({"lab": {"base_url": urls[1], "price": list(PRICE)}}))
    second = shared.wait(shared.submit(settings_of("lab"), TOKENS["ann"]), TOKENS["ann"])
    texts = {
        name: shared.ask("GET", f"/api/runs/{run['id']}/{name}", token=TOKENS["ann"]).body.decode()
        for run in (first, second)
        for name in ("files/run.json", "report", "files/card.md")
    }
    alone = shared.ask("GET", f"/api/runs/{first['id']}/report", token=TOKENS["ann"]).body.decode()

    told = "openai/m at lab: 10 from the address of this run, 5 from another address."
    assert (first["state"], second["state"]) == ("finished", "finished")
    assert told in texts["report"]
    assert "from another address" in texts["files/card.md"]
    assert "another address" not in alone
    assert not [name for name, text in texts.items() if "127.0.0.1" in text]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.slow
def test_a_full_disk_and_an_outage_are_waited_for(server: BillingServer, tmp_path: Path) -> None:
    """All runs finish by themselves, nothing is bought twice without need, and what is booked is what was bought."""
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    subprocess.run(["umount", str(tmp_path)], check=True)
    outcome = trouble_service(
        tmp_path, server, Faults(1, (4.0,), (4.0,)), requests=75, connections=4, seed=4, budget=30.0
    )

    assert outcome.faults == []
    assert outcome.states == ["finished"] * 3
    assert (outcome.outages, outcome.full_disks) == (1, 1)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_on_a_full_disk_runs_can_be_stopped_and_deleted(server: BillingServer, tmp_path: Path) -> None:
    """The run waits, /readyz names what cannot be written, and every state has a way out."""
    data = tmp_path / "service" / "data"
    data.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(data)], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    url = server.open("full", Settings(prices={"m": PRICE}, latency=0.3))
    try:
        lab = {"base_url": url, "price": list(PRICE), "max_connections": 1}
        with serving(tmp_path, settings_with({"lab": lab})) as service:
            runs = [service.submit(settings_of("lab", seed=seed), TOKENS["ann"]) for seed in range(2)]
            until(service, runs[0], "ann", lambda _: server.books("full")["billed"] >= 2)
            with (data / "filler").open("wb", buffering=0) as handle, suppress(OSError):
                while True:
                    handle.write(bytes(1 << 12))
            waiting = until(service, runs[0], "ann", lambda row: row["waits_for"] == "disk")
            ready = service.ask("GET", "/readyz")
            service.ask("POST", f"/api/runs/{runs[1]}/stop", token=TOKENS["ann"])
            stopped = service.wait(runs[1], TOKENS["ann"])
            deleted = service.ask("DELETE", f"/api/runs/{runs[1]}", token=TOKENS["ann"])
            (data / "filler").unlink()
            finished = service.wait(runs[0], TOKENS["ann"])
            end = time.monotonic() + LONG
            while service.ask("GET", "/readyz").status != 200:
                assert time.monotonic() < end
                time.sleep(0.1)
    finally:
        subprocess.run(["umount", "-l", str(data)], check=False)

    assert waiting["state"] in ("waiting", "queued")
    assert "room on the disk" in waiting["reason"]
    assert (ready.status, "cannot be written" in ready.document["error"]["message"]) == (503, True)
    assert "no space left" in ready.document["error"]["message"]
    assert (stopped["state"], deleted.status) == ("stopped", 204)
    assert finished["state"] == "finished"
    assert server.books("full")["billed"] <= 15 + 15 + 1


def test_a_pause_ends_although_the_clock_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that waits for its rate goes on after so many seconds, whatever the time of day says meanwhile."""
    paused = Paused.of(Status("waiting", None, "rate", resume_at=time.time() + 60.0))
    workers = cast("Any", SimpleNamespace(disk=SimpleNamespace(faults={})))
    before = time.monotonic()
    monkeypatch.setattr(time, "time", lambda: 0.0)

    assert not Workers._is_due(workers, "run", paused, ())
    monkeypatch.setattr(time, "monotonic", lambda: before + 61.0)
    assert Workers._is_due(workers, "run", paused, ())
