"""What operators do: serve below a path, change serve.yaml while the service goes, read sums of all users."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from pathlib import Path

import pytest

from explaineval.datasets import taggers
from explaineval.errors import InputError
from explaineval.service import runs
from explaineval.service.auth import User
from explaineval.service.models import RunSettings
from explaineval.service.runs import RunService
from explaineval.service.settings import Settings, TokenSettings, needing_restart
from explaineval.service.submissions import read_submission
from explaineval.service.table import Reservation, StateFile
from makers.waiting import wait_for
from servers.service import ENVIRONMENT, RUN, SETTINGS, TOKENS, Service

ANN, BOB, BOSS = TOKENS["ann"], TOKENS["bob"], TOKENS["boss"]
BASE = "/group/explaineval"


@pytest.mark.slow
def test_all_addresses_of_a_service_have_its_path(tmp_path: Path) -> None:
    """Links, forms, redirects, the cookie and the stream of events; a proxy may take the path away or not."""
    service = Service(tmp_path / "service", SETTINGS | {"base_path": BASE + "/"}, ENVIRONMENT)
    service.start()
    try:
        login = service.ask(
            "POST", f"{BASE}/login", f"token={BOB}&next=/new".encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )  # fmt: skip
        cookie = login.headers["set-cookie"]
        session = {"Cookie": cookie.partition(";")[0]}
        run = service.ask("POST", f"{BASE}/api/runs", RUN, BOB).document["id"]
        service.wait(run, BOB)
        pages = [service.ask("GET", f"{BASE}{path}", headers=session) for path in ("/runs", "/new", f"/runs/{run}")]
        stripped = service.ask("GET", "/runs", headers=session)
        sent_on = [service.ask("GET", path).headers["location"] for path in (BASE, f"{BASE}/", f"{BASE}/new", "/")]
        slash = service.ask("GET", f"{BASE}/runs/", headers=session)
        events = service.ask("GET", f"{BASE}/api/runs/{run}/events", token=BOB)
        description = service.ask("GET", f"{BASE}/openapi.json").document
        health = [service.ask("GET", f"{path}/readyz").status for path in (BASE, "")]
        foreign = service.ask("GET", f"{BASE}x/readyz").status
    finally:
        service.stop()

    assert (login.status, login.headers["location"]) == (303, f"{BASE}/new")
    assert f"Path={BASE};" in cookie
    for page in (*pages, stripped):
        links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.body.decode())
        assert page.status == 200
        assert len(links) > 5
        assert all(link.startswith(f"{BASE}/") for link in links)
        assert f'data-base="{BASE}"' in page.body.decode()
    assert sent_on == [f"{BASE}/runs", f"{BASE}/runs", f"{BASE}/login?next=/new", f"{BASE}/runs"]
    assert slash.headers.get("location", f"{BASE}/runs") == f"{BASE}/runs"
    assert b"event: end" in events.body
    assert description["servers"] == [{"url": BASE}]
    assert (health, foreign) == ([200, 200], 404)


@pytest.mark.parametrize("path", ["group", "//evil.example", "/a b", "/a/../b", "/a?b", '/"'])
def test_a_base_path_is_a_path(path: str) -> None:
    """Anything else is refused when the file is read."""
    with pytest.raises(ValueError, match="is no path"):
        Settings(base_path=path)


@pytest.mark.slow
def test_sighup_reads_the_file_again(tmp_path: Path) -> None:
    """Tokens, budgets and limits change, runs are kept; a file with an error changes nothing."""
    tokens = {}
    for name, text in TOKENS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
        tokens[name] = {"token_file": str(tmp_path / name)}
    settings = {"tokens": {"bob": tokens["bob"]}, "embedded": False}
    service = Service(tmp_path / "service", settings)
    service.start()
    try:
        assert service.process is not None
        config = service.directory / "serve.yaml"
        run = service.submit(RUN, BOB)
        before = service.ask("GET", "/api/runs", token=ANN).status
        changed = {
            "tokens": {"bob": tokens["bob"] | {"max_usd": 3}, "ann": tokens["ann"]}, "embedded": False,
            "limits": {"connections": 100},
        }  # fmt: skip
        config.write_text(json.dumps(changed))
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: service.ask("GET", "/api/runs", token=ANN).status == 200)
        budget = service.ask("GET", "/api/session", token=BOB).document["max_usd"]
        config.write_text('{"tokens": 5}')
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: '"refused"' in service.log())
        config.write_text(json.dumps({"tokens": {"ann": tokens["ann"]}, "embedded": False}))
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: service.ask("GET", "/api/runs", token=BOB).status == 401)
        config.write_text(json.dumps(changed))
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: service.ask("GET", "/api/runs", token=BOB).status == 200)
        state = service.wait(run, BOB)["state"]
    finally:
        service.stop()
    lines = [json.loads(line) for line in service.log().splitlines()]
    reloads = [line for line in lines if line["event"] == "reload"]

    assert (before, budget, state) == (401, 3, "finished")
    assert [line["state"] for line in reloads] == ["done", "refused", "done", "done"]
    assert reloads[0]["needs_restart"] == "limits.connections"
    assert "serve.yaml:1: tokens" in reloads[1]["reason"]


def test_what_needs_a_restart_is_named() -> None:
    """Keys that count only at the start, and rates of an endpoint that is there."""
    before = Settings.model_validate({"endpoints": {"lab": {"base_url": "http://127.0.0.1:1/v1"}}})
    after = Settings.model_validate(
        {
            "endpoints": {
                "lab": {"base_url": "http://127.0.0.1:2/v1", "rpm": 5},
                "new": {"base_url": "http://127.0.0.1:3/v1", "rpm": 5},
            },
            "base_path": "/x", "limits": {"workers": 9, "idle_seconds": 3},
        }
    )  # fmt: skip

    assert needing_restart(before, after) == ["base_path", "limits.idle_seconds", "endpoints.lab.rpm"]


def test_dollars_of_tokens_are_for_them_and_for_admins(service: Service) -> None:
    """A user sees their own numbers, an admin all."""
    own = service.ask("GET", "/metrics", token=BOB).body.decode()
    whole = service.ask("GET", "/metrics", token=BOSS).body.decode()

    assert set(re.findall(r'_spent_usd\{token="(\w+)"', own)) == {"bob"}
    assert set(re.findall(r'_spent_usd\{token="(\w+)"', whole)) == {"ann", "bob", "boss"}
    assert 'explaineval_token_left_usd{token="ann"}' in whole
    assert set(re.findall(r'_token_(?:runs|requests_total)\{.*token="(\w+)"', own)) == {"bob"}
    assert set(re.findall(r'_token_(?:runs|requests_total)\{.*token="(\w+)"', whole)) == {"ann", "bob", "boss"}


def test_sums_for_admins_have_what_former_tokens_spent(tmp_path: Path) -> None:
    """A token that serve.yaml names no longer; users see their own."""
    table = StateFile(tmp_path)
    table.book([Reservation(1, "r", "former", 2.0), Reservation(1, "r", "former", 2.0, 1.5)])
    table.close()
    tokens = {name: TokenSettings(token_file=tmp_path, admin=name == "boss") for name in ("ann", "boss")}
    service = RunService(tmp_path, Settings(tokens=tokens, embedded=False), {"ann": b"1", "boss": b"2"})
    service.ledger.load()
    told = asyncio.run(service.metrics(User("boss", admin=True))).decode()
    seen = [service.tokens_for(User(name, admin=name == "boss")) for name in tokens]
    service.table.close()

    assert seen == [["ann"], ["ann", "boss", "former"]]
    assert 'explaineval_token_spent_usd{token="former"} 1.5' in told


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, False),
        ({"interventions": {"kind": "random_word"}}, True),
        ({"tasks": ["sense", "jsonl:own"]}, True),
        ({"tasks": ["jsonl:own"], "interventions": {"file": "words"}}, False),
    ],
)
def test_without_a_tagger_random_words_are_refused(tmp_path: Path, changes: dict[str, object], refused: bool) -> None:
    """In a sentence for users, without commands of an operator; what needs no tagger is taken."""
    path = tmp_path / "own.jsonl"
    path.write_text("")
    settings = RunSettings.model_validate(RUN | changes)

    def read() -> None:
        read_submission(settings, Settings(), None, lambda _: path, has_tagger=False)

    if refused:
        with pytest.raises(InputError, match=r"^interventions: this service cannot insert random words") as caught:
            read()
        assert "pip" not in str(caught.value)
    else:
        read()


def test_only_what_works_is_offered(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind that is offered is taken, and every file that is listed can be fetched."""
    kinds = service.ask("GET", "/api/endpoints", token=BOB).document["kinds"]
    run = service.submit(RUN | {"interventions": {"kind": kinds[0]}}, BOB)
    assert service.wait(run, BOB)["state"] == "finished"
    page = service.ask("GET", f"/runs/{run}", token=BOB).body.decode()
    links = re.findall(rf'href="(/api/runs/{run}/files/[^"]*)"', page)

    assert kinds == ["random_word"]
    assert f"/api/runs/{run}/files/metrics.parquet" in links
    assert {link: service.ask("GET", link, token=BOB).status for link in links} == dict.fromkeys(links, 200)
    assert "/api/exports" not in service.ask("GET", "/openapi.json").body.decode()
    for module in (runs, taggers):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert not [name for name in runs.exports() if "parquet" in name]
    assert taggers.find_tagger() is None
