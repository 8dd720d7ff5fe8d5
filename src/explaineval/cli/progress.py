"""Progress on standard error: a bar in a terminal, a line now and then elsewhere. Rate, hits, time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from explaineval.cli.output import echo
from explaineval.execution.model_run import Lane
from explaineval.planning.prepare import Prepared
from explaineval.planning.units import plan_sizes

EVERY = 15.0
"""Seconds between two lines where standard error is no terminal."""


@contextmanager
def progress(prepared: Prepared) -> Iterator[Callable[[list[Lane]], None]]:
    """A callable that shows how far the lanes are, for `execute`."""
    config, edits = prepared.config, prepared.chosen.edits
    sizes = (plan_sizes(config, prepared.prompts, prepared.tasks, edits, model) for model in config.models)
    total = sum(one.distinct for one in sizes)
    heard: dict[tuple[str | None, str], int] = {}

    def tell_news(lanes: list[Lane]) -> None:
        for lane in lanes:
            name = (lane.model.endpoint, lane.model.model)
            for message in lane.messages[heard.get(name, 0) :]:
                echo(f"explaineval: {message}", err=True)
            heard[name] = len(lane.messages)

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

            def show(lanes: list[Lane]) -> None:
                done, hits, sent = _counts(lanes)
                rate = sent / max(time.monotonic() - started, 1e-9)
                tell_news(lanes)
                bar.update(task, completed=done, hits=hits, rate=f"{rate:.1f}/s" if sent else "")

            yield show
        return
    lines = _lines(total)

    def show_lines(lanes: list[Lane]) -> None:
        tell_news(lanes)
        lines(lanes)

    yield show_lines


def _lines(total: int) -> Callable[[list[Lane]], None]:
    started = last = time.monotonic()

    def show(lanes: list[Lane]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < EVERY:
            return
        last = now
        done, hits, sent = _counts(lanes)
        rate = done / (now - started)
        left = f", about {(total - done) / rate:.0f} s left" if rate else ""
        speed = f"{sent / (now - started):.1f} sent/s"
        echo(f"explaineval: {done}/{total} requests, {hits} from the cache, {speed}{left}", err=True)

    return show


def _counts(lanes: list[Lane]) -> tuple[int, int, int]:
    tallies = [lane.cached.tally for lane in lanes]
    hits, sent = sum(tally.hits for tally in tallies), sum(tally.sent for tally in tallies)
    return hits + sent + sum(tally.unsent for tally in tallies), hits, sent
