"""`--max-usd` in whole runs: it holds, what was paid is kept and scored, and the next run goes on."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import read_rows, read_trials

from explaineval.cost import most_tokens
from explaineval.text import dollars_text
from servers.commands import Result, WarmCommands
from servers.planted import PlantedServer
from servers.tables import KIND, Table

TABLE = Table(examples=20, words=2, seed=1)
EACH = 1 + TABLE.words + 1
DISTINCT = TABLE.examples * EACH
IN, OUT = 100, 20
"""Tokens of every answer of the planted server."""
LIMIT_OUT = 512
PRICE = ("--price", "0,1000")
DOLLARS = OUT / 1000
"""What an answer costs at PRICE; at the most it is LIMIT_OUT / 1000."""


def go(one: Any, warm: WarmCommands, *more: str, models: tuple[str, ...] = ("planted",)) -> Result:
    """A run of the bench with `--json`; whatever its end, standard output is one document that names its own code."""
    result: Result = warm.run(*one.options(*more, "--json", models=models), cwd=one.directory)
    if "error" not in result.document:
        assert result.document["exit_code"] == result.code
        counts = result.document["requests"]
        assert counts["distinct"] == counts["hits"] + counts["sent"] + counts["unsent"]
    return result


def answered(server: PlantedServer) -> int:
    """How many answers were paid for."""
    return sum(one.answered for one in server.received)


def test_the_limit_holds_and_the_next_run_goes_on(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Half the money: exit 3, never a cent more, all of it stored and scored; then the rest, and nothing twice."""
    one = bench(TABLE, latency=0.002)
    server: PlantedServer = one.server
    limit = 40.5 * DOLLARS + LIMIT_OUT / 1000
    first = go(one, warm, *PRICE, "--max-usd", f"{limit}", "--out", "out")
    paid, requests = answered(server), first.document["requests"]

    # the last attempt may begin with its worst case left; 41 answers later that is gone
    assert (first.code, paid, requests["sent"]) == (3, 41, 41)
    assert (requests["hits"], requests["unsent"], requests["distinct"]) == (0, DISTINCT - 41, DISTINCT)
    assert first.document["usd_spent"] == pytest.approx(41 * DOLLARS)
    assert first.document["usd_spent"] <= limit

    said = next(line for line in first.stderr.splitlines() if "the spending limit" in line)
    numbers = [float(found.rstrip(".")) for found in re.findall(r"\$([\d.]+)", said)]
    left = DISTINCT - 41
    assert numbers[0] == pytest.approx(limit, abs=0.005)  # cents
    assert numbers[1:3] == pytest.approx([41 * DOLLARS, left * DOLLARS], rel=0.005)  # three digits
    assert numbers[3] == pytest.approx(left * LIMIT_OUT / 1000, rel=0.005)
    assert f"other {left} requests" in said
    assert "--max-usd" in said

    trials = [trial for trial in read_trials(one.directory / "out") if trial["kind"] == KIND]
    rows = {row["metric"]: row for row in read_rows(one.directory / "out")}
    assert first.document["metrics"] == read_rows(one.directory / "out")
    assert 0 < len(trials) == rows["impact_rate"]["n"] <= 2 * 41
    assert json.loads((one.directory / "out" / "run.json").read_text(encoding="utf-8"))["complete"] is False

    second = go(one, warm, *PRICE, "--max-usd", "100", "--out", "out")
    assert (0, 41, left) == (second.code, second.document["requests"]["hits"], second.document["requests"]["sent"])
    assert second.document["usd_saved_by_cache"] == pytest.approx(41 * DOLLARS)
    assert second.document["usd_spent"] == pytest.approx(left * DOLLARS)
    assert answered(server) == len(server.received) == DISTINCT
    assert set(server.counts().values()) == {1, 2}  # the sham is the same body once more, under a key of its own
    assert len([trial for trial in read_trials(one.directory / "out") if trial["kind"] == KIND]) == len(TABLE.pairs())

    undisturbed = go(one, warm, "--cache", "other", "--out", "undisturbed")
    assert undisturbed.code == 0
    assert (one.directory / "undisturbed" / "metrics.json").read_bytes() == (
        one.directory / "out" / "metrics.json"
    ).read_bytes()

    # everything is there, so a limit of nothing is no obstacle
    third = go(one, warm, *PRICE, "--max-usd", "0", "--out", "out")
    assert (third.code, third.document["requests"]["hits"], third.document["usd_spent"]) == (0, DISTINCT, 0)


