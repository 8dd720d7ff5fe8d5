"""`explaineval serve`: the service, over HTTP."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from explaineval.cli.app import SERVE, CommandWithActions
from explaineval.cli.options import PATH, option, options
from explaineval.cli.output import echo, echo_notes
from explaineval.config.installation import install_extra
from explaineval.errors import InputError
from explaineval.files import why_unwritable
from explaineval.text import bytes_text, counted

HOST, PORT, DATA = "127.0.0.1", 8765, Path("explaineval-data")


@click.group("serve", cls=CommandWithActions, sections=SERVE)
@options(
    option("--config", type=PATH, metavar="serve.yaml", help="What the operator allows: endpoints, tasks, tokens."),
    option("--data", type=PATH, metavar="DIR", help=f"The one directory that is written.  [default: {DATA}/]"),
    option("--host", metavar="ADDRESS", help=f"Where to listen; others than loopback need tokens.  [default: {HOST}]"),
    option("--port", type=click.IntRange(0, 65535), metavar="N", help=f"The port.  [default: {PORT}]"),
)
def serve_command(config: Path | None, data: Path | None, host: str | None, port: int | None) -> int:
    """Serve runs to browsers and scripts: submit, follow, stop and compare them, with budgets. Or copy the data.

    Without tokens in serve.yaml it listens on this machine alone. At Ctrl-C or SIGTERM responses under way are awaited;
    runs that were going on continue by themselves when the service starts again. SIGHUP reads serve.yaml again.

    What it writes is for its own user alone, whatever the umask; files that are there keep their modes.
    """
    with _needed_packages():
        from explaineval.service.app import is_loopback, listen, serve
        from explaineval.service.directory import prepare_directory
        from explaineval.service.settings import Settings, read_settings, read_tokens
    settings = read_settings(config, starts=True)
    digests = read_tokens(settings)
    directory, host, port = data or DATA, host or HOST, PORT if port is None else port
    with _private_files(), listen(host, port, digests) as listening, _locked(directory):
        prepare_directory(directory)
        if sys.stderr.isatty():  # elsewhere the log says it, as JSON
            shown = f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{listening.getsockname()[1]}{settings.base_path}/"
            echo_notes([f"listening at {address}, data in {directory}; Ctrl-C ends it."])

        def read() -> tuple[Settings, dict[str, bytes]]:
            changed = read_settings(config)
            return changed, read_tokens(changed)

        serve(directory, settings, digests, listening, loopback=is_loopback(host), read=read)
    return 0


@click.command("backup")
@options(
    option("--data", type=PATH, metavar="DIR", help=f"The data directory of the service.  [default: {DATA}/]"),
    option("--out", type=PATH, required=True, metavar="DIR", help="A new directory for the copy."),
)
def backup_command(data: Path | None, out: Path) -> int:
    """Copy the data of a service, also while it runs: runs, answers, uploads, and what was spent.

    The copy is of one moment, so that `explaineval serve --data COPY` goes on from there: no answer in it is bought
    again, and all that it cost is booked. Pages and exports are left out; they are made again when they are asked for.
    Run it as the user of the service. Only that user can read the copy, whatever the umask.

    A copy that is served continues the runs that go on in it. Serve it only when the first service has ended, or both
    ask and pay for the rest.
    """
    with _needed_packages():
        from explaineval.service.directory import back_up
    source = data or DATA
    with _private_files():
        found = back_up(source, out)
    active = f"{found.going_on:,} of them waiting or going on"
    echo(f"{out}: {counted(found.runs, 'run')}, {active}; {bytes_text(found.bytes)}.")
    if found.going_on:
        echo_notes(["a service with this copy continues these runs: end the first one before."])
    return 0


@contextmanager
def _needed_packages() -> Iterator[None]:
    """Say which extra to install where the packages of the service are not there."""
    try:
        yield
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] not in {"fastapi", "uvicorn", "starlette"}:
            raise
        raise InputError(f"the service needs packages that are not installed: {install_extra('serve')}.") from None


@contextmanager
def _private_files() -> Iterator[None]:
    """Let only the service's user read what is made meanwhile, also by processes that begin meanwhile."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lock the data directory for this process. Raises InputError where it cannot be used, or another one serves it."""
    reason = why_unwritable(directory)
    if reason is not None:
        raise InputError(f"the data directory cannot be written: {reason}.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise InputError(f"the data directory {directory} cannot be written: {exc.strerror or exc}.") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"another service has the data directory {directory}: end it, or choose another --data."
        ) from None
    else:
        yield
    finally:
        os.close(handle)
