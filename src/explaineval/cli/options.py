"""The options of the contract, each with its environment variable, and how they become a configuration.

Precedence: command line over environment over file over default. Every option's own default is None, so that what
was not given can be told from what was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from explaineval.cli.groups import REPEATED
from explaineval.config import (
    FEWEST_TVD_SAMPLES,
    ClientConfig,
    RunConfig,
    build,
    normalise_url,
    older_spelling,
    read_config,
)
from explaineval.config.params import EXTRA_BODY, SAMPLING, check_params
from explaineval.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])

READABLE = click.Path(path_type=Path)
AT_LEAST_1 = click.IntRange(min=1)
AT_LEAST_0 = click.IntRange(min=0)


class SingleOption(click.Option):
    """An option with one value. Where several are given the last holds, as everywhere, and `repeated` says so."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Let the parser keep every value that is given."""
        self.multiple = True
        try:
            super().add_to_parser(parser, ctx)
        finally:
            self.multiple = False

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Take the last value, and remember where it contradicts an earlier one."""
        name = str(self.name)
        values = opts.get(name)
        if isinstance(values, list):
            opts = {**opts, name: values[-1]}
            if any(value != values[-1] for value in values):
                ctx.meta.setdefault(REPEATED, []).append(self._told(values))
        return super().handle_parse_result(ctx, opts, args)

    def _told(self, values: Sequence[Any]) -> str:
        if self.is_flag:
            last = (self.opts if values[-1] else self.secondary_opts)[0]
            return f"{self.opts[0]} and {self.secondary_opts[0]} contradict each other: the last, {last}, holds."
        *earlier, last = map(str, values)
        return f"{self.opts[0]} takes one value: the last, {last}, holds, not {', '.join(dict.fromkeys(earlier))}."


def repeated(ctx: click.Context) -> list[str]:
    """What is to be told of options that were given several values, each time only once."""
    told, ctx.meta[REPEATED] = ctx.meta.get(REPEATED, []), []
    return list(told)


class Several(click.Choice[str]):
    """A choice of which several may be given; in the environment variable commas or spaces stand between them."""

    def split_envvar_value(self, rv: str) -> Sequence[str]:
        """The values in the variable's text."""
        return rv.replace(",", " ").split()


def option(*names: str, **settings: Any) -> Callable[[F], F]:
    """A click option; one with a single value, or with several of a fixed set, also reads EXPLAINEVAL_<NAME>."""
    if not settings.get("multiple"):
        settings["cls"] = SingleOption
    if not settings.get("multiple") or isinstance(settings.get("type"), Several):
        settings["envvar"] = "EXPLAINEVAL_" + names[0].partition("/")[0].lstrip("-").upper().replace("-", "_")
    return click.option(*names, **settings)


def options(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several decorators as one, in the order in which `--help` lists them."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


WHAT = (
    option(
        "--task",
        multiple=True,
        metavar="NAME[:PATH]",
        help="nli, qa, sense (bundled), esnli:FILE.csv, ecqa:FILE.csv, comve:DIR, jsonl:FILE. Repeatable.",
    ),
    option("--limit", type=AT_LEAST_1, help="First N examples of each task, in file order."),
    option("--interventions", type=READABLE, metavar="F.jsonl", help="Your own interventions."),
    option("--kind", help="Build interventions of this kind (random_word) instead of a bundled task's ready ones."),
    option("--per-example", type=AT_LEAST_1, help="Interventions per example.  [default: 4]"),
    option("--tagger", help="spaCy pipeline for random words.  [default: the first English one found]"),
    option(
        "--shams", type=AT_LEAST_0, help="Times the unchanged prompt is asked again, to measure noise.  [default: 1]"
    ),
    option("--samples", type=AT_LEAST_1, help="Answers per prompt.  [default: 1]"),
    option(
        "--tvd-samples",
        type=click.IntRange(min=FEWEST_TVD_SAMPLES),
        metavar="N",
        help="Sample N answers per prompt in place of logprobs (cct_sampled); needs --temperature.",
    ),
    option("--seed", type=int, help="For our own draws; never sent.  [default: 0]"),
)

BASE_URL = option("--base-url", help="Address of an OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1.")
ENDPOINT_NAME = option("--endpoint-name", help="Stands for the URL in the cache key, so that an address may change.")
API_KEY_ENV = option(
    "--api-key-env",
    metavar="VAR",
    help="Environment variable that holds the key.  [default: EXPLAINEVAL_API_KEY with --base-url]",
)
PRICE = option("--price", metavar="IN,OUT", help="Dollars per million input and output tokens.")

WHERE = (BASE_URL, ENDPOINT_NAME, API_KEY_ENV, PRICE)

WHOM = (
    option(
        "--model",
        multiple=True,
        metavar="PROVIDER/MODEL",
        help="litellm's spelling, e.g. openai/gpt-4o; chooses among the models of a configuration file. Repeatable.",
    ),
    *WHERE,
)

HOW = (
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
    option("--shots-from", type=READABLE, metavar="FILE", help="Task JSONL with the demonstrations."),
    option(
        "--verbosity",
        multiple=True,
        help="How much to say, a file of prompts/verbosity. Repeatable.  [default: normal]",
    ),
    option("--prompts", type=READABLE, metavar="DIR", help="Your own prompts directory."),
    option("--temperature", metavar="X|omit", help="[default: 0, or omitted where the endpoint rejects it]"),
    option("--max-tokens", type=AT_LEAST_1, help="[default: 512]"),
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
        help="Ask once more for answers that ended so (truncated: with four times the limit). Repeatable.",
    ),
    option("--logprobs", type=click.Choice(["auto", "on", "off"]), help="[default: auto]"),
)

