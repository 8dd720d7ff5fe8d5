"""`explaineval cache export` and `cache import`: answers as files that others can use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from explaineval.cache import Exported, Imported, Store, export_pack, import_pack, open_store, request_key
from explaineval.cli.cache import FILTERS, choosing
from explaineval.cli.options import CACHE, JSON, option, options
from explaineval.cli.output import echo, say, show_document
from explaineval.errors import InputError, StoreError
from explaineval.planning.notes import Note, cache_notes, note
from explaineval.planning.units import LONGER, RETRY_SAMPLES
from explaineval.records import Trial
from explaineval.rundir.directory import read_run, read_trials

SHOWN = 5
NEVER_STORED = ("rejected", "failed")
REFUSED = 2


@click.command("export")
@options(
    CACHE,
    option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="F", help="The pack."),
    option(
        "--run",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="RUN_DIR",
        help="Answers of this run only. Repeatable.",
    ),
    *FILTERS,
    JSON,
)
def export_command(
    cache: Path | None,
    out: Path,
    run: tuple[Path, ...],
    model: tuple[str, ...],
    endpoint: tuple[str, ...],
    json: bool,
) -> int:
    """Write answers into a pack: one gzipped file, the same bytes for the same answers, without any secret.

    Without a filter all answers go in. What is known of their endpoints comes along. From a damaged cache everything
    that can still be read is saved.
    """
    directory = cache or Path("cache")
    chosen = choosing(model, endpoint)
    with open_store(directory, readonly=True) as store:
        keys = _keys_of(run, store) if run else None
        found = export_pack(store, out, keys=keys, wanted=chosen)
        notes = list(cache_notes(store.warnings))
    notes += _export_notes(found, filtered=chosen is not None or keys is not None)
    say(notes)
    if json:
        document = {"directory": str(directory), "out": str(out), **asdict(found)}
        show_document(document, notes)
        return 0
    echo(f"{out}: {found.entries:,} answers, {found.verdicts:,} documents on endpoints, {found.bytes / 1e6:.1f} MB")
    return 0


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="F...")
@options(CACHE, JSON)
def import_command(files: tuple[Path, ...], cache: Path | None, json: bool) -> int:
    """Lay the answers of packs into a cache, which is made where there is none.

    Each answer is checked against its key. An answer that is there stays, also where the pack has another one. Exits 2
    where a line or a file was refused; the others are imported all the same.
    """
    directory = cache or Path("cache")
    with open_store(directory, repairing=True) as store:
        results = [(file, asyncio.run(_import(store, file))) for file in files]
        notes = list(cache_notes(store.warnings))
    say(notes)
    refused = [text for _, found in results for text in found.refused]
    notes += [note("line_refused", text) for text in refused]
    if json:
        listed = [{"file": str(file), **asdict(found)} for file, found in results]
        code = REFUSED if refused else 0
        show_document({"directory": str(directory), "files": listed}, notes, None, code, " ".join(refused))
    else:
        for file, found in results:
            echo(_import_line(file, found))
    say(refused)
    return REFUSED if refused else 0


async def _import(store: Store, file: Path) -> Imported:
    """What came of a file; one that cannot be read at all is refused as a whole."""
    try:
        return await import_pack(store, file)
    except StoreError:
        raise
    except InputError as exc:
        return Imported(0, 0, 0, (str(exc),), 0)


def _import_line(file: Path, found: Imported) -> str:
    refused = f", {len(found.refused)} refused" if found.refused else ""
    verdicts = f", {found.verdicts} documents on endpoints" if found.verdicts else ""
    return (
        f"{file}: {found.added:,} answers added{verdicts}, {found.present:,} present, {found.conflicting:,} "
        f"conflicting (the first answer stands){refused}"
    )


def _keys_of(runs: Sequence[Path], store: Store) -> set[str]:
    """The keys of the runs' answers, with those that were asked again."""
    keys: set[str] = set()
    for directory in runs:
        own = {key for trial in read_trials(directory) for key in _stored_keys(trial)}
        if read_run(directory).get("science", {}).get("fixed", {}).get("retry"):
            own |= set(_first_keys(own, store))
        keys |= own
    return keys


def _stored_keys(trial: Trial) -> Iterator[str]:
    """Keys under which there should be an answer: what was rejected or failed never had one."""
    unanswered = trial.status in NEVER_STORED
    for side, key in (("before", trial.key_before), ("after", trial.key_after)):
        if key and not (unanswered and trial.status_side in (side, "both")):
            yield key


def _first_keys(keys: set[str], store: Store) -> Iterator[str]:
    """Keys of stored answers that could not be scored and were asked again under one of `keys`."""
    for _, request, _ in store.iterate(keys):
        if request.sample >= RETRY_SAMPLES:
            for limit in (request.max_tokens, request.max_tokens // LONGER):
                first = {"sample": request.sample - RETRY_SAMPLES, "max_tokens": limit}
                key = request_key(request.model_copy(update=first))
                if store.contains(key):
                    yield key


def _export_notes(found: Exported, *, filtered: bool) -> Iterator[Note]:
    if found.missing:
        named = ", ".join(found.missing[:SHOWN])
        more = f" and {len(found.missing) - SHOWN:,} more" if len(found.missing) > SHOWN else ""
        told = f"{len(found.missing):,} answers of the run are not in the cache, so not in the pack: {named}{more}."
        yield note("answers_missing", told)
    if filtered and not found.entries:
        yield note("pack_empty", "no stored answer fits the filters: the pack is empty.")
