"""A page made of what a hostile model said: nothing runs, nothing leaves, nothing breaks out of its place."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from opened_pages import DESKTOP, PHONE, Open
from playwright.sync_api import expect

from servers.commands import run
from servers.scripted import ScriptedServer

EVIL = (
    "<script>alert('script')</script>",
    "</script><script>alert('closed')</script><!--",
    "<img src=x onerror=alert('image')> <svg onload=alert('drawing')></svg>",
    "<a href=\"javascript:alert('link')\" style='position:fixed;inset:0'>click</a><iframe src=//evil.invalid></iframe>",
    "\"><textarea autofocus onfocus=alert('focus')>{{7*7}} {% raw %} ${alert('template')} `${alert(1)}`",
    "w" * 100_000,
    "one\ttwo\n\n\nthree\r\n" + "line\n" * 400,
    "\u202eright to left \u2066 isolate \u0000 nothing \u001b[31m red \u2028 line \u2029 paragraph \ufeff",
    "**bold** [link](javascript:alert('markdown')) $\\input{/etc/passwd}$ \\end{document} =HYPERLINK(\"http://evil.invalid\")",
    "שלום עולם مرحبا بالعالم 你好 \U0001f469\u200d\U0001f680 Z" + "\u0301" * 300,
)
"""What the explanations say."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a real run: a model answers with hostile texts to a task whose names and texts are hostile too."""
    place = tmp_path_factory.mktemp("hostile")
    tasks, edits = [], []
    for number, evil in enumerate(EVIL):
        name = f"{number}'\"<b>&amp;{evil[:40]}"
        fields = {"no<b>te</b>": f"The clerk waits. {evil[:3000]}", "__proto__": "x"}
        options = {"A": f"yes {evil[:60]}", "B": "no"}
        tasks.append({"id": name, "fields": fields, "options": options, "gold": "A", "explanation": evil[:500]})
        edit = {"example_id": name, "kind": "<i>own", "field": "no<b>te</b>", "offset": 4}
        edits += [{**edit, "inserted": word} for word in ("grumpy", "quiet")]
    for name, rows in (("mine.jsonl", tasks), ("edits.jsonl", edits)):
        (place / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    plain, edited, thoughts = itertools.count(), itertools.count(), itertools.count()

    def answer(prompt: str) -> tuple[str, None]:
        is_edited = "grumpy" in prompt or "quiet" in prompt
        turn = next(edited if is_edited else plain)  # each text explains two insertions, whichever is asked first
        mention = " grumpy" if "grumpy" in prompt and turn % 4 else ""
        return f"Answer: {'AAB'[turn % 3]}\nExplanation: {EVIL[turn % len(EVIL)]}{mention}", None

    def beside(_: str) -> dict[str, Any]:
        return {"reasoning_content": EVIL[next(thoughts) % len(EVIL)]}

    with ScriptedServer(script=answer, beside=beside) as server:
        model = ["--model", "openai/<script>alert('model')</script>", "--base-url", server.url, "--shots", "0"]
        files = ["--task", "jsonl:mine.jsonl", "--interventions", "edits.jsonl", "--out", "out", "--cache", "cache"]
        for words in (["run", *model, *files], ["report", "out"]):
            done = run(*words, cwd=place)
            assert done.code == 0, done.stderr
    return place / "out" / "report.html"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_runs_and_nothing_leaves(hostile: Path, open_page: Open, size: tuple[int, int]) -> None:
    """Every trial is opened: no script runs, no policy has to stop one, no element is made of a text."""
    opened = open_page(hostile, size=size)
    page = opened.page
    total = json.loads(page.locator("#trials-data").text_content() or "")["trials"]
    assert len(total) == 20

    for row in total:
        page.evaluate(f"location.hash = '#trial={row[0]}'")
        expect(page.locator(".trials-side")).to_have_count(2)
        expect(page.locator("#trials-list [aria-current]")).to_have_attribute("data-trial", row[0])
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("#trials").locator("img, iframe, svg, object, embed, textarea, b > b, [style]").count() == 0

    opened.assert_quiet()


def test_hostile_texts_are_there_to_be_read(hostile: Path, open_page: Open) -> None:
    """As they are, with what is invisible in them written out, and cut where they are long."""
    page = open_page(hostile).page
    search = page.get_by_label("Search in inputs")

    for words in ("alert('closed')", "onerror=alert('image')", "\\u202eright", "␀", "\\input{/etc/passwd}", "مرحبا"):
        search.fill(words)
        expect(page.locator("#trials-count")).to_contain_text(re.compile("^[1-9].* trials? with"))
    search.fill("w" * 300)
    expect(page.locator("#trials-count")).to_contain_text("with “www")
    page.locator("#trials-list a").first.click()
    expect(page.locator("#trials-detail")).to_contain_text("100,0")
    assert "alert('model')" in page.locator(".trials-facts").inner_text()


def test_accents_do_not_reach_over_other_texts(hostile: Path, open_page: Open) -> None:
    """Three hundred of them on one letter are cut off where their own text ends."""
    page = open_page(hostile).page
    total = json.loads(page.locator("#trials-data").text_content() or "")
    place = total["columns"].index("explanation")
    accented = [row[0] for row in total["trials"] if "\u0301" in "".join(total["texts"][row[place]])]
    page.evaluate(f"location.hash = '#trial={accented[0]}'")
    heading = page.locator(".trials-side h4").last
    expect(heading).to_have_text("With the insertion")

    with_accents = heading.screenshot()
    page.evaluate("document.querySelectorAll('.trials-text').forEach((text) => (text.style.visibility = 'hidden'))")

    assert heading.screenshot() == with_accents


def test_hostile_filters_do_nothing(hostile: Path, open_page: Open) -> None:
    """Names of kinds and models are options of a list, and a hostile link is only text."""
    opened = open_page(hostile, "#q=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&trial=%3Cscript%3E&kind=%3Ci%3Eown")
    page = opened.page

    expect(page.locator("#trials-verdict")).to_have_text("The trial <script> is not on this page.")
    expect(page.locator("#trials-count")).to_contain_text("<img src=x onerror=alert(1)>")
    opened.assert_quiet()


def test_a_hostile_trial_is_printed(hostile: Path, open_page: Open, tmp_path: Path) -> None:
    """However long its texts are, it is a few pages."""
    page = open_page(hostile).page
    name = page.locator("#trials-list a").first.get_attribute("data-trial")
    page.evaluate(f"location.hash = '#trial={name}'")
    expect(page.locator(".trials-side")).to_have_count(2)

    paper = page.pdf(path=tmp_path / "page.pdf", format="A4")

    assert 1 <= len(re.findall(rb"/Type /Page\b", paper)) <= 12
