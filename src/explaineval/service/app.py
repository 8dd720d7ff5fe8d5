"""Build the web application of the service, and serve it."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from explaineval._version import __version__
from explaineval.errors import InputError
from explaineval.service.api import errors, runs, stores
from explaineval.service.api.guards import LOOPBACK_HOSTS, Guard
from explaineval.service.monitoring import Observed, event, write_logs
from explaineval.service.runs import RunService
from explaineval.service.settings import Settings

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
    )
    errors.install(app)
    for router in (runs.router, stores.router, stores.health):
        app.include_router(router)
    hosts = {*LOOPBACK_HOSTS, *(name.lower() for name in settings.hosts)} if loopback or settings.hosts else None
    limits = settings.limits
    app.add_middleware(Guard, hosts=hosts, body_bytes=limits.request_bytes, file_bytes=limits.file_bytes)
    app.add_middleware(Observed)
    return app


class Server(uvicorn.Server):
    """A server that ends the streams of followers when it is asked to end, so that it does not wait for them."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as uvicorn calls it
        """Take a signal to end."""
        app = self.config.app
        service = app.state.service if isinstance(app, FastAPI) and hasattr(app.state, "service") else None
        if service is not None:
            service.events.close()
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


def serve(directory: Path, settings: Settings, digests: Mapping[str, bytes], host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM. Raises InputError where others could reach a service without tokens."""
    loopback = is_loopback(host)
    if not loopback and not digests:
        raise InputError(
            f"--host {host} lets other machines in, and no tokens are configured: name some in serve.yaml (tokens), or "
            "leave --host out."
        )
    app = create_app(directory, settings, digests, loopback=loopback)
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, server_header=False, timeout_keep_alive=20,
        h11_max_incomplete_event_size=64 << 10, proxy_headers=False,
    )  # fmt: skip
    write_logs()
    event("start", version=__version__, host=host, port=port, tokens=len(digests), endpoints=len(settings.endpoints))
    Server(config).run()
