"""`explaineval export` and `reproduce`: write a run for other programs or as a bundle; compute a bundle again."""

from __future__ import annotations

import json as json_module
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from explaineval.archive.bundle import Bundled, client_of, prepared_from, unpacked, write_bundle
from explaineval.archive.reproduce import Discrepancy, Reproduction, reproduce
from explaineval.cache import open_store
from explaineval.cli.options import ADDRESSES, CACHE_OF_RUN, JSON, PATH, NameChoice, option, options
from explaineval.cli.output import echo, echo_document, echo_scores, finish
from explaineval.errors import ExitCode
from explaineval.planning.notes import cache_notes
from explaineval.reporting.exports import BUNDLE, BUNDLE_SUFFIX, DEFAULT_TABLE, FORMATS, ExportRequest, format_of
from explaineval.reporting.exports.rows import TABLES
from explaineval.rundir.directory import check_ending, check_is_no_file_name, check_output, read_run
from explaineval.scoring.codes import Note, note
from explaineval.text import agreeing, bytes_text, counted

SHOWN = 20
"""Differences that are printed."""

LONGEST_VALUE = 100
"""Characters of a value that are printed."""


@click.command("export")
@click.argument("run_dir", type=PATH)
@options(
    option("--out", type=PATH, metavar="FILE", required=True, help="The file to write, or the directory."),
    option("--format", type=NameChoice([BUNDLE, *FORMATS], FORMATS), added=FORMATS.added,
           help="What to write.  [default: by the suffix of --out, else bundle]"),
    option("--rows", type=click.Choice(list(TABLES)),
           help=f"The rows of csv, parquet and jsonl.  [default: {DEFAULT_TABLE}]"),
    CACHE_OF_RUN,
    ADDRESSES,
    JSON,
)  # fmt: skip
def export_command(
    run_dir: Path, out: Path, format: str | None, rows: str | None, cache: Path | None, addresses: bool, json: bool
) -> int:
    """Write RUN_DIR for other programs, or bundle it with the answers behind its numbers for `explaineval reproduce`.

    \b
    bundle            F.zip     the run with its answers
    csv               F.csv     rows for spreadsheets, R and pandas (--rows)
    parquet           F.parquet rows with typed columns (--rows)
    jsonl             F.jsonl   rows as JSON lines (--rows)
    latex             F.tex     table of the first numbers; needs booktabs
    markdown          F.md      the same table
    card              F.md      data card with all hashes
    inspect           DIR       logs of Inspect AI, one per model, task and arm
    every-eval-ever   DIR       records of Every Eval Ever, one per model

    RUN_DIR may also be a bundle. A bundle holds inputs, prompts, answers and metrics. It holds no key, no name of an
    environment variable and no path of this machine; endpoints are given by name and base URL. The answers are taken
    from the run's own cache, unless --cache names another. docs/exports.md describes all formats.
    """
    check_output(out, run_dir)
    chosen = None if format == BUNDLE else format_of(format, out, rows)
    if chosen is None:
        check_ending(out, "a bundle", BUNDLE_SUFFIX, chosen=format is not None)
    elif chosen.suffix is not None:
        check_ending(out, chosen.title, chosen.suffix, chosen=format is not None)
    else:
        check_is_no_file_name(out)
    if chosen is None:
        return _bundle(run_dir, out, cache, json, addresses=addresses)
    with tempfile.TemporaryDirectory(prefix="explaineval-") as workshop:
        directory = unpacked(run_dir, Path(workshop) / BUNDLE)
        exported = chosen.write(ExportRequest(directory, rows or DEFAULT_TABLE, datetime.now(UTC)), out)
    size = sum(path.stat().st_size for path in exported.files)
    line = f"{out}: {exported.holds}, {bytes_text(size)}"
    document = {
        "file": str(out),
        "format": chosen.name,
        "rows": (rows or DEFAULT_TABLE) if chosen.of_rows else None,
        "files": [str(path) for path in exported.files],
        "bytes": size,
    }
    return finish(document, [line], json=json)


def _bundle(run_dir: Path, out: Path, cache: Path | None, json: bool, *, addresses: bool) -> int:
    """Bundle the run and the answers behind its numbers."""
    client = client_of(read_run(run_dir), cache)
    prepared = prepared_from(run_dir, client)
    with open_store(client.cache, readonly=True) as store:
        bundled = write_bundle(run_dir, prepared, store, out, addresses=addresses)
        notes = [*cache_notes(store.warnings), *_gaps(bundled)]
    line = f"{out}: {counted(bundled.answers, 'answer')}, {bytes_text(bundled.bytes)}"
    return finish({"file": str(out), **asdict(bundled)}, [line], notes, json=json)


