"""The batch APIs of providers, and PROVIDERS, the table of models that can be asked by batches.

A `BatchAPI` says what is written and read at one provider; `client` sends it, and `machine` decides what is done next.
To add a provider, write its class here (or use one that is here), and add a row to PROVIDERS. Pure.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal, NamedTuple
from urllib.parse import quote

from explaineval.client.batches.journal import JournalEntry
from explaineval.client.endpoints.bodies import MOST_VALUES, OverBoundsError, measure
from explaineval.client.responses import read_json
from explaineval.config import Endpoint
from explaineval.errors import EndpointError, InputError

Progress = Literal["in_progress", "ended", "failed", "expired", "cancelled", "missing"]

MOST_COUNTED = 10**9
"""A count of requests above this is no count."""
IDENTIFIER = re.compile(r"[A-Za-z0-9_.:-]{1,300}")
CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([0-9A-Za-z_.:-]{1,200})"')
CUT = 65_536
"""Bytes that are kept of a line of results that is too long."""
TOO_LONG = b"\x00too long"
"""Ends what is kept of a line of results that is too long. No JSON text contains it."""


@dataclass(frozen=True)
class BatchItem:
    """One request as it goes into a batch.

    `key` is the request's cache key and the item's custom_id, `path` the route's path, `body` the request as JSON.
    """

    key: str
    path: str
    body: bytes


@dataclass(frozen=True)
class BatchState:
    """How far a batch is.

    The progress `failed` means that the batch was refused as a whole and nothing was executed, `missing` that the
    provider knows no batch of this id. `total` and `done` count requests. `queue_full` marks a refusal because too much
    is queued already, so that the same batch may be taken later. `fault` says what in the description cannot be read.
    """

    progress: Progress
    total: int = 0
    done: int = 0
    reason: str = ""
    queue_full: bool = False
    fault: str = ""


@dataclass(frozen=True)
class ResultLine:
    """One line of a batch's results.

    `key` is None where the line cannot be read. `status` and `body` are those of the response to the request. Without a
    status the request was not executed, and `reason` says why. `oversized` marks a line beyond the bounds on responses,
    whose body was not read.
    """

    key: str | None
    status: int | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    expired: bool = False
    oversized: bool = False


class ResultFile(NamedTuple):
    """Where results are: `path` under the root, and the address that the provider names, if it names one."""

    path: str
    named: object = None


@dataclass(frozen=True)
class Candidate:
    """A batch in the provider's list that may be the one of a journal entry.

    `certain` where it carries the entry's tag; `ended` where its results can be read.
    """

    batch: str
    certain: bool
    ended: bool


class BatchAPI(ABC):
    """What one provider's interface for batches takes and returns."""

    cursor: ClassVar[str]
    """The query parameter that takes the id after which the next page of the list begins."""
    clock_skew: ClassVar[float]
    """Seconds by which the provider's clock may differ from this machine's."""
    has_address: bool = True
    """Whether the provider has an address that is the same for everybody."""

    def root_path(self, path: str) -> str:
        """Return the path under which batches are found, from that of the route for single requests."""
        return path

    def item_path(self, path: str) -> str:
        """Return how a batch names the route of this path."""
        return path

    def upload(self, items: Sequence[BatchItem], tag: str) -> dict[str, Any] | None:  # noqa: ARG002 - not every provider has such a step
        """Return the content of the call that uploads the requests, where that is a step of its own. It is free."""
        return None

    @abstractmethod
    def creation(self, items: Sequence[BatchItem], tag: str, uploaded: str | None) -> dict[str, Any]:
        """Return the content of the call that creates the batch. `uploaded` is the id of the uploaded file."""

    @abstractmethod
    def created(self, description: Mapping[str, Any]) -> float:
        """Return when a batch was created, in seconds since the epoch."""

    @abstractmethod
    def match(self, description: Mapping[str, Any], entry: JournalEntry, taken: frozenset[str]) -> Candidate | None:
        """Return the batch as a candidate for this entry, None where it cannot be the entry's.

        `taken` holds the ids of batches that belong to other entries.
        """

    @abstractmethod
    def state(self, description: Mapping[str, Any]) -> BatchState:
        """Parse the provider's description of a batch."""

    @abstractmethod
    def result_files(self, batch: str, description: Mapping[str, Any]) -> list[ResultFile]:
        """Return where the batch's results are."""

    @abstractmethod
    def result(self, key: str, entry: dict[str, Any]) -> ResultLine:
        """Parse the JSON object in a line of results, whose custom_id is `key`."""

    def parse_line(self, line: bytes) -> ResultLine:
        """Parse a line of results. Its size is checked before its JSON is parsed."""
        try:
            if line.endswith(TOO_LONG):
                raise OverBoundsError("too long")
            measure(line, MOST_VALUES)
        except OverBoundsError:
            match = CUSTOM_ID.search(line, 0, CUT)
            return ResultLine(match[1].decode("ascii") if match else None, oversized=True)
        try:
            entry = read_json(line)
        except (ValueError, RecursionError):  # also bytes that are not UTF-8
            return ResultLine(None)
        if not isinstance(entry, dict) or not isinstance(entry.get("custom_id"), str):
            return ResultLine(None)
        return self.result(entry["custom_id"], entry)


