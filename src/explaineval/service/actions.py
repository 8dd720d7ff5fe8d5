"""What the service does for users: one table of actions, from which the API and the pages are served (`web`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import JsonValue, ValidationError
from starlette.datastructures import FormData

from explaineval.errors import InputError
from explaineval.records import MetricRow
from explaineval.rundir.directory import METRICS, TRIALS
from explaineval.scoring.verbosity import BY_LENGTH
from explaineval.service import pages
from explaineval.service.auth import COOKIE, AuthError, User, check_origin
from explaineval.service.models import (
    RUN_ID,
    CacheView,
    ComparisonRequest,
    Continuation,
    EndpointList,
    FileList,
    FileView,
    Health,
    Login,
    Plan,
    RunList,
    RunSettings,
    RunView,
    Submitted,
    UserView,
)
from explaineval.service.monitoring import CONTENT_TYPE
from explaineval.service.pages import BASE
from explaineval.service.runs import EXPORTED, FILES, REPORT, NotFoundError, RunService, exports
from explaineval.service.submissions import AMOUNTS, Form, field_of, in_words
from explaineval.service.web import (
    ANYBODY,
    EXPECTED,
    OWNER,
    USER,
    Action,
    AskedRun,
    Asking,
    Button,
    PageRoute,
    RunId,
    Service,
    UploadName,
    count_follower,
    local_path,
    message_of,
    plain_responses,
    sentence_of,
    status_of,
    text_of_field,
)
from explaineval.service.wording import sentence

COMPARED = 50
"""Runs that can be chosen for a comparison at once."""
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads allow-modals allow-popups; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'"
)
"""A report is a page of its own with its script inside: it runs apart from the service, without its cookies."""
WRONG_TOKEN_SECONDS = 0.5


# What each action does


async def plan_run(settings: RunSettings, user: Asking, service: Service) -> Plan:
    """Say what a run would ask and cost. Nothing is sent."""
    return await service.plan(user, settings)


async def submit_run(settings: RunSettings, user: Asking, service: Service) -> Submitted:
    """Submit a run. It starts when what it may cost (max_usd, else its worst case) fits what is left of the budget."""
    row = await service.submit(user, settings)
    return Submitted(id=row.id, state=row.state, plan=Plan.model_validate(row.plan))


async def list_runs(
    user: Asking,
    service: Service,
    before: Annotated[int | None, Query(ge=1, le=2**53, description="Only runs below this number (`next`).")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 100,
) -> RunList:
    """List the runs of the token, an admin's those of all, the newest first."""
    return await service.list_runs(user, before, limit)


async def get_run(row: AskedRun, service: Service) -> RunView:
    """Say how a run is now."""
    return service.view(row)


