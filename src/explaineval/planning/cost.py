"""What unsent requests would take: tokens and dollars, low, expected and worst, from the lengths of stored answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from explaineval.cache import Store
from explaineval.client.endpoints.capabilities import Capabilities, assume_capabilities
from explaineval.client.spending import texts_of
from explaineval.config import Arm, ModelConfig
from explaineval.cost import (
    FREE,
    Price,
    dollars,
    input_tokens,
    is_metered,
    most_dollars,
    most_tokens,
    output_tokens,
    text_bytes,
)
from explaineval.planning.prepare import Prepared
from explaineval.planning.prices import Prices
from explaineval.planning.replies import RETRY_SAMPLES
from explaineval.planning.units import Unit, find_nothing, plan, walk_units
from explaineval.records import Completion, Request

ENOUGH = 20
"""Answers from which lengths are taken rather than from the prior."""

SCANNED = 20_000
"""Rows of a store that are looked at for answers of a model, at the most."""

KEPT = 5_000
"""Lengths of answers that are remembered."""

TOKENS_PER_BYTE = 0.25
TOKENS_OUT = (20, 100)
"""The prior where nothing is known: a token for four bytes in, so many tokens out (low, expected)."""

LOW = 0.1
"""The share of answers that are shorter than the low figure."""


@dataclass
class Lengths:
    """How long prompts and answers of one model were, in tokens."""

    bytes_in: int = 0
    tokens_in: int = 0
    tokens_out: list[int] = field(default_factory=list)

    def see(self, request: Request, completion: Completion) -> None:
        """Take one answer into account."""
        if not is_metered(completion.usage) or len(self.tokens_out) >= KEPT:
            return
        if input_tokens(completion.usage) > most_tokens(texts_of(request)):
            return  # no length of this text: the endpoint counted something else
        self.bytes_in += _bytes(request)
        self.tokens_in += input_tokens(completion.usage)
        self.tokens_out.append(output_tokens(completion.usage))

    @property
    def enough(self) -> bool:
        """Whether there are enough answers to go by."""
        return len(self.tokens_out) >= ENOUGH


@dataclass
class Misses:
    """Sums over requests without answer: how many, bytes in, the most tokens in and out."""

    count: int = 0
    bytes_in: int = 0
    most_in: int = 0
    most_out: int = 0

    def add(self, request: Request) -> None:
        """Count one."""
        self.count += 1
        self.bytes_in += _bytes(request)
        self.most_in += most_tokens(texts_of(request))
        self.most_out += request.max_tokens


@dataclass
class Forecast:
    """Counts what is missing of one model, and tells what asking it would take."""

    price: Price | None
    lengths: Lengths = field(default_factory=Lengths)
    basis: str = ""
    total: Misses = field(default_factory=Misses)
    by_price: dict[int, Misses] = field(default_factory=dict)
    """The same by how many of the prices for long prompts a request can reach."""

    def miss(self, request: Request) -> None:
        """Count a request without answer."""
        self.total.add(request)
        if self.price is not None:
            reached = self.price.reached(most_tokens(texts_of(request)))
            self.by_price.setdefault(reached, Misses()).add(request)

    @property
    def misses(self) -> int:
        """How many requests have no answer."""
        return self.total.count

    def learn(self, store: Store | None, model: ModelConfig) -> None:
        """Where too few answers were seen on the way, take the lengths of others of the model from the store."""
        if self.lengths.enough:
            self.basis = f"lengths as in {len(self.lengths.tokens_out)} answers of this plan"
            return
        if store is not None and self.misses:
            found = Lengths()  # anew: what was seen on the way is among the stored
            for _, request, completion in itertools.islice(store.iterate(), SCANNED):
                if (request.endpoint, request.model) == (model.endpoint, model.model):
                    found.see(request, completion)
            if found.enough:
                self.lengths = found
                self.basis = f"lengths as in {len(self.lengths.tokens_out)} stored answers of this model"
                return
        low, expected = TOKENS_OUT
        self.basis = (
            f"nothing is stored to take lengths from, so they are guessed: {TOKENS_PER_BYTE:g} tokens a byte, "
            f"{low} (low) or {expected} (expected) an answer"
        )

    def tokens(self) -> tuple[int, dict[str, int]]:
        """Tokens in, and tokens out by how well it goes (low, expected, worst)."""
        return self._tokens(self.total)

    def _tokens(self, missing: Misses) -> tuple[int, dict[str, int]]:
        known = self.lengths
        mean_limit = missing.most_out / missing.count if missing.count else 0.0
        if known.enough:
            into = missing.bytes_in * known.tokens_in / max(1, known.bytes_in)
            ordered = sorted(known.tokens_out)
            expected = sum(ordered) / len(ordered)
            low = min(ordered[int(LOW * len(ordered))], expected)  # a few very short ones can draw the mean below it
        else:
            into = missing.bytes_in * TOKENS_PER_BYTE
            low, expected = TOKENS_OUT
        out = {
            "low": round(missing.count * min(low, mean_limit)),
            "expected": round(missing.count * min(expected, mean_limit)),
            "worst": missing.most_out,
        }
        return round(into), out

    def usd(self) -> dict[str, float | None]:
        """Dollars likewise; the worst case is what a spending limit would have to allow. None without a price."""
        if self.price is None:
            return {"low": None, "expected": None, "worst": None}
        parts = [self._usd(self.price, reached, missing) for reached, missing in sorted(self.by_price.items())]
        return {name: sum((part[name] for part in parts), 0.0) for name in ("low", "expected", "worst")}

    def _usd(self, price: Price, reached: int, missing: Misses) -> dict[str, float]:
        """Dollars of the requests that can reach so many of the prices for long prompts."""
        into, out = self._tokens(missing)
        usual = price.at(into // missing.count)
        fixed = missing.count * price.request
        found = {name: fixed + into * usual.input + out[name] * usual.output for name in ("low", "expected")}
        within = [price, *(one for _, one in price.above[:reached])]
        found["worst"] = fixed + max(
            most_dollars(missing.most_in, missing.most_out, replace(one, request=0.0, above=())) for one in within
        )
        return found

    def document(self) -> dict[str, Any]:
        """Tokens and dollars as in `plan --json`."""
        into, out = self.tokens()
        return {"tokens_in": into, "tokens_out": out, "usd": self.usd()}


def _bytes(request: Request) -> int:
    return sum(text_bytes(text) for text in texts_of(request))


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
            one.able[arm.style], settled = assume_capabilities(store, config, model, arm.style)
            one.assumed = one.assumed or not settled
        return one.able[arm.style]

    def units() -> Iterator[Unit]:
        for unit in plan(prepared, model, able):
            one.planned += unit.planned
            yield unit

    for step in walk_units(units(), prepared, store.get if store is not None else find_nothing):
        one.planned += step.request.sample >= RETRY_SAMPLES
        one.see(step.request, step.completion)
    one.forecast.learn(store, model)
    return one


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
