"""A provider of batches: OpenAI's and Azure's files and batches, Anthropic's message batches, plain routes.

It executes a batch when it ends, and counts what it would bill, by custom_id and by body. When batches end, what they
become, and which calls fail, is the test's to say.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from servers import shapes
from servers.batch_lines import Answer, Batch, End, Fate, compose_line, reply_of, shape_of
from servers.loopback import Asked, LoopbackServer, Reply
from servers.shapes import Shape

Call = Literal["upload", "create", "list", "poll", "results", "plain"]
Fault = Literal["429", "500", "401", "404", "400", "reset", "lost", "late-500", "cut", "html", "redirect"]
"""`lost`: done, but the connection is reset instead of an answer; `late-500`: done, but answered with status 500;
`cut`: half of the body, then the end."""

STRANGER = "f" * 64


def answer_plainly(shape: Shape, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to everything: B, with logprobs where they are asked for."""
    text = "Answer: B\nExplanation: It may rain."
    top = shapes.top_asked(shape, body)
    return shapes.answer(shape, str(body["model"]), text, "stop", shapes.spell(text, top) if top else None)


@dataclass
class BatchServer(LoopbackServer):
    """Use as a context manager. Batches end after `polls` looks at them, or when `finish` is called where that is None.

    `faults` holds for each kind of call what happens to its next ones, in order (None: nothing), `ends` what becomes
    of the next batches, `fates` what becomes of a request by its custom_id or by a text in its body.
    """

    polls: int | None = 1
    answer: Answer = answer_plainly
    faults: dict[Call, list[Fault | None]] = field(default_factory=dict)
    ends: list[End] = field(default_factory=list)
    fates: dict[str, Fate] = field(default_factory=dict)
    duplicates: bool = False
    stranger: bool = False
    page: int = 100
    results_host: str | None = None
    batches: dict[str, Batch] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    billed: Counter[str] = field(default_factory=Counter)
    bodies: Counter[str] = field(default_factory=Counter)
    calls: list[tuple[Call, str, Mapping[str, str]]] = field(default_factory=list)
    plain: list[dict[str, Any]] = field(default_factory=list)
    on_call: Callable[[Call], None] | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _count: int = 0

    def count(self, call: Call) -> int:
        """How many calls of a kind came in."""
        return sum(one == call for one, _, _ in self.calls)

    def finish(self) -> None:
        """Every batch ends now."""
        with self._lock:
            for batch in self.batches.values():
                self._execute(batch)

    def add(self, batch: Batch) -> None:
        """A batch of somebody else."""
        self.batches[batch.id] = batch

    def reply(self, asked: Asked) -> Reply:
        """Do what a call wants, unless it meets a fault."""
        path = asked.path.split("/messages/batches", 1)
        anthropic = len(path) == 2
        rest = (
            path[1] if anthropic else re.sub(r"^.*?/(?=(files|batches)\b|chat/|completions|messages)", "/", asked.path)
        )
        query = {name: values[-1] for name, values in parse_qs(urlsplit(asked.target).query).items()}
        with self._lock:
            call, work = self._route(asked.method, rest, query, asked.headers, asked.payload, anthropic)
            self.calls.append((call, asked.target, asked.headers))
            waiting = self.faults.get(call)
            fault = waiting.pop(0) if waiting else None
            content = work() if fault in (None, "lost", "late-500", "cut") else None
        if self.on_call is not None:
            self.on_call(call)
        return reply_of(fault, content)

    def _route(
        self,
        method: str,
        rest: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        payload: bytes,
        anthropic: bool,
    ) -> tuple[Call, Callable[[], Any]]:
        """The kind of a call, and what is to be done for it."""
        if anthropic:
            if method == "POST":
                requests = json.loads(payload)["requests"]
                items = [(one["custom_id"], "/v1/messages", one["params"]) for one in requests]
                return "create", lambda: self._show(self._create("anthropic", items))
            if rest.endswith("/results"):
                return "results", lambda: self.batches[rest.split("/")[1]].answers
            if rest:
                return "poll", lambda: self._poll(rest.removeprefix("/"))
            return "list", lambda: self._list("anthropic", query.get("after_id"), int(query["limit"]))
        if method == "POST" and rest == "/files":
            return "upload", lambda: self._upload(headers["content-type"], payload)
        if method == "POST" and rest == "/batches":
            return "create", lambda: self._show(self._create_of_file(json.loads(payload)))
        if rest.startswith("/files/"):
            return "results", lambda: self.files[rest.split("/")[2]]
        if rest.startswith("/batches/"):
            return "poll", lambda: self._poll(rest.removeprefix("/batches/"))
        if rest == "/batches":
            return "list", lambda: self._list("openai", query.get("after"), int(query["limit"]))
        return "plain", lambda: self._plain(rest, json.loads(payload))

    def _plain(self, rest: str, body: dict[str, Any]) -> dict[str, Any]:
        self.plain.append(body)
        return self.answer(shape_of(rest), body)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"

    def _upload(self, kind: str, payload: bytes) -> dict[str, Any]:
        boundary = kind.partition("boundary=")[2].encode()
        parts = [part.partition(b"\r\n\r\n") for part in payload.split(b"--" + boundary)]
        assert any(b'name="purpose"' in head and body.strip() == b"batch" for head, _, body in parts)
        name = self._name("file")
        self.files[name] = next(body for head, _, body in parts if b'name="file"' in head).removesuffix(b"\r\n")
        size = len(self.files[name])
        return {
            "id": name, "object": "file", "purpose": "batch", "bytes": size, "created_at": int(time.time()),
            "filename": "requests.jsonl", "status": "processed",
        }  # fmt: skip

    def _create_of_file(self, wish: dict[str, Any]) -> Batch:
        lines = [json.loads(line) for line in self.files[wish["input_file_id"]].splitlines()]
        assert {(line["method"], line["url"]) for line in lines} == {("POST", wish["endpoint"])}
        assert wish["completion_window"] == "24h"
        batch = self._create("openai", [(line["custom_id"], line["url"], line["body"]) for line in lines])
        batch.metadata, batch.file = wish["metadata"], wish["input_file_id"]
        return batch

    def _create(self, shape: Literal["openai", "anthropic"], items: list[tuple[str, str, dict[str, Any]]]) -> Batch:
        assert len({key for key, _, _ in items}) == len(items)
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", key) for key, _, _ in items)
        batch = Batch(self._name("msgbatch" if shape == "anthropic" else "batch"), shape, items, time.time())
        self.batches[batch.id] = batch
        return batch

    def _poll(self, name: str) -> dict[str, Any] | None:
        batch = self.batches.get(name)
        if batch is None:
            return None
        self._age(batch)
        return self._show(batch)

    def _age(self, batch: Batch) -> None:
        batch.polls += 1
        if self.polls is not None and batch.polls > self.polls:
            self._execute(batch)

    def _list(self, shape: str, after: str | None, limit: int) -> dict[str, Any]:
        newest = sorted((b for b in self.batches.values() if b.shape == shape), key=lambda b: -b.created)
        names = [batch.id for batch in newest]
        start, size = names.index(after) + 1 if after else 0, min(limit, self.page)
        page = newest[start : start + size]
        for batch in page:
            self._age(batch)
        return {"data": [self._show(batch) for batch in page], "has_more": start + size < len(names)}

    def _show(self, batch: Batch) -> dict[str, Any]:
        total = len(batch.items)
        done = batch.answers.count(b"\n") if batch.end else 0
        if batch.shape == "anthropic":
            counts = {"processing": 0 if batch.end else total, "succeeded": total if batch.end else 0}
            root = self.results_host or self.root
            return {
                "id": batch.id, "type": "message_batch", "processing_status": "ended" if batch.end else "in_progress",
                "request_counts": {**counts, "errored": 0, "canceled": 0, "expired": 0},
                "created_at": datetime.fromtimestamp(batch.created, UTC).isoformat().replace("+00:00", "Z"),
                "results_url": f"{root}/v1/messages/batches/{batch.id}/results" if batch.end else None,
            }  # fmt: skip
        names = {None: "in_progress", "ended": "completed", "refused": "failed", "full": "failed"}
        shown: dict[str, Any] = {
            "id": batch.id, "object": "batch", "status": names.get(batch.end, batch.end),
            "created_at": int(batch.created), "metadata": batch.metadata, "input_file_id": batch.file,
            "request_counts": {"total": total, "completed": done, "failed": 0},
            "endpoint": batch.items[0][1], "completion_window": "24h",
        }  # fmt: skip
        if batch.end in ("refused", "full"):
            code = "token_limit_exceeded" if batch.end == "full" else "invalid_json_line"
            shown["errors"] = {"data": [{"code": code, "message": f"Enqueued: {code}.", "line": None}]}
        for name, content in (("output_file_id", batch.answers), ("error_file_id", batch.failures)):
            if content:
                self.files[f"{batch.id}-{name}"] = content
                shown[name] = f"{batch.id}-{name}"
        return shown

    def _execute(self, batch: Batch) -> None:
        if batch.end is not None:
            return
        batch.end = self.ends.pop(0) if self.ends else "ended"
        if batch.end in ("refused", "full"):
            return
        lines: list[bytes] = []
        for number, (key, path, body) in enumerate(batch.items):
            fate = self._fate(key, body)
            if batch.end in ("expired", "cancelled") and number % 2:
                fate = "expired" if batch.end == "expired" else "canceled"
            if fate in ("ok", "malformed", "missing", "no-choices"):
                self.billed[key] += 1
                self.bodies[json.dumps(body, sort_keys=True)] += 1
            if fate != "missing":
                lines.append(compose_line(batch.shape, self.answer, key, path, body, fate))
        random.Random(len(lines)).shuffle(lines)
        if self.duplicates:
            lines += lines[:2]
        if self.stranger:
            lines.append(compose_line(batch.shape, self.answer, STRANGER, *batch.items[0][1:], "ok"))
        failed = [line for line in lines if batch.shape == "openai" and b'"error": {"code"' in line]
        batch.answers = b"".join(line + b"\n" for line in lines if line not in failed)
        batch.failures = b"".join(line + b"\n" for line in failed)

    def _fate(self, key: str, body: Mapping[str, Any]) -> Fate:
        text = json.dumps(body)
        found: Fate = next((fate for mark, fate in self.fates.items() if mark == key or mark in text), "ok")
        return "ok" if found == "rename" and "max_completion_tokens" in body else found
