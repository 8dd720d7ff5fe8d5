"""`explaineval run`: ask models, store every answer, score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from explaineval.cli.configuration import resolve
from explaineval.cli.options import PATH, RUN, TABLE, GroupedCommand, options, repeated
from explaineval.cli.output import (
    SCREEN_WIDTH,
    columns,
    echo,
    echo_document,
    echo_notes,
    echo_scores,
    echo_text,
    run_document,
    totals_line,
)
from explaineval.cli.progress import new_notes, watch_run
from explaineval.config import ClientConfig, RunConfig
from explaineval.errors import ExitCode
from explaineval.execution.run import execute
from explaineval.planning.prepare import key_notes, prepare
from explaineval.scoring.codes import note

LEGEND_WIDTH = 100


@click.command(cls=GroupedCommand)
@click.argument("config", required=False, type=PATH, metavar="[CONFIG.yaml]")
@options(*RUN, TABLE)
def run(config: Path | None, json: bool, table: bool, **given: Any) -> int:
    """Ask models with and without interventions, store every answer, and score.

    Example: explaineval run --task nli --model openai/gpt-4o-mini --limit 50 --max-usd 1

    What to ask is given by CONFIG.yaml, by options, or by both (options win). The same command again continues where
    it stopped and asks nothing twice.
    """
    science, client, out = resolve(config, given)
    return execute_and_print(science, client, out, json=json, table=table)


def execute_and_print(
    science: RunConfig,
    client: ClientConfig,
    out: Path | None,
    *,
    json: bool,
    table: bool,
    weights: Path | None = None,
    report: bool = False,
    unreadable_fails: bool = True,
) -> int:
    """Run and print the result.

    Args:
        science: what is asked of whom.
        client: how endpoints are reached.
        out: the run directory; None for one named for date and content.
        json: print one document instead of text.
        table: print the wide table instead of sentences.
        weights: those of the embedded model, if it is asked.
        report: write the report into the run directory, where the run came to its end.
        unreadable_fails: whether a model whose answers cannot be read is an error.
    """
    prepared = prepare(science, client, out)
    notes = [note("option_repeated", text=text) for text in repeated(click.get_current_context())]
    if weights is None:
        notes += key_notes(prepared.config, prepared.client)
    echo_notes(notes)
    with watch_run() as watch:
        outcome = execute(prepared, out, watch, weights, unreadable_fails=unreadable_fails)
    echo_notes(new_notes(outcome.notes))
    code, scores = outcome.exit_code, outcome.scores
    page = None
    if report and outcome.directory is not None and code == ExitCode.DONE:
        from explaineval.cli.report import REPORT, figure_notes, write_report

        page = outcome.directory / REPORT
        missing = figure_notes(write_report([outcome.directory], page).figures)
        echo_notes(missing)
        notes += missing
    if json:
        document = run_document(outcome.directory, code, outcome.signature, outcome.totals, scores)
        if report:
            document["report"] = None if page is None else str(page)
        echo_document(document, (*notes, *outcome.notes), scores, code, " ".join(outcome.errors))
    else:
        if scores.rows:
            echo_scores(scores, outcome.directory, table=table)
            echo()
        if weights is not None and table:
            from explaineval.reporting.tables import legend

            echo_text(legend(), min(LEGEND_WIDTH, columns()))
        echo_text(totals_line(outcome.totals), columns(SCREEN_WIDTH))
        if outcome.directory is not None:
            echo(f"Run directory: {outcome.directory}")
        if page is not None:
            echo(f"Report: {page}")
            echo(f"Open it in a browser: {page.resolve().as_uri()}")
    echo_notes(outcome.errors)
    return code
