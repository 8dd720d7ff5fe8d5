"""Make pages of templates, with a policy that lets nothing in from elsewhere, and errors as pages too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.exceptions import HTTPException

from explaineval import text
from explaineval._version import __version__
from explaineval.config import SETTINGS
from explaineval.errors import ExplainevalError
from explaineval.secrets import SECRETS
from explaineval.service.auth import AuthError, User
from explaineval.service.connections import BASE
from explaineval.service.errors import CODES, STATUSES, sentence_of
from explaineval.service.pages import views
from explaineval.service.submissions import LABELS
from explaineval.text import shortened, visible

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
STATIC: Mapping[str, tuple[str, str, str]] = {
    "tokens.css": ("explaineval.reporting.page", "tokens.css", "text/css"),
    "site.css": ("explaineval.service.pages", "static/site.css", "text/css"),
    "run.js": ("explaineval.service.pages", "static/run.js", "text/javascript"),
    "form.js": ("explaineval.service.pages", "static/form.js", "text/javascript"),
    "upload.js": ("explaineval.service.pages", "static/upload.js", "text/javascript"),
}
"""Files of pages: the package, the path in it, and the type. The colours are those of the report."""


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("explaineval.service.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    helpers = (
        text.number_text, text.share_text, text.p_value_text, text.dollars_text, text.duration_text, text.bytes_text,
        text.interval_text, text.counted,
        views.moment, views.percent_done, views.interval, views.failures, views.rate, views.left, views.status_line,
        views.title, views.simulated_note, views.by_rank, views.sentence, views.task_text, views.limits, views.is_told,
    )  # fmt: skip
    environment.globals.update({helper.__name__: helper for helper in helpers})
    environment.globals.update(
        base=BASE.get, STATES=views.STATES, ORDERS=views.ORDERS, STYLES=views.STYLES, LABELS=LABELS, SETTINGS=SETTINGS,
        WIDTH=views.WIDTH,
        HEIGHT=views.HEIGHT, version=__version__,
    )  # fmt: skip
    return environment


ERRORS: tuple[type[Exception], ...] = (ExplainevalError, RequestValidationError, *STATUSES)
"""What a page says in its place instead of failing."""


def page(template: str, user: User | None, code: int = 200, **values: Any) -> HTMLResponse:
    """Return a page, with this status."""
    text = _environment().get_template(template).render(user=user, **values)
    return HTMLResponse(text, code, {"content-security-policy": POLICY})


@cache
def static_file(name: str) -> tuple[bytes, str] | None:
    """Return a file of pages and its type; None where there is none of this name."""
    if name not in STATIC:
        return None
    package, path, kind = STATIC[name]
    return files(package).joinpath(path).read_bytes(), f"{kind}; charset=utf-8"


def status_of(error: Exception) -> int:
    """Return the status of an answer to an error."""
    if isinstance(error, AuthError):
        return error.status
    if isinstance(error, RequestValidationError):
        return 422
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)


def message_of(error: Exception) -> str:
    """Return the sentence of an error."""
    if isinstance(error, RequestValidationError):
        return sentence_of(error.errors())
    return SECRETS.mask(shortened(str(error) or CODES[status_of(error)][1]))


def local_path(path: str) -> str:
    """Return a path of this service, where a login goes on; the list of runs for anything else.

    >>> local_path("/runs/0123"), local_path("//evil.example"), local_path("https://evil.example")
    ('/runs/0123', '/runs', '/runs')
    """
    return path if re.fullmatch(r"/[A-Za-z0-9][A-Za-z0-9/._-]*", path) else "/runs"


def install(app: FastAPI) -> None:
    """Let an unknown address and a fault be pages where a browser asks for one; the API's errors stay documents."""
    for kind in (HTTPException, Exception):
        app.add_exception_handler(kind, _or_page(app.exception_handlers[kind]))


def _or_page(answer: Any) -> Any:
    async def answer_or_page(request: Request, exc: Exception) -> Response:
        found: Response = await answer(request, exc)
        if request.url.path.startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
            return found
        message = json.loads(bytes(found.body))["error"]["message"]
        shown = page("error.html", None, found.status_code, status=found.status_code, message=message)
        if "allow" in found.headers:
            shown.headers["allow"] = found.headers["allow"]
        return shown

    return answer_or_page


class PageRoute(APIRoute):
    """A route whose errors are pages; whoever is not logged in is sent to the login."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await answer(request)
            except AuthError as exc:
                if exc.status == 401 and request.url.path != "/login":
                    return RedirectResponse(f"/login?next={quote(local_path(request.url.path))}", 303)
                error: Exception = exc
            except ERRORS as exc:
                error = exc
            status = status_of(error)
            return page("error.html", None, status, status=status, message=message_of(error))

        return handler
