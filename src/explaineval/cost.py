"""Compute what a request cost, and can cost at most, in dollars. Pure; an unknown price is None, never 0."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

MILLION = 1e6
MOST_COUNTED = 2**53
"""A count of tokens above this is taken as this: whole numbers up to here are exact as floats."""

Tier = str
"""How a request is served, as far as it changes the price: litellm's map names prices so ("batches", "flex",
"priority" and others); empty for the usual way."""

USUAL_TIERS = (None, "", "auto", "default", "standard", "standard_only", "on_demand")
"""What `service_tier` may be for the usual price."""

BATCH_SHARE = 0.5
"""What a batch costs of the usual price at OpenAI and Anthropic, where the list has no price of its own for it."""

ABOVE = re.compile(r"input_cost_per_token_above_(\d+)(k?)_tokens")
"""The name of a price for long prompts in litellm's map: above 128k, 200k, 272k tokens and so on."""
FROM_THE_LIMIT_ON = ("xai",)
"""Providers whose price for long prompts holds from that many tokens on, not only above them."""

TOKENS_PER_TURN = 16
TOKENS_PER_TEMPLATE = 192
"""Room for what a chat template adds around a turn and around the whole (role marks, a default system text)."""


def tier_of(params: Mapping[str, Any]) -> Tier:
    """Return the tier that a request asks for by its parameters.

    >>> tier_of({"service_tier": "flex"}), tier_of({"service_tier": "auto"}), tier_of({})
    ('flex', '', '')
    """
    body = params.get("extra_body")
    named = params.get("service_tier") or (body.get("service_tier") if isinstance(body, Mapping) else None)
    return "" if named in USUAL_TIERS else str(named)


def keeps_for_an_hour(params: object) -> bool:
    """Return whether a request's parameters ask for Anthropic's cache of an hour, which is dearer to write to.

    >>> keeps_for_an_hour({"extra_body": {"cache_control": {"type": "ephemeral", "ttl": "1h"}}})
    True
    """
    if isinstance(params, Mapping):
        return params.get("ttl") == "1h" or any(map(keeps_for_an_hour, params.values()))
    return isinstance(params, (list, tuple)) and any(map(keeps_for_an_hour, params))


TOKENS_AROUND_ANSWER = 16
"""So many tokens more in the total than in prompt and completion are marks of turns and the like, not reasoning."""


@dataclass(frozen=True)
class Price:
    """Dollars per token, and for a request as such.

    `cached_input` is input read from the provider's own prompt cache, `written_input` input put there, `written_hour`
    input put there for an hour (None: as `written_input`), `reasoning` output that is not shown; each None where it
    costs what input or output does. `above` are the prices of all tokens of a request with more than so many input
    tokens, by rising number; they have none above themselves.
    """

    input: float
    output: float
    cached_input: float | None = None
    written_input: float | None = None
    reasoning: float | None = None
    request: float = 0.0
    above: tuple[tuple[int, Price], ...] = ()
    written_hour: float | None = None

    def without_hour(self) -> Price:
        """Return the price for requests that put nothing into the provider's cache for an hour."""
        return replace(
            self, written_hour=None, above=tuple((tokens, each.without_hour()) for tokens, each in self.above)
        )

    def reached(self, tokens_in: int) -> int:
        """Return how many of the limits in `above` a request with so many input tokens exceeds."""
        return sum(tokens_in > tokens for tokens, _ in self.above)

    def at(self, tokens_in: int) -> Price:
        """Return the price of a request with so many input tokens.

        >>> price = Price(1.0, 2.0, above=((200_000, Price(3.0, 4.0)),))
        >>> price.at(200_000).input, price.at(200_001).input
        (1.0, 3.0)
        """
        reached = self.reached(tokens_in)
        return self.above[reached - 1][1] if reached else self


FREE = Price(0.0, 0.0, 0.0)


def price_given(per_million: tuple[float, float]) -> Price:
    """Return the price of `--price IN,OUT` (dollars per million tokens)."""
    return Price(per_million[0] / MILLION, per_million[1] / MILLION)


def price_listed(model: str, price_map: Mapping[str, Mapping[str, Any]], tier: Tier = "") -> Price | None:
    """Return the price of `provider/model` in litellm's map, None where the map has none (for this tier).

    A name without its provider counts only where the map gives it the same provider: another one may sell the same
    model at another price. A batch without a price of its own costs BATCH_SHARE of the usual one.
    """
    provider, _, bare = model.partition("/")
    for name in (model, bare):
        entry = price_map.get(name)
        if not entry or (name == bare and provider not in str(entry.get("litellm_provider", provider))):
            continue
        price = _entry_price(entry, tier, provider)
        if price is None and tier == "batches" and (usual := _entry_price(entry, "", provider)) is not None:
            # no provider says whether what is read from its cache gets cheaper once more
            price = _scaled(usual, BATCH_SHARE, BATCH_SHARE, cached=False)
        if price is not None:
            return price
    return None


