"""What routes need: the service, who is asking, and the run that is asked about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Annotated, Any, cast

from fastapi import Depends, Path, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from explaineval.service.auth import COOKIE, SAFE, AuthError, User
from explaineval.service.models import RUN_ID
from explaineval.service.runs import NotReadyError, RunService
from explaineval.service.table import RunRow

FORM = "application/x-www-form-urlencoded"


def get_service(request: Request) -> RunService:
    """Return the service of the app."""
    return cast(RunService, request.app.state.service)


async def get_user(request: Request, service: Annotated[RunService, Depends(get_service)]) -> AsyncIterator[User]:
    """Yield who is asking, and note it for the log, while the request is answered. Raises AuthError, TooManyError."""
    user = getattr(request.state, "found", None) or await _find_user(request, service)
    request.state.user = user.token
    with service.requests.place(user.token):
        yield user


async def _find_user(request: Request, service: RunService) -> User:
    cookie = request.cookies.get(COOKIE)
    csrf: str | None = None
    is_form = request.headers.get("content-type", "").startswith(FORM)
    may_hold = is_form and request.method not in SAFE and not request.url.path.startswith("/api/")
    if may_hold and cookie and await asyncio.to_thread(service.auth.user_of_session, cookie) is not None:
        value = (await request.form()).get("csrf")
        csrf = value if isinstance(value, str) else None
    if cookie is None or "authorization" in request.headers:
        return service.auth.authenticate(request.method, request.headers, cookie, csrf)
    return await asyncio.to_thread(service.auth.authenticate, request.method, request.headers, cookie, csrf)


class AuthenticatedRoute(APIRoute):
    """A route that finds out who is asking before it reads a body, where it has one and asks for a user."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()
        if self.body_field is None or not _asks_for_user(self.dependant):
            return answer

        async def authenticated(request: Request) -> Response:
            request.state.found = await _find_user(request, get_service(request))
            return await answer(request)

        return authenticated


def _asks_for_user(dependant: Dependant) -> bool:
    return dependant.call is get_user or any(map(_asks_for_user, dependant.dependencies))


def get_admin(user: Annotated[User, Depends(get_user)]) -> User:
    """Return the admin who is asking. Raises AuthError for other users."""
    if not user.admin:
        raise AuthError(403, "only an admin may do this.")
    return user


Service = Annotated[RunService, Depends(get_service)]
Asking = Annotated[User, Depends(get_user)]
RunId = Annotated[str, Path(pattern=RUN_ID, description="The id of a run.")]


async def get_run(run: RunId, user: Asking, service: Service) -> RunRow:
    """Return the run that is asked about. Raises NotFoundError, also where it is somebody else's."""
    return await service.get(user, run)


AskedRun = Annotated[RunRow, Depends(get_run)]


def count_follower(service: Service, user: Asking, _: AskedRun) -> Iterator[None]:
    """Count a follower for as long as it is answered. Raises TooManyError, NotReadyError."""
    if service.events.closing:
        raise NotReadyError("the service ends.")
    with service.events.followers.place(user.token):
        yield
