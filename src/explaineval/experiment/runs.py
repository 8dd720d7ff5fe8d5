"""The whole way: configuration → plan → execute → score."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from explaineval.cache import Claims, Store, holds_store, open_store
from explaineval.errors import InputError, InUseError, StoreError
from explaineval.experiment import directories, facts
from explaineval.experiment.askings import ask_all
from explaineval.experiment.batches import check_batches
from explaineval.experiment.documents import endpoint_document, probe_notes, run_document, summary_of
from explaineval.experiment.faults import limit_fault, money_notes, offline_fault
from explaineval.experiment.lanes import Lane
from explaineval.experiment.ledgers import prices_of, read_price_list
from explaineval.experiment.notes import Note, cache_notes, note
from explaineval.experiment.preparations import Prepared, inputs_of
from explaineval.experiment.scores import Scores, score

RUNS = Path("runs")

Watch = Callable[[list[Lane]], None]


@dataclass(frozen=True)
class Outcome:
    """What a run came to. There is no directory where nothing was stored, bought or found."""

    directory: Path | None
    exit_code: int
    signature: str
    scores: Scores
    summary: dict[str, Any]
    notes: tuple[Note, ...]
    faults: tuple[str, ...]


def execute(
    prepared: Prepared, out: Path | None, watch: Watch, embedded: Path | None = None, *, keep: bool = False
) -> Outcome:
    """Ask, store, write, score. `watch` is called now and then with the lanes, to show progress.

    `embedded` are the weights of a model that is served in a child process instead of reached by URL. A new directory
    is taken away again where the run failed without an answer, unless `keep` says that it stays.
    Raises InputError for a directory or cache that cannot be used, a spending limit that could not hold, or a model
    without batches where they are wanted.
    """
    listed = read_price_list()
    prices = prices_of(prepared.config, prepared.client, listed)
    if prepared.client.batch and not prepared.client.offline:
        for model in prepared.config.models:
            check_batches(model, prepared.client.endpoint_of(model))
    examples, edits = inputs_of(prepared.tasks, prepared.chosen)
    lanes: list[Lane] = []
    with _full_disk(lanes), ExitStack() as stack:
        store, claims = _open(prepared, stack)
        traces = stack.enter_context(Traces(lanes))
        directory = _directory(prepared, out, stack, traces)
        state = directories.prepare(directory, prepared.science, examples, edits)
        traces.new = directory if state == "new" and not keep else None
        directories.write_inputs(directory, examples, edits, prepared.prompts.directory, prepared.tasks)
        known = {
            "tasks": facts.task_facts(prepared.tasks, prepared.chosen.edits, prepared.prompts),
            "no_level_shots": facts.no_level_shots(prepared.config, prepared.tasks, prepared.prompts),
            "arms": {},
        }
        run = run_document(prepared, known, listed.version)
        directories.write_json(directory / directories.RUN, run)
        trials = directory / directories.TRIALS
        with (
            directories.writing(trials),
            trials.open("w", encoding="utf-8", newline="\n", errors="surrogatepass") as lines,
        ):
            stopped = asyncio.run(ask_all(prepared, store, claims, lanes, lines, watch, prices, embedded))
        able = {
            (lane.model.endpoint, lane.model.model, style): found
            for lane in lanes
            for style, found in lane.able.items()
        }
        known["arms"] = facts.arm_facts(prepared.config, prepared.tasks, prepared.prompts, able)
        summary = summary_of(lanes)
        run |= {"complete": not stopped and not summary["requests"]["unsent"] and not _failures(lanes)}
        run |= {"endpoints": [endpoint_document(lane) for lane in lanes], **summary}
        directories.write_json(directory / directories.RUN, run)
        _learn(lanes, store)
        warnings = tuple(cache_notes(store.warnings))
        scores = score(directory)
        directories.write_metrics(directory, scores.rows)
    code, faults = _verdict(prepared, lanes, stopped, summary)
    kept = directory if (directory / directories.RUN).exists() else None
    notes = (*_notes(prepared, lanes, state), *warnings)
    return Outcome(kept, code, run["signature"], scores, summary, notes, faults)


def _open(prepared: Prepared, stack: ExitStack) -> tuple[Store, Claims | None]:
    """The store, and this process's claims on it; offline nothing is written, so nothing is claimed."""
    client = prepared.client
    if not client.offline:
        store = stack.enter_context(open_store(client.cache))
        return store, stack.enter_context(Claims(store.directory))
    if not holds_store(client.cache):  # then every answer is missing, and the list of them says so
        return stack.enter_context(open_store(Path(stack.enter_context(TemporaryDirectory())))), None
    return stack.enter_context(open_store(client.cache, readonly=True)), None


@dataclass
class Traces:
    """Takes away what a run without any answer leaves behind: its new directory, and those made on the way to it.

    What the `lanes` bought or found counts, and what was written of it.
    """

    lanes: list[Lane]
    new: Path | None = None
    _made: list[Path] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def note(self, directory: Path) -> None:
        """Remember which of these directories are not there yet."""
        self._made = [one for one in (directory, *directory.parents) if not one.exists()]

    def __exit__(self, *_: object) -> None:
        if self.new is None or any(lane.answers or lane.statuses for lane in self.lanes):
            return
        for path in self.new.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        with suppress(OSError):  # another run has put something there meanwhile
            for one in self._made:
                one.rmdir()


