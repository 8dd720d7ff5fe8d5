"""Record the pages of the service and the documents of its API, for a fixed state, asked over a loopback socket."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from golden_runs import SETTING, Documents, read_page, tidy

from servers.service import ENVIRONMENT, RUN, SETTINGS, TOKENS, Service

UPLOAD = b'{"id": "e0", "fields": {"note": "The clerk waits."}, "options": {"A": "yes", "B": "no"}, "gold": "A"}\n'
DEAR = {"tasks": ["nli"], "models": [{"model": "openai/m", "endpoint": "dear"}], "limit": 3}
WRONG: dict[str, tuple[str, str, Any]] = {
    "a run of no task": ("POST", "/api/runs", {"tasks": [], "models": [{"model": "simulated/faithful"}]}),
    "a run of an unknown model": ("POST", "/api/runs", {"tasks": ["sense"], "models": [{"model": "simulated/gone"}]}),
    "a run with an unknown setting": ("POST", "/api/runs", RUN | {"colour": "red"}),
    "a run beyond the budget": ("POST", "/api/runs", DEAR | {"limit": None}),
    "a run that is not there": ("GET", "/api/runs/0123456789abcdef", None),
    "a file that is not there": ("DELETE", "/api/files/gone.jsonl", None),
    "a file that is no task": ("PUT", "/api/files/broken.jsonl", b"{"),
    "a comparison of nothing": ("POST", "/api/comparisons", {"runs": []}),
    "an address that is not there": ("GET", "/api/gone", None),
    "an order of nonsense": ("POST", "/api/runs", RUN | {"arms": {"order": ["pe3"]}}),
    "a plan of no JSON": ("POST", "/api/plans", b"{"),
}
"""Requests that are refused, by what is wrong with them."""


def record_service(work: Path) -> dict[str, str]:
    """Start a service, let it do two runs, and look at everything as ann, bob and nobody."""
    texts: dict[str, str] = {}
    documents = Documents()
    service = Service(work.resolve() / "service", SETTINGS, ENVIRONMENT | SETTING)
    service.start()
    try:
        ann = TOKENS["ann"]
        service.ask("PUT", "/api/files/mine.jsonl", UPLOAD, ann)
        runs = [
            service.submit(RUN | {"limit": 12, "models": [{"model": f"simulated/{name}"}]}, ann)
            for name in ("faithful", "random")
        ]
        for run in runs:
            service.wait(run, ann)
        places = {run: f"<run {number}>" for number, run in enumerate(runs, 1)}
        places |= {str(service.directory): "<service>", f":{service.port}": ":<port>"}

        def note(name: str, method: str, path: str, body: Any = None, token: str | None = ann) -> None:
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if isinstance(body, bytes) else None
            reply = service.ask(method, path, body, token, headers)
            head, text = f"{method} {path}: {reply.status}\n", reply.body.decode()
            page = reply.headers.get("content-type", "").startswith("text/html")
            shown = head + read_page(text) if page else documents.read(name, head + text) + "\n"
            texts[f"service/{name}"] = texts.get(f"service/{name}", "") + _without_chance(tidy(shown, places))

        form = urlencode({"tasks": "sense", "endpoint": "simulated", "model": "faithful", "limit": "5", "order": "pe"})
        pages = {
            "runs.html": "/runs", "new.html": "/new", "copy.html": f"/new?copy={runs[0]}",
            "run.html": f"/runs/{runs[0]}",
            "compare.html": f"/compare?run={runs[0]}&run={runs[1]}", "choose.html": "/compare", "cache.html": "/cache",
            "endpoints.html": "/endpoints", "live.html": f"/runs/{runs[0]}/live", "gone.html": "/runs/0123456789abcdef",
        }  # fmt: skip
        for name, path in pages.items():
            note(name, "GET", path)
        note("login.html", "GET", "/login", token=None)
        note("refused.html", "POST", "/new", urlencode({"tasks": "sense", "shots": "few"}).encode())
        note("priced.html", "POST", "/new", f"{form}&action=price".encode())
        note("preview.txt", "POST", "/new/preview", form.encode())
        for name, path in {
            "runs": "/api/runs", "run": f"/api/runs/{runs[0]}", "metrics": f"/api/runs/{runs[0]}/metrics",
            "endpoints": "/api/endpoints", "cache": "/api/cache", "files": "/api/files", "session": "/api/session",
            "schema": "/openapi.json",
        }.items():  # fmt: skip
            note(f"api-{name}.txt", "GET", path)
        note("api-plan.txt", "POST", "/api/plans", DEAR)
        note("api-comparison.txt", "POST", "/api/comparisons", {"runs": runs})
        note("runs-of-nobody.html", "GET", "/runs", token=None)
        note("runs-of-bob.html", "GET", "/runs", token=TOKENS["bob"])
        note("runs-of-admin.html", "GET", "/runs", token=TOKENS["boss"])
        for name, (method, path, body) in WRONG.items():
            texts["service/errors.txt"] = texts.get("service/errors.txt", "") + f"{name}: "
            note("errors.txt", method, path, body)
    finally:
        service.stop()
    return texts


def _without_chance(text: str) -> str:
    """Replace what follows from the time that runs took."""
    return re.sub(r"\b\d\d:\d\d(:\d\d)?\b", "<clock>", text)
