"""The sums of a run: dollars are either right or unknown, with the reason that applies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from explaineval.cache import open_store, request_key
from explaineval.cli.output import totals_line
from explaineval.cost import FREE, Price
from explaineval.execution.outcome import settle_open, totals_of
from explaineval.planning.cost import MOST_SNAPSHOTS, DistinctCost, Prices
from explaineval.records import Completion
from explaineval.rundir.ledger import Account, Purpose, open_ledger
from servers.batch_bench import chat

COUNTED = {"prompt_tokens": 10, "completion_tokens": 5}


def session(price: Price | None, usage: dict[str, int]) -> Any:
    """As much of one model's session as its sums need, with one answer that was bought."""
    ledger = DistinctCost(price)
    ledger.add(Completion(text="x", usage=usage), hit=False)
    counts = SimpleNamespace(hits=0, sent=1, unsent=0)
    return SimpleNamespace(
        ledger=ledger,
        budgeted=None,
        counts=counts,
        progress=SimpleNamespace(planned=1, unsent=0),
        layers=SimpleNamespace(retrying=SimpleNamespace(retries=0)),
    )


@pytest.mark.parametrize(
    ("runs", "shown"),
    [
        ([(Price(1.0, 2.0), COUNTED), (FREE, {})], "Spent $20.00"),
        ([(Price(1.0, 2.0), {})], "Cost unknown (answers came without a count of tokens)."),
        ([(None, COUNTED)], "Cost unknown (no price is known for a model; give --price IN,OUT)."),
        (
            [(None, COUNTED), (Price(1.0, 2.0), {})],
            "Cost unknown (no price is known for a model; give --price IN,OUT).",
        ),
    ],
)
def test_why_a_cost_is_unknown(runs: list[tuple[Price | None, dict[str, int]]], shown: str) -> None:
    """An answer without counts is not blamed on the price; what costs nothing needs no counts."""
    totals = totals_of([session(price, usage) for price, usage in runs])

    assert shown in totals_line(totals)
    assert "cost_unknown" not in totals.model_dump(mode="json")


def test_snapshots_that_an_endpoint_served_are_counted_and_said() -> None:
    """By name and fingerprint, the most frequent first; one snapshot, or an endpoint that names none, is no news."""
    ledger = DistinctCost(FREE)
    for fingerprint, count in (("fp1", 2), ("fp2", 3), (None, 1)):
        for hit in range(count):
            ledger.add(Completion(text="x", model="smol-1", fingerprint=fingerprint), hit=bool(hit))
    (note,) = [note for note in ledger.notes("openai/smol", 9, ("pe",)) if note.code == "versions_mixed"]
    single = DistinctCost(FREE)
    single.add(Completion(text="x"), hit=False)

    assert [(item.fingerprint, item.answers) for item in ledger.snapshots] == [("fp2", 3), ("fp1", 2), (None, 1)]
    assert note.text == (
        "openai/smol: the endpoint served 3 versions of the model: smol-1 fp2 (3 answers), smol-1 fp1 (2 answers), "
        "smol-1 (1 answer)."
    )
    assert list(single.notes("openai/smol", 9, ("pe",))) == []


def test_an_endpoint_with_ever_new_fingerprints_fills_no_memory() -> None:
    """A hundred snapshots are kept apart; of later ones nothing is kept."""
    ledger = DistinctCost(FREE)
    for number in range(500):
        ledger.add(Completion(text="x", fingerprint=f"fp{number}"), hit=False)

    assert len(ledger.snapshots) == MOST_SNAPSHOTS


@pytest.mark.parametrize(
    ("purpose", "batch", "cost"), [("run", False, 0.2), ("run", True, 0.1), ("reask", False, 0.32)]
)
def test_what_an_attempt_left_under_way_cost(tmp_path: Path, purpose: Purpose, batch: bool, cost: float) -> None:
    """By the stored answer at the price of its kind; asked again it has none of its own, so that its most counts."""
    request, model = chat(1), ("lab", "openai/planted")
    prices = Prices({model: Price(0.0, 0.02)}, {model: Price(0.0, 0.01)})
    answer = Completion(text="B", usage={"prompt_tokens": 9, "completion_tokens": 10, "total_tokens": 19})
    with open_ledger(tmp_path) as ledger:
        ledger.reserve(purpose, model, request_key(request), 0.32, batch=batch)
    with open_ledger(tmp_path) as ledger, open_store(tmp_path / "cache") as store:
        asyncio.run(store.put(request, answer))
        settle_open(Account(ledger, "run"), store, prices)

        assert ledger.spent(purpose) == pytest.approx(cost)
        assert ledger.unbilled(purpose) == (cost if purpose == "reask" else 0)
