"""Dollars of prompts that a provider read partly from its own cache, against litellm's calculation of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from explaineval.client.litellm_client import load_litellm
from explaineval.cost import dollars, price_listed

pytestmark = pytest.mark.filterwarnings("ignore")  # litellm imports lazily, and what it imports warns

OPENAI = {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100}
ANTHROPIC = {"input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 3000}
WRITTEN = {"cache_creation_input_tokens": 500}
MODELS = {
    "openai": "gpt-4o-mini",
    "gemini": "gemini-2.5-flash",
    "deepseek": "deepseek-chat",
    "anthropic": "claude-sonnet-4-5",
}


@pytest.mark.parametrize(
    ("provider", "counts"),
    [
        ("openai", OPENAI),
        ("openai", OPENAI | {"prompt_tokens_details": {"cached_tokens": 1536}}),
        ("gemini", OPENAI | {"prompt_tokens_details": {"cached_tokens": 1536}}),
        ("deepseek", OPENAI | {"prompt_cache_hit_tokens": 1536, "prompt_cache_miss_tokens": 464}),
        ("anthropic", ANTHROPIC),
        ("anthropic", ANTHROPIC | WRITTEN),
        (
            "anthropic",
            ANTHROPIC
            | WRITTEN
            | {"cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 400}},
        ),
    ],
    ids=["plain", "OpenAI", "Gemini", "DeepSeek", "read", "read and written", "read and written for an hour"],
)
def test_dollars_are_those_that_litellm_computes(provider: str, counts: dict[str, Any]) -> None:
    """The usage as litellm hands it on, in the provider's shape, costs the same."""
    litellm = load_litellm()
    from litellm.llms.anthropic.chat.transformation import AnthropicConfig
    from litellm.types.utils import ModelResponse, Usage

    usage = AnthropicConfig().calculate_usage(counts, None) if provider == "anthropic" else Usage(**counts)
    name = f"{provider}/{MODELS[provider]}"
    expected = litellm.completion_cost(
        completion_response=ModelResponse(model=MODELS[provider], usage=usage, choices=[]),
        model=name,
        custom_llm_provider=provider,
    )
    price = price_listed(name, litellm.model_cost)

    assert price is not None
    assert expected == pytest.approx(dollars(json.loads(usage.model_dump_json()), price), rel=1e-9)
    assert expected > 0