@dataclass(frozen=True)
class OpenAIBatches(BatchAPI):
    """OpenAI's form: OpenAI itself, Azure OpenAI, and servers that offer /files and /batches like them.

    A file of requests is uploaded, a batch is made of it, and its results are two files: answers, and errors. The batch
    carries our tag in its metadata and the id of the uploaded file; by either it can be found again.
    """

    cursor = "after"
    clock_skew = 86_400.0  # with a tag of our own a wide margin costs nothing
    version: str = "/v1"
    """Comes before the path of a request inside a batch."""
    has_address: bool = True

    TAG: ClassVar[str] = "explaineval"
    WINDOW: ClassVar[str] = "24h"
    PROGRESS: ClassVar[Mapping[str, Progress]] = {
        "completed": "ended", "complete": "ended", "failed": "failed", "expired": "expired", "cancelled": "cancelled",
    }  # fmt: skip
    """By the provider's status; any other status is in progress."""

    def root_path(self, path: str) -> str:
        """Return the path beside the chat route, without the deployment that Azure's names."""
        return path.removesuffix("/chat/completions").partition("/deployments/")[0]

    def item_path(self, path: str) -> str:
        """Return the route's path as OpenAI writes it, whatever the server's address."""
        return self.version + ("/chat/completions" if path.endswith("/chat/completions") else "/completions")

    def upload(self, items: Sequence[BatchItem], tag: str) -> dict[str, Any]:
        """Return the file of requests."""
        lines = []
        for item in items:
            head = json.dumps({"custom_id": item.key, "method": "POST", "url": item.path})
            lines.append(head[:-1].encode() + b', "body": ' + item.body + b"}\n")
        file = (f"{self.TAG}-{tag}.jsonl", b"".join(lines), "application/jsonl")
        return {"data": {"purpose": "batch"}, "files": {"file": file}}

    def creation(self, items: Sequence[BatchItem], tag: str, uploaded: str | None) -> dict[str, Any]:
        """Return the description of the batch of an uploaded file."""
        description = {"input_file_id": uploaded, "endpoint": items[0].path, "completion_window": self.WINDOW}
        return {"json": {**description, "metadata": {self.TAG: tag}}}

    def created(self, description: Mapping[str, Any]) -> float:
        """Return the time of creation, 0 where it is none."""
        value = description.get("created_at")
        usable = type(value) in (int, float) and 0 <= value <= 10**12  # type: ignore[operator]
        return float(value) if usable else 0.0  # type: ignore[arg-type]

    def match(self, description: Mapping[str, Any], entry: JournalEntry, taken: frozenset[str]) -> Candidate | None:  # noqa: ARG002 - the tag tells
        """Return a batch with the entry's tag or file."""
        uploaded = description.get("input_file_id")
        tagged = _mapping(description.get("metadata")).get(self.TAG) == entry.tag
        if not tagged and (entry.uploaded is None or uploaded != entry.uploaded):
            return None
        return Candidate(path_segment(description.get("id")), certain=True, ended=False)

    def state(self, description: Mapping[str, Any]) -> BatchState:
        """Parse the description of a batch."""
        progress = self.PROGRESS.get(str(description.get("status")), "in_progress")
        counts, fault = read_counts(description.get("request_counts"), ("total", "completed", "failed"))
        total, completed, failed = counts.values()
        if progress == "ended" and completed and not description.get("output_file_id"):
            progress = "in_progress"  # for a moment a completed batch does not name its file yet
        listed = as_list(_mapping(description.get("errors")).get("data"))
        errors = [error for error in listed if isinstance(error, Mapping)]
        reason = "; ".join(dict.fromkeys(str(error.get("message") or error.get("code")) for error in errors))[:300]
        queue_full = any(error.get("code") == "token_limit_exceeded" for error in errors)
        return BatchState(progress, total, completed + failed, reason, queue_full, fault)

    def result_files(self, batch: str, description: Mapping[str, Any]) -> list[ResultFile]:  # noqa: ARG002 - the files have ids of their own
        """Return the files of answers and of errors."""
        files = [description[name] for name in ("output_file_id", "error_file_id") if description.get(name)]
        return [ResultFile(f"files/{path_segment(file)}/content") for file in files]

    def result(self, key: str, entry: dict[str, Any]) -> ResultLine:
        """Parse a line: a response, or the reason why there is none."""
        response, error = entry.get("response"), entry.get("error")
        if isinstance(response, Mapping) and isinstance(response.get("body"), Mapping):
            status = response.get("status_code")
            return ResultLine(key, status if isinstance(status, int) else 200, response["body"])
        if isinstance(error, Mapping):
            code, message = error.get("code"), error.get("message")
            return ResultLine(key, reason=str(message or code), expired=code == "batch_expired")
        return ResultLine(None)


