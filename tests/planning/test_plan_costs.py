"""What missing requests will take: low, expected and worst, from lengths that were seen or from a guess."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.cache import open_store
from explaineval.config import ModelConfig
from explaineval.cost import FREE, Price, most_tokens
from explaineval.planning.cost import ENOUGH, KEPT, TOKENS_OUT, TOKENS_PER_BYTE, CostEstimate, Lengths
from explaineval.records import Completion, Message, Request

MODEL = ModelConfig(model="a/b", endpoint="lab")
PRICE = Price(2.0, 3.0, written_input=2.5, reasoning=4.0, request=0.25)


def ask(text: str = "x" * 40, limit: int = 512, **changes: object) -> Request:
    """A request of MODEL."""
    turns = (Message(role="user", content=text),)
    found = Request(endpoint="lab", model="a/b", style="chat", messages=turns, max_tokens=limit)
    return found.model_copy(update=changes)


def answer(tokens_in: int, tokens_out: int) -> Completion:
    """An answer with its count."""
    return Completion(text="x", usage={"prompt_tokens": tokens_in, "completion_tokens": tokens_out})


def test_nothing_missing_costs_nothing() -> None:
    """Zeros everywhere, whatever the price."""
    found = CostEstimate(PRICE)
    found.learn_lengths(None, MODEL)

    assert found.document() == {
        "tokens_in": 0,
        "tokens_out": {"low": 0, "expected": 0, "worst": 0},
        "usd": {"low": 0.0, "expected": 0.0, "worst": 0.0},
    }


def test_without_answers_it_is_a_guess() -> None:
    """By hand: 3 requests of 40 bytes; the worst case is what a spending limit reserves for them."""
    found = CostEstimate(PRICE)
    for _ in range(3):
        found.add_missing(ask())
    found.learn_lengths(None, MODEL)
    into = round(3 * 40 * TOKENS_PER_BYTE)
    low, expected = (3 * each for each in TOKENS_OUT)
    worst_in = 3 * most_tokens(["x" * 40])

    assert found.document() == {
        "tokens_in": into,
        "tokens_out": {"low": low, "expected": expected, "worst": 3 * 512},
        "usd": {
            "low": pytest.approx(0.75 + into * 2 + low * 3),
            "expected": pytest.approx(0.75 + into * 2 + expected * 3),
            "worst": pytest.approx(0.75 + worst_in * 2.5 + 3 * 512 * 4),
        },
    }
    assert "guess" in found.basis


def test_a_guess_stays_below_the_limit_of_tokens() -> None:
    """With --max-tokens 8 no answer is expected to be longer."""
    found = CostEstimate(PRICE)
    found.add_missing(ask(limit=8))

    assert found.document()["tokens_out"] == {"low": 8, "expected": 8, "worst": 8}


def test_with_enough_answers_lengths_are_theirs() -> None:
    """Tokens in by the byte, tokens out by their mean and lowest tenth: 100 answers of 1 … 100 tokens."""
    found = CostEstimate(PRICE)
    for length in range(1, 101):
        found.lengths.add(ask("y" * 30), answer(20, length))
    for _ in range(10):
        found.add_missing(ask("x" * 60))
    found.learn_lengths(None, MODEL)

    assert found.document()["tokens_in"] == 10 * 60 * 20 / 30
    assert found.document()["tokens_out"] == {"low": 10 * 11, "expected": 505, "worst": 5120}
    assert found.basis.startswith("lengths as in 100 answers of this plan")


@pytest.mark.parametrize(("stored", "enough"), [(ENOUGH - 1, False), (ENOUGH, True)])
def test_other_stored_answers_of_the_model_serve_where_the_plan_has_none(
    tmp_path: Path, stored: int, enough: bool
) -> None:
    """Those of another model, of another endpoint or without a count say nothing."""
    with open_store(tmp_path) as store:

        async def fill() -> None:
            for sample in range(stored):
                await store.put(ask(sample=sample), answer(10, 7))
            for sample in range(50):
                await store.put(ask(sample=sample, model="a/c"), answer(10, 400))
                await store.put(ask(sample=sample, endpoint="else"), answer(10, 400))
                await store.put(ask(sample=1000 + sample), Completion(text="x"))

        asyncio.run(fill())
        found = CostEstimate(PRICE)
        for sample in range(ENOUGH // 2):  # some are of this plan, and must not count twice
            found.lengths.add(ask(sample=sample), answer(10, 7))
        found.add_missing(ask())
        found.learn_lengths(store, MODEL)

    assert found.lengths.enough is enough
    assert found.tokens()[1]["expected"] == (7 if enough else TOKENS_OUT[1])
    assert ("stored answers of this model" in found.basis) is enough


@pytest.mark.parametrize(
    ("price", "expected"),
    [(None, {"low": None, "expected": None, "worst": None}), (FREE, dict.fromkeys(("low", "expected", "worst"), 0.0))],
)
def test_an_unknown_price_is_not_zero(price: Price | None, expected: dict[str, float | None]) -> None:
    """None where nothing is known, 0 where it is free."""
    found = CostEstimate(price)
    found.add_missing(ask())

    assert found.usd() == expected


@given(
    st.lists(st.tuples(st.integers(0, 10**5), st.integers(0, 3000)), max_size=60),
    st.lists(st.tuples(st.text(max_size=50), st.integers(1, 2000)), min_size=1, max_size=10),
)
def test_low_is_never_more_than_expected_nor_expected_output_than_worst(
    seen: list[tuple[int, int]], missing: list[tuple[str, int]]
) -> None:
    """Whatever lengths were seen, and whatever is missing."""
    found = CostEstimate(PRICE)
    for tokens_in, tokens_out in seen:
        found.lengths.add(ask(), answer(max(1, tokens_in), tokens_out))
    for text, limit in missing:
        found.add_missing(ask(text, limit))
    out, usd = found.tokens()[1], found.usd()

    assert 0 <= out["low"] <= out["expected"] <= out["worst"] == sum(limit for _, limit in missing)
    assert 0 <= (usd["low"] or 0) <= (usd["expected"] or 0)


def test_a_few_empty_answers_do_not_turn_the_order_round() -> None:
    """95 answers of 100 tokens and 5 of none: the mean is below the tenth percentile, and low follows it."""
    found = CostEstimate(PRICE)
    for length in [100] * 95 + [0] * 5:
        found.lengths.add(ask(), answer(10, length))
    found.add_missing(ask())

    assert found.tokens()[1] == {"low": 95, "expected": 95, "worst": 512}


def test_memory_is_bounded() -> None:
    """However many answers are seen, so many lengths are kept, and bytes and tokens stay those of the kept ones."""
    lengths = Lengths()
    for _ in range(KEPT + 100):
        lengths.add(ask(), answer(10, 5))

    assert len(lengths.tokens_out) == KEPT
    assert (lengths.bytes_in, lengths.tokens_in) == (40 * KEPT, 10 * KEPT)


def test_many_short_prompts_are_no_long_one() -> None:
    """The price for long prompts is for each request that may be one, not for the sum of all; the worst covers both."""
    price = Price(1.0, 2.0, above=((1000, Price(10.0, 20.0)),))
    found, long = CostEstimate(price), ask("x" * 5000, 100)
    for _ in range(50):
        found.add_missing(ask("x" * 500, 100))
    short = found.usd()
    found.add_missing(long)

    assert short["worst"] == most_tokens(["x" * 500]) * 50 + 100 * 50 * 2
    assert found.usd()["worst"] == short["worst"] + most_tokens(["x" * 5000]) * 10 + 100 * 20
    assert (found.usd()["expected"] or 0) - (short["expected"] or 0) == pytest.approx(1250 * 10 + 100 * 20)


def test_a_count_beyond_the_text_is_no_length() -> None:
    """One answer billed as ten million tokens in must not make what is left look dear."""
    lengths = Lengths()
    lengths.add(ask(), answer(10**7, 5))

    assert lengths == Lengths()
