"""One Chromium for the tests of a module, which opens pages from the disk and notes everything they do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opened_pages import DESKTOP, Open, Opened, make_report
from playwright.sync_api import Browser, expect, sync_playwright
from served_pages import Window, environment, settings

from makers.reports import varied_run
from servers.planted import PlantedServer
from servers.service import Service
from servers.tables import Table

expect.set_options(timeout=30_000)  # the machine does other tests at the same time
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WATCH = """
window.executed = [];
window.alert = (text) => window.executed.push(String(text));
window.violated = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violated.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""
"""Runs before the page: notes what a hostile text would execute, and what the page's own policy stops."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """The browser of the system. Without one the tests are skipped; on CI they fail.

    While it is open an event loop runs in this thread, so that `asyncio.run` fails: it is closed after each module.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        reason = "no Chromium is installed: on Debian `apt-get install chromium`"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    """Opens a file in a window of its own; `hash` is the part of the address behind #."""
    contexts = []

    def open_file(path: Path, hash: str = "", *, size: tuple[int, int] = DESKTOP, **options: Any) -> Opened:
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        context.add_init_script(WATCH)
        opened = Opened(context.new_page())
        page = opened.page
        page.set_default_timeout(30_000)
        page.on("console", lambda message: opened.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: opened.complaints.append(f"error: {error}"))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.goto(path.as_uri() + hash)
        return opened

    yield open_file
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with every kind of trial."""
    directory = tmp_path_factory.mktemp("report")
    return make_report(varied_run(directory / "run"), out=directory / "report.html")


@pytest.fixture(scope="session")
def planted() -> Iterator[PlantedServer]:
    """An endpoint of the service, `lab`: it takes its time, so that a run goes on for a while."""
    with PlantedServer(Table(examples=60, words=4), latency=0.02) as server:
        yield server


@pytest.fixture(scope="session")
def pages_service(planted: PlantedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service whose pages are looked at; each module has users of its own."""
    started = Service(tmp_path_factory.mktemp("pages"), settings(planted.url), environment())
    started.start()
    yield started
    assert started.stop() == 0


@pytest.fixture
def window(chromium: Browser, pages_service: Service) -> Iterator[Callable[..., Window]]:
    """Opens a window at the service; options are those of a browser's context."""
    contexts = []

    def open_window(size: tuple[int, int] = DESKTOP, **options: Any) -> Window:
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        context.add_init_script(WATCH)
        opened = Window(context, context.new_page(), pages_service)
        page = opened.page
        page.set_default_timeout(30_000)
        page.on("console", opened.note)
        page.on("pageerror", lambda error: opened.complaints.append(f"error: {error}"))
        page.on("request", lambda request: opened.requests.append(request.url))
        return opened

    yield open_window
    for context in contexts:
        context.close()