class AnthropicBatches(BatchAPI):
    """Anthropic's Message Batches: the requests go in one body, and the results come as one file of lines.

    A batch has no field for a tag of ours. One whose creation was not confirmed is looked for by its time and its
    number of requests, and recognised by the custom_ids in its results.
    """

    cursor = "after_id"
    clock_skew = 3_600.0

    STATUSES: ClassVar[Mapping[str, int]] = {
        "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
        "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500,
        "timeout_error": 504, "overloaded_error": 529,
    }  # fmt: skip
    """By the type of an error in a line of results: the status that the same request would have met by itself."""
    COUNTS: ClassVar[Sequence[str]] = ("processing", "succeeded", "errored", "canceled", "expired")
    NOT_EXECUTED: ClassVar[Mapping[str, str]] = {
        "expired": "the batch expired before it was executed",
        "canceled": "the batch was cancelled before it was executed",
    }

    def creation(self, items: Sequence[BatchItem], tag: str, uploaded: str | None) -> dict[str, Any]:  # noqa: ARG002 - no field for either
        """Return the body that holds all requests."""
        requests = (b'{"custom_id": "' + item.key.encode() + b'", "params": ' + item.body + b"}" for item in items)
        body = b'{"requests": [' + b", ".join(requests) + b"]}"
        return {"content": body, "headers": {"content-type": "application/json"}}

    def created(self, description: Mapping[str, Any]) -> float:
        """Return the time of creation; a time that cannot be read counts as now or later."""
        try:
            return datetime.fromisoformat(str(description.get("created_at"))).timestamp()
        except (ValueError, OverflowError):
            return float("inf")

    def match(self, description: Mapping[str, Any], entry: JournalEntry, taken: frozenset[str]) -> Candidate | None:
        """Return a batch that is not older than the entry, has as many requests, and belongs to no other entry."""
        if self.created(description) < entry.created - self.clock_skew:
            return None
        batch, state = path_segment(description.get("id")), self.state(description)
        if state.total != entry.count or batch in taken:
            return None
        return Candidate(batch, certain=False, ended=state.progress == "ended")

    def state(self, description: Mapping[str, Any]) -> BatchState:
        """Parse the description of a batch."""
        numbers, fault = read_counts(description.get("request_counts"), self.COUNTS)
        total = sum(numbers.values())
        progress: Progress = "ended" if description.get("processing_status") == "ended" else "in_progress"
        return BatchState(progress, total, total - numbers["processing"], fault=fault)

    def result_files(self, batch: str, description: Mapping[str, Any]) -> list[ResultFile]:
        """Return the one file, which the provider names."""
        return [ResultFile(f"batches/{batch}/results", description.get("results_url"))]

    def result(self, key: str, entry: dict[str, Any]) -> ResultLine:
        """Parse a line: a message, an error, or the reason why there is neither."""
        outcome = entry.get("result")
        if not isinstance(outcome, dict):
            return ResultLine(None)
        kind = outcome.get("type")
        if kind == "succeeded" and isinstance(outcome.get("message"), dict):
            return ResultLine(key, 200, outcome["message"])
        if kind == "errored" and isinstance(outcome.get("error"), dict):
            body = outcome["error"]
            error = body.get("error") if isinstance(body.get("error"), dict) else body
            status = self.STATUSES.get(str(error.get("type")), 500)
            return ResultLine(key, status, body if error is not body else {"type": "error", "error": body})
        reason = self.NOT_EXECUTED.get(str(kind))
        return ResultLine(None) if reason is None else ResultLine(key, reason=reason, expired=kind == "expired")


