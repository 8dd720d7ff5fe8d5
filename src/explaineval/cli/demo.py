"""`explaineval demo`: measure a small model on this machine; with --sweep beside simulated models, with a report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from explaineval.cli.options import JSON, PATH, TABLE, offered, option, options
from explaineval.cli.run import execute_and_print
from explaineval.config import ArmConfig, ClientConfig, EndpointConfig, ModelConfig, RunConfig, TransportName
from explaineval.records import SIMULATED_PREFIX

TASK = "sense"
EXAMPLES, SWEEP_EXAMPLES = 30, 18
"""How many examples are asked about; of the sweep fewer, so that it takes less than ten minutes on two free cores."""
CONNECTIONS = 1
"""Requests that the embedded server answers at once: with more, answers that are near-ties depend on their company."""
MOST_TOKENS = 96

SWEEP_LEVELS = ("normal", "brief", "minimal")
SWEEP_FAMILIES = ("ash", "birch", "cedar")
SWEEP_SIZES = ("0.1b", "10b")
EMBEDDED_FAMILY, EMBEDDED_PARAMETERS = "smollm2", 1.35e8


@click.command()
@options(
    option(
        "--sweep",
        is_flag=True,
        default=False,
        help="Measure it in both styles at three verbosity levels, beside twelve simulated models, and write a report.",
    ),
    option("--weights", type=PATH, metavar="FILE.gguf", help="Another model in GGUF format."),
    offered("limit", help="Number of examples.", default_text=f"{EXAMPLES}, with --sweep {SWEEP_EXAMPLES}"),
    *map(offered, ("transport", "cache", "out")),
    TABLE,
    JSON,
)  # fmt: skip
def demo(
    sweep: bool,
    weights: Path | None,
    limit: int | None,
    transport: TransportName | None,
    cache: Path | None,
    out: Path | None,
    table: bool,
    json: bool,
) -> int:
    """Measure SmolLM2-135M on a bundled task, from prompts to numbers, on this machine: no network, no key.

    A llama.cpp server is started, unless all answers are in the cache, and stopped at the end. With --sweep twelve
    simulated models are measured beside it, in about ten minutes, and report.html in the run directory shows them all.
    A simulated model is no language model: how faithful its explanations are is known beforehand.
    """
    from explaineval.client.endpoints.llamacpp import EMBEDDED_MODEL, find_weights, weights_name

    file = find_weights(weights)
    endpoint = weights_name(file)
    embedded = ModelConfig(model=EMBEDDED_MODEL if weights is None else f"openai/{file.stem}", endpoint=endpoint)
    client = ClientConfig(
        endpoints={endpoint: EndpointConfig(base_url="http://127.0.0.1", max_connections=CONNECTIONS)},
        transport=transport or "litellm",
        **({} if cache is None else {"cache": cache}),
    )
    if sweep:
        science = sweep_of(embedded, limit or SWEEP_EXAMPLES)
    else:
        science = RunConfig(
            tasks=(TASK,),
            models=(embedded,),
            arms=ArmConfig(order=("ep",), style=("completion",)),
            limit=limit or EXAMPLES,
            max_tokens=MOST_TOKENS,
        )
    return execute_and_print(
        science, client, out, json=json, table=table, weights=file, report=sweep, unreadable_fails=False
    )


def sweep_of(embedded: ModelConfig, limit: int) -> RunConfig:
    """Return the sweep: the embedded model in both styles and the simulated models, at several verbosity levels.

    The simulated models are asked in style `completion` alone. So all thirteen models share one style, with the same
    shots, and can be compared; the embedded model's two styles show what the style does to a model.
    """
    if embedded.model.endswith("SmolLM2-135M-Instruct"):
        known = {"family": EMBEDDED_FAMILY, "parameters": EMBEDDED_PARAMETERS, "tuned": "instruct"}
        embedded = embedded.model_copy(update=known)
    return RunConfig(
        tasks=(TASK,),
        models=(embedded, *simulated_models()),
        arms=ArmConfig(order=("pe2",), style=("chat", "completion"), verbosity=SWEEP_LEVELS),
        limit=limit,
        max_tokens=MOST_TOKENS,
    )


def simulated_models() -> Iterator[ModelConfig]:
    """Yield three families in two sizes, pretrained and instruction-tuned; what is known of each is in its law."""
    for family in SWEEP_FAMILIES:
        for size in SWEEP_SIZES:
            for end in ("", "-instruct"):
                yield ModelConfig(model=f"{SIMULATED_PREFIX}{family}-{size}{end}", style="completion")
