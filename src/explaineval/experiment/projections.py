"""What a run would ask and cost: the plan walked through with the real request builder, stopping before the send."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from explaineval.cache import Store
from explaineval.client import Capabilities, assume
from explaineval.config import Arm, ModelConfig
from explaineval.costs import FREE, Price, dollars, is_metered
from explaineval.experiment.forecasts import Forecast
from explaineval.experiment.ledgers import Prices
from explaineval.experiment.plans import plan
from explaineval.experiment.preparations import Prepared
from explaineval.experiment.readings import RETRY_SAMPLES
from explaineval.experiment.walks import walk_unit
from explaineval.records import Completion, Request


@dataclass
class Projection:
    """One model's part of a plan. `assumed` says that nothing is known of what its endpoint takes."""

    model: ModelConfig
    forecast: Forecast
    assumed: bool = False
    planned: int = 0
    distinct: int = 0
    hits: int = 0
    saved: float = 0.0
    unmetered: int = 0
    able: dict[str, Capabilities] = field(default_factory=dict)

    @property
    def knows_saved(self) -> bool:
        """Whether the price is known, and every stored answer came with its count of tokens."""
        return self.forecast.price is not None and (self.forecast.price == FREE or not self.unmetered)

    def see(self, request: Request, completion: Completion | None) -> None:
        """Count one distinct request, with its stored answer if there is one."""
        self.distinct += 1
        if completion is None:
            self.forecast.miss(request)
            return
        self.hits += 1
        self.forecast.lengths.see(request, completion)
        self.unmetered += not is_metered(completion.usage)
        if self.forecast.price is not None:
            self.saved += dollars(completion.usage, self.forecast.price)

    def document(self) -> dict[str, Any]:
        """As in `plan --json`."""
        return {
            "endpoint": self.model.endpoint,
            "model": self.model.model,
            "planned": self.planned,
            "distinct": self.distinct,
            "hits": self.hits,
            "misses": self.forecast.misses,
            **self.forecast.document(),
            "usd_saved": self.saved if self.knows_saved else None,
        }


def project(prepared: Prepared, store: Store | None, prices: Prices) -> list[Projection]:
    """A projection for every model. `store` None stands for an empty cache. Nothing is sent and nothing written."""
    return [
        _project_one(prepared, store, model, prices.of_run[model.endpoint, model.model])
        for model in prepared.config.models
    ]


def _project_one(prepared: Prepared, store: Store | None, model: ModelConfig, price: Price | None) -> Projection:
    one = Projection(model, Forecast(price))
    config = prepared.config

    def able(arm: Arm) -> Capabilities:
        if arm.style not in one.able:
            one.able[arm.style], settled = assume(store, config, model, arm.style)
            one.assumed = one.assumed or not settled
        return one.able[arm.style]

    seen: set[int] = set()
    find = store.get if store is not None else _find_nothing
    for unit in plan(config, prepared.prompts, prepared.tasks, prepared.chosen.edits, model, able):
        one.planned += unit.planned
        for step in walk_unit(unit, seen, find, config.retry, prepared.client.older_names):
            one.planned += step.request.sample >= RETRY_SAMPLES
            one.see(step.request, step.completion)
    one.forecast.learn(store, model)
    return one


def _find_nothing(key: str) -> None:
    """An empty cache."""


def total_of(projections: list[Projection]) -> dict[str, Any]:
    """The sums over all models; dollars are None where a price is unknown."""
    documents = [one.document() for one in projections]

    def add(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    return {
        **{
            name: sum(one[name] for one in documents) for name in ("planned", "distinct", "hits", "misses", "tokens_in")
        },
        "tokens_out": {
            name: sum(one["tokens_out"][name] for one in documents) for name in ("low", "expected", "worst")
        },
        "usd": {name: add([one["usd"][name] for one in documents]) for name in ("low", "expected", "worst")},
        "usd_saved": add([one["usd_saved"] for one in documents]),
    }
