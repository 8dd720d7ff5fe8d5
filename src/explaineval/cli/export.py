"""`explaineval export` and `explaineval reproduce`: a run with its answers in one file, and its numbers proved."""

from __future__ import annotations

import json as json_module
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from explaineval.archive.bundle import Bundled, write_bundle
from explaineval.archive.reproduce import Difference, Reproduction, reproduce
from explaineval.archive.restore import client_of, prepared_from
from explaineval.cache import open_store
from explaineval.cli.options import CACHE, JSON, option, options
from explaineval.cli.output import echo, say, show_document, show_scores
from explaineval.planning.notes import Note, cache_notes, note
from explaineval.rundir.directory import read_run

DIFFERENT = 6
SHOWN = 20


@click.command("export")
@click.argument("run_dir", type=click.Path(path_type=Path))
@options(
    option("--out", type=click.Path(path_type=Path), metavar="F.zip", required=True, help="The file to write."),
    CACHE,
    JSON,
)
def export_command(run_dir: Path, out: Path, cache: Path | None, json: bool) -> int:
    """Bundle RUN_DIR with the answers its numbers rest on, in one file that `explaineval reproduce` takes.

    The file holds inputs, prompts, answers and metrics. It holds no key, no name of an environment variable and no
    path of this machine; endpoints stand in it by name and base URL. The answers are taken from the run's own cache,
    unless --cache names another.
    """
    client = client_of(read_run(run_dir), cache)
    prepared = prepared_from(run_dir, client)
    with open_store(client.cache, readonly=True) as store:
        made = write_bundle(run_dir, prepared, store, out)
        notes = [*cache_notes(store.warnings), *_lacks(made)]
    say(notes)
    if json:
        show_document({"file": str(out), **asdict(made)}, notes)
    else:
        echo(f"{out}: {made.answers:,} answers, {made.bytes / 1e6:.1f} MB")
    return 0


def _lacks(made: Bundled) -> Iterator[Note]:
    if not made.finished:
        told = "this run was not finished: the bundle holds its finished part; give the run command again, then export."
        yield note("run_unfinished", told)
    if made.missing:
        told = (
            f"{made.missing:,} requests of this run have no stored answer (never sent, rejected, failed, or in another "
            "cache: --cache DIR): reproduce will say so."
        )
        yield note("answers_missing", told)


@click.command("reproduce")
@click.argument("bundle", type=click.Path(path_type=Path), metavar="F.zip")
@options(
    option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Keep the recomputed run directory there."),
    JSON,
)
def reproduce_command(bundle: Path, out: Path | None, json: bool) -> int:
    """Compute a bundled run again from its answers, and compare every number with the bundle's, to the last digit.

    Nothing is sent and no key is needed. Exit code 6 where something differs or an answer is missing.
    """
    with tempfile.TemporaryDirectory(prefix="explaineval-") as workshop:
        found = reproduce(bundle, Path(workshop), out)
    code = 0 if found.identical else DIFFERENT
    if json:
        show_document(_document(found, out, code), (), found.outcome.scores, code, " ".join(_verdict(found)))
        return code
    if found.outcome.scores.rows:
        show_scores(found.outcome.scores)
        echo()
    for line in _verdict(found):
        echo(line)
    if out is not None:
        echo(f"Run directory: {out}")
    return code


def _document(found: Reproduction, out: Path | None, code: int) -> dict[str, object]:
    return {
        "identical": found.identical,
        "exit_code": code,
        "run_dir": None if out is None else str(out),
        "metrics_compared": found.metrics,
        "missing": found.missing,
        "refused": list(found.refused),
        "trials_identical": found.same_trials,
        "only_version_differs": bool(found.differences) and found.only_version,
        "differences": [asdict(one) for one in found.differences],
        "versions": [{"package": name, "bundled": then, "here": now} for name, then, now in found.versions],
        "metrics": [row.model_dump(mode="json") for row in found.outcome.scores.rows],
    }


def _verdict(found: Reproduction) -> Iterator[str]:
    if found.identical:
        yield f"{found.metrics} metrics identical to the last digit, computed again from the answers."
        return
    if found.missing:
        yield f"{found.missing:,} answers are missing from the bundle, so the run cannot be computed again as a whole."
    if found.refused:
        yield f"{len(found.refused)} lines of the bundle's pack were not used, for example {found.refused[0]}"
    if found.differences and found.only_version:
        then = next((old for name, old, _ in found.versions if name == "explaineval"), "another")
        yield (
            f"The {found.metrics} metrics are equal in every digit; their signatures alone differ, in the version of "
            f"explaineval ({then} there)."
        )
    elif found.differences:
        rows = len({one.row for one in found.differences})
        yield f"{rows} of {found.metrics} metrics differ:"
        yield from (f"  {_told(one)}" for one in found.differences[:SHOWN])
        if len(found.differences) > SHOWN:
            yield f"  … and {len(found.differences) - SHOWN} more differences (--json lists all)."
    elif not found.same_bytes:
        yield "The metrics are equal, but the bundle's metrics.json is written or ordered in another way."
    if found.same_bytes and not found.same_trials:
        yield f"The {found.metrics} metrics are identical, but trials.jsonl is not what the answers give."
    if found.versions:
        told = ", ".join(f"{name} {then} there and {now} here" for name, then, now in found.versions)
        yield f"Other versions: {told}."


def _told(one: Difference) -> str:
    return f"{one.row}: {one.name} {_plain(one.bundled)} in the bundle, {_plain(one.recomputed)} computed"


def _plain(value: object) -> str:
    text = json_module.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:99] + "…"
