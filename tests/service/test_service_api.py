"""The API of the service, asked over a socket: what it does."""

from __future__ import annotations

import json
import sqlite3
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import explaineval
from servers.commands import run as run_command
from servers.service import RUN, TOKENS, Service

ANN, BOB, BOSS = TOKENS["ann"], TOKENS["bob"], TOKENS["boss"]
TASK = (resources.files("explaineval") / "tasks" / "sense.jsonl").read_bytes()
EDITS = (resources.files("explaineval") / "tasks" / "sense.interventions.jsonl").read_bytes()


def events_of(text: str) -> list[dict[str, str]]:
    """Return the events of a stream, each with its fields."""
    blocks = [block for block in text.split("\n\n") if block.strip() and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


@pytest.fixture(scope="module")
def finished(service: Service) -> dict[str, Any]:
    """A run of ann's that is finished."""
    return service.wait(service.submit(RUN, ANN), ANN)


def test_a_plan_says_what_a_run_would_ask(service: Service) -> None:
    """As the Python API says it; nothing is run."""
    before = service.ask("GET", "/api/runs", token=BOSS).document["total"]
    settings = RUN | {"samples": 3, "temperature": 0.83}  # no other test fills the shared cache with it
    plan = service.ask("POST", "/api/plans", settings, ANN)

    assert plan.status == 200
    expected = explaineval.plan(settings | {"cache": "/nonexistent"})
    assert plan.document["total"] == expected["total"]
    assert {name: plan.document["models"][0][name] for name in expected["models"][0]} == expected["models"][0]
    assert service.ask("GET", "/api/runs", token=BOSS).document["total"] == before


def test_the_numbers_are_those_of_the_command_line_and_of_python(service: Service, tmp_path: Path) -> None:
    """The same configuration, an upload among it, by three ways: metrics.json has the same bytes."""
    (tmp_path / "mine.jsonl").write_bytes(TASK)
    (tmp_path / "edits.jsonl").write_bytes(EDITS)
    for name, content in (("mine.jsonl", TASK), ("edits.jsonl", EDITS.replace(b'"task": "sense"', b'"task": "mine"'))):
        (tmp_path / name).write_bytes(content)
        assert service.ask("PUT", f"/api/files/{name}", content, BOB).status == 201
    settings: dict[str, Any] = {
        "tasks": ["nli", "jsonl:mine.jsonl"],
        "models": [{"model": "simulated/faithful"}, {"model": "simulated/verbose", "style": "completion"}],
        "limit": 3,
        "shams": 2,
        "seed": 3,
    }
    run = service.wait(service.submit(settings, BOB), BOB)
    served = service.ask("GET", f"/api/runs/{run['id']}/metrics", token=BOB)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(settings | {"tasks": ["nli", "jsonl:mine.jsonl"]}), encoding="utf-8")
    command = run_command("run", config, "--cache", tmp_path / "cache", "--out", tmp_path / "line", cwd=tmp_path)
    explaineval.run(config, cache=str(tmp_path / "cache2"), out=tmp_path / "python", progress=False)

    assert (run["state"], command.code) == ("finished", 0), (run["reason"], command.stderr)
    assert served.body == (tmp_path / "line" / "metrics.json").read_bytes()
    assert served.body == (tmp_path / "python" / "metrics.json").read_bytes()
    assert len(served.document) > 100


def test_a_finished_run_gives_its_results(service: Service, finished: dict[str, Any]) -> None:
    """Metrics, trials, report, files and exports; the report runs apart from the service."""
    where = f"/api/runs/{finished['id']}"
    directory = service.data / "runs" / finished["id"]
    replies = {
        name: service.ask("GET", f"{where}/{name}", token=ANN)
        for name in ("metrics", "trials", "report", "files/run.json", "files/bundle.zip", "files/trials.csv")
    }

    assert {name: reply.status for name, reply in replies.items()} == dict.fromkeys(replies, 200)
    assert replies["metrics"].body == (directory / "metrics.json").read_bytes()
    assert replies["trials"].body == (directory / "trials.jsonl").read_bytes()
    assert b"phi-CCT" in replies["report"].body
    assert "sandbox" in replies["report"].headers["content-security-policy"]
    assert replies["files/bundle.zip"].body.startswith(b"PK")
    assert replies["files/trials.csv"].body.count(b"\n") == replies["trials"].body.count(b"\n") + 1
    assert service.ask("GET", f"{where}/files/nothing", token=ANN).status == 404


