"""What operators see of the service as numbers, for Prometheus, and what is logged of requests."""

from __future__ import annotations

import asyncio
import collections
import json
import logging
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO, cast

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
from explaineval.service.processes.sharing import Shares

if TYPE_CHECKING:
    from explaineval.service.processes.sharing import Turns
    from explaineval.service.processes.states import State
    from explaineval.service.table import RunRow


WRITTEN = 50
"""Log lines of one kind that are written in `REPEAT_SECONDS`; more are counted."""
REPEAT_SECONDS = 60.0
KINDS = 500
FIELDS = "fields"
"""The attribute of a log record that holds the fields of its line."""

log = logging.getLogger("explaineval.service")


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


class LineKind(NamedTuple):
    """What lines that repeat each other have in common."""

    logger: str
    level: int
    text: str
    names: tuple[tuple[str, object], ...] = ()


OTHER_KINDS = LineKind("explaineval.service", logging.WARNING, "other lines")


class CountedLines(logging.StreamHandler[TextIO]):
    """Writes log lines, and counts those that repeat themselves instead of writing them.

    Lines are alike that differ in numbers and in the id of a run alone. Of each kind `WRITTEN` are written in
    `REPEAT_SECONDS`; then one line says how many more there were. More than `KINDS` kinds at once count as one.

    Args:
        stream: where the lines go.
        clock: returns seconds.
    """

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self.setFormatter(JsonLines())
        self.clock = clock
        self._since = clock()
        self._seen: collections.Counter[LineKind] = collections.Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Write or count a line. The lock of the handler is held."""
        self.write_counts()
        kind = _kind_of(record)
        if kind not in self._seen and len(self._seen) >= KINDS:
            kind = OTHER_KINDS
        self._seen[kind] += 1
        if self._seen[kind] <= WRITTEN:
            super().emit(record)

    def write_counts(self, *, now: bool = False) -> None:
        """Write how many lines of each kind were not written, if the time of counting is over, or `now`."""
        if not now and self.clock() < self._since + REPEAT_SECONDS:
            return
        seen, self._seen, self._since = self._seen, collections.Counter(), self.clock()
        for kind, count in seen.items():
            if count > WRITTEN:
                fields = {"of": kind.text, **dict(kind.names), "count": count - WRITTEN}
                super().emit(_record(kind.logger, kind.level, "repeated", fields))

    def close(self) -> None:
        """Write what was counted at the end."""
        with self.lock or nullcontext():
            self.write_counts(now=True)
        super().close()


def _record(name: str, level: int, text: str, fields: Mapping[str, object]) -> logging.LogRecord:
    record = logging.LogRecord(name, level, "", 0, text, None, None)
    setattr(record, FIELDS, fields)
    return record


def _kind_of(record: logging.LogRecord) -> LineKind:
    """Return what a line has in common with those that repeat it."""
    fields = getattr(record, FIELDS, None) or {}
    names = [(key, value) for key, value in fields.items() if type(value) is str and key != "run"]
    if "status" in fields:
        names.append(("status", fields["status"]))
    if record.exc_info and record.exc_info[0] is not None:
        names.append(("error", record.exc_info[0].__name__))
    text = "error" if record.exc_info else str(record.msg)
    return LineKind(record.name, record.levelno, text, tuple(names))


def write_logs() -> CountedLines:
    """Write all log lines to standard error, also those of the server and of other libraries; return what does it."""
    handler = CountedLines(sys.stderr)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("explaineval").setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    return handler


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
UNKNOWN_ROUTE = "(unknown)"
"""Stands for every address that no route has, so that visitors cannot make names of their own."""
SOURCES = ("cache", "sent", "retry")
"""Where the answers to the requests of runs come from."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
OTHER_METHOD = "(other)"
"""Stands for every method that is none of HTTP's usual ones, for the same reason."""


OF_ENDPOINTS = (
    (
        CounterMetricFamily, "wait_seconds", "Seconds that requests of runs waited for a connection and the rate.",
        "waited",
    ),
    (CounterMetricFamily, "connections_taken", "Requests that got a connection.", "taken"),
    (GaugeMetricFamily, "waiting", "Requests that wait for a connection.", "waiting"),
    (GaugeMetricFamily, "connections", "Connections that are in use.", "in_use"),
)  # fmt: skip
"""Numbers of each endpoint: their kind, name and meaning, and where `EndpointTurns` has them."""


