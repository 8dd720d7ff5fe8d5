"""What a run would ask and cost: the plan walked through with the real request builder, stopping before the send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from explaineval.cache import Store, request_key
from explaineval.client import Capabilities, assume
from explaineval.config import Arm, ModelConfig
from explaineval.costs import Price, dollars
from explaineval.experiment.forecasts import Forecast
from explaineval.experiment.plans import Unit, plan
from explaineval.experiment.preparations import Prepared
from explaineval.experiment.trials import Reply, ask_again
from explaineval.records import Request


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
    able: dict[str, Capabilities] = field(default_factory=dict)

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
            "usd_saved": None if self.forecast.price is None else self.saved,
        }


def project(
    prepared: Prepared, store: Store | None, prices: Mapping[tuple[str | None, str], Price | None]
) -> list[Projection]:
    """A projection for every model. `store` None stands for an empty cache. Nothing is sent and nothing written."""
    found = []
    for model in prepared.config.models:
        one = Projection(model, Forecast(prices[model.endpoint, model.model]))
        for request, hit in walk(prepared, store, one):
            if not hit:
                one.forecast.miss(request)
        one.forecast.learn(store, model)
        found.append(one)
    return found


def walk(prepared: Prepared, store: Store | None, one: Projection) -> Iterator[tuple[Request, bool]]:
    """Every distinct request of a model's plan, with whether its answer is stored. Counts what it passes."""

    def able(arm: Arm) -> Capabilities:
        if arm.style not in one.able:
            one.able[arm.style], settled = assume(store, prepared.config, one.model, arm.style)
            one.assumed = one.assumed or not settled
        return one.able[arm.style]

    seen: set[int] = set()
    for unit in plan(prepared.config, prepared.prompts, prepared.tasks, prepared.chosen.edits, one.model, able):
        one.planned += unit.planned
        for request in (unit.base, *(asked.request for asked in unit.asked if asked.request), *unit.shams):
            yield from _look(store, one, seen, unit, request, prepared.config.retry)


def _look(
    store: Store | None, one: Projection, seen: set[int], unit: Unit, request: Request, retry: tuple[str, ...]
) -> Iterator[tuple[Request, bool]]:
    """The request, and the one that asks again where the stored answer is to be asked again."""
    key = request_key(request)
    short = int(key[:16], 16)
    new = short not in seen
    if not new and not retry:
        return
    seen.add(short)
    stored = None if store is None else store.get(key)
    if new:
        one.distinct += 1
        if stored is not None:
            one.hits += 1
            one.forecast.lengths.see(request, stored)
            if one.forecast.price is not None:
                one.saved += dollars(stored.usage, one.forecast.price)
        yield request, stored is not None
    if stored is not None and retry:
        again = ask_again(unit, Reply(request, stored), retry)
        if again is not None:
            one.planned += 1
            yield from _look(store, one, seen, unit, again, retry)


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
