"""The report page for everybody: no barrier that axe-core finds, at any width, in light and dark, and on paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from axe_playwright_python.base import AxeResults
from axe_playwright_python.sync_playwright import Axe
from opened_pages import DESKTOP, PHONE, Open
from playwright.sync_api import Page, expect


def first_trial(page: Page) -> str:
    """The name of the first trial in the list."""
    return page.locator("#trials-list a").first.get_attribute("data-trial") or ""


def barriers(results: AxeResults) -> list[str]:
    """What axe-core found: the rule and the element."""
    return [f"{rule['id']}: {node['html'][:120]}" for rule in results.response["violations"] for node in rule["nodes"]]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("size", "scheme", "opens"),
    [(DESKTOP, "light", True), (DESKTOP, "dark", True), (PHONE, "light", False), (PHONE, "dark", True)],
    ids=["desktop-light", "desktop-dark", "phone-light-list", "phone-dark-trial"],
)
def test_axe_finds_no_barrier(report: Path, open_page: Open, size: tuple[int, int], scheme: str, opens: bool) -> None:
    """Contrast, names, order of headings, and what else axe-core checks; an open trial hides the list on a phone."""
    page = open_page(report, "#cell=a&q=think", size=size, color_scheme=scheme).page
    if opens:
        page.locator("#trials-list a").first.click()
        expect(page.locator(".trials-side")).to_have_count(2)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")

    results = Axe().run(page)

    assert barriers(results) == []
    assert len(results.response["passes"]) > 20


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(report: Path, open_page: Open, width: int) -> None:
    """A reader never scrolls sideways, in the list or in a trial."""
    page = open_page(report, size=(width, 800)).page
    is_wider = "document.documentElement.scrollWidth > innerWidth"

    assert page.evaluate(is_wider) is False
    page.evaluate(f"location.hash = '#trial={first_trial(page)}'")
    expect(page.locator(".trials-side")).to_have_count(2)
    assert page.evaluate(is_wider) is False


def test_every_picture_has_a_text(report: Path, open_page: Open) -> None:
    """An image, or a drawing as a whole, has a name that a screen reader can say."""
    page = open_page(report).page

    nameless = page.evaluate(
        """[...document.querySelectorAll("img, svg")]
        .filter((one) => !one.closest("[aria-hidden=true]") && !one.parentElement.closest("svg"))
        .filter((one) => !(one.getAttribute("alt") || one.getAttribute("aria-label") || one.querySelector("title")
          || document.getElementById(one.getAttribute("aria-labelledby")?.split(" ")[0])))
        .map((one) => one.outerHTML.slice(0, 100))"""
    )
    assert nameless == []


@pytest.mark.slow
def test_on_a_phone_a_trial_takes_the_place_of_the_list(report: Path, open_page: Open) -> None:
    """Before and after stand below each other, and one link leads back to the list."""
    page = open_page(report, size=PHONE).page
    page.locator("#trials-list a").nth(2).click()

    expect(page.locator("#trials-list")).to_be_hidden()
    before, after = (one.bounding_box() for one in page.locator(".trials-side").all())
    assert before is not None
    assert after is not None
    assert after["y"] >= before["y"] + before["height"]
    page.get_by_role("link", name="Back to the list").click()
    expect(page.locator("#trials-list a").nth(2)).to_be_focused()


@pytest.mark.slow
def test_side_by_side_on_a_wide_window(report: Path, open_page: Open) -> None:
    """Each part of the one side is level with the same part of the other."""
    page = open_page(report, "#q=think").page
    page.locator("#trials-list a").first.click()

    sides = [one.locator(".trials-part").all() for one in page.locator(".trials-side").all()]
    tops = [[(part.bounding_box() or {"y": -1.0})["y"] for part in side] for side in sides]
    assert tops[0] == tops[1]
    assert len(tops[0]) == 5


@pytest.mark.slow
def test_on_paper_there_is_the_open_trial_and_no_control(report: Path, open_page: Open) -> None:
    """Without one there are the outcomes alone."""
    page = open_page(report).page
    page.emulate_media(media="print")
    expect(page.locator("#trials-filters")).to_be_hidden()
    expect(page.locator("#trials-list")).to_be_hidden()
    expect(page.locator("#trials-detail")).to_be_hidden()
    expect(page.locator("#trials-table")).to_be_visible()

    page.evaluate(f"location.hash = '#trial={first_trial(page)}'")

    expect(page.locator("#trials-verdict")).to_be_visible()
    expect(page.get_by_role("button", name="Copy link")).to_be_hidden()


def test_the_number_of_matches_is_announced(report: Path, open_page: Open) -> None:
    """A screen reader hears it when it changes."""
    page = open_page(report).page

    status = page.get_by_role("status").filter(has_text=re.compile("trials$"))
    expect(status).to_have_text("288 trials")
