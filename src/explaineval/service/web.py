"""How actions are asked for and answered: who may do what, in the API and as pages, and every error."""

from __future__ import annotations

import asyncio
import difflib
import errno
import logging
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, cast
from urllib.parse import quote

from fastapi import Depends, FastAPI, Path, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from explaineval.config.fields import KEYWORDS
from explaineval.errors import ExplainevalError, InputError
from explaineval.files import FULL
from explaineval.secrets import SECRETS
from explaineval.service import pages
from explaineval.service.auth import COOKIE, SAFE, AuthError, User
from explaineval.service.directory import FileTooLargeError
from explaineval.service.models import FILE_NAME, RUN_ID, ErrorDocument, RunSettings
from explaineval.service.processes.background import BusyError
from explaineval.service.processes.sharing import TooManyError, TooManyJobsError
from explaineval.service.runs import BudgetError, ConflictError, NotFoundError, NotReadyError, RunService
from explaineval.service.table import ReplacedError, RunRow
from explaineval.service.wording import for_users
from explaineval.text import shortened

FORM = "application/x-www-form-urlencoded"
log = logging.getLogger("explaineval.service")

CODES: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "The request cannot be read."),
    401: ("unauthorized", "No token or session was given, or a wrong one."),
    402: ("budget", "The run may cost more than is left of the token's budget."),
    403: ("forbidden", "The token may not do this, or another site made the request."),
    404: ("not_found", "There is no such thing, or it belongs to somebody else."),
    405: ("method_not_allowed", "The address does not take this method."),
    408: ("too_slow", "The body did not arrive in time."),
    409: ("conflict", "This does not go with the state of the run."),
    413: ("too_large", "The body is larger than is allowed."),
    422: ("invalid", "A value is wrong or not allowed."),
    429: ("too_many", "There are too many requests, connections or plans of this kind at once."),
    500: ("internal", "An error in explaineval itself."),
    503: ("not_ready", "The service starts or ends, or its disk is full."),
}
"""Status → its code in documents, and its meaning."""
STATUSES: Mapping[type[Exception], int] = {
    NotFoundError: 404,
    ConflictError: 409,
    BudgetError: 402,
    BusyError: 422,
    InputError: 422,
    FileTooLargeError: 413,
    TooManyError: 429,
    TooManyJobsError: 429,
    NotReadyError: 503,
    RequestValidationError: 422,
}


