"""What a plan costs: prices of models, tokens and dollars of requests without an answer, and the first requests.

Lengths of stored answers say how long the others will be. `Ledger` adds up what a run spends and what the cache saves.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import util
from itertools import groupby, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import JsonValue

from explaineval.cache import Store
from explaineval.client.endpoints.capabilities import Capabilities, assume_capabilities
from explaineval.client.spending import texts_of
from explaineval.config import Arm, ClientConfig, ModelConfig
from explaineval.cost import (
    FREE,
    Price,
    Tier,
    dollars,
    input_tokens,
    is_metered,
    keeps_for_an_hour,
    most_dollars,
    most_tokens,
    output_tokens,
    price_given,
    price_listed,
    reasons_first,
    text_bytes,
    tier_of,
)
from explaineval.errors import InputError
from explaineval.planning.prepare import Prepared
from explaineval.planning.requests import RETRY_SAMPLES
from explaineval.planning.units import Step, Unit, builders, find_nothing, plan, units_of, walk_units
from explaineval.records import SIMULATED_PREFIX, Completion, Request
from explaineval.rundir.schema import Snapshot
from explaineval.scoring.codes import Note, note, versions_text
from explaineval.text import counted

PRICE_FILE = "model_prices_and_context_window_backup.json"

FAULTS = {
    "oversized": "larger than an answer of that many tokens can be (oversized), and were cut",
    "malformed": "not in the form of an answer (malformed)",
}


MOST_SNAPSHOTS = 100
"""Snapshots of one model that are told apart; further ones are not counted."""


@dataclass
class DistinctCost:
    """Sums of tokens and dollars over the distinct requests of one model."""

    price: Price | None
    spent: float = 0.0
    saved: float = 0.0
    unmetered: int = 0
    reasoned: int = 0
    cut: int = 0
    cut_blank: int = 0
    repaired: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    served: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)
    """How many answers came from each snapshot: the model's name and the fingerprint that came with them."""
    tokens: dict[str, int] = field(default_factory=lambda: {"sent_in": 0, "sent_out": 0, "hit_in": 0, "hit_out": 0})

    def add(self, completion: Completion, *, hit: bool, price: Price | None = None) -> None:
        """Add one completion, bought now or stored before; `price` is its own where that is not the run's."""
        usage = completion.usage
        self.reasoned += reasons_first(usage)
        if completion.finish_reason in ("length", "max_tokens"):
            self.cut += 1
            self.cut_blank += not (completion.text or "").strip()
        self.repaired += bool(completion.repaired) and completion.fault is None
        if completion.fault is not None:
            self.faults[completion.fault] = self.faults.get(completion.fault, 0) + 1
        snapshot = completion.model, completion.fingerprint
        if snapshot in self.served or len(self.served) < MOST_SNAPSHOTS:
            self.served[snapshot] += 1
        where = "hit" if hit else "sent"
        self.tokens[f"{where}_in"] += input_tokens(usage)
        self.tokens[f"{where}_out"] += output_tokens(usage)
        if self.price is None:
            return
        self.unmetered += not is_metered(usage)
        cost = dollars(usage, self.price if price is None else price)
        if hit:
            self.saved += cost
        else:
            self.spent += cost

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """What the endpoint said that it served, the most frequent first."""
        order = sorted(self.served.items(), key=lambda item: (-item[1], tuple(map(str, item[0]))))
        return tuple(
            Snapshot(model=model, fingerprint=fingerprint, answers=count) for (model, fingerprint), count in order
        )

    @property
    def known(self) -> bool:
        """Whether the sums in dollars are right: the price is known, and every answer came with its count of tokens."""
        return self.price is not None and (self.price == FREE or not self.unmetered)

    def notes(self, model: str, max_tokens: int, orders: Collection[str]) -> Iterator[Note]:
        """What the user should know about answers that were cut off, and about hidden reasoning."""
        if self.price is not None and not self.known:
            yield note("tokens_uncounted", model=model, answers=counted(self.unmetered, "answer"))
        for fault, count in sorted(self.faults.items()):
            answers = counted(count, "answer", "are")
            yield note("answers_faulty", model=model, answers=answers, fault=FAULTS[fault])
        if self.repaired:
            yield note("answers_repaired", model=model, answers=counted(self.repaired, "answer"))
        if self.cut:
            blank = f" ({self.cut_blank} of them before any answer, on reasoning)" if self.cut_blank else ""
            answers = counted(self.cut, "answer", "were")
            yield note("answers_cut_off", model=model, answers=answers, tokens=max_tokens, blank=blank)
        if len(self.served) > 1:
            yield note("versions_mixed", model=model, versions=versions_text(self.snapshots))
        if self.reasoned and "pe" in orders:
            yield note("reasons_first", "asked", model=model, answers=counted(self.reasoned, "answer"))


@dataclass(frozen=True)
class PriceList:
    """litellm's price map as installed, read without importing litellm, with its hash as its version."""

    prices: Mapping[str, Mapping[str, Any]]
    version: str


def read_price_list() -> PriceList:
    """The installed price map; empty where the file cannot be found."""
    spec = util.find_spec("litellm")
    path = Path(spec.origin).parent / PRICE_FILE if spec and spec.origin else Path()
    if not path.is_file():
        return PriceList({}, "none")
    text = path.read_bytes()
    return PriceList(json.loads(text), f"litellm:{hashlib.sha256(text).hexdigest()[:12]}")


def price_for(
    model: ModelConfig, config: ClientConfig, prices: PriceList, tier: Tier = "", *, for_an_hour: bool = False
) -> Price | None:
    """The price of a model's tokens; None where it is not known.

    0 for a simulated model; else the user's price, else 0 for a loopback or private address, else the list's for the
    provider's own address. `for_an_hour` says that requests ask the provider to keep their prompts for an hour: then
    the most that a request can cost is higher.
    """
    if model.model.startswith(SIMULATED_PREFIX):
        return FREE
    given = config.price_of(model)
    if given is not None:
        return price_given(given)
    endpoint = config.endpoint_of(model)
    if endpoint.private:
        return FREE
    listed = price_listed(model.model, prices.prices, tier) if endpoint.base_url is None else None
    return listed if listed is None or for_an_hour else listed.without_hour()


@dataclass(frozen=True)
class Prices:
    """Prices by (endpoint, model): of one request alone, and as the run asks (in batches with --batch)."""

    singly: Mapping[tuple[str | None, str], Price | None]
    of_run: Mapping[tuple[str | None, str], Price | None]


def prices_of(
    models: Collection[ModelConfig],
    client: ClientConfig,
    listed: PriceList,
    params: Mapping[str, JsonValue] = MappingProxyType({}),
) -> Prices:
    """The prices of every model; `params` are sent with every request of the run.

    Raises InputError where a spending limit is set and a price is unknown: the limit could not hold.
    """
    usual = tier_of(params)
    tier: Tier = "batches" if client.batch else usual
    price = partial(price_for, config=client, prices=listed, for_an_hour=keeps_for_an_hour(params))
    singly = {(model.endpoint, model.model): price(model, tier=usual) for model in models}
    of_run = {(model.endpoint, model.model): price(model, tier=tier) for model in models}
    for model in models:
        both = (singly[model.endpoint, model.model], of_run[model.endpoint, model.model])
        unknown = None in both  # with --batch the settling request goes alone
        if unknown and not client.offline and (client.max_usd is not None or model.max_usd is not None):
            raise InputError(
                f"a spending limit is set, but the price of {model.model} is not known: give --price IN,OUT (dollars "
                "per million tokens), or its endpoint's `price` in the configuration file."
            )
    return Prices(singly, of_run)


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
