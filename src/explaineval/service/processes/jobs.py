"""The jobs of the processes beside the server: `python -m explaineval.service.processes.jobs DESCRIPTOR MEMORY`.

Each is a function of plain values with a plain result, and does what the command of its name does.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from explaineval.config import ClientConfig, RunConfig
from explaineval.errors import ExplainevalError, InputError
from explaineval.secrets import SECRETS
from explaineval.service.gate.connection import encode


def plan(science: Mapping[str, Any], client: Mapping[str, Any], most: int) -> dict[str, Any]:
    """What a run would ask and cost; it may plan at most so many requests."""
    from explaineval.execution.dry_run import plan_run

    found = plan_run(RunConfig(**science), ClientConfig(**client), most_requests=most)
    return found.document | {"warnings": [note.model_dump(mode="json") for note in found.notes]}


def bills(science: Mapping[str, Any], client: Mapping[str, Any], keys: list[str]) -> dict[str, float]:
    """The dollars of a run's answers that are in the cache, by their keys; those of unknown price are left out."""
    from explaineval.cache import holds_store, open_store
    from explaineval.client.spending import CostBound
    from explaineval.planning.cost import prices_of, read_price_list

    config, settings = RunConfig(**science), ClientConfig(**{**client, "max_usd": None})
    if not holds_store(settings.cache):
        return {}
    prices = prices_of(config.models, settings, read_price_list(), config.params).singly
    found = {}
    with open_store(settings.cache, readonly=True) as store:
        for key, request, completion in store.iterate(keys):
            price = prices.get((request.endpoint, request.model))
            if price is not None:
                found[key] = CostBound(price).bill(request, completion)
    return found


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
    from explaineval.reporting.comparison_document import document_of, warning_documents
    from explaineval.scoring.comparisons import compare_runs

    results = compare_runs([Path(path) for path in directories], **arguments)
    return document_of(results) | {"warnings": list(warning_documents(results))}


def report(directories: list[str], target: str) -> int:
    """Write the page on run directories to a file; return its size in bytes."""
    from explaineval.files import write_text_atomic
    from explaineval.reporting.page.whole import page_of
    from explaineval.reporting.results import read_results

    page = page_of(read_results([Path(path) for path in directories], every_policy=True))
    write_text_atomic(Path(target), page.html)
    return len(page.html)


def export(directory: str, cache: str, format: str, rows: str, target: str) -> int:
    """Write a run for other programs, or as a bundle with its answers in the cache; return the size in bytes."""
    from explaineval.archive.bundle import write_bundle
    from explaineval.archive.restore import client_of, prepared_from
    from explaineval.cache import open_store
    from explaineval.reporting.exports.formats import BUNDLE, FORMATS, Choice
    from explaineval.rundir.directory import read_run

    out = Path(target)
    draft = out.with_name(f".{os.getpid()}.{out.name}")
    try:
        if format == BUNDLE:
            client = client_of(read_run(Path(directory)), Path(cache))
            with open_store(client.cache, readonly=True) as store:
                write_bundle(Path(directory), prepared_from(Path(directory), client), store, draft)
        else:
            FORMATS[format].write(Choice(Path(directory), rows, datetime.now(UTC)), draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return out.stat().st_size


def cache_stats(cache: str, prices: Mapping[str, list[float] | None]) -> dict[str, Any]:
    """Count the answers of the cache, with their dollars; prices by endpoint are those that the operator gives."""
    from explaineval.cache import holds_store, open_store
    from explaineval.config.endpoint import is_private
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
        found = ((endpoint, model, stored_probe(store, endpoint, model)) for endpoint, model in models)
        return [{"endpoint": name, "model": model, **probe} for name, model, probe in found if probe is not None]


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
