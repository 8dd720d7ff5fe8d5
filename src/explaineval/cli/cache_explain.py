"""`explaineval cache explain`: why a run would ask again, by the nearest stored requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from explaineval.archive.bundle import asked_examples, client_of, prepared_from
from explaineval.cache import open_store
from explaineval.cli.configuration import resolve
from explaineval.cli.options import AT_LEAST_0, CACHE_OF_RUN, JSON, PATH, option, options
from explaineval.cli.output import finish
from explaineval.interventions import pattern_of
from explaineval.planning.cache_diff import Miss, MissReport, explain_misses
from explaineval.planning.notes import cache_notes
from explaineval.planning.prepare import Prepared, prepare
from explaineval.planning.requests import Examples
from explaineval.planning.units import all_examples
from explaineval.records import Intervention
from explaineval.rundir.directory import read_run
from explaineval.scoring.codes import note
from explaineval.text import agreeing, counted

SHOWN = 5


@click.command("explain")
@click.argument("target", type=PATH, metavar="RUN_DIR|CONFIG.yaml")
@options(
    CACHE_OF_RUN,
    option("--limit", type=AT_LEAST_0, default=SHOWN, show_default=True, help="Most requests that are explained."),
    JSON,
)
def explain_command(target: Path, cache: Path | None, limit: int, json: bool) -> int:
    """Show which requests of a run have no stored answer, and how they differ from the nearest stored ones.

    Nothing is asked and nothing is written. The run is that of a run directory or of a configuration file; the cache
    is the one named there, unless --cache names another.
    """
    prepared, examples = _prepare(target, cache)
    with open_store(prepared.client.cache, readonly=True) as store:
        explained = explain_misses(prepared, store, limit, examples)
        notes = list(cache_notes(store.warnings))
    if explained.assumed:
        notes.append(note("capabilities_assumed", "explaining"))
    document = _document(explained, target, prepared)
    return finish(document, _lines(explained, prepared.client.cache), notes, json=json)


def _prepare(target: Path, cache: Path | None) -> tuple[Prepared, Examples]:
    if target.is_dir():
        run = read_run(target)
        return prepared_from(target, client_of(run, cache)), asked_examples(run)
    science, client, _ = resolve(target, {"cache": cache, "offline": True})
    return prepare(science, client), all_examples


def _document(explained: MissReport, target: Path, prepared: Prepared) -> dict[str, object]:
    return {
        "target": str(target),
        "cache": str(prepared.client.cache),
        "distinct": explained.hits + explained.misses,
        "hits": explained.hits,
        "misses": explained.misses,
        "assumed": explained.assumed,
        "common": [asdict(difference) for difference in explained.common],
        "misses_in_common": explained.alike,
        "shown": [
            {
                **_request_fields(miss),
                "key": miss.step.key,
                "nearest": miss.key,
                "other_text": miss.foreign,
                "differences": [asdict(difference) for difference in miss.contrasts],
            }
            for miss in explained.shown
        ],
    }


def _request_fields(miss: Miss) -> dict[str, object]:
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


def _change(intervention: Intervention | None) -> str:
    """Return what an intervention changes, in words."""
    if intervention is None:
        return "unchanged"
    if intervention.fields is not None:
        return f"with another input ({', '.join(intervention.fields)})"
    pattern = pattern_of(intervention)
    return f"with {intervention.inserted!r}" if pattern is None else f"with {pattern.description}"


def _lines(explained: MissReport, cache: Path) -> Iterator[str]:
    total = explained.hits + explained.misses
    yield (
        f"{cache}: {explained.hits:,} of {counted(total, 'request')} {agreeing(explained.hits, 'have')} a "
        "stored answer, "
        f"{explained.misses:,} {agreeing(explained.misses, 'have')} none."
    )
    for number, miss in enumerate(explained.shown, start=1):
        fields = _request_fields(miss)
        change = _change(miss.step.intervention)
        yield (
            f"{number}. {fields['task']} {fields['example_id']}, {change}, sample {fields['sample']}: "
            f"{fields['model']}, {fields['style']} {fields['order']}, "
            f"{counted(miss.step.unit.arm.shots, 'shot')}, {fields['verbosity']}"
        )
        if miss.nearest is None:
            yield "   the cache holds no answer at all"
        elif miss.foreign:
            yield "   no stored request has this or nearly this text; compared with the most similar one:"
        for difference in miss.contrasts:
            yield f"   {difference.text}"
    if explained.misses > len(explained.shown) > 0:
        yield f"… and {explained.misses - len(explained.shown):,} more (--limit N shows them)."
    if explained.alike:
        differences = "; ".join(difference.text for difference in explained.common)
        who = f"{explained.alike:,} of {counted(explained.misses, 'miss')} {agreeing(explained.alike, 'differ')}"
        if explained.alike == explained.misses:
            who = f"All {explained.misses:,} misses differ" if explained.misses > 1 else "The miss differs"
        yield f"{who} from a stored request in the same way: {differences}."
