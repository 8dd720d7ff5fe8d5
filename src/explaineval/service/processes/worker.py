"""What the process of one run does.

It gets its job over a connection to the server, plans, asks and scores as `explaineval run` does, and says how far it
is. Where the server is gone nothing more is sent; responses under way are awaited and stored.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from explaineval.config import ClientConfig, RunConfig
from explaineval.errors import ExitCode, ExplainevalError, InUseError
from explaineval.execution.pool import StopRequest
from explaineval.execution.progress import RunStatus
from explaineval.execution.run import Outcome, execute
from explaineval.planning.prepare import Prepared, prepare
from explaineval.secrets import SECRETS
from explaineval.service.directory import is_full
from explaineval.service.processes.wire import GateClient

PROGRESS_SECONDS = 1.0
"""Seconds between two messages on how far the run is."""
LOCK_SECONDS = 600.0
"""For how long the run directory may be in use by an earlier process of the same run."""
LOOK_SECONDS = 0.25


class RunProcess:
    """One run in this process, and its connection to the server."""

    def __init__(self, connection: socket.socket) -> None:
        self.stop = StopRequest()
        self.gate = GateClient(connection, lambda _: self.stop.ask())
        self._status: RunStatus | None = None
        self._sent = float("-inf")

    def work(self) -> None:
        """Execute the job that the server sends, and say how it ended."""
        try:
            job = self.gate.receive()
        except EOFError:
            return
        self.stop.grace = job["grace"]
        self.gate.answered = frozenset(job["answered"])
        try:
            outcome = self._execute(job)
        except ExplainevalError as exc:
            self._end(exc.exit_code, [str(exc)], full=is_full(exc))
        except Exception as exc:
            full = is_full(exc)
            text = f"{exc}." if full else f"{type(exc).__name__}: {exc}"
            self._end(ExitCode.INTERNAL_ERROR, [SECRETS.mask(text)], full=full)
            if not full:
                raise
        else:
            # a run that was asked to stop may be through with what it has to refuse before it notices
            stopped = outcome is None or (self.stop.times > 0 and outcome.totals.requests.unsent > 0)
            code = ExitCode.INTERRUPTED if outcome is None or stopped else outcome.exit_code
            errors = [] if outcome is None else list(outcome.errors)
            self._end(code, errors, outcome)

    def _execute(self, job: dict[str, Any]) -> Outcome | None:
        """Execute the run; None where it is to stop before it has begun."""
        prepared = prepare(RunConfig(**job["science"]), ClientConfig(**job["client"]))
        weights = None if job["weights"] is None else Path(job["weights"])
        end = time.monotonic() + LOCK_SECONDS
        while not self.stop.times:
            try:
                return self._attempt(prepared, Path(job["directory"]), weights)
            except InUseError:  # the process of before still awaits responses that are paid for
                if time.monotonic() > end:
                    raise
                self.gate.wait(LOOK_SECONDS)
        return None

    def _attempt(self, prepared: Prepared, directory: Path, weights: Path | None) -> Outcome:
        return execute(prepared, directory, self._watch, weights, keep=True, stop=self.stop, shared=self.gate)

    def _watch(self, status: RunStatus) -> None:
        self.gate.attach()
        before, self._status = self._status, status
        states = None if before is None else [model.state for model in before.progress.models]
        changed = states != [model.state for model in status.progress.models]
        if changed or time.monotonic() - self._sent >= PROGRESS_SECONDS:
            self._sent = time.monotonic()
            self.gate.send({"do": "progress", "progress": progress_of(status)})

    def _end(self, code: ExitCode, errors: list[str], outcome: Outcome | None = None, *, full: bool = False) -> None:
        message: dict[str, Any] = {"do": "ended", "exit_code": int(code), "errors": errors, "notes": [], "full": full}
        if outcome is not None:
            message["notes"] = [note.model_dump(mode="json") for note in outcome.notes]
        if self._status is not None:
            message["progress"] = progress_of(self._status)
        self.gate.send(message)


def progress_of(status: RunStatus) -> dict[str, Any]:
    """Return how far a run is as progress.json says it, with phi-CCT so far of each model and kind of intervention."""
    document = status.progress.model_dump(mode="json")
    for model, phis in zip(document["models"], status.phis, strict=True):
        model["phi"] = [
            {
                "kind": phi.kind,
                "value": phi.estimate.value,
                "low": phi.estimate.low,
                "high": phi.estimate.high,
                "n": phi.estimate.n,
                "n_examples": phi.estimate.n_examples,
                "conditions": phi.conditions,
                "undefined": phi.estimate.undefined,
            }
            for phi in phis
        ]
    masked: dict[str, Any] = SECRETS.mask_value(document)
    return masked


def work(descriptor: int) -> int:
    """Work on the job that comes over a descriptor; return the exit code of the process."""
    with socket.socket(fileno=descriptor) as connection:
        try:
            RunProcess(connection).work()
        except Exception:
            traceback.print_exc()
            return 1
    return 0


NEEDED = ("scipy.special", "scipy.stats", "explaineval.cache.database", "explaineval.planning.prepare")
"""What every run needs and would otherwise load when it comes to it."""
MESSAGE = 4096
"""Bytes of the longest message; one travels as one packet."""


@dataclass(eq=False)
class Started:
    """The process of a run. `code` is how it ended (below 0: by that signal), None where that is not known."""

    pid: int
    code: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def kill(self) -> None:
        """End the process at once."""
        if not self.ended.is_set():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Starter:
    """Starts processes of runs by one that is ready.

    Args:
        directory: where they work.
        environment: what they find in the environment.
        sends: whether to load what sends requests to endpoints beforehand.
    """

    def __init__(self, directory: Path, environment: Mapping[str, str], *, sends: bool) -> None:
        self.directory, self.environment, self.sends = directory, environment, sends
        self._process: asyncio.subprocess.Process | None = None
        self._connection: socket.socket | None = None
        self._running: dict[int, Started] = {}
        self._replies: asyncio.Queue[int | None] = asyncio.Queue()

    async def open(self) -> None:
        """Start the process that starts others."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(int(self.sends)),
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),), cwd=self.directory, env=dict(self.environment), start_new_session=True,
            )  # fmt: skip
        self._connection = ours
        self._replies = asyncio.Queue()
        asyncio.get_running_loop().add_reader(ours, self._read)

    async def start(self, connection: socket.socket, log: int) -> Started:
        """Start the process of a run, which gets its end of a connection and writes what it prints to the log.

        Raises OSError where it cannot be started.
        """
        if self._connection is None:
            await self.open()
        assert self._connection is not None  # noqa: S101 - open has made it
        socket.send_fds(self._connection, [b"start"], [connection.fileno(), log])
        pid = await self._replies.get()
        if pid is None:
            raise OSError("the process that starts runs has ended")
        return self._running[pid]

    async def close(self) -> None:
        """End the process that starts others; those that it started go on."""
        self._lose()
        if self._process is not None:
            await self._process.wait()

    def _read(self) -> None:
        assert self._connection is not None  # noqa: S101 - it is read
        try:
            packet = self._connection.recv(MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._lose()
            return
        message = json.loads(packet)
        if "started" in message:
            self._running[message["started"]] = Started(message["started"])
            self._replies.put_nowait(message["started"])
            return
        started = self._running.pop(message["ended"], None)
        if started is not None:
            started.code = message["code"]
            started.ended.set()

    def _lose(self) -> None:
        """Forget the process that starts others; how those that it started end is not known any more."""
        if self._connection is None:
            return
        asyncio.get_running_loop().remove_reader(self._connection)
        self._connection.close()
        self._connection = None
        self._replies.put_nowait(None)
        for started in self._running.values():
            started.ended.set()
        self._running.clear()


def main() -> None:
    """Load what runs need, and fork a process for each that is to start, until the server is gone."""
    SECRETS.learn(os.environ)
    connection = socket.socket(fileno=int(sys.argv[1]))
    for name in NEEDED:
        import_module(name)
    if sys.argv[2] == "1":
        from explaineval.client.litellm_client import load_litellm

        load_litellm()
        import_module("openai.resources")
    gc.collect()
    gc.freeze()  # a collection in a child would go through all of it, and copy its pages
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([connection.fileno(), wake], [], [])
        if wake in ready:
            os.read(wake, MESSAGE)
            _report_ends(connection)
        if connection.fileno() not in ready:
            continue
        packet, descriptors, _, _ = socket.recv_fds(connection, MESSAGE, 2)
        if not packet:
            return
        child = os.fork()
        if not child:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (wake, woken):
                os.close(descriptor)
            connection.close()
            _run(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.send(json.dumps({"started": child}).encode())


def _report_ends(connection: socket.socket) -> None:
    """Tell how processes that have ended did so."""
    with suppress(ChildProcessError, OSError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            message: dict[str, Any] = {"ended": pid, "code": os.waitstatus_to_exitcode(status)}
            connection.send(json.dumps(message).encode())


def _run(connection: int, log: int) -> None:
    """Be the process of a run; never returns."""
    code = 1
    try:
        os.setsid()
        for stream in (1, 2):
            os.dup2(log, stream)
        os.close(log)
        random.seed()  # or the waits between attempts of all runs would be the same
        code = work(connection)
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
