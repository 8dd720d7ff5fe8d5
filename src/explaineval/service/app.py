"""Build the web application of the service, check who may connect and what is sent, and serve it.

A connection that is asked nothing yet (its head or body has not arrived, or it is idle) gives way to a new one where
an address, or the whole service, has as many as it may. So half-sent requests, however many, keep nobody out.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from types import FrameType
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import h11
import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from explaineval._version import __version__
from explaineval.datasets.taggers import find_tagger, how_to_install
from explaineval.errors import ExplainevalError, InputError
from explaineval.service import web
from explaineval.service.actions import ACTIONS
from explaineval.service.monitoring import Observed, event, write_logs
from explaineval.service.pages import BASE
from explaineval.service.processes.sharing import (
    MOST_ARRIVING,
    Shares,
    most_arriving,
    most_connections,
    raise_open_files,
)
from explaineval.service.runs import RunService
from explaineval.service.settings import Settings
from explaineval.service.web import error

READ_SECONDS = 60.0
"""For how long a client may read nothing of what is sent to it."""
SPARE_CONNECTIONS = 64
"""Connections beyond the limit that are answered: about the service's health, and everything else by a refusal."""
HEALTH = frozenset({"/healthz", "/readyz"})
"""Paths below `base_path` that are answered also where all connections are taken."""
CROWDED = "all connections from this address, or of the service, are in use: close some, and try again later."


class Crowd:
    """The open connections of a service.

    Args:
        most: how many there may be.
        each: how many of them one address may have.
        head_seconds: for how long the head of a request may take to arrive.
    """

    def __init__(self, most: int, each: int, head_seconds: float) -> None:
        self.shares = Shares(most, each, "connections")
        self.head_seconds = head_seconds
        self._open: dict[LimitedProtocol, str] = {}

    def enter(self, connection: LimitedProtocol) -> bool:
        """Count a new connection, for which an older one may have to give way; return whether it has a place."""
        address = group_of(connection.address)
        roomy = self.shares.has_room(address) or self._displace(address)
        if roomy or self.shares.total < self.shares.most + SPARE_CONNECTIONS:
            self.shares.take(address)
            self._open[connection] = address
        else:
            connection.abort()
        return roomy

    def leave(self, connection: LimitedProtocol) -> None:
        """Count a connection no more."""
        address = self._open.pop(connection, None)
        if address is not None:
            self.shares.give_back(address)

    def _displace(self, address: str) -> bool:
        """End the oldest connection that is asked nothing: one of this address, or any where all places are taken."""
        full = self.shares.total >= self.shares.most
        oldest = next(
            (
                connection
                for connection, holder in self._open.items()
                if connection.is_waiting and (full or holder == address)
            ),
            None,
        )
        if oldest is None:
            return False
        self.leave(oldest)
        oldest.abort()
        return True


