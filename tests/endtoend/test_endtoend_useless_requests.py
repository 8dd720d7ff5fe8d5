"""Nothing is asked that no number uses: examples without interventions, and insertions that were there before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import read_rows, read_trials

from explaineval.config import ClientConfig, RunConfig
from explaineval.planning.cost import estimate_costs, prices_of, read_price_list
from explaineval.planning.prepare import prepare
from explaineval.planning.units import plan_size
from servers.commands import WarmCommands
from servers.tables import Table

TABLE = Table(examples=30, words=2, seed=5)
CHOSEN = ("x004", "x011", "x029")
"""Neither the first examples, by which is found out what an endpoint takes, nor in a row."""


def keep_interventions(directory: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Leave only some lines of the interventions file."""
    path = directory / "edits.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines if keep(one)), encoding="utf-8")


@pytest.mark.parametrize("order", ["pe", "ep"])
def test_examples_without_interventions_are_not_asked(
    bench: Callable[..., Any], warm: WarmCommands, order: str
) -> None:
    """Words for 3 of 30 examples: the originals and shams of these 3 alone, as plan, run and offline all count."""
    one = bench(TABLE)
    keep_interventions(one.directory, lambda line: line["example_id"] in CHOSEN)
    options = one.options("--order", order, "--shams", "2", "--out", "out", "--json")
    planned = warm.run("plan", *options[1:], cwd=one.directory)
    absent = warm.run(*options, "--offline", cwd=one.directory)
    done = warm.run(*options, cwd=one.directory)
    offline = warm.run(*options, "--offline", cwd=one.directory)
    each = 1 + TABLE.words + 2

    assert (done.code, {received.place[0] for received in one.server.received}) == (0, set(CHOSEN))
    assert len(one.server.received) == 3 * each == done.document["requests"]["sent"]
    assert {"planned": 3 * 2 * (TABLE.words + 2), "distinct": 3 * each, "misses": 3 * each} == {
        name: planned.document["total"][name] for name in ("planned", "distinct", "misses")
    }
    assert done.document["requests"]["planned"] == planned.document["total"]["planned"]
    assert (absent.code, absent.document["requests"]["unsent"]) == (4, 3 * each)
    assert (offline.code, offline.document["requests"]["hits"]) == (0, 3 * each)
    run = json.loads((one.directory / "out" / "run.json").read_text(encoding="utf-8"))
    assert (run["facts"]["tasks"]["task"]["n_examples"], run["requests"]["distinct"]) == (3, 3 * each)
    rows = {row["metric"]: row for row in read_rows(one.directory / "out")}
    golds = [TABLE.gold(example) for example in CHOSEN]
    assert rows["accuracy"]["n"] == sum(gold is not None for gold in golds)
    assert rows["sham_flip_rate"]["n"] == 2 * 3
    for result in (planned, done):
        assert "task: 27 of 30 examples have no intervention and are not asked" in result.stderr


def test_an_example_whose_words_are_all_in_its_prompt_is_not_asked(
    bench: Callable[..., Any], warm: WarmCommands
) -> None:
    """Its trials say so; its original and its sham would serve no number. Also where it is the first example."""
    one = bench(TABLE)
    path = one.directory / "edits.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for number, line in enumerate(lines):
        if line["example_id"] in ("x000", "x007"):
            token = TABLE.token(line["example_id"])
            line["inserted"] = token.upper() if number % 2 else token
            line.pop("edited", None)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    options = one.options("--limit", "9", "--out", "out", "--json")
    planned = warm.run("plan", *options[1:], cwd=one.directory)
    done = warm.run(*options, cwd=one.directory)

    assert done.code == 0
    assert {f"x{number:03d}" for number in range(9)} - {"x000", "x007"} == {
        received.place[0] for received in one.server.received
    }
    assert len(one.server.received) == planned.document["total"]["distinct"] == 7 * (1 + TABLE.words + 1)
    trials = [trial for trial in read_trials(one.directory / "out") if trial["example_id"] in ("x000", "x007")]
    assert [("already_in_prompt", None, None)] * 2 * TABLE.words == [
        (trial["status"], trial["key_before"], trial["label_before"]) for trial in trials
    ]
    assert warm.run("score", one.directory / "out", "--json", cwd=one.directory).document.get("error", []) == []


@pytest.mark.parametrize(
    "arms",
    [
        {},
        {"order": ["pe", "ep"], "style": ["chat", "completion"], "shots": [2]},
        {"order": ["pe2"], "verbosity": ["minimal", "normal", "detailed"], "shots": [2]},
        {"order": ["pe2"], "style": ["completion"], "verbosity": ["minimal", "normal"], "shots": [2]},
    ],
)
def test_the_count_that_progress_shows_is_the_plans(tmp_path: Path, arms: dict[str, list[Any]]) -> None:
    """Without building a request: as many as the plan, walked through, holds."""
    table = Table(examples=7, words=3, seed=2)
    table.write_task(tmp_path / "task.jsonl")
    table.write_interventions(tmp_path / "edits.jsonl")
    keep_interventions(tmp_path, lambda line: line["example_id"] not in ("x000", "x003"))
    values = {
        "tasks": [f"jsonl:{tmp_path / 'task.jsonl'}"],
        "models": [{"model": "openai/one"}, {"model": "openai/two"}],
        "interventions": {"file": tmp_path / "edits.jsonl"},
        "samples": 2,
        "shams": 2,
        "arms": arms,
    }
    prepared = prepare(RunConfig.model_validate(values), ClientConfig())
    config = prepared.config
    prices = prices_of(config.models, prepared.client, read_price_list(), config.params)
    found = estimate_costs(prepared, None, prices)

    sizes = [plan_size(prepared, model) for model in prepared.config.models]
    assert [(one.planned, one.distinct) for one in found] == sizes
