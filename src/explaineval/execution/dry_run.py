"""Plan a run and send nothing: build its requests, look them up in the cache, estimate the cost of the missing ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explaineval.cache import holds_store, open_store
from explaineval.client.batches.providers import check_batches
from explaineval.client.endpoints.capabilities import older_verdicts
from explaineval.config import ClientConfig, RunConfig
from explaineval.errors import InputError
from explaineval.planning.cost import (
    PlanCost,
    PreviewedRequest,
    estimate_costs,
    preview,
    prices_of,
    read_price_list,
    total_costs,
)
from explaineval.planning.notes import cache_notes
from explaineval.planning.prepare import Prepared, adopt_run, prepare
from explaineval.planning.units import plan_size
from explaineval.records import SIMULATED_PREFIX
from explaineval.scoring.codes import Note, note
from explaineval.text import counted


@dataclass(frozen=True)
class RunPlan:
    """What a run would ask and cost: by model, in all, and the first requests word for word, if wanted."""

    prepared: Prepared
    costs: Sequence[PlanCost]
    total: dict[str, Any]
    requests: Sequence[PreviewedRequest]
    notes: Sequence[Note]
    price_version: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document of the command."""
        document: dict[str, Any] = {"models": [cost.document() for cost in self.costs], "total": self.total}
        if self.requests:
            document["prompts"] = [request.document() for request in self.requests]
        return document


def plan_run(
    science: RunConfig,
    client: ClientConfig,
    show_prompts: int = 0,
    *,
    out: Path | None = None,
    most_requests: int | None = None,
) -> RunPlan:
    """Build all requests of a run, look them up in the cache, and estimate the cost of the missing ones.

    `show_prompts` is the number of inputs of each model, task and arm whose requests are wanted word for word, `out`
    the run directory that was chosen. Raises InputError where the configuration cannot be used, or plans more than
    `most_requests`.
    """
    prepared = adopt_run(prepare(science, client, out), out)
    science, client = prepared.config, prepared.client
    if most_requests is not None:
        planned = sum(plan_size(prepared, model).planned for model in science.models)
        if planned > most_requests:
            raise InputError(
                f"the run would plan {counted(planned, 'request')}, and {most_requests:,} are allowed: give a lower "
                "limit, or fewer models, levels or samples."
            )
    if client.batch and not client.offline:
        for model in science.models:
            check_batches(model.model, client.endpoint_of(model))
    price_list = read_price_list()
    prices = prices_of(science.models, client, price_list, science.params)
    notes = list(prepared.chosen.notes)
    with open_store(client.cache, readonly=True) if holds_store(client.cache) else nullcontext() as store:
        if store is not None:
            store.older_verdicts = older_verdicts(client, science.models)
        costs = estimate_costs(prepared, store, prices)
        requests = list(preview(prepared, store, show_prompts))
        if store is not None:
            notes += cache_notes(store.warnings)
    if science.until_half_width is not None:
        notes.append(note("costs_at_most"))
    return RunPlan(prepared, costs, total_costs(costs), requests, [*notes, *cost_notes(costs)], price_list.version)


def cost_notes(costs: Sequence[PlanCost], price: str = "--price") -> Iterator[Note]:
    """Yield a note for each thing that is not known about a model and makes its figures uncertain.

    `price` is the option that gives its price.
    """
    for cost in costs:
        name = cost.model.model
        if cost.assumed and not name.startswith(SIMULATED_PREFIX):
            yield note("capabilities_assumed", model=name)
        if cost.estimate.price is None:
            yield note("price_unknown", model=name, option=price)
