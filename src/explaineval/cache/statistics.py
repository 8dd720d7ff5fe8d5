"""Counts, tokens and costs of stored answers by model. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from explaineval.cache.rows import Answer
from explaineval.cost import FREE, Price, dollars, is_metered
from explaineval.records import Completion, Request

PriceOf = Callable[[Request], Price | None]
"""Returns the price of a request's tokens, None where it is not known."""


@dataclass(frozen=True)
class ModelStats:
    """Answers of one model at one endpoint.

    `tokens` sums each whole number of the raw usage by its name. `usd` is what the answers cost, None where a price is
    not known. `unmetered` counts answers that are not free and came without a count of tokens: `usd` lacks
    them.
    """

    endpoint: str | None
    model: str
    entries: int
    tokens: dict[str, int]
    usd: float | None = None
    unmetered: int = 0


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


@dataclass
class _Sums:
    entries: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    usd: float = 0.0
    unmetered: int = 0
    unpriced: int = 0

    def add(self, completion: Completion, price: Price | None) -> None:
        self.entries += 1
        for name, number in completion.usage.items():
            if type(number) is int:  # not nested details or booleans
                self.tokens[name] = self.tokens.get(name, 0) + number
        self.unmetered += price != FREE and not is_metered(completion.usage)
        if price is None:
            self.unpriced += 1
        else:  # one by one: tokens of one name may have several prices
            self.usd += dollars(completion.usage, price)


def summarise(answers: Iterable[Answer], price_of: PriceOf | None = None) -> tuple[ModelStats, ...]:
    """Sum answers, raw usage and dollars by endpoint and model, sorted by these."""
    groups: dict[tuple[str | None, str], _Sums] = {}
    for _, request, completion in answers:
        sums = groups.setdefault((request.endpoint, request.model), _Sums())
        sums.add(completion, None if price_of is None else price_of(request))
    return tuple(
        ModelStats(
            *group,
            entries=sums.entries,
            tokens=dict(sorted(sums.tokens.items())),
            usd=None if sums.unpriced else sums.usd,
            unmetered=sums.unmetered,
        )
        for group, sums in sorted(groups.items(), key=lambda item: (item[0][0] or "", item[0][1]))
    )


def total_usd(models: Iterable[ModelStats]) -> float | None:
    """Return the dollars of all models, None where those of one are not known."""
    costs = [model.usd for model in models]
    known = [usd for usd in costs if usd is not None]
    return sum(known) if len(known) == len(costs) else None
