"""The whole way: configuration → plan → execute → score."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from explaineval.cache import open_store
from explaineval.experiment import directories, facts
from explaineval.experiment.documents import endpoint_document, probe_notes, run_document, summary_of
from explaineval.experiment.lanes import Lane, ask_all
from explaineval.experiment.ledgers import read_price_list
from explaineval.experiment.preparations import Prepared, inputs_of
from explaineval.experiment.scores import Scores, score

RUNS = Path("runs")

Watch = Callable[[list[Lane]], None]


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    directory: Path
    exit_code: int
    signature: str
    scores: Scores
    summary: dict[str, Any]
    notes: tuple[str, ...]
    faults: tuple[str, ...]


def execute(prepared: Prepared, out: Path | None, watch: Watch, embedded: Path | None = None) -> Outcome:
    """Ask, store, write, score. `watch` is called now and then with the lanes, to show progress.

    `embedded` are the weights of a model that is served in a child process instead of reached by URL.
    Raises InputError for a directory or cache that cannot be used.
    """
    directory = out or directories.default_directory(RUNS, date.today(), prepared.name)
    examples, edits = inputs_of(prepared.tasks, prepared.chosen)
    state = directories.prepare(directory, prepared.science, examples, edits)
    with open_store(prepared.client.cache) as store:
        directories.write_inputs(directory, examples, edits, prepared.prompts.directory)
        prices = read_price_list()
        lanes: list[Lane] = []
        known = {"tasks": facts.task_facts(prepared.tasks, prepared.chosen.edits), "arms": {}}
        run = run_document(prepared, known, prices.version)
        directories.write_json(directory / directories.RUN, run)
        with (directory / directories.TRIALS).open(
            "w", encoding="utf-8", newline="\n", errors="surrogatepass"
        ) as lines:
            stopped = asyncio.run(ask_all(prepared, store, lanes, lines, watch, prices, embedded))
        able = {
            (lane.model.endpoint, lane.model.model, style): found
            for lane in lanes
            for style, found in lane.able.items()
        }
        known["arms"] = facts.arm_facts(prepared.config, prepared.tasks, prepared.prompts, able)
        summary = summary_of(lanes)
        run |= {"complete": not stopped and not summary["requests"]["unsent"]}
        run |= {"endpoints": [endpoint_document(lane) for lane in lanes], **summary}
        directories.write_json(directory / directories.RUN, run)
        warnings = tuple(store.warnings)
    scores = score(directory)
    directories.write_metrics(directory, scores.rows)
    faults = tuple(str(lane.fault) for lane in lanes if lane.fault is not None)
    if stopped:
        faults += (
            f"interrupted: {summary['requests']['unsent']} requests were not sent, and the numbers are those of the "
            "finished part; give the same command again to go on.",
        )
    failed = sum(lane.progress.outcomes.get("failed", 0) for lane in lanes)
    code = 130 if stopped else 5 if faults or failed else 0
    notes: tuple[str, ...] = (f"run directory {state}",) if state != "new" else ()
    for lane in lanes:
        notes += tuple(lane.ledger.notes(lane.model.model, prepared.config.max_tokens, prepared.config.arms.order))
        notes += tuple(probe_notes(lane, prepared.config))
    shots = tuple(
        f"{task.name}: shots from {task.shots_source}." for task in prepared.tasks if task.shots_source != "none"
    )
    return Outcome(
        directory, code, run["signature"], scores, summary, notes + shots + prepared.chosen.notes + warnings, faults
    )