def test_no_money_at_all(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """A limit of 0 with a price: exit 3, nothing is sent, everything is counted unsent once."""
    one = bench(TABLE)
    result = go(one, warm, *PRICE, "--max-usd", "0")

    assert (result.code, len(one.server.received)) == (3, 0)
    assert tuple(result.document["requests"][name] for name in ("distinct", "unsent", "sent")) == (
        DISTINCT,
        DISTINCT,
        0,
    )
    assert result.document["usd_spent"] == 0


def test_a_loopback_address_is_free(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Without --price a limit of 0 keeps nothing from being asked, and all costs are 0, not unknown."""
    one = bench(Table(examples=3, words=1))
    result = go(one, warm, "--max-usd", "0")

    assert (result.code, len(one.server.received), result.document["usd_from_scratch"]) == (0, 9, 0)


FAR = """
tasks: ["jsonl:task.jsonl"]
endpoints:
  far: {{base_url: "https://api.example.invalid/v1"{price}}}
models:
  - {{model: openai/planted, endpoint: far{limit}}}
arms: {{shots: [2]}}
interventions: {{file: edits.jsonl}}
"""


@pytest.mark.parametrize(
    ("price", "limit", "more", "code"),
    [
        ("", "", ("--max-usd", "5"), 2),
        ("", ", max_usd: 5", (), 2),
        ("", ", max_usd: 5", ("--offline",), 4),
        (", price: [1, 1]", ", max_usd: 0", (), 3),
        ("", "", ("--price", "1,1", "--max-usd", "0"), 3),
        ("", ", max_usd: 0", ("--price", "1,1"), 3),
        (", price: [0, 0]", ", max_usd: 0", ("--price", "1,1"), 3),
    ],
)
def test_an_unknown_price_under_a_limit_is_refused(
    bench: Callable[..., Any], warm: WarmCommands, price: str, limit: str, more: tuple[str, ...], code: int
) -> None:
    """Neither private nor listed: nothing is looked up or sent, and the sentence says what is missing; --price wins."""
    one = bench(Table(examples=3, words=1))
    (one.directory / "far.yaml").write_text(FAR.format(price=price, limit=limit), encoding="utf-8")
    result = warm.run("run", "far.yaml", *more, cwd=one.directory)

    assert code == result.code, result.stderr
    assert (code == 2) is ("--price IN,OUT" in result.stderr)
    assert not (one.directory / "runs").exists()  # nothing was bought or found


TWO = """
tasks: ["jsonl:task.jsonl"]
endpoints:
  lab: {{base_url: "{url}", price: [0, 1000]}}
models:
  - {{model: openai/poor, endpoint: lab, max_usd: {poor}}}
  - {{model: openai/rich, endpoint: lab}}
arms: {{shots: [2]}}
interventions: {{file: edits.jsonl}}
{more}
"""


@pytest.mark.slow
def test_a_model_has_a_limit_of_its_own(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """The one runs out and says so, the other is complete; a total limit holds over both."""
    one = bench(TABLE)
    own = 9.5 * DOLLARS + LIMIT_OUT / 1000
    path = one.directory / "two.yaml"
    path.write_text(TWO.format(url=one.server.url, poor=own, more=""), encoding="utf-8")
    result = warm.run("run", "two.yaml", "--out", "out", cwd=one.directory)
    by_model = {
        entry["model"]: entry["requests"]
        for entry in json.loads((one.directory / "out" / "run.json").read_text(encoding="utf-8"))["endpoints"]
    }

    assert result.code == 3
    assert f"${own:g} for openai/poor" in result.stderr
    assert "openai/rich" not in result.stderr.partition("spending limit")[2]
    assert (by_model["openai/poor"]["sent"], by_model["openai/poor"]["unsent"]) == (10, DISTINCT - 10)
    assert (by_model["openai/rich"]["sent"], by_model["openai/rich"]["unsent"]) == (DISTINCT, 0)

    total = 29.5 * DOLLARS + LIMIT_OUT / 1000
    path.write_text(TWO.format(url=one.server.url, poor=own, more=f"max_usd: {total}\ncache: new"), encoding="utf-8")
    before = answered(one.server)
    result = go_file(warm, path, "--out", "again")
    sent = {
        entry["model"]: entry["requests"]["sent"]
        for entry in json.loads((one.directory / "again" / "run.json").read_text(encoding="utf-8"))["endpoints"]
    }
    assert (result.code, answered(one.server) - before, sum(sent.values())) == (3, 30, 30)
    assert 0 < sent["openai/poor"] <= 10


def go_file(warm: WarmCommands, path: Path, *more: str) -> Result:
    """A run of a configuration file."""
    return warm.run("run", path.name, *more, "--json", cwd=path.parent)


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("fault", "each"), [("reset", LIMIT_OUT / 1000), ("500", 0.0), ("429", 0.0)])
def test_retries_are_paid_from_the_limit(
    bench: Callable[..., Any], warm: WarmCommands, fault: str, each: float
) -> None:
    """A reset may have been charged in full, a status was not: the limit is reached sooner by as much."""
    one = bench(TABLE)
    one.server.faults.update({place: [fault] * 2 for place in TABLE.pairs()[:3]})
    room = 3 * 2 * LIMIT_OUT / 1000
    result = go(one, warm, *PRICE, "--max-usd", f"{room + LIMIT_OUT / 1000 + 19 * DOLLARS}", "--max-connections", "4")
    lost = sum(entry.outcome == [fault] for entry in one.server.received)
    paid = answered(one.server)

    assert lost > 0
    if each:
        # what the resets may have cost, and the answers, never reach beyond; and no attempt that fits is left out
        assert result.code == 3
        assert f"{lost} attempts ended without a bill" in result.stderr
        assert f"up to {dollars_text(lost * each)}" in result.stderr
        assert lost * each + paid * DOLLARS <= room + LIMIT_OUT / 1000 + 19 * DOLLARS
        assert lost * each + paid * DOLLARS > room + 19 * DOLLARS
    else:
        assert (result.code, paid) == (0, DISTINCT)
        assert "without a bill" not in result.stderr
    assert result.document["usd_spent"] == pytest.approx(paid * DOLLARS)


class Counting(PlantedServer):
    """Counts tokens in a way of its own: `usage` replaces the planted one in every answer."""

    usage: dict[str, Any] | None

    def _answer(self, one: Any, fault: str | None) -> dict[str, Any]:
        return {**super()._answer(one, fault), "usage": self.usage}


@pytest.fixture
def counting(tmp_path: Path, warm: WarmCommands) -> Callable[..., tuple[Result, int]]:
    """Run a small task against a server with this usage; the result, and how many requests came in."""

    def start(usage: dict[str, Any] | None, *more: str) -> tuple[Result, int]:
        table = Table(examples=6, words=1, seed=1)
        table.write_task(tmp_path / "task.jsonl")
        table.write_interventions(tmp_path / "edits.jsonl")
        server = Counting(table)
        server.usage = usage
        with server:
            options = ["run", "--task", "jsonl:task.jsonl", "--interventions", "edits.jsonl", "--shots", "2", "--json"]
            options += ["--model", "openai/planted", "--base-url", server.url, *more]
            result = warm.run(*options, cwd=tmp_path)
            return result, len(server.received)

    return start


def test_hidden_and_cached_tokens_are_priced(counting: Callable[..., tuple[Result, int]]) -> None:
    """Reasoning counts as output, input from the provider's cache as input where it has no price of its own."""
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 25},
    }
    result, asked = counting(usage, "--price", "10,1000")

    assert (result.code, asked) == (0, 18)
    assert result.document["usd_spent"] == pytest.approx(18 * (100 * 10 + 30 * 1000) / 1e6)
    assert "reasons before it answers" in result.stderr


