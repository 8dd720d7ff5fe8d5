"""The addresses of pages."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import ValidationError
from starlette.datastructures import FormData

from explaineval.errors import InputError
from explaineval.records import MetricRow
from explaineval.rundir.directory import METRICS
from explaineval.scoring.verbosity import BY_LENGTH
from explaineval.service.api.dependencies import AskedRun, Asking, RunId, Service
from explaineval.service.api.stores import WRONG_TOKEN_SECONDS, set_cookie
from explaineval.service.auth import COOKIE, User, check_origin
from explaineval.service.connections import BASE
from explaineval.service.errors import sentence_of
from explaineval.service.models import RUN_ID, ComparisonRequest, Plan, RunSettings
from explaineval.service.pages.rendering import ERRORS, PageRoute, local_path, message_of, page, static_file, status_of
from explaineval.service.pages.views import ConditionNumbers, headline, price_line
from explaineval.service.runs import FILES, RunService, exports
from explaineval.service.submissions import AMOUNTS, Form, field_of, in_words

router = APIRouter(include_in_schema=False, route_class=PageRoute)
COMPARED = 50
"""Runs that can be chosen for a comparison at once."""


@router.get("/")
async def home() -> Response:
    """Go to the list of runs."""
    return RedirectResponse("/runs", 303)


@router.get("/static/{name}")
async def static(name: str) -> Response:
    """Give a file of pages."""
    found = static_file(name)
    if found is None:
        return Response(status_code=404)
    return Response(found[0], media_type=found[1], headers={"cache-control": "max-age=300"})


@router.get("/login")
async def login_page(service: Service, next: str = "/runs") -> Response:
    """Show where the token is given."""
    if service.auth.is_open:
        return RedirectResponse("/runs", 303)
    return page("login.html", None, next=local_path(next), error=None)


@router.post("/login")
async def login(request: Request, service: Service) -> Response:
    """Begin a session."""
    check_origin(request.headers)
    form = await request.form()
    token, following = _text(form, "token"), local_path(_text(form, "next"))
    value = await asyncio.to_thread(service.auth.login, token.strip())
    if value is None:
        await asyncio.sleep(WRONG_TOKEN_SECONDS)
        return page("login.html", None, 401, next=following, error="The token is wrong.")
    response = RedirectResponse(following, 303)
    set_cookie(request, response, value)
    return response


@router.post("/logout")
async def logout(_: Asking, request: Request, service: Service) -> Response:
    """End the session."""
    await asyncio.to_thread(service.auth.logout, request.cookies.get(COOKIE, ""))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(COOKIE, path=BASE.get() or "/", httponly=True, samesite="strict")
    return response


@router.get("/runs")
async def runs(user: Asking, service: Service, before: Annotated[int | None, Query(ge=1, le=2**53)] = None) -> Response:
    """Show the runs."""
    found = await service.list_runs(user, before)
    return page(
        "runs.html", user, runs=found, before=before, account=service.user_view(user), section="runs",
        spent_by_all=sum(map(service.ledger.spent, service.tokens_for(user))),
    )  # fmt: skip


@router.get("/new")
async def new(user: Asking, service: Service, copy: Annotated[str | None, Query(pattern=RUN_ID)] = None) -> Response:
    """Show the form of a new run, filled in as an earlier run if one is named."""
    settings = {"tasks": ["sense"]} if copy is None else (await service.get(user, copy)).settings
    form = Form.of(settings)
    return await _form_page(service, user, form)


@router.post("/new")
async def submit(user: Asking, service: Service, request: Request) -> Response:
    """Start a run, or show what it would cost."""
    form = _form(await request.form())
    try:
        settings = _settings(form)
        if form.first("action") == "price":
            return await _form_page(service, user, form, plan=await service.plan(user, settings))
        row = await service.submit(user, settings)
    except ERRORS as exc:
        return await _form_page(service, user, form, error=exc)
    return RedirectResponse(f"/runs/{row.id}", 303)


@router.post("/new/preview")
async def preview(user: Asking, service: Service, request: Request) -> Response:
    """Say as JSON what the form describes and costs, or what is wrong with it."""
    form = _form(await request.form())
    plan, message = None, None
    try:
        plan = await service.plan(user, _settings(form))
    except ERRORS as exc:
        message = message_of(exc)
    shown = None if message is None else in_words(message)
    price = page("price.html", user, plan=plan, account=service.user_view(user), message=shown)
    return JSONResponse(
        {
            "settings": form.text(),
            "price": bytes(price.body).decode(),
            "summary": price_line(plan),
            "message": shown,
            "field": None if message is None else field_of(message, form.models),
        }
    )


@router.get("/runs/{run}")
async def run_page(row: AskedRun, user: Asking, service: Service) -> Response:
    """Show a run."""
    view = service.view(row)
    numbers = [] if row.active else await _headline(service, user, row.id)
    return page(
        "run.html", user, run=view, numbers=numbers, settings=json.dumps(view.settings, indent=2, ensure_ascii=False),
        files=[*FILES, *exports(conditions=len(numbers))], message=None, section="runs",
    )  # fmt: skip


@router.get("/runs/{run}/live")
async def live(row: AskedRun, user: Asking, service: Service) -> Response:
    """Give the part of a run's page that changes while it goes on."""
    view = service.view(row)
    return page("live.html", user, run=view)


