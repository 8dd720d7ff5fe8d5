"""Bills that no text can cost: booked, named, and the end of what is asked at that endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_runs import BatchRuns, answer

from servers.batch_server import BatchServer
from servers.commands import WarmCommands
from servers.personas import Persona, PersonaServer
from servers.tables import Table

TABLE = Table(examples=20, words=2, seed=1)
DISTINCT = TABLE.examples * (1 + TABLE.words + 1)
PRICE = ("--price", "0.15,0.60")
TEN_MILLION = {"prompt_tokens": 100, "completion_tokens": 10**7, "total_tokens": 10**7 + 100}
BILLED = (100 * 0.15 + 10**7 * 0.60) / 1e6


def faults_of(stderr: str) -> list[str]:
    """The lines that name a bill."""
    return [line for line in stderr.splitlines() if " billed " in line]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("limit", "code"), [(("--max-usd", "1"), 3), (("--max-usd", "100"), 5), ((), 5)], ids=str)
@pytest.mark.parametrize("number", [0, 7])
def test_a_bill_beyond_the_text_ends_the_run_for_its_endpoint(
    bench: Callable[..., Any], warm: WarmCommands, limit: tuple[str, ...], code: int, number: int
) -> None:
    """$6 for one answer: booked and stored, nothing more is asked, one sentence; 3 above the limit, else 5."""
    one = bench(TABLE, latency=0.01, usages={number: TEN_MILLION})
    options = one.options(*PRICE, *limit, "--max-connections", "2", "--out", "out", "--json")
    found = warm.run(*options, cwd=one.directory)
    requests = found.document["requests"]
    (said,) = faults_of(found.stderr)

    assert found.code == found.document["exit_code"] == code, found.stderr
    assert number + 1 <= len(one.server.received) == requests["sent"] <= number + 2
    assert requests["unsent"] == DISTINCT - requests["sent"]
    assert found.document["usd_spent"] == pytest.approx(BILLED, abs=0.01)
    assert "openai/planted at lab billed 100 tokens in and 10,000,000 out ($6.00)" in said
    assert ("above the spending limit ($1.00)" in said) is (code == 3)
    assert "higher --max-usd" not in found.stderr

    one.server.usages.clear()
    limited = warm.run(*one.options(*PRICE, "--max-usd", "1", "--out", "out", "--json"), cwd=one.directory)
    assert (limited.code, limited.document["requests"]["sent"]) == (3, 0), limited.stderr
    again = warm.run(*one.options(*PRICE, "--max-usd", "7", "--out", "out", "--json"), cwd=one.directory)
    assert (again.code, again.document["requests"]["hits"]) == (0, requests["sent"]), again.stderr
    assert len(one.server.received) == DISTINCT


TWO = """
tasks: ["jsonl:task.jsonl"]
endpoints:
  lab: {{base_url: "{url}", price: [0.15, 0.60]}}
  other: {{base_url: "{other}", price: [0.15, 0.60]}}
models: [{{model: openai/planted, endpoint: lab}}, {{model: openai/beside, endpoint: lab}},
  {{model: openai/planted, endpoint: other}}]
