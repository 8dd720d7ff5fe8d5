"""`explaineval cache explain`: why a run would ask again, by the stored requests nearest to what it would ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from explaineval.archive.restore import client_of, prepared_from
from explaineval.cache import open_store
from explaineval.cli.options import AT_LEAST_0, CACHE, JSON, option, options, resolve
from explaineval.cli.output import echo, say, show_document
from explaineval.planning.cache_diff import Explained, Miss, explain_misses
from explaineval.planning.notes import cache_notes, note
from explaineval.planning.prepare import Prepared, prepare
from explaineval.rundir.directory import read_run

SHOWN = 5


@click.command("explain")
@click.argument("target", type=click.Path(path_type=Path), metavar="RUN_DIR|CONFIG.yaml")
@options(
    CACHE,
    option("--limit", type=AT_LEAST_0, default=SHOWN, show_default=True, help="Misses that are explained."),
    JSON,
)
def explain_command(target: Path, cache: Path | None, limit: int, json: bool) -> int:
    """Say which requests of a run have no stored answer, and in what they differ from the nearest stored ones.

    Nothing is asked and nothing is written. The run is that of a run directory, or of a configuration file; the cache
    is the one named there, unless --cache names another.
    """
    prepared = _prepared(target, cache)
    with open_store(prepared.client.cache, readonly=True) as store:
        found = explain_misses(prepared, store, limit)
        notes = list(cache_notes(store.warnings))
    if found.assumed:
        told = "no run or probe has settled yet how an endpoint is to be asked: logprobs and temperature are assumed."
        notes.append(note("capabilities_assumed", told))
    say(notes)
    if json:
        show_document(_document(found, target, prepared), notes)
        return 0
    for line in _lines(found, prepared.client.cache):
        echo(line)
    return 0


def _prepared(target: Path, cache: Path | None) -> Prepared:
    if target.is_dir():
        return prepared_from(target, client_of(read_run(target), cache))
    science, transport, _ = resolve(target, {"cache": cache})
    return prepare(science, transport)


def _document(found: Explained, target: Path, prepared: Prepared) -> dict[str, object]:
    return {
        "target": str(target),
        "cache": str(prepared.client.cache),
        "distinct": found.hits + found.misses,
        "hits": found.hits,
        "misses": found.misses,
        "assumed": found.assumed,
        "common": [asdict(one) for one in found.common],
        "misses_in_common": found.alike,
        "shown": [
            {
                **_place(miss),
                "key": miss.step.key,
                "nearest": miss.key,
                "other_text": miss.foreign,
                "differences": [asdict(one) for one in miss.contrasts],
            }
            for miss in found.shown
        ],
    }


def _place(miss: Miss) -> dict[str, object]:
    unit, edit = miss.step.unit, miss.step.intervention
    return {
        "endpoint": unit.model.endpoint,
        "model": unit.model.model,
        "task": unit.task.name,
        "order": unit.arm.order,
        "style": unit.arm.style,
        "shots": unit.arm.shots,
        "verbosity": unit.arm.verbosity,
        "example_id": unit.example.id,
        "intervention_id": None if edit is None else edit.id,
        "inserted": None if edit is None else edit.inserted,
        "sample": miss.step.request.sample,
    }


def _lines(found: Explained, cache: Path) -> Iterator[str]:
    total = found.hits + found.misses
    yield f"{cache}: {found.hits:,} of {total:,} requests have a stored answer, {found.misses:,} have none."
    for number, miss in enumerate(found.shown, start=1):
        place = _place(miss)
        what = "unchanged" if place["inserted"] is None else f"with {place['inserted']!r}"
        yield (
            f"{number}. {place['task']} {place['example_id']}, {what}, sample {place['sample']}: {place['model']}, "
            f"{place['style']} {place['order']}, {place['shots']} shots, {place['verbosity']}"
        )
        if miss.nearest is None:
            yield "   the cache holds no answer at all"
        elif miss.foreign:
            yield "   no stored request has this text, or nearly; the most similar one:"
        for one in miss.contrasts:
            yield f"   {one.text}"
    if found.misses > len(found.shown) > 0:
        yield f"… and {found.misses - len(found.shown):,} more (--limit N shows them)."
    if found.alike:
        which = "All" if found.alike == found.misses else f"{found.alike:,} of"
        told = "; ".join(one.text for one in found.common)
        yield f"{which} {found.misses:,} misses differ from a stored request in the same way: {told}."
