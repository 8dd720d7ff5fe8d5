"""The whole of a run: configuration → plan → execute → score."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import count
from pathlib import Path

from explaineval.cache import Claims, Store, spread
from explaineval.client.cluster.ray_workers import check_engine
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.client.protocol import SharedLimits
from explaineval.config import Arm
from explaineval.datasets import shots_of
from explaineval.errors import ExitCode, InputError, InUseError, StoreError
from explaineval.execution.accounting import (
    endpoint_record,
    has_limit,
    run_record,
    settle_open,
    totals_of,
)
from explaineval.execution.model_run import ModelRun, build_model_runs, check_batches, open_cache, run_models
from explaineval.execution.pool import StopRequest, ask_units
from explaineval.execution.progress import ProgressReporter, RunWatch
from explaineval.execution.readability import beginning_with, first_units
from explaineval.execution.settle import check_verdicts, settle_plan
from explaineval.execution.stopping import Looks, ask_by_looks, stop_notes
from explaineval.execution.trials import unit_trials
from explaineval.execution.verdict import is_unfinished, judge_run, run_notes, unreadable_notes
from explaineval.files import LineWriter
from explaineval.planning import provenance
from explaineval.planning.notes import Note, cache_notes
from explaineval.planning.order import Examples
from explaineval.planning.prepare import Prepared, adopt_run, inputs_of
from explaineval.planning.prices import Prices, prices_of, read_price_list
from explaineval.planning.replies import Reply
from explaineval.planning.units import Unit, all_examples, plan, plan_size, stored_reply, walk_units
from explaineval.records import Request
from explaineval.rundir import directory as run_directory
from explaineval.rundir.ledger import Account, open_ledger
from explaineval.rundir.schema import Facts, Totals
from explaineval.scoring.rows import Scores, score

RUNS = run_directory.RUNS


@dataclass(frozen=True)
class Outcome:
    """What a run came to. There is no directory where nothing was stored, bought or found."""

    directory: Path | None
    exit_code: ExitCode
    signature: str
    scores: Scores
    totals: Totals
    notes: tuple[Note, ...]
    errors: tuple[str, ...]


def execute(
    prepared: Prepared,
    out: Path | None,
    watch: RunWatch,
    embedded: Path | None = None,
    *,
    keep: bool = False,
    stop: StopRequest | None = None,
    shared: SharedLimits | None = None,
    unreadable_fails: bool = True,
) -> Outcome:
    """Ask, store, write, score.

    Args:
        prepared: what to ask of whom.
        out: the run directory; None for the first free one of this run's name.
        watch: called now and then with the status of the run, to show it.
        embedded: the weights of the model that is served in a child process instead of reached by URL.
        keep: keep a new directory also where the run failed without an answer.
        stop: asks the run from another thread to stop; it then ends as after Ctrl-C.
        shared: limits on spending and sending that other processes keep to as well.
        unreadable_fails: whether a model whose answers cannot be read is an error (exit code 5), not only a note.

    Raises:
        InputError: a directory or cache that cannot be used, a spending limit that could not hold, or a model without
            batches where they are wanted.
    """
    prepared = adopt_run(prepared, out)
    check_engine(prepared.client)
    listed = read_price_list()
    prices = prices_of(prepared.config.models, prepared.client, listed, prepared.config.params)
    if prepared.client.batch and not prepared.client.offline:
        for model in prepared.config.models:
            check_batches(model, prepared.client.endpoint_of(model))
    examples, edits = inputs_of(prepared.tasks, prepared.chosen)
    wanted = prepared.config.until_half_width
    looks = None if wanted is None else Looks(prepared, wanted)
    model_runs: list[ModelRun] = []
    with _explain_full_disk(model_runs), ExitStack() as stack:
        store, claims = open_cache(prepared.client, stack, prepared.config.models)
        if prepared.config.shard is not None and not prepared.client.offline:
            check_verdicts(prepared, store)
        keep = keep or not any(task.examples for task in prepared.tasks)  # an empty shard is a result too
        directory, state, account = _open_directory(prepared, out, stack, model_runs, keep=keep)
        if account is not None:
            settle_open(account, store, prices)
            account.check(limited=has_limit(prepared) and shared is None, stated=prepared.client.spent)
        run_directory.write_inputs(directory, examples, edits, prepared.prompts.directory, *shots_of(prepared.tasks))
        if prepared.whole is not None:
            run_directory.write_positions(directory, prepared.positions)
        facts = Facts(
            tasks=provenance.task_facts(prepared.tasks, prepared.chosen.edits, prepared.prompts),
            no_level_shots=provenance.no_level_shots(prepared.config, prepared.tasks, prepared.prompts),
        )
        record = run_record(prepared, facts, listed.version, hide_addresses=shared is not None)
        run_directory.write_run(directory, record)
        reporter = ProgressReporter(prepared, directory, watch)
        reporter.write([], "asking")
        stack.enter_context(reporter.record_errors(model_runs))
        trials = directory / run_directory.TRIALS
        with run_directory.writing(trials), LineWriter(trials) as lines:
            reporter.flush = lines.flush
            interrupted = asyncio.run(
                _ask_models(
                    prepared, store, claims, model_runs, lines, reporter, prices, embedded, stop, looks, shared, account
                )
            )
        reporter.write(model_runs, "scoring")
        capabilities = {
            (model_run.model.endpoint, model_run.model.model, style): value
            for model_run in model_runs
            for style, value in model_run.capabilities.items()
        }
        arms = provenance.arm_facts(prepared.config, prepared.tasks, prepared.prompts, capabilities)
        totals = totals_of(model_runs)
        unsent = totals.requests.unsent
        changes = {
            "facts": facts.model_copy(update={"arms": arms}),
            "complete": not interrupted and not is_unfinished(model_runs, unsent),
            "endpoints": tuple(endpoint_record(model_run) for model_run in model_runs),
            "trials": sum(model_run.written for model_run in model_runs),
            "stops": () if looks is None else looks.stops(),
            "totals": totals,
            "spending": () if account is None else account.ledger.spending(),
        }
        run_directory.write_run(directory, record.model_copy(update=changes))
        for model_run in model_runs:
            if model_run.estimate.missing:
                model_run.estimate.learn_lengths(store, model_run.model)
        warnings = tuple(cache_notes(store.warnings))
        for model_run in model_runs:
            model_run.release()
        scores = score(directory)
        run_directory.write_metrics(directory, scores.rows)
        lasting = directory if keep or state != "new" or has_answers(model_runs) else None
        code, errors = judge_run(prepared, model_runs, lasting, interrupted, unsent, unreadable_fails=unreadable_fails)
        reporter.write(model_runs, "stopped" if interrupted else "finished", " ".join(errors) or None, code)
    kept = directory if (directory / run_directory.RUN).exists() else None
    stopped = () if looks is None else stop_notes(looks.stops(), looks.wanted)
    unreadable = unreadable_notes(model_runs, fails=unreadable_fails)
    notes = (*run_notes(prepared, model_runs, state), *stopped, *unreadable, *warnings)
    return Outcome(kept, code, record.signature, scores, totals, notes, errors)


async def _ask_models(
    prepared: Prepared,
    store: Store,
    claims: Claims | None,
    model_runs: list[ModelRun],
    lines: LineWriter,
    reporter: ProgressReporter,
    prices: Prices,
    embedded: Path | None,
    stop: StopRequest | None,
    looks: Looks | None,
    shared: SharedLimits | None,
    account: Account | None,
) -> bool:
    """Ask all models at the same time; whether the run was interrupted. Appends to `model_runs`, writes to `lines`."""
    stopping = asyncio.Event()
    # looks are at the same examples in every process
    start = spread(claims.take_number()) if claims is not None and looks is None else 0.0
    async with AsyncExitStack() as stack:
        model_runs += build_model_runs(prepared, store, claims, prices, stopping, stack, embedded, shared, account)
        for model_run in model_runs:
            model_run.size = plan_size(prepared, model_run.model)
        if looks is not None:
            looks.members = list(model_runs)
        work = [_ask_model(prepared, store, model_run, lines, start, looks) for model_run in model_runs]
        return await run_models(model_runs, work, stopping, reporter.report, stop)


async def _ask_model(
    prepared: Prepared, store: Store, model_run: ModelRun, lines: LineWriter, start: float, looks: Looks | None
) -> None:
    """Ask one model's plan, beginning at this share of it, and write the trials; with `looks`, until they say so."""
    config = prepared.config

    check = model_run.readability

    def sent_as(arm: Arm) -> Capabilities:
        return model_run.capabilities[arm.style]

    def is_wanted(unit: Unit) -> bool:
        return not check.is_stopped(unit.arm)

    def units(examples: Examples = all_examples) -> Iterator[Unit]:
        planned = plan(prepared, model_run.model, sent_as, start, examples)
        return beginning_with(first, planned) if start else planned

    def lacking() -> Iterator[tuple[str, Request]]:
        older = prepared.client.older_names
        for unit in first:
            replies = [stored_reply(store.get, unit.dialogue(variant, config.retry), older) for variant in unit.asked]
            if None not in replies:
                check.add(unit, replies)
        for step in walk_units(filter(is_wanted, units()), prepared, store.get):
            if step.completion is None and step.certain:
                yield step.key, step.request

    def receive(unit: Unit, replies: list[Reply | None]) -> None:
        check.add(unit, replies)
        for trial in unit_trials(unit, replies, config.mention, config.min_label_mass):
            lines.write(trial.model_dump_json())
            model_run.written += 1
            model_run.count_trial(trial)

    async def ask(examples: Examples = all_examples) -> None:
        missing = model_run.estimate.add_missing
        await ask_units(model_run.pool, units(examples), config.retry, receive, missing, is_wanted)

    try:
        if not await settle_plan(model_run, prepared, store):
            return
        first = first_units(prepared, model_run.model, sent_as)
        check.begin(first)
        if model_run.batches is not None:
            from explaineval.execution.batches import submit

            await submit(prepared.client, store, model_run, model_run.batches, lacking)
            model_run.pool.stopping = asyncio.Event()  # nothing is sent from here on: read to the end what is paid for
        if looks is None:
            await ask()
        else:
            await ask_by_looks(looks, model_run, ask)
        await model_run.set_error(prepared.client)
    finally:
        if looks is not None:
            looks.leave(model_run)
        if not model_run.progress.complete:  # what the run never came to is part of its plan too
            model_run.progress.count_rest(model_run.size)
        model_run.ended = True


