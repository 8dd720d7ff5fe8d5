"""The pinned runs: what is asked, and what of the results is compared. Everything goes through the command line."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
LEVELS = ("brief", "normal", "detailed")
ORDERS, STYLES = ("pe", "pe2", "ep"), ("chat", "completion")
ARMS = tuple(f"{order}-{style}" for order in ORDERS for style in STYLES)
VERSION = re.compile(r"explaineval:[^|]+$")
JUDGED = re.compile(r"judge:[^|]+")

DEMO_MODEL, DEMO_ENDPOINT = "openai/SmolLM2-135M-Instruct", "embedded:b179c9523d0e"
DEMO = f"""\
tasks: [sense]
endpoints: {{"{DEMO_ENDPOINT}": {{base_url: "http://127.0.0.1", endpoint_name: "{DEMO_ENDPOINT}"}}}}
models: [{{model: {DEMO_MODEL}, endpoint: "{DEMO_ENDPOINT}"}}]
arms: {{order: [ep], style: [completion]}}
limit: 4
max_tokens: 96
"""


def planted_config(arm: str, url: str) -> str:
    """The configuration of one arm of the planted run, at an address that only a recording asks."""
    order, style = arm.split("-")
    return f"""\
tasks: [nli, sense]
endpoints: {{planted: {{base_url: "{url}", endpoint_name: planted}}}}
models: [{{model: openai/planted, endpoint: planted}}]
arms: {{order: [{order}], style: [{style}], shots: [2], verbosity: [{", ".join(LEVELS)}]}}
interventions: {{file: interventions.jsonl}}
limit: 5
max_tokens: 200
"""


def trials_of(directory: Path) -> list[dict[str, Any]]:
    """The trials in an order that does not depend on when answers came."""
    lines = (directory / "trials.jsonl").read_text("utf-8").splitlines()
    return sorted((json.loads(line) for line in lines), key=lambda trial: json.dumps(trial, sort_keys=True))


def rows_of(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The metric rows of a command's JSON document, the version in their signatures masked."""
    rows = [dict(row) for row in document["metrics"]]
    for row in rows:
        row["signature"] = JUDGED.sub("judge:*", VERSION.sub("explaineval:*", row["signature"]))
    return rows


def read(name: str) -> Any:
    """A recorded result."""
    with gzip.open(DATA / f"{name}.json.gz", "rt", encoding="utf-8") as handle:
        return json.load(handle)


def write(name: str, value: Any) -> None:
    """Record a result: the same bytes for the same value."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    with (DATA / f"{name}.json.gz").open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as handle:
        handle.write(text.encode())
