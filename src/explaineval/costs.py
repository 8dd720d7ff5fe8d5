"""Dollars from raw usage and a price list. Pure; an unknown price is None, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MILLION = 1e6


@dataclass(frozen=True)
class Price:
    """Dollars per token: input, output, and input read from the provider's own prompt cache."""

    input: float
    output: float
    cached_input: float | None = None


FREE = Price(0.0, 0.0, 0.0)


def price_given(per_million: tuple[float, float]) -> Price:
    """The price of `--price IN,OUT` (dollars per million tokens)."""
    return Price(per_million[0] / MILLION, per_million[1] / MILLION)


def price_listed(model: str, price_map: Mapping[str, Mapping[str, Any]]) -> Price | None:
    """The price of `provider/model` in litellm's map, None where the map has none."""
    for name in (model, model.partition("/")[2]):
        entry = price_map.get(name)
        if entry and entry.get("input_cost_per_token") is not None and entry.get("output_cost_per_token") is not None:
            cached = entry.get("cache_read_input_token_cost")
            return Price(
                float(entry["input_cost_per_token"]),
                float(entry["output_cost_per_token"]),
                None if cached is None else float(cached),
            )
    return None


def dollars(usage: Mapping[str, Any], price: Price) -> float:
    """What one completion cost. Tokens read from the provider's prompt cache have their own price where it is known.

    >>> dollars({"prompt_tokens": 1000, "completion_tokens": 500}, Price(1e-6, 2e-6))
    0.002
    """
    prompt = _count(usage.get("prompt_tokens"))
    completion = output_tokens(usage)
    details = usage.get("prompt_tokens_details")
    cached = min(prompt, _count(details.get("cached_tokens"))) if isinstance(details, Mapping) else 0
    if price.cached_input is None:
        cached = 0
    return (prompt - cached) * price.input + cached * (price.cached_input or 0.0) + completion * price.output


def output_tokens(usage: Mapping[str, Any]) -> int:
    """Tokens that are billed as output: hidden reasoning too where the endpoint counts it apart from the completion.

    >>> output_tokens({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115})
    105
    """
    total = _count(usage.get("total_tokens")) - _count(usage.get("prompt_tokens"))
    return max(_count(usage.get("completion_tokens")), total)


def reasoning_tokens(usage: Mapping[str, Any]) -> int:
    """Tokens spent on reasoning that is not shown, as far as the endpoint tells."""
    details = usage.get("completion_tokens_details")
    told = _count(details.get("reasoning_tokens")) if isinstance(details, Mapping) else 0
    return max(told, output_tokens(usage) - _count(usage.get("completion_tokens")))


def _count(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and value > 0 else 0
