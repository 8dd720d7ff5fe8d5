"""Counts, tokens and costs of stored answers by model. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from explaineval.cache.rows import Answer
from explaineval.cost import FREE, Price, dollars, is_metered
from explaineval.records import Completion, Request

PriceOf = Callable[[Request], Price | None]
"""Returns the price of a request's tokens, None where it is not known."""


@dataclass
class ModelStats:
    """Sums over the answers of one model at one endpoint.

    `tokens` sums each whole number of the raw usage by its name. `usd` is what the answers cost, None where a price is
    not known. `unmetered` counts answers that are not free and came without a count of tokens: `usd` lacks them.
    """

    endpoint: str | None
    model: str
    entries: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    usd: float | None = 0.0
    unmetered: int = 0

    def add(self, completion: Completion, price: Price | None) -> None:
        """Add an answer, whose tokens have this price."""
        self.entries += 1
        counts = {
            name: number for name, number in completion.usage.items() if type(number) is int
        }  # no details, no bool
        self.tokens = {name: self.tokens.get(name, 0) + counts.get(name, 0) for name in sorted({*self.tokens, *counts})}
        self.unmetered += price != FREE and not is_metered(completion.usage)
        if price is None:
            self.usd = None
        elif self.usd is not None:  # answer by answer: tokens of one name may have several prices
            self.usd += dollars(completion.usage, price)


@dataclass(frozen=True)
class StoreStats:
    """What a store holds: readable answers, rows that were refused, bytes of the database with its log.

    `usd` is the sum over the models, None where that of one is not known.
    """

    entries: int
    refused: int
    bytes: int
    models: tuple[ModelStats, ...]
    usd: float | None = None


def summarise(answers: Iterable[Answer], price_of: PriceOf | None = None) -> tuple[ModelStats, ...]:
    """Sum answers, raw usage and dollars by endpoint and model, sorted by these."""
    groups: dict[tuple[str | None, str], ModelStats] = {}
    for _, request, completion in answers:
        stats = groups.setdefault((request.endpoint, request.model), ModelStats(request.endpoint, request.model))
        stats.add(completion, None if price_of is None else price_of(request))
    return tuple(sorted(groups.values(), key=lambda stats: (stats.endpoint or "", stats.model)))


def total_usd(models: Iterable[ModelStats]) -> float | None:
    """Return the dollars of all models, None where those of one are not known."""
    costs = [model.usd for model in models]
    known = [usd for usd in costs if usd is not None]
    return sum(known) if len(known) == len(costs) else None