EXPECTED: tuple[type[Exception], ...] = (ExplainevalError, AuthError, *STATUSES)
"""What is told as it is; everything else is a fault."""


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what OpenAPI says of errors with these statuses."""
    return {status: {"model": ErrorDocument, "description": CODES[status][1]} for status in sorted(statuses)}


def plain_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Do what `responses` does for a route whose own answers are no JSON, while its errors are."""
    schema = {"$ref": f"#/components/schemas/{ErrorDocument.__name__}"}
    return {
        status: {"description": CODES[status][1], "content": {"application/json": {"schema": schema}}}
        for status in sorted(statuses)
    }


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the document of an error."""
    code = CODES.get(status, ("error", ""))[0]
    document = {"error": {"code": code, "message": SECRETS.mask(shortened(message))}}
    return JSONResponse(document, status, dict(headers or {}))


def install_errors(app: FastAPI) -> None:
    """Let the app answer every error by one document, or by a page where a browser asks."""
    for kind in (*EXPECTED, HTTPException, Exception):
        app.add_exception_handler(kind, _answer)
    for kind in (OSError, sqlite3.OperationalError):
        app.add_exception_handler(kind, _answer_full)


def status_of(exc: Exception) -> int:
    """Return the status of an answer to an error."""
    if isinstance(exc, AuthError):
        return exc.status
    if isinstance(exc, HTTPException):
        return exc.status_code
    return next((status for kind, status in STATUSES.items() if isinstance(exc, kind)), 500)


def message_of(exc: Exception) -> str:
    """Return the sentence of an error."""
    status = status_of(exc)
    if isinstance(exc, RequestValidationError):
        message = sentence_of(exc.errors())
    elif isinstance(exc, HTTPException):
        message = CODES[status][1] if status in CODES else exc.detail
    elif isinstance(exc, EXPECTED):
        message = str(exc) or CODES[status][1]
    else:
        message = f"an error in explaineval itself: {type(exc).__name__}."
    return SECRETS.mask(shortened(for_users(message)))


async def _answer(request: Request, exc: Exception) -> Response:
    """Answer by a document or a page; whoever asks for a page without being logged in is sent to the login."""
    status, message, path = status_of(exc), message_of(exc), request.scope["path"]
    headers = dict(getattr(exc, "headers", None) or {})
    if status == 405:
        allowed = ", ".join(_methods_of(request.app, path))
        message, headers = f"{message} It takes {allowed}.", {"Allow": allowed}
    if not _wants_page(request):
        if isinstance(exc, AuthError) and status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return error(status, message, headers)
    if isinstance(exc, AuthError) and status == 401 and path != "/login":
        return RedirectResponse(f"/login?next={quote(local_path(path))}", 303)
    answer = pages.page("error.html", None, status, status=status, message=message)
    answer.headers.update(headers)
    return answer


async def _answer_full(request: Request, exc: Exception) -> Response:
    """Say why nothing can be stored; any other error of the system is a fault of ours."""
    if isinstance(exc, ReplacedError):
        reason, todo = str(exc), "put its table of runs back"
    elif isinstance(exc, OSError) and exc.errno in FULL:
        reason, todo = os.strerror(exc.errno or errno.ENOSPC).lower(), "make room"
    elif getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        reason, todo = os.strerror(errno.ENOSPC).lower(), "make room"
    else:
        raise exc
    log.error("storage", exc_info=exc)
    return await _answer(
        request, NotReadyError(f"the service cannot store its data ({reason}); its operator must {todo}.")
    )


def _wants_page(request: Request) -> bool:
    """Return whether a page was asked for, or an address that is none of ours by a browser."""
    route = request.scope.get("route")
    if isinstance(route, APIRoute) and not route.include_in_schema and request.method in (route.methods or ()):
        return True
    return not request.scope["path"].startswith("/api/") and "text/html" in request.headers.get("accept", "")


def local_path(path: str) -> str:
    """Return a path of this service, where a login goes on; the list of runs for anything else.

    >>> local_path("/runs/0123"), local_path("//evil.example"), local_path("https://evil.example")
    ('/runs/0123', '/runs', '/runs')
    """
    return path if re.fullmatch(r"/[A-Za-z0-9][A-Za-z0-9/._-]*", path) else "/runs"


def _methods_of(app: FastAPI, path: str) -> list[str]:
    """Return the methods that a path takes, of all its routes."""
    routes = [route for route in app.routes if isinstance(route, APIRoute) and route.path_regex.match(path)]
    return sorted({method for route in routes for method in route.methods or ()})


def get_service(request: Request) -> RunService:
    """Return the service of the app."""
    return cast(RunService, request.app.state.service)


Service = Annotated[RunService, Depends(get_service)]


async def get_user(request: Request, service: Service) -> AsyncIterator[User]:
    """Yield who is asking, and note it for the log, while the request is answered. Raises AuthError, TooManyError."""
    user = getattr(request.state, "asking", None) or await _find_user(request, service)
    request.state.asking, request.state.user = user, user.token
    with service.requests.place(user.token):
        yield user


async def _find_user(request: Request, service: RunService) -> User:
    cookie = request.cookies.get(COOKIE)
    csrf: str | None = None
    is_form = request.headers.get("content-type", "").startswith(FORM)
    may_hold = is_form and request.method not in SAFE and not request.url.path.startswith("/api/")
    if may_hold and cookie and await asyncio.to_thread(service.auth.user_of_session, cookie) is not None:
        csrf = text_of_field(await request.form(), "csrf")
    if cookie is None or "authorization" in request.headers:
        return service.auth.authenticate(request.method, request.headers, cookie, csrf)
    return await asyncio.to_thread(service.auth.authenticate, request.method, request.headers, cookie, csrf)


Asking = Annotated[User, Depends(get_user)]
RunId = Annotated[str, Path(pattern=RUN_ID, description="The id of a run.")]
UploadName = Annotated[str, Path(pattern=FILE_NAME, description="The name of an upload.")]


async def get_asked_run(run: RunId, user: Asking, service: Service) -> RunRow:
    """Return the run that is asked about. Raises NotFoundError, also where it is somebody else's."""
    return await service.get(user, run)