def test_reasoning_outside_the_completion_is_billed(counting: Callable[..., tuple[Result, int]]) -> None:
    """An endpoint whose total is more than its parts: the rest is output."""
    result, _ = counting({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 405}, "--price", "0,1000")

    assert result.document["usd_spent"] == pytest.approx(18 * 305 / 1000)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}])
def test_an_endpoint_without_a_count_is_counted_at_its_worst(
    counting: Callable[..., tuple[Result, int]], usage: dict[str, Any] | None
) -> None:
    """Money for five worst cases: five answers, exit 3, and the dollars are unknown, not 0."""
    result, asked = counting(usage, *PRICE, "--max-usd", f"{5.5 * LIMIT_OUT / 1000}")

    assert (result.code, asked) == (3, 5)
    assert result.document["usd_spent"] is None
    assert "without a count of tokens" in result.stderr


def test_an_endpoint_that_counts_too_much_is_caught_after_one(counting: Callable[..., tuple[Result, int]]) -> None:
    """Ten times the output allowed: the first answer shows it, and nothing more is asked though money is left."""
    usage = {"prompt_tokens": 100, "completion_tokens": 10 * LIMIT_OUT, "total_tokens": 100 + 10 * LIMIT_OUT}
    each = 10 * LIMIT_OUT / 1000
    result, asked = counting(usage, *PRICE, "--max-usd", f"{3.5 * each}", "--max-connections", "1")

    assert (result.code, asked) == (5, 1)
    assert result.document["usd_spent"] == pytest.approx(each)


