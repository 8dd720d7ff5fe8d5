"""The table of all settings: name, type, bounds, default, help, and where each is offered, in which words.

A field stands in one of the classes below, so that a type checker knows it. Those of `ScienceSettings` can change a
number: they enter signatures and run.json. `Offered` makes an option of a field, `Served` a key of the service's API.
From this table come the options, the keys of a configuration file, the keywords in Python, and the service's API and
form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, JsonValue, field_validator, model_validator
from pydantic.fields import FieldInfo

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
    normalise_url,
    read_columns,
    read_duration,
    read_price,
    read_temperature,
    short_duration,
)
from explaineval.errors import InputError
from explaineval.plugins import PluginName, plugin_names
from explaineval.records import Mention, Order, Record, Style

Group = Literal["What to ask", "Whom", "Money", "How", "Output"]
"""Under which heading `explaineval run --help` lists an option."""


@dataclass(frozen=True)
class Offered:
    """How a setting is offered as an option.

    Args:
        help: what it means, for every place where it is offered.
        group: the heading in `--help`.
        option: the option's name, where it is not the field's.
        metavar: what stands for the value in `--help`.
        default: the default in words, where the field's own does not say it.
        note: a sentence for the command line alone.
        read: turns the option's text into the setting's value. Without it the option has the setting's type.
        several: whether it may be given several times, where the field's type says something else.
    """

    help: str
    group: Group
    option: str | None = None
    metavar: str | None = None
    default: str | None = None
    note: str = ""
    read: Callable[[str], Any] | None = None
    several: bool | None = None


@dataclass(frozen=True)
class Served:
    """How a setting is offered by the service.

    Args:
        most: its largest value there; also its smallest with a minus, where the field has no lower bound.
        label: its label in the form of a new run; without it the form does not have it.
        empty: what an empty field of the form means, where the default does not say it.
        field: the field of the form that its errors belong to, where it is not its own.
    """

    most: float | None = None
    label: str | None = None
    empty: str | None = None
    field: str | None = None


@dataclass(frozen=True)
class Setting:
    """One setting with all that the table says of it. `path` leads to it in a configuration file."""

    path: tuple[str, ...]
    field: FieldInfo
    is_science: bool

    def _find(self, kind: type[Any]) -> Any:
        return next((part for part in self.field.metadata if isinstance(part, kind)), None)

    @cached_property
    def offered(self) -> Offered | None:
        """How it is an option, None where it is none."""
        found: Offered | None = self._find(Offered)
        return found

    @cached_property
    def served(self) -> Served | None:
        """How the service offers it, None where it does not."""
        found: Served | None = self._find(Served)
        return found

    @property
    def option(self) -> str:
        """The name of its option."""
        given = self.offered and self.offered.option
        return given or "--" + self.path[-1].replace("_", "-")

    @property
    def name(self) -> str:
        """The option's name as a Python identifier."""
        return self.option.lstrip("-").replace("-", "_")

    @property
    def in_file(self) -> bool:
        """Whether a configuration file may say it."""
        return not self.field.exclude

    @property
    def default(self) -> Any:
        """Its default, None where it has none or must be given."""
        return None if self.field.is_required() else self.field.get_default(call_default_factory=True)

    @property
    def default_text(self) -> str:
        """Its default in words, empty where nothing is to be said."""
        if self.offered is not None and self.offered.default is not None:
            return self.offered.default
        value = self.default
        if value is None or value is False or isinstance(value, (dict, BaseModel)):
            return ""
        if isinstance(value, tuple):
            return ", ".join(map(str, value))
        if isinstance(value, Path):
            return f"{value}/"
        if self.type.is_duration:
            return short_duration(value)
        return f"{value:g}" if isinstance(value, float) else str(value)

    @property
    def empty_text(self) -> str:
        """What an empty field of the form means."""
        return (self.served and self.served.empty) or self.default_text

    @property
    def help(self) -> str:
        """What it means, for places other than the command line: without dashes before the names of other settings."""
        text = "" if self.offered is None else self.offered.help
        return re.sub(r"--([a-z-]+)", lambda match: match[1].replace("-", "_"), text)

    def value_of(self, given: Any) -> Any:
        """Return the setting's value for what its option was given."""
        if self.offered is not None and self.offered.read is not None:
            return self.offered.read(given)
        if self.type.several:
            return list(given) if self.is_repeatable else [given]
        return given

    @property
    def is_repeatable(self) -> bool:
        """Whether its option may be given several times."""
        several = None if self.offered is None else self.offered.several
        return self.type.several if several is None else several

    @cached_property
    def type(self) -> ValueType:
        """The type of its values."""
        return ValueType.of(rebuilt(self.field))


@dataclass(frozen=True)
class ValueType:
    """What one value of a setting can be: of the type `base`, with bounds; `several` values may be listed."""

    base: Any
    several: bool
    metadata: tuple[Any, ...]
    is_duration: bool
    has_rules: bool
    """Whether the type has rules of its own beside bounds."""

    @classmethod
    def of(cls, annotation: Any) -> ValueType:
        """Return the type behind an annotation: without None, and of one entry of a list."""
        several = False
        metadata: list[Any] = []
        while True:
            origin = get_origin(annotation)
            if origin is Annotated:
                annotation, *more = get_args(annotation)
                metadata += more
            elif origin in (Union, UnionType):
                annotation = next(part for part in get_args(annotation) if part is not NoneType)
            elif origin is tuple and get_args(annotation)[-1] is Ellipsis:
                annotation, several = get_args(annotation)[0], True
            else:
                break
        flat = [part for more in metadata for part in (more.metadata if isinstance(more, FieldInfo) else [more])]
        rules = [part.func for part in flat if isinstance(part, (AfterValidator, BeforeValidator))]
        return cls(annotation, several, tuple(flat), read_duration in rules, bool(rules))

    @property
    def choices(self) -> tuple[str, ...]:
        """The values to choose from, empty where they are not listed."""
        if get_origin(self.base) is Literal:
            return get_args(self.base)
        return next((part.names for part in self.metadata if isinstance(part, PluginName)), ())

    @property
    def is_simple(self) -> bool:
        """Whether it is one number or one choice."""
        return not self.several and (self.base in (int, float) or bool(self.choices))

    @property
    def input_mode(self) -> str:
        """Which keys a browser shows for it."""
        return "numeric" if self.base is int else "decimal"

    def bound(self, *names: str) -> Any:
        """Return the bound with one of these names: ge, gt, le, lt."""
        return next((getattr(part, name) for part in self.metadata for name in names if hasattr(part, name)), None)


def rebuilt(field: FieldInfo) -> Any:
    """Return a field's annotation with the bounds that pydantic took out of it, without `Offered` and `Served`."""
    metadata = tuple(part for part in field.metadata if not isinstance(part, (Offered, Served)))
    return Annotated[(field.annotation, *metadata)] if metadata else field.annotation


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