def _scaled(usual: Price, share_in: float, share_out: float, *, cached: bool = True) -> Price:
    """Return a price with input and output multiplied by these shares; the fee for a request as such stays."""

    def part(value: float | None, share: float) -> float | None:
        return None if value is None else value * share

    return Price(
        usual.input * share_in,
        usual.output * share_out,
        part(usual.cached_input, share_in) if cached else None,
        part(usual.written_input, share_in),
        part(usual.reasoning, share_out),
        usual.request,
        tuple((tokens, _scaled(price, share_in, share_out, cached=cached)) for tokens, price in usual.above),
        part(usual.written_hour, share_in),
    )


def _entry_price(entry: Mapping[str, Any], tier: Tier, provider: str) -> Price | None:
    ranges = entry.get("tiered_pricing")
    if not tier and isinstance(ranges, list) and entry.get("input_cost_per_token") is None:
        return _range_price(ranges)
    end = f"_{tier}" if tier else ""
    base = _read_price(entry, "", end)
    if base is None:
        return None
    usual = _read_price(entry, "", "") or base
    if base.written_hour is None and usual.written_hour is not None:  # the list has none for any tier
        base = replace(base, written_hour=usual.written_hour * _share(base.input, usual.input))
    above = []
    for tokens, middle in _limits(entry):
        price = _read_price(entry, middle, end, base)
        if price is None:  # this tier has none for long prompts: in proportion to the usual price
            long = _read_price(entry, middle, "", usual)
            if long is None:
                continue
            share_in, share_out = _share(base.input, usual.input), _share(base.output, usual.output)
            price = _scaled(long, share_in, share_out, cached=base.cached_input is not None)
        above.append((tokens - (provider in FROM_THE_LIMIT_ON), price))
    return replace(base, above=tuple(above))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def _limits(entry: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield the numbers of input tokens above which other prices hold, rising, each with its spelling in the names."""
    spellings = {}
    for name in entry:
        match = ABOVE.match(name)
        if match:
            spellings[int(match[1]) * (1000 if match[2] else 1)] = name[len("input_cost_per_token") : match.end()]
    yield from sorted(spellings.items())


def _read_price(entry: Mapping[str, Any], middle: str, end: str, base: Price | None = None) -> Price | None:
    """Return the price under names with this middle and end, completed from `base`; None without a price for input."""

    def read(name: str, otherwise: float | None) -> float | None:
        value = entry.get(f"{name}{middle}{end}")
        return otherwise if value is None else float(value)

    into = read("input_cost_per_token", None)
    out = read("output_cost_per_token", base.output if base else None)
    if into is None or out is None:
        return None
    return Price(
        into,
        out,
        read("cache_read_input_token_cost", base.cached_input if base else None),
        read("cache_creation_input_token_cost", base.written_input if base else None),
        read("output_cost_per_reasoning_token", base.reasoning if base else None),
        float(entry.get("input_cost_per_request") or 0.0),
        written_hour=read("cache_creation_input_token_cost_above_1hr", base.written_hour if base else None),
    )


def _range_price(ranges: list[Any]) -> Price | None:
    """Return the price in a list of ranges of input tokens, as Alibaba's models have them in litellm's map."""
    prices = []
    for entry in ranges:
        bounds = entry.get("range") if isinstance(entry, Mapping) else None
        if not isinstance(bounds, list) or not bounds or (price := _read_price(entry, "", "")) is None:
            return None
        prices.append((int(bounds[0]), price))
    prices.sort(key=lambda pair: pair[0])
    return replace(prices[0][1], above=tuple(prices[1:])) if prices else None


READ = (
    ("prompt_tokens_details", "cached_tokens"),
    ("cache_read_input_tokens",),
    ("prompt_cache_hit_tokens",),
    ("cached_tokens",),
)
"""Where endpoints say how many of the tokens in they read from their prompt cache: OpenAI, vLLM, llama.cpp and litellm;
Anthropic; DeepSeek; Moonshot."""
WRITTEN = (
    ("prompt_tokens_details", "cache_creation_tokens"),
    ("prompt_tokens_details", "cache_write_tokens"),
    ("cache_creation_input_tokens",),
)
"""Where they say how many they put there."""
WRITTEN_HOUR = (
    ("prompt_tokens_details", "cache_creation_token_details", "ephemeral_1h_input_tokens"),
    ("cache_creation", "ephemeral_1h_input_tokens"),
)
"""Where they say how many of these are kept for an hour."""


def _first_count(usage: Mapping[str, Any], places: Iterable[tuple[str, ...]]) -> int:
    """Return the first count of tokens above 0 in these places of a usage, else 0."""

    def at(place: tuple[str, ...]) -> object:
        value: object = usage
        for name in place:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    return next((count for count in map(_count, map(at, places)) if count), 0)


def cached_tokens(usage: Mapping[str, Any]) -> int:
    """Return how many of the tokens in the endpoint read from its own prompt cache, as far as it says so.

    >>> cached_tokens({"prompt_tokens": 20, "prompt_cache_hit_tokens": 16})
    16
    """
    return min(input_tokens(usage), _first_count(usage, READ))


def dollars(usage: Mapping[str, Any], price: Price) -> float:
    """Return what one completion cost in dollars, each kind of token at its own price where that is known.

    >>> dollars({"prompt_tokens": 1000, "completion_tokens": 500}, Price(1e-6, 2e-6))
    0.002
    """
    prompt, out = input_tokens(usage), output_tokens(usage)
    price = price.at(prompt)
    read = cached_tokens(usage)
    written = min(prompt - read, _first_count(usage, WRITTEN))
    hour = min(written, _first_count(usage, WRITTEN_HOUR))
    writing = price.input if price.written_input is None else price.written_input
    hidden = min(out, reasoning_tokens(usage))
    return (
        (prompt - read - written) * price.input
        + read * (price.input if price.cached_input is None else price.cached_input)
        + (written - hour) * writing
        + hour * (writing if price.written_hour is None else price.written_hour)
        + (out - hidden) * price.output
        + hidden * (price.output if price.reasoning is None else price.reasoning)
        + price.request
    )


def dollars_of_all(tokens_in: int, tokens_out: int, requests: int, price: Price) -> float:
    """Return what so many requests with so many tokens in all cost, as if each had the mean number of tokens.

    Input that a provider reads from its own prompt cache is not told apart: all input is at the full price.

    >>> dollars_of_all(1000, 500, 10, Price(1e-6, 2e-6))
    0.002
    """
    if not requests:
        return 0.0
    price = price.at(math.ceil(tokens_in / requests))
    return tokens_in * price.input + tokens_out * price.output + requests * price.request


def is_metered(usage: Mapping[str, Any]) -> bool:
    """Return whether the endpoint counted the tokens; where it did not, what was paid cannot be known.

    Where one count is negative or not a number, the others are not used either.

    >>> is_metered({"prompt_tokens": 3, "completion_tokens": 1}), is_metered({})
    (True, False)
    """
    counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")]
    if not all(count is None or _is_count(count) for count in counts):
        return False
    into, out, total = counts
    return _count(total) > 0 or (_count(into) > 0 and out is not None)


def most_dollars(tokens_in: int, tokens_out: int, price: Price) -> float:
    """Return what a request of at most so many tokens can cost, all of the most expensive kind and price."""

    def most(price: Price) -> float:
        dearest_in = max(price.input, price.cached_input or 0.0, price.written_input or 0.0, price.written_hour or 0.0)
        return tokens_in * dearest_in + tokens_out * max(price.output, price.reasoning or 0.0) + price.request

    reached = (dearer for tokens, dearer in price.above if tokens_in > tokens)
    return max(most(each) for each in (price, *reached))


def most_tokens(texts: Iterable[str]) -> int:
    """Return an upper bound on the tokens of a prompt made of these turns.

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
    """Return how many bytes a text has in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _folded_bytes(text: str) -> int:
    return text_bytes(unicodedata.normalize("NFKC", text))


def input_tokens(usage: Mapping[str, Any]) -> int:
    """Return how many tokens are billed as input."""
    return _count(usage.get("prompt_tokens"))


def output_tokens(usage: Mapping[str, Any]) -> int:
    """Return how many tokens are billed as output, with hidden reasoning that is counted apart from the completion.

    >>> output_tokens({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115})
    105
    """
    total = _count(usage.get("total_tokens")) - _count(usage.get("prompt_tokens"))
    return max(_count(usage.get("completion_tokens")), total)


def reasoning_tokens(usage: Mapping[str, Any]) -> int:
    """Return how many tokens were spent on hidden reasoning, as far as the endpoint counts them."""
    details = usage.get("completion_tokens_details")
    counted = _count(details.get("reasoning_tokens")) if isinstance(details, Mapping) else 0
    return max(counted, output_tokens(usage) - _count(usage.get("completion_tokens")))


def total_tokens(usage: Mapping[str, Any]) -> int:
    """Return all tokens of a request and its answer where the endpoint counts them together, else 0."""
    return _count(usage.get("total_tokens"))


def _is_count(value: object) -> bool:
    """Return whether the value is a number of tokens; a fraction is one, and is rounded up."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def reasons_first(usage: Mapping[str, Any]) -> bool:
    """Return whether the counts show reasoning before the answer: as such, or as more output than the answer has.

    A few tokens more in the total are what an endpoint adds around an answer, not reasoning.

    >>> reasons_first({"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 15})
    False
    """
    details = usage.get("completion_tokens_details")
    if isinstance(details, Mapping) and _count(details.get("reasoning_tokens")):
        return True
    return output_tokens(usage) - _count(usage.get("completion_tokens")) > TOKENS_AROUND_ANSWER


def _count(value: object) -> int:
    if type(value) is int and 0 <= value <= MOST_COUNTED:  # what nearly all endpoints give, found at once
        return value
    return math.ceil(min(value, MOST_COUNTED)) if isinstance(value, (int, float)) and _is_count(value) else 0
