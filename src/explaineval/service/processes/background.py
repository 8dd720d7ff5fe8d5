"""Work that takes seconds of computing, done in processes beside the server: plans, comparisons, reports, exports.

A process does one job after the other. One that takes too long is killed, and one that has died is replaced.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import re
import resource
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from explaineval.config import ClientConfig, RunConfig
from explaineval.errors import ExplainevalError, InputError
from explaineval.secrets import SECRETS
from explaineval.service.processes.sharing import FairSlots
from explaineval.service.processes.wire import encode

LARGEST_REPLY = 256 << 20
"""Bytes of the largest reply, a comparison of many models."""


class BusyError(Exception):
    """A job took too long, or its process died of it: it is too large for this service."""


@dataclass(eq=False)
class _Process:
    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
        self.writer.write(encode(dict(job)))
        line = await self.reader.readline()
        if not line:
            raise ConnectionError
        reply: dict[str, Any] = json.loads(line)
        return reply

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.writer.close()
        await self.process.wait()


class Background:
    """A bounded number of processes that do jobs.

    Args:
        directory: the data directory.
        slots: how many processes there are at the most, and how many jobs of one user there may be.
        seconds: how long one job may take.
        memory: bytes of address space that one process may have.
        environment: what they find in the environment.
    """

    def __init__(
        self, directory: Path, slots: FairSlots, seconds: float, memory: int, environment: Mapping[str, str]
    ) -> None:
        self.directory, self.seconds, self.memory, self.environment = directory, seconds, memory, environment
        self.slots = slots
        self._idle: list[_Process] = []
        self._all: set[_Process] = set()

    async def do(self, job: str, user: str = "", **arguments: Any) -> Any:
        """Return the result of a job for a user; without one, for the service itself.

        Raises InputError where what it is about cannot be used, BusyError where it takes too long or too much memory,
        TooManyJobsError where the user has too many.
        """
        async with self.slots.slot(user):
            process = self._idle.pop() if self._idle else await self._start()
            done = False
            try:
                async with asyncio.timeout(self.seconds):
                    reply = await process.ask({"job": job, "arguments": arguments})
                done = True
            except TimeoutError:
                raise BusyError(f"this takes longer than {self.seconds:g} seconds: ask for less.") from None
            except (OSError, ValueError):
                raise BusyError("this takes more memory than is allowed: ask for less.") from None
            finally:
                if done:
                    self._idle.append(process)
                else:
                    self._all.discard(process)
                    await asyncio.shield(process.kill())
        if "error" in reply:
            raise InputError(without_paths(reply["error"], self.directory))
        if "fault" in reply:
            raise RuntimeError(reply["fault"])
        return reply["result"]

    async def close(self) -> None:
        """End all processes."""
        for process in self._all:
            await process.kill()

    async def _start(self) -> _Process:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(self.memory),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),), cwd=self.directory, env=dict(self.environment), start_new_session=True,
            )  # fmt: skip
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LARGEST_REPLY)
        started = _Process(process, reader, writer)
        self._all.add(started)
        return started


def without_paths(text: str, directory: Path) -> str:
    """Return a sentence without the server's data directory: uploads and runs stand there by their names alone."""
    return re.sub(re.escape(str(directory)) + r"/(?:uploads/[^/\s]+/|runs/)?", "", text)


def plan(science: Mapping[str, Any], client: Mapping[str, Any], most: int) -> dict[str, Any]:
    """What a run would ask and cost; it may plan at most so many requests."""
    from explaineval.execution.dry_run import plan_run

    planned = plan_run(RunConfig(**science), ClientConfig(**client), most_requests=most)
    return planned.document | {"warnings": [note.model_dump(mode="json") for note in planned.notes]}


def bills(science: Mapping[str, Any], client: Mapping[str, Any], keys: list[str]) -> dict[str, float]:
    """The dollars of a run's answers that are in the cache, by their keys; those of unknown price are left out."""
    from explaineval.cache import holds_store, open_store
    from explaineval.client.spending import CostBound
    from explaineval.planning.cost import prices_of, read_price_list

    config, settings = RunConfig(**science), ClientConfig(**{**client, "max_usd": None})
    if not holds_store(settings.cache):
        return {}
    prices = prices_of(config.models, settings, read_price_list(), config.params).singly
    dollars = {}
    with open_store(settings.cache, readonly=True) as store:
        for key, request, completion in store.iterate(keys):
            price = prices.get((request.endpoint, request.model))
            if price is not None:
                dollars[key] = CostBound(price).bill(request, completion)
    return dollars