SCORING = (
    option(
        "--mention",
        type=click.Choice(["word", "lemma", "substring"]),
        help="What counts as a mention.  [default: word]",
    ),
    option(
        "--min-label-mass",
        type=click.FloatRange(0, 1),
        help="Least probability on option letters for a TVD.  [default: 0.9]",
    ),
    option("--resamples", type=AT_LEAST_1, help="For --interval percentile.  [default: 2000]"),
)

INTERVAL = option("--interval", type=click.Choice(["jackknife", "percentile"]), help="[default: jackknife]")

TRANSPORT = (
    option("--max-connections", type=AT_LEAST_1, help="Most requests under way at once per endpoint.  [default: 32]"),
    option("--rpm", type=click.FloatRange(min=0, min_open=True), help="Most requests a minute, per endpoint."),
    option("--tpm", type=click.FloatRange(min=0, min_open=True), help="Most tokens a minute, per endpoint."),
    option("--max-retries", type=AT_LEAST_0, help="[default: 6]"),
    option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds per attempt.  [default: 120]"),
)

MAX_USD = option(
    "--max-usd",
    type=click.FloatRange(min=0),
    metavar="X",
    help="Hard spending limit in dollars, over all models, retries included.",
)

MONEY = (
    MAX_USD,
    option(
        "--offline/--no-offline",
        default=None,
        help="Answers from the cache only: nothing is sent, and what is missing is listed (exit code 4).",
    ),
    option(
        "--batch/--no-batch",
        default=None,
        help="Send what is missing through the provider's batch endpoint (OpenAI, Azure, Anthropic) at half the price.",
    ),
    option(
        "--batch-poll",
        type=click.FloatRange(min=0, min_open=True),
        help="Seconds between two looks at a batch.  [default: 30]",
    ),
)

CACHE = option(
    "--cache", type=click.Path(path_type=Path), metavar="DIR", help="Where answers are kept.  [default: cache/]"
)
OUT = option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Run directory.  [default: runs/<date>-<hash>/]"
)
JSON = option("--json", is_flag=True, default=False, help="One JSON document on standard output and nothing else.")


TAKEN_AS_IS = (
    *("limit", "shams", "samples", "tvd_samples", "seed", "shots_from", "prompts", "max_tokens", "logprobs"),
    *("mention", "min_label_mass", "interval", "resamples"),
    *("max_connections", "rpm", "tpm", "max_retries", "timeout", "cache", "out"),
    *("max_usd", "offline", "batch", "batch_poll"),
)
"""Options whose value stands in the configuration under their own name."""


def resolve(file: Path | None, given: dict[str, Any]) -> tuple[RunConfig, ClientConfig, Path | None]:
    """The run's science, its transport and its directory, from a file (if any) and the options given.

    Raises InputError with one sentence for the first thing that is wrong.
    """
    values = read_config(file) if file is not None else {}
    given = {name: value for name, value in given.items() if value is not None and value != ()}
    for name in TAKEN_AS_IS:
        if name in given:
            values[name] = given[name]
    if "task" in given:
        values["tasks"] = list(given["task"])
    if "temperature" in given:
        values["temperature"] = _temperature(given["temperature"])
    if "param" in given:
        values["params"] = {**values.get("params", {}), **_params(given["param"])}
    if "retry" in given:
        values["retry"] = list(given["retry"])
    if "price" in given:
        values["price"] = read_price(given["price"])
    arms = dict(values.get("arms", {}))
    arms |= {name: list(given[name]) for name in ("order", "style", "verbosity") if name in given}
    if "shots" in given:
        arms["shots"] = [given["shots"]]
    values["arms"] = arms
    edits = dict(values.get("interventions", {}))
    if "interventions" in given:
        edits = {"file": given["interventions"], **{k: v for k, v in edits.items() if k not in ("file", "kind")}}
    elif "kind" in given:
        edits.pop("file", None)
    edits |= {name: given[name] for name in ("kind", "per_example", "tagger") if name in given}
    values["interventions"] = edits
    if "model" in given:
        values["models"] = [entry for name in given["model"] for entry in _models_named(name, values, given, file)]
    _apply_endpoint(values, given)
    _override_entries(values, given)
    for name, hint in (("tasks", "--task NAME"), ("models", "--model PROVIDER/MODEL")):
        if not values.get(name):
            raise InputError(f"no {name} given: add {hint}, or {name} in the configuration file.")
    out = values.pop("out", None)
    transport = {name: values.pop(name) for name in list(values) if name in ClientConfig.model_fields}
    place = str(file) if file is not None else "options"
    return build(RunConfig, values, place), build(ClientConfig, transport, place), None if out is None else Path(out)


