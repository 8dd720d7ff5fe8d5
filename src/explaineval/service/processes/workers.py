"""Start the processes of runs, a bounded number at once, and note how they end.

A process that dies ends its own run's attempt only: its reservations are booked at their worst case, and the run is
started again, a few times at the most. When the server ends, runs that were going on stay so in the table, and the next
server continues them from the cache.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from explaineval.client.spending import SLACK
from explaineval.config import ClientConfig, EndpointConfig
from explaineval.errors import ExitCode, InputError
from explaineval.service.events import Events
from explaineval.service.gate.connection import LONGEST_LINE, RunConnection
from explaineval.service.gate.ledger import Ledger
from explaineval.service.gate.turns import CONNECTIONS, Turns
from explaineval.service.logs import event
from explaineval.service.models import RunView
from explaineval.service.processes.background import without_paths
from explaineval.service.processes.starter import Started, Starter
from explaineval.service.settings import Settings
from explaineval.service.table import STATES, RunRow, State, Table

STOP_SECONDS = 130.0
"""For how long answers under way are waited for when a run is to stop: an attempt may take 120 seconds by default."""
END_SECONDS = 5.0
RETRY_SECONDS = 2.0
LOGS = "logs"
RUNS = "runs"


@dataclass(eq=False)
class Running:
    """A process that executes a run; `progress` is the last that it said of how far it is."""

    row: RunRow
    connection: RunConnection
    process: Started
    stopping: bool = False
    ended: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    view: RunView = field(init=False)


class Workers:
    """Executes runs that wait, in a fair order. Use `run` as a task.

    Args:
        directory: the data directory.
        table: the runs.
        ledger: what they may spend.
        turns: how they may ask.
        events: who follows them.
        settings: what the operator allows.
        endpoints: every endpoint that a run may ask, by name.
        weights: those of the model on this machine, if it may be asked.
        environment: what their processes find in the environment.
    """

    def __init__(
        self,
        directory: Path,
        table: Table,
        ledger: Ledger,
        turns: Turns,
        events: Events,
        settings: Settings,
        endpoints: Mapping[str, EndpointConfig],
        weights: Path | None,
        environment: Mapping[str, str],
    ) -> None:
        self.directory, self.table, self.ledger, self.turns = directory, table, ledger, turns
        self.events, self.settings, self.endpoints, self.weights = events, settings, endpoints, weights
        self.running: dict[str, Running] = {}
        self.starter = Starter(directory, environment, sends=bool(settings.endpoints))
        self.closing = False
        self.on_progress: Callable[[str, Mapping[str, Any]], None] = lambda _run, _progress: None
        self.on_state: Callable[[RunRow], None] = lambda _row: None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._starting = asyncio.Lock()
        self._begun: str | None = None
        """The run whose process is being started."""
        self._unwanted: set[str] = set()
        """Runs that were asked to stop while their process was being started."""

    def recover(self) -> list[RunRow]:
        """Make what was going on when the server ended wait again; return all runs that wait.

        Not quick enough for the event loop.
        """
        for row in self.table.runs(states=("running", "stopping")):
            if row.state == "stopping":
                self.table.update_run(row.id, state="stopped", reason="it was asked to stop.", ended=now())
            else:
                self.table.update_run(row.id, state="queued")
        return self.table.runs(states=("queued",))

    def wake(self) -> None:
        """Look again for runs that can start."""
        self._wake.set()

    async def run(self) -> None:
        """Start runs when they can start, until cancelled."""
        await self.starter.open()
        while True:
            self._wake.clear()
            async with self._starting:
                if not self.closing:
                    try:
                        await self._start_all()
                    except (OSError, sqlite3.Error):  # such as a full disk
                        asyncio.get_running_loop().call_later(RETRY_SECONDS, self.wake)
            await self._wake.wait()

    async def stop(self, run: str) -> bool:
        """Ask a run that goes on to stop; return whether it goes on."""
        running = self.running.get(run)
        if running is None:
            if run == self._begun:
                self._unwanted.add(run)
            return run == self._begun
        running.stopping = True
        running.connection.send({"do": "stop"})
        self._publish(running)
        return True

    async def close(self) -> None:
        """Ask all runs to stop, wait for their ends, and leave them to be continued by the next server."""
        self.closing = True
        async with self._starting:
            for running in self.running.values():
                running.connection.send({"do": "stop"})
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self.starter.close()

    async def _start_all(self) -> None:
        queued = list(reversed(await asyncio.to_thread(self.table.runs, states=("queued",))))
        while queued and len(self._tasks) < self.settings.limits.workers:
            own = Counter(running.row.token for running in self.running.values())
            queued.sort(key=lambda row: (own[row.token], row.number))
            for row in queued:
                if row.id not in self._tasks and await self._start_if_possible(row):
                    queued.remove(row)
                    break
            else:
                return

    async def _start_if_possible(self, row: RunRow) -> bool:
        """Start a run that may start; whether it is settled, also because it cannot be started at all."""
        try:
            if not await self._may_start(row):
                return False
            self._begun = row.id
            await self._start(row)
        except OSError as exc:
            await self.set_state(row, "failed", f"its process cannot be started: {exc.strerror or exc}.")
        except sqlite3.Error:
            raise
        except Exception as exc:  # a row that this version cannot read must not keep the others from starting
            event("fault", logging.ERROR, run=row.id, error=type(exc).__name__)
            await self.set_state(
                row, "failed", f"it cannot be started: an error in explaineval ({type(exc).__name__})."
            )
        finally:
            self._begun = None
        return True

    async def _may_start(self, row: RunRow) -> bool:
        """Whether what is kept for a run fits beside what is kept for those of its token that go on.

        A run that cannot go on by itself is interrupted.
        """
        missing = [name for name in row.job["endpoints"] if name not in self.endpoints]
        if missing:
            await self._interrupt(row, f"the endpoint {missing[0]} is not among those of this service any more.")
            return False
        if row.job["weights"] and self.weights is None:
            await self._interrupt(row, "the model on this machine cannot be asked any more.")
            return False
        left = self.ledger.left(row.token)
        if left is None:
            return True
        others = [running.row for running in self.running.values() if running.row.token == row.token]
        kept = sum(
            max(0.0, other.commitment + other.usd - (self.ledger.run_spent(other.id) or 0.0)) for other in others
        )
        if row.commitment <= (left - kept) * (1 + SLACK) + SLACK:
            return True
        if not others:
            await self._interrupt(
                row,
                f"it may cost ${row.commitment:.4f} more, and ${left:.4f} are left of the budget of {row.token}; "
                "continue it when there is more.",
            )
        return False

    async def _interrupt(self, row: RunRow, reason: str) -> None:
        await self.set_state(row, "interrupted", reason)

    async def _start(self, row: RunRow) -> None:
        """Start the process of a run."""
        started = row.started or now()
        if not await asyncio.to_thread(
            self.table.update_run, row.id, only_in=("queued",), state="running", reason=None, started=started
        ):
            return  # it was stopped meanwhile
        ours, theirs = socket.socketpair()
        try:
            log = await asyncio.to_thread(self._open_log, row.id)
            try:
                process = await self.starter.start(theirs, log)
            finally:
                os.close(log)
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LONGEST_LINE)
        fresh = await asyncio.to_thread(self.table.run, row.id)
        if fresh is None:  # deleted meanwhile
            process.kill()
            return
        self.ledger.open_run(row.id, fresh.max_usd, fresh.usd)
        connection = RunConnection(
            row.id, row.token, self.ledger, self.turns, reader, writer, lambda message: self._receive(row.id, message)
        )
        running = self.running[row.id] = Running(fresh, connection, process)
        connection.send({"do": "job", **self._job(fresh)})
        self.on_state(fresh)
        self._publish(running)
        self._tasks[row.id] = asyncio.create_task(self._follow(running))
        if row.id in self._unwanted:
            self._unwanted.discard(row.id)
            await self.stop(row.id)

    def _open_log(self, run: str) -> int:
        path = self.directory / LOGS / f"{run}.txt"
        path.parent.mkdir(exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _job(self, row: RunRow) -> dict[str, Any]:
        """What the process is to do, with the endpoints as they are now."""
        client = ClientConfig(**row.job["client"])
        left = None if row.max_usd is None else max(0.0, row.max_usd - row.usd)
        update = {
            "endpoints": {name: _lowered(self.endpoints[name], row.job["lowered"]) for name in row.job["endpoints"]},
            "cache": self.directory / "cache",
            "max_usd": left,
        }
        return {
            "science": row.job["science"],
            "client": client.model_copy(update=update).model_dump(mode="json"),
            "weights": str(self.weights) if row.job["weights"] else None,
            "directory": str(self.directory / RUNS / row.id),
            "grace": STOP_SECONDS,
        }

    def _receive(self, run: str, message: dict[str, Any]) -> None:
        running = self.running.get(run)
        if running is None:
            return
        if message.get("progress") is not None:
            running.progress = message["progress"]
            self.on_progress(run, message["progress"])
            self._publish(running)
        if message["do"] == "ended":
            running.ended = message

    def _publish(self, running: Running) -> None:
        running.view = RunView.of(
            running.row,
            state="stopping" if running.stopping else "running",
            usd=self.ledger.run_spent(running.row.id),
            progress=running.progress,
        )
        self.events.publish(running.row.id, running.view.model_dump(mode="json"))

    async def _follow(self, running: Running) -> None:
        """Serve a process until it ends, and note how."""
        run = running.row.id
        try:
            await running.connection.serve()
            if running.ended is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(END_SECONDS):
                        await running.process.ended.wait()
                running.process.kill()  # it closed the connection and goes on: it is not to
            await running.process.ended.wait()
            await self.ledger.flush()
            state, reason = self._verdict(running)
            changes: dict[str, Any] = {"progress": running.progress or running.row.progress}
            if state == "queued" and not self.closing:
                changes["restarts"] = running.row.restarts + 1
            elif running.ended is not None:
                changes["exit_code"] = running.ended["exit_code"]
            del self.running[run]
            if not (self.closing and state == "queued"):
                await self.set_state(running.row, state, reason, **changes)
        finally:
            self.running.pop(run, None)
            self._tasks.pop(run, None)
            self.wake()

    def _verdict(self, running: Running) -> tuple[State, str | None]:
        """The state of a run whose process has ended, and why it is not finished."""
        row, ended = running.row, running.ended
        if ended is None:
            code = running.process.code
            why = "its process ended" if code is None else f"its process ended with exit code {code}"
            if code is not None and code < 0:
                why = f"its process was ended by signal {-code}"
            if running.stopping:
                return "stopped", f"{why} while it was stopping; answers that were paid for are kept."
            if self.closing or row.restarts < self.settings.limits.restarts:
                return "queued", f"{why}; it is continued."
            return "failed", f"{why} {row.restarts + 1} times; answers that were paid for are kept."
        exit_code, errors = ended["exit_code"], without_paths(" ".join(ended["errors"]), self.directory)
        if exit_code == ExitCode.DONE:
            return "finished", None
        if exit_code == ExitCode.INTERRUPTED:
            if running.stopping:
                return "stopped", "it was stopped; continue asks the rest."
            if self.closing or row.restarts < self.settings.limits.restarts:
                return "queued", "its process was stopped from outside; it is continued."
            return "stopped", "its process was stopped from outside."
        if exit_code == ExitCode.SPENDING_LIMIT:
            return "interrupted", self._limit_reason(row)
        return "failed", errors or f"it ended with exit code {exit_code}."

    def _limit_reason(self, row: RunRow) -> str:
        spent, left = self.ledger.run_spent(row.id) or 0.0, self.ledger.left(row.token)
        if row.max_usd is not None and (left is None or row.max_usd - spent < left):
            return f"its limit (${row.max_usd:g}) is reached: ${spent:.4f} are spent; continue it with a higher one."
        if left is None:
            return f"the limit of one of its models is reached: ${spent:.4f} are spent."
        return f"the budget of {row.token} leaves no room: ${spent:.4f} are spent on this run, ${left:.4f} are left."

    async def set_state(
        self, row: RunRow, state: State, reason: str | None, *, only_in: Sequence[State] = STATES, **changes: Any
    ) -> bool:
        """Write the state of a run that is in one of these states, and tell its followers; return whether it was."""
        ended = None if state == "queued" else now()
        changes |= {"state": state, "reason": reason, "ended": ended}
        if not await asyncio.to_thread(self.table.update_run, row.id, only_in=only_in, **changes):
            return False
        fresh = await asyncio.to_thread(self.table.run, row.id)
        if fresh is not None:
            view = RunView.of(fresh)
            self.events.publish(row.id, view.model_dump(mode="json"), last=not fresh.active)
            self.on_state(fresh)
        return True


def _lowered(entry: EndpointConfig, wanted: Mapping[str, float]) -> EndpointConfig:
    """Return an endpoint's entry with lower limits where a user wants them."""
    limits = {"max_connections": entry.max_connections or CONNECTIONS, "rpm": entry.rpm, "tpm": entry.tpm}
    return entry.model_copy(update={name: min(value, limits[name] or value) for name, value in wanted.items()})


def now() -> str:
    """The time in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def find_weights_if_installed() -> Path | None:
    """The weights of the small model on this machine, None where they, or what serves them, are not installed."""
    from importlib.util import find_spec

    from explaineval.client.endpoints.llamacpp import find_weights

    if find_spec("xllamacpp") is None:
        return None
    try:
        return find_weights(None)
    except InputError:
        return None