def _open_directory(
    prepared: Prepared, out: Path | None, stack: ExitStack, model_runs: list[ModelRun], *, keep: bool
) -> tuple[Path, str, Account | None]:
    """The run directory, made, locked and checked, what was in it before ("new": nothing), and the run's account there.

    Offline nothing is spent, so there is no account.

    It is the one asked for, else the first of this run's name that no other process is writing. A new one is removed
    when the stack is left, with the directories made for it, where the run has no answer by then, unless `keep`.
    """
    made: list[Path] = []
    state = ""
    account: Account | None = None

    def remove_unused() -> None:
        if state != "new" or keep or has_answers(model_runs):
            return
        if account is not None and account.ledger.purposes:
            return
        for path in directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        with suppress(OSError):  # another run has put something there meanwhile
            for path in made:
                path.rmdir()

    stack.callback(remove_unused)
    default = run_directory.default_directory(RUNS, date.today(), prepared.name)
    for number in count(1):
        directory = out or (default if number == 1 else default.with_name(f"{default.name}-{number}"))
        made = [path for path in (directory, *directory.parents) if not path.exists()]
        try:  # looking first and locking then would let two processes see the same free one
            stack.enter_context(run_directory.locked(directory))
        except InUseError:
            if out is not None:
                raise
        else:
            break
    state = run_directory.prepare(directory, prepared.science, *inputs_of(prepared.tasks, prepared.chosen))
    if not prepared.client.offline:
        account = Account(stack.enter_context(open_ledger(directory)), "run")
    return directory, state, account


def has_answers(model_runs: list[ModelRun]) -> bool:
    """Return whether there is an answer, or a failed attempt at one: then a new run directory is kept."""
    return any(model_run.answers or model_run.statuses for model_run in model_runs)


@contextmanager
def _explain_full_disk(model_runs: list[ModelRun]) -> Iterator[None]:
    """While inside, the sentence about the cache stands before that about another file on the same full disk."""
    try:
        yield
    except InputError as exc:
        unstored = model_runs[0].writer.message if model_runs else None
        if unstored is None or isinstance(exc, StoreError):
            raise
        raise StoreError(f"{unstored} {exc}") from exc