def check_file(path: str, name: str, most_rows: int) -> dict[str, Any]:
    """What an uploaded file holds: examples of a task, or interventions; every row is checked."""
    from explaineval.datasets.readers import read_task
    from explaineval.datasets.text_files import read_jsonl
    from explaineval.interventions.files import check_line

    rows = 0
    kind: str | None = None
    for place, value in read_jsonl(Path(path)):
        rows += 1
        if rows > most_rows:
            raise InputError(f"{name} has more than {most_rows:,} rows: upload a part of it.")
        kind = kind or ("interventions" if "example_id" in value else "task")
        if kind == "interventions":
            check_line(value, place)
    if kind is None:
        raise InputError(f"{name} is empty: write one JSON object a line.")
    if kind == "task":
        read_task("jsonl", Path(path), Path(name).stem)
    return {"kind": kind, "rows": rows}


def compare(directories: list[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Compare what run directories hold, as `explaineval compare --json` does."""
    from explaineval.reporting.comparison_view import document_of, warning_documents
    from explaineval.scoring.comparisons import compare_runs

    results = compare_runs([Path(path) for path in directories], **arguments)
    return document_of(results) | {"warnings": list(warning_documents(results))}


def report(directories: list[str], target: str) -> int:
    """Write the page on run directories to a file; return its size in bytes."""
    from explaineval.files import write_text_atomic
    from explaineval.reporting.page import page_of, read_for_page

    page = page_of(*read_for_page([Path(path) for path in directories]))
    write_text_atomic(Path(target), page.html)
    return len(page.html)


def export(directory: str, cache: str, format: str, rows: str, target: str) -> int:
    """Write a run for other programs, or as a bundle with its answers in the cache; return the size in bytes."""
    from explaineval.archive.bundle import client_of, prepared_from, write_bundle
    from explaineval.cache import open_store
    from explaineval.reporting.exports import BUNDLE, FORMATS, ExportRequest
    from explaineval.rundir.directory import read_run

    out = Path(target)
    draft = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        if format == BUNDLE:
            client = client_of(read_run(Path(directory)), Path(cache))
            with open_store(client.cache, readonly=True) as store:
                write_bundle(Path(directory), prepared_from(Path(directory), client), store, draft)
        else:
            FORMATS[format].write(ExportRequest(Path(directory), rows, datetime.now(UTC)), draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return out.stat().st_size


def cache_stats(cache: str, prices: Mapping[str, list[float] | None]) -> dict[str, Any]:
    """Count the answers of the cache, with their dollars; prices by endpoint are those that the operator gives."""
    from explaineval.cache import holds_store, open_store
    from explaineval.config.values import is_private
    from explaineval.cost import FREE, Price, price_given
    from explaineval.records import EMBEDDED_ENDPOINT, SIMULATED_ENDPOINT, Request

    def price_of(request: Request) -> Price | None:
        name = request.endpoint or ""
        given = prices.get(name)
        if given is not None:
            return price_given((given[0], given[1]))
        if name.startswith((EMBEDDED_ENDPOINT, SIMULATED_ENDPOINT)):
            return FREE
        return FREE if "://" in name and is_private(name) else None

    if not holds_store(Path(cache)):
        return {"entries": 0, "refused": 0, "bytes": 0, "models": [], "usd": 0.0}
    with open_store(Path(cache), readonly=True) as store:
        return asdict(store.stats(price_of))


def probes(cache: str, models: list[tuple[str | None, str]]) -> list[dict[str, Any]]:
    """The stored probes of models at endpoints, each with its endpoint and model."""
    from explaineval.cache import holds_store, open_store
    from explaineval.client.endpoints.capabilities import stored_probe

    if not holds_store(Path(cache)):
        return []
    with open_store(Path(cache), readonly=True) as store:
        stored = ((endpoint, model, stored_probe(store, endpoint, model)) for endpoint, model in models)
        return [{"endpoint": name, "model": model, **probe} for name, model, probe in stored if probe is not None]


JOBS: Mapping[str, Callable[..., Any]] = {
    job.__name__: job for job in (plan, bills, check_file, compare, report, export, cache_stats, probes)
}


def main() -> None:
    """Do the jobs that come over the descriptor that the command line names, until it is closed."""
    descriptor, memory = map(int, sys.argv[1:3])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    SECRETS.learn(os.environ)
    with socket.socket(fileno=descriptor) as connection, connection.makefile("rb") as lines:
        for line in lines:
            request = json.loads(line)
            reply: dict[str, Any]
            try:
                reply = {"result": JOBS[request["job"]](**request["arguments"])}
            except ExplainevalError as exc:
                reply = {"error": str(exc)}
            except MemoryError:
                raise
            except Exception as exc:
                reply = {"fault": SECRETS.mask(f"{type(exc).__name__}: {exc}")}
            connection.sendall(encode(reply))
            gc.collect()


if __name__ == "__main__":
    main()
