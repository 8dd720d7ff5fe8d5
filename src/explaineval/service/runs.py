"""The service without HTTP: plan, submit, list, follow, stop, continue and delete runs, and read what they found."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from explaineval.client.simulated import known_names
from explaineval.client.spending import SLACK
from explaineval.config import RUN_KINDS, EndpointConfig
from explaineval.datasets.readers import BUNDLED
from explaineval.datasets.taggers import find_tagger
from explaineval.errors import InputError
from explaineval.plugins import plugin_names
from explaineval.rundir.directory import EXAMPLES, INTERVENTIONS, METRICS, METRICS_CSV, RUN, SHOTS, TRIALS
from explaineval.service.auth import Auth, User
from explaineval.service.directory import CACHE, EXPORTS, LOGS, RUNS, UPLOADS, Disk, Uploads, prepare_directory
from explaineval.service.models import (
    ComparisonRequest,
    EndpointList,
    EndpointView,
    Plan,
    RunList,
    RunSettings,
    RunSummary,
    RunView,
    UserView,
)
from explaineval.service.monitoring import Events, Monitor, RunEvent, TokenNumbers
from explaineval.service.processes.background import Background, BusyError
from explaineval.service.processes.budgets import Budgets, end
from explaineval.service.processes.sharing import FairSlots, Outages, Shares, Turns, most_connections
from explaineval.service.processes.states import ACTIVE, STATES, Status
from explaineval.service.processes.workers import Workers
from explaineval.service.settings import EMBEDDED, LOCAL, Settings, needing_restart
from explaineval.service.submissions import USUAL_ROUTES, Embedded, Submission, read_submission
from explaineval.service.table import RunRow, StateFile, kept_of, now
from explaineval.text import counted, dollars_text

REPORT = "report.html"
FILES = (RUN, METRICS, METRICS_CSV, TRIALS, EXAMPLES, INTERVENTIONS, SHOTS)
"""Files of a run that are given out as they are."""
EXPORTED: Mapping[str, tuple[str, str]] = {
    "bundle.zip": ("bundle", "metrics"),
    "trials.csv": ("csv", "trials"),
    "metrics.parquet": ("parquet", "metrics"),
    "trials.parquet": ("parquet", "trials"),
    "comparison.csv": ("csv", "comparison"),
    "table.tex": ("latex", "metrics"),
    "table.md": ("markdown", "metrics"),
    "card.md": ("card", "metrics"),
}
"""Name → format and table of an export that is made when it is asked for."""
PAGE = 100
"""Runs of one page of the list."""
FLUSH_SECONDS = 10.0
"""For how long the end of the service waits for a disk that takes nothing."""


class NotFoundError(Exception):
    """There is no such run, file or upload, or it is somebody else's."""


class ConflictError(Exception):
    """What is asked for does not go with the state that a run is in."""


class NotReadyError(Exception):
    """The service starts or ends."""


class BudgetError(Exception):
    """A run may cost more than is left of a budget."""