def test_events_tell_how_a_run_goes(service: Service) -> None:
    """From waiting to its end, with phi-CCT and its interval; the last event has the document of the run."""
    run = service.submit(RUN | {"limit": 40}, ANN)
    events = events_of(service.ask("GET", f"/api/runs/{run}/events", token=ANN).body.decode())
    again = events_of(service.ask("GET", f"/api/runs/{run}/events", token=ANN).body.decode())
    documents = [json.loads(event["data"]) for event in events]
    phi = documents[-1]["progress"]["models"][0]["phi"][0]

    assert [event["event"] for event in events] == ["run"] * (len(events) - 1) + ["end"]
    assert documents[-1] == service.run(run, ANN) == json.loads(again[-1]["data"])
    assert documents[-1]["state"] == "finished"
    assert {document["state"] for document in documents} >= {"running", "finished"}
    assert phi["low"] <= phi["value"] <= phi["high"]


def test_runs_are_stopped_continued_and_deleted(service: Service) -> None:
    """A run that is stopped keeps what it has, goes on where it stopped, and is deleted with its directory."""
    run = service.submit({**RUN, "tasks": ["sense", "qa", "nli"], "limit": 60, "samples": 8, "temperature": 1}, BOB)
    while service.run(run, BOB)["state"] == "queued":
        pass
    early = service.ask("DELETE", f"/api/runs/{run}", token=BOB)
    metrics = service.ask("GET", f"/api/runs/{run}/metrics", token=BOB)
    stopping = service.ask("POST", f"/api/runs/{run}/stop", token=BOB)
    stopped = service.wait(run, BOB)
    twice = service.ask("POST", f"/api/runs/{run}/stop", token=BOB)
    done = sum(model["done"] for model in stopped["progress"]["models"]) if stopped["progress"] else 0
    going = service.ask("POST", f"/api/runs/{run}/continue", {"max_usd": 3}, BOB)
    service.ask("POST", f"/api/runs/{run}/stop", token=BOB)
    again = service.wait(run, BOB)
    deleted = service.ask("DELETE", f"/api/runs/{run}", token=BOB)

    assert (early.status, metrics.status, twice.status) == (409, 409, 409)
    assert (stopping.status, stopping.document["state"]) == (200, "stopping")
    assert (stopped["state"], stopped["reason"]) == ("stopped", "it was stopped; continue asks the rest.")
    assert done < stopped["plan"]["total"]["distinct"]
    assert (going.status, going.document["max_usd"]) == (200, 3)
    # where it is quicker than the request to stop it, it is through
    through = sum(model["done"] for model in (again["progress"] or {"models": []})["models"])
    assert again["state"] == ("finished" if through == again["plan"]["total"]["distinct"] else "stopped")
    assert (deleted.status, service.ask("GET", f"/api/runs/{run}", token=BOB).status) == (204, 404)
    assert not (service.data / "runs" / run).exists()


def test_runs_are_compared(service: Service, finished: dict[str, Any]) -> None:
    """As `explaineval compare --json` does; runs of others are not."""
    other = service.wait(service.submit({**RUN, "models": [{"model": "simulated/random"}]}, ANN), ANN)
    body = {"runs": [finished["id"], other["id"]]}
    reply = service.ask("POST", "/api/comparisons", body, ANN)
    expected = explaineval.compare(*(service.data / "runs" / run for run in body["runs"])).document

    assert reply.status == 200
    assert reply.document["rows"] == expected["rows"]
    assert service.ask("POST", "/api/comparisons", body, BOB).status == 404


