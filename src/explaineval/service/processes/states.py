"""What becomes of a run whose process has ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explaineval.errors import ExitCode
from explaineval.service.processes.background import without_paths
from explaineval.service.table import RunRow, State, WaitsFor


@dataclass(frozen=True)
class End:
    """The state of a run without a process, why, and for what it waits: an endpoint, or until when (since 1970)."""

    state: State
    reason: str | None = None
    waits_for: WaitsFor | None = None
    place: str | None = None
    resume_at: float | None = None
    restarted: bool = False
    """Whether its process died, which happens only so many times."""


@dataclass(frozen=True)
class Process:
    """How the process of a run ended: by which code or signal, what it said last, and what it had been asked to do.

    `pause` is what becomes of the run where it was asked to make room.
    """

    code: int | None
    said: dict[str, Any] | None
    stopping: bool = False
    closing: bool = False
    pause: End | None = None


def end_of(row: RunRow, process: Process, restarts: int, limit_reason: str, directory: Path) -> End:
    """Return what becomes of a run.

    Args:
        row: the run.
        process: how its process ended.
        restarts: how often it may be started again after its process died.
        limit_reason: what to say where no money is left.
        directory: the data directory, which is not shown.
    """
    said = process.said
    may_restart = process.closing or row.restarts < restarts
    if said is None:
        why = "its process ended" if process.code is None else f"its process ended with exit code {process.code}"
        if process.code is not None and process.code < 0:
            why = f"its process was ended by signal {-process.code}"
        if process.stopping:
            return End("stopped", f"{why} while it was stopping; answers that were paid for are kept.")
        if may_restart:
            return End("queued", f"{why}; it is continued.", restarted=True)
        return End("failed", f"{why} {row.restarts + 1} times; answers that were paid for are kept.")
    code, errors = said["exit_code"], without_paths(" ".join(said["errors"]), directory)
    if process.stopping and (code == ExitCode.INTERRUPTED or said.get("full")):
        return End("stopped", "it was stopped; continue asks the rest.")
    if said.get("full"):
        return End("waiting", f"it waits for room on the disk, and goes on by itself: {errors}", "disk")
    if code == ExitCode.DONE:
        return End("finished")
    if code == ExitCode.INTERRUPTED:
        if process.pause is not None and not process.closing:
            return process.pause
        if may_restart:
            return End("queued", "its process was stopped from outside; it is continued.", restarted=True)
        return End("stopped", "its process was stopped from outside.")
    if code == ExitCode.SPENDING_LIMIT:
        return End("interrupted", limit_reason)
    return End("failed", errors or f"it ended with exit code {code}.")