AskedRun = Annotated[RunRow, Depends(get_asked_run)]


def count_follower(service: Service, user: Asking, _: AskedRun) -> Iterator[None]:
    """Count a follower for as long as it is answered. Raises TooManyError, NotReadyError."""
    if service.events.closing:
        raise NotReadyError("the service ends.")
    with service.events.followers.place(user.token):
        yield


ANYBODY, USER, OWNER = None, get_user, get_asked_run
"""The right that an action needs: none, a token or a session, or a run that is theirs."""


class ActionRoute(APIRoute):
    """A route that finds out who is asking before it reads a body, where it has one and asks for a user."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()
        if self.body_field is None or not self.dependencies:
            return answer

        async def authenticated(request: Request) -> Response:
            request.state.asking = await _find_user(request, get_service(request))
            return await answer(request)

        return authenticated


def text_of_field(form: FormData, name: str) -> str:
    """Return the text of a field of a form; nothing where it is missing or a file."""
    value = form.get(name)
    return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class PageRoute:
    """How a browser sees what an action returns: at which address, and in which template, as `document`.

    An action may also return what the template needs as a dictionary, with its `status`, or a response, which is sent
    as it is; without a template any document is sent as JSON. `title` is what the link at the top of every page says.
    `more` returns what the template needs beside the document.
    """

    path: str
    template: str | None = None
    title: str | None = None
    more: Callable[[RunService, User, Any], Awaitable[Mapping[str, Any]]] | None = None


@dataclass(frozen=True)
class Button:
    """A form of a page by which an action is done: its address, and where the browser goes afterwards."""

    path: str
    then: str


@dataclass(frozen=True)
class Action:
    """One thing that the service does: its operation's name, how it is asked for, and what answers.

    `path` is its address in the API, None for one that only pages have. `errors` are the statuses of its own errors,
    `described` what else OpenAPI says about it.
    """

    name: str
    method: str
    path: str | None
    right: Callable[..., Any] | None
    do: Callable[..., Any]
    tag: str = ""
    status: int = 200
    errors: tuple[int, ...] = ()
    described: Mapping[str, Any] = field(default_factory=dict)
    pages: tuple[PageRoute, ...] = ()
    button: Button | None = None


OF_THE_API = (400, 401, 403, 408, 413, 422, 503)
"""Statuses of errors that every route of the API may have."""


def install(app: FastAPI, actions: Sequence[Action]) -> None:
    """Let the app answer for every action, in the API and as pages; links of pages stand in the order of actions."""
    navigation = [(page.path, page.title) for action in actions for page in action.pages if page.title is not None]
    for action in actions:
        needed = [] if action.right is None else [Depends(action.right)]
        if action.path is not None:
            described = dict(action.described)
            of_all = responses(*OF_THE_API) if action.path.startswith("/api/") else {}
            described["responses"] = of_all | responses(*action.errors) | described.get("responses", {})
            app.router.add_api_route(
                action.path, action.do, methods=[action.method], name=action.name, tags=[action.tag],
                status_code=action.status, dependencies=needed, route_class_override=ActionRoute, **described,
            )  # fmt: skip
        for page in action.pages:
            app.router.add_api_route(
                page.path, _shown(action.do, page, navigation), methods=[action.method], dependencies=needed,
                include_in_schema=False,
            )  # fmt: skip
        if action.button is not None:
            app.router.add_api_route(
                action.button.path, _pressed(action.do, action.button), methods=["POST"], dependencies=needed,
                include_in_schema=False,
            )  # fmt: skip


def _shown(do: Callable[..., Any], page: PageRoute, navigation: Sequence[tuple[str, str]]) -> Callable[..., Any]:
    """Return what answers for a page."""

    async def show(request: Request, service: Service, document: Any = Depends(do)) -> Response:  # noqa: B008 - of this action
        if isinstance(document, Response):
            return document
        if page.template is None:
            return JSONResponse(document)
        user: User = request.state.asking
        values = dict(document) if isinstance(document, dict) else {"document": document}
        if page.more is not None:
            values |= await page.more(service, user, document)
        return pages.page(
            page.template, user, values.pop("status", 200), navigation=navigation, address=request.scope["path"],
            query=request.query_params, **values,
        )  # fmt: skip

    return show


def _pressed(do: Callable[..., Any], button: Button) -> Callable[..., Any]:
    """Return what answers where a form of a page does an action."""

    async def press(request: Request, response: Response, _: Any = Depends(do)) -> Response:  # noqa: B008 - of this action
        answer = RedirectResponse(button.then.format(**request.path_params), 303)
        answer.raw_headers.extend(response.raw_headers)  # a cookie
        return answer

    return press


def describe_tokens(app: FastAPI, actions: Sequence[Action]) -> None:
    """Let the OpenAPI description say where a token is needed."""
    describe = app.openapi
    needing = {
        (action.path, action.method.lower())
        for action in actions
        if action.right is not None and action.path is not None and action.path.startswith("/api/")
    }

    def described() -> dict[str, Any]:
        document = describe()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["token"] = {"type": "http", "scheme": "bearer"}
        for path, method in needing:
            document["paths"][path][method]["security"] = [{"token": []}]
        return document

    app.openapi = described  # type: ignore[method-assign]  # as FastAPI documents it


OBJECTS = ("model_type", "model_attributes_type", "dict_type")
SENTENCES: Mapping[str, str] = {
    **dict.fromkeys(OBJECTS, "this must be an object, {{...}}"),
    **dict.fromkeys(("list_type", "tuple_type"), "this must be a list, [...]"),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "this must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "this must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "this must be true or false"),
    **dict.fromkeys(("string_type", "string_unicode"), "this must be a text"),
    "missing": "this is missing",
    "greater_than": "this must be more than {gt}",
    "greater_than_equal": "this must be {ge} or more",
    "less_than": "this must be less than {lt}",
    "less_than_equal": "this must be {le} or less",
    "too_short": "choose at least {min_length}",
    "too_long": "there may be {max_length} at most",
    "string_too_short": "this must have {min_length} characters or more",
    "string_too_long": "this may have {max_length} characters at most",
    "literal_error": "this must be {expected}",
}
"""What is said for pydantic's kinds of errors, whose own sentences speak of Python, with what it knows of each."""
INNER = re.compile(r"body|query|path|header|(constrained|nullable|function|lax|json)-.*|literal\[.*|int|float|str|bool")
"""Parts of pydantic's places that are no names of a user's."""
PATTERNS: Mapping[str, str] = {
    FILE_NAME: "this must be the name of an upload: at most 64 letters, digits, - and _, with or without .jsonl",
    RUN_ID: "this must be the id of a run, 16 digits and letters a to f",
}


