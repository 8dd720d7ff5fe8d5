"""`explaineval init`: write a commented configuration file to begin with."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import click

from explaineval.cli.options import PATH, offered, option, options
from explaineval.cli.output import echo
from explaineval.config import SETTINGS, ClientConfig, RunConfig, Setting, build
from explaineval.config.setting import Group
from explaineval.errors import InputError
from explaineval.files import write_text_atomic

MODELS = ("simulated/faithful", "simulated/random")
"""What a file asks that was given no model: it costs nothing and runs at once."""
WIDTH = 118

_HEAD = """\
# A study for explaineval. What would be asked, and what it would cost:  explaineval plan {name}
# Ask, score and print the table:                                        explaineval run {name}
# Every setting can also be given as an option, which wins:              explaineval run {name} --limit 20

# What is asked about: nli, qa, sense (bundled), or your own: "jsonl:FILE.jsonl", "csv:FILE.csv", "esnli:FILE.csv"
tasks: {tasks}

# Which models, in litellm's spelling: openai/gpt-4o-mini, anthropic/claude-..., or a server of your own at an endpoint.
# family, parameters and tuned (base, instruct) are for `compare`: {{model: ..., family: smollm2, parameters: 1.35e8}}
models:
{models}
{endpoints}
# How they are asked; the product of all values. order: pe (predict, then explain), pe2 (in two calls), ep.
# style: chat, or completion (few-shot text for pretrained models). verbosity: minimal brief normal detailed exhaustive.
arms: {{order: [pe], style: [chat], verbosity: [normal]}}

# What is inserted: nothing here means the ready insertions of a bundled task.
# interventions: {{kind: random_word, per_example: 4}}      # built by the run; needs the extra `interventions`
# interventions: {{file: words.jsonl}}                      # made by `explaineval interventions build`

# Examples of each task. How many are enough: explaineval plan {name} --half-width 0.1
limit: 50

# A hard limit in dollars over all models, retries included.
max_usd: 5
"""
_ENDPOINT = """
# Where they are asked. The key is read from the environment variable that api_key_env names; price: dollars per
# million tokens in and out (an address on your own machine or network costs nothing).
endpoints:
  lab: {{base_url: {url}, api_key_env: EXPLAINEVAL_LAB_KEY}}
"""
_NO_ENDPOINT = """
# A server with OpenAI's protocol (vLLM, llama.cpp, Ollama's /v1, a gateway) is named here, and by `endpoint: lab` at
# each of its models.
# endpoints:
#   lab: {{base_url: "http://127.0.0.1:8000/v1", api_key_env: EXPLAINEVAL_LAB_KEY, price: [0.1, 0.4]}}
"""


@click.command("init")
@click.argument("file", type=PATH, default=Path("study.yaml"), metavar="[FILE]")
@options(
    offered("model", help="Model in litellm's spelling (openai/gpt-4o)."),
    offered("task"),
    option("--base-url", metavar="URL", help="Address of an OpenAI-compatible endpoint that serves the models."),
)
def init_command(file: Path, model: Sequence[str], task: Sequence[str], base_url: str | None) -> int:
    """Write a commented configuration file, study.yaml, to edit and run.

    It holds every setting that a file can have, with its default and what it means. Without --model it asks two
    simulated models, which costs nothing.
    """
    if file.exists():
        raise InputError(f"{file} is there already; give another name: explaineval init another.yaml.")
    text = study_text(file, model or MODELS, task or ("nli",), base_url)
    try:
        write_text_atomic(file, text)
    except OSError as exc:
        raise InputError(f"{file} cannot be written: {exc.strerror}.") from None
    echo(f"{file} is written. Edit it, then look at what would be asked: explaineval plan {shlex.quote(str(file))}")
    return 0


def study_text(file: Path, models: Sequence[str], tasks: Sequence[str], base_url: str | None) -> str:
    """Return a configuration file with comments. Raises InputError where a model, a task or the address is no such."""
    endpoint = {} if base_url is None else {"endpoint": "lab"}
    entries = [{"model": model, **endpoint} for model in models]
    build(RunConfig, {"tasks": tuple(tasks), "models": tuple(entries)}, "init")
    if base_url is not None:
        build(ClientConfig, {"endpoints": {"lab": {"base_url": base_url}}}, "init")
    head = _HEAD.format(
        name=shlex.quote(str(file)),
        tasks=json.dumps(list(tasks)),
        models="\n".join(map(_entry, entries)),
        endpoints=(_NO_ENDPOINT if base_url is None else _ENDPOINT).format(url=json.dumps(base_url)),
    )
    return head + "".join(_other_settings())


def _entry(model: Mapping[str, str]) -> str:
    return f"  - {{{', '.join(f'{key}: {json.dumps(value)}' for key, value in model.items())}}}"


def _other_settings() -> Iterator[str]:
    """Yield the settings that the head does not name, commented out, under their headings."""
    said = {"tasks", "models", "arms", "interventions", "endpoints", "limit", "max_usd"}
    rest = [each for each in SETTINGS.values() if each.in_file and len(each.path) == 1 and each.path[0] not in said]
    yield "\n# All other settings, with their defaults. Remove the # before the ones that you change.\n"
    for group in get_args(Group):
        yield from (_commented(each) for each in rest if each.offered is not None and each.offered.group == group)


def _commented(setting: Setting) -> str:
    meaning = "".join(f"\n#   {line}" for line in textwrap.wrap(setting.help, WIDTH - 4))
    default = setting.default
    value = setting.default_text if setting.type.is_duration else json.dumps(default, default=str)
    words = f"    # {setting.default_text}" if default is None and setting.default_text else ""
    return f"{meaning}\n# {setting.path[0]}: {value}{words}\n"
