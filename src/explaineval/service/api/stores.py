"""Routes of what all runs share: uploads, endpoints, the cache, sessions of browsers, and the service's health."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import PlainTextResponse

from explaineval.service.api.dependencies import Asking, AuthenticatedRoute, Service
from explaineval.service.auth import COOKIE, AuthError, check_origin
from explaineval.service.connections import BASE
from explaineval.service.errors import responses
from explaineval.service.models import (
    FILE_NAME,
    CacheView,
    EndpointList,
    FileList,
    FileView,
    Health,
    Login,
    UserView,
)
from explaineval.service.monitoring import CONTENT_TYPE
from explaineval.service.runs import NotFoundError

router = APIRouter(
    prefix="/api", route_class=AuthenticatedRoute, responses=responses(400, 401, 403, 408, 413, 422, 503)
)
health = APIRouter(tags=["health"])
WRONG_TOKEN_SECONDS = 0.5
UploadName = Annotated[str, Path(pattern=FILE_NAME, description="The name of an upload.")]
LINKS = {"delete_file": {"operationId": "delete_file", "parameters": {"name": "$response.body#/name"}}}
RAW_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.put(
    "/files/{name}", status_code=201, tags=["uploads"], openapi_extra=RAW_BODY, responses={201: {"links": LINKS}}
)
async def put_file(name: UploadName, request: Request, user: Asking, service: Service) -> FileView:
    """Upload a task or interventions as JSON lines, checked as they arrive; an upload of the same name is replaced."""
    return FileView.of(await service.uploads.put(user.token, name, request.stream()))


@router.get("/files", tags=["uploads"])
async def list_files(user: Asking, service: Service) -> FileList:
    """List the uploads of the token."""
    rows = await asyncio.to_thread(service.table.files, user.token)
    return FileList(files=[FileView.of(row) for row in rows])


@router.delete("/files/{name}", status_code=204, tags=["uploads"], responses=responses(404))
async def delete_file(name: UploadName, user: Asking, service: Service) -> None:
    """Delete an upload. Runs that ask about it are not changed."""
    if not await asyncio.to_thread(service.uploads.delete, user.token, name):
        raise NotFoundError(f"there is no upload {name}.")


@router.get("/endpoints", tags=["service"])
async def list_endpoints(_: Asking, service: Service) -> EndpointList:
    """List the endpoints with what probes found, and the models and tasks that can be asked."""
    return await service.endpoint_list()


@router.get("/cache", tags=["service"])
async def get_cache(_: Asking, service: Service) -> CacheView:
    """Say what the cache of all runs holds, by endpoint and model."""
    return CacheView.model_validate(await service.cache_stats())


@router.get("/session", tags=["sessions"])
async def get_session(user: Asking, service: Service) -> UserView:
    """Say who is asking, and what is left of the budget."""
    return service.user_view(user)


@router.post("/session", tags=["sessions"])
async def log_in(given: Login, request: Request, response: Response, service: Service) -> UserView:
    """Give a token once, and get a cookie for a session."""
    check_origin(request.headers)
    value = await asyncio.to_thread(service.auth.login, given.token)
    if value is None:
        await asyncio.sleep(WRONG_TOKEN_SECONDS)
        raise AuthError(401, "the token is wrong.")
    set_cookie(request, response, value)
    user = await asyncio.to_thread(service.auth.user_of_session, value)
    assert user is not None  # noqa: S101 - it was made just now
    return service.user_view(user)


@router.delete("/session", status_code=204, tags=["sessions"])
async def log_out(_: Asking, request: Request, response: Response, service: Service) -> None:
    """End the session of the cookie."""
    value = request.cookies.get(COOKIE)
    if value:
        await asyncio.to_thread(service.auth.logout, value)
    response.delete_cookie(COOKIE, path=BASE.get() or "/", httponly=True, samesite="strict")


def set_cookie(request: Request, response: Response, value: str) -> None:
    """Set the cookie of a session: no script reads it, and no other site makes a browser send it.

    Behind a proxy that encrypts, the browser's own Origin says so; then the cookie never travels in the clear.
    """
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    response.set_cookie(COOKIE, value, path=BASE.get() or "/", httponly=True, samesite="strict", secure=secure)


@health.get("/healthz")
async def healthz() -> Health:
    """Say that the process is alive."""
    return Health(status="ok")


@health.get("/readyz", responses=responses(503))
async def readyz(service: Service) -> Health:
    """Say that runs are taken."""
    await service.check_ready()
    return Health(status="ok")


@health.get("/metrics", responses=responses(401, 403), response_class=PlainTextResponse)
async def metrics(user: Asking, service: Service) -> Response:
    """Give the numbers of the service for Prometheus: requests, hits, dollars, failures and waiting times.

    Numbers by token are those of the token that asks, for an admin those of all.
    """
    return Response(await service.metrics(user), media_type=CONTENT_TYPE)
