"""Dollars from usage and prices: an unknown price is None, never 0."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
    reasoning_tokens,
    tier_of,
)

LITELLM = Path(str(getattr(util.find_spec("litellm"), "origin", ""))).parent  # found without its long import

MAP: dict[str, dict[str, Any]] = {
    "openai/listed": {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6, "cache_read_input_token_cost": 5e-7},
    "bare": {"input_cost_per_token": 3e-6, "output_cost_per_token": "4e-6"},
    "openai/half": {"input_cost_per_token": 1e-6},
    "half": {"input_cost_per_token": None, "output_cost_per_token": 1.0},
    "openai/free": {"input_cost_per_token": 0, "output_cost_per_token": 0.0},
    "spec": {},
    "openai/tiers": {
        "input_cost_per_token": 8.0,
        "output_cost_per_token": 16.0,
        "cache_read_input_token_cost": 4.0,
        "cache_creation_input_token_cost": 10.0,
        "output_cost_per_reasoning_token": 32.0,
        "input_cost_per_request": 0.5,
        "input_cost_per_token_flex": 5.0,
        "output_cost_per_token_flex": 9.0,
        "cache_read_input_token_cost_flex": 2.0,
        "input_cost_per_token_priority": 12.0,
    },
    "openai/batched": {
        "input_cost_per_token": 8.0,
        "output_cost_per_token": 16.0,
        "input_cost_per_token_batches": 3.0,
        "output_cost_per_token_batches": 7.0,
    },
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


@pytest.mark.parametrize(
    ("model", "tier", "expected"),
    [
        ("openai/tiers", "", Price(8.0, 16.0, 4.0, 10.0, 32.0, 0.5)),
        ("openai/tiers", "flex", Price(5.0, 9.0, 2.0, request=0.5)),
        ("openai/tiers", "priority", None),
        ("openai/tiers", "batches", Price(4.0, 8.0, None, 5.0, 16.0, 0.5)),
        ("openai/batched", "batches", Price(3.0, 7.0)),
        ("openai/half", "batches", None),
        ("openai/batched", "flex", None),
    ],
)
def test_tiers(model: str, tier: Tier, expected: Price | None) -> None:
    """A tier has its own prices or none; a batch without its own costs half of everything but the request's price."""
    assert expected == price_listed(model, MAP, tier)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # 100 in: 60 plain, 30 read, 10 written; 50 out, 20 of them hidden
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "prompt_tokens_details": {"cached_tokens": 30, "cache_creation_tokens": 10},
                "completion_tokens_details": {"reasoning_tokens": 20},
            },
            60 * 8 + 30 * 4 + 10 * 10 + 30 * 16 + 20 * 32 + 0.5,
        ),
        # Anthropic's names
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 1,
                "cache_read_input_tokens": 30,
                "cache_creation_input_tokens": 10,
            },
            60 * 8 + 30 * 4 + 10 * 10 + 16 + 0.5,
        ),
        # the parts cannot be more than the whole
        (
            {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 8, "cache_creation_tokens": 8}},
            8 * 4 + 2 * 10 + 0.5,
        ),
        ({"completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 9}}, 5 * 32 + 0.5),
        # reasoning that is counted apart from the completion shows only in the total
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115}, 10 * 8 + 5 * 16 + 100 * 32 + 0.5),
        ({}, 0.5),
    ],
)
def test_each_kind_of_token_has_its_price(usage: dict[str, Any], expected: float) -> None:
    """Read from the provider's cache, written to it, shown, hidden, and the request as such; by hand."""
    price = price_listed("openai/tiers", MAP)
    assert price is not None

    assert expected == pytest.approx(dollars(usage, price), rel=1e-12)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({}, False),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, False),
        ({"prompt_tokens": None, "total_tokens": None}, False),
        ({"completion_tokens": 7}, False),
        ({"prompt_tokens": math.inf}, False),
        ({"prompt_tokens": 3}, False),
        ({"total_tokens": 9}, True),
    ],
)
def test_an_answer_without_a_count_is_not_metered(usage: dict[str, Any], expected: bool) -> None:
    """Zeros count as no count: no prompt is empty."""
    assert expected is is_metered(usage)


