"""Start the processes of runs, a bounded number at once, and note how they end.

A process that dies ends its own run's attempt only: what it left reserved is settled, and the run is started again, a
few times at the most. A run that only waits gives its worker to others. When the server ends, runs that were going on
stay so in the table, and the next server continues them from the cache.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sqlite3
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from explaineval.client.concurrency import RateLimit
from explaineval.client.spending import SLACK
from explaineval.config import ClientConfig, EndpointConfig
from explaineval.service.directory import LOGS, RUNS, Disk, in_directory, is_full
from explaineval.service.models import RunView
from explaineval.service.monitoring import Events, event
from explaineval.service.processes.background import Background, without_paths
from explaineval.service.processes.budgets import Budgets
from explaineval.service.processes.settlements import Settlements
from explaineval.service.processes.sharing import CONNECTIONS, IDLE, Holder, Queue, RateQueue, Turns, choose_to_pause
from explaineval.service.processes.sharing import clock as clock_text
from explaineval.service.processes.states import ACTIVE, State, Status, WaitsFor, after_process
from explaineval.service.processes.wire import LONGEST_LINE, Idle, RunConnection
from explaineval.service.processes.worker import Started, Starter
from explaineval.service.settings import Settings
from explaineval.service.table import RunRow, StateFile, kept_of, now
from explaineval.text import dollars_text

STOP_SECONDS = 130.0
"""For how long answers under way are waited for when a run is to stop: an attempt may take 120 seconds by default."""
END_SECONDS = 5.0
RETRY_SECONDS = 2.0
LONGEST_PAUSE = 60.0
"""Seconds after which a run that met a full disk is started again, at most, doubled each time."""
TICK_SECONDS = 1.0
"""Seconds between two looks at what runs wait for."""
MOST_CONNECTIONS = 4096
LONGEST_PATIENCE = 30 * 86_400.0
"""Seconds for which the process of a run waits for an endpoint, unless it is ended before."""
ENDED = Status("stopped")
"""Says of a run that it does not wait: it has been ended instead of started."""


@dataclass(frozen=True)
class Paused:
    """A run without a process that waits for an endpoint, or until a time of a clock that never jumps."""

    state: Status
    until: float

    @classmethod
    def of(cls, state: Status) -> Paused:
        """Return the pause of a run in this state, which may be to go on at a time of day."""
        left = 0.0 if state.resume_at is None else state.resume_at - time.time()
        return cls(state, time.monotonic() + left)


@dataclass(eq=False)
class Running:
    """A process that executes a run; `progress` is the last that it said of how far it is.

    `since` is when it was started, `pause` what becomes of the run once it has made room, `full` why it cannot store an
    answer.
    """

    row: RunRow
    connection: RunConnection
    process: Started
    since: float
    stopping: bool = False
    pause: Status | None = None
    full: str | None = None
    ended: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None
    view: RunView = field(init=False)


@dataclass(eq=False)
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
        background: the processes that plan, and read the cache.
        disk: whether something can be written.
        worst_left: plans a run anew, and returns the worst case of what is not in the cache yet.
        on_progress: called with a run, its token and how far it is.
        on_state: called with a run whose state has changed.
    """

    directory: Path
    table: StateFile
    ledger: Budgets
    turns: Turns
    events: Events
    settings: Settings
    endpoints: Mapping[str, EndpointConfig]
    weights: Path | None
    environment: Mapping[str, str]
    background: Background
    disk: Disk
    worst_left: Callable[[RunRow], Awaitable[float | None]]
    on_progress: Callable[[str, str, Mapping[str, Any]], None]
    on_state: Callable[[RunRow], None]
    running: dict[str, Running] = field(default_factory=dict)
    queued: dict[str, Status] = field(default_factory=dict)
    """Why each run that is queued waits, and which place it has."""
    _queued_for: set[str] = field(default_factory=set)
    """The endpoints of runs that are queued."""
    paused: dict[str, Paused] = field(default_factory=dict)
    """The runs in the state `waiting` that have no process."""
    closing: bool = False
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _rates: dict[str, dict[str, RateQueue]] = field(default_factory=dict)
    """The rates of runs by their endpoints, which hold over their processes."""
    _planning: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    """Runs that are planned anew, or were, since they did not fit their budget."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _begun: str | None = None
    """The run whose process is being started."""
    _unwanted: set[str] = field(default_factory=set)
    """Runs that were asked to stop while their process was being started."""
    _wanting: str | None = None
    """The token whose run is the next that waits for a worker."""
    _disk_pauses: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.starter = Starter(self.directory, self.environment, sends=bool(self.settings.endpoints))
        self.settlements = Settlements(
            self.table, self.ledger, self.background, self.job, lambda run: self.directory / RUNS / run, self.disk,
            lambda: self.closing,
        )  # fmt: skip

    def recover(self) -> list[RunRow]:
        """Make what was going on when the server ended wait again; return all runs that wait.

        Not quick enough for the event loop.
        """
        for row in self.table.runs(("running", "waiting", "stopping")):
            if row.state == "stopping":
                self.table.set_state(row.id, Status("stopped", "it was asked to stop."))
            elif row.state == "waiting" and row.waits_for == "rate" and row.resume_at is not None:
                self.paused[row.id] = Paused.of(Status("waiting", row.reason, "rate", resume_at=row.resume_at))
            else:
                self.table.set_state(row.id, Status("queued"))
        return self.table.runs(("queued", "waiting"))

    def wake(self) -> None:
        """Look again for runs that can start."""
        self._wake.set()

    async def run(self) -> None:
        """Start runs when they can start, until cancelled."""
        await self.starter.open()
        look = True
        while True:
            self._wake.clear()
            async with self._starting:
                if not self.closing:
                    try:
                        if await self._tick() or look:
                            await self._start_all()
                    except Exception as exc:  # a full disk, or a fault, which must not keep all runs from starting
                        self._suspect(exc)
                        asyncio.get_running_loop().call_later(RETRY_SECONDS, self.wake)
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._wake.wait()
            look = self._wake.is_set()  # also where it was set in the moment in which the time was over

    async def stop(self, run: str) -> bool:
        """Ask a run that goes on to stop; return whether it goes on. Its process is ended where it does not."""
        running = self.running.get(run)
        if running is None:
            if run == self._begun:
                self._unwanted.add(run)
            return run == self._begun
        running.stopping = True
        running.row = replace(running.row, state="stopping")
        running.connection.send({"do": "stop"})
        asyncio.get_running_loop().call_later(STOP_SECONDS + END_SECONDS, running.process.kill)
        self._publish(running)
        return True

    async def close(self) -> None:
        """Ask all runs to stop, wait for their ends, and leave them to be continued by the next server."""
        self.closing = True
        async with self._starting:
            for running in self.running.values():
                running.connection.send({"do": "stop"})
        for task in self._planning.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), *self._planning.values(), return_exceptions=True)
        await self.starter.close()

    def view(self, row: RunRow) -> RunView:
        """Return how a run is now."""
        running = self.running.get(row.id)
        if running is not None:
            return running.view
        return RunView.of(row, self.status(row.id, row.state))

    def status(self, run: str, state: State) -> Status | None:
        """Return why a run without a process waits, as it is now; None where its row says so."""
        if state == "queued":
            return self.queued.get(run)
        paused = self.paused.get(run) if state == "waiting" else None
        if paused is None or paused.state.endpoint is None:
            return None
        return replace(paused.state, reason=self.turns.outages.sentence(paused.state.endpoint) or paused.state.reason)

    def kept(self, running: Running) -> float:
        """Return the dollars that are kept for a run that goes on."""
        row = running.row
        return kept_of(row.worst_usd, row.max_usd, self.ledger.run_spent(row.id) or 0.0)

    def kept_of_token(self, token: str) -> float:
        """Return the dollars of a token's budget that are kept for its runs that go on."""
        return sum(self.kept(running) for running in self.running.values() if running.row.token == token)

    async def _tick(self) -> bool:
        """Do what the time has come for; return whether runs may be able to start now."""
        clock, loop = time.time(), asyncio.get_running_loop()
        for running in list(self.running.values()):
            await self._watch(running, loop.time(), clock)
        outages, due = self.turns.outages, False
        if self._tasks.keys() == self.running.keys():  # none is just ending, and about to wait
            outages.forget(self._asked_endpoints())
        callers = self._callers()
        for run, paused in list(self.paused.items()):
            endpoint = paused.state.endpoint
            over = endpoint is not None and outages.is_over(endpoint)
            if over or self._is_due(run, paused, callers):
                row = await asyncio.to_thread(self.table.run, run)
                if row is None or row.state != "waiting":
                    del self.paused[run]
                elif over:
                    await self.set_state(row, Status("interrupted", outages.farewell(endpoint or "")))
                else:
                    await self.set_state(row, Status("queued"))
                    due = True
        if self._wanting is not None and not any(
            running.pause or running.stopping for running in self.running.values()
        ):
            self._make_room(self._wanting, loop.time())
        return due

    def _asked_endpoints(self) -> set[str | None]:
        """Return the endpoints of all runs that wait or go on; queued runs try anew those that were given up."""
        paused = {paused.state.endpoint for paused in self.paused.values()}
        queued = {place for place in self._queued_for if not self.turns.outages.is_over(place)}
        return paused.union(queued, *(running.row.job["endpoints"] for running in self.running.values()))

    def _is_due(self, run: str, paused: Paused, callers: Collection[str]) -> bool:
        endpoint = paused.state.endpoint
        if endpoint is not None:
            return endpoint not in self.turns.outages.now or run in callers
        return time.monotonic() >= paused.until and not (paused.state.waits_for == "disk" and self.disk.faults)

    def _callers(self) -> set[str]:
        """Return the runs that are to try an endpoint again which no process is about to try, one for each."""
        callers = set()
        for endpoint, outage in self.turns.outages.now.items():
            due = outage.prober is None and asyncio.get_running_loop().time() >= outage.next_try
            asked = any(endpoint in running.row.job["endpoints"] for running in self.running.values())
            if not due or asked or outage.called in self.queued:
                continue
            outage.called = next(
                (run for run, paused in self.paused.items() if paused.state.endpoint == endpoint), None
            )
            if outage.called is not None:
                callers.add(outage.called)
        return callers

    async def _watch(self, running: Running, moment: float, clock: float) -> None:
        """Show for what a run waits, and let it give its worker away where that takes long."""
        row, idle = running.row, running.connection.idle()
        hours = self.settings.limits.run_hours
        if running.pause is not None or running.stopping:
            return
        if row.begun is not None and clock - row.begun > hours * 3600:
            reason = f"it went on for {hours:g} hours, as long as a run may here; continue it, and it goes on."
            self._pause(running, Status("interrupted", reason))
        elif idle is not None and idle.waits_for == "rate" and idle.seconds >= IDLE:
            resume_at = clock + idle.seconds
            reason = f"its rate allows the next request at {clock_text(resume_at)}; until then it has no worker."
            self._pause(running, Status("waiting", reason, "rate", resume_at=resume_at))
        elif idle is not None and idle.waits_for == "endpoint":
            place, outages = idle.place or "", self.turns.outages
            if outages.is_over(place):
                self._pause(running, Status("interrupted", outages.farewell(place)))
            elif moment - idle.since >= IDLE and not outages.is_prober(place, row.id):
                self._pause(running, Status("waiting", outages.sentence(place), "endpoint", place))
        await self._show_wait(running, idle)

    async def _show_wait(self, running: Running, idle: Idle | None) -> bool:
        """Write and publish whether a run with a process waits for an endpoint or for room on the disk, if that is new.

        Return whether it is.
        """
        reason: str | None = None
        waits_for: WaitsFor | None = None
        if running.full is not None:
            reason, waits_for = f"it waits for room on the disk, and goes on by itself: {running.full}", "disk"
        elif idle is not None and idle.waits_for in ("budget", "turn") and self.disk.faults:  # what holds it up
            reason, waits_for = f"it waits for room on the disk, and goes on by itself: {self.disk.sentence}", "disk"
        else:
            place = idle.place if idle is not None and idle.waits_for == "endpoint" else self._started_for(running)
            if place is not None:
                reason, waits_for = self.turns.outages.sentence(place), "endpoint"
        if reason == running.row.reason:
            return False
        state = Status("running" if waits_for is None else "waiting", reason, waits_for)
        running.row = replace(running.row, state=state.state, reason=reason, waits_for=waits_for)
        self._publish(running)
        await asyncio.to_thread(self.table.set_state, running.row.id, state, only_in=("running", "waiting"))
        return True

    def _started_for(self, running: Running) -> str | None:
        """Return the endpoint that does not answer and that a process is being started to try; None for others."""
        places: Sequence[str] = running.row.job["endpoints"] if running.progress is None else ()
        return places[0] if places and all(place in self.turns.outages.now for place in places) else None

    def _make_room(self, token: str, moment: float) -> None:
        """Let a run give its worker to a token whose run waits for one, where that is fair."""
        holders = []
        for running in self.running.values():
            idle = running.connection.idle()
            waited = None if idle is None else moment - idle.since
            holders.append(Holder(running.row.id, running.row.token, moment - running.since, waited))
        chosen = choose_to_pause(token, holders)
        if chosen is not None:
            self._pause(self.running[chosen.run], Status("queued"))

    def _pause(self, running: Running, state: Status) -> None:
        """Ask the process of a run to end, after which this becomes of the run."""
        running.pause = state
        running.connection.send({"do": "stop"})

    async def _start_all(self) -> None:
        await self._find_lost()
        rows = list(reversed(await asyncio.to_thread(self.table.runs, ("queued",))))
        queue = Queue(rows, Counter(running.row.token for running in self.running.values()))
        waits: dict[str, Status] = {}
        self._wanting = None
        while (row := queue.pop()) is not None:
            if row.id in self._tasks:
                continue
            wait = self._wait_for_worker(row.token, queue) or await self._start_if_possible(row)
            if wait is ENDED:
                continue
            if wait is not None:
                waits[row.id] = replace(wait, position=len(waits) + 1)
            if wait is None or wait.waits_for == "worker":
                queue.count(row)
            if wait is not None and wait.waits_for == "worker" and self._wanting is None:
                self._wanting = row.token if len(self._tasks) >= self.settings.limits.workers else None
        before, self.queued = self.queued, waits
        self._queued_for = {name for row in rows if row.id in waits for name in row.job.get("endpoints", ())}
        for row in rows:
            if row.id in waits and waits[row.id] != before.get(row.id):
                self.events.publish(row.id, self.view(row).model_dump(mode="json"))

    async def _find_lost(self) -> None:
        """Let runs go on that the table calls running and that have no process, as a full disk leaves them."""
        for row in await asyncio.to_thread(self.table.runs, ("running", "stopping")):
            if row.id not in self._tasks:
                state = Status("stopped", "it was stopped.") if row.state == "stopping" else Status("queued")
                await self.set_state(row, state)

    def _wait_for_worker(self, token: str, queue: Queue) -> Status | None:
        """Return why a run of a token waits for a worker; None where it need not."""
        limits = self.settings.limits
        most = self.settings.most_of_one(limits.workers, limits.workers_per_token)
        if self.disk.faults:
            return _waiting_for("disk", f"it waits for room on the disk, and starts by itself: {self.disk.sentence}")
        if len(self._tasks) >= limits.workers:
            busy = "the only one is" if limits.workers == 1 else f"all {limits.workers} are"
            return _waiting_for("worker", f"it waits for a free worker: {busy} at work.")
        if queue.held[token] >= most:
            return _waiting_for(
                "worker", f"it waits for another run of {token} to end: {most} go on, as many as one may have."
            )
        return None

    async def _start_if_possible(self, row: RunRow) -> Status | None:
        """Start a run that may start, or end it where it never can; return for what it waits, if it does."""
        try:
            wait = await self._wait_for_budget(row)
            if wait is None:
                self._begun = row.id
                await self._start(row)
        except sqlite3.Error:
            raise
        except OSError as exc:
            if is_full(exc):
                raise
            await self.set_state(row, Status("failed", f"its process cannot be started: {exc.strerror or exc}."))
        except Exception as exc:  # a row that this version cannot read must not keep the others from starting
            event("fault", logging.ERROR, run=row.id, error=type(exc).__name__)
            reason = f"it cannot be started: an error in explaineval ({type(exc).__name__})."
            await self.set_state(row, Status("failed", reason))
        else:
            return wait
        finally:
            self._begun = None
            self._unwanted.discard(row.id)
        return None

    async def _wait_for_budget(self, row: RunRow) -> Status | None:
        """Return for what a run waits before it is given a worker; None where it can start, or has been ended."""
        missing = [name for name in row.job["endpoints"] if name not in self.endpoints]
        if missing:
            reason = f"the endpoint {missing[0]} is not among those of this service any more."
            await self.set_state(row, Status("interrupted", reason))
            return ENDED
        if row.job["weights"] and self.weights is None:
            await self.set_state(row, Status("interrupted", "the model on this machine cannot be asked any more."))
            return ENDED
        if self.ledger.has_left_open(row.id):
            return _waiting_for("process", "a process of an earlier server still awaits responses that are paid for.")
        left, cost, kept = self.ledger.left(row.token), row.commitment, self.kept_of_token(row.token)
        if left is None or cost <= 0 or cost <= (left - kept) * (1 + SLACK) + SLACK:
            return None
        others = sum(running.row.token == row.token for running in self.running.values())
        if others:
            free = f"{dollars_text(max(0.0, left - kept))} of the budget of {row.token} are free"
            going = f"{dollars_text(kept)} are kept for {others} of its runs that {'goes' if others == 1 else 'go'} on"
            return _waiting_for("budget", f"it may cost {dollars_text(cost)}, and {free}: {going}.")
        if row.id not in self._planning:  # what it asks may be in the cache by now
            self._planning[row.id] = asyncio.create_task(self._plan_anew(row))
        if not self._planning[row.id].done():
            rest = f"{dollars_text(left)} are left: its price is looked at again."
            return _waiting_for("budget", f"it may cost {dollars_text(cost)}, and {rest}")
        del self._planning[row.id]
        rest = f"{dollars_text(left)} are left of the budget of {row.token}; continue it when there is more."
        await self.set_state(row, Status("interrupted", f"it may cost {dollars_text(cost)} more, and {rest}"))
        return ENDED

    async def _plan_anew(self, row: RunRow) -> None:
        """Find out what a run can still cost."""
        worst = await self.worst_left(row)
        if worst is not None:
            with suppress(sqlite3.Error):
                await asyncio.to_thread(self.table.update_run, row.id, worst_usd=row.usd + worst)
        self.wake()

    async def _start(self, row: RunRow) -> None:
        """Start the process of a run."""
        started, begun = row.started or now(), row.begun or time.time()
        if not await asyncio.to_thread(
            self.table.set_state, row.id, Status("running"), only_in=("queued",), started=started, begun=begun
        ):
            return  # it was stopped meanwhile
        fresh = await asyncio.to_thread(self.table.run, row.id)
        if fresh is None:  # somebody took it out of the table
            return
        ours, theirs = socket.socketpair()
        try:
            log = await asyncio.to_thread(self._open_log, row.id)
            try:
                process = await self.starter.start(theirs, log)
            finally:
                os.close(log)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LONGEST_LINE)
        self._planning.pop(row.id, None)
        self.ledger.open_run(row.id, fresh.max_usd, fresh.usd)
        rates = self._rates.setdefault(row.id, _rates_of(fresh))
        connection = RunConnection(
            row.id, row.token, self.ledger, self.turns, reader, writer, lambda message: self._receive(row.id, message),
            rates,
        )  # fmt: skip
        running = self.running[row.id] = Running(fresh, connection, process, asyncio.get_running_loop().time())
        connection.send({"do": "job", **self.job(fresh)})
        self.on_state(fresh)
        self._tasks[row.id] = asyncio.create_task(self._follow(running))
        if not await self._show_wait(running, None):
            self._publish(running)
        if row.id in self._unwanted:
            await self.stop(row.id)

    def _open_log(self, run: str) -> int:
        path = self.directory / LOGS / f"{run}.txt"
        path.parent.mkdir(exist_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def job(self, row: RunRow) -> dict[str, Any]:
        """Return what the process of a run is to do, with the endpoints as they are now.

        Rates are kept here, so that they hold over all processes.
        """
        client = ClientConfig(**row.job["client"])
        update = {
            "endpoints": {name: _lowered(self.endpoints[name], row.job["lowered"]) for name in row.job["endpoints"]},
            "cache": self.directory / "cache",
            "max_usd": row.max_usd,  # its directory knows what is spent of it
            "patience": LONGEST_PATIENCE if self.settings.limits.patience > 0 else 0.0,  # the server gives up
        }
        return {
            "science": in_directory(row.job["science"], self.directory),
            "client": client.model_copy(update=update).model_dump(mode="json"),
            "weights": str(self.weights) if row.job["weights"] else None,
            "directory": str(self.directory / RUNS / row.id),
            "grace": STOP_SECONDS,
            "answered": sorted(self.turns.outages.have_answered),
        }

    def _receive(self, run: str, message: dict[str, Any]) -> None:
        running = self.running.get(run)
        if running is None:
            return
        if message.get("progress") is not None:
            running.progress = message["progress"]
            self._note_outages(running, message["progress"]["models"])
            self.on_progress(run, running.row.token, message["progress"])
            self._publish(running)
        if message["do"] == "full":
            running.full = message["reason"]
            self.disk.suspect()
        if message["do"] == "ended":
            running.ended = message

    def _note_outages(self, running: Running, models: Sequence[Mapping[str, Any]]) -> None:
        """Note which endpoints the models of a run wait for."""
        out = {}
        for model in models:
            if model["state"] == "running":
                waiting = model.get("waiting")
                out[model["endpoint"]] = None if waiting is None else waiting["reason"]
        for place, reason in out.items():
            if reason is not None and place in self.turns.endpoints:
                self.turns.outages.begin(place, without_paths(reason, self.directory))
        running.connection.out = frozenset(out) if None not in out.values() else frozenset()

    def _publish(self, running: Running) -> None:
        running.view = RunView.of(
            running.row, usd=self.ledger.run_spent(running.row.id), kept_usd=self.kept(running),
            progress=running.progress or running.row.progress,
        )  # fmt: skip
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
            await self.settlements.settle(run)
            await self._until_written(self.ledger.flush)
            await self._until_written(lambda: self._note_end(running))
        finally:
            self.running.pop(run, None)
            self._tasks.pop(run, None)
            self.wake()

    async def _until_written(self, write: Callable[[], Awaitable[Any]]) -> None:
        """Write until the disk takes it. Where the server ends meanwhile, the next one finds out what is to be done."""
        task = asyncio.ensure_future(write())
        while True:
            done, _ = await asyncio.wait([task], timeout=RETRY_SECONDS)
            if not done and self.closing:
                task.cancel()
                return
            if done:
                exc = task.exception()
                if exc is None:
                    return
                if not isinstance(exc, (OSError, sqlite3.Error)) or self.closing:
                    raise exc
                self._suspect(exc)
                await asyncio.sleep(RETRY_SECONDS)
                task = asyncio.ensure_future(write())

    async def _note_end(self, running: Running) -> None:
        """Write what becomes of a run whose process has ended."""
        row, limits = running.row, self.settings.limits
        if running.ended is not None:
            running.ended["errors"] = [without_paths(text, self.directory) for text in running.ended["errors"]]
        end = after_process(
            row, running.process.code, running.ended, stopping=running.stopping, closing=self.closing,
            pause=running.pause, restarts=limits.restarts, limit_reason=self._limit_reason(row),
        )  # fmt: skip
        if self.closing and end.state in ("queued", "waiting"):
            return
        changes: dict[str, Any] = {"progress": running.progress or row.progress}
        if end.restarted:
            changes["restarts"] = row.restarts + 1
        elif running.ended is not None:
            changes["exit_code"] = running.ended["exit_code"]
        if end.waits_for == "disk":
            self.disk.suspect()
            pause = self._disk_pauses[row.id] = min(2 * self._disk_pauses.get(row.id, RETRY_SECONDS / 2), LONGEST_PAUSE)
            end = replace(end, resume_at=time.time() + pause)
        self.running.pop(row.id, None)
        await self.set_state(row, end, **changes)

    def _suspect(self, exc: BaseException) -> None:
        """Log an error, and look at the disk where it may be its."""
        is_storage = isinstance(exc, (OSError, sqlite3.Error))
        event("storage" if is_storage else "fault", logging.ERROR, error=type(exc).__name__)
        if is_storage:
            self.disk.suspect()

    def _limit_reason(self, row: RunRow) -> str:
        spent, left = self.ledger.run_spent(row.id) or 0.0, self.ledger.left(row.token)
        if row.max_usd is not None and (left is None or row.max_usd - spent < left):
            return (
                f"its limit ({dollars_text(row.max_usd)}) is reached: {dollars_text(spent)} are spent; continue it "
                "with a higher one."
            )
        if left is None:
            return f"the limit of one of its models is reached: {dollars_text(spent)} are spent."
        return (
            f"the budget of {row.token} leaves no room: {dollars_text(spent)} are spent on this run, "
            f"{dollars_text(left)} are left."
        )

    async def set_state(
        self, row: RunRow, state: Status, *, only_in: Sequence[State] | None = None, **changes: Any
    ) -> bool:
        """Write the state of a run, and tell its followers; return whether it was in a state that leads there."""
        if not await asyncio.to_thread(self.table.set_state, row.id, state, only_in=only_in, **changes):
            return False
        self.paused.pop(row.id, None)
        if state.state == "waiting":
            self.paused[row.id] = Paused.of(state)
        elif state.state not in ACTIVE:
            self._rates.pop(row.id, None)
            self._disk_pauses.pop(row.id, None)
        fresh = await asyncio.to_thread(self.table.run, row.id)
        if fresh is not None:
            self.events.publish(row.id, self.view(fresh).model_dump(mode="json"), last=not fresh.active)
            self.on_state(fresh)
        return True


def _waiting_for(waits_for: WaitsFor, reason: str) -> Status:
    return Status("queued", reason, waits_for)


def _lowered(entry: EndpointConfig, lowered: Mapping[str, float]) -> EndpointConfig:
    """Return an endpoint's entry with fewer connections where a user wants them, and without rates."""
    connections = min(lowered.get("max_connections", MOST_CONNECTIONS), entry.max_connections or CONNECTIONS)
    return entry.model_copy(update={"max_connections": int(connections), "rpm": None, "tpm": None})


def _rates_of(row: RunRow) -> dict[str, RateQueue]:
    """Return the rates that a run keeps to itself."""
    lowered = row.job["lowered"]
    if "rpm" not in lowered and "tpm" not in lowered:
        return {}
    return {name: RateQueue(RateLimit(lowered.get("rpm"), lowered.get("tpm"))) for name in row.job["endpoints"]}
