"""`explaineval run` and `explaineval demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from explaineval.cli.options import (
    AT_LEAST_1,
    CACHE,
    HOW,
    INTERVAL,
    JSON,
    MONEY,
    OUT,
    SCORING,
    TRANSPORT,
    WHAT,
    WHOM,
    option,
    options,
    repeated,
    resolve,
)
from explaineval.cli.output import echo, say, show_json, show_legend, show_scores, summary_line
from explaineval.cli.progress import progress
from explaineval.config import ArmConfig, ClientConfig, ModelConfig, RunConfig
from explaineval.config.client_config import EndpointConfig
from explaineval.execution.run import execute
from explaineval.planning.notes import note
from explaineval.planning.prepare import prepare

DEMO_TASK = "sense"
DEMO_EXAMPLES = 30
DEMO_CONNECTIONS = 1


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path), metavar="[CONFIG.yaml]")
@options(*WHAT, *WHOM, *HOW, *SCORING, INTERVAL, *MONEY, *TRANSPORT, CACHE, OUT, JSON)
def run(config: Path | None, json: bool, **given: Any) -> int:
    """Ask models with and without interventions, store every answer, and score.

    What to ask comes from CONFIG.yaml, from options, or both (an option wins). The same command again goes on
    where it stopped and asks nothing twice.
    """
    science, transport, out = resolve(config, given)
    return _go(science, transport, out, json=json, embedded=None)


@click.command()
@options(
    option("--weights", type=click.Path(path_type=Path), metavar="FILE.gguf", help="Another model in GGUF format."),
    option("--limit", type=AT_LEAST_1, default=DEMO_EXAMPLES, show_default=True, help="Number of examples."),
    CACHE,
    OUT,
    JSON,
)
def demo(weights: Path | None, limit: int, cache: Path | None, out: Path | None, json: bool) -> int:
    """Measure SmolLM2-135M on a bundled task, end to end, on this machine: no network, no key.

    A llama.cpp server is started for the purpose, unless all answers are in the cache, and stopped at the end.
    """
    from explaineval.client.endpoints.llamacpp import EMBEDDED_MODEL, find_weights, weights_name

    found = find_weights(weights)
    name = weights_name(found)
    model = EMBEDDED_MODEL if weights is None else f"openai/{found.stem}"
    science = RunConfig(
        tasks=(DEMO_TASK,),
        models=(ModelConfig(model=model, endpoint=name),),
        arms=ArmConfig(order=("ep",), style=("completion",)),
        limit=limit,
        max_tokens=96,
    )
    transport = ClientConfig(
        endpoints={name: EndpointConfig(base_url="http://127.0.0.1", max_connections=DEMO_CONNECTIONS)},
        **({} if cache is None else {"cache": cache}),
    )
    return _go(science, transport, out, json=json, embedded=found)


def _go(science: RunConfig, transport: ClientConfig, out: Path | None, *, json: bool, embedded: Path | None) -> int:
    prepared = prepare(science, transport)
    twice = [note("option_repeated", text) for text in repeated(click.get_current_context())]
    say(twice)
    with progress(prepared) as watch:
        outcome = execute(prepared, out, watch, embedded)
    say(outcome.notes)
    if json:
        show_json(
            outcome.directory,
            outcome.exit_code,
            outcome.signature,
            outcome.summary,
            outcome.scores,
            (*twice, *outcome.notes),
            outcome.faults,
        )
    else:
        if outcome.scores.rows:
            show_scores(outcome.scores)
            echo()
        if embedded is not None:
            show_legend()
        echo(summary_line(outcome.summary))
        if outcome.directory is not None:
            echo(f"Run directory: {outcome.directory}")
    say(outcome.faults)
    return outcome.exit_code
