"""Estimate the tokens and dollars of requests without an answer, from the lengths of stored answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
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
from explaineval.text import counted

CASES = ("low", "expected", "worst")
"""How well it goes."""

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

    def add(self, request: Request, completion: Completion) -> None:
        """Take one answer into account."""
        if not is_metered(completion.usage) or len(self.tokens_out) >= KEPT:
            return
        if input_tokens(completion.usage) > most_tokens(texts_of(request)):
            return  # not the length of this text: the endpoint counted something else
        self.bytes_in += _bytes(request)
        self.tokens_in += input_tokens(completion.usage)
        self.tokens_out.append(output_tokens(completion.usage))

    @property
    def enough(self) -> bool:
        """Whether there are enough answers to go by."""
        return len(self.tokens_out) >= ENOUGH


@dataclass
class Missing:
    """Sums over requests without an answer: how many, bytes in, the most tokens in and out."""

    count: int = 0
    bytes_in: int = 0
    most_in: int = 0
    most_out: int = 0

    def __add__(self, other: Missing) -> Missing:
        return Missing(
            self.count + other.count,
            self.bytes_in + other.bytes_in,
            self.most_in + other.most_in,
            self.most_out + other.most_out,
        )


@dataclass
class CostEstimate:
    """Counts the requests of one model that have no answer, and estimates what asking them takes."""

    price: Price | None
    lengths: Lengths = field(default_factory=Lengths)
    basis: str = ""
    """Where the lengths come from, in words."""
    parts: dict[int, Missing] = field(default_factory=dict)
    """The requests, by how many of the prices for long prompts they can reach."""

    def add_missing(self, request: Request) -> None:
        """Count a request without an answer."""
        most_in = most_tokens(texts_of(request))
        reached = 0 if self.price is None else self.price.reached(most_in)
        missing = Missing(1, _bytes(request), most_in, request.max_tokens)
        self.parts[reached] = self.parts.get(reached, Missing()) + missing

    @property
    def missing(self) -> int:
        """How many requests have no answer."""
        return sum(part.count for part in self.parts.values())

    def learn_lengths(self, store: Store | None, model: ModelConfig) -> None:
        """Where too few answers were counted, take the lengths of other answers of the model from the store."""
        if self.lengths.enough:
            self.basis = f"lengths as in {counted(len(self.lengths.tokens_out), 'answer')} of this plan"
            return
        if store is not None and self.missing:
            stored = Lengths()  # anew: what was counted so far is among the stored
            for _, request, completion in itertools.islice(store.iterate(), SCANNED):
                if (request.endpoint, request.model) == (model.endpoint, model.model):
                    stored.add(request, completion)
            if stored.enough:
                self.lengths = stored
                self.basis = f"lengths as in {counted(len(stored.tokens_out), 'stored answer')} of this model"
                return
        low, expected = TOKENS_OUT
        self.basis = (
            f"nothing is stored to take lengths from, so they are guessed: {TOKENS_PER_BYTE:g} tokens a byte, "
            f"{low} (low) or {expected} (expected) an answer"
        )

    def tokens(self) -> tuple[int, dict[str, int]]:
        """Tokens in, and tokens out by how well it goes (low, expected, worst)."""
        return self._tokens(sum(self.parts.values(), Missing()))

    def _tokens(self, missing: Missing) -> tuple[int, dict[str, int]]:
        lengths = self.lengths
        mean_limit = missing.most_out / missing.count if missing.count else 0.0
        if lengths.enough:
            tokens_in = missing.bytes_in * lengths.tokens_in / max(1, lengths.bytes_in)
            ordered = sorted(lengths.tokens_out)
            expected = sum(ordered) / len(ordered)
            low = min(ordered[int(LOW * len(ordered))], expected)  # a few very short ones can draw the mean below it
        else:
            tokens_in = missing.bytes_in * TOKENS_PER_BYTE
            low, expected = TOKENS_OUT
        tokens_out = {
            "low": round(missing.count * min(low, mean_limit)),
            "expected": round(missing.count * min(expected, mean_limit)),
            "worst": missing.most_out,
        }
        return round(tokens_in), tokens_out

    def usd(self) -> dict[str, float | None]:
        """Dollars likewise; the worst case is what a spending limit would have to allow. None without a price."""
        if self.price is None:
            return dict.fromkeys(CASES)
        parts = [self._usd(self.price, reached, missing) for reached, missing in sorted(self.parts.items())]
        return {case: sum((part[case] for part in parts), 0.0) for case in CASES}

    def _usd(self, price: Price, reached: int, missing: Missing) -> dict[str, float]:
        """Dollars of the requests that can reach so many of the prices for long prompts."""
        tokens_in, tokens_out = self._tokens(missing)
        usual = price.at(tokens_in // missing.count)
        fixed = missing.count * price.request
        usd = {case: fixed + tokens_in * usual.input + tokens_out[case] * usual.output for case in ("low", "expected")}
        possible = [price, *(above for _, above in price.above[:reached])]
        usd["worst"] = fixed + max(
            most_dollars(missing.most_in, missing.most_out, replace(each, request=0.0, above=())) for each in possible
        )
        return usd

    def document(self) -> dict[str, Any]:
        """Tokens and dollars as in `plan --json`."""
        tokens_in, tokens_out = self.tokens()
        return {"tokens_in": tokens_in, "tokens_out": tokens_out, "usd": self.usd()}


def _bytes(request: Request) -> int:
    return sum(text_bytes(text) for text in texts_of(request))


@dataclass
class PlanCost:
    """One model's part of a plan: what is stored, and what the rest takes.

    `assumed` says that nothing is known of how its endpoint is asked.
    """

    model: ModelConfig
    estimate: CostEstimate
    assumed: bool = False
    planned: int = 0
    distinct: int = 0
    hits: int = 0
    saved: float = 0.0
    unmetered: int = 0

    @property
    def knows_saved(self) -> bool:
        """Whether the price is known, and every stored answer came with its count of tokens."""
        return self.estimate.price is not None and (self.estimate.price == FREE or not self.unmetered)

    def add(self, request: Request, completion: Completion | None) -> None:
        """Count one distinct request, with its stored answer if there is one."""
        self.distinct += 1
        if completion is None:
            self.estimate.add_missing(request)
            return
        self.hits += 1
        self.estimate.lengths.add(request, completion)
        self.unmetered += not is_metered(completion.usage)
        if self.estimate.price is not None:
            self.saved += dollars(completion.usage, self.estimate.price)

    def document(self) -> dict[str, Any]:
        """As in `plan --json`."""
        return {
            "endpoint": self.model.endpoint,
            "model": self.model.model,
            "planned": self.planned,
            "distinct": self.distinct,
            "hits": self.hits,
            "misses": self.estimate.missing,
            **self.estimate.document(),
            "usd_saved": self.saved if self.knows_saved else None,
        }


def estimate_costs(prepared: Prepared, store: Store | None, prices: Prices) -> list[PlanCost]:
    """What each model's plan takes. `store` None stands for an empty cache. Nothing is sent and nothing written."""
    return [
        _estimate_cost(prepared, store, model, prices.of_run[model.endpoint, model.model])
        for model in prepared.config.models
    ]


