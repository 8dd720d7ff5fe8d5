"""What operators see of the service: numbers for Prometheus, read back by its own parser, and log lines."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from explaineval.config import EndpointConfig
from explaineval.service.monitoring import Events, JsonLines, Monitor, TokenNumbers, event
from explaineval.service.processes.sharing import Shares, Turns


def progress(hits: int, sent: int, usd: float | None = None, **outcomes: int) -> dict[str, Any]:
    """What the process of a run says of its one model."""
    counts = {"hits": hits, "sent": sent, "retries": 1, "usd": usd, "outcomes": outcomes}
    return {"models": [{"endpoint": "lab", "model": "openai/m", **counts}]}


def numbers(monitor: Monitor) -> dict[tuple[str, ...], float]:
    """All samples by name and values of labels, as Prometheus reads them."""
    families = text_string_to_metric_families(monitor.text().decode())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def monitor() -> Monitor:
    """The monitor of a service with one endpoint."""
    return Monitor(
        Turns({"lab": EndpointConfig(base_url="http://127.0.0.1:1/v1", max_connections=2)}),
        Events(Shares(9, 9, "followers"), "x"),
    )


def test_what_runs_do_is_counted_once_however_often_they_say_it(monitor: Monitor) -> None:
    """Two runs at one endpoint; the process of one is started again and begins to count at zero."""
    monitor.count_progress("a", "ann", progress(0, 5, 0.5, ok=2))
    monitor.count_progress("b", "bob", progress(10, 1, None, ok=5, refused=1))
    monitor.count_progress("a", "ann", progress(0, 9, 1.25, ok=3))
    monitor.count_progress("a", "ann", progress(0, 9, 1.25, ok=3))
    monitor.count_progress("a", "ann", progress(9, 2, 0.25, ok=1))

    found = numbers(monitor)

    assert found["explaineval_requests_total", "lab", "sent"] == 9 + 2 + 1
    assert found["explaineval_requests_total", "lab", "cache"] == 9 + 10
    assert found["explaineval_spent_usd_total", "lab"] == 1.5
    assert found["explaineval_trials_total", "lab", "ok"] == 3 + 1 + 5
    assert found["explaineval_trials_total", "lab", "refused"] == 1


def test_numbers_of_tokens_are_told_of_those_that_may_be_seen(monitor: Monitor) -> None:
    """Requests of their runs and the runs themselves; a name that breaks out of its label stays one name."""
    strange = 'ann"} 1\nx{y="\\'
    monitor.count_progress("a", strange, progress(3, 5, 0.5, ok=2))
    monitor.count_progress("b", "bob", progress(10, 1, None, ok=5))
    monitor.tokens = {strange: TokenNumbers(1.5, 0.25, None, {"running": 2, "failed": 1})}
    found = {labels: value for labels, value in numbers(monitor).items() if labels[0].startswith("explaineval_token_")}

    assert found == {
        ("explaineval_token_spent_usd", strange): 1.5,
        ("explaineval_token_reserved_usd", strange): 0.25,
        ("explaineval_token_runs", "running", strange): 2,
        ("explaineval_token_runs", "failed", strange): 1,
        ("explaineval_token_requests_total", "cache", strange): 3,
        ("explaineval_token_requests_total", "sent", strange): 5,
        ("explaineval_token_requests_total", "retry", strange): 1,
    }


async def take(turns: Turns) -> None:
    """Take a connection of the endpoint."""
    await turns.endpoints["lab"].take(1)


def test_connections_are_counted_as_they_are_now(monitor: Monitor) -> None:
    """Those in use, and those that were taken since the start."""
    import asyncio

    async def two() -> None:
        await take(monitor.turns)
        await take(monitor.turns)
        monitor.turns.endpoints["lab"].give_back()

    asyncio.run(two())
    monitor.events.followers.take("ann")
    monitor.runs = {"running": 1, "finished": 7}
    found = numbers(monitor)

    assert found["explaineval_connections", "lab"] == 1
    assert found["explaineval_connections_taken_total", "lab"] == 2
    assert found["explaineval_wait_seconds_total", "lab"] >= 0
    assert (found["explaineval_runs", "finished"], found["explaineval_followers",]) == (7, 1)


def test_a_log_line_is_json_without_what_an_error_says(caplog: pytest.LogCaptureFixture) -> None:
    """The kind of an error and its places stand there, not its message; names cannot break the line."""
    lines = JsonLines()
    with caplog.at_level(logging.INFO, logger="explaineval.service"):
        event("run", user="ann\nmallory", state=None)
    try:
        raise ValueError("the prompt was: my secret story")
    except ValueError:
        fault = logging.LogRecord("uvicorn.error", logging.ERROR, __file__, 1, "Exception", None, sys.exc_info())

    first, second = (json.loads(lines.format(record)) for record in (caplog.records[0], fault))

    assert "\n" not in lines.format(caplog.records[0])
    assert (first["event"], first["user"], "state" in first) == ("run", "ann\nmallory", False)
    assert second["error"] == "ValueError"
    assert second["places"][0].startswith(Path(__file__).name)
    assert "story" not in lines.format(fault)