@pytest.mark.parametrize("value", [math.inf, math.nan, -1, "3", None, [1]])
def test_what_is_no_count_is_no_tokens(value: object) -> None:
    """An endpoint may say anything; nothing of it may stop a run."""
    usage = {"prompt_tokens": value, "completion_tokens": value, "total_tokens": value}

    assert (input_tokens(usage), output_tokens(usage), reasoning_tokens(usage)) == (0, 0, 0)


@pytest.mark.parametrize(
    "value", [10**400, 1e300, 2**53 + 1], ids=["a number of 400 digits", "1e300", "more than floats count"]
)
def test_an_absurd_count_costs_a_finite_sum(value: float) -> None:
    """What no float can hold is counted as the most that one can, so that it is booked and not a crash."""
    usage = {"prompt_tokens": value, "completion_tokens": value, "total_tokens": value}

    assert is_metered(usage)
    assert 1e9 < dollars(usage, Price(1e-6, 2e-6)) < 1e12


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 100, "completion_tokens": -1},
        {"prompt_tokens": -1, "completion_tokens": 5, "total_tokens": 4},
        {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": -4},
        {"prompt_tokens": 100, "completion_tokens": math.nan},
        {"prompt_tokens": 100, "completion_tokens": math.inf},
        {"prompt_tokens": 100, "completion_tokens": True},
        {"prompt_tokens": 100, "completion_tokens": "5"},
    ],
    ids=str,
)
def test_one_count_that_is_none_spoils_the_others(usage: dict[str, Any]) -> None:
    """An endpoint that says -1 tokens did not count: what was paid is unknown, not little."""
    assert not is_metered(usage)


def test_a_fraction_of_a_token_is_a_whole_one() -> None:
    """Nothing is rounded in the user's favour."""
    assert dollars({"prompt_tokens": 99.01, "completion_tokens": 0.5}, Price(1.0, 1000.0)) == 100 + 1000


# -- prices for long prompts

LONG: dict[str, dict[str, Any]] = {
    "openai/long": {
        "input_cost_per_token": 1.0, "output_cost_per_token": 8.0, "cache_read_input_token_cost": 0.25,
        "input_cost_per_token_above_200k_tokens": 2.0, "output_cost_per_token_above_200k_tokens": 12.0,
        "input_cost_per_token_above_512k_tokens": 4.0, "cache_read_input_token_cost_above_512k_tokens": 1.0,
        "input_cost_per_token_batches": 0.5, "output_cost_per_token_batches": 4.0,
        "input_cost_per_token_priority": 3.0, "output_cost_per_token_priority": 16.0,
        "input_cost_per_token_above_200k_tokens_priority": 7.0,
    },
    "xai/long": {
        "input_cost_per_token": 1.0, "output_cost_per_token": 8.0, "input_cost_per_token_above_900_tokens": 2.0,
    },
    "dashscope/ranges": {
        "tiered_pricing": [
            {"range": [256_000.0, 1e6], "input_cost_per_token": 5.0, "output_cost_per_token": 9.0},
            {"range": [0, 256_000.0], "input_cost_per_token": 1.0, "output_cost_per_token": 2.0},
        ],
    },
    "exa/search": {"tiered_pricing": [{"max_results_range": [0, 25], "input_cost_per_query": 0.005}]},
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "tier", "tokens", "expected"),
    [
        ("openai/long", "", 200_000, (1.0, 8.0, 0.25)),
        ("openai/long", "", 200_001, (2.0, 12.0, 0.25)),
        ("openai/long", "", 512_000, (2.0, 12.0, 0.25)),
        ("openai/long", "", 512_001, (4.0, 8.0, 1.0)),  # what a step does not name is as in the usual price
        ("openai/long", "batches", 200_000, (0.5, 4.0, None)),
        ("openai/long", "batches", 200_001, (1.0, 6.0, None)),  # no such price for batches: as much dearer as usual
        ("openai/long", "priority", 200_001, (7.0, 16.0, None)),
        ("openai/long", "flex", 1, None),
        ("xai/long", "", 899, (1.0, 8.0, None)),
        ("xai/long", "", 900, (2.0, 8.0, None)),  # there it holds from that number on
        ("dashscope/ranges", "", 256_000, (1.0, 2.0, None)),
        ("dashscope/ranges", "", 256_001, (5.0, 9.0, None)),
        ("dashscope/ranges", "batches", 256_001, (2.5, 4.5, None)),
        ("exa/search", "", 1, None),
    ],
)
def test_a_long_prompt_has_its_own_price(
    model: str, tier: Tier, tokens: int, expected: tuple[float, float, float | None] | None
) -> None:
    """All tokens of a request above the limit cost the price above it; by hand."""
    price = price_listed(model, LONG, tier)
    if expected is None:
        assert price is None
        return
    assert price is not None
    at = price.at(tokens)

    assert expected == (at.input, at.output, at.cached_input)
    usage = {"prompt_tokens": tokens, "completion_tokens": 10}
    assert dollars(usage, price) == pytest.approx(tokens * expected[0] + 10 * expected[1])