def _directory(prepared: Prepared, out: Path | None, stack: ExitStack, traces: Traces) -> Path:
    """The run directory, made and locked: the one asked for, else the first of this science that nobody uses."""
    if out is not None:
        traces.note(out)
        stack.enter_context(directories.locked(out))
        return out
    base = directories.default_directory(RUNS, date.today(), prepared.name)
    number = 1
    while True:
        directory = base if number == 1 else base.with_name(f"{base.name}-{number}")
        traces.note(directory)
        try:  # looking first and locking then would let two processes see the same free one
            stack.enter_context(directories.locked(directory))
        except InUseError:
            number += 1
        else:
            return directory


def _learn(lanes: list[Lane], store: Store) -> None:
    """Let the forecasts of what is left take the lengths of stored answers, where anything is left."""
    for lane in lanes:
        if lane.forecast.misses:
            lane.forecast.learn(store, lane.model)


def _verdict(
    prepared: Prepared, lanes: list[Lane], stopped: bool, summary: dict[str, Any]
) -> tuple[int, tuple[str, ...]]:
    """The exit code, and the sentences that say why it is not 0."""
    faults = tuple(dict.fromkeys(str(lane.fault) for lane in lanes if lane.fault is not None))
    failed = sum(lane.progress.outcomes.get("failed", 0) for lane in lanes)
    if failed and not faults:
        faults = (f"{failed} requests stayed failed after all retries; the same command asks them again.",)
    faults += tuple(sentence for lane in lanes if lane.fault is None and (sentence := lane.unreadable) is not None)
    codes = [5] if faults or failed else []
    for code, fault in ((3, limit_fault(lanes, prepared.client.max_usd)), (4, offline_fault(prepared, lanes))):
        if fault is not None:
            codes.append(code)
            faults += (fault,)
    if any(lane.budgeted is not None and lane.budgeted.overdrawn for lane in lanes):
        codes.append(3)  # the fault of the endpoint that sent the bill says so
    waiting = sum(lane.cached.tally.in_batches for lane in lanes)
    if waiting:
        codes.append(5)
        faults += (
            f"{waiting} requests are in a batch that is not fetched yet, and were not asked again; the same command "
            "with --batch fetches them.",
        )
    unstored = _unstored(lanes)
    if unstored is not None and (summary["requests"]["unsent"] or lanes[0].deposit.waiting):
        codes.append(2)
        faults += (unstored,)
    if stopped:
        codes.append(130)
        given_up = sum(lane.cached.tally.given_up for lane in lanes)
        more = f", {given_up} answers under way were not waited for (they may be charged)" if given_up else ""
        faults += (
            f"interrupted: {summary['requests']['unsent']} requests were not sent{more}, and the numbers are those of "
            "the finished part; give the same command again to go on.",
        )
    worst_first = (130, 1, 2, 3, 5, 4)
    return min(codes, key=worst_first.index, default=0), faults


def _unstored(lanes: list[Lane]) -> str | None:
    """The sentence about a cache that took no more answers; all lanes share it."""
    return lanes[0].deposit.sentence if lanes else None


@contextmanager
def _full_disk(lanes: list[Lane]) -> Iterator[None]:
    """While inside, the sentence about the cache stands before that about another file on the same full disk."""
    try:
        yield
    except InputError as exc:
        unstored = _unstored(lanes)
        if unstored is None or isinstance(exc, StoreError):
            raise
        raise StoreError(f"{unstored} {exc}") from exc


def _failures(lanes: list[Lane]) -> bool:
    """Whether an endpoint was unusable, or a request stayed failed."""
    return any(lane.fault is not None or lane.progress.outcomes.get("failed") for lane in lanes)


def _notes(prepared: Prepared, lanes: list[Lane], state: str) -> tuple[Note, ...]:
    notes: tuple[Note, ...] = (note("directory_in_use", f"run directory {state}"),) if state != "new" else ()
    for lane in lanes:
        notes += tuple(lane.ledger.notes(lane.model.model, prepared.config.max_tokens, prepared.config.arms.order))
        notes += tuple(probe_notes(lane, prepared.config))
    notes += tuple(money_notes(lanes))
    shared = sum(lane.cached.tally.shared for lane in lanes)
    if shared:
        told = f"{shared} answers came from another process that was asking the same."
        notes += (note("answers_shared", told),)
    lacking = facts.no_level_shots(prepared.config, prepared.tasks, prepared.prompts)
    for task, level in dict.fromkeys((one["task"], one["verbosity"]) for one in lacking):
        told = (
            f"{task}: completion style was not asked at verbosity {level}, which only shots of that length can show: "
            "give every shot such an explanation (`explanations` in --shots-from FILE)."
        )
        notes += (note("level_not_asked", told),)
    return notes + prepared.chosen.notes
