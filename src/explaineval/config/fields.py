"""The table of all settings: name, type, bounds, default, help, and where each is offered.

A field stands in one of the classes below, so that a type checker knows it. Those of `ScienceSettings` can change a
number: they enter signatures and run.json. `Offered` makes an option of a field, `Served` a key of the service's API.
From this table come the options, the keys of a configuration file, the keywords in Python, and the service's API and
form.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from explaineval.config.endpoint import normalise_url
from explaineval.config.setting import Offered, Served, Setting
from explaineval.config.values import (
    AllowedKey,
    Count,
    Dollars,
    Duration,
    EndpointName,
    Engine,
    KeyVariable,
    Positive,
    PositiveInt,
    Prices,
    RayAddress,
    ShardText,
    TransportName,
    columns_of,
    read_columns,
    read_price,
    read_temperature,
)
from explaineval.errors import InputError
from explaineval.plugins import plugin_names
from explaineval.records import Mention, Order, Record, Style

MOST = 10**9
"""The largest whole number that a user of the service may give."""
FEWEST_TVD_SAMPLES = 50
"""On fewer samples a sampled label distribution says too little of a shift."""
LOOK = 50
"""After so many examples a run by `until_half_width` looks whether it may stop."""
RUN_KINDS = ("random_word",)
"""The kinds that a run builds by itself; it needs a tagger for each of them."""


class ModelConfig(Record):
    """One model: litellm's spelling of its route, and what is known of it.

    `family` and `parameters` (their number) are what `compare` needs for a trend over model size.
    """

    model: Annotated[str, Served()]
    endpoint: Annotated[str | None, Served()] = None
    family: Annotated[str | None, Served()] = None
    parameters: Annotated[Annotated[float, Field(gt=0, allow_inf_nan=False)] | None, Served(most=1e18)] = None
    tuned: Annotated[Literal["instruct", "base"] | None, Served()] = None
    style: Annotated[Style | None, Served()] = None
    shots: Annotated[Count | None, Served(most=1000)] = None
    max_usd: Annotated[Dollars | None, Served()] = None
    """This model's own spending limit, in dollars; it stands here for the configuration file and changes no number."""

    @field_validator("model")
    @classmethod
    def _has_provider(cls, value: str) -> str:
        provider, slash, name = value.partition("/")
        if not (provider and slash and name):
            raise ValueError(
                f"model {value!r} names no provider: write provider/model, for example openai/{value or 'gpt-4o'}"
            )
        return value


class ArmConfig(Record):
    """The conditions of a run: their full product is asked."""

    order: Annotated[
        tuple[Order, ...],
        Offered("Predict then explain, the same in two calls, or explain then predict.", "What to ask"),
        Served(label="Order"),
    ] = ("pe",)
    style: Annotated[
        tuple[Style, ...],
        Offered("Chat turns, or few-shot text for pretrained models.", "What to ask"),
        Served(label="Style"),
    ] = ("chat",)
    shots: Annotated[
        tuple[Count, ...] | None,
        Offered("Demonstrations.", "What to ask", default="0 in chat, 8 in completion", several=False),
        Served(label="Shots"),
    ] = None
    verbosity: Annotated[
        tuple[str, ...],
        Offered("Length of the explanation: a file of prompts/verbosity.", "What to ask", metavar="NAME"),
        Served(label="Length of explanations"),
    ] = ("normal",)

    @model_validator(mode="after")
    def _not_empty(self) -> ArmConfig:
        for name in ("order", "style", "shots", "verbosity"):
            value = getattr(self, name)
            if value is not None and (not value or len(set(value)) != len(value)):
                raise ValueError(f"{name} must list at least one value, and none twice")
        return self


class InterventionConfig(Record):
    """Which interventions: a file, or a builder's kind; neither means a bundled task's ready ones."""

    file: Annotated[
        Path | None,
        Offered("Your own interventions.", "What to ask", option="--interventions", metavar="F.jsonl"),
        Served(),
    ] = None
    kind: Annotated[
        str | None,
        Offered(
            "Build interventions of this kind (random_word) instead of a bundled task's ready ones.",
            "What to ask",
            metavar="NAME",
        ),
        Served(),
    ] = None
    per_example: Annotated[
        PositiveInt,
        Offered("Interventions per example.", "What to ask"),
        Served(most=1000, label="Of each kind for an example", field="interventions"),
    ] = 4
    tagger: Annotated[
        str | None,
        Offered(
            "spaCy pipeline for random words.", "What to ask", metavar="NAME", default="the first English one found"
        ),
    ] = None

    @model_validator(mode="after")
    def _one_source(self) -> InterventionConfig:
        if self.file is not None and self.kind is not None:
            raise ValueError("give either an interventions file or --kind, not both")
        if self.kind not in (None, *RUN_KINDS) and self.kind not in plugin_names("kinds"):
            raise ValueError(
                f"unknown kind {self.kind!r}: `run` itself builds only {' and '.join(RUN_KINDS)}; others come from a "
                "file"
            )
        return self


