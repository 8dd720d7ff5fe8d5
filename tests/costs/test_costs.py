"""Dollars from usage and prices: an unknown price is None, never 0."""

from __future__ import annotations

from typing import Any

import pytest

from explaineval.costs import FREE, Price, dollars, price_given, price_listed

MAP: dict[str, dict[str, Any]] = {
    "openai/listed": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "cache_read_input_token_cost": 5e-7},
    "bare": {"input_cost_per_token": 3e-6, "output_cost_per_token": "4e-6"},
    "openai/half": {"input_cost_per_token": 1e-6},
    "half": {"input_cost_per_token": None, "output_cost_per_token": 1.0},
    "openai/free": {"input_cost_per_token": 0, "output_cost_per_token": 0.0},
    "spec": {},
}


def test_a_price_given_is_per_million() -> None:
    """--price 0.1,0.4 is a ten-millionth of a dollar for a token that goes in."""
    found = price_given((0.1, 0.4))

    assert pytest.approx((found.input, found.output), rel=1e-12) == (1e-7, 4e-7)
    assert found.cached_input is None


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/listed", Price(1e-6, 2e-6, 5e-7)),
        ("openai/bare", Price(3e-6, 4e-6)),
        ("openai/free", Price(0.0, 0.0)),
        ("openai/half", None),
        ("openai/spec", None),
        ("openai/unknown", None),
    ],
)
def test_a_listed_price_is_found_with_and_without_provider(model: str, expected: Price | None) -> None:
    """An entry without both prices is no price; 0 is one."""
    assert expected == price_listed(model, MAP)


@pytest.mark.parametrize(
    ("usage", "price", "expected"),
    [
        ({"prompt_tokens": 1000, "completion_tokens": 500}, Price(1e-6, 2e-6), 0.002),
        ({"prompt_tokens": 1000, "completion_tokens": 0}, Price(1e-6, 2e-6), 0.001),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}, Price(10.0, 1.0, 1.0), 64.0),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 4}}, Price(10.0, 1.0), 100.0),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 40}}, Price(10.0, 1.0, 1.0), 10.0),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 10}}, Price(10.0, 1.0, 0.0), 0.0),
        ({"prompt_tokens": 10, "prompt_tokens_details": None}, Price(10.0, 1.0, 1.0), 100.0),
        ({"prompt_tokens": None, "completion_tokens": "3"}, Price(10.0, 1.0), 0.0),
        ({"prompt_tokens": -5, "completion_tokens": 2}, Price(10.0, 1.0), 2.0),
        ({}, Price(10.0, 1.0), 0.0),
        ({"prompt_tokens": 1000, "completion_tokens": 500}, FREE, 0.0),
    ],
)
def test_dollars(usage: dict[str, Any], price: Price, expected: float) -> None:
    """Input, output, and input from the provider's own cache at its own price, where that is known."""
    assert expected == pytest.approx(dollars(usage, price), rel=1e-12)
