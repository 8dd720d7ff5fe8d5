"""Batches in OpenAI's form: OpenAI itself, Azure OpenAI, and servers that offer /files and /batches like them.

A file of requests is uploaded, a batch is made of it, and its results are two files: answers, and errors. The batch
carries our tag in its metadata and the id of the uploaded file; by either it can be found again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
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
    as_list,
    path_segment,
    read_counts,
    read_time,
)
from explaineval.records import Request

WINDOW = "24h"
TAG = "explaineval"
PROGRESS: dict[str, Progress] = {
    "completed": "ended", "complete": "ended", "failed": "failed", "expired": "expired", "cancelled": "cancelled",
}  # fmt: skip
"""By the provider's status; any other status is in progress."""
QUEUE_FULL = "token_limit_exceeded"
EXPIRED = "batch_expired"


class OpenAIBatches(BatchProvider):
    """The batches of one model at one endpoint in OpenAI's form."""

    cursor = "after"
    clock_skew = 86_400.0  # with a tag of our own a wide margin costs nothing

    async def prepare(self, request: Request, key: str) -> BatchItem:
        """Return the request's path and body as the ordinary client would send them."""
        sent = await self._dry_run.send(request)
        path = "/chat/completions" if sent.url.path.endswith("/chat/completions") else "/completions"
        return BatchItem(key, path if self.name == "azure" else f"/v1{path}", sent.body)

    async def upload(self, items: Sequence[BatchItem], tag: str) -> str:
        """Upload the file of requests and return its id."""
        lines = []
        for item in items:
            head = json.dumps({"custom_id": item.key, "method": "POST", "url": item.path})
            lines.append(head[:-1].encode() + b', "body": ' + item.body + b"}\n")
        file = (f"{TAG}-{tag}.jsonl", b"".join(lines), "application/jsonl")
        uploaded = await self._http.post(await self._url("files"), data={"purpose": "batch"}, files={"file": file})
        return path_segment(uploaded.get("id"))

    async def submit(self, items: Sequence[BatchItem], tag: str, uploaded: str | None) -> str:
        """Create the batch of an uploaded file and return its id."""
        description = {
            "input_file_id": uploaded,
            "endpoint": items[0].path,
            "completion_window": WINDOW,
            "metadata": {TAG: tag},
        }
        return await self._create(json=description)

    @staticmethod
    def _root_path(path: str) -> str:
        return path.removesuffix("/chat/completions").partition("/deployments/")[0]  # Azure's names the deployment

    @staticmethod
    def _created(description: Mapping[str, Any]) -> float:
        return read_time(description.get("created_at"))

    @classmethod
    def _match(cls, description: Mapping[str, Any], entry: JournalEntry, known: frozenset[str]) -> Candidate | None:  # noqa: ARG003 - the tag tells
        metadata, uploaded = description.get("metadata"), description.get("input_file_id")
        tagged = isinstance(metadata, Mapping) and metadata.get(TAG) == entry.tag
        if not tagged and (entry.uploaded is None or uploaded != entry.uploaded):
            return None
        return Candidate(path_segment(description.get("id")), certain=True, ended=False)

    @staticmethod
    def _parse_state(description: Mapping[str, Any]) -> BatchState:
        progress = PROGRESS.get(str(description.get("status")), "in_progress")
        counts, fault = read_counts(description.get("request_counts"), ("total", "completed", "failed"))
        total, completed, failed = counts.values()
        if progress == "ended" and completed and not description.get("output_file_id"):
            progress = "in_progress"  # for a moment a completed batch does not name its file yet
        listed = as_list(_mapping(description.get("errors")).get("data"))
        errors = [error for error in listed if isinstance(error, Mapping)]
        reason = "; ".join(dict.fromkeys(str(error.get("message") or error.get("code")) for error in errors))[:300]
        queue_full = any(error.get("code") == QUEUE_FULL for error in errors)
        return BatchState(progress, total, completed + failed, reason, queue_full, fault)

    async def _result_urls(self, batch: str, description: Mapping[str, Any]) -> list[httpx.URL]:  # noqa: ARG002 - the files have ids of their own
        files = [description[name] for name in ("output_file_id", "error_file_id") if description.get(name)]
        return [await self._url("files", path_segment(file), "content") for file in files]

    @staticmethod
    def _parse_result(key: str, entry: dict[str, Any]) -> ResultLine:
        response, error = entry.get("response"), entry.get("error")
        if isinstance(response, Mapping) and isinstance(response.get("body"), Mapping):
            status = response.get("status_code")
            return ResultLine(key, status if isinstance(status, int) else 200, response["body"])
        if isinstance(error, Mapping):
            code, message = error.get("code"), error.get("message")
            return ResultLine(key, reason=str(message or code), expired=code == EXPIRED)
        return ResultLine(None)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
