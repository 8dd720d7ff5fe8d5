"""The whole of a run: configuration → plan → execute → score."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from itertools import count
from pathlib import Path

from explaineval.cache import Claims, Store, spread
from explaineval.client.batches.providers import check_batches
from explaineval.client.protocol import SharedLimits
from explaineval.client.ray_workers import check_engine
from explaineval.datasets import shots_of
from explaineval.errors import ExitCode, InputError, InUseError, StoreError
from explaineval.execution.model_run import ModelRun, check_verdicts, embedded_transports
from explaineval.execution.outcome import (
    endpoint_record,
    has_limit,
    is_complete,
    run_ending,
    run_notes,
    run_record,
    settle_open,
    totals_of,
    unreadable_notes,
)
from explaineval.execution.pool import StopRequest
from explaineval.execution.progress import ProgressReporter, RunWatch
from explaineval.execution.session import Sessions, open_cache
from explaineval.execution.stopping import Looks, stop_notes
from explaineval.files import LineWriter
from explaineval.planning import provenance
from explaineval.planning.cost import prices_of, read_price_list
from explaineval.planning.notes import cache_notes
from explaineval.planning.prepare import Prepared, adopt_run, inputs_of
from explaineval.rundir import directory as run_directory
from explaineval.rundir.ledger import Account, open_ledger
from explaineval.rundir.schema import Facts, RunRecord, Totals
from explaineval.scoring.codes import Note
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
    run = ActiveRun(adopt_run(prepared, out), out, watch, embedded, keep=keep, stop=stop, shared=shared)
    return run.execute(unreadable_fails=unreadable_fails)


class ActiveRun:
    """One run as it goes: its directory, the models that it asks, its progress, and how it ends.

    The arguments are those of `execute`.
    """

    def __init__(
        self,
        prepared: Prepared,
        out: Path | None,
        watch: RunWatch,
        embedded: Path | None,
        *,
        keep: bool,
        stop: StopRequest | None,
        shared: SharedLimits | None,
    ) -> None:
        check_engine(prepared.client)
        self.prepared, self.config, self.client = prepared, prepared.config, prepared.client
        listed = read_price_list()
        self.price_version = listed.version
        self.prices = prices_of(self.config.models, self.client, listed, self.config.params)
        if self.client.batch and not self.client.offline:
            for model in self.config.models:
                check_batches(model.model, self.client.endpoint_of(model))
        wanted = self.config.until_half_width
        self.looks = None if wanted is None else Looks(prepared, wanted)
        self.keep = keep or not any(task.examples for task in prepared.tasks)  # an empty shard is a result too
        self.models: Sequence[ModelRun] = ()
        """The models that are asked, once asking has begun."""
        self.state = ""
        """What was in the directory before; "new" for nothing."""
        self.account: Account | None = None
        """Books what is spent; offline that is nothing, so there is none."""
        self._out, self._watch, self._embedded, self._stop, self._shared = out, watch, embedded, stop, shared

    def execute(self, *, unreadable_fails: bool) -> Outcome:
        """Ask, store, write, score."""
        with self._explain_full_disk(), ExitStack() as stack:
            store, claims = stack.enter_context(open_cache(self.client, self.config.models))
            if self.config.shard is not None and not self.client.offline:
                check_verdicts(self.prepared, store)
            directory = self._open_directory(stack)
            self._open_account(directory, store, stack)
            record = self._write_inputs(directory)
            reporter = ProgressReporter(self.prepared, directory, self._watch)
            reporter.write((), "asking")
            with self._report_errors(reporter):
                interrupted = self._ask(directory, store, claims, reporter)
                reporter.write(self.models, "scoring")
                totals = self._write_record(directory, record, interrupted=interrupted)
                warnings = self._release(store)
                scores = score(directory)
                run_directory.write_metrics(directory, scores.rows)
                code, errors = run_ending(
                    self.prepared,
                    self.models,
                    directory if self._is_kept else None,
                    interrupted=interrupted,
                    unreadable_fails=unreadable_fails,
                )
                reporter.write(self.models, "stopped" if interrupted else "finished", " ".join(errors) or None, code)
        kept = directory if (directory / run_directory.RUN).exists() else None
        stopped = () if self.looks is None else stop_notes(self.looks.stops(), self.looks.wanted)
        unreadable = unreadable_notes(self.models, fails=unreadable_fails)
        notes = (*run_notes(self.prepared, self.models, self.state), *stopped, *unreadable, *warnings)
        return Outcome(kept, code, record.signature, scores, totals, notes, errors)

    def _ask(self, directory: Path, store: Store, claims: Claims | None, reporter: ProgressReporter) -> bool:
        """Ask all models at the same time and write their trials; whether the run was interrupted."""
        # looks are at the same examples in every process
        start = spread(claims.take_number()) if claims is not None and self.looks is None else 0.0
        trials = directory / run_directory.TRIALS

        async def ask(lines: LineWriter) -> bool:
            transports = embedded_transports(self.prepared, self._embedded)
            async with Sessions(
                self.client,
                self.config.models,
                self.prices,
                store,
                claims,
                transports=transports,
                shared=self._shared,
                account=self.account,
            ) as sessions:
                self.models = [
                    ModelRun(self.prepared, session, lines, start, self.looks, transports.get(session.model.endpoint))
                    for session in sessions.models
                ]
                work = [model_run.ask() for model_run in self.models]
                return await sessions.ask(work, lambda: reporter.report(self.models, lines.flush), self._stop)

        with run_directory.writing(trials), LineWriter(trials) as lines:
            return asyncio.run(ask(lines))

    def _open_directory(self, stack: ExitStack) -> Path:
        """Return the run directory, made, locked and checked, and note what was in it before.

        It is the one asked for, else the first of this run's name that no other process is writing. A new one is
        removed when the stack is left, with the directories made for it, unless it is kept.
        """
        made: list[Path] = []

        def remove_unused() -> None:
            if self.state != "new" or self._is_kept or (self.account is not None and self.account.ledger.purposes):
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
        default = run_directory.default_directory(RUNS, date.today(), self.prepared.name)
        for number in count(1):
            directory = self._out or (default if number == 1 else default.with_name(f"{default.name}-{number}"))
            made = [path for path in (directory, *directory.parents) if not path.exists()]
            try:  # looking first and locking then would let two processes see the same free one
                stack.enter_context(run_directory.locked(directory))
            except InUseError:
                if self._out is not None:
                    raise
            else:
                break
        inputs = inputs_of(self.prepared.tasks, self.prepared.chosen)
        self.state = run_directory.prepare(directory, self.prepared.science, *inputs)
        return directory

    def _open_account(self, directory: Path, store: Store, stack: ExitStack) -> None:
        """Open the account of what is spent in the directory, and settle what an earlier process left open there."""
        if self.client.offline:
            return
        self.account = Account(stack.enter_context(open_ledger(directory)), "run")
        settle_open(self.account, store, self.prices)
        limited = has_limit(self.client, self.config.models) and self._shared is None
        self.account.check(limited=limited, stated=self.client.spent)

    def _write_inputs(self, directory: Path) -> RunRecord:
        """Write what is known before the first request, and return the record of it."""
        prepared = self.prepared
        examples, edits = inputs_of(prepared.tasks, prepared.chosen)
        run_directory.write_inputs(directory, examples, edits, prepared.prompts.directory, *shots_of(prepared.tasks))
        if prepared.whole is not None:
            run_directory.write_positions(directory, prepared.positions)
        facts = Facts(
            tasks=provenance.task_facts(prepared.tasks, prepared.chosen.edits, prepared.prompts),
            no_level_shots=provenance.no_level_shots(self.config, prepared.tasks, prepared.prompts),
        )
        record = run_record(prepared, facts, self.price_version, hide_addresses=self._shared is not None)
        run_directory.write_run(directory, record)
        return record

    def _write_record(self, directory: Path, record: RunRecord, *, interrupted: bool) -> Totals:
        """Write what came of the run into its record, and return the totals."""
        sessions = [model_run.session for model_run in self.models]
        capabilities = {
            (session.model.endpoint, session.model.model, style): value
            for session in sessions
            for style, value in session.capabilities.items()
        }
        arms = provenance.arm_facts(self.config, self.prepared.tasks, self.prepared.prompts, capabilities)
        totals = totals_of(sessions)
        changes = {
            "facts": record.facts.model_copy(update={"arms": arms}),
            "complete": not interrupted and is_complete(sessions),
            "endpoints": tuple(endpoint_record(model_run) for model_run in self.models),
            "trials": sum(model_run.written for model_run in self.models),
            "stops": () if self.looks is None else self.looks.stops(),
            "totals": totals,
            "spending": () if self.account is None else self.account.ledger.spending(),
        }
        run_directory.write_run(directory, record.model_copy(update=changes))
        return totals

    def _release(self, store: Store) -> tuple[Note, ...]:
        """Give back the memory that only asking needs; returns what is to be told of the cache."""
        for model_run in self.models:
            if model_run.session.estimate.missing:
                model_run.session.estimate.learn_lengths(store, model_run.model)
        warnings = tuple(cache_notes(store.warnings))
        for model_run in self.models:
            model_run.release()
        return warnings

    @property
    def _is_kept(self) -> bool:
        """Whether the directory is kept, since there is an answer, a failed attempt at one, or an earlier run in it."""
        answered = any(model_run.session.answers or model_run.statuses for model_run in self.models)
        return self.keep or answered or self.state != "new"

    @contextmanager
    def _report_errors(self, reporter: ProgressReporter) -> Iterator[None]:
        """Write that the run failed, and why, where the block ends with an exception."""
        try:
            yield
        except BaseException as exc:
            reporter.write(self.models, "failed", str(exc) or type(exc).__name__)
            raise

    @contextmanager
    def _explain_full_disk(self) -> Iterator[None]:
        """While inside, the sentence about the cache stands before that about another file on the same full disk."""
        try:
            yield
        except InputError as exc:
            unstored = self.models[0].session.writer.message if self.models else None
            if unstored is None or isinstance(exc, StoreError):
                raise
            raise StoreError(f"{unstored} {exc}") from exc