class ScienceSettings(Record):
    """The settings that can change a number."""

    tasks: Annotated[
        tuple[str, ...],
        Offered("What is asked about.", "What to ask", option="--task", metavar="NAME[:PATH]"),
        Served(label="Tasks"),
    ] = Field(min_length=1)
    columns: Annotated[
        dict[str, str],
        Offered(
            "What the columns of csv:FILE.csv hold: id, gold, explanation, the letter of an option, or a field of any "
            "name.",
            "What to ask",
            metavar="NAME=COLUMN,...",
            read=read_columns,
        ),
    ] = Field(default_factory=dict)
    models: Annotated[
        tuple[ModelConfig, ...],
        Offered(
            "Model in litellm's spelling (openai/gpt-4o); with a configuration file, one of its models.",
            "Whom",
            option="--model",
            metavar="PROVIDER/MODEL",
        ),
        Served(label="Models"),
    ] = Field(min_length=1)
    arms: Annotated[ArmConfig, Served(label="How models are asked", field="order")] = Field(default_factory=ArmConfig)
    interventions: Annotated[InterventionConfig, Served(label="What is inserted")] = Field(
        default_factory=InterventionConfig
    )
    shots_from: Annotated[
        Path | None, Offered("Task JSONL with the demonstrations.", "What to ask", metavar="FILE"), Served()
    ] = None
    shams: Annotated[
        Count,
        Offered("Repetitions of the unchanged prompt, to measure noise.", "What to ask"),
        Served(most=1000, label="Repetitions that measure noise"),
    ] = 1
    limit: Annotated[
        PositiveInt | None,
        Offered("First N examples of each task, in file order.", "What to ask"),
        Served(most=MOST, label="Examples of each task", empty="all"),
    ] = None
    tvd_samples: Annotated[
        Annotated[int, Field(ge=FEWEST_TVD_SAMPLES)] | None,
        Offered(
            "Sample N answers per prompt instead of reading logprobs (cct_sampled); needs --temperature.", "What to ask"
        ),
        Served(most=10_000),
    ] = None
    samples: Annotated[
        PositiveInt, Offered("Answers per prompt.", "What to ask"), Served(most=10_000, label="Samples")
    ] = Field(default=1, validate_default=True)
    """Never below `tvd_samples`."""
    seed: Annotated[
        int,
        Offered("Seed of explaineval's own random draws; never sent.", "What to ask"),
        Served(most=MOST, label="Seed"),
    ] = 0
    until_half_width: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | None,
        Offered(
            f"Stop where phi-CCT is known to ± W in all models: looks after every {LOOK} examples, in a drawn order.",
            "What to ask",
            metavar="W",
        ),
        Served(),
    ] = None
    """(high − low)/2 of phi-CCT at which the run stops. Examples are then asked in an order drawn with `seed`."""
    shard: Annotated[
        ShardText | None,
        Offered(
            "Ask only part I of N of the examples, on this machine; `explaineval merge` puts the parts together.",
            "What to ask",
            metavar="I/N",
        ),
    ] = None
    temperature: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["omit"] | None,
        Offered(
            "Sampling temperature.",
            "How",
            metavar="X|omit",
            default="0, or omitted where the endpoint rejects 0",
            read=read_temperature,
        ),
        Served(most=100),
    ] = None
    max_tokens: Annotated[
        PositiveInt,
        Offered("Most tokens of one answer.", "How"),
        Served(most=1_000_000, label="Tokens of a reply at most"),
    ] = 512
    params: Annotated[
        dict[str, JsonValue],
        Offered(
            "A sampling parameter (top_p=0.9), sent and part of the cache key; anything else inside extra_body.",
            "How",
            option="--param",
            metavar="KEY=JSON",
            several=True,
        ),
        Served(),
    ] = Field(default_factory=dict)
    retry: Annotated[
        tuple[Literal["truncated", "unparsed"], ...],
        Offered("Ask once more for answers that ended like this (truncated: with four times the limit).", "How"),
        Served(),
    ] = ()
    logprobs: Annotated[
        Literal["auto", "on", "off"],
        Offered("Ask for log-probabilities; auto: if the endpoint gives them.", "How"),
        Served(),
    ] = "auto"
    mention: Annotated[Mention, Offered("What counts as a mention.", "How"), Served()] = "word"
    metrics: Annotated[
        tuple[str, ...],
        Offered("Compute this metric of a plug-in, too.", "How", option="--metric", metavar="NAME"),
    ] = ()
    min_label_mass: Annotated[
        Annotated[float, Field(ge=0, le=1)],
        Offered("Least total probability of the option letters for a TVD.", "How"),
        Served(),
    ] = 0.9
    interval: Annotated[
        Literal["jackknife", "percentile"],
        Offered("How intervals of correlations are computed.", "How"),
        Served(),
    ] = "jackknife"
    resamples: Annotated[
        PositiveInt, Offered("Bootstrap resamples of --interval percentile.", "How"), Served(most=100_000)
    ] = 2000
    prompts: Annotated[Path | None, Offered("Your own prompts directory.", "What to ask", metavar="DIR")] = None

    @field_validator("columns")
    @classmethod
    def _hold_an_example(cls, value: dict[str, str]) -> dict[str, str]:
        try:
            if value:
                columns_of(value)
        except InputError as exc:
            raise ValueError(str(exc).removeprefix("columns: ").rstrip(".")) from None
        return value


