"""Anthropic's Message Batches: the requests go in one body, the results come as one file of lines.

There is no field for a mark of ours: a batch whose creation nobody confirmed is looked for by its time and its
number of requests, and known by the custom_ids of its results.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx

from explaineval.client.batches.dry_run import Rehearsal
from explaineval.client.batches.protocol import (
    BatchFailure,
    BatchState,
    Found,
    Item,
    Line,
    Progress,
    Trace,
    Wire,
    address_wire,
    is_identifier,
    parse_line,
    read_line,
    segment,
)
from explaineval.config import Endpoint
from explaineval.errors import TransientError
from explaineval.records import Completion, Request

PAGE = 100
MOST_PAGES = 100
SLACK = 3_600.0
"""Seconds by which the provider's clock may differ from ours."""

STATUSES = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500,
    "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip
"""The kind of an error in a line to the status that the same request would have met by itself."""

COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")
NOT_EXECUTED = {
    "expired": "the batch expired before it was executed",
    "canceled": "the batch was cancelled before it was executed",
}


class AnthropicBatches:
    """The batches of one model at one endpoint."""

    name = "anthropic"

    def __init__(self, endpoint: Endpoint, model: str, *, timeout: float) -> None:
        self._endpoint, self._model = endpoint, model
        self._rehearsal = Rehearsal(endpoint, model, timeout=timeout)
        self._wire = Wire(endpoint, model, timeout)
        self._root: httpx.URL | None = None

    async def check(self) -> None:
        """Whether the list of batches can be looked at."""
        await self._wire.check_list(await self._at())

    async def prepare(self, request: Request, key: str) -> Item:
        """The body that the ordinary route would send."""
        sent = await self._rehearsal.send(request)
        return Item(key, sent.url.path, sent.body)

    async def upload(self, items: Sequence[Item], tag: str) -> None:
        """No step of its own here."""

    async def submit(self, items: Sequence[Item], tag: str, uploaded: str | None) -> str:  # noqa: ARG002 - see find
        """Create the batch."""
        requests = (b'{"custom_id": "' + item.key.encode() + b'", "params": ' + item.body + b"}" for item in items)
        body = b'{"requests": [' + b", ".join(requests) + b"]}"
        url, kind = await self._at(), {"content-type": "application/json"}
        found = await self._wire.post(url, creates=True, content=body, headers=kind)
        if not is_identifier(found.get("id")):
            raise TransientError(f"{self._model}: the endpoint made a batch without a usable id")
        return str(found["id"])

    async def find(self, trace: Trace) -> list[Found]:
        """The batches in our list that are not older than the trace, have as many requests, and are nobody's yet."""
        found, after = [], ""
        for _ in range(MOST_PAGES):
            more = {"after_id": after} if after else {}
            page = await self._wire.get(await self._at(), {"limit": str(PAGE), **more}) or {}
            batches = [one for one in page.get("data") or () if isinstance(one, Mapping)]
            young = [one for one in batches if _seconds(one.get("created_at")) >= trace.since - SLACK]
            for one in young:
                batch, state = segment(one.get("id")), _state(one)
                if state.total == trace.count and batch not in trace.known:
                    found.append(Found(batch, False, state.progress))
            if len(young) < len(batches) or not batches or not page.get("has_more"):
                break
            after = segment(batches[-1].get("id"))
        return found

    async def status(self, batch: str) -> BatchState:
        """How far the batch is."""
        one = await self._wire.get(await self._at(batch))
        return BatchState("missing") if one is None else _state(one)

    async def results(self, batch: str) -> AsyncIterator[Line]:
        """The lines of the results, from this host only: the key goes nowhere else."""
        one = await self._wire.get(await self._at(batch)) or {}
        url = await self._at(batch, "results")
        told = httpx.URL(one["results_url"]) if isinstance(one.get("results_url"), str) else url
        if (told.scheme, told.host, told.port) == (url.scheme, url.host, url.port):
            url = told
        async for text in self._wire.lines(url):
            if text.strip():
                yield _line(text)

    async def read(self, request: Request, line: Line) -> Completion | BatchFailure:
        """What the ordinary route would have made of this line."""
        return await read_line(self._rehearsal, request, line)

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()
        await self._rehearsal.close()

    async def _at(self, *parts: str) -> httpx.URL:
        if self._root is None:
            self._root = (await address_wire(self._rehearsal, self._wire, self._endpoint, self._model)).url
        return self._root.copy_with(path="/".join((self._root.path, "batches", *parts)))


def _state(one: Mapping[str, Any]) -> BatchState:
    progress: Progress = "ended" if one.get("processing_status") == "ended" else "in_progress"
    counts = one.get("request_counts")
    numbers = {name: int(counts.get(name) or 0) for name in COUNTS} if isinstance(counts, Mapping) else {}
    total = sum(numbers.values())
    return BatchState(progress, total, total - numbers.get("processing", 0))


def _line(text: bytes) -> Line:
    one = parse_line(text)
    if isinstance(one, Line):
        return one
    result = one.get("result")
    if not isinstance(result, dict) or not isinstance(one.get("custom_id"), str):
        return Line(None)
    key, kind = one["custom_id"], result.get("type")
    if kind == "succeeded" and isinstance(result.get("message"), dict):
        return Line(key, 200, result["message"])
    if kind == "errored" and isinstance(result.get("error"), dict):
        body = result["error"]
        error = body.get("error") if isinstance(body.get("error"), dict) else body
        status = STATUSES.get(str(error.get("type")), 500)
        return Line(key, status, body if error is not body else {"type": "error", "error": body})
    if kind in NOT_EXECUTED:
        return Line(key, reason=NOT_EXECUTED[kind], expired=kind == "expired")
    return Line(None)


def _seconds(text: object) -> float:
    """An RFC 3339 time as seconds since the epoch; one that cannot be read counts as now or later."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return float("inf")