@dataclass(frozen=True)
class TokenNumbers:
    """What is told of one token: its dollars (`left` is None without a limit), and its runs by state."""

    spent: float
    reserved: float
    left: float | None
    runs: Mapping[State, int]


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
        self.tokens: Mapping[str, TokenNumbers] = {}
        """By name the tokens that whoever asks may see; set as `runs`."""
        counter = partial(Counter, registry=self.registry)
        self._answers = counter(
            "explaineval_requests",
            "Requests of runs: `cache` were answered from the cache, `sent` were asked, `retry` asked again.",
            ("endpoint", "source"),
        )
        self._trials = counter(
            "explaineval_trials", "Trials of runs by status; every status but ok is a failure.", ("endpoint", "status")
        )
        self._usd = counter("explaineval_spent_usd", "Dollars that runs spent.", ("endpoint",))
        self._ended = counter("explaineval_runs_ended", "Runs that ended.", ("state",))
        self._http = counter("explaineval_http_requests", "Requests to the service.", ("method", "route", "status"))
        self._seconds = Histogram(
            "explaineval_http_seconds", "Seconds until the service answered; streams of events are left out.",
            ("route",), registry=self.registry,
        )  # fmt: skip
        self.registry.register(_Now(self))
        ProcessCollector(registry=self.registry)
        self._seen: dict[str, dict[tuple[str, str], dict[str, float]]] = {}
        """By run and (endpoint, model): what was counted of it already."""
        self.asked: defaultdict[tuple[str, str], float] = defaultdict(float)
        """By (token, source): how many requests its runs made."""

    def count_progress(self, run: str, token: str, progress: Mapping[str, Any]) -> None:
        """Count what a run of a token did since it was counted last; a process that begins anew begins at zero."""
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
                    self.asked[token, name] += grown
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
        monitor, turns, tokens = self.monitor, self.monitor.turns.endpoints, self.monitor.tokens.items()
        for kind, name, text, value in OF_ENDPOINTS:
            yield _family(
                kind, name, text, "endpoint", [((each,), getattr(turn, value)) for each, turn in turns.items()]
            )
        runs = [((state,), count) for state, count in monitor.runs.items()]
        yield _family(GaugeMetricFamily, "runs", "Runs by state.", "state", runs)
        for name in ("spent", "reserved", "left"):
            dollars = [((token,), getattr(numbers, name)) for token, numbers in tokens]
            yield _family(GaugeMetricFamily, f"token_{name}_usd", f"Dollars of a token: {name}.", "token", dollars)
        own_runs = [((token, state), count) for token, numbers in tokens for state, count in numbers.runs.items()]
        yield _family(GaugeMetricFamily, "token_runs", "Runs of a token by state.", "token state", own_runs)
        asked = [
            ((token, source), monitor.asked.get((token, source), 0.0)) for token, _ in tokens for source in SOURCES
        ]
        text = "Requests of a token's runs, as in explaineval_requests."
        yield _family(CounterMetricFamily, "token_requests", text, "token source", asked)
        followers = [((), monitor.events.followers.total)]
        yield _family(GaugeMetricFamily, "followers", "Connections that follow runs.", "", followers)


def _family(
    kind: Callable[..., Any], name: str, text: str, labels: str, values: Iterable[tuple[Sequence[str], float | None]]
) -> Metric:
    """Return numbers with their labels; those that are None are left out."""
    family = kind(f"explaineval_{name}", text, labels=labels.split())
    for label, value in values:
        if value is not None:
            family.add_metric(label, value)
    return cast(Metric, family)


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


@dataclass
class Channel:
    """One run: the last event, how often there was a new one, whether it was the last, and who waits for the next."""

    event: str = ""
    version: int = 0
    over: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Wake everybody who waits for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(frozen=True)
class RunEvent:
    """One event: its id, its JSON, and whether it is the last one."""

    id: str
    data: str
    last: bool = False


class Events:
    """The channels of runs that wait or go on.

    Args:
        followers: the places of followers, by whose they are. Whoever follows holds one.
        name: differs from that of every earlier process, whose ids of events mean nothing here.
    """

    def __init__(self, followers: Shares, name: str) -> None:
        self.followers = followers
        self.name = name
        self.closing = False
        self._channels: dict[str, Channel] = {}

    def publish(self, run: str, view: Mapping[str, Any], *, last: bool = False) -> None:
        """Tell all followers of a run how it is now; `last` says that it has ended."""
        channel = self._channels.setdefault(run, Channel())
        channel.event = encode(view)
        channel.version += 1
        channel.over = last
        if last:
            del self._channels[run]
        channel.wake()

    def close(self) -> None:
        """End all followers' streams."""
        self.closing = True
        for channel in self._channels.values():
            channel.wake()

    async def follow(
        self, run: str, load: Callable[[], Awaitable[Mapping[str, Any]]], seen: str | None = None
    ) -> AsyncIterator[RunEvent]:
        """Yield how a run is, then every change, until it has ended.

        `load` returns how it is where nothing was published since it ended. `seen` is the id of the last event that the
        follower got before its connection broke.
        """
        channel = self._channels.get(run)
        if channel is None:
            yield RunEvent(f"{self.name}-end", encode(await load()), last=True)
            return
        last = channel.version if seen == f"{self.name}-{channel.version}" else -1
        while not self.closing:
            if channel.version != last:
                last, over = channel.version, channel.over
                yield RunEvent(f"{self.name}-{last}", channel.event, over)
                if over:
                    return
                continue
            await channel.changed.wait()


def encode(view: Mapping[str, Any]) -> str:
    """Return a view as one line of JSON."""
    return json.dumps(view, separators=(",", ":"))
