"""`explaineval watch`: look at a run from another terminal while it goes."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from explaineval.cli.options import JSON, PATH, option, options
from explaineval.cli.output import columns, echo, echo_document, echo_notes, is_terminal
from explaineval.cli.progress import plain_text
from explaineval.errors import InputError
from explaineval.files import LONGEST_LINE, open_regular
from explaineval.records import Trial
from explaineval.reporting.live import Phis, is_dead, screen_lines, state_sentence, watch_lines
from explaineval.rundir.directory import TRIALS, read_progress, read_run
from explaineval.rundir.schema import RunProgress
from explaineval.scoring.counts import interval_of
from explaineval.scoring.live import LiveCounts, LiveNumbers
from explaineval.scoring.registry import PHI_CCT

LOOK_SECONDS = 2.0
"""Seconds between two looks."""

NARROW = 100
"""Columns of lines that are not printed on a terminal."""

INTERRUPTED = 130
"""Exit code of a command that was interrupted."""

BLOCK = 1 << 20
"""Bytes of trials that are read at a time."""


@dataclass
class TrialReader:
    """Counts the trials of a run by model, reading only what was written since the last time.

    A torn last line is read when it is whole. Where the file was begun anew, as by a run that is continued, so is the
    count.
    """

    path: Path
    counts: dict[tuple[str | None, str], LiveCounts] = field(default_factory=dict)
    _file: tuple[int, int] = (0, 0)
    """The inode of the file and how many of its bytes were read."""
    _torn: bytes = b""

    def restart(self) -> None:
        """Forget everything that was counted."""
        self.counts.clear()
        self._file, self._torn = (0, 0), b""

    def read(self) -> None:
        """Count what is new. Raises InputError where the file cannot be read or a whole line is no trial."""
        continued = self._file != (0, 0)
        try:
            self._read()
        except InputError:
            if not continued:
                raise
            self.restart()  # the file was begun anew, and is longer already than what was read of it
            self._read()

    def _read(self) -> None:
        try:
            with open_regular(self.path) as handle:
                stat = os.fstat(handle.fileno())
                if self._file[0] != stat.st_ino or stat.st_size < self._file[1]:
                    self.restart()
                done = self._file[1]
                handle.seek(done)
                while block := handle.read(BLOCK):
                    done += len(block)
                    self._add(block)
                self._file = stat.st_ino, done
        except FileNotFoundError:
            return
        except OSError as exc:
            raise InputError(f"{self.path} cannot be read: {exc.strerror or exc}.") from None

    def _add(self, block: bytes) -> None:
        *lines, self._torn = (self._torn + block).split(b"\n")
        if len(self._torn) > LONGEST_LINE:
            raise InputError(f"{self.path} cannot be read: a line is longer than {LONGEST_LINE:,} bytes.")
        for line in lines:
            try:
                trial = Trial.model_validate_json(line)
            except ValidationError:
                raise InputError(f"{self.path} holds a line that is no trial: it was changed by hand.") from None
            self.counts.setdefault((trial.endpoint, trial.model), LiveCounts()).add(trial)


@click.command("watch")
@click.argument("run_dir", type=PATH)
@options(
    option("--once", is_flag=True, default=False, help="Print once how far the run is, and end."),
    JSON,
)
def watch_command(run_dir: Path, once: bool, json: bool) -> int:
    """Look at the run in RUN_DIR while it goes: what is done, phi-CCT so far, spend, outcomes, time left.

    In a terminal the view is renewed until the run ends; piped, or with --once or --json, it is printed once.
    """
    interval = interval_of(read_run(run_dir).config)
    reader, numbers = TrialReader(run_dir / TRIALS), LiveNumbers(interval)
    started = ""

    def look() -> tuple[RunProgress, list[Phis]]:
        nonlocal started
        progress = read_progress(run_dir)
        if progress is None and started:
            raise InputError(f"{run_dir} is gone: the run ended without one answer, and so left no directory.")
        if progress is None:
            raise InputError(
                f"{run_dir} has no progress.json, so nothing is known of how it went: an earlier version made it, or "
                f"it came out of a bundle. Its numbers: explaineval score {shlex.quote(str(run_dir))}"
            )
        if progress.started != started:  # a continued run writes its trials again from the start
            reader.restart()
            started = progress.started
        reader.read()
        models = [reader.counts.get((model.endpoint, model.model), LiveCounts()) for model in progress.models]
        return progress, list(numbers.finish(models))

    if json:
        progress, phis = look()
        echo_document(_document(run_dir, progress, phis))
        return 0
    if once or not is_terminal():
        progress, phis = look()
        for line in watch_lines(str(run_dir), progress, phis, datetime.now(UTC), columns(NARROW)):
            echo(line)
        return 0
    return _follow(run_dir, look)


def _follow(run_dir: Path, look: Callable[[], tuple[RunProgress, list[Phis]]]) -> int:
    """Renew the view in the terminal until the run ends or the user leaves it."""
    from rich.live import Live

    try:
        with Live(auto_refresh=False) as live:
            while True:
                progress, phis = look()
                now = datetime.now(UTC)
                width, height = live.console.width, live.console.height - 1
                live.update(plain_text(screen_lines(str(run_dir), progress, phis, now, width, height)), refresh=True)
                if progress.state in ("finished", "stopped", "failed") or is_dead(progress, now):
                    return 0
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        echo_notes(["no longer watched; the run goes on."])
        return INTERRUPTED


def _document(run_dir: Path, progress: RunProgress, phis: Sequence[Phis]) -> dict[str, Any]:
    now = datetime.now(UTC)
    document = progress.model_dump(mode="json")
    for model, of_model in zip(document["models"], phis, strict=True):
        model[PHI_CCT] = [
            {"kind": phi.kind, "conditions": phi.conditions, **phi.estimate.model_dump(mode="json")} for phi in of_model
        ]
    return {
        "run_dir": str(run_dir),
        **document,
        "dead": is_dead(progress, now),
        "sentence": state_sentence(progress, now),
    }
