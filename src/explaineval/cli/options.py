"""The options of all commands. Each option with a single value can also be set by an environment variable.

The default of an option that a configuration file can also give is None, which tells that it was not given;
`configuration.resolve` decides between option, file and default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from explaineval.cli.app import REPEATED
from explaineval.config import FEWEST_TVD_SAMPLES, TransportName, read_duration
from explaineval.datasets import task_help

F = TypeVar("F", bound=Callable[..., Any])


class NumberRange(click.FloatRange):
    """A range of numbers that refuses "nan", which click takes for a number inside every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert the text of an option's value."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


PATH = click.Path(path_type=Path)
AT_LEAST_1 = click.IntRange(min=1)
AT_LEAST_0 = click.IntRange(min=0)
ABOVE_0 = NumberRange(min=0, min_open=True)


class SingleOption(click.Option):
    """An option with one value. If several are given the last one holds, and `repeated` reports it."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser keep every value given."""
        self.multiple = True
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.multiple = False

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Take the last value, and record a sentence if it contradicts an earlier one."""
        name = str(self.name)
        values = opts.get(name)
        if isinstance(values, list):
            opts = {**opts, name: values[-1]}
            if any(value != values[-1] for value in values):
                ctx.meta.setdefault(REPEATED, []).append(self._contradiction(values))
        return super().handle_parse_result(ctx, opts, args)

    def _contradiction(self, values: Sequence[Any]) -> str:
        if self.is_flag:
            last = (self.opts if values[-1] else self.secondary_opts)[0]
            return f"{self.opts[0]} and {self.secondary_opts[0]} contradict each other: the last, {last}, holds."
        *earlier, last = map(str, values)
        return f"{self.opts[0]} takes one value: the last, {last}, holds, not {', '.join(dict.fromkeys(earlier))}."


def repeated(ctx: click.Context) -> list[str]:
    """Return the sentences on options that were given several values, and forget them, so that each is printed once."""
    sentences, ctx.meta[REPEATED] = ctx.meta.get(REPEATED, []), []
    return list(sentences)


class Several(click.Choice[str]):
    """A choice that may be given several times; in the environment variable, separated by commas or spaces."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Split the variable's text into values."""
        return rv.replace(",", " ").split()


class Names(click.types.StringParamType):
    """Names that may be given several times; in the environment variable, separated by commas or spaces."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """Split the variable's text into values."""
        return rv.replace(",", " ").split()


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """Return a click option. Except for repeatable ones of other types it can also be set as EXPLAINEVAL_<NAME>."""
    if not settings.get("multiple"):
        settings["cls"] = SingleOption
    if isinstance(settings.get("type"), (click.IntRange, click.FloatRange)):
        settings.setdefault("metavar", "N" if isinstance(settings["type"], click.IntRange) else "X")
    if not settings.get("multiple") or isinstance(settings.get("type"), (Several, Names)):
        settings["envvar"] = "EXPLAINEVAL_" + names[0].partition("/")[0].lstrip("-").upper().replace("-", "_")
    return click.option(*names, **settings)


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Combine several options into one decorator; `--help` lists them in this order."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


COLUMNS = option(
    "--columns",
    metavar="NAME=COLUMN,...",
    help="What the columns of csv:FILE.csv hold: id, gold, explanation, the letter of an option, or a field of any "
    "name.",
)

INPUTS = (
    option(
        "--task",
        multiple=True,
        metavar="NAME[:PATH]",
        help=f"{task_help()} Repeatable.",
    ),
    COLUMNS,
    option("--limit", type=AT_LEAST_1, help="First N examples of each task, in file order."),
    option("--interventions", type=PATH, metavar="F.jsonl", help="Your own interventions."),
    option(
        "--kind",
        metavar="NAME",
        help="Build interventions of this kind (random_word) instead of a bundled task's ready ones.",
    ),
    option("--per-example", type=AT_LEAST_1, help="Interventions per example.  [default: 4]"),
    option("--tagger", metavar="NAME", help="spaCy pipeline for random words.  [default: the first English one found]"),
    option("--shams", type=AT_LEAST_0, help="Repetitions of the unchanged prompt, to measure noise.  [default: 1]"),
    option("--samples", type=AT_LEAST_1, help="Answers per prompt.  [default: 1]"),
    option(
        "--tvd-samples",
        type=click.IntRange(min=FEWEST_TVD_SAMPLES),
        help="Sample N answers per prompt instead of reading logprobs (cct_sampled); needs --temperature.",
    ),
    option("--seed", type=int, metavar="N", help="Seed of explaineval's own random draws; never sent.  [default: 0]"),
)

