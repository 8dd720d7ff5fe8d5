"""A run notices while it goes that a model's answers cannot be read: of the first 40 requests in the plan's order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted_numbers import read_trials

from explaineval.cli.configuration import resolve
from explaineval.execution.run import execute
from explaineval.planning.prepare import prepare
from servers.commands import WarmCommands
from servers.planted import PlantedServer
from servers.tables import Table

TABLE = Table(examples=30, words=2, seed=1)
EACH = 1 + TABLE.words + 1
FIRST = 40 // EACH
"""Examples whose requests are the first 40."""
CONNECTIONS = 4
UNDER_WAY = 4 * CONNECTIONS
"""Requests that may be sent until the first 40 are read: those under way, and those that take their places."""
LIMIT = ("--max-connections", str(CONNECTIONS))


def spoil(server: PlantedServer, number: int, examples: list[str], fault: str = "unparsed") -> None:
    """Make this number of requests about the examples unreadable, beginning with the first."""
    for example in examples:
        for place in [(example, word) for word in server.table.markers(example)[: TABLE.words]]:
            if number > 0:
                server.always[place] = fault  # type: ignore[assignment]
                number -= 1
        if number > 1:  # the question and its repetition are one place
            server.always[example, None] = fault  # type: ignore[assignment]
            number -= 2
    assert number == 0


def unreadable(directory: Path) -> list[dict[str, Any]]:
    """What run.json says of the first model."""
    record = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = record["endpoints"][0]["unreadable"]
    return found


@pytest.mark.sampled(1)
@pytest.mark.parametrize("order", ["pe", "ep"])
def test_a_model_stops_where_over_nine_in_ten_cannot_be_read(
    bench: Callable[..., Any], warm: WarmCommands, order: str
) -> None:
    """37 of 40: only what is under way is still sent; the same again sends nothing and says the same; then it goes on
    with --keep-unreadable, and its numbers are those of a run that never stopped."""
    one = bench(TABLE)
    spoil(one.server, 37, TABLE.ids[:FIRST])
    options = one.options("--order", order, *LIMIT, "--out", "out", "--json")
    first = warm.run(*options, cwd=one.directory)
    sent = len(one.server.received)
    trials = (one.directory / "out" / "trials.jsonl").read_bytes()
    again = warm.run(*options, cwd=one.directory)
    offline = warm.run(*options, "--offline", cwd=one.directory)

    assert 40 <= sent <= 40 + UNDER_WAY
    assert sent == len(one.server.received)
    for result in (first, again, offline):
        assert (result.code, result.document["error"]["code"]) == (5, 5)
        text = result.document["error"]["message"]
        assert "openai/planted: 37 of the first 40 answers cannot be read (37 unparsed), for example '" in text
        assert "--keep-unreadable" in text
        assert result.document["requests"]["unsent"] == EACH * TABLE.examples - sent
        assert result.document["metrics"] == first.document["metrics"]
    assert sorted(trials.splitlines()) == sorted((one.directory / "out" / "trials.jsonl").read_bytes().splitlines())
    assert [(entry["unreadable"], entry["stopped"]) for entry in unreadable(one.directory / "out")] == [(37, True)]
    assert len(read_trials(one.directory / "out")) >= FIRST * (EACH - 1)

    notes = warm.run("notes", "out", cwd=one.directory).stdout
    assert notes.startswith("openai/planted: 37 of the first 40 answers cannot be read (37 unparsed)")

    kept = warm.run(*options, "--keep-unreadable", cwd=one.directory)
    whole = warm.run(*options, cwd=one.directory)
    assert (kept.code, len(one.server.received)) == (0, EACH * TABLE.examples)
    assert (whole.code, whole.document["metrics"]) == (0, kept.document["metrics"])
    assert [(entry["unreadable"], entry["stopped"]) for entry in unreadable(one.directory / "out")] == [(37, False)]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(("number", "told"), [(36, True), (21, True), (20, False)])
def test_a_line_is_said_where_over_half_cannot_be_read(
    bench: Callable[..., Any], warm: WarmCommands, number: int, told: bool
) -> None:
    """Once, with an example of such an answer, and the run goes on."""
    one = bench(TABLE)
    spoil(one.server, number, TABLE.ids[:FIRST])
    done = warm.run(*one.options("--out", "out", "--json"), cwd=one.directory)

    assert (done.code, len(one.server.received)) == (0, EACH * TABLE.examples)
    assert done.stderr.count(f"{number} of the first 40 answers cannot be read") == told
    codes = [warning["code"] for warning in done.document["warnings"]]
    assert codes.count("answers_unreadable") == told


def test_only_the_first_in_the_order_of_the_plan_decide(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """All later ones cannot be read: nothing is said, whichever came back first."""
    one = bench(TABLE)
    spoil(one.server, (TABLE.examples - FIRST) * EACH, TABLE.ids[FIRST:])
    done = warm.run(*one.options("--out", "out", "--json"), cwd=one.directory)

    assert (done.code, "of the first 40" in done.stderr) == (0, False)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("fault", ["refusal", "content_filter", "truncated", "empty"])
def test_other_outcomes_cannot_be_read_either(bench: Callable[..., Any], warm: WarmCommands, fault: str) -> None:
    """Refused, filtered, cut off and empty ones count."""
    one = bench(TABLE)
    spoil(one.server, 40, TABLE.ids[:FIRST], fault)
    done = warm.run(*one.options(*LIMIT, "--out", "out", "--json"), cwd=one.directory)

    assert (done.code, len(one.server.received) <= 40 + UNDER_WAY) == (5, True)
    assert "40 of the first 40 answers cannot be read" in done.document["error"]["message"]


@pytest.mark.slow
def test_an_arm_is_stopped_and_the_others_go_on(bench: Callable[..., Any], warm: WarmCommands) -> None:
    """Explanations of one call cannot be read in order pe2, answers of order pe can."""
    one = bench(TABLE)
    one.server.explained_always.update(
        {(example, word): "empty" for example in TABLE.ids for word in (None, *TABLE.markers(example)[: TABLE.words])}
    )
    done = warm.run(
        *one.options(*LIMIT, "--order", "pe", "--order", "pe2", "--out", "out", "--json"), cwd=one.directory
    )
    orders = [trial["order"] for trial in read_trials(one.directory / "out")]

    # a sham is asked for its answer alone, and can be read: 3 in 4 cannot
    assert done.code == 0
    assert "planted (order pe2, chat, 2 shots, verbosity normal): 30 of the first 40" in done.stderr
    assert orders.count("pe") == orders.count("pe2") == TABLE.examples * (EACH - 1)


def test_in_the_demo_it_is_a_finding(bench: Callable[..., Any], tmp_path: Path) -> None:
    """The same run without the failure: exit code 0, no error, and a note that says why it stopped."""
    one = bench(TABLE)
    spoil(one.server, 37, TABLE.ids[:FIRST])
    options = {
        "task": (f"jsonl:{one.directory / 'task.jsonl'}",), "interventions": one.directory / "edits.jsonl",
        "model": ("openai/planted",), "base_url": one.server.url, "endpoint_name": "lab", "shots": 2,
        "transport": "direct", "max_connections": CONNECTIONS, "cache": tmp_path / "cache",
    }  # fmt: skip
    science, client, _ = resolve(None, options)
    outcome = execute(prepare(science, client), tmp_path / "out", lambda _: None, unreadable_fails=False)

    assert (outcome.exit_code, outcome.errors) == (0, ())
    (found,) = [note for note in outcome.notes if note.code == "model_stopped"]
    assert found.text.startswith("openai/planted: 37 of the first 40 answers cannot be read (37 unparsed)")
    assert 40 <= len(one.server.received) <= 40 + UNDER_WAY


@pytest.mark.sampled(1)
@pytest.mark.parametrize("connections", ["1", "32"])
def test_what_decides_does_not_depend_on_how_many_are_asked_at_once(
    bench: Callable[..., Any], warm: WarmCommands, connections: str
) -> None:
    """The same 37 unreadable answers are found with one connection and with many; the example is the first of them."""
    one = bench(TABLE)
    spoil(one.server, 37, TABLE.ids[:FIRST])
    options = one.options("--max-connections", connections, "--out", "out", "--json")
    done = warm.run(*options, cwd=one.directory)
    (found,) = unreadable(one.directory / "out")
    again = warm.run(*options, cwd=one.directory)

    assert (done.code, again.code) == (5, 5)
    assert (found["checked"], found["unreadable"], found["statuses"]) == (40, 37, {"unparsed": 37})
    assert again.document["error"] == done.document["error"]
    assert again.document["metrics"] == done.document["metrics"]