def _estimate_cost(prepared: Prepared, store: Store | None, model: ModelConfig, price: Price | None) -> PlanCost:
    cost = PlanCost(model, CostEstimate(price))
    capabilities: dict[str, Capabilities] = {}

    def assume(arm: Arm) -> Capabilities:
        if arm.style not in capabilities:
            capabilities[arm.style], known = assume_capabilities(store, prepared.config, model, arm.style)
            cost.assumed = cost.assumed or not known
        return capabilities[arm.style]

    def units() -> Iterator[Unit]:
        for unit in plan(prepared, model, assume):
            cost.planned += unit.planned
            yield unit

    for step in walk_units(units(), prepared, find_nothing if store is None else store.get):
        cost.planned += step.request.sample >= RETRY_SAMPLES
        cost.add(step.request, step.completion)
    cost.estimate.learn_lengths(store, model)
    return cost


def total_costs(costs: Sequence[PlanCost]) -> dict[str, Any]:
    """The sums over all models; dollars are None where a price is unknown."""
    documents = [cost.document() for cost in costs]
    counts = ("planned", "distinct", "hits", "misses", "tokens_in")

    def add(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    return {
        **{name: sum(document[name] for document in documents) for name in counts},
        "tokens_out": {case: sum(document["tokens_out"][case] for document in documents) for case in CASES},
        "usd": {case: add([document["usd"][case] for document in documents]) for case in CASES},
        "usd_saved": add([document["usd_saved"] for document in documents]),
    }