def test_the_worst_case_takes_the_dearest_price_that_a_request_can_reach() -> None:
    """The bound on the prompt lies above a limit, its true length perhaps below: either must be covered."""
    price = Price(5.0, 1.0, above=((100, Price(1.0, 20.0)), (1000, Price(50.0, 50.0))))

    assert most_dollars(100, 10, price) == 510
    assert most_dollars(101, 1, price) == 101 * 5 + 1
    assert most_dollars(101, 100, price) == 101 + 2000
    assert most_dollars(1001, 1, price) == 1001 * 50 + 50


def test_a_given_price_has_no_other_for_long_prompts() -> None:
    """--price is what everything costs, whatever the list says."""
    assert price_given((1.0, 2.0)).above == ()


PER_TOKEN = re.compile(
    r"(?P<name>(?:in|out)put_cost_per_token|cache_(?:read|creation)_input_token_cost)_above_(?P<tokens>\d+)(?P<k>k?)_tokens"
    r"(?P<tier>_\w+)?"
)
FIELDS = {
    "input_cost_per_token": "input", "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input", "cache_creation_input_token_cost": "written_input",
}  # fmt: skip


def test_every_price_for_long_prompts_of_the_installed_list_is_used() -> None:
    """Each name of that shape, at each limit and for each way of being served, is what a token beyond it costs."""
    listed = json.loads((LITELLM / "model_prices_and_context_window_backup.json").read_text(encoding="utf-8"))
    limits, wrong = set[str](), []
    for model, entry in listed.items():
        for key, value in entry.items():
            match = PER_TOKEN.fullmatch(key)
            if match is None or value is None or "input_cost_per_token" not in entry:
                continue
            limits.add(match["tokens"] + match["k"])
            price = price_listed(f"{entry['litellm_provider']}/{model}", {model: entry}, (match["tier"] or "")[1:])
            if price is None:  # this way of being served has no price below the limit
                continue
            beyond = int(match["tokens"]) * (1000 if match["k"] else 1) + 1
            if getattr(price.at(beyond), FIELDS[match["name"]]) != value:
                wrong.append((model, key))

    assert wrong == []
    assert {"128k", "200k", "272k"} <= limits


def test_a_bare_name_is_a_price_for_its_own_provider_only() -> None:
    """Another provider may sell the model of that name at another price; unknown is better than wrong."""
    owners = {"m-4o": "openai", "old": "text-completion-openai", "cm": "cohere_chat"}
    listed = {
        name: {"input_cost_per_token": 1.0, "output_cost_per_token": 2.0, "litellm_provider": owner}
        for name, owner in owners.items()
    }

    assert all(price_listed(name, listed) for name in ("openai/m-4o", "openai/old", "cohere/cm"))
    assert [price_listed(name, listed) for name in ("groq/m-4o", "openrouter/m-4o", "azure/m-4o")] == [None] * 3


AMOUNTS = st.integers(0, 10**6)
COSTS = st.floats(0, 1e-3)
OPTIONAL = st.none() | COSTS
FLAT = st.builds(Price, COSTS, COSTS, OPTIONAL, OPTIONAL, OPTIONAL, st.floats(0, 1), written_hour=OPTIONAL)
STEPS = st.lists(st.tuples(AMOUNTS, FLAT), max_size=3, unique_by=lambda step: step[0]).map(
    lambda steps: tuple(sorted(steps, key=lambda step: step[0]))
)
PRICES = st.builds(replace, FLAT, above=STEPS)