def _unknown(key: str) -> str:
    """Return why a key is not taken, and perhaps which one was meant."""
    if key in KEYWORDS:
        return "the service does not take this key of a configuration file"
    near = difflib.get_close_matches(key, RunSettings.model_fields, n=1)
    return f"unknown key{f'; did you mean {near[0]}?' if near else ''}"


def sentence_of(errors: Sequence[Any]) -> str:
    """Return the first of pydantic's errors as a sentence that names its place.

    >>> sentence_of([{"loc": ("body", "tasks", 0), "msg": "Input should be a valid string", "type": "string_type"}])
    'tasks.0: this must be a text.'
    """
    if not errors:
        return "the request is not valid."
    siblings = [sibling for sibling in errors if sibling["loc"][:-1] == errors[0]["loc"][:-1]]
    first = next((sibling for sibling in siblings if sibling["type"] == "extra_forbidden"), errors[0])
    where = ".".join(str(part) for part in first["loc"] if not INNER.fullmatch(str(part)))
    text = first["msg"].removeprefix("Value error, ").replace("Input should be ", "this must be ")
    if first["type"] == "extra_forbidden":
        text = _unknown(where)
    elif first["type"] == "json_invalid":
        where, text = "", "the body is no JSON"
    elif first["type"] in OBJECTS and not where:
        text = "send the body as a JSON object, with the header `Content-Type: application/json`"
    else:
        text = SENTENCES[first["type"]].format_map(first.get("ctx", {})) if first["type"] in SENTENCES else text
    if first["type"] == "string_pattern_mismatch":
        text = PATTERNS.get(first.get("ctx", {}).get("pattern", ""), text)
    return f"{where + ': ' if where else ''}{text.rstrip('.')}{'' if text.endswith('?') else '.'}"