class LimitedProtocol(H11Protocol):
    """uvicorn's protocol with time limits, and with a place in a crowd."""

    def __init__(self, *args: Any, crowd: Crowd, base_path: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.crowd, self.base_path = crowd, base_path
        self.app = self._answer
        self.address = ""
        self.has_place = True
        self._head: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """Whether the client is asking nothing: no request has arrived as a whole, or its answer is sent."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self.has_place = self.crowd.enter(self)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.crowd.leave(self)
        for timer in (self._head, self._reading):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        super().data_received(data)
        self._await_head()

    def pause_writing(self) -> None:
        """Give the client time to read."""
        super().pause_writing()
        self._end_unread()

    def resume_writing(self) -> None:
        """Go on: the client has read."""
        super().resume_writing()
        if self._reading is not None and not self.transport.is_closing():
            self._reading.cancel()
            self._reading = None

    def timeout_keep_alive_handler(self) -> None:
        """End an idle connection, also where the client does not read the end of its answer."""
        super().timeout_keep_alive_handler()
        self._end_unread()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(400, msg)

    def abort(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def _await_head(self) -> None:
        """Start the clock of a head that has begun to arrive; what arrives later does not set it back."""
        between = self.cycle is None or self.cycle.response_complete
        if self._head is not None and not between:
            self._head.cancel()
            self._head = None
        elif self._head is None and between and not self.transport.is_closing():
            self._head = self.loop.call_later(self.crowd.head_seconds, self._end_head)

    def _end_head(self) -> None:
        begun = bool(self.conn.trailing_data[0]) and self.conn.our_state is h11.IDLE
        if begun:
            self._refuse(408, "the head of the request did not arrive in time.")
        else:
            self.transport.close()
            self._end_unread()

    def _end_unread(self) -> None:
        if self._reading is None:
            self._reading = self.loop.call_later(READ_SECONDS, self.abort)

    def _refuse(self, status: int, message: str) -> None:
        """Answer by an error, where no request is being answered, and end the connection."""
        if self.conn.our_state is h11.IDLE:
            answer = error(status, message, {"connection": "close"})
            response = h11.Response(status_code=status, headers=answer.raw_headers)
            for event in (response, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._end_unread()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; where the connection has no place, refuse all but the questions about health."""
        app: ASGIApp = self.config.loaded_app
        path = scope.get("path", "").removeprefix(self.base_path)
        if not self.has_place and path not in HEALTH:
            app = error(503, CROWDED, {"connection": "close", "retry-after": "5"})
        await app(scope, receive, send)


def group_of(address: str) -> str:
    """Return what counts as one address: of IPv6 the network of 64 bits, since one machine has all of it.

    >>> group_of("10.1.2.3"), group_of("2001:db8::1"), group_of("::ffff:10.1.2.3"), group_of("")
    ('10.1.2.3', '2001:db8::/64', '10.1.2.3', '')
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)


def protocol_of(crowd: Crowd, base_path: str = "") -> Callable[..., LimitedProtocol]:
    """Return what uvicorn calls for each connection."""

    def make(*args: Any, **options: Any) -> LimitedProtocol:
        return LimitedProtocol(*args, crowd=crowd, base_path=base_path, **options)

    return make


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


END_SECONDS = 5
"""For how long the end of the service waits for requests of users under way, before it ends the runs."""
DESCRIPTION = (
    "Runs of explaineval on a server: plan, submit, follow, stop and continue them, and read what they found. Send a "
    'token as `Authorization: Bearer TOKEN`. Every error is `{"error": {"code", "message"}}`.'
)


def create_app(directory: Path, settings: Settings, digests: Mapping[str, bytes], *, loopback: bool = True) -> FastAPI:
    """Return the application.

    Args:
        directory: the data directory, the only one that is written.
        settings: what the operator allows.
        digests: SHA-256 of each token by name (`settings.read_tokens`); none makes everybody the one local user.
        loopback: whether it is reached at this machine alone; then, or where the settings name hosts, requests under
            other host names are refused.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with RunService(directory, settings, digests) as service:
            app.state.service = service
            yield
        event("stop")

    app = FastAPI(
        title="explaineval",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": settings.base_path}] if settings.base_path else None,
        generate_unique_id_function=lambda route: route.name,
    )
    web.install_errors(app)
    web.install(app, ACTIONS)
    if digests:
        web.describe_tokens(app, ACTIONS)
    hosts = {*LOOPBACK_HOSTS, *(name.lower() for name in settings.hosts)} if loopback or settings.hosts else None
    limits = settings.limits
    app.add_middleware(Guard, hosts=hosts, body_bytes=limits.request_bytes, file_bytes=limits.file_bytes)
    app.add_middleware(Observed)
    app.add_middleware(BasePath, path=settings.base_path)
    return app


class Server(uvicorn.Server):
    """A server that ends the streams of followers when it is asked to end, so that it does not wait for them.

    SIGHUP makes it call `reload`.
    """

    reload: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and take SIGHUP from then on."""
        await super().startup(sockets)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as uvicorn calls it
        """Take a signal to end."""
        app = self.config.app
        service = app.state.service if isinstance(app, FastAPI) and hasattr(app.state, "service") else None
        if service is not None:
            service.events.close()
            service.workers.closing = True  # runs that others end now, as systemd does, are continued later
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True  # without raising the signal again at the end: this end is as asked for


def is_loopback(host: str) -> bool:
    """Return whether a server that listens at this address is reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int, digests: Mapping[str, bytes]) -> socket.socket:
    """Return a socket that listens; port 0 stands for a free one.

    Raises InputError where it cannot, and where other machines could reach a service without tokens.
    """
    if not is_loopback(host) and not digests:
        raise InputError(
            f"--host {host} lets other machines in, and no tokens are configured: name some in serve.yaml (tokens), or "
            "leave --host out."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=MOST_ARRIVING)
    except OSError as exc:
        raise InputError(
            f"nothing can listen at {host}, port {port} ({exc.strerror or exc}): choose another --host or --port."
        ) from None


def serve(
    directory: Path,
    settings: Settings,
    digests: Mapping[str, bytes],
    listening: socket.socket,
    *,
    loopback: bool,
    read: Callable[[], tuple[Settings, Mapping[str, bytes]]],
) -> None:
    """Serve until SIGINT or SIGTERM at a socket that listens; see `create_app`. On SIGHUP settings are `read` again."""
    handler = write_logs()
    limits = settings.limits
    raise_open_files(limits.connections)
    most = most_connections(limits.connections)
    crowd = Crowd(most, limits.connections_per_address, limits.header_seconds)
    app = create_app(directory, settings, digests, loopback=loopback)

    def reload() -> None:
        """Read serve.yaml again. What is wrong in it is logged, and the settings stay as they are."""
        try:
            waiting = app.state.service.reload(*read())
        except ExplainevalError as exc:
            event("reload", logging.ERROR, state="refused", reason=str(exc))
        else:
            event("reload", state="done", needs_restart=", ".join(waiting) or None)

    async def tidy() -> None:
        handler.write_counts()

    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_keep_alive=limits.idle_seconds,
        proxy_headers=False, h11_max_incomplete_event_size=64 << 10, timeout_graceful_shutdown=END_SECONDS,
        backlog=most_arriving(most), ws="none", http=cast(Any, protocol_of(crowd, settings.base_path)),
        callback_notify=tidy, timeout_notify=10,
    )  # fmt: skip
    host, port = listening.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    url, tagger = f"http://{name}:{port}{settings.base_path}/", find_tagger()
    event(
        "start", version=__version__, host=host, port=port, url=url, data=str(directory), tokens=len(digests),
        endpoints=len(settings.endpoints), tagger=tagger,
    )  # fmt: skip
    if tagger is None:
        event("no_tagger", logging.WARNING, means=f"random words cannot be inserted; {how_to_install()}")
    server = Server(config)
    server.reload = reload
    server.run(sockets=[listening])
