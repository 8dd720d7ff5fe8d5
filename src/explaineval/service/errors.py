"""Every error of the service as one JSON document with a status, or as a page, and how OpenAPI describes them."""

from __future__ import annotations

import difflib
import errno
import logging
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from explaineval.config.fields import KEYWORDS
from explaineval.errors import ExplainevalError, InputError
from explaineval.files import FULL
from explaineval.secrets import SECRETS
from explaineval.service.auth import AuthError
from explaineval.service.directory import FileTooLargeError
from explaineval.service.models import FILE_NAME, RUN_ID, ErrorDocument, RunSettings
from explaineval.service.pages import page
from explaineval.service.processes.background import BusyError
from explaineval.service.processes.sharing import TooManyError, TooManyJobsError
from explaineval.service.runs import BudgetError, ConflictError, NotFoundError, NotReadyError
from explaineval.text import shortened

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


def install(app: FastAPI) -> None:
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
    return SECRETS.mask(shortened(message))


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
    answer = page("error.html", None, status, status=status, message=message)
    answer.headers.update(headers)
    return answer


async def _answer_full(request: Request, exc: Exception) -> Response:
    """Say what the disk lacks; any other error of the system is a fault of ours."""
    if isinstance(exc, OSError) and exc.errno in FULL:
        number = exc.errno or errno.ENOSPC
    elif getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        number = errno.ENOSPC
    else:
        raise exc
    log.error("storage", exc_info=exc)
    reason = os.strerror(number).lower()
    return await _answer(
        request, NotReadyError(f"the service cannot store its data ({reason}); its operator must make room.")
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
