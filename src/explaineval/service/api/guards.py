"""What is checked of every request before anything reads it, and the headers that every answer has."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextvars import ContextVar
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from explaineval.service.api.errors import error

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of an answer that does not set them itself."""
UPLOADS = "/api/files/"
BLOCK_SECONDS = 30.0
"""For how long the next part of a body is waited for, and the whole of a short body."""
SLOWEST_BYTES = 16_000
"""Bytes of a body that must arrive each second, once `BLOCK_SECONDS` are over."""


BASE: ContextVar[str] = ContextVar("base_path", default="")
"""The path below which the service is asked, while a request is answered: nothing, or `/` and names."""


class BasePath:
    """Lets a service be asked below a path, whether a proxy in front of it takes that path away or not.

    Args:
        app: what answers, as if there were no such path.
        path: nothing, or `/` and names.
    """

    def __init__(self, app: ASGIApp, path: str) -> None:
        self.app, self.path = app, path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not self.path:
            await self.app(scope, receive, send)
            return
        asked = scope["path"]
        if asked == self.path or asked.startswith(f"{self.path}/"):
            raw = scope.get("raw_path", asked.encode())
            rest, raw = asked[len(self.path) :], raw[len(self.path) :]
            scope = dict(scope) | {"path": rest or "/", "raw_path": raw or b"/"}
        host = Headers(scope=scope).get("host", "")

        async def sender(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if "location" in headers:
                    target = urlsplit(headers["location"])
                    if target.netloc in ("", host) and target.path.startswith("/"):
                        headers["location"] = urlunsplit(("", "", self.path + target.path, target.query, ""))
            await send(message)

        token = BASE.set(self.path)
        try:
            await self.app(scope, receive, sender)
        finally:
            BASE.reset(token)


class Guard:
    """Refuses foreign host names and large bodies, and adds the headers.

    Args:
        app: what answers.
        hosts: host names under which the service may be asked, without ports; None for any.
        body_bytes: of a request that is no upload.
        file_bytes: of an upload.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, body_bytes: int, file_bytes: int) -> None:
        self.app, self.hosts, self.body_bytes, self.file_bytes = app, hosts, body_bytes, file_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        sender = _with_headers(send)
        host = host_name(headers.get("host", ""))
        if self.hosts is not None and host not in self.hosts:
            await error(400, "the service is not asked under this host name; its operator can add it to `hosts`.")(
                scope, receive, sender
            )
            return
        upload = scope["method"] == "PUT" and scope["path"].startswith(UPLOADS)
        most = self.file_bytes if upload else self.body_bytes
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 15 or int(length) > most:
            await error(413, f"the body may have {most:,} bytes.")(scope, receive, sender)
            return
        await self.app(scope, _bounded(receive, most), sender)


def host_name(host: str) -> str:
    """Return the name in a Host header, without its port and in lower case.

    >>> host_name("LocalHost:8000"), host_name("[::1]:8000"), host_name("[::1]")
    ('localhost', '[::1]', '[::1]')
    """
    name = host.lower()
    if name.startswith("["):
        return name.partition("]")[0] + "]"
    return name.partition(":")[0]


def _bounded(receive: Receive, most: int) -> Receive:
    received, complete = 0, False
    begun: float | None = None

    async def bounded() -> Message:
        nonlocal received, complete, begun
        if complete:
            return await receive()
        now = asyncio.get_running_loop().time()
        begun = now if begun is None else begun
        left = begun + BLOCK_SECONDS + received / SLOWEST_BYTES - now
        try:
            async with asyncio.timeout(min(BLOCK_SECONDS, left)):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408) from None
        complete = not message.get("more_body", False)
        received += len(message.get("body", b""))
        if received > most:
            raise HTTPException(413)
        return message

    return bounded


def _with_headers(send: Send) -> Send:
    async def sender(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return sender
