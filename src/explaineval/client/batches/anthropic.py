"""Anthropic's Message Batches: the requests go in one body, and the results come as one file of lines.

A batch has no field for a tag of ours. One whose creation was not confirmed is looked for by its time and its number
of requests, and recognised by the custom_ids in its results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx

from explaineval.client.batches.journal import JournalEntry
from explaineval.client.batches.protocol import (
    BatchItem,
    BatchProvider,
    BatchState,
    Candidate,
    Progress,
    ResultLine,
    path_segment,
    read_counts,
)
from explaineval.records import Request

STATUSES = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500,
    "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip
"""By the type of an error in a line of results: the status that the same request would have met outside a batch."""

COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")
NOT_EXECUTED = {
    "expired": "the batch expired before it was executed",
    "canceled": "the batch was cancelled before it was executed",
}


class AnthropicBatches(BatchProvider):
    """The batches of one model at one endpoint in Anthropic's form."""

    cursor = "after_id"
    clock_skew = 3_600.0

    async def prepare(self, request: Request, key: str) -> BatchItem:
        """Return the request with the body that the ordinary client would send."""
        sent = await self._dry_run.send(request)
        return BatchItem(key, sent.url.path, sent.body)

    async def upload(self, items: Sequence[BatchItem], tag: str) -> None:
        """Do nothing: the requests go into the body that creates the batch."""

    async def submit(self, items: Sequence[BatchItem], tag: str, uploaded: str | None) -> str:  # noqa: ARG002 - no field for either
        """Create the batch and return its id."""
        requests = (b'{"custom_id": "' + item.key.encode() + b'", "params": ' + item.body + b"}" for item in items)
        body = b'{"requests": [' + b", ".join(requests) + b"]}"
        return await self._create(content=body, headers={"content-type": "application/json"})

    @staticmethod
    def _root_path(path: str) -> str:
        return path

    @staticmethod
    def _created(description: Mapping[str, Any]) -> float:
        """Return the time of creation; a time that cannot be read counts as now or later."""
        try:
            return datetime.fromisoformat(str(description.get("created_at"))).timestamp()
        except (ValueError, OverflowError):
            return float("inf")

    @classmethod
    def _match(cls, description: Mapping[str, Any], entry: JournalEntry, known: frozenset[str]) -> Candidate | None:
        """Return a batch that is not older than the entry, has as many requests, and belongs to no other entry."""
        if cls._created(description) < entry.created - cls.clock_skew:
            return None
        batch, state = path_segment(description.get("id")), cls._parse_state(description)
        if state.total != entry.count or batch in known:
            return None
        return Candidate(batch, certain=False, ended=state.progress == "ended")

    @staticmethod
    def _parse_state(description: Mapping[str, Any]) -> BatchState:
        numbers, fault = read_counts(description.get("request_counts"), COUNTS)
        total = sum(numbers.values())
        ended = description.get("processing_status") == "ended"
        progress: Progress = "ended" if ended else "in_progress"
        return BatchState(progress, total, total - numbers["processing"], fault=fault)

    async def _result_urls(self, batch: str, description: Mapping[str, Any]) -> list[httpx.URL]:
        """Return the address that the provider names, if it is on the host to which the key belongs."""
        url = await self._url("batches", batch, "results")
        named = description.get("results_url")
        try:
            named_url = httpx.URL(named) if isinstance(named, str) else url
        except httpx.InvalidURL:
            named_url = url
        same_host = (named_url.scheme, named_url.host, named_url.port) == (url.scheme, url.host, url.port)
        return [named_url if same_host else url]

    @staticmethod
    def _parse_result(key: str, entry: dict[str, Any]) -> ResultLine:
        result = entry.get("result")
        if not isinstance(result, dict):
            return ResultLine(None)
        kind = result.get("type")
        if kind == "succeeded" and isinstance(result.get("message"), dict):
            return ResultLine(key, 200, result["message"])
        if kind == "errored" and isinstance(result.get("error"), dict):
            body = result["error"]
            error = body.get("error") if isinstance(body.get("error"), dict) else body
            status = STATUSES.get(str(error.get("type")), 500)
            return ResultLine(key, status, body if error is not body else {"type": "error", "error": body})
        if kind in NOT_EXECUTED:
            return ResultLine(key, reason=NOT_EXECUTED[kind], expired=kind == "expired")
        return ResultLine(None)
