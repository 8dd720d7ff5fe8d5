"""What the service spends, counted at an endpoint that keeps books: over kills, and over many runs at once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from servers.service import Service

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from billing_server import BillingServer, Settings
from made_up_cases import write_task
from service_kills import Faults, trouble_service

RUNS = 10
"""Runs of each token."""


@pytest.fixture(scope="module")
def server() -> Iterator[BillingServer]:
    """The endpoint."""
    with BillingServer() as started:
        yield started


@pytest.mark.slow
def test_kills_cost_nothing_twice_but_what_was_under_way(server: BillingServer, tmp_path: Path) -> None:
    """The server and single runs are killed; all finish, and both budgets hold."""
    outcome = trouble_service(tmp_path, server, Faults(3), requests=75, connections=4, seed=2, budget=30.0)

    assert outcome.faults == []
    assert outcome.states == ["finished"] * 3
    assert {run is None for _, run in outcome.kills} == {True, False}
    assert outcome.restarts >= 1


@pytest.mark.slow
def test_many_runs_at_once_do_not_overspend(server: BillingServer, tmp_path: Path) -> None:
    """Twenty runs of two tokens: what does not fit waits or is interrupted, and every bill is booked."""
    price, budgets = (100.0, 200.0), {"ann": 3.0, "bob": 2.0}
    tokens = {name: f"{name}-" + 20 * "x" for name in budgets}
    endpoints = {
        name: {"base_url": server.open(name, Settings(prices={"m": price}, latency=0.02)), "price": list(price)}
        for name in budgets
    }
    settings: dict[str, Any] = {
        "endpoints": endpoints,
        "tokens": {name: {"token_env": f"TOKEN_{name}", "max_usd": usd} for name, usd in budgets.items()},
        "embedded": False,
        "limits": {"workers": 2 * RUNS},
    }
    service = Service(tmp_path / "service", settings, {f"TOKEN_{name}": text for name, text in tokens.items()})
    service.start()
    write_task(tmp_path, 3, 4)
    for token in tokens.values():
        for name in ("task.jsonl", "edits.jsonl"):
            service.ask("PUT", f"/api/files/{name}", (tmp_path / name).read_bytes(), token)
    runs, refused = [], Counter[str]()
    for number in range(RUNS):
        for owner, token in tokens.items():
            configuration = {
                "tasks": ["jsonl:task.jsonl"], "interventions": {"file": "edits.jsonl"}, "shams": 0,
                "models": [{"model": "openai/m", "endpoint": owner}], "max_tokens": 60 + number,
            }  # fmt: skip
            reply = service.ask("POST", "/api/runs", configuration, token)
            if reply.status == 201:
                runs.append((reply.document["id"], token))
            else:
                refused[reply.document["error"]["code"]] += 1
    states = Counter(service.wait(run, token)["state"] for run, token in runs)
    booked = {name: service.ask("GET", "/api/session", token=token).document for name, token in tokens.items()}
    billed = {name: sum(server.books(name)["dollars"].values()) for name in budgets}
    service.stop()

    assert {name: usd <= budgets[name] for name, usd in billed.items()} == dict.fromkeys(budgets, True)
    assert {name: document["spent"] for name, document in booked.items()} == pytest.approx(billed)
    assert {name: document["reserved"] for name, document in booked.items()} == dict.fromkeys(budgets, 0)
    assert states["finished"] >= 4
    assert set(states) <= {"finished", "interrupted"}
    assert set(refused) <= {"budget"}
    assert states["interrupted"] + refused["budget"] > 0, "the budgets were never reached"
