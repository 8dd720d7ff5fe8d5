"""Progress on standard error: a bar in a terminal, a line now and then elsewhere. Rate, hits, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from explaineval.cli.output import echo
from explaineval.execution.model_run import ModelRun
from explaineval.planning.prepare import Prepared
from explaineval.planning.units import plan_sizes

EVERY = 15.0
"""Seconds between two lines where standard error is no terminal."""


@contextmanager
def progress(prepared: Prepared) -> Iterator[Callable[[list[ModelRun]], None]]:
    """A callable that shows how far the models are, for `execute`."""
    config, edits = prepared.config, prepared.chosen.edits
    sizes = (plan_sizes(config, prepared.prompts, prepared.tasks, edits, model) for model in config.models)
    total = sum(one.distinct for one in sizes)
    heard: dict[tuple[str | None, str], int] = {}

    def tell_news(model_runs: list[ModelRun]) -> None:
        for model_run in model_runs:
            name = (model_run.model.endpoint, model_run.model.model)
            for message in model_run.messages[heard.get(name, 0) :]:
                echo(f"explaineval: {message}", err=True)
            heard[name] = len(model_run.messages)

    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn(
                "{task.completed:.0f}/{task.total:.0f} requests, {task.fields[hits]} cached, {task.fields[rate]}"
            ),
            TimeRemainingColumn(compact=True),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("asking", total=total, hits=0, rate="")
            started = time.monotonic()

            def show(model_runs: list[ModelRun]) -> None:
                done, hits, sent = _counts(model_runs)
                rate = sent / max(time.monotonic() - started, 1e-9)
                tell_news(model_runs)
                bar.update(task, completed=done, hits=hits, rate=f"{rate:.1f}/s" if sent else "")

            yield show
        return
    lines = _lines(total)

    def show_lines(model_runs: list[ModelRun]) -> None:
        tell_news(model_runs)
        lines(model_runs)

    yield show_lines


def _lines(total: int) -> Callable[[list[ModelRun]], None]:
    started = last = time.monotonic()

    def show(model_runs: list[ModelRun]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < EVERY:
            return
        last = now
        done, hits, sent = _counts(model_runs)
        rate = done / (now - started)
        left = f", about {(total - done) / rate:.0f} s left" if rate else ""
        speed = f"{sent / (now - started):.1f} sent/s"
        echo(f"explaineval: {done}/{total} requests, {hits} from the cache, {speed}{left}", err=True)

    return show


def _counts(model_runs: list[ModelRun]) -> tuple[int, int, int]:
    tallies = [model_run.cached.tally for model_run in model_runs]
    hits, sent = sum(tally.hits for tally in tallies), sum(tally.sent for tally in tallies)
    return hits + sent + sum(tally.unsent for tally in tallies), hits, sent
