"""What a run cost: spent now, saved by the cache, cost from scratch. Raw usage in, dollars out, nothing guessed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path
from typing import Any

from explaineval.config import ClientConfig, ModelConfig
from explaineval.costs import FREE, Price, dollars, price_given, price_listed, reasoning_tokens
from explaineval.records import Completion

PRICE_FILE = "model_prices_and_context_window_backup.json"


@dataclass
class Ledger:
    """Sums of tokens and dollars over the distinct requests of one model."""

    price: Price | None
    spent: float = 0.0
    saved: float = 0.0
    reasoned: int = 0
    cut: int = 0
    cut_blank: int = 0
    tokens: dict[str, int] = field(default_factory=lambda: {"sent_in": 0, "sent_out": 0, "hit_in": 0, "hit_out": 0})

    def add(self, completion: Completion, *, hit: bool) -> None:
        """Book one completion, bought now or found in the store."""
        usage = completion.usage
        self.reasoned += reasoning_tokens(usage) > 0
        if completion.finish_reason in ("length", "max_tokens"):
            self.cut += 1
            self.cut_blank += not (completion.text or "").strip()
        where = "hit" if hit else "sent"
        for name, side in (("prompt_tokens", "in"), ("completion_tokens", "out")):
            count = usage.get(name)
            if isinstance(count, (int, float)):
                self.tokens[f"{where}_{side}"] += int(count)
        if self.price is None:
            return
        cost = dollars(usage, self.price)
        if hit:
            self.saved += cost
        else:
            self.spent += cost

    def notes(self, model: str, max_tokens: int, orders: Collection[str]) -> Iterator[str]:
        """What the user should know about answers that were cut off, and about hidden reasoning."""
        if self.cut:
            blank = f" ({self.cut_blank} of them before any answer, on reasoning)" if self.cut_blank else ""
            yield (
                f"{model}: {self.cut} answers were cut off at {max_tokens} tokens{blank}: raise --max-tokens, or ask "
                "those again with --retry truncated."
            )
        if self.reasoned and "pe" in orders:
            yield (
                f"{model} reasons before it answers ({self.reasoned} answers): order pe is then not "
                "predict-then-explain, since the answer follows hidden reasoning."
            )


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


def price_for(model: ModelConfig, config: ClientConfig, prices: PriceList) -> Price | None:
    """The user's price, else 0 for a loopback or private address, else the list's for the provider's own address."""
    given = config.price_of(model)
    if given is not None:
        return price_given(given)
    endpoint = config.endpoint_of(model)
    if endpoint.private:
        return FREE
    return price_listed(model.model, prices.prices) if endpoint.base_url is None else None