class EndpointConfig(Record):
    """A named endpoint: its address, the variable that holds its key, its price and its limit."""

    base_url: Annotated[
        str | None,
        Offered("Address of an OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1.", "Whom", metavar="URL"),
    ] = None
    endpoint_name: Annotated[
        EndpointName | None,
        Offered("Replaces the URL in cache keys, so that the address may change.", "Whom", metavar="NAME"),
    ] = Field(default=None, exclude=True)
    """What stands for the address in cache keys and rows, for a server that moves (`identity.identify`)."""
    api_key_env: KeyVariable | None = None
    price: Prices | None = None
    max_connections: PositiveInt | None = None
    rpm: Positive | None = None
    tpm: Positive | None = None
    older_name: str | None = Field(default=None, exclude=True)
    """Under which name earlier versions kept answers of this endpoint, where it is another one."""
    file_name: str | None = Field(default=None, exclude=True)
    """What a configuration file calls the endpoint, which was its name in cache keys up to 0.2."""
    key_from_file: bool = Field(default=False, exclude=True)
    """Whether a configuration file chose `api_key_env`, and no user."""

    @field_validator("base_url")
    @classmethod
    def _one_spelling(cls, value: str | None) -> str | None:
        try:
            return None if value is None else normalise_url(value)
        except InputError as exc:
            raise ValueError(str(exc).rstrip(".")) from None


