"""kill -9 of the service with three runs going, and of single runs' processes, again and again, under budgets.

Three runs of two tokens ask three rooms of an endpoint that counts what it generates. At random moments the server or
the process of one run is killed; the server is started again, and everything continues by itself. A body may be paid
for again only if it was under way when a process of its run was killed; both budgets must hold at the endpoint.

    python benchmarks/service_kills.py [--rounds 50] [--requests 400] [--connections 4] [--seed 0]

Exits 1 unless all of this holds and every run finishes.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
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
from made_up_cases import write_task

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
Service = import_module("servers.service").Service

OWNERS = ("ann", "ann", "bob")
"""Whose each run is."""
TOKENS = {"ann": "ann-" + 20 * "a", "bob": "bob-" + 20 * "b"}
WORDS = 4
PRICE = (100.0, 200.0)
MAX_TOKENS = 60
LATE = 1.0
"""Seconds after an answer was sent in which it may not be on the disk yet."""
LONGEST = 600.0


@dataclass
class Outcome:
    """What the kills did: moments of kills by run (None: of the server), what was paid, and what went wrong."""

    kills: list[tuple[float, int | None]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    billed: dict[str, float] = field(default_factory=dict)
    booked: dict[str, float] = field(default_factory=dict)
    bodies: int = 0
    again: int = 0
    restarts: int = 0
    faults: list[str] = field(default_factory=list)


def kill_service(
    folder: Path, server: BillingServer, rounds: int, requests: int, connections: int, seed: int, budget: float
) -> Outcome:
    """Kill so many times; `requests` are those of each run, `budget` is each token's in dollars."""
    draw, outcome = random.Random(seed), Outcome()
    endpoints = {}
    for number in range(len(OWNERS)):
        url = server.open(f"room{number}", Settings(seed=number, prices={"m": PRICE}, latency=0.05))
        endpoints[f"lab{number}"] = {"base_url": url, "price": list(PRICE), "max_connections": connections}
    tokens = {name: {"token_env": f"TOKEN_{name}", "max_usd": budget} for name in TOKENS}
    settings = {
        "endpoints": endpoints, "tokens": tokens, "embedded": False, "limits": {"restarts": 100, "workers": 3}
    }  # fmt: skip
    service = Service(folder / "service", settings, {f"TOKEN_{name}": text for name, text in TOKENS.items()})
    service.start()
    runs = submit_all(folder, service, requests)
    for number in range(rounds):
        left = len(OWNERS) * requests - attempts(server)
        step = draw.randint(0, max(1, round(1.8 * left / (rounds - number + 1))))
        wanted = attempts(server) + step
        end = time.monotonic() + LONGEST
        while attempts(server) < wanted and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.05))
        strike(service, runs, draw, outcome)
        print(f"\r{number + 1}/{rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for run, owner in zip(runs, OWNERS, strict=True):
        found = service.wait(run, TOKENS[owner], LONGEST)
        outcome.states.append(found["state"])
        outcome.restarts += found["restarts"]
        if found["state"] != "finished":
            outcome.faults.append(f"run {run} is {found['state']}: {found['reason']}")
    audit(server, service, requests, budget, outcome)
    service.stop()
    return outcome


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
        struck = [when for when, run in outcome.kills if run == number]
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
    """Kill, audit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--requests", type=int, default=400, help="of each run; a multiple of five")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--budget", type=float, default=60.0, help="dollars of each of the two tokens")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, BillingServer() as server:
        outcome = kill_service(
            Path(folder), server, asked.rounds, asked.requests, asked.connections, asked.seed, asked.budget
        )
    of_server = sum(run is None for _, run in outcome.kills)
    print(
        f"{len(outcome.kills)} kills: {of_server} of the server, {len(outcome.kills) - of_server} of one run's process"
    )
    print(f"runs: {', '.join(outcome.states)}; {outcome.restarts} processes were started again by the server")
    print(f"{outcome.bodies} bodies came in for {len(OWNERS) * asked.requests} requests; {outcome.again} came again")
    for owner in TOKENS:
        print(
            f"{owner}: ${outcome.billed[owner]:.4f} billed by the endpoint, ${outcome.booked[owner]:.4f} booked, "
            f"budget ${asked.budget:g}"
        )
    for text in outcome.faults:
        print(text)
    print("every body that came again was under way when its run's process was killed; both budgets held"
          if not outcome.faults else f"{len(outcome.faults)} faults")  # fmt: skip
    print(f"{time.perf_counter() - started:.0f} s")
    return int(bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())
