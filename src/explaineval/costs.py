"""Dollars from raw usage and prices, and what a request can cost at most. Pure; an unknown price is None, never 0."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

MILLION = 1e6

Tier = Literal["", "batches", "flex", "priority"]
"""How a request is served, as far as it changes the price; litellm's map names prices so."""

BATCH_SHARE = 0.5
"""What a batch costs of the usual price at OpenAI and Anthropic, where the list has no price of its own for it."""

TOKENS_PER_TURN = 16
TOKENS_PER_TEMPLATE = 192
"""Room for what a chat template adds around a turn and around the whole (role marks, a default system text)."""


TOKENS_AROUND_ANSWER = 16
"""So many tokens more in the total than in prompt and completion are marks of turns and the like, not reasoning."""


@dataclass(frozen=True)
class Price:
    """Dollars per token, and for a request as such.

    `cached_input` is input read from the provider's own prompt cache, `written_input` input put there, `reasoning`
    output that is not shown; each None where it costs what input or output does.
    """

    input: float
    output: float
    cached_input: float | None = None
    written_input: float | None = None
    reasoning: float | None = None
    request: float = 0.0


FREE = Price(0.0, 0.0, 0.0)


def price_given(per_million: tuple[float, float]) -> Price:
    """The price of `--price IN,OUT` (dollars per million tokens)."""
    return Price(per_million[0] / MILLION, per_million[1] / MILLION)


def price_listed(model: str, price_map: Mapping[str, Mapping[str, Any]], tier: Tier = "") -> Price | None:
    """The price of `provider/model` in litellm's map, None where the map has none (for this tier).

    A batch without a price of its own costs BATCH_SHARE of the usual one.
    """
    for name in (model, model.partition("/")[2]):
        entry = price_map.get(name)
        if not entry:
            continue
        price = _entry_price(entry, f"_{tier}" if tier else "")
        if price is None and tier == "batches" and (usual := _entry_price(entry, "")) is not None:
            price = _halved(usual)
        if price is not None:
            return price
    return None


def _halved(usual: Price) -> Price:
    """A batch's price; whether what is read from the provider's cache gets cheaper once more, nobody says."""

    def half(value: float | None) -> float | None:
        return None if value is None else value * BATCH_SHARE

    return Price(
        usual.input * BATCH_SHARE,
        usual.output * BATCH_SHARE,
        written_input=half(usual.written_input),
        reasoning=half(usual.reasoning),
        request=usual.request,
    )


def _entry_price(entry: Mapping[str, Any], suffix: str) -> Price | None:
    def read(name: str) -> float | None:
        value = entry.get(name + suffix)
        return None if value is None else float(value)

    into, out = read("input_cost_per_token"), read("output_cost_per_token")
    if into is None or out is None:
        return None
    return Price(
        into,
        out,
        read("cache_read_input_token_cost"),
        read("cache_creation_input_token_cost"),
        read("output_cost_per_reasoning_token"),
        float(entry.get("input_cost_per_request") or 0.0),
    )


def dollars(usage: Mapping[str, Any], price: Price) -> float:
    """What one completion cost, each kind of token at its own price where that is known.

    >>> dollars({"prompt_tokens": 1000, "completion_tokens": 500}, Price(1e-6, 2e-6))
    0.002
    """
    prompt, out = input_tokens(usage), output_tokens(usage)
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, Mapping) else {}
    read = min(prompt, _count(details.get("cached_tokens")) or _count(usage.get("cache_read_input_tokens")))
    written = _count(details.get("cache_creation_tokens")) or _count(usage.get("cache_creation_input_tokens"))
    written = min(prompt - read, written)
    hidden = min(out, reasoning_tokens(usage))
    return (
        (prompt - read - written) * price.input
        + read * (price.input if price.cached_input is None else price.cached_input)
        + written * (price.input if price.written_input is None else price.written_input)
        + (out - hidden) * price.output
        + hidden * (price.output if price.reasoning is None else price.reasoning)
        + price.request
    )


def is_metered(usage: Mapping[str, Any]) -> bool:
    """Whether the endpoint counted the tokens; where it did not, what was paid cannot be known.

    >>> is_metered({"prompt_tokens": 3, "completion_tokens": 1}), is_metered({})
    (True, False)
    """
    into, out = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return _count(usage.get("total_tokens")) > 0 or (_count(into) > 0 and isinstance(out, (int, float)))


def most_dollars(tokens_in: int, tokens_out: int, price: Price) -> float:
    """What this many tokens cost if each is of the dearest kind."""
    dearest_in = max(price.input, price.cached_input or 0.0, price.written_input or 0.0)
    return tokens_in * dearest_in + tokens_out * max(price.output, price.reasoning or 0.0) + price.request


def most_tokens(texts: Iterable[str]) -> int:
    """An upper bound on the tokens of a prompt made of these turns.

    No tokenizer in use makes more tokens than there are bytes: byte-level BPE begins with one token a byte,
    SentencePiece falls back to bytes, after NFKC where that makes the text longer. Templates add a fixed amount.

    >>> most_tokens(["ab"]) == 2 + TOKENS_PER_TURN + TOKENS_PER_TEMPLATE
    True
    """
    total = TOKENS_PER_TEMPLATE
    for text in texts:
        total += TOKENS_PER_TURN + max(text_bytes(text), 0 if text.isascii() else _folded_bytes(text))
    return total


def text_bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _folded_bytes(text: str) -> int:
    return text_bytes(unicodedata.normalize("NFKC", text))


def input_tokens(usage: Mapping[str, Any]) -> int:
    """Tokens that are billed as input."""
    return _count(usage.get("prompt_tokens"))


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


def reasons_first(usage: Mapping[str, Any]) -> bool:
    """Whether the counts show reasoning before the answer: told as such, or far more output than the answer has.

    A few tokens more in the total are what an endpoint adds around an answer, not reasoning.

    >>> reasons_first({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 15})
    False
    """
    details = usage.get("completion_tokens_details")
    if isinstance(details, Mapping) and _count(details.get("reasoning_tokens")):
        return True
    return output_tokens(usage) - _count(usage.get("completion_tokens")) > TOKENS_AROUND_ANSWER


def _count(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) and 0 < value < math.inf else 0