ALLOW_KEY = option(
    "--allow-key",
    multiple=True,
    type=Names(),
    metavar="VAR@HOST[:PORT]",
    help="Let a file send this variable's key to this host. Not needed for variables that begin with EXPLAINEVAL_, nor "
    "for a provider's own key to its own address. Repeatable.",
)

ENDPOINT = (
    option(
        "--base-url", metavar="URL", help="Address of an OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1."
    ),
    option("--endpoint-name", metavar="NAME", help="Replaces the URL in cache keys, so that the address may change."),
    option(
        "--api-key-env",
        metavar="VAR",
        help="Environment variable that holds the key.  [default: EXPLAINEVAL_API_KEY with --base-url]",
    ),
    option("--price", metavar="IN,OUT", help="Dollars per million input and output tokens."),
)

PROMPTING = (
    option(
        "--order",
        multiple=True,
        type=Several(["pe", "pe2", "ep"]),
        help="Predict then explain, the same in two calls, or explain then predict. Repeatable.  [default: pe]",
    ),
    option(
        "--style",
        multiple=True,
        type=Several(["chat", "completion"]),
        help="Chat turns, or few-shot text for pretrained models. Repeatable.  [default: chat]",
    ),
    option("--shots", type=AT_LEAST_0, help="Demonstrations.  [default: 0 in chat, 8 in completion]"),
    option("--shots-from", type=PATH, metavar="FILE", help="Task JSONL with the demonstrations."),
    option(
        "--verbosity",
        multiple=True,
        metavar="NAME",
        help="Length of the explanation: a file of prompts/verbosity. Repeatable.  [default: normal]",
    ),
    option("--prompts", type=PATH, metavar="DIR", help="Your own prompts directory."),
    option(
        "--temperature",
        metavar="X|omit",
        help="Sampling temperature.  [default: 0, or omitted where the endpoint rejects 0]",
    ),
    option("--max-tokens", type=AT_LEAST_1, help="Most tokens of one answer.  [default: 512]"),
    option(
        "--param",
        multiple=True,
        metavar="KEY=JSON",
        help="A sampling parameter (top_p=0.9), sent and part of the cache key; anything else inside extra_body. "
        "Repeatable.",
    ),
    option(
        "--retry",
        multiple=True,
        type=click.Choice(["truncated", "unparsed"]),
        help="Ask once more for answers that ended like this (truncated: with four times the limit). Repeatable.",
    ),
    option(
        "--logprobs",
        type=click.Choice(["auto", "on", "off"]),
        help="Ask for log-probabilities; auto: if the endpoint gives them.  [default: auto]",
    ),
)


POLICIES = ("word", "lemma", "substring")
"""The mention policies."""


def scoring_options(
    mention: str, min_label_mass: str, resamples: str, *, several: bool = False
) -> tuple[Callable[[F], F], ...]:
    """Return the options of scoring, with the defaults that `--help` names. `several` policies may be given at once."""
    policy: dict[str, Any] = {"type": click.Choice(POLICIES)}
    beside = ""
    if several:
        policy, beside = {"type": Several(POLICIES), "multiple": True}, " Repeatable: all beside each other."
    return (
        option("--mention", help=f"What counts as a mention.{beside}  [default: {mention}]", **policy),
        option(
            "--min-label-mass",
            type=NumberRange(0, 1),
            help=f"Least total probability of the option letters for a TVD.  [default: {min_label_mass}]",
        ),
        option(
            "--resamples",
            type=AT_LEAST_1,
            help=f"Bootstrap resamples of --interval percentile.  [default: {resamples}]",
        ),
    )


DIRECT = option(
    "--transport",
    type=click.Choice(get_args(TransportName)),
    help="What sends requests: litellm, or explaineval itself, much faster, to a server with OpenAI's protocol.  "
    "[default: litellm]",
)


class DurationType(click.ParamType[float]):
    """Seconds, given with a unit or without: 5m, 90s, 0."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert the text of an option's value."""
        try:
            return read_duration(value)
        except ValueError as exc:
            self.fail(f"{value!r}: {exc}.", param, ctx)


PATIENCE = option(
    "--patience",
    type=DurationType(),
    metavar="TIME",
    help="How long an endpoint is waited for that has answered and does not any more: 90s, 5m, 2h; 0: not at all.  "
    "[default: 5m]",
)

BATCH_POLL = option("--batch-poll", type=ABOVE_0, help="Seconds between two looks at a batch.  [default: 30]")
BATCH_WAIT = option(
    "--batch-wait",
    type=DurationType(),
    metavar="TIME",
    help="How long one command waits for its batches: 90m, 26h; the same command goes on waiting.  [default: 26h]",
)