def test_the_reserve_of_input_covers_what_was_asked(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """With a price on input alone, the last attempt begins where the bound of its prompt still fits."""
    table = Table(examples=10, words=1)
    one = bench(table, latency=0.05)
    result = go(one, warm, "--price", "1000,0", "--max-usd", "3", "--shams", "0")
    bounds = [most_tokens([turn["content"] for turn in entry.body["messages"]]) for entry in one.server.received]

    assert result.code == 3
    assert all(bound > IN for bound in bounds)
    assert len(bounds) == int((3 - max(bounds) / 1000) / (IN / 1000)) + 1
    assert result.document["usd_spent"] == pytest.approx(len(bounds) * IN / 1000)


def test_interrupted_while_waiting_for_money(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Ctrl-C where the limit lets only one go at a time: nothing is sent after it, and 130 says more than 3."""
    one = bench(TABLE, latency=0.25)
    command = one.options(*PRICE, "--max-usd", f"{LIMIT_OUT / 1000 + 8 * DOLLARS}", "--out", "out", "--json")
    child = warm.start(*command, cwd=one.directory)
    one.server.wait_for(3)
    asked = len(one.server.received)
    child.send(signal.SIGINT)
    result = child.finish()
    time.sleep(0.3)

    assert 130 == result.code == result.document["exit_code"]
    assert len(one.server.received) <= asked + 1
    assert answered(one.server) == result.document["requests"]["sent"]


def test_the_worse_of_two_codes_is_the_one(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """A model without money (3) beside one that always fails (5): 3, and both are said."""
    one = bench(Table(examples=3, words=1))
    text = TWO.format(url=one.server.url, poor=0, more="max_retries: 0")
    text = text.replace("endpoint: lab}", "endpoint: dead}")
    text = text.replace("endpoints:\n", 'endpoints:\n  dead: {base_url: "http://127.0.0.1:9/v1"}\n')
    (one.directory / "two.yaml").write_text(text, encoding="utf-8")
    result = warm.run("run", "two.yaml", cwd=one.directory)

    assert result.code == 3
    assert "openai/rich at http://127.0.0.1:9/v1: the connection is refused" in result.stderr
    assert "the spending limit ($0 for openai/poor)" in result.stderr
