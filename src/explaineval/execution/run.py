"""The whole way: configuration → plan → execute → score."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self, TextIO

from explaineval.cache import Claims, Store, holds_store, open_store, request_key, spread
from explaineval.client.endpoints.capabilities import Capabilities, assume_capabilities, determine_capabilities
from explaineval.config import Arm, arms_for
from explaineval.datasets import shots_of
from explaineval.errors import (
    EndpointError,
    InputError,
    InUseError,
    RequestRejectedError,
    RequestUnsentError,
    StoreError,
)
from explaineval.execution.accounting import (
    endpoint_record,
    limit_fault,
    money_notes,
    offline_fault,
    probe_notes,
    run_record,
    totals_of,
)
from explaineval.execution.model_run import ModelRun, build_model_runs, check_batches
from explaineval.execution.pool import Executor, WorkerPool, stop_on_interrupt
from explaineval.execution.trials import unit_trials
from explaineval.planning import provenance
from explaineval.planning.notes import Note, cache_notes, note
from explaineval.planning.prepare import Prepared, inputs_of
from explaineval.planning.prices import Prices, prices_of, read_price_list
from explaineval.planning.requests import RequestBuilder
from explaineval.planning.units import Reply, Unit, is_askable, plan, plan_sizes
from explaineval.records import Example, Request
from explaineval.rundir import directory as run_directory
from explaineval.rundir.schema import Facts, Totals
from explaineval.scoring.rows import Scores, score

SETTLE_WITH = 3
"""Examples that are tried before an endpoint that rejects them counts as unusable."""


@dataclass(frozen=True)
class Asking:
    """What all models of a run share. `start` is where in its plan this process begins, as a share."""

    prepared: Prepared
    store: Store
    lines: TextIO
    stopping: asyncio.Event
    start: float


async def ask_all(
    prepared: Prepared,
    store: Store,
    claims: Claims | None,
    model_runs: list[ModelRun],
    lines: TextIO,
    watch: Callable[[list[ModelRun]], None],
    prices: Prices,
    embedded: Path | None,
) -> bool:
    """Run all models at the same time; whether the run was interrupted. Appends to `model_runs`."""
    stopping = asyncio.Event()
    start = spread(claims.take_number()) if claims is not None else 0.0
    asking = Asking(prepared, store, lines, stopping, start)
    async with AsyncExitStack() as stack:
        model_runs += build_model_runs(prepared, store, claims, prices, stopping, stack, embedded)
        work = [asyncio.create_task(_ask_one(asking, model_run)) for model_run in model_runs]

        def give_up() -> None:
            for model_run in model_runs:
                model_run.cached.cancel()
            for task in work:
                task.cancel()

        with stop_on_interrupt(stopping, give_up, model_runs[0].messages.append) as interruption:
            ticker = asyncio.create_task(_tick(model_runs, watch))
            results = await asyncio.gather(*work, return_exceptions=True)
            await asyncio.gather(*(model_run.cached.finish() for model_run in model_runs))
            await asyncio.gather(*(model_run.writer.retry() for model_run in model_runs[:1]))  # all models share it
            ticker.cancel()
        given_up = sum(model_run.cached.counts.given_up for model_run in model_runs)
        if given_up:
            model_runs[0].messages.append(f"{given_up} answers under way were not waited for; they may be charged.")
        watch(model_runs)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result.exceptions[0] if isinstance(result, BaseExceptionGroup) else result
    return interruption.count > 0


async def _tick(model_runs: list[ModelRun], watch: Callable[[list[ModelRun]], None]) -> None:
    while True:
        watch(model_runs)
        await asyncio.sleep(0.25)


async def _ask_one(asking: Asking, model_run: ModelRun) -> None:
    try:
        await _ask_plan(asking, model_run)
    except Exception:
        asking.stopping.set()  # the run is over: what is on the wire is waited for, nothing else is sent
        raise
    finally:
        if not model_run.progress.whole:  # what the run never came to is part of its plan too
            found = asking.prepared
            model_run.progress.leave(
                plan_sizes(found.config, found.prompts, found.tasks, found.chosen.edits, model_run.model)
            )


async def _ask_plan(asking: Asking, model_run: ModelRun) -> None:
    config, tasks = asking.prepared.config, asking.prepared.tasks
    try:
        for builder in _builders(asking.prepared, model_run):
            if builder.arm.style not in model_run.able:
                model_run.able[builder.arm.style] = await _settle(asking, model_run, builder)
    except EndpointError as exc:
        model_run.progress.unsent -= _asked_already(asking.prepared, asking.store, model_run)
        model_run.fault = await _tell_served(asking, model_run, exc)
        return

    def able(arm: Arm) -> Capabilities:
        return model_run.able[arm.style]

    def sink(unit: Unit, base: Reply | None, after: list[Reply | None], shams: list[Reply | None]) -> None:
        for trial in unit_trials(unit, base, after, shams, config.mention, config.min_label_mass):
            asking.lines.write(trial.model_dump_json() + "\n")
            model_run.read(trial)

    def units() -> Iterator[Unit]:
        edits = asking.prepared.chosen.edits
        return plan(config, asking.prepared.prompts, tasks, edits, model_run.model, able, asking.start)

    stopping = asking.stopping
    if model_run.batches is not None:
        from explaineval.execution.batches import submit

        await submit(asking.prepared, asking.store, model_run, model_run.batches, units)
        stopping = asyncio.Event()  # nothing is sent from here on, so what is paid for is read to its end
    pool = WorkerPool(model_run.limited.limit.ceiling)
    model_run.cached.on_wait = pool.hold_up
    await Executor(model_run.cached, pool, stopping, config.retry, model_run.forecast.miss, model_run.progress).run(
        units(), sink
    )
    if model_run.fault is None:
        model_run.fault = model_run.billing_fault
    if model_run.limited.down is not None and model_run.fault is None:
        model_run.fault = await _tell_served(asking, model_run, model_run.limited.down)


async def _tell_served(asking: Asking, model_run: ModelRun, fault: EndpointError) -> EndpointError:
    """The fault, with the models that the endpoint serves where it does not know the one asked for."""
    from explaineval.client.endpoints.model_list import name_served_models

    return await name_served_models(fault, asking.prepared.client.endpoint_of(model_run.model))


def _asked_already(prepared: Prepared, store: Store, model_run: ModelRun) -> int:
    """How many requests of the plan were asked to find out what the endpoint takes, before it turned out unusable."""
    keys = set()
    for builder in _builders(prepared, model_run):
        able, _ = assume_capabilities(store, prepared.config, model_run.model, builder.arm.style)
        for example in _examples_to_settle(prepared, builder):
            keys.add(request_key(builder.build(example, example.fields, able.logprobs, able.temperature)))
    return sum(int(key[:16], 16) in model_run.cached.counts.seen for key in keys)


def _examples_to_settle(
    prepared: Prepared, builder: RequestBuilder, free: Callable[[Example], bool] = lambda _: True
) -> Sequence[Example]:
    """The examples with which is found out what the endpoint takes: the first that are `free`, where any are."""
    edits = prepared.chosen.edits
    asked = [one for one in builder.task.examples if is_askable(builder, one, edits.get((one.task, one.id), ()))]
    # where nothing of this arm is asked, some example has to do: its trials need to say how the arm was asked
    return list(islice(filter(free, asked), SETTLE_WITH)) or asked[:SETTLE_WITH] or builder.task.examples[:1]


def _is_free(asking: Asking, model_run: ModelRun, builder: RequestBuilder) -> Callable[[Example], bool]:
    """Whether no other process is asking about an example just now."""
    able, _ = assume_capabilities(asking.store, asking.prepared.config, model_run.model, builder.arm.style)
    return lambda one: (
        not model_run.cached.is_asked_elsewhere(builder.build(one, one.fields, able.logprobs, able.temperature))
    )


def _builders(prepared: Prepared, model_run: ModelRun) -> Iterator[RequestBuilder]:
    """One for each arm and task of the model that will be asked."""
    for arm in arms_for(prepared.config, model_run.model):
        for task in prepared.tasks:
            builder = RequestBuilder(prepared.config, prepared.prompts, model_run.model, arm, task)
            if not builder.lacks_level:
                yield builder


async def _settle(asking: Asking, model_run: ModelRun, builder: RequestBuilder) -> Capabilities:
    """Find out what the endpoint takes with the plan's first request; where that very text is rejected, a later one.

    Where nothing may be asked (offline, no money, stopping) it is assumed. Raises EndpointError where SETTLE_WITH
    examples are rejected whatever is asked along with them.
    """
    config, store = asking.prepared.config, asking.store
    style, examples = (
        builder.arm.style,
        _examples_to_settle(asking.prepared, builder, _is_free(asking, model_run, builder)),
    )
    for example in examples:
        try:
            build = _asking(builder, example)
            return await determine_capabilities(
                model_run.cached, store, config, style, build, keep=not asking.prepared.client.offline
            )
        except RequestUnsentError:
            found, settled = assume_capabilities(store, config, model_run.model, style)
            model_run.assumed = model_run.assumed or not settled
            return found
        except EndpointError as exc:
            if not isinstance(exc.__cause__, RequestRejectedError) or example is examples[-1]:
                raise
    raise AssertionError("a task has at least one example")


def _asking(builder: RequestBuilder, example: Example) -> Callable[[int | None, float | None], Request]:
    return lambda logprobs, temperature: builder.build(example, example.fields, logprobs, temperature)


RUNS = Path("runs")

Watch = Callable[[list[ModelRun]], None]


@dataclass(frozen=True)
class Outcome:
    """What a run came to. There is no directory where nothing was stored, bought or found."""

    directory: Path | None
    exit_code: int
    signature: str
    scores: Scores
    totals: Totals
    notes: tuple[Note, ...]
    faults: tuple[str, ...]


def execute(
    prepared: Prepared, out: Path | None, watch: Watch, embedded: Path | None = None, *, keep: bool = False
) -> Outcome:
    """Ask, store, write, score. `watch` is called now and then with the model runs, to show progress.

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
    model_runs: list[ModelRun] = []
    with _full_disk(model_runs), ExitStack() as stack:
        store, claims = _open(prepared, stack)
        traces = stack.enter_context(Traces(model_runs))
        directory = _directory(prepared, out, stack, traces)
        state = run_directory.prepare(directory, prepared.science, examples, edits)
        traces.new = directory if state == "new" and not keep else None
        run_directory.write_inputs(directory, examples, edits, prepared.prompts.directory, *shots_of(prepared.tasks))
        facts = Facts(
            tasks=provenance.task_facts(prepared.tasks, prepared.chosen.edits, prepared.prompts),
            no_level_shots=provenance.no_level_shots(prepared.config, prepared.tasks, prepared.prompts),
        )
        record = run_record(prepared, facts, listed.version)
        run_directory.write_run(directory, record)
        trials = directory / run_directory.TRIALS
        with (
            run_directory.writing(trials),
            trials.open("w", encoding="utf-8", newline="\n", errors="surrogatepass") as lines,
        ):
            stopped = asyncio.run(ask_all(prepared, store, claims, model_runs, lines, watch, prices, embedded))
        able = {
            (model_run.model.endpoint, model_run.model.model, style): found
            for model_run in model_runs
            for style, found in model_run.able.items()
        }
        arms = provenance.arm_facts(prepared.config, prepared.tasks, prepared.prompts, able)
        totals = totals_of(model_runs)
        changes = {
            "facts": facts.model_copy(update={"arms": arms}),
            "complete": not stopped and not totals.requests.unsent and not _failures(model_runs),
            "endpoints": tuple(endpoint_record(model_run) for model_run in model_runs),
            "totals": totals,
        }
        run_directory.write_run(directory, record.model_copy(update=changes))
        _learn(model_runs, store)
        warnings = tuple(cache_notes(store.warnings))
        scores = score(directory)
        run_directory.write_metrics(directory, scores.rows)
    code, faults = _verdict(prepared, model_runs, stopped, totals.requests.unsent)
    kept = directory if (directory / run_directory.RUN).exists() else None
    notes = (*_notes(prepared, model_runs, state), *warnings)
    return Outcome(kept, code, record.signature, scores, totals, notes, faults)


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

    What the `model_runs` bought or found counts, and what was written of it.
    """

    model_runs: list[ModelRun]
    new: Path | None = None
    _made: list[Path] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def note(self, directory: Path) -> None:
        """Remember which of these directories are not there yet."""
        self._made = [one for one in (directory, *directory.parents) if not one.exists()]

    def __exit__(self, *_: object) -> None:
        if self.new is None or any(model_run.answers or model_run.statuses for model_run in self.model_runs):
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
        stack.enter_context(run_directory.locked(out))
        return out
    base = run_directory.default_directory(RUNS, date.today(), prepared.name)
    number = 1
    while True:
        directory = base if number == 1 else base.with_name(f"{base.name}-{number}")
        traces.note(directory)
        try:  # looking first and locking then would let two processes see the same free one
            stack.enter_context(run_directory.locked(directory))
        except InUseError:
            number += 1
        else:
            return directory


def _learn(model_runs: list[ModelRun], store: Store) -> None:
    """Let the forecasts of what is left take the lengths of stored answers, where anything is left."""
    for model_run in model_runs:
        if model_run.forecast.misses:
            model_run.forecast.learn(store, model_run.model)


def _verdict(prepared: Prepared, model_runs: list[ModelRun], stopped: bool, unsent: int) -> tuple[int, tuple[str, ...]]:
    """The exit code, and the sentences that say why it is not 0."""
    faults = tuple(dict.fromkeys(str(model_run.fault) for model_run in model_runs if model_run.fault is not None))
    failed = sum(model_run.progress.outcomes.get("failed", 0) for model_run in model_runs)
    if failed and not faults:
        faults = (f"{failed} requests failed after all retries; the same command asks them again.",)
    faults += tuple(
        sentence
        for model_run in model_runs
        if model_run.fault is None and (sentence := model_run.unreadable) is not None
    )
    codes = [5] if faults or failed else []
    for code, fault in (
        (3, limit_fault(model_runs, prepared.client.max_usd)),
        (4, offline_fault(prepared, model_runs)),
    ):
        if fault is not None:
            codes.append(code)
            faults += (fault,)
    if any(model_run.budgeted is not None and model_run.budgeted.overdrawn for model_run in model_runs):
        codes.append(3)  # the fault of the endpoint that sent the bill says so
    waiting = sum(model_run.cached.counts.in_batches for model_run in model_runs)
    if waiting:
        codes.append(5)
        faults += (
            f"{waiting} requests are in a batch that is not fetched yet, and were not asked again; the same command "
            "with --batch fetches them.",
        )
    unstored = _unstored(model_runs)
    if unstored is not None and (unsent or model_runs[0].writer.unstored):
        codes.append(2)
        faults += (unstored,)
    if stopped:
        codes.append(130)
        given_up = sum(model_run.cached.counts.given_up for model_run in model_runs)
        more = f", {given_up} answers under way were not waited for (they may be charged)" if given_up else ""
        faults += (
            f"interrupted: {unsent} requests were not sent{more}, and the numbers are those of "
            "the finished part; give the same command again to go on.",
        )
    worst_first = (130, 1, 2, 3, 5, 4)
    return min(codes, key=worst_first.index, default=0), faults


def _unstored(model_runs: list[ModelRun]) -> str | None:
    """The sentence about a cache that took no more answers; all models share it."""
    return model_runs[0].writer.message if model_runs else None


@contextmanager
def _full_disk(model_runs: list[ModelRun]) -> Iterator[None]:
    """While inside, the sentence about the cache stands before that about another file on the same full disk."""
    try:
        yield
    except InputError as exc:
        unstored = _unstored(model_runs)
        if unstored is None or isinstance(exc, StoreError):
            raise
        raise StoreError(f"{unstored} {exc}") from exc


def _failures(model_runs: list[ModelRun]) -> bool:
    """Whether an endpoint was unusable, or a request stayed failed."""
    return any(model_run.fault is not None or model_run.progress.outcomes.get("failed") for model_run in model_runs)


def _notes(prepared: Prepared, model_runs: list[ModelRun], state: str) -> tuple[Note, ...]:
    notes: tuple[Note, ...] = (note("directory_in_use", f"run directory {state}"),) if state != "new" else ()
    for model_run in model_runs:
        notes += tuple(
            model_run.ledger.notes(model_run.model.model, prepared.config.max_tokens, prepared.config.arms.order)
        )
        notes += tuple(probe_notes(model_run, prepared.config))
    notes += tuple(money_notes(model_runs))
    shared = sum(model_run.cached.counts.shared for model_run in model_runs)
    if shared:
        told = f"{shared} answers came from another process that was asking the same."
        notes += (note("answers_shared", told),)
    lacking = provenance.no_level_shots(prepared.config, prepared.tasks, prepared.prompts)
    for task, level in dict.fromkeys((arm.task, arm.verbosity) for arm in lacking):
        told = (
            f"{task}: completion style was not asked at verbosity {level}, which only shots of that length can show: "
            "give every shot such an explanation (`explanations` in --shots-from FILE)."
        )
        notes += (note("level_not_asked", told),)
    return notes + prepared.chosen.notes