def test_what_all_runs_share_is_told(service: Service, finished: dict[str, Any]) -> None:
    """The cache, the endpoints, and who is asking with what is left of the budget."""
    cache = service.ask("GET", "/api/cache", token=ANN).document
    endpoints = service.ask("GET", "/api/endpoints", token=ANN).document
    ann, boss = (service.ask("GET", "/api/session", token=token).document for token in (ANN, BOSS))

    assert cache["entries"] >= finished["plan"]["total"]["distinct"] - finished["plan"]["total"]["hits"]
    assert "simulated/faithful" in {model["model"] for model in cache["models"]}
    assert endpoints["tasks"] == ["nli", "qa", "sense"]
    assert [endpoint["name"] for endpoint in endpoints["endpoints"]] == ["dear"]
    assert (ann["token"], ann["admin"], ann["max_usd"], ann["left"]) == ("ann", False, 5, 5)
    assert (boss["admin"], boss["max_usd"], boss["left"]) == (True, None, None)


def test_a_run_that_costs_more_than_is_left_is_refused(service: Service) -> None:
    """Unless a lower limit is given; the sentence names both sums."""
    dear = {**RUN, "models": [{"model": "openai/m", "endpoint": "dear"}]}
    refused = service.ask("POST", "/api/runs", dear, ANN)
    run = service.submit(dear | {"max_usd": 4, "max_retries": 0}, ANN)
    ended = service.wait(run, ANN)

    assert (refused.status, refused.document["error"]["code"]) == (402, "budget")
    assert "$5.00 are left" in refused.document["error"]["message"]
    assert ended["state"] == "failed"
    assert "Connection" in ended["reason"] or "refused" in ended["reason"]
    assert ended["usd"] == 0


def test_a_list_has_pages(service: Service) -> None:
    """The newest first, each once, and no one else's."""
    for _ in range(3):
        run = service.submit(RUN, BOB)
    first = service.ask("GET", "/api/runs?limit=2", token=BOB).document
    second = service.ask("GET", f"/api/runs?limit=200&before={first['next']}", token=BOB).document
    ids = [row["id"] for page in (first, second) for row in page["runs"]]

    assert (ids[0], len(ids), second["next"]) == (run, first["total"], None)
    assert len(set(ids)) == len(ids)
    assert {row["token"] for page in (first, second) for row in page["runs"]} == {"bob"}
    service.wait(run, BOB)


def test_a_run_that_cannot_be_started_keeps_no_other_from_starting(service: Service) -> None:
    """A row without what its process needs, as another version may leave it, fails; the next run finishes."""
    with sqlite3.connect(service.data / "service.sqlite") as table:
        old = table.execute("SELECT token, created, settings, plan FROM runs LIMIT 1").fetchone()
        table.execute(
            "INSERT INTO runs (id, number, token, state, created, settings, job, plan) "
            "VALUES ('00000000000000ff', 1000000, ?, 'queued', ?, ?, '{}', ?)",
            old,
        )
    run = service.submit(RUN, ANN)

    assert service.wait(run, ANN)["state"] == "finished"
    broken = service.run("00000000000000ff", BOSS)
    assert (broken["state"], broken["reason"]) == (
        "failed",
        "it cannot be started: an error in explaineval (KeyError).",
    )
    assert service.ask("GET", "/readyz").status == 200
    assert service.ask("DELETE", "/api/runs/00000000000000ff", token=BOSS).status == 204


def test_a_list_says_what_each_run_says(service: Service, finished: dict[str, Any]) -> None:
    """SQLite reads it out of the same documents."""
    rows = {row["id"]: row for row in service.ask("GET", "/api/runs?limit=200", token=TOKENS["boss"]).document["runs"]}
    row = rows[finished["id"]]

    assert row["tasks"] == finished["settings"]["tasks"]
    assert row["models"] == [model["model"] for model in finished["settings"]["models"]]
    assert row["requests"] == finished["plan"]["total"]["distinct"] > 0
    assert row["done"] == sum(model["done"] for model in finished["progress"]["models"]) == row["requests"]
    for name in ("state", "reason", "token", "created", "started", "ended", "usd", "max_usd"):
        assert row[name] == finished[name], name
