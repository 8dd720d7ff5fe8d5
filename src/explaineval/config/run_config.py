"""The resolved configuration. Every field of RunConfig is scientific: it can change a number."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from pydantic import ValidationInfo, field_validator, model_validator

from explaineval.config.fields import ModelConfig, ScienceSettings
from explaineval.config.params import check_params
from explaineval.errors import InputError
from explaineval.records import Condition, Order, Record, Style

COMPLETION_SHOTS = 8
FEWEST_MENTIONED_FLIPS = 5
"""With fewer examples that have a mentioned change, the interval is too rough to stop by it."""


class RunConfig(ScienceSettings):
    """The science: all of it enters the signature."""

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