arms: {{shots: [2]}}
interventions: {{file: edits.jsonl}}
"""


@pytest.mark.slow
def test_the_whole_endpoint_is_left_alone_and_others_are_not(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """A second model of that endpoint is asked nothing more either, another endpoint everything; for one reason."""
    one = bench(TABLE, latency=0.01, usages={0: TEN_MILLION})
    text = TWO.format(url=one.server.url, other=one.server.url.replace("127.0.0.1", "localhost"))
    (one.directory / "two.yaml").write_text(text, encoding="utf-8")
    found = warm.run("run", "two.yaml", "--json", cwd=one.directory)

    assert found.code == 5, found.stderr
    assert len({line.partition(" The other ")[0] for line in faults_of(found.stderr)}) == 1
    assert DISTINCT < found.document["requests"]["sent"] <= DISTINCT + 4
    assert found.document["requests"]["unsent"] >= 2 * DISTINCT - 4


def test_pace_holds_back_only_what_is_sent(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """With a few requests a minute the rest of the plan is turned away at once, not one by one in that pace."""
    one = bench(TABLE, usages={-1: TEN_MILLION})
    found = warm.run(*one.options(*PRICE, "--rpm", "10", "--out", "out", "--json"), cwd=one.directory)

    assert found.code == 5, found.stderr  # the command would be killed after a minute
    assert found.document["requests"]["sent"] == 1


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("usage", "metered"),
    [
        ({"prompt_tokens": -100, "completion_tokens": -7, "total_tokens": -107}, False),
        ({"prompt_tokens": 100, "completion_tokens": -7, "total_tokens": 93}, False),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, False),
        ({}, False),
        ({"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 10**9}}, True),
        ({"prompt_tokens": 100, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": -4}}, True),
    ],
    ids=str,
)
def test_a_count_that_is_none_settles_at_the_worst_case(
    bench: Callable[..., Any], warm: WarmCommands, usage: dict[str, Any], metered: bool
) -> None:
    """Negative, missing and contradicting counts: the limit holds as if each answer were as long as it may be."""
    one = bench(TABLE, usages={-1: usage})
    found = warm.run(*one.options("--price", "0,1000", "--max-usd", "5.2", "--out", "out", "--json"), cwd=one.directory)

    assert found.code == (0 if metered else 3), found.stderr
    assert len(one.server.received) == (DISTINCT if metered else 10)  # each may cost 0.512
    assert found.document["usd_spent"] == (pytest.approx(DISTINCT * 0.005) if metered else None)


def test_a_probe_ends_at_such_a_bill(warm: WarmCommands, tmp_path: Path) -> None:
    """Whatever it was about to find out: one sentence with the dollars, nothing kept, 3 above a limit and 5 without."""
    for limit, code in ((("--max-usd", "1"), 3), ((), 5)):
        with PersonaServer(Persona()) as server:
            server.usage = TEN_MILLION
            command = ["probe", "--model", "openai/tiny", "--base-url", server.url, *PRICE, *limit, "--json"]
            found = warm.run(*command, cwd=tmp_path)

        assert (found.code, len(server.asked)) == (code, 1), found.stdout
        assert "billed" in found.document["error"]["message"]
        assert "$6.00" in found.document["error"]["message"]


def test_a_batch_with_such_a_bill_is_the_last(warm: WarmCommands, tmp_path: Path) -> None:
    """Order pe2 in two waves: the first batch's answers are all stored and booked, no second batch is submitted."""

    def dear(shape: Any, body: Any) -> dict[str, Any]:
        found = answer(shape, body)
        if one.server.batches:
            found["usage"] = TEN_MILLION
        return found

    with BatchRuns(warm, tmp_path, server=BatchServer(answer=dear)) as one:
        found = one.run("--batch", "--order", "pe2", "--price", "1,1", "--max-usd", "1000", "--out", "out")

        assert found.code == 5, found.stderr
        assert len(faults_of(found.stderr)) == 1
        assert len(one.server.batches) == 1
        assert found.document["usd_spent"] == pytest.approx(10 * sum(one.server.billed.values()), rel=0.01)
        assert json.loads((tmp_path / "out" / "run.json").read_text())["complete"] is False


def test_asking_again_stops_at_such_a_bill(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """`cache verify --reask`: the rest is not asked, and the sentence is told."""
    one = bench(Table(examples=4, words=1, seed=1))
    assert warm.run(*one.options("--out", "out"), cwd=one.directory).code == 0
    before = len(one.server.received)
    one.server.usages[-1] = TEN_MILLION
    command = ["cache", "verify", "--reask", "12", "--endpoint-name", "lab", "--base-url", one.server.url]
    found = warm.run(*command, *PRICE, "--max-connections", "1", cwd=one.directory)

    assert (found.code, len(one.server.received) - before) == (5, 1), found.stderr
    assert len(faults_of(found.stderr)) == 1
