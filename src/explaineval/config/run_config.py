"""The resolved configuration. Every field of RunConfig is scientific: it can change a number."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, ValidationInfo, field_validator, model_validator

from explaineval.config.columns import columns_of
from explaineval.config.params import check_params
from explaineval.config.shard import ShardText
from explaineval.errors import InputError
from explaineval.records import Condition, Mention, Order, Record, Style

COMPLETION_SHOTS = 8
FEWEST_TVD_SAMPLES = 50
"""On fewer samples a sampled label distribution says too little of a shift."""

LOOK = 50
"""After so many examples a run by `until_half_width` looks whether it may stop."""

FEWEST_MENTIONED_FLIPS = 5
"""With fewer examples that have a mentioned change, the interval is too rough to stop by it."""
PositiveInt = Annotated[int, Field(ge=1)]


class ModelConfig(Record):
    """One model: litellm's spelling of its route, and what is known of it.

    `family` and `parameters` (their number) are what `compare` needs for a trend over model size.
    """

    model: str
    endpoint: str | None = None
    family: str | None = None
    parameters: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    tuned: Literal["instruct", "base"] | None = None
    style: Style | None = None
    shots: Annotated[int, Field(ge=0)] | None = None
    max_usd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
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

    order: tuple[Order, ...] = ("pe",)
    style: tuple[Style, ...] = ("chat",)
    shots: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    verbosity: tuple[str, ...] = ("normal",)

    @model_validator(mode="after")
    def _not_empty(self) -> ArmConfig:
        for name in ("order", "style", "shots", "verbosity"):
            value = getattr(self, name)
            if value is not None and (not value or len(set(value)) != len(value)):
                raise ValueError(f"{name} must list at least one value, and none twice")
        return self


RUN_KINDS = ("random_word",)
"""The kinds that a run builds by itself; it needs a tagger for each of them."""


class InterventionConfig(Record):
    """Which interventions: a file, or a builder's kind; neither means a bundled task's ready ones."""

    file: Path | None = None
    kind: str | None = None
    per_example: PositiveInt = 4
    tagger: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> InterventionConfig:
        if self.file is not None and self.kind is not None:
            raise ValueError("give either an interventions file or --kind, not both")
        if self.kind not in (None, *RUN_KINDS):
            raise ValueError(
                f"unknown kind {self.kind!r}: `run` itself builds only {' and '.join(RUN_KINDS)}; others come from a "
                "file"
            )
        return self


class RunConfig(Record):
    """The science: all of it enters the signature."""

    tasks: tuple[str, ...] = Field(min_length=1)
    columns: dict[str, str] = Field(default_factory=dict)
    """What the columns of the tasks `csv:FILE` hold: id, gold, explanation, an option's letter or a field → column."""
    models: tuple[ModelConfig, ...] = Field(min_length=1)
    arms: ArmConfig = Field(default_factory=ArmConfig)
    interventions: InterventionConfig = Field(default_factory=InterventionConfig)
    shots_from: Path | None = None
    shams: Annotated[int, Field(ge=0)] = 1
    limit: PositiveInt | None = None
    tvd_samples: Annotated[int, Field(ge=FEWEST_TVD_SAMPLES)] | None = None
    samples: Annotated[int, Field(ge=1, validate_default=True)] = 1
    """Never below `tvd_samples`."""
    seed: int = 0
    until_half_width: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Stop where the interval of phi-CCT is so narrow: (high − low)/2. Examples are then asked in an order drawn with
    `seed`, and looked at after every LOOK of them."""
    shard: ShardText | None = None
    """Ask only the examples of this part of the run (after `limit`); `explaineval merge` puts the parts together."""
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["omit"] | None = None
    max_tokens: PositiveInt = 512
    params: dict[str, JsonValue] = Field(default_factory=dict)
    retry: tuple[Literal["truncated", "unparsed"], ...] = ()
    logprobs: Literal["auto", "on", "off"] = "auto"
    mention: Mention = "word"
    min_label_mass: Annotated[float, Field(ge=0, le=1)] = 0.9
    interval: Literal["jackknife", "percentile"] = "jackknife"
    resamples: PositiveInt = 2000
    prompts: Path | None = None

    @field_validator("columns")
    @classmethod
    def _hold_an_example(cls, value: dict[str, str]) -> dict[str, str]:
        try:
            if value:
                columns_of(value)
        except InputError as exc:
            raise ValueError(str(exc).removeprefix("columns: ").rstrip(".")) from None
        return value

    @field_validator("samples")
    @classmethod
    def _enough_samples(cls, value: int, info: ValidationInfo) -> int:
        return max(value, info.data.get("tvd_samples") or 1)

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        if self.tvd_samples is not None and not self.temperature:
            raise ValueError(
                "tvd_samples: sampling at temperature 0 gives one-hot distributions: add --temperature 1 (or omit, for "
                "the endpoint's own)"
            )
        if self.shard is not None and self.until_half_width is not None:
            raise ValueError(
                "shard and until_half_width: a shard sees only its own examples, so it cannot tell when those of all "
                "shards suffice: leave one of them out"
            )
        names = [(model.endpoint, model.model) for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError("a model stands twice; name each (endpoint, model) once")
        return self

    def require_params(self) -> None:
        """Raise InputError for parameters that may not be sent.

        No validator: a run of an older version that holds others can still be read and scored.
        """
        for model in self.models:
            error = check_params(self.params, model.model)
            if error is not None:
                raise InputError(f"{error}.")


class Arm(Record):
    """One condition under which one model is asked."""

    order: Order
    style: Style
    shots: int
    verbosity: str

    def condition(self, model: ModelConfig, task: str) -> Condition:
        """Return the condition of all numbers of this arm, model and task."""
        return Condition(model.endpoint, model.model, task, None, self.order, self.style, self.shots, self.verbosity)


def arms_for(config: RunConfig, model: ModelConfig) -> Iterator[Arm]:
    """The product of all conditions for one model; its own style or shots replace the run's."""
    styles = (model.style,) if model.style is not None else config.arms.style
    for order, style, verbosity in itertools.product(config.arms.order, styles, config.arms.verbosity):
        if model.shots is not None:
            counts: tuple[int, ...] = (model.shots,)
        else:
            counts = config.arms.shots or ((COMPLETION_SHOTS if style == "completion" else 0),)
        for shots in counts:
            yield Arm(order=order, style=style, shots=shots, verbosity=verbosity)