class RunService:
    """Everything that the service does for a user. Use it as an asynchronous context.

    Args:
        directory: the data directory, the only one that is written.
        settings: what the operator allows.
        digests: SHA-256 of each token by name; see `settings.read_tokens`.
    """

    def __init__(self, directory: Path, settings: Settings, digests: Mapping[str, bytes]) -> None:
        limits = settings.limits
        self.directory, self.settings = directory.resolve(), settings
        prepare_directory(self.directory)
        self.table = StateFile(self.directory)
        self.auth = Auth(settings, digests, self.table)
        self.ledger = Budgets(self.table, {name: token.max_usd for name, token in settings.tokens.items()})
        connections = most_connections(limits.connections)
        followers = Shares(min(limits.followers, connections // 2), limits.followers_per_token, "followers")
        self.events = Events(followers, secrets.token_hex(4))
        self.requests = Shares(connections, limits.requests_per_token, "requests under way")
        plans = limits.background_processes
        slots = FairSlots(plans, settings.most_of_one(plans, limits.plans_per_token), limits.plans_waiting_per_token)
        self.background = Background(
            self.directory,
            slots,
            limits.plan_seconds,
            limits.background_memory,
            environment_of(settings),
        )
        self.uploads = Uploads(self.directory, self.table, self.background, limits)
        self.tagger = find_tagger()
        self.embedded: Embedded | None = None
        self.endpoints: dict[str, EndpointConfig] = {name: entry.plain() for name, entry in settings.endpoints.items()}
        self.turns = Turns(self.endpoints)
        self.monitor = Monitor(self.turns, self.events)
        self.workers: Workers
        self.disk = Disk(self.directory, (RUNS, CACHE, UPLOADS, LOGS, EXPORTS), self.table, self._wake)
        self._submitting = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.ready = False

    async def __aenter__(self) -> RunService:
        """Settle what a crash left open, and continue the runs that were going on."""
        if self.settings.embedded:
            self.embedded = await asyncio.to_thread(find_embedded)
        if self.embedded is not None:
            self.endpoints[self.embedded.endpoint] = EndpointConfig(base_url="http://127.0.0.1", max_connections=1)
        answered = await asyncio.to_thread(self.table.answered)
        outages = Outages(self.settings.limits.patience, answered)
        outages.on_first_answer = self._note_answered
        self.turns = self.monitor.turns = Turns(self.endpoints, outages)
        weights = None if self.embedded is None else self.embedded.weights
        self.workers = Workers(
            self.directory, self.table, self.ledger, self.turns, self.events, self.settings, self.endpoints, weights,
            environment_of(self.settings), self.background, self.disk, self._worst_left, self.monitor.count_progress,
            self.monitor.count_state,
        )  # fmt: skip
        self.ledger.on_full = lambda _: self.disk.suspect()
        left_open = await asyncio.to_thread(self.ledger.load)
        for row in await asyncio.to_thread(self.workers.recover):
            self.events.publish(row.id, RunView.of(row).model_dump(mode="json"))
        self._settling = asyncio.create_task(self.workers.settlements.settle_left_open(left_open, self._wake))
        self._tasks = [asyncio.create_task(work) for work in (self.ledger.run(), self.workers.run(), self.disk.run())]
        self.ready = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """Await responses that are paid for, and leave runs that go on to the next server."""
        self.ready = False
        self.events.close()
        await end(self._settling)
        await self.workers.close()
        with suppress(TimeoutError):  # what a full disk does not take is settled by the next server
            async with asyncio.timeout(FLUSH_SECONDS):
                await self.ledger.flush()
        for task in self._tasks:
            await end(task)
        await self.background.close()
        self.table.close()

    def reload(self, settings: Settings, digests: Mapping[str, bytes]) -> list[str]:
        """Take new settings on; return the keys that count only after a restart.

        Runs that go on keep what they began with, but the budgets of their tokens, which count at once. Followers and
        requests under way are kept. Runs of a token that is gone go on; its sessions are over.
        """
        waiting = needing_restart(self.settings, settings)
        limits = settings.limits
        if bool(self.settings.tokens) != bool(settings.tokens):
            raise InputError("tokens: only a restart gives a service its first token, or takes the last one away.")
        self.settings = self.auth.settings = self.workers.settings = settings
        self.auth.digests = digests
        self.uploads.limits = limits
        self.ledger.set_budgets({name: token.max_usd for name, token in settings.tokens.items()})
        self.events.followers.each, self.requests.each = limits.followers_per_token, limits.requests_per_token
        own = {} if self.embedded is None else {self.embedded.endpoint: self.endpoints[self.embedded.endpoint]}
        entries = {name: entry.plain() for name, entry in settings.endpoints.items()}
        added = {name: entry for name, entry in entries.items() if name not in self.turns.endpoints}
        self.turns.endpoints |= Turns(added).endpoints
        self.endpoints.clear()
        self.endpoints |= entries | own
        self.workers.wake()
        return waiting

    async def plan(self, user: User, settings: RunSettings) -> Plan:
        """Return what a run would ask and cost; nothing is sent. Raises InputError, BusyError."""
        return await self._plan_submission(user.token, await self._read(user, settings))

    async def submit(self, user: User, settings: RunSettings) -> RunRow:
        """Add a run, which starts when what it may cost fits what is left of the budget; return it.

        What is kept for a run is the worst case of its plan, or the limit that was given, if that is less. Raises
        InputError, BudgetError where it could not fit even if no other run of the token cost anything more,
        ConflictError where there are too many runs.
        """
        submission = await self._read(user, settings)
        plan = await self._plan_submission(user.token, submission)
        worst, most = worst_of(plan, [model.max_usd for model in settings.models]), submission.client.max_usd
        async with self._submitting:
            await self._check_numbers(user.token)
            self._check_budget(user.token, worst, most, plan)
            run = secrets.token_hex(8)
            document = settings.model_dump(mode="json", exclude_unset=True)
            await asyncio.to_thread(
                self.table.add_run, run, user.token, now(), document, submission.job, plan.model_dump(mode="json"),
                worst, most,
            )  # fmt: skip
        row = await self.get(user, run)
        self.events.publish(run, RunView.of(row).model_dump(mode="json"))
        self.workers.wake()
        return row

    async def get(self, user: User, run: str) -> RunRow:
        """Return a run. Raises NotFoundError, also where it is somebody else's."""
        row = await asyncio.to_thread(self.table.run, run)
        if row is None or not (user.admin or row.token == user.token):
            raise NotFoundError(f"there is no run {run}.")
        return row

    def view(self, row: RunRow) -> RunView:
        """Return how a run is now."""
        return self.workers.view(row)

    async def list_runs(self, user: User, before: int | None = None, limit: int = PAGE) -> RunList:
        """Return the newest runs that a user may see, those below a number if it is given."""
        token = None if user.admin else user.token
        rows = await asyncio.to_thread(self.table.listed_runs, token, before, limit + 1)
        total = await asyncio.to_thread(self.table.count_runs, token)
        following = rows[limit - 1]["number"] if len(rows) > limit else None
        return RunList(runs=[self._summary(row) for row in rows[:limit]], total=total, next=following)

    async def stop(self, user: User, run: str) -> RunRow:
        """Ask a run to stop; answers under way are waited for. Raises NotFoundError, ConflictError if it has ended."""
        row = await self.get(user, run)
        async with self._submitting:
            if await self.workers.stop(run):  # it may have ended meanwhile
                await asyncio.to_thread(self.table.set_state, run, Status("stopping", row.reason, row.waits_for))
            else:
                reason = "it was stopped; continue asks the rest." if row.started else "it was stopped before it began."
                state = Status("stopped", reason)
                if not await self.workers.set_state(row, state, only_in=("queued", "waiting")):
                    row = await self.get(user, run)
                    raise ConflictError(f"the run has ended already: it is {row.state}.")
        return await self.get(user, run)

    async def resume(self, user: User, run: str, max_usd: float | None = None) -> RunRow:
        """Let a run go on from the cache that has ended, or that waits, with another limit if one is given.

        Raises NotFoundError, ConflictError if it goes on or is finished or too many wait, BudgetError.
        """
        worst_left = await self._worst_left(await self.get(user, run))
        async with self._submitting:
            row = await self.get(user, run)
            waits = run in self.workers.paused
            if (row.active and not waits) or row.state == "finished":
                raise ConflictError(f"the run cannot be continued: it is {row.state}.")
            if not waits:
                await self._check_waiting(row.token)
            limit = row.max_usd if max_usd is None else max_usd
            worst = row.worst_usd if worst_left is None else row.usd + worst_left
            left, cost = self.ledger.left(row.token), kept_of(worst, limit, row.usd)
            if left is not None and cost > left * (1 + SLACK):
                raise BudgetError(
                    f"the run may cost {dollars_text(cost)} more, and {dollars_text(left)} are left of the "
                    f"budget of {row.token}."
                )
            await self.workers.set_state(
                row, Status("queued"), max_usd=limit, worst_usd=worst, restarts=0, exit_code=None, begun=None
            )
        row = await self.get(user, run)
        self.events.publish(run, RunView.of(row).model_dump(mode="json"))
        self.workers.wake()
        return row

    async def delete(self, user: User, run: str) -> None:
        """Delete a run that has ended with its directory; its answers stay in the cache.

        Raises NotFoundError, ConflictError where it goes on.
        """
        async with self._submitting:
            row = await self.get(user, run)
            if row.active:
                raise ConflictError("the run goes on: stop it first.")
            await asyncio.to_thread(self._remove, run)  # first: it makes room where the disk is full
            await asyncio.to_thread(self.table.delete_run, run)

    async def follow(self, user: User, run: str, seen: str | None = None) -> AsyncIterator[RunEvent]:
        """Yield how a run is, then every change, until it has ended. The caller counts followers in `events`."""

        async def load() -> Mapping[str, Any]:
            return self.view(await self.get(user, run)).model_dump(mode="json")

        async for message in self.events.follow(run, load, seen):
            yield message

    def run_directory(self, run: str) -> Path:
        """Return the directory of a run, which is missing where it has not begun."""
        return self.directory / RUNS / run

    async def compare(self, user: User, request: ComparisonRequest) -> dict[str, Any]:
        """Compare runs, as `explaineval compare --json` does. Raises NotFoundError, InputError, BusyError."""
        for run in request.runs:
            await self.get(user, run)
        directories = [str(self.run_directory(run)) for run in request.runs]
        arguments = request.model_dump(exclude={"runs"})
        document: dict[str, Any] = await self.background.do(
            "compare", user.token, directories=directories, arguments=arguments
        )
        return document

    async def result(self, user: User, run: str, name: str) -> Path:
        """Return a file of a run that has numbers; the page on it or an export is made if there is none as new.

        Raises NotFoundError for a name that is none of these, ConflictError where there are no numbers yet.
        """
        row = await self.get(user, run)
        directory = self.run_directory(run)
        if row.active or not await asyncio.to_thread((directory / METRICS).exists):
            raise ConflictError(f"the run has no numbers yet: it is {row.state}.")
        if name in FILES:
            path = directory / name
            if not await asyncio.to_thread(path.is_file):
                raise NotFoundError(f"the run has no {name}.")
            return path
        job, target = "export", self.directory / EXPORTS / f"{run}-{name}"
        arguments: dict[str, Any]
        if name == REPORT:
            job, arguments = "report", {"directories": [str(directory)]}
        elif name in exports():
            format, rows = exported()[name]
            arguments = {
                "directory": str(directory), "cache": str(self.directory / CACHE), "format": format, "rows": rows,
            }  # fmt: skip
        else:
            raise NotFoundError(f"there is no file {name!r}; there are {', '.join((*FILES, REPORT, *exports()))}.")
        if not await asyncio.to_thread(_is_newer, target, directory / METRICS):
            await self.background.do(job, user.token, **arguments, target=str(target))
        return target

    async def check_ready(self) -> None:
        """Raise NotReadyError where no runs are taken, or where something cannot be written, which it names."""
        if not self.ready or any(task.done() for task in self._tasks):
            raise NotReadyError("the service starts or ends.")
        await self.disk.check()
        if self.disk.sentence is not None:
            raise NotReadyError(self.disk.sentence)

    async def cache_stats(self) -> dict[str, Any]:
        """Return what the cache holds."""
        prices = {name: entry.price for name, entry in self.endpoints.items()}
        stats: dict[str, Any] = await self.background.do(
            "cache_stats", cache=str(self.directory / CACHE), prices=prices
        )
        return stats

    async def endpoint_list(self) -> EndpointList:
        """Return the endpoints with what probes found, and the names of models and tasks that can be asked."""
        served = {
            name: EndpointView(
                name=title,
                models=models,
                price=self.endpoints[name].price,
                max_connections=self.turns.endpoints[name].connections,
                rpm=self.endpoints[name].rpm,
                tpm=self.endpoints[name].tpm,
                probes=[],
            )
            for name, title, models in self._served()
        }
        pairs = [(name, model) for name, view in served.items() for model in view.models]
        for probe in await self.background.do("probes", cache=str(self.directory / CACHE), models=pairs):
            served[probe["endpoint"]].probes.append(probe)
        return EndpointList(
            endpoints=list(served.values()), simulated=list(known_names()) if self.settings.simulated else [],
            tasks=[*BUNDLED, *self.settings.tasks], kinds=list(RUN_KINDS) if self.tagger is not None else [],
        )  # fmt: skip

    def _served(self) -> Iterator[tuple[str, str, list[str]]]:
        """Yield each endpoint: the name that requests have, the one that users see, and its models."""
        for name, entry in self.settings.endpoints.items():
            yield name, name, list(entry.models or USUAL_ROUTES)
        if self.embedded is not None:
            yield self.embedded.endpoint, EMBEDDED, [self.embedded.model]

    def tokens_for(self, user: User) -> list[str]:
        """Return the tokens whose sums a user may see: their own, for an admin all, former ones included."""
        own = [LOCAL] if self.auth.is_open else []
        return list(dict.fromkeys([*self.settings.tokens, *own, *self.ledger.tokens])) if user.admin else [user.token]

    async def metrics(self, user: User) -> bytes:
        """Return the numbers of the service for Prometheus, and of the tokens whose sums a user may see."""
        states = await asyncio.to_thread(self.table.states)
        self.monitor.runs = {state: sum(counts[state] for counts in states.values()) for state in STATES}
        none, money = dict.fromkeys(STATES, 0), self.ledger
        self.monitor.tokens = {
            name: TokenNumbers(money.spent(name), money.reserved(name), money.left(name), states.get(name, none))
            for name in self.tokens_for(user)
        }
        return self.monitor.text()

    def user_view(self, user: User) -> UserView:
        """Return who a user is, and what is left of the budget."""
        token = user.token
        return UserView(
            token=token, admin=user.admin, csrf=user.csrf, max_usd=self.ledger.budgets.get(token),
            spent=self.ledger.spent(token), reserved=self.ledger.reserved(token), left=self.ledger.left(token),
            kept=self.workers.kept_of_token(token),
        )  # fmt: skip

    async def _read(self, user: User, settings: RunSettings) -> Submission:
        return await asyncio.to_thread(
            read_submission, settings, self.settings, self.embedded, lambda name: self._upload(user.token, name),
            has_tagger=self.tagger is not None,
        )  # fmt: skip

    def _upload(self, token: str, name: str) -> Path:
        row = self.table.file(token, name)
        if row is None:
            raise InputError(f"there is no upload {name!r}: upload it first (PUT /api/files/{name}).")
        return self.uploads.path(row)

    async def _worst_left(self, row: RunRow) -> float | None:
        """Return the most that what is not in the cache of a run can cost; None where that cannot be found out."""
        try:
            job = self.workers.job(row)  # an endpoint may be gone
            plan = await self._plan(row.token, job["science"], {**job["client"], "max_usd": None})
        except (InputError, BusyError, LookupError, OSError, RuntimeError):
            return None
        return worst_of(plan, [model.get("max_usd") for model in row.settings["models"]])

    def _wake(self) -> None:
        self.workers.wake()

    def _note_answered(self, endpoint: str) -> None:
        """Keep that an endpoint has answered; where it cannot be written, it is known until this server ends."""

        def write() -> None:
            with suppress(sqlite3.Error):
                self.table.add_answered(endpoint)

        asyncio.get_running_loop().run_in_executor(None, write)

    async def _plan_submission(self, token: str, submission: Submission) -> Plan:
        entries = {name: self.endpoints[name] for name in submission.job["endpoints"] if name in self.endpoints}
        client = submission.client.model_copy(update={"endpoints": entries, "cache": self.directory / CACHE})
        return await self._plan(token, submission.job["science"], client.model_dump(mode="json"))

    async def _plan(self, token: str, science: Mapping[str, Any], client: Mapping[str, Any]) -> Plan:
        most = self.settings.limits.requests_per_run
        return Plan.model_validate(await self.background.do("plan", token, science=science, client=client, most=most))

    async def _check_numbers(self, token: str) -> None:
        limits = self.settings.limits
        if await asyncio.to_thread(self.table.count_runs, token) >= limits.runs_per_token:
            raise ConflictError(
                f"there are {counted(limits.runs_per_token, 'run')}, as many as are kept: delete some first."
            )
        await self._check_waiting(token)

    async def _check_waiting(self, token: str) -> None:
        limits = self.settings.limits
        if await asyncio.to_thread(self.table.count_runs, token, ACTIVE) >= limits.waiting_per_token:
            raise ConflictError(
                f"{counted(limits.waiting_per_token, 'run', 'wait')} or go on, as many as one token may have: "
                "wait for one to end."
            )

    def _check_budget(self, token: str, worst: float | None, most: float | None, plan: Plan) -> None:
        left = self.ledger.left(token)
        if left is None:
            return
        if worst is None:
            model = next(part.model for part in plan.models if part.usd.worst is None)
            raise InputError(
                f"the price of {model} is not known, and {token} has a budget: ask the operator for `price` at its "
                "endpoint."
            )
        cost = kept_of(worst, most, 0.0)
        if cost > left * (1 + SLACK):
            raise BudgetError(
                f"the run may cost {dollars_text(cost)}, and {dollars_text(left)} are left of the budget of "
                f"{token}: ask for less, or "
                "set a lower limit (max_usd), at which it stops."
            )

    def _summary(self, row: dict[str, Any]) -> RunSummary:
        running = self.workers.running.get(row["id"])
        if running is not None:
            view = running.view
            done = 0 if view.progress is None else sum(model.done for model in view.progress.models)
            row |= {name: getattr(view, name) for name in ("state", "reason", "waits_for", "usd")} | {"done": done}
        elif (status := self.workers.status(row["id"], row["state"])) is not None:
            row |= {"reason": status.reason, "waits_for": status.waits_for}
        return RunSummary.model_validate(row)

    def _remove(self, run: str) -> None:
        shutil.rmtree(self.run_directory(run), ignore_errors=True)
        (self.directory / LOGS / f"{run}.txt").unlink(missing_ok=True)
        for path in (self.directory / EXPORTS).glob(f"{run}*"):
            path.unlink(missing_ok=True)


def exported() -> dict[str, tuple[str, str]]:
    """Return name → format and table of all exports, those of plug-ins among them."""
    if not plugin_names("exports"):
        return dict(EXPORTED)
    from explaineval.reporting.exports import FORMATS  # which is slow to import

    added = {f"numbers{FORMATS[name].suffix}": name for name in FORMATS.added() if FORMATS[name].suffix}
    return {**EXPORTED, **{file: (name, "metrics") for file, name in added.items()}}


def exports(conditions: int = 2) -> list[str]:
    """Return the names of the exports that can be made here of a run with so many conditions."""
    lacking = set() if find_spec("pyarrow") is not None else {"parquet"}
    return [
        name
        for name, (format, rows) in exported().items()
        if format not in lacking and (rows != "comparison" or conditions > 1)
    ]


def worst_of(plan: Plan, limits: Sequence[float | None]) -> float | None:
    """Return the most that a plan can cost, where each of its models has a limit or None; None where it is unknown."""
    sums = [
        min(usd for usd in (model.usd.worst, limit) if usd is not None)
        for model, limit in zip(plan.models, limits, strict=True)
        if not (model.usd.worst is None and limit is None)
    ]
    return sum(sums) if len(sums) == len(plan.models) and plan.total.usd.worst is not None else None


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the environment without the tokens of the service, for its other processes."""
    hidden = {token.token_env for token in settings.tokens.values()}
    return {name: value for name, value in os.environ.items() if name not in hidden}


def find_embedded() -> Embedded | None:
    """Return the model on this machine, None where it or what serves it is not installed. Reads all of its weights."""
    from explaineval.client.endpoints.llamacpp import EMBEDDED_MODEL, find_weights, weights_name

    if find_spec("xllamacpp") is None:
        return None
    try:
        weights = find_weights(None)
    except InputError:
        return None
    return Embedded(EMBEDDED_MODEL, weights_name(weights), weights)


def _is_newer(path: Path, than: Path) -> bool:
    return path.exists() and path.stat().st_mtime_ns > than.stat().st_mtime_ns
