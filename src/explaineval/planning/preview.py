"""The first requests of a plan as they would be sent, to be read before anything is paid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

from explaineval.cache import Store
from explaineval.client.endpoints.capabilities import assume_capabilities
from explaineval.planning.prepare import Prepared
from explaineval.planning.replies import RETRY_SAMPLES
from explaineval.planning.units import Step, builders, find_nothing, units_of, walk_units


@dataclass(frozen=True)
class PreviewedRequest:
    """One request of a plan.

    `stored` says that its answer is in the cache, so that it is not sent again. `stand_in` is the letter of the answer
    that it gives where it asks to explain an answer that is not known yet.
    """

    step: Step
    stored: bool
    stand_in: str | None

    def document(self) -> dict[str, Any]:
        """Return the request as in `plan --json`."""
        unit, intervention, request = self.step.unit, self.step.intervention, self.step.request
        content = request.model_dump(
            mode="json", include={"messages", "prompt", "max_tokens", "temperature", "stop", "logprobs", "params"}
        )
        return {
            "endpoint": request.endpoint,
            "model": request.model,
            "task": unit.task.name,
            **unit.arm.model_dump(),
            "example_id": unit.example.id,
            "intervention_id": None if intervention is None else intervention.id,
            "inserted": None if intervention is None else intervention.inserted,
            "sample": request.sample,
            "stored": self.stored,
            "stand_in": self.stand_in,
            **content,
        }


def preview(prepared: Prepared, store: Store | None, count: int) -> Iterator[PreviewedRequest]:
    """Yield the requests of the first `count` distinct inputs of each model, task and arm, in the order of the plan.

    An input is an example, unchanged, edited, or asked about once more; it takes one request, in order pe2 one for the
    answer and one for its explanation. `store` None stands for an empty cache.
    """
    find = find_nothing if store is None else store.get
    for model in prepared.config.models:
        for builder in builders(prepared, model):
            sent_as, _ = assume_capabilities(store, prepared.config, model, builder.arm.style)
            steps = walk_units(units_of(prepared, builder, sent_as), prepared, find)
            for _, same_input in islice(groupby(steps, _input_of), count):
                for step in same_input:
                    stand_in = None if step.certain else next(iter(step.unit.example.options))
                    yield PreviewedRequest(step, step.completion is not None, stand_in)


def _input_of(step: Step) -> tuple[str, str | None, int]:
    """Return what tells one input of an arm from another: example, intervention, and how often it is asked about."""
    intervention = None if step.intervention is None else step.intervention.id
    return step.unit.example.id, intervention, step.request.sample % RETRY_SAMPLES