@router.post("/runs/{run}/stop")
async def stop(run: RunId, user: Asking, service: Service) -> Response:
    """Ask a run to stop."""
    await service.stop(user, run)
    return RedirectResponse(f"/runs/{run}", 303)


@router.post("/runs/{run}/continue")
async def resume(run: RunId, user: Asking, service: Service, request: Request) -> Response:
    """Let a run go on."""
    text = _text(await request.form(), "max_usd").strip()
    try:
        limit = float(text) if text else None
    except ValueError:
        raise InputError(f"The new limit must be a number of dollars; {text!r} is none.") from None
    if limit is not None and not 0 <= limit < float("inf"):
        raise InputError("The new limit must be a number of dollars, 0 or more.")
    await service.resume(user, run, limit)
    return RedirectResponse(f"/runs/{run}", 303)


@router.post("/runs/{run}/delete")
async def delete(run: RunId, user: Asking, service: Service) -> Response:
    """Delete a run; its answers stay in the cache."""
    await service.delete(user, run)
    return RedirectResponse("/runs", 303)


@router.get("/compare")
async def compare(
    user: Asking, service: Service, run: Annotated[list[str] | None, Query(max_length=20)] = None
) -> Response:
    """Compare runs, and show which can be compared."""
    chosen = run or []
    found, message = None, None
    try:
        if chosen:
            found = await service.compare(user, ComparisonRequest(runs=chosen))
    except ValidationError:
        message = "A run's id has 16 digits and letters from a to f."
    except ERRORS as exc:
        message = message_of(exc)
    choices = [one for one in (await service.list_runs(user, None, COMPARED)).runs if one.state == "finished"]
    return page(
        "compare.html", user, 200 if message is None else 422, choices=choices, chosen=chosen, found=found,
        message=message, section="compare",
    )  # fmt: skip


@router.get("/cache")
async def cache(user: Asking, service: Service) -> Response:
    """Show what is stored."""
    return page("cache.html", user, cache=await service.cache_stats(), section="cache")


@router.get("/endpoints")
async def endpoints(user: Asking, service: Service) -> Response:
    """Show what can be asked."""
    found = await service.endpoint_list()
    uploads = await asyncio.to_thread(service.table.files, user.token)
    return page("endpoints.html", user, found=found, uploads=uploads, section="endpoints")


async def _form_page(
    service: RunService, user: User, form: Form, plan: Plan | None = None, error: Exception | None = None
) -> HTMLResponse:
    uploads = await asyncio.to_thread(service.table.files, user.token)
    message = None if error is None else message_of(error)
    return page(
        "new.html", user, 200 if error is None else status_of(error), form=form, plan=plan,
        message=None if message is None else in_words(message),
        field=None if message is None else field_of(message, form.models), uploads=uploads,
        choices=await service.endpoint_list(),
        account=service.user_view(user), levels=BY_LENGTH, amounts=AMOUNTS, section="new",
    )  # fmt: skip


async def _headline(service: RunService, user: User, run: str) -> list[ConditionNumbers]:
    """Return what a run found; nothing where it has no numbers."""
    try:
        path = await service.result(user, run, METRICS)
    except ERRORS:
        return []
    return headline(map(MetricRow.model_validate, json.loads(await asyncio.to_thread(path.read_bytes))))


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


def _text(form: FormData, name: str) -> str:
    value = form.get(name)
    return value if isinstance(value, str) else ""