PROVIDERS: dict[str, BatchAPI] = {
    "openai": OpenAIBatches(),
    "azure": OpenAIBatches(version="", has_address=False),
    "anthropic": AnthropicBatches(),
}
"""The batch API of the models of each provider (what stands before the slash in a model's name)."""


def check_batches(model: str, endpoint: Endpoint) -> None:
    """Raises InputError where a model (provider/model) cannot be asked by batches."""
    provider = model.partition("/")[0]
    api = PROVIDERS.get(provider)
    if api is None:
        *names, last = (f"{name}/" for name in PROVIDERS)
        raise InputError(
            f"{model} cannot be asked by batches, which only {', '.join(names)} and {last} models have; leave "
            "out --batch."
        )
    if not api.has_address and endpoint.base_url is None:
        raise InputError(f"{model}: {provider.capitalize()} has no common address; give your resource's by --base-url.")


def read_counts(counts: object, names: Sequence[str]) -> tuple[dict[str, int], str]:
    """Return counts of requests by name, 0 where one is missing, and what in them is no count ("" for nothing).

    >>> read_counts({"total": 3, "done": float("inf")}, ("total", "done"))
    ({'total': 3, 'done': 0}, 'request_counts.done is inf')
    """
    if counts is None:
        return dict.fromkeys(names, 0), ""
    if not isinstance(counts, Mapping):
        return dict.fromkeys(names, 0), f"request_counts is {_in_short(counts)}"
    numbers, fault = {}, ""
    for name in names:
        value = counts.get(name)
        if value is None or (type(value) in (int, float) and 0 <= value <= MOST_COUNTED):
            numbers[name] = int(value or 0)
        else:
            numbers[name] = 0
            fault = fault or f"request_counts.{name} is {_in_short(value)}"
    return numbers, fault


def as_list(value: object) -> Sequence[Any]:
    """Return a list from the provider; an empty one where it is something else."""
    return value if isinstance(value, list) else ()


def path_segment(identifier: object) -> str:
    """Return an identifier from the provider as one segment of a path.

    Raises:
        EndpointError: the identifier could lead to another path.
    """
    if not is_identifier(identifier):
        raise EndpointError(f"the endpoint names a batch or file {str(identifier)[:80]!r}, which is no identifier.")
    return quote(str(identifier), safe=":")


def is_identifier(text: object) -> bool:
    """Return whether the text can be one segment of a path."""
    return isinstance(text, str) and bool(IDENTIFIER.fullmatch(text) and text.strip("."))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _in_short(value: object) -> str:
    """Return a value from the provider in a few characters."""
    if type(value) is int and abs(value) > MOST_COUNTED:
        return "a number beyond all bounds"
    return repr(value)[:40]
