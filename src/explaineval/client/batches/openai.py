"""Batches in OpenAI's shape: OpenAI itself, Azure OpenAI, and servers that offer /files and /batches like them.

A file of requests is uploaded, a batch is made of it, and its results are two files: answers, and what failed. The
batch carries our tag in its metadata, and the name of the uploaded file: by either it is found again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
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

WINDOW = "24h"
TAG = "explaineval"
PAGE = 100
MOST_PAGES = 100
SLACK = 86_400.0
"""Seconds by which the provider's clock may differ from ours; with a mark of our own a wide margin costs nothing."""

STATES: dict[str, Progress] = {
    "completed": "ended", "complete": "ended", "failed": "failed", "expired": "expired", "cancelled": "cancelled",
}  # fmt: skip
FULL = "token_limit_exceeded"
EXPIRED = "batch_expired"


class OpenAIBatches:
    """The batches of one model at one endpoint."""

    def __init__(
        self, endpoint: Endpoint, model: str, *, timeout: float, renamed: set[tuple[str | None, str]] | None = None
    ) -> None:
        self.name = model.partition("/")[0]
        self._endpoint, self._model = endpoint, model
        self._rehearsal = Rehearsal(endpoint, model, timeout=timeout, renamed=renamed)
        self._wire = Wire(endpoint, model, timeout)
        self._root: httpx.URL | None = None

    async def check(self) -> None:
        """Whether the list of batches can be looked at."""
        await self._wire.check_list(await self._at("batches"))

    async def prepare(self, request: Request, key: str) -> Item:
        """The line's path and body, as the ordinary route would send them."""
        sent = await self._rehearsal.send(request)
        path = "/chat/completions" if sent.url.path.endswith("/chat/completions") else "/completions"
        return Item(key, path if self.name == "azure" else f"/v1{path}", sent.body)

    async def upload(self, items: Sequence[Item], tag: str) -> str:
        """The id of the uploaded file of requests."""
        lines = []
        for item in items:
            head = json.dumps({"custom_id": item.key, "method": "POST", "url": item.path})
            lines.append(head[:-1].encode() + b', "body": ' + item.body + b"}\n")
        content = (f"{TAG}-{tag}.jsonl", b"".join(lines), "application/jsonl")
        found = await self._wire.post(await self._at("files"), data={"purpose": "batch"}, files={"file": content})
        return segment(found.get("id"))

    async def submit(self, items: Sequence[Item], tag: str, uploaded: str | None) -> str:
        """Create the batch of an uploaded file."""
        wish = {
            "input_file_id": uploaded,
            "endpoint": items[0].path,
            "completion_window": WINDOW,
            "metadata": {TAG: tag},
        }
        found = await self._wire.post(await self._at("batches"), creates=True, json=wish)
        if not is_identifier(found.get("id")):
            raise TransientError(f"{self._model}: the endpoint made a batch without a usable id")
        return str(found["id"])

    async def find(self, trace: Trace) -> list[Found]:
        """The batches of our list that carry the tag, or were made of the uploaded file."""
        found, after = [], ""
        for _ in range(MOST_PAGES):
            url, more = await self._at("batches"), {"after": after} if after else {}
            page = await self._wire.get(url, {"limit": str(PAGE), **more}) or {}
            batches = [one for one in page.get("data") or () if isinstance(one, Mapping)]
            for one in batches:
                ours = isinstance(one.get("metadata"), Mapping) and one["metadata"].get(TAG) == trace.tag
                if ours or (trace.uploaded is not None and one.get("input_file_id") == trace.uploaded):
                    found.append(Found(segment(one.get("id")), True, _state(one).progress))
            if found or not batches or not page.get("has_more"):
                break
            if max(_number(one.get("created_at")) for one in batches) < trace.since - SLACK:
                break
            after = segment(batches[-1].get("id"))
        return found

    async def status(self, batch: str) -> BatchState:
        """How far the batch is."""
        one = await self._wire.get(await self._at("batches", batch))
        return BatchState("missing") if one is None else _state(one)

    async def results(self, batch: str) -> AsyncIterator[Line]:
        """The lines of the file of answers, then those of the file of failures."""
        one = await self._wire.get(await self._at("batches", batch)) or {}
        for name in ("output_file_id", "error_file_id"):
            if one.get(name):
                async for text in self._wire.lines(await self._at("files", segment(one[name]), "content")):
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
        """An address beside the ordinary route's; Azure's keeps its version and drops the deployment."""
        if self._root is None:
            sent = await address_wire(self._rehearsal, self._wire, self._endpoint, self._model)
            path = sent.url.path.removesuffix("/chat/completions").partition("/deployments/")[0]
            self._root = sent.url.copy_with(path=path)
        return self._root.copy_with(path="/".join((self._root.path, *parts)))


def _state(one: Mapping[str, Any]) -> BatchState:
    progress = STATES.get(str(one.get("status")), "in_progress")
    counts = one.get("request_counts")
    counts = counts if isinstance(counts, Mapping) else {}
    total, completed, failed = (int(_number(counts.get(name))) for name in ("total", "completed", "failed"))
    if progress == "ended" and completed and not one.get("output_file_id"):
        progress = "in_progress"  # for a moment a completed batch does not name its file yet
    errors = one.get("errors")
    data = errors.get("data") if isinstance(errors, Mapping) else None
    faults = [fault for fault in data or () if isinstance(fault, Mapping)]
    reason = "; ".join(dict.fromkeys(str(fault.get("message") or fault.get("code")) for fault in faults))[:300]
    return BatchState(
        progress, total, completed + failed, reason, full=any(fault.get("code") == FULL for fault in faults)
    )


def _line(text: bytes) -> Line:
    one = parse_line(text)
    if isinstance(one, Line):
        return one
    if not isinstance(one.get("custom_id"), str):
        return Line(None)
    key, response, error = one["custom_id"], one.get("response"), one.get("error")
    if isinstance(response, Mapping) and isinstance(response.get("body"), Mapping):
        status = response.get("status_code")
        return Line(key, status if isinstance(status, int) else 200, response["body"])
    if isinstance(error, Mapping):
        code, message = error.get("code"), error.get("message")
        return Line(key, reason=str(message or code), expired=code == EXPIRED)
    return Line(None)


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
