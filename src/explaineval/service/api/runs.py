"""Routes of runs: plan, submit, list, follow, stop, continue, delete, read results, compare."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import FileResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import JsonValue

from explaineval.records import MetricRow
from explaineval.service.api.dependencies import AskedRun, Asking, AuthenticatedRoute, RunId, Service, count_follower
from explaineval.service.errors import plain_responses, responses
from explaineval.service.models import (
    ComparisonRequest,
    Continuation,
    Plan,
    RunList,
    RunSettings,
    RunView,
    Submitted,
)
from explaineval.service.runs import EXPORTED, FILES

router = APIRouter(
    prefix="/api", route_class=AuthenticatedRoute, tags=["runs"], responses=responses(400, 401, 403, 408, 413, 422, 503)
)
OF_A_RUN = (
    "get_run",
    "follow_run",
    "stop_run",
    "continue_run",
    "delete_run",
    "get_metrics",
    "get_trials",
    "get_report",
)
LINKS = {name: {"operationId": name, "parameters": {"run": "$response.body#/id"}} for name in OF_A_RUN}
"""What can be done with a run that was submitted, for the OpenAPI description."""
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads allow-modals allow-popups; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'"
)
"""A report is a page of its own with its script inside: it runs apart from the service, without its cookies."""


@router.post("/plans", responses=responses(402))
async def plan_run(settings: RunSettings, user: Asking, service: Service) -> Plan:
    """Say what a run would ask and cost. Nothing is sent."""
    return await service.plan(user, settings)


@router.post("/runs", status_code=201, responses=responses(402, 409) | {201: {"links": LINKS}})
async def submit_run(settings: RunSettings, user: Asking, service: Service) -> Submitted:
    """Submit a run. It starts when what it may cost (max_usd, else its worst case) fits what is left of the budget."""
    row = await service.submit(user, settings)
    return Submitted(id=row.id, state=row.state, plan=Plan.model_validate(row.plan))


@router.get("/runs")
async def list_runs(
    user: Asking,
    service: Service,
    before: Annotated[int | None, Query(ge=1, le=2**53, description="Only runs below this number (`next`).")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
) -> RunList:
    """List the runs of the token, an admin's those of all, the newest first."""
    return await service.list_runs(user, before, limit)


@router.get("/runs/{run}", responses=responses(404))
async def get_run(row: AskedRun, service: Service) -> RunView:
    """Say how a run is now."""
    return service.view(row)


@router.get(
    "/runs/{run}/events",
    response_class=EventSourceResponse,
    responses=plain_responses(400, 401, 403, 404, 408, 413, 422, 429, 503),
    dependencies=[Depends(count_follower)],
)
async def follow_run(
    row: AskedRun, user: Asking, service: Service, last_event_id: Annotated[str | None, Header(max_length=100)] = None
) -> AsyncIterator[ServerSentEvent]:
    """Follow a run: events `run` with the document of GET /api/runs/{run}, the last of them named `end`."""
    async for message in service.follow(user, row.id, last_event_id):
        yield ServerSentEvent(raw_data=message.data, event="end" if message.last else "run", id=message.id, retry=2000)


@router.post("/runs/{run}/stop", responses=responses(404, 409))
async def stop_run(run: RunId, user: Asking, service: Service) -> RunView:
    """Ask a run to stop: nothing more is sent, and answers under way, which are paid for, are waited for."""
    return service.view(await service.stop(user, run))


@router.post("/runs/{run}/continue", responses=responses(402, 404, 409))
async def continue_run(run: RunId, user: Asking, service: Service, changes: Continuation | None = None) -> RunView:
    """Let a run go on from the cache that was stopped, interrupted or failed."""
    return service.view(await service.resume(user, run, None if changes is None else changes.max_usd))


@router.delete("/runs/{run}", status_code=204, responses=responses(404, 409))
async def delete_run(run: RunId, user: Asking, service: Service) -> None:
    """Delete a run that has ended. Its answers stay in the cache, and what it cost stays booked."""
    await service.delete(user, run)


@router.get("/runs/{run}/metrics", responses=responses(404, 409) | {200: {"model": list[MetricRow]}})
async def get_metrics(run: RunId, user: Asking, service: Service) -> FileResponse:
    """Return metrics.json, byte for byte."""
    return _file(await service.result(user, run, "metrics.json"), "application/json")


@router.get("/runs/{run}/trials", responses=responses(404, 409) | {200: {"content": {"application/x-ndjson": {}}}})
async def get_trials(run: RunId, user: Asking, service: Service) -> FileResponse:
    """Return trials.jsonl: one JSON object a line."""
    return _file(await service.result(user, run, "trials.jsonl"), "application/x-ndjson")


@router.get("/runs/{run}/report", responses=responses(404, 409) | {200: {"content": {"text/html": {}}}})
async def get_report(run: RunId, user: Asking, service: Service) -> FileResponse:
    """Return the page on what the run found."""
    answer = FileResponse(await service.report(user, run), media_type="text/html; charset=utf-8")
    answer.headers["content-security-policy"] = REPORT_POLICY
    return answer


@router.get(
    "/runs/{run}/files/{name}",
    responses=responses(404, 409) | {200: {"content": {"application/octet-stream": {}}}},
    description=f"Return a file of the run ({', '.join(FILES)}), or an export that is made now: {', '.join(EXPORTED)} "
    "(Parquet where the service has pyarrow).",
)
async def get_file(run: RunId, name: str, user: Asking, service: Service) -> FileResponse:
    """Return a file of the run, or an export that is made now."""
    path = await service.result(user, run, name)
    return FileResponse(path, media_type="application/octet-stream", filename=f"{run}-{name}")


@router.post("/comparisons", responses=responses(404, 409))
async def compare_runs(request: ComparisonRequest, user: Asking, service: Service) -> dict[str, JsonValue]:
    """Compare runs: the document of `explaineval compare --json`."""
    return await service.compare(user, request)


def _file(path: Path, kind: str) -> FileResponse:
    return FileResponse(path, media_type=kind)
