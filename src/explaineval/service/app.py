"""Build the web application of the service, and serve it."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from explaineval._version import __version__
from explaineval.datasets.taggers import find_tagger, how_to_install
from explaineval.errors import ExplainevalError, InputError
from explaineval.service import actions, errors
from explaineval.service.connections import LOOPBACK_HOSTS, BasePath, Crowd, Guard, protocol_of
from explaineval.service.monitoring import Observed, event, write_logs
from explaineval.service.processes.sharing import MOST_ARRIVING, most_arriving, most_connections, raise_open_files
from explaineval.service.runs import RunService
from explaineval.service.settings import Settings

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
    errors.install(app)
    actions.install(app)
    if digests:
        actions.describe_tokens(app)
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
    shown = f"[{host}]" if ":" in host else host
    url, tagger = f"http://{shown}:{port}{settings.base_path}/", find_tagger()
    event(
        "start", version=__version__, host=host, port=port, url=url, data=str(directory), tokens=len(digests),
        endpoints=len(settings.endpoints), tagger=tagger,
    )  # fmt: skip
    if tagger is None:
        event("no_tagger", logging.WARNING, means=f"random words cannot be inserted; {how_to_install()}")
    server = Server(config)
    server.reload = reload
    server.run(sockets=[listening])