TRANSPORT = (
    DIRECT,
    option("--max-connections", type=AT_LEAST_1, help="Most concurrent requests per endpoint.  [default: 32]"),
    option("--rpm", type=ABOVE_0, help="Most requests per minute and endpoint."),
    option("--tpm", type=ABOVE_0, help="Most tokens per minute and endpoint."),
    option("--max-retries", type=AT_LEAST_0, help="Most retries of one request.  [default: 6]"),
    option("--timeout", type=ABOVE_0, help="Seconds per attempt.  [default: 120]"),
    PATIENCE,
)

ENGINE = (
    option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        help="Send requests from this process, or from workers on Ray (extra `ray`).  [default: local]",
    ),
    option(
        "--ray-address",
        metavar="ADDRESS",
        help="Address of a Ray cluster, HOST:PORT or auto.  [default: Ray is started on this machine for the run]",
    ),
    option("--workers", type=AT_LEAST_1, help="Workers of --engine ray.  [default: 2]"),
)

MAX_USD = option(
    "--max-usd",
    type=NumberRange(min=0),
    help="Hard spending limit in dollars, over all models, retries included. In a run directory it counts what this "
    "command has spent there before.",
)
SPENT = option(
    "--spent",
    type=NumberRange(min=0),
    help="Dollars that this command has spent in the run directory before, where its ledger does not know it.",
)
CACHE = option("--cache", type=PATH, metavar="DIR", help="Directory of stored answers.  [default: cache/]")
CACHE_OF_RUN = option(
    "--cache", type=PATH, metavar="DIR", help="Directory of stored answers.  [default: the run's own]"
)
STORED = option(
    "--cache",
    "directory",
    type=PATH,
    metavar="DIR",
    default=Path("cache"),
    help="Directory of stored answers.  [default: cache/]",
)
"""The same for the commands of `explaineval cache`, which read no configuration file."""

OUT = option("--out", type=PATH, metavar="DIR", help="Run directory.  [default: runs/<date>-<hash>/]")
TABLE = option("--table", is_flag=True, default=False, help="Print the wide table of all numbers, not sentences.")
ADDRESSES = option(
    "--addresses", is_flag=True, default=False, help="Write beside each answer the address that gave it, if known."
)
JSON = option("--json", is_flag=True, default=False, help="Print one JSON document on standard output, nothing else.")

RUN = (
    *INPUTS,
    option(
        "--shard",
        metavar="I/N",
        help="Ask only part I of N of the examples, on this machine; `explaineval merge` puts the parts together.",
    ),
    option(
        "--until-half-width",
        type=NumberRange(min=0, max=1, min_open=True, max_open=True),
        metavar="W",
        help="Stop where phi-CCT is known to ± W in all models: looks after every 50 examples, in a drawn order.",
    ),
    option(
        "--model",
        multiple=True,
        metavar="PROVIDER/MODEL",
        help="Model in litellm's spelling (openai/gpt-4o); with a configuration file, one of its models. Repeatable.",
    ),
    *ENDPOINT,
    ALLOW_KEY,
    *PROMPTING,
    *scoring_options("word", "0.9", "2000"),
    option(
        "--interval",
        type=click.Choice(["jackknife", "percentile"]),
        help="How intervals of correlations are computed.  [default: jackknife]",
    ),
    MAX_USD,
    SPENT,
    option(
        "--offline/--no-offline",
        default=None,
        help="Use stored answers only: nothing is sent, and what is missing is listed (exit code 4).",
    ),
    option(
        "--batch/--no-batch",
        default=None,
        help="Send what is missing through the provider's batch endpoint (OpenAI, Azure, Anthropic) at half the price.",
    ),
    option(
        "--keep-unreadable/--no-keep-unreadable",
        default=None,
        help="Ask a model on though over nine in ten of its first 40 answers cannot be read.",
    ),
    BATCH_POLL,
    BATCH_WAIT,
    *TRANSPORT,
    *ENGINE,
    CACHE,
    OUT,
    JSON,
)
"""The options of `run` and `plan`."""


def role_options(role: str, purpose: str) -> tuple[Callable[[F], F], ...]:
    """Return `--ROLE-model` and the options for its address, key and price."""
    return (
        option(f"--{role}-model", metavar="PROVIDER/MODEL", help=purpose),
        option(f"--{role}-base-url", metavar="URL", help="Its address, if it is not the provider's own."),
        option(f"--{role}-api-key-env", metavar="VAR", help="Environment variable that holds its key."),
        option(f"--{role}-price", metavar="IN,OUT", help="Its price in dollars per million tokens."),
    )
