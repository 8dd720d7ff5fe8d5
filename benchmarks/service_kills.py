"""kill -9 of the service and of single runs' processes, outages of endpoints and a full disk, under budgets.

Three runs of two tokens ask three rooms of an endpoint that counts what it generates. At random moments the server or
the process of one run is killed, the endpoint of one run is gone for a while, or the disk of the service is full for a
while; a killed server is started again, and everything continues by itself. A body may be paid for again only if it was
under way when a process of its run was killed or its connection was cut; both budgets must hold at the endpoint. What
is booked must be what the answers in the cache cost, and the worst case of the attempts that are listed.

    python benchmarks/service_kills.py [--rounds 50] [--requests 400] [--connections 4] [--seed 0]
        [--outages 2] [--outage-seconds 30,180] [--full-disks 2] [--full-seconds 10]

A full disk needs the right to mount a file system in memory (root). Exits 1 unless all of this holds and every run
finishes.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from billing_server import BillingServer, Call, Settings
from doors import Door
from made_up_cases import write_task

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
Service = import_module("servers.service").Service

OWNERS = ("ann", "ann", "bob")
"""Whose each run is."""
TOKENS = {"ann": "ann-" + 20 * "a", "bob": "bob-" + 20 * "b"}
WORDS = 4
PRICE = (100.0, 200.0)
MAX_TOKENS = 60
DISK_BYTES = 48 << 20
LATE = 1.0
"""Seconds after an answer was sent in which it may not be on the disk yet."""
LONGEST = 600.0


@dataclass(frozen=True)
class Faults:
    """What happens to the service: kills, and for how many seconds endpoints are gone and the disk is full."""

    kills: int
    outages: tuple[float, ...] = ()
    full_disks: tuple[float, ...] = ()

    def shuffled(self, draw: random.Random) -> list[tuple[str, float]]:
        """Return all of them in a random order."""
        faults = [("kill", 0.0)] * self.kills
        faults += [("outage", seconds) for seconds in self.outages] + [("full", seconds) for seconds in self.full_disks]
        draw.shuffle(faults)
        return faults


@dataclass
class Outcome:
    """What the faults did: moments of kills by run (None: of the server), what was paid, and what went wrong.

    `cut` are the moments at which the connections of a run's endpoint were cut.
    """

    kills: list[tuple[float, int | None]] = field(default_factory=list)
    cut: list[tuple[float, int]] = field(default_factory=list)
    outages: int = 0
    full_disks: int = 0
    waited: set[str] = field(default_factory=set)
    """For what runs were seen to wait."""
    unbilled: int = 0
    in_cache: float = 0.0
    worst_cases: float = 0.0
    states: list[str] = field(default_factory=list)
    billed: dict[str, float] = field(default_factory=dict)
    booked: dict[str, float] = field(default_factory=dict)
    bodies: int = 0
    again: int = 0
    restarts: int = 0
    faults: list[str] = field(default_factory=list)


def trouble_service(
    folder: Path, server: BillingServer, faults: Faults, requests: int, connections: int, seed: int, budget: float
) -> Outcome:
    """Let all faults happen; `requests` are those of each run, `budget` is each token's in dollars."""
    draw, outcome, rounds = random.Random(seed), Outcome(), faults.shuffled(random.Random(seed))
    endpoints, doors = {}, [Door(server.port) for _ in OWNERS]
    for number, door in enumerate(doors):
        server.open(f"room{number}", Settings(seed=number, prices={"m": PRICE}, latency=0.05))
        url = f"http://127.0.0.1:{door.port}/room{number}/v1"
        endpoints[f"lab{number}"] = {"base_url": url, "price": list(PRICE), "max_connections": connections}
    tokens = {name: {"token_env": f"TOKEN_{name}", "max_usd": budget} for name in TOKENS}
    settings = {
        "endpoints": endpoints, "tokens": tokens, "embedded": False, "limits": {"restarts": 100, "workers": 3}
    }  # fmt: skip
    service = Service(folder / "service", settings, {f"TOKEN_{name}": text for name, text in TOKENS.items()})
    if faults.full_disks:
        mount(service.data)
    service.start()
    runs = submit_all(folder, service, requests)
    for number, (fault, seconds) in enumerate(rounds):
        left = len(OWNERS) * requests - attempts(server)
        step = draw.randint(0, max(1, round(1.4 * left / (len(rounds) - number + 1))))
        wanted = attempts(server) + step
        end = time.monotonic() + LONGEST
        while attempts(server) < wanted and time.monotonic() < end:
            time.sleep(0.01)
            if attempts(server) >= len(OWNERS) * requests and have_ended(service, runs):
                break
        if have_ended(service, runs):
            print(f"\nall runs have ended before the last {len(rounds) - number} faults", file=sys.stderr)
            break
        time.sleep(draw.uniform(0, 0.05))
        if fault == "kill":
            strike(service, runs, draw, outcome)
        elif fault == "outage":
            number_of_run = draw.randrange(len(OWNERS))
            outcome.outages += 1
            outcome.cut.append((time.monotonic(), number_of_run))
            with doors[number_of_run].closed():
                watch(service, runs, seconds, outcome)
        else:
            outcome.full_disks += 1
            fill(service, runs, seconds, outcome)
        print(f"\r{number + 1}/{len(rounds)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for run, owner in zip(runs, OWNERS, strict=True):
        found = service.wait(run, TOKENS[owner], LONGEST)
        outcome.states.append(found["state"])
        outcome.restarts += found["restarts"]
        if found["state"] != "finished":
            outcome.faults.append(f"run {run} is {found['state']}: {found['reason']}")
    audit(server, service, requests, budget, outcome)
    hold_books(service, runs, outcome)
    service.stop()
    for door in doors:
        door.close()
    if faults.full_disks:
        subprocess.run(["umount", str(service.data)], check=True)  # noqa: S607 - as the system has it
    return outcome


def have_ended(service: Any, runs: list[str]) -> bool:
    """Return whether no run goes on any more."""
    states = {service.run(run, TOKENS[owner])["state"] for run, owner in zip(runs, OWNERS, strict=True)}
    return not states & {"queued", "running", "waiting", "stopping"}


def mount(folder: Path) -> None:
    """Put a small file system in memory at a folder."""
    folder.mkdir(parents=True)
    options = f"size={DISK_BYTES},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)  # noqa: S607 - as above


def watch(service: Any, runs: list[str], seconds: float, outcome: Outcome) -> None:
    """Note for so many seconds for what runs wait."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for run, owner in zip(runs, OWNERS, strict=True):
            found = service.run(run, TOKENS[owner])
            if found["state"] == "waiting":
                outcome.waited.add(found["waits_for"])
        time.sleep(0.2)


def fill(service: Any, runs: list[str], seconds: float, outcome: Outcome) -> None:
    """Leave no byte free on the service's disk for so many seconds."""
    path = service.data / "filler"
    with path.open("wb", buffering=0) as handle, suppress(OSError):
        while True:
            handle.write(bytes(1 << 16))
    end = time.monotonic() + LONGEST
    while (reply := service.ask("GET", "/readyz")).status != 503 and time.monotonic() < end:
        with path.open("ab", buffering=0) as handle, suppress(OSError):  # what was freed meanwhile
            while True:
                handle.write(bytes(1 << 12))
        time.sleep(0.1)
    if reply.status != 503 or "cannot be written" not in reply.document["error"]["message"]:
        outcome.faults.append(f"/readyz on a full disk: {reply.status} {reply.document}")
    watch(service, runs, seconds, outcome)
    path.unlink()
    while service.ask("GET", "/readyz").status != 200:
        if time.monotonic() > end:
            outcome.faults.append("/readyz does not say that there is room again")
            return
        time.sleep(0.1)


def hold_books(service: Any, runs: list[str], outcome: Outcome) -> None:
    """Hold what is booked against the cache: every answer at its bill, all else listed at its worst case."""
    for run, owner in zip(runs, OWNERS, strict=True):
        unbilled = service.run(run, TOKENS[owner])["unbilled"]
        if unbilled is not None:
            outcome.unbilled += unbilled["attempts"]
            outcome.worst_cases += unbilled["usd"]
            if len(unbilled["listed"]) != min(100, unbilled["attempts"]):
                outcome.faults.append(f"run {run}: {unbilled['attempts']} attempts, {len(unbilled['listed'])} listed")
    outcome.in_cache = service.ask("GET", "/api/cache", token=TOKENS["ann"]).document["usd"]
    booked = sum(outcome.booked.values())
    if abs(booked - outcome.in_cache - outcome.worst_cases) > 1e-6:
        outcome.faults.append(
            f"${booked:.6f} are booked; the answers in the cache cost ${outcome.in_cache:.6f}, and attempts without a "
            f"bill count ${outcome.worst_cases:.6f}"
        )


def submit_all(folder: Path, service: Any, requests: int) -> list[str]:
    """Upload the task of each owner and submit the three runs; return their ids."""
    write_task(folder, requests // (1 + WORDS), WORDS)
    for token in TOKENS.values():
        for name in ("task.jsonl", "edits.jsonl"):
            reply = service.ask("PUT", f"/api/files/{name}", (folder / name).read_bytes(), token)
            assert reply.status == 201, reply.document
    configuration = {"tasks": ["jsonl:task.jsonl"], "interventions": {"file": "edits.jsonl"}, "shams": 0}
    return [
        service.submit(
            configuration | {"models": [{"model": "openai/m", "endpoint": f"lab{number}"}], "max_tokens": MAX_TOKENS},
            TOKENS[owner],
        )
        for number, owner in enumerate(OWNERS)
    ]


def attempts(server: BillingServer) -> int:
    """All attempts so far."""
    return sum(server.books(f"room{number}")["attempts"] for number in range(len(OWNERS)))


def strike(service: Any, runs: list[str], draw: random.Random, outcome: Outcome) -> None:
    """Kill the server, or the process of a run if one goes on; start the server again."""
    workers = service.workers()
    alive = [number for number, run in enumerate(runs) if run in workers]
    if alive and draw.random() < 0.5:
        number = draw.choice(alive)
        outcome.kills.append((time.monotonic(), number))
        with suppress(ProcessLookupError):
            os.kill(workers[runs[number]], signal.SIGKILL)
        return
    outcome.kills.append((time.monotonic(), None))
    service.kill()
    service.start()


def audit(server: BillingServer, service: Any, requests: int, budget: float, outcome: Outcome) -> None:
    """Hold every body and every bill against what was promised."""
    for number, owner in enumerate(OWNERS):
        calls: list[Call] = server.calls(f"room{number}")
        struck = [when for when, run in (*outcome.kills, *outcome.cut) if run == number]
        paid = Counter(call.prompt for call in calls)
        outcome.bodies += len(calls)
        if len(paid) != requests:
            outcome.faults.append(f"room {number}: {len(paid)} bodies were asked for, not {requests}")
        first: dict[str, Call] = {}
        for call in calls:
            before = first.get(call.prompt)
            if before is not None:
                outcome.again += 1
                if not any(before.received <= when <= (before.written or when) + LATE for when in struck):
                    outcome.faults.append(f"room {number}: {call.prompt} was paid for again without need")
            first[call.prompt] = call
        dollars = sum(server.books(f"room{number}")["dollars"].values())
        outcome.billed[owner] = outcome.billed.get(owner, 0.0) + dollars
    for owner, token in TOKENS.items():
        outcome.booked[owner] = service.ask("GET", "/api/session", token=token).document["spent"]
        if outcome.billed[owner] > budget * (1 + 1e-9):
            outcome.faults.append(f"{owner}: ${outcome.billed[owner]:.4f} were billed of a budget of ${budget:g}")
        if outcome.booked[owner] < outcome.billed[owner] * (1 - 1e-9):
            outcome.faults.append(
                f"{owner}: ${outcome.billed[owner]:.4f} were billed, and only ${outcome.booked[owner]:.4f} are booked"
            )


def main() -> int:
    """Make trouble, audit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--requests", type=int, default=400, help="of each run; a multiple of five")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--budget", type=float, default=60.0, help="dollars of each of the two tokens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--outages", type=int, default=2)
    parser.add_argument("--outage-seconds", default="30,180", help="of the first outage, the second, and so on")
    parser.add_argument("--full-disks", type=int, default=2 if os.geteuid() == 0 else 0)
    parser.add_argument("--full-seconds", type=float, default=10.0)
    asked = parser.parse_args()
    seconds = [float(text) for text in asked.outage_seconds.split(",")]
    outages = tuple(seconds[number % len(seconds)] for number in range(asked.outages))
    faults = Faults(asked.rounds, outages, (asked.full_seconds,) * asked.full_disks)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, BillingServer() as server:
        outcome = trouble_service(
            Path(folder), server, faults, asked.requests, asked.connections, asked.seed, asked.budget
        )
    of_server = sum(run is None for _, run in outcome.kills)
    print(
        f"{len(outcome.kills)} kills: {of_server} of the server, {len(outcome.kills) - of_server} of one run's process"
    )
    print(f"{outcome.outages} outages ({asked.outage_seconds} s), {outcome.full_disks} full disks; runs were seen to "
          f"wait for: {', '.join(sorted(outcome.waited)) or 'nothing'}")  # fmt: skip
    print(f"runs: {', '.join(outcome.states)}; {outcome.restarts} processes were started again by the server")
    print(f"{outcome.bodies} bodies came in for {len(OWNERS) * asked.requests} requests; {outcome.again} came again")
    for owner in TOKENS:
        print(
            f"{owner}: ${outcome.billed[owner]:.4f} billed by the endpoint, ${outcome.booked[owner]:.4f} booked, "
            f"budget ${asked.budget:g}"
        )
    print(
        f"${sum(outcome.booked.values()):.6f} booked = ${outcome.in_cache:.6f} for the answers in the cache + "
        f"${outcome.worst_cases:.6f} for {outcome.unbilled} attempts without a bill, which are listed"
    )
    for text in outcome.faults:
        print(text)
    print("every body that came again was under way when its run's process was killed or cut off; both budgets held"
          if not outcome.faults else f"{len(outcome.faults)} faults")  # fmt: skip
    print(f"{time.perf_counter() - started:.0f} s")
    return int(bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())
