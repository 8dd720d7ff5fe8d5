"""The states of a run, the ways from one to another, and what becomes of a run whose process has ended. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from explaineval.errors import ExitCode

if TYPE_CHECKING:
    from explaineval.service.table import RunRow

State = Literal["queued", "running", "waiting", "stopping", "stopped", "finished", "failed", "interrupted"]
STATES: tuple[State, ...] = get_args(State)
ACTIVE: tuple[State, ...] = ("queued", "running", "waiting", "stopping")
"""States of runs that wait or go on."""
ENDS: tuple[State, ...] = ("stopped", "failed", "interrupted")
"""States of runs that have ended and can be continued."""
NEXT: Mapping[State, tuple[State, ...]] = {
    "queued": ("queued", "running", "stopping", *ENDS),
    "running": (*ACTIVE, "finished", *ENDS),
    "waiting": (*ACTIVE, "finished", *ENDS),
    "stopping": ("stopping", "finished", *ENDS),
    **dict.fromkeys(ENDS, ("queued",)),
    "finished": (),
}
"""The ways out of each state. One that waits may have a process, as while its endpoint does not answer, or none."""
WaitsFor = Literal["worker", "budget", "endpoint", "rate", "disk", "process"]
"""What a run may wait for: a free worker, room in its token's budget, an endpoint that does not answer, the time at
which its rate allows the next request, room on the disk, or the end of a process that an earlier server left."""


@dataclass(frozen=True)
class Status:
    """The state of a run and why, and for what it waits.

    `endpoint` is the one that does not answer, `resume_at` when it goes on (seconds since 1970), `position` its place
    in the queue. `restarted` says that its process died, which may happen only so many times.
    """

    state: State
    reason: str | None = None
    waits_for: WaitsFor | None = None
    endpoint: str | None = None
    resume_at: float | None = None
    position: int | None = None
    restarted: bool = False


def before(state: State) -> tuple[State, ...]:
    """Return the states from which a run comes into this one.

    >>> before("running"), before("finished")
    (('queued', 'running', 'waiting'), ('running', 'waiting', 'stopping'))
    """
    return tuple(earlier for earlier in STATES if state in NEXT[earlier])


def after_process(
    row: RunRow,
    code: int | None,
    said: Mapping[str, Any] | None,
    *,
    stopping: bool,
    closing: bool,
    pause: Status | None,
    restarts: int,
    limit_reason: str,
) -> Status:
    """Return what becomes of a run.

    Args:
        row: the run.
        code: the exit code of its process (below 0: by that signal), None where that is not known.
        said: what the process said last, None where it died before that.
        stopping: whether somebody stopped the run.
        closing: whether the server ends.
        pause: what becomes of it where it was asked to make room.
        restarts: how often it may be started again after its process died.
        limit_reason: what to say where no money is left.
    """
    may_restart = closing or row.restarts < restarts
    if said is None:
        why = "its process ended" if code is None else f"its process ended with exit code {code}"
        if code is not None and code < 0:
            why = f"its process was ended by signal {-code}"
        if stopping:
            return Status("stopped", f"{why} while it was stopping; answers that were paid for are kept.")
        if may_restart:
            return Status("queued", f"{why}; it is continued.", restarted=True)
        return Status("failed", f"{why} {row.restarts + 1} times; answers that were paid for are kept.")
    exit_code, errors, full = said["exit_code"], " ".join(said["errors"]), said.get("full")
    if stopping and (exit_code == ExitCode.INTERRUPTED or full):
        return Status("stopped", "it was stopped; continue asks the rest.")
    if full:
        return Status("waiting", f"it waits for room on the disk, and goes on by itself: {errors}", "disk")
    if exit_code == ExitCode.DONE:
        return Status("finished")
    if exit_code == ExitCode.INTERRUPTED:
        if pause is not None and not closing:
            return pause
        if may_restart:
            return Status("queued", "its process was stopped from outside; it is continued.", restarted=True)
        return Status("stopped", "its process was stopped from outside.")
    if exit_code == ExitCode.SPENDING_LIMIT:
        return Status("interrupted", limit_reason)
    return Status("failed", errors or f"it ended with exit code {exit_code}.")
