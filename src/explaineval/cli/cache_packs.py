"""`explaineval cache export` and `cache import`: stored answers as files that others can use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from explaineval.cache import (
    AnswerOrigin,
    Imported,
    PackContents,
    Store,
    export_pack,
    import_pack,
    open_store,
    request_key,
)
from explaineval.cli.cache import FILTERS, request_filter
from explaineval.cli.options import ADDRESSES, JSON, PATH, STORED, option, options
from explaineval.cli.output import finish
from explaineval.errors import ExitCode, InputError, StoreError
from explaineval.planning.notes import cache_notes
from explaineval.planning.requests import LONGER, RETRY_SAMPLES
from explaineval.records import Trial, storable_text
from explaineval.rundir.directory import check_ending, read_run, read_trials
from explaineval.scoring.codes import Note, note
from explaineval.text import agreeing, bytes_text, counted

SHOWN = 5
"""Missing keys that are printed."""

NEVER_STORED = ("rejected", "failed")


@click.command("export")
@options(
    STORED,
    option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="The pack."),
    option("--run", multiple=True, type=PATH, metavar="RUN_DIR", help="Answers of this run only. Repeatable."),
    *FILTERS,
    ADDRESSES,
    JSON,
)
def export_command(
    directory: Path,
    out: Path,
    run: tuple[Path, ...],
    model: tuple[str, ...],
    endpoint: tuple[str, ...],
    addresses: bool,
    json: bool,
) -> int:
    """Write answers into a pack: one gzipped file without secrets, the same bytes for the same answers.

    Without a filter all answers are written, and all that probes and runs found out about endpoints; with one, only
    what is known about the endpoints of these answers. From a damaged cache all that can still be read is written.
    """
    check_ending(out, "a pack", ".gz", ".jsonl")
    wanted = request_filter(model, endpoint)
    with open_store(directory, readonly=True) as store:
        keys = keys_of(run, store) if run else None
        exported = export_pack(store, out, keys=keys, wanted=wanted, addresses=addresses)
        notes = list(cache_notes(store.warnings))
    notes += _export_notes(exported, filtered=wanted is not None or keys is not None)
    counts = f"{_count(exported.entries, 'answer')}, {_count(exported.verdicts, 'document')} on endpoints"
    return finish(
        {"directory": str(directory), "out": str(out), **asdict(exported)},
        [f"{out}: {counts}, {bytes_text(exported.bytes)}"],
        notes,
        json=json,
    )


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="F...")
@options(STORED, JSON)
def import_command(files: tuple[Path, ...], directory: Path, json: bool) -> int:
    """Add the answers of packs to a cache, which is made if there is none.

    Each answer is checked against its key. Existing answers stay, even where a pack has a different one. Exit code 2 if
    a line or a file was refused; the others are imported all the same.
    """
    with open_store(directory, repairing=True) as store:
        results = [(file, asyncio.run(_import(store, file))) for file in files]
        notes = list(cache_notes(store.warnings))
    refused = [text for _, imported in results for text in imported.refused]
    return finish(
        {"directory": str(directory), "files": [{"file": str(file), **asdict(result)} for file, result in results]},
        (_import_line(file, result) for file, result in results),
        [*notes, *(note("line_refused", text=text) for text in refused)],
        json=json,
        code=ExitCode.BAD_INPUT if refused else ExitCode.DONE,
        message=" ".join(refused),
    )


LONGEST_NAME = 200
"""Characters of a pack's name that are stored beside its answers."""


async def _import(store: Store, file: Path) -> Imported:
    """Import one file; one that cannot be read at all is refused as a whole."""
    try:
        name, today = storable_text(file.name)[:LONGEST_NAME], datetime.now(UTC).date().isoformat()
        return await import_pack(store, file, AnswerOrigin(known=True, pack=name, imported=today))
    except StoreError:
        raise
    except InputError as exc:
        return Imported(0, 0, 0, (str(exc),), 0)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _import_line(file: Path, imported: Imported) -> str:
    refused = f", {len(imported.refused)} refused" if imported.refused else ""
    documents = f", {_count(imported.verdicts, 'document')} on endpoints" if imported.verdicts else ""
    added = f"{_count(imported.added, 'answer')} added{documents}"
    conflicting = f"{imported.conflicting:,} conflicting (the first answer stays)"
    return f"{file}: {added}, {imported.present:,} present, {conflicting}{refused}"


def keys_of(runs: Sequence[Path], store: Store) -> set[str]:
    """Return the keys of the runs' answers, including those that were asked again."""
    keys: set[str] = set()
    for directory in runs:
        own = {key for trial in read_trials(directory) for key in _stored_keys(trial)}
        if read_run(directory).config.retry:
            own |= set(_first_keys(own, store))
        keys |= own
    return keys


def _stored_keys(trial: Trial) -> Iterator[str]:
    """Yield the keys under which answers of a trial are stored: all but those that were rejected or failed."""
    unanswered = trial.status in NEVER_STORED
    for side, key in (("before", trial.key_before), ("after", trial.key_after)):
        if key and not (unanswered and trial.status_side in (side, "both")):
            yield key


def _first_keys(keys: set[str], store: Store) -> Iterator[str]:
    """Yield the keys of stored answers that could not be scored and were asked again under one of `keys`."""
    for _, request, _ in store.iterate(keys):
        if request.sample >= RETRY_SAMPLES:
            for limit in (request.max_tokens, request.max_tokens // LONGER):
                first = {"sample": request.sample - RETRY_SAMPLES, "max_tokens": limit}
                key = request_key(request.model_copy(update=first))
                if store.get(key) is not None:
                    yield key


def _export_notes(exported: PackContents, *, filtered: bool) -> Iterator[Note]:
    missing = exported.missing
    if missing:
        more = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        keys = f"{', '.join(missing[:SHOWN])}{more}"
        answers, are = counted(len(missing), "answer"), agreeing(len(missing), "are")
        yield note("answers_missing", "pack", answers=answers, are=are, keys=keys)
    if filtered and not exported.entries:
        yield note("pack_empty")
