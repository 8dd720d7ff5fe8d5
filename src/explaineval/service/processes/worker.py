"""What the process of one run does.

It gets its job over a connection to the server, plans, asks and scores as `explaineval run` does, and says how far it
is. Where the server is gone nothing more is sent; what was paid for comes home and is stored.
"""

from __future__ import annotations

import socket
import time
import traceback
from pathlib import Path
from typing import Any

from explaineval.config import ClientConfig, RunConfig
from explaineval.errors import ExitCode, ExplainevalError, InUseError
from explaineval.execution.pool import StopRequest
from explaineval.execution.progress import RunStatus
from explaineval.execution.run import Outcome, execute
from explaineval.planning.prepare import Prepared, prepare
from explaineval.secrets import SECRETS
from explaineval.service.disk import is_full
from explaineval.service.gate.client import GateClient

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
            except InUseError:  # the process of before lets its paid answers come home
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
