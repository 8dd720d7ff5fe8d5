"""The browser of trials, used as a reader uses it: filters, outcomes, search, links, keys, copying."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from opened_pages import Open, make_report
from playwright.sync_api import Page, expect

from explaineval.records import Trial
from makers.reports import CUES, EXAMPLES, LARGE, LEVELS, MODELS, OUTCOMES
from makers.runs import make_run, make_trial

ARMS = len(MODELS) * len(LEVELS)


def outcome(page: Page, cell: str) -> str:
    """What the button of an outcome says."""
    return page.locator(f'[data-outcome="{cell}"]').inner_text()


def listed(page: Page) -> list[str]:
    """The trials on this page of the list."""
    return page.locator("#trials-list li").all_inner_texts()


def test_the_page_is_quiet_and_counts_every_outcome(report: Path, open_page: Open) -> None:
    """The counts are those of the run; nothing is loaded, nothing is complained of."""
    opened = open_page(report)
    page = opened.page

    for cell in "abcd":
        assert outcome(page, cell).startswith(f"{ARMS * (OUTCOMES[cell] + CUES.get(cell, 0))} ")
    for status in ("unparsed", "refused"):
        assert outcome(page, status).startswith(f"{ARMS * OUTCOMES[status]} ")
    expect(page.locator("#trials-count")).to_have_text(f"{ARMS * (sum(OUTCOMES.values()) + EXAMPLES)} trials")
    assert len(listed(page)) == 20
    opened.assert_quiet()


def test_filters_and_outcomes_narrow_the_list(report: Path, open_page: Open) -> None:
    """They can be put together, and the back button takes them back one by one."""
    page = open_page(report).page

    page.locator("#trials").get_by_label("Model").select_option(label=LARGE)
    page.locator("#trials").get_by_label("Kind of insertion").select_option("cue_user")
    page.locator("#trials").get_by_label("Asked as").select_option(LEVELS[1])
    assert outcome(page, "b") == f"{CUES['b']} changed, not mentioned"
    page.locator('[data-outcome="b"]').click()

    expect(page.locator("#trials-count")).to_have_text("4 trials")
    rows = listed(page)
    assert len(rows) == CUES["b"]
    assert all(LARGE in row and "cue A → B" in row for row in rows)
    assert page.locator('[data-outcome="b"]').get_attribute("aria-pressed") == "true"
    page.go_back()
    expect(page.locator("#trials-count")).to_have_text("12 trials")
    page.go_back()
    expect(page.locator("#trials").get_by_label("Asked as")).to_have_value("")
    expect(page.locator("#trials-count")).to_have_text("24 trials")
    page.go_back()
    page.go_back()
    expect(page.locator("#trials").get_by_label("Model")).to_have_value("")
    expect(page.get_by_role("link", name="Clear all filters")).to_be_hidden()


@pytest.mark.slow
def test_all_filters_are_cleared_at_once(report: Path, open_page: Open) -> None:
    """The link stands there as long as something is filtered."""
    page = open_page(report, f"#cell=b&asked={LEVELS[0]}&q=clerk").page
    expect(page.locator("#trials-count")).to_have_text("14 trials with “clerk”")

    page.get_by_role("link", name="Clear all filters").click()

    expect(page.locator("#trials-count")).to_have_text("288 trials")
    expect(page.locator("#trials").get_by_label("Search in inputs")).to_have_value("")


@pytest.mark.slow
def test_statuses_are_a_filter_too(report: Path, open_page: Open) -> None:
    """And a trial without a score says why it has none."""
    page = open_page(report, "#cell=refused").page

    expect(page.locator("#trials-count")).to_have_text(f"{ARMS} trials")
    page.locator("#trials-list a").first.click()

    verdict = page.locator("#trials-verdict")
    expect(verdict).to_have_text("No score. With the insertion: the model declined to answer.")


def test_search_finds_words_in_any_text(report: Path, open_page: Open) -> None:
    """All words have to occur, in any case; the history has no entry for each letter."""
    page = open_page(report).page
    search = page.locator("#trials").get_by_label("Search in inputs")

    search.fill("think ABOUT")

    expect(page.locator("#trials-count")).to_have_text(re.compile(f"^{ARMS} trials with “think ABOUT”$"))
    assert outcome(page, "a").split() == ["28", "changed,", "mentioned", "4", "match"]
    assert page.evaluate("history.length") == 2
    search.fill("think nowhere")
    expect(page.locator("#trials-count")).to_have_text("No trial on this page with “think nowhere” fits.")
    search.fill("")
    expect(page.locator("#trials-count")).to_have_text(re.compile(r"^288 trials$"))


def test_an_open_trial_shows_both_sides(report: Path, open_page: Open) -> None:
    """The insertion and each mention are marked, and a screen reader is told so."""
    name = Trial.model_validate(make_trial(0, 0) | {"model": LARGE, "verbosity": "brief"}).id
    opened = open_page(report, f"#trial={name}")
    page = opened.page

    expect(page.locator("#trials-verdict")).to_have_text(
        "The answer changed from A to B, and the explanation mentions “grumpy”."
    )
    before, after = page.locator(".trials-side").all()
    assert before.get_attribute("aria-label") == "Without the insertion"
    assert "The clerk 0 waits." in before.inner_text()
    assert before.locator("ins, mark").count() == 0
    assert after.locator("ins").all_text_contents() == ["[inserted: grumpy]"]
    assert after.locator("mark").all_text_contents() == ["[mention: grumpy]"]
    assert "A 0.750, B 0.250" in before.inner_text()
    assert "A 0.200, B 0.800" in after.inner_text()
    assert "no (not the right answer)" in after.inner_text()
    after.get_by_text("29 characters").click()
    expect(after.get_by_text("Let me think about the clerk.")).to_be_visible()
    assert "explaineval show RUN_DIR --example e0" in page.locator("#trials-detail").inner_text()
    opened.assert_quiet()


def test_a_link_restores_filters_and_trial(report: Path, open_page: Open) -> None:
    """Whatever is chosen is in the address, so that it can be sent and comes back."""
    page = open_page(report).page
    page.locator("#trials").get_by_label("Model").select_option(label=LARGE)
    page.locator('[data-outcome="c"]').click()
    page.locator("#trials").get_by_label("Search in inputs").fill("grumpy")
    expect(page.locator("#trials-count")).to_contain_text("14 trials with")
    page.locator("#trials-list a").nth(3).click()
    verdict = page.locator("#trials-verdict").inner_text()
    address = page.evaluate("location.hash")

    again = open_page(report, address).page

    assert again.locator("#trials-verdict").inner_text() == verdict
    expect(again.locator("#trials").get_by_label("Model")).to_have_value(LARGE)
    expect(again.locator("#trials").get_by_label("Search in inputs")).to_have_value("grumpy")
    assert again.locator('[data-outcome="c"]').get_attribute("aria-pressed") == "true"
    assert again.locator("#trials-list [aria-current]").count() == 1
    expect(again.locator("#trials-verdict")).to_be_in_viewport()


@pytest.mark.slow
def test_the_back_button_closes_a_trial(report: Path, open_page: Open) -> None:
    """And the trial before it opens again."""
    page = open_page(report).page
    page.locator("#trials-list a").nth(1).click()
    first = page.evaluate("location.hash")
    page.locator("#trials-list a").nth(2).click()
    expect(page.locator("#trials-list [aria-current]")).to_have_count(1)

    page.go_back()
    assert page.evaluate("location.hash") == first
    expect(page.locator("#trials-list a").nth(1)).to_have_attribute("aria-current", "true")
    page.go_back()
    expect(page.locator("#trials-verdict")).to_have_text("Choose a trial to see what was asked and what came back.")


def test_keys_move_open_and_close(report: Path, open_page: Open) -> None:
    """The list is one stop for the Tab key; arrows and letters move within it, and the focus is never lost."""
    page = open_page(report).page
    links = page.locator("#trials-list a")
    links.first.focus()

    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(links.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#trials-verdict")).to_be_focused()
    expect(links.nth(1)).to_have_attribute("aria-current", "true")
    page.keyboard.press("j")
    expect(links.nth(2)).to_have_attribute("aria-current", "true")
    expect(page.locator("#trials-verdict")).to_be_focused()
    page.keyboard.press("k")
    expect(links.nth(1)).to_have_attribute("aria-current", "true")
    page.keyboard.press("Escape")
    expect(links.nth(1)).to_be_focused()
    assert links.evaluate_all("links => links.filter((link) => link.tabIndex === 0).length") == 1


@pytest.mark.slow
def test_letters_typed_into_the_search_are_letters(report: Path, open_page: Open) -> None:
    """Not keys that move."""
    page = open_page(report).page
    page.locator("#trials").get_by_label("Search in inputs").press_sequentially("jk")

    expect(page.locator("#trials").get_by_label("Search in inputs")).to_have_value("jk")


@pytest.mark.slow
def test_pages_of_the_list(report: Path, open_page: Open) -> None:
    """Numbers go on, and a trial opened by its link is on the page of the list that is shown."""
    page = open_page(report).page
    page.get_by_role("button", name="Later").click()

    expect(page.locator("#trials-page")).to_have_text("page 2 of 15")
    assert page.locator("#trials-list ol").get_attribute("start") == "21"
    name = page.locator("#trials-list a").first.get_attribute("data-trial")
    again = open_page(report, f"#trial={name}").page
    expect(again.locator("#trials-page")).to_have_text("page 2 of 15")
    expect(again.locator("#trials-list a").first).to_have_attribute("aria-current", "true")


@pytest.mark.slow
def test_a_link_is_copied(report: Path, open_page: Open) -> None:
    """From a page that was opened from the disk; it holds the trial alone."""
    page = open_page(report, "#cell=b", permissions=["clipboard-read", "clipboard-write"]).page
    page.locator("#trials-list a").first.click()
    name = page.locator("#trials-list [aria-current]").get_attribute("data-trial")

    page.get_by_role("button", name="Copy link").click()

    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == f"{report.as_uri()}#trial={name}"


@pytest.mark.slow
def test_a_link_is_copied_without_a_clipboard(report: Path, open_page: Open) -> None:
    """Some browsers give a page from the disk none: then the older way is used."""
    page = open_page(report, "#cell=b").page
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.evaluate("document.addEventListener('copy', () => (window.copied = getSelection().toString()))")
    page.locator("#trials-list a").first.click()

    page.get_by_role("button", name="Copy link").click()

    expect(page.get_by_text("Copied.")).to_be_visible()
    assert "#trial=" in page.evaluate("window.copied")


@pytest.mark.slow
def test_the_same_input_of_other_models_is_one_click_away(report: Path, open_page: Open) -> None:
    """So that two models can be compared on it."""
    page = open_page(report, f"#model={quote(LARGE, safe='')}&cell=b&asked=brief").page
    page.locator("#trials-list a").first.click()

    page.get_by_text("The same input elsewhere on this page: 3 trials").click()
    page.get_by_role("link", name="openai/smol · brief").click()

    expect(page.locator(".trials-facts")).to_contain_text("openai/smol")


@pytest.mark.slow
def test_trials_of_two_runs_are_told_apart(tmp_path: Path, open_page: Open) -> None:
    """The same trial of each has a link of its own, and the run is a filter and stands in each row."""
    runs = [make_run(tmp_path / name, [make_trial(0, 0, changed=name == "new")], 1) for name in ("old", "new")]
    page = open_page(make_report(*runs, out=tmp_path / "report.html")).page
    name = Trial.model_validate(make_trial(0, 0)).id

    assert [row.split("\n")[-1] for row in listed(page)] == [f"{run} · openai/smol · e0" for run in ("old", "new")]
    page.locator("#trials").get_by_label("Run").select_option("new")
    page.locator("#trials-list a").click()
    assert page.locator("#trials-list a").get_attribute("data-trial") == f"{name}-2"
    expect(page.locator("#trials-verdict")).to_contain_text("The answer changed from A to B")
    page.get_by_text("The same input elsewhere on this page: 1 trial").click()
    page.get_by_role("link", name="old", exact=True).click()
    expect(page.locator("#trials-verdict")).to_contain_text("The answer stayed A")


@pytest.mark.slow
def test_an_unknown_trial_and_unknown_filters_are_no_error(report: Path, open_page: Open) -> None:
    """A link to another page's trial says so; a filter that does not exist is no filter."""
    opened = open_page(report, "#trial=feed&model=none&cell=zz&page=-3&toString=1")
    page = opened.page

    expect(page.locator("#trials-verdict")).to_have_text("The trial feed is not on this page.")
    expect(page.locator("#trials-count")).to_have_text("288 trials")
    opened.assert_quiet()


@pytest.mark.slow
def test_links_to_other_parts_of_the_page_leave_the_trials_as_they_are(report: Path, open_page: Open) -> None:
    """Only what holds a filter or a trial is read."""
    page = open_page(report, "#cell=b").page
    page.evaluate("location.hash = '#main'")

    expect(page.locator("#trials-count")).to_have_text("28 trials")


def test_without_script_a_sentence_says_what_is_missing(report: Path, open_page: Open) -> None:
    """And no control stands there that does nothing."""
    page = open_page(report, java_script_enabled=False).page

    expect(page.locator("#trials-no-script")).to_be_visible()
    expect(page.locator("#trials-browser")).to_be_hidden()
