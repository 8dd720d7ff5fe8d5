"""Show progress on standard error: a table or a bar in a terminal, lines every 15 seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from explaineval.cli.output import echo_notes, is_terminal
from explaineval.secrets import SECRETS
from explaineval.text import counted, flat, number_text

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn
    from rich.text import Text

    from explaineval.assist.session import Watch
    from explaineval.execution.progress import RunStatus, RunWatch
    from explaineval.execution.session import ModelSession
    from explaineval.scoring.codes import Note

TOLD_WHILE_ASKING = ("answers_unreadable",)
"""Codes of notes whose text was a message while the run went."""

LINE_SECONDS = 15.0
"""Seconds between two lines where standard error is not a terminal."""


@contextmanager
def watch_run() -> Iterator[RunWatch]:
    """Yield the function that `execute` calls to show how a run goes, on standard error.

    In a terminal it shows a table with a line for each model, elsewhere it prints such lines every 15 seconds.
    """
    if not is_terminal(sys.stderr):
        yield _sentences()
        return
    from rich.console import Console
    from rich.live import Live

    from explaineval.reporting.live import table_lines

    console = Console(stderr=True)
    announce = _failure_printer()
    with Live(console=console, transient=True, auto_refresh=False) as live:

        def show(status: RunStatus) -> None:
            echo_notes(status.messages)
            announce(status)
            lines = table_lines(status.progress, status.phis, console.width, console.height - 1)
            live.update(plain_text(lines), refresh=True)

        yield show


def new_notes(notes: Iterable[Note]) -> list[Note]:
    """Return the notes on a run without those that were shown while it went."""
    return [note for note in notes if note.code not in TOLD_WHILE_ASKING]


def plain_text(lines: Iterable[str]) -> Text:
    """Return lines for a live view of rich's: without secrets, markup and anything that a terminal would obey."""
    from rich.text import Text

    return Text("\n".join(flat(SECRETS.mask(line)) for line in lines), no_wrap=True)


def _sentences() -> RunWatch:
    """Return a function that prints messages at once and, every 15 seconds, a line for each model that still runs.

    A model that ended is told of once more.
    """
    from explaineval.reporting.live import model_names, model_sentence, run_sentence

    last = time.monotonic()
    announce = _failure_printer()
    ended: set[int] = set()

    def show(status: RunStatus) -> None:
        nonlocal last
        echo_notes(status.messages)
        announce(status)
        if time.monotonic() - last < LINE_SECONDS:
            return
        last = time.monotonic()
        run = status.progress
        for place, (name, model, phis) in enumerate(zip(model_names(run), run.models, status.phis, strict=True)):
            if place not in ended:
                echo_notes([model_sentence(name, model, phis)])
            if model.state != "running":
                ended.add(place)
        if len(run.models) > 1:
            echo_notes([f"in all: {run_sentence(run)}"])

    return show


def _failure_printer() -> RunWatch:
    """Return a function that prints at once why a model failed while others go on; each reason is printed once."""
    printed: set[str] = set()

    def show(status: RunStatus) -> None:
        models = status.progress.models
        running = sum(model.state == "running" for model in models)
        for model in models:
            if model.state == "failed" and model.reason and model.reason not in printed and running:
                printed.add(model.reason)
                others = (
                    "The other model goes on" if running == 1 else f"The other {counted(running, 'model', 'go')} on"
                )
                echo_notes([f"{model.reason} {others}."])

    return show


def progress_bar(*columns: ProgressColumn, transient: bool = False) -> Progress:
    """Return a progress bar on standard error, which shows nothing where that is not a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(*columns, console=Console(stderr=True), transient=transient, disable=not is_terminal(sys.stderr))


def watch_lines(role: str) -> Watch:
    """Return a function that prints messages at once and, every 15 seconds, how many requests are done.

    `role` names the model that is asked beside a run.
    """
    started = last = time.monotonic()
    printed = 0

    def show(session: ModelSession) -> None:
        nonlocal last, printed
        echo_notes(session.messages[printed:])
        printed = len(session.messages)
        now = time.monotonic()
        if now - last < LINE_SECONDS:
            return
        last = now
        hits, sent = session.counts.hits, session.counts.sent
        done = hits + sent + session.counts.unsent
        echo_notes(
            [
                f"{role}: {counted(done, 'request')}, {hits} from the cache, "
                f"{number_text(sent / (now - started), 1)} sent/s"
            ]
        )

    return show