class TransportSettings(Record):
    """The settings that change no number: how answers are fetched and kept.

    The key of an entry in `endpoints` is its identity in cache keys: its URL, or the name that it was given.
    """

    endpoints: dict[str, EndpointConfig] = Field(default_factory=dict)
    api_key_env: Annotated[
        KeyVariable | None,
        Offered(
            "Environment variable that holds the key.",
            "Whom",
            metavar="VAR",
            default="EXPLAINEVAL_API_KEY with --base-url",
        ),
    ] = None
    key_from_file: bool = Field(default=False, exclude=True)
    """Whether a configuration file chose `api_key_env`, and no user."""
    allow_key: Annotated[
        tuple[AllowedKey, ...],
        Offered(
            "Let a file send this variable's key to this host. Not needed for variables that begin with EXPLAINEVAL_, "
            "nor for a provider's own key to its own address.",
            "Whom",
            metavar="VAR@HOST[:PORT]",
        ),
    ] = Field(default=(), exclude=True)
    files_outside: tuple[str, ...] = Field(default=(), exclude=True)
    """Tasks and files that a configuration file names outside of its folder."""
    transport: Annotated[
        TransportName,
        Offered(
            "What sends requests: litellm, or explaineval itself, much faster, to a server with OpenAI's protocol.",
            "How",
        ),
    ] = "litellm"
    cache: Annotated[Path, Offered("Directory of stored answers.", "Output", metavar="DIR")] = Path("cache")
    price: Annotated[
        Prices | None,
        Offered("Dollars per million input and output tokens.", "Money", metavar="IN,OUT", read=read_price),
    ] = None
    max_connections: Annotated[
        PositiveInt, Offered("Most concurrent requests per endpoint.", "How"), Served(most=4096)
    ] = 32
    rpm: Annotated[Positive | None, Offered("Most requests per minute and endpoint.", "How"), Served()] = None
    tpm: Annotated[Positive | None, Offered("Most tokens per minute and endpoint.", "How"), Served()] = None
    max_retries: Annotated[Count, Offered("Most retries of one request.", "How"), Served(most=20)] = 6
    timeout: Annotated[Positive, Offered("Seconds per attempt.", "How"), Served(most=3600)] = 120.0
    patience: Annotated[
        Duration,
        Offered(
            "How long an endpoint is waited for that has answered and does not any more: 90s, 5m, 2h; 0: not at all.",
            "How",
            metavar="TIME",
        ),
    ] = 300.0
    max_usd: Annotated[
        Dollars | None,
        Offered(
            "Hard spending limit in dollars, over all models, retries included.",
            "Money",
            note="In a run directory it counts what this command has spent there before.",
        ),
        Served(label="Spending limit in dollars", empty="the worst case"),
    ] = None
    spent: Annotated[
        Dollars | None,
        Offered(
            "Dollars that this command has spent in the run directory before, where its ledger does not know it.",
            "Money",
        ),
    ] = Field(default=None, exclude=True)
    offline: Annotated[
        bool,
        Offered("Use stored answers only: nothing is sent, and what is missing is listed (exit code 4).", "Money"),
    ] = False
    batch: Annotated[
        bool,
        Offered(
            "Send what is missing through the provider's batch endpoint (OpenAI, Azure, Anthropic) at half the price.",
            "Money",
        ),
    ] = False
    batch_poll: Annotated[Positive, Offered("Seconds between two looks at a batch.", "How")] = 30.0
    keep_unreadable: Annotated[
        bool,
        Offered("Ask a model on though over nine in ten of its first 40 answers cannot be read.", "How"),
        Served(),
    ] = False
    batch_wait: Annotated[
        Duration,
        Offered(
            "How long one command waits for its batches: 90m, 26h; the same command goes on waiting.",
            "How",
            metavar="TIME",
        ),
    ] = 26 * 3600.0
    engine: Annotated[
        Engine, Offered("Send requests from this process, or from workers on Ray (extra `ray`).", "How")
    ] = "local"
    ray_address: Annotated[
        RayAddress | None,
        Offered(
            "Address of a Ray cluster, HOST:PORT or auto.",
            "How",
            metavar="ADDRESS",
            default="Ray is started on this machine for the run",
        ),
    ] = None
    ray_address_from_file: bool = Field(default=False, exclude=True)
    """Whether a configuration file chose `ray_address`, and no user."""
    workers: Annotated[PositiveInt | None, Offered("Workers of --engine ray.", "How", default="2")] = None


class OutputSettings(Record):
    """Where a run is written."""

    out: Annotated[Path | None, Offered("Run directory.", "Output", metavar="DIR", default="runs/<date>-<hash>/")] = (
        None
    )


TABLE: tuple[type[Record], ...] = (ScienceSettings, TransportSettings, OutputSettings)
INSIDE: dict[str, type[Record]] = {"arms": ArmConfig, "interventions": InterventionConfig, "endpoints": EndpointConfig}
"""Settings that hold others, which have options."""


def all_settings() -> Iterator[Setting]:
    """Yield the settings in the order of the table; after one that holds others, those."""
    for part in TABLE:
        for name, field in part.model_fields.items():
            yield Setting((name,), field, part is ScienceSettings)
            for inner, inner_field in INSIDE[name].model_fields.items() if name in INSIDE else ():
                yield Setting((name, inner), inner_field, part is ScienceSettings)


SETTINGS = {setting.name: setting for setting in all_settings() if setting.offered is not None}
"""All settings that have an option, by its name in Python."""
FILE_KEYS = frozenset(setting.path[0] for setting in all_settings() if setting.in_file and len(setting.path) == 1)
"""The keys of a configuration file."""
KEYWORDS = frozenset(setting.path[0] for setting in all_settings())
"""The names of settings in Python."""
