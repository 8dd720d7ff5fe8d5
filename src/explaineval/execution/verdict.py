"""The verdict on a run: its exit code, the sentences that say why it is not 0, and the notes beside its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from explaineval.errors import ExitCode
from explaineval.execution.accounting import (
    bill_notes,
    endpoint_record,
    limit_error,
    offline_error,
    outage_notes,
    probe_notes,
)
from explaineval.execution.model_run import ModelRun
from explaineval.planning import provenance
from explaineval.planning.prepare import Prepared
from explaineval.scoring.codes import Note, find_origins, note, note_of
from explaineval.text import agreeing, counted


def is_unfinished(model_runs: list[ModelRun], unsent: int) -> bool:
    """Whether a request was not sent or stayed failed, or an endpoint was unusable."""
    return bool(unsent) or any(
        model_run.error is not None or model_run.progress.outcomes["failed"] for model_run in model_runs
    )


def judge_run(
    prepared: Prepared,
    model_runs: list[ModelRun],
    directory: Path | None,
    interrupted: bool,
    unsent: int,
    *,
    unreadable_fails: bool = True,
) -> tuple[ExitCode, tuple[str, ...]]:
    """The exit code, and the sentences that say why it is not 0.

    `directory` is the run directory, None where it is not kept. `unreadable_fails` says whether a model whose answers
    cannot be read is an error.
    """
    errors = list(dict.fromkeys(str(model_run.error) for model_run in model_runs if model_run.error is not None))
    failed = sum(model_run.progress.outcomes["failed"] for model_run in model_runs)
    if failed and not errors:
        errors.append(f"{counted(failed, 'request')} failed after all retries; the same command asks them again.")
    if unreadable_fails:
        for model_run in model_runs:
            errors += unreadable_sentences(model_run)
    codes = [ExitCode.ENDPOINT] if errors or failed else []

    def add(code: ExitCode, sentence: str | None) -> None:
        if sentence is not None:
            codes.append(code)
            errors.append(sentence)

    add(ExitCode.SPENDING_LIMIT, limit_error(model_runs, prepared.client.max_usd))
    add(ExitCode.NOT_STORED, offline_error(prepared, model_runs, directory))
    if any(model_run.budgeted is not None and model_run.budgeted.overdrawn for model_run in model_runs):
        codes.append(ExitCode.SPENDING_LIMIT)  # the error of the endpoint that sent the bill says so
    waiting = sum(model_run.cached.counts.in_batches for model_run in model_runs)
    if waiting:
        add(
            ExitCode.ENDPOINT,
            f"{counted(waiting, 'request', 'are')} in a batch that is not fetched yet, and were not asked "
            "again; the same command "
            "with --batch fetches them.",
        )
    writer = model_runs[0].writer
    if unsent or writer.unstored:
        add(ExitCode.BAD_INPUT, writer.message)
    if interrupted:
        given_up = sum(model_run.cached.counts.given_up for model_run in model_runs)
        more = (
            f", {counted(given_up, 'answer')} under way {agreeing(given_up, 'were')} not waited for (and may be "
            "charged)"
            if given_up
            else ""
        )
        add(
            ExitCode.INTERRUPTED,
            f"interrupted: {counted(unsent, 'request', 'were')} not sent{more}, and the numbers are those of "
            "the finished part; give "
            "the same command again to go on.",
        )
    return ExitCode.worst(codes), tuple(errors)


def unreadable_sentences(model_run: ModelRun) -> list[str]:
    """Why a model's answers cannot be used: it was stopped, or not one could be read."""
    if model_run.stops or model_run.error is not None:
        return model_run.stops
    return [] if model_run.unreadable is None else [model_run.unreadable]


def unreadable_notes(model_runs: list[ModelRun], *, fails: bool) -> Iterator[Note]:
    """What is to be told of answers that cannot be read, beside the errors; `fails`: whether they are among these."""
    for model_run in model_runs:
        if not fails:
            yield from (note("model_stopped", "told", text=sentence) for sentence in unreadable_sentences(model_run))
        yield from (model_run.readability.note(arm) for arm in model_run.unreadable_arms if not arm.stopped)


def run_notes(prepared: Prepared, model_runs: list[ModelRun], state: str) -> tuple[Note, ...]:
    """What is to be told beside the numbers; `state` says what was in the run directory before."""
    config = prepared.config
    notes = [note("directory_in_use", state=state)] if state != "new" else []
    for model_run in model_runs:
        notes += model_run.ledger.notes(model_run.model.model, config.max_tokens, config.arms.order)
        notes += probe_notes(model_run, config)
    notes += [note_of(found) for model_run in model_runs for found in find_origins(endpoint_record(model_run))]
    notes += bill_notes(model_runs)
    notes += outage_notes(model_runs)
    shared = sum(model_run.cached.counts.shared for model_run in model_runs)
    if shared:
        notes.append(note("answers_shared", answers=counted(shared, "answer")))
    lacking = provenance.no_level_shots(config, prepared.tasks, prepared.prompts)
    for task, level in dict.fromkeys((arm.task, arm.verbosity) for arm in lacking):
        notes.append(note("level_not_asked", task=task, level=level))
    return (*notes, *prepared.chosen.notes)
