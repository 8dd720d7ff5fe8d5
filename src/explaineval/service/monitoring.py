"""What operators see of the service: numbers for Prometheus, and one JSON object a line on standard error.

Neither holds a secret, a prompt or an answer: log lines have names, numbers and states, and of errors the kind and the
places in the code, not the message, which may quote what an endpoint said.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from explaineval.secrets import SECRETS

if TYPE_CHECKING:
    from explaineval.service.events import Events
    from explaineval.service.gate.turns import Turns
    from explaineval.service.table import RunRow, State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNKNOWN_ROUTE = "(unknown)"
"""Stands for every address that no route has, so that visitors cannot make names of their own."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
OTHER_METHOD = "(other)"
"""Stands for every method that is none of HTTP's usual ones, for the same reason."""
FIELDS = "fields"
"""The attribute of a log record that holds the fields of its line."""

log = logging.getLogger("explaineval.service")


class Monitor:
    """Counts what the service does, for `GET /metrics`.

    Args:
        turns: the connections of endpoints.
        events: the followers of runs.
    """

    def __init__(self, turns: Turns, events: Events) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types
        self.registry = CollectorRegistry()
        self.turns, self.events = turns, events
        self.runs: Mapping[State, int] = {}
        """How many runs there are by state; set before the numbers are written."""
        self._answers = Counter(
            "explaineval_requests",
            "Requests of runs: `cache` were answered from the cache, `sent` were asked, `retry` asked again.",
            ("endpoint", "source"),
            registry=self.registry,
        )
        self._trials = Counter(
            "explaineval_trials", "Trials of runs by status; every status but ok is a failure.",
            ("endpoint", "status"), registry=self.registry,
        )  # fmt: skip
        self._usd = Counter("explaineval_spent_usd", "Dollars that runs spent.", ("endpoint",), registry=self.registry)
        self._ended = Counter("explaineval_runs_ended", "Runs that ended.", ("state",), registry=self.registry)
        self._http = Counter(
            "explaineval_http_requests", "Requests to the service.", ("method", "route", "status"),
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "explaineval_http_seconds", "Seconds until the service answered; streams of events are left out.",
            ("route",), registry=self.registry,
        )  # fmt: skip
        self.registry.register(_Now(self))
        ProcessCollector(registry=self.registry)
        self._seen: dict[str, dict[tuple[str, str], dict[str, float]]] = {}
        """By run and (endpoint, model): what was counted of it already."""

    def count_progress(self, run: str, progress: Mapping[str, Any]) -> None:
        """Count what a run did since its progress was counted last; a process that begins anew begins at zero."""
        seen = self._seen.setdefault(run, {})
        for model in progress["models"]:
            endpoint = model["endpoint"] or "default"
            now = {"cache": model["hits"], "sent": model["sent"], "retry": model["retries"], "usd": model["usd"] or 0.0}
            now |= {f"status:{status}": count for status, count in model["outcomes"].items()}
            before = seen.get((endpoint, model["model"]), {})
            for name, value in now.items():
                earlier = before.get(name, 0)
                grown = value - earlier if value >= earlier else value
                if name == "usd":
                    self._usd.labels(endpoint).inc(grown)
                elif name.startswith("status:"):
                    self._trials.labels(endpoint, name.partition(":")[2]).inc(grown)
                else:
                    self._answers.labels(endpoint, name).inc(grown)
            seen[endpoint, model["model"]] = now

    def count_state(self, row: RunRow) -> None:
        """Count and log that a run has begun, waits again or has ended."""
        event("run", run=row.id, user=row.token, state=row.state, exit_code=row.exit_code, restarts=row.restarts)
        if row.state == "running":
            return
        self._seen.pop(row.id, None)
        if not row.active:
            self._ended.labels(row.state).inc()

    def count_request(self, method: str, route: str, status: int, seconds: float | None) -> None:
        """Count an answer of the service; `seconds` is None for a stream."""
        self._http.labels(method, route, str(status)).inc()
        if seconds is not None:
            self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all numbers in Prometheus' text format."""
        return generate_latest(self.registry)


class _Now(Collector):
    """Numbers that are read when they are asked for."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers."""
        names = ["endpoint"]
        waited = CounterMetricFamily(
            "explaineval_wait_seconds",
            "Seconds that requests of runs waited for a connection and the rate.",
            labels=names,
        )
        taken = CounterMetricFamily("explaineval_connections_taken", "Requests that got a connection.", labels=names)
        waiting = GaugeMetricFamily("explaineval_waiting", "Requests that wait for a connection.", labels=names)
        in_use = GaugeMetricFamily("explaineval_connections", "Connections that are in use.", labels=names)
        for name, turns in self.monitor.turns.endpoints.items():
            waited.add_metric([name], turns.waited)
            taken.add_metric([name], turns.taken)
            waiting.add_metric([name], turns.waiting)
            in_use.add_metric([name], turns.in_use)
        runs = GaugeMetricFamily("explaineval_runs", "Runs by state.", labels=["state"])
        for state, count in self.monitor.runs.items():
            runs.add_metric([state], count)
        followers = GaugeMetricFamily(
            "explaineval_followers", "Connections that follow runs.", value=self.monitor.events.followers
        )
        yield from (waited, taken, waiting, in_use, runs, followers)


class Observed:
    """Counts and logs every request.

    The log has the route and not the address, since an address may hold what somebody typed.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, stream = time.monotonic(), 500, False

        async def sender(message: Message) -> None:
            nonlocal status, stream
            if message["type"] == "http.response.start":
                status = message["status"]
                stream = any(value.startswith(b"text/event-stream") for _, value in message.get("headers", ()))
            await send(message)

        try:
            await self.app(scope, receive, sender)
        finally:
            seconds = time.monotonic() - start
            route = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
            method = scope["method"] if scope["method"] in METHODS else OTHER_METHOD
            service = getattr(scope["app"].state, "service", None)
            if service is not None:
                service.monitor.count_request(method, route, status, None if stream else seconds)
            if not (status < 400 and route in ("/healthz", "/readyz", "/metrics")):
                user = scope.get("state", {}).get("user")
                event("request", method=method, route=route, status=status, seconds=round(seconds, 4), user=user)


def event(name: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log one line: what happened, and fields that are names, numbers or states."""
    log.log(level, name, extra={FIELDS: fields})


class JsonLines(logging.Formatter):
    """Writes a log record as one line of JSON. Of an exception it has the kind and the places in the code."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": at, "level": record.levelname.lower(), "logger": record.name}
        fields = getattr(record, FIELDS, None)
        line["event"] = record.getMessage() if fields is not None or record.exc_info is None else "error"
        line |= {name: value for name, value in (fields or {}).items() if value is not None}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["places"] = [
                f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])
            ]
        return SECRETS.mask(json.dumps(line, ensure_ascii=True))


def write_logs() -> None:
    """Write the log lines of the service and of its server to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, level in (("explaineval", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
