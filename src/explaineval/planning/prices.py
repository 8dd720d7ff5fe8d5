"""Prices of models, and the dollars and tokens of a run: spent now, and saved by the cache."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import util
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import JsonValue

from explaineval.config import ClientConfig, ModelConfig
from explaineval.cost import (
    FREE,
    Price,
    Tier,
    dollars,
    input_tokens,
    is_metered,
    keeps_for_an_hour,
    output_tokens,
    price_given,
    price_listed,
    reasons_first,
    tier_of,
)
from explaineval.errors import InputError
from explaineval.records import SIMULATED_PREFIX, Completion
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
class Ledger:
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