def _gaps(bundled: Bundled) -> Iterator[Note]:
    """Yield notes on what the bundle lacks."""
    if not bundled.finished:
        yield note("run_unfinished")
    if bundled.missing:
        have = agreeing(bundled.missing, "have")
        yield note("answers_missing", "bundle", requests=counted(bundled.missing, "request"), have=have)


@click.command("reproduce")
@click.argument("bundle", type=PATH, metavar="F.zip")
@options(
    option("--out", type=PATH, metavar="DIR", help="Keep the recomputed run directory there."),
    JSON,
)
def reproduce_command(bundle: Path, out: Path | None, json: bool) -> int:
    """Compute a bundled run again from its answers, and compare every number with the bundle's, to the last digit.

    Nothing is sent and no key is needed. Exit code 6 if something differs or an answer is missing.
    """
    with tempfile.TemporaryDirectory(prefix="explaineval-") as directory:
        reproduction = reproduce(bundle, Path(directory), out)
    code = ExitCode.DONE if reproduction.identical else ExitCode.DIFFERENT
    scores, lines = reproduction.outcome.scores, list(_verdict(reproduction))
    if json:
        echo_document(_document(reproduction, out, code), (), scores, code, " ".join(lines))
        return code
    if scores.rows:
        echo_scores(scores, out or "RUN_DIR")
        echo()
    for line in lines:
        echo(line)
    if out is not None:
        echo(f"Run directory: {out}")
    return code


def _document(reproduction: Reproduction, out: Path | None, code: int) -> dict[str, object]:
    return {
        "identical": reproduction.identical,
        "exit_code": code,
        "run_dir": None if out is None else str(out),
        "metrics_compared": reproduction.metrics,
        "missing": reproduction.missing,
        "extra_trials": reproduction.extra_trials,
        "refused": list(reproduction.refused),
        "trials_identical": reproduction.same_trials,
        "only_version_differs": reproduction.only_version,
        "differences": [asdict(difference) for difference in reproduction.differences],
        "versions": [
            {"package": package, "bundled": bundled, "here": here} for package, bundled, here in reproduction.versions
        ],
        "metrics": [row.model_dump(mode="json") for row in reproduction.outcome.scores.rows],
    }


def _verdict(reproduction: Reproduction) -> Iterator[str]:
    """Yield the result of the comparison, most important first."""
    count, differences, versions = reproduction.metrics, reproduction.differences, reproduction.versions
    if reproduction.identical:
        yield f"{count} metrics identical to the last digit, computed again from the answers."
        return
    if reproduction.missing:
        yield (
            f"{counted(reproduction.missing, 'answer', 'are')} missing from the bundle, so not all of the run "
            "can be computed."
        )
    if reproduction.refused:
        refused = reproduction.refused
        yield (
            f"{counted(len(refused), 'line')} of the bundle's answers {agreeing(len(refused), 'were')} not "
            f"used, for example {refused[0]}"
        )
    if reproduction.only_version:
        version = next((bundled for package, bundled, _ in versions if package == "explaineval"), "another")
        yield (
            f"The {count} metrics are equal in every digit; only their signatures differ, in the version of "
            f"explaineval ({version} in the bundle)."
        )
    elif differences:
        differences = tuple(difference for difference in differences if not difference.is_version)
        yield f"{len({difference.row for difference in differences})} of {count} metrics differ:"
        yield from (f"  {_describe(difference)}" for difference in differences[:SHOWN])
        if len(differences) > SHOWN:
            yield f"  … and {len(differences) - SHOWN} more differences (--json lists all)."
    elif not reproduction.same_bytes:
        yield "The metrics are equal, but the bundle's metrics.json is written or ordered differently."
    if reproduction.same_bytes and not reproduction.same_trials:
        yield f"The {count} metrics are identical, but trials.jsonl is not what the answers give."
    if reproduction.extra_trials:
        yield (
            f"{counted(reproduction.extra_trials, 'trial')} of the bundle "
            f"{agreeing(reproduction.extra_trials, 'are')} about examples that no "
            "intervention changes and "
            "that this version does not ask about: they were compared as they stand in the bundle."
        )
    if versions:
        texts = (f"{package} {bundled} in the bundle and {here} here" for package, bundled, here in versions)
        yield f"Different versions: {', '.join(texts)}."


def _describe(difference: Discrepancy) -> str:
    bundled, recomputed = _shorten(difference.bundled), _shorten(difference.recomputed)
    return f"{difference.row}: {difference.name} {bundled} in the bundle, {recomputed} computed"


def _shorten(value: object) -> str:
    text = json_module.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