async def follow_run(
    row: AskedRun,
    user: Asking,
    service: Service,
    _: Annotated[None, Depends(count_follower)],
    last_event_id: Annotated[str | None, Header(max_length=100)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a run: events `run` with the document of GET /api/runs/{run}, the last of them named `end`."""
    async for message in service.follow(user, row.id, last_event_id):
        yield ServerSentEvent(raw_data=message.data, event="end" if message.last else "run", id=message.id, retry=2000)


async def stop_run(run: RunId, user: Asking, service: Service) -> RunView:
    """Ask a run to stop: nothing more is sent, and answers under way, which are paid for, are waited for."""
    return service.view(await service.stop(user, run))


async def continue_run(run: RunId, user: Asking, service: Service, changes: Continuation | None = None) -> RunView:
    """Let a run go on from the cache that was stopped, interrupted or failed."""
    return service.view(await service.resume(user, run, None if changes is None else changes.max_usd))


async def delete_run(run: RunId, user: Asking, service: Service) -> None:
    """Delete a run that has ended. Its answers stay in the cache, and what it cost stays booked."""
    await service.delete(user, run)


async def get_metrics(run: RunId, user: Asking, service: Service) -> FileResponse:
    """Return metrics.json, byte for byte."""
    return FileResponse(await service.result(user, run, METRICS), media_type="application/json")


async def get_trials(run: RunId, user: Asking, service: Service) -> FileResponse:
    """Return trials.jsonl: one JSON object a line."""
    return FileResponse(await service.result(user, run, TRIALS), media_type="application/x-ndjson")


async def get_report(run: RunId, user: Asking, service: Service) -> FileResponse:
    """Return the page on what the run found."""
    policy = {"content-security-policy": REPORT_POLICY}
    return FileResponse(await service.result(user, run, REPORT), headers=policy, media_type="text/html; charset=utf-8")


async def get_file(run: RunId, name: str, user: Asking, service: Service) -> FileResponse:
    """Return a file of the run, or an export that is made now."""
    path = await service.result(user, run, name)
    return FileResponse(path, media_type="application/octet-stream", filename=f"{run}-{name}")


async def compare_runs(request: ComparisonRequest, user: Asking, service: Service) -> dict[str, JsonValue]:
    """Compare runs: the document of `explaineval compare --json`."""
    return await service.compare(user, request)


async def put_file(name: UploadName, request: Request, user: Asking, service: Service) -> FileView:
    """Upload a task or interventions as JSON lines, checked as they arrive; an upload of the same name is replaced."""
    return FileView.of(await service.uploads.put(user.token, name, request.stream()))


async def list_files(user: Asking, service: Service) -> FileList:
    """List the uploads of the token."""
    rows = await asyncio.to_thread(service.table.files, user.token)
    return FileList(files=[FileView.of(row) for row in rows])


async def delete_file(name: UploadName, user: Asking, service: Service) -> None:
    """Delete an upload. Runs that ask about it are not changed."""
    if not await asyncio.to_thread(service.uploads.delete, user.token, name):
        raise NotFoundError(f"there is no upload {name}.")


async def list_endpoints(service: Service) -> EndpointList:
    """List the endpoints with what probes found, and the models and tasks that can be asked."""
    return await service.endpoint_list()


async def get_cache(service: Service) -> CacheView:
    """Say what the cache of all runs holds, by endpoint and model."""
    return CacheView.model_validate(await service.cache_stats())


async def get_session(user: Asking, service: Service) -> UserView:
    """Say who is asking, and what is left of the budget."""
    return service.user_view(user)


async def log_in(given: Login, request: Request, response: Response, service: Service) -> UserView:
    """Give a token once, and get a cookie for a session."""
    user = await _begin_session(given.token, request, response, service)
    if user is None:
        raise AuthError(401, "the token is wrong.")
    return service.user_view(user)


async def log_out(request: Request, response: Response, service: Service) -> None:
    """End the session of the cookie."""
    value = request.cookies.get(COOKIE)
    if value:
        await asyncio.to_thread(service.auth.logout, value)
    response.delete_cookie(COOKIE, path=BASE.get() or "/", httponly=True, samesite="strict")


async def healthz() -> Health:
    """Say that the process is alive."""
    return Health(status="ok")


async def readyz(service: Service) -> Health:
    """Say that runs are taken."""
    await service.check_ready()
    return Health(status="ok")


async def metrics(user: Asking, service: Service) -> Response:
    """Give the numbers of the service for Prometheus: requests, hits, dollars, failures and waiting times.

    Numbers by token are those of the token that asks, for an admin those of all.
    """
    return Response(await service.metrics(user), media_type=CONTENT_TYPE)


async def _begin_session(token: str, request: Request, response: Response, service: RunService) -> User | None:
    """Set the cookie of a session; None where the token is wrong, after a while.

    No script reads the cookie, and no other site makes a browser send it. Behind a proxy that encrypts, the browser's
    own Origin says so; then it never travels in the clear.
    """
    check_origin(request.headers)
    value = await asyncio.to_thread(service.auth.login, token)
    if value is None:
        await asyncio.sleep(WRONG_TOKEN_SECONDS)
        return None
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    response.set_cookie(COOKIE, value, path=BASE.get() or "/", httponly=True, samesite="strict", secure=secure)
    return await asyncio.to_thread(service.auth.user_of_session, value)


# What only pages do


async def home() -> Response:
    """Go to the list of runs."""
    return RedirectResponse("/runs", 303)


async def give_static_file(name: str) -> Response:
    """Give a file of pages."""
    content = pages.static_file(name)
    if content is None:
        return Response(status_code=404)
    return Response(content[0], media_type=content[1], headers={"cache-control": "max-age=300"})


async def show_login(service: Service, next: str = "/runs") -> Response:
    """Show where the token is given."""
    if service.auth.is_open:
        return RedirectResponse("/runs", 303)
    return pages.page("login.html", None, next=local_path(next), error=None)


async def log_in_by_form(request: Request, service: Service) -> Response:
    """Begin a session."""
    form = await request.form()
    following = local_path(text_of_field(form, "next"))
    response = RedirectResponse(following, 303)
    if await _begin_session(text_of_field(form, "token").strip(), request, response, service) is None:
        return pages.page("login.html", None, 401, next=following, error="The token is wrong.")
    return response


async def show_form(
    user: Asking, service: Service, copy: Annotated[str | None, Query(pattern=RUN_ID)] = None
) -> dict[str, Any]:
    """Show the form of a new run, filled in as an earlier run if one is named."""
    settings = {"tasks": ["sense"]} if copy is None else (await service.get(user, copy)).settings
    return await _form_values(service, user, Form.of(settings))


async def submit_form(user: Asking, service: Service, request: Request) -> Response | dict[str, Any]:
    """Start a run, or show what it would cost."""
    form = _form(await request.form())
    try:
        settings = _settings(form)
        if form.first("action") == "price":
            return await _form_values(service, user, form, plan=await service.plan(user, settings))
        row = await service.submit(user, settings)
    except EXPECTED as exc:
        return await _form_values(service, user, form, error=exc)
    return RedirectResponse(f"/runs/{row.id}", 303)


async def preview_form(user: Asking, service: Service, request: Request) -> dict[str, Any]:
    """Say as JSON what the form describes and costs, or what is wrong with it."""
    form = _form(await request.form())
    plan, error = None, None
    try:
        plan = await service.plan(user, _settings(form))
    except EXPECTED as exc:
        error = exc
    problem = _problem(form, error)
    price = pages.page("price.html", user, plan=plan, account=service.user_view(user), message=problem["message"])
    return {
        "settings": form.text(), "price": bytes(price.body).decode(), "summary": pages.price_line(plan), **problem,
    }  # fmt: skip


async def continue_by_form(run: RunId, user: Asking, service: Service, request: Request) -> Response:
    """Let a run go on."""
    text = text_of_field(await request.form(), "max_usd").strip()
    try:
        limit = float(text) if text else None
    except ValueError:
        raise InputError(f"The new limit must be a number of dollars; {text!r} is none.") from None
    if limit is not None and not 0 <= limit < float("inf"):
        raise InputError("The new limit must be a number of dollars, 0 or more.")
    await service.resume(user, run, limit)
    return RedirectResponse(f"/runs/{run}", 303)


async def show_comparison(
    user: Asking, service: Service, run: Annotated[list[str] | None, Query(max_length=20)] = None
) -> dict[str, Any]:
    """Compare runs, and show which can be compared."""
    chosen = run or []
    comparison, message = None, None
    try:
        if chosen:
            comparison = await service.compare(user, ComparisonRequest(runs=chosen))
    except ValidationError:
        message = "A run's id has 16 digits and letters from a to f."
    except EXPECTED as exc:
        message = message_of(exc)
    finished = [row for row in (await service.list_runs(user, None, COMPARED)).runs if row.state == "finished"]
    return {
        "choices": finished, "chosen": chosen, "comparison": comparison, "message": message,
        "status": 200 if message is None else 422,
    }  # fmt: skip


async def more_on_runs(service: RunService, user: User, _: RunList) -> dict[str, Any]:
    """Return what is spent, beside the list of runs."""
    spent_by_all = sum(map(service.ledger.spent, service.tokens_for(user)))
    return {"account": service.user_view(user), "spent_by_all": spent_by_all}


async def more_on_run(service: RunService, user: User, run: RunView) -> dict[str, Any]:
    """Return what a run found, its files and settings, beside how it is."""
    numbers: list[pages.ConditionNumbers] = []
    with suppress(*EXPECTED):  # there are none yet
        path = await service.result(user, run.id, METRICS)
        content = await asyncio.to_thread(path.read_bytes)
        numbers = pages.headline(map(MetricRow.model_validate, json.loads(content)))
    settings = json.dumps(run.settings, indent=2, ensure_ascii=False)
    return {"numbers": numbers, "settings": settings, "files": [*FILES, *exports(conditions=len(numbers))]}


async def more_on_endpoints(service: RunService, user: User, _: EndpointList) -> dict[str, Any]:
    """Return the uploads, beside the endpoints."""
    return {"uploads": await asyncio.to_thread(service.table.files, user.token)}


async def _form_values(
    service: RunService, user: User, form: Form, plan: Plan | None = None, error: Exception | None = None
) -> dict[str, Any]:
    return {
        "form": form, "plan": plan, **_problem(form, error), "status": 200 if error is None else status_of(error),
        "uploads": await asyncio.to_thread(service.table.files, user.token), "choices": await service.endpoint_list(),
        "account": service.user_view(user), "levels": BY_LENGTH, "amounts": AMOUNTS,
    }  # fmt: skip


def _problem(form: Form, error: Exception | None) -> dict[str, str | None]:
    """Return what is wrong with a form, and with which field."""
    if error is None:
        return {"message": None, "field": None}
    message = message_of(error)
    return {"message": sentence(in_words(message)), "field": field_of(message, form.models)}


def _settings(form: Form) -> RunSettings:
    """Return what a form describes. Raises InputError with a sentence that begins with the setting."""
    try:
        return RunSettings.model_validate(form.settings())
    except ValidationError as exc:
        raise InputError(sentence_of(exc.errors())) from None


def _form(data: FormData) -> Form:
    fields: dict[str, list[str]] = {}
    for name, value in data.multi_items():
        if isinstance(value, str):
            fields.setdefault(name, []).append(value)
    return Form(fields)


# The table


RUNS, UPLOADS, SERVICE, SESSIONS, HEALTH = "runs", "uploads", "service", "sessions", "health"
OF_A_RUN = (
    "get_run", "follow_run", "stop_run", "continue_run", "delete_run", "get_metrics", "get_trials", "get_report",
)  # fmt: skip


def _links(parameter: str, value: str, *names: str) -> dict[int | str, Any]:
    """Say for the OpenAPI description what can be done with a thing that was made: by these operations."""
    links = {name: {"operationId": name, "parameters": {parameter: f"$response.body#/{value}"}} for name in names}
    return {201: {"links": links}}


def _content(kind: str) -> dict[str, Any]:
    return {"responses": {200: {"content": {kind: {}}}}}


ACTIONS: tuple[Action, ...] = (
    Action("plan_run", "POST", "/api/plans", USER, plan_run, RUNS, errors=(402,)),
    Action(
        "submit_run", "POST", "/api/runs", USER, submit_run, RUNS, 201, errors=(402, 409),
        described={"responses": _links("run", "id", *OF_A_RUN)},
    ),
    Action(
        "list_runs", "GET", "/api/runs", USER, list_runs, RUNS,
        pages=(PageRoute("/runs", "runs.html", "Runs", more_on_runs),),
    ),
    Action(
        "get_run", "GET", "/api/runs/{run}", OWNER, get_run, RUNS, errors=(404,),
        pages=(PageRoute("/runs/{run}", "run.html", more=more_on_run), PageRoute("/runs/{run}/live", "live.html")),
    ),
    Action(
        "follow_run", "GET", "/api/runs/{run}/events", OWNER, follow_run, RUNS,
        described={
            "response_class": EventSourceResponse,
            "responses": plain_responses(400, 401, 403, 404, 408, 413, 422, 429, 503),
        },
    ),
    Action(
        "stop_run", "POST", "/api/runs/{run}/stop", OWNER, stop_run, RUNS, errors=(404, 409),
        button=Button("/runs/{run}/stop", "/runs/{run}"),
    ),
    Action("continue_run", "POST", "/api/runs/{run}/continue", OWNER, continue_run, RUNS, errors=(402, 404, 409)),
    Action("continue_by_form", "POST", None, OWNER, continue_by_form, pages=(PageRoute("/runs/{run}/continue"),)),
    Action(
        "delete_run", "DELETE", "/api/runs/{run}", OWNER, delete_run, RUNS, 204, errors=(404, 409),
        button=Button("/runs/{run}/delete", "/runs"),
    ),
    Action(
        "get_metrics", "GET", "/api/runs/{run}/metrics", OWNER, get_metrics, RUNS, errors=(404, 409),
        described={"responses": {200: {"model": list[MetricRow]}}},
    ),
    Action(
        "get_trials", "GET", "/api/runs/{run}/trials", OWNER, get_trials, RUNS, errors=(404, 409),
        described=_content("application/x-ndjson"),
    ),
    Action(
        "get_report", "GET", "/api/runs/{run}/report", OWNER, get_report, RUNS, errors=(404, 409),
        described=_content("text/html"),
    ),
    Action(
        "get_file", "GET", "/api/runs/{run}/files/{name}", OWNER, get_file, RUNS, errors=(404, 409),
        described=_content("application/octet-stream")
        | {
            "description": f"Return a file of the run ({', '.join(FILES)}), or an export that is made now: "
            f"{', '.join(EXPORTED)} (Parquet where the service has pyarrow)."
        },
    ),
    Action("show_form", "GET", None, USER, show_form, pages=(PageRoute("/new", "new.html", "New run"),)),
    Action("submit_form", "POST", None, USER, submit_form, pages=(PageRoute("/new", "new.html"),)),
    Action("preview_form", "POST", None, USER, preview_form, pages=(PageRoute("/new/preview"),)),
    Action("compare_runs", "POST", "/api/comparisons", USER, compare_runs, RUNS, errors=(404, 409)),
    Action(
        "show_comparison", "GET", None, USER, show_comparison,
        pages=(PageRoute("/compare", "compare.html", "Compare"),),
    ),
    Action(
        "put_file", "PUT", "/api/files/{name}", USER, put_file, UPLOADS, 201,
        described={
            "responses": _links("name", "name", "delete_file"),
            "openapi_extra": {
                "requestBody": {
                    "required": True,
                    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
                }
            },
        },
    ),
    Action("list_files", "GET", "/api/files", USER, list_files, UPLOADS),
    Action("delete_file", "DELETE", "/api/files/{name}", USER, delete_file, UPLOADS, 204, errors=(404,)),
    Action(
        "list_endpoints", "GET", "/api/endpoints", USER, list_endpoints, SERVICE,
        pages=(PageRoute("/endpoints", "endpoints.html", "Endpoints", more_on_endpoints),),
    ),
    Action(
        "get_cache", "GET", "/api/cache", USER, get_cache, SERVICE,
        pages=(PageRoute("/cache", "cache.html", "Cache"),),
    ),
    Action("get_session", "GET", "/api/session", USER, get_session, SESSIONS),
    Action("log_in", "POST", "/api/session", ANYBODY, log_in, SESSIONS),
    Action("show_login", "GET", None, ANYBODY, show_login, pages=(PageRoute("/login"),)),
    Action("log_in_by_form", "POST", None, ANYBODY, log_in_by_form, pages=(PageRoute("/login"),)),
    Action("log_out", "DELETE", "/api/session", USER, log_out, SESSIONS, 204, button=Button("/logout", "/login")),
    Action("home", "GET", None, ANYBODY, home, pages=(PageRoute("/"),)),
    Action("give_static_file", "GET", None, ANYBODY, give_static_file, pages=(PageRoute("/static/{name}"),)),
    Action("healthz", "GET", "/healthz", ANYBODY, healthz, HEALTH),
    Action("readyz", "GET", "/readyz", ANYBODY, readyz, HEALTH, errors=(503,)),
    Action(
        "metrics", "GET", "/metrics", USER, metrics, HEALTH, errors=(401, 403),
        described={"response_class": PlainTextResponse},
    ),
)  # fmt: skip
"""Everything that can be asked of the service. Links of pages stand in the order of their actions."""