def _models_named(
    name: str, values: Mapping[str, Any], given: Mapping[str, Any], file: Path | None
) -> Iterator[dict[str, Any]]:
    """The models that --model NAME stands for: the file's of that name, else a new one.

    A file says where its models are asked. A name that it lacks would go to the provider's own address with the
    provider's key, so it is refused, unless --base-url says where it is asked. Raises InputError.
    """
    listed = values.get("models") or []
    found = [dict(one) for one in listed if name == one.get("model")]
    found = found or [dict(one) for one in listed if name == _file_name(one)]
    endpoint, _, rest = name.partition("/")
    if not found and not listed and endpoint in values.get("endpoints", {}):
        found = [{"model": rest, "endpoint": endpoint}]
    if found:
        yield from found[:1] if "base_url" in given else found
    elif "base_url" in given or not (listed or values.get("endpoints")):
        yield {"model": name}
    elif listed:
        models = ", ".join(_file_name(one) for one in listed)
        raise InputError(
            f"--model {name} is none of the models of {file}: {models}. Name one of them, add it to the file, or say "
            "with --base-url where it is asked."
        )
    else:
        endpoints = ", ".join(values["endpoints"])
        raise InputError(
            f"--model {name}: {file} names endpoints ({endpoints}) but no models. Write ENDPOINT/{name}, add it to the "
            "file's models, or say with --base-url where it is asked."
        )


def _file_name(entry: Mapping[str, Any]) -> str:
    """How --model names an entry of the file's models, its endpoint included."""
    return "/".join(str(entry[name]) for name in ("endpoint", "model") if entry.get(name))


def _override_entries(values: dict[str, Any], given: dict[str, Any]) -> None:
    """Let an option win over what the file says of a single endpoint or model."""
    for names, entries in (
        (("price", "max_connections", "rpm", "tpm", "api_key_env"), values.get("endpoints", {}).values()),
        (("style", "shots"), values.get("models", ())),
    ):
        for name in names:
            for entry in entries:
                if name in given and isinstance(entry, dict):
                    entry.pop(name, None)
    if "api_key_env" in given:
        for entry in values.get("endpoints", {}).values():
            entry["api_key_env"] = given["api_key_env"]


def _apply_endpoint(values: dict[str, Any], given: dict[str, Any]) -> None:
    """Let --base-url, --endpoint-name and --api-key-env hold for all models."""
    if "base_url" not in given:
        if "endpoint_name" in given:
            raise InputError("--endpoint-name stands for a URL in the cache key: give --base-url with it.")
        if "api_key_env" not in given:
            return
        values["api_key_env"] = given["api_key_env"]
        return
    url = normalise_url(given["base_url"])
    name = given.get("endpoint_name") or url
    entry = {"base_url": url, "api_key_env": given.get("api_key_env")}
    if name == url and older_spelling(given["base_url"]) != url:
        entry["older_name"] = older_spelling(given["base_url"])
    values["endpoints"] = {**values.get("endpoints", {}), name: entry}
    values["models"] = [{**model, "endpoint": name} for model in values.get("models", ())]


def _temperature(text: str) -> float | str:
    if text == "omit":
        return "omit"
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--temperature {text!r} is neither a number nor `omit`.") from None


def _params(texts: Sequence[str]) -> dict[str, Any]:
    """The parameters of all --param options. Raises InputError where one is given two values."""
    found: dict[str, Any] = {}
    for text in texts:
        name, value = _param(text)
        if name in found and found[name] != value:
            raise InputError(f"--param {name} is given two values: give it once.")
        found[name] = value
    return found


def _param(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--param {text!r}: write KEY=JSON, for example top_p=0.9.")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):  # ValueError: also a number of thousands of digits
        pass
    if name == EXTRA_BODY:
        raise InputError("--param extra_body is not JSON: write it like --param 'extra_body={\"NAME\": VALUE}'.")
    fault = check_params({name: None})
    if fault is not None and name not in SAMPLING:  # whatever its value; it may be a secret, so it is not repeated
        raise InputError(f"{fault}.")
    raise InputError(f"--param {name}: {value!r} is not JSON; a text needs quotes: {name}='\"{value}\"'.")


def read_price(text: str) -> list[float]:
    """`IN,OUT` as two numbers. Raises InputError."""
    try:
        prices = [float(part) for part in text.split(",")]
    except ValueError:
        prices = []
    if len(prices) != 2 or not all(0 <= price < float("inf") for price in prices):
        raise InputError(f"--price {text!r}: write two numbers, IN,OUT, in dollars per million tokens.")
    return prices
