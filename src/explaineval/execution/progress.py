"""Follow a run while it goes: snapshots of its models for the screen and for progress.json."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from explaineval.errors import InputError
from explaineval.execution.model_run import ModelRun
from explaineval.execution.outcome import model_state
from explaineval.execution.session import ModelSession
from explaineval.planning.prepare import Prepared
from explaineval.rundir.directory import write_progress
from explaineval.rundir.schema import ModelProgress, ModelState, RunProgress, RunState, Waiting
from explaineval.scoring.counts import interval_of
from explaineval.scoring.live import LiveNumbers, LivePhi

WRITE_SECONDS = 2.0
"""Seconds between two versions of progress.json while no model ends."""

WINDOW_SECONDS = 30.0
"""The seconds over which rates are taken."""

SAMPLE_SECONDS = 0.5
"""Seconds between two measurements within that window."""


@dataclass(frozen=True)
class RunStatus:
    """A run at one moment: its progress, phi-CCT so far of each of its models, and the messages since the last one."""

    progress: RunProgress
    phis: tuple[tuple[LivePhi, ...], ...]
    messages: tuple[str, ...]


RunWatch = Callable[[RunStatus], None]
"""Called now and then to show how a run goes."""


@dataclass
class Pace:
    """How fast one model's requests get done, over the last seconds."""

    _measured: deque[tuple[float, int, int]] = field(default_factory=deque)
    """The time in seconds, the requests that were done or unsent by then, and those that were sent."""

    def measure(self, now: float, settled: int, sent: int) -> None:
        """Remember how many requests were settled and sent at this time."""
        if self._measured and now - self._measured[-1][0] < SAMPLE_SECONDS:
            return
        self._measured.append((now, settled, sent))
        while len(self._measured) > 2 and now - self._measured[1][0] >= WINDOW_SECONDS:
            self._measured.popleft()

    def per_second(self) -> tuple[float, float] | None:
        """Return the requests settled and sent per second; None before there is a difference to measure."""
        if len(self._measured) < 2:
            return None
        (start, settled, sent), (end, now_settled, now_sent) = self._measured[0], self._measured[-1]
        return (now_settled - settled) / (end - start), (now_sent - sent) / (end - start)


class ProgressReporter:
    """Shows a run's status and keeps progress.json up to date, which other processes read.

    A progress.json that cannot be written is no error of the run.
    """

    def __init__(
        self,
        prepared: Prepared,
        directory: Path,
        watch: RunWatch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.prepared, self.directory, self.watch, self.clock = prepared, directory, watch, clock
        self._started = _now()
        self._numbers = LiveNumbers(interval_of(prepared.config))
        self._paces: list[Pace] = []
        self._printed: list[int] = []
        self._ended: list[str | None] = []
        """When each model ended."""
        self._written = float("-inf")
        self._states: list[tuple[ModelState, bool]] = []

    def report(self, model_runs: Sequence[ModelRun], flush: Callable[[], None] = lambda: None) -> None:
        """Show how far the models are, and write it where it is time to.

        `flush` writes out the trials so far, so that others can read them.
        """
        progress = self._snapshot(model_runs, "asking")
        has_ended = bool(model_runs) and all(model_run.ended for model_run in model_runs)
        compute = self._numbers.finish if has_ended else self._numbers.update  # the last numbers are of all trials
        phis = compute([model_run.live for model_run in model_runs])
        now, states = self.clock(), [(model.state, model.waiting is not None) for model in progress.models]
        if now - self._written >= WRITE_SECONDS or states != self._states:
            self._written, self._states = now, states
            with suppress(OSError):  # it is tried again, and at the end raises where it can be handled
                flush()
            self._write(progress)
        self.watch(RunStatus(progress, tuple(phis), tuple(self._new_messages(model_runs))))

    def write(
        self,
        model_runs: Sequence[ModelRun],
        state: RunState,
        reason: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        """Write how far the run is as a whole: before the first request, and when nothing more is asked."""
        self._write(self._snapshot(model_runs, state, reason, exit_code))

    def _write(self, progress: RunProgress) -> None:
        with suppress(InputError):
            write_progress(self.directory, progress)

    def _snapshot(
        self,
        model_runs: Sequence[ModelRun],
        state: RunState,
        reason: str | None = None,
        exit_code: int | None = None,
    ) -> RunProgress:
        for _ in range(len(self._paces), len(model_runs)):
            self._paces.append(Pace())
            self._printed.append(0)
            self._ended.append(None)
        models = tuple(self._model(place, model_run) for place, model_run in enumerate(model_runs))
        return RunProgress(
            state=state,
            reason=reason,
            exit_code=exit_code,
            started=self._started,
            updated=_now(),
            max_usd=self.prepared.client.max_usd,
            models=models,
        )

    def _model(self, place: int, model_run: ModelRun) -> ModelProgress:
        session, pace = model_run.session, self._paces[place]
        counts, unsent = session.counts, session.not_sent
        settled = counts.hits + counts.sent + unsent
        state, reason = model_state(model_run)
        if state != "running" and self._ended[place] is None:
            self._ended[place] = _now()
        distinct = settled if state != "running" else max(model_run.size.distinct, settled)
        pace.measure(self.clock(), settled, counts.sent)
        speeds = pace.per_second() if state == "running" else None
        usd = usd_of(session)
        now_spent = usd if usd is None or session.budgeted is None else usd - session.budgeted.own.earlier
        remaining = distinct - settled
        return ModelProgress(
            endpoint=model_run.model.endpoint,
            model=model_run.model.model,
            state=state,
            reason=reason,
            planned=model_run.size.planned + session.progress.retried,
            distinct=distinct,
            hits=counts.hits,
            sent=counts.sent,
            unsent=unsent,
            retries=session.layers.retrying.retries,
            rate=None if speeds is None else speeds[1],
            seconds_left=None if speeds is None or not speeds[0] else remaining / speeds[0],
            usd=usd,
            usd_left=None if now_spent is None or not counts.sent else now_spent / counts.sent * remaining,
            max_usd=model_run.model.max_usd,
            outcomes=dict(sorted(model_run.statuses.items())),
            waiting=waiting_of(session) if state == "running" else None,
            started=self._started,
            updated=self._ended[place] or _now(),
        )

    def _new_messages(self, model_runs: Sequence[ModelRun]) -> list[str]:
        messages = []
        for place, model_run in enumerate(model_runs):
            messages += model_run.session.messages[self._printed[place] :]
            self._printed[place] = len(model_run.session.messages)
        return messages


def usd_of(session: ModelSession) -> float | None:
    """Return the dollars that count as spent: every bill, and the worst case of attempts without one; None if unknown.

    With a limit that is what the limit counts: all that was spent in the run directory.
    """
    if session.budgeted is not None:
        return session.budgeted.own.earlier + session.budgeted.own.spent
    return session.ledger.spent if session.ledger.known else None


def waiting_of(session: ModelSession) -> Waiting | None:
    """Return what the model's endpoint is waited for; None while it answers."""
    outage = session.layers.limited.availability.outage
    if outage is None:
        return None
    return Waiting(
        endpoint=outage.place,
        reason=outage.reason,
        since=outage.since.isoformat(timespec="milliseconds"),
        next_try=outage.next_try.isoformat(timespec="milliseconds"),
        until=outage.until.isoformat(timespec="milliseconds"),
        tries=outage.tries,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
