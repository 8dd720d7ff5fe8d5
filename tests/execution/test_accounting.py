"""The sums of a run: dollars are either right or unknown, with the reason that applies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from explaineval.cli.output import totals_line
from explaineval.cost import FREE, Price
from explaineval.execution.accounting import totals_of
from explaineval.planning.prices import Ledger
from explaineval.records import Completion

COUNTED = {"prompt_tokens": 10, "completion_tokens": 5}


def model_run(price: Price | None, usage: dict[str, int]) -> Any:
    """As much of one model's run as its sums need, with one answer that was bought."""
    ledger = Ledger(price)
    ledger.add(Completion(text="x", usage=usage), hit=False)
    counts = SimpleNamespace(hits=0, sent=1, unsent=0)
    return SimpleNamespace(
        ledger=ledger,
        budgeted=None,
        cached=SimpleNamespace(counts=counts),
        progress=SimpleNamespace(planned=1, unsent=0),
        layers=SimpleNamespace(retrying=SimpleNamespace(retries=0)),
    )


@pytest.mark.parametrize(
    ("runs", "shown"),
    [
        ([(Price(1.0, 2.0), COUNTED), (FREE, {})], "Spent $20.0000"),
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
    totals = totals_of([model_run(price, usage) for price, usage in runs])

    assert shown in totals_line(totals)
    assert "cost_unknown" not in totals.model_dump(mode="json")
