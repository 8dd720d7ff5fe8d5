"""Show progress on standard error: a bar in a terminal, a line every 15 seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from explaineval.cli.output import echo_notes, is_terminal
from explaineval.planning.units import plan_size

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from explaineval.execution.model_run import ModelRun, Watch
    from explaineval.planning.prepare import Prepared

LINE_SECONDS = 15.0
"""Seconds between two lines where standard error is not a terminal."""


@contextmanager
def watch_run(prepared: Prepared) -> Iterator[Watch]:
    """Yield the function that `execute` calls to show how far the models of a run are."""
    total = sum(plan_size(prepared, model).distinct for model in prepared.config.models)
    if not is_terminal(sys.stderr):
        yield watch_lines(total)
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

    text = "{task.completed:.0f}/{task.total:.0f} requests, {task.fields[hits]} cached, {task.fields[rate]}"
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn(text), TimeRemainingColumn(compact=True))
    with progress_bar(*columns, transient=True) as bar:
        task = bar.add_task("asking", total=total, hits=0, rate="")
        started = time.monotonic()
        print_messages = _message_printer()

        def show(model_runs: list[ModelRun]) -> None:
            done, hits, sent = _counts(model_runs)
            rate = sent / max(time.monotonic() - started, 1e-9)
            print_messages(model_runs)
            bar.update(task, completed=done, hits=hits, rate=f"{rate:.1f}/s" if sent else "")

        yield show


def progress_bar(*columns: ProgressColumn, transient: bool = False) -> Progress:
    """Return a progress bar on standard error, which shows nothing where that is not a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=transient, disable=not is_terminal(sys.stderr))


def watch_lines(total: int | None = None, role: str | None = None) -> Watch:
    """Return a function that prints messages at once and, every 15 seconds, how many requests are done.

    `total` is the number of planned requests, if it is known; `role` names the model that is asked beside a run.
    """
    started = last = time.monotonic()
    print_messages = _message_printer()

    def show(model_runs: list[ModelRun]) -> None:
        nonlocal last
        print_messages(model_runs)
        now = time.monotonic()
        if now - last < LINE_SECONDS:
            return
        last = now
        done, hits, sent = _counts(model_runs)
        rate = done / (now - started)
        text = f"{done}{'' if total is None else f'/{total}'} requests, {hits} from the cache"
        text += f", {sent / (now - started):.1f} sent/s"
        if total is not None and rate:
            text += f", about {(total - done) / rate:.0f} s left"
        echo_notes([text if role is None else f"{role}: {text}"])

    return show


def _message_printer() -> Watch:
    """Return a function that prints each message of the models' runs once."""
    printed: dict[tuple[str | None, str], int] = {}

    def show(model_runs: list[ModelRun]) -> None:
        for model_run in model_runs:
            name = (model_run.model.endpoint, model_run.model.model)
            echo_notes(model_run.messages[printed.get(name, 0) :])
            printed[name] = len(model_run.messages)

    return show


def _counts(model_runs: list[ModelRun]) -> tuple[int, int, int]:
    """Return the numbers of requests done, answered from the cache, and sent."""
    tallies = [model_run.cached.counts for model_run in model_runs]
    hits, sent = sum(tally.hits for tally in tallies), sum(tally.sent for tally in tallies)
    return hits + sent + sum(tally.unsent for tally in tallies), hits, sent