@st.composite
def usages(draw: st.DrawFn) -> dict[str, Any]:
    """A count as some endpoint may give it, details that contradict the whole included."""
    prompt, completion = draw(AMOUNTS), draw(AMOUNTS)
    found: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
    if draw(st.booleans()):
        found["total_tokens"] = prompt + completion + draw(st.sampled_from((0, 0, 1000)))
    if draw(st.booleans()):
        hour = {"ephemeral_1h_input_tokens": draw(AMOUNTS)}
        found["prompt_tokens_details"] = {
            "cached_tokens": draw(AMOUNTS), "cache_creation_tokens": draw(AMOUNTS), "cache_creation_token_details": hour
        }  # fmt: skip
    else:
        found |= {"cache_read_input_tokens": draw(AMOUNTS), "cache_creation_input_tokens": draw(AMOUNTS)}
    if draw(st.booleans()):
        found["completion_tokens_details"] = {"reasoning_tokens": draw(AMOUNTS)}
    return found


PLAIN = {"prompt_tokens": 1000, "completion_tokens": 10}
HOUR = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 300}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (PLAIN, 1000 * 10 + 10 * 50),
        # OpenAI, Gemini, vLLM, llama.cpp, and what litellm makes of all others
        (PLAIN | {"prompt_tokens_details": {"cached_tokens": 600}}, 400 * 10 + 600 * 1 + 10 * 50),
        (PLAIN | {"prompt_cache_hit_tokens": 600, "prompt_cache_miss_tokens": 400}, 400 * 10 + 600 * 1 + 10 * 50),
        (PLAIN | {"cached_tokens": 600}, 400 * 10 + 600 * 1 + 10 * 50),
        (PLAIN | {"cache_read_input_tokens": 500, "cache_creation_input_tokens": 400},
         100 * 10 + 500 * 1 + 400 * 12.5 + 10 * 50),
        (PLAIN | {"prompt_tokens_details": {"cached_tokens": 500, "cache_write_tokens": 400}},
         100 * 10 + 500 * 1 + 400 * 12.5 + 10 * 50),
        (PLAIN | {"prompt_tokens_details":
                  {"cached_tokens": 500, "cache_creation_tokens": 400, "cache_creation_token_details": HOUR}},
         100 * 10 + 500 * 1 + 100 * 12.5 + 300 * 20 + 10 * 50),
        (PLAIN | {"cache_creation_input_tokens": 400, "cache_creation": HOUR},
         600 * 10 + 100 * 12.5 + 300 * 20 + 10 * 50),
        # counts that contradict each other: never more read or written than came in
        (PLAIN | {"cached_tokens": 5000, "cache_creation_input_tokens": 400}, 1000 * 1 + 10 * 50),
        (PLAIN | {"cached_tokens": -5, "prompt_tokens_details": "none"}, 1000 * 10 + 10 * 50),
    ],
    ids=["plain", "OpenAI", "DeepSeek", "Moonshot", "Anthropic", "OpenRouter", "Anthropic for an hour",
         "for an hour, raw", "too many", "nonsense"],
)  # fmt: skip
def test_tokens_of_the_providers_own_cache(usage: dict[str, Any], expected: float) -> None:
    """In every shape: 10 a token in, 1 read from the cache, 12.5 written to it, 20 for an hour, 50 out; by hand."""
    price = Price(10.0, 50.0, 1.0, 12.5, written_hour=20.0)

    assert expected == pytest.approx(dollars(usage, price), rel=1e-12)
    assert dollars(usage, price) <= most_dollars(1000, 10, price)


