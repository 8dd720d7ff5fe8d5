"""Where in its plan a process begins: every unit comes once, the order is the fixed one, only turned."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explaineval.cache import request_key, spread
from explaineval.client.endpoints.capabilities import Capabilities
from explaineval.config import ClientConfig, RunConfig, build
from explaineval.planning.prepare import Prepared, prepare
from explaineval.planning.units import Unit, plan

SIZES = (3, 1, 4)
SAMPLES = 2


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Three tasks of different sizes under two arms."""
    directory = tmp_path_factory.mktemp("starts")
    tasks, edits = [], []
    for number, size in enumerate(SIZES):
        rows = []
        for index in range(size):
            name = f"t{number}x{index}"
            fields = {"note": f"The clerk of {name} waits."}
            rows.append({"id": name, "fields": fields, "options": {"A": "yes", "B": "no"}})
            edits.append({"example_id": name, "kind": "hand", "field": "note", "offset": 4, "inserted": "grumpy"})
        path = directory / f"t{number}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        tasks.append(f"jsonl:{path}")
    lines = directory / "edits.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in edits), encoding="utf-8")
    values: dict[str, Any] = {
        "tasks": tasks,
        "models": [{"model": "a/b"}],
        "interventions": {"file": lines},
        "samples": SAMPLES,
        "arms": {"order": ["pe", "ep"]},
    }
    return prepare(build(RunConfig, values, "test"), ClientConfig())


def units(found: Prepared, start: float) -> list[Unit]:
    """The whole plan."""
    return list(plan(found, found.config.models[0], lambda _: Capabilities(20, 0.0, "returned"), start))


def names(found: list[Unit]) -> list[tuple[str, str, str, int]]:
    """What tells units from each other."""
    return [(one.task.name, one.arm.order, one.example.id, one.sample) for one in found]


@given(st.floats(0, 1, exclude_max=True))
def test_every_start_gives_the_same_units_turned(prepared: Prepared, start: float) -> None:
    """The plan from the beginning, cut at the share of its examples, with the parts exchanged."""
    whole = units(prepared, 0.0)
    total = 2 * sum(SIZES)  # examples under both arms
    cut = SAMPLES * int(Fraction(start) * total)
    turned = units(prepared, start)

    assert names(turned) == names(whole[cut:] + whole[:cut])
    keys = {request_key(unit.asked[0].request) for unit in whole if unit.asked[0].request}
    assert len(keys) == len(whole) == SAMPLES * total
    assert {request_key(unit.asked[0].request) for unit in turned if unit.asked[0].request} == keys


def test_three_processes_begin_in_different_places(prepared: Prepared) -> None:
    """0, a half, a quarter of the way: no two of them with the same request."""
    firsts = [names(units(prepared, spread(place)))[0] for place in range(3)]

    assert len(set(firsts)) == 3
    assert firsts[0] == names(units(prepared, 0.0))[0]


def test_one_example_begins_at_the_beginning(prepared: Prepared) -> None:
    """With fewer units than processes some begin at the same place; nothing is left out."""
    small = prepare(prepared.config.model_copy(update={"limit": 1, "samples": 1}), prepared.client)

    for place in range(8):
        assert sorted(names(units(small, spread(place)))) == sorted(names(units(small, 0.0)))
