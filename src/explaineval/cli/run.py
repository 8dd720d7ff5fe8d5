"""`explaineval run` and `explaineval demo`: ask models, store every answer, score."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import click

from explaineval.cli.configuration import resolve
from explaineval.cli.options import AT_LEAST_1, CACHE, JSON, OUT, PATH, RUN, TABLE, option, options, repeated
from explaineval.cli.output import (
    SCREEN_WIDTH,
    columns,
    echo,
    echo_document,
    echo_notes,
    echo_scores,
    run_document,
    totals_line,
)
from explaineval.cli.progress import watch_run
from explaineval.config import ArmConfig, ClientConfig, ModelConfig, RunConfig
from explaineval.config.client_config import EndpointConfig
from explaineval.execution.run import execute
from explaineval.planning.notes import note
from explaineval.planning.prepare import prepare

DEMO_TASK = "sense"
DEMO_EXAMPLES = 30
DEMO_CONNECTIONS = 1
LEGEND_WIDTH = 100


@click.command()
@click.argument("config", required=False, type=PATH, metavar="[CONFIG.yaml]")
@options(*RUN, TABLE)
def run(config: Path | None, json: bool, table: bool, **given: Any) -> int:
    """Ask models with and without interventions, store every answer, and score.

    What to ask is given by CONFIG.yaml, by options, or by both (options win). The same command again continues where
    it stopped and asks nothing twice.
    """
    science, client, out = resolve(config, given)
    return _execute(science, client, out, json=json, table=table)


@click.command()
@options(
    option("--weights", type=PATH, metavar="FILE.gguf", help="Another model in GGUF format."),
    option("--limit", type=AT_LEAST_1, default=DEMO_EXAMPLES, show_default=True, help="Number of examples."),
    CACHE,
    OUT,
    TABLE,
    JSON,
)
def demo(weights: Path | None, limit: int, cache: Path | None, out: Path | None, table: bool, json: bool) -> int:
    """Measure SmolLM2-135M on a bundled task, from prompts to numbers, on this machine: no network, no key.

    A llama.cpp server is started, unless all answers are in the cache, and stopped at the end.
    """
    from explaineval.client.endpoints.llamacpp import EMBEDDED_MODEL, find_weights, weights_name

    file = find_weights(weights)
    endpoint = weights_name(file)
    model = EMBEDDED_MODEL if weights is None else f"openai/{file.stem}"
    science = RunConfig(
        tasks=(DEMO_TASK,),
        models=(ModelConfig(model=model, endpoint=endpoint),),
        arms=ArmConfig(order=("ep",), style=("completion",)),
        limit=limit,
        max_tokens=96,
    )
    client = ClientConfig(
        endpoints={endpoint: EndpointConfig(base_url="http://127.0.0.1", max_connections=DEMO_CONNECTIONS)},
        **({} if cache is None else {"cache": cache}),
    )
    return _execute(science, client, out, json=json, table=table, weights=file)


def _execute(
    science: RunConfig, client: ClientConfig, out: Path | None, *, json: bool, table: bool, weights: Path | None = None
) -> int:
    """Run and print the result; `weights` are those of the embedded model, if it is asked."""
    prepared = prepare(science, client)
    notes = [note("option_repeated", text) for text in repeated(click.get_current_context())]
    echo_notes(notes)
    with watch_run() as watch:
        outcome = execute(prepared, out, watch, weights)
    echo_notes(outcome.notes)
    code, scores = outcome.exit_code, outcome.scores
    if json:
        document = run_document(outcome.directory, code, outcome.signature, outcome.totals, scores)
        echo_document(document, (*notes, *outcome.notes), scores, code, " ".join(outcome.errors))
    else:
        if scores.rows:
            echo_scores(scores, outcome.directory, table=table)
            echo()
        if weights is not None and table:
            from explaineval.reporting.tables import legend

            echo(textwrap.fill(legend(), min(LEGEND_WIDTH, columns()), break_on_hyphens=False))
        echo(textwrap.fill(totals_line(outcome.totals), columns(SCREEN_WIDTH), break_on_hyphens=False))
        if outcome.directory is not None:
            echo(f"Run directory: {outcome.directory}")
    echo_notes(outcome.errors)
    return code
