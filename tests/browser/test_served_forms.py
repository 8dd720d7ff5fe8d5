"""The form of a new run in a browser: it says what is wrong and what it costs, and starts what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from served_pages import EVIL, PHONE, TOKENS, Windows

from servers.planted import PlantedServer
from servers.service import Service

USER = "writer"


def fill_model(page: Page, row: int, model: str, endpoint: str = "simulated, costs nothing") -> None:
    """Fill in one row of the models."""
    page.get_by_label("Where it is asked").nth(row).select_option(endpoint)
    page.get_by_label("Model", exact=True).nth(row).fill(model)


def wait_for_end(page: Page, state: str = "finished") -> None:
    """Wait until the page of a run, which nobody loads again, says that it is in this state."""
    expect(page.locator(".state")).to_have_text(state, timeout=60_000)


@pytest.mark.slow
def test_only_the_right_token_gets_in(window: Windows) -> None:
    """A page leads to the login and the login back to it; a wrong token is refused beside its field."""
    opened = window()
    page = opened.go("/compare")
    assert page.url.endswith("/login?next=/compare")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("The token is wrong.")
    expect(page.get_by_label("Token")).to_have_attribute("aria-describedby", "problem")
    opened.assert_readable()

    page.get_by_label("Token").fill(TOKENS[USER])
    page.keyboard.press("Enter")
    page.wait_for_url("**/compare")
    cookie = next(one for one in opened.context.cookies() if one["name"] == "explaineval_session")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")
    opened.go("/runs")

    assert page.url.endswith("/login?next=/runs")
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert TOKENS[USER] not in "".join(opened.requests)
    opened.assert_quiet(401)


@pytest.mark.slow
def test_the_price_and_what_is_wrong_follow_what_is_filled_in(window: Windows) -> None:
    """The sums are those of the API; an error stands beside its field, and goes when it is mended."""
    opened = window()
    page = opened.log_in(USER)
    opened.go("/new")
    price = page.locator("#price")
    expect(price).to_contain_text("Nothing is sent before you start it.")
    fill_model(page, 0, "openai/honest", "lab")
    page.get_by_label("Examples of each task").fill("3")
    expect(price).to_contain_text("Requests to send")
    settings = json.loads(page.locator("#settings").text_content() or "")
    plan = opened.service.ask("POST", "/api/plans", settings, TOKENS[USER]).document["total"]
    expect(price.locator("dd").nth(2)).to_have_text(str(plan["misses"]))
    dollars = float((price.locator("dd").nth(1).text_content() or "").removeprefix("$"))
    assert abs(dollars - plan["usd"]["worst"]) < 0.02 * dollars
    page.get_by_label("Examples of each task").fill("6")
    expect(price.locator("dd").nth(2)).not_to_have_text(str(plan["misses"]))

    problem = page.locator("#limit-problem")
    page.get_by_label("Examples of each task").fill("many")
    expect(problem).to_contain_text("Examples of each task: this must be a whole number")
    expect(page.get_by_label("Examples of each task")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Examples of each task").fill("3")
    expect(problem).to_be_hidden()
    fill_model(page, 1, EVIL, "lab")
    expect(page.locator("#models-problem")).to_contain_text("<img src=x")
    opened.assert_readable()
    opened.assert_quiet()


@pytest.mark.slow
def test_on_a_phone_the_price_stays_in_sight(window: Windows) -> None:
    """A line at the end of the window, which leads to the rest; a screen reader hears it once for each price."""
    opened = window(PHONE)
    page = opened.log_in(USER)
    opened.go("/new")
    assert page.locator("#price-summary").is_hidden()
    fill_model(page, 0, "faithful")
    page.get_by_label("Examples of each task").fill("2")

    expect(page.locator("#price-summary")).to_contain_text("$0 expected, $0 at the worst")
    expect(page.locator("#price-summary")).to_be_in_viewport()
    assert (page.locator("#price-status").text_content() or "") in (page.locator("#price-summary").text_content() or "")
    page.get_by_role("link", name="Price and start").click()
    expect(page.get_by_role("button", name="Start the run")).to_be_in_viewport()
    opened.assert_quiet()


@pytest.mark.slow
def test_a_planted_endpoint_is_asked_from_an_upload_to_the_report(
    window: Windows, planted: PlantedServer, pages_service: Service, tmp_path: Path
) -> None:
    """A task and insertions are uploaded, chosen, asked and followed to the end; the numbers are those of the file."""
    opened = window()
    page = opened.log_in(USER)
    for path in (
        planted.table.write_task(tmp_path / "planted.jsonl"),
        planted.table.write_interventions(tmp_path / "words.jsonl"),
    ):
        opened.go("/endpoints")
        page.get_by_label("A task or insertions").set_input_files(path)
        page.get_by_role("button", name="Upload").click()
        expect(page.locator("ul.plain")).to_contain_text(path.name)
    (tmp_path / "broken.jsonl").write_text('{"id": "x"}\n', encoding="utf-8")
    page.get_by_label("A task or insertions").set_input_files(tmp_path / "broken.jsonl")
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_role("alert")).to_contain_text("broken.jsonl")
    opened.assert_readable()

    opened.go("/new")
    page.get_by_label("sense").uncheck()
    page.get_by_label("planted.jsonl").check()
    fill_model(page, 0, "openai/honest", "lab")
    page.get_by_label("Insertions").select_option("your upload words.jsonl")
    page.get_by_role("button", name="Start the run").click()
    page.wait_for_url(re.compile("/runs/[0-9a-f]{16}$"))
    run = page.url.rpartition("/")[2]
    live = page.locator("#live data").first
    expect(live).to_be_visible(timeout=30_000)
    early = page.locator("#live .phi").text_content()
    expect(page.locator("#live .phi")).not_to_have_text(early or "", timeout=30_000)
    expect(page.locator("#live .phi")).to_contain_text("[", timeout=30_000)
    wait_for_end(page)
    rows = json.loads((pages_service.data / "runs" / run / "metrics.json").read_text(encoding="utf-8"))
    shown = [float(one.get_attribute("value") or "nan") for one in page.locator("#numbers-title ~ .scroll data").all()]
    found = {row["metric"]: row["value"] for row in rows if row["channel"] in (None, "explanation")}

    assert shown == [found[name] for name in ("phi_cct", "tpr", "fpr", "impact_rate")]
    assert page.locator("data.headline").text_content() == f"{found['phi_cct']:.2f}".replace("-", "−")
    assert {one.body["model"] for one in planted.received} == {"honest"}
    opened.assert_readable()
    page.get_by_role("link", name="Open the report").click()
    expect(page.locator("h1")).to_be_visible()
    assert page.url.endswith("/report")
    opened.assert_quiet(422)


@pytest.mark.slow
def test_without_scripts_the_form_shows_the_price_and_starts(window: Windows) -> None:
    """`Show the price` sends the form and keeps what is filled in; errors stand beside their fields."""
    opened = window(java_script_enabled=False)
    page = opened.log_in(USER)
    opened.go("/new")
    page.get_by_label("Model", exact=True).first.fill("faithful")
    page.get_by_label("Seed").fill("ten")
    page.get_by_role("button", name="Show the price").click()
    expect(page.locator("#seed-problem")).to_contain_text("Seed: this must be a whole number")
    page.get_by_label("Seed").fill("10")
    page.get_by_label("Examples of each task").fill("3")
    page.get_by_role("button", name="Show the price").click()
    expect(page.locator("#price")).to_contain_text("Requests to send")
    expect(page.get_by_label("Seed")).to_have_value("10")
    page.get_by_role("button", name="Start the run").click()

    page.wait_for_url(re.compile("/runs/[0-9a-f]{16}$"))
    opened.service.wait(page.url.rpartition("/")[2], TOKENS[USER])
    page.reload()
    expect(page.locator(".state")).to_have_text("finished")
    expect(page.locator("#numbers-title ~ .scroll")).to_contain_text("simulated, not a language model")


@pytest.mark.slow
def test_a_run_that_costs_too_much_is_refused_on_the_form(window: Windows) -> None:
    """With what is left of the budget; a lower limit mends it, and is wrong where it is no number."""
    opened = window()
    page = opened.log_in("poor")
    opened.go("/new")
    fill_model(page, 0, "openai/m", "dear")
    expect(page.locator("#price")).to_contain_text("Left of your budget")
    page.get_by_role("button", name="Start the run").click()
    expect(page.locator("#form-problem")).to_contain_text("$0.50 are left of the budget of poor")
    expect(page.get_by_label("Model", exact=True).first).to_have_value("openai/m")
    page.get_by_label("Spending limit in dollars").fill("much")
    page.get_by_role("button", name="Start the run").click()
    expect(page.locator("#max_usd-problem")).to_contain_text("Spending limit in dollars: ")
    opened.assert_readable()
    opened.assert_quiet(402, 422)