def test_an_hour_is_reserved_only_where_it_is_asked_for() -> None:
    """The bound of all other requests stays as it was; without a price of its own an hour costs what writing does."""
    hour = {"input_cost_per_token": 10.0, "cache_creation_input_token_cost": 12.5, "output_cost_per_token": 50.0,
            "cache_creation_input_token_cost_above_1hr": 20.0, "input_cost_per_token_batches": 5.0,
            "output_cost_per_token_batches": 25.0, "input_cost_per_token_above_200k_tokens": 30.0,
            "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 60.0}  # fmt: skip
    listed = price_listed("a/b", {"a/b": hour}) or pytest.fail("it is listed")
    batches = price_listed("a/b", {"a/b": hour}, "batches") or pytest.fail("it is listed")

    assert most_dollars(1000, 10, listed) == 1000 * 20 + 10 * 50
    assert most_dollars(1000, 10, listed.without_hour()) == 1000 * 12.5 + 10 * 50
    assert (listed.at(300_000).written_hour, listed.without_hour().at(300_000).written_hour) == (60.0, None)
    assert batches.written_hour == 10.0
    assert keeps_for_an_hour({"extra_body": {"system": [{"cache_control": {"type": "ephemeral", "ttl": "1h"}}]}})
    assert not keeps_for_an_hour({"extra_body": {"cache_control": {"type": "ephemeral", "ttl": "5m"}}, "stop": ["1h"]})


@given(usages(), PRICES, st.integers(0, 5), st.integers(0, 5))
def test_no_usage_costs_more_than_the_most_dollars_of_its_bounds(
    usage: dict[str, Any], price: Price, more_in: int, more_out: int
) -> None:
    """What is reserved covers what is billed, of whatever kinds the tokens are."""
    cost = dollars(usage, price)
    most = most_dollars(input_tokens(usage) + more_in, output_tokens(usage) + more_out, price)

    assert 0 <= cost <= most * (1 + 1e-12)


# -- the bound on tokens, against tokenizers that litellm brings along

TOKENIZERS = LITELLM / "litellm_core_utils" / "tokenizers"
EXPANDERS = "\ufdfa\ufdfb\u3300\u33ff\u2a74\u1f82\ufb2c\u2057\u00bc\ufe19"
"""Characters of which NFKC makes several."""


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Any]:
    """Functions from a text to its number of tokens: OpenAI's two byte-level ones, and one that folds by NFKC."""
    tiktoken = pytest.importorskip("tiktoken")
    loaded = pytest.importorskip("tokenizers").Tokenizer.from_file(str(TOKENIZERS / "anthropic_tokenizer.json"))
    found: dict[str, Any] = {"nfkc": lambda text: len(loaded.encode(text).ids)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(TOKENIZERS))
        for name in ("cl100k_base", "o200k_base"):
            encoding = tiktoken.get_encoding(name)
            found[name] = lambda text, encoding=encoding: len(encoding.encode(text, disallowed_special=()))
    return found


ALPHABET = st.sampled_from([*EXPANDERS, *"\U0001f469\u200d\U0001f52c\ufe0f\u4e2d\u0e33\u0627\u0301\t \x00aZ9"])
TEXTS = st.text(ALPHABET | st.characters(exclude_categories=["Cs"]), max_size=120)


@given(TEXTS)
@example("\ufdfa" * 200)
@example("a\u0301\u0327" * 50)
@example("\U0001f469\u200d\U0001f52c" * 50)
@example("<|endoftext|>" * 20)
@example("")
def test_most_tokens_bounds_real_tokenizers(tokenizers: dict[str, Any], text: str) -> None:
    """No tokenizer at hand makes more of a text, whatever is in it; the room for templates comes on top."""
    bound = most_tokens([text]) - most_tokens([""])

    assert {name: count for name, read in tokenizers.items() if (count := read(text)) > bound} == {}


def test_the_folding_tokenizer_needs_the_folded_length(tokenizers: dict[str, Any]) -> None:
    """One character of three bytes becomes eighteen: the plain bytes alone would be no bound."""
    assert tokenizers["nfkc"]("\ufdfa" * 10) > len(("\ufdfa" * 10).encode())


@given(st.lists(st.text(st.characters()), max_size=4), st.text(st.characters()))
def test_most_tokens_grows_with_every_turn(texts: list[str], more: str) -> None:
    """Another turn adds at least its bytes, lone surrogates included; and the order of turns does not matter."""
    assert most_tokens([*texts, more]) >= most_tokens(texts) + len(more.encode("utf-8", "surrogatepass"))
    assert most_tokens([*texts, more]) == most_tokens([more, *texts])


@pytest.mark.parametrize(
    ("params", "tier"),
    [
        ({}, ""),
        ({"service_tier": "default"}, ""),
        ({"service_tier": "priority"}, "priority"),
        ({"service_tier": "ultrafast"}, "ultrafast"),
        ({"extra_body": {"service_tier": "flex"}}, "flex"),
        ({"service_tier": "no such"}, "no such"),
    ],
    ids=str,
)
def test_a_dearer_way_of_being_served_has_its_own_price_or_none(params: dict[str, Any], tier: Tier) -> None:
    """Whatever it is called: at the usual price a spending limit would not hold."""
    assert tier_of(params) == tier
    assert (price_listed("openai/listed", MAP, tier_of(params)) is None) is bool(tier)
