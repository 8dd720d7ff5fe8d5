"""The service's pages in a browser: a window that notes what they do, and runs in every state to look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from opened_pages import DESKTOP, PHONE
from playwright.sync_api import BrowserContext, ConsoleMessage, Page

from explaineval.service.processes.states import State
from explaineval.service.table import StateFile
from servers.service import Service

USERS = ("reader", "writer", "newcomer", "keeper", "poor")
TOKENS = {name: f"{name}-{'x' * 20}" for name in (*USERS, "boss")}
"""Users of the service that the pages are shown by; boss is an admin, poor has a budget."""
EVIL = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>"
"""A text that would execute something wherever it is not escaped."""
WIDER = "document.documentElement.scrollWidth > innerWidth"
LOOKS = [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")]
"""Sizes of windows and colour schemes that every page is checked in."""


def environment() -> dict[str, str]:
    """Return the variables that hold the tokens."""
    return {f"PAGES_{name.upper()}": text for name, text in TOKENS.items()}


def settings(base_url: str) -> dict[str, Any]:
    """Return the settings of a service with simulated models and an endpoint at this address."""
    tokens: dict[str, Any] = {name: {"token_env": f"PAGES_{name.upper()}"} for name in TOKENS}
    tokens["boss"]["admin"] = True
    tokens["poor"]["max_usd"] = 0.5
    return {
        "tokens": tokens,
        "endpoints": {
            "lab": {"base_url": base_url, "price": [1, 2], "max_connections": 4, "rpm": 60_000},
            "dear": {"base_url": "http://127.0.0.1:9/v1", "price": [1000, 1000]},
        },
        "embedded": False,
        "limits": {"workers": 3, "file_rows": 2000},
    }


@dataclass
class Window:
    """A window of a browser at the service, and what pages did in it: errors and warnings, and requests."""

    context: BrowserContext
    page: Page
    service: Service
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        """The service's address."""
        return f"http://127.0.0.1:{self.service.port}"

    def note(self, message: ConsoleMessage) -> None:
        """Keep what the console says as an error or a warning."""
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def go(self, path: str) -> Page:
        """Open a page of the service."""
        self.page.goto(self.origin + path)
        return self.page

    def log_in(self, user: str) -> Page:
        """Begin a session by giving the token."""
        page = self.go("/login")
        page.get_by_label("Token").fill(TOKENS[user])
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url("**/runs")
        return page

    def assert_quiet(self, *statuses: int) -> None:
        """No error or warning but of answers with these statuses, no other origin, nothing executed or stopped."""
        expected = tuple(f"the server responded with a status of {status}" for status in statuses)
        assert [text for text in self.complaints if not any(part in text for part in expected)] == []
        assert [url for url in self.requests if not url.startswith((self.origin + "/", "data:"))] == []
        assert self.page.evaluate("[window.executed, window.violated]") == [[], []]

    def assert_readable(self, looks: Sequence[tuple[tuple[int, int], str]] = LOOKS) -> None:
        """The page is never wider than the window, and axe-core finds no barrier, in each of the looks."""
        page = self.page
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        for size, scheme in looks:
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # one of two literals
            assert page.evaluate(WIDER) is False, (page.url, size)
            results = Axe().run(page)
            found = [
                f"{rule['id']}: {node['html'][:160]}"
                for rule in results.response["violations"]
                for node in rule["nodes"]
            ]
            assert found == [], (page.url, size, scheme)
            assert len(results.response["passes"]) > 10
        page.set_viewport_size({"width": DESKTOP[0], "height": DESKTOP[1]})
        page.emulate_media(color_scheme="light")


def cases(value: float) -> dict[str, float]:
    """Return a sum that is the same however it goes."""
    return {"low": value, "expected": value, "worst": value}


def sums(requests: int, usd: float) -> dict[str, Any]:
    """Return the sums of a plan of so many requests."""
    return {
        "planned": requests, "distinct": requests, "hits": 0, "misses": requests, "tokens_in": 200 * requests,
        "tokens_out": cases(100.0 * requests), "usd": cases(usd), "usd_saved": 0.0,
    }  # fmt: skip


def progress(models: Mapping[str, str], requests: int, done: int, reason: str | None = None) -> dict[str, Any]:
    """Return how far models are, each with its endpoint, and phi-CCT so far over six conditions."""
    phi = {
        "kind": "random_adjective",
        "value": 0.312,
        "low": 0.208,
        "high": 0.416,
        "n": done,
        "n_examples": 300,
        "conditions": 6,
    }
    return {
        "state": "running", "reason": None,
        "started": "2026-11-25T10:00:00+00:00", "updated": "2026-11-25T11:00:00+00:00",
        "models": [
            {
                "endpoint": endpoint, "model": model, "state": "running", "reason": reason, "planned": requests,
                "distinct": requests, "done": done, "hits": 12_345, "sent": done - 12_345, "unsent": 0,
                "retries": 1_234,
                "rate": 123.4, "seconds_left": 5_400.0, "usd": 12.3456, "usd_left": None, "max_usd": None,
                "outcomes": {"ok": done - 5_000, "refused": 2_500, "truncated": 1_500, "unparsed": 1_000},
                "phi": [phi | {"undefined": None}],
            }
            for model, endpoint in models.items()
        ],
    }  # fmt: skip


def plant_run(
    service: Service,
    run: str,
    user: str,
    state: State,
    models: Mapping[str, str],
    *,
    requests: int = 1_234_567,
    done: int = 0,
    reason: str | None = None,
    tasks: tuple[str, ...] = ("sense", "nli"),
) -> str:
    """Write a run into the service's table as it would be after a while; return its id."""
    table = StateFile(service.data)
    named = [{"model": model, "endpoint": endpoint} for model, endpoint in models.items()]
    plan = {
        "models": [{"endpoint": one["endpoint"], "model": one["model"]} | sums(requests, 12.5) for one in named],
        "total": sums(requests * len(named), 12.5 * len(named)),
        "warnings": [],
    }
    try:
        table.add_run(
            run, user, "2026-11-25T09:59:00+00:00", {"tasks": list(tasks), "models": named}, {}, plan, 12.5, None
        )
        table.update_run(
            run, state=state, reason=reason, started="2026-11-25T10:00:00+00:00",
            progress=progress(models, requests, done, reason) if done else None,
            ended=None if state in ("queued", "running", "stopping") else "2026-11-25T11:00:00+00:00",
        )  # fmt: skip
    finally:
        table.close()
    return run


Windows = Callable[..., Window]
