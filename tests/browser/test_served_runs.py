"""The pages of runs in a browser: every state, stopped and continued, compared, copied, deleted, and two thousand."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from playwright.sync_api import expect
from served_pages import EVIL, LOOKS, PHONE, TOKENS, Windows, plant_run

from explaineval.service.processes.states import State
from explaineval.service.table import StateFile
from servers.planted import PlantedServer
from servers.service import RUN, Service

USER, TOKEN = "keeper", TOKENS["keeper"]
TWELVE = {f"openai/{maker}/Model-{number}-Instruct": "lab" for number in range(6) for maker in ("Alpha", "Beta")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "models", "done", "shown"),
    [
        ("queued", {"openai/m": "lab"}, 0, "It starts when a worker is free"),
        ("running", {"openai/m": "lab"}, 0, "Its process is starting."),
        ("running", TWELVE, 765_432, "9,185,184 of 14,814,804 requests"),
        ("stopping", {"openai/m": "lab"}, 765_432, "stopping"),
        ("stopped", {"openai/m": "lab"}, 765_432, "What is in the cache is not asked again."),
        ("interrupted", {"openai/m": "lab"}, 765_432, "The reason of it."),
        ("failed", {EVIL: EVIL}, 65_432, "<img src=x onerror=alert(1)>"),
    ],
    ids=["queued", "starting", "twelve-models", "stopping", "stopped", "interrupted", "failed-hostile"],
)
def test_a_run_in_each_state(
    window: Windows, pages_service: Service, state: State, models: Mapping[str, str], done: int, shown: str
) -> None:
    """It is said in words, fits a phone, and has the buttons of its state; nothing that it says is executed."""
    opened = window()
    page = opened.log_in(USER)
    hostile = models == {EVIL: EVIL}
    reason = (EVIL if hostile else "the reason of it.") if state in ("interrupted", "failed", "stopped") else None
    tasks = ("sense", f"jsonl:{EVIL}") if hostile else ("sense", "nli")
    run = plant_run(pages_service, "0" * 15 + "a", USER, state, models, done=done, reason=reason, tasks=tasks)
    try:
        opened.go(f"/runs/{run}")
        expect(page.locator("main")).to_contain_text(shown)
        if models is TWELVE:
            expect(page.locator("main")).to_contain_text("mean of 6 conditions")
        assert page.get_by_role("button", name="Stop").count() == (state in ("queued", "running"))
        assert page.get_by_role("button", name="Continue").count() == (state in ("stopped", "interrupted", "failed"))
        opened.assert_readable()
        if hostile:
            opened.go("/runs")
            expect(page.locator("main")).to_contain_text("<img src=x onerror=alert(1)>")
            opened.go(f"/new?copy={run}")
            expect(page.get_by_label("Model", exact=True).first).to_have_value(EVIL)
        opened.assert_quiet()
    finally:
        table = StateFile(pages_service.data)
        table.delete_run(run)
        table.close()


@pytest.mark.slow
def test_a_new_state_is_told_at_once(window: Windows, pages_service: Service) -> None:
    """To those who do not see the page: with the first event in another state, before any other sentence is due."""
    run = plant_run(pages_service, "0" * 15 + "b", USER, "running", {"openai/m": "lab"}, done=5)
    try:
        opened = window()
        page = opened.log_in(USER)
        shown = pages_service.ask("GET", f"/runs/{run}/live", token=TOKEN).body.decode()
        waiting = shown.replace('data-state="running"', 'data-state="waiting"').replace(
            "The run is running", "The run is waiting"
        )
        page.route("**/live", lambda route: route.fulfill(body=waiting, content_type="text/html"))
        event = "event: run\ndata: {}\n\n"
        page.route("**/events", lambda route: route.fulfill(body=event, content_type="text/event-stream"))
        opened.go(f"/runs/{run}")
        expect(page.locator("#status")).to_have_text("The run is waiting: 5 of 1,234,567 requests are done.")
    finally:
        table = StateFile(pages_service.data)
        table.delete_run(run)
        table.close()


@pytest.mark.slow
def test_a_newcomer_is_told_how_to_begin(window: Windows) -> None:
    """Without runs, uploads or answers each page says so."""
    opened = window()
    page = opened.log_in("newcomer")
    for path, shown in (
        ("/runs", "There is no run yet."),
        ("/compare", "No run is finished yet."),
        ("/endpoints", "There are none yet."),
        ("/new", "Nothing is sent before you start it."),
        ("/runs?before=1", "There are no older runs."),
    ):
        opened.go(path)
        expect(page.locator("main")).to_contain_text(shown)
        opened.assert_readable()
    opened.assert_quiet()


@pytest.mark.slow
def test_a_run_is_stopped_continued_copied_and_deleted(
    window: Windows, planted: PlantedServer, pages_service: Service
) -> None:
    """From its page alone; what was paid for is not asked again, and what is wrong is said on a page."""
    for name, path in (
        ("planted.jsonl", planted.table.write_task(pages_service.directory / "planted.jsonl")),
        ("words.jsonl", planted.table.write_interventions(pages_service.directory / "words.jsonl")),
    ):
        pages_service.ask("PUT", f"/api/files/{name}", path.read_bytes(), TOKEN)
    settings = {
        "tasks": ["jsonl:planted.jsonl"],
        "models": [{"model": "openai/second", "endpoint": "lab"}],
        "interventions": {"file": "words.jsonl"},
        "seed": 7,
    }
    run = pages_service.submit(settings, TOKEN)
    opened = window()
    page = opened.log_in(USER)
    opened.go(f"/runs/{run}")
    expect(page.locator("#live data").first).to_be_visible(timeout=30_000)
    page.locator("#live .scroll").focus()
    before = page.locator("#live").inner_html()
    page.wait_for_function("(before) => document.getElementById('live').innerHTML !== before", arg=before)
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Models"
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".state")).to_have_text("stopped", timeout=60_000)
    opened.assert_readable()
    asked = sum(one.body["model"] == "second" for one in planted.received)
    assert 0 < asked < pages_service.run(run, TOKEN)["plan"]["total"]["distinct"]

    page.get_by_label("Spending limit in dollars").fill("cheap")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("alert")).to_contain_text("The new limit must be a number of dollars; 'cheap' is none.")
    opened.go(f"/runs/{run}")
    page.get_by_role("button", name="Continue").click()
    expect(page.locator(".state")).to_have_text("finished", timeout=60_000)
    bodies = [one.digest for one in planted.received if one.body["model"] == "second"]
    assert len(bodies) == pages_service.run(run, TOKEN)["plan"]["total"]["distinct"]
    assert len(bodies) - len(set(bodies)) <= planted.table.examples  # a sham asks a prompt a second time

    page.get_by_role("link", name="New run with these settings").click()
    expect(page.locator("#settings")).to_contain_text('"openai/second"')
    assert json.loads(page.locator("#settings").text_content() or "") == settings
    opened.go(f"/runs/{run}")
    page.get_by_text("Delete the run").click()
    page.get_by_role("button", name="Delete").click()
    page.wait_for_url("**/runs")
    assert page.locator(f"a[href='/runs/{run}']").count() == 0
    opened.go(f"/runs/{run}")
    expect(page.get_by_role("alert")).to_contain_text("There is no run")
    opened.assert_quiet(404, 422)


@pytest.mark.slow
def test_two_runs_are_compared(window: Windows, pages_service: Service) -> None:
    """Chosen from those that are finished; the differences are those of the API."""
    runs = [
        pages_service.submit(RUN | {"models": [{"model": f"simulated/{name}"}], "limit": 30}, TOKEN)
        for name in ("faithful", "random")
    ]
    for run in runs:
        assert pages_service.wait(run, TOKEN)["state"] == "finished"
    opened = window()
    page = opened.log_in(USER)
    opened.go("/compare")
    for name in ("faithful", "random"):
        page.get_by_label(f"simulated/{name}").first.check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Differences", exact=True)).to_be_visible(timeout=60_000)
    found = pages_service.ask("POST", "/api/comparisons", {"runs": runs}, TOKEN).document
    primary = next(row for row in found["rows"] if row["primary"])

    shown = {float(one.get_attribute("value") or "nan") for one in page.locator("td data").all()}
    assert {primary["difference"], -primary["difference"]} & shown
    expect(page.locator("main")).to_contain_text("simulated, not language models")
    opened.assert_readable()
    opened.go("/compare?run=0000000000000000")
    expect(page.get_by_role("alert")).to_contain_text("There is no run")
    opened.go("/compare?run=../../etc")
    expect(page.get_by_role("alert")).to_contain_text("16 digits")
    opened.go("/cache")
    expect(page.locator("main")).to_contain_text("simulated/faithful")
    opened.assert_readable()
    opened.assert_quiet(404, 422)


@pytest.mark.slow
def test_two_thousand_runs_have_pages(window: Windows, pages_service: Service) -> None:
    """Each run is on one page, the newest first."""
    table = StateFile(pages_service.data)
    plan = {
        "models": [],
        "warnings": [],
        "total": {"planned": 1, "distinct": 1, "hits": 0, "misses": 1, "tokens_in": 1},
    }
    plan["total"] |= {
        "tokens_out": (case := dict.fromkeys(("low", "expected", "worst"), 0)),
        "usd": case,
        "usd_saved": 0,
    }
    values = [json.dumps(one) for one in ({"tasks": ["sense"], "models": [{"model": "openai/m"}]}, {}, plan)]
    with table._transaction() as writer:
        writer.executemany(
            "INSERT INTO runs (id, number, token, state, created, settings, job, plan) VALUES "
            "(?, (SELECT COALESCE(MAX(number), 0) + 1 FROM runs), 'reader', 'stopped', '2026-11-25T10:00:00+00:00', "
            "?, ?, ?)",
            [(f"{number:016x}", *values) for number in range(0x10000, 0x10000 + 2000)],
        )
    table.close()
    opened = window(PHONE)
    page = opened.log_in("reader")
    expect(page.locator("main")).to_contain_text("2,000 runs")
    opened.assert_readable(LOOKS[-1:])
    seen: list[str] = []
    while True:
        seen += page.evaluate("[...document.querySelectorAll('th.name a')].map((one) => one.pathname)")
        older = page.get_by_role("link", name="Older runs")
        if not older.count():
            break
        opened.go(older.get_attribute("href") or "")

    assert seen == [f"/runs/{number:016x}" for number in reversed(range(0x10000, 0x10000 + 2000))]
    opened.assert_quiet()


@pytest.mark.slow
def test_an_unknown_address_is_a_page_for_browsers_and_a_document_for_scripts(window: Windows) -> None:
    """Under /api it is always a document."""
    opened = window()
    page = opened.log_in(USER)
    for path in ("/nope", "/runs/nope", "/runs/0000000000000bad", "/new?copy=%3Cscript%3E"):
        opened.go(path)
        expect(page.get_by_role("alert")).to_be_visible()
        expect(page.get_by_role("link", name="All runs")).to_be_visible()
        opened.assert_readable()
    service = opened.service
    html = {"Accept": "text/html"}

    assert service.ask("GET", "/nope").document["error"]["code"] == "not_found"
    assert service.ask("GET", "/api/nope", headers=html).document["error"]["code"] == "not_found"
    reply = service.ask("DELETE", "/new", headers=html, token=TOKEN)
    assert (reply.status, reply.headers["content-type"]) == (405, "text/html; charset=utf-8")
    opened.assert_quiet(404, 422)
